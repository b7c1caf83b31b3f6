"""Figure of the cells that have two results: what one system measured against what another did."""

import pandas as pd
from matplotlib.axes import Axes
from scipy import special

from qablate.analysis import style
from qablate.analysis.basis import Basis
from qablate.analysis.contrasts import benefit
from qablate.analysis.formats import METRIC_NAMES
from qablate.analysis.old_figure import Drawing
from qablate.analysis.old_statistics import mean_estimate
from qablate.analysis.parts import DIFFERENCE_NAMES, banner, canvas, model_legend, model_look, named
from qablate.analysis.runs import CELL
from qablate.analysis.systems import cross_system
from qablate.catalog import task_info


def system_agreement(basis: Basis) -> Drawing | str:
    """Two panels a task with pairs: one result against the other, and their offset against their mean (Bland-Altman).

    The offset of a cell is the benefit of the second result minus that of the first; its mean has a 95 % t interval
    over cells.
    """
    frame = _pairs(basis)
    tasks = basis.tasks_in(frame)
    if not tasks:
        return "no cell has two honest results with different numbers"
    figure, axes = canvas(0.75 + 1.45 * len(tasks), len(tasks), 2)
    for (left, right), task in zip(axes, tasks, strict=True):
        _identity_panel(left, task, frame[frame["task"] == task])
        _offset_panel(right, basis, task, frame[frame["task"] == task])
    model_legend(figure, basis.models_in(frame))
    lacking = [task_info(task).title for task in basis.collection.tasks if task not in tasks]
    banner(figure, named("no cell with two results", lacking))
    return Drawing(figure, frame)


def _pairs(basis: Basis) -> pd.DataFrame:
    """One row a cell with two results: both values, benefits' mean and offset, and its task's offset with interval."""
    table = cross_system(basis.collection).frame
    table = table.loc[table["remark"] == "", [*CELL, "metric", "system_a", "value_a", "system_b", "value_b"]]
    table = table[table["task"].isin(list(basis.material.claims.tasks))].reset_index(drop=True)
    for key in ("a", "b"):
        table[f"benefit_{key}"] = [benefit(basis.scale(row["task"]), row[f"value_{key}"])
                                   for row in table.to_dict("records")]
    table["mean"] = (table["benefit_a"] + table["benefit_b"]) / 2
    table["offset"] = table["benefit_b"] - table["benefit_a"]
    for task, offsets in table.groupby("task")["offset"]:
        estimate = mean_estimate(offsets)
        interval = estimate.interval(0.95)
        spread = float(special.ndtri(0.975)) * float(offsets.std(ddof=1))
        columns = ["mean_offset", "low95", "high95", "limit_low", "limit_high", "n"]
        table.loc[table["task"] == task, columns] = (estimate.value, interval.low, interval.high,
                                                     estimate.value - spread, estimate.value + spread, len(offsets))
    return table


def _identity_panel(axis: Axes, task: str, pairs: pd.DataFrame) -> None:
    info = task_info(task)
    for model, of_model in pairs.groupby("model"):
        axis.plot(of_model["value_a"], of_model["value_b"], **model_look(str(model), line=False))
    values = pairs[["value_a", "value_b"]].to_numpy()
    if not info.larger_is_better and (values > 0).all():
        axis.set(xscale="log", yscale="log")
    axis.axline((values.min(), values.min()), (values.max(), values.max() + 1e-12), color=style.REFERENCE,
                linewidth=0.8, zorder=0)
    axis.set(title=f"{info.title}, n = {len(pairs)}", xlabel=f"one result, {METRIC_NAMES[info.metric]}",
             ylabel="other result")


def _offset_panel(axis: Axes, basis: Basis, task: str, pairs: pd.DataFrame) -> None:
    """Line: no offset; band: interval of the mean offset; dashes: where ninety-five of a hundred offsets would lie."""
    for model, of_model in pairs.groupby("model"):
        axis.plot(of_model["mean"], of_model["offset"], **model_look(str(model), line=False))
    first = pairs.iloc[0]
    if len(pairs) > 1:
        axis.axhspan(first["low95"], first["high95"], color=style.BAND, linewidth=0, zorder=0)
        for limit in (first["limit_low"], first["limit_high"]):
            axis.axhline(limit, color=style.PALE, linewidth=0.6, linestyle="--")
    axis.axhline(0, color=style.REFERENCE, linewidth=0.8)
    axis.axhline(first["mean_offset"], color=style.SOLVER, linewidth=0.8)
    scale = basis.scale(task)
    name = "-ln MSE" if scale.name == "neg_ln_mse" else METRIC_NAMES[scale.metric].removeprefix("test ")
    axis.set(title="offset", xlabel=f"mean of both, {name}", ylabel=DIFFERENCE_NAMES[scale.name].replace(
        "smaller MSE, factor", "difference in -ln MSE"))
