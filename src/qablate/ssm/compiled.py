"""The selective scan as compiled kernels: forward, and a backward pass that recomputes the states.

The lanes of a vector are neighbouring channels, so the recurrence of one state is a chain of vector
operations and any state size fits. Time is cut into chunks of CHUNK steps. The forward pass keeps the states
in front of every chunk and nothing else; the backward pass recomputes a chunk's decays and states into the
first-level cache and uses them at once.

Shapes: b batch, l length, e inner width, n state size, p channels in a vector, c = ceil(e / p) tiles.
Names in the kernels: i sample, k state, t step within a chunk; a row is one vector.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from qablate.simd import (
    advance,
    compiled,
    exp,
    get,
    inline,
    lane_count,
    lanes_of,
    load,
    pointer,
    put,
    read_part,
    splat,
    store,
    total,
    write_part,
)
from qablate.ssm.scan import require_agreement

DEVICE = "cpu"
CHUNK = 32


@inline
def _read_states(source: Any, index: int, e: int, n: int, rows: Any) -> None:
    """Spread (e, n) numbers from element `index` on to rows (c, n); lanes without a channel become zero."""
    lanes = lane_count(rows)
    for tile in range((e + lanes - 1) // lanes):
        for k in range(n):
            row = tile * n + k
            store(rows, row, splat(rows, 0.0))
            for lane in range(min(lanes, e - tile * lanes)):
                put(rows, row * lanes + lane, get(source, index + (tile * lanes + lane) * n + k))


@inline
def _write_states(rows: Any, e: int, n: int, target: Any, index: int) -> None:
    """Gather rows (c, n) into (e, n) numbers from element `index` on."""
    lanes = lane_count(rows)
    for channel in range(e):
        tile, lane = channel // lanes, channel % lanes
        for k in range(n):
            put(target, index + channel * n + k, get(rows, (tile * n + k) * lanes + lane))


@inline
def _clear(rows: Any, n_rows: int) -> None:
    """Zero `n_rows` vectors."""
    for row in range(n_rows):
        store(rows, row, splat(rows, 0.0))


def _forward(
    inputs: Any, step: Any, A: Any, B: Any, C: Any, initial: Any, y: Any, final: Any, saved: Any, memory: Any
) -> None:
    """Fill y (b, l, e), final (b, e, n) and, unless it is empty, saved (b, chunks, c, n, p)."""
    b, length, e = inputs.shape
    n = A.shape[1]
    rates = pointer(memory)  # (c, n)
    lanes = lane_count(rates)
    tiles = (e + lanes - 1) // lanes
    states = advance(rates, tiles * n)  # (c, n)
    drive = advance(states, tiles * n)  # (CHUNK)
    size = advance(drive, CHUNK)  # (CHUNK), the step sizes
    out = advance(size, CHUNK)  # (CHUNK)
    inputs_, step_, B_, C_ = pointer(inputs), pointer(step), pointer(B), pointer(C)
    y_, saved_ = pointer(y), pointer(saved)
    saved_row = 0
    _read_states(pointer(A), 0, e, n, rates)
    for i in range(b):
        _read_states(pointer(initial), i * e * n, e, n, states)
        for start in range(0, length, CHUNK):
            steps = min(CHUNK, length - start)
            first = i * length + start
            for tile in range(tiles):
                count = min(lanes, e - tile * lanes)
                for t in range(steps):
                    index = (first + t) * e + tile * lanes
                    read_part(inputs_, index, count, drive, t)
                    read_part(step_, index, count, size, t)
                _clear(out, steps)
                for k in range(n):
                    row = tile * n + k
                    rate = load(rates, row)
                    h = load(states, row)
                    if saved.shape[0] > 0:
                        store(saved_, saved_row, h)
                        saved_row += 1
                    for t in range(steps):
                        weight = (first + t) * n + k
                        h = exp(load(size, t) * rate) * h + load(drive, t) * splat(out, get(B_, weight))
                        store(out, t, load(out, t) + h * splat(out, get(C_, weight)))
                    store(states, row, h)
                for t in range(steps):
                    write_part(out, t, count, y_, (first + t) * e + tile * lanes)
        _write_states(states, e, n, pointer(final), i * e * n)


def _backward(
    inputs: Any, step: Any, A: Any, B: Any, C: Any, saved: Any, grad_y: Any, grad_final: Any, grad_inputs: Any,
    grad_step: Any, grad_A: Any, grad_B: Any, grad_C: Any, grad_initial: Any, memory: Any,
) -> None:
    """Fill the gradients of all arguments from those of y and the final state."""
    b, length, e = inputs.shape
    n = A.shape[1]
    rates = pointer(memory)  # (c, n)
    lanes = lane_count(rates)
    tiles = (e + lanes - 1) // lanes
    rate_grads = advance(rates, tiles * n)  # (c, n)
    adjoints = advance(rate_grads, tiles * n)  # (c, n), gradient of the state behind the current step
    drive = advance(adjoints, tiles * n)  # (CHUNK)
    size = advance(drive, CHUNK)  # (CHUNK)
    out_grads = advance(size, CHUNK)  # (CHUNK)
    drive_grads = advance(out_grads, CHUNK)  # (CHUNK)
    size_grads = advance(drive_grads, CHUNK)  # (CHUNK)
    decays = advance(size_grads, CHUNK)  # (CHUNK)
    states = advance(decays, CHUNK)  # (CHUNK + 1), the state before step t in row t
    B_grads = advance(states, CHUNK + 1)  # (n, CHUNK), one sum a lane
    C_grads = advance(B_grads, n * CHUNK)  # (n, CHUNK)
    inputs_, step_, B_, C_, saved_ = pointer(inputs), pointer(step), pointer(B), pointer(C), pointer(saved)
    grad_y_, grad_inputs_, grad_step_ = pointer(grad_y), pointer(grad_inputs), pointer(grad_step)
    chunks = (length + CHUNK - 1) // CHUNK
    _read_states(pointer(A), 0, e, n, rates)
    _clear(rate_grads, tiles * n)
    for i in range(b):
        _read_states(pointer(grad_final), i * e * n, e, n, adjoints)
        for chunk in range(chunks - 1, -1, -1):
            start = chunk * CHUNK
            steps = min(CHUNK, length - start)
            first = i * length + start
            _clear(B_grads, n * CHUNK)
            _clear(C_grads, n * CHUNK)
            for tile in range(tiles):
                count = min(lanes, e - tile * lanes)
                for t in range(steps):
                    index = (first + t) * e + tile * lanes
                    read_part(inputs_, index, count, drive, t)
                    read_part(step_, index, count, size, t)
                    read_part(grad_y_, index, count, out_grads, t)
                _clear(drive_grads, steps)
                _clear(size_grads, steps)
                for k in range(n):
                    row = tile * n + k
                    rate = load(rates, row)
                    h = load(saved_, (i * chunks + chunk) * tiles * n + row)
                    store(states, 0, h)
                    for t in range(steps):
                        decay = exp(load(size, t) * rate)
                        weight = splat(states, get(B_, (first + t) * n + k))
                        h = decay * h + load(drive, t) * weight
                        store(decays, t, decay)
                        store(states, t + 1, h)
                    adjoint = load(adjoints, row)
                    rate_grad = load(rate_grads, row)
                    for t in range(steps - 1, -1, -1):
                        weight = (first + t) * n + k
                        place = k * CHUNK + t
                        out_grad = load(out_grads, t)
                        store(C_grads, place, load(C_grads, place) + out_grad * load(states, t + 1))
                        adjoint = adjoint + out_grad * splat(states, get(C_, weight))
                        store(B_grads, place, load(B_grads, place) + adjoint * load(drive, t))
                        store(drive_grads, t, load(drive_grads, t) + adjoint * splat(states, get(B_, weight)))
                        adjoint = adjoint * load(decays, t)
                        exponent_grad = adjoint * load(states, t)
                        store(size_grads, t, load(size_grads, t) + exponent_grad * rate)
                        rate_grad = rate_grad + exponent_grad * load(size, t)
                    store(adjoints, row, adjoint)
                    store(rate_grads, row, rate_grad)
                for t in range(steps):
                    index = (first + t) * e + tile * lanes
                    write_part(drive_grads, t, count, grad_inputs_, index)
                    write_part(size_grads, t, count, grad_step_, index)
            for t in range(steps):
                for k in range(n):
                    put(pointer(grad_B), (first + t) * n + k, total(load(B_grads, k * CHUNK + t)))
                    put(pointer(grad_C), (first + t) * n + k, total(load(C_grads, k * CHUNK + t)))
        _write_states(adjoints, e, n, pointer(grad_initial), i * e * n)
    _write_states(rate_grads, e, n, pointer(grad_A), 0)


forward_kernel = compiled(_forward)
backward_kernel = compiled(_backward)


def _arrays(*tensors: Tensor) -> list[np.ndarray]:
    return [tensor.detach().numpy() for tensor in tensors]


class _Scan(torch.autograd.Function):
    """The kernels as one differentiable operation on CPU tensors."""

    @staticmethod
    def forward(ctx: Any, *tensors: Tensor) -> tuple[Tensor, Tensor]:
        """Arguments inputs, step, A, B, C, initial; results y and the final state."""
        inputs, step, A, B, C, initial = (tensor.contiguous() for tensor in tensors)
        (b, length, e), n = inputs.shape, A.shape[1]
        dtype = inputs.detach().numpy().dtype
        lanes = lanes_of(dtype)
        tiles = -(-e // lanes)
        saved = inputs.new_empty(b if any(ctx.needs_input_grad) else 0, -(-length // CHUNK), tiles, n, lanes)
        y, final = torch.empty_like(inputs), torch.empty_like(initial)
        memory = inputs.new_empty((2 * tiles * n + 3 * CHUNK) * lanes)
        forward_kernel(dtype)(*_arrays(inputs, step, A, B, C, initial, y, final, saved, memory))
        ctx.save_for_backward(inputs, step, A, B, C, saved)
        return y, final

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_y: Tensor, grad_final: Tensor) -> tuple[Tensor, ...]:
        """Gradients of inputs, step, A, B, C, initial."""
        inputs, step, A, B, C, saved = ctx.saved_tensors
        outer = grad_y.contiguous(), grad_final.contiguous()
        gradients = tuple(torch.empty_like(tensor) for tensor in (inputs, step, A, B, C, outer[1]))
        tiles, n, lanes = saved.shape[2:]
        memory = inputs.new_empty((3 * tiles * n + 2 * n * CHUNK + 7 * CHUNK + 1) * lanes)
        arrays = _arrays(inputs, step, A, B, C, saved, *outer, *gradients, memory)
        backward_kernel(arrays[0].dtype)(*arrays)
        return gradients


def scan(inputs: Tensor, step: Tensor, A: Tensor, B: Tensor, C: Tensor, initial: Tensor) -> tuple[Tensor, Tensor]:
    """See `qablate.ssm.selective_scan`; CPU tensors of float32 or float64 only."""
    result: tuple[Tensor, Tensor] = _Scan.apply(inputs, step, A, B, C, initial)
    return result


def check(dtype: torch.dtype, device: torch.device) -> None:
    """Compare values and gradients with the definition: two chunks, two tiles, both ragged."""
    require_agreement(scan, 17, CHUNK + 3, dtype, device)
