"""The rules: what a file found in a source is worth. Reads leniently, judges strictly.

Every rule that a file fails names what was expected and what was found.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from qablate.catalog import task_info
from qablate.importing.goldens import published_parameters, target_variances
from qablate.importing.logs import Log
from qablate.importing.reading import Reading, read_result
from qablate.importing.verdicts import Found, Status, Verdict
from qablate.records import (
    ADDED_KEYS,
    CURVES,
    HISTORY,
    METRICS,
    RESULT_NAME,
    Record,
    RecordError,
    check_record,
    identity_problem,
    metric_problem,
    schema_problem,
)
from qablate.study import Cell, Study, known_dataset_sha256, selected_on_test

IDENTITY = {"model_id": "model", "task": "task", "seq_len": "length", "seed": "seed"}
SATURATED_EPOCHS = 21
"""Leaky Forrelation files reach 1.0 in the first epoch and stop by patience at this one."""
R2_TOLERANCE = 1e-4
CURVE_TOLERANCE = 1e-9
DATA_SETTINGS = ("data.", "split_id", "dataset ")


class Refused(Exception):
    """A file that is not used: status, reason code, and a line for people."""

    def __init__(self, status: Status, reason: str, detail: str = "") -> None:
        super().__init__(detail)
        self.status, self.reason, self.detail = status, reason, detail


class Judge:
    """Judges files by the rules and settings of one study."""

    def __init__(self, study: Study, origins: Mapping[str, str] | None = None) -> None:
        """`origins` maps the sha256 of adopted files to the system they came from."""
        self.study = study
        self.cells = frozenset(study.cells)
        self.origins = origins or {}

    def result(self, file: Found, logs: Sequence[Log] = ()) -> Verdict:
        """Judge a result file; `logs` are those of its cell in its source and complete a file that was cut off."""
        reading = read_result(file)
        cell = None
        try:
            if reading.problem:
                raise Refused("rejected", reading.problem, reading.detail)
            cell = self.cell_of(file)
            return self._judge(file, cell, reading, logs)
        except Refused as refused:
            return Verdict(file, refused.status, refused.reason, refused.detail, cell or self.cell_if_any(file),
                           sha256=reading.sha256, system=self._system(file, reading, {}))

    def log_alone(self, file: Found, log: Log) -> Verdict:
        """Judge a log whose result file is missing or unusable."""
        cell = log.cell
        assert cell is not None
        system = self._system(file, Reading(), {})
        try:
            self._require_cell(cell)
            record = log.record()
            values = [*record["history"]["val_metric"], *(record[key] for key in METRICS[record["task_type"]][:1])]
            status: Status = "diverged" if None in values else "partial"
            record |= {"schema_version": 1, "status": status}
            if problem := metric_problem(record):
                raise Refused("rejected", "metric_range", problem)
            self._quarantine(file, record, system)
            self._settings(cell, record)
        except Refused as refused:
            return Verdict(file, refused.status, refused.reason, refused.detail, cell, system=system)
        flags = self._flags(cell, record, ("from_log",))
        detail = f"no result file; curve and scores as {log.path.name} prints them, 4 to 6 decimals"
        return Verdict(file, status, "from_log", detail, cell, record, flags, system=system)

    def unfinished(self, file: Found, cell: Cell, reason: str, epoch: int) -> Verdict:
        """Note a checkpoint or log of a training that has no result; no score is ever derived from it."""
        if cell not in self.cells:
            return Verdict(file, "rejected", "not_in_study", f"{cell.name} is no cell of this study", cell,
                           system=file.source)
        detail = f"log ends at epoch {epoch}" if epoch else "no epoch in a log"
        return Verdict(file, "unfinished", reason, detail, cell, system=file.source)

    def cell_of(self, file: Found) -> Cell:
        """Return the cell a file's name stands for; Refused if it names none of this study."""
        cell = self.cell_if_any(file)
        if cell is None:
            raise Refused("rejected", "file_name",
                          "expected synthetic_MODEL_TASK_L100_seed2024_results.json, found another name")
        self._require_cell(cell)
        return cell

    def cell_if_any(self, file: Found) -> Cell | None:
        """Return the cell a file's name stands for, of this study or not; None for another name."""
        match = RESULT_NAME.fullmatch(file.path.name)
        if match is None or max(len(match["length"]), len(match["seed"])) > 12:
            return None
        return Cell(match["model"], match["task"], int(match["length"]), int(match["seed"]))

    def _require_cell(self, cell: Cell) -> None:
        if cell not in self.cells:
            raise Refused("rejected", "not_in_study", f"{cell.name} is no cell of study '{self.study.name}'")

    def _judge(self, file: Found, cell: Cell, reading: Reading, logs: Sequence[Log]) -> Verdict:
        version = reading.values.get("schema_version", 1)
        _same_identity(cell, reading)
        if version == 1 and not isinstance(version, bool) and not ADDED_KEYS & reading.values.keys():
            record, flags, warnings = _published_record(cell, reading, logs)
        elif version == 2 and not isinstance(version, bool):
            record, flags, warnings = _own_record(file, reading), (), ()
        else:
            raise Refused("rejected", "schema_version", f"expected 2 (published: none), found {str(version)[:40]}")
        system = self._system(file, reading, record)
        self._quarantine(file, record, system)
        self._settings(cell, record)
        status: Status = record["status"]
        reason = {"diverged": "non_finite", "partial": "truncated"}.get(status, "")
        if selected_on_test(record) and not reason:
            reason = "selected_on_test"
        detail = "" if reading.whole else _what_was_lost(record, flags)
        return Verdict(file, status, reason, detail, cell, record, self._flags(cell, record, flags), warnings,
                       reading.sha256, system)

    def _system(self, file: Found, reading: Reading, record: Mapping[str, Any]) -> str:
        """Where a result was trained: by its record, by the note of its adoption, else by its folder."""
        return str(record.get("provenance", {}).get("source") or self.origins.get(reading.sha256) or file.source)

    def _quarantine(self, file: Found, record: Record, system: str) -> None:
        """Leaky Forrelation by its numbers (published files only) and whatever the study's rules name."""
        facts = {"source": (file.source, system), "task": (record["task"],), "model": (record["model_id"],),
                 "schema_version": (record["schema_version"],)}
        for rule in self.study.config["import"]["quarantine"]:
            if all(wanted in facts[key] for key, wanted in rule.items() if key != "reason"):
                asked = ", ".join(f"{key} {value}" for key, value in rule.items() if key != "reason")
                raise Refused("quarantined", rule["reason"], f"declared rule: {asked}")
        if selected_on_test(record) and record["test_acc"] == 1 and record["test_auc"] in (1, None) and (
            record["epochs_trained"] == SATURATED_EPOCHS
        ):
            raise Refused("quarantined", "forrelation_v1",
                          f"accuracy 1 and {SATURATED_EPOCHS} epochs: the dataset that gives its labels away")

    def _settings(self, cell: Cell, record: Record) -> None:
        lines = self.study.setting_differences(cell, record)
        if not lines:
            return
        if all(line.startswith("model_code_version") for line in lines):
            raise Refused("rejected", "code_version", lines[0])
        if all(line.startswith(DATA_SETTINGS) for line in lines):
            raise Refused("quarantined", "dataset_mismatch", "; ".join(lines))
        raise Refused("rejected", "hyperparameters", "; ".join(lines))

    def _flags(self, cell: Cell, record: Record, flags: tuple[str, ...]) -> tuple[str, ...]:
        """Add what follows from the record; an R2 that was derived from the variance says nothing about the data."""
        biased = ("selected_on_test",) if selected_on_test(record) else ()
        if "dataset" in record:
            verified = self._own_dataset(cell, record)
        else:
            verified = "derived" not in flags and _r2_fits_dataset(cell, record)
        return (*flags, *biased, "dataset_verified" if verified else "dataset_unverified")

    def _own_dataset(self, cell: Cell, record: Record) -> bool:
        known = known_dataset_sha256(self.study.dataset(cell.task, cell.length, cell.seed), self.study.results)
        return known is not None and record["dataset"]["dataset_sha256"] == known


