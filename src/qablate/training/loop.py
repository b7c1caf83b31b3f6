"""The training loop, the same for every model and task: items, random streams, step, validation, loop.

Every epoch is a function of (weights, optimiser, epoch): generators are reseeded and the batch order is drawn anew at
its start. A run that stops between any two batches and goes on from its checkpoint therefore ends bit-equal.

Random streams: `seed(name) = first 8 bytes of sha256("qablate-rng-1/{name}/{train_seed}/{rest}")`, little-endian, 63
bits. Data and split have their own generators (qablate.tasks); `init` draws the weights, `shuffle` the batch order and
`dropout` the masks of one epoch, `bootstrap` the intervals. Nothing else enters: no system, no path, no code version.

Shapes: n items, b batch, c channels, l length, o outputs.
"""

import hashlib
import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from inspect import unwrap
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from qablate import logs
from qablate.catalog import TaskKind
from qablate.tasks import Dataset, Split
from qablate.training.checkpoint import Progress
from qablate.training.interrupts import Interrupts, Stopped

EVALUATION_BATCH = 32
GPU_EVALUATION_BATCH = 128
"""A GPU takes as long for 32 items as for four times as many; outputs agree to 1e-5 (tests/training/test_loop.py)."""
MAX_NONFINITE_RUN = 10
Weights = dict[str, Tensor]


@dataclass(frozen=True)
class Items:
    """One part of the split: inputs (n, c, l) float32; targets (n, o) float32 or labels (n,) int64."""

    inputs: Tensor
    targets: Tensor

    def __len__(self) -> int:
        return len(self.inputs)


@dataclass(frozen=True)
class CellData:
    """Training, validation and test items; the test items are read once, after training."""

    train: Items
    validation: Items
    test: Items
    split: Split


def cut(dataset: Dataset, split: Split, device: torch.device) -> CellData:
    """Put a dataset on a device, channels before time as the models take it."""

    def items(indices: np.ndarray) -> Items:
        inputs = np.ascontiguousarray(dataset.sequences[indices].transpose(0, 2, 1))  # (n, c, l)
        return Items(torch.from_numpy(inputs).to(device), torch.from_numpy(dataset.targets[indices]).to(device))

    return CellData(items(split.train), items(split.val), items(split.test), split)


@dataclass(frozen=True)
class Streams:
    """The seeds of one cell. `cell` is the cell key without its seed: `published/published/1b/adding_problem/L100`."""

    train_seed: int
    cell: str

    def seed(self, name: str, epoch: int | None = None) -> int:
        """Return the 63-bit seed of a stream; `shuffle` and `dropout` have one for each epoch."""
        rest = self.cell if epoch is None else f"{self.cell}/{epoch}"
        digest = hashlib.sha256(f"qablate-rng-1/{name}/{self.train_seed}/{rest}".encode("ascii")).digest()
        return int.from_bytes(digest[:8], "little") & (2**63 - 1)

    def batch_order(self, n_items: int, epoch: int) -> Tensor:
        """Return the order of the training items in one epoch (n_items,), from a generator of its own."""
        generator = torch.Generator().manual_seed(self.seed("shuffle", epoch))
        return torch.randperm(n_items, generator=generator)


def generator_states() -> dict[str, Tensor]:
    """Return the states of torch's global generators; models and dropout draw from no other."""
    states = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        states["cuda"] = torch.cuda.get_rng_state()
    return states


def restore_generators(states: dict[str, Tensor]) -> None:
    """Put back what `generator_states` returned."""
    torch.set_rng_state(states["cpu"])
    if "cuda" in states and torch.cuda.is_available():
        torch.cuda.set_rng_state(states["cuda"])


class StepOutcome(NamedTuple):
    """Loss of the batch before the step, correct predictions (0 for regression), and whether the step was taken."""

    loss: float
    correct: int
    taken: bool


