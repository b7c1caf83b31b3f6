"""Tests, intervals and corrections of the claims: exact resampling nulls here, every distribution from scipy.

Symbols: d (n,) contrast values, one a block; y (r, k) benefits of r replicates at k lengths; x (k,) log2 of the
lengths. `permutation_test`, `ttest_1samp`, `linregress`, `binomtest` of scipy and `multipletests` of statsmodels are
the definitions that the tests hold these functions against. Sums over all patterns are built by doubling: it is fast.
"""

import functools
import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special
from scipy.stats import binom, binomtest

Floats = NDArray[np.float64]
MAX_PATTERNS = 1 << 20
"""Largest null that is enumerated; above it `MONTE_CARLO` patterns are drawn."""
MONTE_CARLO = 99_999
ROUNDING = 1e-10
"""Sums that differ by less than this share of the largest possible one are ties."""
ALPHA = 0.05
MOST_BLOCKS = 10_000
POWER = 0.8
PUBLISHED_PATIENCE, PUBLISHED_EPOCHS = 20, 100
"""The published rule by which training stopped, for what a score selected on its own items reports."""
CERTAIN = 10.0
QUANTILES = (np.arange(500) + 0.5) / 500


@dataclass(frozen=True)
class Interval:
    """A two-sided confidence interval."""

    low: float
    high: float

    def less(self, value: float) -> "Interval":
        """The interval of the difference from a known value."""
        return Interval(self.low - value, self.high - value)


def sign_flip_p(d: ArrayLike, seed: int = 0) -> float:
    """Two-sided p of a zero mean if every sign pattern of d is equally likely; all 2^n patterns up to 2^20.

    Above that, p = (b + 1) / (m + 1) of m patterns drawn from a generator with this seed. No values: 1.
    """
    values = np.asarray(d, dtype=np.float64)
    scale = float(np.abs(values).sum())
    if not len(values) or scale == 0:
        return 1.0
    limit = abs(float(values.sum())) - ROUNDING * scale
    if 2 ** len(values) > MAX_PATTERNS:
        signs = np.random.default_rng(seed).choice(np.array([-1.0, 1.0]), (MONTE_CARLO, len(values)))
        return float((np.sum(np.abs(signs @ values) >= limit) + 1) / (MONTE_CARLO + 1))
    sums = values[:1]      # the first sign fixed: a pattern and its opposite give the same absolute sum
    for value in values[1:]:
        sums = np.concatenate([sums + value, sums - value])
    return float(np.mean(np.abs(sums) >= limit))


def smallest_sign_flip_p(n: int) -> float:
    """Smallest two-sided p that n blocks can give: 2 / 2^n."""
    return min(1.0, 2.0 ** (1 - n))


def blocks_needed(family_size: int, alpha: float = ALPHA) -> int:
    """Blocks from which one member alone can be supported in a family: 2 / 2^n <= alpha / size."""
    return math.ceil(1 + math.log2(family_size / alpha) - 1e-12)


def slope(y: Floats, x: Floats) -> float:
    """Least-squares slope of each replicate (row of y) on x, averaged over the replicates."""
    centred = x - x.mean()
    return float((y @ centred).mean() / (centred @ centred))


def slope_p(y: ArrayLike, x: ArrayLike, seed: int = 0) -> float:
    """Two-sided p of a zero mean slope if the lengths inside each replicate are exchangeable; all (k!)^r orders.

    The two-sided p is twice the smaller tail, at most 1; above 2^20 orders they are drawn as in `sign_flip_p`.
    """
    values, points = np.asarray(y, dtype=np.float64), np.asarray(x, dtype=np.float64)
    if values.size == 0 or np.ptp(points) == 0:
        return 1.0
    centred = points - points.mean()
    orders = np.array(list(itertools.permutations(range(len(points)))))     # (k!, k)
    null = [(row - row.mean())[orders] @ centred for row in values]       # r arrays (k!,)
    observed = float(((values - values.mean(axis=1, keepdims=True)) @ centred).sum())
    room = ROUNDING * sum(float(np.abs(part).max()) for part in null)
    if len(orders) ** len(values) <= MAX_PATTERNS:
        sums = functools.reduce(lambda total, part: np.add.outer(total, part).ravel(), null)
        return _twice_smaller_tail(sums, observed, room, 0)
    generator = np.random.default_rng(seed)
    sums = np.sum([generator.choice(part, MONTE_CARLO) for part in null], axis=0)
    return _twice_smaller_tail(sums, observed, room, 1)


def _twice_smaller_tail(sums: Floats, observed: float, room: float, extra: int) -> float:
    """Twice the smaller tail share; `extra` counts the observed order among drawn ones."""
    above, below = np.sum(sums >= observed - room), np.sum(sums <= observed + room)
    return float(min(1.0, 2 * (min(above, below) + extra) / (len(sums) + extra)))