def _same_identity(cell: Cell, reading: Reading) -> None:
    """The name and the content of a file must mean the same cell."""
    found = {key: reading.values.get(key) for key in IDENTITY}
    missing = [key for key in IDENTITY if key not in reading.values]
    if missing:
        raise Refused("rejected", "schema" if reading.whole else "truncated", f"ends before {missing[0]}"
                      if not reading.whole else f"key {missing[0]} is missing")
    for key, attribute in IDENTITY.items():
        named, held = getattr(cell, attribute), found[key]
        if held != named or isinstance(held, bool):
            raise Refused("rejected", "name_mismatch", f"{key}: the name says {named}, the content {str(held)[:40]}")


def _own_record(file: Found, reading: Reading) -> Record:
    """A result of schema 2, held to its schema and to itself."""
    if not reading.whole:
        raise Refused("rejected", "truncated", "a result of this code is written whole: copy it again")
    _equal_lengths(reading.values)
    try:
        check_record(reading.values, file.path)
    except RecordError as error:
        raise Refused("rejected", "schema", str(error).removeprefix(f"{file.path}: ")) from error
    return reading.values


def _published_record(
    cell: Cell, reading: Reading, logs: Sequence[Log]
) -> tuple[Record, tuple[str, ...], tuple[str, ...]]:
    """A result of schema 1 in the shape of schema 2; returns it with its flags and warnings."""
    if "history" not in reading.values:
        last = next(reversed(reading.values), "the first brace")
        raise Refused("rejected", "schema" if reading.whole else "truncated", f"no history, ends after {last}")
    _published_shape(cell, reading)
    _equal_lengths(reading.values)
    record = _one_shape(cell, reading.values)
    flags: tuple[str, ...] = ()
    if not reading.whole:
        flags = ("salvaged", *_complete_from_logs(record, logs), *_complete_r2(cell, record))
    record["status"] = _status(reading, record)
    if problem := metric_problem(record):
        raise Refused("rejected", "metric_range", problem)
    return record, flags, tuple(_warnings(cell, record))


