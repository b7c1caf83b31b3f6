"""Figures over the blocks that all models share: ranks with cliques, and profiles of the share of runs above a score.

Symbols: y (m, n) benefits of m models in n blocks. Neither decides a claim.
"""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from scipy import stats

from qablate.analysis import style
from qablate.analysis.basis import Basis
from qablate.analysis.formats import fixed, significant
from qablate.analysis.old_figure import Drawing
from qablate.analysis.old_statistics import ALPHA, Floats, holm
from qablate.analysis.parts import (
    banner,
    canvas,
    model_legend,
    model_look,
    named,
    nothing,
    panels_by_architecture,
    x_label,
)
from qablate.catalog import model_info, task_info

WIDEST_BAND = 0.5
"""A band that reaches half the axis either way covers every curve; it is left out."""


def critical_difference(n_models: int, n_blocks: int, alpha: float = ALPHA) -> float:
    """Nemenyi's critical difference of mean ranks: q / sqrt 2 * sqrt(m (m + 1) / (6 n)), q of the studentized range."""
    q = float(stats.studentized_range.ppf(1 - alpha, n_models, np.inf))
    return q / math.sqrt(2) * math.sqrt(n_models * (n_models + 1) / (6 * n_blocks))


def band_half_width(n: int, alpha: float = ALPHA) -> float:
    """Half the width of the band around a distribution of n values (Dvoretzky, Kiefer, Wolfowitz; Massart)."""
    return math.sqrt(math.log(2 / alpha) / (2 * n))


@dataclass(frozen=True)
class Ranks:
    """Models from best to worst with mean ranks (1 is best), pairwise p after Holm, and cliques as index ranges.

    A clique is a longest run of neighbours no two of which can be told apart; `friedman_p` is NaN below 3 models.
    """

    models: tuple[str, ...]
    mean_ranks: Floats
    p: Floats
    cliques: tuple[tuple[int, int], ...]
    friedman_p: float
    n_blocks: int

    @property
    def critical_difference(self) -> float:
        """Nemenyi's, of these models and blocks."""
        return critical_difference(len(self.models), self.n_blocks)


def rank_models(models: Sequence[str], y: Floats) -> Ranks:
    """Rank models in every block (ties share their mean rank) and test all pairs by Wilcoxon's signed ranks."""
    ranks = stats.rankdata(-y, axis=0).mean(axis=1)
    order = np.argsort(ranks, kind="stable")
    pairs = list(itertools.combinations(range(len(models)), 2))
    adjusted = holm([_wilcoxon_p(y[order[i]] - y[order[j]]) for i, j in pairs], len(pairs))
    p = np.ones((len(models), len(models)))
    for (i, j), value in zip(pairs, adjusted, strict=True):
        p[i, j] = p[j, i] = value
    friedman = stats.friedmanchisquare(*y).pvalue if len(models) > 2 else math.nan
    return Ranks(tuple(models[i] for i in order), ranks[order], p, _cliques(p), float(friedman), y.shape[1])


def _wilcoxon_p(d: Floats) -> float:
    return float(stats.wilcoxon(d).pvalue) if d.any() else 1.0


def _cliques(p: Floats) -> tuple[tuple[int, int], ...]:
    """Longest ranges (first, last) of at least two neighbours, all pairs of which have p above alpha."""
    m = len(p)
    found: list[tuple[int, int]] = []
    for first in range(m):
        last = first
        while last + 1 < m and (p[first:last + 1, last + 1] > ALPHA).all():
            last += 1
        if last > first and not any(last <= end for _, end in found):
            found.append((first, last))
    return tuple(found)


