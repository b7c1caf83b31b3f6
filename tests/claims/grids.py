"""Made-up runs for the tests of the comparisons: every number drawn here, nothing read from files."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
from factories import published_study

from qablate.analysis.collect import Runs
from qablate.analysis.statistics import scale_of
from qablate.catalog import MODELS, model_info
from qablate.study import Study

GRID = {"adding_problem": (100, 200, 500, 1000), "selective_copy": (100, 200, 500, 1000), "forrelation": (50, 100, 200)}
SEEDS = (2024, 2025, 2026)
NOISE = {
    "adding_problem": dict(zip(MODELS, (1.0, 1.0, 0.8, 0.4, 0.6, 0.5, 0.5, 0.5, 0.5, 0.2, 0.3, 1.2), strict=False)),
    "selective_copy": dict(zip(MODELS, (0.18, 0.011, 0.014, 0.042, 0.011, 0.015, 0.02, 0.02, 0.02, 0.016, 0.011, 0.02),
                               strict=False)),
}
"""Standard deviation between the seeds of a cell, on the benefit scale, as in the shipped runs (their order of size
where a model has none). Forrelation: 500 coins."""
LEVEL = {"adding_problem": 9.0, "selective_copy": 0.5, "forrelation": 0.5}


def grid(rng: np.random.Generator, effects: Mapping[str, float] | None = None, per_doubling: float = 0.0,
         tasks: tuple[str, ...] = tuple(GRID), seeds: tuple[int, ...] = SEEDS) -> pd.DataFrame:
    """A complete `Runs.table`: benefit = level + effect of the model + slope + of the block + noise of the run.

    Effects and `per_doubling` are in units of the task's margins.
    """
    rows = []
    for task in tasks:
        scale = scale_of(task)
        for length in GRID[task]:
            for seed in seeds:
                block = 0.0 if task == "forrelation" else rng.normal(0, scale.margin)
                for model in MODELS:
                    y = LEVEL[task] + (effects or {}).get(model, 0.0) * scale.margin + block
                    y += per_doubling * scale.margin_slope * np.log2(length / GRID[task][0])
                    y = rng.binomial(500, y) / 500 if task == "forrelation" else y + rng.normal(0, NOISE[task][model])
                    rows.append(row(model, task, length, seed, float(y)))
    return pd.DataFrame(rows)


def row(model: str, task: str, length: int, seed: int, y: float, **changes: object) -> dict[str, object]:
    """One run with this benefit."""
    metric = scale_of(task).metric
    score = np.exp(-y) if metric == "test_mse" else y
    scores = {"test_mse": np.nan, "test_r2": np.nan, "test_acc": np.nan, metric: score}
    return {"model": model, "task": task, "length": length, "seed": seed, "system": "local", "status": "ok",
            "valid": True, "counts": True, "n_params": 40_000, "chunk": model_info(model).chunk, **scores, **changes}


def runs_of(table: pd.DataFrame, study: Study | None = None) -> Runs:
    """Runs that hold this table, of the published study unless another is given; cells finished where it has a row."""
    study = study or published_study(Path("results"))
    done = set(table[["model", "task", "length", "seed"]].itertuples(index=False, name=None))
    cells = pd.DataFrame([{**vars(cell), "finished": tuple(vars(cell).values()) in done, "state": "missing",
                           "hours": 0.5} for cell in study.cells])
    empty = pd.DataFrame()
    return Runs(study, table, cells, empty, empty, empty, {})
