"""Figures with lines: scores against length, validation curves against epochs."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure as Canvas
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator
from numpy.typing import NDArray

from qablate.analysis import style
from qablate.analysis.figure import Drawing
from qablate.analysis.formats import METRIC_NAMES
from qablate.analysis.references import baseline_by_length, model_ceiling
from qablate.analysis.runs import Collection
from qablate.catalog import model_info, task_info

Shades = dict[int, Any]
Floats = NDArray[np.float64]
ARCHITECTURES = ("transformer", "mamba", "hydra")
DODGE = 0.03
"""Shift between groups along log2 L, so that seed points of two models do not cover each other."""

MARGIN = 0.25
"""Room on both sides of the lengths, in log2 L."""


def length_curves(collection: Collection, task: str) -> Drawing:
    """Score against length, one panel an architecture: seed points, line of means, baseline, chunk ceilings."""
    info = task_info(task)
    runs = collection.complete_runs
    runs = runs[(runs["task"] == task) & runs[info.metric].notna()]
    frame = runs[["architecture", "model", "length", "seed", info.metric]].sort_values(["model", "length", "seed"])
    present = [name for name in ARCHITECTURES
               if any(model_info(model).architecture == name for model in collection.models)]
    canvas = Canvas(figsize=(style.NARROW, 0.75 + 1.5 * len(present)))
    axes = canvas.subplots(len(present), 1, sharex=True, sharey=True, squeeze=False)[:, 0]
    canvas.subplots_adjust(left=0.15, right=0.68, top=1 - 0.35 / canvas.get_figheight(),
                           bottom=0.42 / canvas.get_figheight(), hspace=0.2)
    if not info.larger_is_better and (frame[info.metric] > 0).any():
        axes[0].set_yscale("log")
    for axis, architecture in zip(axes, present, strict=True):
        _length_panel(axis, collection, task, frame[frame["architecture"] == architecture], architecture)
    axes[len(axes) // 2].set_ylabel(METRIC_NAMES[info.metric])
    axes[-1].set_xlabel("length L, log scale")
    canvas.text(0.15, 1 - 0.04 / canvas.get_figheight(), info.title, fontweight="bold", va="top")
    return Drawing(canvas, frame)


def _length_panel(axis: Axes, collection: Collection, task: str, frame: pd.DataFrame, architecture: str) -> None:
    info = task_info(task)
    models = [model for model in collection.models if model_info(model).architecture == architecture]
    handles = [_model_line(axis, model, frame[frame["model"] == model], info.metric) for model in models]
    handles += _reference_lines(axis, collection, task, models)
    lengths = collection.lengths(task)
    axis.set_xlim(np.log2(lengths[0]) - MARGIN, np.log2(lengths[-1]) + MARGIN)
    axis.set_xticks(np.log2(lengths), [str(length) for length in lengths])
    axis.text(0.0, 1.02, architecture, transform=axis.transAxes, fontsize=7.5, color="#333333", va="bottom")
    if frame.empty:
        axis.text(0.5, 0.5, "no result yet", transform=axis.transAxes, ha="center", va="center", color="#777777")
    axis.legend(handles=handles, loc="upper left", bbox_to_anchor=(1.0, 1.06), handlelength=2.4, labelspacing=0.3)


def _model_line(axis: Axes, model: str, runs: pd.DataFrame, metric: str) -> Line2D:
    """Draw seed points and means of one model; return its legend entry."""
    info = model_info(model)
    look: dict[str, Any] = {"color": style.COLOURS[model], "marker": style.MARKERS[info.group]}
    shift = DODGE * (info.group - 2.5)
    axis.plot(np.log2(runs["length"].astype(float)) + shift, runs[metric], linestyle="", alpha=0.6, markersize=2.8,
              markeredgewidth=0, **look)
    means = runs.groupby("length")[metric].mean()
    axis.plot(np.log2(means.index.to_numpy(dtype=float)) + shift, means, linestyle=style.LINES[info.group], **look)
    return Line2D([], [], linestyle=style.LINES[info.group], label=f"{model} {info.notation}", **look)


def _reference_lines(axis: Axes, collection: Collection, task: str, models: list[str]) -> list[Line2D]:
    """Draw the measured baseline and, for Selective Copy, every chunk ceiling that binds one of the models."""
    lengths = collection.lengths(task)
    if task == "selective_copy":
        axis.axhline(0, color=style.REFERENCE, linewidth=0.8)
        return [_baseline_entry("baseline"), *_ceiling_lines(axis, collection, models)]
    baseline = baseline_by_length(collection, task)["mean"].to_numpy(dtype=float)
    if np.isnan(baseline).all():
        return []
    axis.plot(*_beyond_ends(lengths, baseline), color=style.REFERENCE, linewidth=0.8)
    return [_baseline_entry("majority" if task == "forrelation" else "baseline")]


def _beyond_ends(lengths: list[int], values: Sequence[float]) -> tuple[Floats, Floats]:
    """Return log2 L and values of a reference line, drawn on at both ends, so that one length gives a line too."""
    x = np.log2(lengths)
    return np.array([x[0] - MARGIN, *x, x[-1] + MARGIN]), np.array([values[0], *values, values[-1]])


def _baseline_entry(label: str) -> Line2D:
    return Line2D([], [], color=style.REFERENCE, linewidth=0.8, label=label)


def _ceiling_lines(axis: Axes, collection: Collection, models: list[str]) -> list[Line2D]:
    lengths = collection.lengths("selective_copy")
    dataset = collection.study.dataset("selective_copy", lengths[0], collection.seeds[0])
    n_markers = int(dataset.parameters["n_markers"])
    groups: dict[tuple[float, ...], list[str]] = {}
    for model in models:
        ceilings = [model_ceiling(model, length, n_markers) for length in lengths]
        known = tuple(ceiling for ceiling in ceilings if ceiling is not None)
        if known:
            groups.setdefault(known, []).append(model)
    handles = []
    for dashes, (curve, bound) in zip(((2, 1.5), (6, 1.5), (1, 2)), groups.items(), strict=False):
        look: dict[str, Any] = {"color": style.COLOURS[bound[0]], "linewidth": 0.9, "linestyle": (0, dashes)}
        axis.plot(*_beyond_ends(lengths, curve), alpha=0.8, **look)
        handles.append(Line2D([], [], label=f"ceiling {', '.join(bound)}", **look))
    return handles


def learning_curves(collection: Collection, task: str) -> Drawing:
    """Validation per run and mean training curve, one panel a model, colour the length, point the chosen epoch."""
    info = task_info(task)
    key = "metric" if info.kind == "classification" else "loss"
    curves = collection.curves[collection.curves["task"] == task]
    columns = ["model", "length", "seed", "epoch", f"train_{key}", f"val_{key}"]
    lengths = collection.lengths(task)
    shades = dict(zip(lengths, colormaps[style.LENGTH_MAP](np.linspace(0.0, 0.85, len(lengths))), strict=True))
    n_rows = -(-len(collection.models) // 3)
    canvas = Canvas(figsize=(style.WIDE, 0.95 + 1.25 * n_rows))
    axes = canvas.subplots(n_rows, 3, sharex=True, sharey=True, squeeze=False).ravel()
    height = canvas.get_figheight()
    canvas.subplots_adjust(left=0.13, right=0.98, top=1 - 0.6 / height, bottom=0.42 / height, hspace=0.3, wspace=0.08)
    for axis, model in zip(axes, collection.models, strict=False):
        chosen = collection.runs[(collection.runs["task"] == task) & (collection.runs["model"] == model)]
        _curve_panel(axis, model, curves[curves["model"] == model], chosen, key, shades)
    for axis in axes[len(collection.models):]:
        axis.set_visible(False)
    _finish_curves(canvas, list(axes), info.title, key, shades, bool((curves[f"val_{key}"] > 0).any()))
    return Drawing(canvas, curves[columns])


def _curve_panel(axis: Axes, model: str, curves: pd.DataFrame, runs: pd.DataFrame, key: str, shades: Shades) -> None:
    for length, of_length in curves.groupby("length"):
        lines = [run[["epoch", f"val_{key}"]].to_numpy() for _, run in of_length.groupby("seed")]
        axis.add_collection(LineCollection(lines, colors=[shades[length]], linewidths=0.7, alpha=0.8))
        mean = of_length.groupby("epoch")[f"train_{key}"].mean()
        axis.plot(mean.index, mean, color=shades[length], linewidth=1.0, linestyle=(0, (1, 1.2)))
    chosen = runs[["length", "seed", "best_epoch"]].merge(
        curves, left_on=["length", "seed", "best_epoch"], right_on=["length", "seed", "epoch"])
    axis.scatter(chosen["epoch"], chosen[f"val_{key}"], s=9, zorder=3, linewidths=0.4, edgecolors="black",
                 c=[shades[length] for length in chosen["length"]] if len(chosen) else None)
    axis.set_title(f"{model} {model_info(model).notation}", pad=3)
    if curves.empty:
        axis.text(0.5, 0.5, "no result yet", transform=axis.transAxes, ha="center", va="center", color="#777777")


def _finish_curves(canvas: Canvas, axes: list[Axes], title: str, key: str, shades: Shades, has_values: bool) -> None:
    if key == "loss" and has_values:
        axes[0].set_yscale("log")
        low, high = axes[0].get_ylim()
        axes[0].yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if high < 30 * low else (1.0,)))
        axes[0].yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes[0].yaxis.set_minor_locator(NullLocator())
    canvas.supxlabel("epoch", fontsize=8, y=0.01)
    canvas.supylabel("MSE, log scale" if key == "loss" else "accuracy", fontsize=8, x=0.01)
    entries = [Line2D([], [], color=colour, label=f"L {length}") for length, colour in shades.items()]
    entries += [Line2D([], [], color="#444444", linewidth=0.7, label="validation"),
                Line2D([], [], color="#444444", linestyle=(0, (1, 1.2)), label="training"),
                Line2D([], [], color="#444444", linestyle="", marker="o", markersize=3, label="chosen epoch")]
    canvas.text(0.01, 1 - 0.05 / canvas.get_figheight(), title, fontweight="bold", va="top")
    canvas.legend(handles=entries, loc="upper left", bbox_to_anchor=(0.0, 1 - 0.16 / canvas.get_figheight()),
                  ncols=len(entries), columnspacing=1.0, handlelength=1.3, borderaxespad=0.2, fontsize=6.8)
