"""From files to one result a cell: by the declared rules, in any order, as an independent script finds it."""

import csv
import dataclasses
import hashlib
import json
import math
import random
import re
import subprocess
from pathlib import Path

import pytest
from factories import CONFIG, record_of, schema1_of, write_results
from import_builders import ADDING, COPY, FORRELATION, put, put_log, study_with, text_of

from qablate.cli import main
from qablate.errors import QablateError
from qablate.plan import Plan
from qablate.results import merge, outputs, state_of
from qablate.results.merging import choose
from qablate.results.outputs import adopt, write_tables
from qablate.study import Cell, Study

METRIC = {"forrelation": "test_acc", "adding_problem": "test_mse", "selective_copy": "test_r2"}
DEFECTS = ("none", "none", "none", "nothing", "cut late", "cut early", "nan", "empty", "name", "rate", "lengths",
           "schema 2", "schema 2", "other dataset", "not json", "copy", "other numbers", "other numbers")


def spread(study: Study, folder: Path, seed: int) -> None:
    """Write every cell to one source, some to both, every defect mixed in."""
    rng = random.Random(seed)
    for cell in study.cells:
        first, second = rng.sample(["nersc", "dgx"], 2)
        defect = rng.choice(DEFECTS)
        record = record_of(study, cell)
        text = damaged(record, cell, defect)
        if text is not None:
            put(folder / first, cell, text)
        if defect == "copy":
            put(folder / second, cell, text)
        if defect == "other numbers":
            key = METRIC[cell.task]
            put(folder / second, cell, json.dumps(schema1_of({**record, key: record[key] * 0.9})))


def damaged(record: dict, cell: Cell, defect: str) -> str | None:
    """The text of a result with one defect; None for no file."""
    old, key = schema1_of(record), METRIC[cell.task]
    text = json.dumps(old, indent=2)
    last = "test_f1" if cell.task == "forrelation" else "test_mae"
    return {
        "nothing": None,
        "cut late": text[: text.index(f'"{last}"') + len(last) + 4],
        "cut early": text[: text.index('"best_val_metric"')],
        "nan": json.dumps({**old, key: math.nan}, indent=2),
        "empty": "",
        "name": json.dumps({**old, "seed": old["seed"] + 1}),
        "rate": json.dumps({**old, "hyperparameters": {**old["hyperparameters"], "learning_rate": 0.01}}),
        "lengths": json.dumps({**old, "epochs_trained": old["epochs_trained"] + 1}),
        "schema 2": json.dumps(record),
        "other dataset": json.dumps({**record, "dataset": {**record["dataset"], "dataset_sha256": "0" * 64}}),
        "not json": text.replace('"history"', "history"),
    }.get(defect, text)


def naive_result(path: Path, source: str, variances: dict) -> tuple[int, str, float | None] | None:
    """What one file says of its cell: (rank, status, score), None if nothing; knows nothing of the package."""
    text = path.read_text()
    named = re.fullmatch(r"synthetic_(..)_(.+)_L(\d+)_seed(\d+)_results.json", path.name).groups()
    task, key = named[1], METRIC[named[1]]
    try:
        record = json.loads(text)
    except ValueError:
        if task == "forrelation" or '"lr": [' not in text or not text.startswith('{\n  "model_id"'):
            return None
        found = re.search(r'\n  "test_mse": ([^,\n]+),\n', text)
        if found is None or '"history": {' not in text:    # damaged, not cut
            return None
        mse = float(found[1])
        return 2, "partial", mse if key == "test_mse" else 1 - mse / variances[task, int(named[2]), int(named[3])]
    if str(record["seed"]) != named[3] or record["hyperparameters"]["learning_rate"] != 0.001:
        return None
    if len(record["history"]["lr"]) != record["epochs_trained"]:
        return None
    if "schema_version" in record:
        return None if record["dataset"]["dataset_sha256"] == "0" * 64 else (0, "ok", record[key])
    if task == "forrelation":
        return None      # leaky from one system, selected on its test items from the other
    return (1, "diverged", None) if math.isnan(record[key]) else (1, "ok", record[key])


def naive_merge(folder: Path) -> dict[str, tuple[str, float | None]]:
    """Best rank first, then nersc before dgx."""
    golden = Path(__file__).parents[1] / "data/dataset_goldens.csv"
    with golden.open() as file:
        rows = [(json.loads(row["identity_params"]), row) for row in csv.DictReader(file)]
    variances = {(i["task"], i["seq_len"], i["seed"]): float(row["test_target_var"]) for i, row in rows
                 if row.get("test_target_var")}
    found: dict[str, list] = {}
    for at, source in enumerate(("nersc", "dgx")):
        for path in (folder / source).glob("*.json"):
            result = naive_result(path, source, variances)
            if result is not None:
                found.setdefault(path.name, []).append((result[0], at, result[1:]))
    return {name: min(results)[2] for name, results in found.items()}


@pytest.mark.parametrize("seed", [1, 2])
def test_396_cells_with_every_defect_are_merged_as_a_naive_script_does(tmp_path, seed):
    study = study_with(tmp_path)
    spread(study, tmp_path, seed)
    merged = merge(study)
    found = {cell.result_name: (run.status, run.record[METRIC[cell.task]]) for cell, run in merged.runs.items()
             if run.finishes}
    expected = naive_merge(tmp_path)
    assert len(expected) > 150
    assert {name: status for name, (status, _) in found.items()} == {n: s for n, (s, _) in expected.items()}
    for name, (_, score) in found.items():
        assert score == (pytest.approx(expected[name][1], abs=1e-6) if score is not None else expected[name][1]), name
    means = {cell.result_name for cell, run in merged.runs.items() if run.enters_means}
    assert means == {name for name, (status, _) in expected.items() if status != "diverged"}
    plan = Plan(study)
    missing = {cell.result_name for cell in study.cells} - set(expected)
    assert {cell.result_name for cell in plan.to_train} == missing
    assert f"{len(expected)} done ({len(expected)} imported), {len(missing)} to train" in plan.summary()


def test_what_is_known_does_not_depend_on_the_order_of_files(tmp_path):
    study = study_with(tmp_path)
    spread(study, tmp_path, 3)
    for cell in (ADDING, COPY):
        for name in ("nersc", "dgx"):
            put(tmp_path / name, cell, text_of(study, cell, {"test_mse": 0.01 + len(name) / 1000}))
    merged = merge(study)
    undone = [dataclasses.replace(v, status=v.judged or v.status, chosen=False) for v in merged.verdicts]
    assert "duplicate" not in {verdict.status for verdict in undone}
    for seed in range(5):
        random.Random(seed).shuffle(undone)
        runs, legacy, verdicts = choose(study, undone)
        assert {c: r.file.path for c, r in runs.items()} == {
            c: r.file.path for c, r in merged.runs.items()}
        assert [(v.file, v.status) for v in verdicts] == [(v.file, v.status) for v in merged.verdicts]
        assert set(legacy) == set(merged.legacy)


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
    assert all(len(row["sha256"]) == 64 for row in index)
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
    count = subprocess.run("ls synthetic_1*.json | wc -l", shell=True, cwd=study.result_folder, text=True,
                           capture_output=True, check=True)
    assert int(count.stdout) == 3

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
