"""What the tables hold: the values of the files, counted by an independent script, for any models and tasks."""

import json
import statistics

import numpy as np
import pandas as pd
import pytest
from factories import published_study, record_of, schema1_of, small_study, write_results

from qablate.analysis.collect import collect, hours_left
from qablate.analysis.sections import agreement, attention, cost, methods, scores, summary
from qablate.hours import CostTable
from qablate.records import write_record
from qablate.status.survey import survey

METRIC = {"adding_problem": "test_mse", "selective_copy": "test_r2", "forrelation": "test_acc"}


def spread(study, rng_seed=7):
    """Write done, diverged, never improved, broken and stale results; return the kind of each cell."""
    kinds = np.random.default_rng(rng_seed).choice(
        ["ok", "missing", "diverged", "no_improvement", "broken", "stale"], size=len(study.cells),
        p=[0.7, 0.08, 0.08, 0.06, 0.04, 0.04])
    for cell, kind in zip(study.cells, kinds, strict=True):
        path = study.result_path(cell)
        if kind in ("ok", "diverged", "no_improvement"):
            write_record(path, record_of(study, cell, status=str(kind)))
        elif kind == "broken":
            path.write_text('{"model_id": "1a", "test_mae": ')
        elif kind == "stale":
            write_record(path, record_of(study, cell, hyperparameters={"learning_rate": 0.5}))
    return dict(zip(study.cells, kinds, strict=True))


@pytest.fixture(scope="module")
def mixed(tmp_path_factory):
    study = small_study(tmp_path_factory.mktemp("mixed") / "results")
    write_results(study, study.cells[:1])
    kinds = spread(study)
    return study, kinds, collect(study)


@pytest.mark.parametrize("task", METRIC)
def test_means_are_those_of_the_files_and_bold_is_the_best_over_the_most_runs(mixed, task):
    study, kinds, runs = mixed
    means = scores.means(runs, task)
    rows, shown = means.set_index(["model", "length"]), scores.lengths_shown(runs, task, means).set_index("model")
    best = {"adding_problem": min}.get(task, max)
    for model in study.config["models"]:
        for length in (16, 32):
            cells = [cell for cell in kinds if (cell.model, cell.task, cell.length) == (model, task, length)]
            values = [json.loads(study.result_path(cell).read_text())[METRIC[task]] for cell in cells
                      if kinds[cell] in ("ok", "no_improvement")]
            row, text = rows.loc[model, length], shown.at[model, f"L {length}"]
            assert (row["n"], row["planned"]) == (len(values), 2)
            assert row["diverged"] == sum(kinds[cell] == "diverged" for cell in cells)
            if values:
                assert row["mean"] == pytest.approx(statistics.fmean(values), rel=1e-12)
                assert float(text.strip("*").split(" ")[0]) == pytest.approx(row["mean"], rel=5e-3, abs=5e-4)
                assert (f"n {len(values)}" in text) == (len(values) < 2)
            else:
                assert pd.isna(row["mean"]) and text.startswith("–")
            sd = statistics.stdev(values) if len(values) > 1 else float("nan")
            assert row["sd"] == pytest.approx(sd, nan_ok=True)
    for length in (16, 32):
        full = means[(means["length"] == length) & (means["n"] == 2)].set_index("model")["mean"]
        bold = [model for model, text in shown[f"L {length}"].items() if text.startswith("**")]
        assert bold == full.index[full == best(full)].tolist()


def test_per_seed_shows_each_run_and_why_there_is_none(mixed):
    study, kinds, runs = mixed
    shown = scores.per_seed(runs, "adding_problem").shown.set_index(["model", "L"])
    for cell, kind in kinds.items():
        if cell.task == "adding_problem" and (cell.model, str(cell.length)) in shown.index:
            text = shown.at[(cell.model, str(cell.length)), f"seed {cell.seed}"]
            words = {"diverged": "– diverged", "missing": "– missing", "broken": "– unreadable", "stale": "– stale"}
            if kind in words:
                assert text == words[kind]
            else:
                record = json.loads(study.result_path(cell).read_text())
                assert float(text) == pytest.approx(record["test_mse"], rel=5e-3, abs=5e-5)


