"""Kinds of circuit that observe or disturb another one; for checks, not for training.

Shapes as in `qablate.quantum.kinds`.
"""

import math
from collections.abc import Callable
from functools import lru_cache

import torch
from torch import Tensor

from qablate.quantum import execution
from qablate.quantum.circuit import Circuit, Gate
from qablate.quantum.kinds import ExactCircuits


class ObservedCircuits(ExactCircuits):
    """Another kind, whose angles and measured features pass through functions."""

    def __init__(
        self,
        kind: ExactCircuits,
        features: Callable[[Tensor], Tensor] = lambda x: x,
        angles: Callable[[Tensor], Tensor] = lambda x: x,
    ) -> None:
        super().__init__(kind.backend)
        self.kind, self.features, self.angles = kind, features, angles
        self.superpose, self.combine_unitaries = kind.superpose, kind.combine_unitaries  # type: ignore[method-assign]
        self.reverse_wires = kind.reverse_wires  # type: ignore[method-assign]

    def expectations(self, circuit: Circuit, angles: Tensor) -> Tensor:
        """Features after the circuit on |0...0>."""
        return self.features(self.kind.expectations(circuit, self.angles(angles)))

    def states(self, circuit: Circuit, angles: Tensor) -> Tensor:
        """State after the circuit on |0...0>."""
        return self.kind.states(circuit, self.angles(angles))

    def evolve(self, circuit: Circuit, angles: Tensor, initial: Tensor) -> Tensor:
        """State after the circuit on `initial`."""
        return self.kind.evolve(circuit, self.angles(angles), initial)

    def measure(self, states: Tensor) -> Tensor:
        """Features of states."""
        return self.features(self.kind.measure(states))


class DepolarisingCircuits(ExactCircuits):
    """One random trajectory of depolarising noise in a kind with states.

    After every gate each of its wires suffers X, Y or Z with probability `rate` / 3 each, drawn per sample.
    """

    def __init__(self, kind: ExactCircuits, rate: float, generator: torch.Generator) -> None:
        super().__init__(kind.backend)
        self.lowered = kind.lowered  # type: ignore[method-assign]
        self.rate, self.generator = rate, generator

    def expectations(self, circuit: Circuit, angles: Tensor) -> Tensor:
        """Features after the circuit on |0...0>."""
        angles, _ = self._with_errors(circuit, angles)
        return execution.expectations(with_error_slots(self.lowered(circuit)), angles, self.backend)

    def states(self, circuit: Circuit, angles: Tensor) -> Tensor:
        """State after the circuit on |0...0>."""
        angles, phases = self._with_errors(circuit, angles)
        return phases * execution.states(with_error_slots(self.lowered(circuit)), angles, self.backend)

    def evolve(self, circuit: Circuit, angles: Tensor, initial: Tensor) -> Tensor:
        """State after the circuit on `initial`."""
        batch = torch.broadcast_shapes(angles.shape[:-1], initial.shape[:-1])
        angles, phases = self._with_errors(circuit, angles.expand(*batch, -1))
        return phases * execution.evolve(with_error_slots(self.lowered(circuit)), angles, initial, self.backend)

    def _with_errors(self, circuit: Circuit, angles: Tensor) -> tuple[Tensor, Tensor]:
        """Angles with those of the errors behind them, and the phase that turns R_P(pi) = -i P into P, per sample."""
        n_slots = sum(len(gate.wires) for gate in circuit.gates)
        drawn = torch.rand(*angles.shape[:-1], n_slots, generator=self.generator)
        pauli = (drawn * (3 / self.rate)).long() if self.rate > 0 else torch.full_like(drawn, 3).long()
        errors = pauli[..., None] == torch.arange(3)  # (..., slots, 3): X, Y, Z or none
        phases = torch.tensor([1, 1j, -1, -1j])[errors.sum((-2, -1)) % 4][..., None]
        added = math.pi * errors.flatten(-2).to(angles)
        return torch.cat([angles, added], dim=-1), phases.to(angles.device, angles.dtype.to_complex())


@lru_cache(maxsize=64)
def with_error_slots(circuit: Circuit) -> Circuit:
    """The circuit with R_X, R_Y, R_Z after every gate on each of its wires, their angles behind all others."""
    gates: list[Gate] = []
    column = circuit.n_angles
    for gate in circuit.gates:
        gates.append(gate)
        for wire in gate.wires:
            gates += [Gate(kind, (wire,), column + i) for i, kind in enumerate(("RX", "RY", "RZ"))]
            column += 3
    return Circuit(circuit.n_qubits, tuple(gates))
