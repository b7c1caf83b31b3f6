"""What else goes wrong: too little memory, a bug, a missing GPU, a hostile path in a record."""

import hashlib
import os
import resource
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from factories import write_results
from harness import copy_of, workplace

from qablate.results import read_record, state_of


@dataclass(frozen=True)
class LittleMemory:
    """Leaves the process `megabytes` more than it has."""

    megabytes: int

    def __call__(self) -> None:
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        limit = pages * resource.getpagesize() + self.megabytes * 1_000_000
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs Linux's /proc")
def test_out_of_memory_then_enough(tmp_path):
    place = workplace(tmp_path / "cell", training={"max_epochs": 1, "batch_size": 4096}, model={"d_model": 128},
                      data={"n_samples": 5000})
    whole = copy_of(place, tmp_path / "whole")
    assert whole.run() == 0
    assert place.run(LittleMemory(60)) == 1
    assert place.events()[-1] == {"event": "fail", "reason": "out of memory"}
    (line,) = place.messages()
    assert "1b_adding_problem_L16_seed2024: out of memory" in line
    assert "Traceback" not in place.log.read_text()
    assert not place.output.exists()
    assert place.run() == 0
    assert place.files() == whole.files()


class NoModel:
    """A bug: building the model divides by zero."""

    def __call__(self) -> None:
        from qablate.training import cell

        cell.build_model = lambda *_: 1 / 0


def test_a_bug_is_logged_with_its_trace_and_its_reason(place, whole):
    assert place.run(NoModel()) == 1
    assert place.events()[-1] == {"event": "fail", "reason": "ZeroDivisionError: division by zero"}
    assert "Traceback" in place.log.read_text()
    assert not place.output.exists()
    assert place.run() == 0
    assert place.files() == whole.files()


def test_a_missing_gpu_is_the_last_event(place):
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    assert place.run(command=[*place.command(), "--device", "cuda"]) == 2
    (line,) = place.messages()
    assert f"torch {torch.__version__} sees no GPU" in line
    assert place.events()[-1] == {"event": "fail", "reason": line.removeprefix("qablate: ")}


class OpensNothing:
    """Ends the process with 99 when it opens a file of this name."""

    def __call__(self) -> None:
        sys.addaudithook(lambda event, arguments: os._exit(99)
                         if event == "open" and "secret" in str(arguments[0]) else None)


@pytest.mark.parametrize("command", [None, pytest.param(["report", "--partial"], marks=pytest.mark.full)])
def test_no_path_inside_a_record_is_followed(place, tmp_path, command):
    secret = tmp_path / "secret.npz"
    np.savez(secret, outputs=np.zeros((12, 1)))
    predictions = {"file": str(secret), "sha256": hashlib.sha256(secret.read_bytes()).hexdigest(), "n": 12}
    write_results(place.study, [place.cell], predictions=predictions)
    assert read_record(place.output)["predictions"]["file"] == str(secret)
    assert state_of(place.study, place.cell).state == "done"
    assert place.run(OpensNothing(), command) == 0
    (place.folder / "secret.yaml").write_text("{}")    # the hook bites
    assert place.run(OpensNothing(), [*place.command(), "--config", "config.yaml", "secret.yaml"]) == 99
