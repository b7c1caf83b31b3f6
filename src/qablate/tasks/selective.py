"""Selective copy (`selective_copy-g1`): output j is the value at the (j+1)-th marked step.

Values are continuous, there is no vocabulary. An item takes 2 * length - 1 random words whatever the number of markers
is, so datasets of one seed and length that differ only in `n_markers` share their values, and the markers of the
smaller one are among those of the larger one: they are not independent samples. Source: the published study; Gu and Dao
2023 for the task it is named after.
"""

import numpy as np
from numpy.typing import NDArray

from qablate.errors import QablateError
from qablate.study import DatasetSpec
from qablate.tasks.dataset import Arrays, Generator
from qablate.tasks.marked_values import marked_layout, marked_sequences
from qablate.tasks.random_words import Words, permutation_heads

PLACEMENTS = ("uniform",)


def selective_copy(n_samples: int, length: int, seed: int, n_markers: int = 8, placement: str = "uniform") -> Arrays:
    """Draw `n_samples` items of `length` steps (at least `n_markers`); targets are (n, n_markers) float32.

    `extras["marker_indices"]` is (n, n_markers) int64 in time order. Raises QablateError for an unknown placement.
    """
    if placement not in PLACEMENTS:
        raise QablateError(f"selective_copy: placement '{placement}' is not one of {', '.join(PLACEMENTS)}")

    def place(words: Words) -> NDArray[np.int64]:
        return permutation_heads(words, n_markers)

    drawn = marked_sequences(n_samples, length, n_markers, seed, length - 1, place)
    return Arrays(drawn.sequences, drawn.marked, {"marker_indices": drawn.positions})


def _arrays(spec: DatasetSpec) -> Arrays:
    n_markers, placement = int(spec.parameters["n_markers"]), str(spec.parameters["placement"])
    return selective_copy(spec.n_items, spec.length, spec.seed, n_markers, placement)


GENERATOR = Generator(_arrays, marked_layout)
