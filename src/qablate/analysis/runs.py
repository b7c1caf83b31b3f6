"""From merged results to tidy tables: one row a planned cell, one row a run, one row a run and epoch.

A run is a finished training of one cell whose result stands, of this system or another; what counts is decided by
`qablate.results`. Everything the report says is computed from these frames.
"""

import functools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from qablate.catalog import model_info
from qablate.logs import log_path, read_tail
from qablate.records import Record, settings_of_record
from qablate.results import CellState, Merged, Run, State, merge
from qablate.study import Cell, DatasetSpec, Study

CELL = ["model", "task", "length", "seed"]
ARCHITECTURES = ("transformer", "mamba", "hydra")
OF_MODEL = ("name", "group", "features", "mixing", "architecture", "chunk")
METRICS = ("test_mse", "test_mae", "test_r2", "test_acc", "test_auc", "test_f1", "test_loss", "best_val_metric")
EXTRA = ("baseline_test", "skill", "majority_rate", "constant_prediction", "position_accuracy", "sequence_accuracy",
         "r2_output_means", "brier", "calibration_error")
TRAINING = ("best_epoch", "stop_reason", "diverged_epoch", "nonfinite_grad_steps", "n_resumes")
PROVENANCE = ("device_name", "device_type", "package_version", "peak_memory_mb")
VERDICT = ("source", "flags", "enters_means", "enters_claims", "file")
RUN_COLUMNS = [
    *CELL, *OF_MODEL, "status", "schema_version", "n_params", "n_params_trainable", *METRICS, "baseline_nominal",
    "baseline_measured", *EXTRA, "epochs", *TRAINING, "seconds_per_epoch", "training_time", *PROVENANCE,
    "backend", "dataset_sha256", *VERDICT,
]
HISTORY = ("train_loss", "train_metric", "val_loss", "val_metric", "lr")
NUMERIC = [*METRICS, "baseline_nominal", "baseline_measured", *EXTRA, "epochs", "best_epoch", "diverged_epoch",
           "nonfinite_grad_steps", "n_resumes", "seconds_per_epoch", "training_time", "peak_memory_mb", "n_params",
           "n_params_trainable"]


@dataclass(frozen=True)
class Collection:
    """All that is known about a study.

    `merged`: every file with its verdict, and the run used for each cell; `cells`: one row a planned cell with
    `state`, `finished`, `system` (that finished it) and `reason`; `runs`: one row a finished cell with an honest score
    or none (`RUN_COLUMNS`); `curves`: one row a run and epoch; `settings`: one row a run and setting, as its record
    holds it; `jobs`: `queued` or `running` for cells in a scheduler's queue, None where none was reached.
    """

    study: Study
    merged: Merged
    cells: pd.DataFrame
    runs: pd.DataFrame
    curves: pd.DataFrame
    settings: pd.DataFrame
    jobs: Mapping[Cell, str] | None = None

    @property
    def models(self) -> list[str]:
        """Models of the study in the order of the catalog's groups."""
        return sorted(self.study.config["models"])

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

    @property
    def complete_runs(self) -> pd.DataFrame:
        """The runs whose scores may enter a mean; a diverged run is counted beside it."""
        return self.runs[self.runs["enters_means"].astype(bool)]

    def scored(self, task: str, metric: str) -> pd.DataFrame:
        """The complete runs of one task that have a value of this metric."""
        runs = self.complete_runs
        return runs[(runs["task"] == task) & runs[metric].notna()]

    def runs_of(self, task: str) -> pd.DataFrame:
        """The runs of one task."""
        return self.runs[self.runs["task"] == task]

    def cells_of(self, task: str) -> pd.DataFrame:
        """The planned cells of one task."""
        return self.cells[self.cells["task"] == task]

    @property
    def open_cells(self) -> pd.DataFrame:
        """The planned cells without a result that stands."""
        return self.cells[~self.cells["finished"].astype(bool)]

    def shortest_dataset(self, task: str) -> DatasetSpec:
        """A dataset of one task, at its shortest length, for the parameters that all of them share."""
        return self.study.dataset(task, self.lengths(task)[0], self.seeds[0])

    @functools.cached_property
    def pairs(self) -> pd.DataFrame:
        """One row a cell and metric that two systems measured; without columns where there is none."""
        return pd.DataFrame([row for pair in self.merged.pairs() for row in pair.rows()])


