"""Every figure on complete, partial and empty grids: its CSV is what was drawn, its numbers are those of the claims."""

import itertools
import json
import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from factories import published_study, record_of, schema1_of, write_results
from matplotlib.colors import to_rgb
from scipy import stats
from statsmodels.stats.multitest import multipletests

from qablate.analysis import style
from qablate.analysis.basis import Basis, basis_of, lay_basis
from qablate.analysis.ceilings import scores_by_training_size
from qablate.analysis.effects import controls_ladder
from qablate.analysis.evaluation import claims_table
from qablate.analysis.figures import entries, write_figures
from qablate.analysis.findings import Findings, find
from qablate.analysis.old_claims import load_claims
from qablate.analysis.ranking import band_half_width, critical_difference, rank_models
from qablate.analysis.runs import collect
from qablate.study import DatasetSpec, published_sha256
from qablate.tasks import generate
from qablate.tasks.solvers import solver_accuracies

DRAWN = {   # columns of the CSV whose every number is a coordinate of the picture
    "factor_forest": ("estimate",),
    "equivalence_strip": ("estimate_in_margins",),
    "placement": ("estimate", "low95", "high95"),
    "pareto": ("score", "n_trainable", "seconds"),
    "performance_profiles": ("score", "share_above"),
    "rank_diagram": ("mean_rank",),
    "controls_ladder": ("difference", "mean", "low95", "high95"),
    "forrelation_diagnostics": ("x", "y"),
    "system_agreement": ("value_a", "value_b", "mean", "offset", "mean_offset", "limit_low", "limit_high"),
    **{f"length_{task}": ("score",) for task in ("adding_problem", "forrelation")},
    "length_selective_copy": ("score", "low95", "high95"),
    **{f"learning_{task}": ("epoch",) for task in ("adding_problem", "forrelation", "selective_copy")},
}


def drawings(collection, basis):
    """What each figure draws, or why it does not, by id."""
    return {entry.id: entry.draw() for entry in entries(collection, basis)}


def coordinates(canvas):
    """All finite numbers that lines, points and segments of a picture stand at, sorted."""
    found = []
    for axis in canvas.axes:
        found += [np.asarray(data, dtype=float) for line in axis.lines for data in line.get_data()]
        for group in axis.collections:
            offsets = group.get_offsets() if hasattr(group, "get_sizes") else ()
            found += [np.ravel(offsets), *(np.ravel(path.vertices) for path in group.get_paths())]
    values = np.concatenate([np.ravel(np.ma.getdata(part)) for part in found]).astype(float)
    return np.unique(values[np.isfinite(values)])


def is_among(value, drawn):
    place = np.searchsorted(drawn, value)
    near = drawn[max(0, place - 1):place + 1]
    return bool(np.isclose(near, value, rtol=1e-9, atol=1e-12).any())


def banner_of(drawing):
    return " ".join(" ".join(text.get_text() for text in drawing.canvas.texts if text.get_gid() == "banner").split())


@pytest.fixture(scope="module")
def complete(tmp_path_factory):
    """The published study, all 396 cells, and what its claims say."""
    study = published_study(tmp_path_factory.mktemp("complete") / "results")
    write_results(study)
    collection = collect(study)
    findings = find(collection)
    return collection, findings, lay_basis(collection, findings.results)


@pytest.fixture(scope="module")
def drawn(complete):
    return drawings(complete[0], complete[2])


@pytest.fixture(scope="module")
def controlled(complete):
    """Three sampled models with two of their controls, drawn by shifting the scores of the models themselves."""
    collection = complete[0]
    runs = collection.runs[collection.runs["model"].isin(["1a", "2d", "4a"]) & (collection.runs["length"] < 1000)]
    copies = [runs.assign(model=runs["model"] + f"-{tag}", test_r2=runs["test_r2"] + shift, test_mse=runs["test_mse"]
                          * (1 + shift), test_acc=runs["test_acc"] - shift / 10)
              for tag, shift in (("noent", 0.03), ("tanh", 0.0))]
    changed = replace(collection, runs=pd.concat([collection.runs, *copies], ignore_index=True))
    return controls_ladder(basis_of(changed, load_claims()))


