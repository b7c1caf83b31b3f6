"""Kinds of circuit: what a model's gate list means. All read every angle, none has trainable numbers of its own.

`exact` simulates the statevector as published; each of the others takes one thing away (docs/controls.md).
Shapes: r branches, k chunks, n qubits; a state is (..., 2**n) complex, of the vector kinds (..., 3 n) real in the order
of the features: X block, Y block, Z block.
"""

import math
from collections.abc import Callable, Mapping
from functools import lru_cache
from types import MappingProxyType

import torch
import torch.nn.functional as F
from torch import Tensor

from qablate import selfcheck
from qablate.errors import QablateError, suggestion
from qablate.quantum import execution
from qablate.quantum.circuit import Circuit, Gate, reverse_wires


class ExactCircuits:
    """The circuit as published: `exact`."""

    superpose = staticmethod(execution.superpose_states)
    combine_unitaries = staticmethod(execution.combine_unitaries)
    reverse_wires = staticmethod(reverse_wires)

    def __init__(self, backend: str = "auto") -> None:
        self.backend = backend

    def kernel(self, n_qubits: int, device: torch.device) -> str:
        """Name of what computes float32 numbers on a device; those of two kernels differ by rounding."""
        found = execution.BACKENDS.resolve(self.backend, device)
        largest = getattr(execution.BACKENDS.module(found), "MAX_QUBITS", n_qubits)
        return found if n_qubits <= largest else "torch"

    def lowered(self, circuit: Circuit) -> Circuit:
        """The circuit that is run in place of `circuit`; it reads the same columns of angles."""
        return circuit

    def expectations(self, circuit: Circuit, angles: Tensor) -> Tensor:
        """Features of the state after the circuit on |0...0>: angles (..., n_angles) -> (..., 3 n)."""
        return execution.expectations(self.lowered(circuit), angles, self.backend)

    def states(self, circuit: Circuit, angles: Tensor) -> Tensor:
        """State after the circuit on |0...0>."""
        return execution.states(self.lowered(circuit), angles, self.backend)

    def evolve(self, circuit: Circuit, angles: Tensor, initial: Tensor) -> Tensor:
        """State after the circuit on `initial`; leading axes are broadcast."""
        return execution.evolve(self.lowered(circuit), angles, initial, self.backend)

    def measure(self, states: Tensor) -> Tensor:
        """Features (..., 3 n) of states."""
        return execution.measure(states, self.backend)


class UnentangledCircuits(ExactCircuits):
    """Without entangling gates: CRX(t; c, g) becomes R_X(t) on g. `unentangled`.

    A circuit on |0...0> leaves a product state; a superposition of several product states is in general entangled.
    """

    @staticmethod
    @lru_cache(maxsize=256)
    def lowered(circuit: Circuit) -> Circuit:
        """The circuit with rotations of the target in place of controlled ones."""
        gates = (Gate("RX", gate.wires[1:], gate.angle) if gate.kind == "CRX" else gate for gate in circuit.gates)
        return Circuit(circuit.n_qubits, tuple(gates))


class VectorCircuits(ExactCircuits):
    """What kinds with states in R^(3 n) share: the state is the feature vector.

    A superposition is the sum with weights |c_r| / norm, rescaled to length sqrt(n), that of n pure qubits.
    """

    def expectations(self, circuit: Circuit, angles: Tensor) -> Tensor:
        """The state itself."""
        return self.states(circuit, angles)

    def measure(self, states: Tensor) -> Tensor:
        """The state itself."""
        return states

    @staticmethod
    def superpose(coefficients: Tensor, states: Tensor) -> Tensor:
        """Rescaled sum of branches (r, ..., 3 n) with weights |c_r|."""
        vectors = execution.superpose_features(coefficients, states)
        length = torch.linalg.vector_norm(vectors, dim=-1, keepdim=True)
        return vectors * ((vectors.shape[-1] / 3) ** 0.5 / (length + 1e-9))

    @staticmethod
    def combine_unitaries(coefficients: Tensor, states: Tensor) -> Tensor:
        """Rescaled sum over chunks (..., k, 3 n) with weights |c_k|."""
        return VectorCircuits.superpose(coefficients, states.movedim(-2, 0))

    @staticmethod
    def reverse_wires(states: Tensor) -> Tensor:
        """States with wire w renamed to n - 1 - w, in each block."""
        return states.unflatten(-1, (3, -1)).flip(-1).flatten(-2)


