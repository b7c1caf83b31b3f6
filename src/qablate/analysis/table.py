"""What a section of the report is made of: text, tables and figures.

A table holds its numbers twice: `frame` unrounded, which becomes `tables/ID.csv`, and `shown` as printed. To add a
table, write one function that returns a `Table` and name it in the section that shows it.
"""

from collections.abc import Callable
from dataclasses import dataclass

import pandas as pd
from matplotlib.figure import Figure as Canvas

from qablate.analysis.formats import DASH, significant
from qablate.catalog import TASKS


@dataclass(frozen=True)
class Table:
    """A table: `frame` unrounded (one row per row of `shown`, or longer), `shown` as strings under their headers.

    Without a row the report prints the caption alone. `foot`: last rows that stay below when a reader sorts.
    """

    id: str
    title: str
    caption: str
    frame: pd.DataFrame
    shown: pd.DataFrame
    foot: int = 0


@dataclass(frozen=True)
class Figure:
    """A figure: `draw` returns a finished matplotlib figure, `data` is what it shows and becomes `figures/ID.csv`."""

    id: str
    title: str
    caption: str
    draw: Callable[[], Canvas]
    data: pd.DataFrame


def cell_columns(frame: pd.DataFrame) -> dict[str, list[str]]:
    """Return the columns of a frame that say which cells a row is of, as printed: model, task, L, seed."""
    names = {"model": "model", "task": "task", "length": "L", "seed": "seed"}
    titles = {task: info.title for task, info in TASKS.items()}
    return {name: [str(titles.get(value, value)) for value in frame[key]] for key, name in names.items()
            if key in frame}


def written(values: pd.Series, write: Callable[[float], str] = significant) -> list[str]:
    """Return numbers as printed, a dash for each that is not known."""
    return [DASH if pd.isna(value) else write(value) for value in values]


Part = str | Table | Figure


@dataclass(frozen=True)
class Section:
    """A heading and what is below it, in order: Markdown, tables, figures."""

    title: str
    parts: tuple[Part, ...]
