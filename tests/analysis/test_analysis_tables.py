"""The tables against plain loops over the JSON files, with missing, diverged and faulty cells mixed in."""

import json
import statistics

import numpy as np
import pandas as pd
import pytest
from factories import published_study, record_of, schema1_of, small_study, write_results

from qablate.analysis.runs import collect
from qablate.analysis.tables import make_tables
from qablate.records import write_record


@pytest.fixture(scope="module")
def mixed(tmp_path_factory):
    """A study of 144 cells: some missing, diverged, without improvement, unreadable or made with other settings."""
    study = small_study(tmp_path_factory.mktemp("mixed") / "results")
    rng = np.random.default_rng(7)
    kinds = rng.choice(["ok", "missing", "diverged", "no_improvement", "broken", "stale"], size=len(study.cells),
                       p=[0.7, 0.08, 0.08, 0.06, 0.04, 0.04])
    for cell, kind in zip(study.cells, kinds, strict=True):
        path = study.result_path(cell)
        if kind in ("ok", "diverged", "no_improvement"):
            write_record(path, record_of(study, cell, status=str(kind)))
        elif kind == "broken":
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text('{"model_id": "1a", "test_mae": ')
        elif kind == "stale":
            write_record(path, record_of(study, cell, hyperparameters={"learning_rate": 0.5}))
    return study, dict(zip(study.cells, kinds, strict=True))


@pytest.fixture(scope="module")
def tables(mixed):
    return {key: table.content.frame for key, table in make_tables(collect(mixed[0])).items()}


def naive(study, kinds, task, metric):
    """Scores by (model, length, seed) of every cell that counts, from the files alone."""
    found = {}
    for cell, kind in kinds.items():
        if cell.task == task and kind in ("ok", "no_improvement"):
            found[cell.model, cell.length, cell.seed] = json.loads(study.result_path(cell).read_text())[metric]
    return found


@pytest.mark.parametrize(("table", "task", "metric"), [
    ("adding_by_length", "adding_problem", "test_mse"),
    ("selective_by_length", "selective_copy", "test_r2"),
    ("forrelation_by_length", "forrelation", "test_acc"),
])
def test_means_by_length(mixed, tables, table, task, metric):
    study, kinds = mixed
    scores = naive(study, kinds, task, metric)
    rows = tables[table].set_index("model")
    for model in study.config["models"]:
        for length in (16, 32):
            values = [value for (m, n, _), value in scores.items() if (m, n) == (model, length)]
            row = rows.loc[model]
            diverged = [cell for cell, kind in kinds.items()
                        if (cell.model, cell.task, cell.length, kind) == (model, task, length, "diverged")]
            assert row[f"L{length}_n"] == len(values)
            assert row[f"L{length}_planned"] == 2
            assert row[f"L{length}_diverged"] == len(diverged)
            if values:
                assert row[f"L{length}_mean"] == pytest.approx(statistics.fmean(values), rel=1e-12)
            else:
                assert pd.isna(row[f"L{length}_mean"]) and row[f"L{length}_state"]
            if len(values) > 1:
                assert row[f"L{length}_sd"] == pytest.approx(statistics.stdev(values), rel=1e-12)
            else:
                assert pd.isna(row[f"L{length}_sd"])


def test_mean_over_lengths_uses_common_blocks_only(mixed, tables):
    study, kinds = mixed
    scores = naive(study, kinds, "adding_problem", "test_r2")
    models = {model for model, _, _ in scores}
    blocks = [(length, seed) for length in (16, 32) for seed in (2024, 2025)
              if all((model, length, seed) in scores for model in models)]
    rows = tables["adding_by_length"].set_index("model")
    for model in models:
        assert rows.loc[model, "blocks"] == len(blocks)
        if blocks:
            expected = statistics.fmean(scores[model, *block] for block in blocks)
            assert rows.loc[model, "common_mean"] == pytest.approx(expected, rel=1e-12)
        else:
            assert rows.loc[model, "common_state"] == "no common block"


