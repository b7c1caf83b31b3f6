"""Made-up grids of runs for the tests of the claims: every number drawn here, nothing read from files."""

import copy
import functools
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
import yaml
from factories import published_study

from qablate.analysis.contrasts import Plan
from qablate.analysis.old_claims import Claims, load_claims, parse_claims
from qablate.study import Cell, Study

ROOT = Path(__file__).parents[2]
MODELS = ("1a", "1b", "1c", "2a", "2d", "2e", "3a", "3b", "3c", "4a", "4d", "4e")
TWINS = tuple(f"{base}-{tag}" for tag in ("tanh", "noent") for base in ("1a", "1b", "2a", "2d", "4a", "4d"))
QUANTUM_FEATURES = ("1a", "1b", "1c", "4a", "4d", "4e")
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
    """A complete grid: R2 = level + effect of the model + per_length * log2(L / 100) + noise; no claim is confounded.

    At adding the benefit is ten times that. A Forrelation accuracy counts hits of probability .5 + effect. A bimodal
    model fails in a quarter of its runs and is better in the others, so that its mean is that of the rest.
    """
    rows = []
    for task in tasks:
        for length in GRID[task]:
            for seed in seeds:
                for model in models:
                    effect = (effects or {}).get(model, 0.0)
                    value = level + effect + per_length * np.log2(length / 100)
                    value += rng.normal(0, (sds or {}).get(model, sd))
                    if model == bimodal:
                        value = 0.0 if rng.random() < 0.25 else value + level / 3
                    if task == "forrelation":
                        value = rng.binomial(500, min(0.5 + effect, 1.0)) / 500
                    rows.append(row(model, task, length, seed, float(value)))
    return pd.DataFrame(rows)


def row(model: str, task: str, length: int, seed: int, value: float, **changes) -> dict:
    """One run; `value` is an accuracy, an R2, or at adding a tenth of the excess of the benefit over 1.8."""
    score = {"adding_problem": {"test_mse": float(np.exp(-(1.8 + 10 * max(value, 0.0))))},
             "selective_copy": {"test_r2": value}, "forrelation": {"test_acc": value}}[task]
    if task == "adding_problem":
        score["test_r2"] = 1 - 6 * score["test_mse"]
    return {"model": model, "task": task, "length": length, "seed": seed, "status": "ok", "schema_version": 2,
            "source": "local", "dataset_sha256": f"{task}{length}{seed}", "n_params": 40_000,
            "n_params_trainable": 40_000, "chunk": 32, "majority_rate": 0.5,
            **dict.fromkeys(("test_mse", "test_r2", "test_acc"), np.nan), **score, **changes}


def one_claim(kind: str = "mean_difference", contrast: Mapping | None = None, **changes) -> Claims:
    """A claims file with a single claim `X` on Selective Copy (1b against 3b) in a family of its own."""
    content = copy.deepcopy(_content())
    claim = {"id": "X", "family": "X", "task": "selective_copy", "kind": kind, "hypothesis": "greater",
             "contrast": contrast or {"plus": ["1b"], "minus": ["3b"]}, "statement": "1b is better.", "source": "test"}
    claim |= changes
    content |= {"claims": [claim], "templates": [], "families": {"X": {"task": claim["task"], "size": 1}}}
    return parse_claims(content)


@functools.cache
def _content() -> dict:
    return yaml.safe_load((ROOT / "workflow" / "claims.yaml").read_text())


def without(runs: pd.DataFrame, **where) -> pd.DataFrame:
    """The runs without those whose columns have these values (or one of a tuple of values)."""
    mask = np.ones(len(runs), dtype=bool)
    for column, value in where.items():
        mask &= runs[column].isin(value if isinstance(value, tuple) else (value,)).to_numpy()
    return runs[~mask]


def give_up(runs: pd.DataFrame, models=MODELS + TWINS) -> Plan:
    """A plan that gives up every cell without a run, so that nothing is provisional."""
    keys = {(r["model"], r["task"], r["length"], r["seed"]) for r in runs.to_dict("records")}
    return Plan(frozenset(Cell(model, task, length, seed) for task in GRID for length in GRID[task] for seed in SEEDS
                          for model in models if (model, task, length, seed) not in keys))
