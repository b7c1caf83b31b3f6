"""Every circuit of the models against PennyLane: values and all gradients, all backends that run on a CPU."""

import math

import pennylane as qml
import pytest
import torch
from backends import skip_if_unusable
from circuit_cases import CASES, answer, weighted

from qablate.quantum import Circuit, ansatz, embedding, evolve, expectations, measure, states

BACKENDS = ("reference", "torch", "pennylane", "numba")
TOLERANCE = {torch.float64: 1e-10, torch.float32: 1e-5}
QUBITS = {"reference": (2, 3, 6), "torch": range(2, 9), "pennylane": (2, 6), "numba": range(2, 11)}
SIZES = [(name, n) for name in BACKENDS for n in QUBITS[name]]


def assert_close(actual, expected, dtype):
    """Within t + t |expected|; t is 1e-10 in float64, 1e-5 in float32."""
    assert actual.shape == expected.shape
    assert actual.dtype in (dtype, dtype.to_complex())
    wide = torch.complex128 if actual.is_complex() else torch.float64
    # Relative as well: the gradient of the scale D sums 6 n terms and is far above 1 at 8 qubits.
    torch.testing.assert_close(actual.to(wide), expected.to(wide), rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype])


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
@pytest.mark.parametrize(("backend", "n"), SIZES)
def test_values_and_gradients_agree_with_pennylane(backend, n, case, dtype):
    skip_if_unusable(backend)
    expected = answer(case, n)
    for batch in (7, 3, 1, 0) if n in (2, 6) else (7,):
        inputs = expected.inputs[:batch].to(dtype).requires_grad_()
        angles = case.angles(inputs, n)
        measured = expectations(case.circuit(n), angles, backend)
        assert_close(measured, expected.expectations[:batch], dtype)
        (grad,) = torch.autograd.grad(weighted(measured, expected.weights_expectations[:batch]), inputs)
        assert_close(grad, expected.grad_expectations[:batch], dtype)
        psi = states(case.circuit(n), case.angles(inputs, n), backend)
        assert_close(psi, expected.states[:batch], dtype)
        (grad,) = torch.autograd.grad(weighted(psi, expected.weights_states[:batch]), inputs)
        assert_close(grad, expected.grad_states[:batch], dtype)


def evolved_by_pennylane(case, inputs, initial, n):
    """One sample at a time, from a normalised state: circuits are linear, so the norm is put back afterwards."""
    device = qml.device("default.qubit", wires=n)

    @qml.qnode(device, interface="torch", diff_method="backprop")
    def node(row, psi):
        qml.StatePrep(psi, wires=range(n))
        case.pennylane(row[None], n)
        return qml.state()

    rows = []
    for row, psi in zip(inputs, initial, strict=True):
        norm = torch.linalg.vector_norm(psi)
        rows.append(norm * node(row, psi / norm).reshape(-1))
    return torch.stack(rows)


@pytest.mark.parametrize("case", [CASES[0], CASES[3], CASES[5]], ids=lambda case: case.name)
@pytest.mark.parametrize("n", [2, 3, 6])
@pytest.mark.parametrize("backend", BACKENDS)
def test_evolved_states_and_gradients_agree_with_pennylane(backend, n, case):
    skip_if_unusable(backend)
    generator = torch.Generator().manual_seed(n)
    x0 = answer(case, n).inputs[:3]
    initial0 = torch.randn(3, 2**n, dtype=torch.complex64, generator=generator).to(torch.complex128) / 2 ** (n / 2)
    weights = torch.randn(3, 2**n, dtype=torch.complex128, generator=generator) / 2 ** (n / 2)

    def outcome(function, dtype):
        x, initial = x0.to(dtype).requires_grad_(), initial0.to(dtype.to_complex()).requires_grad_()
        psi = function(x, initial)
        return (psi.detach(), *torch.autograd.grad(weighted(psi, weights), (x, initial)))

    expected = outcome(lambda x, initial: evolved_by_pennylane(case, x, initial, n), torch.float64)
    for dtype in TOLERANCE:
        found = outcome(lambda x, initial: evolve(case.circuit(n), case.angles(x, n), initial, backend), dtype)
        for actual, wanted in zip(found, expected, strict=True):
            assert_close(actual, wanted, dtype)


