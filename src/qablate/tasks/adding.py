"""Adding problem (`adding_problem-g1`): the target is the sum of the two marked values.

Placements: `extremes` (published) marks one step in the first and one in the last tenth; `halves` one in each half;
`uniform` any two steps. Sources: the published study; Hochreiter and Schmidhuber 1997 for the task.
"""

import numpy as np
from numpy.typing import NDArray

from qablate.errors import QablateError
from qablate.study import DatasetSpec
from qablate.tasks.dataset import Arrays, Generator
from qablate.tasks.marked_values import marked_layout, marked_sequences
from qablate.tasks.random_words import Words, permutation_heads

N_MARKERS = 2
PLACEMENTS = ("extremes", "halves", "uniform")


def adding_problem(n_samples: int, length: int, seed: int, placement: str = "extremes") -> Arrays:
    """Draw `n_samples` items of `length` steps (at least 2); targets are (n, 1) float32.

    `extras["marker_indices"]` is (n, 2) int64 in time order. Raises QablateError for an unknown placement.
    """
    if placement not in PLACEMENTS:
        raise QablateError(f"adding_problem: placement '{placement}' is not one of {', '.join(PLACEMENTS)}")

    def place(words: Words) -> NDArray[np.int64]:
        if placement == "uniform":
            return permutation_heads(words, N_MARKERS)
        first, last = regions(length, placement)
        sizes = np.array([len(first), len(last)], dtype=np.uint32)
        return (words % sizes).astype(np.int64) + np.array([first.start, last.start])

    n_placement_words = length - 1 if placement == "uniform" else N_MARKERS
    drawn = marked_sequences(n_samples, length, N_MARKERS, seed, n_placement_words, place)
    targets = drawn.marked[:, :1] + drawn.marked[:, 1:]     # (n, 1), summed in float32 as published
    return Arrays(drawn.sequences, targets, {"marker_indices": drawn.positions})


def regions(length: int, placement: str) -> tuple[range, range]:
    """Return the steps where the first and the second marker may lie."""
    if placement == "extremes":
        tenth = max(1, length // 10)
        return range(tenth), range(length - tenth, length)
    if placement == "halves":
        return range(length // 2), range(length // 2, length)
    return range(length), range(length)


def _arrays(spec: DatasetSpec) -> Arrays:
    if spec.parameters["n_markers"] != N_MARKERS:
        raise QablateError(f"{spec.task}: n_markers {spec.parameters['n_markers']} is not made here, only {N_MARKERS}")
    return adding_problem(spec.n_items, spec.length, spec.seed, str(spec.parameters["placement"]))


GENERATOR = Generator(_arrays, marked_layout)
