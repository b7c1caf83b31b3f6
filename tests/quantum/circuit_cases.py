"""The circuits of the models: how they are built here, and the same circuits written for PennyLane gate by gate.

The PennyLane side shares nothing with the package: it follows the published description of the models.
A case maps "inputs" (B, width), what a model computes from data, to the angles of its circuit.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import pennylane as qml
import torch
from backends import reversed_ansatz
from torch import Tensor

from qablate.quantum import Circuit, ansatz, embedding, scale_rotations

# PennyLane side: th (B, 5 n layers), e and v (B, n), d (B,).


def pl_embedding(e: Tensor, n: int) -> None:
    for q in range(n):
        qml.RY(e[:, q], wires=q)


def pl_ansatz(th: Tensor, n: int, d: Tensor | float = 1.0, wires: Sequence[int] = ()) -> None:
    wires = wires or range(n)
    for layer in range(th.shape[1] // (5 * n)):
        t = th[:, 5 * n * layer : 5 * n * (layer + 1)]
        for q, wire in enumerate(wires):
            qml.RX(d * t[:, 3 * q], wires=wire)
            qml.RY(d * t[:, 3 * q + 1], wires=wire)
            qml.RZ(d * t[:, 3 * q + 2], wires=wire)
        for i in range(n):
            qml.CRX(t[:, 3 * n + i], wires=[wires[i], wires[(i + 1) % n]])
        for j in range(n):
            qml.CRX(t[:, 4 * n + j], wires=[wires[n - 1 - j], wires[(n - 2 - j) % n]])


def pl_reversed(th: Tensor, n: int, d: Tensor | float = 1.0) -> None:
    pl_ansatz(th, n, d, range(n)[::-1])


@dataclass(frozen=True)
class CircuitCase:
    """A model's circuit for any n: `circuit(n)`, `angles(inputs, n)`, and `pennylane(inputs, n)` queueing gates."""

    name: str
    width: Callable[[int], int]
    circuit: Callable[[int], Circuit]
    angles: Callable[[Tensor, int], Tensor]
    pennylane: Callable[[Tensor, int], None]


def _plain(inputs: Tensor, n: int) -> Tensor:
    return inputs


def _pl_1b(x: Tensor, n: int) -> None:
    pl_embedding(x[:, :n], n)
    pl_ansatz(x[:, n:], n)


def _scaled_angles(x: Tensor, n: int) -> Tensor:
    """Inputs e, th, d."""
    return torch.cat((x[:, :n], scale_rotations(x[:, n:-1], x[:, -1], n, 2)), -1)


def _pl_scaled(mixing: Callable[[Tensor, int, Tensor], None]) -> Callable[[Tensor, int], None]:
    def queue(x: Tensor, n: int) -> None:
        pl_embedding(x[:, :n], n)
        mixing(x[:, n:-1], n, x[:, -1])

    return queue


def _injected_angles(x: Tensor, n: int) -> Tensor:
    """Inputs e, th_0, th, v, d."""
    e_features, th, v, d = x.split((11 * n, 10 * n, n, 1), -1)
    return torch.cat((e_features, scale_rotations(th, d[:, 0], n, 2), d * v), -1)


def _pl_injected(mixing: Callable[[Tensor, int, Tensor], None]) -> Callable[[Tensor, int], None]:
    def queue(x: Tensor, n: int) -> None:
        d = x[:, -1]
        pl_embedding(x[:, :n], n)
        pl_ansatz(x[:, n : 11 * n], n)
        mixing(x[:, 11 * n : 21 * n], n, d)
        for q in range(n):
            qml.RY(d * x[:, 21 * n + q], wires=q)

    return queue


def _injected_circuit(mixing: Callable[..., Any]) -> Callable[[int], Circuit]:
    def build(n: int) -> Circuit:
        gates = embedding(n) + ansatz(n, 2, n) + mixing(n, 2, 11 * n) + embedding(n, 21 * n)
        return Circuit(n, gates)

    return build


CASES = (
    CircuitCase("1a, 2a", lambda n: 10 * n, lambda n: Circuit(n, ansatz(n, 2)), _plain, pl_ansatz),
    CircuitCase("1b, 1c, 2d third", lambda n: 11 * n, lambda n: Circuit(n, embedding(n) + ansatz(n, 2, n)), _plain,
                _pl_1b),
    CircuitCase("2d, 2e first", lambda n: 11 * n + 1, lambda n: Circuit(n, embedding(n) + ansatz(n, 2, n)),
                _scaled_angles, _pl_scaled(pl_ansatz)),
    CircuitCase("2d, 2e second", lambda n: 11 * n + 1, lambda n: Circuit(n, embedding(n) + reversed_ansatz(n, 2, n)),
                _scaled_angles, _pl_scaled(pl_reversed)),
    CircuitCase("4a, 4d third", lambda n: 21 * n,
                lambda n: Circuit(n, embedding(n) + ansatz(n, 2, n) + ansatz(n, 2, 11 * n)), _plain, _pl_1b),
    CircuitCase("4d, 4e first", lambda n: 22 * n + 1, _injected_circuit(ansatz), _injected_angles,
                _pl_injected(pl_ansatz)),
    CircuitCase("4d, 4e second", lambda n: 22 * n + 1, _injected_circuit(reversed_ansatz), _injected_angles,
                _pl_injected(pl_reversed)),
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
