"""Stopped or killed at any place of an epoch, a cell ends equal in processes that begin at that place."""

import os
import subprocess
import sys
from itertools import product
from pathlib import Path

import pytest

from qablate.catalog import MODELS

HERE = Path(__file__).parent
ALL = [pytest.param(way, kernels, list(MODELS), marks=[pytest.mark.full, pytest.mark.timeout(3600)])
       for way, kernels in product(("SIGTERM", "SIGKILL", "budget"), ("numba", "torch"))]


@pytest.mark.parametrize(("way", "kernels", "models"), [
    ("SIGTERM", "numba", ["4d"]), ("SIGKILL", "torch", ["2e"]), *ALL])
def test_a_cell_disturbed_at_every_place(tmp_path, way, kernels, models):
    paths = os.pathsep.join([str(HERE), str(HERE.parent), os.environ.get("PYTHONPATH", "")])
    run = subprocess.run([sys.executable, str(HERE / "places.py"), str(tmp_path), way, kernels, *models], text=True,
                         capture_output=True, env={**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"})
    assert run.returncode == 0, run.stderr[-800:]
    assert run.stdout.splitlines() == [f"{model} equal" for model in models]