def smallest_slope_p(n_lengths: int, n_replicates: int) -> float:
    """Smallest two-sided p of a slope test: 2 / (k!)^r."""
    return min(1.0, 2.0 * float(math.factorial(n_lengths)) ** -n_replicates)


@dataclass(frozen=True)
class Estimate:
    """A mean or slope with its standard error and degrees of freedom, from which t gives tests and intervals."""

    value: float
    error: float
    df: float

    def interval(self, level: float) -> Interval:
        """Two-sided t interval; without an error it is as wide as the line."""
        if self.df < 1:
            return Interval(-math.inf, math.inf)
        half = float(special.stdtrit(self.df, (1 + level) / 2)) * self.error
        return Interval(self.value - half, self.value + half)

    def p(self, null: float = 0.0) -> float:
        """Two-sided p of the value `null`; a value without spread gives 0, or 1 where it equals it."""
        return min(1.0, 2 * min(self.p_below(null), self.p_above(null)))

    def p_below(self, bound: float) -> float:
        """One-sided p of the null hypothesis `value >= bound`: small when the value is clearly below it."""
        return self._tail(self.value - bound)

    def p_above(self, bound: float) -> float:
        """One-sided p of the null hypothesis `value <= bound`: small when the value is clearly above it."""
        return self._tail(bound - self.value)

    def _tail(self, distance: float) -> float:
        if self.df < 1:
            return 1.0
        if self.error == 0:
            return 0.5 if distance == 0 else float(distance > 0)
        return float(special.stdtr(self.df, distance / self.error))

    def tost(self, margin: float) -> float:
        """P of equivalence within +-margin: the larger of the two one-sided p values."""
        return max(self.p_below(margin), self.p_above(-margin))


def mean_estimate(d: ArrayLike) -> Estimate:
    """Mean of d with its standard error (ddof 1) and n - 1 degrees of freedom."""
    values = np.asarray(d, dtype=np.float64)
    if len(values) < 2:
        return Estimate(float(values.mean()) if len(values) else math.nan, math.nan, 0)
    error = 0.0 if np.ptp(values) == 0 else float(values.std(ddof=1) / math.sqrt(len(values)))
    return Estimate(float(values.mean()), error, len(values) - 1)


def slope_estimate(y: Floats, x: Floats) -> Estimate:
    """Ordinary least-squares slope of all points of y on x with r k - 2 degrees of freedom."""
    points, value = np.tile(x, len(y)), slope(y, x)
    residuals = y.ravel() - y.mean() - value * (points - x.mean())
    df = y.size - 2
    if df < 1:
        return Estimate(value, math.nan, 0)
    spread = float(((points - x.mean()) ** 2).sum())
    return Estimate(value, math.sqrt(float(residuals @ residuals) / df / spread), df)


def holm(p_values: Sequence[float], size: int) -> list[float]:
    """Holm-adjusted p values of the members at hand in a family of a fixed size; absent members enter as 1.

    Equal to statsmodels' `multipletests(method="holm")`, which collects garbage in every call (half a second here).
    """
    p = np.asarray(p_values, dtype=np.float64)
    order = np.argsort(p, kind="stable")
    adjusted = np.empty(len(p))
    adjusted[order] = np.minimum(np.maximum.accumulate(p[order] * (size - np.arange(len(p)))), 1.0)
    return [float(value) for value in adjusted]


def proportion_interval(k: int, n: int, level: float = 0.95) -> Interval:
    """Clopper-Pearson interval of k successes in n."""
    tail = (1 - level) / 2
    low = float(special.betaincinv(k, n - k + 1, tail)) if k else 0.0
    return Interval(low, float(special.betaincinv(k + 1, n - k, 1 - tail)) if k < n else 1.0)


def chance_p(k: int, n: int, null: float = 0.5) -> float:
    """One-sided exact binomial p that k of n are no more than the proportion `null` gives."""
    return float(binomtest(k, n, null, alternative="greater").pvalue)


def chance_tost(k: int, n: int, null: float, margin: float) -> float:
    """P of a proportion within +-margin of `null`: the larger of two one-sided exact binomial p values."""
    below = binomtest(k, n, min(1.0, null + margin), alternative="less").pvalue
    above = binomtest(k, n, max(0.0, null - margin), alternative="greater").pvalue
    return float(max(below, above))


def accuracy_needed(n: int, tail: float, null: float = 0.5) -> float:
    """Smallest accuracy k / n with P(X >= k) <= tail under the null proportion."""
    return (int(binom.isf(tail, n, null)) + 1) / n      # the smallest k - 1 with P(X > k - 1) <= tail, and one


def accuracy_power(n: int, tail: float, null: float, accuracy: float) -> float:
    """Probability that n items of this true accuracy reach `accuracy_needed`."""
    return float(binom.sf(round(accuracy_needed(n, tail, null) * n) - 1, n, accuracy))


