"""Circuits on the CPU as compiled kernels: forward simulation and its adjoint backward pass, a vector of samples each.

The lanes of a vector are samples. A tile is `lanes` samples; all its numbers are rows of one vector each:

    state rows    2**n pairs (re, im): amplitude i in rows 2 i and 2 i + 1
    trig rows     n_angles + 1 pairs: cos and sin of half the angle of column c in rows 2 c and 2 c + 1;
                  the last pair belongs to angle 0, which stands for rotations that are not there
    angle rows    n_angles + 1: gradients; the last one collects what belongs to no angle

`ops` and `start` are those of `qablate.quantum.circuit.Program`. Every operation is U = [[a, -b*], [b, a*]]. Undoing
one in the backward pass asks first for the rates Im <lambda|P|psi> / 2 of the Pauli matrices P on its wire: the rate of
the last rotation's P is the gradient of its angle, and those of the inner rotations follow from
R_Z Y R_Z^+ = Y cos z - X sin z,  R_Z R_Y X R_Y^+ R_Z^+ = (X cos z + Y sin z) cos y - Z sin y.

Arrays of shape (0, ...) are results that nobody asked for or arguments that are not there. States cross the border to
the kernels as real numbers (B, 2**n, 2), re and im next to each other, which is how torch stores complex ones.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from qablate.quantum.circuit import Circuit, Program, lower
from qablate.quantum.reference import require_agreement
from qablate.simd import (
    ANGLE_LIMIT,
    advance,
    compiled,
    cos_sin,
    get,
    inline,
    lane_count,
    lanes_of,
    load,
    pointer,
    put,
    read_columns,
    splat,
    store,
    total,
    write_columns,
)

DEVICE = "cpu"


def simulate(circuit: Circuit, angles: Tensor, initial: Tensor | None, measured: bool) -> Tensor:
    """See `qablate.quantum.reference.Simulate`."""
    given = None if initial is None else torch.view_as_real(initial)
    result: Tensor = Simulation.apply(angles, given, lower(circuit, initial is None), measured)
    return result if measured else torch.view_as_complex(result)


def check(dtype: torch.dtype, device: torch.device) -> None:
    """Compare with gate-by-gate simulation: a full tile and a ragged one."""
    require_agreement(simulate, n_qubits=3, n_batch=lanes_of(np.float32) + 3, dtype=dtype, device=device)


class Simulation(torch.autograd.Function):
    """Angles (B, n_angles), initial states (B, 2**n, 2) or None -> expectations (B, 3 n) or states (B, 2**n, 2)."""

    @staticmethod
    def forward(ctx: Any, angles: Tensor, initial: Tensor | None, program: Program, measured: bool) -> Tensor:
        """Run the forward kernel; keep the angles and the final states for the backward pass."""
        angles = angles.detach().contiguous()
        dtype, size, n_batch = angles.numpy().dtype, 2**program.n_qubits, len(angles)
        given = angles.new_empty(0, size, 2) if initial is None else initial.detach().contiguous()
        expectations = angles.new_empty(n_batch if measured else 0, 3 * program.n_qubits)
        states = angles.new_empty(0 if measured else n_batch, size, 2)
        n_tiles = -(-n_batch // lanes_of(dtype)) if any(ctx.needs_input_grad) else 0
        saved = angles.new_empty(n_tiles, size, 2, lanes_of(dtype))
        tensors = (angles, given, expectations, states, saved, _memory(angles, program))
        forward_kernel(dtype)(program.ops, program.start, *(tensor.numpy() for tensor in tensors))
        ctx.save_for_backward(angles, saved)
        ctx.program, ctx.measured = program, measured
        return expectations if measured else states

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor | None, None, None]:
        """Run the backward kernel."""
        program: Program = ctx.program
        angles, saved = ctx.saved_tensors
        dtype, size = angles.numpy().dtype, 2**program.n_qubits
        expectations = grad.contiguous() if ctx.measured else grad.new_empty(0, 3 * program.n_qubits)
        states = grad.new_empty(0, size, 2) if ctx.measured else grad.contiguous()
        grad_angles = torch.empty_like(angles)
        grad_initial = grad.new_empty(0 if program.from_zero else len(angles), size, 2)
        tensors = (angles, saved, expectations, states, grad_angles, grad_initial, _memory(angles, program))
        backward_kernel(dtype)(program.ops, program.start, *(tensor.numpy() for tensor in tensors))
        return grad_angles, None if program.from_zero else grad_initial, None, None


def _memory(like: Tensor, program: Program) -> Tensor:
    """Working memory of one tile, enough for either kernel; torch aligns it to cache lines."""
    n_rows = 5 * 2**program.n_qubits + 4 * program.n_angles + 3 + 9 * program.n_qubits
    return like.new_empty(n_rows * lanes_of(like.numpy().dtype))


# Angles.


@inline
def _read_angles(angles: Any, first: int, count: int, n_angles: int, rows: Any, trig: Any) -> None:
    """Trig rows of the samples from `first` on; lanes without a sample get angle 0."""
    read_columns(angles, first * n_angles, n_angles, count, rows)
    half = splat(rows, 0.5)
    squares = splat(rows, 0.0)
    for column in range(n_angles):
        angle = load(rows, column) * half
        squares = squares + angle * angle
        cosine, sine = cos_sin(angle)
        store(trig, 2 * column, cosine)
        store(trig, 2 * column + 1, sine)
    store(trig, 2 * n_angles, splat(rows, 1.0))
    store(trig, 2 * n_angles + 1, splat(rows, 0.0))
    if not total(squares) <= ANGLE_LIMIT**2:  # also true for NaN
        _correct_large_angles(rows, trig, n_angles)


@inline
def _correct_large_angles(rows: Any, trig: Any, n_angles: int) -> None:
    """Replace the cos and sin of half angles that `cos_sin` does not cover, one number at a time."""
    lanes = lane_count(rows)
    for column in range(n_angles):
        for lane in range(lanes):
            angle = get(rows, column * lanes + lane) / 2
            if abs(angle) > ANGLE_LIMIT:
                put(trig, 2 * column * lanes + lane, math.cos(angle))
                put(trig, (2 * column + 1) * lanes + lane, math.sin(angle))


@inline
def _su2(trig: Any, x: int, y: int, z: int) -> Any:
    """Re a, im a, re b, im b of R_Z(z) R_Y(y) R_X(x)."""
    cos_x, sin_x = load(trig, 2 * x), load(trig, 2 * x + 1)
    cos_y, sin_y = load(trig, 2 * y), load(trig, 2 * y + 1)
    cos_z, sin_z = load(trig, 2 * z), load(trig, 2 * z + 1)
    re_a, im_a, re_b, im_b = cos_y * cos_x, sin_y * sin_x, sin_y * cos_x, -(cos_y * sin_x)
    return (
        re_a * cos_z + im_a * sin_z,
        im_a * cos_z - re_a * sin_z,
        re_b * cos_z - im_b * sin_z,
        im_b * cos_z + re_b * sin_z,
    )


@inline
def _add_rates(trig: Any, x: int, y: int, z: int, rate_x: Any, rate_y: Any, rate_z: Any, grads: Any) -> None:
    """Turn twice the Pauli rates behind R_Z R_Y R_X into gradients of its angles."""
    half, two = splat(grads, 0.5), splat(grads, 2.0)
    cos_y, sin_y = load(trig, 2 * y), load(trig, 2 * y + 1)
    cos_z, sin_z = load(trig, 2 * z), load(trig, 2 * z + 1)
    full_cos_y, full_sin_y = cos_y * cos_y - sin_y * sin_y, two * cos_y * sin_y
    full_cos_z, full_sin_z = cos_z * cos_z - sin_z * sin_z, two * cos_z * sin_z
    inner = rate_x * full_cos_z + rate_y * full_sin_z
    store(grads, z, load(grads, z) + half * rate_z)
    store(grads, y, load(grads, y) + half * (rate_y * full_cos_z - rate_x * full_sin_z))
    store(grads, x, load(grads, x) + half * (inner * full_cos_y - rate_z * full_sin_y))


# Operations on states.


@inline
def _bit(wire: int, n_qubits: int) -> int:
    """The bit of a wire in the index of an amplitude."""
    return 1 << (n_qubits - 1 - wire)


@inline
def _next(index: int, bits: int) -> int:
    """The next larger index in which all of `bits` are 0."""
    return ((index | bits) + 1) & ~bits


@inline
def _apply_single(state: Any, size: int, bit: int, re_a: Any, im_a: Any, re_b: Any, im_b: Any) -> None:
    """U on one wire."""
    index = 0
    for _ in range(size // 2):
        low = 2 * index
        high = low + 2 * bit
        index = _next(index, bit)
        re0, im0, re1, im1 = load(state, low), load(state, low + 1), load(state, high), load(state, high + 1)
        store(state, low, re_a * re0 - im_a * im0 - re_b * re1 - im_b * im1)
        store(state, low + 1, re_a * im0 + im_a * re0 - re_b * im1 + im_b * re1)
        store(state, high, re_b * re0 - im_b * im0 + re_a * re1 + im_a * im1)
        store(state, high + 1, re_b * im0 + im_b * re0 + re_a * im1 - im_a * re1)


@inline
def _apply_crx(state: Any, size: int, bit: int, control: int, cos: Any, sin: Any) -> None:
    """R_X on `bit` where `control` is set."""
    index = 0
    for _ in range(size // 4):
        low = 2 * (index + control)
        high = low + 2 * bit
        index = _next(index, bit | control)
        re0, im0, re1, im1 = load(state, low), load(state, low + 1), load(state, high), load(state, high + 1)
        store(state, low, cos * re0 + sin * im1)
        store(state, low + 1, cos * im0 - sin * re1)
        store(state, high, cos * re1 + sin * im0)
        store(state, high + 1, cos * im1 - sin * re0)


@inline
def _undo_single(
    psi: Any, lam: Any, size: int, bit: int, trig: Any, x: int, y: int, z: int, grads: Any
) -> None:
    """Undo R_Z R_Y R_X on psi and lambda and add the gradients of its angles."""
    re_a, im_a, re_b, im_b = _su2(trig, x, y, z)
    zero = splat(grads, 0.0)
    rate_x, more_x, rate_y, more_y, rate_z, more_z = zero, zero, zero, zero, zero, zero
    index = 0
    for _ in range(size // 2):
        low = 2 * index
        high = low + 2 * bit
        index = _next(index, bit)
        re0, im0, re1, im1 = load(psi, low), load(psi, low + 1), load(psi, high), load(psi, high + 1)
        lr0, li0, lr1, li1 = load(lam, low), load(lam, low + 1), load(lam, high), load(lam, high + 1)
        rate_x, more_x = rate_x + lr0 * im1 - li0 * re1, more_x + lr1 * im0 - li1 * re0
        rate_y, more_y = rate_y + lr1 * re0 - lr0 * re1, more_y + li1 * im0 - li0 * im1
        rate_z, more_z = rate_z + lr0 * im0 - li0 * re0, more_z + li1 * re1 - lr1 * im1
        store(psi, low, re_a * re0 + im_a * im0 + re_b * re1 + im_b * im1)
        store(psi, low + 1, re_a * im0 - im_a * re0 + re_b * im1 - im_b * re1)
        store(psi, high, re_a * re1 - im_a * im1 - re_b * re0 + im_b * im0)
        store(psi, high + 1, re_a * im1 + im_a * re1 - re_b * im0 - im_b * re0)
        store(lam, low, re_a * lr0 + im_a * li0 + re_b * lr1 + im_b * li1)
        store(lam, low + 1, re_a * li0 - im_a * lr0 + re_b * li1 - im_b * lr1)
        store(lam, high, re_a * lr1 - im_a * li1 - re_b * lr0 + im_b * li0)
        store(lam, high + 1, re_a * li1 + im_a * lr1 - re_b * li0 - im_b * lr0)
    _add_rates(trig, x, y, z, rate_x + more_x, rate_y + more_y, rate_z + more_z, grads)


@inline
def _undo_crx(psi: Any, lam: Any, size: int, bit: int, control: int, trig: Any, x: int, grads: Any) -> None:
    """Undo R_X where `control` is set on psi and lambda and add the gradient of its angle."""
    cos, sin = load(trig, 2 * x), load(trig, 2 * x + 1)
    rate = splat(grads, 0.0)
    more = rate
    index = 0
    for _ in range(size // 4):
        low = 2 * (index + control)
        high = low + 2 * bit
        index = _next(index, bit | control)
        re0, im0, re1, im1 = load(psi, low), load(psi, low + 1), load(psi, high), load(psi, high + 1)
        lr0, li0, lr1, li1 = load(lam, low), load(lam, low + 1), load(lam, high), load(lam, high + 1)
        rate, more = rate + lr0 * im1 - li0 * re1, more + lr1 * im0 - li1 * re0
        store(psi, low, cos * re0 - sin * im1)
        store(psi, low + 1, cos * im0 + sin * re1)
        store(psi, high, cos * re1 - sin * im0)
        store(psi, high + 1, cos * im1 + sin * re0)
        store(lam, low, cos * lr0 - sin * li1)
        store(lam, low + 1, cos * li0 + sin * lr1)
        store(lam, high, cos * lr1 - sin * li0)
        store(lam, high + 1, cos * li1 + sin * lr0)
    store(grads, x, load(grads, x) + splat(grads, 0.5) * (rate + more))


# The product start. `vectors` holds re 0, im 0, re 1, im 1 of one wire after the other.


@inline
def _start_vectors(start: Any, trig: Any, vectors: Any) -> None:
    """U R_Y |0> of every wire."""
    for wire in range(start.shape[0]):
        cos, sin = load(trig, 2 * start[wire, 0]), load(trig, 2 * start[wire, 0] + 1)
        re_a, im_a, re_b, im_b = _su2(trig, start[wire, 1], start[wire, 2], start[wire, 3])
        store(vectors, 4 * wire, re_a * cos - re_b * sin)
        store(vectors, 4 * wire + 1, im_a * cos + im_b * sin)
        store(vectors, 4 * wire + 2, re_b * cos + re_a * sin)
        store(vectors, 4 * wire + 3, im_b * cos - im_a * sin)


@inline
def _product_state(vectors: Any, n_wires: int, state: Any) -> None:
    """The product of the first `n_wires` vectors, built in place from the highest amplitude down."""
    store(state, 0, splat(state, 1.0))
    store(state, 1, splat(state, 0.0))
    for wire in range(n_wires):
        re0, im0 = load(vectors, 4 * wire), load(vectors, 4 * wire + 1)
        re1, im1 = load(vectors, 4 * wire + 2), load(vectors, 4 * wire + 3)
        for i in range((1 << wire) - 1, -1, -1):
            re, im = load(state, 2 * i), load(state, 2 * i + 1)
            store(state, 4 * i + 2, re * re1 - im * im1)
            store(state, 4 * i + 3, re * im1 + im * re1)
            store(state, 4 * i, re * re0 - im * im0)
            store(state, 4 * i + 1, re * im0 + im * re0)


@inline
def _undo_start(start: Any, trig: Any, vectors: Any, heads: Any, lam: Any, grads: Any) -> None:
    """Add the gradients of the start's angles; `lam` is the gradient of the product state and is consumed.

    `heads` is memory for the product of the wires before the current one.
    """
    for wire in range(start.shape[0] - 1, -1, -1):
        _product_state(vectors, wire, heads)
        re0, im0 = load(vectors, 4 * wire), load(vectors, 4 * wire + 1)
        re1, im1 = load(vectors, 4 * wire + 2), load(vectors, 4 * wire + 3)
        lr0 = splat(lam, 0.0)
        li0, lr1, li1 = lr0, lr0, lr0
        for i in range(1 << wire):
            re, im = load(heads, 2 * i), load(heads, 2 * i + 1)
            low_re, low_im = load(lam, 4 * i), load(lam, 4 * i + 1)
            high_re, high_im = load(lam, 4 * i + 2), load(lam, 4 * i + 3)
            lr0, li0 = lr0 + re * low_re + im * low_im, li0 + re * low_im - im * low_re
            lr1, li1 = lr1 + re * high_re + im * high_im, li1 + re * high_im - im * high_re
            store(lam, 2 * i, re0 * low_re + im0 * low_im + re1 * high_re + im1 * high_im)
            store(lam, 2 * i + 1, re0 * low_im - im0 * low_re + re1 * high_im - im1 * high_re)
        rate_x = lr0 * im1 - li0 * re1 + lr1 * im0 - li1 * re0
        rate_y = lr1 * re0 - lr0 * re1 + li1 * im0 - li0 * im1
        rate_z = lr0 * im0 - li0 * re0 + li1 * re1 - lr1 * im1
        first, x, y, z = start[wire, 0], start[wire, 1], start[wire, 2], start[wire, 3]
        _add_rates(trig, x, y, z, rate_x, rate_y, rate_z, grads)
        re_a, im_a, re_b, im_b = _su2(trig, x, y, z)
        back0 = re_a * lr0 + im_a * li0 + re_b * lr1 + im_b * li1  # real parts of U^+ lambda
        back1 = re_a * lr1 - im_a * li1 - re_b * lr0 + im_b * li0
        rate = back1 * load(trig, 2 * first) - back0 * load(trig, 2 * first + 1)
        store(grads, first, load(grads, first) + splat(grads, 0.5) * rate)


# Pauli expectations: rows X, Y, Z of wire 0, 1, ...


@inline
def _measure(state: Any, n_qubits: int, rows: Any) -> None:
    """<X>, <Y>, <Z> of every wire, in rows q, n + q, 2 n + q; one accumulator a product hides their latency."""
    two = splat(rows, 2.0)
    for wire in range(n_qubits):
        bit = _bit(wire, n_qubits)
        zero = splat(rows, 0.0)
        x0, x1, y0, y1, z0, z1, z2, z3 = zero, zero, zero, zero, zero, zero, zero, zero
        index = 0
        for _ in range(1 << (n_qubits - 1)):
            low = 2 * index
            high = low + 2 * bit
            index = _next(index, bit)
            re0, im0 = load(state, low), load(state, low + 1)
            re1, im1 = load(state, high), load(state, high + 1)
            x0, x1, y0, y1 = x0 + re0 * re1, x1 + im0 * im1, y0 + re0 * im1, y1 + im0 * re1
            z0, z1, z2, z3 = z0 + re0 * re0, z1 + im0 * im0, z2 + re1 * re1, z3 + im1 * im1
        store(rows, wire, two * (x0 + x1))
        store(rows, n_qubits + wire, two * (y0 - y1))
        store(rows, 2 * n_qubits + wire, (z0 + z1) - (z2 + z3))


@inline
def _measurement_gradient(psi: Any, n_qubits: int, weights: Any, signed: Any, diagonal: Any, lam: Any) -> None:
    """lambda = 2 sum_k w_k P_k psi for the gradients `weights` of the expectations.

    `signed` (2 n rows) and `diagonal` (2**n rows) are memory for +-Y weights and for the sums of +-Z weights.
    """
    everything = splat(lam, 0.0)
    for wire in range(n_qubits):
        everything = everything + load(weights, 2 * n_qubits + wire)
        store(signed, 2 * wire, load(weights, n_qubits + wire))
        store(signed, 2 * wire + 1, -load(weights, n_qubits + wire))
    store(diagonal, 0, everything)
    two = splat(lam, 2.0)
    for wire in range(n_qubits - 1, -1, -1):
        bit = _bit(wire, n_qubits)
        for i in range(bit):
            store(diagonal, i + bit, load(diagonal, i) - two * load(weights, 2 * n_qubits + wire))
    for i in range(1 << n_qubits):
        re = load(diagonal, i) * load(psi, 2 * i)
        im = load(diagonal, i) * load(psi, 2 * i + 1)
        for wire in range(n_qubits):
            shift = n_qubits - 1 - wire
            x, y = load(weights, wire), load(signed, 2 * wire + ((i >> shift) & 1))
            partner = 2 * (i ^ (1 << shift))
            re1, im1 = load(psi, partner), load(psi, partner + 1)
            re = re + x * re1 + y * im1
            im = im + x * im1 - y * re1
        store(lam, 2 * i, two * re)
        store(lam, 2 * i + 1, two * im)


# Entry points.


@inline
def _copy(source: Any, target: Any, n_rows: int) -> None:
    for row in range(n_rows):
        store(target, row, load(source, row))


def _forward(
    ops: Any, start: Any, angles: Any, initial: Any, expectations: Any, states: Any, saved: Any, memory: Any
) -> None:
    """Simulate all samples.

    angles (B, n_angles); initial (B, 2**n, 2) or (0, ., 2) for |0...0>; results expectations (B, 3 n) or (0, .),
    states (B, 2**n, 2) or (0, ., 2); saved (tiles, 2**n, 2, lanes) or (0, ...); memory: `_memory`.
    """
    n_batch, n_angles = angles.shape
    n_qubits = start.shape[0]
    size = 1 << n_qubits
    rows = pointer(memory)  # whatever is read or written next
    lanes = lane_count(rows)
    vectors = advance(rows, n_angles + 3 * n_qubits)
    state = advance(vectors, 4 * n_qubits)
    trig = advance(state, 2 * size)
    for tile in range((n_batch + lanes - 1) // lanes):
        first = tile * lanes
        count = min(lanes, n_batch - first)
        _read_angles(pointer(angles), first, count, n_angles, rows, trig)
        if initial.shape[0] > 0:
            read_columns(pointer(initial), first * 2 * size, 2 * size, count, state)
        else:
            _start_vectors(start, trig, vectors)
            _product_state(vectors, n_qubits, state)
        for op in range(ops.shape[0]):
            bit, control, x = _bit(ops[op, 0], n_qubits), ops[op, 1], ops[op, 2]
            if control >= 0:
                cos, sin = load(trig, 2 * x), load(trig, 2 * x + 1)
                _apply_crx(state, size, bit, _bit(control, n_qubits), cos, sin)
            else:
                re_a, im_a, re_b, im_b = _su2(trig, x, ops[op, 3], ops[op, 4])
                _apply_single(state, size, bit, re_a, im_a, re_b, im_b)
        if expectations.shape[0] > 0:
            _measure(state, n_qubits, rows)
            write_columns(rows, count, pointer(expectations), first * 3 * n_qubits, 3 * n_qubits)
        if states.shape[0] > 0:
            write_columns(state, count, pointer(states), first * 2 * size, 2 * size)
        if saved.shape[0] > 0:
            _copy(state, advance(pointer(saved), tile * 2 * size), 2 * size)


def _backward(
    ops: Any, start: Any, angles: Any, saved: Any, grad_expectations: Any, grad_states: Any, grad_angles: Any,
    grad_initial: Any, memory: Any,
) -> None:
    """Gradients of angles and initial states from those of the expectations or of the states.

    Shapes as in `_forward`; `saved` is what the forward pass left and stays as it is.
    """
    n_batch, n_angles = angles.shape
    n_qubits = start.shape[0]
    size = 1 << n_qubits
    psi = pointer(memory)
    lanes = lane_count(psi)
    trig = advance(psi, 2 * size)
    lam = advance(trig, 2 * (n_angles + 1))
    diagonal = advance(lam, 2 * size)
    signed = advance(diagonal, size)
    weights = advance(signed, 2 * n_qubits)
    vectors = advance(weights, 3 * n_qubits)
    grads = advance(vectors, 4 * n_qubits)
    for tile in range((n_batch + lanes - 1) // lanes):
        first = tile * lanes
        count = min(lanes, n_batch - first)
        _copy(advance(pointer(saved), tile * 2 * size), psi, 2 * size)
        _read_angles(pointer(angles), first, count, n_angles, grads, trig)
        for row in range(n_angles + 1):
            store(grads, row, splat(grads, 0.0))
        if grad_expectations.shape[0] > 0:
            read_columns(pointer(grad_expectations), first * 3 * n_qubits, 3 * n_qubits, count, weights)
            _measurement_gradient(psi, n_qubits, weights, signed, diagonal, lam)
        else:
            read_columns(pointer(grad_states), first * 2 * size, 2 * size, count, lam)
        for op in range(ops.shape[0] - 1, -1, -1):
            bit, control, x = _bit(ops[op, 0], n_qubits), ops[op, 1], ops[op, 2]
            if control >= 0:
                _undo_crx(psi, lam, size, bit, _bit(control, n_qubits), trig, x, grads)
            else:
                _undo_single(psi, lam, size, bit, trig, x, ops[op, 3], ops[op, 4], grads)
        if grad_initial.shape[0] > 0:
            write_columns(lam, count, pointer(grad_initial), first * 2 * size, 2 * size)
        else:
            _start_vectors(start, trig, vectors)
            _undo_start(start, trig, vectors, psi, lam, grads)
        write_columns(grads, count, pointer(grad_angles), first * n_angles, n_angles)


forward_kernel = compiled(_forward)
backward_kernel = compiled(_backward)
