"""A checkpoint is whole, of this cell, or not used."""

from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from qablate.errors import QablateError
from qablate.training.checkpoint import (
    CheckpointDamaged,
    load_checkpoint,
    read_checkpoint,
    save_checkpoint,
)

IDENTITY = {"cell_key": "published/published/1b/adding_problem/L100/seed2024", "settings_sha256": "a" * 64,
            "dataset_sha256": "b" * 64}
CPU = torch.device("cpu")


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


def test_other_settings_are_refused_and_nothing_is_lost(tmp_path: Path):
    path = tmp_path / "c.pt"
    save_checkpoint(path, IDENTITY, {"progress": 1})
    other = {**IDENTITY, "settings_sha256": "c" * 64}
    with pytest.raises(QablateError, match="settings_sha256"):
        load_checkpoint(path, other, CPU)
    assert path.exists()


def test_a_pickle_is_never_loaded(tmp_path: Path):
    class Evil:
        def __reduce__(self):
            return (Path(tmp_path / "pwned").touch, ())

    path = tmp_path / "c.pt"
    save_checkpoint(path, IDENTITY, {"x": Evil()})
    with pytest.raises(CheckpointDamaged):
        read_checkpoint(path)
    assert not (tmp_path / "pwned").exists()
