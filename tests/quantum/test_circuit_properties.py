"""Properties that hold for all angles, and circuits drawn at random."""

import math

import pytest
import torch
from circuit_cases import CASES, answer
from hypothesis import given, settings
from hypothesis import strategies as st

from qablate.quantum import (
    Circuit,
    Gate,
    ansatz,
    embedding,
    evolve,
    expectations,
    lower,
    measure,
    reverse_wires,
    reversed_ansatz,
    scale_rotations,
    states,
)
from qablate.quantum.program import CRX, RX, RY, RZ, U3

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
def test_torch_agrees_with_the_reference_on_random_circuits(circuit, batch, seed):
    size = 2**circuit.n_qubits
    weights = draw(seed + 1, batch, 3 * circuit.n_qubits)
    results = []
    for backend in ("torch", "reference"):
        angles = (3 * draw(seed, batch, circuit.n_angles)).requires_grad_()
        initial = draw(seed + 2, batch, size, dtype=torch.complex128).requires_grad_()
        from_zero = expectations(circuit, angles, backend)
        from_initial = evolve(circuit, angles, initial, backend)
        loss = (weights * (from_zero + measure(from_initial))).sum()
        grads = torch.autograd.grad(loss, (angles, initial), allow_unused=True)
        results.append((from_zero, states(circuit, angles, backend), from_initial, grads[1], grads[0]))
    *actual, actual_grad = results[0]
    *expected, expected_grad = results[1]
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-10)
    if expected_grad is None:    # no gates
        expected_grad = torch.zeros_like(actual_grad)
    torch.testing.assert_close(actual_grad, expected_grad, rtol=0, atol=1e-10)


@QUICK
@given(st.integers(2, 7), st.integers(1, 3), seeds)
def test_norm_stays_one(n, n_layers, seed):
    circuit = Circuit(n, embedding(n) + ansatz(n, n_layers, n))
    norms = torch.linalg.vector_norm(states(circuit, 5 * draw(seed, 3, circuit.n_angles), "torch"), dim=-1)
    torch.testing.assert_close(norms, torch.ones(3, dtype=torch.float64), rtol=0, atol=1e-12)
    single = states(circuit, 5 * draw(seed, 3, circuit.n_angles).float(), "torch")
    torch.testing.assert_close(torch.linalg.vector_norm(single, dim=-1), torch.ones(3), rtol=0, atol=1e-5)


@QUICK
@given(st.integers(2, 7), seeds)
def test_angles_of_zero_are_the_identity(n, seed):
    initial = draw(seed, 2, 2**n, dtype=torch.complex128)
    for build in (ansatz, reversed_ansatz):
        circuit = Circuit(n, build(n, 2))
        zeros = torch.zeros(circuit.n_angles, dtype=torch.float64)
        torch.testing.assert_close(evolve(circuit, zeros, initial, "torch"), initial, rtol=0, atol=1e-14)


@QUICK
@given(st.integers(2, 6), seeds)
def test_reversed_ansatz_is_the_ansatz_on_reversed_wires(n, seed):
    th, initial = draw(seed, 2, 10 * n), draw(seed + 1, 2, 2**n, dtype=torch.complex128)
    direct = evolve(Circuit(n, reversed_ansatz(n, 2)), th, initial, "reference")
    conjugated = reverse_wires(evolve(Circuit(n, ansatz(n, 2)), th, reverse_wires(initial), "reference"))
    torch.testing.assert_close(direct, conjugated, rtol=0, atol=1e-12)


@QUICK
@given(st.integers(1, 7), seeds)
def test_reversing_wires_twice_changes_nothing(n, seed):
    psi = draw(seed, 3, 2**n, dtype=torch.complex128)
    assert torch.equal(reverse_wires(reverse_wires(psi)), psi)
    swapped = measure(reverse_wires(psi)).unflatten(-1, (3, n)).flip(-1).flatten(-2)
    torch.testing.assert_close(swapped, measure(psi), rtol=0, atol=1e-12)


@pytest.mark.parametrize("n", [1, 2, 3])
def test_gradcheck(n):
    gates = embedding(n) + (ansatz(n, 2, n) if n > 1 else (Gate("RX", (0,), 1), Gate("RZ", (0,), 0)))
    circuit = Circuit(n, gates)
    angles = draw(0, 2, circuit.n_angles).requires_grad_()
    initial = draw(1, 2, 2**n, dtype=torch.complex128).requires_grad_()
    assert torch.autograd.gradcheck(lambda a: expectations(circuit, a, "torch"), angles)
    assert torch.autograd.gradcheck(lambda a: states(circuit, a, "torch"), angles)
    assert torch.autograd.gradcheck(lambda a, psi: evolve(circuit, a, psi, "torch"), (angles, initial))
    assert torch.autograd.gradcheck(measure, initial)


@pytest.mark.parametrize("n_layers", [1, 8])
def test_the_backward_pass_keeps_the_angles_and_one_state_only(n_layers):
    n, batch = 5, 16
    circuit = Circuit(n, embedding(n) + ansatz(n, n_layers, n))
    kept = {}

    def note(tensor):
        kept[tensor.data_ptr()] = tensor.numel()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        expectations(circuit, torch.randn(batch, circuit.n_angles, requires_grad=True), "torch")
    assert sum(kept.values()) == batch * (circuit.n_angles + 1 + 2 * 2**n)


