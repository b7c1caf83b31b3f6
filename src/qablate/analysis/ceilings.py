"""Floors and ceilings of every task and model, and a score as its share of the way between them.

A floor is what a constant prediction reaches, a ceiling what is possible with what the model can know. Ceilings of
chunked models bind only while a shuffle test shows that the order inside a chunk does not reach the output.
"""

import csv
import functools
import math
from collections.abc import Iterator
from typing import Any

import pandas as pd

from qablate.analysis.old_statistics import selection_floor
from qablate.analysis.references import model_ceiling
from qablate.analysis.runs import CELL
from qablate.files import packaged_text
from qablate.study import DatasetSpec, Study, published_sha256
from qablate.tasks.solvers import position_readout_limit

SOLVER_COLUMNS = ("solver", "task", "length", "seed", "score")
REFERENCE_COLUMNS = ("task", "length", "metric", "model", "reference", "role", "value", "n")
EPOCH_CORRELATIONS = (0.0, 0.5, 0.8, 0.9, 0.95)
MEAN_OF_UNIFORM_SUM = 1 / 6
"""MSE of predicting the mean of the sum of two uniform values; one of them known leaves half of it."""


@functools.cache
def known_datasets() -> pd.DataFrame:
    """What reference solvers reach on the published Forrelation datasets, and the labels of their test items.

    One row a dataset and solver: `SOLVER_COLUMNS`, `dataset_sha256`, `n_test`, `test_positives`. The scores are those
    of `qablate.tasks.solvers.solver_accuracies`.
    """
    return _solver_scores("forrelation_solvers.csv", ("n_test", "test_positives"))


@functools.cache
def scores_by_training_size() -> pd.DataFrame:
    """The same solvers on the same datasets with the first `n_train` of the training items, all of them last.

    One row a dataset, solver and size: `SOLVER_COLUMNS`, `dataset_sha256`, `n_train`.
    """
    fewer = _solver_scores("forrelation_training_sizes.csv", ("n_train",))
    whole = known_datasets().drop(columns=["n_test", "test_positives"])
    sizes = [DatasetSpec("forrelation", row.length, row.seed).split_sizes[0] for row in whole.itertuples()]
    return pd.concat([fewer, whole.assign(n_train=sizes)], ignore_index=True)


def _solver_scores(name: str, counts: tuple[str, ...]) -> pd.DataFrame:
    rows = [{**row, "score": float(row["score"]), **{key: int(row[key]) for key in ("length", "seed", *counts)}}
            for row in csv.DictReader(packaged_text(f"goldens/{name}").splitlines())]
    return pd.DataFrame(rows, columns=[*SOLVER_COLUMNS, "dataset_sha256", *counts])


def references(study: Study) -> pd.DataFrame:
    """Return `REFERENCE_COLUMNS`: every floor, weak mark and ceiling of the study's tasks and lengths.

    `model` is "all" unless the value belongs to one model; `role` is floor, mark or ceiling; `n` counts the datasets
    behind a measured value and is 0 for a closed form.
    """
    makers = {"adding_problem": _adding, "selective_copy": _selective, "forrelation": _forrelation}
    rows = [{"task": task, "length": length, **row} for task, settings in study.config["tasks"].items()
            for length in sorted(settings["lengths"]) for row in makers[task](study, length)]
    return pd.DataFrame(rows, columns=list(REFERENCE_COLUMNS))


def _row(metric: str, reference: str, role: str, value: float, model: str = "all", n: int = 0) -> dict[str, Any]:
    return {"metric": metric, "model": model, "reference": reference, "role": role, "value": value, "n": n}


