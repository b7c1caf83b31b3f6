"""What each kind of claim measures: estimate, intervals and p values, before families and verdicts.

An outcome has a p for and a p against its claim. Both already include the direction: a difference of the wrong sign
has p 1 on the other side. Holm and the verdict follow in `qablate.analysis.evaluation`.
"""

import itertools
import math
import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd

from qablate.analysis.contrasts import (
    Blocks,
    Evidence,
    SlopeData,
    cell_of,
    confounded,
    in_order,
    missing_reasons,
    pair_means,
    planned_test_items,
    replicate_means,
    slope_data,
)
from qablate.analysis.old_claims import Claim, Claims, Weights
from qablate.analysis.old_statistics import (
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
from qablate.analysis.references import model_ceiling
from qablate.catalog import MODELS
from qablate.study import Cell, Study

DIRECTION = {"greater": 1, "equivalent": 1, "less": -1}
COMPARE: Mapping[str, Callable[[float, float], bool]] = {
    "gt": operator.gt, "ge": operator.ge, "lt": operator.lt, "le": operator.le}
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
        outcome = replace(outcome, units="pairs", sd=_sd(units), supports=outcome.supports and _one_sign(units),
                          opposes=outcome.opposes and _one_sign(units))
    else:
        outcome = replace(directed(claim, mean_estimate(d), sign_flip_p(d, seed_of(claim.id)), margin), sd=_sd(d))
    return _with_blocks(_mean_sensitivity(outcome, evidence, claim, blocks, claim.weights), blocks, reasons)


def _sd(values: Floats) -> float:
    return float(values.std(ddof=1)) if len(values) > 1 else math.nan


def _one_sign(values: Floats) -> bool:
    return bool((values > 0).all() or (values < 0).all())


def _sensitivity(outcome: Outcome, evidence: Evidence, claim: Claim, blocks: Blocks, replicates: Floats,
                 estimate: Callable[[Blocks], float]) -> Outcome:
    """Add the t test on one value a replicate, and the estimate with failed cells at the baseline if there are any."""
    filled = evidence.matched(claim, fill_failed=True)
    return replace(outcome, by_replicate=mean_estimate(replicates), replicates_agree=_one_sign(replicates),
                   filled_value=estimate(filled) if filled.n > blocks.n else math.nan)


def _mean_sensitivity(outcome: Outcome, evidence: Evidence, claim: Claim, blocks: Blocks, weights: Weights) -> Outcome:
    return _sensitivity(outcome, evidence, claim, blocks, replicate_means(blocks, weights),
                        lambda filled: float(filled.values(weights).mean()))


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
    outcome = directed(claim, _slope_over(data), slope_p(data.values, data.x, seed_of(claim.id)), margin)
    slopes = np.array([slope_estimate(row[None], data.x).value for row in data.values])
    outcome = _sensitivity(replace(outcome, n=data.values.size, sd=_sd(slopes)), evidence, claim, blocks, slopes,
                           lambda filled: _slope_over(slope_data(filled, claim.weights)).value)
    return replace(_with_blocks(outcome, blocks, reasons), n_used=data.values.size)


def _slope_over(data: SlopeData) -> Estimate:
    return slope_estimate(data.values, data.x)


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
    return _mean_sensitivity(outcome, evidence, claim, blocks, weights)


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
    ci95, p = proportion_interval(hits, items), chance_p(hits, items, null)
    outcome = Outcome(hits / items - null, ci90=proportion_interval(hits, items, 0.90).less(null), ci95=ci95.less(null),
                      n=items, units="test items", p=p, p_for=p, supports=True,
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
    means = [(arm, length, *_length_mean(material, claim, arm, length)) for arm, length in
             itertools.product(claim.models, material.claims.tasks[claim.task].lengths)]
    return _counted([_compared(claim, *mean) for mean in means], "length means")


def _compared(claim: Claim, arm: str, length: int, mean: float, n: int, planned: int) -> dict[str, Any]:
    """One row of details: a mean over replicates and whether it is on the claimed side, None unless all are there."""
    value = claim.value[str(length)] if isinstance(claim.value, Mapping) else claim.value
    return {"arm": arm, "length": length, "quantity": claim.metric or "test_acc", "value": mean, "n": n,
            "planned": planned, "holds": COMPARE[claim.op](mean, value) if n == planned else None}


def _length_mean(material: Material, claim: Claim, arm: str, length: int) -> tuple[float, int, int]:
    """Mean of the raw metric over the usable replicates (a diverged run counts as the mean predictor), n, planned."""
    evidence, metric = material.evidence, claim.metric or "test_r2"
    floor = {"test_r2": 0.0, "test_mse": 1 / 6, "test_acc": 0.5}[metric]
    seeds = evidence.seeds(claim, claim.task)
    found = [evidence.of(arm, claim.task, length, seed) for seed in seeds]
    values = [seen.raw.get(metric, floor) for seen in found if seen.usable]
    return (float(np.mean(values)) if values else math.nan), len(values), len(seeds)


def _counted(details: list[dict[str, Any]], units: str) -> Outcome:
    """Contradicted by one value that does not hold, supported by all observed ones, otherwise not enough data."""
    holds = [row["holds"] for row in details]
    wrong, unobserved = holds.count(False), holds.count(None)
    observed = len(holds) - unobserved
    direct = "contradicted" if wrong else "not enough data" if unobserved or not details else "supported"
    return Outcome(direct=direct, units=units, n=observed, n_planned=len(details), n_used=observed,
                   values={"observed": observed, "of": len(details), "unobserved": unobserved, "wrong": wrong},
                   details=tuple(details), reasons=("missing_arm",) if direct == "not enough data" else ())


def reference(material: Material, claim: Claim) -> Outcome:
    """Compare the score of a reference solver on each planned dataset with a value per length."""
    grid, details = material.claims.tasks[claim.task], []
    scores = material.solvers[(material.solvers["solver"] == claim.solver) & (material.solvers["task"] == claim.task)]
    for length in grid.lengths:
        found = scores[(scores["length"] == length) & scores["seed"].isin(grid.replicates)]["score"]
        mean = float(found.mean()) if len(found) else math.nan
        details.append(_compared(claim, claim.solver, length, mean, len(found), len(grid.replicates)))
    return _counted(details, "solver scores")


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
    details = []
    for row in material.stated[material.stated["quantity"].isin(claim.quantities)].to_dict("records"):
        counted = counted_total(material, row)
        holds = None if counted is None else _stated_rightly(counted, row)
        details.append({"arm": row["model"], "quantity": f"{row['quantity']} {row['system']} {row['task']}",
                        "value": counted, "stated": row["value"], "holds": holds})
    return _counted(details, "totals")


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
        done = sum(cell in found for cell in cells)
        return done if row["quantity"] == "cells_complete_unique" else len(cells) - done
    both = _on_both_systems(material, row)
    if row["quantity"] == "cells_on_both_systems":
        return len(both)
    if row["quantity"] == "cells_complete_by_system":
        own = {key for key, seen in found.items() if row["system"] in ("all", seen.system)}
        return len(own | {key for key, systems in both.items() if row["system"] in systems})
    key = "n_trainable" if row["quantity"] == "n_params_trainable" else "n_total"
    return _counted_parameters({cell.length: getattr(seen, key) for cell, seen in found.items()},
                               {cell.length for cell in cells}, row)


def _counted_parameters(by_length: Mapping[int, float], planned: set[int], row: Mapping[str, Any]) -> float | None:
    """The number of parameters to hold against a stated one, which does not name its length.

    It is the number nearest to it. One that differs says nothing while a length that was not run may have another: not
    before all lengths were seen, or two of them with the same number.
    """
    sizes = {size for size in by_length.values() if not math.isnan(size)}
    if not sizes:
        return None
    nearest = min(sizes, key=lambda size: abs(size - row["value"]))
    settled = set(by_length) >= planned or (len(sizes) == 1 < len(by_length))
    return nearest if settled or _stated_rightly(nearest, row) else None


def _stated_rightly(counted: float, row: Mapping[str, Any]) -> bool:
    return bool(abs(counted - row["value"]) <= row["unit"] / 2 + 1e-9)


def _on_both_systems(material: Material, row: Mapping[str, Any]) -> dict[Cell, tuple[str, str]]:
    if material.pairs is None:
        return {}
    return {cell_of(pair): (pair["system_a"], pair["system_b"]) for pair in material.pairs.to_dict("records")
            if row["task"] in ("all", pair["task"]) and row["model"] in ("all", pair["model"])}


def not_estimable(material: Material, claim: Claim) -> Outcome:
    """No contrast of the study's models answers it, unless the models it needs have joined the catalog."""
    absent = [name for name in claim.needs_models if name not in MODELS]
    return Outcome(direct="not enough data", reasons=("not_estimable",), values={"needs": ", ".join(absent)})


def joint(claim: Claim, members: Mapping[str, Outcome]) -> Outcome:
    """What follows for a claim about others, of which all must hold, or one.

    All: p for is the largest p, p against the Holm-adjusted smallest. One: p for is the Holm-adjusted smallest p.
    """
    reasons = in_order(reason for outcome in members.values() for reason in outcome.reasons)
    outcome = Outcome(supports=True, units="claims", n=len(members), n_planned=len(members),
                      n_used=sum(not member.reasons for member in members.values()), reasons=tuple(reasons))
    p_for = [member.p_for if member.supports and not member.reasons else 1.0 for member in members.values()]
    if claim.kind == "any_of":
        adjusted = holm(p_for, len(members))
        best = min(zip(adjusted, members, strict=True))[1]
        return replace(outcome, value=members[best].value, margin=members[best].margin, p=min(adjusted),
                       p_for=min(adjusted), best=best)
    against = min(holm([member.p_against if member.opposes and not member.reasons else 1.0
                        for member in members.values()], len(members)))
    return replace(outcome, p=min(max(p_for), against), p_for=max(p_for), p_against=against, opposes=True)


MEASURES: Mapping[str, Callable[[Material, Claim], Outcome]] = {
    "mean_difference": mean_difference, "slope": slope, "any_beats_all": any_beats_all, "best_arm": any_beats_all,
    "chance": chance, "threshold": threshold, "reference": reference, "descriptive": descriptive,
    "bookkeeping": bookkeeping, "not_estimable": not_estimable,
}
