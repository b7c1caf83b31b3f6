"""Kinds of circuit: what a model's gate list means. All read every angle, none has trainable numbers of its own.

`exact` simulates the statevector as published; each of the others takes one thing away (docs/controls.md).
Shapes: r branches, k chunks, n qubits; a state is (..., 2**n) complex, of the vector kinds (..., 3 n) real in the order
of the features: X block, Y block, Z block.
"""

from collections.abc import Callable, Mapping
from functools import lru_cache
from types import MappingProxyType

import torch
import torch.nn.functional as F
from torch import Tensor

from qablate import selfcheck
from qablate.errors import QablateError, suggestion
from qablate.quantum import execution, mean_field, superposition
from qablate.quantum.backends import kernel_name
from qablate.quantum.circuit import Circuit, Gate, reverse_wires


class ExactCircuits:
    """The circuit as published: `exact`."""

    def __init__(self, backend: str = "auto") -> None:
        self.backend = backend

    def kernel(self, n_qubits: int, device: torch.device) -> str:
        """Name of what computes on a device: numbers of two kernels differ by rounding."""
        return kernel_name(self.backend, n_qubits, device)

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

    def superpose(self, coefficients: Tensor, states: Tensor) -> Tensor:
        """Normalised sum of branches (r, ...) with complex weights (r)."""
        return superposition.superpose_states(coefficients, states)

    def combine_unitaries(self, coefficients: Tensor, states: Tensor) -> Tensor:
        """Normalised sum over chunks (..., k, .) with complex weights (k)."""
        return superposition.combine_unitaries(coefficients, states)

    def reverse_wires(self, states: Tensor) -> Tensor:
        """States with wire w renamed to n - 1 - w."""
        return reverse_wires(states)


class UnentangledCircuits(ExactCircuits):
    """Without entangling gates: CRX(t; c, g) becomes R_X(t) on g. `unentangled`.

    A circuit on |0...0> leaves a product state; a superposition of several product states is in general entangled.
    """

    def lowered(self, circuit: Circuit) -> Circuit:
        """The circuit with rotations of the target in place of controlled ones."""
        return without_entangling_gates(circuit)


@lru_cache(maxsize=256)
def without_entangling_gates(circuit: Circuit) -> Circuit:
    """`circuit` with CRX(t; c, g) replaced by R_X(t) on g; the columns of angles stay."""
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

    def superpose(self, coefficients: Tensor, states: Tensor) -> Tensor:
        """Rescaled sum of branches (r, ..., 3 n) with weights |c_r|."""
        return _rescaled(superposition.superpose_features(coefficients, states))

    def combine_unitaries(self, coefficients: Tensor, states: Tensor) -> Tensor:
        """Rescaled sum over chunks (..., k, 3 n) with weights |c_k|."""
        return self.superpose(coefficients, states.movedim(-2, 0))

    def reverse_wires(self, states: Tensor) -> Tensor:
        """States with wire w renamed to n - 1 - w, in each block."""
        return states.unflatten(-1, (3, -1)).flip(-1).flatten(-2)


def _rescaled(vectors: Tensor) -> Tensor:
    length = torch.linalg.vector_norm(vectors, dim=-1, keepdim=True)
    return vectors * ((vectors.shape[-1] / 3) ** 0.5 / (length + 1e-9))


class MeanFieldCircuits(VectorCircuits):
    """The circuit's own product-state approximation, n Bloch vectors: `mean_field`. Scales as n instead of 2**n."""

    def kernel(self, n_qubits: int, device: torch.device) -> str:
        """`numba` for the compiled kernels, else `torch`."""
        compiled = self.backend in ("auto", "numba") and device.type == "cpu"
        return "numba" if compiled and selfcheck.obstacle(mean_field.check, torch.float32) is None else "torch"

    def states(self, circuit: Circuit, angles: Tensor) -> Tensor:
        """Bloch vectors after the circuit on |0...0>."""
        zero = angles.new_zeros(3 * circuit.n_qubits)
        zero[2 * circuit.n_qubits :] = 1
        return self.evolve(circuit, angles, zero)

    def evolve(self, circuit: Circuit, angles: Tensor, initial: Tensor) -> Tensor:
        """Bloch vectors after the circuit on `initial` (..., 3 n) of any length."""
        return mean_field.evolve(circuit, angles, initial, self.backend)


class LinearFeatures(VectorCircuits):
    """Sums of angles in place of a circuit: `linear`.

    y_j = sum of the angle columns i = j mod 3 n, over the root of their number, + initial_j.
    """

    def kernel(self, n_qubits: int, device: torch.device) -> str:
        """Plain torch, whatever the backend."""
        return "torch"

    def states(self, circuit: Circuit, angles: Tensor) -> Tensor:
        """Features of the angles alone."""
        return self.squashed(summed_columns(circuit, angles))

    def evolve(self, circuit: Circuit, angles: Tensor, initial: Tensor) -> Tensor:
        """Features of the angles and of a given state (..., 3 n)."""
        return self.squashed(summed_columns(circuit, angles) + initial)

    def squashed(self, sums: Tensor) -> Tensor:
        """What is applied to every sum."""
        return sums


class TanhFeatures(LinearFeatures):
    """tanh of `linear`: a layer that reads the same angles and returns as many bounded features. `tanh`."""

    def squashed(self, sums: Tensor) -> Tensor:
        """The hyperbolic tangent."""
        return torch.tanh(sums)


def summed_columns(circuit: Circuit, angles: Tensor) -> Tensor:
    """Sums of the columns i = j mod 3 n of angles (..., n_angles), over the root of their number: (..., 3 n)."""
    width, n_angles = 3 * circuit.n_qubits, angles.shape[-1]
    if n_angles != circuit.n_angles:
        raise ValueError(f"the circuit reads {circuit.n_angles} angles, not shape {tuple(angles.shape)}")
    rows = F.pad(angles, (0, -n_angles % width)).unflatten(-1, (-1, width))  # (..., rows, 3 n)
    beyond = torch.arange(width, device=angles.device) >= n_angles - (rows.shape[-2] - 1) * width  # one column less
    numbers = (rows.shape[-2] - beyond.to(angles.dtype)).clamp(min=1)
    return rows.sum(-2) / numbers.sqrt()


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
