"""How far the training of a cell has come: everything but weights, optimiser and generators, in plain types."""

import math
import statistics
from dataclasses import asdict, dataclass, field
from itertools import chain
from typing import Any

from qablate.records import HISTORY

MANY = 2**31


@dataclass
class Progress:
    """Position, running sums, curves and the best epoch so far.

    `epoch` counts from 1 and is the one under way; `batch` is the next batch of it. Curves hold None where a value was
    not finite. `kernels` names what has computed the circuits and scans so far, several in order of time.
    `legacy_correct` holds correct predictions on the test half of Forrelation per epoch: nothing that
    chooses or stops may read it (see qablate.training.legacy).
    """

    epoch: int = 1
    batch: int = 0
    loss_sum: float = 0.0
    correct: int = 0
    epoch_seconds: float = 0.0
    history: dict[str, list[Any]] = field(default_factory=lambda: {key: [] for key in HISTORY})
    seconds: list[float] = field(default_factory=list)
    best_metric: float | None = None
    best_epoch: int | None = None
    epochs_since_best: int = 0
    n_resumes: int = 0
    nonfinite_grad_steps: int = 0
    nonfinite_grad_run: int = 0
    stop_reason: str | None = None
    diverged_epoch: int | None = None
    legacy_correct: list[int] = field(default_factory=list)
    kernels: dict[str, str] = field(default_factory=dict)

    @property
    def elapsed(self) -> float:
        """Seconds of training so far, over all processes, without the test pass."""
        return sum(self.seconds) + self.epoch_seconds

    def seconds_left(self, max_epochs: int) -> float:
        """Seconds that all epochs after this one would take, by the median of those so far."""
        return (max_epochs - self.epoch) * statistics.median(self.seconds)

    def begin_next_epoch(self) -> None:
        """Move to the first batch of the next epoch."""
        self.epoch += 1
        self.batch, self.loss_sum, self.correct, self.epoch_seconds = 0, 0.0, 0, 0.0

    def add_kernels(self, names: dict[str, str]) -> None:
        """Note what computes from here on beside what has computed so far."""
        for part, name in names.items():
            known = self.kernels.setdefault(part, name).split(", ")
            self.kernels[part] = ", ".join(dict.fromkeys([*known, name]))

    def to_dict(self) -> dict[str, Any]:
        """Return plain types for a checkpoint."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any], max_epochs: int, n_batches: int, n_items: int) -> "Progress":
        """Rebuild what `to_dict` returned; ValueError for what a training of this size never comes to."""
        progress = cls(**values)
        _require_whole(progress, epoch=(1, max_epochs), batch=(0, n_batches), correct=(0, n_items))
        n_epochs = progress.epoch - (progress.stop_reason is None)
        _require_whole(progress, epochs_since_best=(0, n_epochs), n_resumes=(0, MANY), nonfinite_grad_run=(0, MANY),
                       nonfinite_grad_steps=(0, max_epochs * n_batches))
        if progress.stop_reason not in (None, "patience", "max_epochs", "non_finite"):
            raise ValueError(f"stop_reason is {str(progress.stop_reason)[:40]}")
        if progress.best_epoch is not None and progress.best_epoch not in range(1, n_epochs + 1):
            raise ValueError(f"best_epoch is {str(progress.best_epoch)[:40]} after {n_epochs} epochs")
        if not all(type(name) is str for name in progress.kernels.values()):
            raise ValueError("kernels holds what is no name")
        _require_curves(progress, n_epochs)
        return progress


def _require_whole(progress: Progress, **bounds: tuple[int, int]) -> None:
    for name, (low, high) in bounds.items():
        value = getattr(progress, name)
        if type(value) is not int or not low <= value <= high:
            raise ValueError(f"{name} is {str(value)[:40]}, allowed are {low} to {high}")


def _require_curves(progress: Progress, n_epochs: int) -> None:
    """A value for each epoch, and nothing but numbers."""
    curves = {**progress.history, "seconds": progress.seconds}
    for name, values in curves.items():
        if type(values) is not list or len(values) != n_epochs:
            raise ValueError(f"{name} is no list of {n_epochs} epochs")
    numbers = [progress.loss_sum, progress.epoch_seconds, progress.best_metric, *chain(*curves.values())]
    if not all(type(number) in (int, float) and math.isfinite(number) for number in numbers if number is not None):
        raise ValueError("a sum, a time or a curve holds what is no finite number")
    if list(progress.history) != list(HISTORY) or progress.history["epochs"] != list(range(1, n_epochs + 1)):
        raise ValueError("history has other curves, or does not count its epochs from 1")
