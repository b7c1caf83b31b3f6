"""The rules: what a file found in a source is worth. Reads leniently, judges strictly.

A rule looks at one case and yields why the file is not used: status, reason code, and a line that names what was
expected and what was found. The first of `RULES` that yields decides; what passes them all is used.
"""

import functools
import itertools
import math
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from qablate.catalog import AS_PUBLISHED, task_info
from qablate.errors import one_line
from qablate.goldens import PUBLISHED_MODEL, DatasetFacts, published_parameters
from qablate.logs import Log
from qablate.records import (
    ADDED_KEYS,
    CHECKSUM,
    CURVE_TOLERANCE,
    CURVES,
    METRICS,
    Record,
    best_of_curve,
    contradictions,
    first,
    grid_problems,
    identity_problems,
    length_problems,
    number_problems,
    schema_problems,
    settings_of_record,
    stop_problems,
)
from qablate.results.reading import CHANGED, Reading, predictions_problem, read_result
from qablate.results.states import COMPRESSED, LOCAL, NAMELESS, CellState, Found, State, Status, Verdict
from qablate.study import Cell, Study, known_dataset, selected_on_test
from qablate.variants import split_token

R2_TOLERANCE = 1e-4
"""Of published files, which hold R2 of another summation, and of the variances, which are shipped with 9 digits."""
LOG_ROUNDING = 5e-7
LEAK_MARGIN = 0.01
STANDARD_ERRORS = 4
"""An accuracy this far above that of the solver that knows the rule is none that items can give."""
DATA_SETTINGS = ("data.", "split", "dataset ")

Refusals = Iterator[tuple[Status, str, str]]
"""Status, reason code, and a line for people; an empty line refuses nothing."""


def state_of(study: Study, cell: Cell, path: Path | None = None) -> CellState:
    """Judge one result file of a cell, by default the study's own, by what it says, never by its age or its place.

    What other systems know of the cell: `merge(study).state_of(cell)`, which judges files the same way.
    """
    file = Found.at(LOCAL, path or study.result_path(cell))
    if not os.path.lexists(file.path):
        return CellState(State.MISSING)
    verdict = judge(study, file)
    accepted = study.config["import"]["accept_selected_on_test"]
    if verdict.finishes and (accepted or not verdict.selected_on_test):
        return CellState(State.DONE if verdict.selected_on_test else verdict.state)
    known = "known only with a score selected on its test items"
    return CellState(verdict.own_state, known if verdict.own_state is State.SELECTED_ON_TEST else verdict.line)


@dataclass
class Case:
    """A file on its way through the rules: what was read, later also what it says in the shape of schema 2.

    `logs` are those of its cell in its source and complete a file that was cut off; `origin` is the system that an
    adopted file came from, empty for others.
    """

    study: Study
    file: Found
    cell: Cell
    reading: Reading
    logs: Sequence[Log] = ()
    origin: str = ""
    record: Record = field(default_factory=dict)
    flags: tuple[str, ...] = ()

    @property
    def own(self) -> bool:
        """Whether the record has schema 2."""
        return bool(self.record["schema_version"] == 2)

    @functools.cached_property
    def facts(self) -> DatasetFacts:
        """What is known of the cell's dataset."""
        spec = self.study.dataset(self.cell.task, self.cell.length, self.cell.seed)
        return known_dataset(spec, self.study.results) or DatasetFacts("")

    @functools.cached_property
    def predictions_problem(self) -> str:
        """Say if the predictions next to a result of schema 2 are not those it tells of."""
        return predictions_problem(self.file.path, self.record) if self.own else ""

    @property
    def system(self) -> str:
        """Where a result was trained: by its record, by the note of its adoption, else by its folder."""
        return str(self.record.get("provenance", {}).get("source") or self.origin or self.file.source)


