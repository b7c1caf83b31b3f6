"""What a GPU does during a step: kernels launched, and the share of the time in which one runs."""

import time
from collections.abc import Callable
from typing import Any

import torch

STEPS = 10


def launches_and_busy_fraction(step: Callable[[], object]) -> dict[str, Any]:
    """Kernels a step, and kernel time over wall time, from torch's profiler; the device must be CUDA."""
    from torch.profiler import ProfilerActivity, profile

    step()
    torch.cuda.synchronize()
    with profile(activities=[ProfilerActivity.CUDA]) as profiled:
        began = time.perf_counter()
        for _ in range(STEPS):
            step()
        torch.cuda.synchronize()
        wall_us = 1e6 * (time.perf_counter() - began)
    kernels = [event for event in profiled.events() if event.device_type.name == "CUDA"]
    busy_us = sum(event.self_device_time_total for event in kernels)
    return {"launches": len(kernels) / STEPS, "busy_fraction": round(busy_us / wall_us, 4)}
