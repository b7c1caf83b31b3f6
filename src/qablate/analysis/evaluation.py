"""From outcomes to verdicts: Holm inside families, the order of the verdicts, the rule for partial grids.

A verdict is `not enough data`, `supported`, `contradicted`, `equivalent` or `undecided`, evaluated in this order;
claims that only list values are `descriptive`. On a partial grid a verdict is provisional and needs p <= .001 besides.
"""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd

from qablate import __version__
from qablate.analysis.ceilings import known_datasets
from qablate.analysis.contrasts import Evidence, Plan, confounded
from qablate.analysis.old_claims import Claim, Claims, ClaimsError, Defaults
from qablate.analysis.old_statistics import blocks_for_power, blocks_needed, holm, interval_fields
from qablate.analysis.old_table import write_frame
from qablate.analysis.outcomes import DIRECTION, Material, Outcome, joint, measure
from qablate.analysis.sentences import sentence
from qablate.config import read_yaml
from qablate.files import write_atomic
from qablate.study import Cell, Study

PLAN_PATH = Path("workflow/plan.yaml")
WEAKEST_FIRST = ("not enough data", "undecided", "equivalent", "supported")
STATED_COLUMNS = ("quantity", "system", "model", "task", "value", "unit")


@dataclass(frozen=True)
class Adjusted:
    """P values after Holm: for the claim, against it, of the difference itself, of equivalence."""

    p_for: float
    p_against: float
    tost: float


@dataclass(frozen=True)
class ClaimResult:
    """One claim with what was measured and what follows.

    `flags`: `provisional`, `depends_on_failed_cells`, `detectable_below_margin`, `seed_dependent`,
    `member_unadjusted`. `blocks_for_power` is the number of blocks that would detect the margin with power .8.
    `missing` are the planned cells, of a joint claim those of its members, that have no usable result.
    """

    claim: Claim
    outcome: Outcome
    adjusted: Adjusted
    family_size: int
    verdict: str
    flags: tuple[str, ...]
    blocks_for_power: int | None
    inputs: tuple[str, ...]
    scale: str
    member_verdicts: Mapping[str, str]
    missing: tuple[Cell, ...] = ()

    @property
    def provisional(self) -> bool:
        """Whether planned cells of its arms are still missing."""
        return "provisional" in self.flags

    @property
    def reason(self) -> str:
        """Why there is not enough data, or what made a verdict undecided; the first reason that applies."""
        if self.verdict == "not enough data":
            return self.outcome.reasons[0]
        return "depends_on_failed_cells" if "depends_on_failed_cells" in self.flags else ""

    @property
    def sentence(self) -> str:
        """Verdict and numbers in words, from a template for (kind, verdict)."""
        return sentence(self)

    def row(self) -> dict[str, Any]:
        """One row of the claims table: every number that a sentence may print, unrounded."""
        claim, outcome = self.claim, self.outcome
        replicate = outcome.by_replicate
        return {
            "id": claim.id, "statement": claim.statement, "verdict": self.verdict, "reason": self.reason,
            "provisional": self.provisional, "flags": " ".join(self.flags), "task": " ".join(claim.tasks),
            "scale": self.scale, "kind": claim.kind, "hypothesis": claim.hypothesis, "scope": claim.scope,
            "attributes_to": claim.attributes_to, "family": claim.family, "family_size": self.family_size or 1,
            "estimate": _finite(outcome.value), **interval_fields("90", outcome.ci90),
            **interval_fields("95", outcome.ci95), **self._ratios(), "sd": _finite(outcome.sd),
            "margin": _finite(outcome.margin), "n": outcome.n, "units": outcome.units,
            "blocks_planned": outcome.n_planned, "blocks_used": outcome.n_used, "blocks_dropped": len(outcome.dropped),
            "dropped": "; ".join(f"L{drop.length} seed{drop.seed} {drop.arm} {drop.cause}" for drop in outcome.dropped),
            "p": outcome.p, "p_holm": min(self.adjusted.p_for, self.adjusted.p_against), "p_tost": outcome.tost,
            "p_tost_holm": self.adjusted.tost, "estimate_failed_at_baseline": _finite(outcome.filled_value),
            "replicate_estimate": _finite(replicate.value), "replicate_p": replicate.p() if replicate.df > 0 else None,
            **{f"replicate_{key}": value for key, value in interval_fields("95", replicate.interval(0.95)).items()},
            "replicates_agree": outcome.replicates_agree, "blocks_for_power": self.blocks_for_power,
            "best": outcome.best, **{key: outcome.values.get(key) for key in VALUE_COLUMNS},
            "sentence": self.sentence,
        }

    def _ratios(self) -> dict[str, float | None]:
        """Factors in MSE of an estimate in its logarithm: 1.8 is 1.8 times smaller error on the plus side."""
        sides = {"ratio": self.outcome.value, "ratio_low95": self.outcome.ci95.low,
                 "ratio_high95": self.outcome.ci95.high}
        logs = self.scale == "neg_ln_mse"
        return {key: math.exp(value) if logs and math.isfinite(value) else None for key, value in sides.items()}

    def record(self) -> dict[str, Any]:
        """The claim record as one JSON object: the row, weights, dropped blocks, details, inputs, generator version."""
        details = [{key: _finite(value) if isinstance(value, float) else value for key, value in row.items()}
                   for row in self.outcome.details]
        return {**self.row(), "weights": self.claim.weights, "pairs": self.claim.pairs, "members": self.member_verdicts,
                "reasons": self.outcome.reasons, "source": self.claim.source,
                "dropped_blocks": [drop._asdict() for drop in self.outcome.dropped], "details": details,
                "inputs": self.inputs, "generator_version": __version__}


