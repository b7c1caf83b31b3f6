"""Superposed states: three circuits on one register, weighted, normalised, measured (models 2d, 2e, 4d, 4e).

The second branch runs the ansatz with its wires reversed. It equals the plain ansatz between two reversals of the
wires, so all branches of all cores share one circuit call.

As published, the second core reads the chunks in reversed order and its features are reversed back. Every circuit
sees one chunk only, so the reversals cancel; they are omitted here.

Shapes: `...` samples and chunks, u features, m cores, n qubits, a angles of one ansatz.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import cast

import torch
from torch import Tensor, nn

from qablate.models.angles import AngleMaps, BoundedAngles, joint_linear
from qablate.models.coefficients import equal_weights
from qablate.models.features import CircuitFeatures
from qablate.models.sizes import Sizes
from qablate.quantum import (
    Circuit,
    ansatz,
    embedding,
    scale_rotations,
)


class SuperposedCores(CircuitFeatures):
    """What the models of this kind share: the branches of every core, their superposition and measurement."""

    cores: nn.ModuleList  # of AngleMaps
    coefficients: nn.ModuleList  # of RealPairCoefficients
    makes_angles: tuple[str, ...] = ("cores", "embedding", "step")

    def __init__(self, sizes: Sizes, n_cores: int) -> None:
        super().__init__(n_cores * sizes.n_observables, sizes.kind)
        self.n_cores = n_cores
        self.n_qubits, self.n_layers = sizes.settings.n_qubits, sizes.settings.n_layers

    def core_angles(self, chunks: Tensor) -> Tensor:
        """Unscaled angles of all maps of all cores: (..., m, maps, a)."""
        maps = [map_ for core in cast(Iterable[AngleMaps], self.cores) for map_ in core.maps()]
        return joint_linear(chunks, maps).unflatten(-1, (self.n_cores, -1, maps[0].out_features))

    def scaled_branches(self, angles: Tensor, scale: Tensor) -> Tensor:
        """Angles (..., m, 3, a) with the rotations of the first two branches times `scale` (..., 1)."""
        ones = torch.ones_like(scale)
        factors = torch.cat([scale, scale, ones], dim=-1)[..., None, :]  # (..., 1, 3)
        return scale_rotations(angles, factors.expand(angles.shape[:-1]), self.n_qubits, self.n_layers)

    def measured(self, branches: Tensor) -> Tensor:
        """Features (..., m 3n) of branch states (..., m, 3, 2**n), the second with its wires reversed."""
        superposed = [
            self.kind.superpose(coefficients(), self.plain_order(core))  # (..., 2**n)
            for coefficients, core in zip(self.coefficients, branches.unbind(-3), strict=True)
        ]
        return self.kind.measure(torch.stack(superposed, dim=-2)).flatten(-2)

    def plain_order(self, branches: Tensor) -> Tensor:
        """Branches (..., 3, 2**n) stacked in front, the wires of the second one back in order: (3, ..., 2**n)."""
        first, second, third = branches.unbind(-2)
        return torch.stack([first, self.kind.reverse_wires(second), third])


class EmbeddedSuperposition(SuperposedCores):
    """The chunk enters by an embedding before each branch; a step size scales its rotations. Models 2d and 2e."""

    def __init__(self, sizes: Sizes, n_inputs: int, n_cores: int) -> None:
        super().__init__(sizes, n_cores)
        n = self.n_qubits
        self.circuit = Circuit(n, embedding(n) + ansatz(n, self.n_layers, first=n))
        self.cores = nn.ModuleList(AngleMaps(3, n_inputs, sizes.n_angles) for _ in range(n_cores))
        self.embedding = BoundedAngles(n_inputs, n)
        self.step = nn.Sequential(
            nn.Linear(n_inputs, sizes.d_model // 8), nn.SiLU(), nn.Linear(sizes.d_model // 8, 1)
        )
        self.coefficients = nn.ModuleList(equal_weights() for _ in range(n_cores))

    def forward(self, chunks: Tensor) -> Tensor:
        """Return the features: (..., u) -> (..., m 3n)."""
        step = torch.sigmoid(self.step(chunks))  # (..., 1)
        angles = self.scaled_branches(self.core_angles(chunks), step)  # (..., m, 3, a)
        embedded = self.embedding(chunks)  # (..., n)
        of_branches = torch.stack([embedded, embedded.flip(-1), embedded], dim=-2)[..., None, :, :]
        angles = torch.cat([of_branches.expand(*angles.shape[:-1], -1), angles], dim=-1)  # (..., m, 3, n + a)
        return self.measured(self.kind.states(self.circuit, angles))


class InjectedSuperposition(SuperposedCores):
    """A feature circuit hands its state to the branches; two of them end with an injection. Models 4d and 4e.

    The feature circuit of a core is simulated once. The third branch has no injection: its injection angles are 0.
    With `hand_over=False` the branches start from |0...0>, and the maps of the feature circuit
    have no effect and are not trained.
    """

    makes_angles = ("cores", "embedding", "step", "injection")

    def __init__(self, sizes: Sizes, n_inputs: int, n_cores: int) -> None:
        super().__init__(sizes, n_cores)
        n, self.hand_over = self.n_qubits, sizes.settings.hand_over
        self.features = Circuit(n, embedding(n) + ansatz(n, self.n_layers, first=n))
        self.branches = Circuit(n, ansatz(n, self.n_layers) + embedding(n, first=sizes.n_angles))
        self.cores = nn.ModuleList(AngleMaps(4, n_inputs, sizes.n_angles) for _ in range(n_cores))
        self.embedding = BoundedAngles(n_inputs, n)
        self.step = nn.Linear(n_inputs, 1)
        self.injection = BoundedAngles(n_inputs, n)
        self.coefficients = nn.ModuleList(equal_weights() for _ in range(n_cores))
        if not self.hand_over:
            for idle in (self.embedding, *(core.maps()[0] for core in cast(Iterable[AngleMaps], self.cores))):
                idle.requires_grad_(False)

    def forward(self, chunks: Tensor) -> Tensor:
        """Return the features: (..., u) -> (..., m 3n)."""
        feature_angles, branch_angles = self.core_angles(chunks).split([1, 3], dim=-2)  # (..., m, 1 or 3, a)
        step = torch.sigmoid(self.step(chunks))  # (..., 1)
        injected = step * self.injection(chunks)  # (..., n)
        injected = torch.stack([injected, injected.flip(-1), torch.zeros_like(injected)], dim=-2)[..., None, :, :]
        branch_angles = self.scaled_branches(branch_angles, step)  # (..., m, 3, a)
        injected = injected.expand(*branch_angles.shape[:-1], -1)  # (..., m, 3, n)
        angles = torch.cat([branch_angles, injected], dim=-1)  # (..., m, 3, a + n)
        if not self.hand_over:
            return self.measured(self.kind.states(self.branches, angles))
        start = self._feature_states(chunks, feature_angles[..., 0, :])  # (..., m, 2**n)
        start = torch.stack([start, self.kind.reverse_wires(start), start], dim=-2)  # (..., m, 3, 2**n)
        return self.measured(self.kind.evolve(self.branches, angles, start))

    def _feature_states(self, chunks: Tensor, angles: Tensor) -> Tensor:
        embedded = self.embedding(chunks)[..., None, :].expand(*angles.shape[:-1], -1)  # (..., m, n)
        return self.kind.states(self.features, torch.cat([embedded, angles], dim=-1))
