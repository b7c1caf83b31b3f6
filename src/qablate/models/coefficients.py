"""Coefficients of superpositions: trainable complex numbers, stored as the published models store them."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn


class RealPairCoefficients(nn.Module):
    """Three complex coefficients as six real parameters: re and im of alpha, beta, gamma. Call: (3) complex."""

    NAMES = ("alpha_re", "alpha_im", "beta_re", "beta_im", "gamma_re", "gamma_im")

    def __init__(self, shape: tuple[int, ...], lowest: float, highest: float) -> None:
        """Draw the real parts from U(lowest, highest), set the imaginary parts to zero; each has `shape`."""
        super().__init__()
        for name in self.NAMES:
            start = torch.empty(shape).uniform_(lowest, highest) if name.endswith("_re") else torch.zeros(shape)
            self.register_parameter(name, nn.Parameter(start))

    def forward(self) -> Tensor:
        """Return alpha, beta, gamma."""
        pairs = torch.stack([getattr(self, name).reshape(()) for name in self.NAMES]).view(3, 2)
        return torch.view_as_complex(pairs)


def equal_weights() -> RealPairCoefficients:
    """Coefficients that all start at 1 / sqrt(3)."""
    return RealPairCoefficients((), 1 / math.sqrt(3), 1 / math.sqrt(3))


class ComplexParameters(nn.Module):
    """Base of modules with complex parameters: these follow the precision and device that a user sets.

    PyTorch's `Module.double()` leaves complex parameters as they are and `Module.to(torch.float64)` drops their
    imaginary parts; here both act on the pairs of real numbers.
    """

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Any:
        def on_pairs(tensor: Tensor) -> Tensor:
            return torch.view_as_complex(fn(torch.view_as_real(tensor))) if tensor.is_complex() else fn(tensor)

        return super()._apply(on_pairs, recurse)


def complex_uniform(size: int) -> nn.Parameter:
    """A complex vector whose real and imaginary parts are drawn from U(0, 1)."""
    return nn.Parameter(torch.view_as_complex(torch.rand(size, 2)))
