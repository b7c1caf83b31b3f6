"""What the runs say about an arm in a block: benefits, states, and which blocks several arms can be compared on.

A block is one (length, replicate) of one task; an arm is a model with its tags as the claims write it (`1b+tanh`).
Arrays over blocks are (k, r): k lengths, r replicates. Only blocks that every arm has enter a comparison.
"""

import itertools
import math
from collections.abc import Collection as Some
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from qablate.analysis.old_claims import Claim, Claims, Pair, Scale, Weights
from qablate.analysis.old_statistics import Floats, mean_estimate
from qablate.catalog import model_info
from qablate.errors import QablateError
from qablate.importing.goldens import published_parameters
from qablate.study import Cell, Study

SMALLEST_MSE, LARGEST_MSE = 1e-8, 1 / 6
FAILED = ("crashed", "timed_out")
"""States that the sensitivity analysis sets to the baseline; pending cells are never filled in."""
STATES = {"failed": "crashed", "timed_out": "timed_out",
          **dict.fromkeys(("unreadable", "quarantined", "rejected", "no_score", "stale", "selected_on_test"),
                          "quarantined")}
"""States of cells without a run that counts, in words of the analysis; all others are pending."""
QUARANTINE = {"stale": "config_mismatch", "selected_on_test": "selected_on_test"}
REASONS = ("few_blocks", "few_replicates", "few_lengths", "missing_arm", "selected_on_test", "dataset_mismatch",
           "config_mismatch", "confounded_system", "confounded_params", "confounded_chunking",
           "confounded_other_factor", "not_estimable")
"""Why a claim has not enough data, in the order in which reasons are named."""
ALLOWED_TO_DIFFER: Mapping[str, frozenset[str]] = {
    "features": frozenset({"features"}), "mixing": frozenset({"mixing"}), "architecture": frozenset({"architecture"}),
    "placement": frozenset({"features", "mixing"}), "circuit": frozenset(), "entanglement": frozenset(),
}
LARGEST_PARAMETER_RATIO = 2.0
BRIDGE_ARMS = ("1b", "3a", "3b")
BRIDGE_TASKS = ("adding_problem", "selective_copy")
METRICS = ("test_mse", "test_r2", "test_acc")


@dataclass(frozen=True)
class Observation:
    """One planned cell: its state, the reason if its score may not be used, and the score as metric and benefit."""

    state: str = "pending"
    reason: str = ""
    benefit: float = math.nan
    raw: Mapping[str, float] = field(default_factory=dict)
    system: str = ""
    dataset: str = ""
    n_trainable: float = math.nan
    n_total: float = math.nan
    chunk: float = math.nan
    majority_rate: float = math.nan

    @property
    def usable(self) -> bool:
        """Whether it enters an analysis."""
        return self.state in ("complete", "diverged") and not self.reason

    @property
    def cause(self) -> str:
        """Why it is not usable: the reason, else the state."""
        return self.reason or self.state


class Drop(NamedTuple):
    """A block that is not used: the arm at fault and its state or reason."""

    length: int
    seed: int
    arm: str
    cause: str


@dataclass(frozen=True)
class Blocks:
    """Benefits of several arms over the planned blocks; `used` (k, r) marks the matched ones."""

    lengths: tuple[int, ...]
    seeds: tuple[int, ...]
    benefits: Mapping[str, Floats]
    used: NDArray[np.bool_]
    dropped: tuple[Drop, ...]

    @property
    def n(self) -> int:
        """Matched blocks."""
        return int(self.used.sum())

    def contrast(self, weights: Mapping[str, float]) -> Floats:
        """Weighted sum of the arms' benefits over all planned blocks (k, r); NaN where a block is not matched."""
        total = sum(weight * self.benefits[arm] for arm, weight in weights.items())
        return np.where(self.used, total, math.nan)

    def values(self, weights: Mapping[str, float]) -> Floats:
        """`contrast` of the matched blocks (n,), by length, then replicate."""
        return self.contrast(weights)[self.used]


