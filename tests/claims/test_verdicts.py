"""From runs to verdicts: what each needs, what is printed next to it, and what arriving cells may not change."""

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from factories import published_study, small_study
from grids import SEEDS, grid, row, runs_of
from hypothesis import given
from hypothesis import strategies as st

from qablate.analysis.claims import Contrast
from qablate.analysis.statistics import holm
from qablate.analysis.verdicts import compare, leaning, verdict

COPY = "selective_copy"


def copy_grid(effects=None, **changes) -> pd.DataFrame:
    return grid(np.random.default_rng(7), effects, tasks=(COPY,), **changes)


def compared(table: pd.DataFrame, **changes) -> pd.DataFrame:
    """Rows of Selective Copy by id."""
    found = compare(runs_of(table, published_study(Path("results"), **changes)))
    return found[found["task"] == COPY].set_index("id")


def of_numbers(**changes) -> str:
    return verdict({"estimate": 0.1, "low95": 0.05, "high95": 0.15, "margin": 0.05, "blocks": 12, "kind": "difference",
                    "lengths": (100, 200, 500), "all_diverged": False, "p_holm": 0.01, "p_tost_holm": 1.0, **changes})


@pytest.mark.parametrize(("changes", "expected"), [
    ({}, "higher"),
    ({"estimate": -0.1, "low95": -0.15, "high95": -0.05}, "lower"),
    ({"p_holm": 0.051}, "undecided"),
    ({"estimate": 0.049, "low95": 0.01}, "undecided"),
    ({"estimate": 0.05, "low95": 0.01}, "higher"),
    ({"low95": -0.01}, "undecided"),
    ({"estimate": 0.01, "low95": 0.001, "p_tost_holm": 0.05}, "equivalent"),
    ({"blocks": 5}, "provisional: higher"),
    ({"blocks": 5, "estimate": 0.049, "low95": 0.01}, "provisional: below the margin"),
    ({"blocks": 5, "low95": -0.1}, "provisional: unclear"),
    ({"blocks": 5, "low95": -0.1, "estimate": 0.04}, "provisional: no difference seen"),
    ({"blocks": 1, "low95": -math.inf, "high95": math.inf}, "provisional: no interval yet"),
    ({"kind": "slope", "lengths": (100, 200)}, "provisional: higher"),
    ({"kind": "chance", "blocks": 3}, "higher"),
    ({"kind": "chance", "blocks": 2}, "provisional: higher"),
    ({"estimate": math.nan, "low95": math.nan, "high95": math.nan, "blocks": 0}, "open"),
])
def test_what_a_verdict_needs(changes, expected):
    assert of_numbers(**changes) == expected


@given(st.floats(-1, 1), st.floats(0, 1), st.floats(0.01, 0.5))
def test_a_leaning_names_a_side_only_when_the_interval_is_clear_of_zero_and_the_margin_reached(value, half, margin):
    found = leaning(value, value - half, value + half, margin)
    assert (found in ("higher", "lower")) == (half < abs(value) >= margin)
    mirrored = {"higher": "lower", "lower": "higher"}.get(found, found)
    assert leaning(-value, -value - half, -value + half, margin) == mirrored


def test_pairs_of_a_composed_row_average_to_it():
    rows = compared(copy_grid())
    for name in ("features", "mixing", "quantum", "hydra-mamba", "group4-group1"):
        pairs = rows.loc[name, "pairs"]
        assert np.mean([one.value for _, one in pairs]) == pytest.approx(rows.loc[name, "estimate"])
    assert rows.loc["1b-3b", "pairs"] == () and rows.loc["slope-1b", "pairs"] == ()
    slopes = [one.value for _, one in rows.loc["slope-ssm-transformer", "pairs"]]
    assert np.mean(slopes) == pytest.approx(rows.loc["slope-ssm-transformer", "estimate"])


def changed(where: str, column: str, value: object):
    """A change of a table: another value in some of its runs."""
    return lambda runs: runs.assign(**{column: runs[column].mask(runs.eval(where), value)})


