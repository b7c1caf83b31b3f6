"""What the finished cells took, beside what the plan said and what the published code needs for the same epochs."""

import io
from typing import Any

import pandas as pd

from qablate.analysis.formats import significant
from qablate.analysis.hours import HOUR, cost_table
from qablate.analysis.runs import Collection
from qablate.analysis.summary import distinct
from qablate.analysis.table import MODEL, Column, Content, number, text
from qablate.files import packaged_text
from qablate.hours import MEASURED_ITEMS


def published_epochs() -> pd.DataFrame:
    """Seconds per epoch of the published code on an A100 80 GB: `model`, `length`, `seconds_per_epoch`, `basis`.

    4,000 training items in batches of 32. `basis` is `log` for the median of run logs, else `estimate` (good to about
    a factor of two). Source: logs of the founding study, January 2026.
    """
    return pd.read_csv(io.StringIO(packaged_text("goldens/published_epochs.csv")))


def cost_by_model(collection: Collection) -> Content:
    """One row a model, the sum last: runs, hours spent, hours planned, A100 hours of the published code and the ratio.

    Planned: the cost table's epochs, published numbers of epochs where it has none. Published code: its seconds per
    epoch on an A100 times the epochs that these runs used. Only for studies of the published size.
    """
    runs = collection.runs.merge(published_epochs(), on=["model", "length"], how="left", suffixes=("", "_published"))
    runs["spent"] = runs["training_time"] / HOUR
    runs["planned"] = _planned(collection, runs)
    of_published_size = 1.0 if collection.study.config["data"]["n_samples"] == MEASURED_ITEMS else float("nan")
    runs["published"] = of_published_size * runs["seconds_per_epoch_published"] * runs["epochs"] / HOUR
    models = [model for model in collection.models if (runs["model"] == model).any()]
    rows = [_row(model, runs[runs["model"] == model]) for model in models]
    frame = pd.DataFrame([*rows, _row("total", runs)] if rows else [])
    return Content(frame, (
        MODEL, number("runs"), text("device", "devices"),
        number("hours spent", "spent", significant), number("hours planned", "planned", significant),
        Column("A100 hours of the published code", "published", significant, faint="estimated"),
        Column("A100 hours an hour spent", "ratio", significant, faint="estimated"),
    ), n_foot=1 if rows else 0)


def _row(model: str, runs: pd.DataFrame) -> dict[str, Any]:
    spent, published = runs["spent"].sum(), runs["published"].sum(skipna=False)
    return {
        "model": model, "runs": len(runs), "devices": distinct(runs["device_name"].dropna()) or None,
        "spent": spent, "planned": runs["planned"].sum(skipna=False), "published": published,
        "ratio": published / spent if spent > 0 else None, "estimated": bool((runs["basis"] == "estimate").any()),
    }


def _planned(collection: Collection, runs: pd.DataFrame) -> list[float | None]:
    """Hours that the cost table gives each run on the device it had, before any result was known."""
    table = cost_table()
    limit, n_items = collection.study.config["training"]["max_epochs"], collection.study.config["data"]["n_samples"]
    estimates = [table.estimate(str(run["device_name"]), run["model"], run["task"], run["length"], limit, n_items)
                 for run in runs.to_dict("records")]
    return [estimate.seconds / HOUR if estimate else None for estimate in estimates]
