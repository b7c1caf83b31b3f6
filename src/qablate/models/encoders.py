"""From steps to chunk tokens, through a circuit (all models with circuits but 2a, which mixes the chunks itself).

Shapes: b batch, l length, k chunks, u features of a step, d model width, n qubits.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

import torch
from torch import Tensor, nn

from qablate.models.coefficients import ComplexParameters, complex_uniform
from qablate.models.dropout import Dropout
from qablate.models.features import CircuitFeatures, ConcatenatedBranches
from qablate.models.layers import NormedMap
from qablate.models.pooling import ChunkPool
from qablate.models.sizes import Sizes
from qablate.quantum import (
    Circuit,
    ansatz,
    superpose_features,
)

Features = TypeVar("Features", bound=CircuitFeatures)


class ChunkEncoder(nn.Module, Generic[Features]):
    """Pool of every chunk, features of a circuit, map to the model width: (b, l, u) -> (b, k, d)."""

    def __init__(
        self, sizes: Sizes, n_inputs: int, pool_hidden: int, features: Callable[[Sizes, int], Features], dropout: bool
    ) -> None:
        super().__init__()
        self.pool = ChunkPool(n_inputs, pool_hidden, sizes.chunk)
        self.features = features(sizes, n_inputs)
        self.output = NormedMap(self.features.n_features, sizes.d_model)
        self.dropout = Dropout(sizes.settings.dropout if dropout else 0.0)

    def forward(self, steps: Tensor) -> Tensor:
        """Return the tokens of the chunks."""
        return self.dropout(self.output(self.features(self.pool(steps))))


class ThreeWayEncoder(ComplexParameters):
    """Three chunk encoders, the second on reversed time, superposed by moduli: (b, l, d) -> (b, k, d). Model 1c.

    As published, time is reversed before the padding: where the chunk does not divide the length, the second encoder
    reads other windows than the first.
    """

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.kind = sizes.kind
        self.alpha, self.beta, self.gamma = complex_uniform(1), complex_uniform(1), complex_uniform(1)
        self.ahead, self.back, self.diagonal = (
            ChunkEncoder(sizes, sizes.d_model, sizes.d_model // 2, ConcatenatedBranches, dropout=False)
            for _ in range(3)
        )
        self.dropout = Dropout(sizes.settings.dropout)

    def forward(self, steps: Tensor) -> Tensor:
        """Return the tokens of the chunks; the nine circuits run in one call."""
        fronts = (self.ahead, self.back, self.diagonal)
        readings = (steps, steps.flip(1), steps)
        angles = torch.stack(
            [front.features.angles(front.pool(x)) for front, x in zip(fronts, readings, strict=True)]
        )  # (3, b, k, 3, n + a)
        measured = self.kind.expectations(self.ahead.features.circuit, angles)  # (3, b, k, 3, 3n)
        ahead, back, diagonal = (
            front.output(front.features.combine(m)) for front, m in zip(fronts, measured, strict=True)
        )  # (b, k, d) each
        coefficients = torch.cat([self.alpha, self.beta, self.gamma])
        return self.dropout(superpose_features(coefficients, torch.stack([ahead, back.flip(1), diagonal])))


class UnitaryCombination(ComplexParameters):
    """One state a chunk, summed over chunks with trained weights, one more layer, measured. Model 2a.

    (b, l, d) -> (b, d). As published, the weights depend on the position of the chunk and not on its content.
    """

    makes_angles = ("to_angles", "final_angles")

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        n, d = sizes.settings.n_qubits, sizes.d_model
        self.kind = sizes.kind
        self.circuit = Circuit(n, ansatz(n, sizes.settings.n_layers))
        self.final_circuit = Circuit(n, ansatz(n, 1))
        self.pool = ChunkPool(d, d // 2, sizes.chunk)
        self.dropout = Dropout(sizes.settings.dropout)
        self.coefficients = complex_uniform(sizes.n_tokens)
        self.final_angles = nn.Parameter(0.1 * torch.randn(self.final_circuit.n_angles))
        self.to_angles = nn.Linear(d, sizes.n_angles)
        self.output = nn.Linear(sizes.n_observables, d)

    def forward(self, steps: Tensor) -> Tensor:
        """Return one vector a sample; angles lie between 0 and 1."""
        chunks = self.dropout(self.pool(steps))  # (b, k, d)
        psi = self.kind.states(self.circuit, torch.sigmoid(self.to_angles(chunks)))  # (b, k, 2**n)
        phi = self.kind.combine_unitaries(self.coefficients, psi)  # (b, 2**n)
        phi = self.kind.evolve(self.final_circuit, self.final_angles, phi)
        return self.output(self.kind.measure(phi))
