"""Checkpoints: how far a training has come, whole or absent, checked before they are believed, two generations deep.

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
import math
import os
import pickle
import statistics
import zipfile
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

import torch

from qablate.errors import MachineError, QablateError
from qablate.files import read_regular, remove_leftovers, write_atomic
from qablate.logs import say_event
from qablate.records import HISTORY

MAGIC = b"qablate-checkpoint-1 "
MAX_BYTES = 2_000_000_000
MANY = 2**31
Identity = dict[str, str]
"""What a checkpoint must agree on before training goes on from it: cell_key, settings_sha256, dataset_sha256."""


class CheckpointDamaged(QablateError):
    """A checkpoint whose bytes are not those that were written."""


class CheckpointUnfit(QablateError):
    """A sound checkpoint that this training cannot take up."""


def save_checkpoint(path: Path, identity: Identity, state: dict[str, Any]) -> None:
    """Write a checkpoint; the one before it stays as `.previous`."""
    buffer = io.BytesIO()
    torch.save({"format": 1, **identity, **state}, buffer)
    body = buffer.getvalue()
    digest = hashlib.sha256(body).hexdigest().encode("ascii")
    write_atomic(path, MAGIC + digest + b"\n" + body, keep=previous(path))


def load_checkpoint(path: Path, identity: Identity, device: torch.device) -> dict[str, Any] | None:
    """Return the newest sound checkpoint of this cell, or None if there is none.

    Raises QablateError when it belongs to other settings or another dataset; nothing is deleted then.
    """
    for candidate in (path, previous(path)):
        try:
            state = read_checkpoint(candidate, device)
        except FileNotFoundError:
            continue
        except CheckpointDamaged as error:
            _set_aside(candidate)
            say_event("damaged", reason=str(error))
            continue
        for key, wanted in identity.items():
            if state.get(key) != wanted:
                raise QablateError(
                    f"{candidate}: made with another {key} ({str(state.get(key))[:40]}, now {wanted[:40]}); "
                    "restore the old settings to go on with it, or move the file away to train from the start"
                )
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
        members = zipfile.ZipFile(io.BytesIO(body)).infolist()  # torch stores tensors as they are, none may grow
        stored = all(member.compress_type == zipfile.ZIP_STORED for member in members)
        if not stored or sum(member.file_size for member in members) > len(body):
            raise CheckpointDamaged(f"{path}: is compressed, checkpoints are stored as they are")
        state = torch.load(io.BytesIO(body), map_location=device, weights_only=True)
    except (RuntimeError, pickle.UnpicklingError, zipfile.BadZipFile, EOFError, ValueError) as error:
        raise CheckpointDamaged(f"{path}: {str(error).splitlines()[0][:120]}") from error
    if not isinstance(state, dict) or state.get("format") != 1:
        raise CheckpointDamaged(f"{path}: holds no checkpoint")
    return state


def set_aside(path: Path, tried: os.stat_result | None) -> bool:
    """Set the newest checkpoint aside if it is the one that was `tried` and another one can be gone on from."""
    try:
        if tried is None or not os.path.samestat(path.stat(), tried) or not previous(path).is_file():
            return False
    except FileNotFoundError:
        return False
    _set_aside(path)
    return True


def _set_aside(path: Path) -> None:
    """Rename; a file that another process of this cell has moved first is no error."""
    try:
        path.replace(damaged(path))
    except FileNotFoundError:
        pass
    except OSError as error:
        raise MachineError(f"{path}: cannot be moved to {damaged(path).name}: {error.strerror or error}") from error


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


@dataclass
class Progress:
    """Position, running sums, curves and the best epoch so far.

    `epoch` counts from 1 and is the one under way; `batch` is the next batch of it. Curves hold None where a value was
    not finite. `kernels` names what has computed the circuits and scans so far, several in order of time.
    `legacy_correct` holds correct predictions on the test half of Forrelation per epoch: nothing that
    chooses or stops may read it (see qablate.training.record.legacy_score).
    """

    epoch: int = 1
    batch: int = 0
    loss_sum: float = 0.0
    correct: int = 0
    epoch_seconds: float = 0.0
    history: dict[str, list[Any]] = field(default_factory=lambda: {key: [] for key in HISTORY})
    seconds: list[float] = field(default_factory=list)
    best_metric: float | None = None
    best_epoch: int | None = None
    epochs_since_best: int = 0
    n_resumes: int = 0
    nonfinite_grad_steps: int = 0
    nonfinite_grad_run: int = 0
    stop_reason: str | None = None
    diverged_epoch: int | None = None
    legacy_correct: list[int] = field(default_factory=list)
    kernels: dict[str, str] = field(default_factory=dict)

    @property
    def elapsed(self) -> float:
        """Seconds of training so far, over all processes, without the test pass."""
        return sum(self.seconds) + self.epoch_seconds

    def seconds_left(self, max_epochs: int) -> float:
        """Seconds that all epochs after this one would take, by the median of those so far."""
        return (max_epochs - self.epoch) * statistics.median(self.seconds)

    def begin_next_epoch(self) -> None:
        """Move to the first batch of the next epoch."""
        self.epoch += 1
        self.batch, self.loss_sum, self.correct, self.epoch_seconds = 0, 0.0, 0, 0.0

    def add_kernels(self, names: dict[str, str]) -> None:
        """Note what computes from here on, after what has computed so far."""
        for part, name in names.items():
            known = self.kernels.setdefault(part, name).split(", ")
            self.kernels[part] = ", ".join(dict.fromkeys([*known, name]))

    @classmethod
    def from_dict(cls, values: dict[str, Any], max_epochs: int, n_batches: int, n_items: int) -> "Progress":
        """Rebuild what `asdict` returned; ValueError for what a training of this size never comes to."""
        progress = cls(**values)
        n_epochs = progress.epoch - (progress.stop_reason is None)
        bounds = {"epoch": (1, max_epochs), "batch": (0, n_batches), "correct": (0, n_items), "n_resumes": (0, MANY),
                  "epochs_since_best": (0, n_epochs), "nonfinite_grad_run": (0, MANY),
                  "nonfinite_grad_steps": (0, max_epochs * n_batches)}
        for name, (low, high) in bounds.items():
            value = getattr(progress, name)
            if type(value) is not int or not low <= value <= high:
                raise ValueError(f"{name} is {str(value)[:40]}, allowed are {low} to {high}")
        if progress.stop_reason not in (None, "patience", "max_epochs", "non_finite"):
            raise ValueError(f"stop_reason is {str(progress.stop_reason)[:40]}")
        if progress.best_epoch is not None and progress.best_epoch not in range(1, n_epochs + 1):
            raise ValueError(f"best_epoch is {str(progress.best_epoch)[:40]} after {n_epochs} epochs")
        if not all(type(name) is str for name in progress.kernels.values()):
            raise ValueError("kernels holds what is no name")
        curves = {**progress.history, "seconds": progress.seconds}
        for name, curve in curves.items():
            if type(curve) is not list or len(curve) != n_epochs:
                raise ValueError(f"{name} is no list of {n_epochs} epochs")
        numbers = [progress.loss_sum, progress.epoch_seconds, progress.best_metric, *chain(*curves.values())]
        if not all(type(number) in (int, float) and math.isfinite(number) for number in numbers if number is not None):
            raise ValueError("a sum, a time or a curve holds what is no finite number")
        if list(progress.history) != list(HISTORY) or progress.history["epochs"] != list(range(1, n_epochs + 1)):
            raise ValueError("history has other curves, or does not count its epochs from 1")
        return progress
