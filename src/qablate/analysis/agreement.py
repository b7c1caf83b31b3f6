"""Figure of the cells that have two results: what one system measured against what another did."""

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas
from matplotlib.lines import Line2D

from qablate.analysis import style
from qablate.analysis.figure import Drawing
from qablate.analysis.formats import METRIC_NAMES
from qablate.analysis.runs import CELL, Collection
from qablate.analysis.systems import cross_system
from qablate.catalog import model_info, task_info


def has_pairs(collection: Collection) -> bool:
    """Whether any cell has two honest results with different numbers."""
    return bool(len(_pairs(collection)))


def _pairs(collection: Collection) -> pd.DataFrame:
    table = cross_system(collection).frame
    return table.loc[table["remark"] == "", [*CELL, "metric", "system_a", "value_a", "system_b", "value_b"]]


def system_agreement(collection: Collection) -> Drawing:
    """One panel a task that has pairs: value of one result against the other, a point a cell, equal on the line."""
    frame = _pairs(collection)
    tasks = [task for task in collection.tasks if (frame["task"] == task).any()]
    canvas = Canvas(figsize=(style.WIDE, 2.5))
    axes = canvas.subplots(1, len(tasks), squeeze=False)[0]
    canvas.subplots_adjust(left=0.13, right=0.98, top=0.88, bottom=0.33, wspace=0.45)
    for axis, task in zip(axes, tasks, strict=True):
        _panel(axis, task, frame[frame["task"] == task])
    axes[0].set_ylabel("other result")
    present = [model for model in collection.models if (frame["model"] == model).any()]
    handles = [Line2D([], [], linestyle="", label=model, color=style.COLOURS[model],
                      marker=style.MARKERS[model_info(model).group]) for model in present]
    canvas.legend(handles=handles, loc="lower center", ncols=len(handles), columnspacing=0.8, handletextpad=0.1)
    return Drawing(canvas, frame)


def _panel(axis: Axes, task: str, pairs: pd.DataFrame) -> None:
    info = task_info(task)
    for model, of_model in pairs.groupby("model"):
        axis.plot(of_model["value_a"], of_model["value_b"], linestyle="", color=style.COLOURS[str(model)],
                  marker=style.MARKERS[model_info(str(model)).group])
    values = pairs[["value_a", "value_b"]].to_numpy()
    if not info.larger_is_better and (values > 0).all():
        axis.set(xscale="log", yscale="log")
    axis.axline((values.min(), values.min()), (values.max(), values.max() + 1e-12), color=style.REFERENCE,
                linewidth=0.8, zorder=0)
    axis.set_title(info.title)
    axis.set_xlabel(f"one result, {METRIC_NAMES[info.metric]}", fontsize=7)
