"""Circuits as two GPU kernels in Triton: forward, and the adjoint backward pass that undoes psi and lambda.

The 2**n amplitudes of a sample are spread over 2**(n - r) neighbouring threads of one warp; each thread holds
2**r of them, real and imaginary parts, in a tuple of registers. Wires below r choose the register, so a gate on
them moves nothing; the others choose the thread, and a gate on them is one shuffle an amplitude. Nothing goes
through shared memory. The operations are data (a table, see `TABLE_WIDTH`) read in a loop, so that the code, one
body for each kind of operation, fits the instruction cache and serves every circuit with these operations. Circuits
larger than MAX_QUBITS run in plain torch on the same device: their states do not fit a warp's registers.

Triton's interpreter (TRITON_INTERPRET=1 when this is imported) runs the same kernels on a CPU, for tests, which
also compile them for sm_80, sm_90 and sm_121. An H100 has run them (docs/performance.md); on every GPU the
self-check comes before the first use.

Shapes: (BLOCK, LANES) for one number a thread, LANES = 2**(n - r); samples of a program along the first axis.
Names: N qubits; R of them in registers; k register, lane thread of a sample; a state is a tuple of 2 * 2**R
blocks, real parts first. Mathematics as in `qablate.quantum.compiled`.
Source of the method: adjoint differentiation, Jones and Gacon, arXiv:2009.02823.
"""

# Tuples of registers grow while a kernel is compiled:
# mypy: disable-error-code="assignment"
# ruff: noqa: SIM102 - Triton decides constant conditions while it compiles, so they stand alone

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.autograd.function import once_differentiable

from qablate import selfcheck
from qablate.quantum import adjoint
from qablate.quantum.circuit import Circuit, Program, lower
from qablate.quantum.reference import require_agreement

MAX_QUBITS = 8
"""Largest circuits that the kernels serve: psi and lambda fit a warp's registers, and Triton's compiler, whose time
grows with the square of the code, still ends."""

INTERPRETED_BLOCK = 128
INTERPRETED = bool(triton.knobs.runtime.interpret)
DEVICE = "cpu" if INTERPRETED else "cuda"


def simulate(circuit: Circuit, angles: Tensor, initial: Tensor | None, measured: bool) -> Tensor:
    """See `qablate.quantum.reference.Simulate`."""
    if circuit.n_qubits > MAX_QUBITS:
        selfcheck.say_once(f"circuits of {circuit.n_qubits} qubits: plain torch serves instead of triton, "
                           f"whose kernels hold at most {MAX_QUBITS} qubits")
    if circuit.n_qubits > MAX_QUBITS or not circuit.gates:  # the kernels read ahead, at least one row of the table
        return adjoint.simulate(circuit, angles, initial, measured)
    plan = plan_of(lower(circuit, initial is None), angles.device)
    given = None if initial is None else torch.view_as_real(initial)
    result: Tensor = Simulation.apply(angles, given, plan, measured)
    return result if measured else torch.view_as_complex(result)


def check(dtype: torch.dtype, device: torch.device) -> None:
    """Compare with gate-by-gate simulation: wires in registers and across threads, full and ragged programs."""
    require_agreement(simulate, n_qubits=6, n_batch=11, dtype=dtype, device=device)


def registers_of(n_qubits: int) -> int:
    """How many of a circuit's wires choose the register of an amplitude; the others choose the thread."""
    return max(min(n_qubits, 2), n_qubits - 5)  # a warp has 2**5 threads


@dataclass(frozen=True, eq=False)
class Plan:
    """A program as the kernels read it: `table` int32 (rows, TABLE_WIDTH), `codes` the bits of its codes.

    Each use of a column but the first takes its gradient in a slot of its own behind the n_angles columns; `again`
    (slots,) says to which column each of these is added. `all_read`: every column is read at least once.
    """

    n_qubits: int
    from_zero: bool
    table: Tensor
    codes: int
    again: Tensor
    all_read: bool


