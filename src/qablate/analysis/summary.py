"""Means over seeds with what stands behind them: n, planned, spread, diverged runs, and why a cell is empty."""

import pandas as pd

from qablate.analysis.runs import Collection
from qablate.catalog import model_info

PARTS = ("mean", "sd", "n", "planned", "diverged", "state")
WORDS = {"missing": "missing", "checkpoint": "in training", "failed": "failed", "stale": "stale",
         "unreadable": "unreadable", "diverged": "diverged", "done": "not recorded", "no_improvement": "not recorded",
         "partial": "not recorded", "selected_on_test": "selected on test", "no_score": "no score",
         "quarantined": "quarantined", "rejected": "rejected"}


def by_length(collection: Collection, task: str, metric: str) -> pd.DataFrame:
    """Return one row a model and length with `PARTS`; sd is the sample standard deviation, empty below two runs.

    Only complete runs enter. `state` says in words why there is no mean.
    """
    keys = ["model", "length"]
    grouped = collection.scored(task, metric).groupby(keys)[metric]
    by_cell = collection.cells_of(task).groupby(keys)
    rows = pd.DataFrame({
        "planned": by_cell.size(),
        "diverged": by_cell["state"].agg(lambda states: int((states == "diverged").sum())),
        "state": by_cell["state"].agg(_words),
    })
    rows = rows.join(grouped.agg(mean="mean", sd="std", n="count"))
    rows["n"] = rows["n"].fillna(0).astype(int)
    rows["state"] = rows["state"].where(rows["n"] == 0)
    return rows.reset_index()[[*keys, *PARTS]]


def _words(states: pd.Series) -> str:
    counts = states.map(WORDS).value_counts()
    if len(counts) == 1:
        return str(counts.index[0])
    return ", ".join(f"{counts[word]} {word}" for word in sorted(counts.index))


def wide(rows: pd.DataFrame) -> pd.DataFrame:
    """Spread `by_length` rows: one row a model, columns `L100_mean`, `L100_sd`, ... for every length."""
    table = rows.pivot(index="model", columns="length", values=list(PARTS))
    table.columns = [f"L{length}_{part}" for part, length in table.columns]
    ordered = [f"L{length}_{part}" for length in sorted(rows["length"].unique()) for part in PARTS]
    table = table[ordered]
    numeric = [name for name in ordered if not name.endswith("_state")]
    return table.astype(dict.fromkeys(numeric, "float64")).reset_index()


def distinct(values: pd.Series) -> str:
    """Return the values of a column in words, each once and in order."""
    return ", ".join(str(value) for value in sorted(values.unique(), key=lambda value: (str(type(value)), value)))


def models_frame(collection: Collection, *attributes: str) -> pd.DataFrame:
    """Return one row a model of the study: `model`, and attributes of the catalog (`qablate.catalog.ModelInfo`)."""
    return pd.DataFrame({"model": collection.models} | {
        name: [getattr(model_info(model), name) for model in collection.models] for name in attributes})


def common_blocks(collection: Collection, task: str, metric: str) -> pd.DataFrame:
    """Return the complete runs of the blocks (length, seed) that every model with any complete run has.

    A mean over lengths is comparable between models on these only.
    """
    runs = collection.scored(task, metric)
    n_models = runs["model"].nunique()
    return runs.groupby(["length", "seed"]).filter(lambda block: block["model"].nunique() == n_models)


def common_mean(collection: Collection, task: str, metric: str) -> pd.DataFrame:
    """Return mean, sample standard deviation and number of blocks per model over the common blocks, all models."""
    grouped = common_blocks(collection, task, metric).groupby("model")[metric]
    table = grouped.agg(common_mean="mean", common_sd="std", blocks="count").reindex(collection.models)
    table["blocks"] = table["blocks"].fillna(0).astype(int)
    table["common_state"] = ["" if blocks else "no common block" for blocks in table["blocks"]]
    return table.rename_axis("model").reset_index()