def benefit(scale: Scale, raw: float | None, diverged: bool = False) -> float:
    """Larger is better: -ln MSE, R2 not below 0, or accuracy; the baseline for a diverged run."""
    if diverged or raw is None or math.isnan(raw):
        return scale.baseline
    if scale.name == "neg_ln_mse":
        return -math.log(min(max(raw, SMALLEST_MSE), LARGEST_MSE))
    return max(raw, 0.0) if scale.name == "r2" else raw


class Evidence:
    """Every run of one family of models, by cell, and what is known about cells without one.

    `runs` is the frame of `qablate.analysis.runs` (optional columns: `flags`, `enters_claims`, and `excluded`, a
    reason of `REASONS`), `cells` its frame of states, `pairs` one row a cell and metric that two systems measured
    (`qablate.importing`), `plan` the cells given up and the replicates added. `family` is "published" or "controlled"
    (whose ids begin with `c-`).
    """

    def __init__(self, claims: Claims, runs: pd.DataFrame, cells: pd.DataFrame | None = None,
                 pairs: pd.DataFrame | None = None, plan: "Plan | None" = None, family: str = "published") -> None:
        self.claims = claims
        self.plan = plan or Plan()
        self.prefix = "c-" if family == "controlled" else ""
        found: dict[Cell, Observation] = {}
        for row in runs.to_dict("records"):
            if row["task"] in claims.tasks:
                cell = cell_of(row)
                if cell in found:
                    raise QablateError(f"{cell.name}: stands twice in the runs; which result of a cell counts is "
                                       "settled before claims are evaluated")
                found[cell] = observation(row, claims.tasks[row["task"]].scale)
        self.observations = {**_states(cells), **found}
        self.bridged = _bridged(claims, pairs, self.prefix)
        self._columns: dict[tuple[str, str, tuple[int, ...]], Column] = {}

    def model(self, arm: str) -> str:
        """Name of an arm in result files: `1b-tanh`, `c-1b-tanh`."""
        return self.prefix + arm.replace("+", "-")

    def of(self, arm: str, task: str, length: int, seed: int) -> Observation:
        """What is known about one cell; pending if nothing."""
        return self.observations.get(Cell(self.model(arm), task, length, seed), Observation())

    def seeds(self, claim: Claim, task: str) -> tuple[int, ...]:
        """Replicates planned for a claim: those of the task and the ones that the plan adds."""
        return (*self.claims.tasks[task].replicates, *self.plan.added.get(claim.id, ()))

    def planned(self, claim: Claim) -> list[tuple[str, Cell]]:
        """All cells that a claim waits for, with their arms."""
        return [(arm, Cell(self.model(arm), task, length, seed)) for task in claim.tasks for arm in claim.arms
                for length in self.claims.tasks[task].lengths for seed in self.seeds(claim, task)]

    def missing(self, claim: Claim) -> tuple[Cell, ...]:
        """The planned cells that are neither complete nor diverged nor given up in the plan."""
        return tuple(key for _, key in self.planned(claim)
                     if not self.observations.get(key, Observation()).usable and key not in self.plan.given_up)

    def controls(self) -> pd.DataFrame:
        """How far the controls of the claims file are: `control`, `settles`, `cells`, and `complete` ones of them."""
        return pd.DataFrame([{"control": name, "settles": control.settles, "cells": len(control.cells),
                              "complete": sum(self.of(*cell).usable for cell in control.cells)}
                             for name, control in self.claims.controls.items()])

    def runs_of(self, arm: str, task: str) -> list[Observation]:
        """All usable observations of an arm on a task."""
        column = self.column(arm, task, self.claims.tasks[task].replicates)
        return [seen for row in column.seen for seen in row if seen.usable]

    def foreseen(self, arm: str, task: str) -> list[Observation]:
        """What is known of the size and chunks of an arm before any run of it: those of a published model, no tags."""
        sizes = [n for (model, of_task, _), n in published_parameters().items()
                 if (model, of_task) == (self.model(arm), task)]
        return [Observation(n_trainable=n, n_total=n, chunk=model_info(arm).chunk) for n in sizes]

    def column(self, arm: str, task: str, seeds: tuple[int, ...]) -> "Column":
        """All planned observations of one arm on one task, collected once."""
        key = (arm, task, seeds)
        if key not in self._columns:
            seen = [[self.of(arm, task, length, seed) for seed in seeds] for length in self.claims.tasks[task].lengths]
            self._columns[key] = Column(
                seen, np.array([[one.benefit for one in row] for row in seen]),
                np.array([[one.usable for one in row] for row in seen], dtype=bool),
                np.array([[one.state in FAILED for one in row] for row in seen], dtype=bool))
        return self._columns[key]

    def matched(self, claim: Claim, fill_failed: bool = False) -> Blocks:
        """Lay the arms of a claim over its planned blocks; `fill_failed` sets failed cells to the baseline."""
        grid, seeds = self.claims.tasks[claim.task], self.seeds(claim, claim.task)
        columns = {arm: self.column(arm, claim.task, seeds) for arm in claim.arms}
        ready = {arm: column.usable | (column.failed & fill_failed) for arm, column in columns.items()}
        benefits = {arm: np.where(column.usable | ~ready[arm], column.benefits, grid.scale.baseline)
                    for arm, column in columns.items()}
        used, dropped = np.logical_and.reduce(list(ready.values())), []
        for (i, length), (j, seed) in itertools.product(enumerate(grid.lengths), enumerate(seeds)):
            found = {arm: column.seen[i][j] for arm, column in columns.items()}
            absent = next((arm for arm in found if not ready[arm][i, j]), None)
            fault = self._disagreement(found) if absent is None else (absent, found[absent].cause)
            if fault:
                used[i, j] = False
                dropped.append(Drop(length, seed, *fault))
        return Blocks(grid.lengths, seeds, benefits, used, tuple(dropped))

    def _disagreement(self, found: Mapping[str, Observation]) -> tuple[str, str] | None:
        """Return arm and cause if a whole block mixes datasets, or systems that were not bridged."""
        datasets = {seen.dataset for seen in found.values()} - {""}
        if len(datasets) > 1:
            return list(found)[-1], "dataset_mismatch"
        systems = sorted({seen.system for seen in found.values() if seen.usable})
        for pair in itertools.combinations(systems, 2):
            if frozenset(pair) not in self.bridged:
                return next(arm for arm, seen in found.items() if seen.system == pair[1]), "confounded_system"
        return None


