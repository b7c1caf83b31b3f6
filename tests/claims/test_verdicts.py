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

from qablate.analysis.verdicts import COLUMNS, compare, leaning, verdict

COPY = "selective_copy"


def copy_grid(effects=None, **changes) -> pd.DataFrame:
    return grid(np.random.default_rng(7), effects, tasks=(COPY,), **changes)


def compared(table: pd.DataFrame, **changes) -> pd.DataFrame:
    """Rows of Selective Copy by id."""
    found = compare(runs_of(table, published_study(Path("results"), **changes)))
    return found[found["task"] == COPY].set_index("id")


def of_numbers(**changes) -> str:
    return verdict({"estimate": 0.1, "low95": 0.05, "high95": 0.15, "margin": 0.05, "blocks": 12, "kind": "difference",
                    "lengths": (100, 200, 500), "p_holm": 0.01, "p_tost_holm": 1.0, **changes})


@pytest.mark.parametrize(("changes", "expected"), [
    ({}, "higher"),
    ({"estimate": -0.1, "low95": -0.15, "high95": -0.05}, "lower"),
    ({"p_holm": 0.051}, "undecided"),
    ({"estimate": 0.049, "low95": 0.01}, "undecided"),
    ({"low95": -0.01}, "undecided"),
    ({"estimate": 0.01, "low95": 0.001, "p_tost_holm": 0.05}, "equivalent"),
    ({"blocks": 5}, "provisional: higher"),
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
def test_a_leaning_names_a_side_only_when_the_interval_is_clear_of_zero(value, half, margin):
    found = leaning(value, value - half, value + half, margin)
    assert (found in ("higher", "lower")) == (half < abs(value)) or value == 0
    mirrored = {"higher": "lower", "lower": "higher"}.get(found, found)
    assert leaning(-value, -value - half, -value + half, margin) == mirrored


@pytest.mark.parametrize("kept", [20, 60, 110])
def test_few_blocks_are_never_more_than_provisional(kept):
    table = grid(np.random.default_rng(kept), {"1b": 5.0}, tasks=(COPY,)).sample(kept, random_state=kept)
    rows = compared(table)
    few = rows[(rows["blocks"] < 6) & (rows["kind"] != "chance")]
    assert few["verdict"].map(lambda word: word == "open" or word.startswith("provisional: ")).all()
    assert ((rows["verdict"] == "open") == rows["estimate"].isna()).all()
    assert rows["blocks"].between(0, rows["planned"]).all()
    assert (rows["p_holm"].isna() | (rows["p_holm"] >= rows["p"] - 1e-12)).all()


def test_without_runs_every_row_is_open():
    table = copy_grid().iloc[:0]
    rows = compare(runs_of(table))
    assert list(rows.columns) == list(COLUMNS) and len(rows) == 108 and set(rows["verdict"]) == {"open"}
    assert set(rows["caveats"]) == {""} and rows["estimate"].isna().all() and (rows["blocks"] == 0).all()


def test_a_planted_effect_is_found_and_the_sign_follows_the_sides():
    rows = compared(copy_grid({"1b": 4.0, "3c": 4.0}))
    assert rows.loc["1b-3b", "verdict"] == "higher" and rows.loc["1c-3c", "verdict"] == "lower"
    assert rows.loc["2d-3b", "verdict"] == "equivalent"
    assert rows.loc["1b-3b", "estimate"] == pytest.approx(0.2, abs=0.03)


def test_pairs_of_a_composed_row_average_to_it():
    rows = compared(copy_grid())
    for name in ("features", "mixing", "quantum", "hydra-mamba", "group4-group1"):
        pairs = rows.loc[name, "pairs"]
        assert np.mean([one.value for _, one in pairs]) == pytest.approx(rows.loc[name, "estimate"])
    assert rows.loc["1b-3b", "pairs"] == () and rows.loc["slope-1b", "pairs"] == ()
    slopes = [one.value for _, one in rows.loc["slope-ssm-transformer", "pairs"]]
    assert np.mean(slopes) == pytest.approx(rows.loc["slope-ssm-transformer", "estimate"])


def caveats(table: pd.DataFrame, name: str) -> list[str]:
    return compared(table).loc[name, "caveats"].split("; ")


def test_caveats_are_words_of_the_runs():
    table = copy_grid()
    table.loc[table["model"] == "1b", "n_params"] = 480_000
    assert caveats(table, "1b-3b")[:2] == ["sizes differ 12x", "chunks 32 against 1"]
    assert "sizes differ up to 12x" in caveats(table, "features")
    assert "chunks differ in 5 of 6 pairs" in caveats(table, "features")
    assert "the circuits of 2d 2e 4d 4e mix inside a chunk" in caveats(table, "mixing")
    two = table.assign(system=np.where(table["model"] == "3b", "dgx", "nersc"))
    assert "systems dgx, nersc" in caveats(two, "1b-3b") and "systems dgx, nersc" not in caveats(two, "1c-3c")


def test_caveats_name_blocks_lengths_seeds_and_runs_that_diverged():
    table = copy_grid({"1b": 8.0})
    short = table[table["length"].isin([100, 200])]
    assert caveats(short, "1b-3b")[:2] == ["L = 100, 200 only", "6 blocks: no p below 0.031 possible"]
    assert caveats(short, "slope-1b")[0] == "2 lengths, a slope needs 3"
    assert caveats(table, "slope-1b")[-1] == "upper bound of 1b goes from 0.396 to 0.898"
    lost = table.assign(status=np.where((table["model"] == "1b") & (table["seed"] == 2024), "diverged", "ok"))
    assert "4 of 24 runs diverged and count as baseline" in caveats(lost, "1b-3b")
    assert "seeds disagree in sign" in caveats(lost, "1b-3b")


def test_all_models_at_chance_are_equivalent_to_it():
    rng = np.random.default_rng(2)
    found = compare(runs_of(grid(rng, tasks=("forrelation",)))).set_index("id")
    every = found.loc["chance-all"]
    assert every[["verdict", "margin", "blocks", "unit"]].tolist() == ["equivalent", 0.03, 3, "seeds"]
    better = compare(runs_of(grid(rng, {"2e": 4.0}, tasks=("forrelation",)))).set_index("id")
    assert better.loc["chance-2e", "verdict"] == "higher" and better.loc["chance-2e", "estimate"] > 0.06
    assert better.loc["chance-1b", "verdict"] not in ("higher", "lower")


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
