"""Parameters without effect: kept because published counts and checkpoints include them."""

import pytest
import torch
from published_state import published_tensors

from qablate.catalog import MODELS
from qablate.models import build_model

# Positions in the published enumeration.
IMAGINARY = {
    "1a": {8, 10, 12},
    "1b": {9, 11, 13},
    "1c": {front + offset for front in (11, 33, 55) for offset in (1, 3, 5)},
}
UNUSED = {"1b": {36, 37, 48, 49}, "1c": {91, 92, 114, 115, 94, 95, 117, 118}}
SOFTMAX_SHIFTS = {
    "1a": {6, 31, 45},
    "1b": {7},
    "1c": {10, 32, 54},
    "2a": {5},
    "2d": {7, 33},
    "2e": {7, 45},
    "3a": {8, 22},
    "4a": {7, 19},
    "4d": {7, 35},
    "4e": {7, 49},
}


def gradients(model_id):
    """Gradients in published order on a random batch, and the model."""
    torch.manual_seed(12)
    model = build_model(model_id, 2, 100, 8).eval()
    y = model(torch.rand(4, 2, 100))
    (y - torch.rand(4, 8)).square().mean().backward()
    return model, published_tensors(model)


@pytest.mark.parametrize("model_id", MODELS)
def test_only_the_known_parameters_are_dead(model_id):
    _, parameters = gradients(model_id)
    dead = IMAGINARY.get(model_id, set()) | UNUSED.get(model_id, set())
    shifts = SOFTMAX_SHIFTS.get(model_id, set())
    largest = max(p.grad.abs().max() for p in parameters if p.grad is not None)
    for position, parameter in enumerate(parameters):
        if not parameter.requires_grad:
            assert parameter.grad is None and position == 0
        elif position in dead:
            assert parameter.grad is None or not parameter.grad.any(), position
        elif position in shifts:
            assert parameter.grad.abs().max() < 1e-7 * largest, position
        else:
            assert parameter.grad.abs().max() > 0, position


def test_outer_phases_of_1c_have_no_gradient():
    model, _ = gradients("1c")
    for parameter in (model.encoder.alpha, model.encoder.beta, model.encoder.gamma):
        along = parameter.detach().conj() * parameter.grad
        assert along.real.abs() > 1e-7
        assert along.imag.abs() < 1e-6 * along.abs()


def test_phase_and_scale_of_the_combination_of_2a_have_no_gradient():
    model, _ = gradients("2a")
    c = model.encoder.coefficients
    projection = (c.detach().conj() * c.grad).sum()
    assert projection.abs() < 1e-6 * c.grad.abs().sum()


@pytest.mark.parametrize("model_id", ["2d", "2e", "4d", "4e"])
def test_phase_and_scale_of_superposed_states_have_no_gradient(model_id):
    model, _ = gradients(model_id)
    for triple in model.encoder.features.coefficients:
        parts = [getattr(triple, name) for name in triple.NAMES]
        value = torch.view_as_complex(torch.stack([p.detach() for p in parts]).view(3, 2))
        gradient = torch.view_as_complex(torch.stack([p.grad for p in parts]).view(3, 2))
        assert (value.conj() * gradient).sum().abs() < 1e-5 * gradient.abs().sum()
