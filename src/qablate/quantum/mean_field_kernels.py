"""Compiled kernels of `mean_field`: forward, and a backward pass that undoes the rotations one by one.

The lanes of a vector are samples; a tile's numbers are rows of one vector each. A gate's row of `gates` is
(column, p, q, control): (p, q) <- (p cos - q sin, p sin + q cos), by the angle of `column`, times (1 - control) / 2
where `control`, the number of a z component, is not -1. A control is no part of the plane it turns, so its value is the
same before and after the gate, and the gate can be undone.
"""

from __future__ import annotations

from typing import Any

from qablate.simd import (
    advance,
    compiled,
    cos_sin,
    inline,
    lane_count,
    lanes_of,
    load,
    pointer,
    read_columns,
    splat,
    store,
    write_columns,
)


def scratch_size(n_angles: int, n_numbers: int, dtype: Any) -> int:
    """Numbers of working memory that either kernel needs."""
    return (2 * n_angles + 2 * n_numbers) * lanes_of(dtype)


@inline
def _share(state: Any, control: int) -> Any:
    """(1 - z) / 2 of the control; 1 without one."""
    if control < 0:
        return splat(state, 1.0)
    half = splat(state, 0.5)
    return half - half * load(state, control)


@inline
def _turn(state: Any, p: int, q: int, cos: Any, sin: Any) -> None:
    first, second = load(state, p), load(state, q)
    store(state, p, first * cos - second * sin)
    store(state, q, first * sin + second * cos)


def _forward(gates: Any, angles: Any, initial: Any, final: Any, memory: Any) -> None:
    """Turn the vectors (B, m) of all samples by angles (B, n_angles); memory: `scratch_size`."""
    n_batch, n_angles = angles.shape
    size = initial.shape[1]
    rows = pointer(memory)
    lanes = lane_count(rows)
    state = advance(rows, n_angles)
    for first in range(0, n_batch, lanes):
        count = min(lanes, n_batch - first)
        read_columns(pointer(angles), first * n_angles, n_angles, count, rows)
        read_columns(pointer(initial), first * size, size, count, state)
        for gate in range(gates.shape[0]):
            cos, sin = cos_sin(load(rows, gates[gate, 0]) * _share(state, gates[gate, 3]))
            _turn(state, gates[gate, 1], gates[gate, 2], cos, sin)
        write_columns(state, count, pointer(final), first * size, size)


def _backward(
    gates: Any, angles: Any, final: Any, grad_final: Any, grad_angles: Any, grad_initial: Any, memory: Any
) -> None:
    """Gradients of angles and initial vectors; shapes as in `_forward`."""
    n_batch, n_angles = angles.shape
    size = final.shape[1]
    rows = pointer(memory)
    lanes = lane_count(rows)
    grads = advance(rows, n_angles)
    state = advance(grads, n_angles)
    slopes = advance(state, size)
    for first in range(0, n_batch, lanes):
        count = min(lanes, n_batch - first)
        read_columns(pointer(angles), first * n_angles, n_angles, count, rows)
        read_columns(pointer(final), first * size, size, count, state)
        read_columns(pointer(grad_final), first * size, size, count, slopes)
        for row in range(n_angles):
            store(grads, row, splat(grads, 0.0))
        for gate in range(gates.shape[0] - 1, -1, -1):
            column, p, q, control = gates[gate, 0], gates[gate, 1], gates[gate, 2], gates[gate, 3]
            angle, share = load(rows, column), _share(state, control)
            slope = load(slopes, q) * load(state, p) - load(slopes, p) * load(state, q)
            store(grads, column, load(grads, column) + slope * share)
            if control >= 0:
                store(slopes, control, load(slopes, control) - splat(grads, 0.5) * slope * angle)
            cos, sin = cos_sin(angle * share)
            _turn(state, p, q, cos, -sin)
            _turn(slopes, p, q, cos, -sin)
        write_columns(grads, count, pointer(grad_angles), first * n_angles, n_angles)
        write_columns(slopes, count, pointer(grad_initial), first * size, size)


forward = compiled(_forward)
backward = compiled(_backward)
