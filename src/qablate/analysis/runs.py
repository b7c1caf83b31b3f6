"""From result files to tidy tables: one row a planned cell, one row a run, one row a run and epoch.

A run is a finished training of one cell whose result stands. Everything the report says is computed from these frames.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from qablate.catalog import model_info
from qablate.logtail import log_path, read_tail
from qablate.records import Record, RecordError, read_record, settings_of_record
from qablate.study import Cell, Study

CELL = ["model", "task", "length", "seed"]
FINISHED = ("done", "no_improvement", "diverged")
COMPLETE = ("ok", "no_improvement")
"""Statuses whose scores enter a mean; a diverged run is counted beside it."""

METRICS = ("test_mse", "test_mae", "test_r2", "test_acc", "test_auc", "test_f1", "test_loss", "best_val_metric")
EXTRA = ("baseline_test", "skill", "majority_rate", "constant_prediction", "position_accuracy", "sequence_accuracy",
         "r2_output_means", "brier", "calibration_error")
TRAINING = ("best_epoch", "stop_reason", "diverged_epoch", "nonfinite_grad_steps", "n_resumes")
PROVENANCE = ("source", "device_name", "device_type", "package_version", "peak_memory_mb")
RUN_COLUMNS = [
    *CELL, "name", "group", "features", "mixing", "architecture", "chunk", "status", "schema_version",
    "n_params", "n_params_trainable", *METRICS, "baseline_nominal", "baseline_measured", *EXTRA,
    "epochs", *TRAINING, "seconds_per_epoch", "training_time", *PROVENANCE, "backend", "dataset_sha256", "file",
]
HISTORY = ("train_loss", "train_metric", "val_loss", "val_metric", "lr")
NUMERIC = [*METRICS, "baseline_nominal", "baseline_measured", *EXTRA, "epochs", "best_epoch", "diverged_epoch",
           "nonfinite_grad_steps", "n_resumes", "seconds_per_epoch", "training_time", "peak_memory_mb", "n_params",
           "n_params_trainable"]


@dataclass(frozen=True)
class Collection:
    """All that is known about a study.

    `cells`: one row a planned cell with `state`, `finished` and `reason`; `runs`: one row a finished cell
    (`RUN_COLUMNS`); `curves`: one row a run and epoch; `settings`: one row a run and setting, as its record holds it.
    """

    study: Study
    cells: pd.DataFrame
    runs: pd.DataFrame
    curves: pd.DataFrame
    settings: pd.DataFrame

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
        """The runs whose scores may enter a mean."""
        return self.runs[self.runs["status"].isin(COMPLETE)]


def collect(study: Study) -> Collection:
    """Read every result of a study; nothing in its folder is changed."""
    cells: list[dict[str, Any]] = []
    runs: list[dict[str, Any]] = []
    curves: list[tuple[Cell, Mapping[str, Any]]] = []
    settings: list[dict[str, Any]] = []
    for cell in study.cells:
        state, record = judge(study, cell)
        cells.append({**_key(cell), "state": state.state if record is None else _finished_state(record),
                      "finished": record is not None, "reason": state.reason})
        if record is not None:
            runs.append(run_row(study, cell, record))
            curves.append((cell, record["history"]))
            settings += [{**_key(cell), "setting": key, "value": value}
                         for key, value in settings_of_record(record).items()]
    return Collection(
        study,
        pd.DataFrame(cells, columns=[*CELL, "state", "finished", "reason"]),
        _typed(pd.DataFrame(runs, columns=RUN_COLUMNS)),
        _curves(curves),
        pd.DataFrame(settings, columns=[*CELL, "setting", "value"]),
    )


def judge(study: Study, cell: Cell) -> tuple["ReportState", Record | None]:
    """Return the state of one cell for the report and, if its result stands, the record."""
    found = study.state_of(cell)
    if found.state == "done":
        try:
            return ReportState("done"), read_record(study.result_path(cell))
        except RecordError as error:     # replaced between the two readings
            return ReportState("unreadable", str(error)), None
    if found.state == "missing":
        return _state_without_result(study, cell), None
    return ReportState(found.state, found.reason), None


@dataclass(frozen=True)
class ReportState:
    """State of a cell in the words of the report, and why."""

    state: str
    reason: str = ""


def _state_without_result(study: Study, cell: Cell) -> ReportState:
    """Say how far a cell without a result has come: its log's last event, else its checkpoint, else nothing."""
    tail = read_tail(log_path(study.results, cell.name))
    if tail.name == "fail":
        return ReportState("failed", tail.reason or "no reason logged")
    checkpoint = study.result_folder / "checkpoints" / f"checkpoint_{cell.name}.pt"
    if checkpoint.exists():
        at = "" if tail.saved_epoch is None else f", epoch {tail.saved_epoch}"
        return ReportState("checkpoint", f"stopped or running{at}")
    return ReportState("missing", "started, no checkpoint" if tail.event else "never started")


