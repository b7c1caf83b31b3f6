"""Norm, gate, convolution and dropout by compiled kernels on a CPU, in plain torch elsewhere.

Dropout draws the same bits from the same generator as PyTorch, so which of the two ran shows in no result; the others
differ from torch by rounding. numba is imported where a kernel runs, not where models are built.
Shapes: `...` samples and tokens, b batch, l length, e width, j taps.
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from qablate import selfcheck

SMALLEST_DROPOUT = 10_000    # numbers; below, the way to the kernels and back costs more than they save


def gated(gate: Tensor, value: Tensor) -> Tensor:
    """SiLU(gate) times value: (..., e)."""
    result: Tensor = _Gate.apply(gate, value) if serves(value, check_rows) else F.silu(gate) * value
    return result


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """weight x / sqrt(mean(x^2) + eps), the mean over the last axis: (..., e)."""
    if not serves(x, check_rows):
        return F.rms_norm(x, weight.shape, weight, eps)
    result: Tensor = _Norm.apply(x, weight, eps)
    return result


def convolved(x: Tensor, taps: Tensor, bias: Tensor) -> Tensor:
    """SiLU of the causal convolution of every channel with its own four taps: (b, l, e), taps (4, e), bias (e).

    y_t = SiLU(bias + sum_i taps_i x_{t - 3 + i}), zeros before the start.
    """
    if not serves(x, check_rows):
        return _plain_convolution(x, taps, bias)
    result: Tensor = _Convolution.apply(x, torch.cat([taps.flip(0), bias[None]]))
    return result


class Dropout(nn.Dropout):
    """`torch.nn.Dropout`, to the bit: inverted, element-wise, only in training."""

    def forward(self, x: Tensor) -> Tensor:
        """Return x (...) with a share p of its numbers dropped and the others scaled by 1 / (1 - p)."""
        large = x.numel() >= SMALLEST_DROPOUT and x.is_contiguous()  # kernels draw in the order of memory
        if self.training and 0 < self.p < 1 and large and serves(x, check_dropout):
            return _Drop.apply(x, self.p)
        return super().forward(x)


def serves(x: Tensor, check: Callable[[torch.dtype], None]) -> bool:
    """Whether the kernels that `check` tests can take a tensor."""
    return x.device.type == "cpu" and x.numel() > 0 and selfcheck.obstacle(check, x.dtype) is None


def _plain_convolution(x: Tensor, taps: Tensor, bias: Tensor) -> Tensor:
    return F.silu(F.conv1d(F.pad(x.mT, (len(taps) - 1, 0)), taps.t()[:, None], bias, groups=x.shape[-1]).mT)


def _run(name: str, sizes: tuple[float, ...], *tensors: Tensor) -> None:
    """Call a kernel with tensors (..., e) as rows: flat arrays from the first number on, and the steps between rows.

    Arrays are views where the numbers of a row are neighbours. The last argument is room for one vector.
    """
    from qablate.models import kernels

    rows = [tensor.detach().reshape(-1, tensor.shape[-1]) for tensor in tensors]
    rows = [part if part.stride(-1) == 1 else part.contiguous() for part in rows]
    spans = (((len(part) - 1) * part.stride(0) + part.shape[1],) for part in rows)
    flat = [part.as_strided(span, (1,)).numpy() for part, span in zip(rows, spans, strict=True)]
    strides, spare = np.array([part.stride(0) for part in rows]), tensors[0].new_empty(16).numpy()
    getattr(kernels, name)(spare.dtype)(*sizes, *flat, strides, spare)


class _Gate(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, gate: Tensor, value: Tensor) -> Tensor:
        ctx.save_for_backward(gate, value)
        out = value.new_empty(value.shape)
        _run("gate", value.shape[-1:], gate, value, out)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:
        gradients = grad.new_empty(grad.shape), grad.new_empty(grad.shape)
        _run("gate_gradients", grad.shape[-1:], *ctx.saved_tensors, grad, *gradients)
        return gradients


class _Norm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        out, scales = x.new_empty(x.shape), x.new_empty(x.numel() // x.shape[-1])
        _run("norm", (x.shape[-1], eps), x, weight, out, scales)
        ctx.save_for_backward(x, weight, scales)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None]:
        x, weight, scales = ctx.saved_tensors
        to_x, to_weight = x.new_empty(x.shape), torch.zeros_like(weight)
        _run("norm_gradients", x.shape[-1:], x, weight, scales, grad, to_x, to_weight)
        return to_x, to_weight, None


class _Convolution(torch.autograd.Function):
    """Arguments x (b, l, e) and taps (5, e): those of the current and the three earlier steps, then the bias."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, taps: Tensor) -> Tensor:
        ctx.save_for_backward(x, taps)
        out = x.new_empty(x.shape)
        _run("convolution", x.shape, x, taps, out)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:
        x, taps = ctx.saved_tensors
        to_x, to_taps = x.new_zeros(x.shape), torch.zeros_like(taps)
        _run("convolution_gradients", x.shape, x, taps, grad, to_x, to_taps)
        return to_x, to_taps


