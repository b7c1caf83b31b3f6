"""Answers, comparisons and checked statements as sections: words that follow from the numbers alone."""

import numpy as np
import pandas as pd
import pytest
from factories import small_study
from grids import SEEDS, grid, row, runs_of

from qablate.analysis.figure import render, style
from qablate.analysis.sections.comparisons import answers, comparisons, findings, shown_estimate
from qablate.analysis.table import Figure, Table
from qablate.analysis.verdicts import compare
from qablate.catalog import MODELS

QUESTIONS = ("Does quantum beat classical?", "Features or mixing?", "Which architecture?",
             "How does it scale with length?", "Why is Forrelation hard?", "Is end-to-end quantum worth it?")
ANSWER, ESTIMATE, MISSING = "answer so far", "estimate [95 %]", "caveat, what is missing"


@pytest.fixture(scope="module")
def whole():
    runs = runs_of(grid(np.random.default_rng(11), dict.fromkeys(("1a", "1b", "1c", "4a", "4d", "4e"), 3.0),
                        tasks=("adding_problem", "selective_copy")))
    at_chance = grid(np.random.default_rng(12), tasks=("forrelation",))
    runs = runs_of(pd.concat([runs.table, at_chance], ignore_index=True))
    return runs, compare(runs)


@pytest.fixture(scope="module")
def few():
    """The models of groups 1, 2 and 4 on Selective Copy at L = 100."""
    table = grid(np.random.default_rng(13), {"1c": 4.0}, tasks=("selective_copy",))
    table = table[(table["length"] == 100) & ~table["model"].isin(["3a", "3b", "3c"])]
    runs = runs_of(table)
    return runs, compare(runs)


def by_question(runs, table) -> pd.DataFrame:
    return answers(runs, table).parts[0].shown.set_index("question")


def test_a_whole_study_is_answered_in_words(whole):
    found = by_question(*whole)
    assert tuple(found.index) == QUESTIONS
    beats, factors = found.loc[QUESTIONS[0], ANSWER], found.loc[QUESTIONS[1], ANSWER]
    assert "Adding Problem" in beats and "quantum against classical: **better**" in beats
    assert "quantum features: **better**" in factors and "provisional" not in factors
    assert "all models: **at chance**" in found.loc[QUESTIONS[4], ANSWER]
    assert "0.885, 0.989, 1.000" in found.loc[QUESTIONS[4], ANSWER]
    assert "0.5197" in found.loc[QUESTIONS[4], MISSING]
    assert not found[MISSING].str.contains("missing").any() and not found[ANSWER].str.contains("open").any()
    assert (found[ESTIMATE] != "").all()


def test_with_any_block_an_estimate_is_printed(few):
    found = by_question(*few)
    copy = found.loc[QUESTIONS[2]]
    assert "**open**" in copy[ANSWER] and "1c - 1b" in copy[ANSWER] and "**better** (provisional)" in copy[ANSWER]
    assert "1c - 1b" in copy[ESTIMATE] and "(3 blocks)" in copy[ESTIMATE]
    end = found.loc[QUESTIONS[5]]
    assert "group 4 against 3: **open**" in end[ANSWER] and "(provisional)" in end[ANSWER]
    assert "Selective Copy 0 to 3 / 12" in end["blocks"]


def test_what_is_missing_is_counted_in_cells_and_hours(few):
    runs, _ = few
    found = by_question(*few)
    missing = int((~runs.cells["finished"]).sum())
    assert f"{missing} cells missing ({missing / 2:.0f} h)" in found.loc[QUESTIONS[0], MISSING]
    forrelation = found.loc[QUESTIONS[4], MISSING]
    assert "108 cells missing (54.0 h)" in forrelation and "36 cells at L = 50 (18.0 h) open it" in forrelation


def test_without_runs_every_question_says_what_opens_it():
    runs = runs_of(grid(np.random.default_rng(0), tasks=("selective_copy",)).iloc[:0])
    found = by_question(runs, compare(runs))
    assert found[ANSWER].str.contains("**open**", regex=False).all() and (found[ESTIMATE] == "").all()
    assert found[MISSING].str.contains("cells missing").all()
    table = findings(runs, compare(runs)).parts[0].shown
    assert set(table["outcome"]) == {"**open**"}
    assert all(isinstance(part, (str, Table, Figure)) for part in comparisons(runs, compare(runs)).parts)


def statements(runs, table) -> pd.Series:
    return findings(runs, table).parts[0].frame.set_index("statement")["outcome"]


