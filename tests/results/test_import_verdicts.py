"""Each file one verdict: the fixtures, and every kind of file a folder may hold."""

import csv
import json
import shutil
from pathlib import Path

import pytest
from factories import record_of, schema1_of, variance_of
from import_builders import (
    ADDING,
    COPY,
    FIXTURES,
    FORRELATION,
    only,
    put,
    put_log,
    study_with,
    text_of,
    verdict_of,
)

from qablate.results import merge
from qablate.results.judging import judge, judge_content
from qablate.results.reading import parse
from qablate.results.states import Found
from qablate.study import Cell


def snapshot(folder: Path) -> dict[Path, tuple[bytes, int]]:
    return {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in folder.rglob("*") if path.is_file()}


def short_curve(study, cell):
    """Changes that leave the shortest curve that a patience of 20 allows, to be cut at every byte."""
    best, other = (0.6, 0.5) if cell.task == "forrelation" else (0.01, 0.02)
    history = {**{key: [0.5] * 21 for key in ("train_loss", "train_metric", "val_loss", "lr")},
               "val_metric": [best] + [other] * 20, "epochs": list(range(1, 22))}
    changes = {"history": history, "epochs_trained": 21, "best_val_metric": best}
    return {**changes, "test_acc": best} if cell.task == "forrelation" else changes


@pytest.fixture
def fixtures(tmp_path):
    shutil.copytree(FIXTURES, tmp_path, dirs_exist_ok=True)
    return study_with(tmp_path)


def test_the_fixtures_are_judged_as_expected_and_left_alone(fixtures, tmp_path):
    before = snapshot(tmp_path)
    found = {str(v.file.path.relative_to(tmp_path)): (v.status, v.reason) for v in merge(fixtures).verdicts}
    with (FIXTURES / "expected.csv").open() as file:
        assert found == {row["path"]: (row["status"], row["reason"]) for row in csv.DictReader(file)}
    assert snapshot(tmp_path) == before


def test_what_the_fixtures_say_about_their_cells(fixtures):
    merged = merge(fixtures)
    done = {cell.name for cell in fixtures.cells if merged.finished(cell)}
    assert done == {"1b_adding_problem_L100_seed2024", "1c_selective_copy_L200_seed2025",
                    "1a_selective_copy_L1000_seed2025", "2a_adding_problem_L500_seed2026",
                    "2d_adding_problem_L100_seed2024"}
    means = {cell.name for cell, run in merged.runs.items() if run.enters_means}
    assert means == done - {"1a_selective_copy_L1000_seed2025"}
    claims = [run.status for run in merged.runs.values() if run.enters_claims]
    assert claims == ["diverged"]     # invented scores fit no dataset; what diverged has none
    assert [cell.name for cell in merged.legacy] == ["3a_forrelation_L50_seed2025"]
    salvaged = merged.runs[Cell("2a", "adding_problem", 500, 2026)].record
    assert [salvaged[key] for key in ("test_mse", "test_mae", "test_r2", "training_time")] == [
        0.0012, 0.0277, 0.9922, 33.3]
    (row,) = (row for row in merged.pairs() if row["metric"] == "test_mse")
    assert row["difference"] == pytest.approx(row["value_b"] - row["value_a"]) != 0
    assert (row["system_a"], row["system_b"]) == ("nersc", "dgx")


@pytest.mark.parametrize("cell", [ADDING, FORRELATION], ids=str)
def test_a_file_cut_at_any_byte_is_never_ok_and_never_crashes(tmp_path, cell):
    study = study_with(tmp_path)
    content = text_of(study, cell, short_curve(study, cell)).encode()
    path = tmp_path / "dgx" / cell.result_name
    metric = content.index(b",", content.index(b'"test_mse"' if cell == ADDING else b'"test_acc"'))
    for end in range(len(content)):
        reading = parse(content[:end])
        assert not reading.whole or reading.problem == "empty", end
        verdict = judge_content(study, Found("dgx", path), reading)
        assert (verdict.status, verdict.reason) in {("partial", "truncated"), ("rejected", "truncated"),
                                                    ("rejected", "empty")}, end
        assert verdict.finishes == (end > metric), end
        if verdict.finishes and cell == ADDING:
            assert verdict.record["test_mse"] == json.loads(content)["test_mse"]
    path.write_bytes(content)
    assert judge(study, Found("dgx", path)).status == "ok"


