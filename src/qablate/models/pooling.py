"""Learned weighted means: of the steps of a chunk, and of the chunks of a sequence.

Shapes: b batch, l length, k chunks of c steps, u features, v hidden units of the scorer.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class SoftmaxPool(nn.Module):
    """Mean over the second axis, weighted by the softmax of a scorer with v tanh units: (m, s, u) -> (m, u)."""

    def __init__(self, n_features: int, n_hidden: int) -> None:
        super().__init__()
        self.hidden = nn.Linear(n_features, n_hidden)
        self.score = nn.Linear(n_hidden, 1)

    def forward(self, slots: Tensor) -> Tensor:
        """Return the weighted means of the slots."""
        weights = self.score(torch.tanh(self.hidden(slots))).softmax(dim=1)  # (m, s, 1)
        return (weights.transpose(1, 2) @ slots)[:, 0]  # (m, u)


class ChunkPool(SoftmaxPool):
    """Weighted mean of every chunk of c steps: (b, l, u) -> (b, k, u).

    The last chunk is filled with zeros. As published, the filled slots keep their place in the softmax (the scorer
    gives them the score of a zero vector), so they shrink the mean of an incomplete chunk.
    """

    def __init__(self, n_features: int, n_hidden: int, chunk: int) -> None:
        super().__init__(n_features, n_hidden)
        self.chunk = chunk

    def forward(self, steps: Tensor) -> Tensor:
        """Return one vector a chunk."""
        n_samples, length, n_features = steps.shape
        missing = -length % self.chunk
        if missing:
            steps = F.pad(steps, (0, 0, 0, missing))
        slots = steps.reshape(-1, self.chunk, n_features)  # (b k, c, u), sample-major
        return super().forward(slots).view(n_samples, -1, n_features)  # (b, k, u)


class MeanPool(nn.Module):
    """Plain mean over the tokens: (b, k, d) -> (b, d)."""

    def forward(self, tokens: Tensor) -> Tensor:
        """Return the mean."""
        return tokens.mean(dim=1)
