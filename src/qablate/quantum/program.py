"""Lowering of a circuit to a short list of fused operations, the input of every fast backend.

Two things make the list shorter than the circuit. R_X, R_Y, R_Z in a row on one wire are one SU(2) operation.
When the circuit starts from |0...0>, the gates before a wire's first controlled gate act on a product state,
so they are taken out of the list: the start is the product of one vector a wire.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from qablate.quantum.circuit import Circuit, Gate

U3 = 0
"""R_X, then R_Y, then R_Z on wire `a`, angles in `column`, `column` + 1, `column` + 2; `b` is -1."""
RX = 1
"""R_X on wire `a`; `b` is -1."""
RY = 2
"""R_Y on wire `a`; `b` is -1."""
RZ = 3
"""R_Z on wire `a`; `b` is -1."""
CRX = 4
"""R_X on wire `b` where wire `a` is 1."""

SINGLE_KINDS = {"RX": RX, "RY": RY, "RZ": RZ}


@dataclass(frozen=True, eq=False)
class Program:
    """A lowered circuit; both arrays are int64, C-contiguous and read-only.

    `ops` (n_ops, 4): rows (kind, a, b, column) in the order in which they act; kinds are U3, RX, RY, RZ, CRX.
    `start` (n_qubits, 2): for each wire the column of an R_Y and the first column of a U3 that act, in this
    order, on |0> of that wire before all of `ops`; -1 where there is none (everywhere unless `from_zero`).
    A column may be read by several operations; their gradients add up.
    """

    n_qubits: int
    n_angles: int
    from_zero: bool
    ops: NDArray[np.int64]
    start: NDArray[np.int64]


@lru_cache(maxsize=256)
def lower(circuit: Circuit, from_zero: bool) -> Program:
    """The program of a circuit; `from_zero` says whether it starts from |0...0> or from a given state."""
    start = np.full((circuit.n_qubits, 2), -1, dtype=np.int64)
    rows: list[tuple[int, int, int, int]] = []
    pending: list[list[Gate]] = [[] for _ in range(circuit.n_qubits)]
    untouched = [from_zero] * circuit.n_qubits

    def flush(wire: int) -> None:
        singles = _fuse(pending[wire])
        if untouched[wire]:
            singles = _take_start(singles, start[wire])
        rows.extend((kind, wire, -1, column) for kind, column in singles)
        pending[wire].clear()

    for gate in circuit.gates:
        if gate.kind == "CRX":
            for wire in gate.wires:
                flush(wire)
                untouched[wire] = False
            rows.append((CRX, gate.wires[0], gate.wires[1], gate.angle))
        else:
            pending[gate.wires[0]].append(gate)
    for wire in range(circuit.n_qubits):
        flush(wire)
    ops = np.array(rows, dtype=np.int64).reshape(-1, 4)
    ops.flags.writeable = start.flags.writeable = False
    return Program(circuit.n_qubits, circuit.n_angles, from_zero, ops, start)


def _fuse(gates: list[Gate]) -> list[tuple[int, int]]:
    """(kind, column) of gates that follow one another on a wire, R_X R_Y R_Z on consecutive columns as U3."""
    fused: list[tuple[int, int]] = []
    i = 0
    while i < len(gates):
        column = gates[i].angle
        triple = [(gate.kind, gate.angle) for gate in gates[i : i + 3]]
        if triple == [("RX", column), ("RY", column + 1), ("RZ", column + 2)]:
            fused.append((U3, column))
            i += 3
        else:
            fused.append((SINGLE_KINDS[gates[i].kind], column))
            i += 1
    return fused


def _take_start(singles: list[tuple[int, int]], start: NDArray[np.int64]) -> list[tuple[int, int]]:
    """Move a leading R_Y and a U3 of one wire to its row of `start`; return what is left."""
    for slot, wanted in enumerate((RY, U3)):
        if singles and singles[0][0] == wanted:
            start[slot] = singles[0][1]
            singles = singles[1:]
    return singles