def accuracy_equivalence_power(n: int, level: float, null: float, margin: float) -> float:
    """Probability that `chance_tost` declares a model at exactly `null` equivalent to it within the margin."""
    least = round(accuracy_needed(n, level, null - margin) * n)
    most = n - round(accuracy_needed(n, level, 1 - null - margin) * n)
    return max(0.0, float(binom.cdf(most, n, null) - binom.cdf(least - 1, n, null)))


def t_power(df: float, shift: float, alpha: float = ALPHA) -> float:
    """Power of a two-sided t test where the true value lies `shift` standard errors from the null value."""
    critical = special.stdtrit(df, 1 - alpha / 2)
    if shift - critical > CERTAIN:      # where the noncentral t underflows
        return 1.0
    # P(T < -critical) as the upper tail of the mirrored distribution: scipy's lower tail is NaN far out
    return float(2 - special.nctdtr(df, shift, critical) - special.nctdtr(df, -shift, critical))


def tost_power(df: float, shift: float, level: float = ALPHA) -> float:
    """Power of `Estimate.tost` where the true value is 0 and the margin is `shift` true standard errors wide.

    The mean, over the distribution of the estimated standard error, of what a known one would give.
    """
    errors = np.sqrt(special.gammaincinv(df / 2, QUANTILES) * 2 / df)      # in units of the true one
    room = shift - float(special.stdtrit(df, 1 - level)) * errors
    return float(np.mean(np.maximum(2 * special.ndtr(room) - 1, 0)))


def mean_power(n: int, effect: float, alpha: float = ALPHA) -> float:
    """Power of the two-sided one-sample t test with n values at an effect in units of their SD."""
    return t_power(n - 1, effect * math.sqrt(n), alpha)


def smallest_where(holds: Callable[[int], bool], low: int, high: int) -> int | None:
    """The smallest integer from low to high at which a condition holds that stays true once it is; None if none.

    Steps double until it holds, for the condition may be dear to check at large numbers.
    """
    if holds(low):
        return low
    step = 1
    while low + step < high and not holds(low + step):
        low, step = low + step, 2 * step
    if low + step < high:
        high = low + step
    elif not holds(high):
        return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if holds(middle) else (middle, high)
    return high


def blocks_for_power(sd: float, margin: float, alpha: float = ALPHA) -> int | None:
    """Fewest blocks at which a difference of the size of the margin is detected with a power of .8 at alpha.

    At least the blocks that the exact test needs for alpha; None if over 10,000 are needed.
    """
    least = max(2, blocks_needed(1, alpha))
    if not sd > 0:
        return least
    return smallest_where(lambda n: mean_power(n, margin / sd, alpha) >= POWER, least, MOST_BLOCKS)


def seed_of(text: str) -> int:
    """A generator's seed that depends on a claim's id alone."""
    return int.from_bytes(text.encode("utf-8"), "little")


@dataclass(frozen=True)
class SelectionFloor:
    """What models at exact chance report when the best epoch is chosen on the reported test set.

    `reported` is the mean of the reported accuracies, `sd_of_nine` the SD of a mean of nine of them, `best_of_9` and
    `best_of_108` the expected largest of so many.
    """

    reported: float
    sd_of_nine: float
    best_of_9: float
    best_of_108: float


def selection_floor(n_items: int, correlation: float, repetitions: int, seed: int = 0) -> SelectionFloor:
    """Simulate epoch accuracies of mean .5 with this lag-one correlation, stopped by patience on their maximum.

    An accuracy is rounded to whole items, and only a strict improvement resets the patience, as in training.
    """
    generator = np.random.default_rng(seed)
    best = _best_accuracies(generator, n_items, correlation, repetitions)
    nine = best[: repetitions // 9 * 9].reshape(-1, 9)
    many = generator.choice(best, (max(1, repetitions // 9), 108))
    return SelectionFloor(float(best.mean()), float(nine.mean(axis=1).std(ddof=1)), float(nine.max(axis=1).mean()),
                          float(many.max(axis=1).mean()))


def _best_accuracies(generator: np.random.Generator, n_items: int, correlation: float, repetitions: int) -> Floats:
    state = generator.standard_normal(repetitions)
    best, since = np.full(repetitions, -np.inf), np.zeros(repetitions, dtype=int)
    for epoch in range(PUBLISHED_EPOCHS):
        if epoch:
            noise = generator.standard_normal(repetitions)
            state = correlation * state + math.sqrt(1 - correlation**2) * noise
        accuracy = np.rint((0.5 + state * 0.5 / math.sqrt(n_items)) * n_items) / n_items
        better = (accuracy > best) & (since < PUBLISHED_PATIENCE)
        best = np.where(better, accuracy, best)
        since = np.where(better, 0, since + 1 * (since < PUBLISHED_PATIENCE))
    return best


def interval_fields(name: str, interval: Interval) -> dict[str, Any]:
    """Return `low{name}` and `high{name}` for a record; an unbounded side is None."""
    sides = {f"low{name}": interval.low, f"high{name}": interval.high}
    return {key: value if math.isfinite(value) else None for key, value in sides.items()}
