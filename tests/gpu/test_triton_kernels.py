"""The GPU kernels in Triton's interpreter against the plain versions, and what they compile to for three GPUs.

No GPU is needed. Each part runs in a process of its own: a kernel is either interpreted or compiled for good.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("triton", reason="triton is not installed: make test EXTRAS=gpu")

HERE = Path(__file__).parent


def in_process(script: str, *arguments: str, interpret: bool, tmp_path: Path) -> str:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "TRITON_CACHE_DIR": str(tmp_path)}
    environment.pop("TRITON_INTERPRET", None)
    if interpret:
        environment["TRITON_INTERPRET"] = "1"
    done = subprocess.run(
        [sys.executable, str(HERE / script), *arguments], env=environment, capture_output=True, text=True, timeout=1400
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def deviations(tmp_path: Path, *arguments: str) -> dict[str, float]:
    found = json.loads(in_process("interpreted.py", *arguments, interpret=True, tmp_path=tmp_path))
    assert found
    return found


BOUNDS = {"float32": 1e-5, "float64": 1e-10}
SIZES = [("2", "float32"), ("4", "float32"), ("6", "float32"), ("2", "float64"), ("4", "float64"),
         *(pytest.param(n_qubits, "float32", marks=pytest.mark.full) for n_qubits in "13578")]


@pytest.mark.parametrize(("n_qubits", "dtype"), SIZES)
def test_circuits_agree_with_gate_by_gate_simulation(n_qubits, dtype, tmp_path):
    found = deviations(tmp_path, "circuit", n_qubits, dtype)
    assert max(found.values()) < BOUNDS[dtype], found


@pytest.mark.parametrize("dtype", BOUNDS)
def test_scan_agrees_with_the_definition(dtype, tmp_path):
    found = deviations(tmp_path, "scan", dtype)
    assert max(found.values()) < BOUNDS[dtype], found


@pytest.mark.parametrize("target", ["80", "90", "121"])
@pytest.mark.parametrize("what", ["scan", "circuit-3", pytest.param("circuit-6", marks=[pytest.mark.full,
                                                                                       pytest.mark.timeout(1500)])])
def test_kernels_compile_without_spills(what, target, tmp_path):
    for kernel in json.loads(in_process("compiled.py", what, target, interpret=False, tmp_path=tmp_path)):
        print(kernel)
        assert kernel["local_bytes"] == 0 and kernel["stack_bytes"] == 0, kernel
        assert 16 <= kernel["registers"] <= 128, kernel
        assert (kernel["copies_ahead"] > 0) == (what == "scan"), kernel    # the scan alone reads row after row