def judge(study: Study, file: Found, logs: Sequence[Log] = (), origins: Mapping[str, str] | None = None) -> Verdict:
    """Judge a result file; `origins` maps the sha256 of adopted files to the system they came from."""
    if file.path.suffix in COMPRESSED:
        return Verdict(file, "rejected", "compressed", f"is not read: unpack it to {file.path.stem}", file.cell,
                       system=file.source)
    reading = read_result(file.path)
    return judge_content(study, file, reading, logs, (origins or {}).get(reading.sha256, ""))


def judge_content(study: Study, file: Found, reading: Reading, logs: Sequence[Log] = (), origin: str = "") -> Verdict:
    """Judge what was read of a result file; `origin` is the system that an adopted one came from."""
    case = Case(study, file, file.cell, reading, logs, origin)
    if refused := _refused(case, RULES):
        return Verdict(file, *refused, file.cell, sha256=reading.sha256, system=origin or file.source)
    status, biased = case.record["status"], "selected_on_test" if selected_on_test(case.record) else ""
    reason = {"diverged": "non_finite", "partial": "truncated"}.get(status, biased)
    return Verdict(file, status, reason, "" if reading.whole else _what_was_lost(case), case.cell, case.record,
                   _flags(case), tuple(_warnings(case)), reading.sha256, case.system)


def judge_log(study: Study, file: Found, log: Log) -> Verdict:
    """Judge a log whose result file is missing or unusable."""
    cell = log.cell
    assert cell is not None
    case = Case(study, file, cell, Reading(), flags=("from_log",))
    if refused := _refused(case, (not_in_study, lambda case: _take_log(case, log), quarantined, other_settings)):
        return Verdict(file, *refused, cell, system=file.source)
    detail = f"no result file; curve and scores as {log.path.name} prints them, 4 to 6 decimals"
    return Verdict(file, case.record["status"], "from_log", detail, cell, case.record, _flags(case),
                   system=case.system)


def _refused(case: Case, rules: Iterable[Callable[[Case], Refusals]]) -> tuple[Status, str, str] | None:
    refusals = itertools.chain.from_iterable(rule(case) for rule in rules)
    return next(((status, reason, one_line(detail)) for status, reason, detail in refusals if detail), None)


# ---- rules of any file


def unreadable(case: Case) -> Refusals:
    """What is no file of JSON."""
    if case.reading.problem:
        yield "rejected", case.reading.problem, case.reading.detail or "nothing more is known"


def not_in_study(case: Case) -> Refusals:
    """Its name must stand for a cell of the study."""
    if case.cell == NAMELESS:
        yield ("rejected", "file_name",
               "expected synthetic_MODEL_TASK_L100_seed2024_results.json, found another name")
    elif case.cell not in case.study.cell_set:
        yield "rejected", "not_in_study", f"{case.cell.name} is no cell of study '{case.study.name}'"


def other_cell(case: Case) -> Refusals:
    """Its name and its content must mean the same cell."""
    values, whole = case.reading.values, case.reading.whole
    named = dict(zip(("model_id", "task", "seq_len", "seed"), vars(case.cell).values(), strict=True))
    for key, value in named.items():
        if key not in values:
            yield "rejected", *(("schema", f"key {key} is missing") if whole else ("truncated", f"ends before {key}"))
        elif values[key] != value or isinstance(values[key], bool):
            yield "rejected", "name_mismatch", f"{key}: the name says {value}, the content {str(values[key])[:40]}"


def unsound(case: Case) -> Refusals:
    """It must be a result of schema 1 or 2, by its schema and by itself; it is taken as a record then."""
    version = case.reading.values.get("schema_version", 1)
    if version == 2:
        case.record = case.reading.values
        if not case.reading.whole:
            yield "rejected", "truncated", "a result of this code is written whole: copy it again"
        yield "rejected", "schema", first(schema_problems(case.record, 2))
        yield "rejected", "history_lengths", first(length_problems(case.record))
        yield "rejected", "inconsistent", first(contradictions(case.record))
        yield "rejected", "changed", CHANGED if case.reading.changed else ""
    elif version == 1 and not isinstance(version, bool) and not ADDED_KEYS & case.reading.values.keys():
        yield from _unsound_published(case)
    else:
        yield "rejected", "schema_version", f"expected 2 (published: none), found {str(version)[:40]}"