def twice_trained(folder):
    """A study two cells of which another system has trained, too."""
    study = published_study(folder / "results", models=["1a", "3b"], systems={"dgx": {"results": str(folder / "dgx")}})
    (folder / "dgx").mkdir()
    cells = [study.cell(model, "adding_problem", 100, seed) for model in ("1a", "3b") for seed in (2024, 2025)]
    write_results(study, cells)
    for i, cell in enumerate(cells):
        record = schema1_of(record_of(study, cell, test_mse=0.01 * (i + 1)))
        (folder / "dgx" / cell.result_name).write_text(json.dumps(record))
    return collect(study)


@pytest.mark.parametrize("name", DRAWN)
def test_every_number_of_the_csv_is_in_the_picture(name, drawn, controlled, tmp_path):
    if name == "system_agreement":
        collection = twice_trained(tmp_path)
        drawing = drawings(collection, lay_basis(collection))[name]
    else:
        drawing = controlled if name == "controls_ladder" else drawn[name]
    places = coordinates(drawing.canvas)
    checked = 0
    for column in DRAWN[name]:
        for value in drawing.frame[column].dropna().unique():
            if value == 0 and name == "length_adding_problem":
                continue      # the solver's error: off the logarithmic axis, named in the legend
            assert is_among(value, places) or (column in ("low95", "high95") and math.isinf(value)), (column, value)
            checked += 1
    assert checked >= 5
    assert not is_among(0.987654321, places)


def test_every_marked_point_is_in_the_csv(drawn):
    for name in ("factor_forest", "equivalence_strip", "pareto", "rank_diagram", "forrelation_diagnostics",
                 "length_selective_copy"):
        known = np.unique(drawn[name].frame.select_dtypes("number").to_numpy(dtype=float).ravel())
        for axis in drawn[name].canvas.axes:
            for line in axis.lines:
                if line.get_marker() in style.MARKERS.values():
                    for x, y in zip(*line.get_data(), strict=True):
                        assert is_among(x, known) or is_among(y, known), (name, x, y)


def test_maps_print_what_their_csv_holds(drawn, complete):
    scores = drawn["score_map"].frame
    texts = [text.get_text() for axis in drawn["score_map"].canvas.axes for text in axis.texts]
    assert texts.count("n 3") == len(scores) == 132
    assert scores["share"].between(0, 1).all() and scores["n"].eq(3).all()
    top = scores[(scores["task"] == "forrelation") & (scores["length"] == 50)]
    assert top["solver"].iloc[0] == pytest.approx(0.9475, abs=0.012)
    row = scores[scores["task"] == "selective_copy"].iloc[0]
    assert row["share"] == pytest.approx(max(row["mean"], 0.0))
    squares = [patch for axis in drawn["state_map"].canvas.axes for patch in axis.patches]
    assert len(squares) == 396 == len(drawn["state_map"].frame)


def test_estimates_are_those_of_the_claims(drawn, complete):
    claims = claims_table(complete[1].results).set_index("id")
    checked = 0
    for name in ("factor_forest", "placement", "equivalence_strip"):
        for row in drawn[name].frame.to_dict("records"):
            for key in ("estimate", "low90", "high90", "low95", "high95", "margin", "n"):
                assert row[key] == claims.loc[row["id"], key], (row["id"], key)
                checked += 1
            verdict = claims.loc[row["id"], "verdict"]
            assert row["verdict"] == verdict or verdict == "not enough data"
    assert checked > 400


def test_complete_grid_has_all_figures_and_says_what_no_run_can_show(drawn):
    absent = {name for name, drawing in drawn.items() if isinstance(drawing, str)}
    assert absent == {"system_agreement", "controls_ladder", "gradient_variance"}
    assert {name for name, drawing in drawn.items() if name not in absent and banner_of(drawing)} == {
        "factor_forest", "pareto", "forrelation_diagnostics"}
    assert "energy: not recorded" in banner_of(drawn["pareto"])
    assert "no matched block for circuit against tanh" in banner_of(drawn["factor_forest"])
    assert "N = 9 blocks, critical difference 5.55 ranks" in drawn["rank_diagram"].note
    known = drawn["rank_diagram"].frame.drop_duplicates("task")
    assert known["n_blocks"].tolist() == [9, 12, 12]
    assert known["critical_difference"].round(2).tolist() == [5.55, 4.81, 4.81]
    assert drawn["rank_diagram"].note.count("N = 12 blocks, critical difference 4.81 ranks") == 2


