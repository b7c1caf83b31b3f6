"""The training log of a cell: the published lines, one per epoch, and one JSON line per event; written and read here.

The published form is kept because the users' scripts parse it; ours and theirs are read by the same rules. A log that
was appended to holds several trainings; the last one that began counts. A published training begins at its header;
ours says by an event whether it began or went on from a checkpoint, so that a resumed cell keeps the epochs before.

Nothing that is read is believed to be well-formed: it may be cut off, overwritten or no text at all.
"""

import contextlib
import functools
import json
import math
import os
import platform
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from qablate.catalog import MODEL_TOKEN, MODELS, TASK_TOKEN, TASKS, TaskKind, model_info, task_info
from qablate.files import read_regular
from qablate.records import CURVES, METRICS, Record
from qablate.slurm import command_of
from qablate.study import Cell, DatasetSpec
from qablate.variants import split_token

EVENT = "@qablate "
ENDED = ("stop", "fail", "result")
SILENCE_S = 120.0
"""Seconds that a running cell may stay silent beyond its checkpoint interval: loading, one batch, a busy disk."""
LONGEST_INTERVAL_S = 3600.0
MAX_LOG_BYTES, HEAD_BYTES, TAIL_BYTES = 50_000_000, 4096, 2_000_000
"""The tail holds the 10,000 epochs that a recipe may have, so that the start of the last attempt is in it."""

RESULT_LINES: dict[TaskKind, dict[str, tuple[str, int]]] = {
    "regression": {"test_mse": ("MSE", 6), "test_mae": ("MAE", 6), "test_r2": ("R²", 4)},
    "classification": {"test_acc": ("Accuracy", 4), "test_auc": ("AUC", 4), "test_f1": ("F1", 4)},
}
"""Label and decimals of each test result that is printed."""
BEST_LINE: dict[TaskKind, tuple[str, int]] = {"regression": ("Best Val MSE", 6), "classification": ("Best Val Acc", 4)}

NUMBER = r"([-+]?(?:\d+\.?\d*(?:[eE][-+]?\d+)?|nan|inf))"
EPOCH = re.compile(r"Epoch +(\d{1,6})/(\d{1,6}) \((\d{1,9}(?:\.\d{1,3})?)s\)(?: \*)? \| (.*?)"
                   r"(?: \| at most [\d.]+ \w+ left)?$", re.ASCII)
REGRESSION = re.compile(rf"Train MSE: {NUMBER} \| Val MSE: {NUMBER}")
CLASSIFICATION = re.compile(rf"Train: {NUMBER}/{NUMBER} \| Val: {NUMBER}/{NUMBER}")
HEADER = {
    "model": re.compile(rf"Model ID: ({MODEL_TOKEN}) \("),
    "task": re.compile(rf"Task: ({TASK_TOKEN}) \("),
    "length": re.compile(r"Sequence Length: (\d{1,6})$"),
    "seed": re.compile(r"Seed: (\d{1,10})$"),
    "n_params": re.compile(r"Model parameters: ([\d,]{1,20})$"),
}
RESULTS = {
    "training_time": re.compile(rf"Total Time: {NUMBER}s"),
    "best_val_metric": re.compile(rf"Best Val (?:MSE|Acc): {NUMBER}$"),
    **{key: re.compile(rf"  {label}: {NUMBER}$")
       for lines in RESULT_LINES.values() for key, (label, _) in lines.items()},
}


def say(text: str) -> None:
    """Print lines, if they can be: a full disk, a closed pipe or a terminal that is gone ends no training."""
    with contextlib.suppress(OSError, ValueError):  # ValueError: the stream was closed
        print(text, flush=True)


def say_event(name: str, **facts: Any) -> None:
    """Print one machine-readable line: `@qablate {"event": "checkpoint", ...}`."""
    say(EVENT + json.dumps({"event": name, **facts}))


