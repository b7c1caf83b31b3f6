"""Norm, gate, convolution and dropout as compiled kernels: one pass over memory where torch takes three to ten.

Arrays are flat, from the first number of a tensor on; `stride` numbers lie between two of its rows, so halves of a
wider tensor are read where they lie; strides come in the order of the arrays.
Shapes: b batch, l length, r rows, e width, j taps.

Dropout draws PyTorch's own masks, several times as fast. `Tensor.bernoulli_` of a CPU draws number after number from
its Mersenne Twister; `drop` advances the same generator a block of 624 words at a time, which vectorises, and drops in
the same pass; every number it draws and the state it leaves are PyTorch's, to the bit.
Source: Matsumoto and Nishimura, "Mersenne Twister", ACM Trans. Model. Comput. Simul. 8 (1998), table II; PyTorch,
ATen/core/MT19937RNGEngine.h, for the state, and TransformationHelper.h, for the uniform number of 53 bits.
"""

from typing import Any

import numpy as np

from qablate.simd import (
    compiled,
    exp,
    inline,
    lane_count,
    load,
    pointer,
    read_part,
    shift,
    splat,
    store,
    total,
    write_part,
)

BLOCK, MIDDLE = 624, 397
UNIFORM_BITS = 53    # of the 64 drawn for one number
LEFT, NEXT, FIRST = 1, 2, 3    # where the generator's state, as 64-bit words, keeps its counters and its block

U32, U64 = np.uint32, np.uint64
UPPER, LOWER, TWIST, ONE = U32(0x80000000), U32(0x7FFFFFFF), U32(0x9908B0DF), U32(1)
COUNTER = U64(0xFFFFFFFF)
UNIFORM = U64((1 << UNIFORM_BITS) - 1)


@inline
def _read(source: Any, index: int, count: int, spare: Any) -> Any:
    """The vector of `count` numbers from element `index` on, zeros behind them; `spare` is room for one vector."""
    if count == lane_count(source):
        return load(shift(source, index), 0)
    read_part(source, index, count, spare, 0)
    return load(spare, 0)


@inline
def _write(value: Any, count: int, target: Any, index: int, spare: Any) -> None:
    """The reverse of `_read`."""
    if count == lane_count(target):
        store(shift(target, index), 0, value)
        return
    store(spare, 0, value)
    write_part(spare, 0, count, target, index)


@inline
def _add(value: Any, count: int, target: Any, index: int, spare: Any) -> None:
    """Add to the numbers that `_read` would return."""
    _write(_read(target, index, count, spare) + value, count, target, index, spare)


@inline
def _sigmoid(x: Any, one: Any) -> Any:
    return one / (one + exp(-x))


@inline
def _silu_slope(x: Any, sigmoid: Any, one: Any) -> Any:
    return sigmoid * (one + x * (one - sigmoid))