def test_common_blocks_leave_out_what_one_model_lacks(tmp_path):
    study = small_study(tmp_path, models=["1a", "3b"], tasks={"adding_problem": {"lengths": [16, 32]}})
    lacking = study.cell("3b", "adding_problem", 32, 2025)
    records = write_results(study, [cell for cell in study.cells if cell != lacking])
    row = make_tables(collect(study))["adding_by_length"].content.frame.set_index("model").loc["1a"]
    kept = [r["test_r2"] for r in records if r["model_id"] == "1a" and (r["seq_len"], r["seed"]) != (32, 2025)]
    assert row["blocks"] == 3
    assert row["common_mean"] == pytest.approx(statistics.fmean(kept))


def test_forrelation_beside_majority_and_constant_runs(tmp_path):
    study = small_study(tmp_path, models=["1a", "3a"], tasks={"forrelation": {"lengths": [16, 32]}})
    accuracy, majority = [0.55, 0.50, 0.45, 0.60], [0.52, 0.51, 0.50, 0.53]
    cells = [cell for cell in study.cells if cell.model == "1a"]
    for cell, acc, rate in zip(cells, accuracy, majority, strict=True):
        extra = {"majority_rate": rate, "constant_prediction": acc == 0.50}
        write_record(study.result_path(cell), record_of(study, cell, test_acc=acc, test_auc=acc, metrics_extra=extra))
    write_results(study, [cell for cell in study.cells if cell.model == "3a"])
    row = make_tables(collect(study))["forrelation_overview"].content.frame.set_index("model").loc["1a"]
    assert row["common_mean"] == pytest.approx(0.525)
    assert row["points"] == pytest.approx(100 * (0.525 - 0.515))
    assert row["gain"] == pytest.approx(0.05)
    assert (row["constant"], row["constant_known"], row["runs"], row["best"]) == (1, 4, 4, 0.60)


def test_progress_counts_each_finished_cell_once(mixed, tables):
    finished = [cell for cell, kind in mixed[1].items() if kind in ("ok", "diverged", "no_improvement")]
    rows = tables["progress"].set_index("task")
    for task in ("forrelation", "adding_problem", "selective_copy"):
        assert rows.loc[task, "finished"] == sum(cell.task == task for cell in finished)
        assert rows.loc[task, "planned"] == 48
    assert rows.loc["total", "finished"] == rows.loc["total", "on_local"] == len(finished)
    assert rows.loc["total", "planned"] == 144


def test_missing_and_failed_cells_are_listed_with_reason(mixed, tables):
    words = {"missing": "missing", "broken": "unreadable", "stale": "stale"}
    expected = {(*cell_key(cell), words[kind]) for cell, kind in mixed[1].items() if kind in words}
    listed = {tuple(row) for row in tables["missing_cells"][["model", "task", "length", "seed", "state"]].to_numpy()}
    assert listed == expected
    reasons = tables["missing_cells"].set_index("state")["reason"]
    assert reasons["stale"].str.contains("learning_rate is 0.5").all()
    assert reasons["unreadable"].str.contains("not valid JSON").all()
    odd = {(*cell_key(cell), kind) for cell, kind in mixed[1].items() if kind in ("diverged", "no_improvement")}
    failures = {tuple(row) for row in tables["failures"][["model", "task", "length", "seed", "status"]].to_numpy()}
    assert failures == odd


def cell_key(cell):
    return cell.model, cell.task, cell.length, cell.seed


def test_per_seed_shows_each_run_and_no_diverged_score(mixed, tables):
    study, kinds = mixed
    scores = naive(study, kinds, "selective_copy", "test_r2")
    rows = tables["per_seed_selective_copy"].set_index(["model", "length"])
    assert len(rows) == 24
    for cell, kind in kinds.items():
        if cell.task != "selective_copy":
            continue
        row = rows.loc[(cell.model, cell.length)]
        if kind in ("ok", "no_improvement"):
            assert row[f"seed{cell.seed}"] == scores[cell.model, cell.length, cell.seed]
        else:
            assert pd.isna(row[f"seed{cell.seed}"]) and row[f"seed{cell.seed}_state"]


