"""What each model can and cannot see, at fresh weights."""

import pytest
import torch
import torch.nn.functional as F
from goldens import PUBLISHED

from qablate.catalog import MODELS
from qablate.models import build_model

LENGTH = 128
CONVOLVED = ("4a", "4d", "4e")
CHUNK_BLIND = ("2d", "2e")
ORDER_BLIND = ("1a", "1b", "1c", "2a", "2d", "2e")


def fresh_model(model_id, length=LENGTH):
    torch.manual_seed(2024)
    return build_model(model_id, 2, length, 8).eval()


def random_inputs(length=LENGTH, seed=1):
    return torch.rand(4, 2, length, generator=torch.Generator().manual_seed(seed))


def chunk_of(model_id):
    return MODELS[model_id].chunk if MODELS[model_id].chunk > 1 else 32


def permuted_chunks(x, chunk):
    """Whole chunks in another order."""
    order = torch.randperm(LENGTH // chunk, generator=torch.Generator().manual_seed(3))
    return x.unflatten(-1, (-1, chunk))[:, :, order].flatten(-2)


def permuted_steps(x, chunk):
    """The steps of every chunk in another order."""
    order = torch.randperm(chunk, generator=torch.Generator().manual_seed(4))
    return x.unflatten(-1, (-1, chunk))[..., order].flatten(-2)


def change(model, x, other):
    """Largest change of the outputs."""
    with torch.no_grad():
        return (model(x) - model(other)).abs().max().item()


@pytest.mark.parametrize("model_id", PUBLISHED)
def test_order_of_chunks(model_id):
    model, x = fresh_model(model_id), random_inputs()
    moved = change(model, x, permuted_chunks(x, chunk_of(model_id)))
    assert change(model, x, random_inputs(seed=2)) > 1e-4
    if model_id in CHUNK_BLIND:
        assert moved < 1e-6
    elif model_id == "1c":
        assert moved < 1e-4
    else:
        assert moved > 1e-5


@pytest.mark.parametrize("model_id", ORDER_BLIND)
def test_order_of_steps_inside_chunks_is_lost(model_id):
    x = random_inputs()
    assert change(fresh_model(model_id), x, permuted_steps(x, chunk_of(model_id))) < 1e-6


@pytest.mark.parametrize("model_id", CONVOLVED)
def test_only_the_outer_taps_of_the_convolution_see_order(model_id):
    model, x = fresh_model(model_id), random_inputs()
    assert change(model, x, permuted_steps(x, 16)) > 1e-6
    with torch.no_grad():
        model.tokens.convolution.weight[:, :, [0, 2]] = 0
    for permuted in (permuted_steps(x, 16), permuted_chunks(x, 16)):
        assert change(model, x, permuted) < 1e-6


def test_attention_equals_its_formula_and_its_dropout_masks():
    model = fresh_model("3a", length=20)
    block, x = model.mixer.blocks[0], torch.randn(2, 20, 128, generator=torch.Generator().manual_seed(8))
    for training in (False, True):
        block.train(training)
        torch.manual_seed(9)
        found = block(x)
        torch.manual_seed(9)
        h = block.attention_norm(x)
        q, k, v = (
            map_(h).unflatten(-1, (4, 32)).transpose(1, 2) for map_ in (block.query, block.key, block.value)
        )
        weights = F.dropout((q @ k.mT / 32**0.5).softmax(-1), 0.1, training)
        y = x + F.dropout(block.output((weights @ v).transpose(1, 2).flatten(2)), 0.1, training)
        gate, value = block.gate_input(block.gate_norm(y)).chunk(2, -1)
        expected = y + F.dropout(block.gate_output(F.silu(gate) * value), 0.1, training)
        assert (found - expected).abs().max() < 1e-5


def test_1a_draws_its_first_dropout_mask_in_the_order_of_the_input():
    tokens = fresh_model("1a").tokens.train()
    x = random_inputs()
    torch.manual_seed(10)
    found = tokens(x)
    torch.manual_seed(10)
    assert torch.allclose(found, F.silu(tokens.map(F.dropout(x, 0.1).transpose(1, 2))))


@pytest.mark.parametrize("model_id", ["1b", "1c", "3b", "3c"])
def test_blocks_without_normalisation_overflow(model_id):
    """Inputs a hundred times larger: 3b and 3c normalise them; 1b and 1c, whose norms are never called, overflow."""
    model = fresh_model(model_id, 128)
    inputs = 100 * torch.randn(2, 8, 128, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        mixed = model.mixer(inputs)
        normed = model.norm(mixed)
    assert bool(mixed.abs().max() > 1e20) == (model_id in ("1b", "1c"))
    assert bool(normed.isfinite().all()) == (model_id in ("3b", "3c"))
    assert F.layer_norm(mixed.double(), (128,)).isfinite().all()    # the overflow is of float32
