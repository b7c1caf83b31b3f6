"""Every statistic against a direct call of scipy or statsmodels, or a closed form."""

import itertools
import math

import numpy as np
import pytest
from scipy.stats import binomtest, linregress, norm, permutation_test, ttest_1samp
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.power import TTestPower
from statsmodels.stats.weightstats import DescrStatsW

from qablate.analysis import old_statistics as st
from qablate.analysis.contrasts import benefit
from qablate.analysis.old_statistics import selection_floor

SAMPLES = {
    "plain": [0.3, -0.1, 0.25, 0.4, -0.05, 0.2, 0.1],
    "tied": [0.1, 0.1, -0.1, 0.2, 0.2, -0.2, 0.1],
    "with_zeros": [0.0, 0.0, 0.5, -0.25, 0.25, 0.0],
    "two": [0.5, 0.4], "three": [1.0, 2.0, -0.5], "one_sign": [1.0] * 6, "opposite": [1.0, -1.0, 1.0, -1.0],
    "large": list(np.random.default_rng(1).normal(0.2, 1, 12)),
}


@pytest.mark.parametrize("name", SAMPLES)
def test_sign_flip_is_the_permutation_test(name):
    d = np.array(SAMPLES[name])
    expected = permutation_test((d,), lambda x, axis: x.mean(axis), permutation_type="samples", n_resamples=np.inf,
                                vectorized=True).pvalue
    assert st.sign_flip_p(d) == pytest.approx(expected, abs=1e-12)


def test_sign_flip_of_one_value_of_none_and_of_zeros():
    assert st.sign_flip_p([2.0]) == 1.0
    assert st.sign_flip_p([]) == 1.0
    assert st.sign_flip_p([0.0] * 9) == 1.0


@pytest.mark.parametrize(("n", "p"), [(3, 0.25), (4, 0.125), (5, 0.0625), (6, 0.03125), (7, 0.015625), (8, 0.0078125),
                                      (9, 0.00390625), (10, 0.001953125), (11, 0.0009765625), (12, 0.00048828125)])
def test_smallest_sign_flip_p(n, p):
    d = np.arange(1.0, n + 1)
    assert st.sign_flip_p(d) == p == st.smallest_sign_flip_p(n)


def test_sign_flip_beyond_enumeration_is_drawn_and_repeatable():
    d = np.random.default_rng(3).normal(0.25, 1, 24)
    drawn = st.sign_flip_p(d, seed=5)
    assert drawn == st.sign_flip_p(d, seed=5)
    assert drawn == pytest.approx(ttest_1samp(d, 0).pvalue, abs=0.02)
    assert st.sign_flip_p(np.full(21, 1.0)) == 1 / (st.MONTE_CARLO + 1)


@pytest.mark.parametrize("shape", [(3, 4), (3, 3), (2, 3), (2, 2)])
def test_slope_is_the_permutation_test(shape):
    y = np.random.default_rng(sum(shape)).normal(size=shape)
    y[0, :2] = y[0, 0]      # a tie
    x = np.log2([100.0, 200, 500, 1000])[: shape[1]]

    def mean_slope(*columns, axis):
        stacked = np.stack(columns)      # (k, ..., r)
        centred = (x - x.mean()).reshape(-1, *[1] * (stacked.ndim - 1))
        return ((stacked * centred).sum(axis=0) / (centred**2).sum()).mean(axis)

    expected = permutation_test(tuple(y.T), mean_slope, permutation_type="samples", n_resamples=np.inf,
                                vectorized=True).pvalue
    assert st.slope_p(y, x) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(("lengths", "replicates", "p"), [(4, 3, 1.4468e-4), (3, 3, 0.009259), (3, 5, 2.572e-4)])
def test_smallest_slope_p(lengths, replicates, p):
    rising = np.tile(np.arange(float(lengths)), (replicates, 1))
    assert st.smallest_slope_p(lengths, replicates) == pytest.approx(p, rel=1e-3)
    assert st.slope_p(rising, np.arange(float(lengths))) == pytest.approx(p, rel=1e-3)


def test_slope_of_one_replicate_by_counting():
    y, x = np.array([[0.2, 0.5, 0.4]]), np.arange(3.0)
    null = [st.slope(y[:, list(order)], x) for order in itertools.permutations(range(3))]
    assert st.slope_p(y, x) == pytest.approx(2 * np.mean(np.array(null) >= st.slope(y, x) - 1e-12))


def test_slope_of_equal_values_and_of_nothing():
    assert st.slope_p(np.ones((3, 4)), np.arange(4.0)) == 1.0
    assert st.slope_p(np.empty((0, 4)), np.arange(4.0)) == 1.0


def test_slope_with_many_replicates_is_drawn():
    y = np.random.default_rng(0).normal(size=(8, 4)) + 0.2 * np.arange(4)
    p = st.slope_p(y, np.arange(4.0), seed=1)
    assert p == st.slope_p(y, np.arange(4.0), seed=1)
    assert p == pytest.approx(linregress(np.tile(np.arange(4.0), 8), y.ravel()).pvalue, abs=0.05)


