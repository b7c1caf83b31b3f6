"""Snakemake killed in the middle of a study: the next run goes on, and no cell is trained twice without need."""

import contextlib
import functools
import os
import signal
import subprocess
from pathlib import Path

import psutil
import pytest
import working_folder
from harness import Workplace
from tiny import tiny_study

PATIENCE_S = 200
wait_for = functools.partial(working_folder.wait_for, what="nothing happened", seconds=PATIENCE_S)


class StudyFolder(working_folder.WorkingFolder):
    """A working folder whose cells are trained for real."""

    @property
    def cells(self) -> list[Workplace]:
        study = self.study
        return [Workplace(self.folder, study, cell) for cell in study.cells]

    def begin(self, *arguments: str) -> subprocess.Popen:
        """Start Snakemake for the results alone, without a report."""
        targets = [str(place.output.relative_to(self.folder)) for place in self.cells]
        return self.start("--cores", "2", *arguments, "--", *targets, OMP_NUM_THREADS="1")

    def end(self, *arguments: str) -> None:
        assert self.begin(*arguments).wait(PATIENCE_S) == 0, self.printed

    def events(self, place: Workplace, name: str) -> int:
        return self.log(place.cell).count(f'"event": "{name}"')


def study_folder(folder: Path, epochs: int, **changes) -> StudyFolder:
    config = {**tiny_study(folder / "results").config, "results": "results", "seeds": [2024],
              "tasks": {"adding_problem": {"lengths": [16], "placement": "extremes"}}, "models": ["1b"], **changes}
    config["training"] |= {"max_epochs": epochs, "patience": epochs, "batch_size": 32}
    config["run"] |= {"checkpoint_interval_s": 0.2}
    return StudyFolder.make(folder, **config)


def identity(path: Path) -> tuple[int, int, bytes]:
    return path.stat().st_ino, path.stat().st_mtime_ns, path.read_bytes()


def checkpoints_of(place: StudyFolder) -> int:
    return sum(place.events(cell, "checkpoint") for cell in place.cells)


@pytest.mark.parametrize(("n_kills", "models"), [
    (1, ["1b"]), pytest.param(4, ["1b", "2a"], marks=[pytest.mark.full, pytest.mark.timeout(900)])])
def test_killed_with_all_its_jobs(tmp_path, n_kills, models):
    """The machine goes down, each time after some progress; the results equal those of an undisturbed study."""
    whole = study_folder(tmp_path / "whole", epochs=120, models=models)
    whole.end()
    place = study_folder(tmp_path / "study", epochs=120, models=models)
    for _ in range(n_kills):
        process, saved = place.begin(), checkpoints_of(place)
        wait_for(lambda saved=saved, process=process: checkpoints_of(place) > saved or process.poll() is not None)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    place.end()
    assert f"removed the lock of a Snakemake that was killed (process {process.pid} on " in place.printed
    assert sum(place.events(cell, "resume") for cell in place.cells) >= n_kills / 2
    assert [cell.files() for cell in place.cells] == [cell.files() for cell in whole.cells]
    assert {place.events(cell, "result") for cell in place.cells} == {1}
    assert [cell.leftovers() for cell in place.cells] == [[]] * len(models)


@pytest.mark.full
@pytest.mark.timeout(900)
def test_killed_alone_while_its_jobs_go_on(tmp_path):
    """The jobs finish without Snakemake; the next run takes their results as they are."""
    place = study_folder(tmp_path / "study", epochs=120, models=["1b", "2a"])
    process = place.begin()
    wait_for(lambda: all(cell.checkpoint.exists() for cell in place.cells))
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert not any(cell.output.exists() for cell in place.cells)
    wait_for(lambda: all(cell.output.exists() and not cell.checkpoints() for cell in place.cells))
    before = [identity(cell.output) for cell in place.cells]
    for arguments in (("-n",), ()):
        place.end(*arguments)
    assert [identity(cell.output) for cell in place.cells] == before
    assert [place.events(cell, "start") + place.events(cell, "resume") for cell in place.cells] == [1, 1]


@pytest.mark.full
@pytest.mark.timeout(900)
def test_a_job_killed_for_memory_is_tried_again_and_goes_on(tmp_path):
    """The kernel kills the trainer: Snakemake says so, and its next try resumes from the checkpoint."""
    place = study_folder(tmp_path / "study", epochs=120)
    (cell,) = place.cells
    process = place.begin("--retries", "1")
    wait_for(cell.checkpoint.exists)
    trainers = [found.pid for found in psutil.process_iter(["cmdline", "cwd"])
                if "train" in (found.info["cmdline"] or []) and found.info["cwd"] == str(place.folder)]
    os.kill(min(trainers), signal.SIGKILL)
    assert process.wait(PATIENCE_S) == 0
    said = place.printed
    assert "Killed" in said
    assert "exited with non-zero exit code" in said or "137" in said
    assert (place.events(cell, "start"), place.events(cell, "resume"), place.events(cell, "result")) == (1, 1, 1)
