"""All backends of the selective scan against its definition: values, gradients, odd shapes, odd values."""

import logging
import os
import subprocess
import sys

import pytest
import torch
from backends import fresh_verdicts

from qablate.errors import QablateError
from qablate.quantum import Circuit, embedding, expectations
from qablate.quantum import compiled as compiled_circuits
from qablate.ssm import compiled, selective_scan

NAMES = ("inputs", "step", "A", "B", "C", "initial")
TOLERANCE = {torch.float64: 1e-10, torch.float32: 1e-5}
SHAPES = [  # b, l, e, n
    (2, 7, 5, 3),
    (1, 1, 1, 1),
    (3, 1, 16, 16),
    (2, 32, 16, 4),
    (2, 33, 17, 16),
    (1, 100, 40, 1),
    (5, 64, 8, 20),
    (0, 4, 3, 2),
    (2, 0, 3, 2),
]


def arguments(b, length, e, n, dtype=torch.float64):
    """Arguments whose numbers float32 holds exactly, so that both precisions see the same ones."""
    generator = torch.Generator().manual_seed(length)

    def normal(*shape):
        return torch.randn(shape, generator=generator)

    step = torch.nn.functional.softplus(normal(b, length, e) - 2)
    decay = -torch.exp(normal(e, n))
    tensors = (normal(b, length, e), step, decay, normal(b, length, n), normal(b, length, n), normal(b, e, n))
    return [tensor.to(dtype).requires_grad_() for tensor in tensors]


