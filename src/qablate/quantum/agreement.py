"""Self-check of compiled circuits: one small circuit, values and gradients, against gate-by-gate simulation."""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from qablate import selfcheck
from qablate.quantum.circuit import Circuit, Gate, ansatz, embedding
from qablate.quantum.measurement import measure
from qablate.quantum.reference_backend import ReferenceBackend

Simulate = Callable[[Circuit, Tensor, Tensor], Mapping[str, Tensor]]
"""(circuit, angles (B, n_angles), initial states (B, 2**n)) -> outputs by name, those of `_reference` or some."""


def require_agreement(
    simulate: Simulate, n_qubits: int, n_batch: int, dtype: torch.dtype, device: torch.device | str = "cpu"
) -> None:
    """Raise SelfCheckError unless `simulate` agrees with the reference, run on the CPU, in values and gradients.

    The circuit has gates of all kinds, and columns of angles that are read twice; `dtype` is that of the angles.
    """
    gates = (*embedding(n_qubits), *ansatz(n_qubits, 1, first=n_qubits), Gate("RZ", (1,), 0),
             Gate("RX", (n_qubits - 1,), 4))
    circuit, size = Circuit(n_qubits, gates), 2**n_qubits
    angles = torch.sin(torch.arange(n_batch * circuit.n_angles, dtype=torch.float64)).to(dtype) * 3
    initial = torch.cos(torch.arange(n_batch * size * 2, dtype=torch.float64)).to(dtype)
    leaves = angles.reshape(n_batch, -1), initial.reshape(n_batch, size, 2)
    fast = _values_and_gradients(simulate, circuit, leaves, device)
    plain = _values_and_gradients(
        lambda *inputs: {name: value for name, value in _reference(*inputs).items() if name in fast},
        circuit, leaves, "cpu")
    selfcheck.require_agreement(list(fast), list(fast.values()), [plain[name] for name in fast])


def _values_and_gradients(
    simulate: Simulate, circuit: Circuit, inputs: tuple[Tensor, Tensor], device: torch.device | str
) -> dict[str, Tensor]:
    angles, initial = (tensor.clone().to(device).requires_grad_() for tensor in inputs)
    outputs = simulate(circuit, angles, torch.view_as_complex(initial))
    real = {name: torch.view_as_real(value) if value.is_complex() else value for name, value in outputs.items()}
    loss = torch.stack([value.cos().sum() for value in real.values()]).sum()
    gradients = torch.autograd.grad(loss, (angles, initial))
    names = ("gradient of angles", "gradient of initial states")
    return {name: value.cpu() for name, value in (real | dict(zip(names, gradients, strict=True))).items()}


def _reference(circuit: Circuit, angles: Tensor, initial: Tensor) -> dict[str, Tensor]:
    plain = ReferenceBackend()
    evolved = plain.evolve(circuit, angles, initial)
    return {"expectations": plain.expectations(circuit, angles), "states": plain.states(circuit, angles),
            "evolved states": evolved, "measured states": measure(evolved)}
