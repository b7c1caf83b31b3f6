"""A checkpoint is whole, of this cell and fit to go on from, or not used: that costs an interval, never a cell."""

import hashlib
import io
import math
import os
import tracemalloc
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from qablate.errors import QablateError
from qablate.results import read_record
from qablate.selfcheck import SelfCheckError
from qablate.training.checkpoint import (
    CheckpointDamaged,
    Progress,
    load_checkpoint,
    previous,
    read_checkpoint,
    save_checkpoint,
)
from qablate.training.loop import Training

IDENTITY = {"cell_key": "published/published/1b/adding_problem/L100/seed2024", "settings_sha256": "a" * 64,
            "dataset_sha256": "b" * 64}


def stored(state: object) -> bytes:
    buffer = io.BytesIO()
    torch.save(state, buffer)
    return buffer.getvalue()


def seal(body: bytes) -> bytes:
    """A file with the right checksum: what somebody who knows the format could forge."""
    return b"qablate-checkpoint-1 " + hashlib.sha256(body).hexdigest().encode() + b"\n" + body


def forge(path: Path, change: Callable[[dict], object]) -> None:
    """Change what a checkpoint holds and seal it again."""
    body = torch.load(io.BytesIO(path.read_bytes().partition(b"\n")[2]), weights_only=True)
    change(body)
    path.write_bytes(seal(stored(body)))


def flip_a_bit(path: Path, place: float = 0.7) -> None:
    content = bytearray(path.read_bytes())
    content[int(place * len(content))] ^= 4
    path.write_bytes(bytes(content))


def make_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def make_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


# ---- one file