def test_zero_bytes_at_the_end_are_a_cut_too_and_a_cut_own_record_is_none(tmp_path):
    study = study_with(tmp_path)
    text = text_of(study, ADDING, version=2)
    put(tmp_path / "dgx", ADDING, text[: text.index('"predictions"')])
    assert (only(study).status, only(study).reason) == ("rejected", "truncated")
    text = text_of(study, ADDING)
    put(tmp_path / "dgx", ADDING, text[: text.index('"test_mae"') + 14].encode() + b"\0" * 500)
    verdict = only(study)
    assert (verdict.status, verdict.finishes) == ("partial", True)
    assert verdict.record["test_r2"] == 1 - verdict.record["test_mse"] / variance_of(study, ADDING)
    assert {"derived", "salvaged", "dataset_unverified"} == set(verdict.flags)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "empty"), (b" \n\0\0", "empty"), (b"\xff\xfe{\0", "encoding"), ("{}".encode("utf-16"), "encoding"),
        (b'{"a": "\xe9"}', "encoding"), (b"[" * 7_000_000, "not_json"), (b'{"a":' * 1_000_000, "not_json"),
        (b"[" * 10_000_000, "too_large"), (b"null", "not_json"), (b"[1]", "not_json"), (b"no JSON", "not_json"),
        (b"{}", "schema"), (b'{"seed": 1, "seed": 2}', "not_json"), (b'{"seed": 2024} {}', "not_json"),
        (b'{"model_id": "1b", x', "not_json"), (b"{", "truncated"), (b'{"seed": 1' + b"0" * 5000 + b"}", "schema"),
    ],
    ids=lambda value: value[:20] if isinstance(value, bytes) else value,
)
def test_what_is_no_result_is_rejected_with_its_reason(tmp_path, content, reason):
    study = study_with(tmp_path)
    put(tmp_path / "nersc", ADDING, content)
    verdict = only(study)
    assert (verdict.status, verdict.reason) == ("rejected", reason)
    assert len(verdict.detail) < 300
    assert merge(study).state_of(ADDING).reason.startswith(f"nersc: rejected, {reason}")


def test_a_link_to_a_sound_file_with_a_byte_order_mark_is_that_file(tmp_path):
    study = study_with(tmp_path)
    (tmp_path / "elsewhere").mkdir()
    file = put(tmp_path / "elsewhere", ADDING, b"\xef\xbb\xbf" + text_of(study, ADDING).encode())
    (tmp_path / "dgx" / ADDING.result_name).symlink_to(file)
    assert only(study).status == "ok"


@pytest.mark.parametrize(
    ("changes", "status", "reason"),
    [
        ({"test_mse": float("nan")}, "diverged", "non_finite"),
        ({"best_val_metric": float("inf")}, "diverged", "non_finite"),
        ({"model_name": "Another name", "_note": "ignored", "more": [1]}, "ok", ""),
        ({"n_params": 1}, "ok", ""),
        ({"seed": 2025}, "rejected", "name_mismatch"),
        ({"task": "selective_copy"}, "rejected", "name_mismatch"),
        ({"seq_len": "100"}, "rejected", "name_mismatch"),
        ({"test_mse": "0.1"}, "rejected", "schema"),
        ({"test_mse": -0.1}, "rejected", "metric_range"),
        ({"test_mse": 0.01, "test_mae": 0.2}, "rejected", "metric_range"),
        ({"n_params": float("nan")}, "rejected", "schema"),
        ({"history": {}}, "rejected", "schema"),
        ({"epochs_trained": 3}, "rejected", "history_lengths"),
        ({"model_info": {"name": "", "group": 3, "feat": "quantum", "mix": "classical", "type": "mamba"}},
         "rejected", "schema"),
        ({"schema_version": 3}, "rejected", "schema_version"),
        ({"schema_version": True}, "rejected", "schema_version"),
        ({"status": "ok"}, "rejected", "schema_version"),
        ({"schema_version": 2}, "rejected", "schema"),
    ],
    ids=str,
)
def test_rules_for_published_files(tmp_path, changes, status, reason):
    verdict = verdict_of(tmp_path, ADDING, changes)
    assert (verdict.status, verdict.reason) == (status, reason), verdict.detail


