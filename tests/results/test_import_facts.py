"""What a result says is held against what is known, and nothing that lies around stops the reader."""

import csv
import errno
import json
import os
from functools import partial
from pathlib import Path

import pytest
from damage import VALUES, places_in, with_changes
from factories import published_study, record_of, schema1_of, small_study, write_results
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from import_builders import ADDING, lay, only, put, study_with, text_of, verdict_of

from qablate.analysis.collect import COLUMNS, collect
from qablate.hours import CostTable
from qablate.plan import Plan
from qablate.records import write_record
from qablate.results import State, merge, state_of
from qablate.results.merging import adopted_from, adoption_note
from qablate.results.outputs import defused, index_row, summary, write_tables
from qablate.status.survey import survey
from qablate.study import Cell, DatasetSpec, known_dataset

FORRELATION = Cell("3a", "forrelation", 50, 2024)
SHORT = {"adding_problem": {"lengths": [16], "placement": "extremes"}}


OF_OWN_RECORDS = [
    (ADDING, {"test_mse": 0.04, "test_mae": 0.1, "test_r2": 0.9}, "inconsistent", "variance of the test targets"),
    (ADDING, {"n_params": 439_586, "model_config": {"n_params_trainable": 1}}, "hyperparameters",
     "model.n_params is 439586, the study has 421730"),
    (ADDING, {"model_config": {"chunk": 8}}, "hyperparameters", "model.chunk is 8, the study has 32"),
    (ADDING, {"model_config": {"model_code_version": 7}}, "code_version", "model_code_version is 7"),
    (ADDING, {"dataset": {"dataset_sha256": "0" * 64}}, "dataset_mismatch", "dataset 000000000000 is not the study's"),
    (ADDING, {"split": {"split_sha256": "0" * 64}}, "dataset_mismatch", "split 000000000000 is not the study's"),
    (ADDING, {"training": {"clip_norm": 3.0}}, "hyperparameters", "training.clip_norm is 3.0"),
    (ADDING, {"training": {"optimizer": "SGD"}}, "hyperparameters", "training.optimizer is 'SGD'"),
    (ADDING, {"training": {"scheduler": "none"}}, "hyperparameters", "training.scheduler is 'none'"),
    (ADDING, {"training": {"monitor": "test MSE"}}, "hyperparameters", "training.monitor is 'test MSE'"),
    (ADDING, {"data_info": {"output_dim": 3}}, "dataset_mismatch", "data.n_outputs is 3, the study has 1"),
    (FORRELATION, {"test_acc": 0.998}, "inconsistent", "more than the solver that knows the rule can do"),
    (FORRELATION, {"test_acc": 0.942}, "", ""),    # what that solver reaches is believed
]


@pytest.mark.parametrize(("cell", "changes", "reason", "words"), OF_OWN_RECORDS, ids=lambda value: str(value)[:40])
def test_what_contradicts_the_study_or_the_shipped_facts_does_not_count(tmp_path, cell, changes, reason, words):
    """Written with these changes, so that the checksum fits."""
    study = published_study(tmp_path)
    write_record(study.result_path(cell), record_of(study, cell, **changes))
    verdict = only(study)
    assert (verdict.finishes, verdict.reason) == (not reason, reason)
    assert words in verdict.detail and words in index_row(verdict)["detail"]
    assert state_of(study, cell).state.finished == merge(study).state_of(cell).state.finished == verdict.finishes


@pytest.mark.parametrize(("accuracy", "length", "leaky"), [
    (1.0, 100, True), (1.0, 200, True), (0.999, 50, True), (0.95, 50, True), (0.65, 50, False)])
def test_published_forrelation_that_only_leaky_data_allow(tmp_path, accuracy, length, leaky):
    cell = Cell("3a", "forrelation", length, 2024)
    history = record_of(study_with(tmp_path), cell)["history"]
    history["val_metric"][history["val_metric"].index(max(history["val_metric"]))] = accuracy
    verdict = verdict_of(tmp_path, cell, {"test_acc": accuracy, "test_auc": accuracy, "best_val_metric": accuracy,
                                          "history": history})
    expected = ("quarantined", "forrelation_v1") if leaky else ("ok", "selected_on_test")
    assert (verdict.status, verdict.reason) == expected


def test_a_patience_that_shows_in_a_published_curve_is_refused(tmp_path):
    study, other = study_with(tmp_path), study_with(tmp_path)
    other.config["training"] = {**study.config["training"], "patience": 5}
    put(tmp_path / "dgx", ADDING, json.dumps(schema1_of(record_of(other, ADDING))))
    assert (only(study).status, only(study).reason) == ("rejected", "hyperparameters")
    assert "not by a patience of 20" in only(study).detail


