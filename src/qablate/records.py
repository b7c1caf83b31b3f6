"""The result JSON of one cell: checked before it is written, checked again when it is read.

Schema 1 is what the published code writes, schema 2 adds what a result needs to be judged later: status, dataset,
split, seeds, provenance. Files are untrusted: size, depth, numbers and the agreement of the parts are checked, and no
path inside a record is ever followed.
"""

import functools
import json
import math
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import fastjsonschema

from qablate.catalog import MODELS, TASKS
from qablate.errors import QablateError
from qablate.files import packaged_text, write_atomic

Record = dict[str, Any]
MAX_RECORD_BYTES = 8_000_000
RESULT_NAME = re.compile(
    r"synthetic_(?P<model>[A-Za-z0-9-]+)_(?P<task>[a-z]+(?:_[a-z]+)*)_L(?P<length>[0-9]+)_seed(?P<seed>[0-9]+)_results\.json"
)
METRICS = {
    "regression": ("test_mse", "test_mae", "test_r2"),
    "classification": ("test_acc", "test_auc", "test_f1", "test_loss"),
}
CURVES = ("train_loss", "train_metric", "val_loss", "val_metric")
HISTORY = (*CURVES, "epochs", "lr")
"""The lists in `history` of a result, one entry an epoch."""
ADDED_KEYS = {"status", "dataset", "split", "seeds", "training", "model_config", "provenance"}
"""Keys that only schema 2 has: a file that holds one of them is no published one."""


class RecordError(QablateError):
    """A result that is not one: unreadable, incomplete, or at odds with itself."""