def test_odd_curves_are_warnings(tmp_path):
    history = record_of(study_with(tmp_path), ADDING)["history"]
    history = {**history, "epochs": [9, *history["epochs"][1:]], "lr": [1.0, *history["lr"][1:]]}
    verdict = verdict_of(tmp_path, ADDING, {"history": history, "best_val_metric": 1.0, "n_params": 1, "test_mse": 0.04,
                                            "test_r2": 0.5})
    assert verdict.status == "ok"
    for word in ("count from 1", "cosine", "best of its curve", "n_params", "variance of the test targets"):
        assert any(word in warning for warning in verdict.warnings), word


def test_r2_that_follows_from_the_genuine_targets_verifies_a_dataset(tmp_path):
    study = study_with(tmp_path)
    for r2, flag in ((1 - 0.04 / variance_of(study, COPY), "dataset_verified"), (0.5, "dataset_unverified")):
        assert flag in verdict_of(tmp_path, COPY, {"test_mse": 0.04, "test_r2": r2}).flags
        run = merge(study).runs[COPY]
        assert run.enters_means
        assert run.enters_claims == (flag == "dataset_verified")


@pytest.mark.parametrize(
    ("source", "changes", "status", "reason"),
    [("dgx", {}, "ok", "selected_on_test"), ("nersc", {}, "quarantined", "forrelation_v1"),
     ("dgx", {"test_auc": 0.0}, "ok", "selected_on_test")],
)
def test_published_forrelation(tmp_path, source, changes, status, reason):
    verdict, merged = verdict_of(tmp_path, FORRELATION, changes, source), merge(study_with(tmp_path))
    assert (verdict.status, verdict.reason) == (status, reason)
    assert not merged.finished(FORRELATION)
    assert FORRELATION not in merged.runs
    if status == "ok":
        assert merged.legacy[FORRELATION].record["test_auc"] is None or "test_auc" not in changes
        assert merged.state_of(FORRELATION).reason == f"{source}: known only with a score selected on its test items"


def test_accepting_selected_scores_saves_the_hours_and_no_more(tmp_path):
    study = study_with(tmp_path)
    study.config["import"] = {**study.config["import"], "accept_selected_on_test": True}
    put(tmp_path / "dgx", FORRELATION, text_of(study, FORRELATION))
    merged = merge(study)
    assert merged.finished(FORRELATION)
    assert merged.runs == {}
    assert not merged.legacy[FORRELATION].enters_means


def test_names_and_cells_that_are_none_of_the_study(tmp_path):
    study = study_with(tmp_path)
    other = Cell("1b", "adding_problem", 100, 7)
    put(tmp_path / "dgx", other, text_of(study, ADDING, {"seed": 7}))
    (tmp_path / "dgx" / "summary.json").write_text("{}")
    (tmp_path / "dgx" / ADDING.result_name.replace("L100", "L0100")).write_text(text_of(study, ADDING))
    (tmp_path / "dgx" / "notes.txt").write_text("no result")
    assert {v.reason for v in merge(study).verdicts} == {"not_in_study", "file_name"}


def test_a_checkpoint_without_result_is_unfinished_and_one_next_to_a_result_is_nothing(tmp_path):
    study = study_with(tmp_path)
    checkpoint = tmp_path / f"nersc/checkpoints/checkpoint_{ADDING.name}.pt"
    checkpoint.parent.mkdir()
    checkpoint.write_bytes(b"weights")
    put_log(tmp_path / "nersc/logs", ADDING, mse=None)
    verdict = only(study)
    assert (verdict.status, verdict.reason) == ("unfinished", "checkpoint_without_result")
    assert (verdict.file.path, verdict.detail) == (checkpoint, "log ends at epoch 30")
    assert not merge(study).finished(ADDING)
    put(tmp_path / "nersc", ADDING, text_of(study, ADDING))
    assert only(study).status == "ok"


