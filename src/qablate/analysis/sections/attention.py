"""What is done, queued and missing, and what needs a look: odd runs, results and files, the state of every cell."""

from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure as Canvas
from matplotlib.patches import Patch, Rectangle

from qablate.analysis import figure as look
from qablate.analysis.collect import CELL, Runs, hours_left
from qablate.analysis.formats import DASH, fixed, significant
from qablate.analysis.sections.summary import map_panels
from qablate.analysis.table import Figure, Table, cell_columns, written
from qablate.catalog import model_info, task_info
from qablate.results import State
from qablate.study import Cell

NAMED = 5
OF_CELLS = {"diverged": "diverged", "failed": "failed", "stale": "stale: other settings", "unreadable": "unreadable",
            "no_improvement": "never improved", "no_score": "cut off, no score",
            "selected_on_test": "test-selected score only"}
TOTAL = "all"
OF_FILES = {"rejected": "refused", "quarantined": "quarantined"}


def attention(runs: Runs) -> Table:
    """Every kind of what needs a look counted, the first five named with their reason."""
    cells = runs.cells.merge(runs.table[[*CELL, "diverged_epoch"]], "left", CELL)
    epochs = cells["diverged_epoch"]
    cells = cells.assign(kind=cells["state"].map(OF_CELLS.get),
                         reason=cells["reason"].where(epochs.isna(), epochs.map("epoch {:.0f}".format)))
    # A system's folder may hold several studies: what is of another one needs no attention here.
    others = (runs.files["reason"] == "not_in_study") & runs.files["source"].isin(list(runs.study.config["systems"]))
    files = runs.files[~others]
    told = files["reason"] + (": " + files["detail"]).where(files["detail"] != "", "")
    files = files.assign(kind=files["status"].map(OF_FILES.get), reason=files["system"] + ", " + told)
    frame = pd.concat([cells, files], ignore_index=True)[["kind", *CELL, "path", "reason"]].dropna(subset="kind")
    kinds, shown = [*OF_CELLS.values(), *OF_FILES.values()], []
    frame = frame.sort_values("kind", key=lambda kind: kind.map(kinds.index), kind="stable")
    for kind, found in frame.groupby("kind", sort=False):
        named = [(Cell(row.model, row.task, int(row.length), int(row.seed)).name if pd.notna(row.model)
                  else Path(row.path).name) + (f" ({row.reason})" if row.reason else "")
                 for row in found.head(NAMED).itertuples()]
        more = [f"and {len(found) - NAMED} more"] if len(found) > NAMED else []
        shown.append({"what": kind, "number": str(len(found)), "first of them": "; ".join([*named, *more])})
    caption = "All of them: [Details](report/details.md#failed-and-diverged-runs)." if shown else (
        "Nothing diverged, failed, was refused or is stale.")
    return Table("attention", "Needs attention", caption, frame, pd.DataFrame(shown))


def odd_runs(runs: Runs) -> Table:
    """One row per finished run that diverged, never improved, was cut off, or skipped steps."""
    odd = runs.table[(runs.table["status"] != "ok") | (runs.table["nonfinite_grad_steps"] > 0)]
    frame = odd[[*CELL, "status", "epochs", "diverged_epoch", "nonfinite_grad_steps", "stop_reason"]]
    shown = pd.DataFrame({
        **cell_columns(frame), "status": frame["status"].tolist(), "epochs": written(frame["epochs"], fixed(0)),
        "diverged at epoch": written(frame["diverged_epoch"], fixed(0)),
        "steps skipped": written(frame["nonfinite_grad_steps"], fixed(0))})
    return Table("failed_and_diverged_runs", "Failed and diverged runs", (
        "Diverged: a loss or metric was not finite. No improvement: no epoch beat the starting value, the last weights "
        "were tested. Partial: the file was cut off, its score recovered. Steps skipped: gradients were not finite "
        "although the loss was.") if len(frame) else "None.", frame, shown)


def files_not_used(runs: Runs) -> Table:
    """One row per file that is not used as it is: why not, refused ones first."""
    order = ["rejected", "quarantined", "duplicate", "unfinished", "partial", "diverged"]
    odd = runs.files[runs.files["status"].isin(order) | (runs.files["reason"] != "")]
    frame = odd.sort_values("status", kind="stable", key=lambda found: found.map(
        lambda status: order.index(status) if status in order else len(order)))
    shown = frame[["source", "path", "status", "reason", "detail"]].assign(
        path=[Path(path).name for path in frame["path"]], used=frame["chosen"].map({True: "yes", False: "no"}))
    return Table("files_not_used", "Files that are not used as they are",
                 "Duplicate: another result of the cell is used. Partial: cut off while it was written, scores "
                 "recovered where the file or its log has them." if len(frame) else "None.", frame, shown)


