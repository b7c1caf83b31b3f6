"""The estimates of the engine that this one replaced, on the same runs: 67 comparisons, to 1e-7."""

from pathlib import Path

import pandas as pd
import pytest

from qablate.analysis.statistics import benefits, contrast, difference, scale_of, slope, weights

DATA = Path(__file__).parents[1] / "data"
GONE = [("1a", "adding_problem", 200, 2024), ("2e", "adding_problem", 100, 2024), ("3a", "forrelation", 100, 2024),
        ("3a", "selective_copy", 500, 2024)]
"""Runs of the made-up grid that `gaps` lacks."""


def golden_runs(study: str) -> pd.DataFrame:
    """Runs as `Runs.table` holds them: all 396 (`synthetic`), without four (`gaps`), or the shipped ones."""
    runs = pd.read_csv(DATA / "golden_runs.csv")
    runs = runs[runs["study"] == ("shipped" if study == "shipped" else "synthetic")].assign(counts=True)
    for task in runs["task"].unique():
        runs.loc[runs["task"] == task, scale_of(task).metric] = runs["score"]
    keys = runs[["model", "task", "length", "seed"]].apply(tuple, axis=1)
    return runs[~keys.isin(GONE)] if study == "gaps" else runs


@pytest.mark.parametrize(("study", "n"), [("synthetic", 67), ("gaps", 67), ("shipped", 19)])
def test_estimates_equal_those_of_the_former_engine(study, n):
    known = pd.read_csv(DATA / "golden_comparisons.csv").query("study == @study").fillna({"minus": ""})
    assert len(known) == n
    tables = {task: benefits(golden_runs(study), task) for task in known["task"].unique()}
    for row in known.to_dict("records"):
        d = contrast(tables[row["task"]], weights(row["plus"].split(), row["minus"].split()))
        scale = scale_of(row["task"])
        is_slope = row["kind"] == "slope"
        found = slope(d) if is_slope else difference(d)
        assert found.n == row["n"], row["claim"]
        values = [found.value, *found.interval(), found.p, found.tost(scale.margin_slope if is_slope else scale.margin)]
        assert values == pytest.approx([row[key] for key in ("estimate", "low95", "high95", "p", "p_tost")],
                                       abs=1e-7), row["claim"]
