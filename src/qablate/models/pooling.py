"""Learned weighted means: of the steps of a chunk, and of the chunks of a sequence.

Shapes: b batch, l length, k chunks of c steps, u features, v hidden units of the scorer.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


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
        """Return one vector a chunk."""
        n_samples, length, n_features = steps.shape
        scores, missing = self.scores(steps), -length % self.chunk
        if missing:
            empty = self.score(torch.tanh(self.hidden.bias))  # (1)
            scores = torch.cat([scores, empty.expand(n_samples, missing)], dim=1)
            steps = F.pad(steps, (0, 0, 0, missing))
        weights = scores.view(-1, 1, self.chunk).softmax(dim=-1)  # (b k, 1, c), sample-major
        means = weights @ steps.reshape(-1, self.chunk, n_features)  # (b k, 1, u)
        return means.view(n_samples, -1, n_features)


class MeanPool(nn.Module):
    """Plain mean over the tokens: (b, k, d) -> (b, d)."""

    def forward(self, tokens: Tensor) -> Tensor:
        """Return the mean."""
        return tokens.mean(dim=1)
