"""Gate-by-gate simulation with torch's own differentiation, and measurement: the plain definition of a circuit.

Slow on purpose; every other backend is tested against it. Shapes: B batch, n qubits; inside of `Expectations` states
are "batch last" (2**n, B), so that every elementary operation runs over contiguous memory.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from qablate import selfcheck
from qablate.quantum.circuit import Circuit, Gate, ansatz, embedding, qubits_of_states

Simulate = Callable[[Circuit, Tensor, Tensor | None, bool], Tensor]
"""A backend: (circuit, angles (B, n_angles), initial states (B, 2**n) or None for |0...0>, measured or not) -> states
(B, 2**n), or expectations (B, 3 n): X block, Y block, Z block, wires ascending. Differentiable in angles and states.

The arguments come checked, on one device, in matching precision (float32 with complex64, float64 with complex128), in
any memory layout; B may be 0. Initial states need not have norm 1."""


def simulate(circuit: Circuit, angles: Tensor, initial: Tensor | None, measured: bool) -> Tensor:
    """See `Simulate`."""
    n, size = circuit.n_qubits, (len(angles), 2**circuit.n_qubits)
    if initial is None:
        initial = torch.zeros(size, dtype=angles.dtype.to_complex(), device=angles.device)
        initial[:, 0] = 1
    psi = initial.reshape(-1, *(2,) * n)                          # one axis a wire, after the batch
    for kind, wires, column in circuit.gates:
        matrix, target = _rotation(kind[-1], angles[:, column]), wires[-1] + 1
        if kind == "CRX":
            control = wires[0] + 1
            idle, active = psi.unbind(control)
            target -= target > control                            # the control's axis is gone
            psi = torch.stack((idle, _apply(matrix, active, target)), control)
        else:
            psi = _apply(matrix, psi, target)
    return measure(psi.reshape(size)) if measured else psi.reshape(size)


def _rotation(axis: str, angle: Tensor) -> Tensor:
    """exp(-i angle P / 2) for P = X, Y or Z: angles (B,) -> (B, 2, 2) complex."""
    cos, sin = torch.cos(angle / 2), torch.sin(angle / 2)
    none = torch.zeros_like(cos)
    real, imaginary = {
        "X": ((cos, none, none, cos), (none, -sin, -sin, none)),
        "Y": ((cos, -sin, sin, cos), (none, none, none, none)),
        "Z": ((cos, none, none, cos), (-sin, none, none, sin)),
    }[axis]
    return torch.complex(torch.stack(real, -1), torch.stack(imaginary, -1)).unflatten(-1, (2, 2))


def _apply(matrix: Tensor, psi: Tensor, axis: int) -> Tensor:
    """Matrices (B, 2, 2) on one axis of psi (B, 2, ..., 2)."""
    last = psi.movedim(axis, -1)                                  # (B, ..., 2)
    rows = matrix.reshape(len(matrix), *(1,) * (last.ndim - 2), 2, 2)
    return (rows @ last.unsqueeze(-1)).squeeze(-1).movedim(-1, axis)


def measure(states: Tensor) -> Tensor:
    """<psi|P|psi> of states (B, 2**n): (B, 3 n)."""
    expectations: Tensor = Expectations.apply(states.t().contiguous())
    return expectations.t()


class Expectations(torch.autograd.Function):
    """States (2**n, B) -> expectations (3 n, B); the backward pass needs only the states themselves."""

    @staticmethod
    def forward(ctx: Any, psi: Tensor) -> Tensor:
        """Sum the products of amplitudes that differ in one bit (X, Y) and the signed probabilities (Z)."""
        ctx.save_for_backward(psi)
        n, probabilities = qubits_of_states(psi.t()), psi.real.square() + psi.imag.square()
        blocks: list[Tensor] = []
        for wire in range(n):
            low, high = halves(psi, wire)
            blocks.append(2 * (low.conj() * high).sum((0, 1)))
        z = [torch.sub(*halves(probabilities, wire)).sum((0, 1)) for wire in range(n)]
        xy = torch.stack(blocks)
        return torch.cat((xy.real, xy.imag, torch.stack(z)))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        """Gradient 2 sum_k w_k P_k psi of the weighted sum of expectations."""
        (psi,) = ctx.saved_tensors
        x, y, z = (2 * grad).chunk(3)
        xy, out = torch.complex(x, y), torch.zeros_like(psi)
        for wire in range(len(xy)):
            (low, high), (out_low, out_high) = halves(psi, wire), halves(out, wire)
            out_low.addcmul_(high, xy[wire].conj()).addcmul_(low, z[wire])
            out_high.addcmul_(low, xy[wire]).addcmul_(high, z[wire], value=-1)
        return out


def halves(states: Tensor, wire: int, control: int = -1) -> tuple[Tensor, ...]:
    """Views of states (2**n, B) where `wire` is 0 and where it is 1; with a control, only where that is 1."""
    size, n_batch = states.shape
    low, high = sorted((wire, control))
    if control < 0:
        return states.view(2**wire, 2, size >> (wire + 1), n_batch).unbind(1)
    view = states.view(2**low, 2, 2 ** (high - low - 1), 2, size >> (high + 1), n_batch)
    return view[:, 1].unbind(2) if control == low else view[:, :, :, 1].unbind(1)


def require_agreement(
    fast: Simulate, n_qubits: int, n_batch: int, dtype: torch.dtype, device: torch.device
) -> None:
    """Raise SelfCheckError unless `fast` agrees with this module, run on the CPU, in values and gradients.

    The circuit has gates of all kinds, and columns of angles that are read twice; `dtype` is that of the angles.
    """
    circuit = Circuit(n_qubits, (*embedding(n_qubits), *ansatz(n_qubits, 1, first=n_qubits), Gate("RZ", (1,), 0),
                                 Gate("RX", (n_qubits - 1,), 4)))
    angles = torch.sin(torch.arange(n_batch * circuit.n_angles, dtype=torch.float64)).to(dtype) * 3
    initial = torch.cos(torch.arange(n_batch * 2**n_qubits * 2, dtype=torch.float64)).to(dtype)
    outcomes = []
    for run, place in ((fast, device), (simulate, torch.device("cpu"))):
        leaves = [tensor.clone().to(place).requires_grad_()
                  for tensor in (angles.view(n_batch, -1), initial.view(n_batch, -1, 2))]
        starts = (None, torch.view_as_complex(leaves[1]))
        results = [run(circuit, leaves[0], start, measured) for start in starts for measured in (True, False)]
        results = [torch.view_as_real(value) if value.is_complex() else value for value in results]
        loss = torch.stack([value.cos().sum() for value in results]).sum()
        outcomes.append([value.cpu() for value in (*results, *torch.autograd.grad(loss, leaves))])
    names = ("expectations", "states", "expectations of evolved states", "evolved states", "gradient of angles",
             "gradient of initial states")
    selfcheck.require_agreement(names, *outcomes)
