"""The published Forrelation score, biased on purpose: the epoch was chosen on the items it is reported on.

Nothing of it is used elsewhere. Beside the models stands what a model without any signal reports by the same rule.
"""

import pandas as pd

from qablate.analysis.ceilings import EPOCH_CORRELATIONS, selection_floors
from qablate.analysis.formats import fixed
from qablate.analysis.old_table import MODEL, Content, number, text
from qablate.analysis.runs import Collection
from qablate.analysis.summary import distinct
from qablate.catalog import model_info

SCORE = "legacy_acc_selected_on_holdout"
WITHOUT_SIGNAL = {EPOCH_CORRELATIONS[0]: "no signal, epochs independent",
                  EPOCH_CORRELATIONS[-1]: "no signal, epochs alike"}
"""Name of a model at exact chance by the assumed correlation of its neighbouring epochs: the two ends of Table 15c."""


def legacy_scores(collection: Collection) -> pd.DataFrame:
    """Return `model`, `length`, `seed`, `origin` (published or ours), `system`, `score`, `censored`; one row a run."""
    rows = [(cell.model, cell.length, cell.seed, "published", run.system, run.record["test_acc"], False)
            for cell, run in collection.merged.legacy.items() if run.finished]
    rows += [(cell.model, cell.length, cell.seed, "ours", run.system, legacy[SCORE], legacy["legacy_censored"])
             for cell, run in collection.merged.runs.items() if run.finished and (legacy := run.record.get("legacy"))]
    columns = ["model", "length", "seed", "origin", "system", "score", "censored"]
    return pd.DataFrame(rows, columns=columns).astype({"score": "float64"}).dropna(subset="score")


def legacy_forrelation(collection: Collection) -> Content:
    """Mean, best and number of runs for each model and origin; below, a model without signal."""
    scores = legacy_scores(collection)
    grouped = scores.groupby(["model", "origin"])
    table = grouped["score"].agg(mean="mean", sd="std", best="max", n="count").reset_index()
    table["systems"] = grouped["system"].agg(distinct).to_numpy()
    table["censored"] = grouped["censored"].sum().to_numpy().astype(int)
    table.insert(1, "name", [model_info(model).name for model in table["model"]])
    if table.empty:
        return Content(table, ())
    floor = _without_signal(collection)
    table = pd.concat([table, floor], ignore_index=True)
    return Content(table, (
        MODEL, text("name"), text("runs of", "origin"), text("system", "systems"),
        number("biased mean", "mean", fixed(4)), number("sample sd", "sd", fixed(4)),
        number("biased best", "best", fixed(4)), number("n"), number("ended early", "censored"),
    ), n_foot=len(floor))


def _without_signal(collection: Collection) -> pd.DataFrame:
    floors = selection_floors(sum(collection.shortest_dataset("forrelation").split_sizes[1:]))
    floors = floors[floors["correlation"].isin(WITHOUT_SIGNAL)]
    return pd.DataFrame({
        "model": "–", "name": floors["correlation"].map(WITHOUT_SIGNAL), "origin": "simulated",
        "mean": floors["reported"], "best": floors["best_of_9"], "epoch_correlation": floors["correlation"],
    })
