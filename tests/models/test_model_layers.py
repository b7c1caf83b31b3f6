"""Layers against their plain formulas, values and gradients."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch.autograd import gradcheck

from qablate.models.attention import GatedHalves
from qablate.models.layers import ConvolvedTokens, DepthwiseConvolution, RMSNorm, sinusoidal_table
from qablate.models.pooling import ChunkPool, SoftmaxPool
from qablate.models.sizes import ModelSettings, Sizes


def random(*shape):
    generator = torch.Generator().manual_seed(math.prod(shape))
    return torch.randn(shape, dtype=torch.float64, generator=generator, requires_grad=True)


@pytest.mark.parametrize("length", [1, 2, 3, 4, 9])
def test_depthwise_convolution(length):
    x, taps, bias = random(2, length, 3), random(4, 3), random(3)
    plain = F.conv1d(F.pad(x.mT, (3, 0)), taps.t()[:, None], bias, groups=3).mT
    assert torch.allclose(DepthwiseConvolution.apply(x, taps, bias), plain, atol=1e-12)
    assert gradcheck(DepthwiseConvolution.apply, (x, taps, bias))


def test_depthwise_convolution_of_a_strided_view():
    wide, taps, bias = random(2, 5, 6), random(4, 3), random(3)
    assert gradcheck(lambda x: DepthwiseConvolution.apply(x[..., :3], taps, bias), (wide,))


@pytest.mark.parametrize("length", [1, 2, 9])
def test_convolved_tokens_are_those_of_the_convolution(length):
    layer, x = ConvolvedTokens(Sizes(3, length, 1, 1, ModelSettings(d_model=8))).double(), random(2, 3, length)
    expected = layer.norm(layer.convolution(x).mT)
    assert torch.allclose(layer(x), expected, atol=1e-12)
    assert gradcheck(layer, (x,))


def test_gated_halves():
    x = random(2, 3, 8)
    gate, value = x.chunk(2, dim=-1)
    assert torch.allclose(GatedHalves.apply(x), F.silu(gate) * value, atol=1e-12)
    assert gradcheck(GatedHalves.apply, (x,))


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


def test_rms_norm():
    norm, x = RMSNorm(6).double(), random(4, 6)
    assert torch.allclose(norm(x), x / (x.square().mean(-1, keepdim=True) + 1e-5).sqrt(), atol=1e-12)


def test_sinusoidal_table():
    table = sinusoidal_table(50, 128)
    assert table.shape == (1, 50, 128)
    for t, i in ((0, 0), (7, 0), (49, 5), (31, 63)):
        phase = t * math.exp(-2 * i * math.log(10000) / 128)
        assert table[0, t, 2 * i].item() == pytest.approx(math.sin(phase), abs=1e-5)
        assert table[0, t, 2 * i + 1].item() == pytest.approx(math.cos(phase), abs=1e-5)
