"""A table of the report: a frame, how its columns are shown, and the files both are written to.

The CSV holds the unrounded numbers and everything that decides how a cell is shown; the report is rendered from the
same frame, so nothing can stand in the report that is not in the CSV.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from qablate.analysis.formats import DASH, Format, integer, whole
from qablate.files import write_atomic

Show = Callable[[Any], str]


@dataclass(frozen=True)
class Shown:
    """One cell as printed, the value it is sorted by, whether it is a number, and whether it is empty or faint."""

    text: str
    sort: str
    numeric: bool
    quiet: bool


@dataclass(frozen=True)
class Column:
    """How one column of the report is made from a row of the frame.

    `key` names the value; `show` formats it. The other keys name columns of the frame: `sd` the spread behind the
    value, `n` and `planned` the runs behind it and those planned, `diverged` the runs counted beside it, `state` why
    the value is empty, `faint` whether it rests on too little (written in brackets and grey).
    """

    header: str
    key: str
    show: Show = str
    numeric: bool = True
    sd: str | None = None
    n: str | None = None
    planned: str | None = None
    diverged: str | None = None
    state: str | None = None
    faint: str | None = None

    def of(self, row: Mapping[str, Any]) -> Shown:
        """Render one cell."""
        value = row[self.key]
        if pd.isna(value):
            return Shown(self._empty_text(row), "", self.numeric, True)
        printed = " ".join([self._value_text(value, row), *self._notes(row)])
        faint = bool(self.faint and row[self.faint])
        return Shown(f"({printed})" if faint else printed, str(value), self.numeric, faint)

    def _value_text(self, value: Any, row: Mapping[str, Any]) -> str:
        spread = row[self.sd] if self.sd else None
        return self.show(value) if pd.isna(spread) else f"{self.show(value)} ± {self.show(spread).lstrip('+')}"

    def _notes(self, row: Mapping[str, Any]) -> list[str]:
        notes = []
        if self.n and self.planned and row[self.n] < row[self.planned]:
            notes.append(f"n = {whole(row[self.n])}")
        if self.diverged and row[self.diverged]:
            notes.append(f"{whole(row[self.diverged])} diverged")
        return [f"({', '.join(notes)})"] if notes else []

    def _empty_text(self, row: Mapping[str, Any]) -> str:
        state = row[self.state] if self.state else None
        return DASH if state is None or pd.isna(state) or not state else f"{DASH} {state}"


def text(header: str, key: str = "", show: Show = str) -> Column:
    """Return a column of words; without a key the header names it."""
    return Column(header, key or header, show, numeric=False)


def number(header: str, key: str = "", show: Format = integer, state: str | None = None) -> Column:
    """Return a column of plain numbers, counts unless another format is given; without a key the header names it."""
    return Column(header, key or header, show, state=state)


MODEL, TASK = text("model"), text("task", "title")
LENGTH, SEED = number("L", "length", whole), number("seed", show=whole)
"""Columns that say which cells a row is of; that of the task shows its title."""


def score(header: str, prefix: str, show: Format) -> Column:
    """Return a column of means made by `summary`: value, spread, runs, diverged ones, reason of an empty cell."""
    keys = {name: f"{prefix}_{name}" for name in ("sd", "n", "planned", "diverged", "state")}
    return Column(header, f"{prefix}_mean", show, True, **keys)


@dataclass(frozen=True)
class Content:
    """What a table function returns: the frame and the columns to show.

    The last `n_foot` rows are totals or references, which stay below when a reader sorts the table.
    """

    frame: pd.DataFrame
    columns: tuple[Column, ...]
    n_foot: int = 0

    @property
    def headers(self) -> list[str]:
        """Column headers as printed."""
        return [column.header for column in self.columns]

    def rows(self) -> list[list[Shown]]:
        """All rows as printed."""
        return [[column.of(row) for column in self.columns] for row in self.frame.to_dict("records")]


@dataclass(frozen=True)
class Table:
    """A numbered table with its title, caption and content; `when_empty` is printed when it has no rows."""

    number: str
    id: str
    title: str
    caption: str
    when_empty: str
    content: Content

    @property
    def file_name(self) -> str:
        """Name of the CSV."""
        return f"{self.id}.csv"

    def write_csv(self, folder: Path) -> Path:
        """Write the unrounded frame; empty values stay empty."""
        return write_frame(folder / self.file_name, self.content.frame)


def write_frame(path: Path, frame: pd.DataFrame) -> Path:
    """Write a frame as CSV, whole or not at all; equal frames give equal bytes."""
    write_atomic(path, frame.to_csv(index=False, lineterminator="\n").encode("utf-8"))
    return path
