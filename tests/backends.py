"""Compiled backends in tests: skipped where they cannot serve, judged anew where a test breaks one. The ansatz A_R."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch

from qablate import selfcheck
from qablate.errors import QablateError
from qablate.quantum import ansatz, resolve_backend


def skip_if_unusable(backend: str) -> None:
    """Skip, with its reason, a backend of the circuits that cannot serve this machine's CPU."""
    try:
        resolve_backend(backend, torch.device("cpu"))
    except QablateError as error:
        pytest.skip(str(error))


@contextmanager
def fresh_verdicts() -> Iterator[None]:
    """No verdict of a self-check is carried into or out of a test."""
    caches = (selfcheck.obstacle, selfcheck.say_once)
    for cache in caches:
        cache.cache_clear()
    yield
    for cache in caches:
        cache.cache_clear()


def reversed_ansatz(n_qubits: int, n_layers: int, first: int = 0) -> tuple:
    """The ansatz with its wires in reverse order (A_R of 2d, 2e, 4d, 4e); columns as in `ansatz`."""
    return tuple(gate._replace(wires=tuple(n_qubits - 1 - wire for wire in gate.wires))
                 for gate in ansatz(n_qubits, n_layers, first))
