"""How far the training of a cell has come: everything but weights, optimiser and generators, in plain types."""

import statistics
from dataclasses import asdict, dataclass, field
from typing import Any

from qablate.records import HISTORY


@dataclass
class Progress:
    """Position, running sums, curves and the best epoch so far.

    `epoch` counts from 1 and is the one under way; `batch` is the next batch of it. Curves hold None where a value was
    not finite. `legacy_correct` holds correct predictions on the test half of Forrelation per epoch: nothing that
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

    def to_dict(self) -> dict[str, Any]:
        """Return plain types for a checkpoint."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "Progress":
        """Rebuild what `to_dict` returned."""
        return cls(**values)
