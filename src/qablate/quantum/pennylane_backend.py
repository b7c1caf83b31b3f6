"""PennyLane's default.qubit as a backend: one broadcast QNode a circuit, differentiated by backpropagation.

PennyLane defines what a circuit means; this backend lets anyone check a whole cell with it. It simulates
in complex128 whatever the angles are; results are cast to the precision of the angles.
Shapes: B batch, n qubits.
"""

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import pennylane as qml
import torch
from torch import Tensor

from qablate.quantum.circuit import Circuit


class PennyLaneBackend:
    """See `qablate.quantum.backends.Backend`."""

    def obstacle(self, device: torch.device) -> str | None:
        """None: default.qubit computes with torch wherever torch does."""
        return None

    def expectations(self, circuit: Circuit, angles: Tensor) -> Tensor:
        """Expectations (B, 3 n)."""
        if not len(angles):
            return _no_results(angles, 3 * circuit.n_qubits)
        return torch.stack(tuple(_expectation_node(circuit)(angles)), -1).to(angles.dtype)

    def states(self, circuit: Circuit, angles: Tensor) -> Tensor:
        """States (B, 2**n) from |0...0>."""
        if not len(angles):
            return _no_results(angles, 2**circuit.n_qubits).to(angles.dtype.to_complex())
        return _state_node(circuit)(angles).to(angles.dtype.to_complex())

    def evolve(self, circuit: Circuit, angles: Tensor, initial: Tensor) -> Tensor:
        """States (B, 2**n) from `initial`."""
        if not len(angles):
            return initial + _no_results(angles, 2**circuit.n_qubits)
        return _evolution_node(circuit)(angles, initial).to(initial.dtype)


def _no_results(angles: Tensor, width: int) -> Tensor:
    """An empty batch (0, width), still connected to the angles; PennyLane cannot broadcast over nothing."""
    return angles.sum(-1, keepdim=True).expand(0, width)


def _apply_gates(circuit: Circuit, angles: Tensor) -> None:
    gates = {"RX": qml.RX, "RY": qml.RY, "RZ": qml.RZ, "CRX": qml.CRX}
    for gate in circuit.gates:
        gates[gate.kind](angles[:, gate.angle], wires=gate.wires)


def _node(function: Callable[..., Any], circuit: Circuit) -> Callable[..., Any]:
    device = qml.device("default.qubit", wires=circuit.n_qubits)
    node: Callable[..., Any] = qml.QNode(function, device, interface="torch", diff_method="backprop")
    return node


@lru_cache(maxsize=64)
def _expectation_node(circuit: Circuit) -> Callable[..., Any]:
    def node(angles: Tensor) -> list[Any]:
        _apply_gates(circuit, angles)
        return [qml.expval(pauli(q)) for pauli in (qml.X, qml.Y, qml.Z) for q in range(circuit.n_qubits)]

    return _node(node, circuit)


@lru_cache(maxsize=64)
def _state_node(circuit: Circuit) -> Callable[..., Any]:
    def node(angles: Tensor) -> Any:
        _apply_gates(circuit, angles)
        return qml.state()

    return _node(node, circuit)


@lru_cache(maxsize=64)
def _evolution_node(circuit: Circuit) -> Callable[..., Any]:
    def node(angles: Tensor, initial: Tensor) -> Any:
        # Not validated: `evolve` is linear, and a superposition before normalisation has another norm.
        qml.StatePrep(initial, wires=range(circuit.n_qubits), validate_norm=False)
        _apply_gates(circuit, angles)
        return qml.state()

    return _node(node, circuit)


BACKEND = PennyLaneBackend()