class Column(NamedTuple):
    """Observations of one arm on one task: by length and replicate, and as arrays (k, r)."""

    seen: list[list[Observation]]
    benefits: Floats
    usable: NDArray[np.bool_]
    failed: NDArray[np.bool_]


def observation(row: Mapping[str, Any], scale: Scale) -> Observation:
    """Read one row of the runs frame."""
    raw = {name: float(row[name]) for name in METRICS if _known(row.get(name))}
    diverged = row["status"] == "diverged"
    state = "diverged" if diverged else "complete" if scale.metric in raw else "quarantined"
    return Observation(
        state, _excluded(row), benefit(scale, raw.get(scale.metric), diverged), raw,
        _text(row, "source"), _text(row, "dataset_sha256"),
        _number(row, "n_params_trainable" if _known(row.get("n_params_trainable")) else "n_params"),
        _number(row, "n_params"), _number(row, "chunk"), _number(row, "majority_rate"),
    )


def cell_of(row: Mapping[str, Any]) -> Cell:
    """The cell that a row of a frame is of."""
    return Cell(row["model"], row["task"], int(row["length"]), int(row["seed"]))


def _number(row: Mapping[str, Any], key: str) -> float:
    return float(row[key]) if _known(row.get(key)) else math.nan


def _text(row: Mapping[str, Any], key: str) -> str:
    return str(row[key]) if _known(row.get(key)) else ""


def _known(value: Any) -> bool:
    return value is not None and not pd.isna(value)


