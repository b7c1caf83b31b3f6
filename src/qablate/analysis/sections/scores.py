"""Results of one task: scores by model and length, per seed, against length, and learning curves."""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure as Canvas
from scipy import stats

from qablate.analysis import figure as look
from qablate.analysis.bounds import baseline, references
from qablate.analysis.collect import CELL, Runs
from qablate.analysis.formats import DASH, metric_format, metric_name
from qablate.analysis.statistics import SMALLEST_MSE
from qablate.analysis.table import Figure, Table, cell_columns, written
from qablate.catalog import model_info, task_info
from qablate.variants import labelled

WORDS = {"done": "not recorded", "no_improvement": "not recorded", "partial": "not recorded",
         "selected_on_test": "test-selected only", "checkpoint": "in training"}
"""States of a cell without a score, where the table has other words than the state itself."""
CAPTION = ("Mean over seeds; n where runs are missing, diverged runs are counted next to the mean. Bold: best of its "
           "length, of those with the most runs. Average: over the lengths in brackets, which differ between models.")
MEASURED = {"test_acc": "majority class of the test items"}
"""What a result's measured baseline is, by the metric that it is worth a row next to."""
MARGIN = 0.25
"""Room on both sides of the lengths, in log2 L."""
FIGURE_COLUMNS = ("kind", "model", "length", "seed", "score", "low95", "high95", "n")


def means(runs: Runs, task: str, metric: str = "") -> pd.DataFrame:
    """Return one row per model and length: `mean`, `sd`, `n`, `planned`, `diverged`, and `state` where there is none.

    Valid runs only; sd is the sample standard deviation, empty below two runs.
    """
    keys, metric = ["model", "length"], metric or task_info(task).metric
    found = runs.table[runs.table["valid"] & (runs.table["task"] == task) & runs.table[metric].notna()]
    states = runs.cells[runs.cells["task"] == task].groupby(keys)["state"].agg(list)
    rows = found.groupby(keys)[metric].agg(mean="mean", sd="std", n="count").reindex(states.index)
    rows["n"] = rows["n"].fillna(0).astype(int)
    rows["planned"], rows["diverged"] = states.map(len), states.map(lambda found: found.count("diverged"))
    rows["state"] = states.map(_state_words).where(rows["n"] == 0, "")
    return rows.reset_index()


def _state_words(states: list[str]) -> str:
    named = Counter(WORDS.get(state, state).replace("_", " ") for state in states)
    return next(iter(named)) if len(named) == 1 else ", ".join(f"{n} {word}" for word, n in sorted(named.items()))


def shown_mean(row: Any, metric: str) -> str:
    """Write one mean as a table shows it: `0.514 (n 1, 2 diverged)`, `– diverged`, `–` where all is missing."""
    if not row.n:
        return f"{DASH} {row.state}" if row.state != "missing" else DASH
    notes = [f"n {row.n}"] * (row.n < row.planned) + [f"{row.diverged} diverged"] * bool(row.diverged)
    return metric_format(metric)(row.mean) + (f" ({', '.join(notes)})" if notes else "")


def by_length(runs: Runs, task: str) -> Table:
    """Models x lengths, best of a length in bold; baseline and upper bounds below."""
    info, rows = task_info(task), means(runs, task)
    extra = "test_r2" if info.kind == "regression" else info.metric
    shown, foot = lengths_shown(runs, task, rows), reference_rows(runs, task)
    there = means(runs, task, extra).query("n > 0").groupby("model")
    average, over = there["mean"].mean(), there["length"].agg(lambda found: ", ".join(map(str, found)))
    frame = rows.merge(average.rename(f"average_{extra}"), on="model", how="left")
    shown[f"average {metric_name(extra).removeprefix('test ')} (over L)"] = [
        f"{metric_format(extra)(average[model])} ({over[model]})" if model in over else DASH
        for model in shown["model"]]
    better = "Larger" if info.larger_is_better else "Smaller"
    return Table(f"scores_{task}", f"Mean {metric_name(info.metric)}", f"{better} is better. {CAPTION}", frame,
                 pd.concat([shown, foot], ignore_index=True).fillna(""), len(foot))


