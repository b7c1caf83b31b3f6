"""Tables of what came from where: systems, the queue, cells measured on two systems, and every file's verdict."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pandas as pd

from qablate.analysis.formats import METRIC_NAMES, change, percent, significant
from qablate.analysis.old_table import LENGTH, MODEL, SEED, TASK, Content, number, text
from qablate.analysis.runs import CELL, Collection
from qablate.catalog import task_info
from qablate.importing import Merged, Verdict
from qablate.study import Cell

FILE_STATUSES = ("ok", "no_improvement", "diverged", "partial", "duplicate", "quarantined", "rejected", "unfinished")
TOTAL = "total"


def valid_cells(merged: Merged) -> dict[str, set[Cell]]:
    """Return for each system the cells it has a finished result of, chosen or not; a system without any has none."""
    accepted = merged.study.config["import"]["accept_selected_on_test"]
    found: dict[str, set[Cell]] = {system: set() for system in merged.systems}
    for verdict in merged.verdicts:
        counts = by_itself(verdict).finishes and (accepted or not verdict.selected_on_test)
        if counts and verdict.cell is not None:
            found[verdict.system].add(verdict.cell)
    return found


def by_itself(verdict: Verdict) -> Verdict:
    """The verdict that a file had before others of its cell were looked at."""
    return replace(verdict, status=verdict.judged) if verdict.judged else verdict    # type: ignore[arg-type]


def systems(collection: Collection) -> Content:
    """One row a system: tasks, valid and planned cells, its files by verdict, and the time of the last one."""
    merged, valid = collection.merged, valid_cells(collection.merged)
    rows = []
    for system in merged.systems:
        files = [verdict for verdict in merged.verdicts if verdict.system == system]
        statuses = Counter[str](verdict.status for verdict in files)
        tasks = {verdict.cell.task for verdict in files if verdict.cell is not None}
        rows.append({
            "system": system, "tasks": ", ".join(task_info(task).title for task in collection.tasks if task in tasks),
            "valid": len(valid[system]), "planned": len(collection.cells),
            "share": len(valid[system]) / len(collection.cells),
            "assigned": sum(collection.study.assigned_to(cell) == system for cell in collection.study.cells),
            "files": len(files), **{status: statuses[status] for status in FILE_STATUSES},
            "selected_on_test": sum(verdict.selected_on_test for verdict in files),
            "last_file": _time(max(verdict.file.modified for verdict in files)),
        })
    names = ["system", "tasks", "valid", "planned", "share", "assigned", "files", *FILE_STATUSES, "selected_on_test",
             "last_file"]
    table = pd.DataFrame(rows, columns=names)
    shown = [name for name in ("assigned", "files", *FILE_STATUSES, "selected_on_test") if table[name].any()]
    return Content(table, (
        text("system"), text("tasks"), number("valid cells", "valid"), number("planned"),
        number("share", show=percent), *(number(name.replace("_", " "), name) for name in shown),
        text("last file, UTC", "last_file"),
    ))


def _time(modified: float) -> str:
    return datetime.fromtimestamp(modified, UTC).strftime("%Y-%m-%d %H:%M") if modified else ""


def queue(collection: Collection) -> Content:
    """One row a model: jobs that wait and run per task, beside its missing cells; empty without a scheduler."""
    keys = [f"{task}_{state}" for task in collection.tasks for state in ("queued", "running")]
    if collection.jobs is None:
        return Content(pd.DataFrame(columns=["model", *keys, "jobs", "missing", "without_job"]), ())
    missing = collection.open_cells.groupby("model").size()
    jobs = Counter((cell.model, f"{cell.task}_{state}") for cell, state in collection.jobs.items())
    table = pd.DataFrame([{"model": model, **{key: jobs[model, key] for key in keys}} for model in collection.models])
    table["jobs"] = table[keys].sum(axis=1)
    table["missing"] = table["model"].map(missing).fillna(0).astype(int)
    table["without_job"] = table["missing"] - table["jobs"]
    table.loc[len(table)] = [TOTAL, *table.drop(columns="model").sum()]
    return Content(table, (
        MODEL, *(number(f"{task_info(task).title}, {state}", f"{task}_{state}") for task in collection.tasks
                 for state in ("queued", "running")),
        number("jobs"), number("missing cells", "missing"), number("cells without a job", "without_job"),
    ), n_foot=1)


def cross_system(collection: Collection) -> Content:
    """One row a cell and two results of it: the primary test metric on both systems and the difference."""
    rows = [
        {**row, "remark": "selected on test items" if pair.first.selected_on_test else "",
         "used": pair.first.system if pair.first.chosen else ""}
        for pair in collection.merged.pairs() for row in pair.rows() if row["metric"] == task_info(row["task"]).metric
    ]
    columns = [*CELL, "metric", "system_a", "value_a", "system_b", "value_b", "difference", "used", "remark"]
    table = pd.DataFrame(rows, columns=columns)
    table["title"] = [task_info(task).title for task in table["task"]]
    table["metric_name"] = table["metric"].map(METRIC_NAMES)
    remark = [text("remark")] if table["remark"].any() else []
    return Content(table, (
        MODEL, TASK, LENGTH, SEED, text("metric", "metric_name"),
        text("system", "system_a"), number("value", "value_a", significant),
        text("other system", "system_b"), number("its value", "value_b", significant),
        number("difference", show=change), text("used"), *remark,
    ))


def import_counts(collection: Collection) -> Content:
    """One row a source, verdict and reason with the number of files."""
    counts = Counter((verdict.file.source, verdict.status, verdict.reason) for verdict in collection.merged.verdicts)
    rows = [(*key, count) for key, count in sorted(counts.items())]
    return Content(pd.DataFrame(rows, columns=["source", "status", "reason", "files"]), (
        text("source"), text("status"), text("reason"), number("files"),
    ))


def import_log(collection: Collection) -> Content:
    """One row a file that is not used as it is, refused ones first: status, reason, detail."""
    order = ("rejected", "quarantined", "duplicate", "unfinished", "partial", "diverged", "no_improvement", "ok")
    remarkable = sorted(_remarkable(collection.merged), key=lambda row: order.index(row["status"]))
    columns = ["source", "file", "status", "reason", "detail", "used", "sha256"]
    return Content(pd.DataFrame(remarkable, columns=columns), (
        text("source"), text("file"), text("status"), text("reason"), text("detail"), text("used"),
    ))


def _remarkable(merged: Merged) -> Iterator[dict[str, Any]]:
    for verdict in merged.verdicts:
        if verdict.status not in ("ok", "no_improvement") or verdict.reason or verdict.warnings:
            detail = "; ".join(filter(None, (verdict.detail, *verdict.warnings)))
            yield {"source": verdict.file.source, "file": verdict.file.path.name, "status": verdict.status,
                   "reason": verdict.reason, "detail": detail, "used": _use(merged, verdict), "sha256": verdict.sha256}


def _use(merged: Merged, verdict: Verdict) -> str:
    """What the report takes from a file."""
    if not verdict.chosen or verdict.cell is None:
        return "no"
    if verdict.selected_on_test:
        return "legacy table only"
    run = merged.runs[verdict.cell]
    return "yes" if run.enters_means else "counted, in no mean" if run.finished else "no"
