"""What the finished cells took, and what a score costs in parameters and time."""

import functools
import math

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas

from qablate.analysis import figure as look
from qablate.analysis.bounds import baseline, golden
from qablate.analysis.collect import Runs
from qablate.analysis.formats import DASH, fixed, metric_name
from qablate.analysis.table import Figure, Table, cell_columns, written
from qablate.catalog import task_info
from qablate.hours import HOUR, MEASURED_ITEMS, CostTable
from qablate.variants import is_variant, labelled

FRONTIER: look.Look = {"color": look.PALE, "linewidth": 0.8, "linestyle": (0, (4, 1.5))}
COSTS = {"n_params_trainable": "trainable parameters", "training_time": "seconds of training"}
MOST_PANELS = 4


def tradeoff(runs: Runs) -> Figure:
    """Score against size and time at one length per task: the one of most models with a time, the longest of equals.

    Variants of a task have no panel next to it. Of several devices only the time on the one with most runs is shown.
    """
    devices = runs.table["device_name"].value_counts()
    frames, tasks = [], [task for task in runs.tasks if not is_variant(task)] or runs.tasks[:MOST_PANELS]
    for task in tasks:
        found = runs.of(task).rename(columns={task_info(task).metric: "score"})
        if len(devices) > 1:
            found["training_time"] = found["training_time"].where(found["device_name"] == devices.index[0])
        timed = found[found["training_time"].notna()]
        counts = (timed if len(timed) else found).groupby("length")["model"].nunique()
        if len(counts):
            length = max(counts.index, key=lambda length: (counts[length], length))
            grouped = found[found["length"] == length].groupby("model")
            mean = grouped[["score", *COSTS]].mean().assign(task=task, length=length, n=grouped.size())
            frames.append(mean.reset_index())
    columns = ["task", "length", "model", "score", "n", *COSTS]
    frame = pd.concat(frames, ignore_index=True)[columns] if frames else pd.DataFrame(columns=columns)
    note = f" Seconds are those of runs on {devices.index[0]} alone." if len(devices) > 1 else ""
    return Figure("score_against_cost", "Score against parameters and training time",
                  "Means over seeds at one length. The line joins models that no other beats at lower cost; solid: "
                  f"baseline. Seconds are wall clock, also of machines that others used.{note} Hours: "
                  "[Details](report/details.md#cost-by-model).",
                  lambda: _draw(runs, tasks, frame), frame)


def _draw(runs: Runs, tasks: list[str], frame: pd.DataFrame) -> Canvas:
    figure, axes = look.grid(4.2, len(COSTS), len(tasks)) if len(tasks) > 1 else look.grid(2.6, 1, len(COSTS))
    axes = axes.reshape(len(COSTS), len(tasks))
    for column, task in enumerate(tasks):
        of_task = frame[frame["task"] == task]
        for axis, (key, name) in zip(axes[:, column], COSTS.items(), strict=True):
            _draw_panel(axis, task, of_task[of_task[key] > 0].sort_values(key), key)
            axis.set(xlabel=name, ylabel=metric_name(task_info(task).metric))
        length = f", L = {of_task['length'].iloc[0]}" if len(of_task) else ""
        axes[0, column].set_title(task_info(task).title + length)
    named = [model for model in runs.models if model in set(frame["model"])]
    if named:
        look.legend_above(figure, [look.legend_entry(labelled(model), look.model_look(model, False))
                                   for model in named] + [look.legend_entry("not beaten at lower cost", FRONTIER)], 5)
    look.banner(figure, look.missing_lines(runs, tasks))
    return figure


def _draw_panel(axis: Axes, task: str, known: pd.DataFrame, key: str) -> None:
    if known.empty:
        look.empty_panel(axis)
        return
    for row in known.to_dict("records"):
        shape = look.model_look(row["model"], line=False) | {"markersize": 5, "zorder": 3, "clip_on": False}
        axis.plot(row[key], row["score"], **shape)
    benefit = known["score"] if task_info(task).larger_is_better else -known["score"]
    best = known[benefit > benefit.shift().cummax().fillna(-float("inf"))]
    axis.axhline(baseline(task), zorder=0, **look.BASELINE)
    axis.step(best[key], best["score"], where="post", zorder=1, **FRONTIER)
    look.cost_axis(axis)
    look.score_axis(axis, task)