def lengths_shown(runs: Runs, task: str, rows: pd.DataFrame) -> pd.DataFrame:
    """Models (id and name) and one column of printed means per length."""
    shown = pd.DataFrame({"model": runs.models, "name": [model_info(model).name for model in runs.models]})
    for length, column in rows.groupby("length"):
        best = set(best_of(task, column)["model"])
        texts = {row.model: shown_mean(row, task_info(task).metric) for row in column.itertuples()}
        shown[f"L {length}"] = [f"**{texts[model]}**" if model in best else texts[model] for model in runs.models]
    return shown


def best_of(task: str, rows: pd.DataFrame) -> pd.DataFrame:
    """The best mean of each length among those over the most runs; equals are all kept."""
    rows = rows[(rows["n"] > 0) & (rows["n"] == rows.groupby("length")["n"].transform("max"))]
    values = rows["mean"] if task_info(task).larger_is_better else -rows["mean"]
    return rows[values == values.groupby(rows["length"]).transform("max")].sort_values("length", kind="stable")


def reference_rows(runs: Runs, task: str) -> pd.DataFrame:
    """Printed rows of the baseline, as is and measured, and of the upper bounds, one row for models with equal ones."""
    info, lengths = task_info(task), runs.lengths(task)
    named: list[tuple[str, str, Any]] = [("baseline", "best constant prediction", [baseline(task)] * len(lengths))]
    if info.metric in MEASURED:
        measured = runs.table[runs.table["task"] == task].groupby(["length", "seed"])["baseline_measured"].first()
        named.append(("baseline", MEASURED[info.metric], measured.groupby("length").mean().reindex(lengths)))
    bounds = upper_bounds(runs, task)
    for values, models in bounds.groupby(lengths, sort=False, dropna=False)["model"] if len(bounds) else ():
        label = "upper bound" if "all" in set(models) else f"upper bound of {', '.join(models)}"
        named.append((label, "", np.atleast_1d(values)))
    columns = [f"L {length}" for length in lengths]
    return pd.DataFrame([
        {"model": model, "name": name,
         **dict(zip(columns, written(pd.Series(values), metric_format(info.metric)), strict=True))}
        for model, name, values in named])


def upper_bounds(runs: Runs, task: str) -> pd.DataFrame:
    """One row per model with a bound of its own, `all` for that of the task: `model` and one column per length."""
    known = references(runs.study)
    known = known[(known["task"] == task) & (known["role"] == "upper bound")]
    table = known.pivot_table(index="model", columns="length", values="value", sort=False)
    return table.reindex(columns=runs.lengths(task)).dropna(how="all").reset_index()


def per_seed(runs: Runs, task: str) -> Table:
    """One row per model and length, one column per seed, then mean and sample standard deviation."""
    info, write = task_info(task), metric_format(task_info(task).metric)
    rows, of_task = means(runs, task), runs.table[(runs.table["task"] == task) & runs.table["valid"]]
    wide = of_task.pivot(index=["model", "length"], columns="seed", values=info.metric).reindex(columns=runs.seeds)
    states = runs.cells[runs.cells["task"] == task].pivot(index=["model", "length"], columns="seed", values="state")
    frame = rows.join(wide.rename(columns=lambda seed: f"seed{seed}"), on=["model", "length"])
    frame = frame[frame["state"] != "missing"].reset_index(drop=True)
    shown = pd.DataFrame(cell_columns(frame[["model", "length"]]))
    for seed in runs.seeds:
        found = states[seed].loc[pd.MultiIndex.from_frame(frame[["model", "length"]])]
        shown[f"seed {seed}"] = [write(value) if pd.notna(value) else f"{DASH} {WORDS.get(state, state)}"
                                 for value, state in zip(frame[f"seed{seed}"], found, strict=True)]
    spread = ["" if pd.isna(sd) else f" ± {write(sd)}" for sd in frame["sd"]]
    shown["mean"] = [mean + sd for mean, sd in zip(written(frame["mean"], write), spread, strict=True)]
    return Table(f"per_seed_{task}", f"{info.title}: {metric_name(info.metric)} per seed",
                 "One run per cell; mean over seeds ± sample standard deviation. Cells that are missing altogether are "
                 "left out.", frame, shown)