class _Drop(torch.autograd.Function):
    """Draws from PyTorch's default generator, keeps the mask as one byte per number."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, p: float) -> Tensor:
        from qablate.models import kernels

        out, kept, state = torch.empty_like(x), torch.empty(x.shape, dtype=torch.bool), torch.get_rng_state()
        flat = [tensor.detach().view(-1).numpy() for tensor in (x, out, kept)]
        dtype, words = flat[0].dtype, state.numpy().view("uint64")
        threshold = words.dtype.type(math.ceil((1 - p) * 2**kernels.UNIFORM_BITS))
        ctx.scale = dtype.type(1) / dtype.type(1 - p)
        kernels.drop(dtype)(words, threshold, ctx.scale, *flat)
        torch.set_rng_state(state)
        ctx.save_for_backward(kept)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        from qablate.models import kernels

        grad = grad.contiguous()
        out = torch.empty_like(grad)
        flat = [tensor.view(-1).numpy() for tensor in (grad, out, *ctx.saved_tensors)]
        kernels.mask(flat[0].dtype)(ctx.scale, *flat)
        return out, None


def check_rows(dtype: torch.dtype) -> None:
    """Compare values and gradients with plain torch, at a width of whole vectors and at a ragged one."""
    for e in (16, 19):
        x, taps, bias = (torch.sin(torch.arange(math.prod(shape), dtype=dtype) + 1).view(shape).requires_grad_()
                         for shape in ((2, 5, 2 * e), (4, e), (e,)))
        gate, value = x.chunk(2, dim=-1)
        pairs = {
            "gate": (_Gate.apply(gate, value), F.silu(gate) * value),
            "norm": (_Norm.apply(value, bias, 1e-5), F.rms_norm(value, (e,), bias, 1e-5)),
            "convolution": (_Convolution.apply(value, torch.cat([taps.flip(0), bias[None]])),
                            _plain_convolution(value, taps, bias)),
        }
        for name, outcomes in pairs.items():
            results = [(y, *torch.autograd.grad(y.sin().sum(), (x, taps, bias), allow_unused=True)) for y in outcomes]
            fast, plain = ([tensor for tensor in result if tensor is not None] for result in results)
            selfcheck.require_agreement([name] * len(fast), fast, plain)


def check_dropout(dtype: torch.dtype) -> None:
    """Require PyTorch's numbers, gradients and generator to the bit: over several blocks, cut at odd words."""
    with torch.random.fork_rng(devices=[]):
        for n, p in ((1, 0.1), (311, 0.1), (1000, 0.75)):
            x = torch.linspace(-3, 5, n, dtype=dtype, requires_grad=True)
            start, outcomes = torch.get_rng_state(), []
            for dropped in (_Drop.apply, F.dropout):
                torch.set_rng_state(start)
                y = dropped(x, p)
                outcomes.append((y, *torch.autograd.grad(y.sin().sum(), x), torch.get_rng_state()))
            if not all(torch.equal(ours, theirs) for ours, theirs in zip(*outcomes, strict=True)):
                raise selfcheck.SelfCheckError(f"dropout of {n} numbers differs from PyTorch's")
            torch.randperm(7)    # takes an odd number of words