def test_statements_are_checked_against_the_rows_they_rest_on(whole):
    found = statements(*whole)
    assert found["Group 1 is better than Group 2 on Selective Copy"] == "holds"
    assert found["Quantum features help selective memory"] == "holds"
    assert found["Group 2 is better than Group 1 on Adding"] == "does not hold"
    assert found["All models are above 50 % on Forrelation (52 to 53 %)"] == "does not hold"
    assert set(found) <= {"holds", "does not hold", "open"}


@pytest.mark.parametrize(("changed", "outcome", "numbers"), [
    ({}, "holds", "16 of 16 means there, 0 against"),
    ({("2a", 500, 2024): {"test_r2": 0.9}}, "does not hold", "lowest mean R² 0.9650 (2a, L = 500)"),
    ({("2a", 500, 2024): None}, "open", "15 of 16 means there"),
    ({("1b", 100, 2024): {"status": "diverged"}}, "does not hold", "0.6650 (1b, L = 100)"),    # as a constant
])
def test_a_threshold_is_on_the_mean_over_all_seeds_at_every_length(changed, outcome, numbers):
    cells = [(model, length, seed) for model in ("1b", "1c", "2a", "2d") for length in (100, 200, 500, 1000)
             for seed in SEEDS if changed.get((model, length, seed), {}) is not None]
    runs = runs_of(pd.DataFrame([
        row(model, "adding_problem", length, seed, 9.0, **{"test_r2": 0.9975, **changed.get((model, length, seed), {})})
        for model, length, seed in cells]))
    first = findings(runs, compare(runs)).parts[0].frame.iloc[0]
    assert first["outcome"] == outcome and numbers in first["numbers"]


def test_another_study_checks_no_published_statement(tmp_path):
    study = small_study(tmp_path)
    runs = runs_of(pd.DataFrame([row("1b", "selective_copy", 16, 2024, 0.5)]), study)
    assert findings(runs, compare(runs)).parts == ()
    assert len(by_question(runs, compare(runs))) == len(QUESTIONS)


def test_a_study_of_one_model_has_answers_without_labelled_rows(tmp_path):
    study = small_study(tmp_path, models=["1b"])
    runs = runs_of(pd.DataFrame([row("1b", "selective_copy", length, seed, length / 40) for length in (16, 32)
                                 for seed in (2024, 2025)]), study)
    found = by_question(runs, compare(runs))
    assert "1b: **rises with length** (provisional)" in found.loc[QUESTIONS[3], ANSWER]
    assert not any(isinstance(part, Figure) for part in comparisons(runs, compare(runs)).parts)


def test_every_comparison_is_shown_or_named_as_open(few):
    runs, table = few
    parts = {part.id: part for part in comparisons(runs, table).parts if isinstance(part, Table)}
    models = parts.pop("comparisons_models")
    assert list(models.shown["model"]) == runs.models and len(models.frame) == 48
    for name, part in parts.items():
        rows = table[table["task"] == name.removeprefix("comparisons_")]
        main = rows[(rows["table"] != "founding") & ((rows["label"] != "") | (rows["table"] == "quantum_classical"))]
        assert len(part.frame) == len(rows) and len(part.shown) == (main["verdict"] != "open").sum()
        assert all(shown in part.caption for shown in ("1a - 3a", "quantum features"))


def test_the_forest_draws_every_composed_row_with_its_pairs(whole, few):
    for runs, table in (whole, few):
        figure = comparisons(runs, table).parts[-1]
        assert isinstance(figure, Figure) and figure.id == "comparisons"
        with style():
            canvas = figure.draw()
            names = [label.get_text() for label in canvas.axes[0].get_yticklabels()]
            assert render(canvas).startswith(b"\x89PNG")
        assert len(canvas.axes) == 3 and {"1a - 3a", "quantum features", "Hydra against Mamba"} <= set(names)
        assert all(f"{model} - " not in name for name in names for model in MODELS if name.startswith("slope"))


@pytest.mark.parametrize(("metric", "numbers", "shown"), [
    ("test_r2", (0.0934, 0.044, 0.141), "+0.093 [+0.044, +0.141]"),
    ("test_r2", (-0.0001, -0.02, 0.02), "0.000 [-0.020, +0.020]"),
    ("test_mse", (np.log(2), 0.0, np.log(4)), "MSE x0.50 [0.25, 1.0]"),
    ("test_acc", (0.01, -np.inf, np.inf), "+0.010"),
    ("test_acc", (np.nan, np.nan, np.nan), "–"),
])
def test_estimates_are_written_in_units_of_the_score(metric, numbers, shown):
    assert shown_estimate(metric, *numbers) == shown
