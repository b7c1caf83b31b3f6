"""Cells, settings, dataset identity, and whether a result stands."""

import csv
import dataclasses
import hashlib
import json
import re
from pathlib import Path

import pytest
import yaml
from factories import CONFIG, published_study, record_of, schema1_of, small_study

from qablate.catalog import MODELS, TASKS, model_info
from qablate.config import ConfigError, config_schema, load_config, merge
from qablate.errors import QablateError
from qablate.records import write_record
from qablate.results import state_of
from qablate.study import DatasetSpec, Study, published_sha256

CELLS_SHA256 = "2e0f14faea9acb4a9bdc8b8fd7abb25f533b113dd785f02cc59eefa2bf661847"
GOLDENS = Path(__file__).parent / "data" / "dataset_goldens.csv"


def test_the_published_study_has_396_cells_and_33_datasets():
    study = Study.load([CONFIG])
    assert len(study.cells) == len(set(study.cells)) == 396
    assert len(study.datasets) == 33
    assert len({cell.model for cell in study.cells}) == 12


def test_identities_are_the_published_ones():
    with GOLDENS.open() as file:
        golden = {row["identity_params"]: row["dataset_sha256"] for row in csv.DictReader(file)}
    study = Study.load([CONFIG])
    assert {spec.identity_json for spec in study.datasets} == set(golden)
    assert dict(published_sha256()) == golden
    assert {spec.variant for spec in study.datasets} == {"published"}


def test_nothing_that_results_are_judged_by_has_moved():
    """Changes only when the numbers of a model change on purpose (`code_version`): every result is stale then."""
    study = Study.load([CONFIG])
    lines = [
        f"{study.cell_key(cell)} {study.settings_sha256(cell)} {spec.identity_json} {study.dataset_path(cell)}"
        for cell in study.cells
        for spec in [study.dataset(cell.task, cell.length, cell.seed)]
    ]
    assert hashlib.sha256("\n".join(lines).encode()).hexdigest() == CELLS_SHA256


@pytest.mark.parametrize("change", [{"n_samples": 400}, {"changed": (("n_markers", 4),)}])
def test_any_changed_parameter_changes_path_and_identity(change):
    base = DatasetSpec("selective_copy", 100, 2024)
    other = DatasetSpec("selective_copy", 100, 2024, **change)
    assert other.path(Path("r")) != base.path(Path("r"))
    assert other.identity_json != base.identity_json
    assert DatasetSpec("selective_copy", 200, 2024, **change).variant == other.variant


def test_file_names_are_those_the_users_look_for():
    study = Study.load([CONFIG])
    cell = study.cell("2d", "selective_copy", 500, 2026)
    assert study.result_path(cell) == Path(
        "results/synthetic_benchmarks/synthetic_2d_selective_copy_L500_seed2026_results.json"
    )
    assert study.cell_key(cell) == "published/published/2d/selective_copy/L500/seed2026"


@pytest.fixture
def held(tmp_path):
    study = small_study(tmp_path)
    cell = study.cell("1b", "adding_problem", 16, 2024)
    return study, cell, record_of(study, cell)


def test_states_of_a_cell(held):
    study, cell, record = held
    assert state_of(study, cell).state == "missing"
    write_record(study.result_path(cell), record)
    assert state_of(study, cell).state == "done"
    study.result_path(cell).write_text(json.dumps(record)[:-40])
    assert state_of(study, cell).state == "unreadable"
    assert "truncated" in state_of(study, cell).reason


@pytest.mark.parametrize(
    ("section", "key", "value"),
    [
        ("training", "patience", 7),
        ("model", "n_qubits", 4),
        ("data", "n_samples", 300),
        ("training", "recipe", "other"),
        ("run", "threads", 4),
        ("run", "device", "cuda"),
        ("quantum", "backend", "pennylane"),
    ],
)
def test_a_changed_setting_makes_a_result_stale_and_is_named(tmp_path, held, section, key, value):
    study, cell, record = held
    write_record(study.result_path(cell), record)
    changed = small_study(tmp_path)
    changed.config[section] = {**changed.config[section], key: value}
    state = state_of(changed, cell)
    how = section in ("run", "quantum")    # how a cell is run never makes it stale
    assert state.state == ("done" if how else "stale")
    assert how or f"{section}.{key}" in state.reason


