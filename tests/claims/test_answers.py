"""Answers, comparisons and checked statements as sections: words that follow from the numbers alone."""

import itertools
import re

import numpy as np
import pandas as pd
import pytest
import yaml
from factories import published_study, small_study
from grids import SEEDS, grid, row, runs_of

from qablate.analysis.claims import CLAIMS_PATH, Contrast, load_claims
from qablate.analysis.figure import render, style
from qablate.analysis.sections.comparisons import answers, comparisons, findings
from qablate.analysis.table import Figure, Table
from qablate.analysis.verdicts import compare

QUESTIONS = ("Does quantum beat classical?", "Features or mixing?", "Which architecture?",
             "How does it scale with length?", "Why is Forrelation hard?", "Is end-to-end quantum worth it?")
ADDING, COPY, FORRELATION = "Adding Problem", "Selective Copy", "Forrelation"
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
    return answers(runs, table).parts[0].frame.set_index(["question", "task"])


def test_a_whole_study_is_answered_in_words(whole):
    table = answers(*whole).parts[0]
    assert tuple(filter(None, table.shown["question"])) == QUESTIONS and table.foot == len(table.shown) == 16
    found = by_question(*whole)
    assert "Quantum against classical: **better**" in found.loc[(QUESTIONS[0], ADDING), ANSWER]
    factors = found.loc[(QUESTIONS[1], COPY), ANSWER]
    assert "Quantum features: **better**" in factors and "provisional" not in factors
    forrelation = found.loc[(QUESTIONS[4], FORRELATION)]
    assert "All models: **at chance**" in forrelation[ANSWER] and "0.885, 0.989, 1.000" in forrelation[ANSWER]
    assert "0.5197" in forrelation[MISSING]
    vacuous = found.loc[:, FORRELATION, :].drop(QUESTIONS[4])[MISSING]
    assert vacuous.str.contains("the models together are at chance").all()
    assert found[MISSING].str.contains("at chance").sum() == len(vacuous)
    assert "3 seeds are independent, not 9 blocks" in vacuous[QUESTIONS[0]]
    assert found.loc[QUESTIONS[1], MISSING].str.contains("mix inside a chunk").all()    # declared ones are not cut
    assert not found[MISSING].str.contains("missing").any() and not found[ANSWER].str.contains("open").any()
    assert not found[ESTIMATE].isin(["", "–"]).any()


def test_one_block_more_hides_nothing_that_was_known(few):
    runs, _ = few
    classical = [row(model, "selective_copy", 100, 2024, 0.9) for model in ("3a", "3b", "3c")]
    more = runs_of(pd.concat([runs.table, pd.DataFrame(classical)], ignore_index=True))
    before, after = (by_question(one, compare(one)).loc[:, COPY, :] for one in (runs, more))
    assert list(before[ANSWER]) == list(after[ANSWER])
    assert all(known in now for known, now in zip(before[ESTIMATE].replace("–", ""), after[ESTIMATE], strict=True))
    assert "(1 block)" in after.loc[QUESTIONS[0], ESTIMATE] and "open it" in after.loc[QUESTIONS[0], MISSING]


@pytest.mark.parametrize(("last", "tendency"), [(0.2, "4a - 1a: **better** (provisional)"), (-0.01, None)])
def test_a_pair_of_six_blocks_has_a_side_only_if_its_exact_test_allows_one(last, tendency):
    """With one block of six against it the p of a pair is 0.06 at least, however clear its interval is of 0."""
    blocks = list(itertools.product((100, 200), SEEDS))
    table = pd.DataFrame([row(model, "selective_copy", *block, 0.5 + (model == "4a") * (last if block == blocks[0] else
                                                                                      0.2 + 0.01 * place))
                          for place, block in enumerate(blocks) for model in ("1a", "4a")])
    runs = runs_of(table)
    answer = by_question(runs, compare(runs)).loc[(QUESTIONS[1], COPY), ANSWER]
    assert (tendency in answer) if tendency else "4a - 1a" not in answer


def test_without_runs_every_question_says_what_opens_it():
    runs = runs_of(grid(np.random.default_rng(0), tasks=("selective_copy",)).iloc[:0])
    found = by_question(runs, compare(runs))
    assert found[ANSWER].str.contains("**open**", regex=False).all() and (found[ESTIMATE] == "–").all()
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


