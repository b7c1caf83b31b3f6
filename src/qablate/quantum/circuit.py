"""Circuits as data: gates on wires, whose angles are columns of an angle tensor; and the short form that is run fast.

Wire 0 is the most significant bit of a basis state's index. R_P(t) = exp(-i t P / 2) for P = X, Y, Z;
CRX(t) applies R_X(t) to its second wire where the first wire (the control) is 1.
Shapes: n qubits; angles (..., n_angles); states (..., 2**n) complex.
"""

from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

GATE_WIRES = {"RX": 1, "RY": 1, "RZ": 1, "CRX": 2}


class Gate(NamedTuple):
    """One rotation: kind (RX, RY, RZ, CRX), wires (control first), column of the angle tensor."""

    kind: str
    wires: tuple[int, ...]
    angle: int


@dataclass(frozen=True)
class Circuit:
    """Gates in the order in which they act on `n_qubits` wires; equal circuits hash alike.

    Raises ValueError for an unknown kind of gate, a wrong number of wires, a wire that does not exist,
    a gate controlled by its own target, or a negative angle column.
    """

    n_qubits: int
    gates: tuple[Gate, ...]

    def __post_init__(self) -> None:
        if self.n_qubits < 1:
            raise ValueError(f"a circuit needs at least one qubit, not {self.n_qubits}")
        for kind, wires, angle in self.gates:
            if kind not in GATE_WIRES:
                raise ValueError(f"unknown gate {kind!r}; allowed: {', '.join(GATE_WIRES)}")
            if len(wires) != GATE_WIRES[kind] or len(set(wires)) != len(wires):
                raise ValueError(f"{kind} acts on {GATE_WIRES[kind]} different wire(s), not {wires}")
            if not all(0 <= wire < self.n_qubits for wire in wires):
                raise ValueError(f"{kind} on wires {wires} of a circuit with wires 0 to {self.n_qubits - 1}")
            if angle < 0:
                raise ValueError(f"{kind} reads angle column {angle}; columns start at 0")

    @cached_property
    def n_angles(self) -> int:
        """Width of the angle tensor: one more than the largest column that a gate reads."""
        return 1 + max((gate.angle for gate in self.gates), default=-1)


def embedding(n_qubits: int, first: int = 0) -> tuple[Gate, ...]:
    """R_Y on every wire q with angle column first + q: the input embedding; the injection of 4d, 4e."""
    return tuple(Gate("RY", (q,), first + q) for q in range(n_qubits))


def ansatz(n_qubits: int, n_layers: int, first: int = 0) -> tuple[Gate, ...]:
    """The layered ansatz A; 5 n angles a layer (30 at 6 qubits), from column `first` on.

    A layer is R_X, R_Y, R_Z on each wire (three consecutive columns a wire), a ring of CRX from each wire
    to the next, ascending, and a ring from each wire to the one before, descending.
    """
    n, wires = n_qubits, range(n_qubits)
    actions: list[tuple[str, tuple[int, ...]]] = [(kind, (q,)) for q in wires for kind in ("RX", "RY", "RZ")]
    actions += [("CRX", (q, (q + 1) % n)) for q in wires]
    actions += [("CRX", (q, (q - 1) % n)) for q in reversed(wires)]
    return tuple(Gate(*action, first + i) for i, action in enumerate(actions * n_layers))


def scale_rotations(angles: Tensor, scale: Tensor, n_qubits: int, n_layers: int) -> Tensor:
    """Angles of an ansatz (..., 5 n n_layers) with the single-wire rotations of each layer times `scale` (...).

    The CRX angles stay as they are (D in 2d, 2e, 4d, 4e).
    """
    layers = angles.unflatten(-1, (n_layers, 5 * n_qubits))       # (..., layers, 5 n)
    rotations, rings = layers.split((3 * n_qubits, 2 * n_qubits), dim=-1)
    return torch.cat((rotations * scale[..., None, None], rings), dim=-1).flatten(-2)


