"""Run circuits for batches of angle sets, and superpose what they give: the functions that models call.

Shapes: `...` any leading batch axes, n qubits, r branches, k chunks, f features. Precision follows the angles: float32
gives complex64 states, float64 complex128. All results are differentiable in angles, states and coefficients.

Coefficients of superpositions are complex tensors, one number a branch; they are normalised here, with the epsilon that
the published models use. Branches are stacked along the first axis, so that one circuit call serves them all.
"""

import math

import torch
from torch import Tensor

from qablate import selfcheck
from qablate.quantum.circuit import Circuit, qubits_of_states

BACKENDS = selfcheck.Backends(
    "quantum.backend",
    {
        "reference": "qablate.quantum.reference",  # gate by gate, the plain definition
        "torch": "qablate.quantum.adjoint",  # adjoint backward pass in plain torch
        "pennylane": "qablate.quantum.pennylane",  # default.qubit of PennyLane
        "numba": "qablate.quantum.compiled",  # CPU
        "triton": "qablate.quantum.gpu",
    },
    fastest={"cpu": "numba", "cuda": "triton"},
)
BACKEND_NAMES = tuple(BACKENDS.modules)
resolve_backend = BACKENDS.resolve
STATE_DTYPES = {torch.float32: torch.complex64, torch.float64: torch.complex128}


def expectations(circuit: Circuit, angles: Tensor, backend: str = "auto") -> Tensor:
    """<X>, <Y>, <Z> of every wire after the circuit on |0...0>: angles (..., n_angles) -> (..., 3 n).

    Order: X block, Y block, Z block, wires ascending. Raises ValueError for angles of another width or dtype
    and QablateError for a backend that is unknown or cannot serve the device.
    """
    return _run(circuit, angles, None, True, backend)


def states(circuit: Circuit, angles: Tensor, backend: str = "auto") -> Tensor:
    """States after the circuit on |0...0>: angles (..., n_angles) -> (..., 2**n) complex; errors as above."""
    return _run(circuit, angles, None, False, backend)


def evolve(circuit: Circuit, angles: Tensor, initial: Tensor, backend: str = "auto") -> Tensor:
    """States after the circuit on `initial` (..., 2**n), which need not have norm 1: (..., 2**n) complex.

    The leading axes of `angles` (..., n_angles) and `initial` are broadcast, so angles (n_angles,) are shared
    by all states. Raises as `expectations` does, and ValueError if the initial states do not fit.
    """
    return _run(circuit, angles, initial, False, backend)


def measure(states: Tensor, backend: str = "auto") -> Tensor:
    """<psi|P|psi> of states (..., 2**n) of any norm: (..., 3 n), order as in `expectations`.

    Raises ValueError if the states are not complex or their last axis is no power of two, and QablateError as above.
    """
    n_qubits = qubits_of_states(states)
    if not states.is_complex():
        raise ValueError(f"states must be complex64 or complex128, not {states.dtype}")
    no_angles = states.real.new_empty(*states.shape[:-1], 0)
    return _run(Circuit(n_qubits, ()), no_angles, states, True, backend)


@selfcheck.untraced
def _run(circuit: Circuit, angles: Tensor, initial: Tensor | None, measured: bool, backend: str) -> Tensor:
    """Check, flatten the leading axes, simulate."""
    if angles.dtype not in STATE_DTYPES:
        raise ValueError(f"angles must be float32 or float64, not {angles.dtype}")
    if angles.ndim == 0 or angles.shape[-1] != circuit.n_angles:
        raise ValueError(f"the circuit reads {circuit.n_angles} angles, not shape {tuple(angles.shape)}")
    batch, size = angles.shape[:-1], 2**circuit.n_qubits
    if initial is not None:
        batch = _common_batch(circuit, angles, initial)
        initial = initial.expand(*batch, -1).reshape(math.prod(batch), size).resolve_conj()
    flat = angles.expand(*batch, -1).reshape(math.prod(batch), circuit.n_angles)
    module = BACKENDS.module(BACKENDS.resolve(backend, angles.device, angles.dtype))
    result: Tensor = module.simulate(circuit, flat, initial, measured)
    return result.reshape(*batch, 3 * circuit.n_qubits if measured else size)


def _common_batch(circuit: Circuit, angles: Tensor, initial: Tensor) -> torch.Size:
    """Leading axes of angles and initial states together, after checking the states."""
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
    try:
        return torch.broadcast_shapes(angles.shape[:-1], initial.shape[:-1])
    except RuntimeError:
        raise ValueError(
            f"leading axes of angles {tuple(angles.shape)} and initial states {tuple(initial.shape)} "
            "do not broadcast"
        ) from None


def superpose_modulus(coefficients: Tensor, measured: Tensor) -> Tensor:
    """Element-wise modulus of the weighted sum of real features (r, ..., f): (..., f). Used by 1a (S-abs)."""
    return _weighted(_unit_norm(coefficients, 1e-9), measured).sum(0).abs()


def superpose_concat(coefficients: Tensor, measured: Tensor) -> Tensor:
    """Real features (r, ..., f), each times the modulus of its weight, side by side: (..., r f).

    Used by 1b and by each front of 1c (S-cat).
    """
    return _weighted(_unit_norm(coefficients, 1e-8).abs(), measured).movedim(0, -2).flatten(-2)


def superpose_features(coefficients: Tensor, features: Tensor) -> Tensor:
    """Sum of real features (r, ..., f) times the moduli of their weights: (..., f).

    Used around the fronts of 1c (S-mag).
    """
    return _weighted(_unit_norm(coefficients, 1e-8).abs(), features).sum(0)


def superpose_states(coefficients: Tensor, states: Tensor) -> Tensor:
    """Weighted sum of states (r, ..., 2**n), divided by its norm + 1e-9: (..., 2**n).

    Used by 2d, 2e, 4d, 4e (S-state).
    """
    return _unit_states(_weighted(_unit_norm(coefficients, 1e-9), states).sum(0))


def combine_unitaries(coefficients: Tensor, states: Tensor) -> Tensor:
    """Linear combination of unitaries over chunks: states (..., k, 2**n) -> (..., 2**n). Used by 2a (S-lcu).

    The coefficients (k,) are divided by the sum of their moduli + 1e-8, the sum of states by its norm + 1e-9.
    """
    weights = coefficients / (coefficients.abs().sum() + 1e-8)
    return _unit_states((weights[:, None] * states).sum(-2))


def _unit_norm(coefficients: Tensor, epsilon: float) -> Tensor:
    return coefficients / (coefficients.abs().square().sum() + epsilon).sqrt()


def _weighted(weights: Tensor, branches: Tensor) -> Tensor:
    if weights.shape != branches.shape[:1]:
        raise ValueError(f"{tuple(weights.shape)} coefficients for branches of shape {tuple(branches.shape)}")
    return weights.reshape(-1, *(1,) * (branches.ndim - 1)) * branches


def _unit_states(states: Tensor) -> Tensor:
    return states / (torch.linalg.vector_norm(states, dim=-1, keepdim=True) + 1e-9)
