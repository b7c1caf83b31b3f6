"""What each kind of claim measures: estimate, intervals and p values, before families and verdicts.

An outcome has a p for and a p against its claim. Both already include the direction: a difference of the wrong sign
has p 1 on the other side. Holm and the verdict follow in `qablate.analysis.evaluation`.
"""

import itertools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd

from qablate.analysis.claims import Claim, Claims
from qablate.analysis.contrasts import (
    Blocks,
    Evidence,
    Key,
    confounded,
    in_order,
    missing_reasons,
    pair_means,
    planned_test_items,
    replicate_means,
    slope_data,
)
from qablate.analysis.references import model_ceiling
from qablate.analysis.statistics import (
    Estimate,
    Floats,
    Interval,
    chance_p,
    chance_tost,
    holm,
    mean_estimate,
    proportion_interval,
    seed_of,
    sign_flip_p,
    slope_estimate,
    slope_p,
)
from qablate.catalog import MODELS
from qablate.study import Study

DIRECTION = {"greater": 1, "equivalent": 1, "less": -1}
COMPARE: Mapping[str, Callable[[float, float], bool]] = {
    "gt": lambda a, b: a > b, "ge": lambda a, b: a >= b, "lt": lambda a, b: a < b, "le": lambda a, b: a <= b}
UNBOUNDED = Interval(-math.inf, math.inf)
N_MARKERS = 8


@dataclass(frozen=True)
class Material:
    """Everything a verdict may rest on: the runs of one family, the study, scores of reference solvers, stated totals.

    `solvers` has `solver, task, length, seed, score`; `stated` has `quantity, system, model, task, value, unit` with
    "all" where a total goes over everything; `balance` maps a dataset's sha256 to test items and positives.
    """

    evidence: Evidence
    study: Study
    solvers: pd.DataFrame
    stated: pd.DataFrame
    balance: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    pairs: pd.DataFrame | None = None

    @property
    def claims(self) -> Claims:
        """The claims file the evidence was collected for."""
        return self.evidence.claims


@dataclass(frozen=True)
class Outcome:
    """What was measured for one claim.

    `value` is the estimate on the benefit scale (per doubling of length for slopes), `error` its standard error; `n`
    counts `units`. `supports`
    and `opposes` hold the conditions beside the p values. `direct` is the verdict of a kind without a test. `reasons`
    say why there is not enough data. `details` are rows for the table of details.
    """

    value: float = math.nan
    error: float = math.nan
    ci90: Interval = UNBOUNDED
    ci95: Interval = UNBOUNDED
    sd: float = math.nan
    n: int = 0
    units: str = "blocks"
    p: float = 1.0
    p_for: float = 1.0
    p_against: float = 1.0
    tost: float = 1.0
    supports: bool = False
    opposes: bool = False
    margin: float = math.nan
    n_planned: int = 0
    n_used: int = 0
    dropped: tuple[Any, ...] = ()
    reasons: tuple[str, ...] = ()
    filled_value: float = math.nan
    by_replicate: Estimate = Estimate(math.nan, math.nan, 0)
    replicates_agree: bool = True
    direct: str = ""
    best: str = ""
    values: Mapping[str, Any] = field(default_factory=dict)
    details: tuple[Mapping[str, Any], ...] = ()


def measure(material: Material, claim: Claim) -> Outcome:
    """Measure one claim that has no members."""
    outcome = MEASURES[claim.kind](material, claim)
    factor_reasons = confounded(material.evidence, claim, claim.attributes_to)
    return replace(outcome, reasons=tuple(in_order([*outcome.reasons, *factor_reasons])))


def directed(claim: Claim, estimate: Estimate, p: float, margin: float) -> Outcome:
    """Turn an estimate and its two-sided p into an outcome for the claim's hypothesis."""
    signed = DIRECTION[claim.hypothesis] * estimate.value
    ci95, tost = estimate.interval(0.95), estimate.tost(margin)
    apart = ci95.low > 0 or ci95.high < 0
    outcome = Outcome(estimate.value, estimate.error, estimate.interval(0.90), ci95, p=p, tost=tost, margin=margin,
                      n=int(estimate.df + 1))
    if claim.hypothesis == "equivalent":
        return replace(outcome, p_for=tost, p_against=p, supports=True, opposes=apart and abs(signed) >= margin)
    return replace(outcome, p_for=p if signed > 0 else 1.0, p_against=p if signed < 0 else 1.0,
                   supports=apart and signed >= margin, opposes=apart and signed <= -margin)


