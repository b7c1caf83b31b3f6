"""Kinds of circuit, untrained angles and the hand-over in whole models."""

import re
from pathlib import Path

import pytest
import torch

from qablate.catalog import MODELS
from qablate.errors import QablateError
from qablate.models import ModelSettings, build_model, parameter_counts, untrained_parameters
from qablate.quantum import KINDS

CIRCUIT_MODELS = [name for name, info in MODELS.items() if info.quantum_features or info.quantum_mixing]
SMALL = {"n_qubits": 3, "n_layers": 1, "d_model": 16, "d_state": 4, "n_heads": 2, "dropout": 0.0}
SHAPE = (2, 40, 3)


def small_model(model_id, seed=0, **changes):
    torch.manual_seed(seed)
    return build_model(model_id, *SHAPE, ModelSettings(**SMALL, **changes))


def gradients(model):
    x = torch.rand(4, 2, 40, generator=torch.Generator().manual_seed(1)).to(next(model.parameters()).dtype)
    y = model(x)
    assert y.shape == (4, 3)
    (y * torch.arange(12, dtype=y.dtype).view(4, 3).cos()).sum().backward()
    return y.detach(), {name: p.grad for name, p in model.named_parameters()}


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
def test_kinds_give_other_outputs_and_train_the_same_tensors(model_id):
    found = {kind: gradients(small_model(model_id, circuit=kind)) for kind in KINDS}
    base, base_gradients = found["exact"]
    rounding = 1e-6 * max(gradient.abs().max() for gradient in base_gradients.values() if gradient is not None)
    for kind in list(KINDS)[1:]:
        outputs, by_name = found[kind]
        assert (outputs - base).abs().max() > 1e-6, kind
        for name, gradient in by_name.items():
            phase_only = name.endswith("_im") or "alpha" in name or "beta" in name or "gamma" in name
            expected = base_gradients[name]
            if not phase_only and expected is not None and expected.abs().max() > rounding:
                assert gradient is not None and gradient.abs().max() > 0, (kind, name)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("model_id", CIRCUIT_MODELS)
def test_compiled_and_plain_kinds_agree_through_whole_models(model_id, kind):
    results = []
    for backend in ("auto", "reference"):
        model = small_model(model_id, circuit=kind, backend=backend, scan_backend="reference").double()
        outputs, by_name = gradients(model)
        results.append([outputs, *(g for g in by_name.values() if g is not None)])
    for one, other in zip(*results, strict=True):
        assert (one - other).abs().max() <= 1e-9 * (1 + other.abs().max())


@pytest.mark.parametrize("model_id", CIRCUIT_MODELS)
def test_untrained_angles_are_exactly_what_the_angles_depend_on(model_id):
    """Found by differentiating the angles at every circuit call, not by name."""
    seen, model = [], small_model(model_id)

    class Recording(type(model_kind(model))):
        def note(self, angles):
            seen.append(angles)

        def expectations(self, circuit, angles):
            self.note(angles)
            return super().expectations(circuit, angles)

        def states(self, circuit, angles):
            self.note(angles)
            return super().states(circuit, angles)

        def evolve(self, circuit, angles, initial):
            self.note(angles)
            return super().evolve(circuit, angles, initial)

    for module in model.modules():
        if hasattr(module, "kind"):
            module.kind = Recording()
    model(torch.rand(4, 2, 40))
    sum(angles.sin().sum() for angles in seen).backward()
    upstream = ("tokens.", "encoder.pool.", "encoder.ahead.pool.", "encoder.back.pool.", "encoder.diagonal.pool.")
    deciding = {name for name, p in model.named_parameters() if p.grad is not None and not name.startswith(upstream)}
    frozen = small_model(model_id, train_angles=False)
    left_out = set(untrained_parameters(frozen)) - set(untrained_parameters(model))
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


def model_kind(model):
    return next(module.kind for module in model.modules() if hasattr(module, "kind"))


@pytest.mark.parametrize(("model_id", "n_cores"), [("4d", 1), ("4e", 2)])
@pytest.mark.parametrize("kind", KINDS)
def test_without_the_hand_over_the_feature_circuit_has_no_effect(model_id, n_cores, kind):
    model = small_model(model_id, circuit=kind, hand_over=False)
    assert parameter_counts(model)[0] == parameter_counts(small_model(model_id))[0]
    maps = ["embedding", *(f"cores.{core}.0" for core in range(n_cores))]
    expected = {f"encoder.features.{map_}.{part}" for map_ in maps for part in ("weight", "bias")}
    assert set(untrained_parameters(model)) == expected
    outputs, by_name = gradients(model)
    assert {name for name, gradient in by_name.items() if gradient is None} == expected
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name in expected:
                parameter.add_(1)
    assert torch.equal(gradients(model)[0], outputs)
    assert not torch.allclose(gradients(small_model(model_id, circuit=kind))[0], outputs, atol=1e-6)


def test_without_the_hand_over_branches_start_from_zero():
    """Equal to the base model whose feature circuit is the identity."""
    model, base = small_model("4d", hand_over=False), small_model("4d")
    base.load_state_dict(model.state_dict())
    with torch.no_grad():
        for part in (base.encoder.features.embedding, base.encoder.features.cores[0][0]):
            part.weight.zero_()
            part.bias.zero_()
    x = torch.rand(3, 2, 40)
    assert (model(x) - base(x)).abs().max() < 1e-6


@pytest.mark.parametrize(
    ("model_id", "change", "message"),
    [
        ("3a", {"circuit": "unentangled"}, "model 3a: circuit is unentangled, but 3a has no circuit"),
        ("3b", {"train_angles": False}, "model 3b: train_angles is False, but 3b has no circuit"),
        ("3c", {"hand_over": False}, "model 3c: hand_over is False, but in 3c no circuit hands"),
        ("2d", {"hand_over": False}, "model 2d: hand_over is False, but in 2d no circuit hands"),
        ("4a", {"hand_over": False}, "model 4a: hand_over is False"),
    ],
)
def test_settings_without_effect_are_errors(model_id, change, message):
    with pytest.raises(QablateError, match=message):
        small_model(model_id, **change)


def test_an_unknown_kind_is_an_error_with_a_suggestion():
    with pytest.raises(QablateError, match="model settings: circuit: unknown kind .* 'tan': did you mean 'tanh'"):
        ModelSettings(circuit="tan")


@pytest.mark.parametrize("model_id", MODELS)
@pytest.mark.parametrize("chunk", [1, 8, 64])
def test_any_chunk_size_in_models_with_and_without_chunks(model_id, chunk):
    model = small_model(model_id, chunk=chunk)
    assert model.sizes.n_tokens == -(-40 // chunk)
    gradients(model)
    if model_id.startswith("3"):
        added = parameter_counts(model)[1] - parameter_counts(small_model(model_id))[1]
        assert added == 16 * 8 + 8 + 8 + 1  # the published pool: d / 2 hidden units
