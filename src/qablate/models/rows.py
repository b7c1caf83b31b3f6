"""Norm, gate and convolution row by row, by compiled kernels on a CPU and in plain torch elsewhere.

Shapes: `...` samples and tokens, b batch, l length, e width, j taps.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from qablate import selfcheck


def gated(gate: Tensor, value: Tensor) -> Tensor:
    """SiLU(gate) times value: (..., e)."""
    result: Tensor = _Gate.apply(gate, value) if _serves(value) else F.silu(gate) * value
    return result


def gated_halves(x: Tensor) -> Tensor:
    """SiLU of the first half of the features times the second half: (..., 2 e) -> (..., e)."""
    if not _serves(x):
        return gated(*x.chunk(2, dim=-1))
    result: Tensor = _GatedHalves.apply(x)
    return result


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """weight x / sqrt(mean(x^2) + eps), the mean over the last axis: (..., e)."""
    result: Tensor = _Norm.apply(x, weight, eps) if _serves(x) else F.rms_norm(x, weight.shape, weight, eps)
    return result


def convolved(x: Tensor, taps: Tensor, bias: Tensor) -> Tensor:
    """SiLU of the causal convolution of every channel with its own four taps: (b, l, e), taps (4, e), bias (e).

    y_t = SiLU(bias + sum_i taps_i x_{t - 3 + i}), zeros before the start.
    """
    if _serves(x):
        result: Tensor = _Convolution.apply(x, torch.cat([taps.flip(0), bias[None]]))
        return result
    return _plain_convolution(x, taps, bias)


def _plain_convolution(x: Tensor, taps: Tensor, bias: Tensor) -> Tensor:
    return F.silu(F.conv1d(F.pad(x.mT, (len(taps) - 1, 0)), taps.t()[:, None], bias, groups=x.shape[-1]).mT)


def _serves(x: Tensor) -> bool:
    return x.device.type == "cpu" and x.numel() > 0 and selfcheck.obstacle(check, x.dtype) is None


def _rows(tensor: Tensor) -> Tensor:
    """The tensor (..., e) as rows (r, e) with neighbouring numbers side by side: a view where there is one."""
    rows = tensor.detach().reshape(-1, tensor.shape[-1])
    return rows if rows.stride(-1) == 1 else rows.contiguous()


def _flat(*tensors: Tensor) -> list[Any]:
    """The numbers of rows (r, e) from the first on, each as a flat array."""
    spans = (((len(rows) - 1) * rows.stride(0) + rows.shape[1],) for rows in tensors)
    return [rows.as_strided(span, (1,)).numpy() for rows, span in zip(tensors, spans, strict=True)]


def _strides(*tensors: Tensor) -> Any:
    """Numbers between two rows of each tensor."""
    return np.array([rows.stride(0) for rows in tensors])


class _Gate(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, gate: Tensor, value: Tensor) -> Tensor:
        ctx.save_for_backward(gate, value)
        return _gate(gate, value)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:
        gradients = grad.new_empty(grad.shape), grad.new_empty(grad.shape)
        _gate_gradients(*ctx.saved_tensors, grad, *gradients)
        return gradients


class _GatedHalves(torch.autograd.Function):
    """Writes both halves of the gradient into one tensor, where autograd would make and then join them."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return _gate(*x.chunk(2, dim=-1))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        gradient = x.new_empty(x.shape)
        _gate_gradients(*x.chunk(2, dim=-1), grad, *gradient.chunk(2, dim=-1))
        return gradient


def _gate(gate: Tensor, value: Tensor) -> Tensor:
    from qablate.models import row_kernels  # numba is imported where a kernel runs, not where models are built

    out, rows = value.new_empty(value.shape), (_rows(gate), _rows(value))
    arrays = _flat(*rows, _rows(out))
    row_kernels.gate(arrays[0].dtype)(value.shape[-1], *arrays[:2], _strides(*rows), arrays[2], _spare(value))
    return out


def _gate_gradients(*tensors: Tensor) -> None:
    """Arguments gate, value, gradient of the product, and where their gradients go."""
    from qablate.models import row_kernels

    rows = [_rows(tensor) for tensor in tensors]
    arrays = _flat(*rows)
    row_kernels.gate_gradients(arrays[0].dtype)(tensors[0].shape[-1], *arrays, _strides(*rows), _spare(tensors[0]))


def _spare(like: Tensor) -> Any:
    """Room for one vector."""
    return like.new_empty(16).numpy()


class _Norm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        from qablate.models import row_kernels

        x, weight = x.contiguous(), weight.contiguous()
        out, scales = torch.empty_like(x), x.new_empty(x.numel() // x.shape[-1])
        arrays = [tensor.detach().view(-1).numpy() for tensor in (x, weight, out, scales)]
        row_kernels.norm(arrays[0].dtype)(x.shape[-1], arrays[0].dtype.type(eps), *arrays, _spare(x))
        ctx.save_for_backward(x, weight, scales)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None]:
        from qablate.models import row_kernels

        x, weight, scales = ctx.saved_tensors
        to_x, to_weight = torch.empty_like(x), torch.zeros_like(weight)
        tensors = (x, weight, scales, grad.contiguous(), to_x, to_weight)
        arrays = [tensor.detach().view(-1).numpy() for tensor in tensors]
        row_kernels.norm_gradients(arrays[0].dtype)(x.shape[-1], *arrays, _spare(x))
        return to_x, to_weight, None


class _Convolution(torch.autograd.Function):
    """Arguments x (b, l, e) and taps (5, e): those of the current and the three earlier steps, then the bias."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, taps: Tensor) -> Tensor:
        from qablate.models import row_kernels

        out, rows = x.new_empty(x.shape), _rows(x)
        arrays = _flat(rows, taps.detach(), _rows(out))
        row_kernels.convolution(arrays[0].dtype)(*x.shape, arrays[0], rows.stride(0), *arrays[1:], _spare(x))
        ctx.save_for_backward(x, taps)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:
        from qablate.models import row_kernels

        x, taps = ctx.saved_tensors
        rows, to_x, to_taps = _rows(x), x.new_zeros(x.shape), torch.zeros_like(taps)
        arrays = _flat(rows, taps.detach(), _rows(grad.contiguous()), _rows(to_x), to_taps)
        row_kernels.convolution_gradients(arrays[0].dtype)(*x.shape, arrays[0], rows.stride(0), *arrays[1:], _spare(x))
        return to_x, to_taps


def check(dtype: torch.dtype) -> None:
    """Compare values and gradients with plain torch, at a width of whole vectors and at a ragged one."""
    for e in (16, 19):
        x, taps, bias = (torch.sin(torch.arange(math.prod(shape), dtype=dtype) + 1).view(shape).requires_grad_()
                         for shape in ((2, 5, 2 * e), (4, e), (e,)))
        gate, value = x.chunk(2, dim=-1)
        pairs = {
            "gate": (_Gate.apply(gate, value), F.silu(gate) * value),
            "halves": (_GatedHalves.apply(x), F.silu(gate) * value),
            "norm": (_Norm.apply(value, bias, 1e-5), F.rms_norm(value, (e,), bias, 1e-5)),
            "convolution": (_Convolution.apply(value, torch.cat([taps.flip(0), bias[None]])),
                            _plain_convolution(value, taps, bias)),
        }
        for name, outcomes in pairs.items():
            results = [(y, *torch.autograd.grad(y.sin().sum(), (x, taps, bias), allow_unused=True)) for y in outcomes]
            fast, plain = ([tensor for tensor in result if tensor is not None] for result in results)
            selfcheck.require_agreement([name] * len(fast), fast, plain)
