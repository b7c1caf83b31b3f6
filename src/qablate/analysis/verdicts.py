"""From runs to verdicts: every contrast of the claims file measured, Holm inside its family, and what limits it.

A verdict speaks about the models that were run: `higher` or `lower` (Holm p, interval and margin agree), `equivalent`
(Holm p of equivalence), else `undecided`; `provisional: ...` on few blocks, `open` without any, `all diverged` where no
run that it rests on ended with a score.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from qablate.analysis.bounds import upper_bound
from qablate.analysis.claims import Contrast, load_claims
from qablate.analysis.collect import Runs
from qablate.analysis.statistics import (
    ALPHA,
    MIN_BLOCKS,
    Estimate,
    Scale,
    benefits,
    chance,
    contrast,
    difference,
    holm,
    rectangle,
    scale_of,
    slope,
    smallest_p,
    weights,
)
from qablate.catalog import task_info

MIN_LENGTHS, MIN_SEEDS = 3, 3
"""Lengths of a slope and seeds of an accuracy, below which a verdict is provisional; MIN_BLOCKS are a difference's."""
LARGEST_PARAMETER_RATIO = 2.0
AT_CHANCE = "the models together are at chance"
COLUMNS = ("id", "label", "question", "task", "table", "kind", "plus", "minus", "estimate", "low95", "high95", "p",
           "p_holm", "p_tost", "p_tost_holm", "blocks", "planned", "unit", "lengths", "margin", "alone", "all_diverged",
           "verdict", "caveats", "pairs")


def compare(runs: Runs, contrasts: Sequence[Contrast] | None = None,
            scales: Mapping[str, Scale] | None = None) -> pd.DataFrame:
    """Return one row per contrast (by default those of the claims file) and task (`COLUMNS`), ordered by task.

    `estimate`, `low95`, `high95`, `margin` are on the benefit scale of the task, of a slope per doubling of the length.
    `blocks` counts what was used of `planned`, in `unit` (blocks or seeds); `lengths` are those it rests on. `plus`
    and `minus` are models, `caveats` words separated by "; ". `pairs` holds (name, `Estimate`) of each pair that a
    contrast is made of. Without a block the numbers are NaN. `scales`: of tasks that are not compared on theirs. A task
    of one length has no slopes.
    """
    contrasts = load_claims(runs.study).contrasts if contrasts is None else contrasts
    rows = [row for task in runs.tasks for row in _rows(
        runs, task, (scales or {}).get(task) or scale_of(task), [
            one for one in contrasts if task in one.tasks and (one.kind != "slope" or len(runs.lengths(task)) > 1)])]
    table = pd.DataFrame(rows, columns=list(COLUMNS))
    for (_, _, single), family in table.groupby(["task", "table", "alone"], sort=False):
        for raw, adjusted in (("p", "p_holm"), ("p_tost", "p_tost_holm")):
            found = family[raw] if single else pd.Series(holm(family[raw]), family.index)
            table.loc[family.index, adjusted] = found.where(family[raw].notna())
    table["verdict"] = [verdict(row) for row in table.to_dict("records")]
    at_chance = (table["kind"] == "chance") & (table["plus"].map(len) > 1) & (table["verdict"] == "equivalent")
    vacuous = table["task"].isin(table.loc[at_chance, "task"]) & (table["kind"] != "chance") & table["estimate"].notna()
    table.loc[vacuous, "caveats"] = (AT_CHANCE + "; " + table.loc[vacuous, "caveats"]).str.removesuffix("; ")
    return table


def verdict(row: dict[str, Any]) -> str:
    """The verdict of one row of numbers, after Holm."""
    value, margin = row["estimate"], row["margin"]
    if math.isnan(value):
        return "open"
    if row["all_diverged"]:
        return "all diverged"
    tendency = leaning(value, row["low95"], row["high95"], margin)
    few = {"slope": len(row["lengths"]) < MIN_LENGTHS, "chance": row["blocks"] < MIN_SEEDS}
    if few.get(row["kind"], False) or (row["kind"] != "chance" and row["blocks"] < MIN_BLOCKS):
        return f"provisional: {tendency}"
    if tendency in ("higher", "lower") and row["p_holm"] <= ALPHA and abs(value) >= margin:
        return tendency
    return "equivalent" if row["p_tost_holm"] <= ALPHA else "undecided"


def leaning(value: float, low95: float, high95: float, margin: float) -> str:
    """What an estimate says before any test: a side if its interval is clear of 0 and it reaches the margin."""
    if not math.isfinite(low95):
        return "no interval yet"
    if low95 > 0 or high95 < 0:
        return "below the margin" if abs(value) < margin else "higher" if value > 0 else "lower"
    return "no difference seen" if abs(value) < margin else "unclear"


