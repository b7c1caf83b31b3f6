"""A lock goes when all its owners are known to be dead, else it stays."""

import json
import os
import platform
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from qablate import locks
from qablate.slurm import command_of

SNAKEMAKE = [sys.executable, "-c", "print(flush=True); input()", "a study"]
OVER, NO_ANSWER = (f"echo 'slurm_load_jobs error: {error}' >&2; exit 1" for error in (
    "Invalid job id specified", "Unable to contact slurm controller"))
ON_A_NODE = {"host": "nid001", "job": "17"}


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


@pytest.mark.parametrize(("error", "known"), [(PermissionError, []), (ProcessLookupError, None)])
def test_a_process_that_proc_hides_is_not_dead(monkeypatch: pytest.MonkeyPatch, error: type[OSError],
                                               known: list[str] | None) -> None:
    """`hidepid` shows nobody the processes of others; only a signal tells whether there is one."""

    def hidden(pid: int, *_: object) -> None:
        raise psutil.NoSuchProcess(pid)

    def refused(*_: int) -> None:
        raise error

    monkeypatch.setattr(psutil, "Process", hidden)
    monkeypatch.setattr(os, "kill", refused)
    assert command_of(os.getpid()) == known


def note(folder: Path, pid: int, **changes: object) -> None:
    owner = {**locks._here(), "pid": pid, "command": SNAKEMAKE, "job": None, **changes}
    (folder / f"owner-{owner['host']}-{pid}.json").write_text(json.dumps(owner))


def dead() -> int:
    process = subprocess.Popen(["true"])
    process.wait()
    return process.pid


def goes(folder: Path) -> bool:
    """Whether the lock goes: all of it, with its notes, for a line. Next to legible notes this process is noted."""
    before = list(map(locks._read, folder.glob("owner-*")))
    line, left = locks.take_over_lock(folder), len(list(folder.glob("*.lock")))
    own = (folder / f"owner-{platform.node()}-{os.getpid()}.json").exists()
    assert (bool(line), left) in ((True, 0), (False, 2))
    assert own == (bool(before) and all(before))
    assert not line or len(list(folder.glob("owner-*"))) == 1
    return bool(line)


@pytest.mark.parametrize("zombie", [True, False])
def test_a_zombie_and_a_number_that_another_program_has_now_are_dead(folder: Path, alive: subprocess.Popen,
                                                                     zombie: bool) -> None:
    note(folder, alive.pid, **({} if zombie else {"command": ["snakemake", "--profile", "profiles/local"]}))
    if zombie:
        alive.kill()
        os.waitid(os.P_PID, alive.pid, os.WEXITED | os.WNOWAIT)    # nobody waited for it
    assert goes(folder)


@pytest.mark.parametrize(("changes", "answer", "dies"), [
    ({}, None, True),
    ({"host": "another"}, None, False),
    ({"space": "pid:[1]"}, None, False),    # of another container
    (ON_A_NODE, "exit 0", True),
    (ON_A_NODE, OVER, True),
    (ON_A_NODE, "echo RUNNING", False),
    (ON_A_NODE, NO_ANSWER, False),
    (ON_A_NODE, None, False),
])
def test_of_a_dead_owner_goes_if_that_is_known(folder: Path, monkeypatch: pytest.MonkeyPatch,
                                               changes: dict[str, str], answer: str | None, dies: bool) -> None:
    (folder / "bin").mkdir()
    if answer is not None:
        (folder / "bin/squeue").write_text(f"#!/bin/sh\n{answer}\n")
        (folder / "bin/squeue").chmod(0o755)
    note(folder, dead(), **changes)
    monkeypatch.setenv("PATH", str(folder / "bin"))
    assert goes(folder) is dies


def test_of_a_living_owner_stays_whoever_died_next_to_it(folder: Path, alive: subprocess.Popen) -> None:
    for pid in (dead(), alive.pid):
        note(folder, pid)
    assert not goes(folder)


@pytest.mark.parametrize("text", [None, "", "{", "[]", '{"host": 1}', '{"host": "x", "pid": "x"}'])
def test_without_a_legible_note_it_stays(folder: Path, text: str | None) -> None:
    if text is not None:
        (folder / "owner-x-1.json").write_text(text)
    assert not goes(folder)


def test_of_two_that_find_a_dead_owner_one_takes_over(folder: Path) -> None:
    """A lock that the first one took meanwhile is not removed by the second."""
    note(folder, dead())
    notes = list(folder.glob("owner-*"))
    assert locks._claim(notes)
    assert not locks._claim(notes)
