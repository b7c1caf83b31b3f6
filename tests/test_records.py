"""Only a whole, consistent record is a record."""

import copy
import json
import math
from pathlib import Path

import numpy as np
import pytest
from factories import record_of, small_study

from qablate.records import RecordError, check_record, content_sha256, write_record
from qablate.results import read_record

STUDY = small_study(Path("results"))
CELL = STUDY.cell("1b", "adding_problem", 16, 2024)
FORRELATION = STUDY.cell("1b", "forrelation", 16, 2024)
SOUND = record_of(STUDY, CELL)
SOUND_ACCURACY = record_of(STUDY, FORRELATION)
N = SOUND["epochs_trained"]


def changed(path: str, value, base=SOUND) -> dict:
    record = copy.deepcopy(base)
    *parents, last = path.split(".")
    target = record
    for key in parents:
        target = target[key]
    target[last] = value
    return record


def written(folder: Path, content: bytes) -> Path:
    path = folder / CELL.result_name
    path.write_bytes(content)
    return path


def test_writing_turns_numpy_into_plain_numbers(tmp_path):
    path, record = tmp_path / CELL.result_name, changed("test_mse", np.float32(0.25))
    record["history"]["lr"] = np.array(record["history"]["lr"])
    write_record(path, record)
    assert read_record(path)["test_mse"] == 0.25


CURVE = SOUND["history"]
IMPOSSIBLE = [
    ("test_mse", math.nan, "test_mse is empty though the status is ok"),
    ("test_mse", "0.1", "test_mse must be number"),
    ("epochs_trained", N + 1, f"entries for {N + 1} epochs"),
    ("history.val_metric", [0.1], "history.val_metric has 1 entries"),
    ("history.epochs", [2, *CURVE["epochs"][1:]], "history.epochs does not count from 1"),
    ("history.val_loss", [None, *CURVE["val_loss"][1:]], "history has empty values though the status is ok"),
    ("hyperparameters.n_epochs", N - 1, f"at most {N - 1} were asked for"),
    ("test_acc", 0.5, "test_acc in a regression result"),
    ("status", "no_improvement", "status 'no_improvement' with training.best_epoch"),
    ("training.diverged_epoch", 1, "status 'ok' with stop_reason"),
    ("best_val_metric", 1e9, "is not the best of its curve"),
    ("model_info.group", 3, "group 3 for model 1b"),
    ("model_id", "9z", "model_id must match"),
    ("data_info.n_timesteps", 99, "n_timesteps 99"),
    ("status", "finished", "status must be one of"),
    ("schema_version", 3, "schema_version must be one of"),
    ("schema_version", True, "schema_version must be one of"),
    ("dataset.dataset_sha256", "abc", "dataset_sha256"),
    ("test_mse", -1.0, "is negative"),
    ("test_r2", 1.09, "test_r2 1.09 is above 1"),
    ("test_mae", 2 * math.sqrt(SOUND["test_mse"]), "squared is above test_mse"),
    ("test_mae", 1e308, "squared is above test_mse"),
    ("training_time", -0.1, "training_time -0.1 is negative"),
    ("provenance.wall_seconds", -5, "provenance.wall_seconds -5 is negative"),
    ("provenance.peak_memory_mb", -1.0, "peak_memory_mb -1.0 is negative"),
    ("training.seconds_per_epoch_median", -1.0, "seconds_per_epoch_median -1.0 is negative"),
    ("history.train_loss", [*CURVE["train_loss"][:-1], -0.5], "history.train_loss -0.5 is negative"),
    ("history.lr", [*CURVE["lr"][:-1], -0.5], "history.lr -0.5 is negative"),
    ("training.stop_reason", "max_epochs" if SOUND["training"]["stop_reason"] == "patience" else "patience",
     "the curve says"),
    ("training.patience", 1, "where a patience of 1 ends it"),
    ("training.best_epoch", N + 1, f"none of {N} epochs"),
    ("training.best_epoch", 0, f"none of {N} epochs"),
    ("training.best_epoch", None, "is not the epoch of best_val_metric"),
    ("split.split_id", "perm-1-2-3", "for parts of 160, 20, 20"),
    ("split.n_test", 21, "do not add up"),
    ("predictions", {"file": "x.npz", "sha256": "0" * 64, "n": 7}, "predictions.n 7 for 20 test items"),
    ("model_config.n_params_trainable", SOUND["n_params"] + 1, "of n_params"),
    ("model_config.d_state", 7, "model_config.d_state 7, elsewhere"),
    ("model_config.length", 7, "model_config.length 7, elsewhere"),
    ("seeds.split", 7, "other seeds"),
    ("provenance.cell_key", "published/demo/1a/adding_problem/L16/seed2024", "the record is of"),
]


