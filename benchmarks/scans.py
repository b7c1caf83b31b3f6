"""Timing of the selective scan: forward and backward, float32, at the sizes of the published models.

Shapes: b batch, l length, e inner width, n state size.
"""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from timing import time_side_by_side, usable
from torch import Tensor

from qablate.ssm import SCAN_BACKENDS, selective_scan

BATCH, WIDTH, STATE = 32, 256, 16
LENGTHS = (100, 1000)
BASELINE = "reference"


def measure_scans(
    lengths: Iterable[int], rounds: int, device: torch.device, sizes: tuple[int, int, int] = (BATCH, WIDTH, STATE)
) -> list[dict[str, Any]]:
    """One row for each length and backend: times, ratio to the unbind loop, MB kept for the backward pass."""
    rows: list[dict[str, Any]] = []
    for length in lengths:
        backends, skipped = usable_scans(device)
        arguments = scan_arguments(length, sizes, device)
        timings = time_side_by_side({name: _call(name, arguments) for name in backends}, rounds)
        for name, timing in timings.items():
            rows.append({
                **_identity(length, name),
                **timing.to_dict(),
                "baseline": BASELINE,
                "ratio": round(timing.ratio_to(timings[BASELINE]), 3),
                "saved_mb": round(saved_mb(name, arguments), 2),
            })
        rows += [{**_identity(length, name), "skipped": reason} for name, reason in skipped.items()]
    return rows


def usable_scans(device: torch.device) -> tuple[list[str], dict[str, str]]:
    """Scan backends that serve the device, and for the others why not."""
    tiny = scan_arguments(1, (1, 1, 1), device)
    return usable((name for name in SCAN_BACKENDS if name != "auto"), lambda name: _scan(name, tiny))


def forward_and_backward(backend: str, length: int, device: torch.device) -> Callable[[], object]:
    """A call that runs the scan and its gradients for fixed arguments of the published sizes."""
    return _call(backend, scan_arguments(length, (BATCH, WIDTH, STATE), device))


def scan_arguments(length: int, sizes: tuple[int, int, int], device: torch.device) -> list[Tensor]:
    """Inputs, step, A, B, C and the initial state, each a leaf with gradient."""
    b, e, n = sizes
    generator = torch.Generator().manual_seed(2024)
    shapes = ((b, length, e), (b, length, e), (e, n), (b, length, n), (b, length, n), (b, e, n))
    tensors = [torch.randn(shape, generator=generator) for shape in shapes]
    tensors[1] = torch.nn.functional.softplus(tensors[1] - 3)
    tensors[2] = -tensors[2].abs() - 0.1
    return [tensor.to(device).requires_grad_() for tensor in tensors]


def saved_mb(backend: str, arguments: list[Tensor]) -> float:
    """MB that autograd keeps between the passes, the arguments and the outputs themselves aside."""
    own = {tensor.untyped_storage().data_ptr() for tensor in arguments}
    kept: dict[int, int] = {}

    def note(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        y, final = _scan(backend, arguments)
    own |= {y.untyped_storage().data_ptr(), final.untyped_storage().data_ptr()}
    return sum(size for pointer, size in kept.items() if pointer not in own) / 1e6


def _scan(backend: str, arguments: list[Tensor]) -> tuple[Tensor, Tensor]:
    inputs, step, A, B, C, initial = arguments
    return selective_scan(inputs, step, A, B, C, initial, backend)


def _call(backend: str, arguments: list[Tensor]) -> Callable[[], object]:
    weights = torch.cos(torch.arange(arguments[0].shape[-1], device=arguments[0].device, dtype=torch.float32))

    def call() -> tuple[Tensor, ...]:
        y, final = _scan(backend, arguments)
        return torch.autograd.grad(((y * weights).sum(), final.sum()), arguments)

    return call


def _identity(length: int, name: str) -> dict[str, Any]:
    return {"part": "scan", "length": length, "contender": name}
