"""Blocks, tests, intervals: against scipy and statsmodels, and the properties that hold for any numbers."""

import itertools
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from grids import SEEDS, grid, row
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.weightstats import DescrStatsW

from qablate.analysis.statistics import (
    benefits,
    chance,
    contrast,
    difference,
    holm,
    rectangle,
    scale_of,
    sign_flip_p,
    slope,
    slope_p,
    smallest_p,
    weights,
)
from qablate.catalog import TASKS

VALUES = st.lists(st.floats(-1, 1).map(lambda value: round(value, 6)), min_size=2, max_size=8)
PS = st.lists(st.floats(0, 1), min_size=1, max_size=13)


def blocks(values, lengths=(100, 200, 500, 1000), seeds=SEEDS) -> pd.Series:
    index = pd.MultiIndex.from_product([lengths, seeds], names=["length", "seed"])
    return pd.Series(np.asarray(values, dtype=float), index=index)


@settings(max_examples=25)
@given(VALUES)
def test_sign_flips_are_those_of_scipy(values):
    d = np.array(values)
    known = stats.permutation_test((d,), np.sum, permutation_type="samples", n_resamples=np.inf)
    everything = [abs(np.dot(signs, d)) >= abs(d.sum()) - 1e-10 * np.abs(d).sum()
                  for signs in itertools.product((1, -1), repeat=len(d))]
    assert sign_flip_p(d) == pytest.approx(np.mean(everything) if d.any() else 1.0)
    if len(set(np.abs(d))) == len(d):       # scipy doubles the smaller tail, which ties make another number
        assert sign_flip_p(d) == pytest.approx(known.pvalue, abs=1e-12)


@settings(max_examples=50)
@given(VALUES, st.floats(0.01, 1))
def test_a_difference_is_the_t_test_of_its_blocks(values, margin):
    found, d = difference(values), np.array(values)
    if np.ptp(d) < 1e-9:
        return
    interval = stats.ttest_1samp(d, 0).confidence_interval()
    assert (found.value, *found.interval()) == pytest.approx((d.mean(), interval.low, interval.high))
    assert found.tost(margin) == pytest.approx(DescrStatsW(d).ttost_mean(-margin, margin)[0], abs=1e-12)


@settings(max_examples=8)       # the library's collects garbage in every call
@given(PS)
def test_holm_is_that_of_statsmodels(p):
    assert holm(p) == pytest.approx(multipletests(p, method="holm")[1])


@given(PS, st.integers(0, 12))
def test_a_row_that_arrives_without_effect_changes_no_other(p, place):
    arrived = [*p[:place], 1.0, *p[place:]]
    waiting = [*p[:place], math.nan, *p[place:]]
    assert holm(waiting) == pytest.approx(holm(arrived))
    assert (holm(waiting) >= np.nan_to_num(waiting, nan=1.0) - 1e-12).all()


def test_a_slope_is_that_of_least_squares_with_all_orders_of_the_lengths():
    rng = np.random.default_rng(3)
    d = blocks(rng.normal(size=9), lengths=(50, 100, 200))
    x = np.repeat(np.log2([50, 100, 200]), 3)
    fit, found = stats.linregress(x, d), slope(d)
    half = stats.t.ppf(0.975, 7) * fit.stderr
    assert (found.value, *found.interval()) == pytest.approx((fit.slope, fit.slope - half, fit.slope + half))
    y, points = d.unstack("length").to_numpy(), np.log2([50, 100, 200])
    sums = [sum(np.polyfit(points, seed[list(order)], 1)[0] for seed, order in zip(y, orders, strict=True))
            for orders in itertools.product(itertools.permutations(range(3)), repeat=3)]
    seen = sum(np.polyfit(points, seed, 1)[0] for seed in y)
    tails = np.mean(np.array(sums) >= seen - 1e-9), np.mean(np.array(sums) <= seen + 1e-9)
    assert found.p == pytest.approx(min(1, 2 * min(tails)))