def _published_shape(cell: Cell, reading: Reading) -> None:
    """Check a file against schema 1, with zeros for numbers that are not finite and for keys that were cut off."""
    task = task_info(cell.task)
    ending = {"best_val_metric": 0.0, **dict.fromkeys(METRICS[task.kind], 0.0), "baseline": 0.0, "training_time": 0.0,
              "epochs_trained": 1, "timestamp": "00000000_000000"}
    values = reading.values if reading.whole else {**ending, **reading.values}
    metrics = ("best_val_metric", *METRICS[task.kind])
    values = {**values, **{key: 0.0 for key in metrics if key in values and values[key] is None}}
    if isinstance(values["history"], dict):
        values["history"] = {key: _zeros_for_none(value) for key, value in values["history"].items()}
    problem = schema_problem(values, 1) or identity_problem(values)
    if problem:
        raise Refused("rejected", "schema", problem)


def _zeros_for_none(values: Any) -> Any:
    return [0.0 if value is None else value for value in values] if isinstance(values, list) else values


def _equal_lengths(values: Mapping[str, Any]) -> None:
    history = values.get("history")
    if not isinstance(history, dict) or not all(isinstance(history.get(key), list) for key in HISTORY):
        raise Refused("rejected", "schema", f"history must hold the lists {', '.join(HISTORY)}")
    lengths = {key: len(history[key]) for key in HISTORY}
    epochs = values.get("epochs_trained", lengths["epochs"])
    if any(n != epochs for n in lengths.values()):
        same = len(set(lengths.values())) == 1
        found = f"{lengths['epochs']} in every list" if same else ", ".join(
            f"{key} {n}" for key, n in lengths.items() if n != epochs)
        raise Refused("rejected", "history_lengths", f"expected {epochs} entries (epochs_trained), found {found}")


