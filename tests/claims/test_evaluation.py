"""Verdicts of single claims: reasons for not enough data, partial grids, failed cells, systems, joint claims."""

import json
import math

import numpy as np
import pandas as pd
import pytest
from synthetic import GRID, MODELS, SEEDS, TWINS, claims, give_up, grid, one_claim, row, study, without

from qablate.analysis.ceilings import known_datasets
from qablate.analysis.contrasts import Evidence, Plan
from qablate.analysis.evaluation import (
    STATED_COLUMNS,
    claims_table,
    details_table,
    evaluate_claims,
    load_plan,
    write_claims,
)
from qablate.analysis.old_claims import ClaimsError
from qablate.errors import QablateError
from qablate.study import Cell, published_sha256

COPY = ("selective_copy",)
STATES = ["model", "task", "length", "seed", "state", "finished", "reason"]


def runs_of(values, models=("1b", "3b"), **changes):
    """Selective Copy runs; `values(model, length, seed)` is R2, or None for a cell without a run."""
    return pd.DataFrame([row(model, "selective_copy", length, seed, value, **changes)
                         for model in models for length in GRID["selective_copy"] for seed in SEEDS
                         if (value := values(model, length, seed)) is not None])


def better(model, length, seed):
    """1b is ahead by .2, with some spread."""
    return 0.5 + 0.2 * (model == "1b") + 0.001 * (length // 100) * (model == "3b") + 0.002 * (seed - 2025)


def verdict_of(runs, contest=None, **options):
    return evaluate_claims(runs, study(), contest or one_claim(), **options)[0]


def test_a_clear_difference_and_its_opposite():
    up = verdict_of(runs_of(better))
    assert (up.verdict, up.outcome.n_used, up.flags) == ("supported", 12, ())
    assert up.outcome.p == 2 / 2**12
    down = verdict_of(runs_of(better), one_claim(hypothesis="less"))
    assert down.verdict == "contradicted"
    swapped = verdict_of(runs_of(better), one_claim(contrast={"plus": ["3b"], "minus": ["1b"]}))
    assert (swapped.verdict, swapped.outcome.value) == ("contradicted", -up.outcome.value)
    assert verdict_of(runs_of(better), one_claim(hypothesis="equivalent")).verdict == "contradicted"


def test_a_difference_below_the_margin_is_said_to_be_one():
    small = verdict_of(runs_of(lambda m, L, s: 0.5 + 0.03 * (m == "1b") + 0.0001 * (L // 100) * (m == "3b")))
    assert small.verdict == "equivalent"
    assert "detectable_below_margin" in small.flags


def test_partial_grids_are_provisional_and_need_more():
    eleven = without(runs_of(better), model="1b", length=1000, seed=2026)
    result = verdict_of(eleven)
    assert (result.verdict, result.provisional, result.outcome.n_used) == ("supported", True, 11)
    ten = without(runs_of(better), model="1b", length=1000, seed=(2025, 2026))
    assert verdict_of(ten).verdict == "undecided"      # p = 2 / 2^10 is above .001
    settled = verdict_of(ten, plan=give_up(ten, ("1b", "3b")))
    assert (settled.verdict, settled.provisional) == ("supported", False)


def test_added_replicates_make_a_claim_provisional_again():
    plan = Plan(added={"X": (2027, 2028, 2029, 2030, 2031)})
    result = verdict_of(runs_of(better), plan=plan)
    assert (result.outcome.n_planned, result.outcome.n_used, result.provisional) == (32, 12, True)


@pytest.mark.parametrize(("kept", "reason"), [
    (lambda m, L, s: L <= 200 or m == "3b", None), (lambda m, L, s: L == 100 or m == "3b", "few_blocks"),
    (lambda m, L, s: s != 2026, "few_replicates"), (lambda m, L, s: m != "1b", "missing_arm"),
])
def test_too_little_data(kept, reason):
    result = verdict_of(runs_of(lambda m, L, s: better(m, L, s) if kept(m, L, s) else None))
    assert result.verdict == ("not enough data" if reason else "undecided")
    assert result.reason == (reason or "")


def test_slopes_need_three_lengths_and_whole_replicates():
    contest = one_claim("slope", {"models": ["1b"]})
    rising = runs_of(lambda m, L, s: 0.2 + 0.1 * math.log2(L / 100) + 0.001 * (s - 2025), ("1b",))
    full = verdict_of(rising, contest)
    assert (full.verdict, full.outcome.n_used) == ("supported", 12)
    assert full.outcome.value == pytest.approx(0.1)
    assert verdict_of(without(rising, length=(200, 500)), contest).reason == "few_lengths"
    three = verdict_of(without(rising, length=1000, seed=2024), contest)
    assert (three.outcome.n_used, three.outcome.n_planned) == (9, 12)      # three lengths of three replicates
    assert verdict_of(rising, one_claim("slope", {"models": ["1b"]}, hypothesis="less")).verdict == "contradicted"


def test_scores_selected_on_the_test_set_support_nothing():
    runs = pd.DataFrame([row(model, "forrelation", length, seed, 0.5 + 0.1 * (model == "1b"), schema_version=1)
                         for model in ("1b", "3b") for length in GRID["forrelation"] for seed in SEEDS])
    result = verdict_of(runs, one_claim(task="forrelation"))
    assert (result.verdict, result.reason, result.provisional) == ("not enough data", "selected_on_test", True)


@pytest.mark.parametrize(("changes", "reason"), [
    ({"flags": "dataset_unverified"}, "dataset_mismatch"), ({"enters_claims": False}, "dataset_mismatch"),
    ({"dataset_sha256": "other"}, "dataset_mismatch"),
    ({"source": "dgx"}, "confounded_system"), ({"excluded": "config_mismatch"}, "config_mismatch"),
])
def test_blocks_whose_arms_do_not_match(changes, reason):
    runs = runs_of(better)
    for column, value in changes.items():
        runs[column] = [value if model == "1b" else runs[column][i] if column in runs else ""
                        for i, model in enumerate(runs["model"])]
    result = verdict_of(runs)
    assert (result.verdict, result.reason, result.outcome.n_used) == ("not enough data", reason, 0)


@pytest.mark.parametrize(("factor", "contrast", "changes", "reason"), [
    ("features", {"plus": ["1b"], "minus": ["3b"]}, {"n_params_trainable": 90_000}, "confounded_params"),
    ("features", {"plus": ["1b"], "minus": ["3b"]}, {"chunk": 1}, "confounded_chunking"),
    ("mixing", {"plus": ["1b"], "minus": ["3b"]}, {}, "confounded_other_factor"),
    ("features", {"plus": ["1b"], "minus": ["3b"]}, {}, None),
    ("circuit", {"plus": ["1b"], "minus": ["1b+tanh"]}, {}, None),
])
def test_attribution_needs_arms_that_differ_in_one_factor(factor, contrast, changes, reason):
    minus = contrast["minus"][0].replace("+", "-")
    runs = runs_of(better, ("1b", minus))
    for column, value in changes.items():
        runs.loc[runs["model"] == minus, column] = value
    result = verdict_of(runs, one_claim(contrast=contrast, attributes_to=factor))
    assert result.verdict == ("not enough data" if reason else "supported")
    assert result.reason == (reason or "")
    assert verdict_of(runs, one_claim(contrast=contrast)).verdict == "supported"     # names the models only


def test_founding_widths_confound_the_features():
    sizes = dict(zip(MODELS, (338, 423, 912, 37, 48, 73, 358, 236, 234, 41, 58, 84), strict=True))
    runs = grid(np.random.default_rng(0), tasks=COPY)
    runs["n_params_trainable"] = runs["model"].str[:2].map(sizes) * 1000
    found = {result.claim.id: result for result in evaluate_claims(runs, study(), claims())}
    for claim in ("P1-copy", "P2-copy", "G1-copy", "G2-copy", "FD12", "FD13"):
        assert (found[claim].verdict, found[claim].reason) == ("not enough data", "confounded_params")
    assert found["M-selective_copy-1b"].verdict != "not enough data"


def cells_with(state, **where):
    return pd.DataFrame([[where["model"], "selective_copy", where["length"], where["seed"], state, False, ""]],
                        columns=STATES)


def test_failed_cells_at_the_baseline_can_overturn_a_verdict():
    runs = runs_of(better)
    kept = without(runs, model="1b", length=(500, 1000))
    failed = pd.concat([cells_with("failed", model="1b", length=length, seed=seed)
                        for length in (500, 1000) for seed in SEEDS])
    plan = give_up(kept, ("1b", "3b"))
    assert verdict_of(kept, plan=plan).verdict == "supported"
    result = verdict_of(kept, cells=failed, plan=plan)
    assert result.outcome.filled_value == pytest.approx((result.outcome.value - 0.5075) / 2)
    assert (result.verdict, result.reason) == ("undecided", "depends_on_failed_cells")
    pending = failed.assign(state="checkpoint")
    assert math.isnan(verdict_of(kept, cells=pending, plan=plan).outcome.filled_value)


def test_stale_cells_are_named():
    kept = without(runs_of(better), model="1b")
    stale = pd.concat([cells_with("stale", model="1b", length=length, seed=seed)
                       for length in GRID["selective_copy"] for seed in SEEDS])
    assert verdict_of(kept, cells=stale).reason == "config_mismatch"


def test_diverged_runs_count_as_the_baseline():
    runs = runs_of(better)
    broken = (runs["model"] == "1b") & (runs["length"] == 100)
    runs.loc[broken, ["status", "test_r2"]] = ["diverged", None]
    result = verdict_of(runs)
    assert result.outcome.n_used == 12
    assert result.outcome.value == pytest.approx((9 * 0.2 - 3 * 0.5) / 12, abs=0.01)


def test_runs_without_their_metric_are_not_taken_for_diverged():
    runs = runs_of(better)
    runs.loc[(runs["model"] == "1b") & (runs["length"] == 100), "test_r2"] = np.nan
    result = verdict_of(runs)
    assert (result.outcome.n_used, {drop.cause for drop in result.outcome.dropped}) == (9, {"quarantined"})


def bridge(offset, first="dgx", second="nersc"):
    rng = np.random.default_rng(4)
    rows = []
    for task, metric in (("adding_problem", "test_mse"), ("selective_copy", "test_r2")):
        for model in ("1b", "3a", "3b"):
            for seed in SEEDS:
                value = row(model, task, 100, seed, 0.3 + 0.05 * rng.standard_normal())[metric]
                other = row(model, task, 100, seed, 0.3 + offset + 0.05 * rng.standard_normal())[metric]
                values = (value, other) if first < second else (other, value)
                rows.append([model, task, 100, seed, metric, first, values[0], second, values[1]])
    columns = ["model", "task", "length", "seed", "metric", "system_a", "value_a", "system_b", "value_b"]
    return pd.DataFrame(rows, columns=columns)


def test_systems_mix_only_over_a_bridge():
    runs = runs_of(better)
    runs["source"] = np.where(runs["model"] == "1b", "nersc", "dgx")
    close = bridge(0.0).assign(value_b=lambda frame: frame["value_a"] * (1 + 1e-4 * np.arange(18)))
    assert verdict_of(runs, pairs=close).verdict == "supported"
    assert verdict_of(runs, pairs=bridge(0.3)).reason == "confounded_system"
    assert verdict_of(runs, pairs=close.iloc[:-1]).reason == "confounded_system"      # one cell short of 18
    turned = close.rename(columns={"system_a": "system_b", "system_b": "system_a", "value_a": "value_b",
                                   "value_b": "value_a"})
    assert verdict_of(runs, pairs=turned).record() == verdict_of(runs, pairs=close).record()


def test_duplicates_change_no_n_and_must_be_settled_before():
    runs = runs_of(better).assign(source="nersc")
    assert verdict_of(runs, pairs=bridge(0.0)).record() == verdict_of(runs).record()
    with pytest.raises(QablateError, match="1b_selective_copy_L100_seed2024: stands twice"):
        verdict_of(pd.concat([runs, runs.head(1)]))


def test_general_scope_needs_one_sign():
    offsets = {"1a": 0.2, "1b": 0.25, "1c": 0.2, "4a": 0.22, "4d": 0.2, "4e": 0.24}
    found = {}
    for name, last in (("all", 0.24), ("one against", -0.06)):
        runs = grid(np.random.default_rng(1), offsets | {"4e": last}, sd=0.01, tasks=COPY)
        found[name] = {r.claim.id: r for r in evaluate_claims(runs, study(), claims())}["G1-copy"]
    assert (found["all"].verdict, found["all"].outcome.n, found["all"].outcome.units) == ("supported", 6, "pairs")
    assert found["one against"].verdict == "undecided"


def test_any_beats_all_needs_one_that_beats_every_rival():
    contest = one_claim("any_beats_all", {"candidates": ["1a", "1b"], "rivals": ["3a", "3b"]})
    level = {"1a": 0.5, "1b": 0.8, "3a": 0.5, "3b": 0.6}
    rng = np.random.default_rng(0)
    runs = runs_of(lambda m, L, s: level[m] + 0.01 * rng.standard_normal(), tuple(level))
    won = verdict_of(runs, contest)
    assert (won.verdict, won.outcome.best, won.outcome.values["closest_rival"]) == ("supported", "1b", "3b")
    level["3b"] = 0.9
    runs = runs_of(lambda m, L, s: level[m] + 0.01 * rng.standard_normal(), tuple(level))
    assert verdict_of(runs, contest).verdict == "contradicted"
    level["3b"] = 0.8
    runs = runs_of(lambda m, L, s: level[m] + 0.2 * rng.standard_normal(), tuple(level))
    assert verdict_of(runs, contest).verdict == "undecided"
    assert verdict_of(without(runs, model="3a"), contest).reason == "missing_arm"


def test_best_arm_names_the_arms_it_cannot_be_told_from():
    contest = one_claim("best_arm", {"arms": ["1a", "2a", "3a"]})
    rng = np.random.default_rng(0)
    runs = runs_of(lambda m, L, s: {"1a": 0.8, "2a": 0.79, "3a": 0.3}[m] + 0.05 * rng.standard_normal(),
                   ("1a", "2a", "3a"))
    result = verdict_of(runs, contest)
    assert result.verdict in ("undecided", "contradicted")
    assert set(result.outcome.values["not_separable"].split(", ")) == {"1a", "2a"}


def forrelation_runs(hits, **changes):
    return pd.DataFrame([row("1b", "forrelation", length, seed, hits / 500, **changes)
                         for length in GRID["forrelation"] for seed in SEEDS])


def test_chance_pools_the_items_and_knows_the_majority():
    contest = one_claim("chance", {"models": ["1b"]}, task="forrelation")
    assert verdict_of(forrelation_runs(256), contest).verdict == "undecided"       # 2304 of 4500
    assert verdict_of(forrelation_runs(257), contest).verdict == "supported"       # .514, needed is .5124
    assert verdict_of(forrelation_runs(257, majority_rate=0.52), contest).verdict != "supported"
    assert verdict_of(forrelation_runs(250), contest).verdict == "equivalent"
    half = without(forrelation_runs(300), length=(100, 200))
    assert verdict_of(half, contest).reason == "few_blocks"


def test_chance_counts_the_labels_of_published_datasets():
    known = known_datasets().drop_duplicates("dataset_sha256")
    assert set(known["dataset_sha256"]) <= set(published_sha256().values())
    runs = forrelation_runs(260, majority_rate=0.55)
    hashes = {(r["length"], r["seed"]): r["dataset_sha256"] for r in known.to_dict("records")}
    runs["dataset_sha256"] = [hashes[length, seed] for length, seed in zip(runs["length"], runs["seed"], strict=True)]
    result = verdict_of(runs, one_claim("chance", {"models": ["1b"]}, task="forrelation"))
    positives = known["test_positives"].sum()
    assert result.outcome.values["null"] == max(positives, 4500 - positives) / 4500


def threshold(**changes):
    return one_claim("threshold", {"models": ["1b", "3b"]}, metric="test_r2", op="gt", value=0.3, unit="length_mean",
                     **changes)


def test_thresholds_need_every_planned_value():
    runs = runs_of(better)
    assert verdict_of(runs, threshold()).verdict == "supported"
    assert verdict_of(without(runs, model="1b", length=1000, seed=2024), threshold()).reason == "missing_arm"
    runs.loc[runs["length"] == 100, "test_r2"] = 0.1
    one_wrong = verdict_of(without(runs, model="1b", length=1000, seed=2024), threshold())
    assert (one_wrong.verdict, one_wrong.outcome.values["wrong"]) == ("contradicted", 2)


def joint(first, second, **options):
    """FD09 with its members at Selective Copy: Hydra over Mamba over attention, gaps in R2."""
    levels = {"attention": 0.2, "mamba": 0.2 + second, "hydra": 0.2 + second + first}
    kinds = {**dict.fromkeys(("1a", "2a", "3a", "4a"), "attention"), **dict.fromkeys(("1b", "2d", "3b", "4d"), "mamba"),
             **dict.fromkeys(("1c", "2e", "3c", "4e"), "hydra")}
    runs = grid(np.random.default_rng(3), {m: levels[kind] - 0.5 for m, kind in kinds.items()}, sd=0.03, models=MODELS,
                tasks=("adding_problem", "selective_copy"))
    found = evaluate_claims(options.get("drop", lambda r: r)(runs), study(), claims())
    return {result.claim.id: result for result in found}


def test_all_of_is_its_worst_member():
    both = joint(0.2, 0.2)
    assert (both["FD07"].verdict, both["FD08"].verdict, both["FD09"].verdict) == ("supported",) * 3
    one = joint(0.0, 0.2)
    assert (one["FD07"].verdict, one["FD09"].verdict) == ("equivalent", "equivalent")
    assert joint(-0.2, 0.2)["FD09"].verdict == "contradicted"
    lost = joint(0.2, 0.2, drop=lambda runs: without(runs, model="1c", task="selective_copy"))
    assert (lost["FD09"].verdict, lost["FD09"].reason) == ("not enough data", "missing_arm")


def test_joint_slopes_need_every_member():
    rising = grid(np.random.default_rng(0), per_length=0.1, sd=0.01, level=0.2, tasks=COPY)
    found = {r.claim.id: r for r in evaluate_claims(rising, study(), claims())}
    assert (found["FD10"].verdict, found["FD11"].verdict) == ("supported", "contradicted")
    flat = rising["model"] == "1b"
    rising.loc[flat, "test_r2"] = 0.5
    found = {r.claim.id: r for r in evaluate_claims(rising, study(), claims())}
    assert (found["FD10-1b"].verdict, found["FD10"].verdict) == ("equivalent", "equivalent")
    assert "member_unadjusted" in found["FD10-1b"].flags


def test_one_above_chance_is_enough():
    runs = grid(np.random.default_rng(0), {"1c": 0.1}, tasks=("forrelation",))
    found = {r.claim.id: r for r in evaluate_claims(runs, study(), claims())}
    assert (found["P6-forr"].verdict, found["P6-forr"].outcome.best) == ("supported", "C-1c")
    assert found["FD19"].verdict != "supported"


def test_reference_solvers_answer_for_themselves():
    found = {r.claim.id: r for r in evaluate_claims(grid(np.random.default_rng(0), tasks=COPY), study(), claims())}
    assert (found["FD23"].verdict, found["FD22"].reason) == ("supported", "not_estimable")
    scores = known_datasets().assign(score=0.5)
    other = evaluate_claims(grid(np.random.default_rng(0), tasks=COPY), study(), claims(), solvers=scores)
    assert {r.claim.id: r.verdict for r in other}["FD23"] == "contradicted"


def stated(*rows):
    return pd.DataFrame(rows, columns=list(STATED_COLUMNS))


def test_stated_totals_are_counted_again():
    runs = grid(np.random.default_rng(0), models=MODELS).assign(source="nersc")
    right = stated(("cells_planned", "all", "all", "all", 396, 1),
                   ("cells_complete_unique", "all", "all", "all", 396, 1),
                   ("cells_complete_by_system", "nersc", "1a", "forrelation", 9, 1),
                   ("jobs_pending", "all", "all", "all", 0, 1),
                   ("n_params_trainable", "all", "1a", "forrelation", 40_200, 1000))
    found = {r.claim.id: r.verdict for r in evaluate_claims(runs, study(), claims(), stated=right)}
    assert (found["FD24"], found["FD25"]) == ("supported", "supported")
    wrong = right.assign(value=right["value"] + [0, 1, 0, 0, 2000])
    found = {r.claim.id: r.verdict for r in evaluate_claims(runs, study(), claims(), stated=wrong)}
    assert (found["FD24"], found["FD25"]) == ("contradicted", "contradicted")


@pytest.mark.parametrize(("sizes", "holds"), [
    ({50: 330_000}, None),                                     # another length may have the stated number
    ({50: 358_300}, True),
    ({50: 330_000, 100: 340_000}, None),
    ({50: 330_000, 100: 358_300}, True),
    ({50: 330_000, 100: 330_000}, False),                      # the number does not depend on the length
    ({50: 330_000, 100: 340_000, 200: 350_000}, False),
    ({50: 330_000, 100: 340_000, 200: 358_400}, True),
])
def test_parameters_are_held_against_a_number_that_does_not_name_its_length(sizes, holds):
    runs = grid(np.random.default_rng(0), models=["3a"])
    runs = runs[(runs["task"] == "forrelation") & runs["length"].isin(sizes)]
    runs = runs.assign(n_params=runs["length"].map(sizes))
    total = stated(("n_params_total", "all", "3a", "forrelation", 358_000, 1000))
    found = {r.claim.id: r for r in evaluate_claims(runs, study(), claims(), stated=total)}["FD25"]
    assert [detail["holds"] for detail in found.outcome.details] == [holds]


def test_an_empty_grid_supports_nothing():
    for result in evaluate_claims(grid(np.random.default_rng(0), models=MODELS[:1]).head(0), study(), claims()):
        if result.claim.kind != "reference":
            assert result.verdict == "not enough data"
            assert result.sentence.startswith("Not enough data")


def test_a_failing_seed_is_flagged():
    runs = runs_of(lambda m, L, s: 0.5 + (m == "1b") * (0.25 if s != 2024 else -0.01 + 0.0001 * L / 100))
    result = verdict_of(runs)
    assert (result.verdict, "seed_dependent" in result.flags) == ("supported", True)
    assert not result.outcome.replicates_agree
    assert result.outcome.by_replicate.df == 2


def test_plan_file(tmp_path):
    path = tmp_path / "plan.yaml"
    assert load_plan(path) == Plan()
    path.write_text("entries:\n- {date: 2026-11-01, reason: too slow, give_up: [{task: forrelation, models: [4e], "
                    "lengths: [200], seeds: [2024]}]}\n- {date: 2026-11-02, reason: undecided, claims: [X], "
                    "add_replicates: [1, 2, 3, 4, 5]}\n")
    plan = load_plan(path)
    assert plan.given_up == {Cell("4e", "forrelation", 200, 2024)}
    assert plan.added == {"X": (1, 2, 3, 4, 5)}
    for text, message in (("entries: [{reason: x}]", "entries.0: needs date and reason"),
                          ("entries: [{date: a, reason: x, claims: [X], add_replicates: [1]}]", "5 or 10 seeds"),
                          ("entries: [{date: a, reason: x, give_up: [{task: a}]}]", "entries.0.give_up: needs task")):
        path.write_text(text)
        with pytest.raises(ClaimsError, match=message):
            load_plan(path)


def test_families_are_not_mixed():
    runs = runs_of(better)
    controlled = runs.assign(model="c-" + runs["model"])
    assert verdict_of(controlled).reason == "missing_arm"
    assert verdict_of(controlled, family="controlled").verdict == "supported"
    assert Evidence(claims(), controlled, family="controlled").model("1b+tanh") == "c-1b-tanh"


def test_records_and_tables(tmp_path):
    results = evaluate_claims(grid(np.random.default_rng(0), models=MODELS + TWINS), study(), claims())
    paths = write_claims(results, tmp_path)
    records = [json.loads(line) for line in paths[0].read_text().splitlines()]
    assert [record["id"] for record in records] == list(claims().claims)
    first = records[0]
    assert set(first["weights"]) == set(MODELS)
    assert len(first["inputs"]) == 144 and first["generator_version"]
    assert {"estimate", "low90", "high95", "p", "p_holm", "p_tost", "blocks_used", "dropped", "sentence"} <= set(first)
    table = pd.read_csv(paths[1])
    assert len(table) == len(claims_table(results)) == len(records)
    assert set(details_table(results)["id"]) >= {"FD01", "FD23", "FD26"}
