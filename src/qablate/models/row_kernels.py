"""Norm, gate and convolution as compiled kernels: one pass over memory where torch takes three to ten.

Arrays are flat, from the first number of a tensor on; `stride` numbers lie between two of its rows, so halves of a
wider tensor are read where they lie. Shapes: b batch, l length, r rows, e width, j taps.
"""

from __future__ import annotations

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


def _gate(e: int, gate: Any, value: Any, stride: Any, out: Any, memory: Any) -> None:
    """Fill out (r, e) with SiLU(gate) value; strides of gate and value."""
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
    """Fill the gradients of gate and value from that of their product; strides in the order of the arguments."""
    gate_, value_, grad_, spare = pointer(gate), pointer(value), pointer(grad), pointer(memory)
    to_gate_, to_value_ = pointer(to_gate), pointer(to_value)
    lanes, one = lane_count(spare), splat(spare, 1.0)
    for row in range((grad.size - e) // stride[2] + 1):
        for start in range(0, e, lanes):
            count = min(lanes, e - start)
            z = _read(gate_, row * stride[0] + start, count, spare)
            y = _read(value_, row * stride[1] + start, count, spare)
            g = _read(grad_, row * stride[2] + start, count, spare)
            s = _sigmoid(z, one)
            _write(g * y * _silu_slope(z, s, one), count, to_gate_, row * stride[3] + start, spare)
            _write(g * z * s, count, to_value_, row * stride[4] + start, spare)


def _norm(e: int, eps: Any, x: Any, weight: Any, out: Any, scales: Any, memory: Any) -> None:
    """Fill out (r, e) with weight x / sqrt(mean(x^2) + eps), and scales (r) with the reciprocals of the roots."""
    x_, weight_, out_, spare = pointer(x), pointer(weight), pointer(out), pointer(memory)
    lanes = lane_count(spare)
    for row in range(scales.size):
        squares = splat(spare, 0.0)
        for start in range(0, e, lanes):
            part = _read(x_, row * e + start, min(lanes, e - start), spare)
            squares = squares + part * part
        scale = scales.dtype.type(1.0) / np.sqrt(total(squares) / scales.dtype.type(e) + eps)
        scales[row] = scale
        for start in range(0, e, lanes):
            count = min(lanes, e - start)
            part = _read(x_, row * e + start, count, spare) * splat(spare, scale)
            _write(part * _read(weight_, start, count, spare), count, out_, row * e + start, spare)


def _norm_gradients(
    e: int, x: Any, weight: Any, scales: Any, grad: Any, to_x: Any, to_weight: Any, memory: Any
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
            g = _read(grad_, row * e + start, count, spare)
            part = _read(x_, row * e + start, count, spare) * scale
            dot = dot + g * part * _read(weight_, start, count, spare)
            _add(g * part, count, to_weight_, start, spare)
        mean = splat(spare, total(dot) / scales.dtype.type(e))
        for start in range(0, e, lanes):
            count = min(lanes, e - start)
            g = _read(grad_, row * e + start, count, spare) * _read(weight_, start, count, spare)
            part = _read(x_, row * e + start, count, spare) * scale
            _write((g - part * mean) * scale, count, to_x_, row * e + start, spare)


@inline
def _convolved(x: Any, index: int, stride: int, t: int, e: int, taps: Any, start: int, count: int, spare: Any) -> Any:
    """bias + sum_i taps_i x_{t - i}: row `i` of `taps` holds the weight of `i` steps ago, the fourth the bias."""
    value = _read(taps, 4 * e + start, count, spare)
    for lag in range(min(3, t) + 1):
        value = value + _read(x, index - lag * stride, count, spare) * _read(taps, lag * e + start, count, spare)
    return value


def _convolution(b: int, length: int, e: int, x: Any, stride: int, taps: Any, out: Any, memory: Any) -> None:
    """Fill out (b, l, e) with SiLU of the causal convolution of x with taps (5, e), of which the last is the bias."""
    x_, taps_, out_, spare = pointer(x), pointer(taps), pointer(out), pointer(memory)
    lanes, one = lane_count(spare), splat(spare, 1.0)
    for row in range(b * length):
        for start in range(0, e, lanes):
            count = min(lanes, e - start)
            a = _convolved(x_, row * stride + start, stride, row % length, e, taps_, start, count, spare)
            _write(a / (one + exp(-a)), count, out_, row * e + start, spare)


def _convolution_gradients(
    b: int, length: int, e: int, x: Any, stride: int, taps: Any, grad: Any, to_x: Any, to_taps: Any, memory: Any
) -> None:
    """Fill to_x (b, l, e) and add to to_taps (5, e); both come as zeros."""
    x_, taps_, grad_, spare = pointer(x), pointer(taps), pointer(grad), pointer(memory)
    to_x_, to_taps_ = pointer(to_x), pointer(to_taps)
    lanes, one = lane_count(spare), splat(spare, 1.0)
    for row in range(b * length):
        t = row % length
        for start in range(0, e, lanes):
            count = min(lanes, e - start)
            a = _convolved(x_, row * stride + start, stride, t, e, taps_, start, count, spare)
            g = _read(grad_, row * e + start, count, spare) * _silu_slope(a, _sigmoid(a, one), one)
            _add(g, count, to_taps_, 4 * e + start, spare)
            for lag in range(min(3, t) + 1):
                _add(g * _read(x_, (row - lag) * stride + start, count, spare), count, to_taps_, lag * e + start, spare)
                _add(g * _read(taps_, lag * e + start, count, spare), count, to_x_, (row - lag) * e + start, spare)


gate, gate_gradients = compiled(_gate), compiled(_gate_gradients)
norm, norm_gradients = compiled(_norm), compiled(_norm_gradients)
convolution, convolution_gradients = compiled(_convolution), compiled(_convolution_gradients)
