"""Learning curves of one cell, finished or not, drawn in the terminal or into a PNG."""

import io
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from qablate.catalog import task_info
from qablate.errors import QablateError
from qablate.files import write_atomic
from qablate.logtail import log_path, read_end
from qablate.plan import Plan
from qablate.results.logs import MAX_LOG_BYTES, parse_log
from qablate.study import Cell, Study

WIDTH, HEIGHT = 68, 16
LOG_RATIO = 20
"""Losses that span more than this are drawn on a logarithmic axis."""
MARKS = {"train": ("·", "."), "validation": ("•", "o"), "best": ("◆", "#")}
Values = tuple[float | None, ...]


@dataclass(frozen=True)
class Curves:
    """Curves of one cell: `train` and `validation` at `epochs`, losses or accuracies, None where not finite.

    `source` is the file they were read from.
    """

    cell: Cell
    epochs: tuple[int, ...]
    train: Values
    validation: Values
    source: Path

    @property
    def label(self) -> str:
        """What is drawn: mean squared error or accuracy."""
        return "MSE" if task_info(self.cell.task).kind == "regression" else "accuracy"

    @property
    def best(self) -> int | None:
        """Place of the first best validation value."""
        known = [(value, place) for place, value in enumerate(self.validation) if value is not None]
        if not known:
            return None
        chosen = max(known, key=lambda pair: (pair[0], -pair[1])) if self.label == "accuracy" else min(known)
        return chosen[1]

    @property
    def logarithmic(self) -> bool:
        """Whether the values are losses that span more than a factor of 20."""
        known = _finite([*self.train, *self.validation])
        return self.label == "MSE" and bool(known) and min(known) > 0 and max(known) / min(known) > LOG_RATIO

    @property
    def title(self) -> str:
        """One line: cell, best epoch, where the curve is from."""
        last = self.epochs[-1]
        head = f"{self.cell.name}: {self.label} over {last} epoch{'' if last == 1 else 's'}"
        if self.best is None:
            return head
        return f"{head}, best {self.validation[self.best]:.4g} at epoch {self.epochs[self.best]}"


def named_cell(study: Study, name: str) -> Cell:
    """Return the cell of a name such as `1b_adding_problem_L100_seed2024`, also as the name of a file of it."""
    stem = os.path.basename(name).partition(".")[0].removeprefix("synthetic_").removeprefix("checkpoint_")
    stem = stem.removesuffix("_results")
    for cell in study.cells:
        if stem == cell.name:
            return cell
    raise QablateError(f"{name}: no cell of study '{study.name}'; a cell is named like {study.cells[0].name}")


def read_curves(study: Study, cell: Cell) -> Curves:
    """Read the curves of a finished cell from its result, of any other from its log; QablateError if there are none."""
    source = Plan(study).merged.source_of(cell)
    if source is not None and source.record is not None and source.record["history"]["epochs"]:
        return _curves(cell, source.record["history"], source.file.path)
    path = log_path(study.results, cell.name)
    log = parse_log(_end_of(path), path)
    if not log.epochs:
        raise QablateError(f"{cell.name}: no result, and no epoch in {path}")
    return _curves(cell, log.history, path)


def _curves(cell: Cell, history: dict[str, list[float | None]], source: Path) -> Curves:
    epochs = tuple(int(epoch or 0) for epoch in history["epochs"])
    return Curves(cell, epochs, tuple(history["train_metric"]), tuple(history["val_metric"]), source)


def _end_of(path: Path) -> list[str]:
    try:
        return read_end(path, MAX_LOG_BYTES)[0].splitlines()
    except OSError as error:
        raise QablateError(f"{path}: cannot read: {error.strerror or error}") from error


def text_plot(curves: Curves, ascii_only: bool = False) -> list[str]:
    """Draw the curves with letters, at most 80 columns and 20 lines."""
    marks = {name: pair[ascii_only] for name, pair in MARKS.items()}
    known = _finite([*curves.train, *curves.validation])
    if not known:
        return [curves.title, "no finite value"]
    scale = _Scale(min(known), max(known), curves.logarithmic)
    grid = [[" "] * WIDTH for _ in range(HEIGHT)]
    for name, values in (("train", curves.train), ("validation", curves.validation)):
        for at, value in enumerate(values):
            if value is not None:
                grid[scale.row(value)][_column(at, len(values))] = marks[name]
    if curves.best is not None:
        grid[scale.row(curves.validation[curves.best] or 0.0)][_column(curves.best, len(curves.epochs))] = marks["best"]
    labels = {0: scale.top, HEIGHT // 2: scale.value(HEIGHT // 2), HEIGHT - 1: scale.bottom}
    body = [f"{labels[at]:>9.3g} |{''.join(row).rstrip()}" if at in labels else f"{'':>9} |{''.join(row).rstrip()}"
            for at, row in enumerate(grid)]
    axis = f"{'':>9} +{'-' * WIDTH}"
    ends = f"{'':>11}{curves.epochs[0]}{curves.epochs[-1]:>{WIDTH - len(str(curves.epochs[0]))}}"
    legend = "  ".join(f"{marks[name]} {name}" for name in marks) + ("  log axis" if curves.logarithmic else "")
    return [curves.title, *body, axis, ends, f"{'':>11}epoch   {legend}"]


@dataclass(frozen=True)
class _Scale:
    """From values to lines of the plot, the largest on top."""

    bottom: float
    top: float
    logarithmic: bool

    def _place(self, value: float) -> float:
        return math.log(value) if self.logarithmic else value

    def row(self, value: float) -> int:
        low, high = self._place(self.bottom), self._place(self.top)
        share = (self._place(value) - low) / (high - low) if high > low else 0.5
        return round((1 - share) * (HEIGHT - 1))

    def value(self, row: int) -> float:
        low, high = self._place(self.bottom), self._place(self.top)
        place = low + (1 - row / (HEIGHT - 1)) * (high - low)
        return math.exp(place) if self.logarithmic else place


def _column(at: int, n: int) -> int:
    return round(at * (WIDTH - 1) / (n - 1)) if n > 1 else 0


def _finite(values: Sequence[float | None]) -> list[float]:
    return [value for value in values if value is not None and math.isfinite(value)]


def write_png(curves: Curves, path: Path) -> None:
    """Draw the curves into a PNG file, written whole or not at all."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 3.6), layout="constrained")
    axis = figure.subplots()
    for label, values, colour in (("training", curves.train, "#56B4E9"), ("validation", curves.validation, "#0072B2")):
        axis.plot(curves.epochs, [math.nan if value is None else value for value in values], label=label, color=colour)
    if curves.best is not None:
        axis.plot([curves.epochs[curves.best]], [curves.validation[curves.best] or 0.0], "D", color="#D55E00",
                  label="best epoch")
    if curves.logarithmic:
        axis.set_yscale("log")
    axis.set(xlabel="epoch", ylabel=curves.label)
    axis.set_title(curves.title, fontsize=9)
    axis.legend(frameon=False)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=150)
    write_atomic(path, buffer.getvalue())
