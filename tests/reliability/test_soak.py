"""Random mishaps on a tiny study: whatever happens, no valid result is lost and the next plain run ends complete."""

import contextlib
import hashlib
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from factories import record_of
from working_folder import ROOT, TINY, WorkingFolder

from qablate.plan import Plan
from qablate.records import write_record
from qablate.results import state_of
from qablate.study import Cell, Study


@dataclass
class Soak(WorkingFolder):
    """A working folder, and every content that was ever a valid result there."""

    rng: random.Random = field(default_factory=random.Random)
    valid: set[str] = field(default_factory=set)

    def any_cell(self) -> Cell:
        return self.rng.choice(self.study.cells)

    def note_valid(self) -> None:
        study = self.study
        self.valid |= {digest(study.result_path(cell)) for cell in study.cells if state_of(study, cell).state.finished}

    def lost(self) -> set[str]:
        folders = (self.study.result_folder, self.study.results / "superseded")
        return self.valid - {digest(path) for folder in folders for path in folder.glob("*.json")}


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def kill_snakemake(soak: Soak) -> None:
    """Alone, or with all its jobs; the folder stays locked."""
    process = soak.start(QABLATE_FAKE_SECONDS="0.5")
    time.sleep(soak.rng.uniform(0.5, 6))
    kill = soak.rng.choice([os.kill, os.killpg])
    with contextlib.suppress(ProcessLookupError):
        kill(process.pid, signal.SIGKILL)
    process.wait()
    assert soak.run("--unlock").code == 0


def kill_trainer(soak: Soak) -> None:
    soak.run(QABLATE_FAKE_DIE=soak.any_cell().name)


def copy_in(soak: Soak) -> None:
    """As `cp -n` does it, while Snakemake runs; in a third of the cases the trainer of that cell fails meanwhile."""
    cell = soak.any_cell()
    fails = {"QABLATE_FAKE_FAIL": cell.name} if soak.rng.random() < 0.3 else {}
    process = soak.start(QABLATE_FAKE_SECONDS="0.5", **fails)
    time.sleep(soak.rng.uniform(0, 5))
    source = soak.folder / "elsewhere" / cell.result_name
    write_record(source, record_of(soak.study, cell, training_time=soak.rng.random()))
    soak.study.result_folder.mkdir(exist_ok=True)
    with contextlib.suppress(FileExistsError):
        os.link(source, soak.study.result_path(cell))
        soak.valid.add(digest(source))
    source.unlink()
    process.wait(200)


def force(soak: Soak) -> None:
    result = f"results/synthetic_benchmarks/{soak.any_cell().result_name}"
    soak.run(*soak.rng.choice([("-F",), ("-R", "train"), ("-f", result), ("-F", result), ("--rerun-incomplete",),
                               ("--rerun-triggers", "code", "params", "mtime"),
                               ("--workflow-profile", "profiles/local")]))


def purge_datasets(soak: Soak) -> None:
    shutil.rmtree(soak.study.results / "datasets", ignore_errors=True)


def set_times(soak: Soak) -> None:
    then = soak.rng.choice([0.0, time.time() + 86_400])
    for path in soak.study.results.rglob("*"):
        if soak.rng.random() < 0.7:
            os.utime(path, (then, then))


def two_snakemakes(soak: Soak) -> None:
    other = Soak(soak.folder.with_name("b"), soak.environment)
    processes = [place.start(QABLATE_FAKE_SECONDS="0.2") for place in (soak, other)]
    for process in processes:
        process.wait(200)


def requeue(soak: Soak) -> None:
    """A job that lives on: the same cell is trained twice at once."""
    cell = soak.any_cell()
    result = f"results/synthetic_benchmarks/{cell.result_name}"
    words = ["train", "--config", "config.yaml", "--model", cell.model, "--task", cell.task, "--length",
             str(cell.length), "--seed", str(cell.seed), "--output", result]
    job = subprocess.Popen([sys.executable, ROOT / "tests/stand_in.py", *words], cwd=soak.folder,
                           env={**soak.environment, "QABLATE_FAKE_SECONDS": "2"}, stdout=subprocess.DEVNULL)
    soak.run()
    job.wait(200)


MISHAPS: tuple[Callable[[Soak], None], ...] = (
    kill_snakemake, kill_trainer, copy_in, force, purge_datasets, set_times, two_snakemakes, requeue)


def take_away(soak: Soak) -> None:
    """Give the mishaps something to train: a result is moved to the kept ones; a stale or a broken one may come."""
    study = soak.study
    for cell in study.cells:
        result = study.result_path(cell)
        kind = soak.rng.choice(["stay", "missing", "stale", "broken"])
        if kind == "stay" or not result.is_file():
            continue
        kept = study.results / "superseded" / f"{result.stem}.{digest(result)[:16]}.json"
        kept.parent.mkdir(exist_ok=True)
        result.replace(kept)
        if kind == "stale":
            write_record(result, record_of(study, cell, hyperparameters={"batch_size": 16}))
        elif kind == "broken":
            result.write_text('{"model_id": "3a", ')


@pytest.mark.parametrize("n", [4, pytest.param(200, marks=[pytest.mark.full, pytest.mark.timeout(7200)])])
def test_no_mishap_loses_a_valid_result(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, n: int) -> None:
    soak, other = (Soak.make(tmp_path / name, **{**TINY, "models": ["3a"]}) for name in "ab")
    (tmp_path / "a/results").mkdir()
    (tmp_path / "b/results").symlink_to(tmp_path / "a/results")
    for place in (soak, other):
        place.stand_in()
    soak.rng.seed(n)
    monkeypatch.chdir(soak.folder)
    deck: list[Callable[[Soak], None]] = []
    for turn in range(n):
        take_away(soak)
        deck, size = deck or soak.rng.sample(MISHAPS, k=len(MISHAPS)), (turn + 1) % 3 + 1    # 2, 3, 1, 2: four turns
        mishaps, deck = deck[:size], deck[size:]                                              # meet each of the eight
        told = f"{turn}: {', '.join(mishap.__name__ for mishap in mishaps)}"
        for mishap in mishaps:
            mishap(soak)
            soak.note_valid()
            assert not soak.lost(), told
        last = soak.run()
        assert last.code == 0, f"{told}\n{last.text[-2000:]}"
        soak.note_valid()
        assert not soak.lost(), told
        study = Study.load(["config.yaml"])
        assert not Plan(study).to_train and not Plan(study).report_due, told
        print(told, flush=True)
