"""Compiled kernels of the kind `mean_field`: forward, and a backward pass that undoes the rotations one by one.

The lanes of a vector are samples; a tile's numbers are rows of one vector each. A gate is a row (column, p, q, control)
of `gates`: (p, q) <- (p cos - q sin, p sin + q cos), by the angle of `column`, times (1 - control) / 2 where `control`,
the number of a z component, is not -1. A control is no part of the plane it turns, so its value is the same before and
after the gate, and the gate can be undone. Shapes: B batch, n qubits; Bloch vectors (B, 3 n): X, Y, Z block.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.autograd.function import once_differentiable

from qablate import selfcheck
from qablate.quantum.circuit import Circuit, Gate, ansatz, embedding
from qablate.quantum.kinds import mean_field_plainly, plane
from qablate.simd import (
    ANGLE_LIMIT,
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

DEVICE = "cpu"


def evolve(circuit: Circuit, angles: Tensor, vectors: Tensor) -> Tensor:
    """Bloch vectors after the circuit: angles (B, n_angles), vectors (B, 3 n) -> (B, 3 n).

    What the kernels' cosine does not know (large angles, NaN) is computed in plain torch.
    """
    largest = angles.detach().abs().amax() * (1 + vectors.detach().abs().amax()) if angles.numel() else 0
    if not largest < ANGLE_LIMIT:  # |1 - z| / 2 is at most 1 + the largest component
        return mean_field_plainly(circuit, angles, vectors)
    result: Tensor = Rotations.apply(angles, vectors, _gates(circuit))
    return result


def check(dtype: torch.dtype, device: torch.device) -> None:
    """Compare kernels and plain torch: gates of all kinds, a column read twice, a full tile and a ragged one."""
    circuit = Circuit(3, (*embedding(3), *ansatz(3, 2, first=3), Gate("RZ", (1,), 0)))
    n_batch = 35
    angles = torch.sin(torch.arange(n_batch * circuit.n_angles, dtype=torch.float64)).mul(3).to(dtype)
    vectors = torch.cos(torch.arange(n_batch * 9, dtype=torch.float64)).to(dtype)
    outcomes = []
    for run in (evolve, mean_field_plainly):
        leaves = [t.clone().requires_grad_() for t in (angles.view(n_batch, -1), vectors.view(n_batch, 9))]
        result = run(circuit, *leaves)
        outcomes.append([result, *torch.autograd.grad(result.cos().sum(), leaves)])
    selfcheck.require_agreement(("vectors", "gradient of angles", "gradient of vectors"), *outcomes)


@lru_cache(maxsize=256)
def _gates(circuit: Circuit) -> NDArray[np.int64]:
    n, rows = circuit.n_qubits, []
    for gate in circuit.gates:
        rows.append((gate.angle, *plane(gate, n), 2 * n + gate.wires[0] if gate.kind == "CRX" else -1))
    return np.array(rows, dtype=np.int64).reshape(-1, 4)


class Rotations(torch.autograd.Function):
    """Angles (B, n_angles) and vectors (B, 3 n) -> vectors."""

    @staticmethod
    def forward(ctx: Any, angles: Tensor, vectors: Tensor, gates: NDArray[np.int64]) -> Tensor:
        """Run the forward kernel; keep the angles and the final vectors for the backward pass."""
        angles, vectors = angles.detach().contiguous(), vectors.detach().contiguous()
        out = torch.empty_like(vectors)
        tensors = (angles, vectors, out, _memory(angles, vectors))
        forward_kernel(angles.numpy().dtype)(gates, *(tensor.numpy() for tensor in tensors))
        ctx.save_for_backward(angles, out)
        ctx.gates = gates
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None]:
        """Run the backward kernel."""
        angles, out = ctx.saved_tensors
        to_angles, to_vectors = torch.empty_like(angles), torch.empty_like(out)
        tensors = (angles, out, grad.contiguous(), to_angles, to_vectors, _memory(angles, out))
        backward_kernel(angles.numpy().dtype)(ctx.gates, *(tensor.numpy() for tensor in tensors))
        return to_angles, to_vectors, None


def _memory(angles: Tensor, vectors: Tensor) -> Tensor:
    """Working memory of one tile, enough for either kernel."""
    return angles.new_empty((2 * angles.shape[1] + 2 * vectors.shape[1]) * lanes_of(angles.numpy().dtype))


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
    """Turn the vectors (B, m) of all samples by angles (B, n_angles); memory: `_memory`."""
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


forward_kernel = compiled(_forward)
backward_kernel = compiled(_backward)
