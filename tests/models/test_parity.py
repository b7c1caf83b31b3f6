"""Outputs, gradients and parameter counts agree with the published implementation, for every model and backend.

Tolerances: 5e-6 for outputs; 1e-4 of the norm + 5e-6 for the sum and the norm of each tensor's gradient. In double
precision every case holds them. In single precision 1c is allowed twice as much for its gradients: rounding grows in
its blocks, and the published figures, single precision themselves, already stand up to 3.5e-6 from the exact ones.
"""

import pytest
import torch
from backends import skip_if_unusable
from goldens import PUBLISHED, golden_cases, golden_inputs, golden_weights, published_tensors

from qablate.catalog import MODELS, TASKS
from qablate.goldens import published_parameters
from qablate.models import ModelSettings, build_model, parameter_counts
from qablate.ssm import SCAN_BACKENDS

TOLERANCE = 5e-6
ILL_CONDITIONED = {"1c": 2.0}


def assert_parity(model_id, index, backend, dtype=torch.float32):
    """Compare outputs, and sum and norm of every tensor's gradient."""
    case = golden_cases()[model_id][index]
    scan_backend = backend if backend in SCAN_BACKENDS else "torch"
    settings = ModelSettings(backend=backend, scan_backend=scan_backend)
    model = build_model(model_id, case["channels"], case["length"], case["outputs"], settings).eval()
    tensors = published_tensors(model)
    for parameter, weights in zip(tensors, golden_weights(case), strict=True):
        if weights is not None:
            assert (parameter.shape, parameter.is_complex()) == (weights.shape, weights.is_complex())
            parameter.data.copy_(weights)
    y = model.to(dtype)(golden_inputs(case).to(dtype))
    assert (y - torch.tensor(case["y"])).abs().max() < TOLERANCE
    (y.flatten() * torch.cos(torch.arange(y.numel(), dtype=dtype))).sum().backward()    # the loss of the goldens
    slack = ILL_CONDITIONED.get(model_id, 1.0) if dtype == torch.float32 else 1.0
    for position, (entry, parameter) in enumerate(zip(case["tensors"], tensors, strict=True)):
        if entry.get("frozen"):
            assert parameter.grad is None
            continue
        gradient = torch.zeros(1) if parameter.grad is None else parameter.grad
        parts = torch.view_as_real(gradient) if gradient.is_complex() else gradient    # a complex number counts as two
        total, norm = float(parts.double().sum()), float(parts.double().norm())
        allowed = slack * (1e-4 * entry["grad_norm"] + TOLERANCE)
        assert abs(norm - entry["grad_norm"]) < allowed, (position, norm, entry)
        assert abs(total - entry["grad_sum"]) < allowed, (position, total, entry)


@pytest.mark.parametrize("index", range(4))
@pytest.mark.parametrize("model_id", PUBLISHED)
@pytest.mark.parametrize(("backend", "dtype"), [*((name, torch.float32) for name in ("reference", "torch", "numba")),
                                                ("torch", torch.float64)])
def test_parity_with_the_published_implementation(backend, dtype, model_id, index):
    skip_if_unusable(backend)
    assert_parity(model_id, index, backend, dtype)


@pytest.mark.parametrize("index", [1, *(pytest.param(index, marks=pytest.mark.full) for index in (0, 2, 3))])
@pytest.mark.parametrize("model_id", [name for name in PUBLISHED if MODELS[name].group != 3])
def test_parity_with_pennylane_circuits(model_id, index):
    assert_parity(model_id, index, "pennylane")


FROZEN = {"1a": 16, "3a": 1}    # steps per token: positions are a parameter without gradient


@pytest.mark.parametrize("model_id", sorted({model for model, _, _ in published_parameters()}))
def test_counts_of_the_published_study(model_id):
    for (model, task, length), total in published_parameters().items():
        if model == model_id:
            info = TASKS[task]
            shape = (info.n_channels(info.parameters), length, info.n_outputs(info.parameters))
            frozen = 128 * -(-length // FROZEN[model]) if model in FROZEN else 0
            assert parameter_counts(build_model(model, *shape)) == (total, total - frozen), (task, length)


def test_every_model_of_every_task_has_a_published_count():
    assert len(published_parameters()) == 12 * 11 and {model for model, _, _ in published_parameters()} <= set(MODELS)