@lru_cache(maxsize=256)
@torch.inference_mode(mode=False)
def plan_of(program: Program, device: torch.device) -> Plan:
    """The plan of a program on a device."""
    n, none = program.n_qubits, program.n_angles
    rows = [[q * n + q, x, y, z, e] for q, (e, x, y, z) in enumerate(program.start.tolist()) if program.from_zero]
    rows += [[(target if control < 0 else control) * n + target, x, y, z, none]
             for target, control, x, y, z in program.ops.tolist()]
    seen: set[int] = set()
    again: list[int] = []

    def slot(column: int) -> int:
        if column not in seen:
            seen.add(column)
            return column
        again.append(column)
        return none + len(again) - 1

    table = []
    for code, *columns in rows:
        slots = [-1 if column == none else slot(column) for column in columns]
        table.append([code, *(-1 if column == none else column for column in columns), *slots])
    return Plan(
        n,
        program.from_zero,
        torch.tensor(table, dtype=torch.int32, device=device).reshape(-1, TABLE_WIDTH),
        sum(1 << code for code in {row[0] for row in rows}),
        torch.tensor(again, dtype=torch.long, device=device),
        len(seen) == none,
    )


class Simulation(torch.autograd.Function):
    """Angles (B, n_angles), initial states (B, 2**n, 2) or None -> expectations (B, 3 n) or states (B, 2**n, 2)."""

    @staticmethod
    def forward(ctx: Any, angles: Tensor, initial: Tensor | None, plan: Plan, measured: bool) -> Tensor:
        """Run the forward kernel; keep the angles and the final states for the backward pass."""
        angles = angles.contiguous()
        (n_batch, n_angles), n = angles.shape, plan.n_qubits
        keep = not measured or any(ctx.needs_input_grad)
        final = angles.new_empty(n_batch if keep else 0, 2**n, 2)
        result = angles.new_empty(n_batch, 3 * n) if measured else final
        given = final if initial is None else initial.contiguous()
        sizes = (n_batch, n_angles, len(plan.table))
        options = {"FROM_ZERO": plan.from_zero, "KEEP": keep, "MEASURED": measured}
        _launch(forward_kernel, (angles, given, final, result), sizes, plan, options)
        ctx.save_for_backward(angles, final)
        ctx.plan, ctx.measured = plan, measured
        return result

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor | None, None, None]:
        """Run the backward kernel; add up the gradients of columns that are read more than once."""
        plan: Plan = ctx.plan
        angles, final = ctx.saved_tensors
        n_batch, n_angles = angles.shape
        n_slots = n_angles + len(plan.again)
        slots = (angles.new_empty if plan.all_read else angles.new_zeros)(n_batch, n_slots)
        grad_initial = final.new_empty(0) if plan.from_zero else torch.empty_like(final)
        sizes = (n_batch, n_angles, n_slots, len(plan.table))
        options = {"FROM_ZERO": plan.from_zero, "MEASURED": ctx.measured}
        _launch(backward_kernel, (angles, final, grad.contiguous(), slots, grad_initial), sizes, plan, options)
        grad_angles = slots[:, :n_angles]
        if len(plan.again):
            grad_angles = grad_angles.index_add(1, plan.again, slots[:, n_angles:])
        return grad_angles, None if plan.from_zero else grad_initial, None, None


def _launch(
    kernel: Any, tensors: tuple[Tensor, ...], sizes: tuple[int, ...], plan: Plan, options: dict[str, bool]
) -> None:
    """Start a kernel on the device and current stream of its tensors; one warp a program."""
    n_batch, registers = sizes[0], registers_of(plan.n_qubits)
    block = INTERPRETED_BLOCK if INTERPRETED else 32 >> (plan.n_qubits - registers)
    if n_batch:
        with torch.cuda.device_of(tensors[0]):
            kernel[(triton.cdiv(n_batch, block),)](
                plan.table, *tensors, *sizes, N=plan.n_qubits, R=registers, BLOCK=block, CODES=plan.codes,
                num_warps=1, **options,
            )  # fmt: skip


