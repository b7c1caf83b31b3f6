"""From files to one result a cell: by the declared rules, in any order."""

import csv
import dataclasses
import hashlib
import itertools
import json
import math
import re

import pytest
from factories import CONFIG, record_of, write_results
from import_builders import ADDING, COPY, FORRELATION, put, put_log, study_with, text_of

from qablate.cli import main
from qablate.errors import QablateError
from qablate.plan import Plan
from qablate.results import merge, outputs, state_of
from qablate.results.merging import choose
from qablate.results.outputs import adopt, write_tables
from qablate.study import Cell


def assert_in_any_order(study, merged):
    """What is chosen does not depend on the order in which files are found."""
    undone = [dataclasses.replace(v, status=v.judged or v.status, chosen=False) for v in merged.verdicts]
    for order in itertools.permutations(undone):
        runs, legacy, verdicts = choose(study, order)
        assert (runs, legacy, tuple(verdicts)) == (merged.runs, merged.legacy, merged.verdicts)


def test_three_copies_of_one_run_are_one_and_no_evidence(tmp_path):
    study = study_with(tmp_path)
    text = text_of(study, ADDING)
    put(tmp_path / "nersc", ADDING, text)
    put(tmp_path / "dgx", ADDING, json.dumps(json.loads(text)))    # the same numbers in other bytes
    study.result_folder.mkdir(parents=True)
    put(study.result_folder, ADDING, text)
    merged = merge(study)
    assert sorted((v.status, v.reason) for v in merged.verdicts) == [
        ("duplicate", "identical_copy"), ("duplicate", "identical_copy"), ("ok", "")]
    assert merged.runs[ADDING].duplicates == ()
    assert merged.pairs() == []
    assert_in_any_order(study, merged)


@pytest.mark.parametrize(
    ("nersc", "dgx", "used"),
    [
        ({}, {"test_mse": 0.5}, "nersc"),
        ({"test_mse": math.nan}, {}, "nersc"),     # not the outcome decides
        ("cut", {}, "dgx"),
        ({}, "schema 2", "dgx"),
        ("cut", "schema 2", "dgx"),
    ],
    ids=str,
)
def test_of_two_results_the_declared_one_is_used(tmp_path, nersc, dgx, used):
    study = study_with(tmp_path)
    for name, what in (("nersc", nersc), ("dgx", dgx)):
        text = text_of(study, ADDING, what if isinstance(what, dict) else {"test_mse": len(what) / 100},
                       version=2 if what == "schema 2" else 1)
        put(tmp_path / name, ADDING, text[: text.index('"test_mae"')] if what == "cut" else text)
    merged = merge(study)
    assert merged.runs[ADDING].file.source == used
    assert [(v.file.source, v.reason) for v in merged.verdicts if v.status == "duplicate"] == [
        ("dgx" if used == "nersc" else "nersc", "duplicate_cell")]
    assert len({(row["path_a"], row["path_b"]) for row in merged.pairs()}) == 1
    assert list(merged.runs) == [ADDING]
    assert_in_any_order(study, merged)


def test_the_same_is_used_wherever_the_merge_is_made(tmp_path):
    """On nersc its own files are local and those of dgx imported; on dgx the other way round."""
    chosen = []
    for here, there in (("nersc", "dgx"), ("dgx", "nersc")):
        folder = tmp_path / here
        study = study_with(folder, systems={there: {"results": str(folder / there)}}, system=here)
        (folder / there).mkdir(exist_ok=True)
        study.result_folder.mkdir(parents=True)
        for name, where in ((here, study.result_folder), (there, folder / there)):
            put(where, ADDING, json.dumps(record_of(study, ADDING, provenance={"source": name},
                                                    test_mse=len(name) / 100)))
        chosen.append((merge(study).runs[ADDING].system, merge(study).runs[ADDING].record["test_mse"]))
    assert chosen == [("nersc", 0.05)] * 2


def test_an_honest_result_is_no_duplicate_of_a_selected_one(tmp_path):
    study = study_with(tmp_path)
    put(tmp_path / "dgx", FORRELATION, text_of(study, FORRELATION))
    study.result_folder.mkdir(parents=True)
    write_results(study, [FORRELATION])
    merged = merge(study)
    assert merged.runs[FORRELATION].file.source == "local"
    assert merged.legacy[FORRELATION].system == "dgx"
    assert merged.pairs() == []
    assert merged.finished(FORRELATION)
    assert_in_any_order(study, merged)


