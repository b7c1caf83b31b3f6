"""What a training log tells: which cell, its curve as far as it was printed, its test results.

The lines are those of the published code, which ours prints too. A log that was appended to holds several trainings;
the last one that began counts. A published training begins at its header; ours says by an event whether it began or
went on from a checkpoint, so that a resumed cell keeps the epochs before.
"""

import functools
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from qablate.catalog import MODEL_TOKEN, MODELS, TASK_TOKEN, TASKS, task_info
from qablate.logtail import EVENT, parse_event
from qablate.records import CURVES, METRICS, Record
from qablate.study import Cell
from qablate.variants import split_token

MAX_LOG_BYTES = 50_000_000
HEAD_BYTES = 4096
NUMBER = r"([-+]?(?:\d+\.?\d*(?:[eE][-+]?\d+)?|nan|inf))"
EPOCH = re.compile(r"Epoch +(\d{1,6})/(\d{1,6}) \([\d.]+s\)(?: \*)? \| (.*?)(?: \| at most [\d.]+ \w+ left)?$")
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
    "test_mse": re.compile(rf"  MSE: {NUMBER}$"),
    "test_mae": re.compile(rf"  MAE: {NUMBER}$"),
    "test_r2": re.compile(rf"  R²: {NUMBER}$"),
    "test_acc": re.compile(rf"  Accuracy: {NUMBER}$"),
    "test_auc": re.compile(rf"  AUC: {NUMBER}$"),
    "test_f1": re.compile(rf"  F1: {NUMBER}$"),
}
PRINTED_DIGITS = {"test_r2": 4, "test_acc": 4, "test_auc": 4, "test_f1": 4}


@dataclass
class Log:
    """One training as its log tells it.

    `results` holds what was printed at its end, None where not finite; `resumed_at` is the epoch that was under way in
    the checkpoint it went on from, 0 without one.
    """

    path: Path
    header: dict[str, str] = field(default_factory=dict)
    max_epochs: int = 0
    epochs: list[int] = field(default_factory=list)
    rows: list[tuple[float | None, ...]] = field(default_factory=list)
    results: dict[str, float | None] = field(default_factory=dict)
    modified: float = 0.0
    resumed_at: int = 0

    def restart(self) -> None:
        """Forget all but the header, which is printed before a training begins."""
        self.epochs, self.rows, self.results, self.resumed_at = [], [], {}, 0

    @property
    def cell(self) -> Cell | None:
        """The cell its header names, if it names one of the known models and tasks."""
        known = {"model", "task", "length", "seed"} <= self.header.keys()
        if not known or split_token(self.header["model"])[0] not in MODELS:
            return None
        if split_token(self.header["task"])[0] not in TASKS:
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
    def history(self) -> dict[str, list[Any]]:
        """The curves in the form of a result, only at the epochs that were printed; learning rates are None."""
        columns: list[list[Any]] = [list(column) for column in zip(*self.rows, strict=True)] or [[] for _ in CURVES]
        return {**dict(zip(CURVES, columns, strict=True)), "epochs": list(self.epochs), "lr": [None] * len(self.epochs)}

    def agrees_with(self, record: Record) -> bool:
        """Whether every number that log and record both hold is the same to the digits the log prints."""
        digits = {"best_val_metric": 6 if record["task_type"] == "regression" else 4, **PRINTED_DIGITS}
        shared = [key for key in (*METRICS[record["task_type"]], "best_val_metric") if record.get(key) is not None
                  and self.results.get(key) is not None]
        return bool(shared) and all(
            abs(record[key] - (self.results[key] or 0.0)) <= 0.51 * 10.0 ** -digits.get(key, 6) for key in shared
        )

    def record(self) -> Record:
        """The result as far as the log tells it."""
        cell = self.cell
        assert cell is not None
        task = task_info(cell.task)
        n_params = self.header.get("n_params", "").replace(",", "")
        return {
            **cell.identity,
            "n_params": int(n_params) if n_params else None,
            "hyperparameters": {"n_epochs": self.max_epochs} if self.max_epochs else {},
            "history": self.history,
            "best_val_metric": self.results.get("best_val_metric"),
            **{key: self.results.get(key) for key in METRICS[task.kind]},
            "baseline": task.nominal_baseline,
            "training_time": self.results.get("training_time"),
            "epochs_trained": self.last_epoch or None,
            "timestamp": None,
        }


def read_log(path: Path) -> Log | None:
    """Read one log; None for a file that is none (no `Model ID:` in its first lines, too large, unreadable)."""
    try:
        status = path.stat()
        if not path.is_file() or status.st_size > MAX_LOG_BYTES:
            return None
        return _read(path, status.st_mtime, status.st_size, status.st_ctime_ns)
    except OSError:
        return None


@functools.lru_cache(maxsize=2048)
def _read(path: Path, modified: float, size: int, changed_ns: int) -> Log | None:
    try:
        with path.open("rb") as file:
            if b"Model ID: " not in file.read(HEAD_BYTES):
                return None
            file.seek(0)
            text = file.read(MAX_LOG_BYTES).decode("utf-8", errors="replace")
    except OSError:
        return None
    log = parse_log(text.splitlines(), path)
    log.modified = modified
    return log


def parse_log(lines: Iterable[str], path: Path) -> Log:
    """Collect the last training of a log, line by line."""
    lines = list(lines)
    has_events = any(line.startswith(EVENT) for line in lines)
    log = Log(path)
    for line in lines:
        if line.startswith(EVENT):
            _follow(log, parse_event(line))
        elif line.startswith("Epoch "):
            _add_epoch(log, line)
        elif len(line) < 200:
            if "Model ID: " in line and not has_events:
                log = Log(path)
            _read_header(log, line)
            _match(line, RESULTS, log.results, _number)
    return log


def _follow(log: Log, event: Mapping[str, Any]) -> None:
    """Forget earlier epochs where a training began anew, not where it went on."""
    if event.get("event") == "start":
        log.restart()
    elif event.get("event") == "resume" and isinstance(event.get("epoch"), int):
        log.resumed_at = event["epoch"]


def _read_header(log: Log, line: str) -> None:
    """Read a line of the header; one that differs from the header before is of another training."""
    before = dict(log.header)
    _match(line, HEADER, log.header, str)
    if any(log.header[key] != value for key, value in before.items()):
        log.restart()


def _match(line: str, patterns: dict[str, re.Pattern[str]], into: dict[str, Any], read: Callable[[str], Any]) -> None:
    for key, pattern in patterns.items():
        if found := pattern.match(line):
            into[key] = read(found[1])


def _add_epoch(log: Log, line: str) -> None:
    """Keep one epoch; a line that is cut off or out of order is passed over."""
    found = EPOCH.match(line)
    if found is None:
        return
    row, epoch = _row(found[3]), int(found[1])
    if epoch == log.resumed_at and epoch in log.epochs:    # a checkpoint inside this epoch, which is trained again
        at = log.epochs.index(epoch)
        del log.epochs[at:], log.rows[at:]
    if row is not None and epoch > log.last_epoch:
        log.max_epochs = int(found[2])
        log.epochs.append(epoch)
        log.rows.append(row)


def _row(text: str) -> tuple[float | None, ...] | None:
    """The values of one epoch in the order of `CURVES`; regression prints loss and metric once."""
    if found := REGRESSION.fullmatch(text):
        train, val = map(_number, found.groups())
        return train, train, val, val
    if found := CLASSIFICATION.fullmatch(text):
        return tuple(map(_number, found.groups()))
    return None


def _number(text: str) -> float | None:
    return None if text.lstrip("+-") in ("nan", "inf") else float(text)
