"""Figures with lines: scores against length, training and validation curves against epochs."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure as Canvas
from matplotlib.lines import Line2D

from qablate.analysis import style
from qablate.analysis.basis import Basis
from qablate.analysis.old_claims import Scale
from qablate.analysis.old_figure import Drawing
from qablate.analysis.old_statistics import Floats, mean_estimate
from qablate.analysis.parts import (
    banner,
    canvas,
    entry,
    error_axis,
    errors,
    in_metric,
    legend,
    model_entry,
    model_look,
    nothing,
    score_axis,
    score_name,
    x_label,
)
from qablate.analysis.references import baseline_by_length, model_ceiling
from qablate.analysis.runs import ARCHITECTURES
from qablate.catalog import model_info, task_info

Shades = dict[int, Any]
Look = dict[str, Any]
DODGE = 0.05
"""Shift between groups along log2 L, so that points of two models do not cover each other."""
MARGIN = 0.25
"""Room on both sides of the lengths, in log2 L."""
LENGTH_COLUMNS = ("kind", "model", "architecture", "length", "seed", "score", "low95", "high95", "n", "raw_score")
BASELINE: Look = {"color": style.REFERENCE, "linewidth": 0.8}
SOLVER: Look = {"color": style.SOLVER, "linewidth": 0.8, "linestyle": (0, (6, 1.5))}
CEILING_DASHES = ((2, 1.5), (3, 1, 1, 1), (1, 2))


def length_curves(basis: Basis, task: str) -> Drawing:
    """Score against length, one panel an architecture: runs, means with intervals, baseline, solver, chunk ceilings."""
    collection, scale = basis.collection, basis.scale(task)
    frame = pd.concat([_runs_and_means(basis, task), _references(basis, task)], ignore_index=True)
    present = [name for name in ARCHITECTURES
               if any(model_info(model).architecture == name for model in collection.models)]
    figure, axes = canvas(0.3 + 1.3 * len(present), len(present), sharex=True, sharey=True)
    for axis, architecture in zip(axes[:, 0], present, strict=True):
        _length_panel(axis, basis, task, frame, architecture)
    _set_range(axes[0, 0], scale, frame["score"])
    axes[len(present) // 2, 0].set_ylabel(score_name(scale))
    axes[-1, 0].set_xlabel("length L")
    banner(figure, basis.missing(task))
    return Drawing(figure, frame)


def _set_range(axis: Axes, scale: Scale, scores: pd.Series) -> None:
    """Show every point and line; intervals may run over the edge."""
    if scale.name == "neg_ln_mse":
        low, high = np.log(scores[scores > 0].min()), np.log(scores.max())
        room = 0.1 * (high - low) or 0.5
        axis.set_ylim(np.exp(low - room), np.exp(high + room))
    else:
        room = 0.06 * (scores.max() - scores.min())
        axis.set_ylim(scores.min() - room, scores.max() + room)
    score_axis(axis, scale)


def _runs_and_means(basis: Basis, task: str) -> pd.DataFrame:
    """Rows of kind run and mean, as drawn: benefits in the metric, clipped at the baseline (not so raw_score)."""
    scale, runs, rows = basis.scale(task), basis.runs(task), []
    for run in runs.to_dict("records"):
        rows.append({"kind": "run", "model": run["model"], "length": run["length"], "seed": run["seed"], "n": 1,
                     "score": float(in_metric(scale, run["benefit"])), "raw_score": run["score"]})
    for (model, length), found in runs.groupby(["model", "length"]):
        estimate = mean_estimate(found["benefit"])
        interval = estimate.interval(0.95)
        ends = sorted(in_metric(scale, np.array([interval.low, interval.high])))
        rows.append({"kind": "mean", "model": model, "length": length, "score": float(in_metric(scale, estimate.value)),
                     "low95": float(ends[0]), "high95": float(ends[1]), "n": len(found)})
    for row in rows:
        row["architecture"] = model_info(str(row["model"])).architecture
    return pd.DataFrame(rows, columns=list(LENGTH_COLUMNS))


def _references(basis: Basis, task: str) -> pd.DataFrame:
    """Rows of the baseline, the reference solver and the chunk ceiling of each model that has one."""
    collection, scale = basis.collection, basis.scale(task)
    lengths = collection.lengths(task)
    floor = float(in_metric(scale, scale.baseline))
    measured = baseline_by_length(collection, task)["mean"].astype("float64")
    baseline = [floor] * len(lengths) if scale.name == "r2" else measured.fillna(floor).tolist()
    rows = [("baseline", "all", "all", length, value) for length, value in zip(lengths, baseline, strict=True)]
    rows += [("reference solver", "all", "all", length, basis.solvers[task, length]) for length in lengths]
    if task == "selective_copy":
        n_markers = int(collection.shortest_dataset(task).parameters["n_markers"])
        rows += [("chunk ceiling", model, model_info(model).architecture, length, ceiling)
                 for model in collection.models for length in lengths
                 if (ceiling := model_ceiling(model, length, n_markers)) is not None]
    return pd.DataFrame(rows, columns=["kind", "model", "architecture", "length", "score"])


def _length_panel(axis: Axes, basis: Basis, task: str, frame: pd.DataFrame, architecture: str) -> None:
    models = [model for model in basis.collection.models if model_info(model).architecture == architecture]
    lengths = basis.collection.lengths(task)
    own = frame[frame["architecture"].isin([architecture, "all"])]
    for model in models:
        _model_line(axis, model, own[own["model"] == model])
    handles = [*map(model_entry, models), *_reference_lines(axis, basis, task, own)]
    axis.set_xlim(np.log2(lengths[0]) - MARGIN, np.log2(lengths[-1]) + MARGIN)
    axis.set_xticks(np.log2(lengths), [str(length) for length in lengths])
    axis.set_title(architecture, loc="left", fontsize=style.SMALL + 0.5)
    if not own["kind"].isin(["run"]).any():
        nothing(axis)
    axis.legend(handles=handles, loc="upper left", bbox_to_anchor=(1.0, 1.06))


def _model_line(axis: Axes, model: str, rows: pd.DataFrame) -> None:
    look, shift = model_look(model), DODGE * (model_info(model).group - 2.5)
    runs, means = rows[rows["kind"] == "run"], rows[rows["kind"] == "mean"]
    axis.plot(np.log2(runs["length"].astype(float)) + shift, runs["score"], alpha=0.55, markeredgewidth=0,
              **look | {"linestyle": "", "markersize": 2.2})
    axis.errorbar(np.log2(means["length"].astype(float)) + shift, means["score"],
                  yerr=errors(means["score"], means["low95"], means["high95"]), elinewidth=0.5, **look)


def _reference_lines(axis: Axes, basis: Basis, task: str, rows: pd.DataFrame) -> list[Line2D]:
    """Draw baseline, solver and every chunk ceiling that binds a model of the panel; return their entries."""
    entries = [entry("baseline", BASELINE)]
    axis.plot(*_beyond_ends(rows[rows["kind"] == "baseline"]), **BASELINE)
    solver = rows[rows["kind"] == "reference solver"]
    if basis.scale(task).name == "neg_ln_mse" and (solver["score"] == 0).all():
        entries.append(entry("solver: 0,\noff the axis", SOLVER | {"linestyle": ""}))
    else:
        axis.plot(*_beyond_ends(solver), **SOLVER)
        entries.append(entry("solver", SOLVER))
    bound: dict[tuple[float, ...], list[str]] = {}
    for model, ceiling in rows[rows["kind"] == "chunk ceiling"].groupby("model"):
        bound.setdefault(tuple(ceiling["score"]), []).append(str(model))
    for dashes, models in zip(CEILING_DASHES, bound.values(), strict=False):
        look: Look = {"color": style.COLOURS[models[0]], "linewidth": 0.9, "linestyle": (0, dashes)}
        of_first = rows[(rows["kind"] == "chunk ceiling") & (rows["model"] == models[0])]
        axis.plot(*_beyond_ends(of_first), alpha=0.8, **look)
        entries.append(entry(f"ceiling {', '.join(models)}", look))
    return entries


def _beyond_ends(rows: pd.DataFrame) -> tuple[Floats, Floats]:
    """Return log2 L and scores of a reference line, drawn on at both ends, so that one length gives a line too."""
    x, y = np.log2(rows["length"].to_numpy(dtype=float)), rows["score"].to_numpy(dtype=float)
    return np.array([x[0] - MARGIN, *x, x[-1] + MARGIN]), np.array([y[0], *y, y[-1]])


def learning_curves(basis: Basis, task: str) -> Drawing:
    """Validation and training of every run, one panel a model, colour the length, a point at the chosen epoch."""
    collection, info = basis.collection, task_info(task)
    key = "metric" if info.kind == "classification" else "loss"
    curves = basis.curves(task)
    lengths = collection.lengths(task)
    shades = dict(zip(lengths, colormaps[style.LENGTH_MAP](np.linspace(0.0, 0.85, len(lengths))), strict=True))
    columns = min(3, len(collection.models))
    rows = -(-len(collection.models) // columns)
    figure, axes = canvas(0.65 + 0.95 * rows, rows, columns, sharex=True, sharey=True)
    for axis, model in zip(axes.flat, collection.models, strict=False):
        _curve_panel(axis, model, curves[curves["model"] == model], key, shades)
    for axis in axes.flat[len(collection.models):]:
        axis.set_visible(False)
    _finish_curves(figure, list(axes.flat), key, shades, bool((curves[f"val_{key}"] > 0).any()))
    x_label(axes[-1], "epoch")
    banner(figure, basis.missing(task))
    return Drawing(figure, curves[["model", "length", "seed", "epoch", f"train_{key}", f"val_{key}", "chosen"]])


def _curve_panel(axis: Axes, model: str, curves: pd.DataFrame, key: str, shades: Shades) -> None:
    for length, of_length in curves.groupby("length"):
        runs = [run for _, run in of_length.groupby("seed")]
        for name, look in (("train", {"linestyles": [(0, (1, 1.2))], "alpha": 0.6}), ("val", {"alpha": 0.85})):
            lines: Sequence[Any] = [run[["epoch", f"{name}_{key}"]].to_numpy() for run in runs]
            axis.add_collection(LineCollection(lines, colors=[shades[length]], linewidths=0.6, **look))
    chosen = curves[curves["chosen"]]
    axis.scatter(chosen["epoch"], chosen[f"val_{key}"], s=6, zorder=3, linewidths=0.3, edgecolors="black",
                 c=[shades[length] for length in chosen["length"]] if len(chosen) else None)
    axis.autoscale_view()
    axis.set_title(f"{model} {model_info(model).notation}", pad=2, fontsize=style.SMALL + 0.5)
    if curves.empty:
        nothing(axis)


def _finish_curves(figure: Canvas, axes: list[Axes], key: str, shades: Shades, has_values: bool) -> None:
    if key == "loss" and has_values:
        error_axis(axes[0])
    figure.supylabel("MSE" if key == "loss" else "accuracy", fontsize=7)
    entries = [entry(f"L {length}", {"color": colour}) for length, colour in shades.items()]
    entries += [entry("validation", {"color": "#444444", "linewidth": 0.7}),
                entry("training", {"color": "#444444", "linestyle": (0, (1, 1.2))}),
                entry("chosen epoch", {"color": "#444444", "linestyle": "", "marker": "o", "markersize": 3})]
    legend(figure, entries, 4)