def test_progress_completion_and_hours_count_each_cell_once(mixed):
    study, kinds, runs = mixed
    done = sum(kind in ("ok", "diverged", "no_improvement") for kind in kinds.values())
    progress = summary.combined_progress(runs).shown.set_index("system")["total"]
    assert progress.to_dict() == dict.fromkeys(("local", "all systems"), f"{done} / 144")
    total = attention.completion_status(runs).frame.set_index("model").loc["all"]
    assert (total["done"], total["missing"]) == (done, 144 - done)
    known = survey(study, CostTable.read(), ask_slurm=False)
    expected = sum(status.left.expected for status in known.cells if status.state != "done" and status.left)
    assert hours_left(runs.cells) == (144 - done, pytest.approx(expected), int(runs.open_cells["hours"].isna().sum()))
    assert f"**{done} of 144 cells**" in summary.headline(runs)


def test_files_and_cells_that_need_attention_go_by_their_names(tmp_path):
    study = small_study(tmp_path)
    write_results(study, study.cells[:1])
    cell, odd = study.cells[1], ["result (1).json", "upper_results.JSON"]
    for name in odd:
        (study.result_folder / name).write_text("{}")
    study.result_path(cell).symlink_to("/none")
    shown = attention.attention(collect(study)).shown.set_index("what")["first of them"]
    assert shown["unreadable"].startswith(f"{cell.name} (")
    assert all(f"{name} (local, file_name" in shown["refused"] for name in odd)


def test_what_needs_attention_is_counted_and_the_first_five_named(mixed):
    _, kinds, runs = mixed
    shown = attention.attention(runs).shown.set_index("what")
    for kind, words in (("diverged", "diverged"), ("broken", "unreadable"), ("stale", "stale: other settings")):
        cells = [cell for cell, found in kinds.items() if found == kind]
        assert shown.at[words, "number"] == str(len(cells))
        named = shown.at[words, "first of them"]
        assert sum(cell.name in named for cell in cells) == min(5, len(cells))
        assert (f"and {len(cells) - 5} more" in named) == (len(cells) > 5)
    assert "learning_rate is 0.5" in shown.at["stale: other settings", "first of them"]


def test_a_diverged_run_with_a_score_enters_no_mean(tmp_path):
    study = small_study(tmp_path, models=["1a"], tasks={"adding_problem": {"lengths": [16]}})
    for cell, status in zip(study.cells, ("ok", "diverged"), strict=True):
        write_record(study.result_path(cell), record_of(study, cell, status=status, test_mse=0.5))
    row = scores.means(collect(study), "adding_problem").iloc[0]
    assert (row["mean"], row["n"], row["diverged"]) == (0.5, 1, 1)


def test_test_selected_scores_are_a_count_of_their_own(tmp_path):
    folder = tmp_path / "dgx"
    folder.mkdir()
    study = published_study(tmp_path / "results", models=["3a", "3b"], seeds=[2024],
                            tasks={"forrelation": {"lengths": [50, 100], "n_bits": 6}},
                            systems={"dgx": {"results": str(folder)}, "nersc": {"results": str(tmp_path)}})
    for cell in study.cells[:3]:
        record = record_of(study, cell)
        selected = schema1_of(record | {"test_acc": record["best_val_metric"]})     # as the published code reports it
        (folder / cell.result_name).write_text(json.dumps(selected))
    runs = collect(study)
    shown = summary.combined_progress(runs).shown.set_index("system")["Forrelation"]
    assert shown.to_dict() == {"nersc": "–", "dgx": "– (3 test-selected only)", "all systems": "–"}
    assert scores.means(runs, "forrelation")["n"].sum() == 0 and not len(runs.table)
    assert len(runs.selected) == 3 and (runs.selected["origin"] == "published").all()


def test_the_queue_is_only_what_a_scheduler_said(tmp_path):
    study = small_study(tmp_path, models=["1a", "1b"], tasks={"adding_problem": {"lengths": [16]}})
    silent = attention.completion_status(collect(study))
    assert "No queue was asked" in silent.caption and "queued" not in silent.shown
    table = attention.completion_status(collect(study, {study.cells[1]: "running", study.cells[2]: "queued"}))
    shown = table.shown.set_index("model")
    assert "No queue" not in table.caption
    assert shown.loc["all", ["queued", "running"]].tolist() == ["1", "1"]