def test_slope_estimate_is_least_squares():
    y, x = np.random.default_rng(2).normal(size=(3, 4)), np.log2([100.0, 200, 500, 1000])
    found, expected = st.slope_estimate(y, x), linregress(np.tile(x, 3), y.ravel())
    assert (found.value, found.error, found.df) == pytest.approx((expected.slope, expected.stderr, 10))
    assert found.p() == pytest.approx(expected.pvalue)
    assert st.slope(y, x) == pytest.approx(np.mean([linregress(x, row).slope for row in y]))


@pytest.mark.parametrize("name", ["plain", "tied", "with_zeros", "two", "three", "large"])
def test_t_test_interval_and_tost(name):
    d = np.array(SAMPLES[name])
    found = st.mean_estimate(d)
    assert found.p() == pytest.approx(ttest_1samp(d, 0).pvalue)
    for level in (0.9, 0.95):
        expected = ttest_1samp(d, 0).confidence_interval(level)
        assert (found.interval(level).low, found.interval(level).high) == pytest.approx((expected.low, expected.high))
    for margin in (0.05, 0.3):
        assert found.tost(margin) == pytest.approx(DescrStatsW(d).ttost_mean(-margin, margin)[0], abs=1e-12)
        below, above = ttest_1samp(d, margin, alternative="less"), ttest_1samp(d, -margin, alternative="greater")
        assert found.tost(margin) == pytest.approx(max(below.pvalue, above.pvalue))


def test_estimates_of_one_value_none_and_equal_values():
    one, none, same = st.mean_estimate([0.3]), st.mean_estimate([]), st.mean_estimate([0.1] * 4)
    assert (one.value, one.p(), one.tost(1.0)) == (0.3, 1.0, 1.0)
    assert one.interval(0.95) == st.Interval(-math.inf, math.inf)
    assert math.isnan(none.value)
    assert (same.p(), same.tost(0.2), same.tost(0.05)) == (0.0, 0.0, 1.0)
    assert st.mean_estimate([0.0] * 4).p() == 1.0


def test_holm_is_that_of_statsmodels_with_absent_members_as_one():
    generator = np.random.default_rng(0)
    for size, present in itertools.product((1, 2, 6, 12), (0, 1, 2, 5)):
        p = [*generator.random(present) ** 3, 0.01, 0.01][: min(size, present)]
        padded = [*p, *[1.0] * (size - len(p))]
        assert st.holm(p, size) == pytest.approx(list(multipletests(padded, method="holm")[1][: len(p)]))


@pytest.mark.parametrize(("k", "n"), [(0, 10), (10, 10), (526, 1000), (263, 500), (3, 7)])
def test_proportions(k, n):
    for level in (0.9, 0.95):
        expected = binomtest(k, n).proportion_ci(level, method="exact")
        assert st.proportion_interval(k, n, level) == st.Interval(*map(pytest.approx, expected))
    assert st.chance_p(k, n, 0.51) == pytest.approx(sum(math.comb(n, i) * 0.51**i * 0.49 ** (n - i)
                                                       for i in range(k, n + 1)), rel=1e-9)
    assert st.chance_tost(k, n, 0.5, 0.02) == max(binomtest(k, n, 0.52, "less").pvalue,
                                                  binomtest(k, n, 0.48, "greater").pvalue)


def test_stated_proportion_intervals():
    for k, n, stated in ((526, 1000, (0.4945, 0.5573)), (263, 500, (0.4812, 0.5706))):
        found = st.proportion_interval(k, n)
        assert (found.low, found.high) == pytest.approx(stated, abs=1.1e-4)


@pytest.mark.parametrize(("members", "expected"), [(1, (0.538, 0.527, 0.5124, 0.5088)),
                                                   (12, (0.560, 0.543, 0.5198, 0.5140)),
                                                   (108, (0.576, 0.553, 0.5249, 0.5176))])
def test_accuracy_needed(members, expected):
    for n, accuracy in zip((500, 1000, 4500, 9000), expected, strict=True):
        found = st.accuracy_needed(n, 0.05 / members)
        assert round(found, len(str(accuracy)) - 2) == accuracy
        assert binomtest(round(found * n), n, 0.5, "greater").pvalue <= 0.05 / members
        assert binomtest(round(found * n) - 1, n, 0.5, "greater").pvalue > 0.05 / members


def test_blocks_needed_by_family_size():
    sizes = (1, 2, 5, 6, 7, 12, 13, 66)
    assert [st.blocks_needed(size) for size in sizes] == [6, 7, 8, 8, 9, 9, 10, 12]
    for size in sizes:
        assert st.smallest_sign_flip_p(st.blocks_needed(size)) <= 0.05 / size < st.smallest_sign_flip_p(
            st.blocks_needed(size) - 1)


