"""Dropout with PyTorch's own masks, drawn by compiled kernels where these can serve.

A mask of `torch.nn.functional.dropout` on a CPU costs 7 to 10 ns a number, most of the operation. The kernels draw
the same bits from the same generator, so which of the two ran shows in no result.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from qablate import selfcheck

SMALLEST = 10_000    # numbers; below, the way to the kernels and back costs more than they save


class Dropout(nn.Dropout):
    """`torch.nn.Dropout`, to the bit: inverted, element-wise, only in training."""

    def forward(self, x: Tensor) -> Tensor:
        """Return x (...) with a share p of its numbers dropped and the others scaled by 1 / (1 - p)."""
        if not self.training or self.p == 0 or not _serves(x):
            return super().forward(x)
        return _Drop.apply(x, self.p)


def _serves(x: Tensor) -> bool:
    """Whether the kernels can take a tensor: a mask is drawn in the order of memory, they know one order."""
    suits = x.device.type == "cpu" and x.numel() >= SMALLEST and x.is_contiguous()
    return suits and selfcheck.obstacle(check, x.dtype) is None


class _Drop(torch.autograd.Function):
    """Draws from PyTorch's default generator, keeps the mask as one byte a number."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, p: float) -> Tensor:
        from qablate.models import mask_kernels  # numba is imported where a kernel runs, not where models are built

        out, kept, state = torch.empty_like(x), torch.empty(x.shape, dtype=torch.bool), torch.get_rng_state()
        flat = [tensor.detach().view(-1).numpy() for tensor in (x, out, kept)]
        threshold = math.ceil((1 - p) * 2**mask_kernels.UNIFORM_BITS)
        dtype = flat[0].dtype
        ctx.scale = dtype.type(1) / dtype.type(1 - p)
        words = state.numpy().view("uint64")
        mask_kernels.drop(dtype)(words, words.dtype.type(threshold), ctx.scale, *flat)
        torch.set_rng_state(state)
        ctx.save_for_backward(kept)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        from qablate.models import mask_kernels

        (kept,) = ctx.saved_tensors
        grad = grad.contiguous()
        out = torch.empty_like(grad)
        flat = [tensor.view(-1).numpy() for tensor in (grad, out, kept)]
        mask_kernels.mask(flat[0].dtype)(ctx.scale, *flat)
        return out, None


def check(dtype: torch.dtype) -> None:
    """Require PyTorch's numbers, gradients and generator to the bit: over several blocks, cut at odd words."""
    with torch.random.fork_rng(devices=[]):
        for n, p in ((1, 0.1), (311, 0.1), (1000, 0.75)):
            x = torch.linspace(-3, 5, n, dtype=dtype, requires_grad=True)
            start = torch.get_rng_state()
            fast = _outcome(_Drop.apply(x, p), x)
            torch.set_rng_state(start)
            plain = _outcome(F.dropout(x, p), x)
            if not all(torch.equal(a, b) for a, b in zip(fast, plain, strict=True)):
                raise selfcheck.SelfCheckError(f"dropout of {n} numbers differs from PyTorch's")
            torch.randperm(7)    # takes an odd number of words


def _outcome(y: Tensor, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    (gradient,) = torch.autograd.grad(y.sin().sum(), x)
    return y.detach(), gradient, torch.get_rng_state()
