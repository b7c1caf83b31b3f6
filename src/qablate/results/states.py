"""What a file turned out to be, and the state of a cell: one word, one colour, and what it counts as, for all.

Plan, status, import and report take their words from here.
"""

import functools
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, Literal

from qablate.catalog import task_info
from qablate.files import sha256_of
from qablate.records import RESULT_NAME, Record
from qablate.study import Cell

Status = Literal["ok", "diverged", "no_improvement", "partial", "quarantined", "rejected", "duplicate", "unfinished"]
FINISHED = ("ok", "diverged", "no_improvement")
"""Statuses of a whole result."""
LOCAL = "local"
"""Label of the study's own results folder among the sources."""
COMPRESSED = (".gz", ".bz2", ".xz", ".zst", ".zip")
NAMELESS = Cell("", "", 0, 0)
"""Stands for the cell of a file whose name tells none."""
OTHER_SETTINGS = ("hyperparameters", "code_version", "dataset_mismatch")
"""Reasons of files that are sound but made with other settings or data than the study's."""


class State(StrEnum):
    """What is known of a cell, the most telling first; `label` says it to people, `colour` shows it in figures."""

    DONE = "done", "finished", "#4477AA"
    NO_IMPROVEMENT = "no_improvement", "finished, never improved", "#99BBDD"
    PARTIAL = "partial", "finished, file cut off", "#77AACC"
    DIVERGED = "diverged", "diverged", "#CC6677"
    STALE = "stale", "made with other settings or data", "#999933"
    UNREADABLE = "unreadable", "no valid result", "#AA4499"
    RUNNING = "running", "running", "#DDCC77"
    QUEUED = "queued", "queued", "#EEE8AA"
    FAILED = "failed", "failed", "#882255"
    NO_SCORE = "no_score", "cut off, no score", "#DDAACC"
    SELECTED_ON_TEST = "selected_on_test", "test-selected score only", "#EEBB99"
    CHECKPOINT = "checkpoint", "in training", "#DDCC77"
    QUARANTINED = "quarantined", "quarantined", "#BB7755"
    REJECTED = "rejected", "rejected", "#BBBBBB"
    ASSIGNED = "assigned", "assigned to another system", "#DDDDDD"
    MISSING = "missing", "missing", "#FFFFFF"

    label: str
    colour: str

    def __new__(cls, value: str, label: str = "", colour: str = "") -> "State":
        """Make a member that is its value, with what else is said of it."""
        state = str.__new__(cls, value)
        state._value_, state.label, state.colour = value, label, colour
        return state

    @property
    def finished(self) -> bool:
        """Whether a cell in this state need not be trained."""
        return self in (State.DONE, State.NO_IMPROVEMENT, State.PARTIAL, State.DIVERGED)

    @property
    def in_plan(self) -> "State":
        """The state in the words of a dry run, which asks whether a cell is to be trained and not how it ended."""
        if self.finished:
            return State.DONE
        return self if self in (State.STALE, State.UNREADABLE, State.ASSIGNED) else State.MISSING


@dataclass(frozen=True)
class CellState:
    """The state of a cell, and why, in one line; several reasons are split by `; `."""

    state: State
    reason: str = ""


@dataclass(frozen=True)
class Found:
    """A file of a source, as the file system describes it; `modified` in seconds since 1970."""

    source: str
    path: Path
    size: int = 0
    modified: float = 0.0

    @classmethod
    def at(cls, source: str, path: Path) -> "Found":
        """Look at a file; one that cannot be looked at has neither size nor time."""
        try:
            status = path.stat()
            return cls(source, path, status.st_size, status.st_mtime)
        except OSError:
            return cls(source, path)

    @functools.cached_property
    def cell(self) -> Cell:
        """The cell that the name of a result stands for, of any study; NAMELESS for another name."""
        match = RESULT_NAME.fullmatch(self.path.stem if self.path.suffix in COMPRESSED else self.path.name)
        return NAMELESS if match is None else Cell(match["model"], match["task"], int(match["length"]),
                                                   int(match["seed"]))


