"""The numbers of the document of 2026-01-18 against each other, as docs/results.md tells them."""

import csv
from statistics import fmean

import pytest

from qablate.files import packaged_text


@pytest.fixture(scope="module")
def printed() -> dict[tuple[str, ...], float]:
    rows = csv.DictReader(packaged_text("goldens/reported_2026-01-18.csv").splitlines())
    return {tuple(row[key] for key in ("table", "model_id", "task", "seq_len", "metric")): float(row["value"])
            for row in rows if row["value"]}


@pytest.fixture(scope="module")
def copy(printed) -> dict[tuple[str, str], float]:
    """R2 of Selective Copy by model and length, `all` for the printed mean."""
    return {key[1:4:2]: value for key, value in printed.items() if key[0] == "nersc_selective" and key[1] != "baseline"}


def test_means_over_lengths_are_those_of_the_lengths(copy):
    for model, runs in {"1a": [3, 3, 3, 3], "1b": [3, 3, 3, 3], "1c": [3, 3, 3, 3], "2a": [3, 3, 3, 2]}.items():
        means = [copy[model, length] for length in ("100", "200", "500", "1000")]
        pooled = sum(n * mean for n, mean in zip(runs, means, strict=True)) / sum(runs)
        assert pooled == pytest.approx(copy[model, "all"], abs=0.0005)
    assert fmean(copy["2a", length] for length in ("100", "200", "500", "1000")) == pytest.approx(0.194, abs=0.0005)


def test_changes_were_taken_from_rounded_means(printed, copy):
    for model, exact, told in (("1a", -84, -83), ("1b", 138, 139), ("1c", 127, 130), ("2a", -55, -56)):
        change = 100 * (copy[model, "1000"] / copy[model, "100"] - 1)
        assert (round(change), printed["nersc_selective_scaling", model, "selective_copy", "100->1000",
                                       "percent_change"]) == (exact, told)


def test_what_the_summary_leaves_out(printed, copy):
    for architecture, model in (("transformer", "1a"), ("mamba", "1b"), ("hydra", "1c")):
        told = printed["architecture_comparison", f"arch:{architecture}", "selective_copy", "all", "test_r2_mean"]
        assert told == pytest.approx(copy[model, "all"], abs=0.005)
    assert fmean([copy["1b", "all"], copy["2d", "all"]]) == pytest.approx(0.381, abs=0.0005)
    assert fmean([copy["1a", "all"], copy["2a", "all"]]) == pytest.approx(0.217, abs=0.0005)
    adding = [printed["nersc_adding", model, "adding_problem", "all", "test_r2_mean"] for model in ("1a", "2a")]
    assert adding == [0.5192, 0.9995]


def test_planned_runs_are_counted_in_several_ways(printed):
    planned = [value for key, value in printed.items()
               if key[0] == "dgx_completion" and key[3] == "all" and key[4] == "runs_planned" and key[2] == "all"]
    assert sum(planned) == 396
    assert printed["summary_systems", "all", "all", "all", "runs_planned"] == 252