TABLE_WIDTH = 9
"""A row of the table of operations, int32: code; angle columns of R_X, R_Y, R_Z and of an R_Y in front of them;
the four columns that take their gradients. -1 stands for a rotation that is not there. The code is
control * n + target for a CRX (angle in the first column) and wire * n + wire for an operation on one wire. A
program from |0...0> begins with one row a wire, which makes the product state."""

CODE = tl.constexpr(0)
ANGLES = tl.constexpr(1)
SLOTS = tl.constexpr(5)
WIDTH = tl.constexpr(TABLE_WIDTH)
INVERSE_PI = tl.constexpr(0.3183098861837907)
PI_HIGH, PI_MIDDLE, PI_LOW = tl.constexpr(3.140625), tl.constexpr(9.67502593994140625e-4), tl.constexpr(1.50995799e-7)
S0, S1, S2 = tl.constexpr(1.0), tl.constexpr(-0.16666658222675323), tl.constexpr(0.008333041332662106)
S3, S4 = tl.constexpr(-0.00019808379875030369), tl.constexpr(2.6036402687168447e-06)
C0, C1, C2 = tl.constexpr(1.0), tl.constexpr(-0.5), tl.constexpr(0.04166663438081741)
C3, C4 = tl.constexpr(-0.0013888344401493669), tl.constexpr(2.4759290681686252e-05)
C5 = tl.constexpr(-2.6035974087790237e-07)


@triton.jit
def _cos_sin(angle: tl.tensor) -> tl.tuple:
    """Cosine and sine of HALF an angle; in float32 without the slow path (and its stack) of the library's."""
    half = angle * 0.5
    if half.dtype == tl.float64:
        return tl.cos(half), tl.sin(half)
    multiple = tl.floor(half * INVERSE_PI + 0.5)
    r = ((half - multiple * PI_HIGH) - multiple * PI_MIDDLE) - multiple * PI_LOW  # in [-pi/2, pi/2]
    sign = 1.0 - 2.0 * (multiple - 2.0 * tl.floor(multiple * 0.5))
    u = r * r
    cos = ((((C5 * u + C4) * u + C3) * u + C2) * u + C1) * u + C0
    sin = ((((S4 * u + S3) * u + S2) * u + S1) * u + S0) * r
    return sign * cos, sign * sin


@triton.jit
def _load_angles(table: tl.tensor, row: tl.tensor, angles: tl.tensor, ok: tl.tensor) -> tl.tuple:
    """The angles x, y, z of a row of the table: three blocks; `angles` points at each sample's first angle."""
    column_x = tl.load(table + row * WIDTH + ANGLES)
    column_y = tl.load(table + row * WIDTH + ANGLES + 1)
    column_z = tl.load(table + row * WIDTH + ANGLES + 2)
    x = tl.load(angles + column_x, mask=ok & (column_x >= 0), other=0.0)
    y = tl.load(angles + column_y, mask=ok & (column_y >= 0), other=0.0)
    z = tl.load(angles + column_z, mask=ok & (column_z >= 0), other=0.0)
    return x, y, z


@triton.jit
def _su2(cx: tl.tensor, sx: tl.tensor, cy: tl.tensor, sy: tl.tensor, cz: tl.tensor, sz: tl.tensor) -> tl.tuple:
    """Re a, im a, re b, im b of R_Z R_Y R_X = [[a, -b*], [b, a*]]."""
    re_a, im_a, re_b, im_b = cy * cx, sy * sx, sy * cx, -cy * sx
    return re_a * cz + im_a * sz, im_a * cz - re_a * sz, re_b * cz - im_b * sz, im_b * cz + re_b * sz