def length_figure(runs: Runs, task: str) -> Figure:
    """Score against length, one panel per architecture: runs, means with intervals, baseline, upper bounds."""
    info, found, bounds = task_info(task), runs.of(task), upper_bounds(runs, task)
    to, back = (float, float) if info.larger_is_better else (lambda mse: np.log(max(mse, SMALLEST_MSE)), np.exp)
    rows: list[dict[str, Any]] = [{"kind": "run", "model": row.model, "length": row.length, "seed": row.seed,
                                   "score": getattr(row, info.metric), "n": 1} for row in found.itertuples()]
    for (model, length), of_cell in found.groupby(["model", "length"])[info.metric]:
        values = np.array([to(value) for value in of_cell])
        middle = values.mean()
        half = stats.t.ppf(0.975, len(values) - 1) * stats.sem(values) if len(values) > 1 else np.nan
        rows.append({"kind": "mean", "model": model, "length": length, "score": back(middle), "n": len(values),
                     "low95": back(middle - half), "high95": back(middle + half)})
    rows += [{"kind": "baseline", "model": "all", "length": length, "score": baseline(task)}
             for length in runs.lengths(task)]
    rows += [{"kind": "upper bound", "model": row["model"], "length": length, "score": row[length]}
             for row in bounds.to_dict("records") for length in runs.lengths(task)]
    frame = pd.DataFrame(rows, columns=list(FIGURE_COLUMNS))
    dashed = ["Dashed: upper bound"] * len(bounds[bounds["model"] == "all"])
    dotted = ["dotted: that of models which lose the order inside a chunk"] * (len(bounds) > 1)
    caption = (f"Small points: runs, shifted sideways a little; large: {'' if info.larger_is_better else 'geometric '}"
               "means over seeds with a 95 % t interval. "
               + (f"{', '.join(dashed + dotted)}." if dashed else ""))
    return Figure(f"length_{task}", f"{info.title}: score against length", caption.strip(),
                  lambda: _draw_lengths(runs, task, frame), frame)


def _draw_lengths(runs: Runs, task: str, frame: pd.DataFrame) -> Canvas:
    kinds = list(dict.fromkeys(model_info(model).architecture for model in runs.models))
    figure, axes = look.grid(2.6, 1, len(kinds), sharey=True)
    lengths = runs.lengths(task)
    for axis, kind in zip(axes[0], kinds, strict=True):
        models = [model for model in runs.models if model_info(model).architecture == kind]
        _draw_panel(axis, frame, models, lengths)
        axis.set_title(kind.capitalize(), loc="left")
        axis.set_xlim(np.log2(lengths[0]) - MARGIN, np.log2(lengths[-1]) + MARGIN)
        axis.set_xticks(np.log2(lengths), [str(length) for length in lengths])
        axis.set_xlabel("length L")
    points = frame[(frame["kind"] != "upper bound") | (frame["model"] == "all")]["score"]
    if not task_info(task).larger_is_better:
        points = points[points > 0]
        axes[0, 0].set_ylim(points.min() / 1.6, points.max() * 1.6)
    look.score_axis(axes[0, 0], task)
    axes[0, 0].set_ylabel(metric_name(task_info(task).metric))
    entries = [look.legend_entry(labelled(model), look.model_look(model)) for model in runs.models]
    bounds = frame.loc[frame["kind"] == "upper bound", "score"]
    off = " 0, off the axis" if not task_info(task).larger_is_better and (bounds == 0).any() else ""
    entries.append(look.legend_entry("baseline", look.BASELINE))
    entries += [look.legend_entry(f"upper bound{off}", look.UPPER)] * (len(bounds) > 0)
    look.legend_above(figure, entries, min(5, len(entries)))
    look.banner(figure, look.missing_lines(runs, [task]))
    return figure


def _draw_panel(axis: Axes, frame: pd.DataFrame, models: Sequence[str], lengths: Sequence[int]) -> None:
    for place, model in enumerate(models):
        style, shift = look.model_look(model), 0.06 * (place - (len(models) - 1) / 2)
        of_model = frame[frame["model"] == model]
        runs, means_ = of_model[of_model["kind"] == "run"], of_model[of_model["kind"] == "mean"]
        axis.plot(np.log2(runs["length"].astype(float)) + shift, runs["score"], alpha=0.5, markeredgewidth=0,
                  **style | {"linestyle": "", "markersize": 2.6})
        axis.errorbar(np.log2(means_["length"].astype(float)) + shift, means_["score"], elinewidth=0.6,
                      yerr=look.whiskers(means_["score"], means_["low95"], means_["high95"]), **style)
    _draw_line(axis, frame[frame["kind"] == "baseline"], look.BASELINE)
    bounds = frame[frame["kind"] == "upper bound"]
    _draw_line(axis, bounds[bounds["model"] == "all"], look.UPPER)
    for model in models:
        _draw_line(axis, bounds[bounds["model"] == model],
                   {"color": look.model_look(model)["color"], "linewidth": 0.8, "linestyle": ":"})
    if frame[frame["model"].isin(models) & (frame["kind"] == "run")].empty:
        look.empty_panel(axis)


