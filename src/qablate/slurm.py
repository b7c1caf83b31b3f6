"""Slurm's programs as Snakemake's executor calls them, mended where version 2.8 of it gives up or waits for ever.

Layer 0. A run with the executor `slurm` puts programs of the same names first in PATH (`stand_before`). They call
`main`, and that the real ones:

- sbatch, and what is asked before it: asked again while Slurm does not answer. A cell's attempts are for jobs that ran.
- sbatch of a cell whose job from an earlier start is still in the queue: answered with that job, which is waited for.
- squeue, sacct: answered for every job of the run. A job that Slurm has forgotten has ended (UNKNOWN: the executor then
  looks for its result); while Slurm does not answer, none has (the executor would forget them all).
"""

import atexit
import contextlib
import fcntl
import functools
import itertools
import logging
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

FOLDER = Path(".snakemake/slurm")
PATIENT = ("sbatch", "sinfo", "sacctmgr", "sshare")
STATES = ("squeue", "sacct")
PAUSES_S = (1, 2, 4, 8, 15, 30)
SNAKEMAKE = "QABLATE_SNAKEMAKE_PID"
NO_ANSWER = re.compile(
    "timed out|temporarily|try again|unable to contact|connection (refused|reset|timed out)|connect failure|"
    "zero bytes were transmitted|not responding|standby mode|communication|transport endpoint|"
    "problem talking to the database|unexpected message|no route to host|broken pipe", re.IGNORECASE)
"""What Slurm's programs say when the controller or the database is busy, restarts or cannot be reached."""
REFUSAL = re.compile("invalid|not permitted|denied|violates", re.IGNORECASE)
TIMEOUT_S = 60.0
PATIENCE_S = 40.0
"""The executor gives its question for states up after 60 s."""


def stand_before(running: Mapping[str, str], folder: Path = FOLDER) -> None:
    """Put the programs first in PATH; `running` are the numbers of jobs still in the queue, by their comment."""
    for old in folder.glob("[0-9]*"):
        if int(old.name) == os.getpid() or command_of(int(old.name)) is None:    # in a container pids come again
            shutil.rmtree(old, ignore_errors=True)
    folder = folder.resolve() / str(os.getpid())
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    for name in ("bin", "running", "jobs"):
        (folder / name).mkdir(parents=True)
    for program in (*PATIENT, *STATES):
        if shutil.which(program):
            path = folder / "bin" / program
            path.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m qablate.slurm "$0" "$@"\n')
            path.chmod(0o755)
    for comment, job in running.items():
        (folder / "running" / comment).write_text(job)
    os.environ |= {SNAKEMAKE: str(os.getpid()), "PATH": f"{folder}/bin{os.pathsep}{os.environ['PATH']}"}
    with contextlib.suppress(OSError):
        fcntl.fcntl(2, fcntl.F_SETFL, fcntl.fcntl(2, fcntl.F_GETFL) | os.O_APPEND)    # `_note_silence` writes to it too

    def stop(before: Callable[[int, FrameType | None], Any], number: int, frame: FrameType | None) -> None:
        (folder / "stop").touch()    # Snakemake waits for submissions before it ends
        before(number, frame)

    for number in (signal.SIGINT, signal.SIGTERM):
        if callable(before := signal.getsignal(number)):    # not where the signal is ignored
            signal.signal(number, functools.partial(stop, before))


def refusal(account: str, options: Sequence[str]) -> str:
    """Why Slurm would take no job with these options of sbatch, in one line; "" if it would, or does not answer."""
    from snakemake_executor_plugin_slurm.accounts import validate_account
    from snakemake_interface_common.exceptions import WorkflowError

    silent = logging.Logger("accounts")
    silent.addHandler(logging.NullHandler())
    try:
        validate_account(account, silent)    # the executor would say it of each cell, with a traceback
    except (OSError, WorkflowError) as error:    # OSError: no sacctmgr here
        if "appears to be invalid" in str(error):
            return _in_one_line(str(error))
    done = run(["sbatch", "--test-only", "--account", account, *options, "--wrap", "true"], timeout=TIMEOUT_S)
    found = [line for line in done.stderr.splitlines() if done.returncode and REFUSAL.search(line)]
    return "; ".join(re.sub("^(sbatch: )?(error: )?", "", line) for line in found)


def command_of(pid: int) -> list[str] | None:
    """The command of a process, empty where it may not be known; None if there is no such process."""
    import psutil  # Snakemake brings it along

    try:
        process = psutil.Process(pid)
        return None if process.status() == psutil.STATUS_ZOMBIE else process.cmdline()
    except psutil.NoSuchProcess:    # also of another user's, where /proc hides them (hidepid): a signal finds it
        try:
            os.kill(pid, 0)
        except PermissionError:
            return []
        except OSError:
            pass
        return None
    except psutil.Error:
        return []


def job_state(job: str) -> str | None:
    """State of a job in the words of squeue, "" if Slurm has no such job any more, None if it does not answer."""
    done = run(["squeue", "--noheader", "--jobs", job, "--format", "%T"], timeout=TIMEOUT_S)
    if done.returncode:
        return "" if "Invalid job id" in done.stderr else None
    return done.stdout.strip()


