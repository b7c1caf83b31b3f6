"""Sequences of random values with marked steps: the tasks `adding_problem-g1` and `selective_copy-g1`.

Channel 0 holds a value in [0, 1) at every step, channel 1 is 1 at the marked steps and 0 elsewhere. An item owns a
fixed number of random words, first those of its values, then those of its markers, so that items need no loop.
The extra `marker_indices` (n, m) int64 holds the marked steps in time order.
Sources: the published study; for the tasks Hochreiter and Schmidhuber 1997 and Gu and Dao 2023.
Shapes: n items, l length, m markers.
"""

from collections.abc import Callable

import numpy as np

from qablate.study import DatasetSpec
from qablate.tasks.dataset import Arrays, Generator, Layout
from qablate.tasks.draws import Indices, RandomWords, Words, permutation_heads, unit_floats

BLOCK_WORDS = 1 << 22
"""Words drawn at a time (16 MB), so that the memory beyond the dataset itself stays small."""


def adding_problem(spec: DatasetSpec) -> Arrays:
    """Draw all items; the targets (n, 1) float32 are the sums of the two marked values.

    Placements: `extremes` (published) marks one step in the first and one in the last tenth; `halves` one in each half;
    `uniform` any two steps.
    """
    placement = str(spec.parameters["placement"])
    first, last = regions(spec.length, placement)

    def place(words: Words) -> Indices:
        sizes = np.array([len(first), len(last)], dtype=np.uint32)
        return (words % sizes).astype(np.int64) + np.array([first.start, last.start])

    drawn = selective_copy(spec) if placement == "uniform" else _drawn(spec, 2, place)
    return drawn._replace(targets=drawn.targets[:, :1] + drawn.targets[:, 1:])     # summed in float32 as published


def regions(length: int, placement: str) -> tuple[range, range]:
    """Return the steps where the first and the second marker of the adding problem may lie."""
    if placement == "extremes":
        tenth = max(1, length // 10)
        return range(tenth), range(length - tenth, length)
    if placement == "halves":
        return range(length // 2), range(length // 2, length)
    return range(length), range(length)


def selective_copy(spec: DatasetSpec) -> Arrays:
    """Draw all items; target j of (n, m) float32 is the value at the (j+1)-th marked step.

    Values are continuous, there is no vocabulary. An item takes 2 * length - 1 random words whatever the number of
    markers is, so datasets of one seed and length that differ only in `n_markers` share their values, and the markers
    of the smaller one are among those of the larger one: they are not independent samples.
    """
    return _drawn(spec, spec.length - 1, lambda words: permutation_heads(words, int(spec.parameters["n_markers"])))


def _drawn(spec: DatasetSpec, n_placement_words: int, place: Callable[[Words], Indices]) -> Arrays:
    """Draw all items, their targets the marked values; `place` turns (n, n_placement_words) words into (n, m) steps."""
    words = RandomWords(spec.seed)
    sequences = np.zeros((spec.n_items, spec.length, 2), dtype=np.float32)
    positions = np.empty((spec.n_items, int(spec.parameters["n_markers"])), dtype=np.int64)
    block = max(1, BLOCK_WORDS // (spec.length + n_placement_words))
    for start in range(0, spec.n_items, block):
        items = slice(start, min(start + block, spec.n_items))
        drawn = words.take(items.stop - start, spec.length + n_placement_words)
        sequences[items, :, 0] = unit_floats(drawn[:, :spec.length])
        positions[items] = np.sort(place(drawn[:, spec.length:]), axis=1)
    np.put_along_axis(sequences[:, :, 1], positions, np.float32(1), axis=1)
    marked = np.take_along_axis(sequences[:, :, 0], positions, axis=1)
    return Arrays(sequences, marked, {"marker_indices": positions})


def _arrays(spec: DatasetSpec) -> Arrays:
    return adding_problem(spec) if spec.task == "adding_problem" else selective_copy(spec)


def _layout(spec: DatasetSpec) -> Layout:
    return {"marker_indices": (np.dtype("<i8"), (spec.n_items, int(spec.parameters["n_markers"])))}


GENERATOR = Generator(_arrays, _layout)
