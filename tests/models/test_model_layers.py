"""Layers against their plain formulas, values and gradients."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch.autograd import gradcheck

from qablate import selfcheck
from qablate.models import fused
from qablate.models.layers import ChunkPool, ConvolvedTokens, RMSNorm, SoftmaxPool
from qablate.models.mixers import sinusoidal_table
from qablate.models.sizes import ModelSettings, Sizes


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


@pytest.mark.parametrize("length", [1, 2, 9])
def test_convolved_tokens_are_those_of_the_convolution(length):
    layer, x = ConvolvedTokens(Sizes(3, length, 1, 1, ModelSettings(d_model=8))).double(), random(2, 3, length)
    expected = layer.norm(layer.convolution(x).mT)
    assert torch.allclose(layer(x), expected, atol=1e-12)
    assert gradcheck(layer, (x,))


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


def test_rows_without_a_number(served):
    x = random(0, 3, 8)
    assert fused.gated(x, x).shape == x.shape
    assert fused.rms_norm(x, random(8), 1e-5).shape == x.shape


def test_nan_stays_visible(served):
    x = random(2, 3, 8).detach()
    x[1, 1, 2] = math.nan
    for y in (fused.gated(x, x), fused.rms_norm(x, torch.ones(8, dtype=x.dtype), 1e-5)):
        assert y[1, 1].isnan().any() and not y[0].isnan().any()


@pytest.mark.parametrize("length", [8, 9, 3])
def test_chunk_pool_is_a_softmax_over_all_slots_padded_ones_included(length):
    pool = ChunkPool(3, 5, chunk=4).double()
    steps = random(2, length, 3)
    padded = F.pad(steps, (0, 0, 0, -length % 4)).view(2, -1, 4, 3)
    expected = (pool.score(torch.tanh(pool.hidden(padded))).softmax(2) * padded).sum(2)
    assert torch.allclose(pool(steps), expected, atol=1e-12)


def test_softmax_pool():
    pool, tokens = SoftmaxPool(3, 5).double(), random(2, 7, 3)
    expected = (pool.score(torch.tanh(pool.hidden(tokens))).softmax(1) * tokens).sum(1)
    assert torch.allclose(pool(tokens), expected, atol=1e-12)


@pytest.mark.parametrize("width", [6, 16])
def test_rms_norm(served, width):
    norm, x = RMSNorm(width).double(), random(4, width)
    assert torch.allclose(norm(x), x / (x.square().mean(-1, keepdim=True) + 1e-5).sqrt(), atol=1e-12)
    assert gradcheck(lambda x, weight: fused.rms_norm(x, weight, 1e-5), (x, random(width)))


def test_sinusoidal_table():
    table = sinusoidal_table(50, 128)
    assert table.shape == (1, 50, 128)
    for t, i in ((0, 0), (7, 0), (49, 5), (31, 63)):
        phase = t * math.exp(-2 * i * math.log(10000) / 128)
        assert table[0, t, 2 * i].item() == pytest.approx(math.sin(phase), abs=1e-5)
        assert table[0, t, 2 * i + 1].item() == pytest.approx(math.cos(phase), abs=1e-5)