def main(words: Sequence[str]) -> int:
    """Answer for one of Slurm's programs; `words` are the path of the one that goes before it, and its arguments."""
    own, *arguments = words
    folder, program = Path(own).parents[1], Path(own).name
    os.environ["PATH"] = os.pathsep.join(part for part in os.environ["PATH"].split(os.pathsep)
                                         if part != str(folder / "bin"))
    if program == "sbatch" and "--test-only" not in arguments:
        return _submit(arguments, folder)
    if program in STATES and (name := _option(arguments, "--name")):
        return _print_states(folder, name)
    return _passed_on(_ask([program, *arguments], folder) if program in PATIENT else run([program, *arguments]))


def _submit(arguments: Sequence[str], folder: Path) -> int:
    name, comment = (_option(arguments, option) or "none" for option in ("--job-name", "--comment"))
    if (folder / "stop").exists():
        sys.stderr.write("not submitted: Snakemake was interrupted\n")
        return 1
    try:
        earlier = folder / "running" / comment
        job = earlier.read_text()
        earlier.unlink()    # a further attempt is a job of its own
    except OSError:
        done = _ask(["sbatch", *arguments], folder)
        number = re.search(r"^[0-9]+(?=;|\s*$)", done.stdout, re.MULTILINE) or re.search("[0-9]+", done.stdout)
        if done.returncode or number is None:
            return _passed_on(done) or 1
        job = number[0]
    with (folder / "jobs" / name).open("a") as jobs:
        jobs.write(f"{job}\n")
    print(job)
    return 0


def _ask(command: Sequence[str], folder: Path) -> "subprocess.CompletedProcess[str]":
    """Run a program, again and again while Slurm does not answer, until Snakemake is interrupted or gone."""
    script = sys.stdin.read() if "/dev/stdin" in command else ""
    for turn in itertools.count():
        done = run(command, script)
        if done.returncode == 0 or not NO_ANSWER.search(done.stderr):
            _note_silence(folder, "")
            return done
        _note_silence(folder, done.stderr)
        until = time.monotonic() + PAUSES_S[min(turn, len(PAUSES_S) - 1)]
        while time.monotonic() < until:
            if (folder / "stop").exists() or command_of(int(os.environ[SNAKEMAKE])) is None:
                return done
            time.sleep(0.5)
        if command[0] == "sbatch":    # it may have submitted the job all the same
            wanted = [_option(command, "--job-name"), _option(command, "--comment")]
            queued = run(["squeue", "--me", "--noheader", "--format=%i|%j|%k"]).stdout.splitlines()
            for number, *rest in (line.split("|") for line in queued):
                if rest == wanted:
                    return subprocess.CompletedProcess(command, 0, number, "")
    raise AssertionError("itertools.count ended")


def _print_states(folder: Path, name: str) -> int:
    """Print `number|state` for every job of the run of this name."""
    noted = folder / "jobs" / name
    done = run(["squeue", "--me", "--noheader", "--states=all", "--format=%i|%T"], timeout=PATIENCE_S)
    known = dict(line.split("|", 1) for line in done.stdout.splitlines() if "|" in line)
    _note_silence(folder, done.stderr if done.returncode else "")
    for job in noted.read_text().split() if noted.exists() else []:
        print(f"{job}|{'NO_ANSWER' if done.returncode else known.get(job, 'UNKNOWN')}")
    return 0


def run(command: Sequence[str], script: str = "", timeout: float | None = None) -> "subprocess.CompletedProcess[str]":
    """Run one of Slurm's programs; exit code 127 if there is none, 1 if it does not answer in time, with a line why."""
    try:
        return subprocess.run(command, capture_output=True, text=True, errors="replace", input=script, timeout=timeout,
                              check=False)
    except OSError as error:
        return subprocess.CompletedProcess(command, 127, "", f"{command[0]}: {error.strerror}\n")
    except subprocess.TimeoutExpired:
        return subprocess.CompletedProcess(command, 1, "", f"{command[0]} timed out ({timeout:g} s)\n")


def _passed_on(done: "subprocess.CompletedProcess[str]") -> int:
    sys.stdout.write(done.stdout)
    sys.stderr.write(done.stderr)
    return done.returncode


def _in_one_line(text: str) -> str:
    return " ".join(text.split())[:200]


def _option(words: Sequence[str], name: str) -> str | None:
    return next((words[at + 1] for at, word in enumerate(words[:-1]) if word == name), None)


def _note_silence(folder: Path, reason: str) -> None:
    """Print a line where Snakemake prints when Slurm falls silent: the executor keeps what its programs print."""
    mark = folder / "silent"
    if not reason:
        mark.unlink(missing_ok=True)
        return
    with contextlib.suppress(OSError):
        mark.touch(exist_ok=False)
        with open(f"/proc/{os.environ[SNAKEMAKE]}/fd/2", "a") as screen:
            screen.write(f"{_in_one_line(reason)}; asking again until Slurm answers\n")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
