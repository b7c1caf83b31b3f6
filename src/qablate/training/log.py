"""The log of a cell: the published lines, one an epoch, and one JSON line per event for programs.

The published form is kept because the users' scripts and the importer parse it.
"""

import contextlib
import json
import math
from typing import Any

from qablate.catalog import model_info
from qablate.logtail import EVENT, duration
from qablate.study import Cell, DatasetSpec


def say(text: str) -> None:
    """Print lines, if they can be: a full disk, a closed pipe or a terminal that is gone ends no training."""
    with contextlib.suppress(OSError, ValueError):  # ValueError: the stream was closed
        print(text, flush=True)


def event(name: str, **facts: Any) -> None:
    """Print one machine-readable line: `@qablate {"event": "checkpoint", ...}`."""
    say(EVENT + json.dumps({"event": name, **facts}))


def header(cell: Cell, spec: DatasetSpec, n_params: int, command: str) -> None:
    """Print what is trained, beginning with the line that repeats it."""
    say(f"$ {command}")
    say(f"Model ID: {cell.model} ({model_info(cell.model).name})")
    say(f"Task: {cell.task} ({spec.info.kind})")
    say(f"Sequence Length: {cell.length}")
    say(f"Seed: {cell.seed}")
    say(f"Model parameters: {n_params:,}")


def other_numbers(before: dict[str, Any], now: dict[str, Any]) -> None:
    """Say in one line what computes otherwise than it did for the checkpoint that a cell goes on from.

    Both are what checkpoints hold as `made_by`; what one of them lacks is not known to differ.
    """
    left, right = ({**made_by, **made_by.get("kernels", {})} for made_by in (before, now))
    parts = ("device", "cpu", "threads", "torch", "circuits", "scan")
    changes = [f"{part} {right[part]}, was {left[part]}" for part in parts
               if part in left and part in right and left[part] != right[part]]
    if changes:
        say(f"Other numbers from here on, by rounding: {'; '.join(changes)}")


def epoch_line(kind: str, epoch: int, max_epochs: int, seconds: float, improved: bool, row: dict[str, Any],
               seconds_left: float | None = None) -> None:
    """Print one epoch: number, seconds, `*` if the validation metric improved, training and validation values.

    `seconds_left` is what all epochs of the recipe would still take; early stopping may end it before.
    """
    head = f"Epoch {epoch:3d}/{max_epochs} ({seconds:.1f}s){' *' if improved else ''} | "
    if kind == "regression":
        text = f"Train MSE: {_fixed(row['train_loss'], 6)} | Val MSE: {_fixed(row['val_loss'], 6)}"
    else:
        text = (
            f"Train: {_fixed(row['train_loss'], 4)}/{_fixed(row['train_metric'], 4)} | "
            f"Val: {_fixed(row['val_loss'], 4)}/{_fixed(row['val_metric'], 4)}"
        )
    say(head + text + ("" if seconds_left is None else f" | at most {duration(seconds_left)} left"))


def early_stop(epoch: int, patience: int) -> None:
    """Print the published line of early stopping."""
    say(f"Early stopping at epoch {epoch} (no improvement for {patience} epochs)")


def summary(record: dict[str, Any], path: str) -> None:
    """Print total time, best validation value and test results of a finished cell."""
    seconds, best = record["training_time"], record["best_val_metric"]
    say(f"Total Time: {seconds:.2f}s ({seconds / 60:.2f} min)")
    if record["task_type"] == "regression":
        say(f"Best Val MSE: {_fixed(best, 6)}\nTest Results:")
        rows = (("MSE", "test_mse", 6), ("MAE", "test_mae", 6), ("R²", "test_r2", 4))
    else:
        say(f"Best Val Acc: {_fixed(best, 4)}\nTest Results:")
        rows = (("Accuracy", "test_acc", 4), ("AUC", "test_auc", 4), ("F1", "test_f1", 4))
    for label, key, digits in rows:
        say(f"  {label}: {_fixed(record[key], digits)}")
    say(f"Results saved to: {path}")


def _fixed(value: float | None, digits: int) -> str:
    return "nan" if value is None or not math.isfinite(value) else f"{value:.{digits}f}"
