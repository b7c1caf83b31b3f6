"""Comparisons between models: one table per task, one forest of all tasks."""

import math
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas

from qablate.analysis import figure as look
from qablate.analysis.collect import Runs
from qablate.analysis.formats import DASH, signed, significant
from qablate.analysis.statistics import scale_of
from qablate.analysis.table import Figure, Section, Table
from qablate.catalog import task_info

IN_FOREST = ("quantum_classical", "factors", "architecture", "length", "chance")
ROW_HEIGHT = 0.15
TEXT = ("The first side minus the second over matched blocks (length, seed). `higher`: the first is better, for an "
        "error a factor below 1. Holm over the rows of a kind. Fewer than 6 blocks: provisional. A verdict is about "
        "these models (`docs/statistics.md`).")


def comparisons(runs: Runs, table: pd.DataFrame) -> Section:
    """The section `Comparisons`, from the rows of `verdicts.compare`."""
    if table.empty:
        return Section("Comparisons", ("No comparison is declared for the models and tasks of this study.",))
    single = (table["label"] == "") & table["kind"].isin(["slope", "chance"])
    composed, models = table[~single & table["table"].isin(IN_FOREST)], table[single]
    tables = [_table(task, composed[composed["task"] == task], table[table["task"] == task])
              for task in runs.tasks if (composed["task"] == task).any()]
    return Section("Comparisons", (TEXT, *tables, *([] if models.empty else [_models(runs, models)]),
                                   *([] if composed.empty else [forest(runs, composed)])))


def name_of(row: Any) -> str:
    """Name of a comparison: its label, else the models."""
    words = row["label"] or " - ".join(" ".join(side) for side in (row["plus"], row["minus"]) if side)
    return {"slope": f"slope of {words}", "chance": f"{words} against 0.5"}.get(row["kind"], words)


def shown_estimate(task: str, value: float, low: float, high: float) -> str:
    """Write an estimate with its interval in units of the score: `+0.09 [+0.02, +0.16]`, `MSE x0.52 [0.35, 0.76]`."""
    if math.isnan(value):
        return DASH
    if scale_of(task).metric == "test_mse":     # the benefit is -ln MSE: a difference is a factor
        ends = f" [{significant(math.exp(-high), 2)}, {significant(math.exp(-low), 2)}]" if math.isfinite(low) else ""
        return f"MSE x{significant(math.exp(-value), 2)}{ends}"
    write = signed(3)
    return write(value) + (f" [{write(low)}, {write(high)}]" if math.isfinite(low) else "")


def _table(task: str, rows: pd.DataFrame, every: pd.DataFrame) -> Table:
    """The contrasts of one task; the CSV holds every row of the task."""
    known, title = rows[rows["verdict"] != "open"], task_info(task).title
    shown = pd.DataFrame([{
        "comparison": name_of(row),
        "estimate [95 %]": shown_estimate(task, row["estimate"], row["low95"], row["high95"]),
        "verdict": row["verdict"], "blocks": f"{row['blocks']} / {row['planned']}",
        "p, Holm": significant(row["p_holm"], 2), "equivalence p, Holm": significant(row["p_tost_holm"], 2),
        "caveats": row["caveats"]} for row in known.to_dict("records")])
    missing = ", ".join(name_of(row) for row in rows[rows["verdict"] == "open"].to_dict("records"))
    frame = _plain(every)
    open_rows = f" Open, no block yet: {missing}." * bool(missing)
    return Table(f"comparisons_{task}", f"{title}: comparisons",
                 f"Slopes are per doubling of the length.{open_rows}", frame, shown)