def rank_diagram(basis: Basis) -> Drawing | str:
    """One panel a task: mean ranks over the blocks that all models with runs share, a bar over those not told apart."""
    found = {task: ranks for task in basis.collection.tasks if (ranks := _task_ranks(basis, task)) is not None}
    if not found:
        return "no task has two models that share two blocks"
    rows = [-(-len(ranks.models) // 2) + 0.9 * len(ranks.cliques) for ranks in found.values()]
    figure, axes = canvas(sum(0.62 + 0.13 * row for row in rows), len(found), height_ratios=[4.5 + row for row in rows])
    for axis, (task, ranks) in zip(axes[:, 0], found.items(), strict=True):
        _rank_panel(axis, ranks)
        axis.set_title(task_info(task).title)
    lacking = [task_info(task).title for task in basis.collection.tasks if task not in found]
    banner(figure, [*basis.missing(), *basis.left_out(found), *named("no ranks", lacking)])
    return Drawing(figure, pd.concat([_rank_rows(task, ranks) for task, ranks in found.items()], ignore_index=True),
                   " ".join(_rank_words(task, ranks) for task, ranks in found.items()))


def _task_ranks(basis: Basis, task: str) -> Ranks | None:
    found = basis.comparable(task)
    if found is None or found[1].n < 2 or len(found[0]) < 2:
        return None
    models, blocks = found
    return rank_models(models, np.array([blocks.benefits[model][blocks.used] for model in models]))


def _rank_rows(task: str, ranks: Ranks) -> pd.DataFrame:
    """One row a model: mean rank, the numbers of its cliques, p after Holm against every other model."""
    cliques = [" ".join(str(k + 1) for k, (first, last) in enumerate(ranks.cliques) if first <= i <= last)
               for i in range(len(ranks.models))]
    table = pd.DataFrame({"task": task, "model": ranks.models, "mean_rank": ranks.mean_ranks, "cliques": cliques,
                          "n_blocks": ranks.n_blocks, "friedman_p": ranks.friedman_p,
                          "critical_difference": ranks.critical_difference})
    return table.assign(**{f"p_{model}": ranks.p[:, i] for i, model in enumerate(ranks.models)})


def _rank_words(task: str, ranks: Ranks) -> str:
    friedman = "" if math.isnan(ranks.friedman_p) else f", Friedman p = {significant(ranks.friedman_p, 2)}"
    return (f"{task_info(task).title}: N = {ranks.n_blocks} blocks, critical difference "
            f"{fixed(2)(ranks.critical_difference)} ranks{friedman}.")


def _rank_panel(axis: Axes, ranks: Ranks) -> None:
    """Ranks on a line at 0; the better half is labelled on the left, the others on the right, all below the line."""
    m, half = len(ranks.models), -(-len(ranks.models) // 2)
    deep = 0.9 * len(ranks.cliques)
    for i, (model, rank) in enumerate(zip(ranks.models, ranks.mean_ranks, strict=True)):
        left = i < half
        depth = deep + 1 + (i if left else m - 1 - i)
        end = 1 - 0.05 * m if left else m + 0.05 * m
        axis.plot((rank, rank, end), (0, -depth, -depth), color="#888888", linewidth=0.5)
        axis.plot(rank, 0, **model_look(model, line=False), zorder=3, clip_on=False)
        axis.annotate(f"{model} {fixed(2)(rank)}", (end, -depth), xytext=(-2 if left else 2, 0), va="center",
                      textcoords="offset points", ha="right" if left else "left", fontsize=style.SMALL)
    for level, (first, last) in enumerate(ranks.cliques):
        ends = ranks.mean_ranks[[first, last]] + np.array([-0.04, 0.04])
        axis.plot(ends, (-0.7 - 0.9 * level,) * 2, color="black", linewidth=2, solid_capstyle="butt")
    difference = ranks.critical_difference
    axis.plot((1, 1 + difference), (1.3, 1.3), color="black", linewidth=0.8, marker="|", markersize=4, clip_on=False)
    axis.annotate(f"critical difference {fixed(2)(difference)}", (1, 1.6), fontsize=style.TINY + 0.5, va="bottom",
                  annotation_clip=False)
    axis.plot((1, m), (0, 0), color="black", linewidth=0.6, zorder=1)
    axis.set(xlim=(1 - 0.2 * m, m + 0.2 * m), ylim=(-deep - half - 0.8, 2.4))
    axis.set_xticks([])
    axis.set_yticks([])
    axis.spines[:].set_visible(False)


def performance_profiles(basis: Basis) -> Drawing | str:
    """Tasks x architectures: share of a model's runs above each score, over matched blocks, with its band."""
    frame = _profile_frame(basis)
    tasks = basis.tasks_in(frame)
    if not tasks:
        return "no block that all models with runs share"
    figure, axes = canvas(0.65 + 1.15 * len(tasks), len(tasks), 3, sharey=True, sharex="row")
    for axis, task, chosen in panels_by_architecture(axes, tasks, frame):
        _profile_panel(axis, chosen, frame.loc[frame["task"] == task, "score"])
    for i, task in enumerate(tasks):
        n = int(frame.loc[frame["task"] == task, "n"].iloc[0])
        half = band_half_width(n)
        band = f"band ±{half:.2f}" if half < WIDEST_BAND else "no band"
        axes[i, 0].set_ylabel(f"{task_info(task).title}\nn = {n}, {band}", fontsize=style.SMALL)
    x_label(axes[-1], "score, 0 at the baseline and 1 at the reference solver")
    figure.supylabel("share of runs above it", fontsize=7)
    model_legend(figure, basis.models_in(frame), line=True, notation=False)
    banner(figure, [*basis.missing(), *basis.left_out(tasks)])
    return Drawing(figure, frame)


def _profile_frame(basis: Basis) -> pd.DataFrame:
    """One row a run of a matched block, scores ascending: the share of the model's runs above it, and the band."""
    rows = []
    for task in basis.collection.tasks:
        found = basis.comparable(task)
        if found is None:
            continue
        models, blocks = found
        half = band_half_width(blocks.n)
        lengths = np.array(blocks.lengths)[np.nonzero(blocks.used)[0]]
        for model in models:
            values = blocks.benefits[model][blocks.used]
            scores = sorted(basis.share(task, int(n), float(y)) for n, y in zip(lengths, values, strict=True))
            for i, score in enumerate(scores):
                above = 1 - (i + 1) / blocks.n
                rows.append({"task": task, "architecture": model_info(model).architecture, "model": model,
                             "score": score, "share_above": above, "low95": max(0.0, above - half),
                             "high95": min(1.0, above + half), "n": blocks.n})
    columns = ["task", "architecture", "model", "score", "share_above", "low95", "high95", "n"]
    return pd.DataFrame(rows, columns=columns)


def _profile_panel(axis: Axes, frame: pd.DataFrame, scores: pd.Series) -> None:
    low, high = min(0.0, float(scores.min())), float(scores.max())
    room = 0.06 * (high - low or 1.0)
    for model, runs in frame.groupby("model"):
        look = model_look(str(model)) | {"marker": ""}
        half = band_half_width(int(runs["n"].iloc[0]))
        x = np.array([low - room, *runs["score"], high + room])
        above = np.array([1.0, *runs["share_above"], runs["share_above"].iloc[-1]])
        axis.step(x, above, where="post", **look)
        if half < WIDEST_BAND:
            axis.fill_between(x, np.clip(above - half, 0, 1), np.clip(above + half, 0, 1), step="post", alpha=0.1,
                              color=look["color"], linewidth=0)
    axis.set(xlim=(low - room, high + room), ylim=(-0.03, 1.03))
    axis.tick_params(labelleft=axis.get_subplotspec().is_first_col())    # type: ignore[union-attr]
    if frame.empty:
        nothing(axis, "none matched")
