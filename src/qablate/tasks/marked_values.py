"""Sequences of random values with marked steps: what adding and selective copy share.

Channel 0 holds a value in [0, 1) at every step, channel 1 is 1 at the marked steps and 0 elsewhere. An item owns a
fixed number of random words, first those of its values, then those of its markers, so that items need no loop.
Shapes: n items, l length, m markers.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from qablate.study import DatasetSpec
from qablate.tasks.dataset import Layout
from qablate.tasks.random_words import RandomWords, Words, unit_floats

BLOCK_WORDS = 1 << 22
"""Words drawn at a time (16 MB), so that the memory beyond the dataset itself stays small."""


class MarkedSequences(NamedTuple):
    """`sequences` (n, l, 2) float32, `marked` (n, m) float32 values at `positions` (n, m) int64, in time order."""

    sequences: NDArray[np.float32]
    marked: NDArray[np.float32]
    positions: NDArray[np.int64]


def marked_layout(spec: DatasetSpec) -> Layout:
    """Extras of both tasks: the marked steps, (n, m) int64."""
    return {"marker_indices": (np.dtype("<i8"), (spec.n_items, int(spec.parameters["n_markers"])))}


def marked_sequences(
    n_samples: int,
    length: int,
    n_markers: int,
    seed: int,
    n_placement_words: int,
    place: Callable[[Words], NDArray[np.int64]],
) -> MarkedSequences:
    """Draw all items; `place` turns (n, n_placement_words) words into (n, m) marked steps."""
    words = RandomWords(seed)
    sequences = np.zeros((n_samples, length, 2), dtype=np.float32)
    positions = np.empty((n_samples, n_markers), dtype=np.int64)
    block = max(1, BLOCK_WORDS // (length + n_placement_words))
    for start in range(0, n_samples, block):
        items = slice(start, min(start + block, n_samples))
        drawn = words.take(items.stop - start, length + n_placement_words)
        sequences[items, :, 0] = unit_floats(drawn[:, :length])
        positions[items] = np.sort(place(drawn[:, length:]), axis=1)
    np.put_along_axis(sequences[:, :, 1], positions, np.float32(1), axis=1)
    return MarkedSequences(sequences, np.take_along_axis(sequences[:, :, 0], positions, axis=1), positions)
