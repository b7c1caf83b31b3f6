"""What would decide the claims that are open: planned cells without a result, further seeds, and what they cost.

A claim has enough seeds when, at the spread seen so far and at its share of alpha, the exact test can reach
significance at all, a difference of the size of the margin is detected, and no difference at all is shown to be
equivalence, the last two each with a power of .8. Powers come from the noncentral t and the binomial distribution.
Beside that number stands the one that would do if the present estimate stayed as it is, which it need not: an estimate
that made somebody look is more often too large than too small. `docs/statistics.md` has the reasons.
"""

import copy
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import pandas as pd
from scipy import special

from qablate.analysis import old_statistics as statistics
from qablate.analysis.evaluation import ClaimResult
from qablate.analysis.old_claims import Claims
from qablate.analysis.old_statistics import POWER, Estimate
from qablate.analysis.outcomes import Outcome
from qablate.catalog import MODELS
from qablate.errors import QablateError
from qablate.study import Cell

MOST_SEEDS = 500
"""Above this many seeds no number is named."""
OPEN = ("undecided", "not enough data")
NEEDS = {
    "confounded_params": "arms of like size (trainable parameters less than twofold apart)",
    "confounded_chunking": "arms of equal chunk size and order",
    "confounded_other_factor": "arms that differ in this one factor",
    "confounded_system": "both arms of a block on one system, or the bridge cells on both",
}
"""What a claim lacks that no further cell of the study's models gives, by reason."""
OTHER_KINDS = {"reference": "scores of the solver on its datasets",
               "bookkeeping": "results of the systems whose totals are stated"}
NO_PAIRS = "seeds narrow each pair's mean but add no pair"
NO_SPREAD = "the spread is not known yet"
TOO_MANY = f"more than {MOST_SEEDS} seeds"


@dataclass(frozen=True)
class MeanPrecision:
    """Of a mean over blocks or a slope: an exact test, with a t interval whose width falls with the root of the points.

    `points` are those of one seed, `lost` the degrees of freedom that the estimate takes, `smallest_p` that of
    the exact test by number of seeds, `equivalence` whether the kind of claim has that verdict.
    """

    outcome: Outcome
    points: int
    lost: int
    level: float
    smallest_p: Callable[[int], float]
    equivalence: bool = True

    def _estimate(self, seeds: int) -> Estimate:
        n = self.points * seeds
        return Estimate(self.outcome.value, self.outcome.error * math.sqrt(self.outcome.n_used / n), n - self.lost)

    def half_width(self, seeds: int) -> float:
        """Half the width of the 90% interval, which must lie inside the margins for equivalence."""
        interval = self._estimate(seeds).interval(0.90)
        return (interval.high - interval.low) / 2

    def effect_needed(self, seeds: int) -> float | None:
        """Smallest estimate that is enough for `supported`; None if none is."""
        if self.smallest_p(seeds) > self.level:
            return None
        estimate = self._estimate(seeds)
        return max(self.outcome.margin, float(special.stdtrit(estimate.df, 1 - self.level / 2)) * estimate.error)

    def powerful(self, seeds: int) -> bool:
        """Whether a difference of the margin and equality are both found with `POWER`."""
        estimate = self._estimate(seeds)
        if self.smallest_p(seeds) > self.level or estimate.df < 1:
            return False
        shift = self.outcome.margin / estimate.error if estimate.error else math.inf
        found = statistics.t_power(estimate.df, shift, self.level) >= POWER
        return found and (not self.equivalence or statistics.tost_power(estimate.df, shift, self.level) >= POWER)

    def decides_as_is(self, seeds: int) -> bool:
        """Whether the present estimate, at the precision of so many seeds, gives a verdict."""
        needed = self.effect_needed(seeds)
        equivalent = self.equivalence and self._estimate(seeds).tost(self.outcome.margin) <= self.level
        return equivalent or (needed is not None and abs(self.outcome.value) >= needed)