def run(backend, tensors):
    """y, final state and the gradients of a loss that reads both."""
    y, final = selective_scan(*tensors, backend=backend)
    loss = y.sin().sum() + final.cos().sum()
    gradients = torch.autograd.grad(loss, tensors, allow_unused=True, materialize_grads=True)
    return dict(zip(("y", "final", *NAMES), (y.detach(), final.detach(), *gradients), strict=True))


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("backend", ["reference", "torch", "numba", "auto"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_values_and_gradients_agree_with_the_definition(shape, backend, dtype):
    expected = run("reference", arguments(*shape))
    got = run(backend, arguments(*shape, dtype=dtype))
    for name, tensor in got.items():
        assert tensor.shape == expected[name].shape and tensor.dtype == dtype
        scale = expected[name].abs().max() if tensor.numel() else 1.0
        torch.testing.assert_close(
            tensor.double(), expected[name], rtol=0, atol=float(TOLERANCE[dtype] * scale), msg=name
        )


def test_expanded_and_strided_arguments():
    inputs, step, A, B, C, initial = (tensor.detach() for tensor in arguments(3, 40, 6, 4))
    shared = A[0].clone().requires_grad_()  # one decay for all channels
    strided = [torch.stack((tensor, tensor), -1)[..., 0] for tensor in (inputs, step)]
    swapped = [tensor.transpose(1, 2).contiguous().transpose(1, 2) for tensor in (B, C)]
    y, _ = selective_scan(*strided, shared.expand(6, 4), *swapped, initial, "numba")
    expected, _ = selective_scan(inputs, step, shared.expand(6, 4), B, C, initial, "reference")
    torch.testing.assert_close(y, expected, rtol=0, atol=1e-12)
    (got,) = torch.autograd.grad(y.sum(), shared)
    (wanted,) = torch.autograd.grad(expected.sum(), shared)
    torch.testing.assert_close(got, wanted, rtol=1e-12, atol=0)


@pytest.mark.parametrize("argument", range(6), ids=NAMES)
@pytest.mark.parametrize("backend", ["reference", "torch", "numba"])
def test_nan_stays_visible(backend, argument):
    tensors = [tensor.detach().clone() for tensor in arguments(2, 40, 5, 3, dtype=torch.float32)]
    tensors[argument].view(-1)[0] = torch.nan
    clean, _ = selective_scan(*arguments(2, 40, 5, 3, dtype=torch.float32), backend=backend)
    y, final = selective_scan(*tensors, backend=backend)
    assert y[0, 0, 0].isnan()
    if NAMES[argument] not in ("C",):
        assert final.isnan().any()
    if NAMES[argument] != "A":  # the other sample does not see it
        assert torch.equal(y[1], clean[1])


def test_bits_do_not_depend_on_the_place_in_the_batch():
    tensors = [tensor.detach() for tensor in arguments(5, 37, 20, 4, dtype=torch.float32)]
    flipped = [tensor if i == 2 else tensor.flip(0) for i, tensor in enumerate(tensors)]
    for straight, reverse in zip(
        selective_scan(*tensors, backend="numba"), selective_scan(*flipped, backend="numba"), strict=True
    ):
        assert torch.equal(straight, reverse.flip(0))


def test_memory_kept_for_the_backward_pass():
    """At length 1000 the states between chunks, 17 MB, besides the arguments themselves."""
    tensors = arguments(32, 1000, 256, 16, dtype=torch.float32)
    kept = {}

    def pack(tensor):
        kept[tensor.data_ptr()] = tensor.nbytes
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        selective_scan(*tensors, backend="numba")
    for tensor in tensors:
        kept.pop(tensor.data_ptr(), None)
    assert sum(kept.values()) < 20e6


def test_shapes_and_names_are_checked():
    given = dict(zip(NAMES, arguments(2, 5, 3, 2), strict=True))
    for change, message in (
        ({"step": given["step"][:, 1:]}, r"step must have shape \(2, 5, 3\), got \(2, 4, 3\)"),
        ({"initial": given["initial"][:1]}, r"initial must have shape \(2, 3, 2\)"),
        ({"B": given["B"].float()}, "B is torch.float32, inputs are torch.float64"),
        ({"C": given["C"].to("meta")}, "C is on meta, inputs are on cpu"),
        ({"inputs": given["inputs"][0]}, "inputs must be"),
        ({"backend": "cuda"}, "unknown backend 'cuda'; allowed: auto, reference"),
    ):
        with pytest.raises(QablateError, match=message):
            selective_scan(**{**given, **change})


@pytest.mark.parametrize(("module", "name", "compute"), [
    (compiled, "scan", lambda backend: selective_scan(*arguments(2, 5, 3, 2), backend=backend)[0]),
    (compiled_circuits, "simulate",
     lambda backend: expectations(Circuit(2, embedding(2)), torch.ones(2, 2).double(), backend)),
], ids=["scans", "circuits"])
def test_kernels_that_fail_their_check_do_not_serve(monkeypatch, caplog, module, name, compute):
    kernels, expected = getattr(module, name), compute("torch")

    def wrong(*given):
        found = kernels(*given)
        return found * 1.001 if torch.is_tensor(found) else (found[0] * 1.001, *found[1:])

    monkeypatch.setattr(module, name, wrong)
    with fresh_verdicts(), caplog.at_level(logging.WARNING):
        for _ in range(2):
            assert torch.equal(compute("auto"), expected)
        with pytest.raises(QablateError, match="numba cannot be used here: .* deviates"):
            compute("numba")
    (line,) = (record.getMessage() for record in caplog.records)
    assert "plain torch serves torch.float64 instead of numba" in line and " deviates by" in line


def test_half_precision_is_served_by_plain_torch(caplog):
    tensors = [tensor.detach().bfloat16() for tensor in arguments(2, 5, 3, 2)]
    with fresh_verdicts():
        assert selective_scan(*tensors)[0].dtype == torch.bfloat16
    assert "only float32 and float64" in caplog.text


MANY_STATES = """
import torch
from qablate.ssm import scan_name, selective_scan

cpu = torch.device("cpu")
assert [scan_name("triton", cpu, n) for n in (64, 65)] == ["triton", "torch"]
arguments = [torch.rand(shape) for shape in ((1, 3, 2), (1, 3, 2), (2, 65), (1, 3, 65), (1, 3, 65))]
for triton, plain in zip(*(selective_scan(*arguments, backend=name) for name in ("triton", "torch")), strict=True):
    assert torch.equal(triton, plain)
"""


def test_more_states_than_a_warp_holds_run_in_plain_torch_which_is_said_and_recorded():
    pytest.importorskip("triton")
    done = subprocess.run([sys.executable, "-c", MANY_STATES], capture_output=True, text=True,
                          env={**os.environ, "TRITON_INTERPRET": "1"})
    assert done.returncode == 0, done.stderr
    assert "scans of 65 states: plain torch serves instead of triton" in done.stderr
