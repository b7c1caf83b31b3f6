"""Peak memory that one call adds, measured in a process of its own.

Run as `python -m qablate.bench.memory circuit numba 6 3200` or `... scan numba 1000`; prints MB.
"""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import torch


def added_peak_mb(part: str, backend: str, *sizes: int) -> float | None:
    """MB that the first full-size call of a fresh process adds to its resident memory; None where unknown.

    Only Linux lets a process reset the mark of its largest resident size.
    """
    if not Path("/proc/self/clear_refs").exists():
        return None
    command = [sys.executable, "-m", "qablate.bench.memory", part, backend, *map(str, sizes)]
    run = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    return float(run.stdout) if run.returncode == 0 and run.stdout.strip() else None


def _resident_mb(key: str) -> float:
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{key}:")) / 1e3


def _measure(warm: Callable[[], object], call: Callable[[], object]) -> float:
    """MB that `call` adds; `warm` has run first, so that compilation and imports are not counted."""
    warm()
    before = _resident_mb("VmRSS")
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # resets VmHWM
    call()
    return _resident_mb("VmHWM") - before


def main(arguments: list[str]) -> None:
    """Measure one call and print its MB."""
    from qablate.bench import circuits, scans

    torch.set_num_threads(1)
    part, backend, *sizes = arguments
    cpu = torch.device("cpu")
    if part == "circuit":
        n_qubits, n_batch = map(int, sizes)
        warm = circuits.forward_and_backward(backend, n_qubits, 17, cpu)
        call = circuits.forward_and_backward(backend, n_qubits, n_batch, cpu)
    else:
        warm = scans.forward_and_backward(backend, 3, cpu)
        call = scans.forward_and_backward(backend, int(sizes[0]), cpu)
    print(f"{_measure(warm, call):.1f}")


if __name__ == "__main__":
    main(sys.argv[1:])