def test_a_folder_that_is_not_there_stops_the_workflow_and_not_the_import(tmp_path, capsys, monkeypatch):
    study = study_with(tmp_path)
    put(tmp_path / "nersc", ADDING, text_of(study, ADDING))
    (tmp_path / "dgx").rmdir()
    with pytest.raises(QablateError, match=r"systems\.dgx\.results: .*dgx: No such file"):
        Plan(study).summary()
    monkeypatch.chdir(tmp_path)
    settings = json.dumps({"systems": study.config["systems"], "results": "results"})
    assert main(["import", "--config", str(CONFIG), "--set", settings]) == 2
    printed = capsys.readouterr()
    assert "     1  ok" in printed.out and "396 cells, 1 finished, 395 missing" in printed.out
    assert printed.err.count("\n") == 1
    (tmp_path / "dgx").mkdir()
    assert main(["import", "--config", str(CONFIG), "--set", settings]) == 0
    plan = Plan(study)
    assert "1 done (1 imported), 395 to train" in plan.summary()
    assert set(plan.to_train) == set(study.cells) - {ADDING}


def test_the_tables_of_the_import(tmp_path):
    study = study_with(tmp_path)
    put(tmp_path / "nersc", ADDING, text_of(study, ADDING))
    put(tmp_path / "dgx", ADDING, text_of(study, ADDING, {"test_mse": 0.5}))
    put(tmp_path / "dgx", FORRELATION, text_of(study, FORRELATION))
    put_log(tmp_path / "nersc/logs", Cell("2a", "adding_problem", 500, 2026))
    (tmp_path / "dgx/odd,\u2028name.json").write_text("{}")
    index, runs = ([*csv.DictReader(path.open(newline=""))] for path in write_tables(merge(study)))
    assert sorted((row["source"], row["status"], row["chosen"]) for row in index) == [
        ("dgx", "duplicate", "False"), ("dgx", "ok", "True"), ("dgx", "rejected", "False"),
        ("nersc", "ok", "True"), ("nersc", "partial", "True")]
    assert all(len(row["sha256"]) == 64 and int(row["bytes"]) > 0 for row in index)
    assert {(row["model"], row["finished"], row["enters_means"]) for row in runs} == {
        ("1b", "True", "True"), ("2a", "True", "True"), ("3a", "True", "False")}
    assert (study.results / "imported/index.csv").exists()


def test_adopted_results_are_whole_copies_and_count(tmp_path):
    study = study_with(tmp_path)
    cells = {"ok": ADDING, "diverged": Cell("1a", "adding_problem", 200, 2024), "partial": COPY, "old": Cell(
        "1c", "adding_problem", 100, 2024)}
    put(tmp_path / "nersc", cells["ok"], text_of(study, cells["ok"]))
    put(tmp_path / "nersc", cells["diverged"], text_of(study, cells["diverged"], {"test_mse": math.nan}))
    text = text_of(study, cells["partial"])
    put(tmp_path / "nersc", cells["partial"], text[: text.index('"test_mae"')])
    put(tmp_path / "dgx", cells["old"], text_of(study, cells["old"]))
    put(tmp_path / "dgx", FORRELATION, text_of(study, FORRELATION))
    study.result_folder.mkdir(parents=True)
    put(study.result_folder, cells["old"], "not a result")
    own = Cell("3c", "adding_problem", 100, 2024)
    write_results(study, [own])
    before = study.result_path(own).stat().st_mtime_ns
    put(tmp_path / "nersc", own, text_of(study, own, {"test_mse": 0.5}))

    adopted = adopt(merge(study))
    assert {path.name for path in adopted} == {cells[key].result_name for key in ("ok", "diverged", "old")}
    assert study.result_path(ADDING).read_bytes() == (tmp_path / "nersc" / ADDING.result_name).read_bytes()
    assert study.result_path(own).stat().st_mtime_ns == before
    assert [path.read_text() for path in (study.results / "superseded").iterdir()] == ["not a result"]
    assert len(list(study.result_folder.glob("*.json"))) == 4

    alone = study_with(tmp_path, systems={})
    merged = merge(alone)
    assert {cell for cell in alone.cells if merged.finished(cell)} == {*cells.values(), own} - {COPY}
    assert merged.runs[ADDING].system == "nersc"     # from the note of its adoption
    assert merged.runs[cells["diverged"]].status == "diverged"
    assert adopt(merge(study)) == []