@dataclass(frozen=True)
class Verdict:
    """What one file is worth.

    `reason` is a code, `detail` a line for people. `flags`: `salvaged` (from a text cut off), `from_log` (completed
    from a log or read from one alone), `derived` (R2 computed from the MSE), `selected_on_test`, `dataset_verified` or
    `dataset_unverified`, `unchecked` (schema 2 without a checksum), `other_predictions` (the predictions next to it
    are of another run). `warnings` change nothing. `record` has the shape of schema 2, with the keys that schema 1
    lacks left out and unknown values None; it is empty for a file that is not used. `judged` keeps the status that a
    duplicate had by itself. The one `chosen` for its cell knows its `duplicates`: those with other numbers, no copies.
    `system` is where it was trained: what the record says, else the name of the folder it was found in.
    """

    file: Found
    status: Status
    reason: str = ""
    detail: str = ""
    cell: Cell = NAMELESS
    record: Record = field(default_factory=dict)
    flags: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    sha256: str = ""
    system: str = ""
    judged: str = ""
    chosen: bool = False
    duplicates: tuple["Verdict", ...] = ()

    @property
    def of_cell(self) -> dict[str, Any]:
        """Model, task, length and seed; each None where the name of the file tells no cell."""
        return {key: None if self.cell == NAMELESS else value for key, value in vars(self.cell).items()}

    @property
    def selected_on_test(self) -> bool:
        """Whether the score is that of the best epoch on the test items themselves."""
        return "selected_on_test" in self.flags

    @property
    def has_score(self) -> bool:
        """Whether the primary test metric of the task is known."""
        return bool(self.record) and self.record.get(task_info(self.record["task"]).metric) is not None

    @property
    def finishes(self) -> bool:
        """Whether the file is a finished cell: whole, or cut off with its primary test metric recovered."""
        return self.status in FINISHED or (self.status == "partial" and self.has_score)

    @property
    def enters_means(self) -> bool:
        """Whether its score may enter a mean: finished, not diverged, not selected on its test items."""
        return self.finishes and self.status != "diverged" and not self.selected_on_test

    @property
    def enters_claims(self) -> bool:
        """Whether a conclusion may rest on it: as for means, made with a dataset that was verified, or diverged.

        What diverged has no score that could verify its data; without it, models that fail would gain.
        """
        verified = "dataset_verified" in self.flags and "other_predictions" not in self.flags
        return self.finishes and not self.selected_on_test and (verified or self.status == "diverged")

    @property
    def state(self) -> State:
        """What the file by itself says of its cell."""
        status = self.judged or self.status
        if status == "partial" and not self.has_score:
            return State.NO_SCORE
        if self.selected_on_test and status in (*FINISHED, "partial"):
            return State.SELECTED_ON_TEST
        return State({"ok": "done", "unfinished": "checkpoint"}.get(status, status))

    @property
    def own_state(self) -> State:
        """The same of a file where the study looks for its own results: what was refused is stale or unreadable."""
        if self.state in (State.REJECTED, State.QUARANTINED):
            return State.STALE if self.reason in OTHER_SETTINGS else State.UNREADABLE
        return State.UNREADABLE if self.state is State.NO_SCORE else self.state

    @property
    def line(self) -> str:
        """Why the file does not finish its cell: settings that differ, or the file and what is wrong with it."""
        return self.detail if self.reason in OTHER_SETTINGS else f"{self.file.path}: {self.reason}: {self.detail}"

    def sha256_of_file(self) -> str:
        """The hash of the file, computed now if reading did not need it (checkpoints, logs).

        Empty for what is no regular file: opening a pipe would wait for ever, a device has no end.
        """
        try:
            return self.sha256 or (sha256_of(self.file.path) if self.file.path.is_file() else "")
        except OSError:
            return ""
