"""The report of several systems: its tables are what an independent script computes from the files, defects and all."""

import csv
import json
import math
import statistics

import pandas as pd
import pytest
from factories import record_of, schema1_of, small_study, write_results
from import_builders import FIXTURES, put, put_log, study_with, text_of
from test_import_merge import METRIC, naive_merge, spread

from qablate.analysis import make_report
from qablate.analysis.coverage import missing_cells
from qablate.analysis.reproduction import CANNOT, DIFFERS, EQUAL, Published, recompute, reported_rows
from qablate.analysis.runs import collect
from qablate.analysis.tables import make_tables
from qablate.cli import main
from qablate.errors import QablateError
from qablate.results import merge
from qablate.study import Cell


@pytest.fixture(scope="module")
def mixed(tmp_path_factory):
    """396 cells over two sources with every defect; what a naive script makes of them, by cell."""
    folder = tmp_path_factory.mktemp("mixed")
    study = study_with(folder)
    spread(study, folder, 5)
    by_name = {cell.result_name: cell for cell in study.cells}
    return study, {by_name[name]: found for name, found in naive_merge(folder).items()}


@pytest.fixture(scope="module")
def tables(mixed):
    return make_tables(collect(mixed[0]))


def scores(naive, task):
    """Score by (model, length, seed) of every run that may enter a mean."""
    return {(c.model, c.length, c.seed): score for c, (status, score) in naive.items()
            if c.task == task and status != "diverged"}


@pytest.mark.parametrize(("table", "task"), [
    ("adding_by_length", "adding_problem"), ("selective_by_length", "selective_copy"),
    ("forrelation_by_length", "forrelation"),
])
def test_means_are_those_of_the_naive_script(mixed, tables, table, task):
    study, naive = mixed
    rows, known = tables[table].content.frame.set_index("model"), scores(naive, task)
    assert known
    for model in study.config["models"]:
        for length in study.config["tasks"][task]["lengths"]:
            values = [score for (m, n, _), score in known.items() if (m, n) == (model, length)]
            diverged = sum(status == "diverged" for cell, (status, _) in naive.items()
                           if (cell.model, cell.task, cell.length) == (model, task, length))
            row = rows.loc[model]
            assert (row[f"L{length}_n"], row[f"L{length}_diverged"]) == (len(values), diverged)
            mean = row[f"L{length}_mean"]
            assert mean == pytest.approx(statistics.fmean(values), abs=1e-6) if values else pd.isna(mean)


def test_progress_and_systems(mixed, tables):
    study, naive = mixed
    progress = tables["progress"].content.frame.set_index("task")
    for task in METRIC:
        assert progress.loc[task, "finished"] == sum(cell.task == task for cell in naive)
    assert progress.loc["total", "finished"] == len(naive)
    systems = tables["systems"].content.frame.set_index("system")
    assert systems["files"].sum() == len(list(study.results.parent.glob("*/*.json")))
    both = systems["valid"].sum() - len(naive)
    pairs = tables["cross_system"].content.frame
    assert 0 < len(pairs[pairs["remark"] == ""]) <= both     # copies of one run are counted on both and are no pair


def test_architectures_and_groups_rest_on_common_blocks(mixed, tables):
    study, naive = mixed
    known = scores(naive, "selective_copy")
    models = {model for model, _, _ in known}
    blocks = [(length, seed) for length in (100, 200, 500, 1000) for seed in (2024, 2025, 2026)
              if all((model, length, seed) in known for model in models)]
    rows = tables["groups"].content.frame
    rows = rows[rows["task"] == "selective_copy"].set_index("group")
    for group in (1, 2, 3, 4):
        ids = [model for model in study.config["models"] if model.startswith(str(group))]
        have = sum(model in ids for model, _, _ in known)
        assert (rows.loc[group, "runs"], rows.loc[group, "planned"]) == (have, 36)
        assert rows.loc[group, "blocks"] == len(blocks)
        if blocks:
            means = [statistics.fmean(known[model, *block] for block in blocks) for model in ids]
            assert rows.loc[group, "mean"] == pytest.approx(statistics.fmean(means), abs=1e-6)
        else:
            assert pd.isna(rows.loc[group, "mean"])


