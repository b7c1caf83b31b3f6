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


@pytest.mark.parametrize("n_qubits", ["2", "4", "6"])
@pytest.mark.parametrize("dtype, bound", [("float32", 1e-5), ("float64", 1e-10)])
def test_circuits_agree_with_gate_by_gate_simulation(n_qubits, dtype, bound, tmp_path):
    if n_qubits == "6" and dtype == "float64":
        pytest.skip("the same code as float32; 2 and 4 qubits hold it")
    found = deviations(tmp_path, "circuit", n_qubits, dtype)
    assert max(found.values()) < bound, found


@pytest.mark.full
@pytest.mark.parametrize("n_qubits", ["1", "3", "5", "7", "8"])
def test_circuits_of_all_sizes_agree(n_qubits, tmp_path):
    found = deviations(tmp_path, "circuit", n_qubits, "float32")
    assert max(found.values()) < 1e-5, found


@pytest.mark.parametrize("dtype, bound", [("float32", 1e-5), ("float64", 1e-10)])
def test_scan_agrees_with_the_definition(dtype, bound, tmp_path):
    found = deviations(tmp_path, "scan", dtype)
    assert max(found.values()) < bound, found


TARGETS = ["80", "90", "121"]


def resources(tmp_path: Path, what: str, target: str) -> None:
    for kernel in json.loads(in_process("compiled.py", what, target, interpret=False, tmp_path=tmp_path)):
        print(kernel)
        assert kernel["local_bytes"] == 0 and kernel["stack_bytes"] == 0, kernel
        assert 16 <= kernel["registers"] <= 128, kernel


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("what", ["scan", "circuit-3"])
def test_kernels_compile_without_spills(what, target, tmp_path):
    resources(tmp_path, what, target)


@pytest.mark.full
@pytest.mark.timeout(1500)
@pytest.mark.parametrize("target", TARGETS)
def test_circuits_of_six_qubits_compile_without_spills(target, tmp_path):
    resources(tmp_path, "circuit-6", target)
