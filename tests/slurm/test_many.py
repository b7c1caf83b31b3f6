"""Large numbers: 400 jobs submitted and cancelled, a dry run of 40,000 cells. Measured: docs/nersc.md."""

import os
import re
import signal
import subprocess
import time
from collections.abc import Callable

import pytest
from place import ACCOUNT, Place
from slurm_cluster import Cluster
from working_folder import wait_for

pytestmark = pytest.mark.full
LENGTHS = {"adding_problem": {"lengths": list(range(16, 416)), "placement": "extremes"}}


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


@pytest.mark.parametrize("profile", [(), ("--profile", "profiles/nersc")], ids=["plain", "nersc"])
def test_dry_run_of_40000_cells(new_place: Callable[..., Place], profile: tuple[str, ...]) -> None:
    place = new_place(models=["1a", "1b", "1c", "2a", "2d", "2e", "3a", "3b", "3c", "4a"], seeds=list(range(10)),
                      tasks=LENGTHS)
    began = time.monotonic()
    with (place.folder / "printed").open("wb") as printed:
        process = subprocess.Popen(place.command("-n", *profile), stdout=printed, stderr=printed, cwd=place.folder,
                                   env={**place.environment, **ACCOUNT})
        _, status, used = os.wait4(process.pid, 0)
    seconds = time.monotonic() - began
    assert status == 0, place.printed[-2000:]
    assert re.search(r"^train +40000$", place.printed, re.M)
    processor = used.ru_utime + used.ru_stime
    print(f"40,000 cells: {seconds:.0f} s, {processor:.0f} s of processor, {used.ru_maxrss * 1024 / 1e9:.2f} GB")
    assert used.ru_maxrss < 1e6    # KiB