def test_scaling_touches_rotations_only():
    angles, scale = draw(0, 4, 60), draw(1, 4)
    scaled = scale_rotations(angles, scale, 6, 2).reshape(4, 2, 30)
    plain = angles.reshape(4, 2, 30)
    torch.testing.assert_close(scaled[..., :18], plain[..., :18] * scale[:, None, None])
    assert torch.equal(scaled[..., 18:], plain[..., 18:])
    assert torch.equal(scale_rotations(angles, scale[:, None], 6, 2), scaled.reshape(4, 60))


# Wrong circuits must be seen to be wrong: each mutation of a definition moves the results by far more than rounding.


def _swap_rings(gates, n):
    """The two rings of each layer change places; angles stay with the position."""
    layers = [list(gates[5 * n * i : 5 * n * (i + 1)]) for i in range(len(gates) // (5 * n))]
    out = []
    for layer in layers:
        rings = layer[3 * n :]
        out += layer[: 3 * n]
        out += [gate._replace(wires=other.wires) for gate, other in zip(rings, rings[n:] + rings[:n], strict=True)]
    return tuple(out)


def _rotation_order(gates, n):
    """R_Z acts first, R_X last, each with its own angle."""
    out = list(gates)
    for i in range(len(out) - 2):
        if [gate.kind for gate in gates[i : i + 3]] == ["RX", "RY", "RZ"]:
            out[i : i + 3] = gates[i : i + 3][::-1]
    return tuple(out)


def _ascending_backward_ring(gates, n):
    out = list(gates)
    for start in range(0, len(gates), 5 * n):
        ring = gates[start + 4 * n : start + 5 * n]
        out[start + 4 * n : start + 5 * n] = [
            gate._replace(wires=other.wires) for gate, other in zip(ring, reversed(ring), strict=True)
        ]
    return tuple(out)


def _controls_and_targets(gates, n):
    return tuple(gate._replace(wires=gate.wires[::-1]) for gate in gates)


MUTATIONS = (_swap_rings, _rotation_order, _ascending_backward_ring, _controls_and_targets)


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.__name__)
@pytest.mark.parametrize("build", [ansatz, reversed_ansatz], ids=lambda build: build.__name__)
def test_mutated_circuits_are_told_apart(build, mutation):
    n = 6
    gates = build(n, 2)
    assert sorted(gate.angle for gate in mutation(gates, n)) == list(range(60))
    th = draw(0, 4, 60)
    difference = expectations(Circuit(n, gates), th) - expectations(Circuit(n, mutation(gates, n)), th)
    assert difference.abs().max() > 1e-2


def test_cases_differ_from_one_another():
    by_name = {case.name: case for case in CASES}
    scaled, reversed_ = by_name["2d, 2e first"], by_name["2d, 2e second"]
    inputs = answer(scaled, 6).inputs
    wrong = expectations(reversed_.circuit(6), reversed_.angles(inputs, 6))
    assert (wrong - answer(scaled, 6).expectations).abs().max() > 1e-2
    d_on_all = torch.cat((inputs[:, :6], inputs[:, 6:-1] * inputs[:, -1:]), -1)
    assert (expectations(scaled.circuit(6), d_on_all) - answer(scaled, 6).expectations).abs().max() > 1e-2


# Lowering.


def test_the_program_of_1b_starts_with_a_product_state():
    program = lower(Circuit(6, embedding(6) + ansatz(6, 2, 6)), from_zero=True)
    assert program.start.tolist() == [[q, 6 + 3 * q] for q in range(6)]
    kinds = program.ops[:, 0].tolist()
    assert len(kinds) == 30 and kinds.count(U3) == 6 and kinds.count(CRX) == 24
    assert program.ops[0].tolist() == [CRX, 0, 1, 24]


def test_from_a_state_nothing_is_taken_out():
    program = lower(Circuit(6, ansatz(6, 1) + embedding(6, 30)), from_zero=False)
    assert (program.start == -1).all() and program.start.shape == (6, 2)
    assert [row[0] for row in program.ops.tolist()] == [U3] * 2 + [CRX] + [U3, CRX] * 4 + [CRX] * 7 + [RY] * 6


def test_gates_that_do_not_fuse_keep_their_kind_and_order():
    gates = (Gate("RX", (0,), 0), Gate("RY", (0,), 2), Gate("RZ", (0,), 3), Gate("RY", (1,), 4), Gate("RX", (1,), 5))
    program = lower(Circuit(2, gates), from_zero=True)
    assert program.start.tolist() == [[-1, -1], [4, -1]]
    assert program.ops.tolist() == [[RX, 0, -1, 0], [RY, 0, -1, 2], [RZ, 0, -1, 3], [RX, 1, -1, 5]]


def test_programs_are_made_once_and_cannot_be_written():
    build = lambda: Circuit(4, embedding(4) + ansatz(4, 1, 4))    # noqa: E731
    assert build() == build() and hash(build()) == hash(build())
    program = lower(build(), from_zero=True)
    assert program is lower(build(), from_zero=True)
    with pytest.raises(ValueError, match="read-only"):
        program.ops[0, 0] = 0
    assert program.ops.dtype == program.start.dtype == "int64"


def test_number_of_angles():
    assert Circuit(6, ansatz(6, 2)).n_angles == 60
    assert Circuit(6, embedding(6) + ansatz(6, 4, 6)).n_angles == 126
    assert Circuit(3, ()).n_angles == 0
    empty = states(Circuit(2, ()), torch.zeros(3, 0), "torch")
    assert torch.equal(empty, torch.tensor([[1, 0, 0, 0]] * 3, dtype=torch.complex64))
    assert math.isclose(expectations(Circuit(2, ()), torch.zeros(0), "torch")[-1].item(), 1.0)
