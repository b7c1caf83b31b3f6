"""Circuits on n Bloch vectors: every qubit feels the mean of the others (the kind `mean_field`).

Rotations turn the vector of their wire. CRX(t; c, g) turns g about x by t (1 - z_c) / 2, the mean of the angles 0 and t
over the control, and leaves c as it is. Without controlled gates this is the exact circuit.
Shapes: B batch, n qubits; Bloch vectors (..., 3 n): X block, Y block, Z block.
"""

import math
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.autograd.function import once_differentiable

from qablate import selfcheck
from qablate.quantum.backends import resolve_backend
from qablate.quantum.circuit import Circuit, Gate, ansatz, embedding

AXES = {"RX": 0, "RY": 1, "RZ": 2, "CRX": 0}


def evolve(circuit: Circuit, angles: Tensor, initial: Tensor, backend: str = "auto") -> Tensor:
    """Bloch vectors (..., 3 n) after the circuit on `initial` (..., 3 n) of any length: angles (..., n_angles).

    `auto` and `numba` take the compiled kernels on a CPU, every other backend plain torch. Raises ValueError for angles
    of another width and QablateError for a backend that is unknown or cannot serve the device.
    """
    if angles.shape[-1] != circuit.n_angles:
        raise ValueError(f"the circuit reads {circuit.n_angles} angles, not shape {tuple(angles.shape)}")
    resolve_backend(backend, angles.device)
    batch = torch.broadcast_shapes(angles.shape[:-1], initial.shape[:-1])
    flat = angles.expand(*batch, -1).reshape(math.prod(batch), circuit.n_angles)
    vectors = initial.expand(*batch, -1).reshape(math.prod(batch), 3 * circuit.n_qubits)
    run = _compiled if backend in ("auto", "numba") and _serves(angles, initial) else evolve_plainly
    return run(circuit, flat, vectors).reshape(*batch, 3 * circuit.n_qubits)


def evolve_plainly(circuit: Circuit, angles: Tensor, vectors: Tensor) -> Tensor:
    """The definition, gate by gate in plain torch: angles (B, n_angles), vectors (B, 3 n) -> (B, 3 n)."""
    n, parts = circuit.n_qubits, list(vectors.unbind(-1))
    for gate in circuit.gates:
        angle, axis = angles[:, gate.angle], AXES[gate.kind]
        if gate.kind == "CRX":
            angle = angle * (1 - parts[2 * n + gate.wires[0]]) / 2
        p, q = ((axis + turn) % 3 * n + gate.wires[-1] for turn in (1, 2))
        cos, sin = angle.cos(), angle.sin()
        parts[p], parts[q] = parts[p] * cos - parts[q] * sin, parts[p] * sin + parts[q] * cos
    return torch.stack(parts, -1)


def _serves(angles: Tensor, vectors: Tensor) -> bool:
    """Whether the kernels may serve: on a CPU, checked, with angles that their cosine knows (NaN is not)."""
    if angles.device.type != "cpu" or selfcheck.obstacle(check, angles.dtype) is not None:
        return False
    from qablate.simd import ANGLE_LIMIT  # imports numba

    largest = angles.detach().abs().amax() * (1 + vectors.detach().abs().amax()) if angles.numel() else 0
    return bool(largest < ANGLE_LIMIT)  # |1 - z| / 2 is at most 1 + the largest component


def _compiled(circuit: Circuit, angles: Tensor, vectors: Tensor) -> Tensor:
    result: Tensor = _Rotations.apply(angles, vectors, _gates(circuit))
    return result


@lru_cache(maxsize=256)
def _gates(circuit: Circuit) -> NDArray[np.int64]:
    """Rows (column, p, q, control) of the kernels: a rotation in the plane of numbers p and q; control: z_c or -1."""
    n, rows = circuit.n_qubits, []
    for gate in circuit.gates:
        p, q = ((AXES[gate.kind] + turn) % 3 * n + gate.wires[-1] for turn in (1, 2))
        rows.append((gate.angle, p, q, 2 * n + gate.wires[0] if gate.kind == "CRX" else -1))
    return np.array(rows, dtype=np.int64).reshape(-1, 4)


class _Rotations(torch.autograd.Function):
    """Angles (B, n_angles) and vectors (B, 3 n) -> vectors, by compiled kernels."""

    @staticmethod
    def forward(ctx: Any, angles: Tensor, vectors: Tensor, gates: NDArray[np.int64]) -> Tensor:
        from qablate.quantum import mean_field_kernels as kernels

        angles, vectors = angles.detach().contiguous(), vectors.detach().contiguous()
        out = torch.empty_like(vectors)
        memory = angles.new_empty(kernels.scratch_size(angles.shape[1], vectors.shape[1], angles.numpy().dtype))
        kernels.forward(angles.numpy().dtype)(gates, *(t.numpy() for t in (angles, vectors, out, memory)))
        ctx.save_for_backward(angles, out)
        ctx.gates = gates
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None]:
        from qablate.quantum import mean_field_kernels as kernels

        angles, out = ctx.saved_tensors
        to_angles, to_vectors = torch.empty_like(angles), torch.empty_like(out)
        memory = angles.new_empty(kernels.scratch_size(angles.shape[1], out.shape[1], angles.numpy().dtype))
        tensors = (angles, out, grad.contiguous(), to_angles, to_vectors, memory)
        kernels.backward(angles.numpy().dtype)(ctx.gates, *(t.numpy() for t in tensors))
        return to_angles, to_vectors, None


def check(dtype: torch.dtype) -> None:
    """Compare kernels and plain torch: gates of all kinds, a column read twice, a full tile and a ragged one."""
    circuit = Circuit(3, (*embedding(3), *ansatz(3, 2, first=3), Gate("RZ", (1,), 0)))
    n_batch = 35
    angles = torch.sin(torch.arange(n_batch * circuit.n_angles, dtype=torch.float64)).mul(3).to(dtype)
    vectors = torch.cos(torch.arange(n_batch * 9, dtype=torch.float64)).to(dtype)
    outcomes = []
    for run in (_compiled, evolve_plainly):
        leaves = [t.clone().requires_grad_() for t in (angles.view(n_batch, -1), vectors.view(n_batch, 9))]
        result = run(circuit, *leaves)
        outcomes.append([result, *torch.autograd.grad(result.cos().sum(), leaves)])
    selfcheck.require_agreement(("vectors", "gradient of angles", "gradient of vectors"), *outcomes)
