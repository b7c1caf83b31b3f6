"""Controls: every variant next to its base, the variants of tasks, and what checks of trained models say."""

import functools
import operator
import sys
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.figure import Figure as Canvas

from qablate.analysis import figure as look
from qablate.analysis.claims import Contrast
from qablate.analysis.collect import CELL, Runs
from qablate.analysis.formats import DASH, fixed, significant
from qablate.analysis.sections.comparisons import forest, shown_estimate
from qablate.analysis.sections.scores import means, shown_mean
from qablate.analysis.statistics import Scale, scale_of
from qablate.analysis.table import Figure, Part, Section, Table, cell_columns, written
from qablate.analysis.verdicts import compare
from qablate.catalog import TASKS, task_info
from qablate.files import read_json
from qablate.records import content_sha256
from qablate.results import checks_path
from qablate.study import Cell
from qablate.variants import is_variant, join_token, split_token

MARGIN_R2, MARGIN_R2_OF = 0.02, {"2a": 0.05}
R2_OF_ERRORS = Scale("test_r2", lambda r2: r2.clip(lower=0.0), 0.0, 0.005, 0.005)
"""Differences in R² that matter between a variant and its base, set before the first variant was trained; tasks scored
by their error are solved by nearly all, hence compared by R² and a smaller margin."""
MAX_CHECKS_BYTES = 1_000_000
LARGEST_VARIANCE = 1e6
"""A larger variance of gradients is no measurement, and no axis can show it."""
TEXT = ("A variant changes one thing and keeps the rest. *Can be replaced* says: equivalent within the margin, on this "
        "task at this size. *Worse* says that this model needed it under this recipe (`docs/controls.md`).")
WORDS = {"higher": "better than its base", "lower": "worse than its base", "equivalent": "can be replaced"}
CHECKS: Mapping[str, tuple[str | int, ...]] = {
    "unentangled": ("swap", "unentangled"), "mean field": ("swap", "mean_field"),
    "Q": ("entanglement", "mean"), "steps shuffled": ("shuffle", "inside_chunks"),
    "chunks shuffled": ("shuffle", "of_chunks"), "untrained, ridge": ("probe", "ridge"),
    "untrained, rule": ("probe", "cells"), "cell means": ("cell_means",)}
READ_OUTS = {"ridge": "a ridge", "rule": "the fixed rule"}
DEVICES: Mapping[str, tuple[str | int, ...]] = {
    "100 shots": ("shots", 0, "score"), "1,000 shots": ("shots", 1, "score"),
    "10,000 shots": ("shots", 2, "score"), "agreement at noise .001": ("noise", 0, "agreement"),
    "at noise .01": ("noise", 1, "agreement")}
MARKS = {f"mark {degree}": ("degree_marks", str(degree)) for degree in range(1, 5)}
QUBITS = {f"{n} qubits": ("gradients", n - 4, "variance") for n in range(4, 11)}
NUMBERS = {**CHECKS, **DEVICES, **MARKS, **QUBITS}
"""Columns of the checks, and where they are in a file of `qablate check`."""


def controls(runs: Runs) -> Section:
    """The section `Controls`; without parts in a study without variants."""
    if not has_variants(runs):
        return Section("Controls", ())
    rows = compare(runs, contrasts(runs), {
        task: R2_OF_ERRORS for task in runs.tasks if task_info(task).metric == "test_mse"})
    checked, expected = checks(runs), runs.study.config.get("predictions") or []
    rows["caveats"] = ["; ".join(filter(None, (_floor(runs, checked, row), row["caveats"])))
                       for row in rows.to_dict("records")]
    parts: list[Part] = []
    if expected:
        parts.append("Expected before the first run:\n\n" + "\n".join(f"- {line}" for line in expected))
    if len(rows):
        figure = replace(forest(runs, rows), id="controls", title="Variants next to their bases", caption=(
            "Variant minus base, mean and 95 % interval, in units of the margin. Filled: decided. Shaded: too small to "
            "matter."))
        parts += [TEXT, _differences(rows), figure]
    families = {base: [task for task in runs.tasks if task_info(task).id == base] for base in TASKS}
    parts += [_rungs(runs, base, tasks, checked) for base, tasks in families.items() if any(map(is_variant, tasks))]
    return Section("Controls", (*parts, *_checks(checked)))


def details(runs: Runs) -> tuple[Part, ...]:
    """What the details hold: finite shots and noise; in a study without variants the other checks of its models too."""
    frame = checks(runs)
    return *([] if has_variants(runs) else _checks(frame)), *_devices(frame)


def has_variants(runs: Runs) -> bool:
    """Whether a study has a variant of a model or task."""
    return any(map(is_variant, [*runs.models, *runs.tasks]))


