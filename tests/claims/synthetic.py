"""Made-up grids of runs for the tests of the claims: every number drawn here, nothing read from files."""

import functools
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
from factories import published_study

from qablate.analysis.claims import Claims, load_claims
from qablate.study import Study

ROOT = Path(__file__).parents[2]
MODELS = ("1a", "1b", "1c", "2a", "2d", "2e", "3a", "3b", "3c", "4a", "4d", "4e")
TWINS = tuple(f"{base}-{tag}" for tag in ("tanh", "noent") for base in ("1a", "1b", "2a", "2d", "4a", "4d"))
QUANTUM_FEATURES = ("1a", "1b", "1c", "4a", "4d", "4e")
QUANTUM_MIXING = ("2a", "2d", "2e", "4a", "4d", "4e")
GRID = {"adding_problem": (100, 200, 500, 1000), "selective_copy": (100, 200, 500, 1000), "forrelation": (50, 100, 200)}
SEEDS = (2024, 2025, 2026)


@functools.cache
def claims() -> Claims:
    return load_claims(ROOT / "workflow" / "claims.yaml")


@functools.cache
def study() -> Study:
    return published_study(Path("results"))


def grid(rng: np.random.Generator, effects: Mapping[str, float] | None = None, sd: float = 0.05, level: float = 0.5,
         bimodal: str = "", sds: Mapping[str, float] | None = None, models=MODELS + TWINS, per_length: float = 0.0,
         tasks=tuple(GRID), seeds=SEEDS) -> pd.DataFrame:
    """A complete grid: benefit = level + effect of the model + per_length * log2(L / 100) + noise, in R2 units.

    Sizes and chunks are equal, so that no claim is confounded. A bimodal model fails in a quarter of its runs.
    """
    rows = []
    for task in tasks:
        for length in GRID[task]:
            for seed in seeds:
                for model in models:
                    value = level + (effects or {}).get(model, 0) + per_length * np.log2(length / 100)
                    value += rng.normal(0, (sds or {}).get(model, sd))
                    if model == bimodal and rng.random() < 0.25:
                        value = 0.0
                    rows.append(row(model, task, length, seed, float(value)))
    return pd.DataFrame(rows)


def row(model: str, task: str, length: int, seed: int, value: float, **changes) -> dict:
    """One run; `value` is R2 at Selective Copy, (benefit - 1.8) / 10 at adding, 10 times the excess over .5 else."""
    score = {"adding_problem": {"test_mse": float(np.exp(-(1.8 + 10 * max(value, 0.0))))},
             "selective_copy": {"test_r2": value},
             "forrelation": {"test_acc": round(500 * min(max(0.45 + value / 10, 0.0), 1.0)) / 500}}[task]
    if task == "adding_problem":
        score["test_r2"] = 1 - 6 * score["test_mse"]
    return {"model": model, "task": task, "length": length, "seed": seed, "status": "ok", "schema_version": 2,
            "source": "local", "dataset_sha256": f"{task}{length}{seed}", "n_params": 40_000,
            "n_params_trainable": 40_000, "chunk": 32, "majority_rate": 0.5,
            **dict.fromkeys(("test_mse", "test_r2", "test_acc"), np.nan), **score, **changes}