def _excluded(row: Mapping[str, Any]) -> str:
    """Why a finished run may not support a verdict, or nothing."""
    if _known(row.get("excluded")) and row["excluded"]:
        return str(row["excluded"])
    flags = _text(row, "flags")
    published_forrelation = row.get("schema_version") == 1 and row["task"] == "forrelation"
    if published_forrelation or "selected_on_test" in flags:
        return "selected_on_test"
    refused = _known(row.get("enters_claims")) and not row["enters_claims"]
    return "dataset_mismatch" if refused or "dataset_unverified" in flags else ""


def _states(cells: pd.DataFrame | None) -> dict[Cell, Observation]:
    if cells is None:
        return {}
    return {cell_of(row): Observation(STATES.get(row["state"], "pending"), QUARANTINE.get(row["state"], ""))
            for row in cells.to_dict("records")}


@dataclass(frozen=True)
class Plan:
    """What was given up or added, as the dated entries of the plan file say: cells, and seeds by claim id."""

    given_up: frozenset[Cell] = frozenset()
    added: Mapping[str, tuple[int, ...]] = field(default_factory=dict)


def _bridged(claims: Claims, pairs: pd.DataFrame | None, prefix: str) -> frozenset[frozenset[str]]:
    """Systems whose offset is equivalent to zero within one run SD on the bridge cells of both regression tasks."""
    if pairs is None or pairs.empty:
        return frozenset()
    systems = {frozenset(two) for two in zip(pairs["system_a"], pairs["system_b"], strict=True)}
    return frozenset(two for two in systems if len(two) == 2
                     and all(_offset_is_small(claims, pairs, two, task, prefix) for task in BRIDGE_TASKS))


def _offset_is_small(claims: Claims, pairs: pd.DataFrame, systems: Some[str], task: str, prefix: str) -> bool:
    grid = claims.tasks[task]
    first = min(systems)
    chosen = pairs[(pairs["task"] == task) & (pairs["metric"] == grid.scale.metric)
                   & (pairs["length"] == min(grid.lengths)) & pairs["system_a"].isin(systems)
                   & pairs["system_b"].isin(systems) & pairs["model"].isin([prefix + arm for arm in BRIDGE_ARMS])]
    rows = [(row["model"], *(benefit(grid.scale, row[key]) for key in _values_from(row, first)))
            for row in chosen.to_dict("records")]
    if len(rows) < len(BRIDGE_ARMS) * len(grid.replicates):
        return False
    table = pd.DataFrame(rows, columns=["model", "one", "two"])
    run_sd = math.sqrt(float(table.groupby("model")[["one", "two"]].var(ddof=1).to_numpy().mean()))
    return mean_estimate(table["two"] - table["one"]).tost(run_sd) <= claims.defaults.alpha


def _values_from(row: Mapping[str, Any], first: str) -> tuple[str, str]:
    return ("value_a", "value_b") if row["system_a"] == first else ("value_b", "value_a")


def missing_reasons(evidence: Evidence, claim: Claim, blocks: Blocks) -> list[str]:
    """Return why the matched blocks are too few to decide; empty if they are enough."""
    defaults = evidence.claims.defaults
    named = {(drop.arm, drop.cause) for drop in blocks.dropped if drop.cause in REASONS}
    reasons = [cause for _, cause in named] if blocks.n < defaults.min_blocks else []
    explained = {arm for arm, _ in named}
    if any(np.isnan(values).all() for arm, values in blocks.benefits.items() if arm not in explained):
        reasons.append("missing_arm")
    if not reasons and blocks.n < defaults.min_blocks:
        reasons.append("few_blocks")
    if not reasons and int(blocks.used.any(axis=0).sum()) < defaults.min_replicates:
        reasons.append("few_replicates")
    return in_order(reasons)


def in_order(reasons: Iterable[str]) -> list[str]:
    """Each reason once, in the declared order."""
    found = set(reasons)
    return [reason for reason in REASONS if reason in found]