def contrasts(runs: Runs) -> list[Contrast]:
    """Every variant of a model minus the models of the study that lack one of its tags, else minus its base."""
    found = []
    for variant in filter(is_variant, runs.models):
        base, tags = split_token(variant)
        fewer = [join_token(base, [tag for tag in tags if tag != left_out]) for left_out in tags]
        for other in [model for model in fewer if model in runs.models] or [base] * (base in runs.models):
            found += [Contrast(f"{variant}-{other}", f"controls, {task}", (variant,), (other,), tasks=(task,),
                               margin=_margin(task, base)) for task in runs.tasks]
    return found


def _margin(task: str, model: str) -> float:
    margins = {"test_mse": R2_OF_ERRORS.margin, "test_r2": MARGIN_R2_OF.get(model, MARGIN_R2)}
    return margins.get(task_info(task).metric, scale_of(task).margin)


def _floor(runs: Runs, checked: pd.DataFrame, row: Mapping[str, Any]) -> str:
    """Says where the base has little to lose: the variant's untrained encoder scores as much by a read-out of it."""
    (variant,), (base,), metric = row["plus"], row["minus"], task_info(row["task"]).metric
    every, probed = runs.of(row["task"]), checked[(checked["model"] == variant) & (checked["task"] == row["task"])]
    both = every[every["model"] == base].merge(probed, on=["length", "seed"])
    chunks = every.loc[every["model"].isin([variant, base]), "chunk"]
    if metric == "test_mse" or chunks.nunique() > 1 or both.empty:
        return ""
    read_outs, score = both[[f"untrained, {name}" for name in READ_OUTS]].mean(), both[metric].mean()
    best = read_outs.max()
    read_out = READ_OUTS[str(read_outs.idxmax()).removeprefix("untrained, ")] if best >= score else ""
    return read_out and f"its untrained encoder, read by {read_out}, reaches {best:.3f}, the base {score:.3f}"


def _differences(rows: pd.DataFrame) -> Table:
    known = rows[rows["verdict"] != "open"]
    shown = pd.DataFrame([{
        "task": task_info(row["task"]).title, "variant": row["plus"][0], "next to": row["minus"][0],
        "estimate [95 %]": shown_estimate("test_r2", row["estimate"], row["low95"], row["high95"]),
        "margin": significant(row["margin"], 2),
        "verdict": WORDS.get(row["verdict"], row["verdict"].replace("higher", "better").replace("lower", "worse")),
        "blocks": f"{row['blocks']} / {row['planned']}", "equivalence p, Holm": significant(row["p_tost_holm"], 2),
        "caveats": row["caveats"]} for row in known.to_dict("records")])
    several = rows["task"].nunique() > 1
    waiting = sorted({row["plus"][0] + f" ({task_info(row['task']).title})" * several
                      for row in rows[rows["verdict"] == "open"].to_dict("records")})
    caption = "Variant minus base over matched blocks (length, seed); positive: the variant is better." + (
        f" No block yet: {', '.join(waiting)}." if waiting else "")
    frame = rows.drop(columns=["pairs", "question", "label", "alone"]).assign(
        plus=rows["plus"].str[0], minus=rows["minus"].str[0],
        lengths=[" ".join(map(str, lengths)) for lengths in rows["lengths"]])
    return Table("controls", "Variants next to their bases", caption, frame, shown)


def _rungs(runs: Runs, base: str, tasks: list[str], checked: pd.DataFrame) -> Table:
    """One row per variant of a task and length: mean score of each model, and the marks of its datasets."""
    frame = pd.concat([means(runs, task).assign(task=task) for task in tasks], ignore_index=True)
    shown = []
    for (task, length), found in frame.groupby(["task", "length"], sort=False):
        scores = {row.model: shown_mean(row, task_info(base).metric) for row in found.itertuples()}
        of_task = checked[(checked["task"] == task) & (checked["length"] == length)]
        marks = dict(zip(MARKS, written(of_task[list(MARKS)].mean(), fixed(2)), strict=True))
        shown.append({"task": task, "L": str(length), **scores, **(marks if base == "forrelation" else {})})
    caption = "Mean over seeds, n where runs are missing." + (
        " Mark d: a ridge on products of table entries with at most d address bits, on the same datasets "
        "(`qablate check`)." if base == "forrelation" else "")
    return Table(f"variants_{base}", f"{task_info(base).title} and its variants", caption, frame, pd.DataFrame(shown))


