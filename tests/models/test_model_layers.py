"""Layers against their plain formulas, values and gradients; dropout is PyTorch's to the bit."""

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.autograd import gradcheck

from qablate import selfcheck
from qablate.models import fused
from qablate.models.fused import Dropout
from qablate.models.layers import RMSNorm


def random(*shape):
    generator = torch.Generator().manual_seed(math.prod(shape))
    return torch.randn(shape, dtype=torch.float64, generator=generator, requires_grad=True)


@pytest.fixture(params=["compiled", "plain"])
def served(request, monkeypatch):
    """Rows by the compiled kernels, and in plain torch."""
    if request.param == "plain":
        monkeypatch.setattr(fused, "serves", lambda *_: False)
    elif reason := selfcheck.obstacle(fused.check_rows, torch.float64):
        pytest.skip(reason)


@pytest.mark.parametrize("length", [1, 2, 3, 4, 9])
def test_causal_convolution(served, length):
    x, taps, bias = random(2, length, 6), random(4, 3), random(3)
    padded, windows = F.pad(x[..., 3:], (0, 0, 3, 0)), []
    for t in range(length):
        windows.append((padded[:, t : t + 4] * taps).sum(1) + bias)
    expected = F.silu(torch.stack(windows, 1))
    assert torch.allclose(fused.convolved(x[..., 3:], taps, bias), expected, atol=1e-12)
    assert gradcheck(lambda x, *rest: fused.convolved(x[..., 3:], *rest), (x, taps, bias))


@pytest.mark.parametrize("width", [1, 4, 17])
def test_gates(served, width):
    x = random(2, 3, 2 * width)
    gate, value = x.chunk(2, dim=-1)
    expected = gate * torch.sigmoid(gate) * value
    assert torch.allclose(fused.gated(gate, value), expected, atol=1e-12)
    assert gradcheck(lambda x: fused.gated(*x.chunk(2, dim=-1)), (x,))
    assert gradcheck(fused.gated, (gate.detach().requires_grad_(), random(2, 3, width)))
    transposed = random(width, 3).t()    # rows whose numbers are not neighbours
    assert gradcheck(fused.gated, (transposed, random(3, width)))


def test_rows_that_are_the_same_memory(served):
    """Expanded inputs, and the expanded gradients of sums over rows."""
    rows, grad = random(8), random(2, 8)[0].detach().expand(1, 6, 8)
    taps, bias = random(4, 8), random(1, 8)[0]
    pairs = {
        lambda x: fused.gated(x, x): lambda x: F.silu(x) * x,
        lambda x: fused.rms_norm(x, bias, 1e-5): lambda x: F.rms_norm(x, (8,), bias, 1e-5),
        lambda x: fused.convolved(x, taps, bias): lambda x: fused._plain_convolution(x, taps, bias),
    }
    for pair in pairs.items():
        found, expected = (torch.autograd.grad(function(rows.expand(1, 6, 8)), rows, grad) for function in pair)
        assert torch.allclose(*found, *expected, atol=1e-12)


def test_nan_stays_visible(served):
    x = random(2, 3, 8).detach()
    x[1, 1, 2] = math.nan
    for y in (fused.gated(x, x), fused.rms_norm(x, torch.ones(8, dtype=x.dtype), 1e-5)):
        assert y[1, 1].isnan().any() and not y[0].isnan().any()


@pytest.mark.parametrize("width", [6, 16])
def test_rms_norm(served, width):
    norm, x = RMSNorm(width).double(), random(4, width)
    assert torch.allclose(norm(x), x / (x.square().mean(-1, keepdim=True) + 1e-5).sqrt(), atol=1e-12)
    assert gradcheck(lambda x, weight: fused.rms_norm(x, weight, 1e-5), (x, random(width)))


@pytest.fixture(autouse=True)
def every_size(monkeypatch):
    monkeypatch.setattr(fused, "SMALLEST_DROPOUT", 1)


def drawn(layer, x, seed, words_before):
    """Output, gradient and the generator's next number, after some numbers that take one word each were drawn."""
    torch.manual_seed(seed)
    torch.randint(2, (words_before,))
    leaf = x.clone().requires_grad_()
    y = layer(leaf)
    y.backward(torch.linspace(-1, 1, x.numel(), dtype=x.dtype).view(x.shape))
    return y.detach(), leaf.grad, torch.get_rng_state(), torch.rand(3)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_kernels_serve_here(dtype):
    assert selfcheck.obstacle(fused.check_dropout, dtype) is None


@settings(max_examples=150)
@given(
    n=st.integers(1, 2000), p=st.floats(0, 1), words=st.integers(0, 1300),
    seed=st.integers(0, 2**63 - 1), dtype=st.sampled_from([torch.float32, torch.float64]),
)
def test_masks_gradients_and_generator_are_those_of_torch(n, p, words, seed, dtype):
    x = torch.linspace(-2, 3, n, dtype=dtype)
    ours = drawn(Dropout(p).train(), x, seed, words)
    torchs = drawn(lambda leaf: F.dropout(leaf, p), x, seed, words)
    assert all(torch.equal(a, b) for a, b in zip(ours, torchs, strict=True))


def test_what_is_not_finite_stays_visible():
    x = torch.full((500,), math.nan)
    x[::2] = math.inf
    ours, torchs = (drawn(layer, x, 7, 0)[0] for layer in (Dropout(0.3).train(), lambda leaf: F.dropout(leaf, 0.3)))
    assert torch.equal(ours.isnan(), torchs.isnan()) and torch.equal(ours.isinf(), torchs.isinf())


@pytest.mark.parametrize("layout", ["transposed", "strided", "empty", "float16"])
def test_other_layouts_and_types_are_left_to_torch(layout):
    x = torch.rand(40, 60, generator=torch.Generator().manual_seed(1))
    x = {"transposed": x.t(), "strided": x[:, ::2], "empty": x[:0], "float16": x.half()}[layout]
    torch.manual_seed(5)
    ours = Dropout(0.4).train()(x)
    torch.manual_seed(5)
    assert torch.equal(ours, F.dropout(x, 0.4))


def test_another_stream_of_torch_is_noticed(monkeypatch):
    plain = F.dropout
    monkeypatch.setattr(fused.F, "dropout", lambda x, p: plain(x.flip(0), p))
    with pytest.raises(selfcheck.SelfCheckError, match="dropout of"):
        fused.check_dropout(torch.float32)
