"""Adjoint simulation in plain torch: real arithmetic, in place, batch last.

The backward pass keeps no state of any gate. It starts from the final state psi and the gradient lambda
of the loss with respect to it, and undoes the operations one by one on both together: before an operation
R_P(t) is undone, its angle's gradient is Im <lambda|P|psi> / 2. The halves are taken once, at the end.

Every operation on one wire is treated as U = R_Z R_Y R_X = [[a, -b*], [b, a*]]; for those that lack a
rotation its column is n_angles, a row of zeros appended to the angles. Undoing U asks for the generators
of the inner rotations behind the outer ones:
  R_Z Y R_Z^+ = Y cos z - X sin z,   R_Z R_Y X R_Y^+ R_Z^+ = (X cos z + Y sin z) cos y - Z sin y.

Shapes: B batch, n qubits, k states simulated together (psi; or psi and lambda), m operations on one wire;
states (k, 2, 2**n, B) with real and imaginary parts on axis 1, angles (n_angles + 1, B).
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from qablate.quantum.circuit import Circuit
from qablate.quantum.measurement import PauliExpectations, batch_first, batch_last
from qablate.quantum.program import CRX, RX, RY, RZ, U3, Program, lower


class TorchBackend:
    """See `qablate.quantum.backends.Backend`."""

    def obstacle(self, device: torch.device) -> str | None:
        """None: it runs wherever torch does."""
        return None

    def expectations(self, circuit: Circuit, angles: Tensor) -> Tensor:
        """Expectations (B, 3 n)."""
        parts = AdjointSimulation.apply(angles, None, _plan(lower(circuit, from_zero=True), angles.device))
        result: Tensor = PauliExpectations.apply(parts, circuit.n_qubits)
        return result

    def states(self, circuit: Circuit, angles: Tensor) -> Tensor:
        """States (B, 2**n) from |0...0>."""
        return batch_first(AdjointSimulation.apply(angles, None, _plan(lower(circuit, from_zero=True), angles.device)))

    def evolve(self, circuit: Circuit, angles: Tensor, initial: Tensor) -> Tensor:
        """States (B, 2**n) from `initial`."""
        plan = _plan(lower(circuit, from_zero=False), angles.device)
        return batch_first(AdjointSimulation.apply(angles, batch_last(initial), plan))


@dataclass(frozen=True, eq=False)
class _Plan:
    """A program in the form that the loops below read, on one device: `ops` are (wires, slot).

    A CRX (two wires) has a slot in `crx_columns` (c,), an operation on one wire in `single_columns` (m, 3).
    """

    program: Program
    ops: tuple[tuple[tuple[int, ...], int], ...]
    single_columns: Tensor
    crx_columns: Tensor
    start_columns: Tensor                                         # (2, n, 3): the R_Y, then the U3


_ROTATIONS = {U3: (0, 1, 2), RX: (0, None, None), RY: (None, 0, None), RZ: (None, None, 0)}


@lru_cache(maxsize=256)
@torch.inference_mode(mode=False)
def _plan(program: Program, device: torch.device) -> _Plan:
    ops: list[tuple[tuple[int, ...], int]] = []
    singles: list[list[int]] = []
    rings: list[int] = []
    for kind, a, b, column in program.ops.tolist():
        if kind == CRX:
            ops.append(((a, b), len(rings)))
            rings.append(column)
        else:
            ops.append(((a,), len(singles)))
            singles.append(_columns(kind, column, program.n_angles))
    start = [
        [_columns(kind, column, program.n_angles) for column in program.start[:, i].tolist()]
        for i, kind in enumerate((RY, U3))
    ]
    return _Plan(
        program,
        tuple(ops),
        torch.tensor(singles, dtype=torch.long, device=device).reshape(-1, 3),
        torch.tensor(rings, dtype=torch.long, device=device),
        torch.tensor(start, dtype=torch.long, device=device),
    )


def _columns(kind: int, column: int, zeros: int) -> list[int]:
    """Columns of R_X, R_Y, R_Z in an operation on one wire; the column of zeros where it lacks one."""
    return [zeros if column < 0 or offset is None else column + offset for offset in _ROTATIONS[kind]]


@dataclass(frozen=True, eq=False)
class _Gates:
    """Numbers of all gates of a plan for one batch of angles."""

    single: Tensor                                                # (m, 4, B): re a, im a, re b, im b
    crx_cos: Tensor                                               # (c, B)
    crx_sin: Tensor                                               # (c, 2, 1, B): +sin, -sin of t / 2
    start: Tensor                                                 # (2, 4, n, B)


def _gates(angles: Tensor, plan: _Plan) -> _Gates:
    cos, sin = torch.cos(angles / 2), torch.sin(angles / 2)
    crx_sin = sin[plan.crx_columns]
    return _Gates(
        single=su2(cos, sin, plan.single_columns).movedim(0, 1),
        crx_cos=cos[plan.crx_columns],
        crx_sin=torch.stack((crx_sin, -crx_sin), 1).unsqueeze(2),
        start=torch.stack([su2(cos, sin, columns) for columns in plan.start_columns]),
    )


def su2(cos: Tensor, sin: Tensor, columns: Tensor) -> Tensor:
    """re a, im a, re b, im b of R_Z R_Y R_X for columns (m, 3) of half-angle cosines and sines: (4, m, B)."""
    (cx, cy, cz), (sx, sy, sz) = cos[columns.t()], sin[columns.t()]
    re_a, im_a, re_b, im_b = cy * cx, sy * sx, sy * cx, -cy * sx  # R_Y R_X
    return torch.stack(
        (re_a * cz + im_a * sz, im_a * cz - re_a * sz, re_b * cz - im_b * sz, im_b * cz + re_b * sz)
    )


class AdjointSimulation(torch.autograd.Function):
    """Angles (B, n_angles), initial parts (2, 2**n, B) or None for |0...0> -> final parts (2, 2**n, B)."""

    @staticmethod
    def forward(ctx: Any, angles: Tensor, initial: Tensor | None, plan: _Plan) -> Tensor:
        """Apply all operations to one copy of the start."""
        rows = _angle_rows(angles)
        gates = _gates(rows, plan)
        first = product_states(start_vectors(gates.start))[-1] if initial is None else initial.clone()
        current, spare = first.unsqueeze(0), torch.empty_like(first.unsqueeze(0))
        for wires, slot in plan.ops:
            if len(wires) == 2:
                apply_crx(current, wires, gates.crx_cos[slot], gates.crx_sin[slot])
            else:
                apply_single(current, spare, wires[0], gates.single[slot])
                current, spare = spare, current
        ctx.save_for_backward(rows, current)
        ctx.plan = plan
        return current[0]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        """Undo the operations on psi and lambda, collecting the gradient of each angle on the way."""
        rows, final = ctx.saved_tensors
        plan: _Plan = ctx.plan
        gates = _gates(rows, plan)
        undo_single = torch.cat((gates.single[:, :1], -gates.single[:, 1:]), 1)
        undo_sin = -gates.crx_sin
        current = torch.cat((final, grad.unsqueeze(0)))
        spare = torch.empty_like(current)
        crx_rates, single_rates = torch.empty_like(gates.crx_cos), torch.empty_like(gates.single[:, :3])
        for wires, slot in reversed(plan.ops):
            if len(wires) == 2:
                crx_rates[slot] = undo_crx(current, wires, gates.crx_cos[slot], undo_sin[slot])
            else:
                pauli_rates(current, wires[0], single_rates[slot])
                apply_single(current, spare, wires[0], undo_single[slot])
                current, spare = spare, current
        total = torch.zeros_like(rows)
        total.index_add_(0, plan.crx_columns, crx_rates)
        add_rotation_gradients(total, rows, plan.single_columns, single_rates.movedim(0, 1))
        if plan.program.from_zero:
            add_start_gradients(total, rows, plan, gates.start, current[1])
        total.div_(2)
        return total[:-1].t(), None if plan.program.from_zero else current[1], None


def _angle_rows(angles: Tensor) -> Tensor:
    """Angles (B, n_angles) as rows (n_angles + 1, B), the last one zero."""
    rows = angles.new_zeros(angles.shape[1] + 1, angles.shape[0])
    rows[:-1] = angles.t()
    return rows


# Operations. Views split the basis index at the wires: (k, 2, left, 2, right, B) and, for two wires,
# (k, 2, left, 2, middle, 2, right, B).


def _split(states: Tensor, wire: int) -> Tensor:
    """States (..., 2**n, B) as (..., 2**wire, 2, 2**(n - wire - 1), B)."""
    size, n_batch = states.shape[-2:]
    return states.view(*states.shape[:-2], 2**wire, 2, size >> (wire + 1), n_batch)


def _active(states: Tensor, wires: tuple[int, ...]) -> tuple[Tensor, int]:
    """The half (k, 2, left, ., ., right, B) in which the control is 1, and the axis of the target in it."""
    low, high = sorted(wires)
    size, n_batch = states.shape[-2:]
    shape = (2**low, 2, 2 ** (high - low - 1), 2, size >> (high + 1), n_batch)
    view = states.view(*states.shape[:-2], *shape)
    return (view[:, :, :, 1], 4) if wires[0] == low else (view[:, :, :, :, :, 1], 3)


def apply_crx(states: Tensor, wires: tuple[int, ...], cos: Tensor, signed_sin: Tensor) -> None:
    """CRX in place: a real part goes with the imaginary part of the flipped amplitude, and vice versa."""
    half, target = _active(states, wires)
    partner = half.flip(1, target)
    half.mul_(cos).addcmul_(partner, signed_sin.view(2, 1, 1, 1, 1, -1))


def undo_crx(states: Tensor, wires: tuple[int, ...], cos: Tensor, signed_sin: Tensor) -> Tensor:
    """Undo a CRX on psi and lambda in place; return Im <lambda|X|psi> over control = 1: (B,)."""
    half, target = _active(states, wires)
    partner = half.flip(1, target)
    rate = (half[1, 0] * partner[0, 0]).addcmul_(half[1, 1], partner[0, 1], value=-1).sum((0, 1, 2, 3))
    half.mul_(cos).addcmul_(partner, signed_sin.view(2, 1, 1, 1, 1, -1))
    return rate


def apply_single(states: Tensor, out: Tensor, wire: int, gate: Tensor) -> None:
    """U on one wire, from `states` into `out`; gate (4, B) holds re a, im a, re b, im b."""
    re_a, im_a, re_b, im_b = gate.unbind(0)
    source, result = _split(states, wire), _split(out, wire)      # (k, 2, left, 2, right, B)
    torch.mul(source, re_a, out=result)
    result[..., 0, :, :].addcmul_(source[..., 1, :, :], re_b, value=-1)
    result[..., 1, :, :].addcmul_(source[..., 0, :, :], re_b)
    signed = torch.stack((im_a, -im_a)).unsqueeze(1)              # (2, 1, B), along the wire
    result[:, 0].addcmul_(source[:, 1], signed, value=-1)
    result[:, 1].addcmul_(source[:, 0], signed)
    result[:, 0, :, 0].addcmul_(source[:, 1, :, 1], im_b, value=-1)
    result[:, 0, :, 1].addcmul_(source[:, 1, :, 0], im_b, value=-1)
    result[:, 1, :, 0].addcmul_(source[:, 0, :, 1], im_b)
    result[:, 1, :, 1].addcmul_(source[:, 0, :, 0], im_b)


def pauli_rates(states: Tensor, wire: int, out: Tensor) -> None:
    """Im <lambda|P|psi> for P = X, Y, Z on one wire into `out` (3, B); states are psi and lambda."""
    psi, lam = _split(states, wire)
    (psi_re0, psi_re1), (psi_im0, psi_im1) = psi[0].unbind(1), psi[1].unbind(1)
    (lam_re0, lam_re1), (lam_im0, lam_im1) = lam[0].unbind(1), lam[1].unbind(1)
    terms = (
        ((lam_re0, psi_im1), (lam_re1, psi_im0), (lam_im0, psi_re1), (lam_im1, psi_re0)),
        ((lam_re1, psi_re0), (lam_im1, psi_im0), (lam_re0, psi_re1), (lam_im0, psi_im1)),
        ((lam_re0, psi_im0), (lam_im1, psi_re1), (lam_im0, psi_re0), (lam_re1, psi_im1)),
    )
    for axis, (plus, also_plus, minus, also_minus) in enumerate(terms):
        products = plus[0] * plus[1]
        products.addcmul_(*also_plus).addcmul_(*minus, value=-1).addcmul_(*also_minus, value=-1)
        torch.sum(products.flatten(0, 1), 0, out=out[axis])


def add_rotation_gradients(total: Tensor, rows: Tensor, columns: Tensor, rates: Tensor) -> None:
    """Turn Pauli rates (3, m, B) behind operations U into twice the gradients of their angles; add to `total`."""
    _, y, z = rows[columns.t()]                                   # (m, B)
    rate_x, rate_y, rate_z = rates
    cos_z, sin_z = torch.cos(z), torch.sin(z)
    inner = rate_x * cos_z + rate_y * sin_z
    total.index_add_(0, columns[:, 0], inner * torch.cos(y) - rate_z * torch.sin(y))
    total.index_add_(0, columns[:, 1], rate_y * cos_z - rate_x * sin_z)
    total.index_add_(0, columns[:, 2], rate_z)


# The product start: vectors (2, n, 2, B) of real and imaginary parts, one vector of two amplitudes a wire.


def start_vectors(gates: Tensor) -> Tensor:
    """U R_Y |0> on every wire: gates (2, 4, n, B) of the R_Y and of the U -> (2, n, 2, B)."""
    cos, _, sin, _ = gates[0]
    re_a, im_a, re_b, im_b = gates[1]
    real = torch.stack((re_a * cos - re_b * sin, re_b * cos + re_a * sin), 1)
    imaginary = torch.stack((im_a * cos + im_b * sin, im_b * cos - im_a * sin), 1)
    return torch.stack((real, imaginary))


def product_states(vectors: Tensor) -> list[Tensor]:
    """Product states of the first 1, 2, ..., n wires: parts (2, 2**j, B)."""
    products = [vectors[:, 0].contiguous()]
    for re, im in vectors[:, 1:].unbind(1):                       # (2, B) each
        head_re, head_im = products[-1].unsqueeze(2)              # (2**j, 1, B)
        real = (head_re * re).addcmul_(head_im, im, value=-1)
        imaginary = (head_re * im).addcmul_(head_im, re)
        products.append(torch.stack((real, imaginary)).flatten(1, 2))
    return products


def add_start_gradients(total: Tensor, rows: Tensor, plan: _Plan, gates: Tensor, lam: Tensor) -> None:
    """Add twice the gradients of the start's angles; lam (2, 2**n, B) is the gradient of the product state."""
    vectors = start_vectors(gates)
    grads = vector_gradients(vectors, product_states(vectors), lam)
    rates = vectors.new_empty(vectors.shape[1], 3, vectors.shape[-1])
    for wire in range(vectors.shape[1]):
        pauli_rates(torch.stack((vectors[:, wire], grads[:, wire])), 0, rates[wire])
    add_rotation_gradients(total, rows, plan.start_columns[1], rates.movedim(0, 1))
    re_a, im_a, re_b, im_b = gates[1]
    (re0, re1), (im0, im1) = grads[0].unbind(1), grads[1].unbind(1)  # (n, B) each
    back0 = re_a * re0 + im_a * im0 + re_b * re1 + im_b * im1     # real parts of U^+ lambda
    back1 = re_a * re1 - im_a * im1 - re_b * re0 + im_b * im0
    cos, _, sin, _ = gates[0]
    total.index_add_(0, plan.start_columns[0, :, 1], back1 * cos - back0 * sin)


def vector_gradients(vectors: Tensor, heads: list[Tensor], lam: Tensor) -> Tensor:
    """Gradients (2, n, 2, B) of the wires' vectors from that of their product (2, 2**n, B).

    `heads` are the products of the first 1, 2, ... wires.
    """
    grads = torch.empty_like(vectors)
    for wire in range(vectors.shape[1] - 1, 0, -1):
        lam_re, lam_im = lam.view(2, 2**wire, 2, lam.shape[-1])
        head_re, head_im = heads[wire - 1].unsqueeze(2)           # (2**wire, 1, B)
        grads[0, wire] = (head_re * lam_re).addcmul_(head_im, lam_im).sum(0)
        grads[1, wire] = (head_re * lam_im).addcmul_(head_im, lam_re, value=-1).sum(0)
        re, im = vectors[:, wire]                                 # (2, B)
        real = (lam_re * re).addcmul_(lam_im, im).sum(1)
        imaginary = (lam_im * re).addcmul_(lam_re, im, value=-1).sum(1)
        lam = torch.stack((real, imaginary))
    grads[:, 0] = lam
    return grads


BACKEND = TorchBackend()
