"""Gate-by-gate simulation with torch's own differentiation: the plain definition of a circuit.

Slow on purpose; every other backend is tested against it. Shapes: B batch, n qubits.
"""

import torch
from torch import Tensor

from qablate.quantum.circuit import Circuit
from qablate.quantum.measurement import measure


class ReferenceBackend:
    """See `qablate.quantum.backends.Backend`."""

    def obstacle(self, device: torch.device) -> str | None:
        """None: it runs wherever torch does."""
        return None

    def expectations(self, circuit: Circuit, angles: Tensor) -> Tensor:
        """Expectations (B, 3 n)."""
        return measure(self.states(circuit, angles))

    def states(self, circuit: Circuit, angles: Tensor) -> Tensor:
        """States (B, 2**n) from |0...0>."""
        shape = (len(angles), 2**circuit.n_qubits)
        zero = torch.zeros(shape, dtype=angles.dtype.to_complex(), device=angles.device)
        zero[:, 0] = 1
        return self.evolve(circuit, angles, zero)

    def evolve(self, circuit: Circuit, angles: Tensor, initial: Tensor) -> Tensor:
        """States (B, 2**n) from `initial`."""
        n = circuit.n_qubits
        psi = initial.reshape(len(initial), *(2,) * n)  # one axis a wire, after the batch
        for gate in circuit.gates:
            matrix = rotation(gate.kind[-1], angles[:, gate.angle])  # (B, 2, 2)
            target = gate.wires[-1] + 1
            if gate.kind == "CRX":
                control = gate.wires[0] + 1
                idle, active = psi.unbind(control)
                target -= target > control                        # the control's axis is gone
                psi = torch.stack((idle, _apply(matrix, active, target)), control)
            else:
                psi = _apply(matrix, psi, target)
        return psi.reshape(len(initial), 2**n)


def rotation(axis: str, angle: Tensor) -> Tensor:
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


BACKEND = ReferenceBackend()
