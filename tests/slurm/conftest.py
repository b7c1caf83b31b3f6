"""Copies of the workflow in folders of their own, run through the cluster profiles; a Slurm for them, if installed."""

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from place import SMALL, Place
from slurm_cluster import Cluster, missing_here
from working_folder import ROOT

from qablate.config import merge, read_yaml


@pytest.fixture
def new_place(tmp_path: Path) -> Iterator[Callable[..., Place]]:
    """Make places; what was started in them and still runs at the end is killed with its children."""
    places: list[Place] = []

    def make(name: str = "study", **changes: Any) -> Place:
        config = merge(merge(read_yaml(ROOT / "config.yaml"), SMALL), changes)
        places.append(Place.make(tmp_path / name, config, tasks=SMALL["tasks"]))
        for profile in ("nersc", "nersc-node", "dgx"):    # its GPUs are none for torch
            places[-1].replace(f"profiles/{profile}/config.yaml", "device: cuda ", "device: cpu ")
        return places[-1]

    yield make
    for process in (process for place in places for process in place.started if process.poll() is None):
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@pytest.fixture(scope="session")
def _session_cluster() -> Iterator[Cluster]:
    if missing := missing_here():
        pytest.skip(f"no Slurm here, lacking: {', '.join(missing)}; docs/nersc.md has the line that installs it")
    with Cluster() as cluster:
        yield cluster


@pytest.fixture
def cluster(_session_cluster: Cluster) -> Iterator[Cluster]:
    """A running Slurm with one node of 4 fake GPUs; jobs that a test leaves are cancelled after it."""
    yield _session_cluster
    _session_cluster.cancel_all()