VALUE_COLUMNS = ("candidate", "closest_rival", "not_separable", "hits", "items", "accuracy", "null",
                 "low95_accuracy", "high95_accuracy", "observed", "of", "unobserved", "wrong", "needs")


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def evaluate_claims(runs: pd.DataFrame, study: Study, claims: Claims, *,
                    cells: pd.DataFrame | None = None, pairs: pd.DataFrame | None = None, plan: Plan | None = None,
                    family: str = "published", solvers: pd.DataFrame | None = None,
                    stated: pd.DataFrame | None = None) -> list[ClaimResult]:
    """Evaluate every claim on the runs of one family; results in the order of the claims file.

    `runs` and `cells` are frames of `qablate.analysis.runs.Collection`, `pairs` the cells that two systems measured,
    `solvers` scores of reference solvers (default: those known for the published datasets), `stated` totals that
    bookkeeping claims compare with the count.
    """
    evidence = Evidence(claims, runs, cells, pairs, plan, family)
    known = known_datasets()
    material = Material(
        evidence, study, known if solvers is None else solvers,
        pd.DataFrame(columns=list(STATED_COLUMNS)) if stated is None else stated,
        {row["dataset_sha256"]: (row["n_test"], row["test_positives"]) for row in known.to_dict("records")}, pairs)
    members_first = sorted(claims.claims.values(), key=lambda claim: claim.composite)
    outcomes: dict[str, Outcome] = {}
    for claim in members_first:
        outcomes[claim.id] = _composite(material, claim, outcomes) if claim.composite else measure(material, claim)
    adjusted = _adjust(claims, outcomes)
    results: dict[str, ClaimResult] = {}
    for claim in members_first:
        results[claim.id] = _result(material, claim, outcomes[claim.id], adjusted[claim.id], results)
    return [results[key] for key in claims.claims]


def _composite(material: Material, claim: Claim, outcomes: Mapping[str, Outcome]) -> Outcome:
    outcome = joint(claim, {key: outcomes[key] for key in claim.members})
    reasons = [reason for key in claim.members
               for reason in confounded(material.evidence, material.claims.claims[key], claim.attributes_to)]
    return replace(outcome, reasons=tuple(dict.fromkeys([*outcome.reasons, *reasons])),
                   values={"confounded": bool(reasons)})


def _adjust(claims: Claims, outcomes: Mapping[str, Outcome]) -> dict[str, Adjusted]:
    """Holm over each family at its declared size; claims without a family keep their p values."""
    adjusted: dict[str, Adjusted] = {}
    for family, size in claims.families.items():
        members = [claim for claim in claims.claims.values() if claim.family == family]
        if not size:
            adjusted |= {claim.id: Adjusted(outcomes[claim.id].p_for, outcomes[claim.id].p_against,
                                            outcomes[claim.id].tost) for claim in members}
            continue
        differences = [_first_pass(claim, outcomes[claim.id]) for claim in members]
        holm_p = holm(differences, size)
        tost = holm([1.0 if outcomes[claim.id].reasons else outcomes[claim.id].tost for claim in members], size)
        for i, claim in enumerate(members):
            adjusted[claim.id] = _directed(claim, outcomes[claim.id], differences, i, holm_p[i], tost[i])
    return adjusted