@pytest.mark.parametrize("n", range(1, 9))
def test_measured_paulis_agree_with_matrices(n):
    generator = torch.Generator().manual_seed(n)
    psi = torch.randn(4, 2**n, dtype=torch.complex128, generator=generator).requires_grad_()
    weights = torch.randn(4, 3 * n, dtype=torch.float64, generator=generator)
    columns = []
    for pauli in ((0, 1, 1, 0), (0, -1j, 1j, 0), (1, 0, 0, -1)):
        matrix = torch.tensor(pauli, dtype=torch.complex128).reshape(2, 2)
        for q in range(n):
            eye = torch.eye(2**q, dtype=torch.complex128), torch.eye(2 ** (n - q - 1), dtype=torch.complex128)
            full = torch.kron(torch.kron(eye[0], matrix), eye[1])
            columns.append(torch.einsum("bi,ij,bj->b", psi.conj(), full, psi).real)
    expected = torch.stack(columns, -1)
    actual = measure(psi)
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-12)
    gradients = [torch.autograd.grad(weighted(values, weights), psi)[0] for values in (actual, expected)]
    torch.testing.assert_close(*gradients, rtol=0, atol=1e-12)


@pytest.mark.parametrize("backend", BACKENDS)
def test_shared_angles_give_the_sum_of_gradients(backend):
    skip_if_unusable(backend)
    circuit = Circuit(3, ansatz(3, 1))
    shared = torch.randn(15, dtype=torch.float64, requires_grad=True)
    initial = torch.randn(2, 4, 8, dtype=torch.complex128)
    psi = evolve(circuit, shared, initial, backend)
    assert psi.shape == (2, 4, 8)
    single = [evolve(circuit, shared, row, "reference") for row in initial.flatten(0, 1)]
    torch.testing.assert_close(psi.flatten(0, 1), torch.stack(single))
    (grad,) = torch.autograd.grad(psi.real.sum(), shared)
    parts = [torch.autograd.grad(row.real.sum(), shared)[0] for row in single]
    torch.testing.assert_close(grad, torch.stack(parts).sum(0))


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("batch", [(), (1,), (2, 3), (2, 0, 3), (2, 1, 2, 1)])
def test_any_leading_axes_and_any_memory_layout(backend, batch):
    skip_if_unusable(backend)
    circuit = Circuit(4, embedding(4) + ansatz(4, 1, 4))
    wide = torch.randn(24, *batch, dtype=torch.float64)
    strided = wide.movedim(0, -1).requires_grad_()
    measured = expectations(circuit, strided, backend)
    psi = states(circuit, strided, backend)
    assert measured.shape == (*batch, 12) and psi.shape == (*batch, 16)
    flat = strided.detach().reshape(math.prod(batch), 24).contiguous()
    torch.testing.assert_close(measured.reshape(-1, 12), expectations(circuit, flat, "reference"))
    torch.testing.assert_close(measured, measure(psi))
    (grad,) = torch.autograd.grad(measured.square().sum(), strided)
    assert grad.shape == strided.shape
    initial = torch.randn(16, *batch, dtype=torch.complex128).movedim(0, -1).conj()
    expected = evolve(circuit, strided, initial.resolve_conj().contiguous(), "reference")
    torch.testing.assert_close(evolve(circuit, strided, initial, backend), expected)
    torch.testing.assert_close(measure(initial, backend), measure(initial.resolve_conj(), "reference"))


@pytest.mark.parametrize("backend", BACKENDS)
def test_runs_without_gradients_and_leaves_its_inputs_alone(backend):
    skip_if_unusable(backend)
    circuit = Circuit(3, embedding(3) + ansatz(3, 1, 3))
    angles, initial = torch.randn(5, 18), torch.randn(5, 8, dtype=torch.complex64)
    angles_before, initial_before = angles.clone(), initial.clone()
    with torch.no_grad():
        quiet = expectations(circuit, angles, backend), evolve(circuit, angles, initial, backend)
    assert not any(result.requires_grad for result in quiet)
    leaf = angles.clone().requires_grad_()
    torch.testing.assert_close(quiet[0], expectations(circuit, leaf, backend).detach())
    psi = evolve(circuit, leaf, initial, backend)    # only the angles ask for a gradient
    psi.abs().square().sum().backward()
    assert leaf.grad.abs().max() < 1e-4    # the norm does not depend on the angles
    assert torch.equal(angles, angles_before) and torch.equal(initial, initial_before)
