"""`qablate bench` on tiny sizes: files that agree with each other, and bad options in one line."""

import json
import math

import pytest
import torch
from factories import CONFIG
from tiny import tiny_study

from qablate.bench import BenchOptions, run_bench
from qablate.bench.circuits import measure_circuits, published_circuit
from qablate.bench.memory import added_peak_mb
from qablate.bench.roofline import circuit_flop, scan_flop
from qablate.bench.scans import measure_scans, saved_mb, scan_arguments
from qablate.bench.steps import batch_of, circuits_of, measure_step, trained_model
from qablate.bench.timing import Timing, time_side_by_side
from qablate.cli import main

CPU = torch.device("cpu")


def test_contenders_take_turns():
    calls = []
    timings = time_side_by_side({name: lambda name=name: calls.append(name) or sum(range(10**5)) for name in "ab"}, 3)
    assert len(timings["a"].cpu_ms) == 3
    repeats = {name: timings[name].repeats for name in "ab"}
    a_turn = "a" * repeats["a"] + "b" * repeats["b"]
    assert "".join(calls).endswith(a_turn * 3)


def test_ratios_are_taken_within_a_round():
    fast, slow = Timing((1.0, 2.0, 4.0), (1.0,) * 3, 1), Timing((10.0, 20.0, 40.0), (1.0,) * 3, 1)
    assert fast.ratio_to(slow) == 10
    assert (fast.cpu, fast.spread) == (2, 1.5)


def test_circuits_report_every_backend_or_why_not(monkeypatch):
    monkeypatch.setattr("qablate.bench.circuits.LIGHTNING_SAMPLES", 1)
    rows = measure_circuits([(2, 3)], 1, CPU)
    names = {row["contender"] for row in rows}
    assert {"reference", "torch", "pennylane", "lightning"} <= names
    for row in rows:
        assert ("skipped" in row) != ("cpu_ms" in row)
        assert row.get("skipped", "reason")
    assert next(row for row in rows if row["contender"] == "pennylane")["ratio"] == 1


def test_a_circuit_too_large_for_an_opponent_is_said(monkeypatch):
    monkeypatch.setattr("qablate.bench.circuits.MAX_GRAPH_BYTES", 10.0)
    monkeypatch.setattr("qablate.bench.circuits.LIGHTNING_SAMPLES", 1)
    rows = {row["contender"]: row for row in measure_circuits([(2, 3)], 1, CPU)}
    assert "GB" in rows["pennylane"]["skipped"]
    assert rows["torch"]["ratio"] is None


def test_scans_say_what_they_keep():
    rows = {row["contender"]: row for row in measure_scans([40], 1, CPU, sizes=(2, 16, 4))}
    assert rows["reference"]["ratio"] == 1
    arguments = scan_arguments(40, (2, 16, 4), CPU)
    # the definition keeps the decay and the state of every step: two tensors (b, l, e, n), less the first state
    assert saved_mb("reference", arguments) == pytest.approx((2 * 40 - 1) * 2 * 16 * 4 * 4 / 1e6)
    if "cpu_ms" in rows["numba"]:
        assert rows["numba"]["saved_mb"] < rows["reference"]["saved_mb"] / 10


@pytest.mark.parametrize("model", ["2a", "3b", "4e"])
def test_a_step_is_compared_with_its_opponent(tmp_path, model):
    study = tiny_study(tmp_path)
    row = measure_step(study, study.dataset("adding_problem", 16, 2024), model, 1, CPU, compare=True)
    assert row["ratio"] > 0
    assert (row["circuit_share"] is None) == (model == "3b")
    batches = math.ceil(96 / 16), math.ceil(12 / 32)
    seconds = (batches[0] * row["qablate"]["cpu_ms"] + batches[1] * row["evaluation"]["cpu_ms"]) / 1e3
    assert row["epoch_cpu_s"] == pytest.approx(seconds, rel=1e-2, abs=1e-3)


def test_the_circuits_of_a_step_are_the_ones_it_calls(tmp_path):
    study = tiny_study(tmp_path)
    spec = study.dataset("forrelation", 16, 2024)
    step, batch = trained_model(study, spec, "4d", CPU, "torch", "torch"), batch_of(study, spec, CPU)
    called = circuits_of(lambda: step(*batch))
    calls = called.__closure__[0].cell_contents
    assert [call[0].__name__ for call in calls] == ["states", "evolve"]
    called()


def test_counted_arithmetic_is_that_of_the_hand_count():
    """6 qubits: 51 kFLOP for gates and measurement by hand, and 132 cosine-sine pairs beside."""
    flop = circuit_flop(published_circuit(6)) - 132 * 35
    assert flop == pytest.approx(51_000, rel=0.1)
    assert scan_flop(1, 1, 1, 1) == 64


def test_the_files_agree_with_the_table(tmp_path, capsys):
    study = tiny_study(tmp_path)
    options = BenchOptions(models=["1b"], lengths=[16], qubits=[2], batches=[3], rounds=1,
                           parts=("circuit", "step"))
    path = run_bench(study, options)
    report = json.loads(path.read_text())
    assert {row["part"] for row in report["rows"]} == {"circuit", "step"}
    assert report["machine"]["threads"] == 1
    assert report["machine"]["versions"]["torch"] == torch.__version__
    assert report["date"].endswith("Z")
    assert {file.suffix for file in path.parent.iterdir()} == {".json", ".png", ".svg"}
    printed = capsys.readouterr().out
    assert max(map(len, printed.splitlines())) <= 80
    assert "1b" in printed


@pytest.mark.full
def test_peak_memory_comes_from_a_process_of_its_own():
    small, large = (added_peak_mb("circuit", "torch", 6, size) for size in (32, 3200))
    if small is None or large is None:
        pytest.skip("the largest resident size cannot be reset on this system")
    assert large > small + 5


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["circuits"], "unknown part 'circuits', allowed: circuit, scan, step, roofline"),
        (["step", "--models", "9z"], "unknown model '9z'"),
        (["--rounds", "0"], "bench --rounds: 0 is not allowed"),
        (["--lengths", "100", "-5"], "bench --lengths: -5 is not allowed"),
        (["--task", "copying"], "'copying' is not in study 'published'"),
        (["--name", "../x"], "'../x' is not the name of a file"),
        (["--plan", "--cost-table", "nowhere.csv"], "nowhere.csv: cannot read costs"),
    ],
)
def test_bad_options_are_one_line(capsys, arguments, expected):
    code = main(["bench", *arguments, "--config", str(CONFIG)])
    error = capsys.readouterr().err
    assert (code, error.count("\n")) == (2, 1)
    assert expected in error
