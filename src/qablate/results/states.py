"""The state of a cell: one word, one colour, and what it counts as, for plan, status, import and report alike."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

CountsAs = Literal["finished", "to train", "elsewhere"]


class State(StrEnum):
    """What is known of a cell, the most telling first.

    `label` says it to people, `colour` shows it in figures. `counts_as`: a finished cell is never trained again, one
    of `elsewhere` not here.
    """

    DONE = "done", "finished", "#4477AA", "finished"
    NO_IMPROVEMENT = "no_improvement", "finished, never improved", "#99BBDD", "finished"
    PARTIAL = "partial", "finished, file cut off", "#77AACC", "finished"
    DIVERGED = "diverged", "diverged", "#CC6677", "finished"
    STALE = "stale", "made with other settings or data", "#999933", "to train"
    UNREADABLE = "unreadable", "no valid result", "#AA4499", "to train"
    RUNNING = "running", "running", "#DDCC77", "to train"
    QUEUED = "queued", "queued", "#EEE8AA", "to train"
    FAILED = "failed", "failed", "#882255", "to train"
    NO_SCORE = "no_score", "cut off, no score", "#DDAACC", "to train"
    SELECTED_ON_TEST = "selected_on_test", "test-selected score only", "#EEBB99", "to train"
    CHECKPOINT = "checkpoint", "in training", "#DDCC77", "to train"
    QUARANTINED = "quarantined", "quarantined", "#BB7755", "to train"
    REJECTED = "rejected", "rejected", "#BBBBBB", "to train"
    ASSIGNED = "assigned", "assigned to another system", "#DDDDDD", "elsewhere"
    MISSING = "missing", "missing", "#FFFFFF", "to train"

    label: str
    colour: str
    counts_as: CountsAs

    def __new__(cls, value: str, label: str = "", colour: str = "", counts_as: CountsAs = "to train") -> "State":
        """Make a member that is its value, with what else is said of it."""
        state = str.__new__(cls, value)
        state._value_, state.label, state.colour, state.counts_as = value, label, colour, counts_as
        return state

    @property
    def finished(self) -> bool:
        """Whether a cell in this state need not be trained."""
        return self.counts_as == "finished"

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
