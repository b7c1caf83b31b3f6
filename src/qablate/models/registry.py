"""The models as data: which parts each one is made of (docs/adding.md: how to add one).

Names, groups and chunk sizes are in `qablate.catalog`. Widths follow from the model width d: pools have d / 2 or
d / 4 hidden units, heads d or d / 2.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from types import MappingProxyType

import torch
from torch import nn

from qablate.catalog import AS_PUBLISHED, ModelInfo, model_info
from qablate.errors import QablateError
from qablate.models.attention import AttentionMixer
from qablate.models.composition import Composition, Part, SequenceModel
from qablate.models.encoders import ChunkEncoder, ThreeWayEncoder, UnitaryCombination
from qablate.models.features import ConcatenatedBranches, DeepCircuit, ModulusBranches
from qablate.models.hydra import HydraMixer, WeightedHydraMixer
from qablate.models.layers import (
    NORM_EPS,
    ChannelTokens,
    ConvolvedTokens,
    Head,
    LinearTokens,
    NormedTokens,
    RMSNorm,
)
from qablate.models.mamba import MambaMixer, StatefulMixer
from qablate.models.pooling import ChunkPool, MeanPool, SoftmaxPool
from qablate.models.sizes import ModelSettings, Sizes
from qablate.models.superposed import EmbeddedSuperposition, InjectedSuperposition
from qablate.quantum import circuit_kind
from qablate.ssm import scan_name


def _rms(sizes: Sizes) -> nn.Module:
    return RMSNorm(sizes.d_model)


def _layer_norm(sizes: Sizes) -> nn.Module:
    return nn.LayerNorm(sizes.d_model, eps=NORM_EPS)


def _mean(sizes: Sizes) -> nn.Module:
    return MeanPool()


def _softmax_pool(sizes: Sizes) -> nn.Module:
    return SoftmaxPool(sizes.d_model, sizes.d_model // 4)


def _linear_head(sizes: Sizes) -> nn.Module:
    return nn.Linear(sizes.d_model, sizes.n_outputs)


def _wide_head(sizes: Sizes) -> nn.Module:
    return Head(sizes, sizes.d_model, "relu")


def _silu_head(sizes: Sizes) -> nn.Module:
    return Head(sizes, sizes.d_model // 2, "silu")


def _gelu_head(sizes: Sizes) -> nn.Module:
    return Head(sizes, sizes.d_model // 2, "gelu")


def _channel_encoder(sizes: Sizes) -> nn.Module:
    return ChunkEncoder(sizes, sizes.n_channels, sizes.n_channels // 2, ModulusBranches, dropout=False)


def _branch_encoder(sizes: Sizes) -> nn.Module:
    return ChunkEncoder(sizes, sizes.d_model, sizes.d_model // 2, ConcatenatedBranches, dropout=True)


def _deep_encoder(sizes: Sizes) -> nn.Module:
    return ChunkEncoder(sizes, sizes.d_model, sizes.d_model // 4, DeepCircuit, dropout=True)


def _plain_encoder(sizes: Sizes) -> nn.Module:
    return ChunkPool(sizes.d_model, sizes.d_model // 2, sizes.chunk)


def _embedded(n_cores: int) -> Part:
    features = partial(EmbeddedSuperposition, n_cores=n_cores)
    return lambda sizes: ChunkEncoder(sizes, sizes.d_model, sizes.d_model // 4, features, dropout=True)


def _injected(n_cores: int) -> Part:
    features = partial(InjectedSuperposition, n_cores=n_cores)
    return lambda sizes: ChunkEncoder(sizes, sizes.d_model, sizes.d_model // 4, features, dropout=True)


def _block(prefix: str, names: str) -> tuple[str, ...]:
    return tuple(f"{prefix}.{name}" for name in names.split())


_MAMBA_BLOCK = "input core.selection convolution core.A_log core.skip core.step output norm"
_HYDRA_BLOCK = "input convolution A_log skip step output inner_norm"
_WEIGHTED_HYDRA_BLOCK = (
    "input forward_weight backward_weight diagonal_weight forward_core backward_core diagonal combination "
    "unused_inner_norm output unused_norm"
)

COMPOSITIONS: Mapping[str, Composition] = MappingProxyType(
    {
        "1a": Composition(
            tokens=ChannelTokens,
            encoder=_channel_encoder,
            mixer=AttentionMixer,
            norm=_rms,
            pool=_mean,
            head=_linear_head,
            published_order=("mixer.positions", "tokens", "encoder", "mixer.blocks", "norm", "head"),
        ),
        "1b": Composition(
            tokens=partial(NormedTokens, dropout=False),
            encoder=_branch_encoder,
            mixer=StatefulMixer,
            norm=_layer_norm,
            pool=_mean,
            head=_wide_head,
        ),
        "1c": Composition(
            tokens=partial(NormedTokens, dropout=False),
            encoder=ThreeWayEncoder,
            mixer=WeightedHydraMixer,
            norm=_layer_norm,
            pool=_mean,
            head=_linear_head,
            published_order=(
                *_block("encoder", "alpha beta gamma"),
                "tokens",
                *_block("encoder", "ahead back diagonal"),
                *_block("mixer.0", _WEIGHTED_HYDRA_BLOCK),
                *_block("mixer.1", _WEIGHTED_HYDRA_BLOCK),
                *("norm", "head"),
            ),
        ),
        "2a": Composition(
            tokens=LinearTokens,
            encoder=UnitaryCombination,
            norm=_layer_norm,
            head=_wide_head,
            published_order=(
                "tokens",
                *_block("encoder", "pool coefficients final_angles to_angles output"),
                *("norm", "head"),
            ),
        ),
        "2d": Composition(
            tokens=partial(NormedTokens, dropout=True),
            encoder=_embedded(n_cores=1),
            pool=_softmax_pool,
            head=_silu_head,
        ),
        "2e": Composition(
            tokens=partial(NormedTokens, dropout=True),
            encoder=_embedded(n_cores=2),
            pool=_softmax_pool,
            head=_silu_head,
        ),
        "3a": Composition(
            tokens=LinearTokens,
            mixer=AttentionMixer,
            norm=_rms,
            pool=_mean,
            head=_linear_head,
            published_order=("mixer.positions", "tokens", "encoder", "mixer.blocks", "norm", "head"),
        ),
        "3b": Composition(
            tokens=LinearTokens,
            mixer=MambaMixer,
            norm=_rms,
            pool=_mean,
            head=_linear_head,
            published_order=(
                *("tokens", "encoder"),
                *_block("mixer.0", _MAMBA_BLOCK),
                *_block("mixer.1", _MAMBA_BLOCK),
                *("norm", "head"),
            ),
        ),
        "3c": Composition(
            tokens=LinearTokens,
            mixer=HydraMixer,
            norm=_rms,
            pool=_mean,
            head=_gelu_head,
            published_order=(
                *("tokens", "encoder"),
                *_block("mixer.0", _HYDRA_BLOCK),
                *_block("mixer.1", _HYDRA_BLOCK),
                *("mixer.0.outer_norm", "mixer.1.outer_norm"),
                *("norm", "head"),
            ),
        ),
        "4a": Composition(tokens=ConvolvedTokens, encoder=_deep_encoder, pool=_softmax_pool, head=_silu_head),
        "4d": Composition(
            tokens=ConvolvedTokens, encoder=_injected(n_cores=1), pool=_softmax_pool, head=_silu_head
        ),
        "4e": Composition(
            tokens=ConvolvedTokens, encoder=_injected(n_cores=2), pool=_softmax_pool, head=_silu_head
        ),
    }
)


def kernels_of(model_id: str, settings: ModelSettings, device: torch.device) -> dict[str, str]:
    """Name what computes a model's circuits and its scans on a device: `{"circuits": "numba", "scan": "numba"}`.

    A model without circuits, or without a scan, lacks that key. Between kernels, numbers differ by rounding.
    """
    info, names = model_info(model_id), {}
    if info.quantum_features or info.quantum_mixing:
        names["circuits"] = circuit_kind(settings.circuit, settings.backend).kernel(settings.n_qubits, device)
    if info.architecture in ("mamba", "hydra") and not info.quantum_mixing:
        names["scan"] = scan_name(settings.scan_backend, device)
    return names


def build_model(
    model_id: str, n_channels: int, length: int, n_outputs: int, settings: ModelSettings | None = None
) -> SequenceModel:
    """Build one model with fresh weights from torch's global generator.

    Args:
        model_id: one of `qablate.catalog.MODELS`.
        n_channels: channels of the input.
        length: steps of the input.
        n_outputs: width of the output.
        settings: sizes, dropout, kind of circuit and backends; None is as published.

    Returns:
        A module that maps (batch, channels, length) float32 to (batch, n_outputs).

    Raises:
        QablateError: on an unknown id, impossible sizes, or a setting without effect on this model.
    """
    info = model_info(model_id)
    settings = settings or ModelSettings()
    _require_effect(info, settings)
    composition = COMPOSITIONS[info.id]
    if composition.encoder is None and settings.chunk is not None:
        composition = replace(composition, encoder=_plain_encoder)
    sizes = Sizes(n_channels, length, n_outputs, settings.chunk or info.chunk, settings)
    model = SequenceModel(info.id, composition, sizes)
    if not settings.train_angles:
        for module in model.modules():
            for name in getattr(module, "makes_angles", ()):
                getattr(module, name).requires_grad_(False)
    return model


def _require_effect(info: ModelInfo, settings: ModelSettings) -> None:
    """Refuse settings that would leave this model as it is: its results would have another name."""
    for name, published in AS_PUBLISHED.items():
        value, reason = getattr(settings, name), info.ignores(name)
        if value != published and reason:
            raise QablateError(f"model {info.id}: {name} is {value}, but {reason}")
