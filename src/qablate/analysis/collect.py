"""From result files to frames: `collect(study)` is the first step of every table, figure and comparison.

What counts is decided by `qablate.results`; the rest of this package takes no more than the names of states from it.
"""

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd

from qablate.catalog import MODELS, TASKS, model_info
from qablate.errors import QablateError
from qablate.hours import CostTable
from qablate.logs import log_path, read_tail
from qablate.records import CURVES, SCORES, SELECTED, Record
from qablate.results import CellState, Merged, State, Verdict, has_checkpoint, merge
from qablate.status.survey import survey
from qablate.study import Cell, Study

CELL = ["model", "task", "length", "seed"]
OF_MODEL = ("name", "group", "features", "mixing", "architecture", "chunk")
EXTRA = ("baseline_test", "skill", "majority_rate", "constant_prediction", "position_accuracy", "sequence_accuracy",
         "r2_output_means", "brier", "calibration_error")
TRAINING = ("best_epoch", "stop_reason", "diverged_epoch", "nonfinite_grad_steps", "n_resumes")
HISTORY = (*CURVES, "lr")
COLUMNS: dict[str, str] = {
    **dict.fromkeys(("model", "task"), "object"), **dict.fromkeys(("length", "seed"), "int64"), "system": "object",
    "status": "object", **dict.fromkeys(("valid", "counts"), "bool"),
    **dict.fromkeys((*SCORES, "best_val_metric"), "float64"), **dict.fromkeys(OF_MODEL, "object"),
    **dict.fromkeys(("n_params", "n_params_trainable", "baseline_nominal", "baseline_measured"), "float64"),
    **dict.fromkeys(EXTRA, "float64"), "epochs": "float64",
    **{key: "object" if key == "stop_reason" else "float64" for key in TRAINING},
    **dict.fromkeys(("seconds_per_epoch", "training_time", "peak_memory_mb"), "float64"),
    **dict.fromkeys(("device_name", "device_type", "package_version", "backend", "schema_version", "timestamp",
                     "dataset_sha256", "flags", "file"), "object"),
}
"""Columns of `Runs.table` and their types."""
OF_FILE = ("system", "source", "path", "status", "reason", "detail", "judged", "chosen", "finishes", "selected_on_test",
           "flags")
"""Columns of `Runs.files` besides the cell's."""
RENAMED = ("model_id", "model_name", "model_info", "task_type", "seq_len", "epochs_trained", "baseline", "legacy")
"""Keys of a record that `COLUMNS` holds under another name, or none that says more."""


@dataclass(frozen=True)
class Runs:
    """All that is known about a study.

    `table`: one row per cell with a finished run: `COLUMNS`, then every other scalar of its record
    (`training.patience`, `provenance.host`, ...); `valid`: the score enters means, `counts`: it enters comparisons
    (valid on a verified dataset, or diverged). `cells`: one row per planned cell with `state`, `finished`,
    `system` (that finished it), `reason`, `assigned` (the only system to train it), `job` (`queued`, `running` or
    empty) and `hours` (expected until it ends, empty where no cost is known). `files`: one row per judged file.
    `selected`: Forrelation scores whose epoch was chosen on the test items, `origin` published or ours. `pairs`: one
    row per cell and metric that two systems measured. `records`: the record of each row of `table`. `unreadable`: one
    line per folder that could not be listed. `queue_known`: whether a scheduler answered.
    """

    study: Study
    table: pd.DataFrame
    cells: pd.DataFrame
    files: pd.DataFrame
    selected: pd.DataFrame
    pairs: pd.DataFrame
    records: Mapping[Cell, Record]
    unreadable: tuple[str, ...] = ()
    queue_known: bool = False

    @property
    def models(self) -> list[str]:
        """Models of the study, by id; variants behind their base in the order of its config."""
        return sorted(self.study.config["models"], key=lambda model: model_info(model).id)

    @property
    def tasks(self) -> list[str]:
        """Tasks of the study in the order of its config."""
        return list(self.study.config["tasks"])

    def lengths(self, task: str) -> list[int]:
        """Lengths of one task, ascending."""
        return sorted(self.study.config["tasks"][task]["lengths"])

    @property
    def seeds(self) -> list[int]:
        """Seeds of the study, ascending."""
        return sorted(self.study.config["seeds"])

    def of(self, task: str) -> pd.DataFrame:
        """The valid runs of one task that have its primary metric."""
        found = self.table[self.table["valid"] & (self.table["task"] == task)]
        return found[found[TASKS[task].metric].notna()]

    @property
    def open_cells(self) -> pd.DataFrame:
        """The planned cells without a finished run."""
        return self.cells[~self.cells["finished"]]

    @functools.cached_property
    def curves(self) -> pd.DataFrame:
        """One row per run and epoch: `CELL`, `epoch`, `HISTORY` and `chosen`, whether its weights were tested."""
        frames = [pd.DataFrame({**vars(cell), "epoch": history["epochs"], **{key: history[key] for key in HISTORY}})
                  for cell, record in self.records.items() if (history := record["history"])["epochs"]]
        types = {"length": "int64", "seed": "int64", "epoch": "int64", **dict.fromkeys(HISTORY, "float64")}
        curves = pd.concat([pd.DataFrame(columns=[*CELL, "epoch", *HISTORY]), *frames], ignore_index=True).astype(types)
        best = curves[CELL].merge(self.table[[*CELL, "best_epoch"]], on=CELL, how="left")["best_epoch"]
        return curves.assign(chosen=curves["epoch"] == best.to_numpy())