def quarantined(case: Case) -> Refusals:
    """Whatever the study's rules name, and leaky Forrelation by its numbers (published files only).

    A published file does not say which generator made its data. One that comes up to the solver that knows the rule, or
    to 1, had the data that give their labels away; no published model left chance on the others.
    """
    record = case.record
    held = {"source": (case.file.source, case.system), "task": (record["task"],), "model": (record["model_id"],),
            "schema_version": (record["schema_version"],)}
    for rule in case.study.config["import"]["quarantine"]:
        wanted = {key: value for key, value in rule.items() if key != "reason"}
        if all(value in held[key] for key, value in wanted.items()):
            told = ", ".join(f"{key} {value}" for key, value in wanted.items())
            yield "quarantined", rule["reason"], f"declared rule: {told}"
    limit = (case.facts.reference_accuracy or 1.0) - LEAK_MARGIN
    if selected_on_test(record) and (record["test_acc"] or 0) > limit:
        yield ("quarantined", "forrelation_v1", f"accuracy {record['test_acc']}, no model comes above {limit:.3f} here "
               "but with the dataset that gives its labels away")


def other_settings(case: Case) -> Refusals:
    """It must be made with the study's settings, code and data, as far as it tells them."""
    lines = differences(case.study, case.cell, case.record)
    if all(line.startswith("model_code_version") for line in lines):
        yield "rejected", "code_version", "; ".join(lines)
    elif all(line.startswith(DATA_SETTINGS) for line in lines):
        yield "quarantined", "dataset_mismatch", "; ".join(lines)
    else:
        yield "rejected", "hyperparameters", "; ".join(lines)


def against_facts(case: Case) -> Refusals:
    """Schema 2 must agree with what is known of its data, a published curve end by the study's patience."""
    if case.own:
        yield "rejected", "inconsistent", first(_r2_problems(case), _reference_problems(case))
    else:
        problem = first(stop_problems(case.record, case.study.config["training"]["patience"], exact=False))
        yield "rejected", "hyperparameters", problem and f"training.patience: {problem}"


RULES = (unreadable, not_in_study, other_cell, unsound, quarantined, other_settings, against_facts)


# ---- what a record tells of its settings


def differences(study: Study, cell: Cell, record: Mapping[str, Any]) -> list[str]:
    """Say in which settings and data a record differs from the study, as far as it tells them; one line each."""
    spec, settings = study.dataset(cell.task, cell.length, cell.seed), study.model_settings(cell.model, cell.length)
    shape, training, config = (record.get(key, {}) for key in ("data_info", "training", "model_config"))
    found = {
        **settings_of_record(record), **{f"model.{key}": config.get(key, value) for key, value in AS_PUBLISHED.items()},
        "model.chunk": config.get("chunk"), "data.n_channels": shape.get("n_channels"),
        "data.n_outputs": shape.get("output_dim"),
        **{f"training.{key}": training.get(key) for key in ("optimizer", "scheduler", "monitor")},
    }
    wanted = {
        **study.settings_of(cell), **{f"model.{key}": settings.get(key, value) for key, value in AS_PUBLISHED.items()},
        "model.chunk": study.chunk(cell.model, cell.length), "data.n_channels": spec.n_channels,
        "data.n_outputs": spec.n_outputs, "training.optimizer": "AdamW", "training.scheduler": "cosine per epoch",
        "training.monitor": "validation MSE" if spec.info.kind == "regression" else "validation accuracy",
    }
    counted = published_parameters().get((split_token(cell.model)[0], spec.task, cell.length))
    sized = "chunk" not in settings and PUBLISHED_MODEL.items() <= settings.items() and spec.variant == "published"
    if record["schema_version"] == 2 and sized and counted:
        found["model.n_params"], wanted["model.n_params"] = record["n_params"], counted
    lines = [f"{key} is {found[key]!r}, the study has {value!r}" for key, value in wanted.items()
             if found.get(key) is not None and found[key] != value]
    facts = known_dataset(spec, study.results) or DatasetFacts("")
    for name, known in (("dataset", facts.sha256), ("split", facts.split_sha256)):
        held = record.get(name, {}).get(f"{name}_sha256")
        if known and held and held != known:
            lines.append(f"{name} {held[:12]} is not the study's {known[:12]}")
    return lines