def write_record(
    path: Path, record: Mapping[str, Any], write: Callable[[Path, bytes], object] = write_atomic
) -> Record:
    """Check a result, then write it whole or not at all; return it as it was written (plain Python types)."""
    plain = plain_types(record)
    check_record(plain, path)
    text = json.dumps(plain, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    write(path, text.encode("utf-8"))
    return plain


def read_record(path: Path) -> Record:
    """Read and check one result file.

    Published files come back with `schema_version` 1 and `status` "ok" filled in. Raises RecordError with one line
    that names the file and what is wrong with it.
    """
    try:
        if not path.is_file():
            raise RecordError(f"{path}: not a file")
        size = path.stat().st_size
        if size > MAX_RECORD_BYTES:
            raise RecordError(f"{path}: {size} bytes, a result has at most {MAX_RECORD_BYTES}")
        content = path.read_bytes()
    except OSError as error:
        raise RecordError(f"{path}: cannot read: {error.strerror or error}") from error
    record = parse_record(content, path)
    _check_name(record, path)
    return record


def parse_record(content: bytes, path: Path) -> Record:
    """Turn the bytes of a result file into a checked record; `path` only names it in errors."""
    if not content.strip():
        raise RecordError(f"{path}: empty file")
    try:
        record = json.loads(content.decode("utf-8"), object_pairs_hook=unrepeated, parse_constant=_refuse,
                            parse_float=_finite, parse_int=_small)
    except (ValueError, RecursionError) as error:
        raise RecordError(f"{path}: not valid JSON: {str(error)[:120]}") from error
    if not isinstance(record, dict):
        raise RecordError(f"{path}: holds no JSON object")
    if "schema_version" not in record and ADDED_KEYS & record.keys():
        raise RecordError(f"{path}: schema_version is missing")
    record.setdefault("schema_version", 1)
    if record["schema_version"] == 1:
        record.setdefault("status", "ok")
    check_record(record, path)
    return record


def unrepeated(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return a JSON object whose keys differ; ValueError for a key that stands twice: one value would be lost."""
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key stands twice")
    return found


def _small(token: str) -> int:
    """An integer that fits 64 bits: larger ones are no count, and fail where they meet a float."""
    value = int(token)
    if abs(value) >= 2**63:
        raise ValueError(f"{token[:40]} does not fit 64 bits")
    return value


def _refuse(token: str) -> float:
    raise ValueError(f"{token} is not a JSON number")


def _finite(token: str) -> float:
    value = float(token)
    if not math.isfinite(value):
        raise ValueError(f"{token} does not fit a float")
    return value


def check_record(record: Mapping[str, Any], path: Path) -> None:
    """Raise RecordError unless the record satisfies its schema and its parts agree with each other."""
    version = record.get("schema_version", 1)
    if type(version) is not int or version not in (1, 2):
        raise RecordError(f"{path}: schema_version {str(version)[:40]!r}, known are 1 and 2")
    if problem := schema_problem(record, version):
        raise RecordError(f"{path}: {problem}")
    checks = (identity_problem, _check_history, _check_best, metric_problem)
    for check in checks if version == 1 else (*checks, _check_added):
        if problem := check(record):
            raise RecordError(f"{path}: {problem}")


def schema_problem(record: Mapping[str, Any], version: int) -> str | None:
    """Say in one line what a record lacks or has wrong by the JSON Schema of its version; None if nothing."""
    try:
        _validator(version)(record)
    except fastjsonschema.JsonSchemaException as error:
        return _readable(error)
    return None


@functools.cache
def _validator(version: int) -> Callable[[Any], Any]:
    schema = json.loads(packaged_text(f"schemas/result-{version}.schema.json"))
    return fastjsonschema.compile(schema, detailed_exceptions=True)


def _readable(error: fastjsonschema.JsonSchemaException) -> str:
    """`data.training.patience must be integer` without the long list of what was found."""
    return str(error)[:200].replace("data.", "", 1)


def identity_problem(record: Mapping[str, Any]) -> str | None:
    """Say if the model's group, the task's kind or the number of steps are not those of the record's ids."""
    model, task = MODELS[record["model_id"]], TASKS[record["task"]]
    if record["task_type"] != task.kind:
        return f"task_type {record['task_type']!r} for task {task.id!r}, which is {task.kind}"
    if record["model_info"]["group"] != model.group:
        return f"model_info.group {record['model_info']['group']} for model {model.id}, which is in group {model.group}"
    if record["data_info"]["n_timesteps"] != record["seq_len"]:
        return f"data_info.n_timesteps {record['data_info']['n_timesteps']} but seq_len {record['seq_len']}"
    return None


def _check_history(record: Mapping[str, Any]) -> str | None:
    history, n = record["history"], record["epochs_trained"]
    for key in HISTORY:
        if len(history[key]) != n:
            return f"history.{key} has {len(history[key])} entries for {n} epochs"
    if history["epochs"] != list(range(1, len(history["epochs"]) + 1)):
        return "history.epochs does not count from 1"
    if n > record["hyperparameters"]["n_epochs"]:
        return f"epochs_trained {n}, at most {record['hyperparameters']['n_epochs']} were asked for"
    if record["status"] == "ok" and any(None in history[key] for key in ("train_loss", "val_loss", "val_metric")):
        return "history has empty values though the status is ok"
    return None


def _check_best(record: Mapping[str, Any]) -> str | None:
    """The best validation value must be one of the curve's and, for a finished run, its best."""
    best, curve = record["best_val_metric"], [v for v in record["history"]["val_metric"] if v is not None]
    if record["status"] != "ok":
        return None
    if best is None:
        return "best_val_metric is empty though the status is ok"
    expected = (min if record["task_type"] == "regression" else max)(curve)
    if abs(best - expected) > 1e-9:
        return f"best_val_metric {best} is not the best of its curve, {expected}"
    return None


def metric_problem(record: Mapping[str, Any]) -> str | None:
    """Say if a test metric is missing though the status is ok, of the other kind of task, or out of its range."""
    kind, ok = record["task_type"], record["status"] == "ok"
    other = METRICS["classification" if kind == "regression" else "regression"]
    for key in METRICS[kind]:
        if ok and record[key] is None and key != "test_auc":
            return f"{key} is empty though the status is ok"
    for key in other:
        if record.get(key) is not None:
            return f"{key} in a {kind} result"
    for key in ("test_acc", "test_auc", "test_f1"):
        value = record.get(key)
        if value is not None and not 0 <= value <= 1:
            return f"{key} {value} is not between 0 and 1"
    for key in ("test_mse", "test_mae", "test_loss"):
        if (record.get(key) or 0) < 0:
            return f"{key} {record[key]} is negative"
    return None


def _check_added(record: Mapping[str, Any]) -> str | None:
    """What schema 2 says twice must be the same: status and reason, best epoch and curve, seeds, sizes, key."""
    training, split, curve = record["training"], record["split"], record["history"]["val_metric"]
    diverged, best = record["status"] == "diverged", training["best_epoch"]
    if (training["stop_reason"] == "non_finite") != diverged or (training["diverged_epoch"] is not None) != diverged:
        return f"status {record['status']!r} with stop_reason {training['stop_reason']!r}"
    held = curve[best - 1] if best is not None and 0 < best <= len(curve) else None
    if record["status"] == "ok" and held != record["best_val_metric"]:
        return f"training.best_epoch {best} is not the epoch of best_val_metric"
    if split["n_train"] + split["n_val"] + split["n_test"] != record["dataset"]["n_samples"]:
        return "split: n_train, n_val and n_test do not add up to dataset.n_samples"
    if not record["seed"] == record["dataset"]["data_seed"] == split["split_seed"] == record["seeds"]["data"]:
        return f"seed {record['seed']}, but other seeds in dataset, split or seeds"
    return None


def _check_name(record: Mapping[str, Any], path: Path) -> None:
    found = RESULT_NAME.fullmatch(path.name)
    if found is None:
        raise RecordError(f"{path}: not the name of a result file (synthetic_MODEL_TASK_L100_seed2024_results.json)")
    named = (found["model"], found["task"], int(found["length"]), int(found["seed"]))
    held = (record["model_id"], record["task"], record["seq_len"], record["seed"])
    if named != held:
        raise RecordError(f"{path}: the name says {named}, the content {held}")


def settings_of_record(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings a record was made with under the names of `Study.settings_of`, as far as it holds them.

    What was read from a log alone holds few.
    """
    hyper = record["hyperparameters"]
    names = {
        **{key: f"model.{key}" for key in ("n_qubits", "n_layers", "d_model", "d_state")},
        **{key: f"training.{key}" for key in ("batch_size", "learning_rate", "weight_decay")},
        "n_epochs": "training.max_epochs",
    }
    settings = {name: hyper[key] for key, name in names.items() if key in hyper}
    if record["schema_version"] == 1:
        return {**settings, "training.recipe": "published", "data.variant": "published", "model_code_version": 1}
    return {
        **settings,
        "model.n_heads": record["model_config"]["n_heads"],
        "model.dropout": record["training"]["dropout"],
        "training.recipe": record["recipe"],
        "training.patience": record["training"]["patience"],
        "training.clip_norm": record["training"]["clip_norm"],
        "data.generator": record["dataset"]["generator"],
        "data.n_samples": record["dataset"]["n_samples"],
        "data.variant": record["dataset"]["variant"],
        "split_id": record["split"]["split_id"],
        "model_code_version": record["model_config"]["model_code_version"],
    }


def plain_types(value: Any) -> Any:
    """Turn numpy scalars, arrays and tensors into Python numbers and lists; non-finite numbers become None."""
    if isinstance(value, Mapping):
        return {str(key): plain_types(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain_types(item) for item in value]
    if hasattr(value, "tolist"):
        return plain_types(value.tolist())
    if isinstance(value, bool | int | str) or value is None:
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    raise RecordError(f"a result cannot hold a value of type {type(value).__name__}")
