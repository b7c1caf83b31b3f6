"""What would settle an open claim: powers against simulation, counts of cells and seeds, costs, and how it is shown."""

import json
import math
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from factories import published_study, write_results
from scipy.stats import binom, binomtest
from synthetic import GRID, MODELS, ROOT, SEEDS, claims, give_up, grid, one_claim, study, without

from qablate.analysis import old_statistics as st
from qablate.analysis.contrasts import Plan
from qablate.analysis.evaluation import evaluate_claims
from qablate.analysis.findings import report_power
from qablate.analysis.power import NO_PAIRS, NO_SPREAD, Prices, settlements
from qablate.analysis.settling import as_json, details, power_row, table, words
from qablate.cli import main
from qablate.errors import QablateError

COPY = ("selective_copy",)
PRICES = Prices({"cpu": pd.DataFrame([(model, task, length, 0.5) for model in MODELS for task in GRID
                                      for length in GRID[task]], columns=["model", "task", "length", "hours"]),
                 "gpu": pd.DataFrame(columns=["model", "task", "length", "hours"])})


def settle(runs, contest=None, **options):
    contest = contest or claims()
    found = evaluate_claims(runs, study(), contest, **options)
    return {settlement.result.claim.id: settlement for settlement in settlements(contest, found)}


def contested(sd=0.07, seed=0, **changes):
    """1b against 3b on Selective Copy, equal, with an SD of their differences of sd * sqrt(2)."""
    runs = grid(np.random.default_rng(seed), sd=sd, models=("1b", "3b"), tasks=COPY)
    return settle(runs, one_claim(**changes)).get("X")


@pytest.mark.parametrize(("n", "shift", "level"), [(9, 3.0, 0.05), (12, 3.46, 0.05), (12, 2.6, 0.05), (24, 4.0, 0.01)])
def test_power_of_equivalence_is_that_of_the_test(n, shift, level):
    rng, margin = np.random.default_rng(n), shift / math.sqrt(n)
    found = np.mean([st.mean_estimate(rng.normal(size=n)).tost(margin) <= level for _ in range(4000)])
    assert st.tost_power(n - 1, shift, level) == pytest.approx(found, abs=0.03)


def test_power_of_equivalence_known_cases():
    for n, ratio, power in ((9, 1, 0.72), (12, 1, 0.89), (12, 0.75, 0.57)):
        assert st.tost_power(n - 1, ratio * math.sqrt(n)) == pytest.approx(power, abs=0.01)
    assert st.tost_power(11, math.inf) == 1.0 and st.tost_power(11, 0.0) == 0.0


