"""Which items are for training, validation and testing.

One permutation of all items from the split seed: the first 80 % train, the next 10 % validate, the rest test. The
training set is that of the published study in all three tasks; for Forrelation the published hold-out, used there for
validation and testing at once, is divided.
"""

import functools
import hashlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from qablate.study import DatasetSpec, split_sizes
from qablate.tasks.random_words import RandomWords, permutation

Indices = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Split:
    """Indices (int64) of the items of each part, in the order of the permutation."""

    split_seed: int
    train: Indices
    val: Indices
    test: Indices

    @property
    def permutation(self) -> Indices:
        """All indices: train, validation, test."""
        return np.concatenate([self.train, self.val, self.test])

    @functools.cached_property
    def sha256(self) -> str:
        """Hash of the permutation as little-endian int64."""
        return hashlib.sha256(self.permutation.astype("<i8").tobytes()).hexdigest()


def split_of(spec: DatasetSpec) -> Split:
    """Return the split of a dataset; its seed is the data seed."""
    return make_split(spec.n_samples, spec.seed, spec.n_items)


def make_split(n_samples: int, split_seed: int, n_items: int | None = None) -> Split:
    """Divide 0..n_samples-1 into parts of `split_sizes`, from one permutation by the seed.

    Items from `n_samples` to `n_items` - 1 are added to the training items, which leaves the other parts as they are.
    """
    order = permutation(RandomWords(split_seed).take(n_samples - 1))
    n_train, n_val, _ = split_sizes(n_samples)
    train = np.concatenate([order[:n_train], np.arange(n_samples, n_items or n_samples)])
    return Split(split_seed, train, order[n_train:n_train + n_val], order[n_train + n_val:])
