"""What the workflow asks about single cells, without Snakemake."""

from pathlib import Path

import factories
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qablate.config import difference, merge
from qablate.errors import QablateError
from qablate.plan import Plan
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
