"""Stopped or killed at any place of an epoch, a cell ends equal in processes that begin at that place."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from qablate.catalog import MODELS

HERE = Path(__file__).parent
IN_SHORT = {("SIGTERM", "numba"): ["4d"], ("SIGKILL", "torch"): ["2e"]}


def places(folder: Path, way: str, kernels: str, models: list[str]) -> list[str]:
    command = [sys.executable, str(HERE / "places.py"), str(folder), way, kernels, *models]
    paths = os.pathsep.join([str(HERE), str(HERE.parent), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}
    run = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert run.returncode == 0, run.stderr[-800:]
    return run.stdout.splitlines()


@pytest.mark.parametrize(("way", "kernels"), IN_SHORT)
def test_some_models_at_every_place(tmp_path, way, kernels):
    models = IN_SHORT[way, kernels]
    assert places(tmp_path, way, kernels, models) == [f"{model} equal" for model in models]


@pytest.mark.full
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("kernels", ["numba", "torch"])
@pytest.mark.parametrize("way", ["SIGTERM", "SIGKILL", "budget"])
def test_every_model_at_every_place(tmp_path, way, kernels):
    assert places(tmp_path, way, kernels, list(MODELS)) == [f"{model} equal" for model in MODELS]
