"""Every number of the published progress document of 2026-01-18, computed again from the runs it was made from.

Runs are the published files (schema 1) of the system that the document names, duplicates included, at its number of
runs; a mean over other runs is no reproduction. Settings and counts are held against the study.
"""

import csv
import functools
import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from statistics import fmean
from typing import NamedTuple

import pandas as pd

from qablate.analysis.formats import METRIC_NAMES, change, significant
from qablate.analysis.old_table import MODEL, Content, number, text
from qablate.analysis.runs import Collection
from qablate.analysis.systems import by_itself
from qablate.catalog import MODELS, model_info, task_info
from qablate.files import packaged_text
from qablate.importing import Verdict
from qablate.importing.goldens import published_parameters
from qablate.study import Cell

EQUAL, DIFFERS, CANNOT = "equal to printed digits", "differs", "cannot be recomputed"
NUMBER = re.compile(r"\d+(?:\.(\d+))?")
MEAN_METRICS = {"test_mse_mean": "test_mse", "test_r2_mean": "test_r2", "test_acc_mean": "test_acc"}
SETTINGS = {"n_qubits": ("model", "n_qubits"), "n_layers": ("model", "n_layers"), "d_model": ("model", "d_model"),
            "d_state": ("model", "d_state"), "n_epochs": ("training", "max_epochs"),
            "batch_size": ("training", "batch_size"), "learning_rate": ("training", "learning_rate"),
            "weight_decay": ("training", "weight_decay"), "early_stopping": ("training", "patience")}
Row = Mapping[str, str]


class Found(NamedTuple):
    """A recomputed value, the runs behind it, and a remark; no value with the reason why there is none."""

    value: float | None
    n: int | None = None
    remark: str = ""


@functools.cache
def reported_rows() -> tuple[Row, ...]:
    """The reported numbers, one a row; cells that were printed empty are left out."""
    rows = csv.DictReader(packaged_text("goldens/reported_2026-01-18.csv").splitlines())
    return tuple(row for row in rows if row["value"])


@dataclass(frozen=True)
class Published:
    """The published runs of a study by system, and how many of them the document's values rest on."""

    collection: Collection
    runs: Mapping[str, tuple[Verdict, ...]]
    reported_n: Mapping[tuple[str, str, str, str], int]

    @classmethod
    def of(cls, collection: Collection) -> "Published":
        """Collect the finished published runs, one a cell and system; scores selected on test items are among them."""
        found: dict[str, dict[Cell, Verdict]] = {}
        for verdict in map(by_itself, collection.merged.verdicts):
            if verdict.cell is not None and verdict.finishes and (verdict.record or {}).get("schema_version") == 1:
                found.setdefault(verdict.system, {}).setdefault(verdict.cell, verdict)
        n = {(row["system"], row["model_id"], row["task"], row["seq_len"]): int(row["n"])
             for row in reported_rows() if row["n"] and row["metric"] in MEAN_METRICS}
        return cls(collection, {system: tuple(runs.values()) for system, runs in found.items()}, n)

    def of_system(self, system: str) -> list[Verdict]:
        """The runs of one system, of all for `combined` and `both`: of a cell that two have, the one that is used."""
        if system not in ("combined", "both"):
            return list(self.runs.get(system, ()))
        by_cell: dict[Cell | None, Verdict] = {}
        for verdict in (verdict for runs in self.runs.values() for verdict in runs):
            if verdict.cell not in by_cell or verdict.chosen:
                by_cell[verdict.cell] = verdict
        return list(by_cell.values())

    def mean(self, row: Row, metric: str, model: str) -> Found:
        """Mean of one model in the row's task and length, over as many runs as the document's value has."""
        runs = [verdict for verdict in self.of_system(row["system"]) if _fits(verdict, row, model)
                and verdict.status != "diverged" and (verdict.record or {}).get(metric) is not None]
        wanted = self._wanted(row, model)
        files = [verdict for verdict in runs if verdict.reason != "from_log"]
        chosen = files if len(files) == wanted else runs
        if not chosen:
            return Found(None, 0, "no run")
        if wanted is not None and len(chosen) != wanted:
            return Found(None, len(chosen), f"{len(chosen)} runs here, {wanted} there")
        if wanted is None and len(chosen) < self._planned(row, model):
            return Found(None, len(chosen), f"{len(chosen)} of the planned runs here")
        return Found(fmean((verdict.record or {})[metric] for verdict in chosen), len(chosen))

    def _wanted(self, row: Row, model: str) -> int | None:
        """Runs behind the reported value of one model: its own row, or the per-task table of any system."""
        systems = (row["system"],) if row["system"] in self.runs else tuple(sorted({key[0] for key in self.reported_n}))
        return next((n for system in systems
                     if (n := self.reported_n.get((system, model, row["task"], row["seq_len"])))), None)

    def _planned(self, row: Row, model: str) -> int:
        return sum(_in_scope(cell, row, model) for cell in self.collection.study.cells)


