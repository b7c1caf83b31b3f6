"""Circuits on a GPU: the kernels of `triton_kernels` as one differentiable operation.

A warp simulates 32 / 2**(n - r) samples at once, n qubits, 2**r amplitudes a thread (`registers_of`). Larger
circuits than MAX_QUBITS run in plain torch on the same device: their states do not fit a warp's registers.
Triton's interpreter (TRITON_INTERPRET=1 when the kernels are imported) runs the same kernels on a CPU, for tests.
Source of the method: adjoint differentiation, Jones and Gacon, arXiv:2009.02823.

Untested on hardware: the numbers of the kernels are tested in the interpreter, their registers by compiling for
sm_80, sm_90 and sm_121; no GPU has run them yet. What holds in their place on a GPU is the self-check before
the first use on each device.
"""

import logging
from dataclasses import dataclass
from functools import cache, lru_cache, partial
from typing import Any

import numpy as np
import torch
import triton
from torch import Tensor
from torch.autograd.function import once_differentiable

from qablate import selfcheck
from qablate.quantum import triton_kernels as kernels
from qablate.quantum.agreement import require_agreement
from qablate.quantum.circuit import Circuit
from qablate.quantum.program import CRX, RX, RY, RZ, U3, Program, lower
from qablate.quantum.torch_backend import TorchBackend

MAX_QUBITS = {torch.float32: 8, torch.float64: 8}
"""Largest circuits that the kernels serve: psi and lambda fit a warp's registers, and Triton's compiler, whose time
grows with the square of the code, still ends."""

INTERPRETED_BLOCK = 128

log = logging.getLogger(__name__)


class TritonBackend:
    """See `qablate.quantum.backends.Backend`."""

    max_qubits = MAX_QUBITS[torch.float32]

    def obstacle(self, device: torch.device) -> str | None:
        """Why it cannot serve: another device than a GPU, or kernels that fail their self-check on it."""
        if device.type != "cuda" and not interpreted():
            return f"it runs on NVIDIA GPUs, not on {device.type}"
        return selfcheck.obstacle(_check_on(device), torch.float32)

    def expectations(self, circuit: Circuit, angles: Tensor) -> Tensor:
        """Expectations (B, 3 n)."""
        if not _serves(circuit, angles):
            return _PLAIN.expectations(circuit, angles)
        return _expectations(circuit, angles)

    def states(self, circuit: Circuit, angles: Tensor) -> Tensor:
        """States (B, 2**n) from |0...0>."""
        return _states(circuit, angles) if _serves(circuit, angles) else _PLAIN.states(circuit, angles)

    def evolve(self, circuit: Circuit, angles: Tensor, initial: Tensor) -> Tensor:
        """States (B, 2**n) from `initial`."""
        if not _serves(circuit, angles):
            return _PLAIN.evolve(circuit, angles, initial)
        return _evolve(circuit, angles, initial)


_PLAIN = TorchBackend()


def interpreted() -> bool:
    """Whether the kernels run in Triton's interpreter, on the CPU."""
    return not isinstance(kernels.forward, triton.runtime.JITFunction)


def registers_of(n_qubits: int) -> int:
    """How many of a circuit's wires choose the register of an amplitude; the others choose the thread."""
    return max(min(n_qubits, 2), n_qubits - 5)  # a warp has 2**5 threads


def _serves(circuit: Circuit, angles: Tensor) -> bool:
    """Whether the kernels may serve this circuit, float type and device; says once why not."""
    dtype, limit = angles.dtype, MAX_QUBITS[angles.dtype]
    if circuit.n_qubits > limit:
        _say_once(f"circuits of {circuit.n_qubits} qubits in {dtype}", f"the kernels hold at most {limit} qubits")
        return False
    obstacle = selfcheck.obstacle(_check_on(angles.device), dtype)
    if obstacle is not None:
        _say_once(f"{dtype} on {angles.device}", obstacle)
    return obstacle is None


@cache
def _say_once(what: str, why: str) -> None:
    log.warning("circuits: plain torch serves %s instead of triton: %s", what, why)


def _expectations(circuit: Circuit, angles: Tensor) -> Tensor:
    plan = _plan(lower(circuit, from_zero=True), angles.device)
    result: Tensor = _Simulation.apply(angles, None, plan, True)
    return result


def _states(circuit: Circuit, angles: Tensor) -> Tensor:
    plan = _plan(lower(circuit, from_zero=True), angles.device)
    return torch.view_as_complex(_Simulation.apply(angles, None, plan, False))


def _evolve(circuit: Circuit, angles: Tensor, initial: Tensor) -> Tensor:
    plan = _plan(lower(circuit, from_zero=False), angles.device)
    parts = _Simulation.apply(angles, torch.view_as_real(initial.resolve_conj()), plan, False)
    return torch.view_as_complex(parts)


@dataclass(frozen=True, eq=False)
class _Plan:
    """A program as the kernels read it: `table` int32 (rows, kernels.TABLE_WIDTH), `codes` the bits of its codes.

    Each use of a column but the first takes its gradient in a slot of its own behind the n_angles columns; `again`
    (slots,) says to which column each of these is added. `all_read`: every column is read at least once.
    """

    n_qubits: int
    from_zero: bool
    table: Tensor
    codes: int
    again: Tensor
    all_read: bool


