"""A working folder with a copy of the workflow, in which Snakemake is run as a user runs it."""

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import yaml

from qablate.config import load_config, read_yaml
from qablate.study import Cell, Study

ROOT = Path(__file__).parents[1]
TINY = {
    "name": "tiny",
    "models": ["1b", "3a"],
    "seeds": [1, 2],
    "data": {"n_samples": 100},
    "tasks": {"adding_problem": {"lengths": [16], "placement": "extremes"}},
    "training": {"recipe": "tiny", "max_epochs": 3, "patience": 20, "batch_size": 32, "learning_rate": 0.001,
                 "weight_decay": 0.0001, "clip_norm": 1.0},
}
MESSAGE = re.compile(r"^(?:Job \d+: )?train (\S+) on ([\w-]+), length (\d+), seed (\d+) \((\w+)\)$", re.M)


def wait_for(condition: Callable[[], object], what: str, seconds: float = 200) -> None:
    """Ask until it is so; an error that says what did not come about."""
    until = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > until:
            raise TimeoutError(f"not within {seconds:g} s: {what}")
        time.sleep(0.1)


@dataclass
class Run:
    """What one call of Snakemake printed, and the cells it named: cell -> missing, stale or unreadable."""

    code: int
    text: str
    cells: dict[Cell, str] = field(init=False)

    def __post_init__(self) -> None:
        found = MESSAGE.findall(self.text)
        self.cells = {Cell(m, task, int(length), int(seed)): state for m, task, length, seed, state in found}

    @property
    def train_jobs(self) -> int:
        """Number of jobs of rule train in Snakemake's own table (0 without one)."""
        row = re.search(r"^train +(\d+)$", self.text, re.M)
        return int(row[1]) if row else 0


@dataclass
class WorkingFolder:
    """Snakefile, rules, profiles and settings, and the environment that programs find there."""

    folder: Path
    environment: dict[str, str]

    @classmethod
    def make(cls, folder: Path, settings: Mapping[str, Any] | None = None, **more: Any) -> Self:
        """Copy the workflow, with these top-level settings for its own; no job around this process is seen there."""
        folder.mkdir(exist_ok=True)
        for name in ("Snakefile", "config.yaml"):
            shutil.copy(ROOT / name, folder)
        for name in ("workflow", "profiles"):
            shutil.copytree(ROOT / name, folder / name)
        if changed := {**(settings or {}), **more}:
            config = {**read_yaml(ROOT / "config.yaml"), **changed}
            (folder / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
        environment = {key: value for key, value in os.environ.items() if not re.match("(SLURM|SBATCH)_", key)}
        path = f"{folder}/bin{os.pathsep}{os.environ['PATH']}"
        code = f"{ROOT}/tests{os.pathsep}{ROOT}/src"    # of this checkout, whichever is installed
        return cls(folder, {**environment, "PATH": path, "PYTHONPATH": code, "COLUMNS": "80"})

    @property
    def study(self) -> Study:
        """The study of this folder, with its results folder as seen from outside."""
        study = Study(load_config([self.folder / "config.yaml"]))
        study.results = self.folder / study.results
        return study

    @property
    def report(self) -> Path:
        """The combined report of this folder's study."""
        return self.folder / "results/combined_report.md"

    def command(self, *arguments: str) -> list[str]:
        """The words that run Snakemake."""
        return [sys.executable, "-m", "snakemake", *arguments]

    def log(self, cell: Cell) -> str:
        """The log of a cell, empty before it starts."""
        path = self.folder / f"results/logs/train/{cell.name}.log"
        return path.read_text() if path.exists() else ""

    def run(self, *arguments: str, **environment: str) -> Run:
        """Run Snakemake to its end."""
        done = subprocess.run(self.command(*arguments), cwd=self.folder, env={**self.environment, **environment},
                              text=True, capture_output=True, timeout=240, check=False)
        return Run(done.returncode, done.stdout + done.stderr)

    def start(self, *arguments: str, words: Sequence[str] = (), **environment: str) -> "subprocess.Popen[bytes]":
        """Start Snakemake (or these words) in a session of its own; what it prints goes to the file `printed`."""
        with (self.folder / "printed").open("ab") as printed:
            return subprocess.Popen(words or self.command(*arguments), cwd=self.folder, stdout=printed, stderr=printed,
                                    env={**self.environment, **environment}, start_new_session=True)

    @property
    def printed(self) -> str:
        """What started runs have printed so far."""
        return (self.folder / "printed").read_text()

    def program(self, name: str, text: str) -> None:
        """Put a program before all others of its name."""
        path = self.folder / "bin" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        path.chmod(0o755)

    def stand_in(self) -> None:
        """Replace `qablate` by tests/stand_in.py, which writes results instead of training.

        The workflow puts its own environment first in PATH; only here, the folder's programs come before it.
        """
        with (self.folder / "Snakefile").open("a") as file:
            file.write(f'\n\nos.environ["PATH"] = {str(self.folder / "bin")!r} + os.pathsep + os.environ["PATH"]\n')
        self.program("qablate", f'#!/bin/sh\nexec "{sys.executable}" "{ROOT}/tests/stand_in.py" "$@"\n')
