"""Dropout is PyTorch's to the bit, whichever code draws the mask."""

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from qablate import selfcheck
from qablate.models import ModelSettings, build_model, fused
from qablate.models.fused import Dropout


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


@settings(max_examples=150, deadline=None)
@given(
    n=st.integers(1, 2000), p=st.floats(0, 1, exclude_min=True, exclude_max=True), words=st.integers(0, 1300),
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


def test_nothing_is_drawn_in_evaluation_or_at_zero():
    before, x = torch.get_rng_state(), torch.rand(50, generator=torch.Generator().manual_seed(1))
    assert Dropout(0.5).eval()(x) is x
    assert torch.equal(Dropout(0.0).train()(x), x)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("model_id", ["1a", "2a", "2d", "3a"])
def test_a_model_trains_on_the_same_bits_with_and_without_the_kernels(model_id, monkeypatch):
    def gradients():
        torch.manual_seed(11)
        model = build_model(model_id, 2, 40, 3, ModelSettings(n_qubits=3, d_model=16, n_heads=2, dropout=0.2)).train()
        model(torch.linspace(0, 1, 8 * 80).view(8, 2, 40)).square().sum().backward()
        return [weights.grad for weights in model.parameters() if weights.grad is not None]

    fast = gradients()
    monkeypatch.setattr(fused, "SMALLEST_DROPOUT", math.inf)
    assert all(torch.equal(a, b) for a, b in zip(fast, gradients(), strict=True))


def test_another_stream_of_torch_is_noticed(monkeypatch):
    plain = F.dropout
    monkeypatch.setattr(fused.F, "dropout", lambda x, p: plain(x.flip(0), p))
    with pytest.raises(selfcheck.SelfCheckError, match="dropout of"):
        fused.check_dropout(torch.float32)