def _draw_line(axis: Axes, rows: pd.DataFrame, style: look.Look) -> None:
    """A reference against log2 L, drawn on at both ends, so that one length gives a line too."""
    if rows.empty or (rows["score"] <= 0).all() and axis.get_yscale() == "log":
        return
    x, y = np.log2(rows["length"].to_numpy(dtype=float)), rows["score"].to_numpy(dtype=float)
    axis.plot(np.array([x[0] - MARGIN, *x, x[-1] + MARGIN]), np.array([y[0], *y, y[-1]]), zorder=1, **style)


def learning_figure(runs: Runs, task: str) -> Figure:
    """Validation and training of every run, one panel per model, colour the length, a point at the chosen epoch."""
    key = "metric" if task_info(task).kind == "classification" else "loss"
    curves = runs.curves[runs.curves["task"] == task]
    frame = curves[[*CELL, "epoch", f"train_{key}", f"val_{key}", "chosen"]]
    return Figure(f"learning_{task}", f"{task_info(task).title}: learning curves",
                  "Every run: validation solid, training dotted (with dropout on); the point is the epoch whose "
                  "weights were tested.", lambda: _draw_learning(runs, task, curves, key), frame)


def _draw_learning(runs: Runs, task: str, curves: pd.DataFrame, key: str) -> Canvas:
    lengths, columns = runs.lengths(task), min(4, len(runs.models))
    shades = dict(zip(lengths, colormaps["plasma"](np.linspace(0.0, 0.85, len(lengths))), strict=True))
    rows = -(-len(runs.models) // columns)
    figure, axes = look.grid(0.6 + 1.25 * rows, rows, columns, sharex=True, sharey=True)
    for axis, model in zip(axes.flat, runs.models, strict=False):
        _draw_curves(axis, curves[curves["model"] == model], key, shades)
        axis.set_title(labelled(model), fontsize=look.SMALL)
    for axis in list(axes.flat)[len(runs.models):]:
        axis.set_visible(False)
    if key == "loss" and (curves[f"val_{key}"] > 0).any():
        look.error_axis(axes[0, 0])
    figure.supylabel("MSE" if key == "loss" else "accuracy", fontsize=look.SMALL)
    for axis in list(axes.flat)[:len(runs.models)][-columns:]:    # the lowest of each column
        axis.tick_params(labelbottom=True)
        axis.set_xlabel("epoch")
    entries = [look.legend_entry(f"L {length}", {"color": shade}) for length, shade in shades.items()]
    look.legend_above(figure, [*entries, look.legend_entry("validation", {"color": "#444444"}),
                               look.legend_entry("training", {"color": "#444444", "linestyle": ":"})], 6)
    look.banner(figure, look.missing_lines(runs, [task]))
    return figure


def _draw_curves(axis: Axes, curves: pd.DataFrame, key: str, shades: dict[int, Any]) -> None:
    for length, of_length in curves.groupby("length"):
        for name, style in (("train", {"linestyles": ":", "alpha": 0.6}), ("val", {"alpha": 0.9})):
            lines: Iterable[Any] = [run[["epoch", f"{name}_{key}"]].to_numpy() for _, run in of_length.groupby("seed")]
            axis.add_collection(LineCollection(list(lines), colors=[shades[int(str(length))]], linewidths=0.8, **style))
    chosen = curves[curves["chosen"]]
    axis.scatter(chosen["epoch"], chosen[f"val_{key}"], s=8, zorder=3, linewidths=0.3, edgecolors="black",
                 c=[shades[length] for length in chosen["length"]] if len(chosen) else None)
    axis.autoscale_view()
    if curves.empty:
        look.empty_panel(axis)
