"""Superpositions against their formulas written out, and whole quantum parts of 2a, 2d and 4d against PennyLane."""

import math

import pennylane as qml
import pytest
import torch
from circuit_cases import pl_ansatz, pl_embedding, pl_reversed

from qablate.quantum import (
    Circuit,
    ansatz,
    combine_unitaries,
    embedding,
    evolve,
    measure,
    reverse_wires,
    scale_rotations,
    states,
    superpose_concat,
    superpose_features,
    superpose_modulus,
    superpose_states,
)

N = 6


def draw(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def gradients(outputs, leaves):
    weights = draw(*outputs.shape, seed=99)
    return torch.autograd.grad((outputs * weights).sum(), leaves)


def assert_same(actual, expected):
    for one, other in zip(actual, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-10)


def parts(coefficients):
    return coefficients.detach().real.tolist(), coefficients.detach().imag.tolist()


def test_modulus_of_weighted_features():
    c, m = draw(3, dtype=torch.complex128), draw(3, 4, 18)
    re, im = parts(c)
    s = math.sqrt(sum(a * a + b * b for a, b in zip(re, im, strict=True)) + 1e-9)
    real = sum(a * m[r] for r, a in enumerate(re)) / s
    imaginary = sum(b * m[r] for r, b in enumerate(im)) / s
    torch.testing.assert_close(superpose_modulus(c, m), torch.hypot(real, imaginary), rtol=0, atol=1e-14)


def test_concatenation_and_sum_weigh_by_moduli():
    c, m = draw(3, dtype=torch.complex128), draw(3, 4, 18)
    re, im = parts(c)
    moduli = [math.hypot(a, b) for a, b in zip(re, im, strict=True)]
    s = math.sqrt(sum(a * a for a in moduli) + 1e-8)
    scaled = [a / s * m[r] for r, a in enumerate(moduli)]
    torch.testing.assert_close(superpose_concat(c, m), torch.cat(scaled, -1), rtol=0, atol=1e-14)
    torch.testing.assert_close(superpose_features(c, m), sum(scaled), rtol=0, atol=1e-14)


@pytest.mark.parametrize(
    ("function", "epsilon"),
    [(superpose_modulus, 1e-9), (superpose_concat, 1e-8), (superpose_features, 1e-8)],
    ids=lambda value: getattr(value, "__name__", str(value)),
)
def test_the_epsilon_stands_inside_the_root(function, epsilon):
    tiny = torch.tensor([1e-5], dtype=torch.complex128)
    value = function(tiny, torch.ones(1, 1, dtype=torch.float64)).item()
    assert value == pytest.approx(1e-5 / math.sqrt(1e-10 + epsilon), rel=1e-12)


def test_states_are_weighted_normalised_and_differentiable():
    c, psi = draw(3, dtype=torch.complex128), draw(3, 5, 8, dtype=torch.complex128)
    combined = superpose_states(c, psi)
    norms = torch.linalg.vector_norm(combined, dim=-1)
    torch.testing.assert_close(norms, torch.ones(5, dtype=torch.float64), rtol=0, atol=1e-8)
    weighted_sum = c[0] * psi[0] + c[1] * psi[1] + c[2] * psi[2]
    expected = weighted_sum / torch.linalg.vector_norm(weighted_sum, dim=-1, keepdim=True)
    torch.testing.assert_close(combined, expected, rtol=0, atol=1e-8)
    zero = superpose_states(c, torch.zeros_like(psi))
    assert torch.equal(zero, torch.zeros(5, 8, dtype=torch.complex128))


def test_combination_divides_by_the_sum_of_moduli():
    c, psi = draw(4, dtype=torch.complex128), 1e-9 * draw(2, 4, 8, dtype=torch.complex128)
    phi = torch.einsum("k,bkd->bd", c, psi) / (c.abs().sum() + 1e-8)
    expected = phi / (phi.abs().square().sum(-1, keepdim=True).sqrt() + 1e-9)
    torch.testing.assert_close(combine_unitaries(c, psi), expected, rtol=1e-10, atol=0)


@pytest.mark.parametrize(
    ("function", "complex_branches"),
    [
        (superpose_modulus, False),
        (superpose_concat, False),
        (superpose_features, False),
        (superpose_states, True),
        (lambda c, psi: combine_unitaries(c, psi.movedim(0, -2)), True),
    ],
)
def test_gradients_in_coefficients_and_branches(function, complex_branches):
    dtype = torch.complex128 if complex_branches else torch.float64
    c, branches = draw(3, dtype=torch.complex128).requires_grad_(), draw(3, 2, 4, dtype=dtype).requires_grad_()
    assert torch.autograd.gradcheck(function, (c, branches))


def test_wrong_number_of_coefficients_is_refused():
    with pytest.raises(ValueError, match="coefficients"):
        superpose_states(torch.ones(1, dtype=torch.complex64), torch.ones(3, 2, 4, dtype=torch.complex64))


def test_the_backward_pass_of_equal_phases_leaves_no_gradient_in_imaginary_parts():
    re, im = draw(3, seed=1).abs().requires_grad_(), torch.zeros(3, dtype=torch.float64, requires_grad=True)
    for function in (superpose_modulus, superpose_concat, superpose_features):
        out = function(torch.complex(re, im), draw(3, 2, 5))
        grad_re, grad_im = torch.autograd.grad(out.square().sum(), (re, im))
        assert grad_re.abs().max() > 1e-6 and torch.equal(grad_im, torch.zeros_like(grad_im))


# Whole quantum parts. PennyLane side: states of one QNode a branch, arithmetic of the definitions written out.


def pl_states(queue, *inputs):
    @qml.qnode(qml.device("default.qubit", wires=N), interface="torch", diff_method="backprop")
    def node(*arguments):
        queue(*arguments)
        return qml.state()

    return node(*inputs)


def pl_measure(psi):
    norm = torch.linalg.vector_norm(psi, dim=-1, keepdim=True)

    @qml.qnode(qml.device("default.qubit", wires=N), interface="torch", diff_method="backprop")
    def node(row):
        qml.StatePrep(row, wires=range(N))
        return [qml.expval(pauli(q)) for pauli in (qml.PauliX, qml.PauliY, qml.PauliZ) for q in range(N)]

    rows = torch.stack([torch.stack(tuple(node(row))) for row in psi / norm])
    return rows * norm.square()


def pl_superpose(coefficients, *branches):
    a, b, c = coefficients.unbind()
    s = (a.abs() ** 2 + b.abs() ** 2 + c.abs() ** 2 + 1e-9).sqrt()
    psi = (a * branches[0] + b * branches[1] + c * branches[2]) / s
    return psi / (torch.linalg.vector_norm(psi, dim=-1, keepdim=True) + 1e-9)


@pytest.mark.parametrize("backend", ["torch", "reference", "pennylane", "auto"])
def test_2a_combination_and_shared_layer(backend):
    b, k = 2, 3
    angles, final = draw(b, k, 60).sigmoid().requires_grad_(), draw(30, seed=1).requires_grad_()
    c = draw(k, seed=2, dtype=torch.complex128).requires_grad_()
    phi = combine_unitaries(c, states(Circuit(N, ansatz(N, 2)), angles, backend))
    actual = measure(evolve(Circuit(N, ansatz(N, 1)), final, phi, backend))

    psi = pl_states(lambda th: pl_ansatz(th, N), angles.flatten(0, 1)).unflatten(0, (b, k))
    mixed = sum(c[i] / (c.abs().sum() + 1e-8) * psi[:, i] for i in range(k))
    mixed = mixed / (torch.linalg.vector_norm(mixed, dim=-1, keepdim=True) + 1e-9)

    def shared_layer(row, th):
        qml.StatePrep(row, wires=range(N))
        pl_ansatz(th[None], N)

    norms = torch.linalg.vector_norm(mixed, dim=-1, keepdim=True)
    rows = [pl_states(shared_layer, row, final).reshape(-1) for row in mixed / norms]
    expected = pl_measure(torch.stack(rows) * norms)
    assert_same([actual], [expected])
    assert_same(gradients(actual, (angles, final, c)), gradients(expected, (angles, final, c)))


@pytest.mark.parametrize("backend", ["torch", "reference", "pennylane", "auto"])
def test_2d_three_branches_in_one_call(backend):
    b = 3
    e, th, d = draw(b, 6).requires_grad_(), draw(3, b, 60, seed=1).requires_grad_(), draw(b, seed=2).requires_grad_()
    c = draw(3, seed=3, dtype=torch.complex128).requires_grad_()
    angles = torch.stack((scale_rotations(th[0], d, N, 2), scale_rotations(th[1], d, N, 2), th[2]))
    # The reversed ansatz is the ansatz on reversed wires: flip what it is fed, and its result.
    inputs = torch.stack((e, e.flip(-1), e))
    psi = states(Circuit(N, embedding(N) + ansatz(N, 2, N)), torch.cat((inputs, angles), -1), backend)
    actual = measure(superpose_states(c, torch.stack((psi[0], reverse_wires(psi[1]), psi[2]))))

    def branch(mixing, scale):
        def queue(e, th, d):
            pl_embedding(e, N)
            mixing(th, N, d if scale else 1.0)

        return queue

    branches = [branch(pl_ansatz, True), branch(pl_reversed, True), branch(pl_ansatz, False)]
    expected = pl_measure(pl_superpose(c, *(pl_states(q, e, th[r], d) for r, q in enumerate(branches))))
    assert_same([actual], [expected])
    assert_same(gradients(actual, (e, th, d, c)), gradients(expected, (e, th, d, c)))


@pytest.mark.parametrize("backend", ["torch", "reference", "pennylane", "auto"])
def test_4d_shared_features_and_mixing_in_one_call(backend):
    b = 2
    e, th_0, th = draw(b, 6).requires_grad_(), draw(b, 60, seed=1), draw(3, b, 60, seed=2).requires_grad_()
    v, d = draw(b, 6, seed=3).requires_grad_(), draw(b, seed=4).requires_grad_()
    c = draw(3, seed=5, dtype=torch.complex128).requires_grad_()
    features = states(Circuit(N, embedding(N) + ansatz(N, 2, N)), torch.cat((e, th_0), -1), backend)
    scaled = torch.stack((scale_rotations(th[0], d, N, 2), scale_rotations(th[1], d, N, 2), th[2]))
    injected = d[:, None] * v
    injections = torch.stack((injected, injected.flip(-1), torch.zeros_like(v)))
    mixing = Circuit(N, ansatz(N, 2) + embedding(N, 60))
    starts = torch.stack((features, reverse_wires(features), features))
    psi = evolve(mixing, torch.cat((scaled, injections), -1), starts, backend)
    actual = measure(superpose_states(c, torch.stack((psi[0], reverse_wires(psi[1]), psi[2]))))

    def branch(mixing, inject):
        def queue(e, th_0, th, v, d):
            pl_embedding(e, N)
            pl_ansatz(th_0, N)
            mixing(th, N, d if inject else 1.0)
            if inject:
                pl_embedding(d[:, None] * v, N)

        return queue

    branches = [branch(pl_ansatz, True), branch(pl_reversed, True), branch(pl_ansatz, False)]
    expected = pl_measure(pl_superpose(c, *(pl_states(q, e, th_0, th[r], v, d) for r, q in enumerate(branches))))
    assert_same([actual], [expected])
    assert_same(gradients(actual, (e, th, v, d, c)), gradients(expected, (e, th, v, d, c)))
