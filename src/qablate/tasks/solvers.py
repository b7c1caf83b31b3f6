"""Reference solvers and ceilings: what an algorithm reaches that knows the task, or knows only a part of the input.

Shapes: n items, l length, N = 2**n_bits table entries, d features, o outputs.
"""

from collections.abc import Iterable
from dataclasses import replace
from math import comb
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from qablate.tasks.dataset import Dataset
from qablate.tasks.draws import Split, split_of
from qablate.tasks.forrelation import decode_steps, phi_numerators, walsh_hadamard
from qablate.tasks.metrics import regression_metrics

Floats = NDArray[np.float64]
RIDGE_STRENGTHS = (0.01, 0.1, 1.0, 10.0, 100.0)
"""Penalties per training item, for standardised features."""


def seen_tables(sequences: NDArray[np.float32], n_bits: int) -> NDArray[np.int8]:
    """Return the tables (n, 2, N) as far as a sequence shows them; entries never shown are 0."""
    addresses, values = decode_steps(sequences, n_bits)
    tables = np.zeros((len(sequences), 2, 1 << n_bits), dtype=np.int8)
    np.put_along_axis(tables, addresses.transpose(0, 2, 1), values.transpose(0, 2, 1), axis=2)
    return tables


def plug_in_phi(sequences: NDArray[np.float32], n_bits: int) -> Floats:
    """Return the plug-in statistic (n,): Phi summed over the seen entries only."""
    return phi_numerators(seen_tables(sequences, n_bits)) / float(1 << n_bits) ** 1.5


def best_threshold(scores: Floats, labels: NDArray[np.int64]) -> float:
    """Return the t for which `scores > t` says class 1 most often right on these items; the smallest among equals."""
    order = np.argsort(scores, kind="stable")
    ranked, is_one = scores[order], labels[order] == 1
    hits = np.concatenate([[is_one.sum()], is_one.sum() - np.cumsum(is_one) + np.cumsum(~is_one)])
    between = np.concatenate([[ranked[0] - 1], (ranked[:-1] + ranked[1:]) / 2, [ranked[-1] + 1]])
    possible = np.concatenate([[True], ranked[:-1] < ranked[1:], [True]])     # no cut between equal scores
    return float(between[np.argmax(np.where(possible, hits, -1))])


def chunk_ceiling(length: int, chunk: int, n_markers: int = 8, both_directions: bool = False) -> float:
    """Return the largest R2 on selective copy for a model that knows no order of steps inside a chunk, the last short.

    Markers that share a cell can only be given their common mean, so the ceiling is E[occupied cells] / n_markers for
    markers drawn uniformly without replacement from all steps. With `both_directions` the reversed sequence is chunked
    too, and a cell is what neither chunking divides.
    """
    total = comb(length, n_markers)
    sizes = np.diff(cell_bounds(length, chunk, both_directions)).tolist()
    return sum(1 - comb(length - size, n_markers) / total for size in sizes) / n_markers


def cell_bounds(length: int, chunk: int, both_directions: bool = False) -> list[int]:
    """Return the first step of every cell, and the length; see `chunk_ceiling`."""
    bounds = {*range(0, length, chunk), length}
    if both_directions:
        bounds |= {length - bound for bound in bounds}
    return sorted(bounds)


def position_only_limit(length: int, n_markers: int) -> float:
    """Return the R2 on selective copy of the best linear rule that does not see which steps are marked.

    Output j depends on step t with the probability that the (j+1)-th marker lies there; R2 is its sum of squares.
    """
    total = comb(length, n_markers)
    probabilities = [
        comb(t, j) * comb(length - 1 - t, n_markers - 1 - j) / total for j in range(n_markers) for t in range(length)
    ]
    return sum(p * p for p in probabilities) / n_markers


def ridge(
    train: tuple[NDArray[Any], NDArray[Any]],
    val: tuple[NDArray[Any], NDArray[Any]],
    inputs: NDArray[Any],
) -> Floats:
    """Predict (k, o) for `inputs` (k, d) by ridge regression with intercept, the penalty chosen on `val`.

    `train` and `val` are features (n, d) and targets (n, o). Features are standardised by the training set. With far
    more features than items the equivalent equations between items are solved.
    """
    centre, scale = train[0].mean(axis=0, dtype=np.float64), train[0].std(axis=0, dtype=np.float64)
    scale[scale == 0] = 1
    features, val_features, wanted = ((part - centre) / scale for part in (train[0], val[0], inputs))
    offset = train[1].mean(axis=0, dtype=np.float64)
    if features.shape[1] > 2 * len(features):
        gram, moments = features @ features.T, train[1] - offset     # (n, n), (n, o)
    else:
        gram, moments = features.T @ features, features.T @ (train[1] - offset)     # (d, d), (d, o)
    penalties = np.eye(len(gram)) * len(features)
    fits = [np.linalg.solve(gram + strength * penalties, moments) for strength in RIDGE_STRENGTHS]
    if len(gram) != features.shape[1]:
        fits = [features.T @ fit for fit in fits]
    losses = [np.mean((val_features @ fit + offset - val[1]) ** 2) for fit in fits]
    return wanted @ fits[int(np.argmin(losses))] + offset