def reverse_wires(states: Tensor) -> Tensor:
    """States (..., 2**n) with wire w renamed to n - 1 - w: amplitudes move to the bit-reversed index."""
    return states[..., _bit_reversal(qubits_of_states(states), states.device)]


def qubits_of_states(states: Tensor) -> int:
    """n of states (..., 2**n); ValueError if the last axis is no power of two."""
    size = states.shape[-1] if states.ndim else 0
    if size < 2 or size & (size - 1):
        raise ValueError(f"states need a last axis of 2**n amplitudes, n >= 1; shape {tuple(states.shape)}")
    return size.bit_length() - 1


@lru_cache(maxsize=16)
@torch.inference_mode(mode=False)  # or the first caller's mode would decide for all later ones
def _bit_reversal(n_qubits: int, device: torch.device) -> Tensor:
    index = torch.arange(2**n_qubits, device=device).reshape((2,) * n_qubits)
    return index.permute(*reversed(range(n_qubits))).flatten()


@dataclass(frozen=True, eq=False)
class Program:
    """A circuit as a short list of fused operations; both arrays are int64, C-contiguous and read-only.

    `ops` (n_ops, 5), in the order in which they act: target, control, columns of R_X, R_Y, R_Z. With control -1 an
    operation is R_Z R_Y R_X on the target, else R_X where the control is 1. `start` (n_qubits, 4): for each wire the
    columns of an R_Y and of R_X, R_Y, R_Z that act, in this order, on |0> before all of `ops`. Column n_angles stands
    for a rotation that is not there. A column may be read by several operations; their gradients add up.
    """

    n_qubits: int
    n_angles: int
    from_zero: bool
    ops: NDArray[np.int64]
    start: NDArray[np.int64]


@lru_cache(maxsize=256)
def lower(circuit: Circuit, from_zero: bool) -> Program:
    """The program of a circuit; `from_zero` says whether it starts from |0...0> or from a given state.

    R_X, R_Y, R_Z in a row on one wire become one operation. From |0...0> the gates before a wire's first controlled
    gate act on a product state, so an R_Y and such an operation in front are taken out of the list: `Program.start`.
    """
    none = circuit.n_angles
    start = np.full((circuit.n_qubits, 4), none, dtype=np.int64)
    ops: list[tuple[int, ...]] = []
    pending: list[list[Gate]] = [[] for _ in range(circuit.n_qubits)]
    untouched = [from_zero] * circuit.n_qubits

    def flush(wire: int) -> None:
        fused = _fuse(pending[wire], none)
        if untouched[wire]:
            if fused and fused[0][0] == fused[0][2] == none:
                start[wire, 0] = fused.pop(0)[1]
            if fused and none not in fused[0]:
                start[wire, 1:] = fused.pop(0)
        ops.extend((wire, -1, *columns) for columns in fused)
        pending[wire].clear()
        untouched[wire] = False

    for gate in circuit.gates:
        if gate.kind == "CRX":
            control, target = gate.wires
            flush(control)
            flush(target)
            ops.append((target, control, gate.angle, none, none))
        else:
            pending[gate.wires[0]].append(gate)
    for wire in range(circuit.n_qubits):
        flush(wire)
    table = np.array(ops, dtype=np.int64).reshape(-1, 5)
    table.flags.writeable = start.flags.writeable = False
    return Program(circuit.n_qubits, none, from_zero, table, start)


def _fuse(gates: list[Gate], none: int) -> list[list[int]]:
    """Columns of R_X, R_Y, R_Z for each operation of gates that follow one another on a wire."""
    fused = []
    while gates:
        run = 3 if [gate.kind for gate in gates[:3]] == ["RX", "RY", "RZ"] else 1
        columns = {gate.kind: gate.angle for gate in gates[:run]}
        fused.append([columns.get(kind, none) for kind in ("RX", "RY", "RZ")])
        gates = gates[run:]
    return fused
