"""Tables of what is there and what is not: progress, completion, missing cells, runs that went wrong."""

import pandas as pd

from qablate.analysis.formats import percent, significant, whole
from qablate.analysis.hours import expected_hours, planning_device
from qablate.analysis.old_table import LENGTH, MODEL, SEED, TASK, Content, number, text
from qablate.analysis.runs import CELL, Collection
from qablate.analysis.systems import TOTAL, valid_cells
from qablate.catalog import model_info, task_info
from qablate.study import Cell

STATES = ("done", "no_improvement", "partial", "diverged", "selected_on_test", "no_score", "quarantined", "rejected",
          "checkpoint", "missing", "failed", "stale", "unreadable")


def progress(collection: Collection) -> Content:
    """One row a task: finished cells per system, all finished, planned; a cell of two systems is finished once."""
    cells = collection.cells
    grouped = cells.groupby("task", sort=False)["finished"]
    table = pd.DataFrame({"finished": grouped.sum(), "planned": grouped.size()})
    valid = valid_cells(collection.merged)
    systems = [system for system in collection.merged.systems if valid[system]]
    for system in systems:
        table[f"on_{system}"] = [sum(cell.task == task for cell in valid[system]) for task in table.index]
    table.loc[TOTAL] = table.sum()
    table["share"] = table["finished"] / table["planned"]
    table = table.rename_axis("task").reset_index()
    table["title"] = [TOTAL if task == TOTAL else task_info(task).title for task in table["task"]]
    return Content(table, (
        TASK, *(number(system, f"on_{system}") for system in systems), number("finished"), number("planned"),
        number("share", show=percent),
    ), n_foot=1)


def completion(collection: Collection) -> Content:
    """One row a model: finished cells of every task, then its cells by state; a total row."""
    cells = collection.cells
    finished = cells.pivot_table(index="model", columns="task", values="finished", aggfunc="sum")
    table = finished.astype(int)[collection.tasks].rename(columns=lambda task: f"{task}_finished")
    for task in collection.tasks:
        planned = collection.cells_of(task).groupby("model").size()
        table[f"{task}_planned"] = planned
    for state in STATES:
        table[f"state_{state}"] = cells[cells["state"] == state].groupby("model").size()
    table = table.fillna(0).astype(int)
    table.loc[TOTAL] = table.sum()
    table = table.rename_axis("model").reset_index()
    table["name"] = ["" if model == TOTAL else model_info(model).name for model in table["model"]]
    for task in collection.tasks:
        table[f"{task}_text"] = [f"{done} / {planned}" for done, planned in
                                 zip(table[f"{task}_finished"], table[f"{task}_planned"], strict=True)]
    present = [state for state in STATES if table[f"state_{state}"].any()]
    return Content(table, (
        MODEL, text("name"), *(text(task_info(task).title, f"{task}_text") for task in collection.tasks),
        *(number(state.replace("_", " "), f"state_{state}") for state in present),
    ), n_foot=1)


def missing_cells(collection: Collection) -> Content:
    """One row a cell without a result that stands: state, reason, and the hours it is expected to take."""
    table = collection.open_cells.drop(columns=["finished", "system"]).reset_index(drop=True)
    if collection.jobs is not None:
        jobs = {tuple(vars(cell).values()): state for cell, state in collection.jobs.items()}
        table["job"] = [jobs.get(tuple(key), "") for key in table[CELL].itertuples(index=False)]
    table["state_words"] = table["state"].str.replace("_", " ")
    assigned = [collection.study.assigned_to(Cell(*key)) or "" for key in table[CELL].itertuples(index=False)]
    table["assigned_to"] = assigned
    table = table.join(expected_hours(collection, table))
    table["hours_state"] = table["hours"].isna().map({True: "not measured", False: ""})
    extra = [text(name.replace("_", " "), name) for name in ("job", "assigned_to")
             if name in table and table[name].any()]
    return Content(table, (
        MODEL, text("task"), LENGTH, SEED, text("state", "state_words"), *extra,
        number("expected hours", "hours", significant, "hours_state"), text("reason"),
    ))


def hours_left(collection: Collection) -> Content:
    """One row a model: cells without a result, those whose hours are known, and the sum of these."""
    table = missing_cells(collection).frame
    grouped = table.groupby("model")
    sums = pd.DataFrame({"cells": grouped.size(), "known": grouped["hours"].count(),
                         "hours": grouped["hours"].sum(min_count=1)}).reset_index()
    if len(sums):
        sums.loc[len(sums)] = [TOTAL, *sums[["cells", "known", "hours"]].sum()]
    sums["device"] = planning_device(collection)
    return Content(sums, (
        MODEL, number("cells"), number("of these with known cost", "known"),
        number("expected hours", "hours", significant), text("on", "device"),
    ), n_foot=1 if len(sums) else 0)


def failures(collection: Collection) -> Content:
    """One row a finished run that diverged, never improved, or skipped steps for gradients that were not finite."""
    runs = collection.runs
    odd = (runs["status"] != "ok") | (runs["nonfinite_grad_steps"] > 0)
    table = runs.loc[odd, [*CELL, "status", "epochs", "diverged_epoch", "nonfinite_grad_steps", "stop_reason"]]
    return Content(table.reset_index(drop=True), (
        MODEL, text("task"), LENGTH, SEED, text("status"), number("epochs", show=whole),
        number("diverged at epoch", "diverged_epoch", whole), number("steps skipped", "nonfinite_grad_steps", whole),
    ))
