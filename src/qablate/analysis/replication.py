"""Runs of this package beside the means that the founding document printed: independent code on equal datasets.

Not a recomputation (`reproduction` does that from the published files): these runs were trained anew.
"""

import math
from typing import Any

import pandas as pd

from qablate.analysis.formats import METRIC_NAMES, significant
from qablate.analysis.legacy import legacy_scores
from qablate.analysis.old_table import MODEL, Column, Content, number, text
from qablate.analysis.reproduction import MEAN_METRICS, Row, reported_rows
from qablate.analysis.runs import CELL, Collection
from qablate.analysis.summary import distinct
from qablate.catalog import task_info

R2_MARGIN = 0.05
MSE_FACTOR = 3.0
MSE_SOLVED = 5e-4
"""Errors below this count as equal: both models solve the task, and the document printed one digit of them."""
ACCURACY_MARGIN = 0.02
TASKS = ("adding_problem", "selective_copy", "forrelation")


def agree(metric: str, published: float, found: float) -> bool:
    """Whether two means agree by the margins above.

    Those of MSE and R² were set before any run was made; that of accuracy after the first runs of Forrelation, so that
    it describes and tests nothing.
    """
    if metric == "test_mse":
        solved = max(published, found) < MSE_SOLVED
        return solved or (published > 0 and abs(math.log(found / published)) <= math.log(MSE_FACTOR))
    return abs(found - published) <= (R2_MARGIN if metric == "test_r2" else ACCURACY_MARGIN)


def new_runs_beside_published(collection: Collection) -> Content:
    """One row a printed mean that new runs exist for: both values, the runs behind them, and whether they agree.

    Forrelation is held against the score that the same runs report by the published rule, over the lengths they have.
    """
    scores = _new_scores(collection)
    rows = [row for printed in reported_rows() if (row := _compared(scores, printed)) is not None]
    if collection.study.recipe != "published" or not rows:
        return Content(pd.DataFrame(), ())
    rows.sort(key=lambda row: (TASKS.index(row["task_id"]), row["model"], row["lengths"]))
    return Content(pd.DataFrame(rows), (
        text("task"), MODEL, text("L", "lengths"), text("metric"), text("printed"), number("n there", "published_n"),
        Column("new mean", "mean", significant, sd="sd"), number("n"), text("verdict"),
    ))


def _new_scores(collection: Collection) -> pd.DataFrame:
    """Columns model, task, length, seed, metric, score: one row a run of schema 2 and metric; Forrelation biased."""
    runs = collection.complete_runs
    runs = runs[(runs["schema_version"] == 2) & (runs["task"] != "forrelation")]
    long = runs.melt(CELL, ["test_mse", "test_r2"], "metric", "score")
    legacy = legacy_scores(collection)
    legacy = legacy[legacy["origin"] == "ours"].assign(task="forrelation", metric="test_acc")
    return pd.concat([long, legacy[[*CELL, "metric", "score"]]], ignore_index=True)


def _compared(scores: pd.DataFrame, printed: Row) -> dict[str, Any] | None:
    """A printed mean of one model beside new runs of it; None for other rows and where there is no new run."""
    metric, task, length = MEAN_METRICS.get(printed["metric"]), printed["task"], printed["seq_len"]
    over_lengths = length == "all"
    if metric is None or not printed["n"] or over_lengths != (task == "forrelation"):
        return None
    found = scores[(scores["model"] == printed["model_id"]) & (scores["task"] == task) & (scores["metric"] == metric)]
    found = found if over_lengths else found[found["length"] == int(length)]
    if found.empty:
        return None
    published, mean = float(printed["value"]), float(found["score"].mean())
    return {
        "task_id": task, "task": task_info(task).title, "model": printed["model_id"],
        "lengths": distinct(found["length"]),
        "metric": METRIC_NAMES[metric] + (", biased" if task == "forrelation" else ""),
        "printed": printed["printed"], "published": published, "published_n": int(printed["n"]),
        "mean": mean, "sd": found["score"].std() if len(found) > 1 else None, "n": len(found),
        "verdict": "agrees" if agree(metric, published, mean) else "differs",
    }
