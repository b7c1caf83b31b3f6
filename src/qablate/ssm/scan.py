"""The selective scan: a diagonal linear recurrence whose decay, input and read-out depend on the time step.

    h_t = exp(step_t * A) * h_{t-1} + inputs_t * B_t        y_t = sum_n h_t C_t

Shapes: b batch, l length, e inner width, n state size.

Source of the recurrence: Gu and Dao, "Mamba", arXiv:2312.00752, section 3.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from importlib import import_module
from typing import Any

import torch
from torch import Tensor

from qablate.errors import QablateError
from qablate.ssm.plain_scan import reference_scan, torch_scan

SCAN_BACKENDS = ("auto", "reference", "torch", "numba", "triton")
"""reference: the definition. torch: lazy loop in plain torch. numba: compiled, CPU. triton: compiled, GPU.
auto: the first of FASTEST that can serve the device; torch on all other devices."""

FASTEST = {"cpu": ("numba",), "cuda": ("triton",)}

Scan = Callable[[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]

log = logging.getLogger(__name__)


def selective_scan(
    inputs: Tensor,
    step: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    initial: Tensor | None = None,
    backend: str = "auto",
) -> tuple[Tensor, Tensor]:
    """Run the recurrence over time; differentiable in every tensor argument and through both results.

    Args:
        inputs: (b, l, e) what enters the state; multiply by `step` first where the model does so.
        step: (b, l, e) step size, positive.
        A: (e, n) decay rates, negative; a decay shared by all channels is expanded by the caller.
        B: (b, l, n) input weights of the states.
        C: (b, l, n) read-out weights of the states.
        initial: (b, e, n) state before the first step; None is zero.
        backend: one of `SCAN_BACKENDS`.

    Returns:
        y (b, l, e) and the state after the last step (b, e, n). The skip term is left to the caller.

    Raises:
        QablateError: on shapes that do not fit, mixed dtypes, an unknown backend or one that cannot serve.
    """
    _check(inputs, step, A, B, C, initial)
    start = inputs.new_zeros(inputs.shape[0], *A.shape) if initial is None else initial  # (b, e, n)
    return _resolve(backend, inputs.device, inputs.dtype)(inputs, step, A, B, C, start)


def _check(inputs: Tensor, step: Tensor, A: Tensor, B: Tensor, C: Tensor, initial: Tensor | None) -> None:
    """Reject what would otherwise broadcast or promote without a word."""
    if inputs.dim() != 3 or A.dim() != 2:
        shapes = f"{tuple(inputs.shape)} and {tuple(A.shape)}"
        raise QablateError(f"selective_scan: inputs must be (b, l, e) and A (e, n), got {shapes}")
    b, length, e = inputs.shape
    n = A.shape[1]
    expected = {
        "step": (step, (b, length, e)),
        "A": (A, (e, n)),
        "B": (B, (b, length, n)),
        "C": (C, (b, length, n)),
        "initial": (initial, (b, e, n)),
    }
    for name, (tensor, shape) in expected.items():
        if tensor is None:
            continue
        if tuple(tensor.shape) != shape:
            raise QablateError(f"selective_scan: {name} must have shape {shape}, got {tuple(tensor.shape)}")
        if tensor.dtype != inputs.dtype or not tensor.dtype.is_floating_point:
            raise QablateError(f"selective_scan: {name} is {tensor.dtype}, inputs are {inputs.dtype}")


def _resolve(backend: str, device: torch.device, dtype: torch.dtype) -> Scan:
    """The scan of a backend's name; for `auto` the fastest that can serve."""
    if backend == "auto":
        for name in FASTEST.get(device.type, ()):
            module, obstacle = _load(name, device.type, dtype)
            if obstacle is None:
                return module.scan
            _say_once(name, obstacle)
        return torch_scan
    if backend in ("reference", "torch"):
        return reference_scan if backend == "reference" else torch_scan
    if backend not in SCAN_BACKENDS:
        allowed = ", ".join(SCAN_BACKENDS)
        raise QablateError(f"selective_scan: unknown backend {backend!r}, allowed: {allowed}")
    module, obstacle = _load(backend, device.type, dtype)
    if obstacle is not None:
        raise QablateError(f"selective_scan: backend {backend} cannot be used here: {obstacle}")
    return module.scan


def scan_name(backend: str, device: torch.device) -> str:
    """Name of what runs float32 scans for a backend's name; raises as `selective_scan` does."""
    found = _resolve(backend, device, torch.float32)
    if found in (reference_scan, torch_scan):
        return "reference" if found is reference_scan else "torch"
    return found.__module__.rpartition(".")[2].removesuffix("_scan")


@functools.cache
def _load(name: str, device_type: str, dtype: torch.dtype) -> tuple[Any, str | None]:
    """The module of a compiled scan, with `scan` and `obstacle`, and why it cannot serve."""
    try:
        module = import_module(f"qablate.ssm.{name}_scan")
    except ImportError as error:
        return None, str(error)
    return module, module.obstacle(device_type, dtype)


@functools.cache
def _say_once(name: str, obstacle: str) -> None:
    log.warning("selective scan: plain torch serves instead of %s: %s", name, obstacle)