def _r2_problems(case: Case) -> Iterator[str]:
    """R2 must follow from MSE and the variance of the test targets."""
    mse, r2, variance = case.record.get("test_mse"), case.record.get("test_r2"), case.facts.test_target_var
    if variance and mse is not None and r2 is not None:
        follows = 1 - mse / variance
        if abs(follows - r2) > R2_TOLERANCE * max(1.0, abs(follows)):
            yield f"test_r2 {r2}, but test_mse {mse} and the variance of the test targets {variance} give {follows:.6g}"


def _reference_problems(case: Case) -> Iterator[str]:
    """No Forrelation accuracy is above the solver that knows the rule by more than its items can explain."""
    accuracy, known = case.record.get("test_acc"), case.facts.reference_accuracy
    if accuracy is not None and known:
        limit = known + STANDARD_ERRORS * math.sqrt(known * (1 - known) / case.record["split"]["n_test"])
        if accuracy > limit:
            yield f"test_acc {accuracy} is above {limit:.3f}, more than the solver that knows the rule can do ({known})"


# ---- published files (schema 1) and logs, in the shape of schema 2


def _unsound_published(case: Case) -> Refusals:
    """By schema 1, with zeros for numbers that are not finite and for keys that were cut off; then completed."""
    values, whole = case.reading.values, case.reading.whole
    if "history" not in values:
        yield "rejected", "schema" if whole else "truncated", f"no history, ends after {next(reversed(values))}"
    metrics = ("best_val_metric", *METRICS[task_info(case.cell.task).kind])
    ending = {**dict.fromkeys((*metrics, "baseline", "training_time"), 0.0), "epochs_trained": 1,
              "timestamp": "00000000_000000"}
    shape = values if whole else {**ending, **values}
    shape = {**shape, **{key: 0.0 for key in metrics if key in shape and shape[key] is None}}
    if isinstance(shape["history"], dict):
        shape["history"] = {key: [0.0 if value is None else value for value in curve] if isinstance(curve, list) else
                            curve for key, curve in shape["history"].items()}
    yield "rejected", "schema", first(schema_problems(shape, 1), identity_problems(shape))
    yield "rejected", "history_lengths", first(length_problems(values))
    _take_published(case)
    yield "rejected", "metric_range", _impossible_number(case)


def _take_published(case: Case) -> None:
    """Every published key in its order, None where the file ended before it; AUC 0.0 meant `cannot be computed`.

    What was cut off is completed: from the first log that agrees with what is left, in the log's own digits; R2 by its
    definition from the MSE, where the variance of the test targets is known.
    """
    values, task = case.reading.values, task_info(case.cell.task)
    metrics, curves = METRICS[task.kind], values["history"]
    keys = ("best_val_metric", *metrics, "baseline", "training_time", "epochs_trained", "timestamp")
    case.record = record = {**values, **{key: values.get(key) for key in keys}, "schema_version": 1}
    record["epochs_trained"] = len(curves["epochs"])
    if "best_val_metric" not in values and None not in curves["val_metric"]:
        record["best_val_metric"] = best_of_curve(record)
    if record["baseline"] is None:
        record["baseline"] = task.nominal_baseline
    if record.get("test_auc") == 0.0:
        record["test_auc"] = None
    cut = not case.reading.whole
    if cut:
        log = next((log for log in case.logs if log.agrees_with(record)), None)
        filled = {key: log.results[key] for key in (*metrics, "training_time")
                  if record[key] is None and log.results.get(key) is not None} if log else {}
        record |= filled
        case.flags = ("salvaged", "from_log") if filled else ("salvaged",)
        variance = case.facts.test_target_var
        if variance and record["test_r2"] is None and record["test_mse"] is not None:
            record["test_r2"] = 1 - record["test_mse"] / variance
            case.flags += ("derived",)
    stored = [values[key] for key in ("best_val_metric", *metrics) if key in values]
    broken = None in stored or any(None in curves[key] for key in CURVES)
    diverged = broken and not (cut and metrics[0] not in values)
    record["status"] = "diverged" if diverged else "partial" if cut else "ok"