def _first_pass(claim: Claim, outcome: Outcome) -> float:
    """The p value that a claim brings to the pass over differences: 1 for equivalence, 1 for one without data."""
    if claim.hypothesis == "equivalent" or (outcome.reasons and not claim.composite):
        return 1.0
    return min(outcome.p_for, outcome.p_against)


def _directed(claim: Claim, outcome: Outcome, differences: Sequence[float], i: int, p: float, tost: float) -> Adjusted:
    if claim.hypothesis == "equivalent":      # its own difference at its place; no smaller than a full pass would give
        own = [*differences[:i], outcome.p_against, *differences[i + 1:]]
        return Adjusted(tost, holm(own, len(own))[i], tost)
    for_claim = outcome.p_for <= outcome.p_against
    return Adjusted(p if for_claim else 1.0, 1.0 if for_claim else p, tost)


def decide(outcome: Outcome, adjusted: Adjusted, provisional: bool, defaults: Defaults) -> str:
    """Return the verdict of a claim without members; not enough data if the outcome has reasons."""
    if outcome.direct:
        return outcome.direct
    if outcome.reasons:
        return "not enough data"
    if outcome.supports and _passes(adjusted.p_for, outcome.p_for, provisional, defaults):
        return "supported"
    if outcome.opposes and _passes(adjusted.p_against, outcome.p_against, provisional, defaults):
        return "contradicted"
    return "equivalent" if adjusted.tost <= defaults.alpha else "undecided"


def _passes(adjusted_p: float, p: float, provisional: bool, defaults: Defaults) -> bool:
    """Whether a p value is small enough after Holm and, on a partial grid, by itself too."""
    return adjusted_p <= defaults.alpha and (not provisional or p <= defaults.interim_alpha)


def decide_composite(claim: Claim, outcome: Outcome, adjusted: Adjusted, family_size: int, verdicts: Sequence[str],
                     provisional: bool, defaults: Defaults) -> str:
    """Return the verdict of a claim about other claims, from their verdicts and, in a family, its own p values."""
    if outcome.values["confounded"]:
        return "not enough data"
    p_for_passes = _passes(adjusted.p_for, outcome.p_for, provisional, defaults)
    if claim.kind == "any_of":
        if p_for_passes:
            return "supported"
        return next((verdict for verdict in WEAKEST_FIRST[:3] if verdict in verdicts), "undecided")
    if _passes(adjusted.p_against, outcome.p_against, provisional, defaults) if family_size else (
            "contradicted" in verdicts):
        return "contradicted"
    states = [verdict if verdict in WEAKEST_FIRST else "undecided" for verdict in verdicts]
    weakest = min(states, key=WEAKEST_FIRST.index)
    return "undecided" if weakest == "supported" and family_size and not p_for_passes else weakest


def _result(material: Material, claim: Claim, outcome: Outcome, adjusted: Adjusted,
            members: Mapping[str, ClaimResult]) -> ClaimResult:
    claims, defaults = material.claims, material.claims.defaults
    size = claims.families[claim.family]
    missing = [*material.evidence.missing(claim), *(cell for key in claim.members for cell in members[key].missing)]
    provisional = bool(missing)      # claims about solvers and totals have no arms, so they wait for no cell
    verdicts = {key: members[key].verdict for key in claim.members}
    if claim.composite:
        verdict = decide_composite(claim, outcome, adjusted, size, list(verdicts.values()), provisional, defaults)
    else:
        verdict = decide(outcome, adjusted, provisional, defaults)
    flags = ["provisional"] if provisional else []
    if depends_on_failed(claim, outcome, verdict):
        verdict = "undecided"
        flags.append("depends_on_failed_cells")
    flags += _flags(claims, claim, outcome, adjusted, verdict)
    inputs = () if claim.composite else tuple(sorted(_identity(material.evidence, key) for _, key in
                                                     material.evidence.planned(claim)))
    return ClaimResult(claim, outcome, adjusted, size, verdict, tuple(flags),
                       _needed(claim, outcome, max(size, 1), defaults), tuple(filter(None, inputs)),
                       claims.tasks[claim.task].scale.name if claim.task else "", verdicts,
                       tuple(dict.fromkeys(missing)))


def depends_on_failed(claim: Claim, outcome: Outcome, verdict: str) -> bool:
    """Whether the verdict would not stand with the crashed and timed-out cells set to the baseline."""
    filled = outcome.filled_value
    if math.isnan(filled):
        return False
    if verdict == "equivalent" or (verdict == "supported" and claim.hypothesis == "equivalent"):
        return abs(filled) >= outcome.margin
    return verdict in ("supported", "contradicted") and filled * outcome.value <= 0