def _with_blocks(outcome: Outcome, blocks: Blocks, reasons: list[str]) -> Outcome:
    return replace(outcome, n_planned=blocks.used.size, n_used=blocks.n, dropped=blocks.dropped,
                   reasons=tuple(reasons))


def mean_difference(material: Material, claim: Claim) -> Outcome:
    """Weighted mean difference over matched blocks, or over matched pairs in the general scope."""
    evidence, margin = material.evidence, material.claims.margin(claim)
    blocks = evidence.matched(claim)
    reasons = missing_reasons(evidence, claim, blocks)
    if not blocks.n:
        return _with_blocks(Outcome(margin=margin), blocks, reasons)
    d = blocks.values(claim.weights)
    if claim.scope == "general":
        units = pair_means(blocks, claim.pairs)
        estimate = mean_estimate(units)
        outcome = directed(claim, estimate, estimate.p(), margin)
        one_sign = bool((units > 0).all() or (units < 0).all())
        outcome = replace(outcome, units="pairs", sd=_sd(units), supports=outcome.supports and one_sign,
                          opposes=outcome.opposes and one_sign)
    else:
        outcome = replace(directed(claim, mean_estimate(d), sign_flip_p(d, seed_of(claim.id)), margin), sd=_sd(d))
    filled = evidence.matched(claim, fill_failed=True)
    return _with_blocks(_sensitivity(outcome, filled, blocks, claim), blocks, reasons)


def _sd(values: Floats) -> float:
    return float(values.std(ddof=1)) if len(values) > 1 else math.nan


def _sensitivity(outcome: Outcome, filled: Blocks, blocks: Blocks, claim: Claim) -> Outcome:
    """Add the estimate with failed cells at the baseline, and the t test on means of replicates."""
    means = replicate_means(blocks, claim.weights)
    agree = bool((means > 0).all() or (means < 0).all())
    if filled.n > blocks.n:
        outcome = replace(outcome, filled_value=float(filled.values(claim.weights).mean()))
    return replace(outcome, by_replicate=mean_estimate(means), replicates_agree=agree)


def slope(material: Material, claim: Claim) -> Outcome:
    """Slope of a contrast, or of the mean of models, on log2 of the length."""
    evidence, margin = material.evidence, material.claims.margin(claim)
    blocks = evidence.matched(claim)
    reasons = missing_reasons(evidence, claim, blocks)
    data = slope_data(blocks, claim.weights)
    defaults = material.claims.defaults
    if not reasons and len(data.x) < defaults.min_lengths_slope:
        reasons = ["few_lengths"]
    if not reasons and len(data.values) < defaults.min_replicates:
        reasons = ["few_replicates"]
    if reasons or data.values.size < 3:
        return replace(_with_blocks(Outcome(margin=margin), blocks, reasons or ["few_blocks"]))
    estimate = slope_estimate(data.values, data.x)
    outcome = directed(claim, estimate, slope_p(data.values, data.x, seed_of(claim.id)), margin)
    slopes = np.array([slope_estimate(row[None], data.x).value for row in data.values])
    outcome = replace(outcome, n=data.values.size, sd=_sd(slopes), by_replicate=mean_estimate(slopes),
                      replicates_agree=bool((slopes > 0).all() or (slopes < 0).all()))
    filled = evidence.matched(claim, fill_failed=True)
    if filled.n > blocks.n:
        more = slope_data(filled, claim.weights)
        outcome = replace(outcome, filled_value=slope_estimate(more.values, more.x).value)
    return replace(_with_blocks(outcome, blocks, reasons), n_used=data.values.size)


def any_beats_all(material: Material, claim: Claim) -> Outcome:
    """Is some candidate better than every rival? For `best_arm` the candidates are each other's rivals."""
    evidence, margin = material.evidence, material.claims.margin(claim)
    blocks = evidence.matched(claim)
    reasons = missing_reasons(evidence, claim, blocks)
    outcome = _with_blocks(Outcome(margin=margin, n=blocks.n), blocks, reasons)
    if reasons:
        return outcome
    seed = seed_of(claim.id)
    worst: dict[str, tuple[float, str, float, float]] = {}
    for candidate in claim.candidates:
        worst[candidate] = _against_rivals(blocks, candidate, claim, margin, seed)
    adjusted = holm([found[2] for found in worst.values()], len(worst))
    best = min(zip(adjusted, worst, strict=True), key=lambda item: (item[0], -worst[item[1]][0]))[1]
    value, rival, p, _ = worst[best]
    weights = {best: 1.0, rival: -1.0}
    estimate = mean_estimate(blocks.values(weights))
    against = max(found[3] for found in worst.values())
    outcome = replace(outcome, value=value, error=estimate.error, ci90=estimate.interval(0.90),
                      ci95=estimate.interval(0.95), p=min(p, against), p_for=min(adjusted), p_against=against,
                      supports=True, opposes=True, sd=_sd(blocks.values(weights)), best=best,
                      values={"candidate": best, "closest_rival": rival,
                              "not_separable": ", ".join(_not_separable(blocks, claim, seed))})
    filled = evidence.matched(claim, fill_failed=True)
    return _sensitivity(outcome, filled, blocks, replace(claim, weights=weights))


