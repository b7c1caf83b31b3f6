"""Error rates of the whole generator on made-up grids. `make test-full`: the stated numbers, `make test`: a tenth."""

import functools
import math
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import ttest_ind
from synthetic import (
    MODELS,
    QUANTUM_FEATURES,
    TWINS,
    claims,
    give_up,
    grid,
    one_claim,
    study,
    without,
)

from qablate.analysis.evaluation import Adjusted, decide, evaluate_claims
from qablate.analysis.old_claims import Defaults
from qablate.analysis.old_statistics import mean_estimate, sign_flip_p
from qablate.analysis.outcomes import directed

SHARE = pytest.mark.parametrize("share", [0.1, pytest.param(1.0, marks=[pytest.mark.full, pytest.mark.timeout(3000)])],
                                ids=["tenth", "all"])
DECLARED = ("supported", "contradicted")
DIFFERENCES = ("mean_difference", "slope", "any_beats_all", "best_arm", "all_of", "any_of", "chance")
SDS = dict(zip(MODELS + TWINS, np.resize(np.linspace(0.014, 0.124, 12), 24).tolist(), strict=True))


def above(rate: float, n: int) -> float:
    """Largest share of n that chance gives a rate at one in two thousand."""
    return rate + 3.3 * math.sqrt(rate * (1 - rate) / n)


@functools.cache
def strict():
    """All claims with margin 0, so that every small p value shows."""
    found = claims()
    return replace(found, claims={key: replace(claim, margin=0.0) for key, claim in found.claims.items()})


def declared_families(results) -> set[str]:
    return {result.claim.family for result in results if result.claim.family != "none"
            and result.verdict in DECLARED and result.claim.kind in DIFFERENCES}


def family_shares(n: int, draw) -> dict[str, float]:
    counts: Counter[str] = Counter()
    for i in range(n):
        counts.update(declared_families(evaluate_claims(draw(np.random.default_rng(i)), study(), strict())))
    return {family: counts[family] / n for family, size in strict().families.items() if size}


@SHARE
def test_null_grids(share):
    n = round(200 * share)
    shares = family_shares(n, grid)
    assert max(shares.values()) <= above(0.05, n), shares
    assert np.mean(list(shares.values())) <= (0.05 if share == 1 else above(0.05, n * len(shares)))


@SHARE
def test_null_grids_with_unequal_spread_and_a_failing_model(share):
    n = round(200 * share)
    shares = family_shares(n, lambda rng: grid(rng, sds=SDS, bimodal="1a"))
    assert max(shares.values()) <= (0.12 if share == 1 else above(0.12, n)), shares


@SHARE
def test_planted_effect_is_found_and_only_there(share):
    n, verdicts = round(200 * share), Counter()
    for i in range(n):
        runs = grid(np.random.default_rng(i), {m: 0.1 for m in QUANTUM_FEATURES}, tasks=("selective_copy",))
        verdicts += Counter(result.claim.id for result in evaluate_claims(runs, study(), claims())
                            if result.verdict == "supported")
    assert verdicts["P1-copy"] >= 0.95 * n
    assert verdicts["P2-copy"] <= above(0.05, n) * n


@SHARE
def test_offsets_of_models_are_no_effect_of_the_factor(share):
    n, counts = round(200 * share), Counter()
    for i in range(n):
        rng = np.random.default_rng(i)
        offsets = {model: rng.normal(0, 0.05) for model in MODELS}
        runs = grid(rng, offsets, models=MODELS, tasks=("selective_copy",))
        found = {r.claim.id: r.verdict in DECLARED for r in evaluate_claims(runs, study(), strict())}
        counts += Counter({key: int(found[key]) for key in ("G1-copy", "G2-copy", "P1-copy", "P2-copy")})
    assert max(counts["G1-copy"], counts["G2-copy"]) <= above(0.05, n) * n
    assert counts["P1-copy"] > 0.25 * n      # the block test answers another question: do these models differ


@SHARE
@pytest.mark.parametrize("n_missing", [3, 6])
def test_deleted_blocks_of_one_arm_make_no_difference(share, n_missing):
    n, matched, available = round(2000 * share), 0, 0
    contest = one_claim(margin=0.0)
    gone = [(1000, 2024), (1000, 2025), (1000, 2026), (500, 2024), (500, 2025), (500, 2026)][:n_missing]
    for i in range(n):
        runs = grid(np.random.default_rng(i), models=("1b", "3b"), tasks=("selective_copy",), per_length=0.1)
        deleted = [(r["length"], r["seed"]) in gone and r["model"] == "3b" for r in runs.to_dict("records")]
        runs = runs[~np.array(deleted)]
        result = evaluate_claims(runs, study(), contest, plan=give_up(runs))[0]
        matched += result.verdict in DECLARED
        arms = [runs[runs["model"] == arm]["test_r2"] for arm in ("1b", "3b")]
        available += ttest_ind(*arms).pvalue < 0.05
        assert result.outcome.n_used == 12 - n_missing
        assert {(drop.length, drop.seed) for drop in result.outcome.dropped} == set(gone)
        assert all(drop.arm == "3b" and drop.cause == "pending" for drop in result.outcome.dropped)
    assert matched <= above(0.05, n) * n
    if n_missing == 6:
        assert available > 0.2 * n