def test_scaling_is_a_slope_of_logarithms(mixed, tables):
    study, naive = mixed
    known, lengths = scores(naive, "adding_problem"), (100, 200, 500, 1000)
    rows = tables["scaling_adding_problem"].content.frame.set_index("model")
    x = [math.log(length) for length in lengths]
    n_slopes = 0
    for model in study.config["models"]:
        ends = [(known[model, 100, s], known[model, 1000, s]) for s in (2024, 2025, 2026)
                if (model, 100, s) in known and (model, 1000, s) in known]
        whole = [[known[model, n, s] for n in lengths] for s in (2024, 2025, 2026)
                 if all((model, n, s) in known for n in lengths)]
        slopes = [statistics.linear_regression(x, [math.log(v) for v in run]).slope for run in whole]
        row = rows.loc[model]
        assert (row["n"], row["slope_n"]) == (len(ends), len(slopes))
        n_slopes += len(slopes)
        if ends:
            first, last = (statistics.fmean(values) for values in zip(*ends, strict=True))
            assert row["change"] == pytest.approx(100 * (last / first - 1), abs=1e-6)
        if slopes:
            assert row["slope"] == pytest.approx(statistics.fmean(slopes), abs=1e-6)
    assert n_slopes > 0


def test_every_refused_file_is_listed(mixed, tables):
    log = tables["import_log"].content.frame
    refused = {(v.file.source, v.file.path.name, v.status, v.reason) for v in merge(mixed[0]).verdicts
               if v.status in ("rejected", "quarantined", "duplicate", "unfinished", "partial", "diverged")}
    assert refused <= set(log[["source", "file", "status", "reason"]].itertuples(index=False, name=None))
    assert tables["import_counts"].content.frame["files"].sum() == len(merge(mixed[0]).verdicts)


def test_cells_without_result_say_why_and_how_long(mixed, tables):
    study, naive = mixed
    rows = tables["missing_cells"].content.frame
    assert {Cell(*key) for key in rows[["model", "task", "length", "seed"]].itertuples(index=False)} == (
        set(study.cells) - set(naive))
    states = set(rows["state"])
    assert {"missing", "rejected", "no_score", "selected_on_test", "quarantined"} <= states
    assert rows.loc[rows["state"] == "rejected", "reason"].str.len().gt(0).all()
    left = tables["hours_left"].content.frame.set_index("model")
    assert left.loc["total", "cells"] == len(rows)
    assert left.loc["total", "hours"] == pytest.approx(rows["hours"].sum())


def test_report_of_two_systems(mixed):
    text = make_report(mixed[0], partial=True).read_text(encoding="utf-8")
    assert f"{len(mixed[1])} of 396 cells finished" in text.splitlines()[0]
    assert (mixed[0].results / "figures" / "system_agreement.png").exists()
    assert "biased" in next(line for line in text.splitlines() if line.startswith("### Table 10:"))
    with pytest.raises(QablateError, match="cells have no result that stands"):
        make_report(mixed[0], partial=False)


def test_report_of_the_fixtures(tmp_path):
    systems = {name: {"results": str(FIXTURES / name)} for name in ("nersc", "dgx")}
    systems["nersc"]["logs"] = str(FIXTURES / "nersc/logs")
    made = make_tables(collect(study_with(tmp_path, systems=systems)))
    with (FIXTURES / "expected.csv").open(newline="") as file:
        expected = {row["path"]: row for row in csv.DictReader(file)}
    log = made["import_log"].content.frame
    found = {f"{row['source']}/{row['file']}": row for row in log.to_dict("records")}
    for path, row in expected.items():
        if path.endswith(".json") and (row["status"] != "ok" or row["reason"]):
            assert (found[path]["status"], found[path]["reason"]) == (row["status"], row["reason"]), path
    rows = made["adding_by_length"].content.frame.set_index("model")
    assert rows.loc["2d", "L100_n"] == 1     # two results of one cell are one seed
    legacy = made["legacy_forrelation"].content.frame
    assert list(legacy["model"]) == ["3a", "–", "–"]
    assert pd.isna(made["forrelation_by_length"].content.frame.set_index("model").loc["3a", "L50_mean"])


def verdicts(study):
    """Verdict by (system, table, model, task, length, metric)."""
    frame = make_tables(collect(study))["reproduction"].content.frame
    keys = frame[["system", "table", "model", "task", "length", "metric"]].itertuples(index=False, name=None)
    return dict(zip(keys, frame["verdict"], strict=True))


