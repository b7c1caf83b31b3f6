"""What `qablate import` writes: the index of all files, the merged runs, and adopted copies."""

import csv
import io
import os
from collections import Counter
from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from qablate.errors import QablateError
from qablate.files import put_in_place, supersede, write_atomic, write_json
from qablate.provenance import utc_time
from qablate.records import SCORES, companion
from qablate.results.judging import state_of
from qablate.results.merging import Merged, adoption_note
from qablate.results.reading import predictions_problem
from qablate.results.states import FINISHED, Verdict
from qablate.study import Cell, Study

CELL = ("model", "task", "length", "seed")
INDEX = ("source", "path", *CELL, "status", "reason", "detail", "counts", "chosen", "judged", "flags", "warnings",
         "system", "sha256", "modified_utc", "bytes")
RUNS = (*CELL, "status", "finished", "enters_means", "enters_claims", "system", "source", "path", "sha256",
        "schema_version", "flags", "n_duplicates", "n_params", "epochs_trained", "best_val_metric", *SCORES,
        "training_time", "timestamp", "dataset_sha256")
FORMULA = ("=", "+", "-", "@", "\t")
"""What a spreadsheet takes for the beginning of a formula."""


def write_tables(merged: Merged) -> tuple[Path, Path]:
    """Write `imported/index.csv`, one row per file, and `imported/runs.csv`, one row per run; return both paths.

    Runs of the legacy table come below the others, with `selected_on_test` among their flags.
    """
    index, runs = (merged.study.results / "imported" / name for name in ("index.csv", "runs.csv"))
    write_csv(index, INDEX, map(index_row, merged.verdicts))
    write_csv(runs, RUNS, map(run_row, (*merged.runs.values(), *merged.legacy.values())))
    return index, runs


def index_row(verdict: Verdict) -> dict[str, Any]:
    """One row of the index: the file, its verdict, and why."""
    return {
        "source": verdict.file.source, "path": str(verdict.file.path), **verdict.of_cell, "status": verdict.status,
        "reason": verdict.reason, "detail": verdict.detail, "counts": verdict.finishes and not verdict.selected_on_test,
        "chosen": verdict.chosen, "judged": verdict.judged,
        "flags": " ".join(verdict.flags), "warnings": "; ".join(verdict.warnings), "system": verdict.system,
        "sha256": verdict.sha256_of_file(), "modified_utc": utc_time(verdict.file.modified), "bytes": verdict.file.size,
    }


def run_row(run: Verdict) -> dict[str, Any]:
    """One row of the merged runs; a value that is not known stays empty."""
    row = {
        **run.of_cell, "status": run.status, "finished": run.finishes, "enters_means": run.enters_means,
        "enters_claims": run.enters_claims, "system": run.system, "source": run.file.source,
        "path": str(run.file.path), "sha256": run.sha256, "flags": " ".join(run.flags),
        "n_duplicates": len(run.duplicates), "dataset_sha256": run.record.get("dataset", {}).get("dataset_sha256"),
    }
    return {key: row.get(key, run.record.get(key)) for key in RUNS}


def write_csv(path: Path, columns: tuple[str, ...], rows: Iterable[Mapping[str, Any]]) -> None:
    """Write a CSV file, whole or not at all; text that a spreadsheet would run as a formula is defused."""
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows({key: defused(value) for key, value in row.items()} for row in rows)
    write_atomic(path, text.getvalue().encode("utf-8", errors="backslashreplace"))


def defused(value: Any) -> Any:
    """Return a cell of a CSV with an apostrophe before a text that begins like a formula; numbers stay.

    A carriage return, which ends a line for readers of CSV, is written out.

    >>> defused("=1+1"), defused(-0.5), defused("-0.5")
    ("'=1+1", -0.5, '-0.5')
    """
    if isinstance(value, str):
        value = value.replace("\r", "\\r")
        try:
            float(value)
        except ValueError:
            return f"'{value}" if value.lstrip(" ").startswith(FORMULA) else value
    return value


def summary(merged: Merged) -> list[str]:
    """One line per status and reason with the number of files, then what the study has and lacks, then remarks.

    Of files that were cut off also whether they count.
    """
    def kind(verdict: Verdict) -> str:
        counts = " (counts: its score is known)" if verdict.has_score else " (does not count: no score)"
        reason = f": {verdict.reason}" if verdict.reason else ""
        return f"{verdict.status}{reason}{counts if verdict.status == 'partial' else ''}"

    lines = [f"{count:6d}  {text}" for text, count in sorted(Counter(map(kind, merged.verdicts)).items())]
    study = merged.study
    done = sum(map(merged.finished, study.cells))
    total = f"study {study.name}: {len(study.cells)} cells, {done} finished, {len(study.cells) - done} missing"
    return [*lines, total, *merged.remarks]


def _is_finished(study: Study, cell: Cell) -> bool:
    return state_of(study, cell).state.finished


def _put_aside_others(study: Study, run: Verdict, target: Path) -> None:
    """Keep weights and predictions of another run in `superseded/`; the predictions tell whose both are."""
    predictions, weights = (companion(target, ending) for ending in ("predictions.npz", "model.pt"))
    told = run.record.get("predictions")
    if not (told and predictions.is_file() and not predictions_problem(target, run.record)):
        for path in (predictions, weights):
            supersede(path, study.superseded)


def adopt(merged: Merged) -> list[Path]:
    """Copy the chosen whole results of other folders, unchanged, to where the study looks for them; return the copies.

    A cell with a whole result of its own is left alone. Results that were cut off stay where they are, since only
    whole files may be in the results folder; so do those selected on their test items. A file of the results folder
    that is not valid is kept in `superseded/` first; a valid one that comes meanwhile stays, and the copy goes there.
    """
    own = {verdict.cell for verdict in merged.verdicts
           if merged.is_own(verdict) and {verdict.status, verdict.judged} & set(FINISHED)}
    study, copies = merged.study, []
    for run in merged.runs.values():
        if run.cell in own or run.status not in FINISHED:
            continue
        file, target = run.file, study.result_path(run.cell)
        try:
            content = file.path.read_bytes()
        except OSError as error:
            raise QablateError(f"{file.path}: cannot be adopted: {error.strerror or error}") from error
        note = {"system": run.system, "source": file.source, "path": str(file.path), "sha256": run.sha256,
                "modified": file.modified, "status": run.status, "flags": list(run.flags)}
        write_json(adoption_note(study, run.cell), note)
        if put_in_place(target, content, study.superseded, partial(_is_finished, study, run.cell)) == target:
            os.utime(target, (file.modified, file.modified))
            _put_aside_others(study, run, target)
            copies.append(target)
    return copies