class TrainingStep:
    """Forward, backward, clip and update of one batch; skips the update when a gradient is not finite."""

    def __init__(self, model: nn.Module, kind: TaskKind, training: dict[str, Any]) -> None:
        self.model, self.kind = model, kind
        self.parameters = [p for p in model.parameters() if p.requires_grad]
        self.clip_norm: float = training["clip_norm"]
        self.base_rate: float = training["learning_rate"]
        self.max_epochs: int = training["max_epochs"]
        self.optimizers = adamw(self.parameters, self.base_rate, training["weight_decay"])

    def learning_rate(self, epoch: int) -> float:
        """Cosine from the base rate to 0 over `max_epochs`; `epoch` counts from 1."""
        return 0.5 * self.base_rate * (1 + math.cos(math.pi * (epoch - 1) / self.max_epochs))

    def begin_epoch(self, epoch: int) -> None:
        """Set the epoch's learning rate: the schedule is a function of the epoch and needs no state."""
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = self.learning_rate(epoch)

    def __call__(self, inputs: Tensor, targets: Tensor) -> StepOutcome:
        """Train on one batch: inputs (b, c, l), targets (b, o) or labels (b,)."""
        for optimizer in self.optimizers:
            optimizer.zero_grad(set_to_none=True)
        outputs = self.model(inputs)
        regression = self.kind == "regression"
        loss = F.mse_loss(outputs, targets) if regression else F.cross_entropy(outputs, targets)
        value, correct = loss.item(), 0 if regression else correct_predictions(outputs.detach(), targets)
        if not math.isfinite(value):
            return StepOutcome(value, correct, taken=False)
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(self.parameters, self.clip_norm)
        taken = math.isfinite(norm.item())
        if taken:
            for optimizer in self.optimizers:
                optimizer.step()
        return StepOutcome(value, correct, taken)


class EagerAdamW(torch.optim.AdamW):
    """AdamW without its guards against torch.compile, which import the compiler: a third of a process's start."""

    step = torch.no_grad()(unwrap(torch.optim.AdamW.step))
    zero_grad = unwrap(torch.optim.AdamW.zero_grad)
    add_param_group = unwrap(torch.optim.AdamW.add_param_group)
    state_dict = unwrap(torch.optim.AdamW.state_dict)
    load_state_dict = unwrap(torch.optim.AdamW.load_state_dict)


def adamw(parameters: list[nn.Parameter], rate: float, weight_decay: float) -> list[torch.optim.AdamW]:
    """Return AdamW over all parameters as at most two optimisers, real and complex.

    The update is element-wise, so the cut changes no number; torch's fused form, four times faster on these many
    small tensors, takes real ones only.
    """
    settings: dict[str, Any] = {"lr": rate, "betas": (0.9, 0.999), "eps": 1e-8, "weight_decay": weight_decay}
    real, other = ([p for p in parameters if p.is_complex() == is_complex] for is_complex in (False, True))
    optimizers: list[torch.optim.AdamW] = [EagerAdamW(real, fused=True, **settings)]
    return [*optimizers, EagerAdamW(other, **settings)] if other else optimizers


def load_optimizer(optimizer: torch.optim.Optimizer, saved: dict[str, Any]) -> None:
    """Load a saved state; ValueError for another recipe or other shapes, which torch's fused kernels do not check."""
    recipe = ("betas", "eps", "weight_decay")
    before = [[group[key] for key in recipe] for group in optimizer.param_groups]
    optimizer.load_state_dict(saved)
    if [[group[key] for key in recipe] for group in optimizer.param_groups] != before:
        raise ValueError(f"the optimiser was saved with other {', '.join(recipe)}")
    for parameter, state in optimizer.state.items():
        moments = {(state[key].shape, state[key].dtype) for key in ("exp_avg", "exp_avg_sq")}
        if state["step"].numel() != 1 or moments != {(parameter.shape, parameter.dtype)}:
            raise ValueError("the optimiser's state has other shapes than the weights")