def test_large_nulls_are_drawn_and_near_the_exact_ones():
    rng = np.random.default_rng(5)
    d = rng.normal(0.3, 1, 24)
    assert sign_flip_p(d) == pytest.approx(stats.ttest_1samp(d, 0).pvalue, abs=0.03)
    assert sign_flip_p(d) == sign_flip_p(d.copy())
    y, x = rng.normal(size=(7, 4)), np.arange(4.0)
    assert 24**7 > 2**20
    assert slope_p(y, x) == pytest.approx(stats.linregress(np.tile(x, 7), y.ravel()).pvalue, abs=0.06)
    assert slope_p(rng.normal(size=(2, 9)), np.arange(9.0)) > 0.01        # 9! orders of a seed are never listed


@pytest.mark.parametrize("n", [1, 3, 6, 12])
def test_smallest_p_is_that_of_the_clearest_blocks(n):
    assert smallest_p("difference", n, 3) == min(1.0, 2 / 2**n) == sign_flip_p(np.arange(1.0, n + 1))
    rising = np.tile(np.arange(3.0), (3, 1))
    assert smallest_p("slope", 9, 3) == slope_p(rising, np.arange(3.0)) == pytest.approx(2 / 216)


def test_benefits_of_each_task():
    runs = pd.DataFrame([row("1b", "adding_problem", 100, 2024, 5.0), row("3b", "adding_problem", 100, 2024, 40.0),
                         row("1c", "adding_problem", 100, 2024, 0.1), row("1b", "selective_copy", 100, 2024, -0.3),
                         row("1b", "forrelation", 50, 2024, 0.51),
                         row("2a", "selective_copy", 100, 2024, 0.4, status="diverged"),
                         row("2d", "adding_problem", 100, 2024, np.nan, status="diverged"),
                         row("2e", "selective_copy", 100, 2024, 0.9, counts=False)])
    y = benefits(runs, "adding_problem").iloc[0]
    assert y.to_dict() == pytest.approx({"1b": 5.0, "3b": -math.log(1e-8), "1c": math.log(6), "2d": math.log(6)})
    assert benefits(runs, "selective_copy").iloc[0].to_dict() == {"1b": 0.0, "2a": 0.0}
    assert benefits(runs, "forrelation").iloc[0].to_dict() == {"1b": 0.51}
    assert scale_of("adding_problem").margin == math.log(1.5)


def test_of_an_error_less_is_the_benefit(monkeypatch):
    task = replace(TASKS["adding_problem"], metric="test_mae")
    monkeypatch.setattr("qablate.analysis.statistics.TASKS", {"adding_problem": task})
    scale = scale_of.__wrapped__("adding_problem")
    assert scale.benefit(pd.Series([0.1, 0.2])).tolist() == [-0.1, -0.2] and scale.baseline == -1 / 6


@settings(max_examples=20)
@given(st.sets(st.integers(0, 11)), st.sets(st.integers(0, 11)))
def test_only_blocks_that_every_model_has_enter(gone, lost):
    y = benefits(grid(np.random.default_rng(1), tasks=("selective_copy",)), "selective_copy")
    y.iloc[list(gone), y.columns.get_loc("1b")] = np.nan
    y.iloc[list(lost), y.columns.get_loc("3b")] = np.nan
    d = contrast(y, weights(["1b"], ["3b"]))
    assert len(d) == 12 - len(gone | lost) and list(d.index) == sorted(d.index)
    assert d.to_numpy() == pytest.approx((y["1b"] - y["3b"]).dropna().to_numpy())
    assert contrast(y, weights(["1b"], ["9z"])).empty


@given(st.lists(st.lists(st.booleans(), min_size=3, max_size=3), min_size=1, max_size=6))
def test_the_rectangle_is_the_best_of_all_sets_of_seeds(known):
    table = pd.DataFrame(np.where(known, 1.0, np.nan), columns=pd.Index([50, 100, 200], name="length"))
    d = table.rename_axis("seed").stack().dropna().reorder_levels(["length", "seed"])
    seeds = sorted(set(d.index.get_level_values("seed")))
    sets = [list(some) for n in range(len(seeds), 0, -1) for some in itertools.combinations(seeds, n)]
    best = max(sets, key=lambda some: table.loc[some].dropna(axis=1).size, default=[])
    found = rectangle(d) if len(d) else table.iloc[:0]
    assert list(found.index) == best and found.size == table.loc[best].dropna(axis=1).size