@pytest.mark.parametrize(("n", "level", "null"), [(500, 0.05, 0.5), (1500, 0.05 / 12, 0.52), (4500, 0.05 / 12, 0.5)])
def test_powers_of_an_accuracy_by_summing_over_all_outcomes(n, level, null):
    hits = range(n + 1)
    found = [k for k in hits if binomtest(k, n, null, "greater").pvalue <= level]
    assert st.accuracy_power(n, level, null, null + 0.02) == pytest.approx(binom.pmf(found, n, null + 0.02).sum())
    equal = [k for k in range(n // 3, n) if st.chance_tost(k, n, null, 0.02) <= level]
    assert st.accuracy_equivalence_power(n, level, null, 0.02) == pytest.approx(binom.pmf(equal, n, null).sum())


def test_smallest_where_is_that_of_trying_all():
    for first in range(1, 40):
        for high in (39, 40, 100):
            expected = next((n for n in range(3, high + 1) if n >= first), None)
            assert st.smallest_where(lambda n, first=first: n >= first, 3, high) == expected


def test_the_seeds_named_have_the_power_that_is_said():
    settlement = contested()
    outcome, margin = settlement.result.outcome, settlement.result.outcome.margin
    assert settlement.result.verdict == "undecided" and settlement.seeds > 0
    rng, n = np.random.default_rng(1), 4 * (len(SEEDS) + settlement.seeds)
    draws = rng.normal(0, outcome.sd, (2000, n))
    assert np.mean([st.mean_estimate(d).tost(margin) <= 0.05 for d in draws]) >= 0.77
    assert np.mean([st.mean_estimate(d + margin).p() <= 0.05 for d in draws]) >= 0.77
    fewer = draws[:, :-4]      # one seed less is not enough
    assert min(np.mean([st.mean_estimate(d).tost(margin) <= 0.05 for d in fewer]),
               np.mean([st.mean_estimate(d + margin).p() <= 0.05 for d in fewer])) < 0.83


def test_seeds_of_a_slope_have_the_power_that_is_said():
    runs = grid(np.random.default_rng(3), sd=0.04, models=("1b",), tasks=COPY)
    settlement = settle(runs, one_claim("slope", {"models": ["1b"]}))["X"]
    outcome, replicates = settlement.result.outcome, len(SEEDS) + settlement.seeds
    x = np.log2(np.array(GRID["selective_copy"], dtype=float))
    residual = outcome.error * math.sqrt(len(SEEDS) * ((x - x.mean()) ** 2).sum())
    rng = np.random.default_rng(4)
    flat = [st.slope_estimate(rng.normal(0, residual, (replicates, 4)), x).tost(outcome.margin) <= 0.05
            for _ in range(1000)]
    assert settlement.seeds > 0 and np.mean(flat) >= 0.76


def test_what_the_planned_blocks_allow():
    settlement = contested()
    outcome = settlement.result.outcome
    assert settlement.smallest_p == 2 / 2**12
    assert settlement.half_width == pytest.approx((outcome.ci90.high - outcome.ci90.low) / 2)
    assert settlement.effect_needed == pytest.approx(max(outcome.margin, (outcome.ci95.high - outcome.ci95.low) / 2))
    settled = settlement.if_it_holds
    assert settled is None or settled >= 0


def test_nine_candidates_on_nine_blocks_cannot_be_supported_alone():
    effects = {"4a": 0.05, "1a": 0.05}
    found = settle(grid(np.random.default_rng(2), effects, tasks=("forrelation",)))["P3-forr"]
    assert found.smallest_p == pytest.approx(6 * 9 * 2 / 2**9) and found.effect_needed is None
    assert found.seeds >= 1      # a fourth seed gives twelve blocks
    assert "none" in details(found, PRICES)


def test_an_estimate_that_holds_is_decided_by_the_seeds_named():
    checked = 0
    for seed in range(6):
        settlement = contested(sd=0.12, seed=seed)
        if settlement is None or settlement.if_it_holds is None:
            continue
        checked += 1
        n = 4 * (len(SEEDS) + settlement.if_it_holds)
        outcome = settlement.result.outcome
        estimate = st.Estimate(outcome.value, outcome.sd / math.sqrt(n), n - 1)
        interval = estimate.interval(0.95)
        decided = estimate.tost(outcome.margin) <= 0.05 + 1e-9 or (
            interval.low * interval.high > 0 and abs(outcome.value) >= outcome.margin)
        assert decided
    assert checked >= 3


def test_missing_cells_come_before_seeds_and_are_counted_once():
    runs = without(grid(np.random.default_rng(0), sd=0.1, models=("1b", "3b"), tasks=COPY), model="1b",
                   length=(500, 1000))
    settlement = settle(runs, one_claim())["X"]
    assert {(key.model, key.length) for key in settlement.cells} == {("1b", 500), ("1b", 1000)}
    assert PRICES.of(settlement.cells).hours == 3.0
    assert words(settlement, PRICES).startswith("6 planned cells (3.0 h on cpu)")
    assert words(settlement, PRICES.on("gpu")).startswith("6 planned cells (cost unknown)")
    given_up = settle(runs, one_claim(), plan=give_up(runs, ("1b", "3b"))).get("X")
    assert given_up is None or given_up.cells == ()


def test_seeds_that_a_plan_adds_are_planned_cells():
    runs = grid(np.random.default_rng(0), sd=0.07, models=("1b", "3b"), tasks=COPY)
    found = settle(runs, one_claim(), plan=Plan(added={"X": (1, 2, 3, 4, 5)}))["X"]
    assert len(found.cells) == 2 * 4 * 5
    assert found.seeds == max(0, contested().seeds - 5)


def test_too_few_blocks_say_nothing_of_the_spread():
    runs = without(grid(np.random.default_rng(0), models=("1b", "3b"), tasks=COPY), length=(500, 1000))
    settlement = settle(without(runs, length=100, seed=2024), one_claim())["X"]
    assert (settlement.seeds, settlement.note) == (None, NO_SPREAD)


def test_no_cell_settles_what_is_confounded_also_before_any_run():
    nothing = settle(grid(np.random.default_rng(0), models=("1a",)).head(0))
    for claim in ("P1-copy", "G1-adding", "FD12"):
        assert nothing[claim].needs and nothing[claim].seeds is None
        assert "which this study does not have" in words(nothing[claim], PRICES)
    assert not nothing["P3-copy"].needs and len(nothing["P3-copy"].cells) == 144
    assert nothing["FD22"].needs == ("the models 2b, 2c",)
    assert nothing["FD24"].needs and not nothing["FD24"].cells


def test_control_models_are_named_and_their_cost_is_unknown():
    twins = settle(grid(np.random.default_rng(0), models=MODELS))["P9-copy"]
    assert PRICES.of(twins.cells).unknown == len(twins.cells) == 72
    assert "1a-tanh" in twins.needs[0] and "cost unknown" in words(twins, PRICES)


def test_more_seeds_add_no_pairs():
    offsets = dict(zip(MODELS, np.linspace(-0.15, 0.15, 12), strict=True))
    general = settle(grid(np.random.default_rng(1), offsets, sd=0.02, tasks=COPY))["G1-copy"]
    assert (general.seeds, general.note) == (None, NO_PAIRS)
    assert general.effect_needed > 0.05 and math.isnan(general.smallest_p)


def test_a_joint_claim_needs_what_its_open_members_need():
    runs = without(grid(np.random.default_rng(0), per_length=0.1, sd=0.02, level=0.2, tasks=COPY), model="1b",
                   length=1000)
    found = settle(runs)
    assert set(found["FD10"].cells) == set(found["FD10-1b"].cells) and len(found["FD10"].cells) == 3


def test_accuracy_against_chance():
    chance = settle(grid(np.random.default_rng(0), tasks=("forrelation",)))["C-1a"]
    assert chance.effect_needed == pytest.approx(0.5198 - 0.5, abs=1e-4)
    n = 1500 * (3 + chance.seeds)
    assert st.accuracy_power(n, 0.05 / 12, 0.5, 0.52) >= 0.8
    assert st.accuracy_equivalence_power(n, 0.05 / 12, 0.5, 0.02) >= 0.8


def test_table_fits_a_terminal_and_json_is_json():
    found = list(settle(grid(np.random.default_rng(5), models=MODELS)).values())
    text = table(found, PRICES, 118)
    assert max(map(len, text.splitlines())) <= 80
    assert all(f"\n{settlement.result.claim.id} " in text for settlement in found)
    assert all(max(map(len, details(settlement, PRICES).splitlines())) <= 80 for settlement in found)
    rows = json.loads(json.dumps([as_json(settlement, PRICES) for settlement in found], allow_nan=False))
    assert {row["id"] for row in rows} == {settlement.result.claim.id for settlement in found}
    assert rows[0]["costs"].keys() == {"cpu", "gpu"}
    with pytest.raises(QablateError, match="device 'tpu': no costs of it, known are cpu, gpu"):
        PRICES.on("tpu")


def test_every_row_holds_the_numbers_of_its_words():
    for settlement in settle(grid(np.random.default_rng(6), models=MODELS)).values():
        row = power_row(settlement, PRICES)
        assert row["cells"] == len(settlement.cells) and row["seed_cells"] == len(settlement.seed_cells)
        assert row["verdict"] in ("undecided", "not enough data")


@pytest.fixture(scope="module")
def collected(tmp_path_factory):
    own = published_study(tmp_path_factory.mktemp("power") / "results")
    write_results(own, [cell for cell in own.cells if cell.task == "selective_copy" and cell.model in ("1b", "3b")])
    return own


def test_the_command_on_a_study(collected, capsys):
    folder = ["--config", str(ROOT / "config.yaml"), "--set", json.dumps({"results": str(collected.results)})]
    assert main(["power", "P3-copy", *folder]) == 0
    assert "To settle: 120 planned cells" in capsys.readouterr().out
    assert main(["power", "P3-cop", *folder]) == 2
    assert "claim 'P3-cop': not in workflow/claims.yaml, did you mean 'P3-copy'?" in capsys.readouterr().err
    assert report_power(collected, "FD23").startswith("FD23 is decided.")


def test_the_command_needs_no_torch(collected):
    code = ("import sys; from qablate.cli import main; main(['power', '--json', '--set', sys.argv[1]]); "
            "sys.exit(bool({'torch', 'pennylane'} & set(sys.modules)))")
    done = subprocess.run([sys.executable, "-c", code, json.dumps({"results": str(collected.results)})], cwd=ROOT,
                          capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    rows = {row["id"]: row for row in json.loads(done.stdout)}
    assert len(rows) > 50 and rows["P3-copy"]["cells"] == len(rows["P3-copy"]["missing"]) == 120