def test_a_log_alone_is_a_partial_result_and_an_unfinished_one_is_not(tmp_path):
    study, logs = study_with(tmp_path), tmp_path / "nersc/logs"
    log = put_log(logs, ADDING, mse=None)
    assert (only(study).status, only(study).reason) == ("unfinished", "log_without_result")
    again = put_log(logs, ADDING, name="again.out")
    merged = merge(study)
    assert {(v.file.path.name, v.status, v.reason) for v in merged.verdicts} == {
        ("again.out", "partial", "from_log"), (log.name, "duplicate", "second_log")}
    run = merged.runs[ADDING]
    assert run.finishes and run.enters_means and not run.enters_claims
    assert (run.record["test_mse"], run.record["n_params"]) == (0.0012, 35836)
    assert run.record["history"]["epochs"] == [1, 10, 30]
    again.unlink()
    log.write_text(put_log(logs, ADDING).read_text().replace("/100 ", "/50 "))
    assert only(study).reason == "hyperparameters"


def test_a_log_completes_a_cut_file_only_if_they_agree(tmp_path):
    study = study_with(tmp_path)
    record = schema1_of(record_of(study, ADDING))
    text = json.dumps(record, indent=2)
    put(tmp_path / "nersc", ADDING, text[: text.index('"test_mse"')])
    put_log(tmp_path / "nersc/logs", ADDING, best=record["best_val_metric"] + 0.001)
    assert (only(study).finishes, only(study).flags[0]) == (False, "salvaged")
    assert merge(study).state_of(ADDING).reason == "nersc: known only without a test score (the file was cut off)"
    put_log(tmp_path / "nersc/logs", ADDING, best=record["best_val_metric"], mse=0.0012)
    verdict = only(study)
    assert verdict.finishes and "from_log" in verdict.flags
    assert (verdict.record["test_mse"], verdict.record["best_val_metric"]) == (0.0012, record["best_val_metric"])


def test_the_log_of_a_refused_run_does_not_let_it_in_again(tmp_path):
    study = study_with(tmp_path)
    put_log(tmp_path / "nersc/logs", ADDING)
    put(tmp_path / "nersc", ADDING, text_of(study, ADDING, {"seed": 2025}))
    assert [v.reason for v in merge(study).verdicts] == ["name_mismatch"]
    put(tmp_path / "nersc", ADDING, b"")
    assert {v.reason for v in merge(study).verdicts} == {"empty", "from_log"}
    assert merge(study).finished(ADDING)


def test_a_log_alone_is_held_against_study_and_rules_as_a_file_is(tmp_path):
    study = study_with(tmp_path)
    put_log(tmp_path / "nersc/logs", ADDING)
    study.config["import"] = {**study.config["import"], "quarantine": [{"model": "1b", "reason": "declared"}]}
    assert (only(study).status, only(study).reason) == ("quarantined", "declared")
    put_log(tmp_path / "nersc/logs", Cell("1c", "adding_problem", 100, 7))
    assert sorted(v.reason for v in merge(study).verdicts) == ["declared", "not_in_study"] and not merge(study).runs


def test_a_rule_on_a_system_holds_in_whatever_folder_its_result_lies(tmp_path):
    study = study_with(tmp_path)
    record = record_of(study, ADDING, provenance={"source": "nersc"})
    put(tmp_path / "dgx", ADDING, json.dumps(record))
    assert only(study).status == "ok"
    study.config["import"] = {**study.config["import"], "quarantine": [{"source": "nersc", "reason": "declared"}]}
    assert (only(study).status, only(study).reason) == ("quarantined", "declared")


def test_what_is_not_finite_in_a_cut_file_without_a_score_is_no_end(tmp_path):
    study = study_with(tmp_path)
    history = record_of(study, ADDING)["history"]
    text = text_of(study, ADDING, {"history": {**history, "val_metric": [float("nan"), *history["val_metric"][1:]]}})
    put(tmp_path / "dgx", ADDING, text[: text.index('"test_mse"')])
    assert (only(study).status, only(study).finishes) == ("partial", False)