def test_thirty_seeds_have_a_slope():
    d = blocks(np.arange(90.0), lengths=(50, 100, 200), seeds=range(30))
    assert slope(d.iloc[:-1]).n == 87


def test_chance_counts_the_items_of_a_seed_once():
    d = blocks([0.51, 0.52, 0.53, 0.49, 0.52, 0.55], lengths=(50, 100))
    found = chance(d, 500)
    assert found.value == pytest.approx(0.02) and found.n == 3
    assert found.error == pytest.approx(math.sqrt(0.25 / 1500))
    assert chance(blocks([0.51] * 12), 500).error == found.error      # more lengths are no more items
    assert math.isnan(chance(d.iloc[:0], 500).value)


@pytest.mark.parametrize(("found", "interval"), [
    *((difference(values), (-math.inf, math.inf)) for values in ([0.3], [0.05] * 2, [0.0] * 5)),
    (difference([0.05] * 6), pytest.approx((0.05, 0.05))),
    (slope(blocks([0.5] * 12)), (0.0, 0.0)),
    (slope(blocks([0.50, 0.52, 0.54], (50, 100, 200), (2024,))), (-math.inf, math.inf)),
])
def test_few_values_without_spread_have_no_interval(found, interval):
    assert found.interval() == interval


def test_one_value_and_one_length_say_nothing():
    assert difference([0.3]).tost(1.0) == difference([0.3]).p == 1.0
    assert math.isnan(slope(blocks([1, 2, 3], lengths=(100,))).value)


def test_models_with_equal_scores_differ_by_nothing_that_rounding_leaves():
    y = pd.DataFrame({model: blocks([0.1 * (1 + n % 9) for n in range(12)]) for model in "abcdef"})
    d = contrast(y, weights("abc", "def" * 3))
    assert len(d) == 12 and not d.any() and difference(d).p == 1.0


DATA = Path(__file__).parents[1] / "data"    # estimates of the engine that this one replaced, on the same runs
GONE = [("1a", "adding_problem", 200, 2024), ("2e", "adding_problem", 100, 2024), ("3a", "forrelation", 100, 2024),
        ("3a", "selective_copy", 500, 2024)]
"""Runs of the made-up grid that `gaps` lacks."""


def golden_runs(study: str) -> pd.DataFrame:
    """Runs as `Runs.table` holds them: all 396 (`synthetic`), without four (`gaps`), or the shipped ones."""
    runs = pd.read_csv(DATA / "golden_runs.csv")
    runs = runs[runs["study"] == ("shipped" if study == "shipped" else "synthetic")].assign(counts=True)
    for task in runs["task"].unique():
        runs.loc[runs["task"] == task, scale_of(task).metric] = runs["score"]
    keys = runs[["model", "task", "length", "seed"]].apply(tuple, axis=1)
    return runs[~keys.isin(GONE)] if study == "gaps" else runs


@pytest.mark.parametrize(("study", "n"), [("synthetic", 67), ("gaps", 67), ("shipped", 19)])
def test_estimates_equal_those_of_the_former_engine(study, n):
    known = pd.read_csv(DATA / "golden_comparisons.csv").query("study == @study").fillna({"minus": ""})
    assert len(known) == n
    tables = {task: benefits(golden_runs(study), task) for task in known["task"].unique()}
    for one in known.to_dict("records"):
        d = contrast(tables[one["task"]], weights(one["plus"].split(), one["minus"].split()))
        scale = scale_of(one["task"])
        is_slope = one["kind"] == "slope"
        found = slope(d) if is_slope else difference(d)
        assert found.n == one["n"], one["claim"]
        values = [found.value, *found.interval(), found.p, found.tost(scale.margin_slope if is_slope else scale.margin)]
        assert values == pytest.approx([one[key] for key in ("estimate", "low95", "high95", "p", "p_tost")],
                                       abs=1e-7), one["claim"]
