"""The rules: what a file found in a source is worth. Reads leniently, judges strictly.

Every rule that a file fails names what was expected and what was found.
"""

import hashlib
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from qablate.catalog import AS_PUBLISHED, task_info
from qablate.errors import QablateError
from qablate.files import read_regular
from qablate.goldens import PUBLISHED_MODEL, DatasetFacts, published_datasets, published_parameters
from qablate.logs import Log
from qablate.records import (
    ADDED_KEYS,
    CHECKSUM,
    CURVES,
    HISTORY,
    METRICS,
    RESULT_NAME,
    Record,
    contradiction,
    grid_problem,
    identity_problem,
    metric_problem,
    schema_problem,
    settings_of_record,
    stop_problem,
    time_problem,
)
from qablate.results.reading import CHANGED, COMPRESSED, Reading, read_result
from qablate.results.states import LOCAL, CellState, Found, State, Status, Verdict
from qablate.study import Cell, DatasetSpec, Study, known_dataset, selected_on_test
from qablate.variants import split_token

IDENTITY = {"model_id": "model", "task": "task", "seq_len": "length", "seed": "seed"}
R2_TOLERANCE = 1e-4
"""Of published files, which hold R2 of another summation, and of the variances, which are shipped with 9 digits."""
CURVE_TOLERANCE = 1e-9
LOG_ROUNDING = 5e-7
LEAK_MARGIN = 0.01
STANDARD_ERRORS = 4
"""An accuracy this far above that of the solver that knows the rule is none that items can give."""
DATA_SETTINGS = ("data.", "split", "dataset ")
MAX_PREDICTIONS_BYTES = 500_000_000


def state_of(study: Study, cell: Cell, path: Path | None = None) -> CellState:
    """Judge one result file of a cell, by default the study's own, by what it says, never by its age or its place.

    What other systems know of the cell: `merge(study).state_of(cell)`, which judges files the same way.
    """
    file = Found.at(LOCAL, path or study.result_path(cell))
    if not os.path.lexists(file.path):
        return CellState(State.MISSING)
    verdict = Judge(study).result(file)
    accepted = study.config["import"]["accept_selected_on_test"]
    if verdict.finishes and (accepted or not verdict.selected_on_test):
        return CellState(State.DONE if verdict.selected_on_test else verdict.state)
    known = "known only with a score selected on its test items"
    return CellState(verdict.own_state, known if verdict.own_state is State.SELECTED_ON_TEST else verdict.line)


def differences(study: Study, cell: Cell, record: Mapping[str, Any]) -> list[str]:
    """Say in which settings and data a record differs from the study, as far as it tells them; one line each."""
    found = {**settings_of_record(record), **_told_of_cell(record)}
    wanted = {**study.settings_of(cell), **_wanted_of_cell(study, cell)}
    lines = [f"{key} is {found[key]!r}, the study has {value!r}" for key, value in wanted.items()
             if found.get(key) is not None and found[key] != value]
    facts = known_dataset(study.dataset(cell.task, cell.length, cell.seed), study.results)
    if "dataset" in record and facts is not None:
        hashes = {"dataset": (record["dataset"]["dataset_sha256"], facts.sha256),
                  "split": (record["split"]["split_sha256"], facts.split_sha256)}
        lines += [f"{name} {held[:12]} is not the study's {known[:12]}" for name, (held, known) in hashes.items()
                  if known is not None and held != known]
    return lines


def _told_of_cell(record: Mapping[str, Any]) -> dict[str, Any]:
    """What a record tells of itself besides settings that a study can change."""
    shape, training = record.get("data_info", {}), record.get("training", {})
    return {
        "data.n_channels": shape.get("n_channels"),
        "data.n_outputs": shape.get("output_dim"),
        "model.chunk": record.get("model_config", {}).get("chunk"),
        **{f"model.{key}": record.get("model_config", {}).get(key, value) for key, value in AS_PUBLISHED.items()},
        **{f"training.{key}": training.get(key) for key in ("optimizer", "scheduler", "monitor")},
        "model.n_params": record["n_params"] if record["schema_version"] == 2 else None,
    }


def _wanted_of_cell(study: Study, cell: Cell) -> dict[str, Any]:
    spec = study.dataset(cell.task, cell.length, cell.seed)
    monitor = "validation MSE" if spec.info.kind == "regression" else "validation accuracy"
    wanted = {"data.n_channels": spec.n_channels, "data.n_outputs": spec.n_outputs,
              "model.chunk": study.chunk(cell.model, cell.length), "training.optimizer": "AdamW",
              "training.scheduler": "cosine per epoch", "training.monitor": monitor}
    settings = study.model_settings(cell.model, cell.length)
    wanted |= {f"model.{key}": settings.get(key, value) for key, value in AS_PUBLISHED.items()}
    sized = "chunk" not in settings and PUBLISHED_MODEL.items() <= settings.items()
    counted = published_parameters().get((split_token(cell.model)[0], spec.task, cell.length))
    return {**wanted, "model.n_params": counted} if sized and spec.variant == "published" and counted else wanted


