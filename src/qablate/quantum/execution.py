"""Run a circuit for a batch of angle sets: the functions that models call.

Shapes: `...` any leading batch axes, n qubits. Precision follows the angles: float32 gives complex64 states,
float64 complex128. All results are differentiable in the angles and in the initial states.
"""

import math

import torch
from torch import Tensor

from qablate.quantum import measurement
from qablate.quantum.backends import resolve_backend
from qablate.quantum.circuit import Circuit

STATE_DTYPES = {torch.float32: torch.complex64, torch.float64: torch.complex128}


def expectations(circuit: Circuit, angles: Tensor, backend: str = "auto") -> Tensor:
    """<X>, <Y>, <Z> of every wire after the circuit on |0...0>: angles (..., n_angles) -> (..., 3 n).

    Order: X block, Y block, Z block, wires ascending. Raises ValueError for angles of another width or dtype
    and QablateError for a backend that is unknown or cannot serve the device.
    """
    batch = _angle_batch(circuit, angles)
    flat = angles.reshape(math.prod(batch), circuit.n_angles)
    result = resolve_backend(backend, angles.device).expectations(circuit, flat)
    return result.reshape(*batch, 3 * circuit.n_qubits)


def states(circuit: Circuit, angles: Tensor, backend: str = "auto") -> Tensor:
    """States after the circuit on |0...0>: angles (..., n_angles) -> (..., 2**n) complex; errors as above."""
    batch = _angle_batch(circuit, angles)
    flat = angles.reshape(math.prod(batch), circuit.n_angles)
    result = resolve_backend(backend, angles.device).states(circuit, flat)
    return result.reshape(*batch, 2**circuit.n_qubits)


def evolve(circuit: Circuit, angles: Tensor, initial: Tensor, backend: str = "auto") -> Tensor:
    """States after the circuit on `initial` (..., 2**n), which need not have norm 1: (..., 2**n) complex.

    The leading axes of `angles` (..., n_angles) and `initial` are broadcast, so angles (n_angles,) are shared
    by all states. Raises as `expectations` does, and ValueError if the initial states do not fit.
    """
    angle_batch = _angle_batch(circuit, angles)
    _check_initial(circuit, angles, initial)
    try:
        batch = torch.broadcast_shapes(angle_batch, initial.shape[:-1])
    except RuntimeError:
        raise ValueError(
            f"leading axes of angles {tuple(angles.shape)} and initial states {tuple(initial.shape)} "
            "do not broadcast"
        ) from None
    size = math.prod(batch)
    flat_angles = angles.expand(*batch, -1).reshape(size, circuit.n_angles)
    flat_initial = initial.expand(*batch, -1).reshape(size, 2**circuit.n_qubits)
    result = resolve_backend(backend, angles.device).evolve(circuit, flat_angles, flat_initial)
    return result.reshape(*batch, 2**circuit.n_qubits)


def measure(states: Tensor, backend: str = "auto") -> Tensor:
    """<psi|P|psi> of states (..., 2**n) of any norm: (..., 3 n), order as in `expectations`.

    Plain torch serves every backend that has no kernel of its own for this. Raises ValueError if the states are
    not complex or their last axis is no power of two, and QablateError as above.
    """
    n_qubits = measurement.check_states(states)
    batch = states.shape[:-1]
    serve = getattr(resolve_backend(backend, states.device), "measure", measurement.measure)
    result: Tensor = serve(states.reshape(math.prod(batch), 2**n_qubits))
    return result.reshape(*batch, 3 * n_qubits)


def _angle_batch(circuit: Circuit, angles: Tensor) -> torch.Size:
    """Leading axes of the angles, after checking their width and dtype."""
    if angles.dtype not in STATE_DTYPES:
        raise ValueError(f"angles must be float32 or float64, not {angles.dtype}")
    if angles.ndim == 0 or angles.shape[-1] != circuit.n_angles:
        raise ValueError(f"the circuit reads {circuit.n_angles} angles, not shape {tuple(angles.shape)}")
    return angles.shape[:-1]


def _check_initial(circuit: Circuit, angles: Tensor, initial: Tensor) -> None:
    dtype = STATE_DTYPES[angles.dtype]
    if initial.dtype != dtype:
        raise ValueError(f"{angles.dtype} angles need {dtype} initial states, not {initial.dtype}")
    if initial.ndim == 0 or initial.shape[-1] != 2**circuit.n_qubits:
        raise ValueError(
            f"a circuit on {circuit.n_qubits} qubits needs initial states (..., {2**circuit.n_qubits}), "
            f"not {tuple(initial.shape)}"
        )
    if initial.device != angles.device:
        raise ValueError(f"angles are on {angles.device}, initial states on {initial.device}")
