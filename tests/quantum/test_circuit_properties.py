"""Properties that hold for all angles, and circuits drawn at random."""

import pytest
import torch
from backends import skip_if_unusable
from hypothesis import given, settings
from hypothesis import strategies as st

from qablate.quantum import (
    BACKEND_NAMES,
    Circuit,
    Gate,
    ansatz,
    embedding,
    evolve,
    expectations,
    measure,
    reverse_wires,
    states,
)

QUICK = settings(max_examples=40, deadline=None)
seeds = st.integers(0, 2**31)


def draw(seed, *shape, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


@st.composite
def circuits(draw_from, max_gates=24):
    """Any gates on 1 to 5 qubits; columns repeat, leave gaps and run on, as they please."""
    n = draw_from(st.integers(1, 5))
    kinds = ["RX", "RY", "RZ"] + ["CRX", "triple"] * (n > 1)
    gates = []
    for _ in range(draw_from(st.integers(0, max_gates))):
        kind = draw_from(st.sampled_from(kinds))
        wires = tuple(draw_from(st.permutations(range(n)))[: 2 if kind == "CRX" else 1])
        column = draw_from(st.integers(0, 12))
        if kind == "triple":
            gates += [Gate(axis, wires, column + i) for i, axis in enumerate(("RX", "RY", "RZ"))]
        else:
            gates.append(Gate(kind, wires, column))
    return Circuit(n, tuple(gates))


@QUICK
@given(circuits(), st.integers(0, 3), seeds)
def test_backends_agree_with_the_reference_on_random_circuits(circuit, batch, seed):
    weights = draw(seed + 1, batch, 3 * circuit.n_qubits)
    results = []
    for backend in ("torch", "numba", "reference"):
        angles = (3 * draw(seed, batch, circuit.n_angles)).requires_grad_()
        initial = draw(seed + 2, batch, 2**circuit.n_qubits, dtype=torch.complex128).requires_grad_()
        from_zero = expectations(circuit, angles, backend)
        from_initial = evolve(circuit, angles, initial, backend)
        loss = (weights * (from_zero + measure(from_initial, backend))).sum()
        grads = torch.autograd.grad(loss, (angles, initial), allow_unused=True, materialize_grads=True)
        results.append((from_zero, states(circuit, angles, backend), from_initial, *grads))
    for found in results[:2]:
        torch.testing.assert_close(found, results[2], rtol=0, atol=1e-10)


@QUICK
@given(st.integers(1, 7), seeds)
def test_reversing_wires_twice_changes_nothing(n, seed):
    psi = draw(seed, 3, 2**n, dtype=torch.complex128)
    assert torch.equal(reverse_wires(reverse_wires(psi)), psi)
    swapped = measure(reverse_wires(psi)).unflatten(-1, (3, n)).flip(-1).flatten(-2)
    torch.testing.assert_close(swapped, measure(psi), rtol=0, atol=1e-12)


@pytest.mark.parametrize("backend", BACKEND_NAMES)
def test_circuits_without_gates(backend):
    skip_if_unusable(backend)
    assert Circuit(6, embedding(6) + ansatz(6, 4, 6)).n_angles == 126 and Circuit(3, ()).n_angles == 0
    assert states(Circuit(2, ()), torch.zeros(3, 0), backend).tolist() == [[1, 0, 0, 0]] * 3
    assert expectations(Circuit(2, ()), torch.zeros(3, 0), backend).tolist() == [[0, 0, 0, 0, 1, 1]] * 3
