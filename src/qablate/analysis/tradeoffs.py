"""Score against what it cost: trainable parameters and seconds of training, over the blocks that all models share."""

import itertools
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import EngFormatter, LogLocator, NullLocator

from qablate.analysis import style
from qablate.analysis.basis import Basis
from qablate.analysis.old_figure import Drawing
from qablate.analysis.parts import banner, canvas, in_metric, model_legend, model_look, score_axis, score_name
from qablate.catalog import task_info

WIDTHS = tuple(f"{model}+{tag}" for model in ("3a", "3b", "3c") for tag in ("w40k", "w85k", "w400k", "w900k"))
"""Classical models of other widths: with those as published, the curve that a quantum model is up against."""
COSTS = {"n_trainable": "trainable parameters", "seconds": "seconds of training"}
FRONTIER: dict[str, Any] = {"color": style.SOLVER, "linewidth": 0.8, "linestyle": (0, (4, 1.5))}


def pareto(basis: Basis) -> Drawing | str:
    """Tasks x costs: mean score of each model against its size and its time, the undominated ones joined."""
    frame = _pareto_frame(basis)
    tasks = basis.tasks_in(frame)
    if not tasks:
        return "no block that all models with runs share"
    figure, axes = canvas(0.95 + 1.25 * len(tasks), len(tasks), len(COSTS), sharey="row", sharex="col")
    for (i, task), (j, cost) in itertools.product(enumerate(tasks), enumerate(COSTS)):
        _pareto_panel(axes[i, j], frame[frame["task"] == task], cost)
    for i, task in enumerate(tasks):
        score_axis(axes[i, 0], basis.scale(task))
        n = int(frame.loc[frame["task"] == task, "n"].iloc[0])
        axes[i, 0].set_ylabel(f"{task_info(task).title}, n = {n}\n{score_name(basis.scale(task))}",
                              fontsize=style.SMALL)
    for j, name in enumerate(COSTS.values()):
        axes[-1, j].set_xlabel(name)
    model_legend(figure, basis.models_in(frame))
    banner(figure, [*basis.missing(), *basis.left_out(tasks, WIDTHS), *_not_drawn(basis, frame)])
    return Drawing(figure, frame)


def _not_drawn(basis: Basis, frame: pd.DataFrame) -> list[str]:
    lacking = [] if frame["model"].str.contains("+", regex=False).any() else ["width-swept classical models: no run"]
    devices = basis.collection.runs["device_name"].dropna().unique()
    if len(devices) > 1:
        lacking.append(f"seconds are from {len(devices)} kinds of devices and compare only within one")
    if frame["seconds"].isna().any():
        lacking.append("seconds of some runs not recorded")
    return [*lacking, "energy: not recorded"]


def _pareto_frame(basis: Basis) -> pd.DataFrame:
    """One row a task and arm: mean benefit over matched blocks and the means of its costs."""
    runs, rows = basis.collection.runs.set_index(["task", "model", "length", "seed"]), []
    for task in basis.collection.tasks:
        found = basis.comparable(task, WIDTHS)
        if found is None:
            continue
        arms, blocks = found
        places = [(blocks.lengths[i], blocks.seeds[j]) for i, j in np.argwhere(blocks.used)]
        for arm in arms:
            value, scale = float(blocks.benefits[arm][blocks.used].mean()), basis.scale(task)
            seen = [basis.evidence.of(arm, task, *place) for place in places]
            times = runs["training_time"].reindex([(task, basis.evidence.model(arm), *place) for place in places])
            rows.append({"task": task, "model": arm, "benefit": value, "score": float(in_metric(scale, value)),
                         "n": blocks.n, "n_trainable": float(np.mean([one.n_trainable for one in seen])),
                         "seconds": float(times.mean())})
    return pd.DataFrame(rows, columns=["task", "model", "benefit", "score", "n", "n_trainable", "seconds"])


def _pareto_panel(axis: Axes, frame: pd.DataFrame, cost: str) -> None:
    known = frame[frame[cost] > 0].sort_values([cost, "benefit"], ascending=[True, False])
    for row in known.to_dict("records"):
        axis.plot(row[cost], row["score"], **model_look(row["model"], line=False), zorder=3)
    best = known[known["benefit"] > known["benefit"].shift().cummax().fillna(-np.inf)]
    axis.step(best[cost], best["score"], where="post", zorder=1, **FRONTIER)
    for base, swept in known.groupby(known["model"].str.split("+").str[0]):
        if len(swept) > 1:
            axis.plot(swept[cost], swept["score"], zorder=2, **model_look(str(base)) | {"marker": ""})
    axis.set_xscale("log")
    axis.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axis.xaxis.set_major_formatter(EngFormatter(sep=""))
    axis.xaxis.set_minor_locator(NullLocator())
