"""profiles/nersc against a real Slurm: whatever ends a job, its cell goes on from the checkpoint and ends bit-equal."""

import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
from place import QUICKLY, Place
from slurm_cluster import Cluster
from tiny import files_of
from working_folder import wait_for

from qablate.cli import main
from qablate.results import read_record
from qablate.study import Cell

SLOW = Path(__file__).parent / "slow_cell.py"


@pytest.fixture
def new_nersc(cluster: Cluster, new_place: Callable[..., Place]) -> Callable[..., Place]:
    def make(**changes: Any) -> Place:
        """A minute for the first attempt, two for the second."""
        place = new_place(**changes)
        place.replace("profiles/nersc/config.yaml", "    nodes: 1 ", "    runtime: attempt\n    nodes: 1 ")
        place.use(cluster)
        return place

    return make


def job_of(cluster: Cluster, cell: Cell) -> str | None:
    """Number of the running job of a cell."""
    comment = f"rule_train_wildcards_{cell.model}_{cell.task}_{cell.length}_{cell.seed}"
    lines = (line.split() for line in cluster.queue("%i %k %T"))
    return next((job for job, found, state in lines if (found, state) == (comment, "RUNNING")), None)


def processes_in(folder: Path) -> list[str]:
    """Commands of the processes that work in a folder."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.status() != psutil.STATUS_ZOMBIE and process.cwd().startswith(str(folder)):
                found.append(" ".join(process.cmdline()))
        except psutil.Error:
            continue
    return found


def train_undisturbed(place: Place, cells: tuple[Cell, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place.folder)
    for cell in cells:
        words = ["--task", cell.task, "--length", str(cell.length), "--seed", str(cell.seed)]
        assert main(["dataset", *words]) == 0
        assert main(["train", *words, "--model", cell.model]) == 0


@pytest.mark.full
@pytest.mark.timeout(600)    # under three minutes; more where others work too
def test_cells_arrive_whatever_happens_to_their_jobs(
    new_nersc: Callable[..., Place], new_place: Callable[..., Place], cluster: Cluster,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    place = new_nersc(run={"checkpoint_interval_s": 0, "max_seconds": 25})
    place.stand_in()    # so that programs of the folder come first in PATH; the next line puts another in its place
    place.program("qablate", f'#!/bin/sh\nexec "{sys.executable}" "{SLOW}" "$@"\n')
    by_model = {cell.model: cell for cell in place.study.cells if cell.seed == 1}
    out_of_budget, out_of_time, cancelled = by_model["3b"], by_model["1b"], by_model["3a"]
    place.start(*QUICKLY, QABLATE_TEST_SLOW=out_of_budget.name,
                QABLATE_TEST_HANG=f"{out_of_time.name} {cancelled.name}")
    wait_for((place.folder / f"hung_{cancelled.name}").exists, "a cell in its sixth batch", 200)
    cluster.command("scancel", str(job_of(cluster, cancelled)))
    place.finish(300)
    assert (place.folder / "results/combined_report.md").exists()
    assert '"reason": "wall-clock budget of 25 s"' in place.log(out_of_budget)
    assert not cluster.queue()
    assert not processes_in(place.folder)
    ended = place.printed
    assert "TIMEOUT" in ended
    assert "CANCELLED" in ended

    disturbed = (out_of_budget, out_of_time, cancelled)
    whole = new_place("whole")
    train_undisturbed(whole, disturbed, monkeypatch)
    for cell in disturbed:
        assert read_record(place.study.result_path(cell))["training"]["n_resumes"] >= 1
        assert files_of(place.study, cell) == files_of(whole.study, cell)


@pytest.mark.full
@pytest.mark.timeout(900)    # a minute and a half; more where others work too
def test_interrupting_leaves_no_job_and_loses_no_cell(new_nersc: Callable[..., Place], cluster: Cluster) -> None:
    place = new_nersc(models=["3a", "3b"], seeds=[1, 2, 3])
    place.stand_in()
    run = place.start(*QUICKLY, QABLATE_FAKE_SECONDS="600")
    at_work = ["PENDING"] * 2 + ["RUNNING"] * 4
    wait_for(lambda: sorted(cluster.queue("%T")) == at_work, "four of six jobs at work", 300)
    wait_for(lambda: sum("stand_in.py" in command for command in processes_in(place.folder)) >= 2, "cells", 180)
    began = time.monotonic()
    os.kill(run.pid, signal.SIGINT)
    assert run.wait(180) == 1, place.printed
    wait_for(lambda: not cluster.queue(), "an empty queue", 90)
    wait_for(lambda: not processes_in(place.folder), "no process of the study", 90)
    print(f"interrupted and gone in {time.monotonic() - began:.1f} s")
    assert not place.done()

    again = place.run(*QUICKLY)
    assert again.code == 0, again.text
    assert place.done() == set(place.study.cells)


@pytest.mark.full
@pytest.mark.timeout(1500)    # a minute or two; more where others work too
def test_400_jobs_are_submitted_and_cancelled(cluster: Cluster, new_place: Callable[..., Place]) -> None:
    place = new_place(seeds=list(range(100)))
    place.stand_in()
    place.use(cluster)
    cluster.command("scontrol", "update", "NodeName=nid1", "State=drain", "Reason=test")
    try:
        run = place.start("--profile", "profiles/nersc")
        wait_for(cluster.queue, "a first job", 120)
        began = time.monotonic()
        wait_for(lambda: len(cluster.queue()) == 400, "400 jobs", 900)
        submitted = time.monotonic()
        os.kill(run.pid, signal.SIGINT)
        assert run.wait(300) == 1, place.printed
        wait_for(lambda: not cluster.queue(), "an empty queue", 180)
        print(f"400 submitted in {submitted - began:.0f} s, cancelled in {time.monotonic() - submitted:.0f} s")
    finally:
        cluster.command("scontrol", "update", "NodeName=nid1", "State=resume")