def say_header(cell: Cell, spec: DatasetSpec, n_params: int, command: str) -> None:
    """Print what is trained, beginning with the line that repeats it."""
    say(f"$ {command}")
    say(f"Model ID: {cell.model} ({model_info(cell.model).name})")
    say(f"Task: {cell.task} ({spec.info.kind})")
    say(f"Sequence Length: {cell.length}")
    say(f"Seed: {cell.seed}")
    say(f"Model parameters: {n_params:,}")


def say_other_numbers(before: dict[str, Any], now: dict[str, Any]) -> None:
    """Say in one line what computes otherwise than it did for the checkpoint that a cell goes on from.

    Both are what checkpoints hold as `made_by`; what one of them lacks is not known to differ.
    """
    left, right = ({**made_by, **made_by.get("kernels", {})} for made_by in (before, now))
    parts = ("device", "cpu", "threads", "torch", "circuits", "scan")
    changes = [f"{part} {right[part]}, was {left[part]}" for part in parts
               if part in left and part in right and left[part] != right[part]]
    if changes:
        say(f"Other numbers from here on, by rounding: {'; '.join(changes)}")


def say_epoch(kind: TaskKind, epoch: int, max_epochs: int, seconds: float, improved: bool, row: dict[str, Any],
              seconds_left: float | None = None) -> None:
    """Print one epoch: number, seconds, `*` if the validation metric improved, training and validation values.

    `seconds_left` is what all epochs of the recipe would still take; early stopping may end it before.
    """
    form, digits = ("Train MSE: {train_loss} | Val MSE: {val_loss}", 6) if kind == "regression" else (
        "Train: {train_loss}/{train_metric} | Val: {val_loss}/{val_metric}", 4)
    text = form.format(**{key: _fixed(row.get(key), digits) for key in CURVES})
    left = "" if seconds_left is None else f" | at most {duration(seconds_left)} left"
    say(f"Epoch {epoch:3d}/{max_epochs} ({seconds:.1f}s){' *' if improved else ''} | {text}{left}")


def say_early_stop(epoch: int, patience: int) -> None:
    """Print the published line of early stopping."""
    say(f"Early stopping at epoch {epoch} (no improvement for {patience} epochs)")


def say_results(record: Record, path: str) -> None:
    """Print total time, best validation value and test results of a finished cell."""
    seconds, kind = record["training_time"], record["task_type"]
    label, digits = BEST_LINE[kind]
    say(f"Total Time: {seconds:.2f}s ({seconds / 60:.2f} min)")
    say(f"{label}: {_fixed(record['best_val_metric'], digits)}\nTest Results:")
    for key, (label, digits) in RESULT_LINES[kind].items():
        say(f"  {label}: {_fixed(record[key], digits)}")
    say(f"Results saved to: {path}")


