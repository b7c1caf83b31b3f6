"""Small layers that several models share: norms, tokens of the steps, learned means, heads.

Shapes: b batch, l length, c input channels, d model width, e inner width, k chunks, u features, v hidden units.
"""

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from qablate.models.fused import Dropout, convolved, rms_norm
from qablate.models.sizes import Sizes


class RMSNorm(nn.RMSNorm):
    """Root-mean-square norm over the last axis: g x / sqrt(mean(x^2) + 1e-5), g from 1."""

    EPS = 1e-5

    def __init__(self, width: int) -> None:
        super().__init__(width, eps=self.EPS)

    def forward(self, x: Tensor) -> Tensor:
        """Return the normed x (..., width)."""
        return rms_norm(x, self.weight, self.EPS)


class NormedMap(nn.Module):
    """Linear map, LayerNorm, SiLU: how measured circuits and most inputs become tokens."""

    def __init__(self, n_in: int, n_out: int) -> None:
        super().__init__()
        self.map = nn.Linear(n_in, n_out)
        self.norm = nn.LayerNorm(n_out)

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., n_in) to (..., n_out)."""
        return F.silu(self.norm(self.map(x)))


class StepTokens(nn.Module):
    """A map of every step, then dropout: (b, c, l) -> (b, l, d)."""

    def __init__(self, map_: nn.Module, dropout: float) -> None:
        super().__init__()
        self.map, self.dropout = map_, Dropout(dropout)

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
        self.norm = nn.LayerNorm(sizes.d_model)

    def forward(self, x: Tensor) -> Tensor:
        """Return the tokens of the steps; the convolution is a linear map of three neighbouring steps."""
        windows = F.pad(x, (1, 1)).unfold(-1, 3, 1).transpose(1, 2).flatten(2)  # (b, l, 3 c)
        return self.norm(F.linear(windows, self.convolution.weight.flatten(1), self.convolution.bias))


class CausalConvolution(nn.Module):
    """Depthwise convolution over the last four steps, then SiLU: (b, l, e) -> (b, l, e)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        bound = 1 / math.sqrt(4)
        self.weight = nn.Parameter(torch.empty(width, 1, 4).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(width).uniform_(-bound, bound))

    def forward(self, x: Tensor) -> Tensor:
        """Return SiLU(b + sum_j w_j x_{t-3+j}), zeros before the start."""
        return convolved(x, self.weight[:, 0].t().contiguous(), self.bias)


class SoftmaxPool(nn.Module):
    """Mean over the second axis, weighted by the softmax of a scorer with v tanh units: (b, k, u) -> (b, u)."""

    def __init__(self, n_features: int, n_hidden: int) -> None:
        super().__init__()
        self.hidden = nn.Linear(n_features, n_hidden)
        self.score = nn.Linear(n_hidden, 1)

    def forward(self, tokens: Tensor) -> Tensor:
        """Return the weighted means of the tokens."""
        weights = self.scores(tokens).softmax(dim=1)  # (b, k)
        return (weights[:, None] @ tokens)[:, 0]  # (b, u)

    def scores(self, tokens: Tensor) -> Tensor:
        """Scores before the softmax: (..., u) -> (...)."""
        return self.score(torch.tanh(self.hidden(tokens)))[..., 0]


class ChunkPool(SoftmaxPool):
    """Weighted mean of every chunk of c steps: (b, l, u) -> (b, k, u).

    The last chunk is filled with zeros. As published, the filled slots keep their place in the softmax, so they
    shrink the mean of an incomplete chunk. Their score, that of a zero vector, is computed once.
    """

    def __init__(self, n_features: int, n_hidden: int, chunk: int) -> None:
        super().__init__(n_features, n_hidden)
        self.chunk = chunk

    def forward(self, steps: Tensor) -> Tensor:
        """Return one vector per chunk."""
        n_samples, length, n_features = steps.shape
        scores, missing = self.scores(steps), -length % self.chunk
        if missing:
            empty = self.score(torch.tanh(self.hidden.bias))  # (1)
            scores = torch.cat([scores, empty.expand(n_samples, missing)], dim=1)
            steps = F.pad(steps, (0, 0, 0, missing))
        n_chunks = scores.shape[1] // self.chunk
        weights = scores.view(-1, 1, self.chunk).softmax(dim=-1)  # (b k, 1, c), sample-major
        means = weights @ steps.reshape(-1, self.chunk, n_features)  # (b k, 1, u)
        return means.view(n_samples, n_chunks, n_features)


class MeanPool(nn.Module):
    """Plain mean over the tokens: (b, k, d) -> (b, d)."""

    def __init__(self, _: Sizes) -> None:
        super().__init__()

    def forward(self, tokens: Tensor) -> Tensor:
        """Return the mean."""
        return tokens.mean(dim=1)


class Head(nn.Module):
    """Read-out with one hidden layer: (b, d) -> (b, n_outputs)."""

    def __init__(self, sizes: Sizes, hidden: int, activation: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.hidden = nn.Linear(sizes.d_model, hidden)
        self.output = nn.Linear(hidden, sizes.n_outputs)
        self.dropout = Dropout(sizes.settings.dropout)
        self.activation = activation

    def forward(self, x: Tensor) -> Tensor:
        """Return the outputs of the pooled vectors; dropout acts on the hidden layer."""
        return self.output(self.dropout(self.activation(self.hidden(x))))
