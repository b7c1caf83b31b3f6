"""New runs beside the printed means: the margins, and which runs are averaged."""

import json

import pytest
from factories import published_study, record_of, schema1_of, write_results

from qablate.analysis.replication import agree
from qablate.analysis.runs import collect
from qablate.analysis.tables import make_tables
from qablate.records import write_record


@pytest.mark.parametrize(("metric", "published", "found", "expected"), [
    ("test_mse", 0.0763, 0.2288, True),
    ("test_mse", 0.0763, 0.2290, False),
    ("test_mse", 0.0763, 0.0254, False),
    ("test_mse", 0.0, 0.0004, True),       # printed 0.0000: both solve it
    ("test_mse", 0.0, 0.0006, False),
    ("test_r2", 0.333, 0.380, True),
    ("test_r2", 0.333, 0.280, False),
    ("test_acc", 0.5240, 0.5041, True),
    ("test_acc", 0.5240, 0.5450, False),
])
def test_margins(metric, published, found, expected):
    assert agree(metric, published, found) is expected


def rows_of(study):
    frame = make_tables(collect(study))["replication"].content.frame
    return {} if frame.empty else frame.set_index(["task_id", "model", "metric"])


def test_new_runs_only_and_no_diverged_one(tmp_path):
    study = published_study(tmp_path, models=["1b"], tasks={"selective_copy": {"lengths": [100], "n_markers": 8}})
    first, second, third = study.cells
    write_record(study.result_path(first), record_of(study, first, test_r2=0.30))
    write_record(study.result_path(second), record_of(study, second, status="diverged"))
    old = schema1_of(record_of(study, third, test_r2=0.90))
    study.result_path(third).write_text(json.dumps(old))
    row = rows_of(study).loc["selective_copy", "1b", "test R²"]
    assert (row["mean"], row["n"], row["printed"], row["verdict"]) == (pytest.approx(0.30), 1, "0.333", "agrees")


def test_forrelation_is_held_against_the_biased_score(tmp_path):
    study = published_study(tmp_path, models=["2d"], tasks={"forrelation": {"lengths": [50, 100], "n_bits": 6}})
    legacy = {"name": "legacy_acc_selected_on_holdout", "legacy_acc_selected_on_holdout": 0.56, "epoch": 3,
              "legacy_censored": False, "biased": True}
    write_results(study, test_acc=0.5, legacy=legacy)
    row = rows_of(study).loc["forrelation", "2d", "test accuracy, biased"]
    assert (row["mean"], row["n"], row["lengths"], row["verdict"]) == (pytest.approx(0.56), 6, "50, 100", "differs")


def test_other_studies_have_no_such_table(tmp_path):
    study = published_study(tmp_path, models=["3a"], tasks={"forrelation": {"lengths": [16], "n_bits": 6}})
    assert len(rows_of(study)) == 0