def test_a_control_is_its_model_plus_the_difference(controlled):
    frame = controlled.frame
    assert set(zip(frame["model"], frame["control"], strict=True)) == set(itertools.product(
        ("1a", "2d", "4a"), ("noent", "tanh")))
    same = frame[frame["control"] == "tanh"]
    assert np.abs(same["difference"]).max() < 1e-12
    copy = frame[(frame["control"] == "noent") & (frame["task"] == "selective_copy") & (frame["model"] == "2d")]
    assert copy["mean"].to_numpy() == pytest.approx(0.03) and copy["n"].eq(9).all() and len(copy) == 9
    assert "no block: 1a+frozen" in banner_of(controlled)


PARTIAL = {
    "one cell": lambda cells: cells[:1],
    "one model": lambda cells: [cell for cell in cells if cell.model == "2d"],
    "no complete block": lambda cells: [cell for i, cell in enumerate(cells) if i % 7 < 3],
    "nothing": lambda cells: [],
}


@pytest.mark.parametrize("kind", PARTIAL)
def test_partial_grids_draw_and_say_what_is_missing(kind, tmp_path):
    study = published_study(tmp_path / "results")
    chosen = PARTIAL[kind](study.cells)
    write_results(study, chosen)
    collection = collect(study)
    made = drawings(collection, lay_basis(collection))
    open_cells = f"{396 - len(chosen)} of 396 cells without a result"
    for name, drawing in made.items():
        if isinstance(drawing, str):
            assert drawing and not drawing.endswith(".")
        elif name != "state_map":
            if kind == "no complete block":     # every figure that partial grids can have; the layout takes seconds
                drawing.canvas.draw_without_rendering()
            assert "cells without a result" in banner_of(drawing), name
    assert open_cells in banner_of(made["score_map"])
    absent = {name for name, drawing in made.items() if isinstance(drawing, str)}
    always = {"system_agreement", "controls_ladder", "gradient_variance"}
    of_pairs = {"factor_forest", "equivalence_strip", "placement", "rank_diagram"}
    expected = {"one cell": of_pairs, "one model": of_pairs, "no complete block": {"factor_forest"},
                "nothing": of_pairs | {"pareto", "performance_profiles"}}
    assert absent == always | expected[kind]


def test_blocks_are_chosen_by_what_is_there_alone(tmp_path):
    study = published_study(tmp_path / "results", tasks={"selective_copy": {"lengths": [100, 200], "n_markers": 8}})
    write_results(study, [cell for cell in study.cells if cell.model != "1a" or cell.name.endswith("L100_seed2024")])
    collection = collect(study)
    basis = lay_basis(collection)
    models, blocks = basis.comparable("selective_copy")
    assert "1a" not in models and len(models) == 11 and blocks.n == 6
    assert basis.left_out(["selective_copy"]) == ["Selective Copy: 6 of 6 blocks matched, without 1a"]
    profile = drawings(collection, basis)["performance_profiles"]
    assert "without 1a" in banner_of(profile) and set(profile.frame["n"]) == {6}


def test_files_are_written_and_a_pdf_if_asked_for(tmp_path):
    study = published_study(tmp_path / "results", models=["1a", "3a"], tasks={"adding_problem": {"lengths": [100]}})
    write_results(study)
    collection = collect(study)
    made = write_figures(collection, Findings(), tmp_path / "figures", pdf=True)
    for name, figure in made.items():
        files = {path.suffix[1:] for path in (tmp_path / "figures").glob(f"{name}.*")}
        assert files == set(figure.suffixes) == (set() if figure.reason else {"png", "svg", "csv", "pdf"})
    assert not made["placement"].reason and "CSV" not in made["placement"].caption
    inches = float(made["placement"].svg.split(b'width="')[1].split(b"pt")[0]) / 72
    assert inches == pytest.approx(85 / 25.4, abs=0.01)