@pytest.mark.parametrize(("path", "value", "message"), IMPOSSIBLE, ids=lambda value: str(value)[:30])
def test_what_cannot_be_is_never_written(tmp_path, path, value, message):
    config = {"model_config": {**SOUND["model_config"], "d_state": 16, "length": 16}}
    with pytest.raises(RecordError, match=message):
        write_record(tmp_path / CELL.result_name, changed(path, value, {**SOUND, **config}))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("key", ["test_acc", "history.val_metric", "history.train_metric"])
def test_an_accuracy_is_a_number_of_items(key):
    value = [0.333, *SOUND_ACCURACY["history"]["val_metric"][1:]] if key.startswith("history") else 0.333
    with pytest.raises(RecordError, match=rf"{key} 0.333 is no share of (20|160) items"):
        check_record(changed(key, value, SOUND_ACCURACY), Path("x"))


@pytest.mark.parametrize("key", ["test_auc", "test_f1"])
def test_a_share_is_at_most_1(key):
    with pytest.raises(RecordError, match=f"{key} 1.5 is not between 0 and 1"):
        check_record(changed(key, 1.5, SOUND_ACCURACY), Path("x"))


@pytest.mark.parametrize("missing", sorted(SOUND))
def test_every_key_is_needed(tmp_path, missing):
    record = {key: value for key, value in SOUND.items() if key != missing}
    with pytest.raises(RecordError):
        read_record(written(tmp_path, json.dumps(record).encode()))


def test_a_record_cut_at_any_byte_is_no_record(tmp_path):
    content = json.dumps(SOUND, indent=2).encode()
    for end in range(0, len(content), 7):
        with pytest.raises(RecordError):
            read_record(written(tmp_path, content[:end]))


def as_floats(value):
    """What a program without integers makes of a record: R, MATLAB, pandas."""
    if isinstance(value, dict):
        return {key: as_floats(item) for key, item in value.items()}
    if isinstance(value, list):
        return [as_floats(item) for item in value]
    return float(value) if type(value) is int else value


def test_whole_floats_are_integers(tmp_path):
    path = tmp_path / CELL.result_name
    record = write_record(path, SOUND)
    path.write_text(json.dumps(as_floats(record)))
    read = read_record(path)
    assert read == record
    assert type(read["training"]["best_epoch"]) is type(read["schema_version"]) is int
    assert {type(epoch) for epoch in read["history"]["epochs"]} == {int}


def test_a_changed_digit_is_seen(tmp_path):
    path = tmp_path / CELL.result_name
    record = write_record(path, SOUND)
    assert record["content_sha256"] == content_sha256(SOUND)
    baseline = record["metrics_extra"]["baseline_test"]
    for key, value in (("baseline_test", baseline * (1 + 1e-15)), ("skill", 0.51)):
        path.write_text(json.dumps(changed(f"metrics_extra.{key}", value, record)))
        with pytest.raises(RecordError, match="changed since it was written"):
            read_record(path)
    path.write_text(json.dumps({**record, "_note": "by whoever keeps it"}, sort_keys=True, indent=7))
    assert read_record(path) == record
    path.write_text(json.dumps({key: value for key, value in record.items() if key != "content_sha256"}))
    assert read_record(path) == SOUND
