"""What a GPU will be asked to show, run on a CPU: the script must work on the day when there is one."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(("part", "said"), [("checks", "scan, auto: serves"), ("parity", "2a "), ("graph", "2a: "),
                                            ("steps", "2a 16 "), ("resume", "2a, with a graph: equal bits"),
                                            ("cells", "2a: test MSE")])
def test_every_part_runs_to_its_end(part, said):
    command = [sys.executable, "benchmarks/gpu_day.py", part, "--device", "cpu", "--models", "2a", "--lengths", "16"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    assert said in done.stdout and "DIFFERENT" not in done.stdout