@pytest.mark.parametrize(("change", "name", "words"), [
    (changed("model == '1b'", "n_params", 480_000), "1b-3b", "sizes differ 12x; chunks 32 against 1"),
    (changed("model == '1b'", "n_params", 480_000), "mixing", "the circuits of 2d 2e 4d 4e mix inside a chunk"),
    (changed("model == '3b'", "system", "dgx"), "1b-3b", "chunks 32 against 1; systems dgx, local"),
    (changed("model == '3b'", "system", "dgx"), "1c-3c", "chunks 32 against 1"),
    (lambda runs: runs[runs["length"] < 500], "1b-3b", "L = 100, 200 only; 6 blocks: no p below 0.031 possible; "),
    (changed("model == '1b' and seed == 2024", "status", "diverged"), "1b-3b",
     "4 of 24 runs diverged and count as baseline; seeds disagree in sign"),
])
def test_caveats_are_words_of_the_runs(change, name, words):
    """The others stand on the first page of the shipped cells (tests/analysis/test_report.py)."""
    found = compared(change(copy_grid({"1b": 8.0}))).loc[name, "caveats"]
    assert words in found and ("systems" in words or "systems" not in found)


def test_runs_that_all_diverged_decide_nothing_of_their_own():
    runs = copy_grid({"1c": 2.0})
    whole, cut = compared(runs), compared(changed("model == '1c'", "status", "diverged")(runs))
    alone = cut.loc["slope-1c"]
    assert whole.loc["slope-1c", "verdict"] != alone["verdict"] == "all diverged"
    assert tuple(alone[["blocks", "estimate", "p", "p_tost"]]) == (12, 0, 1, 1)
    assert alone["caveats"].startswith("12 of 12 runs diverged")
    assert cut.loc["1c-3c", "verdict"] == "lower"    # beside a model with scores they are failures
    others = [name for name, row in whole.iterrows() if "1c" not in (*row["plus"], *row["minus"])]
    assert (cut.loc[others, "verdict"] == whole.loc[others, "verdict"]).all()


def test_a_small_study_is_compared_on_its_own_grid(tmp_path):
    study = small_study(tmp_path, models=["1b", "3b"])
    table = pd.DataFrame([row(model, COPY, length, seed, 0.5 + (0.2 + (seed - 2024) / 50) * (model == "1b"))
                          for model in ("1b", "3b") for length in (16, 32) for seed in (2024, 2025)])
    found = compare(runs_of(table, study)).set_index(["id", "task"])
    one = found.loc[("1b-3b", COPY)]
    assert (one["blocks"], one["planned"], one["verdict"]) == (4, 4, "provisional: higher")
    assert found.loc[("1b-3b", "forrelation"), "verdict"] == "open"


def test_more_seeds_than_published_are_more_blocks():
    seeds = (*SEEDS, 2027, 2028)
    rows = compared(copy_grid({"1b": 2.0}, seeds=seeds), seeds=list(seeds))
    assert rows.loc["1b-3b", ["blocks", "planned"]].tolist() == [20, 20]
    assert rows.loc["slope-1b", "blocks"] == 20


def test_holm_is_inside_a_family_and_a_row_that_is_alone_is_in_none():
    named = [("a", "1b", "3b", False), ("b", "1c", "3c", False), ("c", "1a", "3a", True), ("d", "2a", "3a", True)]
    contrasts = [Contrast(name, "mine", (plus,), (minus,), tasks=(COPY,), alone=alone)
                 for name, plus, minus, alone in named]
    rows = compare(runs_of(copy_grid({"1b": 0.5, "1a": 0.5})), contrasts).set_index("id")
    for raw in ("p", "p_tost"):
        assert rows.loc[["a", "b"], f"{raw}_holm"].tolist() == holm(rows.loc[["a", "b"], raw]).tolist()
        assert rows.loc[["c", "d"], f"{raw}_holm"].tolist() == rows.loc[["c", "d"], raw].tolist()
        assert (rows[f"{raw}_holm"] > rows[raw]).sum() == 1, rows[["p", "p_holm", "p_tost", "p_tost_holm"]]    # of a, b


def test_a_slope_rests_on_the_lengths_that_all_its_seeds_have():
    """One seed has a third length, which the slope cannot use; it is no more than one of two lengths."""
    gone = "model == '1b' and (length == 1000 or length == 500 and seed != 2024)"
    one = compared(copy_grid(per_doubling=9.0).query(f"not ({gone})")).loc["slope-1b"]
    assert (one["lengths"], one["blocks"], one["verdict"]) == ((100, 200), 6, "provisional: higher")
    assert "2 lengths, a slope needs 3" in one["caveats"]
