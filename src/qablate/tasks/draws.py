"""The random words behind adding, selective copy and all splits, and what is made of them.

The published datasets came from torch's CPU generator, whose stream is MT19937 with the classic single-integer seeding.
`numpy.random.RandomState` gives the same 32-bit words; numpy has promised never to change it, and an instance of its
own touches no global state. Symbols: n items, w words.
"""

import functools
import hashlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from qablate.study import DatasetSpec, split_sizes

Words = NDArray[np.uint32]
Indices = NDArray[np.int64]
WORD_LIMIT = 1 << 32


class RandomWords(np.random.RandomState):
    """The word stream of one seed (0 to 2**32 - 1)."""

    def take(self, *shape: int) -> Words:
        """Return the next words in C order; splitting one call into several does not change them."""
        return self.randint(0, WORD_LIMIT, size=shape, dtype=np.uint32)


def unit_floats(words: Words) -> NDArray[np.float32]:
    """Map words to float32 in [0, 1): the low 24 bits times 2**-24, as torch's `rand` does."""
    return (words & np.uint32(0xFFFFFF)).astype(np.float32) * np.float32(2.0**-24)


def permutation(words: Words) -> Indices:
    """Permute 0..n-1 with n-1 words, as torch's `randperm` does: forward Fisher-Yates. Returns (n,) int64."""
    n = len(words) + 1
    entries = list(range(n))
    for i, word in enumerate(words.tolist()):
        j = i + word % (n - i)
        entries[i], entries[j] = entries[j], entries[i]
    return np.array(entries, dtype=np.int64)


def permutation_heads(words: Words, count: int) -> Indices:
    """Return the first `count` entries of one permutation per item, all items at once.

    `words` is (n, length - 1), each row what `permutation` takes; the result is (n, count) int64. Entries after the
    first `count` are never looked at, so only that many steps of the shuffle are made.
    """
    n, length = words.shape[0], words.shape[1] + 1
    entries = np.tile(np.arange(length, dtype=np.int32), (n, 1))     # (n, length)
    rows = np.arange(n)
    for i in range(min(count, length - 1)):
        j = i + (words[:, i] % np.uint32(length - i)).astype(np.int64)     # (n,)
        picked = entries[rows, j]
        entries[rows, j] = entries[:, i]
        entries[:, i] = picked
    return entries[:, :count].astype(np.int64)


@dataclass(frozen=True, eq=False)
class Split:
    """Indices (int64) of the items of each part, in the order of the permutation."""

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
    """Divide 0..n_samples-1 into parts of `split_sizes`, from one permutation by the data seed.

    The first 80 % train, the next 10 % validate, the rest test. The training set is that of the published study in all
    three tasks; for Forrelation the published hold-out, used there for validation and testing at once, is divided.
    Items from `n_samples` to `n_items` - 1 are added to the training items, which leaves the other parts as they are.
    """
    order = permutation(RandomWords(spec.seed).take(spec.n_samples - 1))
    n_train, n_val, _ = split_sizes(spec.n_samples)
    train = np.concatenate([order[:n_train], np.arange(spec.n_samples, spec.n_items)])
    return Split(train, order[n_train:n_train + n_val], order[n_train + n_val:])