def test_diverged_run_with_a_score_enters_no_mean(tmp_path):
    study = small_study(tmp_path, models=["1a"], tasks={"adding_problem": {"lengths": [16]}})
    good, bad = study.cells
    write_record(study.result_path(good), record_of(study, good, test_mse=0.01))
    write_record(study.result_path(bad), record_of(study, bad, status="diverged", test_mse=0.9, test_r2=-4.0))
    made = make_tables(collect(study))
    row = made["adding_by_length"].content.frame.iloc[0]
    assert (row["L16_mean"], row["L16_n"], row["L16_diverged"]) == (0.01, 1, 1)
    assert made["adding_by_length"].content.rows()[0][2].text == "0.0100 (n = 1, 1 diverged)"
    assert pd.isna(made["per_seed_adding_problem"].content.frame.loc[0, f"seed{bad.seed}"])


def test_baseline_row_is_a_mean_over_datasets(tmp_path):
    study = small_study(tmp_path, models=["1a", "1b"], tasks={"adding_problem": {"lengths": [16]}})
    values = {2024: 0.16, 2025: 0.18}
    for cell in study.cells:
        record = record_of(study, cell, dataset={"statistics_baseline": values[cell.seed]})
        write_record(study.result_path(cell), record)
    row = make_tables(collect(study))["adding_by_length"].content.frame.set_index("model").loc["baseline"]
    assert row["L16_mean"] == pytest.approx(0.17)
    assert row["L16_n"] == 2


def test_ceiling_shares(tmp_path):
    study = published_study(tmp_path, models=["1b", "1c", "3b", "4a"],
                            tasks={"selective_copy": {"lengths": [100], "n_markers": 8}}, seeds=[2024])
    for cell in study.cells:
        write_record(study.result_path(cell), record_of(study, cell, test_r2=0.33))
    rows = make_tables(collect(study))["selective_ceiling"].content.frame.set_index("model")
    assert rows.loc["1b", "L100_ceiling"] == pytest.approx(0.3960, abs=5e-5)
    assert rows.loc["1c", "L100_ceiling"] == pytest.approx(0.4946, abs=5e-5)
    assert rows.loc["1b", "L100_share"] == pytest.approx(0.33 / 0.3960, abs=2e-4)
    assert rows.loc[["3b", "4a"], "L100_ceiling"].isna().all()
    assert (rows.loc[["3b", "4a"], "L100_state"] == "no ceiling").all()


def test_parameters_are_those_of_the_records(tmp_path):
    study = small_study(tmp_path, models=["1a"], tasks={"adding_problem": {"lengths": [16, 32]}})
    for cell in study.cells:
        count = 1000 + cell.length
        record = record_of(study, cell, n_params=count, model_config={"n_params_trainable": 1000})
        write_record(study.result_path(cell), record)
    content = make_tables(collect(study))["parameters"].content
    assert [cell.text for cell in content.rows()[0]] == ["1a", "1,016", "1,032", "1,000"]


def test_cost_spent_and_left(tmp_path):
    study = small_study(tmp_path, models=["1a"], seeds=[1, 2, 3], tasks={"adding_problem": {"lengths": [16, 32]}})
    done = [study.cell("1a", "adding_problem", 16, seed) for seed in (1, 2)]
    for cell, seconds in zip(done, (3600.0, 7200.0), strict=True):
        write_record(study.result_path(cell), record_of(study, cell, training_time=seconds))
    rows = make_tables(collect(study))["cost"].content.frame.set_index("length")
    assert rows.loc[16, "hours_spent"] == pytest.approx(3.0)
    assert rows.loc[16, "hours_left"] == pytest.approx(1.5)
    assert rows.loc[32, "missing"] == 3
    assert pd.isna(rows.loc[32, "hours_left"]) and rows.loc[32, "left_state"] == "no run to judge by"


