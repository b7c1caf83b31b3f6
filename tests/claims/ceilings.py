"""Limits of Selective Copy that only the tests of the claims name.

Shapes: n items, l length, m markers.
"""

import functools
import itertools
from math import comb

import numpy as np
from numpy.typing import NDArray

from qablate.tasks.solvers import chunk_ceiling, occupied_cells_ceiling


def sort_and_read(sequences: NDArray[np.float32], n_markers: int) -> NDArray[np.float32]:
    """Solve Selective Copy: the values (n, m) of the marked steps of inputs (n, l, 2), in the order of the steps."""
    marked = sequences[..., 1] > 0.5
    positions = np.argsort(~marked, axis=1, kind="stable")[:, :n_markers]
    return np.take_along_axis(sequences[..., 0], positions, axis=1)


def window_ceiling(length: int, chunk: int, window: int = 100, n_markers: int = 8) -> float:
    """Return the chunk ceiling when all markers lie in one window at a uniform offset, averaged over the offsets."""
    ceilings = []
    for start in range(length - window + 1):
        bounds = sorted({start, start + window, *range((start // chunk + 1) * chunk, start + window, chunk)})
        ceilings.append(occupied_cells_ceiling(
            (b - a for a, b in zip(bounds, bounds[1:], strict=False)), n_markers))
    return sum(ceilings) / len(ceilings)


def density_ceiling(length: int, chunk: int, density: float = 0.08) -> float:
    """Return the chunk ceiling with a marker on this share of the steps."""
    return chunk_ceiling(length, chunk, max(1, round(density * length)))


def order_lost_ceiling(length: int, chunk: int, n_draws: int, seed: int, n_markers: int = 8) -> float:
    """Return the R2 limit on Selective Copy if the order of full chunks is lost too; a short last chunk is known.

    Full chunks may then stand in any order, and the best output is the mean of the chunks' means weighted with the
    probability that a chunk covers it. Occupations are drawn, the posterior of each is exact.
    """
    generator = np.random.default_rng(seed)
    cells = np.argsort(generator.random((n_draws, length)), axis=1)[:, :n_markers] // chunk
    n_full = length // chunk
    total = 0.0
    for row in cells:
        sizes = np.bincount(row, minlength=n_full + 1)
        total += _covered(tuple(sorted(sizes[:n_full][sizes[:n_full] > 0].tolist())), int(sizes[n_full]))
    return total / n_draws / n_markers


@functools.cache
def _covered(sizes: tuple[int, ...], last: int) -> float:
    """Sum over outputs and chunks of P(chunk covers output)^2 / markers in the chunk; `last` markers close the row."""
    total = 1.0 if last else 0.0     # the mean of the last chunk explains 1/m of each of its m outputs
    for i, size in enumerate(sizes):
        others = sizes[:i] + sizes[i + 1:]
        starts = np.zeros(sum(sizes))
        for n_before in range(len(others) + 1):
            weight = 1 / (len(sizes) * comb(len(others), n_before))
            for before in itertools.combinations(others, n_before):
                starts[sum(before)] += weight
        covers = np.convolve(starts, np.ones(size))[: sum(sizes)]
        total += float((covers**2).sum()) / size
    return total