MEAN_FIELD = selfcheck.Backends(  # plain torch for all but numba
    "quantum.backend", execution.BACKENDS.modules | {"numba": "qablate.quantum.mean_field"}, fastest={"cpu": "numba"}
)


class MeanFieldCircuits(VectorCircuits):
    """The circuit's own product-state approximation, n Bloch vectors: `mean_field`. Scales as n instead of 2**n.

    Every qubit feels the mean of the others. Rotations turn the vector of their wire. CRX(t; c, g) turns g about x by
    t (1 - z_c) / 2, the mean of the angles 0 and t over the control, and leaves c as it is. Without controlled gates
    this is the exact circuit.
    """

    def kernel(self, n_qubits: int, device: torch.device) -> str:
        """`numba` for the compiled kernels, else `torch`."""
        return "numba" if MEAN_FIELD.resolve(self.backend, device) == "numba" else "torch"

    def states(self, circuit: Circuit, angles: Tensor) -> Tensor:
        """Bloch vectors after the circuit on |0...0>."""
        zero = angles.new_zeros(3 * circuit.n_qubits)
        zero[2 * circuit.n_qubits :] = 1
        return self.evolve(circuit, angles, zero)

    @selfcheck.untraced
    def evolve(self, circuit: Circuit, angles: Tensor, initial: Tensor) -> Tensor:
        """Bloch vectors after the circuit on `initial` (..., 3 n) of any length."""
        _check_width(circuit, angles)
        batch = torch.broadcast_shapes(angles.shape[:-1], initial.shape[:-1])
        flat = angles.expand(*batch, -1).reshape(math.prod(batch), circuit.n_angles)
        vectors = initial.expand(*batch, -1).reshape(math.prod(batch), 3 * circuit.n_qubits)
        name = MEAN_FIELD.resolve(self.backend, angles.device, angles.dtype)
        run = MEAN_FIELD.module(name).evolve if name == "numba" else mean_field_plainly
        result: Tensor = run(circuit, flat, vectors)
        return result.reshape(*batch, 3 * circuit.n_qubits)


def mean_field_plainly(circuit: Circuit, angles: Tensor, vectors: Tensor) -> Tensor:
    """The definition of `mean_field`, gate by gate: angles (B, n_angles), vectors (B, 3 n) -> (B, 3 n)."""
    n, parts = circuit.n_qubits, list(vectors.unbind(-1))
    for gate in circuit.gates:
        angle = angles[:, gate.angle]
        if gate.kind == "CRX":
            angle = angle * (1 - parts[2 * n + gate.wires[0]]) / 2
        p, q = plane(gate, n)
        cos, sin = angle.cos(), angle.sin()
        parts[p], parts[q] = parts[p] * cos - parts[q] * sin, parts[p] * sin + parts[q] * cos
    return torch.stack(parts, -1)


def plane(gate: Gate, n_qubits: int) -> tuple[int, int]:
    """The numbers p and q among the 3 n of all Bloch vectors in whose plane a gate rotates, from p to q."""
    axis, wire = "XYZ".index(gate.kind[-1]), gate.wires[-1]
    return (axis + 1) % 3 * n_qubits + wire, (axis + 2) % 3 * n_qubits + wire


class LinearFeatures(VectorCircuits):
    """Sums of angles in place of a circuit: `linear`.

    y_j = sum of the angle columns i = j mod 3 n, over the root of their number, + initial_j.
    """

    def kernel(self, n_qubits: int, device: torch.device) -> str:
        """Plain torch, whatever the backend."""
        return "torch"

    def states(self, circuit: Circuit, angles: Tensor) -> Tensor:
        """Sums of the columns of angles (..., n_angles): (..., 3 n)."""
        _check_width(circuit, angles)
        width, n_angles = 3 * circuit.n_qubits, angles.shape[-1]
        rows = F.pad(angles, (0, -n_angles % width)).unflatten(-1, (-1, width))  # (..., rows, 3 n)
        beyond = torch.arange(width, device=angles.device) >= n_angles - (rows.shape[-2] - 1) * width  # one column less
        numbers = (rows.shape[-2] - beyond.to(angles.dtype)).clamp(min=1)
        return rows.sum(-2) / numbers.sqrt()

    def evolve(self, circuit: Circuit, angles: Tensor, initial: Tensor) -> Tensor:
        """The same, and a given state (..., 3 n)."""
        return LinearFeatures.states(self, circuit, angles) + initial


