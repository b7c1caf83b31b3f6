"""Agreement with the means that the founding document printed, and between systems."""

import math

import pandas as pd

from qablate.analysis.bounds import golden
from qablate.analysis.collect import CELL, Runs
from qablate.analysis.formats import metric_name, significant
from qablate.analysis.table import Table, cell_columns, written
from qablate.catalog import TASKS, task_info

R2_MARGIN = 0.05
MSE_FACTOR = 3.0
MSE_SOLVED = 5e-4
"""Errors below this count as equal: both models solve the task, and the document printed one digit of them."""
ACCURACY_MARGIN = 0.02


def printed_rows(runs: Runs) -> pd.DataFrame:
    """The means that the founding document printed: `model, task, seq_len, metric, published, n, printed`.

    None for another study than the published one.
    """
    rows = golden("reported_2026-01-18.csv", dtype=str, keep_default_na=False)
    kept = (rows["value"] != "") & rows["metric"].str.endswith("_mean") & (rows["n"] != "")
    rows = rows[kept & (runs.study.recipe == "published")].rename(columns={"model_id": "model"})
    return rows.assign(metric=rows["metric"].str.removesuffix("_mean"), published=rows["value"].astype(float))


def printed_means(runs: Runs, task: str, metric: str) -> pd.Series:
    """The printed means over all lengths by model."""
    rows = printed_rows(runs)
    rows = rows[(rows["task"] == task) & (rows["metric"] == metric) & (rows["seq_len"] == "all")]
    return rows[rows["model"].isin(runs.models)].groupby("model")["published"].first()


def agree(metric: str, published: float, found: float) -> bool:
    """Whether two means agree by the margins above.

    Those of MSE and R² were set before any run was made; that of accuracy after the first runs of Forrelation, so that
    it describes and tests nothing.
    """
    if metric == "test_mse":
        solved = max(published, found) < MSE_SOLVED
        return solved or (min(published, found) > 0 and abs(math.log(found / published)) <= math.log(MSE_FACTOR))
    return abs(found - published) <= (R2_MARGIN if metric == "test_r2" else ACCURACY_MARGIN)


def published_means(runs: Runs) -> Table:
    """One row per printed mean that new runs exist for: both values, the runs behind them, whether they agree.

    Forrelation is held against the score that the same runs report by the published rule, over the lengths they have.
    """
    valid = runs.table[runs.table["valid"] & (runs.table["schema_version"] == 2)]
    new = valid[valid["task"] != "forrelation"].melt(CELL, ["test_mse", "test_r2"], "metric", "score")
    ours = runs.selected[runs.selected["origin"] == "ours"].assign(metric="test_acc", seq_len="all")
    new = pd.concat([new.assign(seq_len=new["length"].astype(str)), ours])
    keys = ["task", "model", "metric", "seq_len"]
    means = new.groupby(keys)["score"].agg(mean=pd.Series.mean, sd=pd.Series.std, n="count")
    of_cells = new.groupby(keys)["length"]
    means["shortest"], means["lengths"] = of_cells.min(), of_cells.agg(
        lambda found: ", ".join(map(str, sorted(found.unique()))))
    frame = printed_rows(runs).rename(columns={"n": "published_n"}).merge(means.reset_index(), on=keys)
    frame["published_n"] = frame["published_n"].astype(int)
    frame["verdict"] = ["agrees" if agree(row.metric, row.published, row.mean) else "differs"
                        for row in frame.itertuples()]
    frame["last"] = frame["metric"] == "test_acc"
    frame = frame.sort_values(["last", "task", "model", "shortest"], kind="stable", ignore_index=True)
    frame = frame[["task", "model", "metric", "lengths", "printed", "published", "published_n", "mean", "sd", "n",
                   "verdict"]]
    shown = pd.DataFrame([{
        "task": task_info(row["task"]).title, "model": row["model"], "L": row["lengths"],
        "metric": metric_name(row["metric"]) + (", test-selected" if row["task"] == "forrelation" else ""),
        "printed": row["printed"], "n (printed)": row["published_n"],
        "new mean": significant(row["mean"]) + ("" if pd.isna(row["sd"]) else f" ± {significant(row['sd'])}"),
        "n": row["n"], "verdict": row["verdict"]} for row in frame.to_dict("records")]).astype(str)
    return Table("published_means", "Published means",
                 "Runs trained with this package next to the means printed on 2026-01-18, same cells. Agree: R² within "
                 "0.05, MSE within a factor of 3 or both below 0.0005, accuracy within 0.02 (set after the first runs; "
                 "describes, tests nothing). Forrelation: test-selected score, over the lengths that were run.",
                 frame, shown)


def agreement_line(runs: Runs) -> str:
    """One sentence for the first page: how many printed means agree; empty where there are none to compare."""
    table = published_means(runs).frame
    honest = table[table["task"] != "forrelation"]
    if honest.empty:
        return ""
    agreeing = (honest["verdict"] == "agrees").sum()
    return (f"{agreeing} of {len(honest)} published means of the same cells agree with ours "
            "([Details](report/details.md#published-means)).")


def cross_system(runs: Runs) -> Table:
    """One row per cell and two results of it: the primary metric on both systems and the difference."""
    columns = [*CELL, "metric", "system_a", "value_a", "system_b", "value_b", "difference", "path_a", "path_b"]
    pairs = runs.pairs.reindex(columns=columns)
    primary = pairs["task"].map({task: info.metric for task, info in TASKS.items()})
    frame = pairs[pairs["metric"] == primary].reset_index(drop=True)
    shown = pd.DataFrame({
        **cell_columns(frame), "metric": [metric_name(metric) for metric in frame["metric"]],
        "system": frame["system_a"], "value": written(frame["value_a"]),
        "other system": frame["system_b"], "its value": written(frame["value_b"]),
        "difference": written(
            frame["difference"], lambda value: "+" * (value > 0) + significant(value))})
    caption = ("Two results of one cell with different numbers, copies left out. The first is used, by declared order, "
               "never an average." if len(frame) else "No cell has two results with different numbers.")
    return Table("cross_system", "Cells trained more than once", caption, frame, shown)
