"""A checkpoint is whole, of this cell, or not used."""

from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from qablate.errors import QablateError
from qablate.training.checkpoint import (
    CheckpointDamaged,
    CheckpointIdentity,
    delete_checkpoints,
    load_checkpoint,
    previous,
    read_checkpoint,
    save_checkpoint,
)

IDENTITY = CheckpointIdentity("published/published/1b/adding_problem/L100/seed2024", "a" * 64, "b" * 64)
CPU = torch.device("cpu")


def test_round_trip(tmp_path: Path):
    path = tmp_path / "c.pt"
    save_checkpoint(path, IDENTITY, {"weights": {"w": torch.arange(5.0)}, "progress": {"epoch": 3}})
    state = load_checkpoint(path, IDENTITY, CPU)
    assert state["progress"] == {"epoch": 3}
    assert torch.equal(state["weights"]["w"], torch.arange(5.0))


def test_no_checkpoint_is_none(tmp_path: Path):
    assert load_checkpoint(tmp_path / "c.pt", IDENTITY, CPU) is None


@pytest.fixture(scope="module")
def sound(tmp_path_factory) -> bytes:
    path = tmp_path_factory.mktemp("sound") / "c.pt"
    save_checkpoint(path, IDENTITY, {"weights": torch.arange(64.0)})
    return path.read_bytes()


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_any_flipped_bit_is_noticed(sound: bytes, tmp_path_factory, data):
    position = data.draw(st.integers(0, len(sound) - 1))
    bit = data.draw(st.integers(0, 7))
    damaged = bytearray(sound)
    damaged[position] ^= 1 << bit
    path = tmp_path_factory.mktemp("flip") / "c.pt"
    path.write_bytes(bytes(damaged))
    with pytest.raises(CheckpointDamaged):
        read_checkpoint(path)


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.99])
def test_a_cut_file_is_noticed(sound: bytes, tmp_path: Path, share: float):
    path = tmp_path / "c.pt"
    path.write_bytes(sound[: int(len(sound) * share)])
    with pytest.raises(CheckpointDamaged):
        read_checkpoint(path)


def test_damage_falls_back_to_the_previous_one_and_keeps_the_damaged(tmp_path: Path):
    path = tmp_path / "c.pt"
    save_checkpoint(path, IDENTITY, {"progress": 1})
    save_checkpoint(path, IDENTITY, {"progress": 2})
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(bytes(content))
    assert load_checkpoint(path, IDENTITY, CPU)["progress"] == 1
    assert (tmp_path / "c.pt.damaged").exists()


def test_other_settings_are_refused_and_nothing_is_lost(tmp_path: Path):
    path = tmp_path / "c.pt"
    save_checkpoint(path, IDENTITY, {"progress": 1})
    other = CheckpointIdentity(IDENTITY.cell_key, "c" * 64, IDENTITY.dataset_sha256)
    with pytest.raises(QablateError, match="settings_sha256"):
        load_checkpoint(path, other, CPU)
    assert path.exists()


def test_a_pickle_is_never_loaded(tmp_path: Path):
    import hashlib
    import io
    import pickle

    class Evil:
        def __reduce__(self):
            return (Path(tmp_path / "pwned").touch, ())

    body = io.BytesIO()
    torch.save({"format": 1, "x": Evil()}, body, pickle_module=pickle)
    digest = hashlib.sha256(body.getvalue()).hexdigest().encode()
    path = tmp_path / "c.pt"
    path.write_bytes(b"qablate-checkpoint-1 " + digest + b"\n" + body.getvalue())
    with pytest.raises(CheckpointDamaged):
        read_checkpoint(path)
    assert not (tmp_path / "pwned").exists()


def test_delete_removes_both_generations(tmp_path: Path):
    path = tmp_path / "c.pt"
    for progress in (1, 2):
        save_checkpoint(path, IDENTITY, {"progress": progress})
    delete_checkpoints(path)
    assert not path.exists()
    assert not previous(path).exists()