class TanhFeatures(LinearFeatures):
    """tanh of `linear`: a layer that reads the same angles and returns as many bounded features. `tanh`."""

    def states(self, circuit: Circuit, angles: Tensor) -> Tensor:
        """Features of the angles alone."""
        return torch.tanh(super().states(circuit, angles))

    def evolve(self, circuit: Circuit, angles: Tensor, initial: Tensor) -> Tensor:
        """Features of the angles and of a given state."""
        return torch.tanh(super().evolve(circuit, angles, initial))


def _check_width(circuit: Circuit, angles: Tensor) -> None:
    if angles.shape[-1] != circuit.n_angles:
        raise ValueError(f"the circuit reads {circuit.n_angles} angles, not shape {tuple(angles.shape)}")


class ObservedCircuits(ExactCircuits):
    """Another kind, whose angles and measured features pass through functions; for checks, not for training."""

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
    """One random trajectory of depolarising noise in a kind with states; for checks, not for training.

    After every gate each of its wires suffers X, Y or Z with probability `rate` / 3 each, drawn per sample.
    """

    def __init__(self, kind: ExactCircuits, rate: float, generator: torch.Generator) -> None:
        super().__init__(kind.backend)
        self.kind, self.rate, self.generator = kind, rate, generator

    def lowered(self, circuit: Circuit) -> Circuit:
        """The circuit with R_X, R_Y, R_Z after every gate on each of its wires, their angles behind all others."""
        return _with_error_slots(self.kind.lowered(circuit))

    def expectations(self, circuit: Circuit, angles: Tensor) -> Tensor:
        """Features after the circuit on |0...0>."""
        return super().expectations(circuit, self._with_errors(circuit, angles)[0])

    def states(self, circuit: Circuit, angles: Tensor) -> Tensor:
        """State after the circuit on |0...0>."""
        angles, phases = self._with_errors(circuit, angles)
        return phases * super().states(circuit, angles)

    def evolve(self, circuit: Circuit, angles: Tensor, initial: Tensor) -> Tensor:
        """State after the circuit on `initial`."""
        batch = torch.broadcast_shapes(angles.shape[:-1], initial.shape[:-1])
        angles, phases = self._with_errors(circuit, angles.expand(*batch, -1))
        return phases * super().evolve(circuit, angles, initial)

    def _with_errors(self, circuit: Circuit, angles: Tensor) -> tuple[Tensor, Tensor]:
        """Angles with those of the errors behind them, and the phase that turns R_P(pi) = -i P into P, per sample."""
        n_slots = sum(len(gate.wires) for gate in self.kind.lowered(circuit).gates)
        drawn = torch.rand(*angles.shape[:-1], n_slots, generator=self.generator)
        pauli = (drawn * (3 / self.rate)).long() if self.rate > 0 else torch.full_like(drawn, 3).long()
        errors = pauli[..., None] == torch.arange(3)  # (..., slots, 3): X, Y, Z or none
        phases = torch.tensor([1, 1j, -1, -1j])[errors.sum((-2, -1)) % 4][..., None]
        added = math.pi * errors.flatten(-2).to(angles)
        return torch.cat([angles, added], dim=-1), phases.to(angles.device, angles.dtype.to_complex())


@lru_cache(maxsize=64)
def _with_error_slots(circuit: Circuit) -> Circuit:
    gates, column = list[Gate](), circuit.n_angles
    for gate in circuit.gates:
        gates.append(gate)
        for wire in gate.wires:
            gates += [Gate(kind, (wire,), column + i) for i, kind in enumerate(("RX", "RY", "RZ"))]
            column += 3
    return Circuit(circuit.n_qubits, tuple(gates))


KINDS: Mapping[str, Callable[[str], ExactCircuits]] = MappingProxyType(
    {
        "exact": ExactCircuits,
        "unentangled": UnentangledCircuits,
        "mean_field": MeanFieldCircuits,
        "tanh": TanhFeatures,
        "linear": LinearFeatures,
    }
)


def circuit_kind(name: str, backend: str = "auto") -> ExactCircuits:
    """The kind of a name, on a backend of the simulation; an unknown name is a QablateError with a suggestion."""
    if name not in KINDS:
        raise QablateError(f"unknown kind of circuit '{name}': {suggestion(name, KINDS)}")
    return KINDS[name](backend)
