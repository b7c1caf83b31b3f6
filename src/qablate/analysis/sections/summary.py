"""The first section: what is done, the scores of all models as a map, the best of each task."""

from functools import partial
from typing import Any

import pandas as pd
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure as Canvas
from matplotlib.patches import Rectangle

from qablate.analysis import figure as look
from qablate.analysis.bounds import baseline, normalized_score, upper_bound
from qablate.analysis.collect import CELL, Runs, hours_left
from qablate.analysis.formats import DASH, fixed, metric_name, significant
from qablate.analysis.sections.agreement import agreement_line
from qablate.analysis.sections.scores import best_of, means
from qablate.analysis.statistics import scale_of
from qablate.analysis.table import Figure, Table
from qablate.catalog import MODELS, model_info, task_info
from qablate.variants import labelled

SHADES = "YlGnBu"


def headline(runs: Runs) -> str:
    """One line: cells done of planned, hours missing, runs that need attention, and the day of the latest result."""
    n, (missing, hours, unknown) = len(runs.cells), hours_left(runs.cells)
    parts = [f"Study `{runs.study.name}`: **{n - missing:,} of {n:,} cells** ({(n - missing) / n:.0%})"]
    if missing:
        note = f", {unknown} of them of unknown cost" if unknown else ""
        left = f"about {significant(hours)} hours{note}" if unknown < missing else "cost unknown"
        parts.append(f"{missing:,} missing ({left}: `qablate status`)")
    diverged = int((runs.cells["state"] == "diverged").sum())
    if diverged:
        parts.append(f"{diverged} {'run' if diverged == 1 else 'runs'} diverged ([Needs attention](#needs-attention))")
    if len(days := runs.table["timestamp"].dropna()):
        day = str(days.max())
        parts.append(f"latest result {day[:4]}-{day[4:6]}-{day[6:8]}")
    lost = "; ".join(runs.unreadable)
    agreeing = f" {line}" if (line := agreement_line(runs)) else ""
    return ", ".join(parts) + "." + agreeing + (
        f" Not read, so that their results are missing here: {lost}." if lost else "")


def combined_progress(runs: Runs) -> Table:
    """Systems x tasks: cells each system has a valid result of, of those planned; every cell once in the last row.

    The CSV has a row per model.
    """
    keys, numbers, study = ["system", "task", "model"], ["done", "test_selected"], runs.study
    found = runs.files[runs.files["finishes"]].drop_duplicates([*CELL, "system", "selected_on_test"])
    found = found.assign(done=~found["selected_on_test"] | study.config["import"]["accept_selected_on_test"],
                         test_selected=found["selected_on_test"])
    every = runs.cells.assign(system="all systems", done=runs.cells["finished"], test_selected=False)
    counts = pd.concat([found[[*keys, *numbers]], every[[*keys, *numbers]]]).groupby(keys).sum()
    systems = sorted({*study.config["systems"], *runs.files["system"]}, key=study.system_rank)
    index = pd.MultiIndex.from_product([[*systems, "all systems"], runs.tasks, runs.models], names=keys)
    frame = counts.reindex(index, fill_value=0).join(every.groupby(keys[1:]).size().rename("planned")).reset_index()
    shown = []
    for system, of_system in frame.groupby("system", sort=False):
        texts = {task_info(task).title: _progress(rows) for task, rows in of_system.groupby("task", sort=False)}
        shown.append({"system": system, **texts, "total": _progress(of_system)})
    return Table("combined_progress", "Combined progress", "", frame, pd.DataFrame(shown), 1)


def _progress(rows: pd.DataFrame) -> str:
    done, selected, planned = rows[["done", "test_selected", "planned"]].sum()
    if done:
        return f"{done:,} / {planned:,}"
    return f"{DASH} ({selected} test-selected only)" if selected else DASH


def score_map(runs: Runs) -> Figure:
    """Models x (task, length): mean score and n, colour the share of the task's upper bound."""
    frames = []
    for task in runs.tasks:
        rows, scale = means(runs, task), scale_of(task)
        best = {length: upper_bound(runs.study, task, length) for length in runs.lengths(task)}
        rows["upper_bound"] = rows["length"].map(best).fillna(float(task_info(task).larger_is_better))    # perfect
        share = normalized_score(scale.benefit(rows["mean"]), scale.baseline, scale.benefit(rows["upper_bound"]))
        frames.append(rows.assign(task=task, share_of_bound=share.clip(0, 1)))
    frame = pd.concat(frames, ignore_index=True)
    return Figure("score_map", "Scores of all models",
                  "Mean test score over seeds and n, the runs behind it. Colour: 0 = baseline, 1 = upper bound of "
                  "the task (errors on a logarithmic scale down to 1e-8); what the chunks of a model allow is in the "
                  "details. Hatched: no valid score.",
                  lambda: _draw_map(runs, frame), frame)


