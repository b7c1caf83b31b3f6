"""Parts that all figures share: the canvas one column wide, axes of scores and differences, legends, the banner."""

import itertools
import math
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure as Canvas
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, MaxNLocator, NullLocator
from numpy.typing import ArrayLike, NDArray

from qablate.analysis import style
from qablate.analysis.formats import METRIC_NAMES
from qablate.analysis.old_claims import Scale
from qablate.analysis.runs import ARCHITECTURES
from qablate.catalog import model_info

LINE_HEIGHT = 0.11
"""Inches from one line of the banner to the next."""
BANNER_LETTERS = 82
FACTORS = ((1.05, 1.1), (1.1, 1.2), (1.25, 1.5), (1.5, 2), (2, 5), (3, 10), (10, 100), (100, 1e4), (1e3, 1e6))
"""Pairs of factors to mark on both sides of one, for axes of differences in -ln MSE."""
DIFFERENCE_NAMES = {"neg_ln_mse": "smaller MSE, factor", "r2": "difference in R²",
                    "accuracy": "difference in accuracy"}


def canvas(height: float, rows: int = 1, columns: int = 1, **layout: Any) -> tuple[Canvas, NDArray[Any]]:
    """Return a figure one column wide and `height` inches high, with its axes (rows, columns)."""
    figure = Canvas(figsize=(style.COLUMN, height), layout="constrained")
    return figure, figure.subplots(rows, columns, squeeze=False, **layout)


def banner(figure: Canvas, missing: Iterable[str]) -> None:
    """Write what is missing in a strip below a finished figure, which becomes higher by it; nothing if all is there."""
    lines = textwrap.wrap("; ".join(missing), BANNER_LETTERS)
    if not lines:
        return
    room = LINE_HEIGHT * (len(lines) + 0.8)
    height = figure.get_figheight() + room
    figure.set_figheight(height)
    engine = figure.get_layout_engine()
    assert engine is not None
    engine.set(rect=(0, room / height, 1, 1 - room / height))    # type: ignore[call-arg]
    figure.add_artist(Rectangle((0.004, 0.004), 0.992, (room - 0.04) / height, transform=figure.transFigure,
                                **style.BANNER))
    figure.text(0.02, (room / 2 - 0.01) / height, "\n".join(lines), fontsize=style.TINY + 0.5, va="center",
                linespacing=1.15, gid="banner")


def named(label: str, names: Iterable[str]) -> list[str]:
    """Return one line for the banner, `label: name, name`; none without names."""
    words = ", ".join(names)
    return [f"{label}: {words}"] if words else []


def panels_by_architecture(axes: NDArray[Any], tasks: Sequence[str],
                           frame: pd.DataFrame) -> Iterator[tuple[Axes, str, pd.DataFrame]]:
    """Yield each panel of tasks x architectures with its task and its rows; columns are named after architectures."""
    for (i, task), (j, architecture) in itertools.product(enumerate(tasks), enumerate(ARCHITECTURES)):
        if not i:
            axes[i, j].set_title(architecture)
        yield axes[i, j], task, frame[(frame["task"] == task) & (frame["architecture"] == architecture)]


def x_label(row: Sequence[Axes], text: str) -> None:
    """Label a row of panels as one; a label of the figure would be in the way of the banner."""
    row[(len(row) - 1) // 2].set_xlabel(text, x=0.5 if len(row) % 2 else 1.03)    # the layout knows its middle only


def nothing(axis: Axes, text: str = "no result yet") -> None:
    """Say in an empty panel that it is empty."""
    axis.text(0.5, 0.5, text, transform=axis.transAxes, ha="center", va="center", color=style.PALE,
              fontsize=style.SMALL)


def model_look(model: str, line: bool = True) -> dict[str, Any]:
    """Return colour, marker and line of a model, the same in every figure; without the line for points alone."""
    base = model.split("+")[0]
    group = model_info(base).group
    return {"color": style.COLOURS[base], "marker": style.MARKERS[group],
            "linestyle": style.LINES[group] if line else ""}


def model_entry(model: str, line: bool = True, notation: bool = True) -> Line2D:
    """Return the legend's entry of a model."""
    label = f"{model} {model_info(model).notation}" if notation else model
    return Line2D([], [], label=label, **model_look(model, line))


def entry(label: str, look: Mapping[str, Any]) -> Line2D:
    """Return the legend's entry of anything else."""
    return Line2D([], [], label=label, **look)


def legend(figure: Canvas, entries: Sequence[Line2D | Patch], columns: int) -> None:
    """Put a legend above all panels; below them would be in the way of the banner."""
    figure.legend(handles=entries, loc="outside upper center", ncols=columns)


def model_legend(figure: Canvas, models: Sequence[str], line: bool = False, notation: bool = True) -> None:
    """Put a legend of many models above all panels: one column a group."""
    groups = {model_info(model).group for model in models}
    legend(figure, [model_entry(model, line, notation) for model in models], max(1, len(groups)))


def errors(value: ArrayLike, low: ArrayLike, high: ArrayLike) -> NDArray[np.float64]:
    """Return distances (2, n) from one value or n to the ends of the intervals; 0 where an interval has no end."""
    distance = np.abs(np.vstack([low, high]).astype(float) - np.asarray(value, dtype=float))
    return np.where(np.isfinite(distance), distance, 0.0)


def in_metric(scale: Scale, benefit: Any) -> Any:
    """Turn benefits into the scale's metric; a mean in -ln MSE becomes a geometric mean of errors."""
    return np.exp(-np.asarray(benefit, dtype=float)) if scale.name == "neg_ln_mse" else benefit


def score_axis(axis: Axes, scale: Scale) -> None:
    """Make the y axis one of a metric with the better scores above: errors on a logarithmic axis, upside down."""
    if scale.name == "neg_ln_mse":
        error_axis(axis)
        if not axis.yaxis_inverted():
            axis.invert_yaxis()


def error_axis(axis: Axes) -> None:
    """Make the y axis a logarithmic one of errors, with marks between the powers of ten where it is short."""
    axis.set_yscale("log")
    low, high = sorted(axis.get_ylim())
    axis.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if high < 30 * low else (1.0,)))
    axis.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.yaxis.set_minor_locator(NullLocator())


def score_name(scale: Scale) -> str:
    """Return the words beside an axis of a metric."""
    name = METRIC_NAMES[scale.metric]
    return f"{name}, better above" if scale.name == "neg_ln_mse" else name


def difference_axis(axis: Axis, scale: Scale, limit: float) -> None:
    """Label an axis of benefit differences that reaches to +-limit; those in -ln MSE by factors."""
    if scale.name != "neg_ln_mse":
        axis.set_major_locator(MaxNLocator(5))
        return
    pair = next((pair for pair in reversed(FACTORS) if math.log(pair[1]) <= limit), FACTORS[0])
    marks = [sign * math.log(factor) for factor in pair for sign in (-1, 1)]
    names = {0.0: "1", **{mark: f"{'' if mark > 0 else '1/'}{math.exp(abs(mark)):.4g}" for mark in marks}}
    axis.set_major_locator(FixedLocator(sorted(names)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: names.get(value, "")))
