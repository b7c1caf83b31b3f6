"""Tables of what is there and what is not: progress, completion, missing cells, runs that went wrong."""

import pandas as pd

from qablate.analysis.formats import percent, whole
from qablate.analysis.runs import CELL, Collection
from qablate.analysis.table import Content, number, text
from qablate.catalog import model_info, task_info

TOTAL = "total"
STATES = ("done", "no_improvement", "diverged", "checkpoint", "missing", "failed", "stale", "unreadable")


def progress(collection: Collection) -> Content:
    """One row a task: finished cells per system, all finished, planned; a cell is counted once."""
    cells = collection.cells
    grouped = cells.groupby("task", sort=False)["finished"]
    table = pd.DataFrame({"finished": grouped.sum(), "planned": grouped.size()})
    systems = sorted(collection.runs["source"].dropna().unique())
    for system in systems:
        counts = collection.runs[collection.runs["source"] == system].groupby("task").size()
        table[f"on_{system}"] = counts.reindex(table.index, fill_value=0)
    table.loc[TOTAL] = table.sum()
    table["share"] = table["finished"] / table["planned"]
    table = table.rename_axis("task").reset_index()
    table["title"] = [TOTAL if task == TOTAL else task_info(task).title for task in table["task"]]
    return Content(table, (
        text("task", "title"), *(number(system, f"on_{system}") for system in systems),
        number("finished", "finished"), number("planned", "planned"), number("share", "share", percent),
    ), n_foot=1)


def completion(collection: Collection) -> Content:
    """One row a model: finished cells of every task, then its cells by state; a total row."""
    cells = collection.cells
    finished = cells.pivot_table(index="model", columns="task", values="finished", aggfunc="sum")
    table = finished.astype(int)[collection.tasks].rename(columns=lambda task: f"{task}_finished")
    for task in collection.tasks:
        planned = cells[cells["task"] == task].groupby("model").size()
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
        text("model", "model"), text("name", "name"),
        *(text(task_info(task).title, f"{task}_text") for task in collection.tasks),
        *(number(state.replace("_", " "), f"state_{state}") for state in present),
    ), n_foot=1)


def missing_cells(collection: Collection) -> Content:
    """One row a cell without a result that stands, with its state and the reason."""
    cells = collection.cells
    table = cells[~cells["finished"].astype(bool)].drop(columns="finished").reset_index(drop=True)
    return Content(table, (
        text("model", "model"), text("task", "task"), number("L", "length", whole), number("seed", "seed", whole),
        text("state", "state"), text("reason", "reason"),
    ))


def failures(collection: Collection) -> Content:
    """One row a finished run that diverged, never improved, or skipped steps for gradients that were not finite."""
    runs = collection.runs
    odd = (runs["status"] != "ok") | (runs["nonfinite_grad_steps"] > 0)
    table = runs.loc[odd, [*CELL, "status", "epochs", "diverged_epoch", "nonfinite_grad_steps", "stop_reason"]]
    return Content(table.reset_index(drop=True), (
        text("model", "model"), text("task", "task"), number("L", "length", whole), number("seed", "seed", whole),
        text("status", "status"), number("epochs", "epochs", whole),
        number("diverged at epoch", "diverged_epoch", whole),
        number("steps skipped", "nonfinite_grad_steps", whole),
    ))
