"""What the workflow asks about single cells, without Snakemake."""

import os
import time
from pathlib import Path

import factories
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from qablate.cli import main
from qablate.config import difference, merge
from qablate.errors import QablateError
from qablate.plan import Plan, fingerprint, note_report
from qablate.records import companion
from qablate.results import checks_path
from qablate.study import Cell, Study

CELL = Cell("1b", "adding_problem", 16, 2024)
SETTINGS = st.recursive(
    st.integers(0, 3), lambda inner: st.dictionaries(st.sampled_from("abc"), inner, min_size=1), max_leaves=8
)
MAPPINGS = st.dictionaries(st.sampled_from("abc"), SETTINGS)


@pytest.fixture
def study(tmp_path: Path) -> Study:
    return factories.small_study(tmp_path)


@given(MAPPINGS, MAPPINGS)
def test_difference_undoes_merge(base: dict, over: dict) -> None:
    merged = merge(base, over)
    assert merge(base, difference(base, merged)) == merged
    assert difference(merged, merged) == {}


def test_a_cell_waits_for_its_dataset_only_where_that_is_missing(study: Study) -> None:
    dataset = study.dataset_path(CELL)
    assert Plan(study).inputs(CELL) == [str(dataset)]
    dataset.parent.mkdir(parents=True)
    dataset.touch()
    assert Plan(study).inputs(CELL) == []


@pytest.mark.parametrize(("name", "words"), [
    ("1b_adding_problem_L16_seed1", "seed 1: study '"), ("1b_adding_problem_L17_seed2024", "length 17: study '"),
    ("1z_adding_problem_L16_seed2024", "unknown model '1z'")])
def test_the_result_of_no_cell_is_refused_with_what_there_is(study: Study, name: str, words: str) -> None:
    with pytest.raises(QablateError, match=words):
        Plan(study).aim({f"{study.result_folder}/synthetic_{name}_results.json"})


def test_the_report_is_due_when_a_content_changed_and_never_for_a_time(study: Study) -> None:
    factories.write_results(study)
    assert Plan(study).report_due
    note_report(study, fingerprint(Plan(study).merged))
    for path in Plan(study).report_files:
        assert Plan(study).report_due
        path.write_text("a report")
    assert Plan(study).aim([]) == ({"all"}, set())
    assert Plan(study).aim([], forced=True)[0] == {"report"}
    result = study.result_path(CELL)
    for then in (0, time.time() + 1e6):
        os.utime(result, (then, then))
        assert not Plan(study).report_due
    changed = [{"seeds": [2024]}, {"import": {**study.config["import"], "source_order": ["dgx"]}}]
    assert all(Plan(with_changes(study, **change)).report_due for change in changed)
    assert not Plan(with_changes(study, system="dgx", run={**study.config["run"], "threads": 2})).report_due
    for file in (checks_path(result), study.dataset_path(CELL).with_suffix(".json"),
                 study.dataset_path(CELL).with_suffix(".checks.json")):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("{}")
        assert Plan(study).report_due, file
        note_report(study, fingerprint(Plan(study).merged))
        assert not Plan(study).report_due
    factories.write_results(study, [CELL], training_time=1.0)
    assert Plan(study).report_due


def test_the_report_is_due_when_claims_costs_code_or_the_worth_of_a_file_changed(
        study: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    factories.write_results(study, predictions={"file": "x.npz", "sha256": "0" * 64, "n": 20})
    for path in Plan(study).report_files:
        path.write_text("a report")
    (tmp_path / "workflow").mkdir()
    monkeypatch.chdir(tmp_path)
    for change in (lambda: Path("workflow/claims.yaml").touch(), lambda: Path("workflow/costs.csv").touch(),
                   lambda: monkeypatch.setattr("qablate.plan.__version__", "0"),
                   lambda: companion(study.result_path(CELL), "predictions.npz").touch()):    # of another run
        note_report(study, fingerprint(Plan(study).merged))
        assert not Plan(study).report_due
        change()
        assert Plan(study).report_due


@pytest.mark.parametrize("comes", [True, False])
def test_a_report_is_due_again_if_a_result_came_while_it_was_made(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch, comes: bool) -> None:
    study = factories.small_study(tmp_path / "results", models=["3a"], seeds=[1])
    factories.write_results(study)
    (tmp_path / "all.yaml").write_text(yaml.safe_dump({**study.config, "results": str(study.results)}))

    def slow(study: Study, *_: object) -> None:
        for path in Plan(study).report_files:
            path.write_text("a report")
        if comes:
            factories.write_results(study, training_time=1.0)

    monkeypatch.setattr("qablate.analysis.make_report", slow)
    assert main(["report", "--config", str(tmp_path / "all.yaml")]) == 0
    assert Plan(Study.load([tmp_path / "all.yaml"])).report_due is comes


def with_changes(study: Study, **changes: object) -> Study:
    changed = Study({**study.config, **changes})
    changed.results = study.results
    return changed


def test_description_fits_a_terminal_and_counts_the_rest(study: Study) -> None:
    model = {"d_model": 64, "d_state": 8, "n_layers": 3}
    factories.write_results(study, [CELL], model_config=model,
                            hyperparameters={**model, "batch_size": 16, "learning_rate": 0.5})
    lines = Plan(study).describe(CELL).splitlines()
    assert lines[0] == "train 1b on adding_problem, length 16, seed 2024 (stale)"
    assert len(lines) == 5
    assert lines[-1] == "  and 2 more"
    assert max(map(len, lines)) <= 80
