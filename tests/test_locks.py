"""A lock goes when all its owners are known to be dead, else it stays."""

import json
import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from qablate import locks

SNAKEMAKE = [sys.executable, "-c", "print(flush=True); input()", "a study"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder that Snakemake has locked."""
    (tmp_path / "0.input.lock").write_text("a\n")
    (tmp_path / "0.output.lock").write_text("b\n")
    return tmp_path


@pytest.fixture
def alive():
    """A process that passes for Snakemake."""
    with subprocess.Popen(SNAKEMAKE, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        process.stdout.readline()
        yield process
        process.kill()


def note(folder: Path, pid: int, **changes: object) -> None:
    owner = {**locks._here(), "pid": pid, "command": SNAKEMAKE, "job": None, **changes}
    (folder / f"owner-{owner['host']}-{pid}.json").write_text(json.dumps(owner))


def dead() -> int:
    process = subprocess.Popen(["true"])
    process.wait()
    return process.pid


def locked(folder: Path) -> bool:
    return len(list(folder.glob("*.lock"))) == 2


def owners(folder: Path) -> set[str]:
    return {path.name for path in folder.glob("owner-*")}


def own_note() -> str:
    return f"owner-{platform.node()}-{os.getpid()}.json"


def test_a_folder_without_lock_is_noted(tmp_path: Path) -> None:
    assert locks.take_over_lock(tmp_path / "locks") == ""
    assert owners(tmp_path / "locks") == {own_note()}


def test_a_dead_owner_is_followed(folder: Path) -> None:
    pid = dead()
    note(folder, pid)
    line = locks.take_over_lock(folder)
    assert line == f"removed the lock of a Snakemake that was killed (process {pid} on {platform.node()})"
    assert not list(folder.glob("*.lock"))
    assert owners(folder) == {own_note()}


@pytest.mark.parametrize("zombie", [True, False])
def test_a_zombie_and_a_number_that_another_program_has_now_are_dead(folder: Path, alive: subprocess.Popen,
                                                                     zombie: bool) -> None:
    note(folder, alive.pid, **({} if zombie else {"command": ["snakemake", "--profile", "profiles/local"]}))
    if zombie:
        alive.kill()
        os.waitid(os.P_PID, alive.pid, os.WEXITED | os.WNOWAIT)    # nobody waited for it
    assert locks.take_over_lock(folder)


@pytest.mark.parametrize("changes", [{"host": "another"}, {"space": "pid:[1]"}])
def test_of_another_host_or_container_stays(folder: Path, changes: dict[str, str]) -> None:
    note(folder, dead(), **changes)
    assert locks.take_over_lock(folder) == "" and locked(folder)
    assert own_note() not in owners(folder)


def test_of_a_living_owner_stays_whoever_died_next_to_it(folder: Path, alive: subprocess.Popen) -> None:
    for pid in (dead(), alive.pid):
        note(folder, pid)
    assert locks.take_over_lock(folder) == "" and locked(folder)


@pytest.mark.parametrize("text", [None, "", "{", "[]", '{"host": 1}', '{"host": "x", "pid": "x"}'])
def test_without_a_legible_note_it_stays(folder: Path, text: str | None) -> None:
    if text is not None:
        (folder / "owner-x-1.json").write_text(text)
    assert locks.take_over_lock(folder) == ""
    assert locked(folder)


@pytest.mark.parametrize(("answer", "goes"), [
    ("exit 0", True),
    ("echo 'slurm_load_jobs error: Invalid job id specified' >&2; exit 1", True),
    ("echo RUNNING", False),
    ("echo 'slurm_load_jobs error: Unable to contact slurm controller' >&2; exit 1", False),
    (None, False),
])
def test_of_another_node_goes_with_its_slurm_job(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                                 answer: str | None, goes: bool) -> None:
    programs = tmp_path / "bin"
    programs.mkdir()
    if answer is not None:
        (programs / "squeue").write_text(f"#!/bin/sh\n{answer}\n")
        (programs / "squeue").chmod(0o755)
    monkeypatch.setenv("PATH", str(programs))
    note(folder, 1, host="nid001", job="17")
    assert bool(locks.take_over_lock(folder)) is goes
    assert locked(folder) is not goes


def test_of_two_that_find_a_dead_owner_one_takes_over(folder: Path) -> None:
    """A lock that the first one took meanwhile is not removed by the second."""
    note(folder, dead())
    notes = {path: {} for path in folder.glob("owner-*")}
    assert locks._claim(notes)
    assert not locks._claim(notes)
