"""Published checkpoints: tensors by their position in the published enumeration, and how many numbers they hold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torch.nn import Parameter

from qablate.errors import QablateError
from qablate.models.composition import SequenceModel


def published_tensors(model: SequenceModel) -> list[tuple[str, Parameter]]:
    """Names and parameters of a model in published order, one entry a published tensor."""
    return [
        (name, parameter) for entry in model.published_order for name, parameter in _parameters_of(model, entry)
    ]


def _parameters_of(model: SequenceModel, entry: str) -> list[tuple[str, Parameter]]:
    """The parameter of this name, or all parameters of the module of this name."""
    return [
        (name, parameter)
        for name, parameter in model.named_parameters()
        if name == entry or name.startswith(f"{entry}.")
    ]


def load_published_state(model: SequenceModel, tensors: Sequence[Tensor] | Mapping[str, Tensor]) -> None:
    """Copy published tensors into a model by position; names are ignored.

    Args:
        model: built for the same channels, length, outputs and settings as the checkpoint.
        tensors: a list, or a state dict in its own order, of all published tensors.

    Raises:
        QablateError: if the number of tensors, a shape or a kind of number (real, complex) differs; nothing is
            copied then.
    """
    given = list(tensors.values() if isinstance(tensors, Mapping) else tensors)
    wanted = published_tensors(model)
    if len(given) != len(wanted):
        raise QablateError(
            f"model {model.model_id}: the checkpoint holds {len(given)} tensors, must be {len(wanted)}"
        )
    for position, ((name, parameter), tensor) in enumerate(zip(wanted, given, strict=True)):
        if tensor.shape != parameter.shape or tensor.is_complex() != parameter.is_complex():
            raise QablateError(
                f"model {model.model_id}: tensor {position} of the checkpoint ({name}) is {_describe(tensor)}, "
                f"must be {_describe(parameter)}"
            )
    with torch.no_grad():
        for (_, parameter), tensor in zip(wanted, given, strict=True):
            parameter.copy_(tensor)


def _describe(tensor: Tensor) -> str:
    return f"{'complex' if tensor.is_complex() else 'real'} of shape {tuple(tensor.shape)}"


def parameter_counts(model: torch.nn.Module) -> tuple[int, int]:
    """All parameters of a model as published reports count them, and the trainable ones; a complex number counts 1.

    The two differ where positions are a frozen parameter (1a, 3a).
    """
    total = sum(parameter.numel() for parameter in model.parameters())
    return total, sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)


def untrained_parameters(model: torch.nn.Module) -> dict[str, int]:
    """Names and sizes of the parameters that keep their initial values.

    Positions in 1a and 3a, what makes angles under `train_angles=False`, the maps that `hand_over=False` leaves idle.
    """
    return {name: parameter.numel() for name, parameter in model.named_parameters() if not parameter.requires_grad}