@triton.jit
def _flipped(state: tl.tuple, lane: tl.tensor, WIRE: tl.constexpr, N: tl.constexpr, R: tl.constexpr) -> tl.tuple:
    """A state after a flip of WIRE: other registers' amplitudes, or other threads'."""
    out = ()
    if WIRE >= R:
        partner = lane ^ (1 << (N - 1 - WIRE))
    for i in tl.static_range(2 << R):
        if WIRE < R:
            out += (state[i ^ (1 << (R - 1 - WIRE))],)
        else:
            out += (tl.gather(state[i], partner, 1),)
    return out


@triton.jit
def _lane_sign(lane: tl.tensor, like: tl.tensor, WIRE: tl.constexpr, N: tl.constexpr, R: tl.constexpr) -> tl.tensor:
    """Eigenvalue of Z on a wire that chooses the thread; 1 for the others, where the register's number tells."""
    one = tl.full(like.shape, 1.0, like.dtype)
    if WIRE < R:
        return one
    return tl.where((lane & (1 << (N - 1 - WIRE))) != 0, -one, one)


@triton.jit
def _single(
    state: tl.tuple, gate: tl.tuple, lane: tl.tensor, WIRE: tl.constexpr, N: tl.constexpr, R: tl.constexpr
) -> tl.tuple:
    """U = [[a, -b*], [b, a*]] on WIRE; `gate` is re a, im a, re b, im b."""
    H: tl.constexpr = 1 << R
    sign = _lane_sign(lane, gate[0], WIRE, N, R)
    im_a, re_b = sign * gate[1], sign * gate[2]
    other = _flipped(state, lane, WIRE, N, R)
    real = ()
    imaginary = ()
    for k in tl.static_range(H):
        if WIRE < R and (k >> (R - 1 - WIRE)) & 1:
            new_re = gate[0] * state[k] + im_a * state[H + k] + re_b * other[k] - gate[3] * other[H + k]
            new_im = gate[0] * state[H + k] - im_a * state[k] + re_b * other[H + k] + gate[3] * other[k]
        else:
            new_re = gate[0] * state[k] - im_a * state[H + k] - re_b * other[k] - gate[3] * other[H + k]
            new_im = gate[0] * state[H + k] + im_a * state[k] - re_b * other[H + k] + gate[3] * other[k]
        real += (new_re,)
        imaginary += (new_im,)
    return real + imaginary


@triton.jit
def _controlled(
    state: tl.tuple, c: tl.tensor, s: tl.tensor, lane: tl.tensor, CONTROL: tl.constexpr, WIRE: tl.constexpr,
    N: tl.constexpr, R: tl.constexpr,
) -> tl.tuple:
    """R_X with half-angle cosine c and sine s on WIRE where CONTROL is 1."""
    H: tl.constexpr = 1 << R
    off = _lane_sign(lane, c, CONTROL, N, R) > 0
    if CONTROL >= R:
        c, s = tl.where(off, 1.0, c), tl.where(off, 0.0, s)
    other = _flipped(state, lane, WIRE, N, R)
    real = ()
    imaginary = ()
    for k in tl.static_range(H):
        if CONTROL >= R or (k >> (R - 1 - CONTROL)) & 1:
            real += (c * state[k] + s * other[H + k],)
            imaginary += (c * state[H + k] - s * other[k],)
        else:
            real += (state[k],)
            imaginary += (state[H + k],)
    return real + imaginary


@triton.jit
def _controlled_rate(
    psi: tl.tuple, lam: tl.tuple, lane: tl.tensor, CONTROL: tl.constexpr, WIRE: tl.constexpr, N: tl.constexpr,
    R: tl.constexpr,
) -> tl.tensor:
    """Im <lambda|X|psi> on WIRE over CONTROL = 1, each thread's share."""
    H: tl.constexpr = 1 << R
    rate = tl.zeros_like(psi[0])
    other = _flipped(psi, lane, WIRE, N, R)
    for k in tl.static_range(H):
        if CONTROL >= R or (k >> (R - 1 - CONTROL)) & 1:
            rate += lam[k] * other[H + k] - lam[H + k] * other[k]
    if CONTROL >= R:
        rate = tl.where(_lane_sign(lane, rate, CONTROL, N, R) > 0, 0.0, rate)
    return rate


