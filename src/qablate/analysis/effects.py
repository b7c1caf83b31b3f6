"""Figures of differences between arms: factors, placement of the quantum part, equivalence, controls.

Every difference is one of a claim's contrast, measured by `qablate.analysis.outcomes` over matched blocks; positive
means that the arm named first is better. Symbols: d_b the contrast of one block (length, seed).
"""

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from qablate.analysis import style
from qablate.analysis.basis import SHORT, Basis
from qablate.analysis.old_figure import Drawing
from qablate.analysis.old_statistics import mean_estimate
from qablate.analysis.parts import (
    DIFFERENCE_NAMES,
    banner,
    canvas,
    difference_axis,
    entry,
    errors,
    legend,
    model_legend,
    model_look,
    named,
    nothing,
    panels_by_architecture,
    x_label,
)
from qablate.catalog import MODELS, model_info, task_info

FACTORS = (("P1", "features, these models"), ("G1", "features, in general"), ("P2", "mixing, these models"),
           ("G2", "mixing, in general"), ("P5", "Hydra against Mamba"), ("P9", "circuit against tanh"),
           ("P10", "entangling gates"))
"""Claims of the forest, by the first part of their ids."""
SCOPES: dict[str, dict[str, Any]] = {
    "these_models": {"marker": "o", "color": "#0072B2", "linestyle": "-"},
    "general": {"marker": "D", "color": "#D55E00", "linestyle": "-", "markerfacecolor": "white"},
}
CLASSICAL = {info.architecture: info.id for info in MODELS.values() if info.group == 3}
"""The model of each architecture without a circuit."""
MARGIN_ENTRY = entry("margin", {"color": style.BAND, "linewidth": 5})
CONTROLS = ("noent", "frozen", "tanh", "fourier")
SAMPLED = ("1a", "1b", "2a", "2d", "4a", "4d")
"""Models of which the controls are planned."""
FAR = 100.0
"""Margins at which the axis of the equivalence strip ends at the latest."""


def factor_forest(basis: Basis) -> Drawing | str:
    """One panel a task: estimate, 95 % interval and margin of each factor, over blocks and over matched pairs."""
    frame = basis.contrasts((f"{key}-{short}", label) for short in SHORT.values() for key, label in FACTORS)
    tasks = basis.tasks_in(frame)
    if not tasks:
        return "no contrast of a factor has a block in which all of its models have a run"
    heights = [1.4 + (frame["task"] == task).sum() for task in tasks]
    figure, axes = canvas(0.5 + 0.25 * sum(heights), len(tasks), height_ratios=heights)
    for axis, task in zip(axes[:, 0], tasks, strict=True):
        _forest_panel(axis, basis, task, frame[frame["task"] == task])
    entries = [entry("these models: blocks", SCOPES["these_models"]), entry("in general: pairs", SCOPES["general"]),
               MARGIN_ENTRY]
    legend(figure, entries, 3)
    banner(figure, [*basis.missing(), *_factors_without_block(basis, set(frame["id"]))])
    return Drawing(figure, frame)


def _factors_without_block(basis: Basis, drawn: set[str]) -> list[str]:
    lines = []
    for key, label in FACTORS:
        lacking = [task_info(task).title for task in basis.collection.tasks
                   if (claim := f"{key}-{SHORT[task]}") in basis.material.claims.claims and claim not in drawn]
        if lacking:
            everywhere = len(lacking) == len(basis.collection.tasks)
            lines.append(f"no matched block for {label}" + ("" if everywhere else f" ({', '.join(lacking)})"))
    return lines


def _forest_panel(axis: Axes, basis: Basis, task: str, frame: pd.DataFrame) -> None:
    scale = basis.scale(task)
    margin = float(frame["margin"].iloc[0])
    axis.axvspan(-margin, margin, color=style.BAND, linewidth=0)
    axis.axvline(0, color=style.REFERENCE, linewidth=0.6)
    for place, row in enumerate(frame.to_dict("records")):
        axis.errorbar(row["estimate"], place, xerr=errors(row["estimate"], row["low95"], row["high95"]),
                      **SCOPES[row["scope"]])
        for text, line, size in ((row["label"], -0.18, style.SMALL),
                                 (", ".join(filter(None, (f"n = {row['n']}", row["verdict"]))), 0.22, style.TINY)):
            axis.annotate(text, (-0.03, place + line), xycoords=("axes fraction", "data"), fontsize=size, ha="right",
                          va="center")
    limit = _limit(frame, margin)
    axis.set(xlim=(-limit, limit), ylim=(len(frame) - 0.4, -0.6), title=task_info(task).title,
             xlabel=DIFFERENCE_NAMES[scale.name])
    axis.set_yticks([])
    difference_axis(axis.xaxis, scale, limit)


def _limit(frame: pd.DataFrame, margin: float) -> float:
    """Half the width of an axis: all estimates, intervals as far as three times the farthest estimate or the margin."""
    ends = frame[["low95", "high95"]].abs().to_numpy()
    farthest = max(float(frame["estimate"].abs().max()), margin)
    return 1.1 * max(farthest, min(float(np.where(np.isfinite(ends), ends, 0).max()), 3 * farthest))


