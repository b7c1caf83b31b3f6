"""Small layers that several models share.

Shapes: b batch, l length, c input channels, d model width, e inner width.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from qablate.models.dropout import Dropout
from qablate.models.rows import convolved, rms_norm
from qablate.models.sizes import Sizes

NORM_EPS = 1e-5  # of every LayerNorm and root-mean-square norm


class RMSNorm(nn.RMSNorm):
    """Root-mean-square norm over the last axis: g x / sqrt(mean(x^2) + 1e-5), g from 1."""

    def __init__(self, width: int) -> None:
        super().__init__(width, eps=NORM_EPS)

    def forward(self, x: Tensor) -> Tensor:
        """Return the normed x (..., width)."""
        return rms_norm(x, self.weight, NORM_EPS)


class NormedMap(nn.Module):
    """Linear map, LayerNorm, SiLU: how measured circuits and most inputs become tokens."""

    def __init__(self, n_in: int, n_out: int) -> None:
        super().__init__()
        self.map = nn.Linear(n_in, n_out)
        self.norm = nn.LayerNorm(n_out, eps=NORM_EPS)

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., n_in) to (..., n_out)."""
        return F.silu(self.norm(self.map(x)))


class LinearTokens(nn.Module):
    """Linear map of every step, then dropout: (b, c, l) -> (b, l, d)."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.map = nn.Linear(sizes.n_channels, sizes.d_model)
        self.dropout = Dropout(sizes.settings.dropout)

    def forward(self, x: Tensor) -> Tensor:
        """Return the tokens of the steps."""
        return self.dropout(self.map(x.transpose(1, 2)))


class NormedTokens(nn.Module):
    """Linear map, LayerNorm and SiLU of every step, dropout on demand: (b, c, l) -> (b, l, d)."""

    def __init__(self, sizes: Sizes, dropout: bool) -> None:
        super().__init__()
        self.map = NormedMap(sizes.n_channels, sizes.d_model)
        self.dropout = Dropout(sizes.settings.dropout if dropout else 0.0)

    def forward(self, x: Tensor) -> Tensor:
        """Return the tokens of the steps."""
        return self.dropout(self.map(x.transpose(1, 2)))


class ChannelTokens(nn.Module):
    """Dropout on the raw input, then SiLU of a map from channels to channels: (b, c, l) -> (b, l, c)."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.map = nn.Linear(sizes.n_channels, sizes.n_channels)
        self.dropout = Dropout(sizes.settings.dropout)

    def forward(self, x: Tensor) -> Tensor:
        """Return the tokens of the steps; the dropout mask is drawn in the memory order of (b, c, l)."""
        return F.silu(self.map(self.dropout(x.contiguous()).transpose(1, 2)))


class ConvolvedTokens(nn.Module):
    """Convolution over time, one zero on either end, then LayerNorm over features: (b, c, l) -> (b, l, d)."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.convolution = nn.Conv1d(sizes.n_channels, sizes.d_model, kernel_size=3, padding=1)
        self.norm = nn.LayerNorm(sizes.d_model, eps=NORM_EPS)

    def forward(self, x: Tensor) -> Tensor:
        """Return the tokens of the steps; the convolution is a linear map of three neighbouring steps."""
        windows = F.pad(x, (1, 1)).unfold(-1, 3, 1).transpose(1, 2).flatten(2)  # (b, l, 3 c)
        return self.norm(F.linear(windows, self.convolution.weight.flatten(1), self.convolution.bias))


def sinusoidal_table(n_tokens: int, width: int) -> Tensor:
    """Positions as sines and cosines, (1, n_tokens, width): even columns sin(t w_i), odd ones cos(t w_i).

    The frequencies w_i = 10000^(-2i/width) fall geometrically. Source: Vaswani et al., arXiv:1706.03762, section 3.5.
    """
    position = torch.arange(n_tokens, dtype=torch.float32)[:, None]  # (t, 1)
    even = torch.arange(0, width, 2, dtype=torch.float32)
    phase = position * torch.exp(even * (-math.log(10000.0) / width))  # (t, width / 2)
    return torch.stack([phase.sin(), phase.cos()], dim=-1).flatten(1)[None]  # (1, t, width)


class CausalConvolution(nn.Module):
    """Depthwise convolution over the last four steps, then SiLU: (b, l, e) -> (b, l, e)."""

    KERNEL = 4

    def __init__(self, width: int) -> None:
        super().__init__()
        bound = 1 / math.sqrt(self.KERNEL)
        self.weight = nn.Parameter(torch.empty(width, 1, self.KERNEL).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(width).uniform_(-bound, bound))

    def forward(self, x: Tensor) -> Tensor:
        """Return SiLU(b + sum_j w_j x_{t-3+j}), zeros before the start."""
        taps = self.weight[:, 0].t().contiguous()  # (4, e)
        return convolved(x, taps, self.bias)


class Head(nn.Module):
    """Linear read-out, with one hidden layer on demand: (b, d) -> (b, n_outputs)."""

    ACTIVATIONS: Mapping[str, Callable[[Tensor], Tensor]] = {"relu": F.relu, "silu": F.silu, "gelu": F.gelu}

    def __init__(self, sizes: Sizes, hidden: int, activation: Literal["relu", "silu", "gelu"]) -> None:
        super().__init__()
        self.hidden = nn.Linear(sizes.d_model, hidden)
        self.output = nn.Linear(hidden, sizes.n_outputs)
        self.dropout = Dropout(sizes.settings.dropout)
        self.activation = self.ACTIVATIONS[activation]

    def forward(self, x: Tensor) -> Tensor:
        """Return the outputs of the pooled vectors; dropout acts on the hidden layer."""
        return self.output(self.dropout(self.activation(self.hidden(x))))