def _flags(claims: Claims, claim: Claim, outcome: Outcome, adjusted: Adjusted, verdict: str) -> list[str]:
    flags = []
    signed = DIRECTION[claim.hypothesis] * outcome.value
    small = abs(signed) < outcome.margin and min(adjusted.p_for, adjusted.p_against) <= claims.defaults.alpha
    if small and verdict in ("undecided", "equivalent") and claim.hypothesis != "equivalent":
        flags.append("detectable_below_margin")
    if verdict == "supported" and not outcome.replicates_agree and claim.hypothesis != "equivalent":
        flags.append("seed_dependent")
    if any(claim.id in other.members and not claims.families[claim.family] for other in claims.claims.values()):
        flags.append("member_unadjusted")
    return flags


def _needed(claim: Claim, outcome: Outcome, size: int, defaults: Defaults) -> int | None:
    """Blocks for power .8 at the margin in a family of this size; pairs and slopes have other units, so none.

    A candidate of several must pass the Holm correction among them too.
    """
    if outcome.units != "blocks" or claim.kind == "slope" or math.isnan(outcome.sd) or math.isnan(outcome.margin):
        return None
    size *= max(1, len(claim.candidates))
    needed = blocks_for_power(outcome.sd, outcome.margin, defaults.alpha / size)
    return None if needed is None else max(needed, blocks_needed(size, defaults.alpha))


def _identity(evidence: Evidence, key: Cell) -> str:
    """One input run: the cell with its dataset and system, or nothing if it has no usable result."""
    seen = evidence.observations.get(key)
    if seen is None or not seen.usable:
        return ""
    return f"{key.model}/{key.task}/L{key.length}/seed{key.seed}@{seen.system}:{seen.dataset[:12]}"


def claims_table(results: Iterable[ClaimResult]) -> pd.DataFrame:
    """One row a claim with every number that its sentence contains, unrounded."""
    return pd.DataFrame([result.row() for result in results])


def details_table(results: Iterable[ClaimResult]) -> pd.DataFrame:
    """One row a value that a claim lists or counts: length means, solver scores, totals."""
    rows = [{"id": result.claim.id, **row} for result in results for row in result.outcome.details]
    return pd.DataFrame(rows, columns=["id", "arm", "length", "quantity", "value", "stated", "n", "planned", "holds"])


def write_claims(results: Sequence[ClaimResult], folder: Path) -> list[Path]:
    """Write `claims.jsonl` (one record a claim), `claims.csv` and `claim_details.csv`; return the paths."""
    lines = "".join(json.dumps(result.record(), sort_keys=True, allow_nan=False, default=str) + "\n"
                    for result in results)
    write_atomic(folder / "claims.jsonl", lines.encode("utf-8"))
    return [folder / "claims.jsonl", write_frame(folder / "claims.csv", claims_table(results)),
            write_frame(folder / "claim_details.csv", details_table(results))]


def load_plan(path: Path = PLAN_PATH) -> Plan:
    """Read the plan file: a list `entries` of dated decisions, each giving up cells or adding replicates to claims.

    An absent file is an empty plan. `give_up` and `add_replicates` entries both need `date` and `reason`.
    """
    if not path.exists():
        return Plan()
    given_up: set[Cell] = set()
    added: dict[str, tuple[int, ...]] = {}
    for i, entry in enumerate(read_yaml(path).get("entries", [])):
        known = {"date", "reason", "give_up", "claims", "add_replicates"}
        if not isinstance(entry, Mapping) or not {"date", "reason"} <= set(entry) <= known:
            raise ClaimsError(f"{path}: entries.{i}: needs date and reason, and allows {', '.join(sorted(known))}")
        for cells in entry.get("give_up", []):
            given_up |= _given_up(cells, f"{path}: entries.{i}.give_up")
        for claim in entry.get("claims", []):
            if len(entry.get("add_replicates", [])) not in (5, 10):
                raise ClaimsError(f"{path}: entries.{i}.add_replicates: 5 or 10 seeds, fixed beforehand")
            added[claim] = tuple(entry["add_replicates"])
    return Plan(frozenset(given_up), added)


def _given_up(cells: Any, where: str) -> set[Cell]:
    try:
        return {Cell(model, cells["task"], length, seed) for model in cells["models"] for length in cells["lengths"]
                for seed in cells["seeds"]}
    except (KeyError, TypeError) as error:
        raise ClaimsError(f"{where}: needs task, models, lengths and seeds ({error})") from error
