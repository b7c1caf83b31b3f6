"""The random words behind adding and selective copy, and what is made of them.

The published datasets came from torch's CPU generator, whose stream is MT19937 with the classic single-integer seeding.
`numpy.random.RandomState` gives the same 32-bit words; numpy has promised never to change it, and an instance of its
own touches no global state. Symbols: n items, w words.
"""

import numpy as np
from numpy.typing import NDArray

Words = NDArray[np.uint32]
WORD_LIMIT = 1 << 32


class RandomWords:
    """The word stream of one seed (0 to 2**32 - 1)."""

    def __init__(self, seed: int) -> None:
        self._state = np.random.RandomState(seed)

    def take(self, *shape: int) -> Words:
        """Return the next words in C order; splitting one call into several does not change them."""
        return self._state.randint(0, WORD_LIMIT, size=shape, dtype=np.uint32)


def unit_floats(words: Words) -> NDArray[np.float32]:
    """Map words to float32 in [0, 1): the low 24 bits times 2**-24, as torch's `rand` does."""
    return (words & np.uint32(0xFFFFFF)).astype(np.float32) * np.float32(2.0**-24)


def permutation(words: Words) -> NDArray[np.int64]:
    """Permute 0..n-1 with n-1 words, as torch's `randperm` does: forward Fisher-Yates. Returns (n,) int64."""
    n = len(words) + 1
    entries = list(range(n))
    for i, word in enumerate(words.tolist()):
        j = i + word % (n - i)
        entries[i], entries[j] = entries[j], entries[i]
    return np.array(entries, dtype=np.int64)


def permutation_heads(words: Words, count: int) -> NDArray[np.int64]:
    """Return the first `count` entries of one permutation an item, all items at once.

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
