"""What needs a look: runs that diverged or failed, results that are stale, refused or quarantined, files not used."""

from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from qablate.analysis.collect import CELL, Runs
from qablate.analysis.formats import whole
from qablate.analysis.table import Part, Section, Table, cell_columns, written
from qablate.study import Cell

NAMED = 5
OF_CELLS = {"diverged": "diverged", "failed": "failed", "stale": "stale: other settings", "unreadable": "unreadable",
            "no_improvement": "never improved", "no_score": "cut off, no score",
            "selected_on_test": "test-selected score only"}
OF_FILES = {"rejected": "refused", "quarantined": "quarantined"}


def attention(runs: Runs) -> Section:
    """The section `Needs attention`: every kind counted, the first five named with their reason."""
    rows = list(_kinds(runs))
    frame = pd.DataFrame(rows, columns=["kind", "number", *CELL, "reason"])
    shown = []
    for kind, found in frame.groupby("kind", sort=False):
        named = [(Cell(row.model, row.task, row.length, row.seed).name if pd.notna(row.model) else "a file of no cell")
                 + (f" ({row.reason})" if row.reason else "") for row in found.head(NAMED).itertuples()]
        more = [f"and {len(found) - NAMED} more"] if len(found) > NAMED else []
        shown.append({"what": kind, "number": str(len(found)), "first of them": "; ".join([*named, *more])})
    caption = "All of them: [Details](report/details.md#failed-and-diverged-runs)." if shown else (
        "Nothing diverged, failed, was refused or is stale.")
    table = Table("attention", "Needs attention", caption, frame.drop(columns="number"), pd.DataFrame(shown))
    return Section("Needs attention", (table,))


def _kinds(runs: Runs) -> Iterator[dict[str, object]]:
    diverged = {tuple(row[key] for key in CELL): row["diverged_epoch"] for row in runs.table.to_dict("records")}
    for state, kind in OF_CELLS.items():
        for row in runs.cells[runs.cells["state"] == state].to_dict("records"):
            epoch = diverged.get(tuple(row[key] for key in CELL))
            reason = f"epoch {epoch:.0f}" if state == "diverged" and pd.notna(epoch) else row["reason"]
            yield {"kind": kind, **{key: row[key] for key in CELL}, "reason": reason}
    for status, kind in OF_FILES.items():
        for row in runs.files[runs.files["status"] == status].to_dict("records"):
            yield {"kind": kind, **{key: row[key] for key in CELL},
                   "reason": f"{row['system']}, {row['reason']}" + (f": {row['detail']}" if row["detail"] else "")}


def details(runs: Runs) -> tuple[Part, ...]:
    """What the details hold: runs that did not go well, files by verdict, files that are not used."""
    return odd_runs(runs), files_by_verdict(runs), files_not_used(runs)


def odd_runs(runs: Runs) -> Table:
    """One row per finished run that diverged, never improved, was cut off, or skipped steps."""
    odd = runs.table[(runs.table["status"] != "ok") | (runs.table["nonfinite_grad_steps"] > 0)]
    frame = odd[[*CELL, "status", "epochs", "diverged_epoch", "nonfinite_grad_steps", "stop_reason"]]
    shown = pd.DataFrame({**cell_columns(frame), "status": frame["status"].tolist(), **{
        words: written(frame[key], whole) for words, key in (
            ("epochs", "epochs"), ("diverged at epoch", "diverged_epoch"), ("steps skipped", "nonfinite_grad_steps"))}})
    return Table("failed_and_diverged_runs", "Failed and diverged runs", (
        "Diverged: a loss or metric was not finite. No improvement: no epoch beat the starting value, the last weights "
        "were tested. Partial: the file was cut off, its score recovered. Steps skipped: gradients were not finite "
        "although the loss was.") if len(frame) else "None.", frame, shown)


def files_by_verdict(runs: Runs) -> Table:
    """Number of files per source, verdict and reason."""
    frame = runs.files.groupby(["source", "status", "reason"]).size().rename("files").reset_index()
    return Table("files_by_verdict", "Files by verdict", "Every file of the results folder and of the systems named in "
                 "the settings." if len(frame) else "No file was found.", frame, frame.astype(str))


def files_not_used(runs: Runs) -> Table:
    """One row per file that is not used as it is: why not, refused ones first."""
    order = ["rejected", "quarantined", "duplicate", "unfinished", "partial", "diverged"]
    odd = runs.files[runs.files["status"].isin(order) | (runs.files["reason"] != "")]
    places = odd["status"].map({status: place for place, status in enumerate(order)}).fillna(len(order))
    frame = odd.loc[places.sort_values(kind="stable").index]
    shown = frame[["source", "path", "status", "reason", "detail"]].assign(
        path=[Path(path).name for path in frame["path"]], used=frame["chosen"].map({True: "yes", False: "no"}))
    return Table("files_not_used", "Files that are not used as they are",
                 "Duplicate: another result of the cell is used. Partial: cut off while it was written, scores "
                 "recovered where the file or its log has them." if len(frame) else "None.", frame, shown)
