"""Building models: settings, layouts, initial weights, precision; kinds of circuit, untrained angles, hand-over."""

import math
import re
from pathlib import Path

import pytest
import torch
from goldens import PUBLISHED
from torch import nn

from qablate.catalog import MODELS
from qablate.errors import QablateError
from qablate.models import ModelSettings, build_model, parameter_counts, published
from qablate.quantum import KINDS
from qablate.quantum.kinds import ObservedCircuits

CIRCUIT_MODELS = [name for name, info in MODELS.items() if info.quantum_features or info.quantum_mixing]
SMALL = {"n_qubits": 3, "n_layers": 1, "d_model": 16, "d_state": 4, "n_heads": 2, "dropout": 0.0}
SHAPE = (2, 40, 3)


def small_model(model_id, seed=0, **changes):
    torch.manual_seed(seed)
    return build_model(model_id, *SHAPE, ModelSettings(**{**SMALL, **changes}))


def without_composition():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(published, "COMPOSITIONS", {})
        small_model("1b")


def untrained(model):
    return {name for name, parameter in model.named_parameters() if not parameter.requires_grad}


def gradients(model):
    x = torch.rand(4, 2, 40, generator=torch.Generator().manual_seed(1)).to(next(model.parameters()).dtype)
    y = model(x)
    assert y.shape == (4, 3)
    (y * torch.arange(12, dtype=y.dtype).view(4, 3).cos()).sum().backward()
    return y.detach(), {name: p.grad for name, p in model.named_parameters()}


@pytest.mark.parametrize("model_id", MODELS)
@pytest.mark.parametrize(("setting", "value"), [("n_layers", 2), ("d_state", 8), ("d_model", 24), ("chunk", 4)])
def test_a_setting_changes_the_outputs_or_the_catalog_says_why_not(model_id, setting, value):
    same = torch.equal(gradients(small_model(model_id, **{setting: value}))[0], gradients(small_model(model_id))[0])
    assert same == bool(MODELS[model_id].ignores(setting))


@pytest.mark.parametrize("model_id", MODELS)
def test_dropout_acts_in_training_only(model_id):
    model = small_model(model_id, dropout=0.5)
    x = torch.rand(2, 2, 40)
    assert not torch.allclose(model(x), model(x))
    model.eval()
    assert torch.equal(model(x), model(x))


@pytest.mark.parametrize(("attempt", "message"), [
    (lambda: build_model("2b", 2, 40, 1), "'2b'.*1a, 1b, 1c, 2a"),
    (lambda: build_model("1b-tanh", 2, 40, 1), "model 1b-tanh: what its tags change is in the settings of a study"),
    (without_composition, "model 1b: no entry in COMPOSITIONS"),
    (lambda: build_model("2d", 2, 0, 1), "length is 0, must be 1 or more"),
    (lambda: small_model("3a", circuit="unentangled"), "model 3a: circuit is unentangled, but 3a has no circuit"),
    (lambda: small_model("3b", train_angles=False), "model 3b: train_angles is False, but 3b has no circuit"),
    (lambda: small_model("2d", hand_over=False), "model 2d: hand_over is False, but in 2d no circuit hands"),
    (lambda: ModelSettings(d_model=20), "model settings: d_model is 20"),
    (lambda: ModelSettings(d_model=24, n_heads=5), "model settings: .*n_heads"),
    (lambda: ModelSettings(dropout=1.0), "model settings: dropout is 1.0"),
    (lambda: ModelSettings(chunk=0), "model settings: chunk is 0"),
    (lambda: ModelSettings(n_qubits=1), "model settings: n_qubits is 1"),
    (lambda: ModelSettings(circuit="tan"), "model settings: circuit: unknown kind .* 'tan': did you mean 'tanh'"),
    (lambda: small_model("1b")(torch.rand(2, 2, 40).double()),
     "model 1b: input is torch.float64, must be torch.float32"),
    *((lambda shape=shape: small_model("3b")(torch.rand(shape)), r"model 3b: input has shape .* \(any, 2, 40\)")
      for shape in ((2, 40, 2), (2, 2, 41), (2, 3, 40), (2, 40), (1, 2, 2, 40))),
])
def test_what_cannot_be_built_or_read_is_an_error(attempt, message):
    with pytest.raises(QablateError, match=message):
        attempt()


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("model_id", MODELS)
def test_the_smallest_inputs_and_a_batch_of_none(model_id):
    model = build_model(model_id, 1, 1, 1, ModelSettings(**SMALL))
    for n in (0, 1, 2):
        assert model(torch.rand(n, 1, 1)).shape == (n, 1)


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


