"""What the workflow asks about single cells, without Snakemake."""

import json
from pathlib import Path

import factories
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qablate.analysis.collect import collect
from qablate.config import difference, merge
from qablate.costs import CostTable
from qablate.errors import QablateError
from qablate.plan import Plan
from qablate.status import survey
from qablate.study import Cell, CellState, Study

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


def test_finished_cell_waits_for_nothing(study: Study) -> None:
    factories.write_results(study, [CELL])
    assert Plan(study).inputs(CELL) == []


def test_missing_cell_waits_for_its_dataset(study: Study) -> None:
    assert Plan(study).inputs(CELL) == [str(study.dataset_path(CELL))]


def test_stale_result_is_copied_once_and_younger(study: Study) -> None:
    factories.write_results(study, [CELL], hyperparameters={"d_model": 64})
    result = study.result_path(CELL)
    first, second = Plan(study), Plan(study)
    copy = Path(first.inputs(CELL)[1])
    assert copy.read_bytes() == result.read_bytes()
    assert copy.stat().st_mtime > result.stat().st_mtime
    assert copy.parent == study.results / "superseded"
    assert second.inputs(CELL)[1] == str(copy)
    second.discard_copies()
    assert copy.exists()  # made by the other one: a dry run beside a real run takes nothing from it
    first.discard_copies()
    assert not copy.parent.exists()


def test_a_score_selected_on_test_items_is_missing_everywhere_and_kept(tmp_path: Path) -> None:
    here = factories.published_study(tmp_path / "results", models=["3a"], seeds=[2024])
    there = factories.published_study(tmp_path / "none", models=["3a"], seeds=[2024],
                                      systems={"dgx": {"results": str(here.result_folder)}})
    cell = Cell("3a", "forrelation", 50, 2024)
    here.result_folder.mkdir(parents=True)
    old = factories.schema1_of(factories.record_of(here, cell))
    here.result_path(cell).write_text(json.dumps({**old, "test_acc": old["best_val_metric"]}))
    for study, system in ((here, "local"), (there, "dgx")):
        plan, judged = Plan(study), collect(study).cells.set_index(["task", "length"]).loc[("forrelation", 50)]
        reason = f"{system}: known only with a score selected on its test items"
        assert plan.state(cell) == CellState("missing", reason)
        assert (judged["state"], judged["reason"]) == ("selected_on_test", reason)
        (status,) = [found for found in survey(study, CostTable([]), ask_slurm=False).cells if found.cell == cell]
        assert (status.state, status.reason, status.to_train) == ("missing", reason, True)
    dataset, kept = Plan(here).inputs(cell)
    assert Path(kept).read_text() == here.result_path(cell).read_text()
    assert Plan(there).inputs(cell) == [str(there.dataset_path(cell))]


def test_answer_outlives_the_file(study: Study) -> None:
    factories.write_results(study, [CELL], hyperparameters={"d_model": 64})
    plan = Plan(study)
    before = plan.inputs(CELL)
    study.result_path(CELL).unlink()  # Snakemake deletes a result before its job starts
    assert plan.state(CELL).state == "stale"
    assert before[1].startswith(str(study.results / "superseded"))


def test_result_that_cannot_be_kept_is_named(study: Study) -> None:
    study.result_path(CELL).mkdir(parents=True)
    with pytest.raises(QablateError, match=f"{CELL.result_name}: cannot be kept"):
        Plan(study).inputs(CELL)


def test_description_fits_a_terminal_and_counts_the_rest(study: Study) -> None:
    hyper = {"d_model": 64, "d_state": 8, "n_layers": 3, "batch_size": 16, "learning_rate": 0.5}
    factories.write_results(study, [CELL], hyperparameters=hyper)
    lines = Plan(study).describe(CELL).splitlines()
    assert lines[0] == "train 1b on adding_problem, length 16, seed 2024 (stale)"
    assert len(lines) == 5
    assert lines[-1] == "  and 2 more"
    assert max(map(len, lines)) <= 80
