"""The report's figures in order: title, caption, and the function that draws each from the collected runs."""

import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from qablate.analysis.agreement import has_pairs, system_agreement
from qablate.analysis.curves import learning_curves, length_curves
from qablate.analysis.figure import Drawing, Figure, write_figure
from qablate.analysis.maps import score_map, state_map
from qablate.analysis.runs import Collection
from qablate.analysis.style import look
from qablate.catalog import task_info

SCORE_CAPTION = ("Mean test score over seeds; n where planned runs are missing. The colour is the share of the way "
                 "from the baseline (majority rate, or training mean predicted) to a perfect score; for the Adding "
                 "Problem it is logarithmic and full at a ten-thousandth of the baseline. Hatched: no score.")
STATE_CAPTION = "One square a seed, seeds ascending from left to right; the legend counts the cells."
AGREEMENT_CAPTION = ("One point a cell and two results of it: the primary test metric of one against the other, which "
                     "are equal on the line. Copies of one run and scores selected on test items are left out.")
LEARNING_CAPTION = ("Validation of every run, mean training curve over seeds (with dropout on); the point is the epoch "
                    "whose weights were tested.")
LENGTH_CAPTION = ("Small points are runs, large points and lines means over seeds, shifted sideways a little so that "
                  "models do not cover each other. Diverged runs are left out.")


@dataclass(frozen=True)
class Entry:
    """A figure before it is drawn."""

    id: str
    title: str
    caption: str
    draw: Callable[[Collection], Drawing]


def entries(collection: Collection) -> Iterator[Entry]:
    """Yield the figures of a study: two maps, agreement if there is any, two figures for each of its tasks."""
    yield Entry("score_map", "Scores of all models", SCORE_CAPTION, score_map)
    yield Entry("state_map", "What is there and what is missing", STATE_CAPTION, state_map)
    if has_pairs(collection):
        yield Entry("system_agreement", "Cells that were trained more than once", AGREEMENT_CAPTION, system_agreement)
    for task in collection.tasks:
        title = task_info(task).title
        yield Entry(f"length_{task}", f"{title}: score by length", LENGTH_CAPTION + _REFERENCES[task],
                    functools.partial(length_curves, task=task))
        yield Entry(f"learning_{task}", f"{title}: learning curves", LEARNING_CAPTION,
                    functools.partial(learning_curves, task=task))


_REFERENCES = {
    "forrelation": " Grey line: majority rate of the test split.",
    "adding_problem": " Grey line: error of predicting the training mean.",
    "selective_copy": " Grey line: predicting the training mean; dashed lines: the chunk ceiling of the models named.",
}


def write_figures(collection: Collection, folder: Path) -> dict[str, Figure]:
    """Draw and write every figure below `folder`; return them by id."""
    written = {}
    with look():
        for entry in entries(collection):
            written[entry.id] = write_figure(folder, entry.id, entry.title, entry.caption, entry.draw(collection))
    return written
