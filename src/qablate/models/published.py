"""The models as data: which parts each one is made of (docs/adding.md: how to add one); building and loading them.

(b, c, l) -> tokens (b, l, u) -> encoder (b, k, d) -> mixer (b, k, d) -> norm -> pool (b, d) -> head (b, outputs)
Names, groups and chunk sizes are in `qablate.catalog`. Widths follow from the model width d: pools have d / 2 or
d / 4 hidden units, heads d or d / 2.
Shapes: b batch, c channels, l length, u features of a step, k tokens, d model width.
"""

import pickle
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from qablate.catalog import AS_PUBLISHED, model_info
from qablate.errors import QablateError
from qablate.models import encoders, layers, mixers
from qablate.models.encoders import ChunkEncoder
from qablate.models.layers import Head, StepTokens
from qablate.models.sizes import ModelSettings, Sizes
from qablate.quantum import circuit_kind
from qablate.results import predictions_problem, read_record
from qablate.ssm import scan_name
from qablate.variants import is_variant

RESULT, WEIGHTS = "results.json", "model.pt"
Part = Callable[[Sizes], nn.Module]


def _no_part(sizes: Sizes) -> nn.Module:
    return nn.Identity()


def _linear_tokens(sizes: Sizes) -> nn.Module:
    return StepTokens(nn.Linear(sizes.n_channels, sizes.d_model), sizes.settings.dropout)


def _normed_tokens(sizes: Sizes, dropout: bool = False) -> nn.Module:
    rate = sizes.settings.dropout if dropout else 0.0
    return StepTokens(layers.NormedMap(sizes.n_channels, sizes.d_model), rate)


