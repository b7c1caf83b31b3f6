"""Error rates of the verdicts on made-up grids with the noise of the real runs: false ones, found ones."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from factories import published_study
from grids import GRID, grid, runs_of

from qablate.analysis import verdicts
from qablate.analysis.claims import Contrast, load_claims
from qablate.config import read_yaml

QUANTUM_FEATURES = ("1a", "1b", "1c", "4a", "4d", "4e")
QUICK, WHOLE = 8, 400
REGRESSION = ("adding_problem", "selective_copy")
SIZES = [pytest.param(QUICK, id="quick"), pytest.param(WHOLE, id="full", marks=[pytest.mark.full,
                                                                                pytest.mark.timeout(3600)])]


def evaluated(monkeypatch, task: str, n: int, **planted) -> list[pd.DataFrame]:
    """The rows of `compare` on `n` grids of one task, without the caveats and pairs, which no verdict rests on."""
    config = read_yaml(Path("config.yaml"))
    study = published_study(Path("results"), tasks={task: config["tasks"][task]})
    claims = load_claims(study)
    monkeypatch.setattr(verdicts, "load_claims", lambda study: claims)
    monkeypatch.setattr(verdicts, "_caveats", lambda *arguments: ())
    monkeypatch.setattr(Contrast, "pairs", [])
    rng = np.random.default_rng(sum(map(ord, task)))
    return [verdicts.compare(runs_of(grid(rng, tasks=(task,), **planted), study)) for _ in range(n)]


def share(found: list[pd.DataFrame], condition) -> pd.Series:
    """Share of the grids in which any row of a family fulfils a condition."""
    hits = [condition(rows).groupby([rows["table"], rows["alone"]]).any() for rows in found]
    return pd.concat(hits, axis=1).mean(axis=1)


@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("task", GRID)
def test_no_family_finds_a_difference_where_there_is_none(monkeypatch, task, n):
    false = share(evaluated(monkeypatch, task, n), lambda rows: rows["verdict"].isin(["higher", "lower"]))
    assert len(false) >= 4 and (false <= (0.05 if n == WHOLE else 0.25)).all(), false


@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("task", REGRESSION)
def test_an_effect_of_twice_the_margin_is_found(monkeypatch, task, n):
    found = evaluated(monkeypatch, task, n, effects=dict.fromkeys(QUANTUM_FEATURES, 2.0), per_doubling=2.0)
    verdict = pd.concat(rows.set_index("id")["verdict"] for rows in found)
    higher = (verdict == "higher").groupby(level=0).mean()
    assert higher[["features", "quantum", "group4-group2"]].min() >= (0.9 if n == WHOLE else 0.75)
    assert (verdict == "lower").groupby(level=0).mean()[["features", "quantum"]].max() == 0
    assert higher["mixing"] <= (0.05 if n == WHOLE else 0.25)


@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("task", REGRESSION)
def test_a_difference_of_the_margin_is_seldom_called_equivalent(monkeypatch, task, n):
    found = evaluated(monkeypatch, task, n, effects=dict.fromkeys(QUANTUM_FEATURES, 1.0))
    planted = ["features", "group4-group2"]
    false = share(found, lambda rows: (rows["verdict"] == "equivalent") & rows["id"].isin(planted))
    assert false["factors", False] <= (0.05 if n == WHOLE else 0.2)
