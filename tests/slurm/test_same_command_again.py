"""profiles/nersc against a real Slurm, with stand-ins for cells: whatever happened, the same command again finishes."""

import os
import re
import signal
import time
from collections import Counter
from collections.abc import Callable

import pytest
from place import QUICKLY, Place
from slurm_cluster import Cluster
from working_folder import wait_for

HIDES_THE_ENDED = """#!/bin/sh
squeue=$(which -a squeue | grep -vxF "$0" | head -n 1)    # its own folder may be in PATH twice
"$squeue" "$@" | grep -v COMPLETED
exit 0
"""
LOSES_THE_FIRST = """#!/bin/sh
case "$*" in *--test-only*) ;; *) mkdir "$0.lost" 2>/dev/null && { echo 999; exit; } ;; esac
exec "$(which -a sbatch | grep -vxF "$0" | head -n 1)" "$@"
"""


@pytest.fixture
def place(cluster: Cluster, new_place: Callable[..., Place]) -> Place:
    place = new_place(models=["3a", "3b"], seeds=[1, 2, 3])
    place.stand_in()
    place.use(cluster)
    return place


def started(place: Place) -> Counter[str]:
    """How often each cell was started."""
    logs = (place.folder / "results/logs/train").glob("*.log")
    return Counter({path.stem: len(re.findall("^training ", path.read_text(), re.M)) for path in logs})


def type_again(place: Place, meanwhile: Callable[[], None] = lambda: None) -> str:
    """Type the command again, and return what it prints until all is done."""
    before = len(place.printed)
    place.start(*QUICKLY)
    meanwhile()
    place.finish(200)
    assert "Traceback" not in place.printed[before:]
    return place.printed[before:]


def test_snakemake_killed_while_jobs_wait_and_run(place: Place, cluster: Cluster) -> None:
    """The next one waits for the jobs; one that is cancelled then is submitted again."""
    gate = place.folder / "gate"    # cells wait for it to go
    gate.touch()

    def cancel_one() -> None:
        wait_for(lambda: place.printed.count("has been submitted") == 12, "all jobs, twice")
        cluster.command("scancel", next(line for line in cluster.queue() if "PENDING" in line).split()[0])
        gate.unlink()

    run = place.start(*QUICKLY)
    at_work = ["PENDING"] * 2 + ["RUNNING"] * 4
    wait_for(lambda: sorted(cluster.queue("%T")) == at_work, "four of six jobs at work", 100)
    wait_for(lambda: place.printed.count("has been submitted") == 6, "all jobs")
    os.killpg(run.pid, signal.SIGKILL)
    run.wait()
    printed = type_again(place, cancel_one)
    assert f"removed the lock of a Snakemake that was killed (process {run.pid} on " in printed
    assert "6 jobs of an earlier start are still in the queue: waited for" in printed
    assert printed.count("has been submitted") == 7
    assert "CANCELLED" in printed
    assert set(started(place).values()) == {1}
    assert not cluster.queue()
    assert not list(place.folder.glob(".snakemake/locks/*"))


@pytest.mark.full
@pytest.mark.timeout(600)
def test_slurm_does_not_answer_for_20_seconds(place: Place, cluster: Cluster) -> None:
    """Neither before the first job nor while jobs run; no attempt is used up."""
    with cluster.outage():
        place.start(*QUICKLY, QABLATE_FAKE_SECONDS="25")
        wait_for(lambda: place.printed.count("asking again until Slurm answers") == 1, "a line on the outage", 60)
        time.sleep(20)
    wait_for(lambda: len(started(place)) == 4, "four cells at work", 100)
    with cluster.outage():
        time.sleep(20)
    place.finish(300)
    assert set(started(place).values()) == {1}
    assert "sbatch failed" not in place.printed


def test_job_that_slurm_has_lost_is_submitted_again(place: Place, cluster: Cluster) -> None:
    """It has ended as far as Slurm can tell, but its cell has no result."""
    place.program("sbatch", LOSES_THE_FIRST)
    place.start(*QUICKLY)
    place.finish(200)
    assert place.printed.count("has been submitted") == 7
    assert "SLURM jobid 999" in place.printed


@pytest.mark.full
def test_interrupted_while_slurm_does_not_answer(place: Place, cluster: Cluster) -> None:
    run = place.start(*QUICKLY)
    wait_for(lambda: "has been submitted" in place.printed, "a first job", 100)
    with cluster.outage():
        time.sleep(5)
        os.kill(run.pid, signal.SIGINT)
        assert run.wait(60) == 1, place.printed
    type_again(place)


@pytest.mark.full
def test_snakemake_paused_until_its_jobs_are_forgotten(place: Place, cluster: Cluster) -> None:
    place.program("squeue", HIDES_THE_ENDED)
    run = place.start(*QUICKLY, QABLATE_FAKE_SECONDS="5")
    wait_for(lambda: "has been submitted" in place.printed, "a first job", 100)
    os.kill(run.pid, signal.SIGSTOP)
    wait_for(lambda: not cluster.queue(), "an empty queue", 100)
    os.kill(run.pid, signal.SIGCONT)
    place.finish(300)
    assert set(started(place).values()) == {1}


@pytest.mark.full
@pytest.mark.timeout(600)
def test_requeued_and_cancelled(place: Place, cluster: Cluster) -> None:
    place.start(*QUICKLY, QABLATE_FAKE_SECONDS="20")
    wait_for(lambda: cluster.queue("%T").count("RUNNING") == 4, "four jobs at work", 100)
    first, second, *_ = [line.split()[0] for line in cluster.queue() if line.endswith("RUNNING")]
    cluster.command("scontrol", "requeue", first)
    cluster.command("scancel", second)
    place.finish(400)
