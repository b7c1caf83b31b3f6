"""Forrelation: what solvers reach with more steps and more training items, and what the models learn."""

from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, NullLocator

from qablate.analysis import style
from qablate.analysis.basis import Basis
from qablate.analysis.ceilings import solvers_of_study
from qablate.analysis.old_figure import Drawing
from qablate.analysis.parts import banner, canvas, entry, model_legend, model_look, nothing

TASK = "forrelation"
SOLVERS: dict[str, tuple[str, dict[str, Any]]] = {
    "plug_in": ("plug-in statistic", {"color": style.SOLVER, "marker": "*", "linestyle": "-"}),
    "table_ridge": ("ridge on products", {"color": "#332288", "marker": "P", "linestyle": (0, (5, 1.5))}),
    "linear": ("linear on tables", {"color": "#999933", "marker": "X", "linestyle": (0, (1, 1))}),
}
CHANCE: dict[str, Any] = {"color": style.REFERENCE, "linewidth": 0.8}
COLUMNS = ("panel", "series", "length", "seed", "n_train", "x", "y", "n")


def forrelation_diagnostics(basis: Basis) -> Drawing | str:
    """Accuracy against length and training items, of solvers and models; training against validation of every run."""
    solvers, fits = solvers_of_study(basis.collection.study), _fits(basis)
    frame = pd.concat([_by_length(basis, solvers), _by_size(solvers), fits], ignore_index=True)
    if frame.empty:
        return "no run, and no solver's score of these datasets is known"
    figure, axes = canvas(3.5, 2, 2)
    _length_panel(axes[0, 0], basis, frame[frame["panel"] == "length"])
    _size_panel(axes[0, 1], frame[frame["panel"] == "training items"])
    _fit_panel(axes[1, 0], fits)
    axes[1, 1].axis("off")
    axes[1, 1].legend(handles=[*(entry(label, look) for label, look in SOLVERS.values()), entry("a half", CHANCE)],
                      loc="center left")
    lengths = ", ".join(map(str, basis.collection.lengths(TASK)))
    axes[0, 1].set_title(f"lines from below: L {lengths}", fontsize=style.SMALL)
    model_legend(figure, basis.models_in(frame, "series"))
    missing = [] if len(solvers) else ["solvers on these datasets: not computed"]
    banner(figure, [*basis.missing(TASK), *missing, "ladder of easier variants: no run"])
    return Drawing(figure, frame)


def _by_length(basis: Basis, solvers: pd.DataFrame) -> pd.DataFrame:
    """Mean accuracy over seeds of each solver with all training items, and of each model."""
    runs = basis.runs(TASK).rename(columns={"model": "series", "score": "y"}) if TASK in basis.collection.tasks else (
        pd.DataFrame(columns=["series", "length", "y"]))
    whole = solvers[solvers["n_train"] == solvers["n_train"].max()].rename(columns={"solver": "series", "score": "y"})
    parts = [part[part["y"].notna()].groupby(["series", "length"])["y"].agg(y="mean", n="count").reset_index()
             for part in (whole, runs)]
    return pd.concat(parts).assign(panel="length", x=lambda table: table["length"]).reindex(columns=list(COLUMNS))


def _by_size(solvers: pd.DataFrame) -> pd.DataFrame:
    """Mean accuracy over seeds of each solver, length and number of training items."""
    keys = ["solver", "length", "n_train"]
    means = solvers.groupby(keys)["score"].agg(y="mean", n="count").reset_index().rename(columns={"solver": "series"})
    return means.assign(panel="training items", x=means["n_train"]).reindex(columns=list(COLUMNS))


def _fits(basis: Basis) -> pd.DataFrame:
    """Training and validation accuracy of every run at the epoch whose weights were tested."""
    curves = basis.curves(TASK)
    named = curves[curves["chosen"]].rename(columns={"model": "series", "train_metric": "x", "val_metric": "y"})
    return named.assign(panel="training and validation", n=1).reindex(columns=list(COLUMNS))


def _length_panel(axis: Axes, basis: Basis, frame: pd.DataFrame) -> None:
    axis.axhline(0.5, **CHANCE)
    for name, rows in frame.groupby("series"):
        look = SOLVERS[str(name)][1] if name in SOLVERS else model_look(str(name), line=False)
        axis.plot(rows["x"], rows["y"], **look)
    _log_ticks(axis, basis.collection.lengths(TASK))
    axis.set(xlabel="length L", ylabel="test accuracy")


def _size_panel(axis: Axes, frame: pd.DataFrame) -> None:
    axis.set(xlabel="training items", ylabel="test accuracy")
    if frame.empty:
        nothing(axis, "not computed")
        return
    axis.axhline(0.5, **CHANCE)
    for (name, _), rows in frame.groupby(["series", "length"]):
        axis.plot(rows["x"], rows["y"], **SOLVERS[str(name)][1])
    _log_ticks(axis, sorted(frame["x"].unique()))


def _log_ticks(axis: Axes, marks: list[int]) -> None:
    axis.set_xscale("log")
    axis.xaxis.set_major_locator(FixedLocator(marks))
    axis.xaxis.set_minor_locator(NullLocator())
    axis.set_xticks(marks, [f"{mark:g}" for mark in marks])


def _fit_panel(axis: Axes, frame: pd.DataFrame) -> None:
    """Every run at its chosen epoch, with the line of equality."""
    axis.axhline(0.5, **CHANCE)
    axis.axline((0.5, 0.5), slope=1, color=style.PALE, linewidth=0.5)
    for model, rows in frame.groupby("series"):
        axis.plot(rows["x"], rows["y"], **model_look(str(model), line=False) | {"markersize": 2.4})
    axis.set(xlabel="training accuracy", ylabel="validation accuracy")
    if frame.empty:
        nothing(axis)