def _against_rivals(blocks: Blocks, candidate: str, claim: Claim, margin: float,
                    seed: int) -> tuple[float, str, float, float]:
    """Return smallest difference to a rival and that rival, p of beating all, p of failing (Bonferroni)."""
    rivals = [rival for rival in claim.rivals if rival != candidate]
    estimates, p_values = {}, []
    for rival in rivals:
        d = blocks.values({candidate: 1.0, rival: -1.0})
        estimates[rival] = mean_estimate(d)
        large = estimates[rival].value >= margin and estimates[rival].value > 0
        p_values.append(sign_flip_p(d, seed) if large else 1.0)
    closest = min(estimates, key=lambda rival: estimates[rival].value)
    fails = min(1.0, len(rivals) * min(estimate.p_below(margin) for estimate in estimates.values()))
    return estimates[closest].value, closest, max(p_values), fails


def _not_separable(blocks: Blocks, claim: Claim, seed: int) -> list[str]:
    """Candidates and rivals that the leader of the means cannot be told from at .05 / (arms - 1)."""
    arms = list(dict.fromkeys([*claim.candidates, *claim.rivals]))
    leader = max(arms, key=lambda arm: float(blocks.benefits[arm][blocks.used].mean()))
    others = [arm for arm in arms if arm != leader]
    level = 0.05 / len(others)
    return [leader, *(arm for arm in others if sign_flip_p(blocks.values({leader: 1.0, arm: -1.0}), seed) > level)]


def chance(material: Material, claim: Claim) -> Outcome:
    """Exact binomial test of the pooled test items of one model against what a constant prediction reaches."""
    evidence, margin, arm = material.evidence, material.claims.margin(claim), claim.models[0]
    blocks = evidence.matched(claim)
    reasons = missing_reasons(evidence, claim, blocks)
    hits, items, null = _pooled_items(material, claim, arm)
    if not items:
        return _with_blocks(Outcome(margin=margin, units="test items"), blocks, reasons)
    ci95 = proportion_interval(hits, items)
    ci90 = proportion_interval(hits, items, 0.90)
    outcome = Outcome(hits / items - null, ci90=Interval(ci90.low - null, ci90.high - null),
                      ci95=Interval(ci95.low - null, ci95.high - null), n=items, units="test items",
                      p=chance_p(hits, items, null), p_for=chance_p(hits, items, null), supports=True,
                      tost=chance_tost(hits, items, null, margin), margin=margin,
                      values={"hits": hits, "items": items, "accuracy": hits / items, "null": null,
                              "low95_accuracy": ci95.low, "high95_accuracy": ci95.high})
    return _with_blocks(outcome, blocks, reasons)


def _pooled_items(material: Material, claim: Claim, arm: str) -> tuple[int, int, float]:
    """Return hits, items, and the majority share of the items.

    Where the labels of a dataset are unknown its own majority rate counts, which is never below the pooled share.
    """
    evidence = material.evidence
    hits, items, positives, known, majority = 0, 0, 0, 0, 0.0
    for _, key in evidence.planned(claim):
        seen = evidence.of(arm, key.task, key.length, key.seed)
        if not seen.usable:
            continue
        n = planned_test_items(material.study, key)
        hits, items = hits + round(seen.benefit * n), items + n
        if seen.dataset in material.balance:
            positives, known = positives + material.balance[seen.dataset][1], known + n
        else:
            majority += n * (0.5 if math.isnan(seen.majority_rate) else seen.majority_rate)
    return hits, items, (max(positives, known - positives) + majority) / items if items else 0.5


def threshold(material: Material, claim: Claim) -> Outcome:
    """Compare the mean over replicates of a raw metric with a value, for every arm and length."""
    details, wrong, unobserved = [], 0, 0
    for arm, length in itertools.product(claim.models, material.claims.tasks[claim.task].lengths):
        mean, n, planned = _length_mean(material, claim, arm, length)
        observed = n == planned
        holds = observed and COMPARE[claim.op](mean, float(claim.value))     # type: ignore[arg-type]
        wrong, unobserved = wrong + (observed and not holds), unobserved + (not observed)
        details.append({"arm": arm, "length": length, "quantity": claim.metric, "value": mean, "n": n,
                        "planned": planned, "holds": holds if observed else None})
    return _counted(details, wrong, unobserved, "length means")