def hours_left(cells: pd.DataFrame) -> tuple[int, float, int]:
    """Return how many of these rows of `Runs.cells` are open, their hours one after another, how many lack a cost.

    The hours are those of `qablate status`.
    """
    open_cells = cells[~cells["finished"]]
    return len(open_cells), float(open_cells["hours"].sum()), int(open_cells["hours"].isna().sum())


def collect(study: Study, jobs: Mapping[Cell, str] | None = None) -> Runs:
    """Merge every result of a study, its own and those of other systems; nothing in their folders is changed.

    `jobs`: `queued` or `running` for cells in a scheduler's queue, None where none answered.
    """
    merged = merge(study)
    runs = [run for run in map(merged.runs.get, study.cells) if run is not None and run.finishes]
    table = pd.DataFrame(map(_run_row, runs))
    extra = sorted(column for column in table if column not in COLUMNS)
    table = table.reindex(columns=[*COLUMNS, *extra]).astype(COLUMNS).copy()
    try:
        costs = survey(study, CostTable.at_hand(), ask_slurm=False).cells
    except QablateError:    # a folder that cannot be listed: see `unreadable`
        costs = ()
    hours = {status.cell: status.left.expected for status in costs if status.left is not None}
    cells = [{**_cell_row(merged, cell), "assigned": study.assigned_to(cell) or "", "job": (jobs or {}).get(cell, ""),
              "hours": hours.get(cell)} for cell in study.cells]
    return Runs(
        study, table, pd.DataFrame(cells).astype({"finished": "bool", "hours": "float64"}),
        pd.DataFrame(map(_file_row, merged.verdicts), columns=[*CELL, *OF_FILE]).astype(
            dict.fromkeys(("chosen", "finishes", "selected_on_test"), "bool")), _selected(merged),
        pd.DataFrame(merged.pairs()), {run.cell: run.record for run in runs},
        tuple(merged.unreadable), jobs is not None)


def study_of(folder: Path, config: str | Path | Sequence[str | Path] | None = None) -> Study:
    """Return the study whose results lie in a folder: its results folder, or one of result JSONs alone.

    Settings are `config`, else `config.yaml` of the working folder or next to `folder`; a QablateError names what is
    missing.
    """
    if not folder.is_dir():
        raise QablateError(f"{folder}: no such folder")
    near = [Path("config.yaml"), folder.resolve().parent / "config.yaml"]
    named = [config] if isinstance(config, (str, Path)) else config
    found = named if named is not None else [path for path in near if path.is_file()][:1]
    if not found:
        raise QablateError(f"no settings: neither {near[0]} nor {near[1]} is there; name them with config=")
    study = Study.load(found)
    if next(folder.glob("synthetic_*_results.json"), None) is not None:
        study.config["systems"] = {folder.name: {"results": str(folder)}}
    study.results = folder
    return study