@triton.jit
def _pauli_rates(
    psi: tl.tuple, lam: tl.tuple, lane: tl.tensor, WIRE: tl.constexpr, N: tl.constexpr, R: tl.constexpr
) -> tl.tuple:
    """Im <lambda|P|psi> for P = X, Y, Z on WIRE, each thread's share."""
    H: tl.constexpr = 1 << R
    x, y, z = tl.zeros_like(psi[0]), tl.zeros_like(psi[0]), tl.zeros_like(psi[0])
    other = _flipped(psi, lane, WIRE, N, R)
    for k in tl.static_range(H):
        x += lam[k] * other[H + k] - lam[H + k] * other[k]
        if WIRE < R and (k >> (R - 1 - WIRE)) & 1:
            y += lam[k] * other[k] + lam[H + k] * other[H + k]
            z -= lam[k] * psi[H + k] - lam[H + k] * psi[k]
        else:
            y -= lam[k] * other[k] + lam[H + k] * other[H + k]
            z += lam[k] * psi[H + k] - lam[H + k] * psi[k]
    sign = _lane_sign(lane, x, WIRE, N, R)
    return x, sign * y, sign * z


@triton.jit
def _product_state(
    table: tl.tensor, angles: tl.tensor, lane: tl.tensor, ok: tl.tensor, N: tl.constexpr, R: tl.constexpr
) -> tl.tuple:
    """The product of U R_Y |0> of all wires, from the first N rows of the table."""
    real = ()
    imaginary = ()
    for wire in tl.static_range(N - 1, -1, -1):  # threads first, then register by register, the lowest bit first
        x, y, z = _load_angles(table, wire, angles, ok)
        column = tl.load(table + wire * WIDTH + ANGLES + 3)
        c, s = _cos_sin(tl.load(angles + column, mask=ok & (column >= 0), other=0.0))
        cx, sx = _cos_sin(x)
        cy, sy = _cos_sin(y)
        cz, sz = _cos_sin(z)
        re_a, im_a, re_b, im_b = _su2(cx, sx, cy, sy, cz, sz)
        re0, im0 = re_a * c - re_b * s, im_a * c + im_b * s
        re1, im1 = re_b * c + re_a * s, im_b * c - im_a * s
        if wire == N - 1:
            head_re = tl.full(re0.shape, 1.0, re0.dtype)
            head_im = tl.zeros_like(re0)
        if wire >= R:
            one = (lane & (1 << (N - 1 - wire))) != 0
            re, im = tl.where(one, re1, re0), tl.where(one, im1, im0)
            head_re, head_im = head_re * re - head_im * im, head_re * im + head_im * re
        else:
            if wire == R - 1:
                real = (head_re,)
                imaginary = (head_im,)
            low_re = ()
            low_im = ()
            high_re = ()
            high_im = ()
            for k in tl.static_range(1 << (R - 1 - wire)):
                low_re += (real[k] * re0 - imaginary[k] * im0,)
                low_im += (real[k] * im0 + imaginary[k] * re0,)
                high_re += (real[k] * re1 - imaginary[k] * im1,)
                high_im += (real[k] * im1 + imaginary[k] * re1,)
            real = low_re + high_re
            imaginary = low_im + high_im
    return real + imaginary


@triton.jit
def _load_state(source: tl.tensor, lane: tl.tensor, ok: tl.tensor, N: tl.constexpr, R: tl.constexpr) -> tl.tuple:
    """A state from complex numbers in memory; `source` points at each sample's first one."""
    real = ()
    imaginary = ()
    for k in tl.static_range(1 << R):
        index = 2 * ((k << (N - R)) + lane)
        real += (tl.load(source + index, mask=ok, other=0.0),)
        imaginary += (tl.load(source + index + 1, mask=ok, other=0.0),)
    return real + imaginary


