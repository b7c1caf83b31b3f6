"""The backends that simulate circuits, looked up by name and imported when first used.

A backend is a module `qablate.quantum.<name>_backend` with an attribute `BACKEND` that follows `Backend`.
"""

import logging
from functools import cache
from importlib import import_module
from typing import Protocol

import torch
from torch import Tensor

from qablate.errors import QablateError
from qablate.quantum.circuit import Circuit

BACKEND_NAMES = ("reference", "torch", "pennylane", "numba", "triton")
"""reference: gate by gate, the plain definition. torch: adjoint backward in plain torch. pennylane:
default.qubit of PennyLane. numba: compiled, CPU. triton: compiled, GPU. `auto` chooses by device, see FASTEST."""

FASTEST = {"cpu": ("numba", "torch"), "cuda": ("triton", "torch")}
"""What `auto` takes on a type of device: the first name of the row that can serve it; torch on all others."""

log = logging.getLogger(__name__)


class Backend(Protocol):
    """Simulation of one circuit for a flat batch of B angle sets, differentiable in angles and states.

    Angles (B, n_angles) and initial states (B, 2**n) come checked, on one device, in matching precision
    (float32 with complex64, float64 with complex128), in any memory layout; B may be 0. A backend may also have
    `measure`, from states (B, 2**n) to expectations (B, 3 n); plain torch measures for those without.
    """

    def obstacle(self, device: torch.device) -> str | None:
        """Why the backend cannot serve a device (one clause, for people), or None if it can."""

    def expectations(self, circuit: Circuit, angles: Tensor) -> Tensor:
        """<X>, <Y>, <Z> of every wire after the circuit on |0...0>: (B, 3 n) real."""

    def states(self, circuit: Circuit, angles: Tensor) -> Tensor:
        """States after the circuit on |0...0>: (B, 2**n) complex."""

    def evolve(self, circuit: Circuit, angles: Tensor, initial: Tensor) -> Tensor:
        """States after the circuit on `initial` (B, 2**n), which need not have norm 1: (B, 2**n) complex."""


def resolve_backend(name: str, device: torch.device) -> Backend:
    """The backend of a name, or for `auto` the fastest one that can serve the device.

    Raises QablateError for an unknown name and for a backend that cannot serve the device.
    """
    if name == "auto":
        return _fastest(device)
    if name not in BACKEND_NAMES:
        allowed = ", ".join(("auto", *BACKEND_NAMES))
        raise QablateError(f"quantum.backend: unknown backend {name!r}; allowed: {allowed}")
    backend, obstacle = _load(name)
    obstacle = obstacle if backend is None else backend.obstacle(device)
    if backend is None or obstacle is not None:
        raise QablateError(f"quantum.backend: {name} cannot be used here: {obstacle}")
    return backend


def kernel_name(name: str, n_qubits: int, device: torch.device) -> str:
    """Name of what simulates float32 circuits of `n_qubits` for a backend's name; raises as `resolve_backend` does."""
    backend = resolve_backend(name, device)
    found = type(backend).__module__.rpartition(".")[2].removesuffix("_backend")
    return found if n_qubits <= getattr(backend, "max_qubits", n_qubits) else "torch"


def _fastest(device: torch.device) -> Backend:
    for name in FASTEST.get(device.type, ("torch",)):
        backend, obstacle = _load(name)
        obstacle = obstacle if backend is None else backend.obstacle(device)
        if backend is not None and obstacle is None:
            return backend
        _say_once(name, str(obstacle))
    raise QablateError(f"quantum.backend: no backend can serve the device {device}")


@cache
def _load(name: str) -> tuple[Backend | None, str | None]:
    """A backend's object, or None and why it cannot be imported."""
    try:
        return import_module(f"qablate.quantum.{name}_backend").BACKEND, None
    except ImportError as error:
        return None, str(error)


@cache
def _say_once(name: str, obstacle: str) -> None:
    log.warning("circuits: the %s backend is not used: %s", name, obstacle)