@pytest.mark.parametrize(("bound", "copy", "changed", "outcome", "numbers"), [
    ("above", 0.99, {}, "holds", "lowest mean R² 0.9900 (Selective Copy, 1b, L = 100); 8 of 8 means there, 0 against"),
    ("above", 0.5, {}, "does not hold",
     "lowest mean R² 0.5000 (Selective Copy, 1b, L = 100); 8 of 8 means there, 4 against"),
    ("below", 0.5, {}, "does not hold",
     "highest mean R² 0.9970 (Adding Problem, 1b, L = 100); 8 of 8 means there, 4 against"),
    ("above", None, {}, "open", "lowest mean R² 0.9970 (Adding Problem, 1b, L = 100); 4 of 8 means there, 0 against"),
    ("above", 0.99, {500: {"test_r2": 0.6}}, "does not hold",
     "lowest mean R² 0.8600 (Selective Copy, 1b, L = 500); 8 of 8 means there, 1 against"),
    ("above", 0.99, {500: {"status": "diverged"}}, "does not hold",    # it counts as a constant
     "lowest mean R² 0.6600 (Selective Copy, 1b, L = 500); 8 of 8 means there, 1 against"),
    ("above", 0.99, {500: None}, "open",
     "lowest mean R² 0.9900 (Selective Copy, 1b, L = 100); 7 of 8 means there, 0 against"),
])
def test_a_threshold_is_on_the_means_of_each_task_over_all_seeds(bound, copy, changed, outcome, numbers, tmp_path,
                                                                 monkeypatch):
    """`changed`: the first seed of Selective Copy at a length, None for none."""
    rows = []
    for task, r2 in (("adding_problem", 0.997), ("selective_copy", copy)):
        for length, seed in itertools.product((100, 200, 500, 1000), SEEDS):
            change = changed.get(length, {}) if (task, seed) == ("selective_copy", SEEDS[0]) else {}
            if r2 is not None and change is not None:
                rows.append(row("1b", task, length, seed, 9.0, **{"test_r2": r2, **change}))
    runs = runs_of(pd.DataFrame(rows))
    statement = {"statement": "1b solves both", "tasks": ["adding_problem", "selective_copy"], "models": ["1b"],
                 "metric": "test_r2", bound: 0.9}
    (tmp_path / "workflow").mkdir()
    (tmp_path / CLAIMS_PATH).write_text(yaml.safe_dump({"statements": [statement]}))
    table = compare(runs)
    monkeypatch.chdir(tmp_path)
    first = findings(runs, table).parts[0].frame.iloc[0]
    assert (first["outcome"], first["numbers"]) == (outcome, numbers)


def test_more_seeds_and_variants_leave_the_statements(tmp_path):
    tasks = {"selective_copy": {"lengths": [100]}, "forrelation": {"lengths": [50]},
             "forrelation-n3": {"lengths": [25]}}
    study = published_study(tmp_path, seeds=[*SEEDS, 7], tasks=tasks,
                            task_variants={"n3": {"forrelation": {"n_bits": 3}}})
    runs = runs_of(pd.DataFrame([row("1b", "selective_copy", 100, 7, 0.5)]), study)
    assert len(statements(runs, compare(runs))) > 1


def test_another_study_checks_no_published_statement(tmp_path):
    study = small_study(tmp_path)
    runs = runs_of(pd.DataFrame([row("1b", "selective_copy", 16, 2024, 0.5)]), study)
    assert findings(runs, compare(runs)).parts == ()
    assert set(by_question(runs, compare(runs)).index.unique("question")) == set(QUESTIONS)


def test_a_study_of_one_model_has_answers_without_labelled_rows(tmp_path):
    study = small_study(tmp_path, models=["1b"])
    runs = runs_of(pd.DataFrame([row("1b", "selective_copy", length, seed, length / 40 + seed % 2 / 50)
                                 for length in (16, 32) for seed in (2024, 2025)]), study)
    found = by_question(runs, compare(runs))
    assert "1b: **improves with length** (provisional)" in found.loc[(QUESTIONS[3], COPY), ANSWER]
    assert not any(isinstance(part, Figure) for part in comparisons(runs, compare(runs)).parts)


def tables(runs, table) -> dict[str, Table]:
    return {part.id: part for part in comparisons(runs, table).parts if isinstance(part, Table)}


def test_every_comparison_is_shown_or_named_as_open(few):
    runs, table = few
    parts = tables(runs, table)
    models, pairs = parts.pop("comparisons_models"), parts.pop("comparisons_pairs")
    assert models.shown.empty and re.search("No block yet: (.*)[.]", models.caption)[1].split(", ") == runs.models
    assert pairs.shown.empty and pairs.caption.count(" - ") == 9 and len(models.frame) == 48
    for name, part in parts.items():
        rows = table[table["task"] == name.removeprefix("comparisons_")]
        main = rows[(rows["table"] != "founding") & (rows["label"] != "")]
        assert len(part.frame) == len(rows) and len(part.shown) == (main["verdict"] != "open").sum()
        assert "quantum features" in part.caption


def test_a_contrast_of_a_table_of_ones_own_is_shown_and_drawn(whole):
    runs, _ = whole
    mine = [Contrast("1b-2d", "mine", ("1b",), ("2d",), tasks=("selective_copy",)),
            Contrast("two", "mine", ("1b", "1c"), ("2d", "2e"), label=r"$\foo$", tasks=("selective_copy",))]
    table = compare(runs, [*load_claims(runs.study).contrasts, *mine])
    shown = tables(runs, table)
    assert "1b - 2d" in set(shown["comparisons_pairs"].shown["pair"])
    assert r"$\foo$" in set(shown["comparisons_selective_copy"].shown["comparison"])
    forest = comparisons(runs, table).parts[-1]
    assert {"1b-2d", "two", "1a-3a", "features", "hydra-mamba"} <= set(forest.data["id"])
    with style():
        canvas = forest.draw()
        assert render(canvas).startswith(b"\x89PNG")    # a label is no formula
        names = {label.get_text() for label in canvas.axes[0].get_yticklabels()}
    assert len(canvas.axes) == 3 and {"1b - 2d", "quantum features", "Hydra against Mamba"} <= names


def test_a_pair_is_one_row_with_a_column_per_task_and_its_p(whole):
    pairs = tables(*whole)["comparisons_pairs"]
    assert list(pairs.shown) == ["pair", FORRELATION, ADDING, COPY, "caveats"] and len(pairs.shown) == 9
    row = pairs.shown.set_index("pair").loc["1a - 3a"]
    assert re.fullmatch(r"MSE x[\d.e-]+ \[.*\] higher \(12 / 12, p [\d.e-]+\)", row[ADDING])