class Refused(QablateError):
    """A file that is not used: status, reason code, and a line for people."""

    def __init__(self, status: Status, reason: str, detail: str = "") -> None:
        super().__init__(detail)
        self.status, self.reason = status, reason


class Judge:
    """Judges files by the rules and settings of one study."""

    def __init__(self, study: Study, origins: Mapping[str, str] | None = None) -> None:
        """`origins` maps the sha256 of adopted files to the system they came from."""
        self.study = study
        self.cells = frozenset(study.cells)
        self.origins = origins or {}

    def result(self, file: Found, logs: Sequence[Log] = ()) -> Verdict:
        """Judge a result file; `logs` are those of its cell in its source and complete a file that was cut off."""
        if file.path.suffix in COMPRESSED:
            return Verdict(file, "rejected", "compressed", f"is not read: unpack it to {file.path.stem}",
                           self.cell_if_any(file), system=file.source)
        return self.content(file, read_result(file.path), logs)

    def content(self, file: Found, reading: Reading, logs: Sequence[Log] = ()) -> Verdict:
        """Judge what was read of a result file."""
        cell = None
        try:
            if reading.problem:
                raise Refused("rejected", reading.problem, reading.detail)
            cell = self.cell_of(file)
            return self._judge(file, cell, reading, logs)
        except Refused as refused:
            return Verdict(file, refused.status, refused.reason, str(refused), cell or self.cell_if_any(file),
                           sha256=reading.sha256, system=self._system(file, reading, {}))

    def misplaced(self, file: Found) -> Verdict:
        """Note a result in a subfolder of a source, which is not read."""
        detail = f"lies in a subfolder, which is not read: name {file.path.parent} under systems: to count it"
        return Verdict(file, "rejected", "in_subfolder", detail, self.cell_if_any(file), system=file.source)

    def other_log(self, file: Found, cell: Cell, used: Found) -> Verdict:
        """Note a log of a cell next to the one that is used."""
        return Verdict(file, "duplicate", "second_log", f"of the same cell as {used.path}, which is used", cell,
                       system=file.source, judged="unfinished")

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
            if problem := metric_problem(record, LOG_ROUNDING) or time_problem(record):
                raise Refused("rejected", "metric_range", problem)
            self._quarantine(file, record, system, cell)
            self._settings(cell, record)
        except Refused as refused:
            return Verdict(file, refused.status, refused.reason, str(refused), cell, system=system)
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
        match = RESULT_NAME.fullmatch(file.path.stem if file.path.suffix in COMPRESSED else file.path.name)
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
            record, flags, warnings = _own_record(reading), (), ()
        else:
            raise Refused("rejected", "schema_version", f"expected 2 (published: none), found {str(version)[:40]}")
        system = self._system(file, reading, record)
        self._quarantine(file, record, system, cell)
        self._settings(cell, record)
        if version == 2:
            flags, warnings = self._hold_against_facts(file, cell, record)
        elif problem := stop_problem(record, self.study.config["training"]["patience"], exact=False):
            raise Refused("rejected", "hyperparameters", f"training.patience: {problem}")
        status: Status = record["status"]
        reason = {"diverged": "non_finite", "partial": "truncated"}.get(status, "")
        if selected_on_test(record) and not reason:
            reason = "selected_on_test"
        detail = "" if reading.whole else _what_was_lost(record, flags)
        return Verdict(file, status, reason, detail, cell, record, self._flags(cell, record, flags), warnings,
                       reading.sha256, system)

    def _hold_against_facts(self, file: Found, cell: Cell, record: Record) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Hold a sound record of schema 2 against the shipped facts and its own predictions; flags and warnings."""
        facts = known_dataset(self.study.dataset(cell.task, cell.length, cell.seed), self.study.results)
        if facts is not None and (problem := _r2_problem(record, facts) or _above_reference(record, facts)):
            raise Refused("rejected", "inconsistent", problem)
        predictions = _predictions_problem(file.path, record)
        flags = () if CHECKSUM in record else ("unchecked",)
        warnings = (*_warnings(cell, record), *filter(None, [predictions]))
        return (*flags, "other_predictions") if predictions else flags, warnings

    def _system(self, file: Found, reading: Reading, record: Mapping[str, Any]) -> str:
        """Where a result was trained: by its record, by the note of its adoption, else by its folder."""
        return str(record.get("provenance", {}).get("source") or self.origins.get(reading.sha256) or file.source)

    def _quarantine(self, file: Found, record: Record, system: str, cell: Cell) -> None:
        """Leaky Forrelation by its numbers (published files only) and whatever the study's rules name.

        A published file does not say which generator made its data. One that comes up to the solver that knows the
        rule, or to 1, had the data that give their labels away; no published model left chance on the others.
        """
        facts = {"source": (file.source, system), "task": (record["task"],), "model": (record["model_id"],),
                 "schema_version": (record["schema_version"],)}
        for rule in self.study.config["import"]["quarantine"]:
            if all(wanted in facts[key] for key, wanted in rule.items() if key != "reason"):
                asked = ", ".join(f"{key} {value}" for key, value in rule.items() if key != "reason")
                raise Refused("quarantined", rule["reason"], f"declared rule: {asked}")
        known = _published_facts(cell)
        limit = min(1.0, known.reference_accuracy or 1.0 if known else 1.0) - LEAK_MARGIN
        if selected_on_test(record) and (record["test_acc"] or 0) > limit:
            raise Refused("quarantined", "forrelation_v1", f"accuracy {record['test_acc']}, no model comes above "
                          f"{limit:.3f} here but with the dataset that gives its labels away")

    def _settings(self, cell: Cell, record: Record) -> None:
        lines = differences(self.study, cell, record)
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
            facts = known_dataset(self.study.dataset(cell.task, cell.length, cell.seed), self.study.results)
            verified = facts is not None and record["dataset"]["dataset_sha256"] == facts.sha256
        else:
            verified = "derived" not in flags and _r2_fits_dataset(cell, record)
        return (*flags, *biased, "dataset_verified" if verified else "dataset_unverified")


def _published_facts(cell: Cell) -> DatasetFacts | None:
    return published_datasets().get(DatasetSpec(cell.task, cell.length, cell.seed).identity_json)


def _r2_problem(record: Record, facts: DatasetFacts) -> str | None:
    """Say if R2 does not follow from MSE and the variance of the test targets."""
    mse, r2, variance = record.get("test_mse"), record.get("test_r2"), facts.test_target_var
    if variance is None or mse is None or r2 is None:
        return None
    follows = 1 - mse / variance
    if abs(follows - r2) <= R2_TOLERANCE * max(1.0, abs(follows)):
        return None
    return f"test_r2 {r2}, but test_mse {mse} and the variance of the test targets {variance} give {follows:.6g}"


def _above_reference(record: Record, facts: DatasetFacts) -> str | None:
    """Say if a Forrelation accuracy is above the solver that knows the rule by more than its items can explain."""
    accuracy, reference = record.get("test_acc"), facts.reference_accuracy
    if accuracy is None or reference is None:
        return None
    limit = reference + STANDARD_ERRORS * math.sqrt(reference * (1 - reference) / record["split"]["n_test"])
    if accuracy <= limit:
        return None
    return f"test_acc {accuracy} is above {limit:.3f}, more than the solver that knows the rule can do ({reference})"


def _predictions_problem(result: Path, record: Record) -> str | None:
    """Say if the predictions next to a result are others than it tells; the path inside the record is not followed."""
    path = result.with_name(result.name.removesuffix("results.json") + "predictions.npz")
    if record["predictions"] is None or not os.path.lexists(path):
        return None
    try:
        digest = hashlib.sha256(read_regular(path, MAX_PREDICTIONS_BYTES)).hexdigest()
    except OSError as error:
        return f"{path.name} cannot be read: {error.strerror or error}"
    return None if digest == record["predictions"]["sha256"] else f"{path.name} is of another run"


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


def _own_record(reading: Reading) -> Record:
    """A result of schema 2, held to its schema, to itself and to its checksum."""
    if not reading.whole:
        raise Refused("rejected", "truncated", "a result of this code is written whole: copy it again")
    _equal_lengths(reading.values)
    if problem := schema_problem(reading.values, 2):
        raise Refused("rejected", "schema", problem)
    if problem := contradiction(reading.values):
        raise Refused("rejected", "inconsistent", problem)
    if reading.changed:
        raise Refused("rejected", "changed", CHANGED)
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
    rounding = LOG_ROUNDING if "from_log" in flags else 0.0
    if problem := metric_problem(record, rounding) or time_problem(record):
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
    facts = _published_facts(cell)
    if facts is None or facts.test_target_var is None or record["test_r2"] is not None or record["test_mse"] is None:
        return ()
    record["test_r2"] = 1 - record["test_mse"] / facts.test_target_var
    return ("derived",)


def _r2_fits_dataset(cell: Cell, record: Record) -> bool:
    """Whether MSE and R2 of a published file imply the variance of the genuine test targets."""
    facts = _published_facts(cell)
    if facts is None or facts.test_target_var is None or record["test_mse"] is None or record["test_r2"] is None:
        return False
    return _r2_problem(record, facts) is None


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
    if record["schema_version"] == 1 and counted is not None and record["n_params"] != counted:
        yield f"n_params {record['n_params']}, the model has {counted}"
    if selected_on_test(record) and record["test_acc"] != record["best_val_metric"]:
        yield "test_acc differs from best_val_metric though both are of the test items"
    if record["schema_version"] == 1:    # those of schema 2 are refused for these; published ones say too little
        facts = _published_facts(cell)
        problems = grid_problem(record), facts and _r2_problem(record, facts)
        yield from filter(None, problems)


def _what_was_lost(record: Record, flags: Sequence[str]) -> str:
    metric = task_info(record["task"]).metric
    known = f"{metric} recovered" if record[metric] is not None else f"no {metric}"
    origin = {"from_log": "completed from its log", "derived": "R2 from MSE and test variance"}
    counts = "counts" if record[metric] is not None else "does not count"
    origins = [origin[flag] for flag in flags if flag in origin]
    return ", ".join(["cut off while it was written", known, *origins, counts])
