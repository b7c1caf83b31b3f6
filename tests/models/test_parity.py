"""Outputs and gradients agree with the published implementation, for every model, case and backend."""

import pytest
import torch
from goldens import golden_cases, golden_inputs, golden_model, outputs_and_gradients, sum_and_norm

from qablate.catalog import MODELS
from qablate.models import ModelSettings

TOLERANCE = 5e-6


def assert_parity(model_id, case, settings):
    """Compare outputs, and sum and norm of every tensor's gradient."""
    model = golden_model(model_id, case, settings)
    y, gradients = outputs_and_gradients(model, golden_inputs(case))
    assert (y - torch.tensor(case["y"])).abs().max() < TOLERANCE
    for position, (entry, gradient) in enumerate(zip(case["tensors"], gradients, strict=True)):
        if entry.get("frozen"):
            assert gradient is None
            continue
        total, norm = sum_and_norm(gradient)
        allowed = 1e-4 * entry["grad_norm"] + TOLERANCE
        assert abs(norm - entry["grad_norm"]) < allowed, (position, norm, entry)
        assert abs(total - entry["grad_sum"]) < allowed, (position, total, entry)


@pytest.mark.parametrize("index", range(4))
@pytest.mark.parametrize("model_id", MODELS)
def test_parity_with_the_published_implementation(model_id, index):
    case = golden_cases()[model_id][index]
    assert_parity(model_id, case, ModelSettings(backend="torch", scan_backend="torch"))
