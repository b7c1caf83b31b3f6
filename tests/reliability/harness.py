"""Cells trained in processes of their own, with damage done on purpose.

A cell has a folder with its config.yaml and its dataset; a process runs `qablate train` there and appends what it
prints to `log`. Damage is a function that the process calls before it begins.
"""

import functools
import io
import json
import multiprocessing
import os
import resource
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from tiny import files_of, tiny_study, with_dataset

from qablate.cli import main
from qablate.study import Cell, Study
from qablate.training.cell import checkpoint_path
from qablate.training.checkpoint import previous

Damage = Callable[[], None]


@dataclass(frozen=True)
class Workplace:
    """One cell in a folder of its own."""

    folder: Path
    study: Study
    cell: Cell

    @property
    def output(self) -> Path:
        return self.study.result_path(self.cell)

    @property
    def log(self) -> Path:
        return self.folder / "log"

    @property
    def checkpoint(self) -> Path:
        return checkpoint_path(self.output)

    def command(self) -> list[str]:
        cell = self.cell
        return ["train", "--model", cell.model, "--task", cell.task, "--length", str(cell.length), "--seed",
                str(cell.seed)]

    def start(self, damage: Damage | None = None, command: list[str] | None = None) -> Any:
        """Start a process; its `exitcode` is the command's, or minus the signal that killed it."""
        process = context().Process(target=run_command, args=(self.folder, command or self.command(), damage))
        process.start()
        return process

    def run(self, damage: Damage | None = None, command: list[str] | None = None) -> int:
        process = self.start(damage, command)
        process.join(120)
        assert process.exitcode is not None, "the command hangs"
        return process.exitcode

    def events(self) -> list[dict[str, Any]]:
        lines = self.log.read_text().splitlines() if self.log.exists() else []
        return [json.loads(line.removeprefix("@qablate ")) for line in lines if line.startswith("@qablate ")]

    def messages(self) -> list[str]:
        """What was said to a person."""
        return [line for line in self.log.read_text().splitlines() if line.startswith("qablate: ")]

    def files(self) -> tuple[dict[str, Any], bytes, bytes]:
        """Record without times and provenance, predictions, weights."""
        return files_of(self.study, self.cell)

    def leftovers(self) -> list[str]:
        """Files that no finished cell leaves: temporaries and checkpoints."""
        found = [*self.folder.rglob("*.tmp"), *self.folder.rglob("checkpoint_*")]
        return sorted(str(path.relative_to(self.folder)) for path in found)

    def checkpoints(self) -> list[Path]:
        return [path for path in (self.checkpoint, previous(self.checkpoint)) if path.exists()]


def workplace(folder: Path, model_id: str = "1b", task: str = "adding_problem", **changes: Any) -> Workplace:
    """A cell of the tiny study with its dataset; `changes` are settings, laid over key by key."""
    study = tiny_study(folder / "results")
    study.config["training"] |= {"max_epochs": 4, "batch_size": 32}
    study.config["run"] |= {"checkpoint_interval_s": 0}
    for key, value in changes.items():
        study.config[key] = {**study.config[key], **value}
    cell = with_dataset(study, model_id, task)
    (folder / "config.yaml").write_text(yaml.safe_dump({**study.config, "results": "results"}))
    return Workplace(folder, study, cell)


def copy_of(place: Workplace, folder: Path) -> Workplace:
    """The same cell elsewhere, in the same state."""
    shutil.copytree(place.folder, folder)
    study = Study(place.study.config)
    study.results = folder / "results"
    return Workplace(folder, study, place.cell)


@functools.cache
def context() -> Any:
    """Processes forked from one that is warm; started once for each worker of pytest."""
    here = Path(__file__).parent
    os.environ["PYTHONPATH"] = os.pathsep.join([str(here), str(here.parent), os.environ.get("PYTHONPATH", "")])
    os.environ["QABLATE_TEST_WARM"] = "1"
    os.environ["OMP_NUM_THREADS"] = "1"
    forking = multiprocessing.get_context("forkserver")
    forking.set_forkserver_preload(["warmed"])
    return forking


def run_command(folder: Path, command: list[str], damage: Damage | None) -> None:
    """Run one command as if typed in `folder`; ends the process with its exit code."""
    os.chdir(folder)
    log = os.open("log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
    os.dup2(log, 1)
    os.dup2(log, 2)
    sys.stdout, sys.stderr = (os.fdopen(number, "w", buffering=1) for number in (1, 2))
    sys.argv = ["qablate", *command]
    if damage is not None:
        damage()
    sys.exit(main(command))


class KillAtStep:
    """Kills its own process before the n-th change of a file: write (half of it done), sync, rename, removal.

    With `n` 0 it only counts, into the file `steps`.
    """

    def __init__(self, n: int) -> None:
        self.n, self.done = n, 0

    def __call__(self) -> None:
        for name in ("replace", "rename", "link", "fsync", "unlink", "chmod"):
            setattr(os, name, self.counted(getattr(os, name)))
        os.fdopen = lambda handle, mode: HalfWriter(io.FileIO(handle, mode), self)

    def counted(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def wrapper(*arguments: Any, **named: Any) -> Any:
            self.step()
            return function(*arguments, **named)

        return wrapper

    def step(self, before_end: Damage = lambda: None) -> None:
        self.done += 1
        if self.n == 0:
            Path("steps").write_text(str(self.done))
        if self.done == self.n:
            before_end()
            os.kill(os.getpid(), signal.SIGKILL)


class HalfWriter(io.BufferedWriter):
    """A file whose write can be cut in the middle."""

    def __init__(self, raw: io.RawIOBase, steps: KillAtStep) -> None:
        super().__init__(raw)
        self.steps = steps

    def write(self, data: Any) -> int:
        def half() -> None:
            super(HalfWriter, self).write(bytes(data)[: len(data) // 2])
            self.flush()

        self.steps.step(half)
        return super().write(data)


@dataclass(frozen=True)
class FullDisk:
    """Lets the file whose name contains `kind` grow to `limit` bytes only, by the kernel, until it is given up."""

    kind: str
    limit: int = 100

    def __call__(self) -> None:
        make, remove = tempfile.mkstemp, os.unlink

        def mkstemp(*arguments: Any, prefix: str = "", **named: Any) -> tuple[int, str]:
            if self.kind in prefix:
                resource.setrlimit(resource.RLIMIT_FSIZE, (self.limit, resource.RLIM_INFINITY))
            return make(*arguments, prefix=prefix, **named)

        def unlink(*arguments: Any, **named: Any) -> None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
            remove(*arguments, **named)

        tempfile.mkstemp, os.unlink = mkstemp, unlink


@dataclass(frozen=True)
class Signalled:
    """The process gets a signal, or ignores it, as soon as it has printed a line with these words."""

    words: str
    number: int
    ignored: bool = False

    def __call__(self) -> None:
        write, left = sys.stdout.write, [self.number]
        if self.number == signal.SIGHUP:
            signal.signal(self.number, signal.SIG_IGN if self.ignored else signal.SIG_DFL)

        def write_and_be_hit(text: str) -> int:
            written = write(text)
            if self.words in text and left:
                os.kill(os.getpid(), left.pop())
            return written

        sys.stdout.write = write_and_be_hit  # type: ignore[method-assign]
