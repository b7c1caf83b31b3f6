"""Result files and settings damaged at random: refused in one line, or sound; never an exception of another kind.

What is mutated are results in both schemas, and the settings that come with the project. `make test` tries 1,000 inputs
of each kind, `make test-full` 10,000.
"""

import json
import math
from pathlib import Path

import pytest
import yaml
from damage import IN_BYTES, in_values, mutated, with_changes
from factories import CONFIG, published_study, record_of, schema1_of
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from qablate.catalog import MODELS, TASKS
from qablate.config import ConfigError, load_config
from qablate.records import HISTORY, METRICS
from qablate.results.judging import judge_content
from qablate.results.reading import parse
from qablate.results.states import FINISHED, Found
from qablate.study import Cell, Study

N_INPUTS = [1000, pytest.param(10_000, marks=[pytest.mark.full, pytest.mark.timeout(3600)])]
ANYTHING = {"suppress_health_check": list(HealthCheck), "database": None}
KINDS = (*METRICS["regression"], *METRICS["classification"])


@pytest.fixture(scope="module")
def sound(tmp_path_factory) -> list[tuple[bytes, Study, Cell]]:
    """A result of each task in both schemas."""
    study, found = published_study(tmp_path_factory.mktemp("results")), []
    for task in TASKS:
        cell = next(cell for cell in study.cells if cell.task == task)
        record = record_of(study, cell)    # without its checksum, or nearly all damage would be refused by it alone
        published = schema1_of(record) | ({"test_acc": record["best_val_metric"]} if task == "forrelation" else {})
        found += [(json.dumps(one, indent=2).encode(), study, cell) for one in (record, published)]
    return found


def assert_sound(record: dict) -> None:
    """What a finished cell must be, said without the code that decides it."""
    assert record["model_id"] in MODELS
    kind = TASKS[record["task"]].kind
    assert record["task_type"] == kind
    assert record["data_info"]["n_timesteps"] == record["seq_len"] > 0
    assert record["status"] in ("ok", "diverged", "no_improvement")
    curves, n = record["history"], record["epochs_trained"]
    assert all(len(curves[key]) == n for key in HISTORY)
    assert all(record.get(key) is None for key in KINDS if key not in METRICS[kind])
    if record["status"] == "ok":
        assert all(math.isfinite(v) for key in ("train_loss", "val_loss", "val_metric") for v in curves[key])
        assert all(math.isfinite(record[key]) for key in METRICS[kind] if key != "test_auc")
    if record["schema_version"] == 2:     # in published files these are warnings
        assert curves["epochs"] == list(range(1, n + 1))
        if record["status"] == "ok":
            best = (min if kind == "regression" else max)(curves["val_metric"])
            assert abs(record["best_val_metric"] - best) <= 1e-9


def judge(content: bytes, study: Study, cell: Cell) -> bool:
    """Judge a result file; return whether it was taken for a whole one."""
    verdict = judge_content(study, Found("local", Path(cell.result_name)), parse(content))
    for line in (verdict.detail, *verdict.warnings):
        assert "\n" not in line
        line.encode("utf-8")
    if verdict.status not in FINISHED:
        assert verdict.status == "partial" or verdict.reason
        return False
    assert_sound(verdict.record)
    return True


@pytest.mark.parametrize("n_inputs", N_INPUTS)
@pytest.mark.parametrize("place", ["bytes", "values"])
def test_damaged_result_files(sound, place, n_inputs):
    taken = []

    def damaged(one):
        content, study, cell = one
        if place == "bytes":
            changed = IN_BYTES.map(lambda changes: mutated(content, changes))
        else:
            record = json.loads(content)
            changed = in_values(record).map(lambda changes: json.dumps(with_changes(record, changes)).encode())
        return st.tuples(changed, st.just(study), st.just(cell))

    @settings(max_examples=n_inputs, **ANYTHING)
    @given(choice=st.sampled_from(sound).flatmap(damaged))
    def damage(choice):
        taken.append(judge(*choice))

    assert all(judge(*one) for one in sound)
    damage()
    print(f"{len(taken)} inputs, {sum(taken)} taken for results (digits changed, or nothing that counts)")
    assert len(taken) >= n_inputs and 0 < sum(taken) < len(taken)


DEMO = Path(__file__).parents[2] / "workflow/studies/demo.yaml"


def judge_settings(files: list[Path], laid_over: dict) -> bool:
    """Read a study's settings; return whether they were taken, and were all that a study needs."""
    try:
        study = Study(load_config(files, laid_over))
    except ConfigError as error:
        assert "\n" not in str(error)
        str(error).encode("utf-8")
        return False
    for cell in study.cells[:3]:
        study.settings_sha256(cell)
        assert type(cell.length) is type(cell.seed) is int
        assert study.result_path(cell).name == cell.result_name
        assert all(size > 0 for size in study.dataset(cell.task, cell.length, cell.seed).split_sizes)
    training = study.config["training"]
    assert type(training["max_epochs"]) is int
    assert 0 < training["learning_rate"] < math.inf
    return True


@pytest.mark.parametrize("n_inputs", N_INPUTS)
@pytest.mark.parametrize("place", ["bytes", "values"])
def test_damaged_settings(tmp_path, place, n_inputs):
    taken, base, over = [], tmp_path / "base.yaml", tmp_path / "over.yaml"
    values, small = (yaml.safe_load(path.read_text()) for path in (CONFIG, DEMO))
    published, demo = (yaml.safe_dump(each).encode() for each in (values, small))

    @settings(max_examples=n_inputs, **ANYTHING)
    @given(changes=in_values(values) if place == "values" else IN_BYTES, in_overlay=st.booleans())
    def damage(changes, in_overlay):
        if place == "values":
            taken.append(judge_settings([], with_changes(values, changes)))
            return
        base.write_bytes(published if in_overlay else mutated(published, changes))
        over.write_bytes(mutated(demo, changes) if in_overlay else b"{}")
        taken.append(judge_settings([base, over], {}))

    damage()
    print(f"{len(taken)} inputs, {sum(taken)} taken for settings")
    assert len(taken) >= n_inputs and 0 < sum(taken) < len(taken)
