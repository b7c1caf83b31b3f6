"""Circuits as data: gates on wires, whose angles are columns of an angle tensor.

Wire 0 is the most significant bit of a basis state's index. R_P(t) = exp(-i t P / 2) for P = X, Y, Z;
CRX(t) applies R_X(t) to its second wire where the first wire (the control) is 1.
Shapes: n qubits; angles (..., n_angles); states (..., 2**n) complex.
"""

from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import NamedTuple

import torch
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
        for gate in self.gates:
            _check_gate(gate, self.n_qubits)

    @cached_property
    def n_angles(self) -> int:
        """Width of the angle tensor: one more than the largest column that a gate reads."""
        return 1 + max((gate.angle for gate in self.gates), default=-1)


def _check_gate(gate: Gate, n_qubits: int) -> None:
    if gate.kind not in GATE_WIRES:
        raise ValueError(f"unknown gate {gate.kind!r}; allowed: {', '.join(GATE_WIRES)}")
    if len(gate.wires) != GATE_WIRES[gate.kind] or len(set(gate.wires)) != len(gate.wires):
        raise ValueError(f"{gate.kind} acts on {GATE_WIRES[gate.kind]} different wire(s), not {gate.wires}")
    if not all(0 <= wire < n_qubits for wire in gate.wires):
        raise ValueError(f"{gate.kind} on wires {gate.wires} of a circuit with wires 0 to {n_qubits - 1}")
    if gate.angle < 0:
        raise ValueError(f"{gate.kind} reads angle column {gate.angle}; columns start at 0")


def embedding(n_qubits: int, first: int = 0) -> tuple[Gate, ...]:
    """R_Y on every wire q with angle column first + q: the input embedding; the injection of 4d, 4e."""
    return tuple(Gate("RY", (q,), first + q) for q in range(n_qubits))


def ansatz(n_qubits: int, n_layers: int, first: int = 0) -> tuple[Gate, ...]:
    """The layered ansatz A; 5 n angles a layer (30 at 6 qubits), from column `first` on.

    A layer is R_X, R_Y, R_Z on each wire (three consecutive columns a wire), a ring of CRX from each wire
    to the next, ascending, and a ring from each wire to the one before, descending.
    """
    gates: list[Gate] = []
    for layer in range(n_layers):
        column = first + angles_per_layer(n_qubits) * layer
        gates += _rotations(range(n_qubits), column)
        gates += _ring(range(n_qubits), +1, n_qubits, column + 3 * n_qubits)
        gates += _ring(range(n_qubits - 1, -1, -1), -1, n_qubits, column + 4 * n_qubits)
    return tuple(gates)


def reversed_ansatz(n_qubits: int, n_layers: int, first: int = 0) -> tuple[Gate, ...]:
    """The ansatz with its wires in reverse order (A_R of 2d, 2e, 4d, 4e); columns as in `ansatz`.

    It equals `reverse_wires`, then `ansatz`, then `reverse_wires`, so both can share one circuit call.
    """
    descending = range(n_qubits - 1, -1, -1)
    gates: list[Gate] = []
    for layer in range(n_layers):
        column = first + angles_per_layer(n_qubits) * layer
        gates += _rotations(descending, column)
        gates += _ring(descending, -1, n_qubits, column + 3 * n_qubits)
        gates += _ring(range(n_qubits), +1, n_qubits, column + 4 * n_qubits)
    return tuple(gates)


def angles_per_layer(n_qubits: int) -> int:
    """Angles of one layer of the ansatz: three rotations and two controlled rotations a wire."""
    return 5 * n_qubits


def _rotations(wires: range, column: int) -> list[Gate]:
    kinds = ("RX", "RY", "RZ")
    return [Gate(kind, (q,), column + 3 * i + j) for i, q in enumerate(wires) for j, kind in enumerate(kinds)]


def _ring(wires: range, step: int, n_qubits: int, column: int) -> list[Gate]:
    return [Gate("CRX", (q, (q + step) % n_qubits), column + i) for i, q in enumerate(wires)]


def scale_rotations(angles: Tensor, scale: Tensor, n_qubits: int, n_layers: int) -> Tensor:
    """Angles of an ansatz (..., 5 n n_layers) with the single-wire rotations of each layer times `scale`.

    `scale` is one number a sample, (...) or (..., 1), broadcast against the leading axes of `angles`; the CRX
    angles stay as they are (D in 2d, 2e, 4d, 4e). Raises ValueError for angles of another width, and for a
    scale with more axes than that.
    """
    width = angles_per_layer(n_qubits)
    if angles.shape[-1] != width * n_layers:
        raise ValueError(
            f"an ansatz of {n_layers} layers on {n_qubits} qubits has {width * n_layers} angles, "
            f"not {angles.shape[-1]}"
        )
    if scale.ndim == angles.ndim and scale.shape[-1] == 1:
        scale = scale.squeeze(-1)
    if scale.ndim >= angles.ndim:
        raise ValueError(f"scale {tuple(scale.shape)} is not one number a sample of angles {tuple(angles.shape)}")
    layers = angles.unflatten(-1, (n_layers, width))              # (..., layers, 5 n)
    rotations, rings = layers.split((3 * n_qubits, 2 * n_qubits), dim=-1)
    scaled = rotations * scale[..., None, None]
    return torch.cat((scaled, rings.expand(*scaled.shape[:-1], 2 * n_qubits)), dim=-1).flatten(-2)


def reverse_wires(states: Tensor) -> Tensor:
    """States (..., 2**n) with wire w renamed to n - 1 - w: amplitudes move to the bit-reversed index."""
    n_qubits = qubits_of_states(states)
    return states[..., _bit_reversal(n_qubits, states.device)]


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
