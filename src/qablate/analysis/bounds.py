"""What a score is to be compared with: baselines, upper bounds, the solvers of Forrelation, a constant class.

A baseline is what a constant prediction reaches, an upper bound what is possible with what a model can know. Every
value is computed: closed forms, exact sums over the places of the markers, or solvers run on the datasets.
"""

import functools
import io
import itertools
import math
from collections import Counter
from collections.abc import Iterator
from math import comb
from typing import Any

import numpy as np
import pandas as pd

from qablate.catalog import TASKS, model_info, task_info
from qablate.files import packaged_text
from qablate.study import PUBLISHED_SAMPLES, Study, published_sha256, split_sizes
from qablate.tasks.solvers import chunk_ceiling, position_readout_limit

MEAN_OF_UNIFORM_SUM = 1 / 6
"""MSE of predicting the mean of the sum of two uniform values; one of them known leaves half of it."""
ORDER_LOST_INSIDE_CHUNK = ("1a", "1b", "1c", "2a")
"""Models that pool every chunk before any position enters: the order of its steps does not reach the output."""
ORDER_OF_CHUNKS_LOST = ("2d", "2e")
"""Models that do not see the order of their full chunks either."""
CHUNKED_IN_BOTH_DIRECTIONS = ("1c",)
"""These pool the reversed sequence too, cut anew, so that a step is known by the cells of both cuttings."""
COLUMNS = ("task", "length", "model", "role", "reference", "value", "n")


def baseline(task: str) -> float:
    """Score of a constant prediction on the task's metric, in expectation: 1/6, 0, .5."""
    if task_info(task).id == "adding_problem":      # the catalog has the rounded number that the published files carry
        return MEAN_OF_UNIFORM_SUM
    return 0.0 if TASKS[task].metric == "test_r2" else TASKS[task].nominal_baseline


def upper_bound(study: Study, task: str, length: int, model: str = "") -> float | None:
    """Best score on the task's metric that is possible at a length, for one model if its chunks limit it; else None.

    Forrelation: what the plug-in statistic reaches on the study's own datasets, where they are published ones.
    """
    if task_info(task).id == "selective_copy":
        own = chunk_bound(study, model, task, length) if model else None
        return 1.0 if own is None else own
    if task == "forrelation":
        scores = _solved(study, length)
        return float(scores["plug_in"].mean()) if len(scores) else None
    return 0.0 if task_info(task).id == "adding_problem" else None


def normalized_score(scores: pd.Series, lowest: float | pd.Series, highest: pd.Series) -> pd.Series:
    """0 at the baseline, 1 at the upper bound; negative for a score worse than the baseline."""
    return (scores - lowest) / (highest - lowest)


