"""Adjoint simulation in plain torch, on any device.

The backward pass keeps no state of any operation. It starts from the final state psi and the gradient lambda of the
loss with respect to it, and undoes the operations one by one on both. Every operation is U = [[a, -b*], [b, a*]] on
one wire, or on the half of the amplitudes whose control is 1; what its angles have to do with a and b is left to torch.

Source: Jones and Gacon, arXiv:2009.02823. Shapes: B batch, n qubits, m operations; states (2**n, B).
"""

from functools import lru_cache
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from qablate.quantum.circuit import Circuit, Program, lower
from qablate.quantum.reference import halves, measure


def simulate(circuit: Circuit, angles: Tensor, initial: Tensor | None, measured: bool) -> Tensor:
    """See `qablate.quantum.reference.Simulate`."""
    program = lower(circuit, initial is None)
    columns, start = _columns(program, angles.device)
    rows = torch.nn.functional.pad(angles.t() / 2, (0, 0, 0, 1))  # (n_angles + 1, B), the last one zero
    cos, sin = rows.cos(), rows.sin()
    if initial is None:
        a, b = _su2(cos, sin, start[:, 1:])
        cos_e, sin_e = cos[start[:, 0]], sin[start[:, 0]]
        vectors = torch.stack((a * cos_e - b.conj() * sin_e, b * cos_e + a.conj() * sin_e), 1)  # U R_Y |0>: (n, 2, B)
        psi = vectors[0]
        for vector in vectors[1:]:
            psi = (psi[:, None] * vector).flatten(0, 1)
    else:
        psi = initial.t()
    if len(program.ops):
        psi = Adjoint.apply(*_su2(cos, sin, columns), psi, program.ops[:, :2].tolist())
    return measure(psi.t()) if measured else psi.t()


@lru_cache(maxsize=256)
@torch.inference_mode(mode=False)
def _columns(program: Program, device: torch.device) -> tuple[Tensor, Tensor]:
    """Angle columns of the operations (m, 3) and of the start (n, 4)."""
    return torch.tensor(program.ops[:, 2:], device=device), torch.tensor(program.start, device=device)


def _su2(cos: Tensor, sin: Tensor, columns: Tensor) -> tuple[Tensor, Tensor]:
    """a and b (m, B) of R_Z R_Y R_X for columns (m, 3) of half-angle cosines and sines."""
    (cos_x, cos_y, cos_z), (sin_x, sin_y, sin_z) = cos[columns.t()], sin[columns.t()]
    phase = torch.complex(cos_z, -sin_z)
    return (torch.complex(cos_y * cos_x, sin_y * sin_x) * phase,
            torch.complex(sin_y * cos_x, -cos_y * sin_x) * phase.conj())


class Adjoint(torch.autograd.Function):
    """a and b (m, B), states (2**n, B), wires (target, control) of each operation -> states after all of them."""

    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor, psi: Tensor, wires: list[list[int]]) -> Tensor:
        """Apply all operations to one copy of the start."""
        psi = psi.clone(memory_format=torch.contiguous_format)
        for i, pair in enumerate(wires):
            low, high = halves(psi, *pair)
            _turn(low, high, a[i], b[i])
        ctx.save_for_backward(a, b, psi)
        ctx.wires = wires
        return psi

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        """Undo the operations on psi and lambda, collecting the gradient of each a and b on the way."""
        a, b, psi = ctx.saved_tensors
        psi, lam = psi.clone(), grad.clone(memory_format=torch.contiguous_format)
        grad_a, grad_b = torch.empty_like(a), torch.empty_like(b)
        for i in reversed(range(len(a))):
            (low, high), (lam_low, lam_high) = halves(psi, *ctx.wires[i]), halves(lam, *ctx.wires[i])
            undo = a[i].conj(), -b[i]
            _turn(low, high, *undo)
            grad_a[i] = _product(lam_low, low) + _product(lam_high, high).conj()
            grad_b[i] = _product(lam_high, low) - _product(lam_low, high).conj()
            _turn(lam_low, lam_high, *undo)
        return grad_a, grad_b, lam, None


def _turn(low: Tensor, high: Tensor, a: Tensor, b: Tensor) -> None:
    """U in place on the halves of the amplitudes where its wire is 0 and 1."""
    new_low = (a * low).addcmul_(b.conj(), high, value=-1)
    high.mul_(a.conj()).addcmul_(b, low)
    low.copy_(new_low)


def _product(lam: Tensor, psi: Tensor) -> Tensor:
    """Sum of lambda psi* over all axes but the batch: (B,)."""
    return (lam * psi.conj()).flatten(0, -2).sum(0)