def _rows(runs: Runs, task: str, scale: Scale, contrasts: list[Contrast]) -> Iterator[dict[str, Any]]:
    y = benefits(runs.table, task, scale)
    n_blocks = len(runs.lengths(task)) * len(runs.seeds)
    families = pd.Series([one.table for one in contrasts if not one.alone]).value_counts()
    for one in contrasts:
        d = contrast(y, weights(one.plus, one.minus))
        found, is_chance = _measure(runs, task, one.kind, d), one.kind == "chance"
        d = rectangle(d).unstack().reorder_levels(["length", "seed"]) if one.kind == "slope" and len(d) else d
        low, high = found.interval() if found.n else (math.nan, math.nan)
        margin = one.margin or (scale.margin_slope if one.kind == "slope" else scale.margin)
        known, used = not math.isnan(found.value), _used(runs.table, task, one, d)
        caveats = _caveats(runs, task, one, d, used, 1 if one.alone else families[one.table]) if known else ()
        all_diverged = known and bool((used["status"] == "diverged").all())
        p_tost = 1.0 if all_diverged else found.tost(margin) if known else math.nan
        yield {
            "id": one.id, "label": one.label, "question": one.question, "task": task, "table": one.table,
            "kind": one.kind, "plus": one.plus, "minus": one.minus, "estimate": found.value, "low95": low,
            "high95": high, "p": found.p if known else math.nan, "p_tost": p_tost,
            "blocks": found.n, "planned": len(runs.seeds) if is_chance else n_blocks,
            "unit": "seeds" if is_chance else "blocks",
            "lengths": tuple(d.index.unique("length")), "margin": margin, "alone": one.alone,
            "all_diverged": all_diverged, "caveats": "; ".join(caveats),
            "pairs": tuple((f"{plus} - {minus}", _measure(runs, task, one.kind, contrast(y, weights([plus], [minus]))))
                           for plus, minus in one.pairs)}


def _measure(runs: Runs, task: str, kind: str, d: pd.Series) -> Estimate:
    if kind == "chance":
        n_items = runs.study.dataset(task, runs.lengths(task)[0], runs.seeds[0]).split_sizes[2]
        return chance(d, n_items, scale_of(task).baseline)
    return slope(d) if kind == "slope" else difference(d)


def _used(table: pd.DataFrame, task: str, one: Contrast, d: pd.Series) -> pd.DataFrame:
    """The runs in the blocks of `d`."""
    of_models = table[(table["task"] == task) & table["model"].isin([*one.plus, *one.minus])]
    return of_models[of_models.set_index(["length", "seed"]).index.isin(d.index)]


def _caveats(runs: Runs, task: str, one: Contrast, d: pd.Series, used: pd.DataFrame,
             family_size: int) -> Iterator[str]:
    """What limits a comparison, in words; `d` are the block values it rests on, `used` their runs."""
    lengths, seeds = list(d.index.unique("length")), list(d.index.unique("seed"))
    if one.caveat:
        yield one.caveat
    if one.kind == "difference" and task_info(task).kind == "classification" and len(lengths) > 1:
        yield f"same test labels at every length, so {len(seeds)} seeds are independent, not {len(d)} blocks"
    if one.kind == "slope" and len(lengths) < MIN_LENGTHS:
        yield f"{len(lengths)} lengths, a slope needs {MIN_LENGTHS}"
        family_size = 0
    elif lengths != runs.lengths(task):
        yield f"L = {', '.join(map(str, lengths))} only"
    smallest = smallest_p(one.kind, len(d), len(seeds))
    if one.kind != "chance" and len(d) >= MIN_BLOCKS and smallest * family_size > ALPHA:
        yield f"{len(d)} blocks: no p below {smallest:.2g} possible"
    yield from _differences(one, used)
    if (diverged := int((used["status"] == "diverged").sum())):
        yield f"{diverged} of {len(used)} runs diverged and count as baseline"
    if len(systems := sorted(used["system"].unique())) > 1:
        yield f"systems {', '.join(systems)}"
    x = np.log2(d.index.get_level_values("length").to_numpy(dtype=float))
    of_seed = (d * (x - x.mean()) if one.kind == "slope" else d).groupby("seed").mean()    # up to a positive factor
    if len(seeds) > 1 and one.kind != "chance" and np.ptp(np.sign(of_seed)) == 2:
        yield "seeds disagree in sign"
    if one.kind == "slope" and len(one.plus) == 1 and not one.minus:
        first, last = (upper_bound(runs.study, task, length, one.plus[0]) for length in (lengths[0], lengths[-1]))
        if task == "selective_copy" and first is not None and last is not None and first != last:
            yield f"upper bound of {one.plus[0]} goes from {first:.3f} to {last:.3f}"


def _differences(one: Contrast, used: pd.DataFrame) -> Iterator[str]:
    """In what the two sides differ besides their names: parameters, steps in a chunk."""
    if not one.minus:
        return
    pairs = one.pairs or [(plus, minus) for plus in one.plus for minus in one.minus]
    size, chunk = used.groupby("model")["n_params"].median(), used.groupby("model")["chunk"].first()
    ratio = max(max(size[plus], size[minus]) / min(size[plus], size[minus]) for plus, minus in pairs)
    if ratio > LARGEST_PARAMETER_RATIO:
        yield f"sizes differ {'up to ' if len(pairs) > 1 else ''}{ratio:.2g}x"
    unlike = [(chunk[plus], chunk[minus]) for plus, minus in pairs if chunk[plus] != chunk[minus]]
    if len(set(unlike)) == 1:
        yield f"chunks {unlike[0][0]} against {unlike[0][1]}"
    elif unlike:
        yield f"chunks differ in {len(unlike)} of {len(pairs)} pairs"