@dataclass(frozen=True)
class CountPrecision:
    """Of an accuracy against chance: exact binomial tests on the pooled test items, `items` of them a seed."""

    outcome: Outcome
    items: int
    level: float

    @property
    def null(self) -> float:
        """What a constant prediction reaches."""
        return float(self.outcome.values["null"])

    def smallest_p(self, seeds: int) -> float:
        """Smallest p that the exact test can give."""
        return self.null ** (self.items * seeds)

    def half_width(self, seeds: int) -> float:
        """Half the width of the 90% interval, which must lie inside the margins for equivalence."""
        n = self.items * seeds
        interval = statistics.proportion_interval(round(self.null * n), n, 0.90)
        return (interval.high - interval.low) / 2

    def effect_needed(self, seeds: int) -> float | None:
        """Smallest estimate that is enough for `supported`; None if none is."""
        return statistics.accuracy_needed(self.items * seeds, self.level, self.null) - self.null

    def powerful(self, seeds: int) -> bool:
        """Whether a difference of the margin and equality are both found with `POWER`."""
        n, margin = self.items * seeds, self.outcome.margin
        return (statistics.accuracy_power(n, self.level, self.null, self.null + margin) >= POWER
                and statistics.accuracy_equivalence_power(n, self.level, self.null, margin) >= POWER)

    def decides_as_is(self, seeds: int) -> bool:
        """Whether the present estimate, at the precision of so many seeds, gives a verdict."""
        n = self.items * seeds
        hits = round((self.null + self.outcome.value) * n)
        return (statistics.chance_p(hits, n, self.null) <= self.level
                or statistics.chance_tost(hits, n, self.null, self.outcome.margin) <= self.level)


Precision = MeanPrecision | CountPrecision


@dataclass(frozen=True)
class Settlement:
    """What would decide one open claim.

    `cells` are planned and without a usable result; `needs` names what the study's models cannot give. `seeds` is the
    number of further seeds, 0 if the planned ones are enough, None where `note` says why there is no number;
    `if_it_holds` is the number if the present estimate holds, known where no cell is missing; `per_seed` are the cells
    of one seed. `smallest_p` (after Holm, if the others of the family are larger), `half_width` of the 90% interval and
    `effect_needed` for "supported" are those of the planned seeds.
    """

    result: ClaimResult
    cells: tuple[Cell, ...]
    needs: tuple[str, ...] = ()
    seeds: int | None = None
    if_it_holds: int | None = None
    per_seed: tuple[Cell, ...] = ()
    note: str = ""
    smallest_p: float = math.nan
    half_width: float = math.nan
    effect_needed: float | None = None

    @property
    def seed_cells(self) -> list[Cell]:
        """Cells of all further seeds; their seeds are numbered from 0, for which ones they are is the plan's to say."""
        return [replace(key, seed=i) for i in range(self.seeds or 0) for key in self.per_seed]


def settlements(claims: Claims, results: Sequence[ClaimResult]) -> list[Settlement]:
    """Say for every open claim what would decide it, in the order of the claims file."""
    by_id = {result.claim.id: result for result in results}
    return [_joint(claims, result, by_id) if result.claim.composite else _single(claims, result, result.family_size)
            for result in results if result.verdict in OPEN]


def _single(claims: Claims, result: ClaimResult, size: int) -> Settlement:
    """Of a claim that rests on runs; `size` counts the members that share its alpha."""
    claim, outcome = result.claim, result.outcome
    needs = [NEEDS[reason] for reason in outcome.reasons if reason in NEEDS]
    if result.verdict == "not enough data" and claim.kind in OTHER_KINDS:
        needs.append(OTHER_KINDS[claim.kind])
    if claim.needs_models:
        needs.append(f"the models {', '.join(claim.needs_models)}")
    controls = sorted({key.model for key in result.missing} - set(MODELS))
    if controls:
        needs.append(f"the control models {', '.join(controls)}")
    found = Settlement(result, result.missing, tuple(needs))
    members = max(size, 1) * max(1, len(claim.candidates))
    precision = _precision(claims, result, claims.defaults.alpha / members)
    if precision is None:
        tested = claim.kind in ("mean_difference", "slope", "any_beats_all", "best_arm", "chance")
        return replace(found, note=NO_SPREAD if tested and not needs else "")
    lengths = claims.tasks[claim.task].lengths
    planned = outcome.n_planned // len(lengths)
    exact = claim.kind != "chance" and claim.scope != "general"
    found = replace(found, half_width=precision.half_width(planned), effect_needed=precision.effect_needed(planned),
                    smallest_p=min(1.0, members * precision.smallest_p(planned)) if exact else math.nan)
    if needs or claim.scope == "general":
        return replace(found, note="" if needs else NO_PAIRS)
    enough = statistics.smallest_where(precision.powerful, planned, MOST_SEEDS)
    as_is = None if result.missing else statistics.smallest_where(precision.decides_as_is, planned, MOST_SEEDS)
    return replace(found, seeds=None if enough is None else enough - planned,
                   if_it_holds=None if as_is is None else as_is - planned, note="" if enough else TOO_MANY,
                   per_seed=tuple(Cell(arm.replace("+", "-"), claim.task, length, 0) for arm in claim.arms
                                  for length in lengths))