def test_cost_beside_plan_and_published_code(tmp_path):
    study = published_study(tmp_path, models=["1b", "2e"], seeds=[2024], tasks={"adding_problem": {"lengths": [100]}})
    epochs = {cell.model: record["epochs_trained"] for cell, record in
              zip(study.cells, write_results(study, training_time=360.0), strict=True)}
    table = cost.cost_by_model(collect(study))
    rows = table.frame.set_index("model")
    assert rows["spent"].tolist() == pytest.approx([0.1, 0.1, 0.2])
    assert rows.loc["1b", "published"] == pytest.approx(37 * epochs["1b"] / 3600)     # 37 s an epoch, from its logs
    assert rows.loc["2e", "published"] == pytest.approx(615 * epochs["2e"] / 3600)    # an estimate
    assert rows["estimated"].tolist() == [False, True, True] and table.shown.iloc[1, -1].startswith("(")
    second = study.cells[1]
    write_record(study.result_path(second), record_of(study, second, provenance={"device_name": "a GPU"}))
    assert cost.cost_by_model(collect(study)).frame[["model", "device"]].to_numpy().tolist() == [
        ["2e", "a GPU"], ["total", "a GPU"], ["1b", "cpu"], ["total", "cpu"]]
    figure = cost.tradeoff(collect(study))
    assert figure.data["score"].notna().all() and figure.data["training_time"].notna().tolist() == [True, False]
    assert "runs on cpu alone" in figure.caption    # of two devices seconds are those of one
    small = small_study(tmp_path / "small", models=["1b"], seeds=[2024], tasks={"adding_problem": {"lengths": [100]}})
    write_results(small)
    assert cost.cost_by_model(collect(small)).frame["published"].isna().all()


def test_parameters_are_those_of_the_records(tmp_path):
    study = published_study(tmp_path, models=["1b"], seeds=[2024, 2025], tasks={"adding_problem": {"lengths": [100]}})
    new, old = study.cells
    record = write_record(study.result_path(new), record_of(study, new))
    study.result_path(old).write_text(json.dumps(schema1_of(record_of(study, old))))
    runs = collect(study)
    assert methods.models_tested(runs).shown.at[0, "params"] == f"{record['n_params']:,}"
    assert runs.table.set_index("seed").at[2024, "training.clip_norm"] == 1.0     # every scalar of the record


@pytest.mark.parametrize(("metric", "published", "found", "expected"), [
    ("test_mse", 0.0763, 0.2288, True), ("test_mse", 0.0763, 0.2290, False), ("test_mse", 0.0763, 0.0254, False),
    ("test_mse", 0.0, 0.0004, True), ("test_mse", 0.0, 0.0006, False),       # printed 0.0000: both solve it
    ("test_mse", 0.0763, 0.0, False),
    ("test_r2", 0.333, 0.380, True), ("test_r2", 0.333, 0.280, False),
    ("test_acc", 0.5240, 0.5041, True), ("test_acc", 0.5240, 0.5450, False),
])
def test_margins_of_agreement(metric, published, found, expected):
    assert agreement.agree(metric, published, found) is expected


def test_published_means_are_held_against_new_runs_only(tmp_path):
    study = published_study(tmp_path, models=["1b"], tasks={"selective_copy": {"lengths": [100], "n_markers": 8}})
    first, second, third = study.cells
    write_record(study.result_path(first), record_of(study, first, test_r2=0.30))
    write_record(study.result_path(second), record_of(study, second, status="diverged"))
    study.result_path(third).write_text(json.dumps(schema1_of(record_of(study, third, test_r2=0.90))))
    row = agreement.published_means(collect(study)).frame.iloc[0]
    assert (row["mean"], row["n"], row["printed"], row["verdict"]) == (pytest.approx(0.30), 1, "0.333", "agrees")
    assert agreement.agreement_line(collect(study)).startswith("1 of 1 published means")


def test_a_bound_that_only_some_lengths_have_is_printed(tmp_path):
    study = published_study(tmp_path, tasks={"forrelation": {"lengths": [50, 300]}}, models=["3a"])
    rows = scores.reference_rows(collect(study), "forrelation").set_index("model")
    assert rows.loc["upper bound", ["L 50", "L 300"]].tolist()[1] == "–"
    assert rows.at["upper bound", "L 50"].startswith("0.947")