@triton.jit
def _store_state(
    state: tl.tuple, target: tl.tensor, lane: tl.tensor, ok: tl.tensor, N: tl.constexpr, R: tl.constexpr
) -> None:
    """Write a state as complex numbers."""
    H: tl.constexpr = 1 << R
    for k in tl.static_range(H):
        index = 2 * ((k << (N - R)) + lane)
        tl.store(target + index, state[k], mask=ok)
        tl.store(target + index + 1, state[H + k], mask=ok)


@triton.jit
def _store_total(share: tl.tensor, target: tl.tensor, lane: tl.tensor, ok: tl.tensor) -> None:
    """Add up the shares of a sample's threads and write the sum once."""
    total = tl.sum(share, 1, keep_dims=True) + tl.zeros_like(share)
    tl.store(target, total, mask=ok & (lane == 0))


@triton.jit
def _measure(
    psi: tl.tuple, target: tl.tensor, lane: tl.tensor, ok: tl.tensor, N: tl.constexpr, R: tl.constexpr
) -> None:
    """Write <X>, <Y>, <Z> of all wires; `target` points at each sample's first of 3 N numbers."""
    H: tl.constexpr = 1 << R
    for wire in tl.static_range(N):
        x, y, z = tl.zeros_like(psi[0]), tl.zeros_like(psi[0]), tl.zeros_like(psi[0])
        other = _flipped(psi, lane, wire, N, R)
        for k in tl.static_range(H):
            probability = psi[k] * psi[k] + psi[H + k] * psi[H + k]
            if wire < R and (k >> (R - 1 - wire)) & 1:
                z -= probability
            else:
                x += psi[k] * other[k] + psi[H + k] * other[H + k]
                y += psi[k] * other[H + k] - psi[H + k] * other[k]
                z += probability
        sign = _lane_sign(lane, x, wire, N, R)
        if wire < R:  # the other half of the pairs adds the same again; over threads both are there
            x, y = 2 * x, 2 * y
        _store_total(x, target + wire, lane, ok)
        _store_total(sign * y, target + N + wire, lane, ok)
        _store_total(sign * z, target + 2 * N + wire, lane, ok)


@triton.jit
def _measured_adjoint(
    psi: tl.tuple, weights: tl.tensor, lane: tl.tensor, ok: tl.tensor, N: tl.constexpr, R: tl.constexpr
) -> tl.tuple:
    """2 sum_w (x_w X + y_w Y + z_w Z) psi for the weights (gradients) of the 3 N expectations."""
    H: tl.constexpr = 1 << R
    real = ()
    imaginary = ()
    for _ in tl.static_range(H):
        real += (tl.zeros_like(psi[0]),)
        imaginary += (tl.zeros_like(psi[0]),)
    for wire in tl.static_range(N):
        sign = 2 * _lane_sign(lane, psi[0], wire, N, R)
        x = 2 * tl.load(weights + wire, mask=ok, other=0.0)
        y = sign * tl.load(weights + N + wire, mask=ok, other=0.0)
        z = sign * tl.load(weights + 2 * N + wire, mask=ok, other=0.0)
        other = _flipped(psi, lane, wire, N, R)
        new_re = ()
        new_im = ()
        for k in tl.static_range(H):
            if wire < R and (k >> (R - 1 - wire)) & 1:
                new_re += (real[k] + x * other[k] - y * other[H + k] - z * psi[k],)
                new_im += (imaginary[k] + x * other[H + k] + y * other[k] - z * psi[H + k],)
            else:
                new_re += (real[k] + x * other[k] + y * other[H + k] + z * psi[k],)
                new_im += (imaginary[k] + x * other[H + k] - y * other[k] + z * psi[H + k],)
        real, imaginary = new_re, new_im
    return real + imaginary