def solver_accuracies(dataset: Dataset, n_train: int | None = None) -> dict[str, float]:
    """Return the test accuracies of the Forrelation solvers on the dataset's own split.

    `plug_in`: threshold on the plug-in Phi fitted on the training items. `table_ridge`: ridge on the products of table
    entries, the penalty chosen on the validation items. `linear`: the same on the tables alone, the negative control.
    With `n_train` they see that many of the training items, the first of the split.
    """
    split, n_bits = split_of(dataset.spec), int(dataset.spec.parameters["n_bits"])
    split = replace(split, train=split.train[:n_train])
    labels = dataset.targets
    phi = plug_in_phi(dataset.sequences, n_bits)
    cut = best_threshold(phi[split.train], labels[split.train])
    seen = seen_tables(dataset.sequences, n_bits)
    wide = seen.astype(np.float32)
    products = (wide[:, 0, :, None] * wide[:, 1, None, :]).reshape(len(labels), -1)     # f(x) g(y), (n, N * N)
    return {
        "plug_in": float(np.mean((phi[split.test] > cut) == labels[split.test])),
        "table_ridge": ridge_accuracy(products, labels, split),
        "linear": ridge_accuracy(seen.reshape(len(labels), -1), labels, split),
    }


def degree_marks(dataset: Dataset, degrees: Iterable[int] = (1, 2, 3, 4), n_train: int = 4000) -> dict[int, float]:
    """Return, per degree d, the test accuracy on Forrelation of a ridge on products with at most d address bits.

    A feature is the sum of f over the seen entries times a parity of address bits, times the same of g. Phi weighs all
    4**n_bits of them alike, so that no degree carries more than its share: a model at the mark of d has learnt d bits,
    at d = 2 n_bits everything. The ridge sees the first `n_train` training items.
    """
    split, n_bits = split_of(dataset.spec), int(dataset.spec.parameters["n_bits"])
    parts = split.train[:n_train], split.val, split.test
    items = np.concatenate(parts)
    cuts = np.cumsum([len(part) for part in parts])[:2]
    local = Split(*np.split(np.arange(len(items)), cuts))
    parities = walsh_hadamard(seen_tables(dataset.sequences[items], n_bits).astype(np.float32))     # (n, 2, N)
    n_set = np.array([address.bit_count() for address in range(1 << n_bits)])
    marks = {}
    for degree in degrees:
        of_f, of_g = np.nonzero(n_set[:, None] + n_set <= degree)
        products = parities[:, 0, of_f] * parities[:, 1, of_g]
        marks[degree] = ridge_accuracy(products, dataset.targets[items], local)
    return marks


def ridge_accuracy(features: NDArray[Any], labels: NDArray[np.int64], split: Split) -> float:
    """Return the test accuracy of the sign of a ridge from features (n, d) to labels (n,), taken as -1 and +1."""
    signs = (2.0 * labels - 1)[:, None]
    fitted = ridge((features[split.train], signs[split.train]), (features[split.val], signs[split.val]),
                   features[split.test])
    return float(np.mean((fitted[:, 0] > 0) == labels[split.test]))


def cell_means(
    sequences: NDArray[np.float32], chunk: int, n_markers: int, both_directions: bool = False
) -> Floats:
    """Predict Selective Copy (n, m) as the best model does that knows no order inside a cell: by its cell's mean.

    Cells are those of `chunk_ceiling`.
    """
    marked = sequences[..., 1] > 0.5
    positions = np.argsort(~marked, axis=1, kind="stable")[:, :n_markers]
    values = np.take_along_axis(sequences[..., 0], positions, axis=1)     # (n, m)
    bounds = cell_bounds(sequences.shape[1], chunk, both_directions)
    cells = np.searchsorted(bounds, positions, side="right")
    same = cells[:, :, None] == cells[:, None, :]
    return (same * values[:, None, :].astype(np.float64)).sum(axis=2) / same.sum(axis=2)


def cell_mean_score(dataset: Dataset, chunk: int, both_directions: bool = False) -> float:
    """Return the R2 of the exact cell means on the test items of a Selective Copy dataset.

    What a run with this chunk can reach on its own items; test sets of 500 items deviate from `chunk_ceiling` by up to
    .03.
    """
    test = split_of(dataset.spec).test
    targets = dataset.targets[test]
    means = cell_means(dataset.sequences[test], chunk, targets.shape[1], both_directions)
    return cast(float, regression_metrics(means, targets)["test_r2"])


def read_cells(counts: NDArray[Any], sums: NDArray[Any], n_markers: int) -> Floats:
    """Predict Selective Copy (n, m) from estimates (n, k) of the markers per cell and of the sum of their values.

    The fixed rule: counts are rounded, the j-th output is the mean of the cell that holds the j-th marker. Outputs
    beyond the markers counted are 1/2, the mean of all values.
    """
    whole = np.clip(np.rint(counts), 0, None)
    means = np.clip(sums / np.maximum(whole, 1), 0, 1)
    last = whole.cumsum(axis=1)     # markers in this cell and before
    cell = (last[:, None, :] <= np.arange(n_markers)[:, None]).sum(axis=2)     # (n, m), k beyond the last marker
    return np.take_along_axis(np.pad(means, ((0, 0), (0, 1)), constant_values=0.5), cell, axis=1)


def position_readout_limit(n_markers: int = 8) -> float:
    """Return the R2 on Selective Copy of the best additive read-out by position, for long sequences.

    With m markers: sum over j of C(m-1, j)^2 / ((2m - 1) C(2m - 2, 2j)).
    """
    last = n_markers - 1
    return sum(comb(last, j) ** 2 / ((2 * last + 1) * comb(2 * last, 2 * j)) for j in range(n_markers))
