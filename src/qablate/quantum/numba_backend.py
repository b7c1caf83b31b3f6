"""Circuits on the CPU by compiled kernels; see `qablate.quantum.numba_kernels` for the method.

Shapes: B batch, n qubits. States cross the border to the kernels as real numbers (B, 2 * 2**n), re and im
next to each other, which is how torch stores complex ones.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.autograd.function import once_differentiable

from qablate import selfcheck
from qablate.quantum import numba_kernels as kernels
from qablate.quantum.agreement import require_agreement
from qablate.quantum.circuit import Circuit, qubits_of_states
from qablate.quantum.measurement import measure as measure_plainly
from qablate.quantum.program import CRX, RX, RY, RZ, U3, Program, lower
from qablate.quantum.torch_backend import TorchBackend
from qablate.simd import lanes_of

log = logging.getLogger(__name__)


class NumbaBackend:
    """See `qablate.quantum.backends.Backend`."""

    def obstacle(self, device: torch.device) -> str | None:
        """Why it cannot serve: another device than the CPU, or kernels that fail their self-check."""
        if device.type != "cpu":
            return f"it runs on the CPU, not on {device.type}"
        return selfcheck.obstacle(check, torch.float32)

    def expectations(self, circuit: Circuit, angles: Tensor) -> Tensor:
        """Expectations (B, 3 n)."""
        if not _serves(angles.dtype):
            return _PLAIN.expectations(circuit, angles)
        return _expectations(circuit, angles)

    def states(self, circuit: Circuit, angles: Tensor) -> Tensor:
        """States (B, 2**n) from |0...0>."""
        return _states(circuit, angles) if _serves(angles.dtype) else _PLAIN.states(circuit, angles)

    def evolve(self, circuit: Circuit, angles: Tensor, initial: Tensor) -> Tensor:
        """States (B, 2**n) from `initial`."""
        if not _serves(angles.dtype):
            return _PLAIN.evolve(circuit, angles, initial)
        return _evolve(circuit, angles, initial)

    def measure(self, states: Tensor) -> Tensor:
        """Expectations (B, 3 n) of states (B, 2**n)."""
        return _measure(states) if _serves(states.real.dtype) else measure_plainly(states)


_PLAIN = TorchBackend()


@cache
def _serves(dtype: torch.dtype) -> bool:
    """Whether the kernels may serve this float type; says once why not."""
    obstacle = selfcheck.obstacle(check, dtype)
    if obstacle is not None:
        log.warning("circuits: plain torch serves %s instead of numba: %s", dtype, obstacle)
    return obstacle is None


def _expectations(circuit: Circuit, angles: Tensor) -> Tensor:
    result: Tensor = _Simulation.apply(angles, None, _plan(lower(circuit, from_zero=True)), True)
    return result


def _states(circuit: Circuit, angles: Tensor) -> Tensor:
    parts = _Simulation.apply(angles, None, _plan(lower(circuit, from_zero=True)), False)
    return torch.view_as_complex(parts.unflatten(1, (-1, 2)))


def _evolve(circuit: Circuit, angles: Tensor, initial: Tensor) -> Tensor:
    parts = _Simulation.apply(angles, _real(initial), _plan(lower(circuit, from_zero=False)), False)
    return torch.view_as_complex(parts.unflatten(1, (-1, 2)))


def _measure(states: Tensor) -> Tensor:
    """A circuit without gates on the given states, measured."""
    parts = _real(states)
    circuit = Circuit(qubits_of_states(states), ())
    angles = parts.new_empty(len(parts), 0)
    result: Tensor = _Simulation.apply(angles, parts, _plan(lower(circuit, from_zero=False)), True)
    return result


def _real(states: Tensor) -> Tensor:
    """Complex states (B, 2**n) as numbers (B, 2 * 2**n)."""
    return torch.view_as_real(states.resolve_conj()).flatten(1)


@dataclass(frozen=True, eq=False)
class _Plan:
    """A program as the kernels read it; `ops` and `start` are described there."""

    n_qubits: int
    n_angles: int
    ops: NDArray[np.int64]
    start: NDArray[np.int64]


_ROTATIONS = {U3: (0, 1, 2), RX: (0, None, None), RY: (None, 0, None), RZ: (None, None, 0)}


@lru_cache(maxsize=256)
def _plan(program: Program) -> _Plan:
    none = program.n_angles  # the column of angle 0

    def columns(kind: int, column: int) -> list[int]:
        present = column >= 0
        return [none if offset is None or not present else column + offset for offset in _ROTATIONS[kind]]

    ops = []
    for kind, a, b, column in program.ops.tolist():
        bit = 1 << (program.n_qubits - 1 - (b if kind == CRX else a))
        if kind == CRX:
            ops.append([1, bit, 1 << (program.n_qubits - 1 - a), column, 0, 0])
        else:
            ops.append([0, bit, 0, *columns(kind, column)])
    start = [[columns(RY, ry)[1], *columns(U3, u3)] for ry, u3 in program.start.tolist()]
    return _Plan(
        program.n_qubits,
        program.n_angles,
        np.array(ops, dtype=np.int64).reshape(-1, 6),
        np.array(start, dtype=np.int64).reshape(-1, 4),
    )


class _Simulation(torch.autograd.Function):
    """Angles (B, n_angles) and initial states (B, 2 * 2**n) or None -> expectations or states, real."""

    @staticmethod
    def forward(ctx: Any, angles: Tensor, initial: Tensor | None, plan: _Plan, measured: bool) -> Tensor:
        """Run the forward kernel; keep the angles and the final states for the backward pass."""
        angles = angles.detach().contiguous()
        n_batch, n, width = len(angles), plan.n_qubits, 2 * 2**plan.n_qubits
        given = angles.new_empty(0, width) if initial is None else initial.detach().contiguous()
        result = angles.new_empty(n_batch, 3 * n if measured else width)
        absent = angles.new_empty(0, width if measured else 3 * n)
        outputs = (result, absent) if measured else (absent, result)
        dtype = angles.numpy().dtype
        n_tiles = -(-n_batch // lanes_of(dtype)) if any(ctx.needs_input_grad) else 0
        saved = angles.new_empty(n_tiles, width * lanes_of(dtype))
        arrays = [tensor.numpy() for tensor in (angles, given, *outputs, saved, _memory(angles, plan))]
        kernels.forward(dtype)(plan.ops, plan.start, *arrays)
        ctx.save_for_backward(angles, saved)
        ctx.plan, ctx.measured, ctx.from_zero = plan, measured, initial is None
        return result

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor | None, None, None]:
        """Run the backward kernel."""
        plan: _Plan = ctx.plan
        angles, saved = ctx.saved_tensors
        n, width = plan.n_qubits, 2 * 2**plan.n_qubits
        grad = grad.contiguous()
        absent = grad.new_empty(0, width if ctx.measured else 3 * n)
        outer = (grad, absent) if ctx.measured else (absent, grad)
        grad_angles = torch.empty_like(angles)
        grad_initial = grad.new_empty(0 if ctx.from_zero else len(angles), width)
        tensors = (angles, saved, *outer, grad_angles, grad_initial, _memory(angles, plan))
        arrays = [tensor.numpy() for tensor in tensors]
        kernels.backward(arrays[0].dtype)(plan.ops, plan.start, *arrays)
        return grad_angles, None if ctx.from_zero else grad_initial, None, None


def _memory(like: Tensor, plan: _Plan) -> Tensor:
    """Working memory of one tile; torch aligns it to cache lines."""
    lanes = lanes_of(like.numpy().dtype)
    return like.new_empty(kernels.scratch_rows(plan.n_qubits, plan.n_angles) * lanes)


def check(dtype: torch.dtype) -> None:
    """Compare with gate-by-gate simulation: a full tile and a ragged one."""
    require_agreement(_simulate, n_qubits=3, n_batch=lanes_of(np.float32) + 3, dtype=dtype)


def _simulate(circuit: Circuit, angles: Tensor, initial: Tensor) -> dict[str, Tensor]:
    evolved = _evolve(circuit, angles, initial)
    return {"expectations": _expectations(circuit, angles), "states": _states(circuit, angles),
            "evolved states": evolved, "measured states": _measure(evolved)}


BACKEND = NumbaBackend()
