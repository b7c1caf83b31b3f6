"""Profiles that share out one machine: a whole node with four GPUs by job steps or by locks, a box with one GPU."""

import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from place import Place
from slurm_cluster import GPUS, Cluster
from working_folder import wait_for

NODE = ("--latency-wait", "5")
JOB = "profiles/nersc-node/job.sh"


def at_once(noted: list[dict[str, Any]], weight: Callable[[dict[str, Any]], int] = lambda cell: 1) -> int:
    """The most cells (or their weights) at work at the same time."""
    return max(sum(weight(other) for other in noted if other["began"] <= cell["began"] < other["ended"])
               for cell in noted)


@pytest.fixture
def node(cluster: Cluster, new_place: Callable[..., Place]) -> Place:
    """A place whose cells are stand-ins, beside a Slurm with one node of four fake GPUs."""
    place = new_place()
    place.stand_in()
    place.program("snakemake", f'#!/bin/sh\nexec {sys.executable} -m snakemake "$@"\n')
    place.use(cluster)
    return place


def submit(place: Place, cluster: Cluster, *words: str, seconds: float) -> None:
    """Submit the job of a whole node, and wait until it has ended."""
    environment = {**place.environment, "QABLATE_FAKE_SECONDS": f"{seconds:g}"}
    subprocess.run(["sbatch", *words, JOB, *NODE], cwd=place.folder, env=environment, capture_output=True, check=True)
    wait_for(lambda: not cluster.queue(), "the end of the allocation", 200)


def printed_by(place: Place) -> str:
    return "".join(path.read_text() for path in place.folder.glob("syn-node-*.log"))


@pytest.mark.parametrize("cells_a_gpu", [1, pytest.param(2, marks=pytest.mark.full)])
def test_whole_node_keeps_each_gpu_busy(node: Place, cluster: Cluster, cells_a_gpu: int) -> None:
    if cells_a_gpu == 2:
        profile = "profiles/nersc-node/config.yaml"
        node.replace(profile, "  gpu: 4 ", "  gpu: 8 ")
        node.replace(profile, "    launcher: srun --exact -N1 -n1 -c32 --gpus-per-node=1 --mem=50G",
                     "    launcher: profiles/nersc-node/share-gpus 2")
    submit(node, cluster, "--time=5", seconds=4)
    noted = node.starts_and_ends()
    assert node.done() == set(node.study.cells), printed_by(node)
    assert at_once(noted) == cells_a_gpu * GPUS
    assert Counter(cell["device"] for cell in noted) == {str(gpu): 2 for gpu in range(GPUS)}
    for gpu in range(GPUS):
        assert at_once([cell for cell in noted if cell["device"] == str(gpu)]) == cells_a_gpu
    assert node.report.read_text() == "8 cells"


def test_no_cell_starts_when_all_places_are_taken(new_place: Callable[..., Place]) -> None:
    place, parts = new_place(), ["MIG-GPU-5/1/0", "MIG-GPU-5/2/0"]    # a part of a GPU has slashes in its name
    command = ["profiles/nersc-node/share-gpus", "2", "sh", "-c", "echo $CUDA_VISIBLE_DEVICES; exec sleep 60"]
    environment = {**place.environment, "CUDA_VISIBLE_DEVICES": ",".join(parts), "TMPDIR": str(place.folder)}
    cells = []

    def started_on() -> str:
        cells.append(subprocess.Popen(command, cwd=place.folder, env=environment, stdout=subprocess.PIPE, text=True))
        assert cells[-1].stdout
        return cells[-1].stdout.readline().strip()

    assert [started_on() for _ in range(4)] == parts * 2
    refused = subprocess.run(command, cwd=place.folder, env=environment, capture_output=True, text=True, check=False)
    assert (refused.returncode, "all 2 GPUs hold 2 cells" in refused.stderr) == (1, True)
    cells[1].kill()
    cells[1].wait()
    assert started_on() == parts[1]    # a killed cell leaves its place
    for cell in cells:
        cell.kill()
        cell.wait()


@pytest.mark.full
def test_whole_node_ends_in_good_time_and_the_next_goes_on(node: Place, cluster: Cluster) -> None:
    """Cells that would outlive the allocation end with it, the folder is unlocked, the next allocation finishes."""
    submit(node, cluster, "--time=2", "--signal=B:INT@95", seconds=600)
    assert not node.done()
    submit(node, cluster, "--time=5", seconds=0)
    assert node.done() == set(node.study.cells), printed_by(node)


def test_dgx_never_runs_more_cells_than_slots(new_place: Callable[..., Place]) -> None:
    """Also survives logout: the terminal's hang-up reaches every process, and nohup's children go on."""
    place = new_place()
    place.stand_in()
    place.program("snakemake", f'#!/bin/sh\nexec {sys.executable} -m snakemake "$@"\n')
    gate, slots = place.folder / "gate", {"2d": 2}
    gate.touch()    # cells wait for it to go
    run = place.start(words=["nohup", "snakemake", "--profile", "profiles/dgx"], QABLATE_FAKE_SECONDS="0.5")
    wait_for(lambda: sum(slots.get(cell.model, 1) for cell in place.study.cells if place.log(cell)) == 3, "three slots")
    os.killpg(run.pid, signal.SIGHUP)
    gate.unlink()
    assert run.wait(200) == 0, place.printed
    assert place.done() == set(place.study.cells)
    assert at_once(place.starts_and_ends(), lambda cell: slots.get(cell["model"], 1)) <= 3
    assert all("on system dgx" in place.log(cell) for cell in place.study.cells)