def collect(study: Study, jobs: Mapping[Cell, str] | None = None) -> Collection:
    """Merge every result of a study, its own and those of other systems; nothing in their folders is changed."""
    merged = merge(study)
    runs = [run for run in map(merged.runs.get, study.cells) if run is not None and run.finished]
    settings = [{**vars(run.cell), "setting": key, "value": value}
                for run in runs for key, value in settings_of_record(run.record).items()]
    return Collection(
        study,
        merged,
        pd.DataFrame([_cell_row(merged, cell) for cell in study.cells],
                     columns=[*CELL, "state", "finished", "system", "reason"]),
        _typed(pd.DataFrame(map(run_row, runs), columns=RUN_COLUMNS)),
        _curves([(run.cell, run.record["history"]) for run in runs]),
        pd.DataFrame(settings, columns=[*CELL, "setting", "value"]),
        jobs,
    )


def _cell_row(merged: Merged, cell: Cell) -> dict[str, Any]:
    source, judged = merged.source_of(cell), judge(merged, cell)
    return {**vars(cell), "state": judged.state, "finished": source is not None,
            "system": source.system if source else None, "reason": judged.reason}


def judge(merged: Merged, cell: Cell) -> CellState:
    """Return the state of one cell for the report: its result, else what its log and checkpoint tell."""
    found = merged.state_of(cell)
    if found.state.finished or merged.finished(cell) or found.state in (State.STALE, State.UNREADABLE):
        return found
    here = _state_without_result(merged.study, cell)
    return found if here.state is State.MISSING and found.state is not State.MISSING else here


def _state_without_result(study: Study, cell: Cell) -> CellState:
    """Say how far a cell without a result has come: its log's last event, else its checkpoint, else nothing."""
    tail = read_tail(log_path(study.results, cell.name))
    if tail.name == "fail":
        return CellState(State.FAILED, tail.reason or "no reason logged")
    checkpoint = study.result_folder / "checkpoints" / f"checkpoint_{cell.name}.pt"
    if checkpoint.exists():
        at = "" if tail.saved_epoch is None else f", epoch {tail.saved_epoch}"
        return CellState(State.CHECKPOINT, f"stopped or running{at}")
    return CellState(State.MISSING, "started, no checkpoint" if tail.event else "never started")


def run_row(run: Run) -> dict[str, Any]:
    """Return one row of the runs table; what a file does not hold is None."""
    record = run.record
    training, config = record.get("training", {}), record.get("model_config", {})
    return {
        **vars(run.cell),
        **{key: getattr(model_info(run.cell.model), key) for key in OF_MODEL},
        "status": run.status,
        **_pick(record, ("schema_version", "n_params")),
        "n_params_trainable": config.get("n_params_trainable"),
        **_pick(record, METRICS),
        "baseline_nominal": record.get("baseline"),
        "baseline_measured": record.get("dataset", {}).get("statistics_baseline"),
        **_pick(record.get("metrics_extra", {}), EXTRA),
        "epochs": record.get("epochs_trained"),
        **_pick(training, TRAINING),
        "seconds_per_epoch": training.get("seconds_per_epoch_median", _mean_seconds(record)),
        "training_time": record.get("training_time"),
        **_pick(record.get("provenance", {}), PROVENANCE),
        "backend": config.get("backend"),
        "dataset_sha256": record.get("dataset", {}).get("dataset_sha256"),
        "source": run.system,
        "flags": " ".join(run.flags),
        "enters_means": run.enters_means,
        "enters_claims": run.enters_claims,
        "file": run.verdict.file.path.name,
    }


def _mean_seconds(record: Record) -> float | None:
    """Seconds per epoch of a record that keeps no median; None where it lost its time."""
    time, epochs = record.get("training_time"), record.get("epochs_trained")
    return time / epochs if time is not None and epochs else None


def _pick(source: Mapping[str, Any], keys: Iterable[str]) -> dict[str, Any]:
    return {key: source.get(key) for key in keys}


def _curves(histories: list[tuple[Cell, Mapping[str, Any]]]) -> pd.DataFrame:
    """One row a run and epoch; the columns and their types are the same when there are none."""
    columns: dict[str, list[Any]] = {key: [] for key in (*CELL, "epoch", *HISTORY)}
    for cell, history in histories:
        for key, value in vars(cell).items():
            columns[key] += [value] * len(history["epochs"])
        columns["epoch"] += history["epochs"]
        for key in HISTORY:
            columns[key] += history[key]
    types = {"length": "int64", "seed": "int64", "epoch": "int64", **dict.fromkeys(HISTORY, "float64")}
    return pd.DataFrame(columns).astype(types)


def _typed(runs: pd.DataFrame) -> pd.DataFrame:
    """Make the numeric columns numbers, also where every value is missing or the frame is empty."""
    return runs.assign(**{column: pd.to_numeric(runs[column]).astype("float64") for column in NUMERIC})