def duration(seconds: float) -> str:
    """`50 s`, `12 min` or `3.4 h`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _fixed(value: float | None, digits: int) -> str:
    return "nan" if value is None or not math.isfinite(value) else f"{value:.{digits}f}"


@dataclass
class Log:
    """The last training of a log, or of what was read of it.

    `epochs`, their values `rows` in the order of `CURVES` and their `seconds` are those that were printed. `results`
    holds what was printed at the end, None where not finite. `event` is the last event, `began` the last start or
    resume; `resumed_at` is the epoch under way in the checkpoint that the training went on from, 0 without one, and
    `saved_epoch` the one under way in the last checkpoint that was written or read. `modified`: seconds since 1970,
    0 without a file.
    """

    path: Path
    modified: float = 0.0
    header: dict[str, str] = field(default_factory=dict)
    max_epochs: int = 0
    epochs: list[int] = field(default_factory=list)
    rows: list[tuple[float | None, ...]] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    results: dict[str, float | None] = field(default_factory=dict)
    event: dict[str, Any] = field(default_factory=dict)
    began: dict[str, Any] = field(default_factory=dict)
    resumed_at: int = 0
    saved_epoch: int | None = None

    @property
    def cell(self) -> Cell | None:
        """The cell its header names, if it names one of the known models and tasks."""
        model, task = (split_token(self.header.get(key, ""))[0] for key in ("model", "task"))
        if model not in MODELS or task not in TASKS or not {"length", "seed"} <= self.header.keys():
            return None
        return Cell(self.header["model"], self.header["task"], int(self.header["length"]), int(self.header["seed"]))

    @property
    def complete(self) -> bool:
        """Whether the log reaches the primary test metric."""
        return self.cell is not None and task_info(self.cell.task).metric in self.results

    @property
    def last_epoch(self) -> int:
        """Last epoch that was printed; 0 if none was."""
        return self.epochs[-1] if self.epochs else 0

    @property
    def name(self) -> str:
        """Name of the last event, empty if there is none."""
        return str(self.event.get("event", ""))

    @property
    def reason(self) -> str:
        """Reason that the last event gives, in one line that any terminal can show."""
        return "".join(sign if sign.isprintable() else " " for sign in str(self.event.get("reason", ""))[:500])

    def silent_for(self, now: float) -> float | None:
        """Seconds since the log was last written to."""
        return max(0.0, now - self.modified) if self.modified else None

    def is_running(self, checkpoint_interval: float, now: float) -> bool:
        """Whether a process seems to be at work on this log.

        A running cell writes a line at every epoch and every checkpoint, so that one that has been silent for much
        longer is none. A process of this machine that is gone is known to be gone.
        """
        silence = self.silent_for(now)
        if silence is None or not self.began or self.name in ENDED or self.process_gone:
            return False
        usual = max(1.5 * min(checkpoint_interval, LONGEST_INTERVAL_S), 3 * max(self.seconds, default=0.0))
        return silence < usual + SILENCE_S

    @property
    def process_gone(self) -> bool:
        """Whether the process that wrote this log was one of this machine and is no more."""
        process, here = self.began.get("pid"), self.began.get("host") == platform.node()
        return here and type(process) is int and 0 < process < 2**31 and command_of(process) is None

    def agrees_with(self, record: Record) -> bool:
        """Whether every number that log and record both hold is the same to the digits the log prints."""
        kind = record["task_type"]
        digits = {"best_val_metric": BEST_LINE[kind][1], **{key: n for key, (_, n) in RESULT_LINES[kind].items()}}
        shared = [(record[key], value, digits[key]) for key in digits
                  if record.get(key) is not None and (value := self.results.get(key)) is not None]
        return bool(shared) and all(abs(held - printed) <= 0.51 * 10.0**-n for held, printed, n in shared)

    def record(self) -> Record:
        """The result as far as the log tells it: curves only at the epochs that were printed, learning rates None."""
        assert self.cell is not None
        task, n_params = task_info(self.cell.task), self.header.get("n_params", "").replace(",", "")
        return {
            **self.cell.identity,
            "n_params": int(n_params) if n_params else None,
            "hyperparameters": {"n_epochs": self.max_epochs} if self.max_epochs else {},
            "history": {**{key: [row[at] for row in self.rows] for at, key in enumerate(CURVES)},
                        "epochs": list(self.epochs), "lr": [None] * len(self.epochs)},
            **{key: self.results.get(key) for key in ("best_val_metric", *METRICS[task.kind])},
            "baseline": task.nominal_baseline,
            "training_time": self.results.get("training_time"),
            "epochs_trained": self.last_epoch or None,
            "timestamp": None,
        }

    def _restart(self) -> None:
        """Forget all but the header, which is printed before a training begins."""
        self.epochs, self.rows, self.seconds, self.results = [], [], [], {}
        self.resumed_at, self.saved_epoch = 0, None

    def _read_event(self, text: str) -> None:
        """Follow an event, an empty one if it is damaged; only a start forgets the epochs before."""
        try:
            event = json.loads(text)
        except (ValueError, RecursionError):
            event = None
        self.event = event if isinstance(event, dict) else {}
        epoch = self.event.get("epoch")
        if self.name == "start":
            self._restart()
        if self.name in ("start", "resume"):
            self.began = self.event
        if self.name in ("resume", "checkpoint"):
            self.saved_epoch = epoch if type(epoch) is int and 0 <= epoch < 10**6 else None
            self.resumed_at = self.saved_epoch or 0 if self.name == "resume" else self.resumed_at

    def _read_epoch(self, line: str) -> None:
        """Keep one epoch; a line that is cut off or out of order is passed over.

        After a resume, an epoch that is printed again was trained again, and all after it are.
        """
        found = EPOCH.match(line)
        values = found and (REGRESSION.fullmatch(found[4]) or CLASSIFICATION.fullmatch(found[4]))
        if not found or not values:
            return
        numbers, epoch = tuple(map(_number, values.groups())), int(found[1])
        while self.last_epoch >= epoch >= self.resumed_at > 0:
            for column in (self.epochs, self.rows, self.seconds):
                column.pop()
        if epoch > self.last_epoch:
            self.max_epochs = int(found[2])
            self.epochs.append(epoch)
            # regression prints loss and metric once
            self.rows.append(numbers if len(numbers) == len(CURVES) else tuple(numbers[at] for at in (0, 0, 1, 1)))
            self.seconds.append(float(found[3]))

    def _read_header_or_result(self, line: str) -> None:
        """Read any other line; a header that differs from the one before is of another training."""
        header = {key: found[1] for key, pattern in HEADER.items() if (found := pattern.match(line))}
        if any(self.header.get(key, value) != value for key, value in header.items()):
            self._restart()
        self.header |= header
        self.results |= {key: _number(found[1]) for key, pattern in RESULTS.items() if (found := pattern.match(line))}


def log_path(results: Path, name: str) -> Path:
    """Log of the cell with this name below a results folder."""
    return results / "logs" / "train" / f"{name}.log"


def read_tail(path: Path) -> Log:
    """Read the end of a log: how far it came, what happened last; an empty Log if there is none that can be read."""
    with contextlib.suppress(OSError):
        if path.is_file():
            with path.open("rb") as file:
                status = os.fstat(file.fileno())
                file.seek(max(0, status.st_size - TAIL_BYTES))
                return parse_log(_lines(file.read(TAIL_BYTES)), path, status.st_mtime)
    return Log(path)


def read_log(path: Path) -> Log | None:
    """Read one log; None for a file that is none (no `Model ID:` in its first lines, too large, unreadable)."""
    try:
        status = path.stat()
        return _read(path, status.st_mtime, status.st_size, status.st_ctime_ns)
    except OSError:
        return None


@functools.lru_cache(maxsize=2048)
def _read(path: Path, modified: float, *state: int) -> Log | None:
    content = read_regular(path, MAX_LOG_BYTES)
    return parse_log(_lines(content), path, modified) if b"Model ID: " in content[:HEAD_BYTES] else None


def _lines(content: bytes) -> list[str]:
    return content.decode("utf-8", errors="replace").splitlines()


def parse_log(lines: Sequence[str], path: Path, modified: float = 0.0) -> Log:
    """Collect the last training of a log, line by line."""
    has_events = any(line.startswith(EVENT) for line in lines)
    log = Log(path, modified)
    for line in lines:
        if line.startswith(EVENT):
            log._read_event(line.removeprefix(EVENT))
        elif line.startswith("Epoch "):
            log._read_epoch(line)
        elif len(line) < 200:
            if "Model ID: " in line and not has_events:
                log = Log(path, modified)
            log._read_header_or_result(line)
    return log


def _number(text: str) -> float | None:
    return None if text.lstrip("+-") in ("nan", "inf") else float(text)
