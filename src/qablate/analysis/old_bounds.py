"""Tables of what scores are to be compared with: floors and ceilings, shares of the way, floors of a selected score."""

import pandas as pd

from qablate.analysis.ceilings import references, selection_floors, shares
from qablate.analysis.formats import METRIC_NAMES, fixed, percent, significant
from qablate.analysis.old_table import MODEL, TASK, Column, Content, number, text
from qablate.analysis.runs import Collection
from qablate.catalog import task_info

SOLVERS = {"linear": "ridge on the tables", "table ridge": "ridge on products of table entries",
           "plug in": "threshold on the plug-in Phi of the tables"}
"""What the solvers of Forrelation do (`qablate.tasks.solvers.forrelation_solvers`)."""


def floors_and_ceilings(collection: Collection) -> Content:
    """One row a reference value of a task and model, one column a length."""
    known = references(collection.study)
    keys = ["task", "metric", "model", "role", "reference"]
    table = known[keys].drop_duplicates().reset_index(drop=True)
    lengths = sorted(known["length"].unique())
    for length in lengths:
        values = known.loc[known["length"] == length, [*keys, "value", "n"]]
        table = table.merge(values.rename(columns={"value": f"L{length}", "n": f"L{length}_datasets"}), on=keys,
                            how="left")
        table[f"L{length}_state"] = _unplanned(collection, table, length)
    table["title"], table["metric_name"] = _titles(table["task"]), table["metric"].map(METRIC_NAMES)
    table["words"] = table["reference"].replace(SOLVERS)
    return Content(table, (
        TASK, text("metric", "metric_name"), MODEL, text("role"), text("reference", "words"),
        *(number(f"L {length}", f"L{length}", significant, f"L{length}_state") for length in lengths)))


def shares_of_way(collection: Collection) -> Content:
    """One row a task and model, one column a length: mean share of the way from floor to ceiling."""
    known = shares(collection.complete_runs, collection.study)
    if known.empty:
        return Content(known, ())
    lengths = sorted(known["length"].unique())
    order = [(task, model) for task in collection.tasks for model in collection.models]
    means = known.groupby(["task", "model", "length"])["share"].agg(["mean", "std", "count"])
    table = pd.DataFrame([key for key in order if key in means.index.droplevel("length")], columns=["task", "model"])
    for length in lengths:
        found = means.xs(length, level="length").reindex(pd.MultiIndex.from_frame(table))
        table[f"L{length}"] = found["mean"].to_numpy()
        table[f"L{length}_sd"] = found["std"].to_numpy()
        table[f"L{length}_n"] = found["count"].fillna(0).astype(int).to_numpy()
        table[f"L{length}_planned"] = len(collection.seeds)
        table[f"L{length}_state"] = _unplanned(collection, table, length, "no run")
    table["title"] = _titles(table["task"])
    return Content(table, (TASK, MODEL, *(
        Column(f"L {length}", f"L{length}", percent, n=f"L{length}_n", planned=f"L{length}_planned",
               state=f"L{length}_state") for length in lengths)))


def floors_of_selection(collection: Collection) -> Content:
    """One row an assumed correlation of neighbouring epochs: what a model at exact chance reports."""
    n_items = sum(collection.shortest_dataset("forrelation").split_sizes[1:])
    table = selection_floors(n_items)
    table.insert(0, "items", n_items)
    return Content(table, (
        number("items"), number("correlation of neighbouring epochs", "correlation", fixed(2)),
        number("mean reported", "reported", fixed(4)), number("SD of the mean of nine runs", "sd_of_nine", fixed(4)),
        number("mean best of 9 runs", "best_of_9", fixed(4)),
        number("mean best of 108 runs", "best_of_108", fixed(4)),
    ))


def _titles(tasks: pd.Series) -> list[str]:
    return [task_info(task).title for task in tasks]


def _unplanned(collection: Collection, table: pd.DataFrame, length: int, otherwise: str = "") -> list[str]:
    """Why a task's row is empty at a length."""
    return [otherwise if length in collection.lengths(task) else "not planned" for task in table["task"]]
