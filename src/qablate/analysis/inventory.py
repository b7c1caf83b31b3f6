"""Tables of what was run and what it took: models and their measured parameters, settings, cost."""

from typing import Any

import numpy as np
import pandas as pd

from qablate.analysis.formats import fixed, integer, significant, whole
from qablate.analysis.hours import HOUR
from qablate.analysis.old_table import LENGTH, MODEL, Column, Content, number, text
from qablate.analysis.runs import CELL, Collection
from qablate.analysis.summary import WORDS, distinct, models_frame
from qablate.catalog import task_info

SHORT = {"forrelation": "F", "adding_problem": "A", "selective_copy": "S"}


def models(collection: Collection) -> Content:
    """One row a model: group, factors and chunk."""
    table = models_frame(collection, "name", "group", "features", "mixing", "architecture", "chunk")
    table = table.replace({"features": "_", "mixing": "_"}, " ", regex=True)
    return Content(table, (
        number("group", show=whole), MODEL, text("name"), text("features"), text("mixing"), text("architecture"),
        number("chunk", show=whole),
    ))


def parameters(collection: Collection) -> Content:
    """One row a model: total parameters per task and length, trainable ones per task, as its results report them."""
    table = pd.DataFrame({"model": collection.models})
    columns: list[Column] = [MODEL]
    for task in collection.tasks:
        of_task = collection.runs_of(task)
        for length in collection.lengths(task):
            key, header = f"{task}_L{length}", f"{SHORT[task]} L {length}"
            of_length = of_task[of_task["length"] == length].groupby("model")["n_params"]
            columns.append(_range_column(table, key, header, of_length, _states(collection, task, length)))
        trainable = of_task.groupby("model")["n_params_trainable"]
        columns.append(_range_column(table, f"{task}_trainable", f"{SHORT[task]} trainable", trainable,
                                     _states(collection, task, None)))
    return Content(table, tuple(columns))


def _range_column(table: pd.DataFrame, key: str, header: str, grouped: Any, states: pd.Series) -> Column:
    """Add smallest, largest and the text of both to `table`; runs of one cell group must agree, and it shows if not."""
    table[f"{key}_min"] = table["model"].map(grouped.min()).astype("float64")
    table[f"{key}_max"] = table["model"].map(grouped.max()).astype("float64")
    table[f"{key}_state"] = table["model"].map(states).where(table[f"{key}_min"].isna())
    table[key] = [_range_text(low, high) for low, high in zip(table[f"{key}_min"], table[f"{key}_max"], strict=True)]
    return Column(header, key, state=f"{key}_state")


def _range_text(low: float, high: float) -> str | None:
    if pd.isna(low):
        return None
    return integer(low) if low == high else f"{integer(low)} to {integer(high)}"


def _states(collection: Collection, task: str, length: int | None) -> pd.Series:
    """Say per model why there is no value: the state its cells share, or `no result`."""
    cells = collection.cells_of(task)
    cells = cells if length is None else cells[cells["length"] == length]
    states = cells.groupby("model")["state"]
    return states.agg(lambda found: WORDS[found.iloc[0]] if found.nunique() == 1 else "no result")


def settings(collection: Collection) -> Content:
    """One row a setting: the study's value, what the results hold, how many hold it, and whether they differ."""
    wanted = pd.DataFrame([
        {**vars(cell), "setting": key, "value": value}
        for cell in collection.study.cells for key, value in collection.study.settings_of(cell).items()
    ])
    found = collection.settings
    merged = wanted.merge(found, on=[*CELL, "setting"], how="inner", suffixes=("", "_found"))
    rows = _task_settings(collection)
    for key in wanted["setting"].unique():
        of_key = merged[merged["setting"] == key]
        rows.append(_setting_row(key, distinct(wanted.loc[wanted["setting"] == key, "value"]), of_key["value_found"],
                                 int((of_key["value"] != of_key["value_found"]).sum())))
    return Content(pd.DataFrame(rows), (
        text("setting"), text("study"), text("in the results", "results"),
        number("results that record it", "recorded"), number("of these differing", "differing"),
    ))


def _task_settings(collection: Collection) -> list[dict[str, Any]]:
    return [_setting_row("seeds", ", ".join(map(str, collection.seeds)), collection.runs["seed"])] + [
        _setting_row(f"tasks.{task}.lengths", ", ".join(map(str, collection.lengths(task))),
                     collection.runs_of(task)["length"]) for task in collection.tasks]


def _setting_row(setting: str, study: str, found: pd.Series, differing: int = 0) -> dict[str, Any]:
    return {"setting": setting, "study": study, "results": distinct(found) or None, "recorded": len(found),
            "differing": differing}


def cost(collection: Collection) -> Content:
    """One row a model and length: seconds per epoch, epochs used per task, hours spent, cells and hours left."""
    keys = ["model", "length"]
    cells, runs = collection.cells, collection.runs
    table = pd.DataFrame({"planned": cells.groupby(keys).size()})
    grouped = runs.groupby(keys)
    table["runs"] = grouped.size()
    table["seconds_per_epoch"] = grouped["seconds_per_epoch"].median()
    table["devices"] = grouped["device_name"].agg(lambda names: distinct(names.dropna()) or None)
    for task in collection.tasks:
        table[f"{task}_epochs"] = collection.runs_of(task).groupby(keys)["epochs"].median()
    table["hours_spent"] = grouped["training_time"].sum() / HOUR
    table["runs"] = table["runs"].fillna(0).astype(int)
    table["missing"] = table["planned"] - table["runs"]
    table["hours_left"] = np.where(table["missing"] > 0, _hours_left(collection, keys).reindex(table.index), 0.0)
    table = table.reset_index()
    table["state"] = table["runs"].map(lambda runs: "no result" if runs == 0 else "")
    table["left_state"] = np.where(table["hours_left"].isna(), "no run to judge by", "")
    _add_epochs_states(collection, table)
    return Content(table, (
        MODEL, LENGTH, number("runs"),
        number("s per epoch", "seconds_per_epoch", significant, "state"), text("device", "devices"),
        *(number(f"epochs, {task_info(task).title}", f"{task}_epochs", fixed(1), f"{task}_epochs_state")
          for task in collection.tasks),
        number("hours spent", "hours_spent", significant, "state"), number("cells left", "missing"),
        number("hours left", "hours_left", significant, "left_state"),
    ))


def _hours_left(collection: Collection, keys: list[str]) -> pd.Series:
    """Sum over tasks of missing cells times the mean hours of a finished one; empty where a task has none."""
    by_task = [*keys, "task"]
    planned = collection.cells.groupby(by_task).size()
    finished = collection.runs.groupby(by_task)["training_time"].agg(["size", "mean"]).reindex(planned.index)
    missing = planned - finished["size"].fillna(0)
    hours = (missing * finished["mean"] / HOUR).where(missing > 0, 0.0)
    return hours.groupby(keys).agg(lambda values: values.sum(skipna=False))


def _add_epochs_states(collection: Collection, table: pd.DataFrame) -> None:
    for task in collection.tasks:
        planned = set(collection.lengths(task))
        table[f"{task}_epochs_state"] = [
            "not planned" if length not in planned else "no result" for length in table["length"]]
