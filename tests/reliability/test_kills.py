"""Killed anywhere, a cell goes on and ends equal: the same numbers, predictions and weights, bit for bit."""

import os
import signal
import time
from itertools import cycle

import numpy as np
import pytest
from harness import KillAtStep, Signalled, Workplace, copy_of, workplace
from warmed import CELLS

KILLED = -signal.SIGKILL


def undisturbed(tmp_path, name: str, *cell: str, **changes) -> tuple[Workplace, Workplace, float]:
    """A cell before its training, the same cell trained in one go, and the seconds that took."""
    fresh = workplace(tmp_path / f"{name}-fresh", *cell, **changes)
    whole = copy_of(fresh, tmp_path / f"{name}-whole")
    began = time.monotonic()
    assert whole.run() == 0
    return fresh, whole, time.monotonic() - began


@pytest.mark.parametrize("n_kills", [4, pytest.param(30, marks=[pytest.mark.full, pytest.mark.timeout(900)])])
def test_killed_at_random_moments(tmp_path, n_kills):
    rng, kills, in_a_write = np.random.default_rng(2024), 0, 0
    for turn, cell in enumerate(cycle(CELLS)):
        fresh, whole, seconds = undisturbed(tmp_path, str(turn), *cell)
        place = copy_of(fresh, tmp_path / str(turn))
        code = None
        while code != 0:
            process = place.start()
            if kills < n_kills:
                process.join(rng.uniform(0.02, 0.5 * seconds))
                process.kill()
            process.join()
            code = process.exitcode
            assert code in (0, KILLED)
            if code == KILLED:
                kills += 1
                in_a_write += any(place.folder.rglob("*.tmp"))
                assert not place.output.exists() or place.files() == whole.files()
        assert place.files() == whole.files()
        assert place.leftovers() == []
        if kills >= n_kills:
            break
    print(f"{kills} kills in {turn + 1} cells, {in_a_write} of them during a write")


@pytest.fixture(scope="module")
def short(tmp_path_factory) -> tuple[Workplace, Workplace, int]:
    """One epoch of two batches, a checkpoint after each: fresh, trained, and how often files are changed by it."""
    fresh, whole, _ = undisturbed(
        tmp_path_factory.mktemp("steps"), "short", training={"max_epochs": 1, "batch_size": 48}
    )
    counted = copy_of(fresh, fresh.folder.with_name("counted"))
    assert counted.run(KillAtStep(0)) == 0
    assert counted.files() == whole.files()
    return fresh, whole, int((counted.folder / "steps").read_text())


@pytest.mark.parametrize("part", [8, pytest.param(1, marks=[pytest.mark.full, pytest.mark.timeout(900)])])
def test_killed_between_any_two_changes_of_a_file(short, tmp_path, part):
    """Every write (cut in its middle), sync, rename and removal of checkpoints, weights, predictions and result.

    The end of training is saved before the first of the last three is written, so that it is not repeated.
    """
    fresh, whole, n_steps = short
    assert n_steps > 25
    for step in range(n_steps, 0, -part):
        place = copy_of(fresh, tmp_path / str(step))
        assert place.run(KillAtStep(step)) == KILLED
        if place.output.exists():
            assert place.files() == whole.files()  # never a part of a result
        assert place.run() == 0
        assert place.files() == whole.files(), step
        assert place.leftovers() == [], step
        assert step < n_steps - 8 or place.log.read_text().count("Epoch ") == 1, step
    print(f"{n_steps // part} of {n_steps} steps")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1])
def test_signals_save_and_stop_sigusr1_and_nohup_go_on(tmp_path, number):
    fresh, whole, _ = undisturbed(tmp_path, "signal", run={"checkpoint_interval_s": 1e9})
    place, hung_up = (copy_of(fresh, tmp_path / name) for name in ("one", "nohup"))
    goes_on = number == signal.SIGUSR1
    assert place.run(Signalled("Epoch   2/", number)) == (0 if goes_on else 85)
    assert place.output.exists() == goes_on and any(event["event"] == "checkpoint" for event in place.events())
    if not goes_on:
        assert place.events()[-1] == {"event": "stop", "reason": signal.Signals(number).name}
        assert place.checkpoint.exists() and place.run() == 0
    if number == signal.SIGHUP:
        assert hung_up.run(Signalled("Epoch   2/", number, ignored=True)) == 0
        assert hung_up.files() == whole.files()
    assert place.files() == whole.files()


def test_leftovers_of_living_processes_stay(short, tmp_path):
    fresh, _, _ = short
    place = copy_of(fresh, tmp_path / "alive")
    alive = place.output.with_name(f".{place.output.name}.{os.uname().nodename}-{os.getpid()}.abc.tmp")
    old = place.output.with_name(f".{place.output.name}.elsewhere-1.abc.tmp")
    alive.parent.mkdir(parents=True)
    for file in (alive, old):
        file.write_text("half of a res")
    os.utime(old, (0, 0))
    assert place.run() == 0
    assert alive.exists()
    assert not old.exists()


@pytest.mark.parametrize(("kills", "turn"), [
    (False, 0), (True, 0), *(pytest.param(False, turn, marks=pytest.mark.full) for turn in range(1, 6))])
def test_two_processes_on_one_cell(tmp_path, kills, turn):
    """They share names and need no lock: both end well unless one is killed, and the result is that of one."""
    fresh, whole, seconds = undisturbed(tmp_path, "two")
    place = copy_of(fresh, tmp_path / "both")
    first = place.start()
    first.join(turn * seconds / 6)
    second = place.start()
    if kills:
        first.join(0.5 * seconds)
        first.kill()
    for process in (first, second):
        process.join(120)
    assert second.exitcode == 0 and (kills or first.exitcode == 0), place.log.read_text()
    assert place.files() == whole.files()
    assert kills or place.leftovers() == []


@pytest.mark.parametrize("option", [("--max-seconds", "0.5"), ("--set", '{"run": {"max_seconds": 0.5}}')])
def test_a_budget_saves_and_stops(place, whole, option):
    """Shorter than what is kept to save in, so that it is over after the first batch."""
    assert place.run(command=[*place.command(), *option]) == 85
    assert place.events()[-1] == {"event": "stop", "reason": "wall-clock budget of 0.5 s"} and place.checkpoint.exists()
    assert place.run() == 0 and place.files() == whole.files()