def _length_mean(material: Material, claim: Claim, arm: str, length: int) -> tuple[float, int, int]:
    """Mean of the raw metric over the usable replicates (a diverged run counts as the mean predictor), n, planned."""
    evidence, metric = material.evidence, claim.metric or "test_r2"
    floor = {"test_r2": 0.0, "test_mse": 1 / 6, "test_acc": 0.5}[metric]
    seeds = evidence.seeds(claim, claim.task)
    found = [evidence.of(arm, claim.task, length, seed) for seed in seeds]
    values = [seen.raw.get(metric, floor) for seen in found if seen.usable]
    return (float(np.mean(values)) if values else math.nan), len(values), len(seeds)


def _counted(details: list[dict[str, Any]], wrong: int, unobserved: int, units: str) -> Outcome:
    """Contradicted by one wrong value, supported by all observed ones, otherwise not enough data."""
    counts = {"observed": len(details) - unobserved, "of": len(details), "unobserved": unobserved, "wrong": wrong}
    direct = "contradicted" if wrong else "not enough data" if unobserved or not details else "supported"
    return Outcome(direct=direct, units=units, n=counts["observed"], n_planned=len(details),
                   n_used=counts["observed"], values=counts, details=tuple(details),
                   reasons=("missing_arm",) if direct == "not enough data" else ())


def reference(material: Material, claim: Claim) -> Outcome:
    """Compare the score of a reference solver on each planned dataset with a value per length."""
    grid, details, wrong, unobserved = material.claims.tasks[claim.task], [], 0, 0
    scores = material.solvers[(material.solvers["solver"] == claim.solver) & (material.solvers["task"] == claim.task)]
    assert isinstance(claim.value, Mapping)
    for length in grid.lengths:
        found = scores[(scores["length"] == length) & scores["seed"].isin(grid.replicates)]["score"]
        observed = len(found) == len(grid.replicates)
        mean = float(found.mean()) if len(found) else math.nan
        holds = observed and COMPARE[claim.op](mean, claim.value[str(length)])
        wrong, unobserved = wrong + (observed and not holds), unobserved + (not observed)
        details.append({"arm": claim.solver, "length": length, "quantity": "test_acc", "value": mean,
                        "n": len(found), "planned": len(grid.replicates), "holds": holds if observed else None})
    return _counted(details, wrong, unobserved, "solver scores")


def descriptive(material: Material, claim: Claim) -> Outcome:
    """Values per arm and length, share of the chunk ceiling, and relative change from the first to the last length."""
    lengths, details = material.claims.tasks[claim.task].lengths, []
    for arm in claim.models:
        means = {length: _length_mean(material, claim, arm, length) for length in lengths}
        for length, (mean, n, planned) in means.items():
            row = {"arm": arm, "length": length, "n": n, "planned": planned}
            details.append({**row, "quantity": "r2_by_length", "value": mean})
            ceiling = model_ceiling(material.evidence.model(arm).split("-")[0], length, N_MARKERS) or 1.0
            details.append({**row, "quantity": "r2_over_chunk_ceiling", "value": mean / ceiling})
        first, last = means[lengths[0]], means[lengths[-1]]
        change = last[0] / first[0] - 1 if first[0] else math.nan
        details.append({"arm": arm, "length": lengths[-1], "quantity": "relative_change_first_to_last",
                        "value": change, "n": min(first[1], last[1]), "planned": first[2]})
    kept = tuple(row for row in details if row["quantity"] in claim.quantities)
    observed = sum(row["n"] == row["planned"] for row in kept)
    return Outcome(direct="descriptive" if observed == len(kept) else "not enough data", units="values", n=observed,
                   n_planned=len(kept), n_used=observed, details=kept,
                   reasons=() if observed == len(kept) else ("missing_arm",),
                   values={"observed": observed, "of": len(kept), "unobserved": len(kept) - observed})


def bookkeeping(material: Material, claim: Claim) -> Outcome:
    """Compare every stated total with what can be counted; one that differs contradicts the claim."""
    details, wrong, unobserved = [], 0, 0
    for row in material.stated[material.stated["quantity"].isin(claim.quantities)].to_dict("records"):
        counted = counted_total(material, row)
        holds = counted is not None and abs(counted - row["value"]) <= row["unit"] / 2 + 1e-9
        wrong, unobserved = wrong + (counted is not None and not holds), unobserved + (counted is None)
        details.append({"arm": row["model"], "quantity": f"{row['quantity']} {row['system']} {row['task']}",
                        "value": counted, "stated": row["value"], "holds": None if counted is None else holds})
    return _counted(details, wrong, unobserved, "totals")