def run_row(study: Study, cell: Cell, record: Mapping[str, Any]) -> dict[str, Any]:
    """Return one row of the runs table; what an older record does not hold is None."""
    training, config = record.get("training", {}), record.get("model_config", {})
    return {
        **_key(cell),
        **_model(cell),
        "status": record["status"],
        "schema_version": record["schema_version"],
        "n_params": record["n_params"],
        "n_params_trainable": config.get("n_params_trainable"),
        **_pick(record, METRICS),
        "baseline_nominal": record["baseline"],
        "baseline_measured": record.get("dataset", {}).get("statistics_baseline"),
        **_pick(record.get("metrics_extra", {}), EXTRA),
        "epochs": record["epochs_trained"],
        **_pick(training, TRAINING),
        "seconds_per_epoch": training.get("seconds_per_epoch_median",
                                          record["training_time"] / record["epochs_trained"]),
        "training_time": record["training_time"],
        **{"source": "published", **_pick(record.get("provenance", {"source": "published"}), PROVENANCE)},
        "backend": config.get("backend"),
        "dataset_sha256": record.get("dataset", {}).get("dataset_sha256"),
        "file": study.result_path(cell).name,
    }


def _model(cell: Cell) -> dict[str, Any]:
    info = model_info(cell.model)
    return {"name": info.name, "group": info.group, "features": info.features, "mixing": info.mixing,
            "architecture": info.architecture, "chunk": info.chunk}


def _pick(source: Mapping[str, Any], keys: Iterable[str]) -> dict[str, Any]:
    return {key: source.get(key) for key in keys}


def _key(cell: Cell) -> dict[str, Any]:
    return {"model": cell.model, "task": cell.task, "length": cell.length, "seed": cell.seed}


def _finished_state(record: Mapping[str, Any]) -> str:
    return "done" if record["status"] == "ok" else str(record["status"])


def _curves(histories: list[tuple[Cell, Mapping[str, Any]]]) -> pd.DataFrame:
    """One row a run and epoch; the columns and their types are the same when there are none."""
    columns: dict[str, list[Any]] = {key: [] for key in (*CELL, "epoch", *HISTORY)}
    for cell, history in histories:
        for key, value in _key(cell).items():
            columns[key] += [value] * len(history["epochs"])
        columns["epoch"] += history["epochs"]
        for key in HISTORY:
            columns[key] += history[key]
    types = {"length": "int64", "seed": "int64", "epoch": "int64", **dict.fromkeys(HISTORY, "float64")}
    return pd.DataFrame(columns).astype(types)


def _typed(runs: pd.DataFrame) -> pd.DataFrame:
    """Make the numeric columns numbers, also where every value is missing or the frame is empty."""
    return runs.assign(**{column: pd.to_numeric(runs[column]).astype("float64") for column in NUMERIC})