def references(study: Study) -> pd.DataFrame:
    """One row (`COLUMNS`) per baseline, mark and upper bound of the study's tasks and lengths.

    `model` is "all" unless the value belongs to one model; `role` is baseline, mark (what a partial solution reaches)
    or upper bound; `n` counts the datasets behind a measured value and is 0 for a closed form.
    """
    rows = [(task, length, *row) for task, settings in study.config["tasks"].items()
            for length in sorted(settings["lengths"]) for row in _references(study, task, length)]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _references(study: Study, task: str, length: int) -> Iterator[tuple[str, str, str, float, int]]:
    parameters = study.dataset(task, length, study.config["seeds"][0]).parameters
    if task == "adding_problem":
        yield "all", "baseline", "mean predicted", MEAN_OF_UNIFORM_SUM, 0
        if parameters["placement"] == "extremes":
            share = 1 / max(1, length // 10)
            yield "all", "mark", "markers ignored, outer tenths averaged", MEAN_OF_UNIFORM_SUM * (1 - share), 0
        yield "all", "mark", "one of two values known", MEAN_OF_UNIFORM_SUM / 2, 0
        yield "all", "upper bound", "sum of value times marker", 0.0, 0
    elif task == "selective_copy":
        n_markers = int(parameters["n_markers"])
        yield "all", "baseline", "mean predicted", 0.0, 0
        yield "all", "mark", "mean of the marked values for every output", 1 / n_markers, 0
        yield "all", "mark", "best additive read-out by position", position_readout_limit(n_markers), 0
        yield "all", "upper bound", "sort and read", 1.0, 0
        for model in study.config["models"]:
            if (value := chunk_bound(study, model, task, length)) is not None:
                lost = "of chunks" if model_info(model).id in ORDER_OF_CHUNKS_LOST else "inside a chunk"
                yield model, "upper bound", f"order {lost} unknown", value, 0
    elif task == "forrelation":
        yield "all", "baseline", "one class predicted", 0.5, 0
        scores = _solved(study, length)
        for solver, role in (("linear", "mark"), ("table_ridge", "mark"), ("plug_in", "upper bound")):
            if len(scores):
                yield "all", role, solver.replace("_", " "), float(scores[solver].mean()), len(scores)


def chunk_bound(study: Study, model: str, task: str, length: int) -> float | None:
    """Largest R2 on Selective Copy that a model's chunks allow, or None where they do not limit it."""
    info, chunk = model_info(model), study.chunk(model, length)
    n_markers = int(study.dataset(task, length, study.config["seeds"][0]).parameters["n_markers"])
    if info.id in ORDER_OF_CHUNKS_LOST:
        return order_lost_bound(length, chunk, n_markers)
    pooled = info.chunk == 1 < chunk    # the variants of models without chunks get a pool in front
    if info.id not in ORDER_LOST_INSIDE_CHUNK and not pooled:
        return None
    return chunk_ceiling(length, chunk, n_markers, info.id in CHUNKED_IN_BOTH_DIRECTIONS)


@functools.cache
def order_lost_bound(length: int, chunk: int, n_markers: int = 8) -> float:
    """Largest R2 on Selective Copy if the order of full chunks is lost too; a short last chunk is known by its length.

    Full chunks may then be in any order, and the best output is the mean of the chunks' means weighted with the
    probability that a chunk covers it. Exact: the sum over all ways to divide the markers among the chunks.
    """
    n_full, rest = divmod(length, chunk)
    total = 0.0
    for last in range(min(rest, n_markers) + 1):
        for sizes in _partitions(n_markers - last, chunk):
            if len(sizes) <= n_full:
                orders = math.perm(n_full, len(sizes)) // math.prod(map(math.factorial, Counter(sizes).values()))
                ways = comb(rest, last) * orders * math.prod(comb(chunk, size) for size in sizes)
                total += ways * _explained(sizes, last)
    return total / comb(length, n_markers) / n_markers


def _partitions(total: int, largest: int) -> Iterator[tuple[int, ...]]:
    """All ways to write a number as a sum of parts of at most `largest`, parts descending."""
    if total == 0:
        yield ()
    for first in range(min(total, largest), 0, -1):
        yield from ((first, *others) for others in _partitions(total - first, first))


def _explained(sizes: tuple[int, ...], last: int) -> float:
    """Sum over outputs and chunks of P(chunk covers output)^2 / markers in the chunk; `last` markers close the row."""
    total = 1.0 if last else 0.0     # the mean of the last chunk explains 1/m of each of its m outputs
    for i, size in enumerate(sizes):
        others = sizes[:i] + sizes[i + 1:]
        starts = np.zeros(sum(sizes))
        for n_before in range(len(others) + 1):
            weight = 1 / (len(sizes) * comb(len(others), n_before))
            for before in itertools.combinations(others, n_before):
                starts[sum(before)] += weight
        covers = np.convolve(starts, np.ones(size))[: sum(sizes)]
        total += float((covers**2).sum()) / size
    return total


@functools.cache
def known_datasets() -> pd.DataFrame:
    """What the solvers of `qablate.tasks.solvers.solver_accuracies` reach on the published Forrelation datasets.

    One row per dataset and solver: `solver, task, length, seed, score, dataset_sha256`, and the labels of its items:
    `n_test, test_positives, n_val, val_positives`.
    """
    return golden("forrelation_solvers.csv")


@functools.cache
def scores_by_training_size() -> pd.DataFrame:
    """The same solvers with the first `n_train` of the training items, all of them last."""
    n_train, _, _ = split_sizes(PUBLISHED_SAMPLES)
    return pd.concat([golden("forrelation_training_sizes.csv"), known_datasets().assign(n_train=n_train)],
                     ignore_index=True)


def golden(name: str, **options: Any) -> pd.DataFrame:
    """A table of known facts that ships with the package; `options` are those of `pandas.read_csv`."""
    return pd.read_csv(io.StringIO(packaged_text(f"goldens/{name}")), **options)


def solvers_of_study(study: Study) -> pd.DataFrame:
    """Rows of `scores_by_training_size` on the study's own Forrelation datasets."""
    known, ours = scores_by_training_size(), {published_sha256().get(spec.identity_json) for spec in study.datasets}
    return known[known["dataset_sha256"].isin(ours)]


def _solved(study: Study, length: int) -> pd.DataFrame:
    """Accuracy of each solver (columns) with all training items on the study's datasets of one length (rows)."""
    known = solvers_of_study(study)
    known = known[(known["length"] == length) & (known["n_train"] == known["n_train"].max())]
    return known.pivot(index="seed", columns="solver", values="score")


def constant_class() -> pd.DataFrame:
    """What predicting one class reaches on the published Forrelation datasets, one row per dataset (`length, seed`).

    `honest`: the class that is more frequent in the validation items, on the test items. `published_rule`: the better
    class on validation and test items together, which the published code selected and reported on.
    """
    known = known_datasets().drop_duplicates("dataset_sha256")
    ones = known["test_positives"] / known["n_test"]
    both = (known["test_positives"] + known["val_positives"]) / (known["n_test"] + known["n_val"])
    return pd.DataFrame({"length": known["length"], "seed": known["seed"],
                         "honest": ones.where(2 * known["val_positives"] > known["n_val"], 1 - ones),
                         "published_rule": both.where(both >= 0.5, 1 - both)}).reset_index(drop=True)
