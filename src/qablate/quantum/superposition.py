"""The superpositions of the published models: of measured features, and of states before measurement.

Coefficients are complex tensors (r,), one number a branch; they are normalised here, with the epsilon that
the published models use. Branches are stacked along the first axis, so that one circuit call serves them all.
Shapes: r branches, `...` batch axes, f features.
"""

import torch
from torch import Tensor


def superpose_modulus(coefficients: Tensor, measured: Tensor) -> Tensor:
    """Element-wise modulus of the weighted sum of real features (r, ..., f): (..., f). Used by 1a (S-abs)."""
    weights = _along_branches(_unit_norm(coefficients, 1e-9), measured)
    return (weights * measured).sum(0).abs()


def superpose_concat(coefficients: Tensor, measured: Tensor) -> Tensor:
    """Real features (r, ..., f), each times the modulus of its weight, side by side: (..., r f).

    Used by 1b and by each front of 1c (S-cat).
    """
    weights = _along_branches(_moduli_over_norm(coefficients, 1e-8), measured)
    return (weights * measured).movedim(0, -2).flatten(-2)


def superpose_features(coefficients: Tensor, features: Tensor) -> Tensor:
    """Sum of real features (r, ..., f) times the moduli of their weights: (..., f).

    Used around the fronts of 1c (S-mag).
    """
    weights = _along_branches(_moduli_over_norm(coefficients, 1e-8), features)
    return (weights * features).sum(0)


def superpose_states(coefficients: Tensor, states: Tensor) -> Tensor:
    """Weighted sum of states (r, ..., 2**n), divided by its norm + 1e-9: (..., 2**n).

    Used by 2d, 2e, 4d, 4e (S-state).
    """
    weights = _along_branches(_unit_norm(coefficients, 1e-9), states)
    return _unit_states((weights * states).sum(0))


def combine_unitaries(coefficients: Tensor, states: Tensor) -> Tensor:
    """Linear combination of unitaries over chunks: states (..., k, 2**n) -> (..., 2**n). Used by 2a (S-lcu).

    The coefficients (k,) are divided by the sum of their moduli + 1e-8, the sum of states by its norm + 1e-9.
    """
    weights = coefficients / (coefficients.abs().sum() + 1e-8)
    return _unit_states((weights[:, None] * states).sum(-2))


def _unit_norm(coefficients: Tensor, epsilon: float) -> Tensor:
    return coefficients / (coefficients.abs().square().sum() + epsilon).sqrt()


def _moduli_over_norm(coefficients: Tensor, epsilon: float) -> Tensor:
    return _unit_norm(coefficients, epsilon).abs()


def _along_branches(weights: Tensor, branches: Tensor) -> Tensor:
    if weights.shape != branches.shape[:1]:
        raise ValueError(f"{tuple(weights.shape)} coefficients for branches of shape {tuple(branches.shape)}")
    return weights.reshape(-1, *(1,) * (branches.ndim - 1))


def _unit_states(states: Tensor) -> Tensor:
    return states / (torch.linalg.vector_norm(states, dim=-1, keepdim=True) + 1e-9)