def completion_status(runs: Runs) -> Table:
    """One row per model with cells left: done of planned for each task, missing ones, jobs in the queue, hours left."""
    rows = [_completion(runs, model, runs.cells[runs.cells["model"] == model]) for model in runs.models]
    frame = pd.DataFrame([*rows, _completion(runs, TOTAL, runs.cells)])
    complete = (frame["missing"] == 0) & (frame["model"] != TOTAL)
    rest = frame[~complete]
    shown = rest[["model", "name"]].copy()
    for task in runs.tasks:
        shown[task_info(task).title] = [f"{done} / {planned}" for done, planned in
                                        zip(rest[f"{task}_done"], rest[f"{task}_planned"], strict=True)]
    for key in ("done", "missing", *(["queued", "running"] if runs.queue_known else [])):
        shown[key] = rest[key].astype(str)
    shown["hours left"] = [DASH if not missing else significant(hours) if hours else "unknown"
                           for missing, hours in zip(rest["missing"], rest["hours_left"], strict=True)]
    open_cells, words = runs.open_cells, []
    systems = open_cells["assigned"].where(open_cells["assigned"] != "", runs.study.system)
    for system, cells in open_cells.groupby(systems):
        n, hours, unknown = hours_left(cells)
        words.append(f"{system} {significant(hours)} h for {n} cell{'s' * (n > 1)}"
                     + f" ({unknown} of unknown cost)" * bool(unknown))
    queue = "" if runs.queue_known else " No queue was asked."
    left = f"Hours left, one cell after another: {', '.join(words)}.{queue}" if words else "All cells are done."
    if words and complete.any():
        left = f"Complete: {', '.join(frame['model'][complete])}. {left}"
    return Table("completion_status", "Completion status", f"Done of planned cells; a diverged run is done. {left}",
                 frame, shown, 1)


def _completion(runs: Runs, model: str, cells: pd.DataFrame) -> dict[str, object]:
    missing, hours, unknown = hours_left(cells)
    by_task: dict[str, int] = {}
    for task in runs.tasks:
        of_task = cells[cells["task"] == task]
        by_task |= {f"{task}_done": int(of_task["finished"].sum()), f"{task}_planned": len(of_task)}
    return {"model": model, "name": model_info(model).name if model != TOTAL else "", **by_task,
            "done": len(cells) - missing, "missing": missing, "hours_left": hours, "unknown_cost": unknown,
            "queued": int((cells["job"] == "queued").sum()), "running": int((cells["job"] == "running").sum()),
            **{f"state_{state}": n for state, n in cells["state"].value_counts().sort_index().items()}}


def state_map(runs: Runs) -> Figure:
    """Models x (task, length): one square per seed, its colour and hatch the state of the cell."""
    return Figure("state_map", "State of all cells", "One square per seed, seeds ascending from left to right; done "
                  "cells have a shade per system.", lambda: _draw(runs), runs.cells)


def _draw(runs: Runs) -> Canvas:
    figure, axes = map_panels(runs, 0.8 + 0.2 * len(runs.models))
    cells = runs.cells.assign(shade=runs.cells["system"].where(runs.cells["state"] == State.DONE, ""))
    systems, width = sorted(set(cells["shade"]) - {""}), 0.92 / len(runs.seeds)
    looks: dict[tuple[State, str], look.Look] = {(State(state), shade): {
        "facecolor": look.SYSTEM_SHADES[systems.index(shade) % len(look.SYSTEM_SHADES)] if shade else
        State(state).colour, "hatch": 2 * look.HATCHES.get(State(state), ""), "edgecolor": "#888888"}
        for state, shade in cells.groupby(["state", "shade"]).groups}
    for axis, task in zip(axes, runs.tasks, strict=True):
        look.name_panel(axis, task)
        for row in cells[cells["task"] == task].itertuples():
            left = runs.lengths(task).index(row.length) - 0.46 + width * runs.seeds.index(row.seed)
            axis.add_patch(Rectangle((left, runs.models.index(row.model) - 0.42), width, 0.84, linewidth=0.3,
                                     **looks[State(row.state), row.shade]))
    counts, entries = cells.groupby(["state", "shade"]).size(), []
    for state, shade in sorted(looks, key=lambda one: (list(State).index(one[0]), one[1])):
        word = state.label + (f" on {shade}" if shade and len(systems) > 1 else "")
        entries.append(Patch(linewidth=0.4, label=f"{word} ({counts[state, shade]})", **looks[state, shade]))
    look.legend_above(figure, entries, min(5, len(entries)))
    return figure