def placement(basis: Basis) -> Drawing | str:
    """Tasks x architectures: difference to the classical model, features along the axis, one line a kind of mixing."""
    frame = _placement_frame(basis)
    tasks = basis.tasks_in(frame)
    if not tasks:
        return "no model has a block together with the classical model of its architecture"
    figure, axes = canvas(0.6 + 1.25 * len(tasks), len(tasks), 3, sharex=True, sharey="row")
    for axis, task, chosen in panels_by_architecture(axes, tasks, frame):
        _placement_panel(axis, basis, task, chosen)
    for i, task in enumerate(tasks):
        axes[i, 0].set_ylabel(f"{task_info(task).title}\n{DIFFERENCE_NAMES[basis.scale(task).name]}",
                              fontsize=style.SMALL)
        limit = _limit(frame[frame["task"] == task], basis.scale(task).margin)
        axes[i, 0].set_ylim(-limit, limit)
        difference_axis(axes[i, 0].yaxis, basis.scale(task), limit)
    x_label(axes[-1], "features")
    legend(figure, [entry("classical mixing", _mixing_look(False)), entry("quantum mixing", _mixing_look(True)),
                    MARGIN_ENTRY], 3)
    lacking = [model for model, _ in _counterparts(basis) if model not in set(frame["model"])]
    banner(figure, [*basis.missing(), *named("no block with the classical model", lacking)])
    return Drawing(figure, frame)


def _placement_frame(basis: Basis) -> pd.DataFrame:
    quantum = [model for model in MODELS if model not in CLASSICAL.values()]
    frame = basis.contrasts((f"M-{task}-{model}", model) for task in basis.collection.tasks for model in quantum)
    frame = frame.rename(columns={"label": "model"})
    frame.insert(3, "architecture", [model_info(model).architecture for model in frame["model"]])
    return frame


def _mixing_look(quantum: bool) -> dict[str, Any]:
    return {"color": "#333333", "linestyle": style.LINES[2] if quantum else style.LINES[1]}


def _placement_panel(axis: Axes, basis: Basis, task: str, frame: pd.DataFrame) -> None:
    """The classical model stands at zero with classical features; 1x beside it; 2x and 4x on the line of mixing."""
    margin = basis.scale(task).margin
    axis.axhspan(-margin, margin, color=style.BAND, linewidth=0)
    axis.set(xlim=(-0.4, 1.4))
    axis.set_xticks((0, 1), ("C", "Q"))
    if frame.empty:
        nothing(axis, "no block")
        return
    points = {False: [(0.0, 0.0)], True: []}
    for row in frame.to_dict("records"):
        info = model_info(row["model"])
        x = float(info.quantum_features) + (0.08 if info.quantum_mixing else -0.08)
        points[info.quantum_mixing].append((x, row["estimate"]))
        axis.errorbar(x, row["estimate"], yerr=errors(row["estimate"], row["low95"], row["high95"]),
                      **model_look(row["model"], line=False) | {"zorder": 3})
        axis.annotate(f"{row['n']}", (x, row["estimate"]), xytext=(3, 4), textcoords="offset points",
                      fontsize=style.TINY, va="center")
    axis.plot(-0.0, 0.0, **model_look(CLASSICAL[frame["architecture"].iloc[0]], line=False), zorder=3)
    for mixing, found in points.items():
        axis.plot(*zip(*sorted(found), strict=True), zorder=1, **_mixing_look(mixing) | {"linewidth": 0.7})


def equivalence_strip(basis: Basis) -> Drawing | str:
    """One panel a task: 90 % interval of each model's difference to its classical counterpart, in margins."""
    pairs = _counterparts(basis)
    frame = basis.contrasts((f"M-{task}-{model}", f"{model} − {other}") for task in basis.collection.tasks
                            for model, other in pairs)
    if frame.empty:
        return "no model has a block together with its classical counterpart"
    for key in ("estimate", "low90", "high90"):
        frame[f"{key}_in_margins"] = frame[key] / frame["margin"]
    tasks = basis.tasks_in(frame)
    labels = [label for label in dict.fromkeys(f"{a} − {b}" for a, b in pairs) if label in set(frame["label"])]
    figure, axes = canvas(0.75 + 0.16 * len(labels), 1, len(tasks), sharey=True)
    for axis, task in zip(axes[0], tasks, strict=True):
        _strip_panel(axis, frame[frame["task"] == task], labels)
        axis.set_title(f"{task_info(task).title}\nmargin {_margin_words(basis, task)}", fontsize=style.SMALL)
    x_label(axes[-1], "difference in margins, positive: the first is better")
    banner(figure, basis.missing())
    return Drawing(figure, frame)


def _counterparts(basis: Basis) -> list[tuple[str, str]]:
    """Quantum models of the study with the classical model of their architecture."""
    return [(model, CLASSICAL[model_info(model).architecture]) for model in basis.collection.models
            if model not in CLASSICAL.values()]


