"""Superpositions against their formulas written out."""

import math

import pytest
import torch

from qablate.quantum import (
    combine_unitaries,
    superpose_concat,
    superpose_features,
    superpose_modulus,
    superpose_states,
)


def draw(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


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
    with pytest.raises(ValueError, match="coefficients for branches of shape"):
        superpose_states(c[:1], psi)


def test_combination_divides_by_the_sum_of_moduli():
    c, psi = draw(4, dtype=torch.complex128), 1e-9 * draw(2, 4, 8, dtype=torch.complex128)
    phi = torch.einsum("k,bkd->bd", c, psi) / (c.abs().sum() + 1e-8)
    expected = phi / (phi.abs().square().sum(-1, keepdim=True).sqrt() + 1e-9)
    torch.testing.assert_close(combine_unitaries(c, psi), expected, rtol=1e-10, atol=0)