"""Whole models give the same values and gradients whatever simulates the circuits and runs the scan."""

import pytest
import torch

from qablate.catalog import MODELS
from qablate.errors import QablateError
from qablate.models import ModelSettings, build_model
from qablate.quantum import BACKEND_NAMES, resolve_backend
from qablate.ssm import SCAN_BACKENDS

SMALL = {"n_qubits": 4, "d_model": 16, "d_state": 4, "dropout": 0.0}
AGREEMENT = {torch.float64: 1e-10, torch.float32: 1e-5}


def usable_backends():
    """Circuit backends that can serve the CPU here, and the scan that goes with each."""
    for name in BACKEND_NAMES:
        try:
            resolve_backend(name, torch.device("cpu"))
        except QablateError:
            continue
        yield name, name if name in SCAN_BACKENDS else "torch"


def outputs_and_gradients(model_id, dtype, backend, scan_backend):
    torch.manual_seed(11)
    settings = ModelSettings(**SMALL, backend=backend, scan_backend=scan_backend)
    model = build_model(model_id, 3, 37, 2, settings).to(dtype)
    x = torch.rand(3, 3, 37, generator=torch.Generator().manual_seed(12)).to(dtype)
    y = model(x)
    (y * torch.cos(torch.arange(6, dtype=dtype)).view(3, 2)).sum().backward()
    return [y.detach()] + [p.grad for p in model.parameters() if p.grad is not None]


@pytest.mark.parametrize("dtype", AGREEMENT)
@pytest.mark.parametrize("model_id", MODELS)
def test_backends_agree_through_a_whole_model(model_id, dtype):
    expected = outputs_and_gradients(model_id, dtype, "reference", "reference")
    for backend, scan_backend in usable_backends():
        if backend == "reference":
            continue
        found = outputs_and_gradients(model_id, dtype, backend, scan_backend)
        assert len(found) == len(expected)
        for one, other in zip(found, expected, strict=True):
            assert (one - other).abs().max() <= AGREEMENT[dtype] * (1 + other.abs().max()), (backend, one.shape)


def test_complex_parameters_follow_the_precision():
    for model_id in ("1c", "2a"):
        gradients = outputs_and_gradients(model_id, torch.float64, "torch", "torch")
        assert torch.complex128 in {g.dtype for g in gradients} and torch.complex64 not in {g.dtype for g in gradients}