def _margin_words(basis: Basis, task: str) -> str:
    scale = basis.scale(task)
    if scale.name == "neg_ln_mse":
        return f"factor {np.exp(scale.margin):.3g}"
    return f"{scale.margin:g} {'R²' if scale.name == 'r2' else 'accuracy'}"


def _strip_panel(axis: Axes, frame: pd.DataFrame, labels: Sequence[str]) -> None:
    axis.axvspan(-1, 1, color=style.BAND, linewidth=0)
    axis.axvline(0, color=style.REFERENCE, linewidth=0.6)
    for row in frame.to_dict("records"):
        place, value = labels.index(row["label"]), row["estimate_in_margins"]
        axis.errorbar(value, place, xerr=errors(value, row["low90_in_margins"], row["high90_in_margins"]),
                      **model_look(row["label"].split()[0], line=False))
    ends = np.abs(frame[["estimate_in_margins", "low90_in_margins", "high90_in_margins"]].to_numpy())
    limit = min(FAR, max(2.5, 1.3 * float(np.where(np.isfinite(ends), ends, 0).max())))
    axis.set_xscale("symlog", linthresh=2.0)
    marks = [mark for mark in (-100, -10, -1, 0, 1, 10, 100) if abs(mark) < limit]
    axis.xaxis.set_major_locator(FixedLocator(marks))
    axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.xaxis.set_minor_locator(NullLocator())
    axis.set(xlim=(-limit, limit), ylim=(len(labels) - 0.4, -0.6))
    axis.set_yticks(range(len(labels)), labels)


def controls_ladder(basis: Basis) -> Drawing | str:
    """One panel a task: each control's benefit minus that of the trained quantum model, block by block and as mean."""
    frame = _controls_frame(basis)
    tasks = basis.tasks_in(frame)
    if not tasks:
        return ("no run of a quantum model without entangling gates, with frozen angles, or with a tanh or Fourier map "
                "in place of the circuit")
    figure, axes = canvas(0.5 + 1.3 * len(tasks), len(tasks), sharex=True)
    for axis, task in zip(axes[:, 0], tasks, strict=True):
        _controls_panel(axis, basis, task, frame[frame["task"] == task])
    axes[-1, 0].set_xticks(range(len(CONTROLS) + 1), ("as\ntrained", "no entangling\ngates", "frozen\nangles",
                                                      "tanh map", "Fourier\nmap"))
    model_legend(figure, [model for model in SAMPLED if model in set(frame["model"])], notation=False)
    present = set(zip(frame["model"], frame["control"], strict=True))
    lacking = [f"{model}+{tag}" for model, tag in itertools.product(SAMPLED, CONTROLS) if (model, tag) not in present]
    banner(figure, named("no block", lacking))
    return Drawing(figure, frame)


def _controls_frame(basis: Basis) -> pd.DataFrame:
    """One row a block that a control shares with its model, the mean and interval of the pair on each of them."""
    rows = []
    for task, model, tag in itertools.product(basis.collection.tasks, SAMPLED, CONTROLS):
        arm = f"{model}+{tag}"
        blocks = basis.matched(task, (model, arm))
        d = blocks.contrast({arm: 1.0, model: -1.0})
        estimate = mean_estimate(d[blocks.used])
        interval = estimate.interval(0.95)
        rows += [{"task": task, "model": model, "control": tag, "length": blocks.lengths[i], "seed": blocks.seeds[j],
                  "difference": d[i, j], "mean": estimate.value, "low95": interval.low, "high95": interval.high,
                  "n": blocks.n} for i, j in np.argwhere(blocks.used)]
    return pd.DataFrame(rows, columns=["task", "model", "control", "length", "seed", "difference", "mean", "low95",
                                       "high95", "n"])


def _controls_panel(axis: Axes, basis: Basis, task: str, frame: pd.DataFrame) -> None:
    margin = basis.scale(task).margin
    axis.axhspan(-margin, margin, color=style.BAND, linewidth=0)
    axis.axhline(0, color=style.REFERENCE, linewidth=0.6)
    for (model, control), pair in frame.groupby(["model", "control"]):
        look = model_look(str(model), line=False)
        x = 1 + CONTROLS.index(str(control)) + 0.12 * (SAMPLED.index(str(model)) - 2.5)
        axis.plot(np.full(len(pair), x), pair["difference"], alpha=0.5, **look | {"markersize": 1.8},
                  markeredgewidth=0)
        first = pair.iloc[0]
        axis.errorbar(x, first["mean"], yerr=errors(first["mean"], first["low95"], first["high95"]), **look)
    axis.set(xlim=(-0.5, len(CONTROLS) + 0.5), title=task_info(task).title)
    axis.set_ylabel(DIFFERENCE_NAMES[basis.scale(task).name], fontsize=style.SMALL)
    difference_axis(axis.yaxis, basis.scale(task), float(np.abs(axis.get_ylim()).max()))