def test_a_raised_code_version_makes_its_results_stale(held, monkeypatch):
    study, cell, record = held
    write_record(study.result_path(cell), record)
    raised = dataclasses.replace(model_info(cell.model), code_version=2)
    monkeypatch.setattr("qablate.study.model_info", lambda _: raised)
    assert "model_code_version" in state_of(study, cell).reason


def test_another_dataset_does_not_satisfy_a_cell(tmp_path):
    study = published_study(tmp_path)
    cell = study.cell("1b", "adding_problem", 100, 2024)
    record = record_of(study, cell)
    write_record(study.result_path(cell), record)
    assert state_of(study, cell).state == "done"
    record["dataset"]["dataset_sha256"] = "0" * 64
    write_record(study.result_path(cell), record)
    assert "dataset 000000000000 is not" in state_of(study, cell).reason


def test_published_forrelation_files_have_no_honest_score(tmp_path):
    study = published_study(tmp_path)
    for task, state in (("adding_problem", "done"), ("forrelation", "selected_on_test")):
        cell = study.cell("3a", task, 100, 2024)
        study.result_path(cell).parent.mkdir(parents=True, exist_ok=True)
        study.result_path(cell).write_text(json.dumps(schema1_of(record_of(study, cell))))
        assert state_of(study, cell).state == state


def test_the_schema_lists_the_models_and_tasks_of_the_catalog():
    properties = config_schema()["properties"]
    for kind, ids in (("model", MODELS), ("task", TASKS)):
        assert all(re.match(config_schema()["$defs"][kind]["pattern"], name) for name in ids)
    assert set(properties["tasks"]["properties"]) == set(TASKS)


@pytest.mark.parametrize(("entry", "changes", "words"), [
    (MODELS["1a"], {"id": "1_a"}, "model id '1_a' must consist of letters and digits"),
    (MODELS["1a"], {"mixing": "quantun"}, "model 1a: 'quantun' is not one of classical, quantum, quantum_"),
    (TASKS["forrelation"], {"id": "Forrelation"}, "task id 'Forrelation' must be lower-case words"),
    (TASKS["forrelation"], {"metric": "test_mse"}, "task forrelation: metric 'test_mse' is not one of test_acc"),
    (TASKS["forrelation"], {"settings": {"bits": {}}}, "task forrelation: setting 'bits' is none of its parameters"),
])
def test_an_entry_that_files_or_results_cannot_hold_is_refused(entry, changes, words):
    with pytest.raises(QablateError, match=words):
        dataclasses.replace(entry, **changes)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_no_setting_is_nan_or_infinite(value):
    published = yaml.safe_load(CONFIG.read_text())
    for section, settings in published.items():
        for key, found in settings.items() if isinstance(settings, dict) else ():
            if type(found) in (int, float):
                with pytest.raises(ConfigError, match=rf"{section}.{key}: -?(nan|inf) is not"):
                    load_config([CONFIG], {section: {key: value}})


def test_mappings_are_merged_and_lists_replaced():
    assert merge({"a": {"b": 1, "c": [1]}, "d": 2}, {"a": {"c": [2]}}) == {"a": {"b": 1, "c": [2]}, "d": 2}


def test_unknown_cells_are_named():
    study = Study.load([CONFIG])
    for wanted, message in ((("1b", "adding_problem", 123, 2024), "adding_problem: length 123: study .* 100, 200, 500"),
                            (("1b", "adding_problem", 100, 7), "seed 7: study 'published' has 2024, 2025, 2026"),
                            (("9z", "adding_problem", 100, 2024), "unknown model '9z': known are 1a, 1b"),
                            (("1b", "sorting", 100, 2024), "unknown task 'sorting': known are forrelation")):
        with pytest.raises(QablateError, match=message):
            study.cell(*wanted)
    fewer = Study.load([CONFIG], {"models": ["1a"]})
    with pytest.raises(QablateError, match="model 1b: study 'published' has 1a"):
        fewer.cell("1b", "adding_problem", 100, 2024)


def test_config_file_holds_every_key_of_the_schema():
    schema, config = config_schema(), yaml.safe_load(CONFIG.read_text())
    assert set(config) == set(schema["properties"])
    for section, rules in schema["properties"].items():
        if section not in ("tasks", "assign") and rules.get("properties"):
            assert set(config[section]) == set(rules["properties"])