def _plain(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows as a CSV holds them: lists as words."""
    return rows.assign(**{side: rows[side].map(" ".join) for side in ("plus", "minus")},
                        lengths=[" ".join(map(str, lengths)) for lengths in rows["lengths"]],
                        pairs=[" ".join(f"{name.replace(' ', '')}:{one.value:.6g}" for name, one in pairs)
                               for pairs in rows["pairs"]])


def _models(runs: Runs, rows: pd.DataFrame) -> Table:
    """One row per model: its slope on each task and its accuracy against chance."""
    shown = pd.DataFrame({"model": [model for model in runs.models if (model,) in set(rows["plus"])]})
    for (kind, task), found in rows.groupby(["kind", "task"], sort=False):
        cells = {row["plus"][0]: DASH if row["verdict"] == "open" else "{} {} ({} / {})".format(
            shown_estimate(task, row["estimate"], row["low95"], row["high95"]), row["verdict"], row["blocks"],
            row["planned"]) for row in found.to_dict("records")}
        title = task_info(task).title
        shown[f"slope, {title}" if kind == "slope" else f"{title} - 0.5"] = shown["model"].map(cells)
    caveats = {model: dict.fromkeys(part for text in rows[rows["plus"] == (model,)]["caveats"]
                                    for part in text.split("; ") if part) for model in shown["model"]}
    return Table("comparisons_models", "Slopes per doubling of the length, and accuracy against chance",
                 "Estimate [95 %], verdict (blocks of planned; seeds for chance).", _plain(rows),
                 shown.assign(caveats=shown["model"].map(lambda model: "; ".join(caveats[model]))))


def forest(runs: Runs, rows: pd.DataFrame) -> Figure:
    """These comparisons in units of their margins, pairs that they are made of as dots behind the mean."""
    data = rows.drop(columns=["pairs", "plus", "minus", "lengths"])
    return Figure("comparisons", "Comparisons in units of the margin",
                  "Mean and 95 % interval, pairs of models as grey dots; 1 is the smallest difference that matters (a "
                  "factor 1.5 in MSE, 0.05 in R², 0.02 in accuracy). Filled: decided. Shaded: too small to matter.",
                  lambda: _draw(runs, rows), data)


def _draw(runs: Runs, rows: pd.DataFrame) -> Canvas:
    names = list(dict.fromkeys(name_of(row) for row in rows.to_dict("records")))
    tasks = [task for task in runs.tasks if (rows["task"] == task).any()]
    figure, axes = look.grid(0.7 + ROW_HEIGHT * len(names), 1, len(tasks), sharey=True)
    for axis, task in zip(axes[0], tasks, strict=True):
        _panel(axis, rows[rows["task"] == task], names)
        axis.set_title(task_info(task).title)
    axes[0, 0].set_yticks(range(len(names)), names)
    axes[0, 0].set_ylim(len(names) - 0.4, -0.6)
    axes[0, len(tasks) // 2].set_xlabel("difference in margins; positive: the first is better", fontsize=look.SMALL)
    look.banner(figure, look.missing_lines(runs))
    return figure


def _panel(axis: Axes, rows: pd.DataFrame, names: list[str]) -> None:
    axis.axvspan(-1, 1, color=look.BAND, alpha=0.6, linewidth=0)
    axis.axvline(0, **look.BASELINE)
    largest = [2.0]
    axis.tick_params(axis="y", length=0)
    for row in rows.to_dict("records"):
        place, margin = names.index(name_of(row)), row["margin"]
        if row["verdict"] == "open":
            axis.text(0.02, place, "open", transform=axis.get_yaxis_transform(), fontsize=look.TINY, color=look.PALE,
                      va="center")
        dots = [pair.value / margin for _, pair in row["pairs"] if not math.isnan(pair.value)]
        largest += [1.1 * abs(dot) for dot in dots]
        axis.plot(dots, [place] * len(dots), "o", color="#999999", markersize=2.2, alpha=0.8, linestyle="")
        if math.isnan(row["estimate"]):
            continue
        sides = look.whiskers([row["estimate"] / margin], [row["low95"] / margin], [row["high95"] / margin])
        decided = row["verdict"] in ("higher", "lower", "equivalent")
        axis.errorbar([row["estimate"] / margin], [place], xerr=sides, fmt="o", color="#0072B2", markersize=3.5,
                      markerfacecolor="#0072B2" if decided else "white", elinewidth=0.9)
    estimates, ends = (rows[keys].div(rows["margin"], axis=0).abs().replace(np.inf, np.nan).max().max()
                       for keys in (["estimate"], ["low95", "high95"]))
    limit = np.nanmax([*largest, 1.1 * estimates, min(1.1 * ends, 3 * max(largest))])
    axis.set_xlim(-limit, limit)
