"""Compiled backends in tests: skipped where they cannot serve, judged anew where a test breaks one."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch

from qablate import selfcheck
from qablate.errors import QablateError
from qablate.quantum import resolve_backend


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