def cost_by_model(runs: Runs) -> Table:
    """One row per model and device, each device's sum last: runs, hours spent and planned, A100 hours, the ratio.

    Planned: the cost table's epochs, published numbers of epochs where it has none. Published code: its seconds per
    epoch on an A100 times the epochs that these runs used, for studies of the published size alone.
    """
    found = runs.table.merge(golden("published_epochs.csv"), "left", ["model", "length"], suffixes=("", "_published"))
    study, table = runs.study, CostTable.at_hand()
    estimates = [table.estimate(str(row["device_name"]), row["model"], row["task"], row["length"],
                                study.training_settings(row["model"])["max_epochs"], study.n_items(row["task"]))
                 for row in found.to_dict("records")]
    found["spent"] = found["training_time"] / HOUR
    found["planned"] = [estimate.seconds / HOUR if estimate else math.nan for estimate in estimates]
    published_size = 1.0 if study.config["data"]["n_samples"] == MEASURED_ITEMS else math.nan
    found["published"] = published_size * found["seconds_per_epoch_published"] * found["epochs"] / HOUR
    found["device"], found["estimated"] = found["device_name"].fillna("not recorded"), found["basis"] == "estimate"
    every = pd.concat([found, found.assign(model="total")])
    every["model"] = pd.Categorical(every["model"], [*runs.models, "total"])
    whole = functools.partial(pd.Series.sum, skipna=False)    # not known if one of them is not
    frame = every.groupby(["device", "model"], observed=True).agg(
        runs=("spent", "size"), spent=("spent", pd.Series.sum), planned=("planned", whole),
        published=("published", whole), estimated=("estimated", "any")).reset_index()
    frame["ratio"] = (frame["published"] / frame["spent"]).where(frame["spent"] > 0)
    frame = frame[["model", "runs", "device", "spent", "planned", "published", "ratio", "estimated"]]
    shown = pd.DataFrame({
        "model": frame["model"].astype(str), "runs": frame["runs"].astype(str), "device": frame["device"],
        "hours spent": written(frame["spent"]), "hours planned": written(frame["planned"]), **{
            name: [f"({hours})" if rough and hours != DASH else hours
                   for hours, rough in zip(written(frame[key]), frame["estimated"], strict=True)]
            for key, name in (("published", "A100 hours of the published code"), ("ratio", "speed-up over A100"))}})
    return Table("cost_by_model", "Cost by model",
                 "Spent: training time; on a machine that others use too, more than the work takes. Planned: what "
                 "workflow/costs.csv gives these cells on the same device. Published code: its seconds per epoch on an "
                 "A100 times the epochs that these runs used; in brackets where its seconds are estimates, good to a "
                 "factor of about two." if len(frame) else "No cell is done.", frame, shown, int(len(frame) > 0))


def cost_by_length(runs: Runs) -> Table:
    """One row per model and length with runs: seconds per epoch over all tasks, epochs per task, hours spent."""
    keys = ["model", "length"]
    grouped = runs.table.groupby(keys)
    epochs = runs.table.pivot_table(index=keys, columns="task", values="epochs", aggfunc="median")
    epochs = epochs.reindex(columns=runs.tasks)
    frame = pd.DataFrame({
        "runs": grouped.size(), "seconds_per_epoch": grouped["seconds_per_epoch"].median(),
        "devices": grouped["device_name"].agg(lambda names: ", ".join(sorted(names.dropna().unique()))),
        "hours_spent": grouped["training_time"].sum() / HOUR,
    }).join(epochs.add_suffix("_epochs")).reset_index()
    shown = pd.DataFrame({
        **cell_columns(frame), "runs": frame["runs"].astype(str),
        "seconds per epoch": written(frame["seconds_per_epoch"]),
        **{f"epochs, {task_info(task).title}": written(frame[f"{task}_epochs"], fixed(1)) for task in runs.tasks},
        "hours spent": written(frame["hours_spent"]), "device": frame["devices"]})
    return Table("cost", "Cost per model and length", "Medians over runs; hours are training time on the device named.",
                 frame, shown)