@triton.jit
def _store_rotation_gradients(
    rates: tl.tuple, cx: tl.tensor, sx: tl.tensor, cy: tl.tensor, sy: tl.tensor, cz: tl.tensor, sz: tl.tensor,
    table: tl.tensor, row: tl.tensor, target: tl.tensor, lane: tl.tensor, ok: tl.tensor,
) -> None:
    """Turn Pauli rates behind R_Z R_Y R_X R_Y(e) into the gradients of its angles, and write those that are there."""
    cos_x, sin_x = cx * cx - sx * sx, 2 * cx * sx
    cos_y, sin_y = cy * cy - sy * sy, 2 * cy * sy
    cos_z, sin_z = cz * cz - sz * sz, 2 * cz * sz
    level = rates[0] * cos_z + rates[1] * sin_z
    y = rates[1] * cos_z - rates[0] * sin_z
    behind = cos_x * y + sin_x * (level * sin_y + rates[2] * cos_y)
    slots = table + row * WIDTH + SLOTS
    slot_x, slot_y, slot_z, slot_e = tl.load(slots), tl.load(slots + 1), tl.load(slots + 2), tl.load(slots + 3)
    _store_total(0.5 * (level * cos_y - rates[2] * sin_y), target + slot_x, lane, ok & (slot_x >= 0))
    _store_total(0.5 * y, target + slot_y, lane, ok & (slot_y >= 0))
    _store_total(0.5 * rates[2], target + slot_z, lane, ok & (slot_z >= 0))
    _store_total(0.5 * behind, target + slot_e, lane, ok & (slot_e >= 0))


@triton.jit
def _place(n_batch: tl.tensor, LANES: tl.constexpr, BLOCK: tl.constexpr) -> tl.tuple:
    """Sample and lane of every thread, and whether the sample exists: blocks (BLOCK, LANES)."""
    zero = tl.zeros((BLOCK, LANES), tl.int32)
    sample = (tl.program_id(0) * BLOCK + tl.arange(0, BLOCK))[:, None] + zero
    return sample.to(tl.int64), tl.arange(0, LANES)[None, :] + zero, sample < n_batch


@triton.jit(do_not_specialize=["n_batch", "n_angles", "n_rows"])
def forward_kernel(
    table: tl.tensor, angles: tl.tensor, initial: tl.tensor, final: tl.tensor, expectations: tl.tensor,
    n_batch: tl.tensor, n_angles: tl.tensor, n_rows: tl.tensor, N: tl.constexpr, R: tl.constexpr, BLOCK: tl.constexpr,
    CODES: tl.constexpr, FROM_ZERO: tl.constexpr, KEEP: tl.constexpr, MEASURED: tl.constexpr,
) -> None:
    """Final states (if KEEP) and expectations (if MEASURED) of `n_batch` samples.

    `angles` (n_batch, n_angles), `initial` and `final` (n_batch, 2**N) complex, `expectations` (n_batch, 3 N).
    Bit c of CODES is set if the table holds an operation of code c.
    """
    sample, lane, ok = _place(n_batch, 1 << (N - R), BLOCK)
    mine = angles + sample * n_angles
    first: tl.constexpr = N if FROM_ZERO else 0
    if FROM_ZERO:
        psi = _product_state(table, mine, lane, ok, N, R)
    else:
        psi = _load_state(initial + sample * (2 << N), lane, ok, N, R)
    x, y, z = _load_angles(table, first, mine, ok & (n_rows > first))
    code = tl.load(table + first * WIDTH + CODE, mask=n_rows > first, other=-1)
    for row in range(first, n_rows):
        cx, sx = _cos_sin(x)
        cy, sy = _cos_sin(y)
        cz, sz = _cos_sin(z)
        now = code
        following = tl.minimum(row + 1, n_rows - 1)  # on its way while this row is worked on
        code = tl.load(table + following * WIDTH + CODE)
        x, y, z = _load_angles(table, following, mine, ok)
        for wire in tl.static_range(N):
            if now % N == wire:
                if (CODES >> (wire * N + wire)) & 1:
                    if now == wire * N + wire:
                        psi = _single(psi, _su2(cx, sx, cy, sy, cz, sz), lane, wire, N, R)
                for control in tl.static_range(N):
                    if control != wire and (CODES >> (control * N + wire)) & 1:
                        if now == control * N + wire:
                            psi = _controlled(psi, cx, sx, lane, control, wire, N, R)
    if KEEP:
        _store_state(psi, final + sample * (2 << N), lane, ok, N, R)
    if MEASURED:
        _measure(psi, expectations + sample * (3 * N), lane, ok, N, R)


