"""Tables of test scores: by length, over common blocks, per seed, beside baselines and ceilings."""

import pandas as pd

from qablate.analysis.formats import METRIC_FORMATS, Format, fixed, integer, percent, signed, whole
from qablate.analysis.old_table import LENGTH, MODEL, Column, Content, number, score, text
from qablate.analysis.references import NAMES, baseline_by_length, model_ceiling
from qablate.analysis.runs import CELL, Collection
from qablate.analysis.summary import WORDS, by_length, common_blocks, common_mean, models_frame, wide
from qablate.catalog import task_info

NAMED = (MODEL, text("name"))


def scores_by_length(collection: Collection, task: str, mean_r2: bool = False, baseline: bool = False) -> Content:
    """Test score of each model at each length; if asked for, mean R2 over the common blocks, and the baseline below."""
    metric = task_info(task).metric
    table = _models(collection).merge(wide(by_length(collection, task, metric)), on="model")
    columns = [*NAMED, *(score(f"L {length}", f"L{length}", METRIC_FORMATS[metric])
                         for length in collection.lengths(task))]
    if mean_r2:
        table = table.merge(common_mean(collection, task, "test_r2"), on="model")
        columns += _common_columns("mean R²", fixed(3))
    if baseline:
        table = _with_baseline_row(collection, task, table)
    return Content(table, tuple(columns), n_foot=int(baseline))


def selective_ceiling(collection: Collection) -> Content:
    """Chunk ceiling per length, the share of it that was reached, and how exact the copies are."""
    task = "selective_copy"
    table = _models(collection)
    means = by_length(collection, task, "test_r2").set_index(["model", "length"])
    n_markers = int(collection.shortest_dataset(task).parameters["n_markers"])
    columns: list[Column] = [number("chunk", show=whole)]
    for length in collection.lengths(task):
        ceilings = [model_ceiling(model, length, n_markers) for model in table["model"]]
        scores = [means.loc[(model, length), "mean"] for model in table["model"]]
        table[f"L{length}_ceiling"] = pd.Series(ceilings, dtype="float64")
        table[f"L{length}_share"] = pd.Series(scores, dtype="float64") / table[f"L{length}_ceiling"]
        table[f"L{length}_state"] = [_share_state(ceiling, means.loc[(model, length), "state"])
                                     for model, ceiling in zip(table["model"], ceilings, strict=True)]
        columns += [number(f"ceiling, L {length}", f"L{length}_ceiling", fixed(3), f"L{length}_state"),
                    number(f"reached, L {length}", f"L{length}_share", percent, f"L{length}_state")]
    for name in ("position_accuracy", "sequence_accuracy"):
        table = table.merge(common_mean(collection, task, name)[["model", "common_mean", "common_state"]], on="model")
        table = table.rename(columns={"common_mean": name, "common_state": f"{name}_state"})
        columns.append(number(name.replace("_", " "), name, percent, f"{name}_state"))
    return Content(table, (*NAMED, *columns))


def forrelation_overview(collection: Collection) -> Content:
    """Accuracy over the common blocks beside the majority rate, AUC, and how many runs predict one class only."""
    task = "forrelation"
    table = _models(collection).merge(common_mean(collection, task, "test_acc"), on="model")
    common = common_blocks(collection, task, "test_acc").groupby("model")
    per_model = collection.scored(task, "test_acc").groupby("model")
    table = table.join(pd.DataFrame({
        "best": per_model["test_acc"].max(),
        "majority": common["majority_rate"].mean(),
        "auc": common["test_auc"].mean(),
        "runs": per_model.size(),
        "constant": per_model["constant_prediction"].sum(min_count=1),
        "constant_known": per_model["constant_prediction"].count(),
    }), on="model")
    table["points"] = 100 * (table["common_mean"] - table["majority"])
    table["gain"] = table["common_mean"] / task_info(task).nominal_baseline - 1
    planned = collection.cells_of(task).groupby("model").size()
    table["planned"] = table["model"].map(planned)
    table[["runs", "constant_known"]] = table[["runs", "constant_known"]].fillna(0).astype(int)
    return Content(table, (
        *NAMED, text("features→mixing", "notation"), *_common_columns("mean accuracy", fixed(4)),
        number("majority rate", "majority", fixed(4)),
        number("difference from majority, points", "points", signed(2)),
        number("relative gain over a half", "gain", percent),
        number("AUC", "auc", fixed(4)), number("best run", "best", fixed(4)),
        number("constant runs", "constant"), number("of", "constant_known"), number("runs"), number("planned"),
    ))


def per_seed(collection: Collection, task: str) -> Content:
    """One row a model and length, one column a seed, then mean and spread."""
    metric = task_info(task).metric
    show = METRIC_FORMATS[metric]
    rows = by_length(collection, task, metric)
    rows.columns = [name if name in ("model", "length") else f"all_{name}" for name in rows.columns]
    cells = collection.cells_of(task).merge(collection.runs[[*CELL, metric]], on=CELL, how="left")
    for seed in collection.seeds:
        of_seed = cells[cells["seed"] == seed].set_index(["model", "length"])
        keys = pd.MultiIndex.from_frame(rows[["model", "length"]])
        diverged = (of_seed["state"] == "diverged").reindex(keys)
        value = of_seed[metric].reindex(keys)
        rows[f"seed{seed}"] = value.mask(diverged).to_numpy()
        words = of_seed["state"].map(WORDS).reindex(keys)
        rows[f"seed{seed}_state"] = words.where(value.isna() | diverged).to_numpy()
    seeds = [number(f"seed {seed}", f"seed{seed}", show, f"seed{seed}_state") for seed in collection.seeds]
    return Content(rows, (MODEL, LENGTH, *seeds, score("mean", "all", show)))


def _models(collection: Collection) -> pd.DataFrame:
    return models_frame(collection, "name", "notation", "chunk")


def _common_columns(header: str, show: Format) -> tuple[Column, ...]:
    mean = Column(header, "common_mean", show, sd="common_sd", state="common_state")
    return mean, number("blocks", show=integer)


def _with_baseline_row(collection: Collection, task: str, table: pd.DataFrame) -> pd.DataFrame:
    """Add the row of the measured baseline: a mean over the datasets (one a seed) that have a result."""
    row: dict[str, object] = {"model": "baseline", "name": NAMES[task_info(task).metric]}
    for length, known in baseline_by_length(collection, task).iterrows():
        row |= {f"L{length}_mean": known["mean"], f"L{length}_sd": known["std"],
                f"L{length}_n": 0 if pd.isna(known["count"]) else known["count"],
                f"L{length}_planned": len(collection.seeds), f"L{length}_diverged": 0,
                f"L{length}_state": "not recorded"}
    return pd.concat([table, pd.DataFrame([row])], ignore_index=True)


def _share_state(ceiling: float | None, state: object) -> str:
    if ceiling is None:
        return "no ceiling"
    return "" if pd.isna(state) else str(state)