_ROTATIONS = {U3: (0, 1, 2), RX: (0, None, None), RY: (None, 0, None), RZ: (None, None, 0)}


@lru_cache(maxsize=256)
@torch.inference_mode(mode=False)
def _plan(program: Program, device: torch.device) -> _Plan:
    n = program.n_qubits
    rows = [[q * n + q, *_columns(U3, u3), int(ry)] for q, (ry, u3) in enumerate(program.start) if program.from_zero]
    for kind, a, b, column in program.ops.tolist():
        rows.append([a * n + b, column, -1, -1, -1] if kind == CRX else [a * n + a, *_columns(kind, column), -1])
    seen: set[int] = set()
    again: list[int] = []
    table = [[*row, *(_slot(column, seen, again, program.n_angles) for column in row[1:])] for row in rows]
    array = np.array(table, dtype=np.int32).reshape(-1, kernels.TABLE_WIDTH)
    return _Plan(
        n,
        program.from_zero,
        torch.from_numpy(array).to(device),
        sum(1 << code for code in {row[0] for row in rows}),
        torch.tensor(again, dtype=torch.long, device=device),
        len(seen) == program.n_angles,
    )


def _columns(kind: int, column: int) -> list[int]:
    """Columns of R_X, R_Y, R_Z in an operation on one wire; -1 where it lacks one."""
    return [-1 if offset is None or column < 0 else int(column) + offset for offset in _ROTATIONS[kind]]


def _slot(column: int, seen: set[int], again: list[int], n_angles: int) -> int:
    """Where a rotation's gradient goes: to its column, or behind all columns if that is taken."""
    if column < 0 or column not in seen:
        seen.update([column] if column >= 0 else [])
        return column
    again.append(column)
    return n_angles + len(again) - 1


class _Simulation(torch.autograd.Function):
    """Angles (B, n_angles), initial states (B, 2**n, 2) or None -> expectations (B, 3 n) or states (B, 2**n, 2)."""

    @staticmethod
    def forward(ctx: Any, angles: Tensor, initial: Tensor | None, plan: _Plan, measured: bool) -> Tensor:
        """Run the forward kernel; keep the angles and the final states for the backward pass."""
        angles = angles.contiguous()
        (n_batch, n_angles), n = angles.shape, plan.n_qubits
        keep = not measured or any(ctx.needs_input_grad)
        final = angles.new_empty(n_batch if keep else 0, 2**n, 2)
        result = angles.new_empty(n_batch, 3 * n) if measured else final
        given = final if initial is None else initial.contiguous()
        sizes = (n_batch, n_angles, len(plan.table))
        options = {"FROM_ZERO": plan.from_zero, "KEEP": keep, "MEASURED": measured}
        _launch(kernels.forward, (angles, given, final, result), sizes, plan, options)
        ctx.save_for_backward(angles, final)
        ctx.plan, ctx.measured = plan, measured
        return result

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor | None, None, None]:
        """Run the backward kernel; add up the gradients of columns that are read more than once."""
        plan: _Plan = ctx.plan
        angles, final = ctx.saved_tensors
        n_batch, n_angles = angles.shape
        n_slots = n_angles + len(plan.again)
        slots = (angles.new_empty if plan.all_read else angles.new_zeros)(n_batch, n_slots)
        grad_initial = final.new_empty(0) if plan.from_zero else torch.empty_like(final)
        sizes = (n_batch, n_angles, n_slots, len(plan.table))
        options = {"FROM_ZERO": plan.from_zero, "MEASURED": ctx.measured}
        _launch(kernels.backward, (angles, final, grad.contiguous(), slots, grad_initial), sizes, plan, options)
        grad_angles = slots[:, :n_angles]
        if len(plan.again):
            grad_angles = grad_angles.index_add(1, plan.again, slots[:, n_angles:])
        return grad_angles, None if plan.from_zero else grad_initial, None, None


def _launch(
    kernel: Any, tensors: tuple[Tensor, ...], sizes: tuple[int, ...], plan: _Plan, options: dict[str, bool]
) -> None:
    """Start a kernel on the device and current stream of its tensors; one warp a program."""
    n_batch, registers = sizes[0], registers_of(plan.n_qubits)
    block = INTERPRETED_BLOCK if interpreted() else 32 >> (plan.n_qubits - registers)
    if n_batch:
        with torch.cuda.device_of(tensors[0]):
            kernel[(triton.cdiv(n_batch, block),)](
                plan.table, *tensors, *sizes, N=plan.n_qubits, R=registers, BLOCK=block, CODES=plan.codes,
                num_warps=1, **options,
            )  # fmt: skip


@cache
def _check_on(device: torch.device) -> Any:
    """The self-check of one device, the same object each time it is asked for."""
    return partial(check, device)


def check(device: torch.device, dtype: torch.dtype) -> None:
    """Compare with gate-by-gate simulation: wires in registers and across threads, full and ragged programs."""
    require_agreement(_simulate, n_qubits=6, n_batch=11, dtype=dtype, device=device)


def _simulate(circuit: Circuit, angles: Tensor, initial: Tensor) -> dict[str, Tensor]:
    return {"expectations": _expectations(circuit, angles), "states": _states(circuit, angles),
            "evolved states": _evolve(circuit, angles, initial)}


BACKEND = TritonBackend()
