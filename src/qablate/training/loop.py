"""The training loop, the same for every model and task.

Every epoch is a function of (weights, optimiser, epoch): generators are reseeded and the batch order is drawn anew at
its start. A run that stops between any two batches and goes on from its checkpoint therefore ends bit-equal.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from qablate import logs
from qablate.catalog import TaskKind
from qablate.training.data import CellData, Items
from qablate.training.evaluate import correct_predictions, finite, outputs_of, validation_values
from qablate.training.interrupts import Interrupts, Stopped
from qablate.training.progress import Progress
from qablate.training.step import TrainingStep, load_optimizer
from qablate.training.streams import Streams, generator_states, restore_generators, seed_everything

MAX_NONFINITE_RUN = 10
Weights = dict[str, Tensor]


@dataclass
class Training:
    """One cell in training: model, items, streams and progress; `training` are the study's settings."""

    model: nn.Module
    kind: TaskKind
    data: CellData
    streams: Streams
    training: dict[str, Any]
    legacy_metric: bool = False

    def __post_init__(self) -> None:
        self.step = TrainingStep(self.model, self.kind, self.training)
        self.progress = Progress()
        self.best_weights: Weights | None = None

    def run(self, interrupts: Interrupts, save: Callable[[], None]) -> None:
        """Train to the end of the recipe; raise Stopped when interrupted, after `save()`.

        The end is saved too: what goes wrong while the result is tested and written costs no training.
        """
        self.model.train()
        progress = self.progress
        if progress.stop_reason is not None:
            return
        while True:
            self._epoch(partial(self._save_or_stop, interrupts, save))
            self._end_epoch(partial(self._save_or_stop, interrupts, save))
            if progress.stop_reason is not None:
                break
            progress.begin_next_epoch()
        save()

    def _epoch(self, between: Callable[[], None]) -> None:
        """Train on the batches of the current epoch that are still to come."""
        progress, items, batches = self.progress, self.data.train, self._batches()
        self.step.begin_epoch(progress.epoch)
        already, began = progress.epoch_seconds, time.perf_counter()
        while progress.batch < len(batches) and progress.stop_reason is None:
            self._batch(items, batches[progress.batch], len(batches))
            progress.epoch_seconds = already + time.perf_counter() - began
            if progress.stop_reason is None:
                between()

    def _batches(self) -> tuple[Tensor, ...]:
        """Indices of the current epoch's batches; seeds dropout where the epoch begins."""
        progress, items = self.progress, self.data.train
        if progress.batch == 0:
            seed_everything(self.streams.seed("dropout", progress.epoch))
        order = self.streams.batch_order(len(items), progress.epoch).to(items.inputs.device)
        return order.split(self.training["batch_size"])

    def _save_or_stop(self, interrupts: Interrupts, save: Callable[[], None]) -> None:
        reason = interrupts.stop_reason()
        if reason or interrupts.save_due():
            save()
            interrupts.saved()
        if reason:
            raise Stopped(reason)

    def _batch(self, items: Items, chosen: Tensor, n_batches: int) -> None:
        progress = self.progress
        outcome = self.step(items.inputs[chosen], items.targets[chosen])
        if finite(outcome.loss) is None:
            self._diverge()
            return
        progress.loss_sum += outcome.loss * self.batch_weight(len(chosen), n_batches)
        progress.correct += outcome.correct
        progress.batch += 1
        progress.nonfinite_grad_run = 0 if outcome.taken else progress.nonfinite_grad_run + 1
        progress.nonfinite_grad_steps += not outcome.taken
        if progress.nonfinite_grad_run >= MAX_NONFINITE_RUN:
            self._diverge()

    def batch_weight(self, size: int, n_batches: int) -> float:
        """Share of a batch in the epoch's loss, as published: by items for regression, by batches otherwise."""
        return size / len(self.data.train) if self.kind == "regression" else 1 / n_batches

    def _diverge(self) -> None:
        self.progress.stop_reason, self.progress.diverged_epoch = "non_finite", self.progress.epoch

    def _end_epoch(self, between: Callable[[], None]) -> None:
        """Validate, extend the curves, keep the best weights, decide whether to stop, print the line of the epoch."""
        progress = self.progress
        began = time.perf_counter()
        row = self._row(between)
        improved = self._improved(row["val_metric"])
        for key, value in row.items():
            progress.history[key].append(value)
        progress.epoch_seconds += time.perf_counter() - began
        progress.seconds.append(progress.epoch_seconds)
        if progress.stop_reason is None and row["val_metric"] is None:
            self._diverge()
        limit, patience = self.training["max_epochs"], self.training["patience"]
        if progress.stop_reason is None and progress.epochs_since_best >= patience:
            progress.stop_reason = "patience"
        elif progress.stop_reason is None and progress.epoch >= limit:
            progress.stop_reason = "max_epochs"
        left = progress.seconds_left(limit) if progress.stop_reason is None else None
        logs.say_epoch(self.kind, progress.epoch, limit, progress.epoch_seconds, improved, row, left)
        if progress.stop_reason == "patience":
            logs.say_early_stop(progress.epoch, patience)
        progress.epoch_seconds = 0.0

    def _row(self, between: Callable[[], None]) -> dict[str, Any]:
        progress = self.progress
        row: dict[str, Any] = dict.fromkeys(("train_loss", "train_metric", "val_loss", "val_metric"))
        row |= {"epochs": progress.epoch, "lr": self.step.learning_rate(progress.epoch)}
        if progress.stop_reason == "non_finite":
            return row
        loss = finite(progress.loss_sum)
        row["train_loss"] = loss
        row["train_metric"] = loss if self.kind == "regression" else progress.correct / len(self.data.train)
        validation = self.data.validation
        outputs = outputs_of(self.model, validation, between)
        row["val_loss"], row["val_metric"] = validation_values(self.kind, outputs, validation.targets)
        if self.legacy_metric:
            self._count_legacy(between)
        return row

    def _count_legacy(self, between: Callable[[], None]) -> None:
        """Count correct predictions on the test half; the number goes nowhere but into `legacy_correct`."""
        test = self.data.test
        self.progress.legacy_correct.append(correct_predictions(outputs_of(self.model, test, between), test.targets))

    def _improved(self, value: float | None) -> bool:
        progress, best = self.progress, self.progress.best_metric
        smaller = self.kind == "regression"
        if value is None:
            return False
        start = float("inf") if smaller else 0.0
        reference = start if best is None else best
        if not (value < reference if smaller else value > reference):
            progress.epochs_since_best += 1
            return False
        progress.best_metric, progress.best_epoch, progress.epochs_since_best = value, progress.epoch, 0
        self.best_weights = {key: tensor.detach().cpu().clone() for key, tensor in self.model.state_dict().items()}
        return True

    def restore_best(self) -> None:
        """Put the weights of the best epoch back; the last ones stay if no epoch ever improved, as published."""
        if self.best_weights is not None:
            self.model.load_state_dict(self.best_weights)

    def state(self) -> dict[str, Any]:
        """Return everything a checkpoint needs to go on exactly from here."""
        return {
            "progress": self.progress.to_dict(),
            "model": self.model.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in self.step.optimizers],
            "best_weights": self.best_weights,
            "generators": generator_states(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from what `state` returned."""
        n_items = len(self.data.train)
        n_batches = -(-n_items // self.training["batch_size"])
        self.progress = Progress.from_dict(state["progress"], self.training["max_epochs"], n_batches, n_items)
        self.progress.n_resumes += 1
        if (state["best_weights"] is None) != (self.progress.best_epoch is None):
            raise ValueError("best_weights and best_epoch do not belong together")
        if state["best_weights"] is not None:
            self.model.load_state_dict(state["best_weights"])  # needed at the end: better refused now than then
        self.model.load_state_dict(state["model"])
        for optimizer, saved in zip(self.step.optimizers, state["optimizers"], strict=True):
            load_optimizer(optimizer, saved)
        self.best_weights = state["best_weights"]
        restore_generators({name: value.cpu() for name, value in state["generators"].items()})


def build_seeded(build: Callable[[], nn.Module], streams: Streams, device: torch.device) -> nn.Module:
    """Build a model from its `init` stream: weights do not depend on what ran before."""
    seed_everything(streams.seed("init"))
    return build().to(device)
