"""The programs that measure run to their end, on small cases: no other test would see that one no longer starts."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def run(*command: str) -> str:
    done = subprocess.run([sys.executable, *command], cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


@pytest.mark.parametrize(("part", "said"), [("checks", "scan, auto: serves"), ("parity", "2a "), ("graph", "2a: "),
                                            ("steps", "2a 16 "), ("resume", "2a, with a graph: equal bits"),
                                            ("cells", "2a: test MSE")])
def test_every_part_of_a_day_with_a_gpu(part, said):
    """On a CPU, so that the script works on the day when there is a GPU."""
    text = run("benchmarks/gpu_day.py", part, "--device", "cpu", "--models", "2a", "--lengths", "16")
    assert said in text and "DIFFERENT" not in text


@pytest.mark.parametrize(("part", "options", "shown"), [
    ("circuits", ["--qubits", "2", "--batches", "2"], {"ratio"}),
    ("scans", ["--lengths", "4"], {"ratio"}),
    ("steps", ["--models", "2a", "--lengths", "16"], {"ratio", "circuit_share", "floor_share"}),
])
def test_every_part_of_the_bench(part, options, shown, tmp_path):
    overlay = tmp_path / "overlay.yaml"
    overlay.write_text(json.dumps({"results": str(tmp_path)}))
    run("benchmarks/bench.py", part, "--config", "config.yaml", str(overlay), "--rounds", "1", *options)
    rows = json.loads((tmp_path / f"bench/{part}.json").read_text())["rows"]
    assert rows and all(any(row.get(name) for row in rows) for name in shown)