def _fits(verdict: Verdict, row: Row, model: str) -> bool:
    return verdict.cell is not None and _in_scope(verdict.cell, row, model)


def _in_scope(cell: Cell, row: Row, model: str) -> bool:
    return (model in ("all", cell.model) and row["task"] in ("all", cell.task)
            and row["seq_len"] in ("all", str(cell.length)))


def _models(row: Row) -> list[str]:
    """Models that a row speaks of, those its note quotes before those its name covers."""
    if "SSM" in row["note"]:
        return [model for model in MODELS if model_info(model).architecture != "transformer"]
    quoted = row["note"].removeprefix("models quoted: ") if row["note"].startswith("models quoted: ") else ""
    kind, _, value = row["model_id"].partition(":")
    if quoted:
        return quoted.split(", ")
    if kind == "arch":
        return [model for model in MODELS if model_info(model).architecture == value]
    if kind == "group":
        return [model for model in MODELS if model_info(model).group == int(value)]
    return list(MODELS) if kind == "all" else row["model_id"].split()


def _over_models(published: Published, row: Row, metric: str, combine: Callable[[Iterable[float]], float]) -> Found:
    """Combine the means of the models that the document has a mean of; all of them must be recomputed."""
    reported = {key[1] for key, n in published.reported_n.items() if key[2] == row["task"] and n}
    found = [published.mean(row, metric, model) for model in _models(row) if model in reported]
    n = sum(mean.n or 0 for mean in found)
    values = [mean.value for mean in found if mean.value is not None]
    if len(values) < len(found) or not values:
        lacking = next((mean.remark for mean in found if mean.value is None), "no run")
        return Found(None, n, f"{len(values)} of {len(found)} models, {lacking}")
    return Found(combine(values), n, f"means of {len(values)} models")


def recompute(published: Published, row: Row) -> Found:
    """Compute one reported value again."""
    metric = row["metric"]
    if metric in MEAN_METRICS:
        one = row["model_id"] in MODELS
        return (published.mean(row, MEAN_METRICS[metric], row["model_id"]) if one
                else _over_models(published, row, MEAN_METRICS[metric], fmean))
    if metric in SETTINGS:
        section, key = SETTINGS[metric]
        return Found(float(published.collection.study.config[section][key]), None, "setting of the study")
    found = _BY_METRIC.get(metric)
    return found(published, row) if found else Found(None, None, "the queue of that day is not kept")


def _runs_done(published: Published, row: Row) -> Found:
    runs = published.of_system(row["system"])
    if not runs:
        return Found(None, 0, "no published run of this system")
    return Found(float(sum(_fits(run, row, row["model_id"]) for run in runs)))


def _runs_planned(published: Published, row: Row) -> Found:
    return Found(sum(_in_scope(cell, row, row["model_id"]) for cell in published.collection.study.cells), None,
                 "cells of the study")


def _percent_done(published: Published, row: Row) -> Found:
    done, planned = _runs_done(published, row), _runs_planned(published, row).value
    if done.value is None or not planned:
        return done
    return Found(100 * done.value / planned, None, "of the cells of the study")


def _nominal(published: Published, row: Row) -> Found:
    return Found(task_info(row["task"]).nominal_baseline, None, "nominal baseline")


def _percent_change(published: Published, row: Row) -> Found:
    first, last = row["seq_len"].split("->")
    ends = [published.mean({**row, "seq_len": length}, "test_r2", row["model_id"]) for length in (first, last)]
    if ends[0].value is None or ends[1].value is None:
        return Found(None, None, "one end cannot be recomputed")
    return Found(100 * (ends[1].value - ends[0].value) / ends[0].value, None, "from unrounded means")


def _best(published: Published, row: Row) -> Found:
    mean = published.mean(row, "test_acc", row["model_id"])
    if mean.value is None:
        return mean
    runs = [run for run in published.of_system(row["system"]) if _fits(run, row, row["model_id"])]
    return Found(max((run.record or {})["test_acc"] for run in runs), mean.n)


def _gain(published: Published, row: Row) -> Found:
    mean = published.mean(row, "test_acc", row["model_id"])
    return mean if mean.value is None else Found(100 * (mean.value / 0.5 - 1), mean.n)


def _rank(published: Published, row: Row) -> Found:
    means = {model: published.mean(row, "test_acc", model).value for model in MODELS}
    known = [value for value in means.values() if value is not None]
    own = means[row["model_id"]]
    if own is None or len(known) < len(means):
        return Found(None, None, f"means of {len(known)} of {len(means)} models")
    return Found(1 + sum(value > own for value in known), None, "by the unrounded mean")


def _n_params(published: Published, row: Row) -> Found:
    counts = {length: n for (model, task, length), n in published_parameters().items()
              if (model, task) == (row["model_id"], "forrelation")}
    return Found(float(counts[max(counts)]), None, "count of our model, longest Forrelation")