def map_panels(runs: Runs, height: float) -> tuple[Canvas, list[Axes]]:
    """One panel per task, as wide as the task has lengths; models from top to bottom, lines between groups."""
    widths = [len(runs.lengths(task)) for task in runs.tasks]
    figure, axes = look.grid(height, 1, len(widths), width_ratios=widths)
    groups = [model_info(model).group for model in runs.models]
    for axis, task in zip(axes[0], runs.tasks, strict=True):
        lengths = runs.lengths(task)
        axis.set(xlim=(-0.5, len(lengths) - 0.5), ylim=(len(runs.models) - 0.5, -0.5), xlabel="length L")
        axis.set_xticks(range(len(lengths)), [str(length) for length in lengths])
        axis.set_yticks(range(len(runs.models)),
                        [labelled(model) for model in runs.models] if axis is axes[0, 0] else [])
        axis.tick_params(length=0)
        axis.spines[:].set_visible(False)
        for place in range(1, len(groups)):
            if groups[place] != groups[place - 1]:
                axis.axhline(place - 0.5, color="#444444", linewidth=0.8)
    return figure, list(axes[0])


def _draw_map(runs: Runs, frame: pd.DataFrame) -> Canvas:
    figure, axes = map_panels(runs, 0.9 + 0.29 * len(runs.models))
    for axis, task in zip(axes, runs.tasks, strict=True):
        look.name_panel(axis, task, metric_name(task_info(task).metric))
        for row in frame[frame["task"] == task].to_dict("records"):
            _draw_field(axis, task, runs.lengths(task).index(row["length"]), runs.models.index(row["model"]), row)
    bar = figure.colorbar(ScalarMappable(Normalize(0, 1), SHADES), ax=axes, location="bottom", shrink=0.4, aspect=35,
                          pad=0.02)
    bar.set_ticks([0, 1], labels=["0: baseline or worse", "1: upper bound of the task"])
    bar.ax.tick_params(length=0, labelsize=look.SMALL)
    look.banner(figure, look.missing_lines(runs))
    return figure


def _draw_field(axis: Axes, task: str, x: int, y: int, row: dict[str, Any]) -> None:
    known = row["n"] > 0
    colour = colormaps[SHADES](row["share_of_bound"]) if known else "#FFFFFF"
    axis.add_patch(Rectangle((x - 0.5, y - 0.5), 1, 1, facecolor=colour, hatch="" if known else "////",
                             edgecolor="white" if known else "#CCCCCC", linewidth=0.6))
    if row["state"] not in ("", "missing"):
        axis.text(x, y, row["state"].replace("test-selected only", "test-\nselected"), ha="center", va="center",
                  color=look.PALE, fontsize=look.TINY)
    if known:
        ink = "black" if row["share_of_bound"] < 0.55 else "white"
        axis.text(x, y - 0.12, compact(task_info(task).metric, row["mean"]), ha="center", va="center", color=ink,
                  fontsize=look.SMALL)
        axis.text(x, y + 0.3, f"n {row['n']}", ha="center", va="center", color=ink, fontsize=look.TINY - 0.5)


def compact(metric: str, score: float) -> str:
    """Write a score in at most five characters: `.052`, `3e-4`, `−.13`."""
    if metric == "test_mse" and 0 < score < 1e-2:
        mantissa, power = f"{score:.0e}".split("e")
        return f"{mantissa}e{int(power)}"
    return fixed(2 if metric == "test_r2" else 3)(score).replace("0.", ".", 1).replace("-", "−", 1)


def best_scores(runs: Runs) -> Table:
    """One row per task: best quantum model, best classical model, baseline and upper bound, per length that was run."""
    quantum = {model for model, info in MODELS.items() if info.quantum_features or info.quantum_mixing}
    rows, shown = [], []
    for task in runs.tasks:
        info, found = task_info(task), means(runs, task).query("n > 0")
        lengths = sorted(found["length"].unique().tolist())
        write = partial(significant, digits=2) if info.metric == "test_mse" else fixed(3)
        none = "no valid score" if (runs.table["task"] == task).any() else "not run"
        row = {"task (lengths run)": f"{info.title}, {metric_name(info.metric).removeprefix('test ')} "
                                     f"({', '.join(map(str, lengths)) or none})"}
        for kind, models in (("best quantum", quantum), ("best classical", MODELS.keys() - quantum)):
            best = best_of(task, found[found["model"].isin(models)]).groupby("length").head(1)
            rows += best.assign(task=task, kind=kind).to_dict("records")
            words = [f"{one.model} {write(one.mean)} at {one.length} (n {one.n})"
                     for one in best.itertuples()]
            row[kind] = "; ".join(words).replace(" at ", " at L = ", 1) or (none if found.empty else "not run")
        upper = [upper_bound(runs.study, task, length) for length in lengths or runs.lengths(task)]
        ends = dict.fromkeys(DASH if value is None else f"{value:.3g}" for value in (upper[0], upper[-1]))
        shown.append({**row, "baseline": f"{baseline(task):.3g}", "upper bound": " to ".join(ends)})
    columns = ["task", "kind", "length", "model", "mean", "sd", "n"]
    return Table("best_scores", "Best scores", "", pd.DataFrame(rows, columns=columns), pd.DataFrame(shown))
