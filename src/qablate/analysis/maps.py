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
from qablate.analysis.basis import Basis
from qablate.analysis.contrasts import benefit
from qablate.analysis.old_figure import Drawing
from qablate.analysis.parts import banner, canvas, legend
from qablate.analysis.runs import Collection
from qablate.analysis.summary import by_length
from qablate.catalog import model_info, task_info

SHORT_METRIC = {"test_mse": "test MSE", "test_r2": "test R²", "test_acc": "accuracy"}


def score_map(basis: Basis) -> Drawing:
    """Models x (task, length): mean score and n, colour the share of the way from baseline to reference solver."""
    collection, frame = basis.collection, score_frame(basis)
    figure, axes = _panels(collection, 0.75 + 0.27 * len(collection.models))
    for axis, task in zip(axes, collection.tasks, strict=True):
        axis.set_title(f"{task_info(task).title}\n{SHORT_METRIC[task_info(task).metric]}", fontsize=style.SMALL + 0.5)
        _score_panel(axis, collection, task, frame[frame["task"] == task])
    bar = figure.colorbar(ScalarMappable(Normalize(0, 1), style.SHARE_MAP), ax=axes, location="bottom", shrink=0.5,
                          aspect=30, pad=0.02)
    bar.set_ticks([0, 1], labels=["baseline or worse", "reference solver"])
    bar.ax.tick_params(length=0, labelsize=style.SMALL)
    banner(figure, basis.missing())
    return Drawing(figure, frame)


def score_frame(basis: Basis) -> pd.DataFrame:
    """One row a model, task and length: mean, n, planned, state, the solver's score, the share that the colour shows.

    The share is that of the mean's benefit, cut at 0 and 1.
    """
    parts = []
    for task in basis.collection.tasks:
        scale = basis.scale(task)
        rows = by_length(basis.collection, task, scale.metric)
        rows.insert(0, "task", task)
        rows["solver"] = [basis.solvers[task, length] for length in rows["length"]]
        rows["share"] = [basis.share(task, length, benefit(scale, mean)) if n else np.nan
                         for length, mean, n in zip(rows["length"], rows["mean"], rows["n"], strict=True)]
        rows["share"] = rows["share"].clip(0, 1)
        parts.append(rows)
    return pd.concat(parts, ignore_index=True)


def state_map(collection: Collection) -> Drawing:
    """Models x (task, length): one square a seed, its colour and hatch the state of the cell, or the system it ran on.

    Finished cells have a shade a system where several systems have finished cells.
    """
    states = _state_looks(collection)
    figure, axes = _panels(collection, 0.9 + 0.2 * len(collection.models) + 0.13 * -(-len(states) // 2))
    seeds = {seed: place for place, seed in enumerate(collection.seeds)}
    for axis, task in zip(axes, collection.tasks, strict=True):
        axis.set_title(task_info(task).title, fontsize=style.SMALL + 0.5)
        places = {length: place for place, length in enumerate(collection.lengths(task))}
        for cell in collection.cells_of(task).to_dict("records"):
            left = places[cell["length"]] + (seeds[cell["seed"]] / len(seeds) - 0.5) * 0.9
            _, colour, hatch = states[_state_key(cell)]
            axis.add_patch(Rectangle((left, collection.models.index(cell["model"]) - 0.42), 0.9 / len(seeds), 0.84,
                                     facecolor=colour, hatch=hatch * 2, edgecolor="#888888", linewidth=0.3))
    entries = [Patch(facecolor=colour, hatch=hatch * 2, edgecolor="#888888", linewidth=0.4, label=label)
               for label, colour, hatch in states.values()]
    legend(figure, entries, 2)
    return Drawing(figure, collection.cells)


def _state_key(cell: dict[str, Any]) -> tuple[str, str]:
    """State of a cell, and the system of one finished as planned."""
    return cell["state"], str(cell["system"]) if cell["state"] == "done" else ""


def _state_looks(collection: Collection) -> dict[tuple[str, str], tuple[str, str, str]]:
    """Words with count, colour and hatch of every state that occurs, in the order of the style file."""
    keys = pd.Series([_state_key(cell) for cell in collection.cells.to_dict("records")])
    counts = keys.value_counts()
    systems = sorted(system for state, system in counts.index if state == "done")
    looks = {}
    for state, (words, colour, hatch) in style.STATES.items():
        for _, system in sorted(key for key in counts.index if key[0] == state):
            if system:
                colour = style.SYSTEM_SHADES[min(systems.index(system), len(style.SYSTEM_SHADES) - 1)]
                words = f"finished on {system}" if len(systems) > 1 else words
            looks[state, system] = (f"{words} ({counts[state, system]})", colour, hatch)
    return looks


def _panels(collection: Collection, height: float) -> tuple[Canvas, list[Axes]]:
    """One panel a task, side by side, as wide as the task has lengths; models from top to bottom."""
    widths = [len(collection.lengths(task)) for task in collection.tasks]
    figure, axes = canvas(height, 1, len(widths), width_ratios=widths)
    for axis, task in zip(axes[0], collection.tasks, strict=True):
        lengths = collection.lengths(task)
        axis.set(xlim=(-0.5, len(lengths) - 0.5), ylim=(len(collection.models) - 0.5, -0.5), xlabel="length L")
        axis.set_xticks(range(len(lengths)), [str(length) for length in lengths], fontsize=style.SMALL)
        axis.set_yticks(range(len(collection.models)), _labels(collection) if axis is axes[0, 0] else [])
        axis.tick_params(length=0)
        axis.spines[:].set_visible(False)
        for place in _group_ends(collection):
            axis.axhline(place, color="#444444", linewidth=0.8)
    return figure, list(axes[0])


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
    axis.text(x, y - 0.12, label, ha="center", va="center", color=ink, fontsize=style.SMALL)
    axis.text(x, y + 0.3, f"n {row['n']}", ha="center", va="center", color=ink, fontsize=style.TINY - 0.5)


def compact(task: str, score: float) -> str:
    """Write a score in at most five characters: `.052`, `3e-4`, `-.13`."""
    if task_info(task).metric == "test_mse" and 0 < score < 1e-2:
        mantissa, power = f"{score:.0e}".split("e")
        return f"{mantissa}e{int(power)}"
    digits = 3 if task_info(task).metric == "test_mse" else 2
    return f"{score:.{digits}f}".replace("0.", ".", 1).replace("-", "−", 1)