def _take_log(case: Case, log: Log) -> Refusals:
    record = log.record()
    values = [*record["history"]["val_metric"], record[METRICS[record["task_type"]][0]]]
    case.record = record | {"schema_version": 1, "status": "diverged" if None in values else "partial"}
    yield "rejected", "metric_range", _impossible_number(case)


def _impossible_number(case: Case) -> str:
    return first(number_problems(case.record, LOG_ROUNDING if "from_log" in case.flags else 0.0))


# ---- what is said of a file that is used


def _flags(case: Case) -> tuple[str, ...]:
    """How it was completed, and what follows from the record; an R2 that was derived says nothing about the data."""
    record, facts = case.record, case.facts
    if case.own:
        verified = record["dataset"]["dataset_sha256"] == facts.sha256
    else:
        told = None not in (facts.test_target_var, record.get("test_mse"), record.get("test_r2"))
        verified = told and "derived" not in case.flags and not first(_r2_problems(case))
    marks = {"unchecked": case.own and CHECKSUM not in record, "other_predictions": case.predictions_problem,
             "selected_on_test": selected_on_test(record)}
    return (*case.flags, *(flag for flag, marked in marks.items() if marked),
            "dataset_verified" if verified else "dataset_unverified")


def _warnings(case: Case) -> Iterator[str]:
    """What is odd about a record and changes nothing."""
    record, history, n = case.record, case.record["history"], case.record["epochs_trained"]
    if history["epochs"] != list(range(1, n + 1)):
        yield "history.epochs does not count from 1"
    finite = record["best_val_metric"] is not None and None not in history["val_metric"]
    if finite and abs(record["best_val_metric"] - best_of_curve(record)) > CURVE_TOLERANCE:
        yield "best_val_metric is not the best of its curve"
    rate, period = record["hyperparameters"]["learning_rate"], record["hyperparameters"]["n_epochs"]
    cosine = (rate / 2 * (1 + math.cos(math.pi * epoch / period)) for epoch in range(n))
    if any(found is None or abs(found - wanted) > CURVE_TOLERANCE
           for found, wanted in zip(history["lr"], cosine, strict=True)):
        yield "history.lr is not the cosine of its settings"
    if not case.own:    # those of schema 2 are refused for these; published ones say too little
        counted = published_parameters().get((case.cell.model, case.cell.task, case.cell.length))
        if counted is not None and record["n_params"] != counted:
            yield f"n_params {record['n_params']}, the model has {counted}"
        if selected_on_test(record) and record["test_acc"] != record["best_val_metric"]:
            yield "test_acc differs from best_val_metric though both are of the test items"
        yield from filter(None, (first(grid_problems(record)), first(_r2_problems(case))))
    if case.predictions_problem:
        yield case.predictions_problem


def _what_was_lost(case: Case) -> str:
    metric, origin = task_info(case.cell.task).metric, {"from_log": "completed from its log",
                                                        "derived": "R2 from MSE and test variance"}
    recovered, origins = case.record[metric] is not None, [origin[flag] for flag in case.flags if flag in origin]
    return ", ".join(["cut off while it was written", f"{metric} recovered" if recovered else f"no {metric}", *origins,
                      "counts" if recovered else "does not count"])
