"""Maps from tokens to circuit angles.

Shapes: `...` samples and chunks, u features, r branches, n qubits, a angles of one ansatz.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class AngleMaps(nn.ModuleList):
    """One linear map a branch, evaluated together: (..., u) -> (..., r, a)."""

    def __init__(self, n_branches: int, n_features: int, n_angles: int) -> None:
        super().__init__(nn.Linear(n_features, n_angles) for _ in range(n_branches))

    def forward(self, x: Tensor, offsets: Iterable[Tensor] = ()) -> Tensor:
        """Return the angles; `offsets` (a), one a branch, are added to the biases."""
        return joint_linear(x, self.maps(), offsets).unflatten(-1, (len(self), -1))

    def maps(self) -> list[nn.Linear]:
        """The maps of the branches."""
        return [map_ for map_ in self if isinstance(map_, nn.Linear)]


def joint_linear(x: Tensor, maps: Sequence[nn.Linear], offsets: Iterable[Tensor] = ()) -> Tensor:
    """Results of several linear maps of the same input side by side, as one matrix product: (..., sum of outputs)."""
    weight = torch.cat([map_.weight for map_ in maps])
    bias = torch.cat([map_.bias for map_ in maps])
    shift = list(offsets)
    return F.linear(x, weight, bias + torch.cat(shift) if shift else bias)


class BoundedAngles(nn.Linear):
    """Linear map to one angle a wire, bounded by pi tanh: (..., u) -> (..., n)."""

    def forward(self, x: Tensor) -> Tensor:
        """Return angles between -pi and pi."""
        return math.pi * torch.tanh(super().forward(x))
