"""Checkpoints: whole or absent, checked before they are believed, two generations deep.

A file is one line, `qablate-checkpoint-1 <sha256 of the rest>`, and torch's format, read by its weights-only loader
after the checksum was found right (torch does not notice a flipped bit). Once a new checkpoint is whole on the disk,
the old one becomes `.previous`: a file damaged on disk costs one interval, not the run. A damaged file is set aside as
`.damaged`, and so is one that training cannot go on from while there is another before it; a checkpoint of other
settings or another dataset is refused.

There is no lock. Two processes on one cell write checkpoints of the same run under one name, each of them whole and
good to go on from; a file that the other has moved away in between is looked for under its next name.
"""

import contextlib
import errno
import hashlib
import io
import os
import pickle
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from qablate.errors import MachineError, QablateError
from qablate.files import read_regular, remove_leftovers, write_atomic
from qablate.logs import say_event

MAGIC = b"qablate-checkpoint-1 "
MAX_BYTES = 2_000_000_000


class CheckpointDamaged(QablateError):
    """A checkpoint whose bytes are not those that were written."""


class CheckpointUnfit(QablateError):
    """A sound checkpoint that this training cannot take up."""


@dataclass(frozen=True)
class CheckpointIdentity:
    """What a checkpoint must agree on before training goes on from it."""

    cell_key: str
    settings_sha256: str
    dataset_sha256: str


def save_checkpoint(path: Path, identity: CheckpointIdentity, state: dict[str, Any]) -> None:
    """Write a checkpoint; the one before it stays as `.previous`."""
    buffer = io.BytesIO()
    torch.save({"format": 1, **vars(identity), **state}, buffer)
    body = buffer.getvalue()
    digest = hashlib.sha256(body).hexdigest().encode("ascii")
    write_atomic(path, MAGIC + digest + b"\n" + body, keep=previous(path))


def load_checkpoint(path: Path, identity: CheckpointIdentity, device: torch.device) -> dict[str, Any] | None:
    """Return the newest sound checkpoint of this cell, or None if there is none.

    Raises QablateError when it belongs to other settings or another dataset; nothing is deleted then.
    """
    for candidate in (path, previous(path)):
        try:
            state = read_checkpoint(candidate, device)
        except FileNotFoundError:
            continue
        except CheckpointDamaged as error:
            _move(candidate, damaged(candidate))
            say_event("damaged", reason=str(error))
            continue
        _check_identity(candidate, state, identity)
        return state
    return None


def read_checkpoint(path: Path, device: torch.device | str = "cpu") -> dict[str, Any]:
    """Read one checkpoint file: size, checksum, then torch's weights-only loader.

    Raises CheckpointDamaged for what is no checkpoint, FileNotFoundError, and MachineError for what cannot be read.
    """
    try:
        head, _, body = read_regular(path, MAX_BYTES).partition(b"\n")
    except FileNotFoundError:
        raise
    except OSError as error:
        kind = CheckpointDamaged if error.errno in (errno.EINVAL, errno.EFBIG) else MachineError
        raise kind(f"{path}: cannot read: {error.strerror or error}") from error
    if not head.startswith(MAGIC):
        raise CheckpointDamaged(f"{path}: not a checkpoint of this version")
    if hashlib.sha256(body).hexdigest().encode("ascii") != head[len(MAGIC) :]:
        raise CheckpointDamaged(f"{path}: checksum does not match, the file was damaged")
    try:
        _refuse_compression(path, body)
        state = torch.load(io.BytesIO(body), map_location=device, weights_only=True)
    except (RuntimeError, pickle.UnpicklingError, zipfile.BadZipFile, EOFError, ValueError) as error:
        raise CheckpointDamaged(f"{path}: {str(error).splitlines()[0][:120]}") from error
    if not isinstance(state, dict) or state.get("format") != 1:
        raise CheckpointDamaged(f"{path}: holds no checkpoint")
    return state


def _refuse_compression(path: Path, body: bytes) -> None:
    """torch stores tensors as they are; members that would grow when read are not its own."""
    with zipfile.ZipFile(io.BytesIO(body)) as archive:
        members = archive.infolist()
    stored = all(member.compress_type == zipfile.ZIP_STORED for member in members)
    if not stored or sum(member.file_size for member in members) > len(body):
        raise CheckpointDamaged(f"{path}: is compressed, checkpoints are stored as they are")


def _check_identity(path: Path, state: dict[str, Any], identity: CheckpointIdentity) -> None:
    for key, wanted in vars(identity).items():
        if state.get(key) != wanted:
            raise QablateError(
                f"{path}: made with another {key} ({str(state.get(key))[:40]}, now {wanted[:40]}); "
                "restore the old settings to go on with it, or move the file away to train from the start"
            )


def set_aside(path: Path, tried: os.stat_result | None) -> bool:
    """Set the newest checkpoint aside if it is the one that was `tried` and another one can be gone on from."""
    try:
        if tried is None or not os.path.samestat(path.stat(), tried) or not previous(path).is_file():
            return False
    except FileNotFoundError:
        return False
    _move(path, damaged(path))
    return True


def _move(path: Path, to: Path) -> None:
    """Rename; a file that another process of this cell has moved first is no error."""
    try:
        path.replace(to)
    except FileNotFoundError:
        pass
    except OSError as error:
        raise MachineError(f"{path}: cannot be moved to {to.name}: {error.strerror or error}") from error


def delete_checkpoints(path: Path) -> None:
    """Remove everything under this name, once the result is written; what cannot be removed does no harm."""
    for file in (path, previous(path), damaged(path), damaged(previous(path))):
        with contextlib.suppress(OSError):
            file.unlink(missing_ok=True)
    remove_leftovers(path)


def previous(path: Path) -> Path:
    """Name of the checkpoint before the newest."""
    return path.with_name(path.name + ".previous")


def damaged(path: Path) -> Path:
    """Name under which a damaged checkpoint is set aside until the cell is finished."""
    return path.with_name(path.name + ".damaged")