def _gate(e: int, gate: Any, value: Any, out: Any, stride: Any, memory: Any) -> None:
    """Fill out (r, e) with SiLU(gate) value."""
    gate_, value_, out_, spare = pointer(gate), pointer(value), pointer(out), pointer(memory)
    lanes, one = lane_count(spare), splat(spare, 1.0)
    for row in range(out.size // e):
        for start in range(0, e, lanes):
            count = min(lanes, e - start)
            z = _read(gate_, row * stride[0] + start, count, spare)
            y = _read(value_, row * stride[1] + start, count, spare)
            _write(z / (one + exp(-z)) * y, count, out_, row * e + start, spare)


def _gate_gradients(
    e: int, gate: Any, value: Any, grad: Any, to_gate: Any, to_value: Any, stride: Any, memory: Any
) -> None:
    """Fill the gradients of gate and value from that of their product."""
    gate_, value_, grad_, spare = pointer(gate), pointer(value), pointer(grad), pointer(memory)
    to_gate_, to_value_ = pointer(to_gate), pointer(to_value)
    lanes, one = lane_count(spare), splat(spare, 1.0)
    for row in range(to_gate.size // e):
        for start in range(0, e, lanes):
            count = min(lanes, e - start)
            z = _read(gate_, row * stride[0] + start, count, spare)
            y = _read(value_, row * stride[1] + start, count, spare)
            g = _read(grad_, row * stride[2] + start, count, spare)
            s = _sigmoid(z, one)
            _write(g * y * _silu_slope(z, s, one), count, to_gate_, row * stride[3] + start, spare)
            _write(g * z * s, count, to_value_, row * stride[4] + start, spare)


def _norm(e: int, eps: float, x: Any, weight: Any, out: Any, scales: Any, stride: Any, memory: Any) -> None:
    """Fill out (r, e) with weight x / sqrt(mean(x^2) + eps), and scales (r) with the reciprocals of the roots."""
    x_, weight_, out_, spare = pointer(x), pointer(weight), pointer(out), pointer(memory)
    lanes = lane_count(spare)
    for row in range(scales.size):
        squares = splat(spare, 0.0)
        for start in range(0, e, lanes):
            part = _read(x_, row * stride[0] + start, min(lanes, e - start), spare)
            squares = squares + part * part
        scale = scales.dtype.type(1.0) / np.sqrt(total(squares) / scales.dtype.type(e) + scales.dtype.type(eps))
        scales[row] = scale
        for start in range(0, e, lanes):
            count = min(lanes, e - start)
            part = _read(x_, row * stride[0] + start, count, spare) * splat(spare, scale)
            _write(part * _read(weight_, start, count, spare), count, out_, row * e + start, spare)


def _norm_gradients(
    e: int, x: Any, weight: Any, scales: Any, grad: Any, to_x: Any, to_weight: Any, stride: Any, memory: Any
) -> None:
    """Fill to_x (r, e) and add to to_weight (e), which comes as zeros."""
    x_, weight_, grad_, spare = pointer(x), pointer(weight), pointer(grad), pointer(memory)
    to_x_, to_weight_ = pointer(to_x), pointer(to_weight)
    lanes = lane_count(spare)
    for row in range(scales.size):
        dot = splat(spare, 0.0)
        scale = splat(spare, scales[row])
        for start in range(0, e, lanes):
            count = min(lanes, e - start)
            g = _read(grad_, row * stride[3] + start, count, spare)
            part = _read(x_, row * stride[0] + start, count, spare) * scale
            dot = dot + g * part * _read(weight_, start, count, spare)
            _add(g * part, count, to_weight_, start, spare)
        mean = splat(spare, total(dot) / scales.dtype.type(e))
        for start in range(0, e, lanes):
            count = min(lanes, e - start)
            g = _read(grad_, row * stride[3] + start, count, spare) * _read(weight_, start, count, spare)
            part = _read(x_, row * stride[0] + start, count, spare) * scale
            _write((g - part * mean) * scale, count, to_x_, row * e + start, spare)


@inline
def _convolved(x: Any, index: int, stride: int, t: int, e: int, taps: Any, start: int, count: int, spare: Any) -> Any:
    """bias + sum_i taps_i x_{t - i}: row `i` of `taps` holds the weight of `i` steps ago, row 4 the bias."""
    value = _read(taps, 4 * e + start, count, spare)
    for lag in range(min(3, t) + 1):
        value = value + _read(x, index - lag * stride, count, spare) * _read(taps, lag * e + start, count, spare)
    return value


def _convolution(b: int, length: int, e: int, x: Any, taps: Any, out: Any, stride: Any, memory: Any) -> None:
    """Fill out (b, l, e) with SiLU of the causal convolution of x with taps (5, e), of which the last is the bias."""
    x_, taps_, out_, spare = pointer(x), pointer(taps), pointer(out), pointer(memory)
    lanes, one = lane_count(spare), splat(spare, 1.0)
    for row in range(b * length):
        for start in range(0, e, lanes):
            count = min(lanes, e - start)
            a = _convolved(x_, row * stride[0] + start, stride[0], row % length, e, taps_, start, count, spare)
            _write(a / (one + exp(-a)), count, out_, row * e + start, spare)


def _convolution_gradients(
    b: int, length: int, e: int, x: Any, taps: Any, grad: Any, to_x: Any, to_taps: Any, stride: Any, memory: Any
) -> None:
    """Fill to_x (b, l, e) and add to to_taps (5, e); both come as zeros."""
    x_, taps_, grad_, spare = pointer(x), pointer(taps), pointer(grad), pointer(memory)
    to_x_, to_taps_ = pointer(to_x), pointer(to_taps)
    lanes, one = lane_count(spare), splat(spare, 1.0)
    for row in range(b * length):
        t = row % length
        for start in range(0, e, lanes):
            count = min(lanes, e - start)
            a = _convolved(x_, row * stride[0] + start, stride[0], t, e, taps_, start, count, spare)
            g = _read(grad_, row * stride[2] + start, count, spare) * _silu_slope(a, _sigmoid(a, one), one)
            _add(g, count, to_taps_, 4 * e + start, spare)
            for lag in range(min(3, t) + 1):
                earlier = _read(x_, (row - lag) * stride[0] + start, count, spare)
                _add(g * earlier, count, to_taps_, lag * e + start, spare)
                _add(g * _read(taps_, lag * e + start, count, spare), count, to_x_, (row - lag) * e + start, spare)


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


gate, gate_gradients = compiled(_gate), compiled(_gate_gradients)
norm, norm_gradients = compiled(_norm), compiled(_norm_gradients)
convolution, convolution_gradients = compiled(_convolution), compiled(_convolution_gradients)
drop, mask = compiled(_drop), compiled(_mask)
