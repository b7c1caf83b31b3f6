"""Errors, the choice of a backend, and torch.compile around circuits."""

import subprocess
import sys

import pytest
import torch

from qablate.errors import QablateError
from qablate.quantum import (
    BACKEND_NAMES,
    Circuit,
    Gate,
    ansatz,
    evolve,
    expectations,
    measure,
    resolve_backend,
    reverse_wires,
    states,
)

CIRCUIT = Circuit(3, ansatz(3, 1))
ANGLES, INITIAL = torch.zeros(2, 15), torch.zeros(2, 8, dtype=torch.complex64)
CPU = torch.device("cpu")


@pytest.mark.parametrize(("gate", "message"), [
    (Gate("H", (0,), 0), "unknown gate 'H'; allowed: RX, RY, RZ, CRX"),
    (Gate("RX", (3,), 0), "wires 0 to 2"),
    (Gate("RX", (0, 1), 0), "1 different wire"),
    (Gate("CRX", (1, 1), 0), "2 different wire"),
    (Gate("RX", (0,), -1), "columns start at 0"),
])
def test_impossible_gates_are_refused(gate, message):
    with pytest.raises(ValueError, match=message):
        Circuit(3, (gate,))
    with pytest.raises(ValueError, match="at least one qubit"):
        Circuit(0, (gate,))


@pytest.mark.parametrize(("call", "message"), [
    (lambda: expectations(CIRCUIT, torch.zeros(2, 14)), r"reads 15 angles, not shape \(2, 14\)"),
    (lambda: states(CIRCUIT, torch.tensor(0.0)), "reads 15 angles"),
    (lambda: states(CIRCUIT, ANGLES.half()), "float32 or float64, not torch.float16"),
    (lambda: evolve(CIRCUIT, ANGLES, INITIAL[:, :4]), r"3 qubits needs initial states \(..., 8\)"),
    (lambda: evolve(CIRCUIT, ANGLES, INITIAL.real), "need torch.complex64 initial states, not torch.float32"),
    (lambda: evolve(CIRCUIT, ANGLES, INITIAL.repeat(2, 1)), "do not broadcast"),
    (lambda: evolve(CIRCUIT, ANGLES, INITIAL.to("meta")), "initial states on meta"),
    (lambda: measure(INITIAL.real), "complex64 or complex128"),
    (lambda: measure(INITIAL[:, :6]), r"2\*\*n amplitudes"),
    (lambda: reverse_wires(torch.zeros(1)), r"2\*\*n amplitudes"),
])
def test_tensors_that_do_not_fit_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_the_choice_of_a_backend():
    assert BACKEND_NAMES == ("reference", "torch", "pennylane", "numba", "triton")
    assert resolve_backend("auto", CPU) in ("numba", "torch")
    assert resolve_backend("auto", torch.device("meta")) == "torch"
    with pytest.raises(QablateError, match="quantum.backend: unknown backend 'torhc'; allowed: auto, reference, torch"):
        expectations(CIRCUIT, ANGLES, "torhc")
    with pytest.raises(QablateError, match="quantum.backend: triton cannot be used here: .+"):
        resolve_backend("triton", CPU)


UNDER_TORCH_COMPILE = """
import torch
from qablate.quantum import Circuit, ansatz, circuit_kind, expectations, measure, states
from qablate.ssm import selective_scan

def loss(a):
    x = a.view(2, 5, 10)
    y, _ = selective_scan(x, x * x, -x[0, 0, :, None].exp(), x[..., :1], x[..., 1:2])
    measured = expectations(circuit, a) + measure(states(circuit, a))
    return (measured + circuit_kind("mean_field").expectations(circuit, a)).sum() + y.sum()

circuit, a = Circuit(2, ansatz(2, 1)), torch.randn(10, 10, requires_grad=True)
compiled, eager = torch.compile(loss, backend="eager")(a), loss(a)
torch.testing.assert_close(compiled, eager)
torch.testing.assert_close(*(torch.autograd.grad(value, a) for value in (compiled, eager)))
"""


def test_torch_compile_leaves_circuits_and_scans_alone_also_before_their_first_use():
    done = subprocess.run([sys.executable, "-c", UNDER_TORCH_COMPILE], capture_output=True, text=True)
    assert done.returncode == 0 and "plain torch serves" not in done.stderr, done.stderr[-2000:]
