"""How it was done: models with their measured sizes, hyperparameters, tasks, datasets, baselines and upper bounds."""

from typing import Any

import pandas as pd

from qablate.analysis.bounds import baseline, normalized_score, references, upper_bound
from qablate.analysis.collect import Runs
from qablate.analysis.formats import DASH, metric_format, metric_name
from qablate.analysis.sections.scores import means
from qablate.analysis.table import Table, cell_columns, written
from qablate.catalog import model_info, task_info
from qablate.files import read_json
from qablate.study import MAX_SIDECAR_BYTES, DatasetSpec, known_dataset

OF_MODEL = ("group", "id", "name", "features", "mixing", "architecture", "chunk")
HYPERPARAMETERS = {
    "n_qubits": ("model", "n_qubits"), "n_layers": ("model", "n_layers"), "d_model": ("model", "d_model"),
    "d_state": ("model", "d_state"), "n_epochs": ("training", "max_epochs"), "batch_size": ("training", "batch_size"),
    "learning_rate": ("training", "learning_rate"), "weight_decay": ("training", "weight_decay"),
    "early_stopping": ("training", "patience"),
}
"""The founding document's names of the settings."""


def models_tested(runs: Runs) -> Table:
    """One row per model: group, factors, chunk, and the parameters that its results report."""
    rows, shown = [], []
    for model in runs.models:
        info, found = model_info(model), runs.table[runs.table["model"] == model]["n_params"]
        chunks = sorted({runs.study.chunk(model, length) for task in runs.tasks for length in runs.lengths(task)})
        row = {key: getattr(info, key) for key in OF_MODEL} | {"id": model, "chunk": ", ".join(map(str, chunks))}
        rows.append({**row, "params_min": found.min(), "params_max": found.max()})
        shown.append({**row, "mixing": info.mixing.replace("_", " "), "params": " to ".join(
            dict.fromkeys(written(found.agg(["min", "max"]), "{:,.0f}".format)))})
    return Table("models_tested", f"Models tested ({len(runs.models)})",
                 "Features and mixing say where the published model has a circuit; chunk: steps that one circuit or "
                 "pooled token covers; params: as the results report them, which depends on task and length.",
                 pd.DataFrame(rows), pd.DataFrame(shown).astype(str))


def hyperparameters(runs: Runs) -> Table:
    """The settings of the study under the founding document's names."""
    frame = pd.DataFrame([{name: runs.study.config[part][key] for name, (part, key) in HYPERPARAMETERS.items()}])
    return Table("hyperparameters", "Hyperparameters",
                 f"Recipe `{runs.study.recipe}`; early stopping in epochs without improvement.",
                 frame, frame.astype(object).map(str))


def task_configurations(runs: Runs) -> Table:
    """One row per task: kind, lengths, seeds, items of a dataset, and its parameters."""
    rows = []
    for task in runs.tasks:
        spec = runs.study.dataset(task, runs.lengths(task)[0], runs.seeds[0])
        lengths, seeds = (", ".join(map(str, values)) for values in (runs.lengths(task), runs.seeds))
        rows.append({"task": spec.info.title, "type": spec.info.kind, "lengths": lengths, "seeds": seeds,
                     "samples": str(spec.n_samples),
                     "parameters": ", ".join(f"{key} {value}" for key, value in spec.parameters.items())})
    return Table("task_configurations", "Task configurations", "", pd.DataFrame(rows), pd.DataFrame(rows))


def datasets(runs: Runs) -> Table:
    """One row per dataset: hash, baselines, and the leak checks that its sidecar holds."""
    measured = runs.table.groupby(["task", "length", "seed"])["baseline_measured"].first()
    rows = [_dataset_row(runs, spec, measured.get((spec.task, spec.length, spec.seed))) for spec in runs.study.datasets]
    frame = pd.DataFrame(rows)
    shown = pd.DataFrame({
        **cell_columns(frame), "hash": [str(value or DASH)[:12] for value in frame["dataset_sha256"]],
        "file here": frame["file"], "nominal baseline": written(frame["nominal"]),
        "measured on the test split": written(frame["measured"]),
        "leak checks": frame["checks"]})
    return Table("datasets", "Datasets, baselines and leak checks",
                 "Measured baseline: the majority rate, or the error of the training mean. Leak checks: those that "
                 "`qablate dataset --check` has run on the file.", frame, shown)