def test_power_and_blocks_for_power():
    for n, effect in ((9, 1.0), (12, 0.4), (30, 0.5)):
        assert st.mean_power(n, effect) == pytest.approx(TTestPower().power(effect, n, 0.05))
    needed = st.blocks_for_power(0.08, 0.05)
    assert st.mean_power(needed, 0.05 / 0.08) >= 0.8 > st.mean_power(needed - 1, 0.05 / 0.08)
    assert st.blocks_for_power(0.001, 0.05) == 6
    assert st.blocks_for_power(0.0, 0.05) == 6
    assert st.blocks_for_power(1.0, 1e-4) is None
    assert st.blocks_for_power(1.0, 0.0) is None


@pytest.mark.parametrize("effect", [0.02, 0.1, 0.3, 0.63, 1.0, 3.0])
@pytest.mark.parametrize("alpha", [0.05, 0.05 / 6, 0.05 / 12])
def test_power_grows_with_blocks_and_is_always_a_number(effect, alpha):
    power = np.array([st.mean_power(n, effect, alpha) for n in (*range(6, 600), *range(600, 10_000, 101))])
    assert np.isfinite(power).all()
    assert (np.diff(power) > -1e-9).all() and power.max() <= 1 + 1e-12
    needed = st.blocks_for_power(1 / effect, 1.0, alpha)
    if needed is not None and needed > 20:      # by the normal distribution, a little fewer
        quantiles = norm.isf(alpha / 2) + norm.ppf(0.8)
        assert (quantiles / effect) ** 2 <= needed <= (quantiles / effect) ** 2 + 5


@pytest.mark.parametrize(("n", "ratio", "power", "room"),
                         [(9, 1, 0.72, 0.03), (12, 1, 0.89, 0.03), (12, 0.75, 0.57, 0.03)])
def test_power_of_equivalence(n, ratio, power, room):
    generator = np.random.default_rng(n)
    found = np.mean([st.mean_estimate(generator.normal(size=n)).tost(ratio) <= 0.05 for _ in range(2000)])
    assert found == pytest.approx(power, abs=room)


def test_size_of_equivalence_at_the_edge():
    generator = np.random.default_rng(8)
    found = np.mean([st.mean_estimate(generator.normal(1.0, 1, 12)).tost(1.0) <= 0.05 for _ in range(4000)])
    assert found == pytest.approx(0.05, abs=0.012)


FLOOR = {0: (0.5331, 0.0027, 0.546, 0.557, 0.5467), 0.5: (0.5314, 0.0030, 0.545, 0.556, 0.5444),
         0.8: (0.5271, 0.0036, 0.544, 0.556, 0.5383), 0.9: (0.5229, 0.0042, 0.542, 0.555, 0.5324),
         0.95: (0.5186, 0.0046, 0.540, 0.555, 0.5262)}


def check_floor(correlation: float, repetitions: int, room: float):
    mean, sd, nine, many, mean_500 = FLOOR[correlation]
    found = selection_floor(1000, correlation, repetitions, seed=7)
    assert found.reported == pytest.approx(mean, abs=0.0006 * room)
    assert found.sd_of_nine == pytest.approx(sd, abs=0.0003 * room)
    assert found.best_of_9 == pytest.approx(nine, abs=0.002 * room)
    assert found.best_of_108 == pytest.approx(many, abs=0.004 * room)
    assert selection_floor(500, correlation, repetitions, seed=8).reported == pytest.approx(mean_500, abs=0.0008 * room)


@pytest.mark.parametrize("correlation", FLOOR)
def test_selection_floor(correlation):
    check_floor(correlation, 2000, math.sqrt(10))


@pytest.mark.full
@pytest.mark.parametrize("correlation", FLOOR)
def test_selection_floor_at_full_numbers(correlation):
    check_floor(correlation, 20_000, 1.0)


def test_benefits(claims_file):
    adding, copy, forrelation = (claims_file.tasks[task].scale
                                 for task in ("adding_problem", "selective_copy", "forrelation"))
    assert benefit(adding, 1 / 6) == pytest.approx(math.log(6)) == pytest.approx(adding.baseline, abs=1e-5)
    assert benefit(adding, 0.9) == pytest.approx(math.log(6))
    assert benefit(adding, 0.0) == pytest.approx(-math.log(1e-8))
    assert benefit(copy, -0.3) == 0 and benefit(copy, 0.4) == 0.4
    assert benefit(forrelation, 0.47) == 0.47
    assert benefit(copy, 0.9, diverged=True) == 0 and benefit(forrelation, None) == 0.5
    for scale, doublings in ((adding, math.log2(10)), (copy, math.log2(10)), (forrelation, 2.0)):
        assert scale.margin_slope == pytest.approx(scale.margin / doublings, rel=0.01)
