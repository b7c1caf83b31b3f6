"""Every circuit of the models against PennyLane: values and all gradients, all backends that run on a CPU.

Circuits drawn at random, against the reference, which holds its agreement with PennyLane here.
"""

import math

import pennylane as qml
import pytest
import torch
from backends import skip_if_unusable
from circuit_cases import CASES, answer, weighted
from hypothesis import example, given, settings
from hypothesis import strategies as st

from qablate.quantum import Circuit, Gate, ansatz, embedding, evolve, expectations, measure, states

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


@st.composite
def circuits(draw_from):
    """Any gates on 1 to 5 qubits; columns repeat, leave gaps and run on, as they please."""
    n = draw_from(st.integers(1, 5))
    kinds = ["RX", "RY", "RZ"] + ["CRX", "triple"] * (n > 1)
    gates = []
    for _ in range(draw_from(st.integers(0, 24))):
        kind = draw_from(st.sampled_from(kinds))
        wires = tuple(draw_from(st.permutations(range(n)))[: 2 if kind == "CRX" else 1])
        column = draw_from(st.integers(0, 12))
        if kind == "triple":
            gates += [Gate(axis, wires, column + i) for i, axis in enumerate(("RX", "RY", "RZ"))]
        else:
            gates.append(Gate(kind, wires, column))
    return Circuit(n, tuple(gates))


def drawn(seed, *shape, dtype=torch.float32):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype) / max(1, shape[-1]) ** 0.5


@settings(max_examples=60)
@given(circuits(), st.sampled_from([0, 1, 3, 17, 35]), st.sampled_from(list(TOLERANCE)), st.integers(0, 2**31))
@example(Circuit(2, ()), 3, torch.float64, 0)
def test_backends_agree_with_the_reference_on_random_circuits(circuit, batch, dtype, seed):
    """In batches of less than a vector, of whole vectors and a rest; one of the two starts need not have norm 1."""
    start, weights = 10 * drawn(seed, batch, circuit.n_angles), drawn(seed + 1, batch, 3 * circuit.n_qubits)
    psi = drawn(seed + 2, batch, 2**circuit.n_qubits, dtype=torch.complex64)
    results = []
    for backend, precision in (("reference", torch.float64), ("torch", dtype), ("numba", dtype)):
        angles, initial = start.to(precision).requires_grad_(), psi.to(precision.to_complex()).requires_grad_()
        from_zero, from_initial = expectations(circuit, angles, backend), evolve(circuit, angles, initial, backend)
        loss = (weights * (from_zero + measure(from_initial, backend))).sum()
        grads = torch.autograd.grad(loss, (angles, initial), allow_unused=True, materialize_grads=True)
        results.append((from_zero, states(circuit, angles, backend), from_initial, *grads))
    for found in results[1:]:
        for actual, expected in zip(found, results[0], strict=True):
            assert_close(actual, expected, dtype)


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
