"""The result JSON of one cell: checked before it is written and when it is read (`qablate.results.reading`).

Schema 1 is what the published code writes, schema 2 adds what a result needs to be judged later: status, dataset,
split, seeds, provenance. Files are untrusted: size, depth, numbers and the agreement of the parts are checked, and no
path inside a record is ever followed.
"""

import functools
import hashlib
import itertools
import json
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import fastjsonschema

from qablate.catalog import METRICS, MODEL_TOKEN, MODELS, TAG, TASK_TOKEN, TASKS
from qablate.errors import QablateError
from qablate.files import packaged_text, write_atomic
from qablate.variants import split_token

Record = dict[str, Any]
Problems = Iterator[str]
"""Lines that say what is wrong with a record, in the order of how much hangs on it; none if nothing is."""
MAX_RECORD_BYTES = 8_000_000
RESULT_NAME = re.compile(
    rf"synthetic_(?P<model>{MODEL_TOKEN})_(?P<task>{TASK_TOKEN})"
    r"_L(?P<length>[1-9][0-9]{0,11})_seed(?P<seed>0|[1-9][0-9]{0,11})_results\.json"
)
SELECTED = "legacy_acc_selected_on_holdout"
"""Accuracy by the published rule: of the epoch that scores best on the items it reports."""
CURVES = ("train_loss", "train_metric", "val_loss", "val_metric")
SCORES = tuple(itertools.chain.from_iterable(METRICS.values()))
"""Test metrics of a result, of whichever kind of task."""
HISTORY = (*CURVES, "epochs", "lr")
"""The lists in `history` of a result, one entry per epoch."""
ADDED_KEYS = {"status", "dataset", "split", "seeds", "training", "model_config", "provenance"}
"""Keys that only schema 2 has: a file that holds one of them is no published one."""
CHECKSUM = "content_sha256"
PUBLISHED_PARTS = {"train": 4000, "val": 1000, "test": 1000}
"""Items that accuracies of published files are counted on: their hold-out validates and tests at once."""
LARGEST_COUNT = 2**53
"""Whole floats beyond this no longer tell one integer from the next."""
ROUNDING, CURVE_TOLERANCE = 1e-6, 1e-9


def companion(result: Path, ending: str) -> Path:
    """Return the file of the same stem next to a result: `predictions.npz`, `model.pt`."""
    return result.with_name(result.name.removesuffix("results.json") + ending)


class RecordError(QablateError):
    """A result that is not one: unreadable, incomplete, or at odds with itself."""