def test_critical_difference_of_known_sizes():
    assert critical_difference(12, 9) == pytest.approx(5.55, abs=0.005)
    assert critical_difference(12, 12) == pytest.approx(4.81, abs=0.005)
    assert critical_difference(2, 10) == pytest.approx(1.95996 * math.sqrt(1 / 10), abs=1e-4)


def test_band_holds_the_whole_curve():
    assert band_half_width(12) == pytest.approx(math.sqrt(math.log(40) / 24))
    generator = np.random.default_rng(0)
    samples = np.sort(generator.random((4000, 12)), axis=1)
    steps = np.arange(1, 13) / 12
    farthest = np.maximum(steps - samples, samples - (steps - 1 / 12)).max(axis=1)
    assert 0.95 <= np.mean(farthest <= band_half_width(12)) < 0.985


def test_ranks_against_direct_calls():
    generator = np.random.default_rng(5)
    names, y = ["a", "b", "c", "d"], generator.normal(size=(4, 12)) + np.array([[0.0], [3.0], [3.0], [9.0]])
    y[2] = y[1]      # equal in every block
    found = rank_models(names, y)
    assert found.models[0] == "d" and found.models[-1] == "a"
    assert found.mean_ranks.sum() == pytest.approx(10) and found.mean_ranks[1] == found.mean_ranks[2] == 2.5
    assert found.friedman_p == stats.friedmanchisquare(*y).pvalue
    pairs = list(itertools.combinations(range(4), 2))
    ordered = y[[names.index(name) for name in found.models]]
    raw = [1.0 if np.array_equal(ordered[i], ordered[j]) else stats.wilcoxon(ordered[i] - ordered[j]).pvalue
           for i, j in pairs]
    adjusted = multipletests(raw, method="holm")[1]
    assert [found.p[i, j] for i, j in pairs] == pytest.approx(adjusted)
    assert found.cliques == ((1, 2),)


def test_models_that_cannot_be_told_apart_share_one_clique():
    found = rank_models(["a", "b", "c"], np.random.default_rng(1).normal(size=(3, 5)))
    assert found.cliques == ((0, 2),)
    assert math.isnan(rank_models(["a", "b"], np.array([[1.0, 2.0], [0.0, 1.0]])).friedman_p)


def test_shares_go_from_baseline_to_solver(complete):
    basis: Basis = complete[2]
    for task, length in basis.solvers:
        scale = basis.scale(task)
        assert basis.share(task, length, scale.baseline) == 0
    assert basis.share("selective_copy", 100, 1.0) == 1
    assert basis.share("adding_problem", 100, -math.log(1e-8)) == pytest.approx(1)


def test_solvers_with_fewer_training_items_are_what_was_computed():
    known = scores_by_training_size()
    assert set(known["n_train"]) == {250, 500, 1000, 2000, 4000} and len(known) == 135
    spec = DatasetSpec("forrelation", 50, 2024)
    rows = known[(known["dataset_sha256"] == published_sha256()[spec.identity_json]) & (known["n_train"] == 250)]
    means = known.groupby(["solver", "n_train"])["score"].mean()
    assert means["table_ridge", 4000] > means["table_ridge", 1000] > means["table_ridge", 250] > 0.6
    assert set(rows["solver"]) == {"plug_in", "table_ridge", "linear"}


@pytest.mark.full
def test_scores_of_fewer_training_items_computed_again():
    spec, known = DatasetSpec("forrelation", 50, 2024), scores_by_training_size()
    rows = known[(known["dataset_sha256"] == published_sha256()[spec.identity_json]) & (known["n_train"] == 250)]
    assert dict(zip(rows["solver"], rows["score"], strict=True)) == solver_accuracies(generate(spec), 250)


def test_colours_of_a_panel_differ_in_grey():
    """Models of one architecture differ in marker and line; models of one group in lightness."""
    assert len(set(style.MARKERS.values())) == 4 == len({str(line) for line in style.LINES.values()})
    for group in "1234":
        light = sorted(float(np.dot(to_rgb(colour), (0.2126, 0.7152, 0.0722)))
                       for model, colour in style.COLOURS.items() if model[0] == group)
        assert min(np.diff(light)) > 0.08