def _run_row(run: Verdict) -> dict[str, Any]:
    """One row of `Runs.table`; what a file does not hold is left out or None."""
    record, model = run.record, MODELS[run.cell.model]
    training, config = record.get("training", {}), record.get("model_config", {})
    time, epochs = record.get("training_time"), record.get("epochs_trained")
    named = {
        **vars(run.cell), "system": run.system, "status": run.status,
        "valid": run.enters_means, "counts": run.enters_claims,
        **{key: getattr(model, key) for key in OF_MODEL}, "chunk": config.get("chunk", model.chunk),
        "n_params_trainable": config.get("n_params_trainable"),
        "baseline_nominal": record.get("baseline"),
        "baseline_measured": record.get("dataset", {}).get("statistics_baseline"),
        "epochs": epochs,
        "seconds_per_epoch": training.get("seconds_per_epoch_median", time / epochs if time and epochs else None),
        "flags": " ".join(run.flags),
        "file": run.file.path.name,
    }
    return {**_scalars(record), **named}


def _scalars(record: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Every number, word and truth value of a record, parts by `part.key` unless `COLUMNS` has the key.

    A word where a column holds numbers, under a key that no schema checks, is left out.
    """
    found: dict[str, Any] = {}
    for key, value in record.items():
        if isinstance(value, Mapping) and key not in ("history", "model_info"):
            found |= _scalars(value, f"{prefix}{key}.")
        elif key not in RENAMED and not isinstance(value, (list, Mapping)) and not (
                isinstance(value, str) and COLUMNS.get(key) == "float64"):
            found[key if key in COLUMNS else f"{prefix}{key}"] = value
    return found


def _cell_row(merged: Merged, cell: Cell) -> dict[str, Any]:
    """State of one cell for the report: its result, else what its log and checkpoint tell, else other files."""
    source, judged = merged.source_of(cell), merged.state_of(cell)
    if source is None:
        here = _state_without_result(merged.study, cell)
        replaced = judged.state in (State.STALE, State.UNREADABLE)    # a file is there, and a checkpoint is no news
        untold = here.state is State.MISSING and judged.state is not State.MISSING
        judged = here if here.state is State.FAILED or not (replaced or untold) else judged
    return {**vars(cell), "state": judged.state, "finished": source is not None,
            "system": source.system if source else "", "reason": "" if source else judged.reason}


def _state_without_result(study: Study, cell: Cell) -> CellState:
    """Say how far a cell without a result has come: its log's last event, else its checkpoint, else nothing."""
    tail = read_tail(log_path(study.results, cell.name))
    if tail.name == "fail":
        return CellState(State.FAILED, tail.reason or "no reason logged")
    if has_checkpoint(study, cell):
        epoch = "" if tail.saved_epoch is None else f", epoch {tail.saved_epoch}"
        return CellState(State.CHECKPOINT, f"stopped or running{epoch}")
    return CellState(State.MISSING, "started, no checkpoint" if tail.event else "")


def _file_row(verdict: Verdict) -> dict[str, Any]:
    """One row of `Runs.files`; `finishes`: whether it would finish its cell if it were the only file of it."""
    alone = replace(verdict, status=verdict.judged) if verdict.judged else verdict    # type: ignore[arg-type]
    return {**verdict.of_cell, "system": verdict.system, "source": verdict.file.source, "path": str(verdict.file.path),
            "status": verdict.status, "reason": verdict.reason, "detail": verdict.detail, "judged": verdict.judged,
            "chosen": verdict.chosen, "finishes": alone.finishes, "selected_on_test": verdict.selected_on_test,
            "flags": " ".join(verdict.flags)}


def _selected(merged: Merged) -> pd.DataFrame:
    """Scores whose epoch was chosen on the items they are reported on; used for nothing but the table of them."""
    rows = [(*vars(cell).values(), "published", run.system, run.record["test_acc"], False)
            for cell, run in merged.legacy.items() if run.finishes]
    rows += [(*vars(cell).values(), "ours", run.system, legacy[SELECTED], legacy["legacy_censored"])
             for cell, run in merged.runs.items() if run.finishes and (legacy := run.record.get("legacy"))]
    frame = pd.DataFrame(rows, columns=[*CELL, "origin", "system", "score", "censored"])
    return frame.astype({"score": "float64", "length": "int64", "seed": "int64"}).dropna(subset="score")
