"""Dropout masks as compiled kernels: PyTorch's own stream of random numbers, several times as fast.

`Tensor.bernoulli_` of a CPU draws number after number from its Mersenne Twister. These kernels advance the same
generator a block of 624 words at a time, which vectorises, and drop in the same pass; every number they draw and the
state they leave are PyTorch's, to the bit.

Source: Matsumoto and Nishimura, "Mersenne Twister", ACM Trans. Model. Comput. Simul. 8 (1998), table II; PyTorch,
ATen/core/MT19937RNGEngine.h, for the state, and TransformationHelper.h, for the uniform number of 53 bits.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from qablate.simd import compiled, inline

BLOCK, MIDDLE = 624, 397
UNIFORM_BITS = 53    # of the 64 drawn for one number
LEFT, NEXT, FIRST = 1, 2, 3    # where the generator's state, as 64-bit words, keeps its counters and its block

U32, U64 = np.uint32, np.uint64
UPPER, LOWER, TWIST, ONE = U32(0x80000000), U32(0x7FFFFFFF), U32(0x9908B0DF), U32(1)
COUNTER = U64(0xFFFFFFFF)
UNIFORM = U64((1 << UNIFORM_BITS) - 1)


@inline
def _twisted(upper: Any, lower: Any, far: Any) -> Any:
    mixed = (upper & UPPER) | (lower & LOWER)
    return far ^ (mixed >> ONE) ^ (TWIST * (mixed & ONE))


@inline
def _next_block(block: Any) -> None:
    """Replace the block; cut in three where the recurrence begins to read its own output."""
    for i in range(BLOCK - MIDDLE):
        block[i] = _twisted(block[i], block[i + 1], block[i + MIDDLE])
    for i in range(BLOCK - MIDDLE, BLOCK - 1):
        block[i] = _twisted(block[i], block[i + 1], block[i + MIDDLE - BLOCK])
    block[BLOCK - 1] = _twisted(block[BLOCK - 1], block[0], block[MIDDLE - 1])


@inline
def _temper(block: Any, words: Any) -> None:
    for i in range(BLOCK):
        word = block[i]
        word ^= word >> U32(11)
        word ^= (word << U32(7)) & U32(0x9D2C5680)
        word ^= (word << U32(15)) & U32(0xEFC60000)
        words[i] = word ^ (word >> U32(18))


def _mask(scale: Any, x: Any, out: Any, kept: Any) -> None:
    """Fill out (n) with `scale` x (n) where kept, else 0 x."""
    for i in range(x.size):
        out[i] = x[i] * (scale * kept[i])


_masked = inline(_mask)


def _drop(generator: Any, threshold: Any, scale: Any, x: Any, out: Any, kept: Any) -> None:
    """Fill out (n) with `scale` x (n) where a draw is below `threshold`, else 0 x; kept (n) with which; advance.

    generator: PyTorch's state as 64-bit words. threshold: of 53 bits. One spare word in front of the tempered block
    takes the last one of the block before it when a number's two words lie in both.
    """
    block, words = np.empty(BLOCK, U32), np.empty(BLOCK + 1, U32)
    for i in range(BLOCK):
        block[i] = U32(generator[FIRST + i])
    _temper(block, words[1:])
    at = BLOCK + 1 if generator[LEFT] & COUNTER == ONE else 1 + np.int64(generator[NEXT])
    done = 0
    while True:
        count = min((BLOCK + 1 - at) // 2, x.size - done)
        drawn, here = words[at : at + 2 * count], kept[done : done + count]
        for j in range(count):
            number = (U64(drawn[2 * j]) << U64(32)) | U64(drawn[2 * j + 1])
            here[j] = (number & UNIFORM) < threshold
        _masked(scale, x[done : done + count], out[done : done + count], here)
        done += count
        at += 2 * count
        if done == x.size:
            break
        words[0] = words[BLOCK]
        at -= BLOCK
        _next_block(block)
        _temper(block, words[1:])
    for i in range(BLOCK):
        generator[FIRST + i] = block[i]
    generator[NEXT] = at - 1
    generator[LEFT] = (generator[LEFT] & ~COUNTER) | U64(BLOCK + 2 - at)


drop = compiled(_drop)
mask = compiled(_mask)
