"""Cells, settings, dataset identity, and whether a result stands."""

import dataclasses
import hashlib

import pytest
import yaml
from factories import CONFIG, small_study, write_results

from qablate.catalog import MODELS, TASKS, _by_token
from qablate.config import config_schema
from qablate.errors import QablateError
from qablate.results import state_of
from qablate.study import Study

CELLS_SHA256 = "2e0f14faea9acb4a9bdc8b8fd7abb25f533b113dd785f02cc59eefa2bf661847"


def test_nothing_that_results_are_judged_by_has_moved():
    """Changes only when the numbers of a model change on purpose (`code_version`): every result is stale then."""
    study = Study.load([CONFIG])
    lines = [
        f"{study.cell_key(cell)} {study.settings_sha256(cell)} {spec.identity_json} {study.dataset_path(cell)}"
        for cell in study.cells
        for spec in [study.dataset(cell.task, cell.length, cell.seed)]
    ]
    assert hashlib.sha256("\n".join(lines).encode()).hexdigest() == CELLS_SHA256


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
def test_a_changed_setting_makes_a_result_stale_and_is_named(tmp_path, section, key, value):
    study, changed = small_study(tmp_path), small_study(tmp_path)
    cell = study.cell("1b", "adding_problem", 16, 2024)
    write_results(study, [cell])
    changed.config[section] = {**changed.config[section], key: value}
    state = state_of(changed, cell)
    how = section in ("run", "quantum")    # how a cell is run never makes it stale
    assert state.state == ("done" if how else "stale")
    assert how or f"{section}.{key}" in state.reason


@pytest.mark.parametrize(("entry", "changes", "words"), [
    (MODELS["1a"], {"id": "1_a"}, "model id '1_a' must consist of letters and digits"),
    (MODELS["1a"], {"chunk": 0}, "model 1a: chunk 0 is no whole number above 0"),
    (MODELS["1a"], {"group": "5"}, "model 1a: group '5' is no whole number above 0"),
    (MODELS["1a"], {"code_version": True}, "model 1a: code_version True is no whole number"),
    (MODELS["1a"], {"mixing": "quantun"}, "model 1a: 'quantun' is not one of classical, quantum, quantum_"),
    (TASKS["forrelation"], {"id": "Forrelation"}, "task id 'Forrelation' must be lower-case words"),
    (TASKS["forrelation"], {"metric": "test_mse"}, "task forrelation: metric 'test_mse' is not one of test_acc"),
    (TASKS["forrelation"], {"kind": "classify"}, "task forrelation: kind 'classify' is not one of regression"),
    (TASKS["forrelation"], {"shortest": "n_market"}, "task forrelation: size 'n_market' is none of its parameters"),
    (TASKS["forrelation"], {"settings": {"bits": {}}}, "task forrelation: setting 'bits' is none of its parameters"),
])
def test_an_entry_that_files_or_results_cannot_hold_is_refused(entry, changes, words):
    with pytest.raises(QablateError, match=words):
        dataclasses.replace(entry, **changes)


def test_no_entry_takes_the_place_of_another():
    with pytest.raises(QablateError, match="id '1b' is there twice"):
        _by_token(*MODELS.values(), dataclasses.replace(MODELS["3b"], id="1b"))


def test_config_file_holds_every_key_of_the_schema():
    schema, config = config_schema(), yaml.safe_load(CONFIG.read_text())
    assert set(config) == set(schema["properties"])
    for section, rules in schema["properties"].items():
        if section not in ("tasks", "assign") and rules.get("properties"):
            assert set(config[section]) == set(rules["properties"])