@triton.jit(do_not_specialize=["n_batch", "n_angles", "n_slots", "n_rows"])
def backward_kernel(
    table: tl.tensor, angles: tl.tensor, final: tl.tensor, grad_result: tl.tensor, grad_angles: tl.tensor,
    grad_initial: tl.tensor, n_batch: tl.tensor, n_angles: tl.tensor, n_slots: tl.tensor, n_rows: tl.tensor,
    N: tl.constexpr, R: tl.constexpr, BLOCK: tl.constexpr, CODES: tl.constexpr, FROM_ZERO: tl.constexpr,
    MEASURED: tl.constexpr,
) -> None:
    """Gradients of angles (n_batch, n_slots), one column a rotation, and of initial states unless FROM_ZERO.

    `grad_result` is the gradient of the expectations if MEASURED, of the final states otherwise.
    """
    sample, lane, ok = _place(n_batch, 1 << (N - R), BLOCK)
    mine = angles + sample * n_angles
    target = grad_angles + sample * n_slots
    first: tl.constexpr = N if FROM_ZERO else 0
    psi = _load_state(final + sample * (2 << N), lane, ok, N, R)
    if MEASURED:
        lam = _measured_adjoint(psi, grad_result + sample * (3 * N), lane, ok, N, R)
    else:
        lam = _load_state(grad_result + sample * (2 << N), lane, ok, N, R)
    last = tl.maximum(n_rows - 1, 0)
    x, y, z = _load_angles(table, last, mine, ok & (n_rows > 0))
    code = tl.load(table + last * WIDTH + CODE, mask=n_rows > 0, other=-1)
    for step in range(n_rows):
        row = n_rows - 1 - step
        cx, sx = _cos_sin(x)
        cy, sy = _cos_sin(y)
        cz, sz = _cos_sin(z)
        now = code
        following = tl.maximum(row - 1, 0)
        code = tl.load(table + following * WIDTH + CODE)
        x, y, z = _load_angles(table, following, mine, ok)
        for wire in tl.static_range(N):
            if now % N == wire:
                if (CODES >> (wire * N + wire)) & 1:
                    if now == wire * N + wire:
                        rates = _pauli_rates(psi, lam, lane, wire, N, R)
                        _store_rotation_gradients(rates, cx, sx, cy, sy, cz, sz, table, row, target, lane, ok)
                        if row >= first:  # rates do not change when the starts of other wires are undone
                            a, b, c, d = _su2(cx, sx, cy, sy, cz, sz)
                            psi = _single(psi, (a, -b, -c, -d), lane, wire, N, R)
                            lam = _single(lam, (a, -b, -c, -d), lane, wire, N, R)
                for control in tl.static_range(N):
                    if control != wire and (CODES >> (control * N + wire)) & 1:
                        if now == control * N + wire:
                            rate = _controlled_rate(psi, lam, lane, control, wire, N, R)
                            slot = tl.load(table + row * WIDTH + SLOTS)
                            _store_total(0.5 * rate, target + slot, lane, ok)
                            psi = _controlled(psi, cx, -sx, lane, control, wire, N, R)
                            lam = _controlled(lam, cx, -sx, lane, control, wire, N, R)
    if not FROM_ZERO:
        _store_state(lam, grad_initial + sample * (2 << N), lane, ok, N, R)
