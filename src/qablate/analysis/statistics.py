"""How different models are and how sure that is: benefits, matched blocks, exact tests, intervals, Holm.

A block is one (length, seed) of one task; the models of a block share data and split. Tasks are never pooled.

    y = benefits(runs.table, "selective_copy")          # DataFrame, index (length, seed), one column per model
    d = contrast(y, weights(["1b"], ["3b"]))            # one value per block that every model named has
    difference(d).tost(0.05), slope(d), chance(d, 500)
"""

import functools
import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from qablate.analysis.bounds import baseline
from qablate.catalog import TASKS

Floats = NDArray[np.float64]
ALPHA = 0.05
MAX_PATTERNS, DRAWN_PATTERNS = 2**20, 99_999
"""Largest null distribution that is enumerated; of a larger one so many patterns are drawn."""
ROUNDING = 1e-10
"""Sums that differ by less than this share of the largest possible one are ties."""
SMALLEST_MSE = 1e-8
MIN_BLOCKS = 6
"""Blocks below which a difference is provisional, and equal values, as two accuracies may be, tell no error."""


@dataclass(frozen=True)
class Scale:
    """How the scores of a task are compared: the metric, its benefit (larger is better), what differences matter.

    `baseline` is the benefit of a constant prediction; `margin_slope` is per doubling of the length.
    """

    metric: str
    benefit: Callable[[pd.Series], pd.Series]
    baseline: float
    margin: float
    margin_slope: float


@functools.cache
def scale_of(task: str) -> Scale:
    """The scale of a task, by the metric of its catalog entry: -ln MSE, R2 not below 0, else the score or minus it."""
    metric, worst = TASKS[task].metric, baseline(task)
    if metric == "test_mse":
        return Scale(metric, lambda mse: -np.log(mse.clip(SMALLEST_MSE, worst)), -math.log(worst), math.log(1.5), 0.122)
    if metric == "test_r2":
        return Scale(metric, lambda r2: r2.clip(lower=0.0), 0.0, 0.05, 0.015)
    sign = 1 if TASKS[task].larger_is_better else -1    # of the MAE, say
    return Scale(metric, lambda score: sign * score, sign * worst, 0.02, 0.010)


def benefits(table: pd.DataFrame, task: str, scale: Scale | None = None) -> pd.DataFrame:
    """Benefit of every run of `Runs.table` that enters comparisons: index (length, seed), a column per model.

    A diverged run has the baseline's benefit; a missing one is never filled in.
    """
    scale = scale or scale_of(task)
    rows = table.loc[(table["task"] == task) & table["counts"], ["model", "length", "seed", "status", scale.metric]]
    benefit = scale.benefit(rows[scale.metric]).where(rows["status"] != "diverged", scale.baseline)
    return rows.assign(y=benefit).dropna(subset="y").pivot(index=["length", "seed"], columns="model", values="y")


def weights(plus: Sequence[str], minus: Sequence[str] = ()) -> dict[str, float]:
    """Weight of each model in the mean of `plus` minus the mean of `minus`; a model named twice counts twice."""
    total: dict[str, float] = {}
    for models, sign in ((plus, 1), (minus, -1)):
        for model in models:
            total[model] = total.get(model, 0.0) + sign / len(models)
    return total


def contrast(y: pd.DataFrame, weight: Mapping[str, float]) -> pd.Series:
    """Weighted sum of benefits in each block that has every model named, ordered by length, then seed.

    What is left of equal benefits by rounding is 0: the signs of such rests would be a p of their own.
    """
    if not set(weight) <= set(y.columns):
        return pd.Series(index=y.index[:0], dtype="float64")
    values, factors = y[list(weight)].to_numpy(), np.array(list(weight.values()))
    matched = ~np.isnan(values).any(axis=1)
    d, largest = values[matched] @ factors, np.abs(values[matched]) @ np.abs(factors)
    return pd.Series(np.where(np.abs(d) > ROUNDING * largest, d, 0.0), index=y.index[matched])


@dataclass(frozen=True)
class Estimate:
    """A mean or slope, its standard error and degrees of freedom, and the p of its own test against 0.

    `n` counts the blocks behind it. Without degrees of freedom there is neither an interval nor equivalence.
    """

    value: float
    error: float
    df: float
    p: float
    n: int

    def interval(self) -> tuple[float, float]:
        """Two-sided 95 % t interval."""
        if self.df < 1:
            return -math.inf, math.inf
        half = float(stats.t.ppf(0.975, self.df)) * self.error
        return self.value - half, self.value + half

    def tost(self, margin: float) -> float:
        """P of equivalence within +-margin: the larger of the two one-sided t tests."""
        if self.df < 1:
            return 1.0
        if self.error == 0:
            return float(abs(self.value) >= margin)
        above, below = (self.value + margin) / self.error, (self.value - margin) / self.error
        return float(max(stats.t.sf(above, self.df), stats.t.cdf(below, self.df)))


def difference(d: ArrayLike) -> Estimate:
    """Mean of block values with its t error and exact sign-flip p; few equal values tell no error."""
    values = np.asarray(d, dtype=np.float64)
    if len(values) < 2:
        return Estimate(float(values.mean()) if len(values) else math.nan, math.nan, 0, 1.0, len(values))
    equal = np.ptp(values) == 0
    error = 0.0 if equal else float(values.std(ddof=1)) / math.sqrt(len(values))
    df = 0 if equal and len(values) < MIN_BLOCKS else len(values) - 1
    return Estimate(float(values.mean()), error, df, sign_flip_p(values), len(values))


