"""Which implementation of an operation serves: it must import, compile and agree with the plain version.

Every compiled kernel brings a check that runs it and the plain version on one small input, values and gradients. The
verdict holds for the process: compilers, caches on disk and processors differ between machines, so a kernel
that passed elsewhere has proved nothing here.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any, ParamSpec, TypeVar

import torch
from torch import Tensor

from qablate.errors import QablateError

TOLERANCE = {torch.float32: 2e-5, torch.float64: 1e-10}
"""Largest accepted deviation from the plain version, relative to the largest number of each tensor."""

PLACES = {"cpu": "the CPU", "cuda": "NVIDIA GPUs"}
P = ParamSpec("P")
R = TypeVar("R")


class SelfCheckError(Exception):
    """A compiled kernel disagrees with the plain version."""


@functools.cache
def obstacle(check: Callable[..., None], dtype: torch.dtype, *place: torch.device) -> str | None:
    """Why the kernel that `check` tests must not serve `dtype` (one clause, for people); None if it may.

    `check` (dtype, *place) raises what stops the kernel. It runs with gradients on, whatever mode the caller is in.
    """
    if dtype not in TOLERANCE:
        return f"{dtype} is not supported, only float32 and float64"
    try:
        with torch.inference_mode(False), torch.enable_grad():
            untraced(check)(dtype, *place)
    except ModuleNotFoundError as error:
        return f"{error.name or 'a package'} is not installed"
    except Exception as error:  # a compiler can fail in any way, and the plain version always works
        return f"{type(error).__name__}: {error}".splitlines()[0]
    return None


def untraced(function: Callable[P, R]) -> Callable[P, R]:
    """Decorate what torch.compile must run as it is: traced, checks fail and kernels cannot be called."""

    @functools.wraps(function)
    def run(*arguments: P.args, **named: P.kwargs) -> R:
        traced = torch.compiler.is_compiling()  # `disable` imports the compiler, which takes seconds
        return (torch.compiler.disable(function) if traced else function)(*arguments, **named)

    return run


def require_agreement(names: Sequence[str], fast: Sequence[Tensor], plain: Sequence[Tensor]) -> None:
    """Raise SelfCheckError for the first tensor that deviates by more than TOLERANCE."""
    for name, got, expected in zip(names, fast, plain, strict=True):
        bound = TOLERANCE[got.dtype] * max(1.0, float(expected.detach().abs().max()))
        deviation = float((got.detach() - expected.detach()).abs().max())
        if not deviation <= bound:  # also true for NaN
            raise SelfCheckError(f"{name} deviates by {deviation:.1e} from the plain version")


@dataclass(frozen=True, eq=False)
class Backends:
    """Implementations of one operation: modules that are imported when first asked for.

    A module of compiled kernels has `DEVICE`, the type of device that it runs on, and a `check` (dtype, device).
    `setting` names the choice in messages; `fastest` is what `auto` takes on a type of device, `torch` on all others.
    """

    setting: str
    modules: dict[str, str]
    fastest: dict[str, str]

    def resolve(self, name: str, device: torch.device, dtype: torch.dtype = torch.float32) -> str:
        """The name of what serves where `name` is asked for.

        Raises QablateError for an unknown name and for a backend that cannot serve.
        """
        chosen = self.fastest.get(device.type, "torch") if name == "auto" else name
        if chosen not in self.modules:
            allowed = ", ".join(("auto", *self.modules))
            raise QablateError(f"{self.setting}: unknown backend {name!r}; allowed: {allowed}")
        found = self.obstacle(chosen, device, dtype)
        if found is None:
            return chosen
        if name != "auto":
            raise QablateError(f"{self.setting}: {name} cannot be used here: {found}")
        say_once(f"{self.setting}: plain torch serves {dtype} instead of {chosen}: {found}")
        return "torch"

    def obstacle(self, name: str, device: torch.device, dtype: torch.dtype) -> str | None:
        """Why a backend cannot serve (one clause, for people), or None."""
        module, missing = _imported(self.modules[name])
        if not hasattr(module, "check"):
            return missing
        if device.type != module.DEVICE:
            return f"it runs on {PLACES[module.DEVICE]}, not on {device.type}"
        return obstacle(module.check, dtype, device)

    def module(self, name: str) -> Any:
        """The module of a resolved name."""
        return _imported(self.modules[name])[0]


@functools.cache
def _imported(module: str) -> tuple[Any, str | None]:
    """A module, or None and why it cannot be imported."""
    try:
        return import_module(module), None
    except ImportError as error:
        return None, str(error)


@functools.cache
def say_once(line: str) -> None:
    """Warn, however often it is said."""
    logging.getLogger(__name__).warning(line)