def test_reproduction_of_means_at_the_reported_number_of_runs(tmp_path):
    study = study_with(tmp_path)
    for seed, mse in ((2024, 0.0760), (2025, 0.0763), (2026, 0.0766)):
        cell = Cell("1a", "adding_problem", 100, seed)
        put(tmp_path / "nersc", cell, text_of(study, cell, {"test_mse": mse}))
    for seed, mse in ((2024, 0.08), (2025, 0.08), (2026, 0.08)):
        cell = Cell("1a", "adding_problem", 200, seed)
        put(tmp_path / "nersc", cell, text_of(study, cell, {"test_mse": mse}))
    for seed in (2024, 2025):
        cell = Cell("1b", "adding_problem", 100, seed)
        put(tmp_path / "nersc", cell, text_of(study, cell, {"test_mse": 0.0001}))
    for seed, r2 in ((2025, 0.113), (2026, 0.115)):
        cell = Cell("2a", "selective_copy", 1000, seed)
        put(tmp_path / "nersc", cell, text_of(study, cell, {"test_r2": r2}))
    put_log(tmp_path / "nersc/logs", Cell("2a", "selective_copy", 1000, 2024))
    for at, cell in enumerate(c for c in study.cells if (c.model, c.task) == ("2d", "forrelation")):
        accuracy = 0.541 if at == 0 else (0.5286 * 9 - 0.541) / 8
        put(tmp_path / "dgx", cell, text_of(study, cell, {"test_acc": accuracy}))
    found = verdicts(study)

    def of(system, table, model, task, length, metric):
        return found[system, table, model, task, length, metric]

    assert of("nersc", "nersc_adding", "1a", "adding_problem", "100", "test_mse_mean") == EQUAL
    assert of("nersc", "nersc_adding", "1a", "adding_problem", "200", "test_mse_mean") == DIFFERS
    assert of("nersc", "nersc_adding", "1b", "adding_problem", "100", "test_mse_mean") == CANNOT
    assert of("nersc", "nersc_adding", "1a", "adding_problem", "all", "test_r2_mean") == CANNOT
    assert of("nersc", "nersc_selective", "2a", "selective_copy", "1000", "test_r2_mean") == EQUAL    # not the log's
    assert of("dgx", "dgx_forrelation", "2d", "forrelation", "all", "test_acc_mean") == EQUAL
    assert of("dgx", "dgx_forrelation", "2d", "forrelation", "all", "test_acc_max") == EQUAL
    assert of("dgx", "dgx_forrelation", "2d", "forrelation", "all", "relative_gain_over_0.5_percent") == EQUAL
    assert of("dgx", "dgx_forrelation", "2d", "forrelation", "all", "rank") == CANNOT
    assert of("dgx", "dgx_adding", "3a", "adding_problem", "100", "test_mse_mean") == CANNOT
    assert of("nersc", "nersc_queue", "all", "all", "all", "jobs_pending") == CANNOT
    assert of("both", "hyperparameters", "all", "all", "all", "early_stopping") == EQUAL
    assert of("nersc", "summary_systems", "all", "all", "all", "runs_planned") == DIFFERS


def test_without_runs_no_score_is_reproduced_and_our_own_are_not_taken_for_published(tmp_path):
    study = study_with(tmp_path)
    cells = [Cell("1a", "adding_problem", 100, seed) for seed in study.config["seeds"]]
    for cell in cells:
        record = record_of(study, cell, provenance={"source": "nersc"}, test_mse=0.0763)
        put(tmp_path / "nersc", cell, json.dumps(record))
    found = verdicts(study)
    scores_of = {key: verdict for key, verdict in found.items()
                 if key[5] in ("test_mse_mean", "test_r2_mean", "test_acc_mean", "runs_done", "percent_change", "rank")}
    assert len(scores_of) > 150 and set(scores_of.values()) == {CANNOT}
    counts = {key[2]: verdict for key, verdict in found.items() if key[5] == "n_params"}
    assert len(counts) == 12 and {model for model, verdict in counts.items() if verdict != EQUAL} == {"4e"}


def test_the_queue_is_only_what_a_scheduler_said(tmp_path):
    study = small_study(tmp_path, models=["1a", "1b"], tasks={"adding_problem": {"lengths": [16]}})
    write_results(study, study.cells[:1])
    silent = make_tables(collect(study))["queue"]
    assert silent.content.rows() == [] and "No scheduler was asked or reached" in silent.when_empty
    jobs = {study.cells[1]: "running", study.cells[2]: "queued"}
    rows = make_tables(collect(study, jobs))["queue"].content.frame.set_index("model")
    assert rows.loc["1a", ["adding_problem_running", "missing", "without_job"]].tolist() == [1, 1, 0]
    assert rows.loc["total", ["jobs", "missing", "without_job"]].tolist() == [2, 3, 1]


def test_a_folder_that_cannot_be_read_is_said(tmp_path):
    study = small_study(tmp_path / "results", models=["1a"], tasks={"adding_problem": {"lengths": [16]}},
                        systems={"dgx": {"results": str(tmp_path / "gone")}})
    write_results(study)
    assert "systems.dgx.results" in make_report(study, partial=True).read_text(encoding="utf-8")
    with pytest.raises(QablateError, match=r"systems\.dgx\.results"):
        make_report(study, partial=False)


