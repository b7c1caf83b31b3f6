"""Hours of the missing cells: sums, finished cells left out, epochs from results."""

import pytest
from factories import small_study, write_results

from qablate.bench.planning import finished_runs, measure_costs, plan_hours, print_plan
from qablate.errors import QablateError
from qablate.hours import CostRow, CostTable, epochs_used

TASKS = ("adding_problem", "forrelation", "selective_copy")
TABLE = CostTable(CostRow("cpu", model, task, length, 3600.0, None, "measured")
                  for model in ("1b", "3b") for task in TASKS for length in (16, 32))
CELLS = 3 * 2 * 2  # tasks, lengths, seeds


def study_of(tmp_path, *models):
    return small_study(tmp_path, models=list(models))


def test_hours_are_cells_times_epochs_times_seconds(tmp_path):
    plans = plan_hours(study_of(tmp_path, "1b", "3b"), TABLE, "cpu")
    assert [plan.n_missing for plan in plans] == [CELLS, CELLS]
    # an hour an epoch at 5,000 items; the study has 200 items and 6 epochs at most
    assert [plan.hours for plan in plans] == pytest.approx([CELLS * 6 * 200 / 5000] * 2)


def test_finished_cells_cost_nothing(tmp_path):
    study = study_of(tmp_path, "1b", "3b")
    write_results(study, [cell for cell in study.cells if cell.model == "1b"])
    done, missing = plan_hours(study, TABLE, "cpu")
    assert (done.n_missing, done.hours) == (0, 0)
    assert missing.n_missing == CELLS


def test_cells_of_another_system_cost_nothing_and_tell_their_epochs(tmp_path):
    there = tmp_path / "dgx"
    study = small_study(tmp_path / "results", models=["3b"], systems={"dgx": {"results": str(there)}})
    write_results(small_study(there, models=["3b"]), study.cells[:2])
    (there / "synthetic_benchmarks").rename(tmp_path / "moved")
    there.rmdir()
    (tmp_path / "moved").rename(there)
    (plan,) = plan_hours(study, TABLE, "cpu")
    assert plan.n_missing == CELLS - 2
    assert set(epochs_used(finished_runs(study).values())) == {("3b", study.cells[0].task)}


def test_epochs_of_results_go_before_the_recipe(tmp_path):
    study = study_of(tmp_path, "3b")
    first = study.cells[0]
    (record,) = write_results(study, [first])
    assert epochs_used(finished_runs(study).values()) == {("3b", first.task): record["epochs_trained"]}
    (plan,) = plan_hours(study, TABLE, "cpu")
    same_task = CELLS // 3 - 1
    epochs = same_task * record["epochs_trained"] + (CELLS - CELLS // 3) * 6
    assert plan.hours == pytest.approx(epochs * 200 / 5000)


def test_an_unreadable_result_does_not_stop_the_plan(tmp_path):
    study = study_of(tmp_path, "3b")
    path = study.result_path(study.cells[0])
    path.parent.mkdir(parents=True)
    path.write_text("{")
    assert plan_hours(study, TABLE, "cpu")[0].n_missing == CELLS


def test_cells_without_a_cost_are_counted_not_hidden(tmp_path, capsys):
    study = study_of(tmp_path, "1b", "4e")
    plans = plan_hours(study, TABLE, "cpu")
    assert plans[1].n_unknown == CELLS
    print_plan(study, plans, "cpu")
    printed = capsys.readouterr().out
    assert f"0.00 + {CELLS} cells unknown" in printed
    assert f"{plans[0].hours:.2f} + {CELLS} cells unknown" in printed  # also in the sum
    assert max(map(len, printed.splitlines())) <= 80


def test_costs_are_of_the_published_sizes_only(tmp_path):
    with pytest.raises(QablateError, match="other sizes than the published"):
        measure_costs(study_of(tmp_path, "1b"), tmp_path / "costs.csv", ["1b"])