def _circuit_of_chunks(features: Callable[[Sizes, int], nn.Module], share: int) -> Part:
    """Pools of d / share hidden units in front of a circuit."""
    return lambda sizes: ChunkEncoder(sizes, sizes.d_model, sizes.d_model // share, features, dropout=True)


def _two(block: Part) -> Part:
    return lambda sizes: nn.Sequential(block(sizes), block(sizes))


def _layer_norm(sizes: Sizes) -> nn.Module:
    return nn.LayerNorm(sizes.d_model)


def _softmax_pool(sizes: Sizes) -> nn.Module:
    return layers.SoftmaxPool(sizes.d_model, sizes.d_model // 4)


def _linear_head(sizes: Sizes) -> nn.Module:
    return nn.Linear(sizes.d_model, sizes.n_outputs)


def _wide_head(sizes: Sizes) -> nn.Module:
    return Head(sizes, sizes.d_model, F.relu)


def _narrow_head(sizes: Sizes, activation: Callable[[Tensor], Tensor] = F.silu) -> nn.Module:
    return Head(sizes, sizes.d_model // 2, activation)


@dataclass(frozen=True)
class Composition:
    """The parts of one model; those that are left out do nothing."""

    tokens: Part
    head: Part
    encoder: Part = _no_part
    mixer: Part = _no_part
    norm: Part = _no_part
    pool: Part = _no_part


_GROUP_2 = Composition(partial(_normed_tokens, dropout=True), pool=_softmax_pool, head=_narrow_head)
_GROUP_3 = Composition(
    _linear_tokens, norm=lambda sizes: layers.RMSNorm(sizes.d_model), pool=layers.MeanPool, head=_linear_head
)
_GROUP_4 = Composition(layers.ConvolvedTokens, pool=_softmax_pool, head=_narrow_head)

COMPOSITIONS: Mapping[str, Composition] = MappingProxyType(
    {
        "1a": replace(
            _GROUP_3,
            tokens=layers.ChannelTokens,
            encoder=lambda s: ChunkEncoder(
                s, s.n_channels, max(1, s.n_channels // 2), encoders.ModulusBranches, dropout=False
            ),
            mixer=mixers.AttentionMixer,
        ),
        "1b": Composition(
            tokens=_normed_tokens,
            encoder=_circuit_of_chunks(encoders.ConcatenatedBranches, 2),
            mixer=mixers.StatefulMixer,
            norm=_layer_norm,
            pool=layers.MeanPool,
            head=_wide_head,
        ),
        "1c": Composition(
            tokens=_normed_tokens,
            encoder=encoders.ThreeWayEncoder,
            mixer=_two(mixers.WeightedHydraBlock),
            norm=_layer_norm,
            pool=layers.MeanPool,
            head=_linear_head,
        ),
        "2a": Composition(_linear_tokens, encoder=encoders.UnitaryCombination, norm=_layer_norm, head=_wide_head),
        "2d": replace(_GROUP_2, encoder=_circuit_of_chunks(partial(encoders.EmbeddedSuperposition, n_cores=1), 4)),
        "2e": replace(_GROUP_2, encoder=_circuit_of_chunks(partial(encoders.EmbeddedSuperposition, n_cores=2), 4)),
        "3a": replace(_GROUP_3, mixer=mixers.AttentionMixer),
        "3b": replace(_GROUP_3, mixer=_two(mixers.MambaBlock)),
        "3c": replace(_GROUP_3, mixer=_two(mixers.HydraBlock), head=partial(_narrow_head, activation=F.gelu)),
        "4a": replace(_GROUP_4, encoder=_circuit_of_chunks(encoders.DeepCircuit, 4)),
        "4d": replace(_GROUP_4, encoder=_circuit_of_chunks(partial(encoders.InjectedSuperposition, n_cores=1), 4)),
        "4e": replace(_GROUP_4, encoder=_circuit_of_chunks(partial(encoders.InjectedSuperposition, n_cores=2), 4)),
    }
)


class SequenceModel(nn.Module):
    """One of the models: (b, channels, length) -> (b, outputs)."""

    def __init__(self, model_id: str, composition: Composition, sizes: Sizes) -> None:
        """Build the parts in the order of the data's way through them; initial weights are drawn in this order."""
        super().__init__()
        self.model_id, self.sizes = model_id, sizes
        self.tokens = composition.tokens(sizes)
        self.encoder = composition.encoder(sizes)
        self.mixer = composition.mixer(sizes)
        self.norm = composition.norm(sizes)
        self.pool = composition.pool(sizes)
        self.head = composition.head(sizes)

    def forward(self, x: Tensor) -> Tensor:
        """Return the outputs; an input of another layout, length or precision is a QablateError."""
        if x.dim() != 3 or x.shape[1:] != (self.sizes.n_channels, self.sizes.length):
            raise QablateError(
                f"model {self.model_id}: input has shape {tuple(x.shape)}, must be "
                f"(batch, channels, length) = (any, {self.sizes.n_channels}, {self.sizes.length})"
            )
        dtype = next(self.tokens.parameters()).dtype
        if x.dtype != dtype:
            raise QablateError(f"model {self.model_id}: input is {x.dtype}, must be {dtype}")
        tokens = self.encoder(self.tokens(x))
        return self.head(self.pool(self.norm(self.mixer(tokens))))


def build_model(
    model_id: str, n_channels: int, length: int, n_outputs: int, settings: ModelSettings | None = None
) -> SequenceModel:
    """Build one model with fresh weights from torch's global generator.

    Args:
        model_id: one of `qablate.catalog.MODELS`, or a variant of one, whose settings must be given.
        n_channels: channels of the input.
        length: steps of the input.
        n_outputs: width of the output.
        settings: sizes, dropout, kind of circuit and backends; None is as published.

    Returns:
        A module that maps (batch, channels, length) float32 to (batch, n_outputs).

    Raises:
        QablateError: on an unknown id, impossible sizes, or a circuit, `train_angles` or `hand_over` without effect on
            this model: its results would be those of the model without it, under another name.
    """
    if settings is None and is_variant(model_id):
        raise QablateError(f"model {model_id}: what its tags change is in the settings of a study; give settings=, "
                           "such as ModelSettings(circuit='tanh')")
    info, settings = model_info(model_id), settings or ModelSettings()
    for name, published in AS_PUBLISHED.items():
        value, reason = getattr(settings, name), info.ignores(name)
        if value != published and reason:
            raise QablateError(f"model {info.id}: {name} is {value}, but {reason}")
    if info.id not in COMPOSITIONS:
        raise QablateError(f"model {info.id}: no entry in COMPOSITIONS of qablate/models/published.py")
    composition = COMPOSITIONS[info.id]
    if composition.encoder is _no_part and settings.chunk is not None:
        composition = replace(composition, encoder=lambda s: layers.ChunkPool(s.d_model, s.d_model // 2, s.chunk))
    sizes = Sizes(n_channels, length, n_outputs, settings.chunk or info.chunk, settings)
    model = SequenceModel(info.id, composition, sizes)
    if not settings.train_angles:
        for module in model.modules():
            for name in getattr(module, "makes_angles", ()):
                getattr(module, name).requires_grad_(False)
    return model


def kernels_of(model_id: str, settings: ModelSettings, device: torch.device) -> dict[str, str]:
    """Name what computes a model's circuits and its scans on a device: `{"circuits": "numba", "scan": "numba"}`.

    A model without circuits, or without a scan, lacks that key. Between kernels, numbers differ by rounding.
    """
    info, names = model_info(model_id), {}
    if not info.ignores("circuit"):
        names["circuits"] = circuit_kind(settings.circuit, settings.backend).kernel(settings.n_qubits, device)
    if not info.ignores("d_state"):
        names["scan"] = scan_name(settings.scan_backend, device, settings.d_state)
    return names


def parameter_counts(model: nn.Module) -> tuple[int, int]:
    """All parameters of a model as published reports count them, and the trainable ones; a complex number counts 1.

    Not trained are positions in 1a and 3a, what makes angles under `train_angles=False`, and the maps that
    `hand_over=False` leaves idle.
    """
    sizes = [(parameter.numel(), parameter.requires_grad) for parameter in model.parameters()]
    return sum(n for n, _ in sizes), sum(n for n, trained in sizes if trained)


def result_and_weights(path: Path) -> tuple[Path, Path]:
    """Return both files of a run from either; a QablateError for another file."""
    stem = path.name.removesuffix(RESULT).removesuffix(WEIGHTS)
    if stem == path.name:
        raise QablateError(f"{path}: neither a result (..._{RESULT}) nor weights (..._{WEIGHTS})")
    return path.with_name(stem + RESULT), path.with_name(stem + WEIGHTS)


def load_trained(path: Path) -> nn.Module:
    """Return the model of a result or of its weights in evaluation mode, on the CPU; a QablateError says why not."""
    result, weights = result_and_weights(path)
    record = read_record(result)
    if problem := predictions_problem(result, record):
        raise QablateError(f"{weights}: not weights of this result, as {problem}; move both away to use the result")
    model = untrained(record)
    if not weights.is_file():
        raise QablateError(f"{weights}: no weights next to the result; move the result away and run "
                           "`qablate train` to make both again")
    try:
        model.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True))
    except (OSError, RuntimeError, ValueError, TypeError, EOFError, AttributeError, LookupError,
            pickle.UnpicklingError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise QablateError(f"{weights}: not weights of this result: {reason}") from error
    return model.eval()


def untrained(record: Mapping[str, Any]) -> SequenceModel:
    """Return a fresh model with the sizes and settings of a checked record."""
    settings = {key: record["hyperparameters"][key] for key in ("n_qubits", "n_layers", "d_model", "d_state")}
    settings |= {"n_heads": record["model_config"]["n_heads"], "dropout": record["training"]["dropout"]}
    changed = (record["model_variant"] or {"settings": {}})["settings"]
    settings |= {key.removeprefix("model."): value for key, value in changed.items() if key.startswith("model.")}
    shape = record["data_info"]
    return build_model(record["model_id"], shape["n_channels"], shape["n_timesteps"], shape["output_dim"],
                       ModelSettings(**settings))