def test_a_valid_result_that_comes_while_another_is_adopted_stays(tmp_path, monkeypatch):
    study = study_with(tmp_path)
    put(tmp_path / "nersc", ADDING, theirs := text_of(study, ADDING, {"test_mse": 0.5}))
    merged = merge(study)
    monkeypatch.setattr(outputs, "write_json", lambda *_: write_results(study, [ADDING]))
    assert adopt(merged) == [] and state_of(study, ADDING).state.finished
    assert study.result_path(ADDING).read_text() != theirs
    assert [path.read_text() for path in study.superseded.iterdir()] == [theirs]


def test_cells_of_another_system_are_left_to_it(tmp_path):
    assign = {"forrelation": "dgx", "adding_problem": "nersc",
              "overrides": [{"system": "dgx", "tasks": ["adding_problem"], "models": ["3a", "3b"]},
                            {"system": "nersc", "models": ["3a"], "lengths": [1000]}]}
    studies = {name: study_with(tmp_path, assign=assign, system=name) for name in ("nersc", "dgx", "local")}
    targets = {name: {cell.result_name for cell in Plan(study).to_train} for name, study in studies.items()}
    copy = {cell.result_name for cell in studies["dgx"].cells if cell.task == "selective_copy"}
    free = {name for name in copy if not re.search("_3a_.*_L1000_", name)}
    assert targets["local"] == free
    assert targets["nersc"] & targets["dgx"] == free
    assert targets["nersc"] | targets["dgx"] == {cell.result_name for cell in studies["dgx"].cells}
    assert {name for name in targets["dgx"] if "adding" in name} == {
        cell.result_name for cell in studies["dgx"].cells if cell.task == "adding_problem" and (
            cell.model == "3b" or (cell.model == "3a" and cell.length < 1000))}
    plan = Plan(studies["local"])
    assert plan.state(ADDING).reason == "assigned to nersc"
    assert plan.aim([])[0] == {"all"}    # no report: cells are missing elsewhere
    counted = r"0 done, 141 to train \(141 missing\)\n  \d+ cells are assigned to dgx\n  \d+ cells"
    assert re.search(counted, plan.summary())


@pytest.mark.parametrize("same_run", [True, False])
def test_weights_and_predictions_of_another_run_do_not_stay_next_to_an_adopted_result(tmp_path, same_run):
    study = study_with(tmp_path)
    told = {"file": "x.npz", "sha256": hashlib.sha256(b"ours" if same_run else b"theirs").hexdigest(), "n": 500}
    put(tmp_path / "dgx", ADDING, text_of(study, ADDING, {"predictions": told}, 2))
    study.result_folder.mkdir(parents=True)
    stem = study.result_path(ADDING).name.removesuffix("results.json")
    for ending in ("predictions.npz", "model.pt"):
        (study.result_folder / f"{stem}{ending}").write_bytes(b"ours")
    assert adopt(merge(study)) == [study.result_path(ADDING)]
    assert len(list(study.result_folder.glob(f"{stem}[mp]*"))) == (2 if same_run else 0)
    assert len(list(study.superseded.glob("*"))) == (0 if same_run else 2)
    assert "other_predictions" not in merge(study).runs[ADDING].flags


def test_copies_that_were_cut_off_are_the_run_and_the_most_complete_is_used(tmp_path):
    study = study_with(tmp_path)
    text = text_of(study, ADDING)
    put(tmp_path / "nersc", ADDING, text[: text.index('"test_mse"')])
    put(tmp_path / "dgx", ADDING, text[: text.index('"test_mae"')])
    assert merge(study).runs[ADDING].file.source == "dgx" and merge(study).finished(ADDING)
    study.result_folder.mkdir(parents=True)
    put(study.result_folder, ADDING, text)
    merged = merge(study)
    assert merged.runs[ADDING].status == "ok" and merged.pairs() == []
    assert sorted(v.reason for v in merged.verdicts) == ["", "identical_copy", "identical_copy"]
    assert_in_any_order(study, merged)


def test_of_one_system_the_later_run_is_used(tmp_path):
    folders = [tmp_path / name for name in ("first", "again")]
    study = study_with(tmp_path, systems={"dgx": {"results": list(map(str, folders))}})
    for folder, stamp, mse in zip(folders, ("20260801_120000", "20260802_120000"), (0.02, 0.03), strict=True):
        folder.mkdir()
        put(folder, ADDING, text_of(study, ADDING, {"timestamp": stamp, "test_mse": mse}))
    assert merge(study).runs[ADDING].record["test_mse"] == 0.03
    assert_in_any_order(study, merge(study))
