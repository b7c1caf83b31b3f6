"""PennyLane's default.qubit as a backend: one broadcast QNode a circuit, differentiated by backpropagation.

PennyLane defines what a circuit means; this backend lets anyone check a whole cell with it. It simulates
in complex128 whatever the angles are; results are cast to the precision of the angles.
"""

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import pennylane as qml
import torch
from torch import Tensor

from qablate.quantum import reference
from qablate.quantum.circuit import Circuit


def simulate(circuit: Circuit, angles: Tensor, initial: Tensor | None, measured: bool) -> Tensor:
    """See `qablate.quantum.reference.Simulate`."""
    if not len(angles) or not circuit.gates:  # PennyLane broadcasts over the angles of gates
        return reference.simulate(circuit, angles, initial, measured)
    if measured and initial is not None:  # of any norm, which PennyLane's measurements are not made for
        return reference.measure(simulate(circuit, angles, initial, False))
    result = _node(circuit, measured)(angles, initial)
    return torch.stack(tuple(result), -1).to(angles.dtype) if measured else result.to(angles.dtype.to_complex())


@lru_cache(maxsize=64)
def _node(circuit: Circuit, measured: bool) -> Callable[..., Any]:
    wires = range(circuit.n_qubits)

    @qml.qnode(qml.device("default.qubit", wires=circuit.n_qubits), interface="torch", diff_method="backprop")
    def node(angles: Tensor, initial: Tensor | None) -> Any:
        if initial is not None:  # not validated: a superposition before normalisation has another norm than 1
            qml.StatePrep(initial, wires=wires, validate_norm=False)
        for gate in circuit.gates:
            getattr(qml, gate.kind)(angles[:, gate.angle], wires=gate.wires)
        return [qml.expval(pauli(q)) for pauli in (qml.X, qml.Y, qml.Z) for q in wires] if measured else qml.state()

    return node  # type: ignore[no-any-return]