def test_predictions_of_another_run_are_marked(tmp_path):
    study = published_study(tmp_path)
    path = study.result_path(ADDING)
    predictions = {"file": "elsewhere.npz", "sha256": "0" * 64, "n": 500}
    write_record(path, record_of(study, ADDING, predictions=predictions))
    assert merge(study).runs[ADDING].enters_claims
    beside = path.with_name(path.name.replace("results.json", "predictions.npz"))
    beside.write_bytes(b"others")
    run = merge(study).runs[ADDING]
    assert "other_predictions" in run.flags and not run.enters_claims and run.enters_means
    assert run.warnings == (f"{beside.name} is of another run",)


def test_records_without_a_checksum_stay_valid_and_are_called_unchecked(tmp_path):
    study = published_study(tmp_path)
    record = write_record(study.result_path(ADDING), record_of(study, ADDING))
    assert "unchecked" not in merge(study).runs[ADDING].flags
    text = json.dumps({key: value for key, value in record.items() if key != "content_sha256"})
    study.result_path(ADDING).write_text(text)
    assert "unchecked" in merge(study).runs[ADDING].flags
    study.result_path(ADDING).write_text(json.dumps({**record, "timestamp": "20260801_120001"}))
    state = state_of(study, ADDING)
    assert state.state is State.UNREADABLE and "changed since it was written" in state.reason


@pytest.mark.parametrize("version", [2, 1])
@pytest.mark.parametrize("task", ["adding_problem", "forrelation"])
def test_any_json_value_anywhere_gives_a_state_from_every_reader(tmp_path, version, task):
    """A text where a number belongs, 3.0 for 3, NaN, a huge number: what one command takes, all take."""
    study = published_study(tmp_path, models=["3a"], seeds=[2024], tasks={task: {
        **published_study(tmp_path).config["tasks"][task], "lengths": [100]}})
    (cell,) = study.cells
    sound = record_of(study, cell) if version == 2 else schema1_of(record_of(study, cell))
    path = study.result_path(cell)
    path.parent.mkdir(parents=True)

    @settings(max_examples=60, suppress_health_check=list(HealthCheck), database=None)
    @given(place=st.sampled_from(list(places_in(sound))), value=VALUES)
    def damage(place, value):
        path.write_text(json.dumps(with_changes(sound, [(place, value)])))
        own, merged = state_of(study, cell), merge(study)
        taken = own.state.finished
        assert merged.finished(cell) == merged.state_of(cell).state.finished == taken
        assert own.state.in_plan == Plan(study).state(cell).state
        assert (survey(study, CostTable([]), ask_slurm=False).cells[0].state == "done") == taken
        assert len(collect(study).table) == taken
        assert "\n" not in own.reason
        summary(merged)
        [index_row(verdict) for verdict in merged.verdicts]

    damage()
    for key in COLUMNS:
        damage.hypothesis.inner_test((key,), "a word")
        if version == 2:
            damage.hypothesis.inner_test(("metrics_extra", key), "a word")


@pytest.mark.parametrize("kind", ["folder", "pipe", "forbidden", "loop", "text", "no object", "deep"])
def test_what_lies_under_the_name_of_a_sidecar_or_a_note_stops_nothing(tmp_path, kind):
    study = small_study(tmp_path, models=["1b"], seeds=[1], tasks=SHORT)
    (cell,) = study.cells
    write_results(study)
    for path in (study.dataset_path(cell).with_suffix(".json"), adoption_note(study, cell)):
        path.parent.mkdir(parents=True)
        text = {"text": '{"dataset_sha256": 5, "sha256": [], "system": {}}', "no object": "[1]", "deep": "[" * 50_000,
                "forbidden": "{}"}.get(kind)
        if text is None:
            lay(path, kind)
        else:
            path.write_text(text)
            path.chmod(0 if kind == "forbidden" else 0o644)
    assert known_dataset(study.datasets[0], study.results) is None
    assert set(adopted_from(study)) <= {"[]"}
    assert Plan(study).state(cell).state == state_of(study, cell).state == State.DONE


def test_a_folder_that_may_not_be_looked_into_is_one_line(tmp_path, monkeypatch):
    study = small_study(tmp_path, models=["1b"], seeds=[1], tasks=SHORT)
    study.config["systems"] = {"dgx": {"results": str(tmp_path / "closed")}}

    def refuse(path, *arguments, real, **options):
        if "closed" in str(path) or Path(path) == study.result_folder:
            raise PermissionError(errno.EACCES, "Permission denied")
        return real(path, *arguments, **options)

    for name in ("stat", "listdir", "scandir"):
        monkeypatch.setattr(os, name, partial(refuse, real=getattr(os, name)))
    assert list(merge(study).unreadable) == [f"systems.dgx.results: {tmp_path / 'closed'}: Permission denied",
                                             f"results: {study.result_folder}: Permission denied"]
    assert list(collect(study).cells["state"]) == ["missing"]


