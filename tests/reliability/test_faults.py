"""What else goes wrong: memory, damaged and forged checkpoints, a missing GPU, a bug, a closed pipe, a hostile path."""

import hashlib
import io
import math
import os
import resource
import signal
import sys
import tracemalloc
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from factories import write_results
from harness import KillAtStep, Workplace, copy_of, workplace

from qablate.results import read_record, state_of
from qablate.selfcheck import SelfCheckError
from qablate.training.checkpoint import CheckpointDamaged, previous, read_checkpoint
from qablate.training.loop import Training


@pytest.fixture
def halfway(fresh, tmp_path) -> Workplace:
    """A cell that was killed and has checkpoints of two generations."""
    place = copy_of(fresh, tmp_path / "halfway")
    assert place.run(KillAtStep(16)) == -signal.SIGKILL
    assert len(place.checkpoints()) == 2
    return place


def flip_a_bit(path: Path, place: float = 0.7) -> None:
    content = bytearray(path.read_bytes())
    content[int(place * len(content))] ^= 4
    path.write_bytes(bytes(content))


def last_event(place: Workplace) -> dict:
    return place.events()[-1]


def require_older(halfway: Workplace, whole: Workplace, said: str) -> dict:
    """Run a cell whose newest checkpoint is of no use: it says so, goes on from the one before and ends equal."""
    older = read_checkpoint(previous(halfway.checkpoint))["progress"]
    assert halfway.run() == 0
    (event,) = (event for event in halfway.events() if event["event"] == said)
    resumed = [event for event in halfway.events() if event["event"] == "resume"][-1]
    assert (resumed["epoch"], resumed["batch"]) == (older["epoch"], older["batch"]), event
    assert halfway.files() == whole.files()
    assert halfway.leftovers() == []
    return event


@pytest.mark.parametrize("place_of_bit", [0.0, 0.3, 0.999])
def test_a_flipped_bit_in_a_checkpoint_costs_one_interval(halfway, whole, place_of_bit):
    flip_a_bit(halfway.checkpoint, place_of_bit)
    require_older(halfway, whole, "damaged")


def test_both_checkpoints_damaged_means_from_the_start(halfway, whole):
    for checkpoint in halfway.checkpoints():
        flip_a_bit(checkpoint)
    assert halfway.run() == 0
    names = [event["event"] for event in halfway.events()]
    assert (names.count("damaged"), names.count("start"), names.count("resume")) == (2, 2, 0)
    assert halfway.files() == whole.files()
    assert halfway.leftovers() == []


def body_of(path: Path) -> dict:
    return torch.load(io.BytesIO(path.read_bytes().partition(b"\n")[2]), weights_only=True)


def forge(path: Path, part: str, **changes) -> None:
    """Change values in one part of a checkpoint and seal it again."""
    body = body_of(path)
    body[part] |= changes
    write_checkpoint(path, body)


def without_moments(body: dict) -> None:
    for optimizer in body["optimizers"]:
        optimizer["state"] = {key: {**value, "exp_avg": torch.zeros(3)} for key, value in optimizer["state"].items()}


class FailsInTheFirstStep:
    """Training fails on the newest checkpoint, in a way that is found by computing alone."""

    def __call__(self) -> None:
        epoch, failed = Training._epoch, []

        def failing(*arguments):
            if not failed:
                failed.append(True)
                raise RuntimeError("Inference tensors cannot be saved for backward")
            epoch(*arguments)

        Training._epoch = failing


def test_training_that_fails_on_the_newest_checkpoint_goes_on_from_the_one_before(halfway, whole):
    assert halfway.run(FailsInTheFirstStep()) == 0
    (said,) = (event for event in halfway.events() if event["event"] == "unfit")
    assert said["reason"] == "RuntimeError: Inference tensors cannot be saved for backward"
    assert halfway.files() == whole.files()
    assert halfway.leftovers() == []


UNFIT = {
    "surplus": lambda body: body["progress"].update(surplus=1),
    "weights": lambda body: body["model"].popitem(),
    "no weights": lambda body: body.update(model={}),
    "best weights": lambda body: body.update(best_weights={}),
    "moments": without_moments,
    "recipe": lambda body: body["optimizers"][0]["param_groups"][0].update(weight_decay=0.5),
    "generators": lambda body: body["generators"].update(cpu=torch.zeros(3, dtype=torch.uint8)),
    "made by": lambda body: body.update(made_by=[1]),
}


@pytest.mark.parametrize("fault", UNFIT)
def test_a_sound_checkpoint_that_cannot_be_continued_costs_one_interval(halfway, whole, fault):
    body = body_of(halfway.checkpoint)
    UNFIT[fault](body)
    write_checkpoint(halfway.checkpoint, body)
    require_older(halfway, whole, "unfit")


ABSURD = [{"batch": 10**9}, {"batch": -1}, {"batch": "3"}, {"batch": True}, {"batch": 1.0}, {"epoch": -5}, {"epoch": 0},
          {"epoch": 10**9}, {"epoch": None}, {"epoch": "2"}, {"correct": -1}, {"epochs_since_best": 10**6},
          {"loss_sum": math.nan}, {"loss_sum": "0"}, {"epoch_seconds": math.inf}, {"history": {}}, {"history": None},
          {"seconds": [1.0] * 50}, {"best_epoch": 40}, {"best_metric": "low"}, {"stop_reason": "because"},
          {"stop_reason": "patience"}, {"n_resumes": -1}, {"nonfinite_grad_run": 0.5}, {"kernels": [1]}]