@settings(max_examples=60)
@given(data=st.data())
def test_any_flipped_bit_and_any_cut_is_noticed(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("flip") / "c.pt"
    save_checkpoint(path, IDENTITY, {"weights": torch.arange(64.0)})
    sound = path.read_bytes()
    place, bit = data.draw(st.integers(0, len(sound) - 1)), data.draw(st.integers(0, 7))
    flipped = sound[:place] + bytes([sound[place] ^ 1 << bit]) + sound[place + 1:]
    for damaged in (flipped, sound[:place]):
        path.write_bytes(damaged)
        with pytest.raises(CheckpointDamaged):
            read_checkpoint(path)


@pytest.mark.parametrize("key", IDENTITY)
def test_other_settings_are_refused_and_nothing_is_lost(tmp_path, key):
    path = tmp_path / "c.pt"
    save_checkpoint(path, IDENTITY, {"progress": 1})
    with pytest.raises(QablateError, match=f"another {key}"):
        load_checkpoint(path, {**IDENTITY, key: "c" * 64}, torch.device("cpu"))
    assert path.exists()


def test_a_pickle_is_never_loaded(tmp_path):
    class Evil:
        def __reduce__(self):
            return (Path(tmp_path / "pwned").touch, ())

    save_checkpoint(tmp_path / "c.pt", IDENTITY, {"x": Evil()})
    with pytest.raises(CheckpointDamaged):
        read_checkpoint(tmp_path / "c.pt")
    assert not (tmp_path / "pwned").exists()


def test_a_checkpoint_that_would_grow_is_refused_before_memory_is_taken(tmp_path):
    path, packed = tmp_path / "c.pt", io.BytesIO()
    genuine = zipfile.ZipFile(io.BytesIO(stored({"format": 1, "weights": torch.zeros(25_000_000)})))
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as bomb:
        for member in genuine.infolist():
            bomb.writestr(member.filename, genuine.read(member))
    path.write_bytes(seal(packed.getvalue()))
    assert path.stat().st_size < 1_000_000
    tracemalloc.start()
    with pytest.raises(CheckpointDamaged, match="is compressed"):
        read_checkpoint(path)
    assert tracemalloc.get_traced_memory()[1] < 5_000_000
    tracemalloc.stop()


@pytest.mark.parametrize("values", [
    {"batch": 10**9}, {"batch": -1}, {"batch": "3"}, {"batch": True}, {"batch": 1.0}, {"epoch": -5}, {"epoch": 0},
    {"epoch": 10**9}, {"epoch": None}, {"epoch": "2"}, {"correct": -1}, {"epochs_since_best": 10**6},
    {"loss_sum": math.nan}, {"loss_sum": "0"}, {"epoch_seconds": math.inf}, {"history": {}}, {"history": None},
    {"seconds": [1.0] * 50}, {"best_epoch": 40}, {"best_metric": "low"}, {"stop_reason": "because"},
    {"stop_reason": "patience"}, {"n_resumes": -1}, {"nonfinite_grad_run": 0.5}, {"kernels": [1]}, {"surplus": 1},
], ids=str)
def test_an_absurd_position_is_none(killed, values):
    position = read_checkpoint(killed.checkpoint)["progress"]
    size = {"max_epochs": 2, "n_batches": 2, "n_items": 96}
    assert Progress.from_dict(position, **size).epoch == position["epoch"]
    with pytest.raises((ValueError, TypeError, AttributeError)):    # what resuming takes for a checkpoint that is unfit
        Progress.from_dict({**position, **values}, **size)


# ---- the cell they belong to


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


DAMAGED = {**{f"bit at {place}": partial(flip_a_bit, place=place) for place in (0.0, 0.3, 0.999)}, "pipe": make_pipe,
           "folder": make_folder}
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
FAILS = "RuntimeError: Inference tensors cannot be saved for backward"


@pytest.mark.parametrize("fault", [*DAMAGED, *UNFIT, FAILS])
def test_a_newest_checkpoint_of_no_use_costs_one_interval(halfway, whole, fault):
    """It is said, training goes on from the one before, and ends equal."""
    older = read_checkpoint(previous(halfway.checkpoint))["progress"]
    if fault in UNFIT:
        forge(halfway.checkpoint, UNFIT[fault])
    elif fault in DAMAGED:
        DAMAGED[fault](halfway.checkpoint)
    assert halfway.run(FailsInTheFirstStep() if fault == FAILS else None) == 0
    (said,) = (event for event in halfway.events() if event["event"] in ("damaged", "unfit"))
    assert said["event"] == ("damaged" if fault in DAMAGED else "unfit") and (fault != FAILS or said["reason"] == FAILS)
    resumed = [event for event in halfway.events() if event["event"] == "resume"][-1]
    assert (resumed["epoch"], resumed["batch"]) == (older["epoch"], older["batch"]), said
    assert halfway.files() == whole.files()
    assert fault == "folder" or halfway.leftovers() == []


@pytest.mark.parametrize("spoil", [flip_a_bit, make_pipe, make_folder])
def test_both_checkpoints_of_no_use_mean_from_the_start(halfway, whole, spoil):
    for checkpoint in halfway.checkpoints():
        spoil(checkpoint)
    assert halfway.run() == 0
    names = [event["event"] for event in halfway.events()]
    assert (names.count("damaged"), names.count("start"), names.count("resume")) == (2, 2, 0)
    assert ("not a regular file" in halfway.log.read_text()) == (spoil is not flip_a_bit)
    assert halfway.files() == whole.files()
    assert spoil is make_folder or halfway.leftovers() == []


@pytest.mark.parametrize("number", [1, 2])
def test_checkpoints_that_cannot_be_continued_are_one_line_and_kept(halfway, number):
    for path in halfway.checkpoints()[number:]:
        path.unlink()
    for path in halfway.checkpoints():
        forge(path, lambda body: body["progress"].update(batch=10**9))
    assert halfway.run() == 2
    (line,) = halfway.messages()
    assert f"{halfway.checkpoint.name}" in line and "does not fit this model (batch is 1000000000, allowed are" in line
    assert "Traceback" not in halfway.log.read_text() and halfway.events()[-1]["event"] == "fail"
    assert len(list(halfway.checkpoint.parent.glob("checkpoint_*"))) == number    # set aside or where it was


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