def _adding(study: Study, length: int) -> Iterator[dict[str, Any]]:
    yield _row("test_mse", "mean predicted", "floor", MEAN_OF_UNIFORM_SUM)
    if study.dataset("adding_problem", length, study.config["seeds"][0]).parameters["placement"] == "extremes":
        share = 1 / max(1, length // 10)
        yield _row("test_mse", "markers ignored, outer tenths averaged", "mark", MEAN_OF_UNIFORM_SUM * (1 - share))
    yield _row("test_mse", "one of two values known", "mark", MEAN_OF_UNIFORM_SUM / 2)
    yield _row("test_mse", "sum of value times marker", "ceiling", 0.0)


def _selective(study: Study, length: int) -> Iterator[dict[str, Any]]:
    n_markers = int(study.dataset("selective_copy", length, study.config["seeds"][0]).parameters["n_markers"])
    yield _row("test_r2", "mean predicted", "floor", 0.0)
    yield _row("test_r2", "mean of the marked values for every output", "mark", 1 / n_markers)
    yield _row("test_r2", "best additive read-out by position", "mark", position_readout_limit(n_markers))
    yield _row("test_r2", "sort and read", "ceiling", 1.0)
    for model in study.config["models"]:
        bound = model_ceiling(model, length, n_markers)
        if bound is not None:
            yield _row("test_r2", "order inside a chunk unknown", "ceiling", bound, model)


def _forrelation(study: Study, length: int) -> Iterator[dict[str, Any]]:
    yield _row("test_acc", "one class predicted", "floor", 0.5)
    known = known_datasets()
    known = known[known["dataset_sha256"].isin(_forrelation_sha256(study, length))]
    for solver, role in (("linear", "mark"), ("table_ridge", "mark"), ("plug_in", "ceiling")):
        scores = known[known["solver"] == solver]["score"]
        if len(scores):
            yield _row("test_acc", solver.replace("_", " "), role, float(scores.mean()), n=len(scores))


def _forrelation_sha256(study: Study, length: int) -> set[str]:
    """Hashes of the study's Forrelation datasets of one length that are published ones."""
    ours = {study.dataset("forrelation", length, seed).identity_json for seed in study.config["seeds"]}
    return {published_sha256()[identity] for identity in ours if identity in published_sha256()}


def solvers_of_study(study: Study) -> pd.DataFrame:
    """Rows of `scores_by_training_size` on the study's own Forrelation datasets."""
    known = scores_by_training_size()
    lengths = study.config["tasks"].get("forrelation", {}).get("lengths", ())
    return known[known["dataset_sha256"].isin({sha for length in lengths
                                               for sha in _forrelation_sha256(study, length)})]


def selection_floors(n_items: int, repetitions: int = 20_000) -> pd.DataFrame:
    """Return what models at exact chance report when the best epoch is chosen on their test set of `n_items`.

    One row a lag-one correlation of the epoch accuracies, which is unknown: the mean over runs, the SD of a mean of
    nine runs, and the best of 9 and of 108 runs. The same numbers every time.
    """
    rows = [{"correlation": rho, **vars(selection_floor(n_items, rho, repetitions))} for rho in EPOCH_CORRELATIONS]
    return pd.DataFrame(rows)


def share_of_way(score: float, floor: float, ceiling: float) -> float:
    """Return how far a raw score has come from floor to ceiling: 0 at the floor, 1 at the ceiling, below 0 under it."""
    return (score - floor) / (ceiling - floor) if ceiling != floor else math.nan


def shares(runs: pd.DataFrame, study: Study) -> pd.DataFrame:
    """Return one row a run: `model, task, length, seed, score, floor, ceiling, share, ceiling_name`.

    The ceiling is the model's own where it has one, else the task's; a run without a score is left out.
    """
    table = references(study)
    rows = []
    for run in runs.to_dict("records"):
        own = table[(table["task"] == run["task"]) & (table["length"] == run["length"])]
        if own.empty or pd.isna(run[own["metric"].iloc[0]]):
            continue
        floor = float(own[own["role"] == "floor"]["value"].iloc[0])
        ceilings = own[(own["role"] == "ceiling") & own["model"].isin(["all", run["model"]])]
        if ceilings.empty:
            continue
        best = ceilings.iloc[-1]      # a model's own bound comes after the task's
        score, ceiling = float(run[own["metric"].iloc[0]]), float(best["value"])
        rows.append({**{key: run[key] for key in CELL}, "score": score, "floor": floor,
                     "ceiling": ceiling, "share": share_of_way(score, floor, ceiling),
                     "ceiling_name": best["reference"]})
    return pd.DataFrame(rows, columns=["model", "task", "length", "seed", "score", "floor", "ceiling", "share",
                                       "ceiling_name"])