def test_cost_beside_plan_and_published_code(tmp_path):
    study = published_study(tmp_path, models=["1b", "2e"], seeds=[2024], tasks={"adding_problem": {"lengths": [100]}})
    epochs = {cell.model: record["epochs_trained"] for cell, record in
              zip(study.cells, write_results(study, training_time=360.0), strict=True)}
    content = make_tables(collect(study))["cost_by_model"].content
    rows = content.frame.set_index("model")
    assert rows["spent"].tolist() == pytest.approx([0.1, 0.1, 0.2])
    assert rows.loc["1b", "published"] == pytest.approx(37 * epochs["1b"] / 3600)     # 37 s an epoch, from its logs
    assert rows.loc["1b", "ratio"] == pytest.approx(rows.loc["1b", "published"] / 0.1)
    assert rows.loc["2e", "published"] == pytest.approx(615 * epochs["2e"] / 3600)    # an estimate
    assert rows["estimated"].tolist() == [False, True, True]
    assert content.rows()[1][-1].text.startswith("(")


def test_cost_of_small_datasets_has_no_published_hours(tmp_path):
    study = small_study(tmp_path, models=["1b"], seeds=[2024], tasks={"adding_problem": {"lengths": [100]}})
    write_results(study)
    rows = make_tables(collect(study))["cost_by_model"].content.frame
    assert rows["published"].isna().all() and (rows["spent"] > 0).all()


def test_published_records_have_empty_cells_with_reasons(tmp_path):
    study = published_study(tmp_path, models=["1b"], seeds=[2024],
                            tasks={"adding_problem": {"lengths": [100]}, "forrelation": {"lengths": [50]}})
    for cell in study.cells:
        old = schema1_of(record_of(study, cell))
        study.result_path(cell).parent.mkdir(parents=True, exist_ok=True)
        study.result_path(cell).write_text(json.dumps(old))
    collection = collect(study)
    made = make_tables(collection)
    states = collection.cells.set_index("task")
    assert states.loc["adding_problem", "state"] == "done"
    assert states.loc["forrelation", "state"] == "selected_on_test"
    assert made["adding_by_length"].content.rows()[1][2].text == "– not recorded"
    assert made["parameters"].content.frame.loc[0, "adding_problem_trainable_state"] == "not recorded"
    assert collection.runs.loc[0, "source"] == "local"     # where it was found; the file does not say


@pytest.mark.parametrize(("log", "checkpoint", "state", "reason"), [
    (None, False, "missing", "never started"),
    ('@qablate {"event": "start"}\n', False, "missing", "started, no checkpoint"),
    ('@qablate {"event": "checkpoint", "epoch": 7}\nEpoch   8/100\n', True, "checkpoint", "epoch 7"),
    ('@qablate {"event": "start"}\n@qablate {"event": "fail", "reason": "disk full"}\n', True, "failed", "disk full"),
    ("@qablate [not an event\n", False, "missing", "never started"),
])
def test_state_of_a_cell_without_result(tmp_path, log, checkpoint, state, reason):
    study = small_study(tmp_path, models=["1a"], seeds=[2024], tasks={"adding_problem": {"lengths": [16]}})
    cell = study.cells[0]
    if log:
        path = study.results / "logs" / "train" / f"{cell.name}.log"
        path.parent.mkdir(parents=True)
        path.write_text(log)
    if checkpoint:
        path = study.result_folder / "checkpoints" / f"checkpoint_{cell.name}.pt"
        path.parent.mkdir(parents=True)
        path.touch()
    row = collect(study).cells.iloc[0]
    assert row["state"] == state and reason in row["reason"]


def test_settings_tell_what_older_records_lack(tmp_path):
    study = published_study(tmp_path, models=["1b"], seeds=[2024, 2025], tasks={"adding_problem": {"lengths": [100]}})
    new, old = study.cells
    write_record(study.result_path(new), record_of(study, new))
    study.result_path(old).write_text(json.dumps(schema1_of(record_of(study, old))))
    rows = make_tables(collect(study))["settings"].content.frame.set_index("setting")
    assert rows.loc["training.patience", ["results", "recorded", "differing"]].tolist() == ["20", 1, 0]
    assert rows.loc["training.learning_rate", ["results", "recorded", "differing"]].tolist() == ["0.001", 2, 0]