@pytest.mark.parametrize("values", ABSURD, ids=str)
def test_an_absurd_position_is_refused_in_one_line_and_kept(halfway, values):
    previous(halfway.checkpoint).unlink()
    forge(halfway.checkpoint, "progress", **values)
    assert halfway.run() == 2
    (line,) = halfway.messages()
    assert f"{halfway.checkpoint.name}: does not fit this model (" in line
    assert "Traceback" not in halfway.log.read_text()
    assert last_event(halfway)["event"] == "fail"
    assert halfway.checkpoint.exists()


def test_two_checkpoints_that_cannot_be_continued_are_one_line(halfway):
    for path in halfway.checkpoints():
        forge(path, "progress", batch=10**9)
    assert halfway.run() == 2
    (line,) = halfway.messages()
    assert "batch is 1000000000, allowed are 0 to" in line
    assert len(list(halfway.checkpoint.parent.glob("checkpoint_*"))) == 2  # set aside or where it was


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir])
@pytest.mark.parametrize("which", ["newest", "both"])
def test_a_pipe_or_a_folder_in_place_of_a_checkpoint_is_set_aside(halfway, whole, make, which):
    for path in halfway.checkpoints()[: 1 if which == "newest" else 2]:
        path.unlink()
        make(path)
    assert halfway.run() == 0
    events = [event["event"] for event in halfway.events()]
    assert ("resume" in events) == (which == "newest")
    assert "not a regular file" in halfway.log.read_text()
    assert halfway.files() == whole.files()


class KernelsDisagree:
    """Compiled kernels fail their self-check in this process."""

    def __call__(self) -> None:
        from qablate import selfcheck

        selfcheck.obstacle.cache_clear()
        selfcheck.require_agreement = self.disagree

    @staticmethod
    def disagree(*_):
        raise SelfCheckError("numbers deviate")


def test_other_kernels_are_said_and_recorded(halfway, whole):
    """A cell goes on when compiled kernels fail their self-check, and its record names all that computed it."""
    assert read_checkpoint(halfway.checkpoint)["made_by"]["kernels"] == {"circuits": "numba", "scan": "numba"}
    assert read_record(whole.output)["provenance"]["kernels"] == {"circuits": "numba", "scan": "numba"}
    assert "Other numbers" not in whole.log.read_text()
    assert halfway.run(KernelsDisagree()) == 0
    (line,) = (line for line in halfway.log.read_text().splitlines() if line.startswith("Other numbers"))
    assert line.endswith("circuits torch, was numba; scan torch, was numba")
    kernels = read_record(halfway.output)["provenance"]["kernels"]
    assert kernels == {"circuits": "numba, torch", "scan": "numba, torch"}


def write_checkpoint(path: Path, state: dict) -> None:
    buffer = io.BytesIO()
    torch.save(state, buffer)
    seal(path, buffer.getvalue())


def seal(path: Path, body: bytes) -> None:
    """A file with the right checksum: what somebody who knows the format could forge."""
    path.write_bytes(b"qablate-checkpoint-1 " + hashlib.sha256(body).hexdigest().encode() + b"\n" + body)


def test_a_checkpoint_that_would_grow_is_refused_before_memory_is_taken(tmp_path):
    buffer = io.BytesIO()
    torch.save({"format": 1, "weights": torch.zeros(25_000_000)}, buffer)
    packed = io.BytesIO()
    with zipfile.ZipFile(buffer) as genuine, zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as bomb:
        for member in genuine.infolist():
            bomb.writestr(member.filename, genuine.read(member))
    path = tmp_path / "c.pt"
    seal(path, packed.getvalue())
    assert path.stat().st_size < 1_000_000
    tracemalloc.start()
    with pytest.raises(CheckpointDamaged, match="is compressed"):
        read_checkpoint(path)
    assert tracemalloc.get_traced_memory()[1] < 5_000_000
    tracemalloc.stop()


@pytest.mark.parametrize("content", [b"", b"\n", b"qablate-checkpoint-1 \n", b"PK\x03\x04" + bytes(50)])
def test_sealed_nonsense_is_damaged(tmp_path, content):
    path = tmp_path / "c.pt"
    for write in (path.write_bytes, lambda body: seal(path, body)):
        write(content)
        with pytest.raises(CheckpointDamaged) as caught:
            read_checkpoint(path)
        assert "\n" not in str(caught.value)


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
    assert last_event(place) == {"event": "fail", "reason": "out of memory"}
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
    assert last_event(place) == {"event": "fail", "reason": "ZeroDivisionError: division by zero"}
    assert "Traceback" in place.log.read_text()
    assert not place.output.exists()
    assert place.run() == 0
    assert place.files() == whole.files()


def test_a_missing_gpu_is_the_last_event(place):
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    assert place.run(command=[*place.command(), "--device", "cuda"]) == 2
    assert last_event(place)["event"] == "fail"
    assert "torch sees no GPU" in last_event(place)["reason"]
    (line,) = place.messages()
    assert "torch sees no GPU" in line


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