def _one_shape(cell: Cell, values: Mapping[str, Any]) -> Record:
    """Every published key in its order, None where the file ended before it; AUC 0.0 meant `cannot be computed`."""
    task = task_info(cell.task)
    keys = ("best_val_metric", *METRICS[task.kind], "baseline", "training_time", "epochs_trained", "timestamp")
    record = {**values, **{key: values.get(key) for key in keys}, "schema_version": 1}
    record["epochs_trained"] = len(values["history"]["epochs"])
    if "best_val_metric" not in values and None not in values["history"]["val_metric"]:
        record["best_val_metric"] = _best(record)
    if record["baseline"] is None:
        record["baseline"] = task.nominal_baseline
    if record.get("test_auc") == 0.0:
        record["test_auc"] = None
    return record


def _status(reading: Reading, record: Record) -> Status:
    """`partial` for a text that was cut off before its end, `diverged` where a number is not finite, else `ok`."""
    history, metrics = record["history"], METRICS[record["task_type"]]
    stored = [reading.values[key] for key in ("best_val_metric", *metrics) if key in reading.values]
    if not reading.whole and metrics[0] not in reading.values:
        return "partial"
    if None in stored or any(None in history[key] for key in CURVES):
        return "diverged"
    return "ok" if reading.whole else "partial"


def _complete_from_logs(record: Record, logs: Sequence[Log]) -> tuple[str, ...]:
    """Fill what the text lost from the first log that agrees with what is left; the log's own digits."""
    log = next((log for log in logs if log.agrees_with(record)), None)
    if log is None:
        return ()
    filled = [key for key in (*METRICS[record["task_type"]], "training_time")
              if record[key] is None and log.results.get(key) is not None]
    record |= {key: log.results[key] for key in filled}
    return ("from_log",) if filled else ()


def _complete_r2(cell: Cell, record: Record) -> tuple[str, ...]:
    """R2 by its definition from the MSE, where the variance of the test targets is known."""
    variance = target_variances().get((cell.task, cell.length, cell.seed))
    if variance is None or record["test_r2"] is not None or record["test_mse"] is None:
        return ()
    record["test_r2"] = 1 - record["test_mse"] / variance
    return ("derived",)


def _r2_fits_dataset(cell: Cell, record: Record) -> bool:
    """Whether MSE and R2 of a published file imply the variance of the genuine test targets."""
    variance = target_variances().get((cell.task, cell.length, cell.seed))
    if variance is None or record["test_mse"] is None or record["test_r2"] is None:
        return False
    return bool(abs(1 - record["test_mse"] / variance - record["test_r2"]) < R2_TOLERANCE)


def _best(record: Record) -> float:
    return (min if record["task_type"] == "regression" else max)(record["history"]["val_metric"])


def _warnings(cell: Cell, record: Record) -> Iterator[str]:
    """What is odd about a record and changes nothing."""
    history, n = record["history"], record["epochs_trained"]
    if history["epochs"] != list(range(1, n + 1)):
        yield "history.epochs does not count from 1"
    finite = record["best_val_metric"] is not None and None not in history["val_metric"]
    if finite and abs(record["best_val_metric"] - _best(record)) > CURVE_TOLERANCE:
        yield "best_val_metric is not the best of its curve"
    rate, period = record["hyperparameters"]["learning_rate"], record["hyperparameters"]["n_epochs"]
    cosine = (rate / 2 * (1 + math.cos(math.pi * epoch / period)) for epoch in range(n))
    if any(found is None or abs(found - wanted) > CURVE_TOLERANCE
           for found, wanted in zip(history["lr"], cosine, strict=True)):
        yield "history.lr is not the cosine of its settings"
    counted = published_parameters().get((cell.model, cell.task, cell.length))
    if counted is not None and record["n_params"] != counted:
        yield f"n_params {record['n_params']}, the model has {counted}"
    if selected_on_test(record) and record["test_acc"] != record["best_val_metric"]:
        yield "test_acc differs from best_val_metric though both are of the test items"


def _what_was_lost(record: Record, flags: Sequence[str]) -> str:
    metric = task_info(record["task"]).metric
    known = f"{metric} recovered" if record[metric] is not None else f"no {metric}"
    origin = {"from_log": "completed from its log", "derived": "R2 from MSE and test variance"}
    return ", ".join(["cut off while it was written", known, *(origin[flag] for flag in flags if flag in origin)])