@pytest.mark.parametrize("kind", ["folder", "pipe", "loop", "broken link", "device"])
def test_what_lies_under_the_name_of_a_result_is_the_state_of_its_cell_alone(tmp_path, kind):
    study = small_study(tmp_path, models=["1b"], seeds=[1, 2], tasks=SHORT)
    write_results(study, study.cells[:1])
    path = study.result_path(study.cells[1])
    lay(path, kind)
    plan = Plan(study)
    assert [plan.state(cell).state for cell in study.cells] == ["done", "unreadable"]
    assert [state_of(study, cell).state for cell in study.cells] == ["done", "unreadable"]
    assert path.name in plan.state(study.cells[1]).reason
    assert [index_row(verdict)["sha256"] for verdict in merge(study).verdicts][1] == ""


def test_a_source_of_which_nothing_was_read_says_so_and_where_results_lie(tmp_path):
    study = study_with(tmp_path)
    below = tmp_path / "dgx/run/synthetic_benchmarks"
    below.mkdir(parents=True)
    put(below, ADDING, text_of(study, ADDING))
    merged = merge(study)
    assert not merged.finished(ADDING)
    assert merged.remarks == (
        f"systems.nersc.results: {tmp_path / 'nersc'}: holds no result",
        f"systems.dgx.results: {tmp_path / 'dgx'}: holds no result; results lie in {below}?",
        f"systems.nersc.logs: {tmp_path / 'nersc/logs'}: holds no training log")
    assert summary(merged)[-3:] == list(merged.remarks) == list(survey(study, CostTable.read()).remarks)
    assert Plan(study).summary().splitlines()[1:] == [f"  {remark}" for remark in merged.remarks]
    (verdict,) = merged.verdicts
    assert (verdict.status, verdict.reason, verdict.cell) == ("rejected", "in_subfolder", ADDING)
    study.config["systems"] = {"dgx": {"results": [str(tmp_path / "dgx"), str(below)]}}
    assert [verdict.status for verdict in merge(study).verdicts] == ["ok"]    # a source itself: read once


def test_a_compressed_result_is_said(tmp_path):
    study = study_with(tmp_path)
    (tmp_path / "dgx" / f"{ADDING.result_name}.gz").write_bytes(b"\x1f\x8b")
    assert (only(study).reason, only(study).cell) == ("compressed", ADDING)
    assert f"unpack it to {ADDING.result_name}" in merge(study).state_of(ADDING).reason


def test_a_partial_result_says_whether_it_counts(tmp_path):
    study = study_with(tmp_path)
    text = text_of(study, ADDING)
    other = Cell("1c", "adding_problem", 100, 2024)
    put(tmp_path / "dgx", ADDING, text[: text.index('"test_mae"') + 14])
    text = text_of(study, other)
    put(tmp_path / "dgx", other, text[: text.index('"test_mse"')])
    merged = merge(study)
    assert {(v.cell, v.detail.split(", ")[-1], index_row(v)["counts"]) for v in merged.verdicts} == {
        (ADDING, "counts", True), (other, "does not count", False)}
    assert [line.split("  ")[-1] for line in summary(merged)[:2]] == [
        "partial: truncated (counts: its score is known)", "partial: truncated (does not count: no score)"]
    assert merged.state_of(ADDING).state is State.PARTIAL and merged.state_of(other).state is State.NO_SCORE


def test_text_that_a_spreadsheet_would_run_is_defused_and_numbers_are_left_alone(tmp_path):
    for text in ("=1+1", "+1+1", "-1+1", "@SUM(A1)", "\t=1"):
        assert defused(text) == f"'{text}"
    for value in (-1.5, "-1.5", "+3", "-1e-05", "plain", "", None, True):
        assert defused(value) == value and type(defused(value)) is type(value)
    assert defused("\r=1\r\n2") == "\\r=1\\r\n2"
    study = study_with(tmp_path, systems=None)
    study.result_folder.mkdir(parents=True)
    put(study.result_folder, ADDING, json.dumps(record_of(study, ADDING, provenance={"source": "=1+1"})))
    with write_tables(merge(study))[0].open(newline="") as file:
        assert [row["system"] for row in csv.DictReader(file)] == ["'=1+1"]


def test_variance_and_split_of_a_made_dataset_are_those_of_its_sidecar(tmp_path):
    spec = DatasetSpec("adding_problem", 16, 7, 100)
    path = spec.path(tmp_path).with_suffix(".json")
    path.parent.mkdir(parents=True)
    told = {"dataset_sha256": "1" * 64, "split_sha256": "2" * 64, "statistics": {"test_target_var": 0.17}}
    path.write_text(json.dumps(told))
    assert vars(known_dataset(spec, tmp_path)) == {
        "sha256": "1" * 64, "split_sha256": "2" * 64, "test_target_var": 0.17, "reference_accuracy": None}