def shuffled_inside_blocks(rng, runs):
    """Labels permuted independently inside every block; the runs are in the order of blocks."""
    labels = runs["model"].to_numpy().reshape(-1, len(MODELS + TWINS)).copy()
    return runs.assign(model=np.concatenate([rng.permutation(block) for block in labels]))


def compares_models(claim) -> bool:
    if claim.kind == "slope":
        return min(claim.weights.values()) < 0
    return claim.kind in ("mean_difference", "any_beats_all", "best_arm")


@SHARE
def test_shuffled_labels_support_nothing(share):
    n, counts = round(200 * share), Counter()
    effects = {model: 0.02 * i for i, model in enumerate(MODELS + TWINS)}
    for i in range(n):
        rng = np.random.default_rng(i)
        runs = shuffled_inside_blocks(rng, grid(rng, effects, per_length=0.05, level=0.2))
        counts.update(r.claim.id for r in evaluate_claims(runs, study(), strict())
                      if r.verdict in DECLARED and compares_models(r.claim))
    room = 0.05 + 4.5 * math.sqrt(0.05 * 0.95 / n)      # the largest of some sixty claims
    assert max(counts.values(), default=0) <= room * n, counts.most_common(3)


@SHARE
def test_shuffled_lengths_give_no_slope(share):
    n, declared = round(1000 * share), 0
    contest = one_claim("slope", {"models": ["1b"]}, margin=0.0)
    for i in range(n):
        rng = np.random.default_rng(i)
        runs = grid(rng, models=("1b",), tasks=("selective_copy",), per_length=0.2, sd=0.02, level=0.2)
        for seed in runs["seed"].unique():
            rows = (runs["seed"] == seed).to_numpy()
            runs.loc[rows, "test_r2"] = rng.permutation(runs.loc[rows, "test_r2"].to_numpy())
        declared += evaluate_claims(runs, study(), contest)[0].verdict in DECLARED
    assert declared <= above(0.05, n) * n


@SHARE
def test_equal_arms_are_equivalent(share):
    n, verdicts = round(1000 * share), Counter()
    contest = one_claim()
    for i in range(n):
        runs = grid(np.random.default_rng(i), sd=0.025, models=("1b", "3b"), tasks=("selective_copy",))
        verdicts[evaluate_claims(runs, study(), contest)[0].verdict] += 1
    assert verdicts["equivalent"] >= 0.95 * n
    assert verdicts["supported"] <= 0.01 * n


DEFAULTS = Defaults(0.05, 0.001, 6, 3, 3)
RATES = [  # true effect, blocks, family; supported, contradicted, equivalent, undecided
    (0.0, 12, 1, (0.01, 0.01, 0.41, 0.57)), (0.01, 12, 1, (0.10, 0.0, 0.22, 0.67)), (0.05, 12, 1, (1.0, 0, 0, 0)),
    (0.05, 9, 1, (0.99, 0, None, None)), (0.05, 6, 1, (0.74, 0, None, None)), (0.05, 12, 6, (0.98, 0, None, None)),
]


@SHARE
@pytest.mark.parametrize(("true", "blocks", "family", "expected"), RATES)
def test_rates_of_the_rule(share, true, blocks, family, expected):
    n, verdicts, claim = round(4000 * share), Counter(), one_claim().claims["X"]
    rng = np.random.default_rng(11)
    for _ in range(n):
        d = rng.normal(true, 0.03, blocks)
        outcome = directed(claim, mean_estimate(d), sign_flip_p(d), 0.02)
        adjusted = Adjusted(min(1, family * outcome.p_for), min(1, family * outcome.p_against),
                            min(1, family * outcome.tost))
        verdicts[decide(outcome, adjusted, False, DEFAULTS)] += 1
    for verdict, rate in zip(("supported", "contradicted", "equivalent", "undecided"), expected, strict=True):
        if rate is not None:
            assert verdicts[verdict] / n == pytest.approx(rate, abs=0.02 if share == 1 else 0.06), verdict


@SHARE
def test_looking_early(share):
    n, naive, ruled = round(4000 * share), 0, 0
    rng = np.random.default_rng(5)
    for _ in range(n):
        d = rng.normal(size=12)
        p = [sign_flip_p(d[:k]) for k in range(6, 13)]
        naive += min(p) <= 0.05
        ruled += min(p[:-1]) <= 0.001 or p[-1] <= 0.05
    assert naive / n == pytest.approx(0.12, abs=0.02 if share == 1 else 0.06)
    assert ruled / n <= above(0.05, n)


@pytest.mark.parametrize("seed", [0, *[pytest.param(seed, marks=pytest.mark.full) for seed in range(1, 10)]])
def test_order_and_systems_make_no_difference(seed):
    rng = np.random.default_rng(seed)
    runs = grid(rng, {m: 0.1 for m in QUANTUM_FEATURES})
    base = [result.record() for result in evaluate_claims(runs, study(), claims())]
    assert [r.record() for r in evaluate_claims(runs.sample(frac=1, random_state=seed), study(), claims())] == base
    outside = without(runs, model="1a-tanh", task="adding_problem", length=100, seed=2024)
    for before, after in zip(base, evaluate_claims(outside, study(), claims()), strict=True):
        if "1a+tanh" not in before["weights"] and before["family"] != "P_adding":
            assert after.record() == before