def _task_setting(published: Published, row: Row) -> Found:
    """A task's samples, lengths, seeds or markers; of a list, the value itself if it is in it."""
    config, value = published.collection.study.config, float(row["value"])
    task = config["tasks"].get(row["task"])
    if task is None:
        return Found(None, None, "task is not in the study")
    known = {"n_samples": [config["data"]["n_samples"]], "seq_len": task["lengths"], "seed": config["seeds"],
             "num_markers": [task.get("n_markers")]}[row["metric"]]
    return Found(value if value in known else math.nan, None, "setting of the study")


_BY_METRIC: Mapping[str, Callable[[Published, Row], Found]] = {
    "runs_done": _runs_done, "unique_runs_done": _runs_done, "runs_planned": _runs_planned,
    "percent_done": _percent_done, "test_mse": _nominal, "test_acc": _nominal, "percent_change": _percent_change,
    "test_acc_max": _best, "relative_gain_over_0.5_percent": _gain, "rank": _rank, "n_params": _n_params,
    **dict.fromkeys(("n_samples", "seq_len", "seed", "num_markers"), _task_setting),
    "test_acc_low": functools.partial(_over_models, metric="test_acc", combine=min),
    "test_acc_high": functools.partial(_over_models, metric="test_acc", combine=max),
    "test_r2_lower_bound": functools.partial(_over_models, metric="test_r2", combine=min),
    "test_acc_low_percent": lambda published, row: _in_percent(_over_models(published, row, "test_acc", min)),
    "test_acc_high_percent": lambda published, row: _in_percent(_over_models(published, row, "test_acc", max)),
}


def _in_percent(found: Found) -> Found:
    return found if found.value is None else found._replace(value=100 * found.value)


def verdict_of(row: Row, found: Found) -> str:
    """Compare at the digits that were printed; a lower bound is equal when it holds."""
    if found.value is None:
        return CANNOT
    value = float(row["value"])
    if row["metric"] == "test_r2_lower_bound" or "lower bound" in row["note"]:
        return EQUAL if found.value >= value else DIFFERS
    return EQUAL if abs(found.value - value) <= 0.5 * _step(row) * (1 + 1e-9) else DIFFERS


def _step(row: Row) -> float:
    """One unit of the last printed digit, on the scale of `value`."""
    match = NUMBER.search(row["printed"])
    decimals = len(match[1] or "") if match else 0
    return 10.0 ** -decimals * (1000 if re.search(r"\dK\b", row["printed"]) else 1)


def reproduction(collection: Collection) -> Content:
    """One row a reported value: what was recomputed, from how many runs, and the verdict; differences first."""
    if collection.study.recipe != "published":
        return Content(pd.DataFrame(columns=["system", "table", "model", "verdict"]), ())
    published = Published.of(collection)
    rows = []
    for row in reported_rows():
        found = recompute(published, row)
        rows.append({
            "system": row["system"], "table": row["table"], "model": row["model_id"], "task": row["task"],
            "length": row["seq_len"], "metric": row["metric"], "printed": row["printed"], "value": float(row["value"]),
            "reported_n": float(row["n"]) if row["n"] else math.nan, "recomputed": found.value, "n": found.n,
            "difference": None if found.value is None else found.value - float(row["value"]),
            "verdict": verdict_of(row, found), "remark": found.remark,
        })
    table = pd.DataFrame(rows).astype({"recomputed": "float64", "n": "float64", "difference": "float64"})
    order = table["verdict"].map({DIFFERS: 0, EQUAL: 1, CANNOT: 2})
    table = table.iloc[order.argsort(kind="stable")].reset_index(drop=True)
    return Content(table, (
        text("system"), text("table there", "table", _words), MODEL, text("task", show=_words), text("L", "length"),
        text("value", "metric", _words), text("printed"), number("recomputed", show=_number), number("n"),
        number("n there", "reported_n"), number("difference", show=change), text("verdict"), text("remark"),
    ))


def _words(name: str) -> str:
    """An id as words: `test_mse_mean` is `test MSE mean`."""
    found = METRIC_NAMES.get(name) or " ".join(name.split("_"))
    return found.replace(" mse", " MSE").replace(" r2", " R²")


def _number(value: float) -> str:
    return f"{value:,.0f}" if float(value).is_integer() else significant(value, 4)


def reproduction_summary(collection: Collection) -> Content:
    """One row a table of the document: values by verdict."""
    table = reproduction(collection).frame
    if table.empty:
        return Content(table, ())
    counts = pd.crosstab([table["system"], table["table"]], table["verdict"]).reindex(
        columns=[EQUAL, DIFFERS, CANNOT], fill_value=0).reset_index()
    counts.columns = ["system", "table", "equal", "differs", "cannot"]
    counts["values"] = counts[["equal", "differs", "cannot"]].sum(axis=1)
    counts.loc[len(counts)] = ["total", "", *counts[["equal", "differs", "cannot", "values"]].sum()]
    return Content(counts, (
        text("system"), text("table there", "table", _words), number("values"),
        number(EQUAL, "equal"), number(DIFFERS, "differs"), number(CANNOT, "cannot"),
    ), n_foot=1)