def outputs_of(
    model: nn.Module, inputs: Tensor, check_interrupts: Callable[[], None] = lambda: None, batch_size: int | None = None
) -> Tensor:
    """Return the model's outputs (n, o) for inputs (n, c, l), in order; the model is left in training mode.

    `check_interrupts()` is called after every batch; what it raises ends the pass.
    """
    batch_size = batch_size or (GPU_EVALUATION_BATCH if inputs.is_cuda else EVALUATION_BATCH)
    model.eval()
    parts = []
    for batch in inputs.split(batch_size):
        with torch.no_grad():  # inference_mode would make cached tensors that no later backward pass may save
            parts.append(model(batch))
        check_interrupts()
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
        if self.progress.stop_reason is not None:
            return
        check_interrupts = partial(self._save_or_stop, interrupts, save)
        while True:
            self._epoch(check_interrupts)
            self._end_epoch(check_interrupts)
            if self.progress.stop_reason is not None:
                break
            self.progress.begin_next_epoch()
        save()

    def _epoch(self, check_interrupts: Callable[[], None]) -> None:
        """Train on the batches of the current epoch that are still to come."""
        progress, batches = self.progress, self._batches()
        self.step.begin_epoch(progress.epoch)
        already, began = progress.epoch_seconds, time.perf_counter()
        while progress.batch < len(batches) and progress.stop_reason is None:
            self._batch(batches[progress.batch], len(batches))
            progress.epoch_seconds = already + time.perf_counter() - began
            if progress.stop_reason is None:
                check_interrupts()

    def _batches(self) -> tuple[Tensor, ...]:
        """Indices of the current epoch's batches; seeds dropout where the epoch begins."""
        progress, items = self.progress, self.data.train
        if progress.batch == 0:
            torch.manual_seed(self.streams.seed("dropout", progress.epoch))
        order = self.streams.batch_order(len(items), progress.epoch).to(items.inputs.device)
        return order.split(self.training["batch_size"])

    def _save_or_stop(self, interrupts: Interrupts, save: Callable[[], None]) -> None:
        reason = interrupts.stop_reason()
        if reason or interrupts.save_due():
            save()
            interrupts.saved()
        if reason:
            raise Stopped(reason)

    def _batch(self, chosen: Tensor, n_batches: int) -> None:
        progress, items = self.progress, self.data.train
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

    def _end_epoch(self, check_interrupts: Callable[[], None]) -> None:
        """Validate, extend the curves, keep the best weights, decide whether to stop, print the line of the epoch."""
        progress, limit, patience = self.progress, self.training["max_epochs"], self.training["patience"]
        began = time.perf_counter()
        row = self._row(check_interrupts)
        improved = self._improved(row["val_metric"])
        for key, value in row.items():
            progress.history[key].append(value)
        progress.epoch_seconds += time.perf_counter() - began
        progress.seconds.append(progress.epoch_seconds)
        if progress.stop_reason is None:
            if row["val_metric"] is None:
                self._diverge()
            elif progress.epochs_since_best >= patience:
                progress.stop_reason = "patience"
            elif progress.epoch >= limit:
                progress.stop_reason = "max_epochs"
        left = progress.seconds_left(limit) if progress.stop_reason is None else None
        logs.say_epoch(self.kind, progress.epoch, limit, progress.epoch_seconds, improved, row, left)
        if progress.stop_reason == "patience":
            logs.say_early_stop(progress.epoch, patience)
        progress.epoch_seconds = 0.0

    def _row(self, check_interrupts: Callable[[], None]) -> dict[str, Any]:
        progress = self.progress
        row: dict[str, Any] = dict.fromkeys(("train_loss", "train_metric", "val_loss", "val_metric"))
        row |= {"epochs": progress.epoch, "lr": self.step.learning_rate(progress.epoch)}
        if progress.stop_reason == "non_finite":
            return row
        loss, validation, test = finite(progress.loss_sum), self.data.validation, self.data.test
        row["train_loss"] = loss
        row["train_metric"] = loss if self.kind == "regression" else progress.correct / len(self.data.train)
        outputs = outputs_of(self.model, validation.inputs, check_interrupts)
        row["val_loss"], row["val_metric"] = validation_values(self.kind, outputs, validation.targets)
        if self.legacy_metric:    # counted on the test half; the number goes nowhere but into `legacy_correct`
            outputs = outputs_of(self.model, test.inputs, check_interrupts)
            progress.legacy_correct.append(correct_predictions(outputs, test.targets))
        return row

    def _improved(self, value: float | None) -> bool:
        """Whether the epoch is the best so far, and its weights kept; accuracy must exceed 0, as published."""
        progress, sign = self.progress, -1 if self.kind == "regression" else 1
        if value is None:
            return False
        worst = -math.inf if sign < 0 else 0.0
        if not sign * value > (worst if progress.best_metric is None else sign * progress.best_metric):
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
            "progress": asdict(self.progress),
            "model": self.model.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in self.step.optimizers],
            "best_weights": self.best_weights,
            "generators": generator_states(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from what `state` returned."""
        n_items, self.best_weights = len(self.data.train), state["best_weights"]
        n_batches = -(-n_items // self.training["batch_size"])
        self.progress = Progress.from_dict(state["progress"], self.training["max_epochs"], n_batches, n_items)
        self.progress.n_resumes += 1
        if (self.best_weights is None) != (self.progress.best_epoch is None):
            raise ValueError("best_weights and best_epoch do not belong together")
        self.restore_best()  # needed at the end: better refused now than then
        self.model.load_state_dict(state["model"])
        for optimizer, saved in zip(self.step.optimizers, state["optimizers"], strict=True):
            load_optimizer(optimizer, saved)
        restore_generators({name: value.cpu() for name, value in state["generators"].items()})
