"""Tables that compare kinds of models, and lengths: only cells that all compared models have enter a mean."""

import math

import numpy as np
import pandas as pd

from qablate.analysis.formats import METRIC_FORMATS, METRIC_NAMES, fixed, percent, signed, significant, whole
from qablate.analysis.old_table import MODEL, TASK, Column, Content, number, text
from qablate.analysis.runs import ARCHITECTURES, Collection
from qablate.analysis.summary import common_blocks
from qablate.catalog import model_info, task_info

LEAST_COVERAGE = 0.5
COMPARED = {"forrelation": "test_acc", "adding_problem": "test_r2", "selective_copy": "test_r2"}
"""Metrics as the published comparisons have them."""


def kinds_of_models(collection: Collection, key: str) -> Content:
    """One row a kind and task: mean of its models' means over the common blocks; `key` is architecture or group.

    A kind is never represented by one of its models: below two models with runs it has no mean.
    """
    rows = [row for task in collection.tasks for row in _kinds(collection, task, key)]
    table = pd.DataFrame(rows)
    if not table["runs"].any():
        return Content(table.iloc[:0], ())
    mean = Column("mean", "mean", fixed(4), sd="sd", state="state", faint="few")
    return Content(table, (
        number(key, show=whole) if key == "group" else text(key), TASK, text("metric"), mean,
        number("lowest model", "lowest", fixed(4)), number("highest model", "highest", fixed(4)), text("models"),
        number("blocks"), number("runs in the mean", "n"), number("runs"), number("planned"),
        number("coverage", show=percent),
    ))


def _kinds(collection: Collection, task: str, key: str) -> list[dict[str, object]]:
    metric = COMPARED[task]
    complete, cells = collection.scored(task, metric), collection.cells_of(task)
    common = common_blocks(collection, task, metric)
    kinds = sorted({getattr(model_info(model), key) for model in collection.models},
                   key=lambda kind: ARCHITECTURES.index(kind) if key == "architecture" else kind)
    rows = []
    for kind in kinds:
        ids = [model for model in collection.models if getattr(model_info(model), key) == kind]
        of_kind = common[common["model"].isin(ids)]
        means = of_kind.groupby("model")[metric].mean()
        runs, planned = int(complete["model"].isin(ids).sum()), int(cells["model"].isin(ids).sum())
        enough = len(means) > 1
        rows.append({
            key: kind, "task": task, "title": task_info(task).title, "metric": METRIC_NAMES[metric],
            "mean": means.mean() if enough else math.nan, "sd": means.std() if enough else math.nan,
            "lowest": means.min(), "highest": means.max(), "models": ", ".join(means.index) or None,
            "n_models": len(ids),
            "blocks": len(of_kind.groupby(["length", "seed"])), "n": len(of_kind), "runs": runs, "planned": planned,
            "coverage": runs / planned, "few": runs / planned < LEAST_COVERAGE,
            "state": "" if enough else _why_no_mean(runs, list(means.index)),
        })
    return rows


def _why_no_mean(runs: int, models: list[str]) -> str:
    if not runs:
        return "no result"
    return f"{models[0]} alone" if models else "no common block"


def scaling(collection: Collection, task: str) -> Content:
    """One row a model: metric at both ends, change, slope of its logarithm, markers a step, chunk."""
    metric = task_info(task).metric
    runs = collection.scored(task, metric)
    lengths = collection.lengths(task)
    rows = [_scaling_row(model, runs[runs["model"] == model].pivot(index="seed", columns="length", values=metric)
                         .reindex(columns=lengths)) for model in collection.models]
    table = pd.DataFrame(rows)
    if not table["n"].any():
        return Content(table.iloc[:0], ())
    markers = collection.shortest_dataset(task).parameters.get("n_markers")
    density: tuple[Column, ...] = ()
    if markers is not None:
        table["markers_first"], table["markers_last"] = float(markers) / lengths[0], float(markers) / lengths[-1]
        density = (number("markers per step, shortest", "markers_first", significant),
                   number("markers per step, longest", "markers_last", significant))
    ends = {f"L{lengths[0]}": table.pop("first"), f"L{lengths[-1]}": table.pop("last")}
    table = table.assign(**ends)
    show = METRIC_FORMATS[metric]
    return Content(table, (
        MODEL, *(number(key.replace("L", "at L "), key, show, "state") for key in ends),
        number("seeds with both", "n"), number("change, %", "change", signed(1), "change_state"),
        Column("slope", "slope", signed(3), sd="slope_sd", state="slope_state"),
        number("seeds of the slope", "slope_n"), *density, number("chunk", show=whole),
    ))


def _scaling_row(model: str, scores: pd.DataFrame) -> dict[str, object]:
    """Ends on the seeds that have both; slopes of the seeds that have every length and positive scores only."""
    ends = scores.iloc[:, [0, -1]].dropna()
    first, last = ends.iloc[:, 0].mean(), ends.iloc[:, 1].mean()
    whole_seeds = scores.dropna() if scores.shape[1] > 1 else scores.iloc[:0]
    positive = whole_seeds[(whole_seeds > 0).all(axis=1)]
    slopes = _slopes(positive)
    comparable = len(ends) > 0 and first > 0 and scores.shape[1] > 1
    return {
        "model": model, "first": first, "last": last, "n": len(ends), "chunk": model_info(model).chunk,
        "change": 100 * (last - first) / first if comparable else math.nan,
        "slope": slopes.mean(), "slope_sd": slopes.std(), "slope_n": len(slopes),
        "state": "" if len(ends) else "no seed with both",
        "change_state": "" if comparable or not len(ends) else _why_no_change(scores),
        "slope_state": "" if len(slopes) else "score not positive" if len(whole_seeds) else "no seed with all lengths",
    }


def _why_no_change(scores: pd.DataFrame) -> str:
    return "one length" if scores.shape[1] < 2 else "score not positive"


def _slopes(scores: pd.DataFrame) -> pd.Series:
    """Least-squares slope of log score on log length for each seed (row)."""
    if scores.empty:
        return pd.Series(dtype="float64")
    x = np.log(scores.columns.to_numpy(dtype=np.float64))
    y = np.log(scores.to_numpy(dtype=np.float64))
    return pd.Series(np.polynomial.polynomial.polyfit(x, y.T, 1)[1], index=scores.index)