def confounded(evidence: Evidence, claim: Claim, factor: str | None) -> list[str]:
    """Return why a contrast cannot be attributed to a factor: sizes, chunking, or a second factor that differs."""
    if factor is None:
        return []
    reasons = []
    for plus, minus in counterparts(claim):
        one, two = (evidence.runs_of(arm, claim.task) or evidence.foreseen(arm, claim.task) for arm in (plus, minus))
        if not one or not two:
            continue      # named as missing already
        sizes = [seen.n_trainable for seen in (*one, *two)]
        if not max(sizes) <= LARGEST_PARAMETER_RATIO * min(sizes):
            reasons.append("confounded_params")
        if {seen.chunk for seen in one} != {seen.chunk for seen in two} or _ordered(plus) != _ordered(minus):
            reasons.append("confounded_chunking")
        if not factors_between(plus, minus) <= ALLOWED_TO_DIFFER[factor]:
            reasons.append("confounded_other_factor")
    return in_order(reasons)


def _ordered(arm: str) -> bool:
    return "chunkpos" in arm.split("+")


def counterparts(claim: Claim) -> list[Pair]:
    """Return the plus/minus pairs of a contrast: as declared, else each plus arm with the closest minus arms."""
    if claim.pairs:
        return list(claim.pairs)
    if claim.kind == "best_arm":
        return list(itertools.combinations(claim.candidates, 2))
    plus = [arm for arm, weight in claim.weights.items() if weight > 0]
    minus = [arm for arm, weight in claim.weights.items() if weight < 0]
    return [(arm, other) for arm in plus for other in _closest(arm, minus)]


def _closest(arm: str, others: Sequence[str]) -> list[str]:
    """Arms that differ from `arm` in the fewest factors."""
    distances = [len(factors_between(arm, other)) for other in others]
    return [other for other, distance in zip(others, distances, strict=True) if distance == min(distances)]


def factors_between(one: str, two: str) -> frozenset[str]:
    """Factors in which the base models of two arms differ."""
    first, second = model_info(one.split("+")[0]), model_info(two.split("+")[0])
    differing = {"features": first.quantum_features != second.quantum_features,
                 "mixing": first.quantum_mixing != second.quantum_mixing,
                 "architecture": first.architecture != second.architecture}
    return frozenset(name for name, differs in differing.items() if differs)


def pair_means(blocks: Blocks, pairs: Sequence[Pair]) -> Floats:
    """Mean difference of each pair over the matched blocks (number of pairs,): the units of scope general."""
    return np.array([blocks.values({plus: 1.0, minus: -1.0}).mean() for plus, minus in pairs])


def replicate_means(blocks: Blocks, weights: Weights) -> Floats:
    """Mean contrast of each replicate that has a matched block."""
    contrast = blocks.contrast(weights)
    return np.array([contrast[blocks.used[:, j], j].mean() for j in np.flatnonzero(blocks.used.any(axis=0))])


@dataclass(frozen=True)
class SlopeData:
    """Contrast values (r, k) of the replicates that have every one of `x`, the log2 of the matched lengths."""

    values: Floats
    x: Floats


def slope_data(blocks: Blocks, weights: Weights) -> SlopeData:
    """Choose replicates and lengths so that most blocks remain and every replicate has every length.

    Availability alone decides; among equals more replicates, then the earlier ones.
    """
    best: tuple[int, int, tuple[int, ...]] = (0, 0, ())
    for size in range(len(blocks.seeds), 0, -1):
        for chosen in itertools.combinations(range(len(blocks.seeds)), size):
            n_lengths = int(blocks.used[:, list(chosen)].all(axis=1).sum())
            if (n_lengths * size, size) > best[:2]:
                best = (n_lengths * size, size, chosen)
    columns = list(best[2])
    rows = blocks.used[:, columns].all(axis=1) if columns else np.zeros(len(blocks.lengths), dtype=bool)
    values = blocks.contrast(weights)[rows][:, columns].T
    return SlopeData(values, np.log2(np.array(blocks.lengths, dtype=np.float64))[rows])


def planned_test_items(study: Study, key: Cell) -> int:
    """Items of the test split that an accuracy was counted on."""
    return study.dataset(key.task, key.length, key.seed).split_sizes[2]
