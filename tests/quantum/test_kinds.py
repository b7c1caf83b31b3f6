"""Kinds of circuit against plain definitions: values and gradients, float64."""

import math

import pytest
import torch
from backends import skip_if_unusable
from circuit_cases import CASES, random_inputs

from qablate.errors import QablateError
from qablate.quantum import BACKEND_NAMES, KINDS, Circuit, ansatz, circuit_kind, embedding

N = 6
CIRCUIT = Circuit(N, embedding(N) + ansatz(N, 2, first=N))
VECTOR_KINDS = ("mean_field", "tanh", "linear")


def angles(batch, scale=1.0, circuit=CIRCUIT, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return scale * torch.randn(batch, circuit.n_angles, generator=generator, dtype=torch.float64)


def axis_rotation(axis, angle):
    """Rotation matrices (B, 3, 3) about x, y or z by angles (B,), from the exponential of the generator."""
    generator = torch.zeros(3, 3, dtype=torch.float64)
    p, q = [(1, 2), (2, 0), (0, 1)][axis]
    generator[q, p], generator[p, q] = 1, -1
    return torch.linalg.matrix_exp(angle[:, None, None] * generator)


def bloch_vectors(circuit, given, mean_field_rings):
    """Features (B, 3 n) of |0...0> by 3 x 3 matrices on one vector a wire."""
    up = torch.tensor([0.0, 0, 1], dtype=torch.float64)
    vectors = [up.expand(len(given), 3) for _ in range(circuit.n_qubits)]
    for gate in circuit.gates:
        angle, wire = given[:, gate.angle], gate.wires[-1]
        if gate.kind == "CRX" and mean_field_rings:
            angle = angle * (1 - vectors[gate.wires[0]][:, 2]) / 2
        vectors[wire] = (axis_rotation("XYZ".index(gate.kind[-1]), angle) @ vectors[wire][..., None])[..., 0]
    return torch.stack(vectors, -1).flatten(1)


def outcome(function, given):
    """A value and its gradient."""
    given = given.clone().requires_grad_()
    value = function(given)
    return value.detach(), *torch.autograd.grad(value.cos().sum(), given)


def assert_same(one, other, tolerance):
    for a, b in zip(one, other, strict=True):
        assert a.shape == b.shape
        assert not a.numel() or (a - b).abs().max() <= tolerance * max(1, b.abs().max())


@pytest.mark.parametrize(("name", "backend"), [*(("unentangled", name) for name in BACKEND_NAMES),
                                               ("mean_field", "auto"), ("mean_field", "torch")])
def test_kinds_of_bloch_vectors_follow_their_definition(name, backend):
    skip_if_unusable(backend)
    given, kind = angles(35), circuit_kind(name, backend)
    expected = outcome(lambda a: bloch_vectors(CIRCUIT, a, mean_field_rings=name == "mean_field"), given)
    assert_same(outcome(lambda a: kind.expectations(CIRCUIT, a), given), expected, 1e-10)
    assert_same(outcome(lambda a: kind.measure(kind.states(CIRCUIT, a)), given), expected, 1e-10)
    assert (kind.expectations(CIRCUIT, given[:5].float()) - expected[0][:5]).abs().max() < 1e-6


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("batch", [0, 1, 8, 35])
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_mean_field_compiled_and_plain_agree_in_values_and_gradients(case, batch, dtype):
    circuit = case.circuit(N)
    given = (case.angles(random_inputs(case, N, max(batch, 1)), N)[:batch] / 2).to(dtype)
    start = torch.sin(torch.arange(batch * 3 * N, dtype=dtype)).view(batch, 3 * N)
    results = []
    for backend in ("numba", "torch"):
        leaves = [given.clone().requires_grad_(), start.clone().requires_grad_()]
        value = circuit_kind("mean_field", backend).evolve(circuit, *leaves)
        results.append([value, *torch.autograd.grad(value.cos().sum(), leaves)])
    assert_same(*results, {torch.float64: 1e-10, torch.float32: 1e-4}[dtype])


def test_mean_field_angles_beyond_the_kernels_and_nan_go_to_plain_torch():
    given = angles(3)
    given[0, 5], given[1, 7] = 1e9, math.nan
    expected, found = (circuit_kind("mean_field", backend).evolve(CIRCUIT, given, torch.ones(3 * N).double())
                       for backend in ("torch", "numba"))
    assert torch.equal(found.isnan(), expected.isnan()) and found[1].isnan().any()
    assert (found - expected)[[0, 2]].abs().max() < 1e-12


@pytest.mark.parametrize(("scale", "expected"), [(1.0, 0.345), (0.3, 0.0423), (0.1, 0.0020)])
def test_mean_field_errs_in_second_order_of_small_angles(scale, expected):
    given = angles(4000, scale)
    mean, exact = (circuit_kind(name).expectations(CIRCUIT, given) for name in ("mean_field", "exact"))
    assert (mean - exact).square().mean().sqrt().item() == pytest.approx(expected, rel=0.1)


@pytest.mark.parametrize("name", ["tanh", "linear"])
def test_sums_of_columns(name):
    given, start = angles(4), angles(4, seed=1)[:, : 3 * N]
    squash = torch.tanh if name == "tanh" else (lambda x: x)
    columns = [list(range(j, CIRCUIT.n_angles, 3 * N)) for j in range(3 * N)]
    sums = torch.stack([given[:, c].sum(1) / math.sqrt(len(c)) for c in columns], -1)
    kind = circuit_kind(name)
    assert {len(c) for c in columns} == {3, 4}
    assert_same([kind.expectations(CIRCUIT, given), kind.states(CIRCUIT, given)], [squash(sums)] * 2, 1e-12)
    assert_same([kind.evolve(CIRCUIT, given, start)], [squash(sums + start)], 1e-12)
    few = Circuit(N, embedding(N))
    assert torch.equal(kind.states(few, given[:, :N])[:, N:], torch.zeros(4, 2 * N, dtype=torch.float64))


@pytest.mark.parametrize("name", VECTOR_KINDS)
def test_superposition_of_vectors(name):
    kind, c = circuit_kind(name), torch.tensor([1 + 1j, -2, 0.5j], dtype=torch.complex128)
    vectors = angles(3 * 5)[:, : 3 * N].view(3, 5, 3 * N)
    total = (c.abs()[:, None, None] * vectors).sum(0)
    expected = total / total.norm(dim=-1, keepdim=True) * math.sqrt(N)
    assert (kind.superpose(c, vectors) - expected).abs().max() < 1e-8
    assert (kind.combine_unitaries(c, vectors.movedim(0, -2)) - expected).abs().max() < 1e-8
    assert torch.equal(kind.measure(expected), expected)
    assert torch.isfinite(kind.superpose(c, torch.zeros_like(vectors))).all()


@pytest.mark.parametrize("name", KINDS)
def test_reversal_of_wires_commutes_with_measuring(name):
    kind, given = circuit_kind(name), angles(3)
    psi = kind.states(CIRCUIT, given)
    reversed_ = kind.measure(kind.reverse_wires(psi)).unflatten(-1, (3, N))
    assert (reversed_ - kind.measure(psi).unflatten(-1, (3, N)).flip(-1)).abs().max() < 1e-12


@pytest.mark.parametrize("name", VECTOR_KINDS)
def test_leading_axes_are_kept_and_broadcast(name):
    kind, given = circuit_kind(name), angles(6).view(2, 3, -1)
    assert kind.states(CIRCUIT, given).shape == (2, 3, 18)
    assert kind.evolve(CIRCUIT, given[0, 0], kind.states(CIRCUIT, given)).shape == (2, 3, 18)
    with pytest.raises(ValueError, match="reads 66 angles"):
        kind.states(CIRCUIT, given[..., :60])


def test_an_unknown_kind_or_backend_is_an_error_of_one_line():
    with pytest.raises(QablateError, match="unknown kind of circuit 'meanfield': did you mean 'mean_field'"):
        circuit_kind("meanfield")
    with pytest.raises(QablateError, match="known are exact, unentangled"):
        circuit_kind("qqq")
    with pytest.raises(QablateError, match="unknown backend 'torhc'"):
        circuit_kind("mean_field", "torhc").states(CIRCUIT, angles(1))
