"""Only a whole, consistent record is a record."""

import copy
import json
import math
from pathlib import Path

import numpy as np
import pytest
from factories import record_of, schema1_of, small_study
from hypothesis import given, settings
from hypothesis import strategies as st

from qablate.errors import QablateError
from qablate.records import RecordError, parse_record, read_record, write_record

STUDY = small_study(Path("results"))
CELL = STUDY.cell("1b", "adding_problem", 16, 2024)
FORRELATION = STUDY.cell("1b", "forrelation", 16, 2024)
SOUND = record_of(STUDY, CELL)
PATH = Path(CELL.result_name)


def changed(path: str, value, base=SOUND) -> dict:
    record = copy.deepcopy(base)
    *parents, last = path.split(".")
    target = record
    for key in parents:
        target = target[key]
    target[last] = value
    return record


@pytest.mark.parametrize("record", [SOUND, schema1_of(SOUND), record_of(STUDY, FORRELATION)],
                         ids=["2", "1", "forrelation"])
def test_round_trip(tmp_path, record):
    cell = CELL if record["task"] == CELL.task else FORRELATION
    path = tmp_path / cell.result_name
    path.write_text(json.dumps(record))
    read = read_record(path)
    assert {key: read[key] for key in record} == record
    assert read["status"] == "ok"
    assert read["schema_version"] == record.get("schema_version", 1)


def test_writing_turns_numpy_into_plain_numbers(tmp_path):
    path = tmp_path / CELL.result_name
    record = changed("test_mse", np.float32(0.25))
    record["history"]["lr"] = np.array(record["history"]["lr"])
    write_record(path, record)
    assert read_record(path)["test_mse"] == 0.25


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("test_mse", math.nan, "test_mse is empty though the status is ok"),
        ("test_mse", "0.1", "test_mse must be number"),
        ("epochs_trained", 2, "entries for 2 epochs"),
        ("history.val_metric", [0.1], "history.val_metric has 1 entries"),
        ("best_val_metric", 1e9, "is not the best of its curve"),
        ("model_info.group", 3, "group 3 for model 1b"),
        ("data_info.n_timesteps", 99, "n_timesteps 99"),
        ("status", "finished", "status must be one of"),
        ("schema_version", 3, "known are 1 and 2"),
        ("schema_version", True, "known are 1 and 2"),
        ("schema_version", 1.0, "known are 1 and 2"),
        ("dataset.dataset_sha256", "abc", "dataset_sha256"),
        ("test_mse", -1.0, "is negative"),
    ],
)
def test_an_inconsistent_record_is_never_written(tmp_path, path, value, message):
    target = tmp_path / CELL.result_name
    with pytest.raises(RecordError, match=message):
        write_record(target, changed(path, value))
    assert list(tmp_path.iterdir()) == []


def test_a_type_json_does_not_know_is_refused(tmp_path):
    with pytest.raises(QablateError, match="type set"):
        write_record(tmp_path / CELL.result_name, changed("metrics_extra", {"x": {1}}))


@pytest.mark.parametrize("missing", sorted(SOUND))
def test_every_key_is_needed(missing):
    record = {key: value for key, value in SOUND.items() if key != missing}
    with pytest.raises(RecordError):
        parse_record(json.dumps(record).encode(), PATH)


@pytest.mark.parametrize("content", [b"", b"  \n", b"null", b"[]", b"3", b'"text"', b"\xff\xfe", b"[" * 100_000])
def test_what_is_no_record_is_one_line(content):
    with pytest.raises(RecordError) as caught:
        parse_record(content, PATH)
    assert "\n" not in str(caught.value)
    assert PATH.name in str(caught.value)


@pytest.mark.parametrize("token", ["NaN", "Infinity", "-Infinity", "1e999"])
def test_numbers_that_are_none_are_refused(token):
    text = json.dumps(changed("test_mae", 0.123456)).replace("0.123456", token)
    with pytest.raises(RecordError, match="not valid JSON"):
        parse_record(text.encode(), PATH)


def test_name_and_content_must_agree(tmp_path):
    path = tmp_path / STUDY.cell("1c", "adding_problem", 16, 2024).result_name
    path.write_text(json.dumps(SOUND))
    with pytest.raises(RecordError, match="the name says"):
        read_record(path)


def test_a_folder_or_a_huge_file_in_place_of_a_result(tmp_path):
    folder = tmp_path / CELL.result_name
    folder.mkdir()
    with pytest.raises(RecordError, match="not a file"):
        read_record(folder)
    folder.rmdir()
    with folder.open("wb") as file:
        file.truncate(10**9)
    with pytest.raises(RecordError, match="bytes"):
        read_record(folder)


def test_a_record_cut_at_any_byte_is_no_record():
    content = json.dumps(SOUND, indent=2).encode()
    for end in range(len(content)):
        with pytest.raises(RecordError):
            parse_record(content[:end], PATH)


leaves = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)


def paths_of(record, prefix=()):
    if isinstance(record, dict):
        for key, value in record.items():
            yield (*prefix, key)
            yield from paths_of(value, (*prefix, key))


@settings(max_examples=1000, deadline=None)
@given(path=st.sampled_from(sorted(paths_of(SOUND))),
       value=leaves | st.lists(leaves) | st.dictionaries(st.text(), leaves))
def test_a_mutated_record_is_sound_or_refused(path, value):
    """Never another exception, and what passes as `ok` still has its curves, its best and its score."""
    record = changed(".".join(path), value)
    try:
        parsed = parse_record(json.dumps(record).encode(), PATH)
    except RecordError as error:
        assert "\n" not in str(error)
        return
    if parsed["status"] == "ok":
        assert math.isfinite(parsed["test_mse"])
        assert parsed["best_val_metric"] == pytest.approx(min(parsed["history"]["val_metric"]))
        assert len(parsed["history"]["lr"]) == parsed["epochs_trained"]
