"""The report's figures in order: title, caption, and the function that draws each.

A caption says what the points and bars are and which runs they rest on; a drawing may add its numbers.
"""

import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from qablate.analysis.agreement import system_agreement
from qablate.analysis.basis import Basis, lay_basis
from qablate.analysis.curves import learning_curves, length_curves
from qablate.analysis.diagnostics import forrelation_diagnostics
from qablate.analysis.effects import controls_ladder, equivalence_strip, factor_forest, placement
from qablate.analysis.findings import NO_FILE, Findings
from qablate.analysis.maps import score_map, state_map
from qablate.analysis.old_figure import Drawing, Figure, write_figure
from qablate.analysis.ranking import performance_profiles, rank_diagram
from qablate.analysis.runs import Collection
from qablate.analysis.style import look
from qablate.analysis.tradeoffs import pareto
from qablate.catalog import task_info

SCORES = ("Mean test score over seeds and n, the runs behind it; diverged runs are not among them. The colour is the "
          "share of the way from the baseline to the reference solver in benefit: -ln MSE (the solver's error counts "
          "as the smallest told apart), R², accuracy. Where no solver's score is known a perfect one is taken. "
          "Hatched: no score.")
STATES = "One square a seed, seeds ascending from left to right; the legend counts the cells."
LENGTHS = ("Small points are runs, large points means over seeds with a 95 % t interval, both on the scale of the "
           "claims: a mean error is a geometric mean; a run worse than the baseline, or diverged, stands at it. "
           "Every seed with a result enters; models are shifted sideways a little, intervals may run over the edge. "
           "The solver knows the task; a chunk ceiling binds models that lose the order inside a chunk.")
LEARNING = ("Every run: validation solid, training dotted (with dropout on); the point is the epoch whose weights were "
            "tested.")
DIAGNOSTICS = ("Test accuracy of solvers and models (means over seeds) against length; of solvers against the number "
               "of training items; and training against validation accuracy of every run at its chosen epoch.")
OVER_ALL_TASKS: dict[str, tuple[str, Callable[[Basis], Drawing | str], str]] = {
    "system_agreement": ("Cells that were trained more than once", system_agreement, (
        "One point a cell with two honest results: one against the other, equal on the line; and the second minus "
        "the first in benefit against their mean. Line: mean offset with its 95 % t interval over cells; dashed: "
        "limits between which 95 % of the offsets would lie. Copies of one run are left out.")),
    "factor_forest": ("Factors: estimates in two scopes", factor_forest, (
        "Estimate and 95 % t interval of each factor's contrast over matched blocks (length and seed, n of them) "
        "or, in general, over the matched pairs of models; grey: smaller than the margin. Positive: quantum, or the "
        "first named, is better. Beside it n and the verdict of the claim, or why it has no verdict.")),
    "equivalence_strip": ("Models against their classical counterparts: equivalence", equivalence_strip, (
        "Difference of each quantum model to its classical counterpart over the blocks that both have, with a 90 % "
        "t interval, in units of the task's margin (linear around zero, logarithmic beyond). Inside the grey band "
        "the two are equivalent within the margin.")),
    "placement": ("Placement of the quantum part by architecture", placement, (
        "Difference of each model to the classical one of its architecture over the blocks that both have (their "
        "number beside the point), with a 95 % t interval; the classical model stands at zero on the left. Grey: "
        "smaller than the margin. Intervals may run over the edge.")),
    "pareto": ("Score against size and time", pareto, (
        "Mean score over the blocks (length and seed) that all models drawn share, n of them, against the mean of "
        "trainable parameters and of seconds of training in the same blocks; for errors the geometric mean. The "
        "line joins models that no other beats at lower cost.")),
    "performance_profiles": ("Performance profiles", performance_profiles, (
        "Share of a model's runs above a score, a step for every run of the blocks (length and seed) that all "
        "models drawn share, n of them (models and blocks are chosen so that most runs remain); shaded: 95 % band "
        "for the whole curve, left out where it would cover half the axis either way. Score: share of the way from "
        "baseline to reference solver in benefit. A diverged run counts as the baseline.")),
    "rank_diagram": ("Ranks over blocks", rank_diagram, (
        "Mean rank over the blocks (length and seed) that all models drawn share, best left; ties share their rank. "
        "Models and blocks are chosen so that most runs remain. A bar joins neighbours no two of which differ by "
        "Wilcoxon's signed ranks after Holm over all pairs. Describes these models; no claim rests on it.")),
    "controls_ladder": ("Controls of the quantum circuit", controls_ladder, (
        "Control minus quantum model as trained, block by block (small points) and as mean with a 95 % t interval "
        "over the blocks that both have. Grey: smaller than the margin.")),
}
NOT_MEASURED = {
    "gradient_variance": ("Variance of gradients at initialisation", "gradients are stored in no result, and no "
                          "command measures them"),
}
"""Figures without a source of data, and why."""


@dataclass(frozen=True)
class Entry:
    """A figure before it is drawn; drawing gives a reason instead where there is nothing to draw."""

    id: str
    title: str
    caption: str
    draw: Callable[[], Drawing | str]


def entries(collection: Collection, basis: Basis | None) -> Iterator[Entry]:
    """Yield the figures of a study: maps, those over all tasks, those of each of its tasks.

    Without a basis (no claims file) all but the map of states give that reason.
    """
    def drawn(draw: Callable[[Basis], Drawing | str]) -> Callable[[], Drawing | str]:
        return functools.partial(draw, basis) if basis is not None else lambda: NO_FILE

    yield Entry("score_map", "Scores of all models", SCORES, drawn(score_map))
    yield Entry("state_map", "What is there and what is missing", STATES, functools.partial(state_map, collection))
    for key, (title, draw, caption) in OVER_ALL_TASKS.items():
        yield Entry(key, title, caption, drawn(draw))
    for task in collection.tasks:
        title = task_info(task).title
        yield Entry(f"length_{task}", f"{title}: score by length", LENGTHS,
                    drawn(functools.partial(length_curves, task=task)))
        yield Entry(f"learning_{task}", f"{title}: learning curves", LEARNING,
                    drawn(functools.partial(learning_curves, task=task)))
    if "forrelation" in collection.tasks:
        yield Entry("forrelation_diagnostics", "Forrelation: solvers, models, training and validation", DIAGNOSTICS,
                    drawn(forrelation_diagnostics))
    for key, (title, reason) in NOT_MEASURED.items():
        yield Entry(key, title, "", functools.partial(str, reason))


def write_figures(collection: Collection, findings: Findings, folder: Path, pdf: bool = False) -> dict[str, Figure]:
    """Draw and write every figure below `folder`; return them by id, with a reason for those not drawn."""
    written, basis = {}, lay_basis(collection, findings.results)
    with look():
        for entry in entries(collection, basis):
            drawing = entry.draw()
            if isinstance(drawing, str):
                written[entry.id] = Figure(entry.id, entry.title, reason=drawing)
            else:
                written[entry.id] = write_figure(folder, entry.id, entry.title, entry.caption, drawing, pdf)
    return written
