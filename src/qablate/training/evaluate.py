"""Outputs and validation values of a model in evaluation mode; draws no random number, changes no weight."""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from qablate.catalog import TaskKind
from qablate.training.data import Items

EVALUATION_BATCH = 32
GPU_EVALUATION_BATCH = 128
"""A GPU takes as long for 32 items as for four times as many; outputs agree to 1e-5 (tests/training/test_loop.py)."""


def outputs_of(
    model: nn.Module, items: Items, between: Callable[[], None] | None = None, batch_size: int | None = None
) -> Tensor:
    """Return the model's outputs (n, o) for all items, in order; the model is left in training mode.

    `between()` is called after every batch; what it raises ends the pass.
    """
    batch_size = batch_size or (GPU_EVALUATION_BATCH if items.inputs.is_cuda else EVALUATION_BATCH)
    model.eval()
    parts = []
    for inputs in items.inputs.split(batch_size):
        with torch.no_grad():  # inference_mode would make cached tensors that no later backward pass may save
            parts.append(model(inputs))
        if between is not None:
            between()
    model.train()
    return torch.cat(parts)


def validation_values(kind: TaskKind, outputs: Tensor, targets: Tensor) -> tuple[float | None, float | None]:
    """Return (loss, monitored value) as published; None where it is not finite.

    Regression: the mean squared error, twice. Classification: the mean of batch means of the cross-entropy, and the
    accuracy.
    """
    if kind == "regression":
        error = finite(F.mse_loss(outputs, targets).item())
        return error, error
    pairs = zip(outputs.split(EVALUATION_BATCH), targets.split(EVALUATION_BATCH), strict=True)
    losses = [F.cross_entropy(logits, labels).item() for logits, labels in pairs]
    if not torch.isfinite(outputs).all():
        return None, None
    return finite(sum(losses) / len(losses)), correct_predictions(outputs, targets) / len(targets)


def correct_predictions(logits: Tensor, labels: Tensor) -> int:
    """Count the items whose largest logit is their label."""
    return int((logits.argmax(dim=1) == labels).sum())


def finite(value: float) -> float | None:
    """Return the value, or None for NaN and infinities."""
    return value if math.isfinite(value) else None
