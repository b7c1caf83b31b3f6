"""The published Forrelation score, biased on purpose: the epoch was chosen on the items it is reported on.

Nothing of it is used elsewhere. Beside the models stands what a model without any signal reports by the same rule.
"""

import pandas as pd

from qablate.analysis.formats import fixed
from qablate.analysis.runs import Collection
from qablate.analysis.summary import distinct
from qablate.analysis.table import MODEL, Content, number, text
from qablate.catalog import model_info

SCORE = "legacy_acc_selected_on_holdout"
WITHOUT_SIGNAL = (
    ("no signal, epochs independent", 0.0, 0.5331, 0.546),
    ("no signal, epochs alike", 0.95, 0.5186, 0.540),
)
"""Name, correlation of neighbouring epochs, mean reported accuracy and expected best of nine runs of a model at exact
chance under the published rule: 1,000 test items, patience 20, at most 100 epochs; simulated, 20,000 repetitions."""


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
    floor = pd.DataFrame([{"model": "–", "name": name, "origin": "simulated", "mean": mean, "best": best,
                           "epoch_correlation": correlation} for name, correlation, mean, best in WITHOUT_SIGNAL])
    table = pd.concat([table, floor], ignore_index=True)
    return Content(table, (
        MODEL, text("name"), text("runs of", "origin"), text("system", "systems"),
        number("biased mean", "mean", fixed(4)), number("sample sd", "sd", fixed(4)),
        number("biased best", "best", fixed(4)), number("n"), number("ended early", "censored"),
    ), n_foot=len(floor))
