"""The controls section: which variant is compared with what, verdicts in words, checks of this very result only."""

import json

import pytest
from factories import published_study, record_of, write_results

from qablate.analysis.collect import collect
from qablate.analysis.figure import render, style
from qablate.analysis.sections.attention import attention
from qablate.analysis.sections.controls import checks, contrasts, controls, details
from qablate.analysis.sections.forrelation import ranking
from qablate.analysis.sections.methods import models_tested
from qablate.analysis.table import Table
from qablate.analysis.verdicts import compare
from qablate.records import SELECTED, write_record
from qablate.results import checks_path

TAGS = {"tanh": {"model": {"circuit": "tanh"}}, "chunk8": {"model": {"chunk": 8}}}
SHOWN = ("checks", "gradients")
MODELS = ["1b", "1b-tanh", "1b-chunk8", "1b-tanh-chunk8", "2a", "2a-tanh"]


@pytest.fixture
def study(tmp_path):
    return published_study(tmp_path, models=MODELS, variants=TAGS,
                           tasks={"selective_copy": {"lengths": [100, 200, 500], "n_markers": 8}})


def scored(study, scores):
    """Write results with these R2 for each model, a little apart between seeds."""
    for cell in study.cells:
        if cell.model in scores:
            r2 = scores[cell.model] + 0.001 * (cell.seed - 2024) * (1 if "-" in cell.model else -1)
            write_record(study.result_path(cell), record_of(study, cell, test_r2=r2))


def test_a_variant_is_compared_with_the_models_that_lack_one_of_its_tags(study):
    pairs = {(one.plus[0], one.minus[0]): one.margin for one in contrasts(collect(study))}
    assert pairs == {("1b-tanh", "1b"): 0.02, ("1b-chunk8", "1b"): 0.02, ("1b-tanh-chunk8", "1b-tanh"): 0.02,
                     ("1b-tanh-chunk8", "1b-chunk8"): 0.02, ("2a-tanh", "2a"): 0.05}


def test_variants_on_a_task_scored_by_its_error_are_compared_by_r2(tmp_path):
    study = published_study(tmp_path, models=["1b", "1b-tanh"], variants=TAGS,
                            tasks={"adding_problem": {"lengths": [100, 200, 500], "placement": "extremes"}})
    for cell in study.cells:
        write_record(study.result_path(cell), record_of(study, cell, test_mse=0.001 if cell.model == "1b" else 0.0011))
    rows = next(part for part in controls(collect(study)).parts if isinstance(part, Table) and part.id == "controls")
    assert rows.frame["margin"].tolist() == [0.005]
    assert rows.shown["verdict"].tolist() == ["can be replaced"]
    assert abs(rows.frame["estimate"].item()) < 0.002


def test_variants_are_named_with_their_own_chunk_behind_their_base(study):
    shown = models_tested(collect(study)).shown
    assert list(zip(shown["id"], shown["chunk"], strict=True)) == [
        ("1b", "32"), ("1b-tanh", "32"), ("1b-chunk8", "8"), ("1b-tanh-chunk8", "8"), ("2a", "16"), ("2a-tanh", "16")]


def test_results_of_other_studies_in_the_folder_of_a_system_need_no_attention(tmp_path):
    other = published_study(tmp_path / "other", models=["3b"])
    write_results(other, other.cells[:2])
    study = published_study(tmp_path / "study", models=["1b"], systems={"lab": {"results": str(other.result_folder)}})
    runs = collect(study)
    assert runs.files["reason"].tolist() == ["not_in_study"] * 2
    assert attention(runs).shown.empty


def test_verdicts_in_words(study):
    scored(study, {"1b": 0.5, "1b-tanh": 0.5, "1b-chunk8": 0.7, "2a": 0.5})
    table = next(part for part in controls(collect(study)).parts if isinstance(part, Table) and part.id == "controls")
    found = dict(zip(table.shown["variant"], table.shown["verdict"], strict=True))
    assert found == {"1b-tanh": "can be replaced", "1b-chunk8": "better than its base"}
    assert "No block yet: 1b-tanh-chunk8, 2a-tanh." in table.caption


def write_checks(study, cell, sha, **more):
    path = checks_path(study.result_path(cell))
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps({"result_sha256": sha, "swap": {"mean_field": 0.125},
                                "gradients": [{"variance": 0.5 ** n} for n in range(7)], **more}))