def counted_total(material: Material, row: Mapping[str, Any]) -> float | None:
    """Count one quantity for a system, model and task ("all" for any); None where nothing was counted."""
    evidence = material.evidence
    cells = [cell for cell in material.study.cells if row["task"] in ("all", cell.task)
             and row["model"] in ("all", cell.model)]
    found = {key: seen for key, seen in evidence.observations.items() if seen.state in ("complete", "diverged")
             and row["task"] in ("all", key.task) and row["model"] in ("all", key.model)}
    if row["quantity"] == "cells_planned":
        return len(cells)
    if row["quantity"] in ("cells_complete_unique", "jobs_pending"):
        done = sum(Key(*vars(cell).values()) in found for cell in cells)
        return done if row["quantity"] == "cells_complete_unique" else len(cells) - done
    both = _on_both_systems(material, row)
    if row["quantity"] == "cells_on_both_systems":
        return len(both)
    if row["quantity"] == "cells_complete_by_system":
        own = {key for key, seen in found.items() if row["system"] in ("all", seen.system)}
        return len(own | {key for key, systems in both.items() if row["system"] in systems})
    sizes = {seen.n_trainable if row["quantity"] == "n_params_trainable" else seen.n_total for seen in found.values()}
    return next(iter(sizes)) if len(sizes) == 1 and not math.isnan(min(sizes)) else None


def _on_both_systems(material: Material, row: Mapping[str, Any]) -> dict[Key, tuple[str, str]]:
    if material.pairs is None:
        return {}
    return {Key(pair["model"], pair["task"], pair["length"], pair["seed"]): (pair["system_a"], pair["system_b"])
            for pair in material.pairs.to_dict("records")
            if row["task"] in ("all", pair["task"]) and row["model"] in ("all", pair["model"])}


def not_estimable(material: Material, claim: Claim) -> Outcome:
    """No contrast of the study's models answers it, unless the models it needs have joined the catalog."""
    absent = [name for name in claim.needs_models if name not in MODELS]
    return Outcome(direct="not enough data", reasons=("not_estimable",), values={"needs": ", ".join(absent)})


def all_of(claim: Claim, members: Mapping[str, tuple[Claim, Outcome]]) -> Outcome:
    """Every member must hold: p for is the largest p, p against the Holm-adjusted smallest."""
    outcomes = [outcome for _, outcome in members.values()]
    reasons = in_order(reason for outcome in outcomes for reason in outcome.reasons)
    p_for = max(outcome.p_for if outcome.supports and not outcome.reasons else 1.0 for outcome in outcomes)
    against = holm([outcome.p_against if outcome.opposes and not outcome.reasons else 1.0 for outcome in outcomes],
                   len(outcomes))
    return Outcome(p=min(p_for, min(against)), p_for=p_for, p_against=min(against), supports=True, opposes=True,
                   units="claims", n=len(outcomes), n_planned=len(outcomes),
                   n_used=sum(not outcome.reasons for outcome in outcomes), reasons=tuple(reasons))


def any_of(claim: Claim, members: Mapping[str, tuple[Claim, Outcome]]) -> Outcome:
    """One member must hold: p for is the Holm-adjusted smallest p."""
    outcomes = {key: outcome for key, (_, outcome) in members.items()}
    adjusted = holm([outcome.p_for if outcome.supports and not outcome.reasons else 1.0
                     for outcome in outcomes.values()], len(outcomes))
    best = min(zip(adjusted, outcomes, strict=True))[1]
    reasons = in_order(reason for outcome in outcomes.values() for reason in outcome.reasons)
    return Outcome(outcomes[best].value, p=min(adjusted), p_for=min(adjusted), supports=True, best=best,
                   margin=outcomes[best].margin, units="claims", n=len(outcomes), n_planned=len(outcomes),
                   n_used=sum(not outcome.reasons for outcome in outcomes.values()), reasons=tuple(reasons))


MEASURES: Mapping[str, Callable[[Material, Claim], Outcome]] = {
    "mean_difference": mean_difference, "slope": slope, "any_beats_all": any_beats_all, "best_arm": any_beats_all,
    "chance": chance, "threshold": threshold, "reference": reference, "descriptive": descriptive,
    "bookkeeping": bookkeeping, "not_estimable": not_estimable,
}
