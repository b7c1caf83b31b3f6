"""Side-by-side timing: contenders take turns in one process, so that what disturbs one disturbs all.

Numbers are milliseconds a call. CPU time is what a process was given, whatever else ran on the machine; wall time is
what a user waits. Ratios are taken within a round and then their median, so a slow phase of the machine cancels.
"""

import gc
import statistics
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from qablate.errors import QablateError

SHORTEST_SAMPLE_S = 0.02
MAX_REPEATS = 1000
Call = Callable[[], object]


@dataclass(frozen=True)
class Timing:
    """Milliseconds a call in each round, and how many calls made one measurement."""

    cpu_ms: tuple[float, ...]
    wall_ms: tuple[float, ...]
    repeats: int

    @property
    def cpu(self) -> float:
        """Median CPU time of a call, ms."""
        return statistics.median(self.cpu_ms)

    @property
    def wall(self) -> float:
        """Median wall time of a call, ms."""
        return statistics.median(self.wall_ms)

    @property
    def spread(self) -> float:
        """(largest - smallest) / median of the CPU times."""
        return (max(self.cpu_ms) - min(self.cpu_ms)) / self.cpu

    def ratio_to(self, other: "Timing") -> float:
        """How many times less CPU time than `other`: median of the ratios of the rounds."""
        return statistics.median(b / a for a, b in zip(self.cpu_ms, other.cpu_ms, strict=True))

    def to_dict(self) -> dict[str, Any]:
        """Medians, extremes, spread and rounds, for the JSON."""
        return {
            "cpu_ms": round(self.cpu, 4),
            "cpu_ms_min": round(min(self.cpu_ms), 4),
            "wall_ms": round(self.wall, 4),
            "spread": round(self.spread, 3),
            "rounds": len(self.cpu_ms),
            "repeats": self.repeats,
        }


def usable(names: Iterable[str], attempt: Callable[[str], object]) -> tuple[list[str], dict[str, str]]:
    """Backends that `attempt` accepts, and for the others why not: the end of the QablateError it raises."""
    found, skipped = [], {}
    for name in names:
        try:
            attempt(name)
            found.append(name)
        except QablateError as error:
            skipped[name] = str(error).rpartition("here: ")[2]
    return found, skipped


def time_side_by_side(contenders: Mapping[str, Call], rounds: int) -> dict[str, Timing]:
    """Time every contender once a round, in turns; one untimed call of each comes first (compilation, caches).

    A call shorter than 20 ms is repeated within its turn. Garbage is collected between turns, not within.
    """
    repeats = {name: _repeats(call) for name, call in contenders.items()}
    samples: dict[str, list[tuple[float, float]]] = {name: [] for name in contenders}
    for _ in range(rounds):
        for name, call in contenders.items():
            samples[name].append(_sample(call, repeats[name]))
    return {
        name: Timing(tuple(cpu for cpu, _ in pairs), tuple(wall for _, wall in pairs), repeats[name])
        for name, pairs in samples.items()
    }


def _repeats(call: Call) -> int:
    """Calls in a turn, from the best of three: one that was interrupted would ask for too few, and those run cold."""
    call()
    wall_ms = _sample(call, 1)[1]
    if wall_ms < 1e3 * SHORTEST_SAMPLE_S * 3:
        wall_ms = min(wall_ms, *(_sample(call, 1)[1] for _ in range(2)))
    return max(1, min(MAX_REPEATS, int(1e3 * SHORTEST_SAMPLE_S / wall_ms)))


def _sample(call: Call, repeats: int) -> tuple[float, float]:
    """CPU and wall milliseconds of one call, mean of `repeats`."""
    gc.collect()
    gc.disable()
    try:
        _synchronize()
        cpu, wall = time.process_time(), time.perf_counter()
        for _ in range(repeats):
            call()
        _synchronize()
        cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    finally:
        gc.enable()
    return 1e3 * cpu / repeats, max(1e3 * wall / repeats, 1e-6)


def _synchronize() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
