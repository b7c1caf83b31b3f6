"""The circuits of the models: how they are built here, and the same circuits written for PennyLane gate by gate.

The PennyLane side shares nothing with the package: it follows the published description of the models.
A case maps "inputs" (B, width), what a model computes from data, to the angles of its circuit.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import pennylane as qml
import torch
from torch import Tensor

from qablate.quantum import Circuit, Gate, ansatz, embedding, scale_rotations


def pl_ansatz(th: Tensor, wires: Sequence[int], d: Tensor | float) -> None:
    """Two layers of angles (B, 10 n), rotations scaled by d (B,)."""
    n = len(wires)
    for layer in range(2):
        t = th[:, 5 * n * layer : 5 * n * (layer + 1)]
        for q, wire in enumerate(wires):
            qml.RX(d * t[:, 3 * q], wires=wire)
            qml.RY(d * t[:, 3 * q + 1], wires=wire)
            qml.RZ(d * t[:, 3 * q + 2], wires=wire)
        for i in range(n):
            qml.CRX(t[:, 3 * n + i], wires=[wires[i], wires[(i + 1) % n]])
        for j in range(n):
            qml.CRX(t[:, 4 * n + j], wires=[wires[n - 1 - j], wires[(n - 2 - j) % n]])


def reversed_ansatz(n: int, n_layers: int, first: int) -> tuple[Gate, ...]:
    """The ansatz with its wires in reverse order; columns as in `ansatz`."""
    return tuple(gate._replace(wires=tuple(n - 1 - wire for wire in gate.wires)) for gate in ansatz(n, n_layers, first))


@dataclass(frozen=True)
class CircuitCase:
    """A model's circuit for any n: E embeds n inputs, A is the ansatz, R the one on reversed wires.

    A part behind "d" is scaled by the last input: the angles of E, and of A and R those of the rotations.
    """

    name: str
    parts: str

    def width(self, n: int) -> int:
        return max(columns.stop for _, _, columns in self.pieces(n)) + ("d" in self.parts)

    def pieces(self, n: int) -> Iterator[tuple[str, bool, slice]]:
        """Kind, whether it is scaled, and columns of every part."""
        first = 0
        for part in self.parts.split():
            columns = slice(first, first + (n if part[-1] == "E" else 10 * n))    # the ansatz has two layers
            yield part[-1], part[0] == "d", columns
            first = columns.stop

    def circuit(self, n: int) -> Circuit:
        gates: tuple[Gate, ...] = ()
        for kind, _, columns in self.pieces(n):
            build = ansatz if kind == "A" else reversed_ansatz
            gates += embedding(n, columns.start) if kind == "E" else build(n, 2, columns.start)
        return Circuit(n, gates)

    def angles(self, inputs: Tensor, n: int) -> Tensor:
        blocks, d = [], inputs[:, -1]
        for kind, scaled, columns in self.pieces(n):
            block = inputs[:, columns]
            if scaled:
                block = d[:, None] * block if kind == "E" else scale_rotations(block, d, n, 2)
            blocks.append(block)
        return torch.cat(blocks, -1)

    def pennylane(self, inputs: Tensor, n: int) -> None:
        """Queue the gates."""
        for kind, scaled, columns in self.pieces(n):
            x, d = inputs[:, columns], inputs[:, -1] if scaled else 1.0
            if kind == "E":
                for q in range(n):
                    qml.RY(d * x[:, q], wires=q)
            else:
                pl_ansatz(x, range(n)[:: -1 if kind == "R" else 1], d)


CASES = (
    CircuitCase("1a, 2a", "A"),
    CircuitCase("1b, 1c, 2d third", "E A"),
    CircuitCase("2d, 2e first", "E dA"),
    CircuitCase("2d, 2e second", "E dR"),
    CircuitCase("4a, 4d third", "E A A"),
    CircuitCase("4d, 4e first", "E A dA dE"),
    CircuitCase("4d, 4e second", "E A dR dE"),
)


def random_inputs(case: CircuitCase, n: int, batch: int) -> Tensor:
    """Inputs in float64 that float32 holds exactly, so that both precisions see the same numbers."""
    generator = torch.Generator().manual_seed(1000 * n + CASES.index(case))
    return (2 * torch.randn(batch, case.width(n), generator=generator)).double()


@dataclass(frozen=True)
class Answer:
    """PennyLane's results for a case: values, and the gradients of sums weighted by `weights_*`, per sample."""

    inputs: Tensor
    expectations: Tensor
    states: Tensor
    weights_expectations: Tensor
    weights_states: Tensor
    grad_expectations: Tensor
    grad_states: Tensor


def weighted(values: Tensor, weights: Tensor) -> Tensor:
    """A real number whose gradient reaches every real and imaginary part of the values."""
    total = (values * weights.to(values.dtype)).sum()
    return total.real + total.imag if total.is_complex() else total


@cache
def answer(case: CircuitCase, n: int, batch: int = 7) -> Answer:
    """Values and gradients of a case in float64, from PennyLane; samples are independent of one another."""
    device = qml.device("default.qubit", wires=n)

    @qml.qnode(device, interface="torch", diff_method="backprop")
    def node(inputs: Tensor) -> Any:
        case.pennylane(inputs, n)
        paulis = [pauli(q) for pauli in (qml.PauliX, qml.PauliY, qml.PauliZ) for q in range(n)]
        return (qml.state(), *(qml.expval(pauli) for pauli in paulis))

    inputs = random_inputs(case, n, batch).requires_grad_()
    state, *expectations = node(inputs)
    values = torch.stack(expectations, -1)
    generator = torch.Generator().manual_seed(n)
    weights_e = torch.randn(values.shape, generator=generator, dtype=torch.float64) / (3 * n) ** 0.5
    weights_s = torch.randn(state.shape, generator=generator, dtype=torch.complex128) / 2 ** (n / 2)
    (grad_e,) = torch.autograd.grad(weighted(values, weights_e), inputs, retain_graph=True)
    (grad_s,) = torch.autograd.grad(weighted(state, weights_s), inputs)
    return Answer(inputs.detach(), values.detach(), state.detach(), weights_e, weights_s, grad_e, grad_s)