def write_record(
    path: Path, record: Mapping[str, Any], write: Callable[[Path, bytes], object] = write_atomic
) -> Record:
    """Check a result, then write it whole or not at all; return it as it was written with its checksum."""
    plain = plain_types(record)
    plain[CHECKSUM] = content_sha256(plain)
    check_record(plain, path)
    text = json.dumps(plain, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    write(path, text.encode("utf-8"))
    return plain


def content_sha256(record: Mapping[str, Any]) -> str:
    """Hash of all that a record says, but for this hash and keys that begin with an underscore (notes of others).

    Whole floats count as integers, so that a file written again by a program that has no integers keeps its hash.
    """
    return sha256_of_json(_whole_as_integers(
        {key: value for key, value in record.items() if key != CHECKSUM and not key.startswith("_")}))


def sha256_of_json(value: object) -> str:
    """Hex sha256 of a value as canonical JSON."""
    return hashlib.sha256(canonical_json(value).encode("ascii")).hexdigest()


def canonical_json(value: object) -> str:
    """Serialise with sorted keys, no spaces and ASCII only, so that equal values give equal bytes."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def _whole_as_integers(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _whole_as_integers(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_whole_as_integers(item) for item in value]
    return int(value) if isinstance(value, float) and value.is_integer() and abs(value) < LARGEST_COUNT else value


def integers_as_such(values: Record) -> Record:
    """Return a record in which `3.0` is 3 where its schema asks for an integer: R, MATLAB and jq write them so."""
    version = _whole_as_integers(values.get("schema_version", 1))
    if type(version) is not int or version not in (1, 2):
        return values
    with_version = {**values, "schema_version": version} if "schema_version" in values else values
    return _by_schema(with_version, _schema(version))


def _by_schema(value: Any, schema: Mapping[str, Any]) -> Any:
    for choice in (schema, *schema.get("anyOf", ())):
        if isinstance(value, dict) and "properties" in choice:
            rules = choice["properties"]
            return {key: _by_schema(item, rules.get(key, {})) for key, item in value.items()}
        if isinstance(value, list) and "items" in choice:
            return [_by_schema(item, choice["items"]) for item in value]
    return _whole_as_integers(value) if "integer" in schema.get("type", ()) else value


def check_record(record: Mapping[str, Any], path: Path) -> None:
    """Raise RecordError unless a record satisfies schema 2 and its parts agree with each other."""
    if problem := first(schema_problems(record, 2), contradictions(record)):
        raise RecordError(f"{path}: {problem}")


def first(*problems: Iterable[str]) -> str:
    """Return the first problem, "" if there is none; what comes after it is not looked for."""
    return next(itertools.chain(*problems), "")


def schema_problems(record: Mapping[str, Any], version: int) -> Problems:
    """What a record lacks or has wrong by the JSON Schema of its version."""
    try:
        _validator(version)(record)
    except fastjsonschema.JsonSchemaException as error:
        yield str(error)[:200].replace("data.", "", 1)    # without the long list of what was found


@functools.cache
def _validator(version: int) -> Callable[[Any], Any]:
    return fastjsonschema.compile(_schema(version), detailed_exceptions=True)


@functools.cache
def _schema(version: int) -> dict[str, Any]:
    schema: dict[str, Any] = json.loads(packaged_text(f"schemas/result-{version}.schema.json"))
    rules = schema["properties"]
    for key, ids in (("model_id", MODELS), ("task", TASKS)):
        rules[key] = {"enum": list(ids)} if version == 1 else {"type": "string", "maxLength": 200,
                                                               "pattern": f"^({'|'.join(ids)})(-{TAG})*$"}
    for key, attribute in (("feat", "features"), ("mix", "mixing"), ("type", "architecture")):
        known = {getattr(info, attribute) for info in MODELS.values()}
        rules["model_info"]["properties"][key] = {"enum": sorted(known)}
    return schema


def contradictions(record: Mapping[str, Any]) -> Problems:
    """What a record of schema 2, sound by its schema, says that cannot be: nothing else is read if its parts differ."""
    for rule in (identity_problems, length_problems, _curve_problems, number_problems, grid_problems, _status_problems,
                 _size_problems, _key_problems, _variant_problems):
        yield from rule(record)
    yield from stop_problems(record, record["training"]["patience"], exact=True)


def identity_problems(record: Mapping[str, Any]) -> Problems:
    """The model's group, the task's kind and the number of steps must be those of the record's ids."""
    model, task = MODELS[record["model_id"]], TASKS[record["task"]]
    group, steps = record["model_info"]["group"], record["data_info"]["n_timesteps"]
    if record["task_type"] != task.kind:
        yield f"task_type {record['task_type']!r} for task {task.id!r}, which is {task.kind}"
    if group != model.group:
        yield f"model_info.group {group} for model {model.id}, which is in group {model.group}"
    if steps != record["seq_len"]:
        yield f"data_info.n_timesteps {steps} but seq_len {record['seq_len']}"


def length_problems(record: Mapping[str, Any]) -> Problems:
    """All curves must have one value per epoch; those of a file cut before `epochs_trained` as many as `epochs`."""
    history = record["history"]
    n = record.get("epochs_trained", len(history["epochs"]))
    for key in HISTORY:
        if len(history[key]) != n:
            yield f"history.{key} has {len(history[key])} entries for {n} epochs"


def _curve_problems(record: Mapping[str, Any]) -> Problems:
    """Epochs must count from 1 to the limit, and the best validation value of a finished run must be on its curve."""
    history, n, best = record["history"], record["epochs_trained"], record["best_val_metric"]
    if history["epochs"] != list(range(1, n + 1)):
        yield "history.epochs does not count from 1"
    if n > record["hyperparameters"]["n_epochs"]:
        yield f"epochs_trained {n}, at most {record['hyperparameters']['n_epochs']} were asked for"
    if record["status"] != "ok":
        return
    if any(None in history[key] for key in ("train_loss", "val_loss", "val_metric")):
        yield "history has empty values though the status is ok"
    if best is None:
        yield "best_val_metric is empty though the status is ok"
    elif abs(best - (expected := best_of_curve(record))) > CURVE_TOLERANCE:
        yield f"best_val_metric {best} is not the best of its curve, {expected}"


def best_of_curve(record: Mapping[str, Any]) -> float:
    """Return the best validation value of a curve without gaps."""
    best: float = (min if record["task_type"] == "regression" else max)(record["history"]["val_metric"])
    return best


def number_problems(record: Mapping[str, Any], rounding: float = 0.0) -> Problems:
    """Test metrics must be there, of this kind of task and possible; no time, loss or learning rate may be negative.

    `rounding`: how far a value may lie from the one computed, for those read from a log.
    """
    kind, ok, history = record["task_type"], record["status"] == "ok", record["history"]
    training, provenance = record.get("training", {}), record.get("provenance", {})
    for key in METRICS[kind]:
        if ok and record[key] is None and key != "test_auc":
            yield f"{key} is empty though the status is ok"
    for key in METRICS["classification" if kind == "regression" else "regression"]:
        if record.get(key) is not None:
            yield f"{key} in a {kind} result"
    for key in ("test_acc", "test_auc", "test_f1"):
        if not 0 <= (record.get(key) or 0) <= 1:
            yield f"{key} {record[key]} is not between 0 and 1"
    if (record.get("test_r2") or 0) > 1:
        yield f"test_r2 {record['test_r2']} is above 1"
    numbers = {**{key: record.get(key) for key in ("test_mse", "test_mae", "test_loss", "training_time")},
               **{f"provenance.{key}": provenance.get(key) for key in (
                   "wall_seconds", "peak_memory_mb", "peak_gpu_memory_mb")},
               "training.seconds_per_epoch_median": training.get("seconds_per_epoch_median"),
               **{f"history.{key}": min((value for value in history[key] if value is not None), default=0)
                  for key in (*CURVES, "lr")}}
    for key, value in numbers.items():
        if (value or 0) < 0:
            yield f"{key} {value} is negative"
    mse, mae = record.get("test_mse"), record.get("test_mae")
    least = max(0.0, (mae or 0) - rounding)
    if mse is not None and least * least > mse * (1 + ROUNDING) + rounding:    # ** raises where * gives infinity
        yield f"test_mae {mae} squared is above test_mse {mse}: no errors have such means"


def grid_problems(record: Mapping[str, Any]) -> Problems:
    """An accuracy must be a number of items over the items that it was counted on."""
    if record["task_type"] == "regression":
        return
    split, history = record.get("split"), record["history"]
    parts = {name: split[f"n_{name}"] for name in PUBLISHED_PARTS} if split else PUBLISHED_PARTS
    for key, values, part in (("test_acc", [record["test_acc"]], "test"),
                              ("best_val_metric", [record["best_val_metric"]], "val"),
                              ("history.val_metric", history["val_metric"], "val"),
                              ("history.train_metric", history["train_metric"], "train")):
        for value in values:
            items = 0 if value is None else value * parts[part]
            if not 0 <= items <= parts[part] or abs(items - round(items)) > ROUNDING * parts[part]:
                yield f"{key} {value} is no share of {parts[part]} items"


def stop_problems(record: Mapping[str, Any], patience: int, exact: bool) -> Problems:
    """A training must end where this patience or its limit ends it; `exact`: not later, and for the reason it gives."""
    if record["status"] not in ("ok", "partial"):
        return
    curve, smaller = record["history"]["val_metric"], record["task_type"] == "regression"
    n, limit = len(curve), record["hyperparameters"]["n_epochs"]
    best, waited = math.inf if smaller else 0.0, 0
    for epoch, value in enumerate(curve, 1):
        better = value is not None and (value < best if smaller else value > best)    # ties are no better
        best, waited = (value, 0) if better else (best, waited + 1)
        if exact and waited >= patience and epoch < n:
            yield f"the curve goes on to epoch {n}, where a patience of {patience} ends it at {epoch}"
    if waited < patience and n < limit:
        yield f"ended at epoch {n} of {limit}, {waited} after its best: not by a patience of {patience}"
    reason = "patience" if waited >= patience else "max_epochs"
    if exact and record["training"]["stop_reason"] != reason:
        yield f"training.stop_reason {record['training']['stop_reason']!r}, the curve says {reason!r}"


def _status_problems(record: Mapping[str, Any]) -> Problems:
    """Status, reason, best epoch and curve must tell the same story."""
    training, curve, n = record["training"], record["history"]["val_metric"], record["epochs_trained"]
    diverged, best = record["status"] == "diverged", training["best_epoch"]
    if (training["stop_reason"] == "non_finite") != diverged or (training["diverged_epoch"] is not None) != diverged:
        yield f"status {record['status']!r} with stop_reason {training['stop_reason']!r}"
    for key in ("best_epoch", "diverged_epoch"):
        if training[key] is not None and not 0 < training[key] <= n:
            yield f"training.{key} {training[key]} is none of {n} epochs"
    if record["status"] == "no_improvement" and best is not None:
        yield f"status 'no_improvement' with training.best_epoch {best}"
    if record["status"] == "ok" and (best is None or curve[best - 1] != record["best_val_metric"]):
        yield f"training.best_epoch {best} is not the epoch of best_val_metric"


def _size_problems(record: Mapping[str, Any]) -> Problems:
    """Sizes that a record holds twice must be equal."""
    split, config, predictions = record["split"], record["model_config"], record["predictions"]
    sizes = [split[f"n_{part}"] for part in PUBLISHED_PARTS]
    if sum(sizes) != record["dataset"].get("n_items", record["dataset"]["n_samples"]):
        yield "split: n_train, n_val and n_test do not add up to the items of dataset"
    if split["split_id"] != "-".join(["perm", *map(str, sizes)]):
        yield f"split.split_id {split['split_id'][:40]!r} for parts of {', '.join(map(str, sizes))}"
    if predictions is not None and predictions["n"] != split["n_test"]:
        yield f"predictions.n {predictions['n']} for {split['n_test']} test items"
    if config["n_params_trainable"] > record["n_params"]:
        yield f"model_config.n_params_trainable {config['n_params_trainable']} of n_params {record['n_params']}"
    twice = {"length": record["seq_len"], "n_channels": record["data_info"]["n_channels"],
             "n_outputs": record["data_info"]["output_dim"], "dropout": record["training"]["dropout"],
             **{key: record["hyperparameters"][key] for key in ("n_qubits", "n_layers", "d_model", "d_state")}}
    for key, value in twice.items():
        if config.get(key, value) != value:
            yield f"model_config.{key} {repr(config[key])[:40]}, elsewhere in the record {value}"


def _key_problems(record: Mapping[str, Any]) -> Problems:
    """Seeds and the identity of the cell, wherever a record holds them, must be those of the record."""
    seeds, split = record["seeds"], record["split"]
    if not record["seed"] == record["dataset"]["data_seed"] == split["split_seed"] == seeds["data"] == seeds["split"]:
        yield f"seed {record['seed']}, but other seeds in dataset, split or seeds"
    cell = f"{record['model_id']}/{record['task']}/L{record['seq_len']}/seed{record['seed']}"
    key, held = f"{record['family']}/{record['recipe']}/{cell}", record["provenance"]["cell_key"]
    if held != key:
        yield f"provenance.cell_key {held[:80]!r}, the record is of {key!r}"


def _variant_problems(record: Mapping[str, Any]) -> Problems:
    """A variant's name, its tags and the settings that the record was made with must be of one another."""
    for key, token in (("model_variant", record["model_id"]), ("task_variant", record["task"])):
        base, tags = split_token(token)
        told = record[key] or {"base": token, "tags": []}
        if (told["base"], told["tags"]) != (base, list(tags)):
            yield f"{key}: base and tags do not make {token!r}"
    held = {**{f"model.{key}": value for key, value in record["model_config"].items()}, **settings_of_record(record)}
    for key, value in (record["model_variant"] or {"settings": {}})["settings"].items():
        if held.get(key) != value:
            yield f"model_variant.settings: {key} is {repr(value)[:40]}, the record has {repr(held.get(key))[:40]}"


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
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, int | str | None):
        return value
    raise RecordError(f"a result cannot hold a value of type {type(value).__name__}")