def _dataset_row(runs: Runs, spec: DatasetSpec, by_results: float | None) -> dict[str, Any]:
    path = spec.path(runs.study.results)
    sidecar, checks = (read_json(path.with_suffix(end), MAX_SIDECAR_BYTES) for end in (".json", ".checks.json"))
    statistics, sha256, found = sidecar.get("statistics"), sidecar.get("dataset_sha256"), checks.get("checks")
    facts = known_dataset(spec, runs.study.results)
    known = facts.sha256 if facts else sha256
    made = statistics.get("measured_baseline") if isinstance(statistics, dict) else None
    file = ("not made here" if sha256 is None else "another dataset" if sha256 != known else
            "as published or first made" if path.exists() else "hash only")
    if not isinstance(found, list) or sha256 is None or checks.get("dataset_sha256") != sha256:
        outcome = "not run"    # checks of other bytes are none
    else:
        failed = [str(one.get("name")) for one in found if isinstance(one, dict) and one.get("passed") is not True]
        outcome = f"failed: {', '.join(failed)}" if failed else "all passed"
    return {"task": spec.task, "length": spec.length, "seed": spec.seed, "dataset_sha256": known, "file": file,
            "nominal": spec.info.nominal_baseline, "measured": made if made is not None else by_results,
            "checks": outcome}


def baselines_and_bounds(runs: Runs) -> Table:
    """One row per reference value of a task and model, one column per length."""
    known = references(runs.study)
    keys = ["task", "model", "role", "reference"]
    wide = known.pivot_table(index=keys, columns="length", values="value", sort=False)
    frame = wide.reindex(columns=sorted(wide.columns)).add_prefix("L").reset_index()
    shown = frame[keys].assign(task=[f"{task_info(task).title}, {metric_name(task_info(task).metric)}"
                                     for task in frame["task"]])
    for column in frame.columns[len(keys):]:
        shown[f"L {column[1:]}"] = written(frame[column])
    return Table("baselines_and_bounds", "Baselines and upper bounds",
                 "In the task's own metric. Baseline: a constant prediction. Mark: what one part of the task is worth. "
                 "Upper bound: all that the task allows, or a model that loses the order of steps inside a chunk. "
                 "Forrelation: mean test accuracy of solvers on the published datasets; all others are closed forms.",
                 frame, shown)


def normalized_scores(runs: Runs) -> Table:
    """One row per task and model, one column per length: score as its share of the way from baseline to upper bound."""
    rows = pd.concat([means(runs, task).query("n > 0").assign(task=task, baseline=baseline(task))
                      for task in runs.tasks]).rename(columns={"mean": "score"})
    bounds = [upper_bound(runs.study, row.task, row.length, row.model) for row in rows.itertuples()]
    frame = rows[["task", "model", "length", "score", "baseline"]].assign(upper_bound=pd.array(bounds, "float64"))
    frame = frame.dropna(subset="upper_bound").reset_index(drop=True)
    frame["normalized_score"] = normalized_score(frame["score"], frame["baseline"], frame["upper_bound"])
    shown = pd.DataFrame({
        **cell_columns(frame),
        "score": [metric_format(task_info(row.task).metric)(row.score) for row in frame.itertuples()],
        "upper bound": written(frame["upper_bound"]),
        "normalised score": written(frame["normalized_score"], lambda share: f"{100 * share:.1f} %")})
    return Table("normalized_scores", "Normalised scores", "Share of the way from the baseline to the upper bound: the "
                 "model's own where it has one, else the task's. Negative below the baseline.", frame, shown)
