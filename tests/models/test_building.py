"""Building models: settings, seeds, layouts, initial weights, precision."""

import math

import pytest
import torch
from goldens import PUBLISHED
from torch import nn

from qablate.catalog import MODELS
from qablate.errors import QablateError
from qablate.models import ModelSettings, build_model

SMALL = ModelSettings(n_qubits=3, n_layers=1, d_model=16, d_state=4, n_heads=2)


def small_model(model_id, **changes):
    torch.manual_seed(0)
    return build_model(model_id, 2, 40, 3, ModelSettings(**{**SMALL.__dict__, **changes}))


@pytest.mark.parametrize("model_id", MODELS)
def test_batch_of_one_equals_its_row_of_a_batch(model_id):
    model = small_model(model_id).eval()
    x = torch.rand(3, 2, 40, generator=torch.Generator().manual_seed(1))
    assert torch.allclose(model(x[1:2]), model(x)[1:2], atol=1e-6)


@pytest.mark.parametrize("model_id", MODELS)
def test_dropout_acts_in_training_only(model_id):
    model = small_model(model_id, dropout=0.5)
    x = torch.rand(2, 2, 40)
    assert not torch.allclose(model(x), model(x))
    model.eval()
    assert torch.equal(model(x), model(x))


@pytest.mark.parametrize("shape", [(2, 40, 2), (2, 2, 41), (2, 3, 40), (2, 40), (1, 2, 2, 40)])
def test_another_layout_is_an_error(shape):
    with pytest.raises(QablateError, match=r"model 3b: input has shape .* \(any, 2, 40\)"):
        small_model("3b")(torch.rand(shape))
    with pytest.raises(QablateError, match="model 1b: input is torch.float64, must be torch.float32"):
        small_model("1b")(torch.rand(2, 2, 40, dtype=torch.float64))


@pytest.mark.parametrize("model_id", ["1c", "2a"])
def test_complex_parameters_follow_the_precision(model_id):
    model = small_model(model_id).to(torch.float64)
    assert {p.dtype for p in model.parameters()} == {torch.float64, torch.complex128}
    assert {p.dtype for p in model.float().parameters()} == {torch.float32, torch.complex64}


def test_an_unknown_model_is_an_error_that_lists_the_known_ones():
    with pytest.raises(QablateError, match="'2b'.*1a, 1b, 1c, 2a"):
        build_model("2b", 2, 40, 1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"d_model": 20}, "d_model is 20"),
        ({"d_model": 24, "n_heads": 5}, "n_heads"),
        ({"dropout": 1.0}, "dropout is 1.0"),
        ({"chunk": 0}, "chunk is 0"),
        ({"n_qubits": 1}, "n_qubits is 1"),
        ({"d_state": 0}, "d_state is 0"),
    ],
)
def test_impossible_settings_are_errors(change, message):
    with pytest.raises(QablateError, match=message):
        ModelSettings(**change)


@pytest.mark.parametrize("shape", [(0, 40, 1), (2, 0, 1), (2, 40, 0)])
def test_impossible_shapes_are_errors(shape):
    with pytest.raises(QablateError, match="is 0, must be 1 or more"):
        build_model("2d", *shape)


def assert_uniform(values, low, high):
    """All values inside the interval, mean and spread within six standard errors of a uniform distribution."""
    values, width = values.detach().double().flatten(), high - low
    slack = 6 * width / math.sqrt(12 * values.numel())
    assert low - 1e-6 <= values.min() and values.max() <= high + 1e-6
    assert abs(values.mean() - (low + high) / 2) < slack
    assert values.numel() == 1 or abs(values.std() - width / math.sqrt(12)) < slack


@pytest.mark.parametrize("model_id", MODELS)
def test_linear_maps_start_uniform_in_the_inverse_root_of_their_fan_in(model_id):
    torch.manual_seed(5)
    model = build_model(model_id, 14, 50, 2)
    checked = 0
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear | nn.Conv1d):
            bound = 1 / math.sqrt(module.weight[0].numel())
            assert_uniform(module.weight, -bound, bound)
            if module.bias is not None and not name.endswith((".step",)):
                assert_uniform(module.bias, -bound, bound)
            checked += 1
    assert checked >= (6 if model_id in PUBLISHED else 1)


@pytest.mark.parametrize(("model_id", "prefix"), [("1b", "mixer.blocks.0"), ("3b", "mixer.0"), ("3c", "mixer.1")])
def test_initial_values_of_the_state_space_blocks(model_id, prefix):
    torch.manual_seed(6)
    block = build_model(model_id, 2, 100, 1).get_submodule(prefix)
    core = getattr(block, "core", block)
    assert_uniform(block.convolution.weight, -0.5, 0.5)
    assert_uniform(block.convolution.bias, -0.5, 0.5)
    rates = torch.arange(1.0, 17.0).expand_as(core.A_log)
    assert torch.allclose(core.A_log.exp(), rates)
    assert torch.equal(core.skip, torch.ones(256))
    step = nn.functional.softplus(core.step.bias.double())
    assert_uniform(step.log(), math.log(1e-3), math.log(1e-1))


def test_initial_values_of_coefficients_and_angles():
    torch.manual_seed(7)
    models = {name: build_model(name, 2, 1000, 1) for name in ("1a", "1b", "1c", "2a", "2d", "4e")}
    for name, low, high in (("1a", 0.0, 1.0), ("1b", 0.25, 0.75), ("2d", 0.57735, 0.57736)):
        features = models[name].encoder.features
        triple = features.coefficients() if name != "2d" else features.coefficients[0]()
        assert torch.equal(triple.imag, torch.zeros(3))
        assert ((triple.real >= low) & (triple.real <= high)).all()
    assert_uniform(torch.cat(list(models["1a"].encoder.features.base_angles)), 0, 2 * math.pi)
    assert_uniform(torch.view_as_real(models["2a"].encoder.coefficients.detach()), 0, 1)
    assert models["2a"].encoder.final_angles.std().item() == pytest.approx(0.1, rel=0.5)
    block = models["1c"].mixer[0]
    assert [block.forward_weight.item(), block.backward_weight.item(), block.diagonal_weight.item()] == [1, 1, 0.5]
    assert models["4e"].encoder.features.coefficients[1].alpha_re.shape == ()
    assert models["1b"].encoder.features.coefficients.alpha_re.shape == (1,)