@pytest.mark.parametrize("model_id", CIRCUIT_MODELS)
def test_counts_and_initial_weights_are_those_of_exact(model_id):
    torch.manual_seed(0)
    base = build_model(model_id, 2, 100, 8)
    for kind in KINDS:
        torch.manual_seed(0)
        model = build_model(model_id, 2, 100, 8, ModelSettings(circuit=kind))
        assert parameter_counts(model) == parameter_counts(base)
        for (name, one), (other_name, other) in zip(base.named_parameters(), model.named_parameters(), strict=True):
            assert name == other_name and torch.equal(one, other)


def test_the_table_of_counts_in_the_docs():
    text = (Path(__file__).parents[2] / "docs" / "controls.md").read_text()
    rows = {cells[1]: cells[2:6] for line in text.splitlines() if len(cells := re.split(r" *\| *", line)) == 7}
    for model_id in CIRCUIT_MODELS:
        untrained, without = (
            parameter_counts(build_model(model_id, 2, 100, 8, ModelSettings(**change)))[1] if change else ""
            for change in ({"train_angles": False}, {"hand_over": False} if model_id in ("4d", "4e") else {})
        )
        counts = (*parameter_counts(build_model(model_id, 2, 100, 8)), untrained, without)
        assert rows[model_id] == [str(count) for count in counts]


@pytest.mark.parametrize("model_id", CIRCUIT_MODELS)
def test_untrained_angles_are_exactly_what_the_angles_depend_on(model_id):
    """Found by differentiating the angles at every circuit call, not by name."""
    seen, model = [], small_model(model_id)

    def noted(angles):
        seen.append(angles)
        return angles

    for module in model.modules():
        if hasattr(module, "kind"):
            module.kind = ObservedCircuits(module.kind, angles=noted)
    model(torch.rand(4, 2, 40))
    sum(angles.sin().sum() for angles in seen).backward()
    upstream = ("tokens.", "encoder.pool.", "encoder.ahead.pool.", "encoder.back.pool.", "encoder.diagonal.pool.")
    deciding = {name for name, p in model.named_parameters() if p.grad is not None and not name.startswith(upstream)}
    frozen = small_model(model_id, train_angles=False)
    left_out = untrained(frozen) - untrained(model)
    assert left_out == deciding
    before = {name: p.clone() for name, p in frozen.named_parameters()}
    optimizer = torch.optim.AdamW(frozen.parameters(), weight_decay=0.1)
    _, by_name = gradients(frozen)
    optimizer.step()
    for name, p in frozen.named_parameters():
        moved = not torch.equal(p, before[name])
        assert not (name in left_out and moved)
        assert moved or name in left_out or by_name[name] is None or not by_name[name].any() or not before[name].any() \
            or "positions" in name, name


@pytest.mark.parametrize(("model_id", "n_cores"), [("4d", 1), ("4e", 2)])
@pytest.mark.parametrize("kind", KINDS)
def test_without_the_hand_over_the_feature_circuit_has_no_effect(model_id, n_cores, kind):
    model = small_model(model_id, circuit=kind, hand_over=False)
    assert parameter_counts(model)[0] == parameter_counts(small_model(model_id))[0]
    maps = ["embedding", *(f"cores.{core}.0" for core in range(n_cores))]
    expected = {f"encoder.features.{map_}.{part}" for map_ in maps for part in ("weight", "bias")}
    assert untrained(model) == expected
    outputs, by_name = gradients(model)
    assert {name for name, gradient in by_name.items() if gradient is None} == expected
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name in expected:
                parameter.add_(1)
    assert torch.equal(gradients(model)[0], outputs)
    assert not torch.allclose(gradients(small_model(model_id, circuit=kind))[0], outputs, atol=1e-6)


@pytest.mark.parametrize("model_id", MODELS)
@pytest.mark.parametrize("chunk", [1, 8, 64])
def test_any_chunk_size_in_models_with_and_without_chunks(model_id, chunk):
    model = small_model(model_id, chunk=chunk)
    assert model.sizes.n_tokens == -(-40 // chunk)
    gradients(model)
    if model_id.startswith("3"):
        added = parameter_counts(model)[1] - parameter_counts(small_model(model_id))[1]
        assert added == 16 * 8 + 8 + 8 + 1  # the published pool: d / 2 hidden units