def checks(runs: Runs) -> pd.DataFrame:
    """One row per run whose result has a file of `qablate check` that was made of this very result."""
    rows = []
    for row in runs.files[runs.files["chosen"]].to_dict("records"):
        cell = Cell(row["model"], row["task"], int(row["length"]), int(row["seed"]))
        found, record = read_json(checks_path(Path(row["path"])), MAX_CHECKS_BYTES), runs.records.get(cell)
        if record and found.get("result_sha256") == content_sha256(record):
            rows.append({**vars(cell), "score": record.get(task_info(cell.task).metric),
                         **{name: _number(found, keys) for name, keys in NUMBERS.items()}})
    numbers, variances = ["score", *NUMBERS], list(QUBITS)
    table = pd.DataFrame(rows, columns=[*CELL, *numbers]).astype(dict.fromkeys(numbers, "float64"))
    possible = (table[variances] > 0) & (table[variances] < LARGEST_VARIANCE)
    return table.assign(**table[variances].where(possible))


def _number(found: Any, keys: tuple[str | int, ...]) -> float | None:
    """The finite number below keys and places; None where a part of the way is missing, or another thing there."""
    try:
        value = functools.reduce(operator.getitem, keys, found)
    except (LookupError, TypeError):
        return None
    return float(value) if type(value) in (int, float) and abs(value) <= sys.float_info.max else None


def _means(frame: pd.DataFrame, names: Iterable[str]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Means over seeds, and some of them as they are shown."""
    groups = frame.groupby(["model", "task", "length"], sort=False)
    mean = groups[["score", *NUMBERS]].mean().reset_index()
    return mean, pd.DataFrame({**cell_columns(mean), "n": list(map(str, groups.size())), **{
        name: written(mean[name], fixed(3)) for name in ("score", *names) if mean[name].notna().any()}})


def _checks(frame: pd.DataFrame) -> list[Part]:
    """Means over seeds of what was asked of models, and how gradients vanish with qubits."""
    if frame.empty:
        return []
    mean, checked = _means(frame, CHECKS)
    if "cell means" in checked:
        above = frame.assign(above=frame["score"] - frame["cell means"]).groupby(
            ["model", "task", "length"], sort=False)["above"].agg(["min", "max"])
        checked["score minus cell means"] = [
            DASH if pd.isna(low) else " to ".join(dict.fromkeys(map(fixed(3, "+"), (low, high))))
            for low, high in above.itertuples(index=False)]
    tables: list[Part] = [Table("checks", "Checks of trained models", (
        "No training; mean over n runs. Unentangled, mean field: the score with the circuits of the weights exchanged. "
        "Q: Meyer-Wallach, 0 product states, 1 maximal. Shuffled: change of the outputs in standard deviations. "
        "Untrained: a read-out of the untrained encoder, as a ridge, and as a fixed rule on chunks. Cell means: the "
        "exact mean of every chunk on the same test items; lowest and highest run."), frame, checked)]
    if mean[list(QUBITS)].notna().all(axis=1).any():
        tables.append(_gradients(mean))
    return tables


def _devices(frame: pd.DataFrame) -> list[Part]:
    """Means over seeds with finite shots and noise, of models that were asked."""
    if frame["100 shots"].isna().all():
        return []
    mean, shown = _means(frame, DEVICES)
    return [Table("devices", "What a device would lose", (
        "Score with every expectation value estimated from so many shots; agreement with the exact outputs (R² of "
        "outputs, share of equal classes) with so much depolarising noise per gate and wire."),
        frame, shown[mean["100 shots"].notna()])]


def _gradients(mean: pd.DataFrame) -> Figure:
    columns = list(QUBITS)
    known = mean[mean[columns].notna().all(axis=1)]
    long = known.melt(["model", "task", "length"], columns, "qubits", "variance")
    data = long.assign(qubits=long["qubits"].str.split().str[0].astype(int)).sort_values(
        ["model", "task", "length", "qubits"], ignore_index=True)
    return Figure("gradients", "Variance of gradients at initialisation", (
        "Variance of d<Z_0>/d(angle) over 200 fresh models, mean over angles; one line per model, mean over tasks and "
        "lengths. A barren plateau would halve it with every qubit (dashed)."), lambda: _draw_gradients(data), data)


def _draw_gradients(data: pd.DataFrame) -> Canvas:
    figure, axes = look.grid(2.8)
    axis = axes[0, 0]
    lines = data.groupby(["model", "qubits"])["variance"].mean().unstack("qubits")
    for model, variances in lines.iterrows():
        axis.plot(variances.index, variances, **look.model_look(str(model)))
    start = lines.max().iloc[0]
    axis.plot(lines.columns, start * 0.5 ** (lines.columns - lines.columns[0]), **look.UPPER)
    axis.set_yscale("log")
    axis.set_xlabel("qubits")
    axis.set_ylabel("variance")
    look.legend_above(figure, [look.legend_entry(model, look.model_look(model)) for model in lines.index], 9)
    return figure
