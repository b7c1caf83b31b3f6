"""Gates on speed that hold on any machine: ratios of CPU time, measured side by side in one process.

`make bench` runs them. Every gate is below what was measured for docs/performance.md, so that a failure means a defect
and not a busy machine; the best of three attempts counts, because a disturbance only ever makes a ratio worse.
"""

from collections.abc import Callable
from pathlib import Path

import circuits
import pytest
import scans
import torch
from steps import measure_step
from timing import time_side_by_side

from qablate.catalog import MODELS
from qablate.models.fused import Dropout
from qablate.study import Study

CPU = torch.device("cpu")
ATTEMPTS = 3
CONFIG = Path(__file__).parents[1] / "config.yaml"


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def best_ratio(fast: Callable[[], object], slow: Callable[[], object], enough: float) -> float:
    best = 0.0
    for _ in range(ATTEMPTS):
        timings = time_side_by_side({"fast": fast, "slow": slow}, rounds=3)
        best = max(best, timings["fast"].ratio_to(timings["slow"]))
        if best >= enough:
            break
    return best


@pytest.mark.parametrize(("backend", "least"), [("numba", 140), ("torch", 9)])
def test_circuits_against_default_qubit(backend, least):
    usable, skipped = circuits.usable_backends(CPU)
    if backend not in usable:
        pytest.skip(f"{backend}: {skipped[backend]}")
    calls = [circuits.forward_and_backward(name, 6, 512, CPU) for name in (backend, "pennylane")]
    assert best_ratio(*calls, enough=least) >= least


@pytest.mark.parametrize(("backend", "least"), [("numba", 9), ("torch", 1.5)])
def test_scans_against_the_unbind_loop(backend, least):
    usable, skipped = scans.usable_scans(CPU)
    if backend not in usable:
        pytest.skip(f"{backend}: {skipped[backend]}")
    calls = [scans.forward_and_backward(name, 100, CPU) for name in (backend, "reference")]
    assert best_ratio(*calls, enough=least) >= least


def test_what_the_scan_keeps_is_little():
    usable, skipped = scans.usable_scans(CPU)
    if "numba" not in usable:
        pytest.skip(f"numba: {skipped['numba']}")
    arguments = scans.scan_arguments(200, (scans.BATCH, scans.WIDTH, scans.STATE), CPU)
    assert scans.saved_mb("numba", arguments) <= 60 * 200 / 1000


@pytest.mark.parametrize("model", MODELS)
def test_whole_steps_against_pennylane_and_the_loop(model):
    least = {"3a": 1.3, "3b": 3.5}.get(model, 5)    # 3a has neither circuits nor a scan
    study = Study.load([CONFIG])
    spec = study.dataset("adding_problem", 100, 2024)
    ratios = []
    for _ in range(ATTEMPTS):
        ratios.append(measure_step(study, spec, model, 2, CPU, compare=True, share=False)["ratio"])
        if ratios[-1] >= least:
            break
    assert max(ratios) >= least


def test_dropout_against_torch():
    x = torch.rand(1_000_000, requires_grad=True)
    calls = [lambda layer=layer: layer(x).sum().backward() for layer in (Dropout(0.1), torch.nn.Dropout(0.1))]
    assert best_ratio(*calls, enough=2) >= 2
