"""A copy of the workflow in a folder of its own, run as a user runs it, with a stand-in for the trainer."""

import os
import re
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import yaml

from qablate.config import load_config, read_yaml
from qablate.study import Cell, Study

ROOT = Path(__file__).parents[2]
MESSAGE = re.compile(r"^Job \d+: train (\S+) on (\w+), length (\d+), seed (\d+) \((\w+)\)$", re.M)
TINY = {
    "name": "tiny",
    "models": ["1b", "3a"],
    "seeds": [1, 2],
    "data": {"n_samples": 100},
    "tasks": {"adding_problem": {"lengths": [16], "placement": "extremes"}},
    "training": {"recipe": "tiny", "max_epochs": 3, "patience": 20, "batch_size": 32, "learning_rate": 0.001,
                 "weight_decay": 0.0001, "clip_norm": 1.0},
}


@dataclass
class Run:
    """What one call of Snakemake printed, and the cells it named: cell -> missing, stale or unreadable."""

    code: int
    text: str
    errors: str
    cpu_seconds: float
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
class Workspace:
    """A working folder with Snakefile, rules, profiles and config."""

    folder: Path
    environment: dict[str, str]

    @property
    def study(self) -> Study:
        """The study of this folder's config, with its results folder as seen from outside."""
        study = Study(load_config([self.folder / "config.yaml"]))
        study.results = self.folder / study.results
        return study

    @property
    def report(self) -> Path:
        """The combined report of this folder's study."""
        return self.folder / "results/combined_report.md"

    def snakemake(self, *arguments: str, **environment: str) -> Run:
        """Run Snakemake here, standard output and errors taken together."""
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        done = subprocess.run(
            [sys.executable, "-m", "snakemake", *arguments], cwd=self.folder, text=True, capture_output=True,
            env={**self.environment, **environment}, timeout=200, check=False,
        )
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        return Run(done.returncode, done.stdout + done.stderr, done.stderr, seconds)

    def cell(self, model: str, seed: int) -> Cell:
        """A cell of the tiny study."""
        return Cell(model, "adding_problem", 16, seed)


@pytest.fixture(scope="session")
def new_workspace(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Workspace]]:
    def make(config: dict | None = None) -> Workspace:
        folder = tmp_path_factory.mktemp("study")
        for name in ("Snakefile", "config.yaml"):
            shutil.copy(ROOT / name, folder)
        for name in ("workflow", "profiles"):
            shutil.copytree(ROOT / name, folder / name)
        if config:
            (folder / "config.yaml").write_text(yaml.safe_dump({**read_yaml(ROOT / "config.yaml"), **config}))
        program = folder / "bin/qablate"
        program.parent.mkdir()
        program.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{ROOT}/tests/workflow/fake_qablate.py" "$@"\n')
        program.chmod(0o755)
        path = f"{program.parent}{os.pathsep}{os.environ['PATH']}"
        return Workspace(folder, {**os.environ, "PATH": path, "PYTHONPATH": str(ROOT / "tests"), "COLUMNS": "80"})

    yield make


@pytest.fixture
def tiny(new_workspace: Callable[..., Workspace]) -> Workspace:
    return new_workspace(TINY)