def test_the_report_says_which_changed_setting_un_counts_a_cell(tmp_path):
    study = study_with(tmp_path)
    cell = Cell("1b", "adding_problem", 100, 2024)
    put(tmp_path / "nersc", cell, text_of(study, cell))
    before, after = (missing_cells(collect(study_with(tmp_path, **changes))).frame for changes in (
        {}, {"model": {**study.config["model"], "d_state": 8}}))
    assert (len(before), len(after)) == (395, 396)
    row = after.set_index(["model", "task", "length", "seed"]).loc[("1b", "adding_problem", 100, 2024)]
    assert row["state"] == "rejected" and "model.d_state is 16, the study has 8" in row["reason"]


def test_leak_checks_are_those_of_the_file(tmp_path, monkeypatch, capsys):
    study = small_study(tmp_path / "results", models=["1b"], seeds=[7], tasks={"selective_copy": {"lengths": [32]}})
    row = make_tables(collect(study))["datasets"].content.frame.iloc[0]
    assert (row["checks"], row["file"]) == ("not run", "not made here")
    config = tmp_path / "study.json"
    config.write_text(json.dumps({**study.config, "results": str(study.results)}))
    asked = ["dataset", "--config", str(config), "--task", "selective_copy", "--length", "32", "--seed", "7", "--check"]
    assert main(asked) == 0
    assert "passed  T1" in capsys.readouterr().out
    checks = study.datasets[0].path(study.results).with_suffix(".checks.json")
    row = make_tables(collect(study))["datasets"].content.frame.iloc[0]
    assert (row["checks"], row["measured_in"]) == ("all passed", "dataset")
    content = json.loads(checks.read_text())
    content["checks"][0]["passed"] = False
    checks.write_text(json.dumps(content))
    row = make_tables(collect(study))["datasets"].content.frame.iloc[0]
    assert row["checks"] == f"failed: {content['checks'][0]['name']}"
    checks.write_text(json.dumps({**content, "dataset_sha256": "0" * 64}))
    assert make_tables(collect(study))["datasets"].content.frame.iloc[0]["checks"] == "not run"


def test_runs_selected_on_test_items_stand_in_the_legacy_table_only(tmp_path):
    study = study_with(tmp_path, models=["1a"], tasks={"forrelation": {"lengths": [50], "n_bits": 6}})
    record = record_of(study, study.cells[0])
    old = {**schema1_of(record), "test_acc": record["best_val_metric"]}
    put(tmp_path / "dgx", study.cells[0], json.dumps(old))
    collection = collect(study)
    made = make_tables(collection)
    assert collection.cells.loc[0, "state"] == "selected_on_test" and collection.runs.empty
    assert made["legacy_forrelation"].content.frame.loc[0, "mean"] == record["best_val_metric"]
    assert "no signal" in made["legacy_forrelation"].content.frame.iloc[-1]["name"]


def test_of_every_reported_kind_of_value_only_the_queue_is_not_known(tmp_path):
    published = Published.of(collect(study_with(tmp_path)))
    unknown = {row["metric"] for row in reported_rows() if "queue" in recompute(published, row).remark}
    assert unknown == {"jobs_pending", "runs_remaining"}


def test_a_kind_rests_on_more_than_one_model_and_says_so(tmp_path):
    study = small_study(tmp_path, models=["1a", "1b", "2a"], tasks={"selective_copy": {"lengths": [16, 32]}})
    write_results(study, [cell for cell in study.cells if (cell.model, cell.length) != ("2a", 32)])
    rows = make_tables(collect(study))["groups"].content
    frame = rows.frame.set_index("group")
    records = [record_of(study, cell) for cell in study.cells if cell.length == 16]
    means = [statistics.fmean(r["test_r2"] for r in records if r["model_id"] == model) for model in ("1a", "1b")]
    assert frame.loc[1, "mean"] == pytest.approx(statistics.fmean(means))     # length 32 is not common to all
    assert (frame.loc[1, "n"], frame.loc[1, "runs"], frame.loc[1, "models"]) == (4, 8, "1a, 1b")
    assert pd.isna(frame.loc[2, "mean"]) and frame.loc[2, "state"] == "2a alone"
    empty = small_study(tmp_path / "empty", models=["1a"], tasks={"selective_copy": {"lengths": [16, 32]}})
    made = make_tables(collect(empty))
    assert made["groups"].content.rows() == made["scaling_selective_copy"].content.rows() == []


def test_a_mean_of_less_than_half_the_cells_stands_in_brackets(tmp_path):
    study = small_study(tmp_path, models=["1a", "1b"], tasks={"selective_copy": {"lengths": [16, 32]}},
                        seeds=[1, 2, 3])
    write_results(study, [cell for cell in study.cells if (cell.length, cell.seed) == (16, 1)])
    shown = make_tables(collect(study))["groups"].content.rows()[0][3]
    assert shown.quiet and shown.text.startswith("(") and shown.text.endswith(")")