def _precision(claims: Claims, result: ClaimResult, level: float) -> Precision | None:
    """None where nothing is known of the spread."""
    claim, outcome = result.claim, result.outcome
    if claim.kind == "chance":
        lengths = claims.tasks[claim.task].lengths
        return CountPrecision(outcome, outcome.n // outcome.n_used * len(lengths), level) if outcome.n_used else None
    if math.isnan(outcome.error) or outcome.n_used < claims.defaults.min_blocks:
        return None
    points = len(claims.tasks[claim.task].lengths)
    if claim.kind == "slope":
        return MeanPrecision(outcome, points, 2, level, lambda seeds: statistics.smallest_slope_p(points, seeds))
    if claim.scope == "general":
        pairs = len(claim.pairs)
        return MeanPrecision(replace(outcome, n_used=pairs), pairs, 1, level, lambda seeds: 0.0)
    return MeanPrecision(outcome, points, 1, level, lambda seeds: statistics.smallest_sign_flip_p(points * seeds),
                         claim.kind == "mean_difference")


def _joint(claims: Claims, result: ClaimResult, by_id: Mapping[str, ClaimResult]) -> Settlement:
    """Of a claim about others: what its open members need, or all members where its own family leaves it open."""
    members = [by_id[key] for key in result.claim.members]
    open_ones = [member for member in members if member.verdict in OPEN] or members
    among = len(members) if result.claim.kind == "any_of" else 1
    parts = [_single(claims, member, result.family_size * among or member.family_size) for member in open_ones]
    needs = [NEEDS[reason] for reason in result.outcome.reasons if reason in NEEDS]
    needs += [need for part in parts for need in part.needs]
    found = Settlement(result, result.missing, tuple(dict.fromkeys(needs)))
    if needs:
        return found
    return replace(found, seeds=_largest(part.seeds for part in parts),
                   if_it_holds=_largest(part.if_it_holds for part in parts),
                   per_seed=tuple(dict.fromkeys(key for part in parts for key in part.per_seed)),
                   note="; ".join(dict.fromkeys(part.note for part in parts if part.note)))


def _largest(numbers: Iterable[int | None]) -> int | None:
    """The largest of some numbers, unknown if one of them is."""
    known = list(numbers)
    return None if None in known else max(filter(None, known), default=0)


@dataclass(frozen=True)
class Cost:
    """Hours of some cells on one device, and how many of them are of unknown cost."""

    n: int
    hours: float
    unknown: int


class Prices:
    """Hours by device and kind of cell; `tables` maps a device to rows of `model, task, length, hours`."""

    def __init__(self, tables: Mapping[str, pd.DataFrame]) -> None:
        self.devices = list(tables)
        self._hours = {device: {(row["model"], row["task"], row["length"]): row["hours"]
                                for row in table.dropna(subset="hours").to_dict("records")}
                       for device, table in tables.items()}

    def of(self, cells: Iterable[Cell], device: str | None = None) -> Cost:
        """Sum up cells on a device, by default the first."""
        known = self._hours[device or self.devices[0]]
        keys = [(cell.model, cell.task, cell.length) for cell in cells]
        hours = [known[key] for key in keys if key in known]
        return Cost(len(keys), sum(hours), len(keys) - len(hours))

    def on(self, device: str) -> "Prices":
        """The same prices with another device first; a QablateError names those known."""
        if device not in self.devices:
            raise QablateError(f"device '{device}': no costs of it, known are {', '.join(self.devices)}")
        chosen = copy.copy(self)
        chosen.devices = [device, *(other for other in self.devices if other != device)]
        return chosen
