"""Circuits that read a chunk and return measured features.

Each module maps the vectors of the chunks (..., u) to features (..., f) with f = `n_features`.
Shapes: `...` samples and chunks, u features, r branches, n qubits, a angles of one ansatz.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from qablate.models.angles import AngleMaps, BoundedAngles
from qablate.models.coefficients import RealPairCoefficients
from qablate.models.sizes import Sizes
from qablate.quantum import Circuit, ExactCircuits, ansatz, embedding, superpose_concat, superpose_modulus


class CircuitFeatures(nn.Module):
    """Base of the modules that read chunks with circuits of a kind: `n_features` numbers a chunk.

    `makes_angles` names the parts whose numbers decide angles; they are not trained under `train_angles=False`.
    """

    makes_angles: tuple[str, ...] = ("to_angles", "embedding")

    def __init__(self, n_features: int, kind: ExactCircuits) -> None:
        super().__init__()
        self.n_features, self.kind = n_features, kind


class ModulusBranches(CircuitFeatures):
    """Three circuits without embedding; modulus of the weighted sum of their expectations. Model 1a, f = 3 n."""

    makes_angles = ("to_angles", "base_angles")

    def __init__(self, sizes: Sizes, n_inputs: int) -> None:
        super().__init__(sizes.n_observables, sizes.kind)
        n = sizes.settings.n_qubits
        self.circuit = Circuit(n, ansatz(n, sizes.settings.n_layers))
        self.coefficients = RealPairCoefficients((1,), 0.0, 1.0)
        self.to_angles = AngleMaps(3, n_inputs, sizes.n_angles)
        self.base_angles = nn.ParameterList(torch.rand(sizes.n_angles) * 2 * math.pi for _ in range(3))

    def forward(self, chunks: Tensor) -> Tensor:
        """Return the features; angles lie between 0 and 2 pi."""
        angles = 2 * math.pi * torch.sigmoid(self.to_angles(chunks, self.base_angles))  # (..., 3, a)
        measured = self.kind.expectations(self.circuit, angles)  # (..., 3, 3n)
        return superpose_modulus(self.coefficients(), measured.movedim(-2, 0))


class ConcatenatedBranches(CircuitFeatures):
    """Three circuits with a common embedding; weighted expectations side by side. Models 1b and 1c, f = 9 n."""

    def __init__(self, sizes: Sizes, n_inputs: int) -> None:
        super().__init__(3 * sizes.n_observables, sizes.kind)
        n = sizes.settings.n_qubits
        self.circuit = Circuit(n, embedding(n) + ansatz(n, sizes.settings.n_layers, first=n))
        self.coefficients = RealPairCoefficients((1,), 0.25, 0.75)
        self.to_angles = AngleMaps(3, n_inputs, sizes.n_angles)
        self.embedding = BoundedAngles(n_inputs, n)

    def forward(self, chunks: Tensor) -> Tensor:
        """Return the features."""
        return self.combine(self.kind.expectations(self.circuit, self.angles(chunks)))

    def angles(self, chunks: Tensor) -> Tensor:
        """Angles of the three circuits: (..., 3, n + a)."""
        embedded = self.embedding(chunks)[..., None, :]  # (..., 1, n)
        return torch.cat([embedded.expand(*chunks.shape[:-1], 3, -1), self.to_angles(chunks)], dim=-1)

    def combine(self, measured: Tensor) -> Tensor:
        """Features of measured circuits: (..., 3, 3n) -> (..., 9n)."""
        return superpose_concat(self.coefficients(), measured.movedim(-2, 0))


class DeepCircuit(CircuitFeatures):
    """One circuit of twice as many layers. Model 4a, f = 3 n."""

    def __init__(self, sizes: Sizes, n_inputs: int) -> None:
        super().__init__(sizes.n_observables, sizes.kind)
        n, n_layers = sizes.settings.n_qubits, 2 * sizes.settings.n_layers
        self.circuit = Circuit(n, embedding(n) + ansatz(n, n_layers, first=n))
        self.to_angles = nn.Linear(n_inputs, 2 * sizes.n_angles)
        self.embedding = BoundedAngles(n_inputs, n)

    def forward(self, chunks: Tensor) -> Tensor:
        """Return the features."""
        angles = torch.cat([self.embedding(chunks), self.to_angles(chunks)], dim=-1)  # (..., n + 2a)
        return self.kind.expectations(self.circuit, angles)
