"""Figures with one field per model, task and length: scores, and what is there or missing."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure as Canvas
from matplotlib.patches import Patch, Rectangle

from qablate.analysis import style
from qablate.analysis.figure import Drawing
from qablate.analysis.references import baseline_by_length
from qablate.analysis.runs import Collection
from qablate.analysis.summary import by_length
from qablate.catalog import model_info, task_info

DECADES = 4.0
"""Adding Problem: a test MSE this many decades below its baseline gets the full colour."""

SHORT_METRIC = {"test_mse": "test MSE", "test_r2": "test R²", "test_acc": "accuracy"}


def score_map(collection: Collection) -> Drawing:
    """Models x (task, length): mean score printed, colour the share of the way from baseline to a perfect score."""
    frame = score_frame(collection)
    canvas, axes = _panels(collection, 4.2, bottom=0.75)
    for axis, task in zip(axes, collection.tasks, strict=True):
        axis.set_title(f"{task_info(task).title}\n{SHORT_METRIC[task_info(task).metric]}")
    for axis, task in zip(axes, collection.tasks, strict=True):
        _score_panel(axis, collection, task, frame[frame["task"] == task])
    _share_bar(canvas)
    return Drawing(canvas, frame)


def score_frame(collection: Collection) -> pd.DataFrame:
    """One row a model, task and length: mean, n, planned, state, baseline and the share that the colour shows."""
    parts = []
    for task in collection.tasks:
        rows = by_length(collection, task, task_info(task).metric)
        rows.insert(0, "task", task)
        rows["baseline"] = rows["length"].map(_baseline(collection, task))
        rows["share"] = share_of_the_way(task, rows["mean"], rows["baseline"])
        parts.append(rows)
    return pd.concat(parts, ignore_index=True)


def _baseline(collection: Collection, task: str) -> pd.Series:
    """The measured baseline per length, the nominal one where results hold none; zero for R2."""
    known = baseline_by_length(collection, task)["mean"].astype("float64")
    if task_info(task).metric == "test_r2":
        return known * 0.0
    return known.fillna(task_info(task).nominal_baseline)


def share_of_the_way(task: str, score: pd.Series, baseline: pd.Series) -> pd.Series:
    """Return 0 at the baseline or below and 1 at a perfect score (for MSE: `DECADES` decades below the baseline)."""
    if task_info(task).larger_is_better:
        share = (score - baseline.fillna(0.0)) / (1 - baseline.fillna(0.0))
    else:
        share = np.log10(baseline / score.clip(lower=1e-12)) / DECADES
    return share.clip(0, 1)


def state_map(collection: Collection) -> Drawing:
    """Models x (task, length): one square a seed, its colour and hatch the state of the cell."""
    legend_rows = -(-collection.cells["state"].nunique() // 3)
    bottom = max(0.8, 0.52 + 0.17 * legend_rows)
    canvas, axes = _panels(collection, 3.4 + bottom, bottom)
    seeds = {seed: place for place, seed in enumerate(collection.seeds)}
    for axis, task in zip(axes, collection.tasks, strict=True):
        cells = collection.cells[collection.cells["task"] == task]
        places = {length: place for place, length in enumerate(collection.lengths(task))}
        for cell in cells.to_dict("records"):
            left = places[cell["length"]] + (seeds[cell["seed"]] / len(seeds) - 0.5) * 0.9
            _, colour, hatch = style.STATES[cell["state"]]
            axis.add_patch(Rectangle((left, collection.models.index(cell["model"]) - 0.42), 0.9 / len(seeds), 0.84,
                                     facecolor=colour, hatch=hatch, edgecolor="#888888", linewidth=0.4))
    _state_legend(canvas, collection)
    return Drawing(canvas, collection.cells)


def _state_legend(canvas: Canvas, collection: Collection) -> None:
    counts = collection.cells["state"].value_counts()
    entries = [Patch(facecolor=colour, hatch=hatch, edgecolor="#888888", label=f"{words} ({counts[state]})")
               for state, (words, colour, hatch) in style.STATES.items() if state in counts]
    canvas.legend(handles=entries, loc="lower center", ncols=min(3, len(entries)), columnspacing=1.2)


def _panels(collection: Collection, height: float, bottom: float) -> tuple[Canvas, list[Axes]]:
    """One panel a task, side by side, as wide as the task has lengths; models from top to bottom.

    `height` of the figure and the room `bottom` below the panels in inches.
    """
    widths = [len(collection.lengths(task)) for task in collection.tasks]
    canvas = Canvas(figsize=(style.WIDE, height))
    grid = canvas.add_gridspec(1, len(widths), width_ratios=widths, left=0.14, right=0.99, top=1 - 0.38 / height,
                               bottom=bottom / height, wspace=0.08)
    axes = [canvas.add_subplot(grid[0, place]) for place in range(len(widths))]
    for axis, task in zip(axes, collection.tasks, strict=True):
        lengths = collection.lengths(task)
        axis.set(xlim=(-0.5, len(lengths) - 0.5), ylim=(len(collection.models) - 0.5, -0.5), xlabel="length L")
        axis.set_title(task_info(task).title)
        axis.set_xticks(range(len(lengths)), [str(length) for length in lengths])
        axis.set_yticks(range(len(collection.models)), _labels(collection) if axis is axes[0] else [])
        axis.tick_params(length=0)
        axis.spines[:].set_visible(False)
        for place in _group_ends(collection):
            axis.axhline(place, color="#444444", linewidth=0.8)
    return canvas, axes


def _labels(collection: Collection) -> list[str]:
    return [f"{model} {model_info(model).notation}" for model in collection.models]


def _group_ends(collection: Collection) -> Iterator[float]:
    groups = [model_info(model).group for model in collection.models]
    for place in range(1, len(groups)):
        if groups[place] != groups[place - 1]:
            yield place - 0.5


def _score_panel(axis: Axes, collection: Collection, task: str, rows: pd.DataFrame) -> None:
    places = {length: place for place, length in enumerate(collection.lengths(task))}
    for row in rows.to_dict("records"):
        x, y = places[row["length"]], collection.models.index(row["model"])
        empty = row["n"] == 0
        colour = "#FFFFFF" if empty else colormaps[style.SHARE_MAP](row["share"])
        axis.add_patch(Rectangle((x - 0.5, y - 0.5), 1, 1, facecolor=colour, hatch="////" if empty else "",
                                 edgecolor="#BBBBBB" if empty else "white", linewidth=0.5))
        if not empty:
            _write_score(axis, x, y, row, compact(task, row["mean"]))


def _write_score(axis: Axes, x: float, y: float, row: dict[str, Any], label: str) -> None:
    ink = "black" if row["share"] < 0.55 else "white"
    few = row["n"] < row["planned"]
    axis.text(x, y - (0.14 if few else 0), label, ha="center", va="center", color=ink, fontsize=7.5)
    if few:
        axis.text(x, y + 0.3, f"n = {row['n']}", ha="center", va="center", color=ink, fontsize=5.5)


def compact(task: str, score: float) -> str:
    """Write a score in at most five characters: `.052`, `3e-4`, `-.13`."""
    if task_info(task).metric == "test_mse" and 0 < score < 1e-2:
        mantissa, power = f"{score:.0e}".split("e")
        return f"{mantissa}e{int(power)}"
    digits = 3 if task_info(task).metric == "test_mse" else 2
    return f"{score:.{digits}f}".replace("0.", ".", 1).replace("-", "−", 1)


def _share_bar(canvas: Canvas) -> None:
    axis = canvas.add_axes((0.34, 0.07, 0.45, 0.018))
    canvas.colorbar(ScalarMappable(Normalize(0, 1), style.SHARE_MAP), cax=axis, orientation="horizontal")
    axis.set_xticks([0, 1], ["baseline\nor worse", "perfect\nscore"])
    axis.tick_params(length=0)