def slope(d: pd.Series) -> Estimate:
    """Least-squares slope of block values, index (length, seed), on log2 of the length; lengths permuted for p.

    Rests on the seeds and lengths of `rectangle`. Below three points or two lengths there is no slope.
    """
    table = rectangle(d)
    y, x = table.to_numpy(), np.log2(table.columns.to_numpy(dtype=np.float64))
    if y.size < 3 or len(x) < 2:
        return Estimate(math.nan, math.nan, 0, 1.0, y.size)
    fit = stats.linregress(np.tile(x, len(y)), y.ravel())
    error = 0.0 if np.ptp(y) == 0 else float(fit.stderr)
    on_a_line = y.size < MIN_BLOCKS and error <= ROUNDING * np.abs(y).max()    # a grid's may by chance
    return Estimate(float(fit.slope), error, 0 if on_a_line else y.size - 2, slope_p(y, x), y.size)


def rectangle(d: pd.Series) -> pd.DataFrame:
    """Seeds (rows) and lengths (columns) that keep the most blocks while every seed has every length.

    Availability alone decides; among equals more seeds, then the earlier ones.
    """
    table = d.unstack("length")
    known, lengths = table.notna().to_numpy(), range(table.shape[1])
    kept = [known[:, columns].all(axis=1).nonzero()[0].tolist()
            for size in range(len(lengths) + 1) for columns in map(list, itertools.combinations(lengths, size))]
    best = min(kept, key=lambda rows: (-len(rows) * known[rows].all(axis=0).sum(), -len(rows), rows))
    return table.iloc[best].dropna(axis=1)


def chance(d: pd.Series, n_items: int, at: float = 0.5) -> Estimate:
    """Accuracy minus chance, from accuracies with index (length, seed); `n` counts seeds.

    The test items of a seed have the same labels at every length, so the unit is the item of a seed: the mean over
    lengths, then seeds, with the binomial error of `n_items` per seed and normal quantiles.
    """
    by_seed = d.groupby("seed").mean()
    if by_seed.empty:
        return Estimate(math.nan, math.nan, 0, 1.0, 0)
    value, error = float(by_seed.mean()) - at, math.sqrt(at * (1 - at) / (n_items * len(by_seed)))
    return Estimate(value, error, math.inf, float(2 * stats.norm.sf(abs(value) / error)), len(by_seed))


def sign_flip_p(values: Floats) -> float:
    """Two-sided p of a zero mean if every pattern of signs is equally likely: all 2^n up to 2^20, else drawn."""
    scale = float(np.abs(values).sum())
    if scale == 0:
        return 1.0
    limit = abs(float(values.sum())) - ROUNDING * scale
    if 2 ** len(values) > MAX_PATTERNS:
        signs = np.random.default_rng(0).choice((-1.0, 1.0), (DRAWN_PATTERNS, len(values)))
        return float((np.sum(np.abs(signs @ values) >= limit) + 1) / (DRAWN_PATTERNS + 1))
    sums = values[:1]      # the first sign fixed: a pattern and its opposite give the same absolute sum
    for value in values[1:]:
        sums = np.concatenate([sums + value, sums - value])
    return float(np.mean(np.abs(sums) >= limit))


def slope_p(y: Floats, x: Floats) -> float:
    """Twice the smaller tail of a zero mean slope if the lengths inside each seed are exchangeable.

    `y` (seeds, lengths), `x` (lengths,). All (k!)^r orders up to 2^20, else drawn.
    """
    centred, rows = x - x.mean(), y - y.mean(axis=1, keepdims=True)
    seen, drawn = float((rows @ centred).sum()), math.factorial(len(x)) ** len(y) > MAX_PATTERNS
    if drawn:
        generator = np.random.default_rng(0)
        null = sum(generator.permuted(np.tile(row, (DRAWN_PATTERNS, 1)), axis=1) @ centred for row in rows)
    else:
        orders = np.array(list(itertools.permutations(range(len(x)))))
        null = functools.reduce(lambda sums, row: np.add.outer(sums, row[orders] @ centred).ravel(), rows, np.zeros(1))
    room = ROUNDING * float(np.abs(rows).sum() * np.abs(centred).max())
    tail = min(np.sum(null >= seen - room), np.sum(null <= seen + room)) + drawn
    return float(min(1.0, 2 * tail / (np.size(null) + drawn)))


def smallest_p(kind: str, n: int, n_seeds: int) -> float:
    """Smallest p that the exact test of n blocks can give: 2 / 2^n, of a slope 2 / (k!)^r."""
    if kind == "slope":
        return min(1.0, 2 / math.factorial(n // max(n_seeds, 1)) ** n_seeds)
    return min(1.0, 2.0 ** (1 - n))


def holm(p: ArrayLike) -> Floats:
    """Holm-adjusted p of a family; a missing one counts as 1, so that arriving cells change nobody else's.

    Equal to statsmodels' `multipletests(method="holm")`, which collects garbage in every call (0.1 to 0.2 s here).
    """
    values = np.nan_to_num(np.asarray(p, dtype=np.float64), nan=1.0)
    order, adjusted = np.argsort(values, kind="stable"), np.empty(len(values))
    adjusted[order] = np.minimum(np.maximum.accumulate(values[order] * np.arange(len(values), 0, -1)), 1.0)
    return adjusted