def test_only_checks_of_this_very_result_are_shown(study):
    record, _ = write_results(study, study.cells[:2])
    for cell, sha in zip(study.cells, (record["content_sha256"], "0" * 64), strict=False):
        write_checks(study, cell, sha, cell_means=0.5, probe=None, shots=[{"score": 0.5}])
    runs = collect(study)
    found = checks(runs)
    score = record["test_r2"]
    assert found[["seed", "score", "mean field"]].to_numpy().tolist() == [[study.cells[0].seed, score, 0.125]]
    assert found[["Q", "1,000 shots"]].isna().all(axis=None)
    checked, gradients = (part for part in controls(runs).parts if getattr(part, "id", "") in SHOWN)
    devices, = details(runs)
    assert checked.shown.to_dict("records") == [
        {"model": "1b", "task": "Selective Copy", "L": "100", "n": "1", "score": f"{score:.3f}", "mean field": "0.125",
         "cell means": "0.500", "score minus cell means": f"{score - 0.5:+.3f}"}]
    assert devices.shown["100 shots"].tolist() == ["0.500"]
    assert gradients.data["variance"].tolist() == [0.5 ** n for n in range(7)]


@pytest.mark.parametrize(("probe", "caveat"), [
    ({"ridge": 0.6}, "a ridge, reaches 0.600"), ({"ridge": 0.2, "cells": 0.5}, "the fixed rule, reaches 0.500"),
    ({"ridge": 0.4}, None), (None, None)])
def test_a_base_below_its_own_untrained_encoder_has_nothing_to_lose_and_the_row_says_so(study, probe, caveat):
    scored(study, {"1b": 0.5, "1b-tanh": 0.5})
    for cell in study.cells:
        if cell.model == "1b-tanh":
            sha = json.loads(study.result_path(cell).read_text())["content_sha256"]
            write_checks(study, cell, sha, probe=probe)
    table = next(part for part in controls(collect(study)).parts if isinstance(part, Table) and part.id == "controls")
    assert table.shown["caveats"].item() == (f"its untrained encoder, read by {caveat}, the base 0.499" * bool(caveat))


@pytest.mark.parametrize(("odd", "drawn"), [
    ({"cell_means": "abc"}, True), ({"cell_means": 10**400}, True), ({"cell_means": True}, True),
    ({"cell_means": 1e309}, True), ({"gradients": [{"variance": 0.5}]}, False), ({"gradients": [{}]}, False),
    ({"gradients": [{"variance": 1e308}] * 7}, False), ({"gradients": [{"variance": -1.0}] * 7}, False),
])
def test_odd_values_in_a_file_of_checks_count_as_missing(study, odd, drawn):
    record, = write_results(study, study.cells[:1])
    write_checks(study, study.cells[0], record["content_sha256"], **odd)
    checked, *figures = (part for part in controls(collect(study)).parts if getattr(part, "id", "") in SHOWN)
    assert "cell means" not in checked.shown and checked.shown["mean field"].tolist() == ["0.125"]
    assert len(figures) == drawn
    with style():
        assert all(render(figure.draw()).startswith(b"\x89PNG") for figure in figures)


def test_a_task_and_its_variants_are_kept_apart(tmp_path):
    tasks = {"forrelation": {"lengths": [50, 100, 200]}, "forrelation-n2": {"lengths": [25]}}
    study = published_study(tmp_path, models=["1b", "3b"], seeds=[2024, 2025], tasks=tasks,
                            task_variants={"n2": {"forrelation": {"n_bits": 2}}})
    for cell in study.cells[:-1]:
        accuracy = 0.9 if cell.task == "forrelation-n2" else 0.5
        legacy = {"name": SELECTED, SELECTED: accuracy, "epoch": 1, "legacy_censored": False, "biased": True}
        write_record(study.result_path(cell), record_of(study, cell, test_acc=accuracy, legacy=legacy))
    runs = collect(study)
    verdicts = compare(runs)
    assert set(ranking(runs, verdicts).frame["selected_mean"]) == {0.5}
    assert set(verdicts.loc[verdicts["kind"] == "slope", "task"]) == {"forrelation"}
    rungs = next(part for part in controls(runs).parts if isinstance(part, Table) and part.id == "variants_forrelation")
    assert rungs.shown[["task", "1b", "3b"]].to_numpy().tolist() == [
        *[["forrelation", "0.5000", "0.5000"]] * 3, ["forrelation-n2", "0.9000", "0.9000 (n 1)"]]
