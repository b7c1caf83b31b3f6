"""Writing files so that a kill at any moment leaves the old file or the new one, never a part.

The bytes go to a temporary name in the same folder (same file system), are forced to the disk, and take the final
name by one rename. Temporary names begin with a dot and end in `.tmp`, so that counting `*.json` never counts one. They
also hold host and process: what a killed process left behind is known by that, and the next write of the same file
removes it.
"""

import contextlib
import errno
import glob
import hashlib
import json
import os
import platform
import re
import shutil
import stat
import tempfile
import time
from collections.abc import Callable, Iterator
from importlib import resources
from pathlib import Path
from typing import Any, BinaryIO

from qablate.errors import MachineError
from qablate.slurm import command_of

SNAKEFILE_FOLDER = "QABLATE_SNAKEFILE_FOLDER"
"""Variable that the workflow sets for itself and its jobs."""
LEFTOVER_AGE_S = 86_400
"""After a day nobody is still writing a temporary file, whatever host it came from."""


Content = bytes | Callable[[BinaryIO], None]
"""Bytes, or what writes them into a file."""


def write_atomic(path: Path, write: Content, keep: Path | None = None) -> None:
    """Put bytes, or what `write(file)` writes, at `path`, whole or not at all.

    The file that stood there goes on to exist as `keep`, if that is given. Raises MachineError with the path and the
    system's reason (no space, read-only folder) and leaves an existing file as it was.
    """
    with _finished(path, write) as temporary:
        if keep is not None:
            with contextlib.suppress(FileNotFoundError):  # none yet, or another process of this cell was faster
                path.replace(keep)
        temporary.replace(path)
        _sync_folder(path.parent)


def put_in_place(path: Path, content: bytes, folder: Path, is_valid: Callable[[], bool]) -> Path:
    """Put bytes at `path` unless what is there `is_valid()`: then they go into `folder`; return where they are.

    What is there and not valid is moved into `folder` first (`supersede`). Nothing is ever replaced: what comes
    between the look and the naming keeps the name and is looked at in turn. Raises MachineError as `write_atomic` does.
    """
    with _finished(path, content) as temporary:
        while True:
            if os.path.lexists(path):
                if is_valid():
                    return supersede(temporary, folder, path)
                supersede(path, folder)
            with contextlib.suppress(FileExistsError):
                _name_new(temporary, path)
                _sync_folder(path.parent)
                return path


@contextlib.contextmanager
def _finished(path: Path, write: Content) -> Iterator[Path]:
    """A temporary file for `path`, written and forced to the disk; what is left of it at the end is removed."""
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        remove_leftovers(path)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.{_process()}.", suffix=".tmp", dir=path.parent)
        temporary = Path(name)
        with os.fdopen(handle, "wb") as file:
            if callable(write):
                write(file)
            else:
                file.write(write)
            file.flush()
            os.fsync(file.fileno())
        mask = os.umask(0)    # mkstemp makes files private, results are to be readable like any other file
        os.umask(mask)
        with contextlib.suppress(OSError):  # CIFS, exFAT and some FUSE refuse it, and know no private files
            temporary.chmod(0o666 & ~mask)
        yield temporary
    except OSError as error:
        raise MachineError(f"{path}: cannot write: {error.strerror or error}") from error
    finally:
        if temporary is not None:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)


def _name_new(temporary: Path, path: Path) -> None:
    """Rename without replacing; FileExistsError if the name is taken."""
    try:
        os.link(temporary, path)
    except OSError:  # no hard links on exFAT and some FUSE: a look, then a rename
        if os.path.lexists(path):
            raise FileExistsError(path) from None
        temporary.rename(path)


def keep_copy(path: Path, folder: Path) -> Path:
    """Copy a file into `folder`, whole or not at all; 16 hex digits of its content's sha256 stand before its suffix.

    A part of a copy, or another content under that name, is replaced; an equal copy stays as it is. Raises MachineError
    for what is no regular file or cannot be read, and if the copy differs from it.
    """
    try:
        if not path.is_file():
            raise OSError(errno.EINVAL, "not a regular file")
        kept = kept_path(path, folder)
        if _content_sha256(kept) != _content_sha256(path):
            with path.open("rb") as file:
                write_atomic(kept, lambda copy: shutil.copyfileobj(file, copy))
            if kept_path(kept, folder, path) != kept:
                raise OSError(errno.EAGAIN, "changed while it was copied")
    except OSError as error:
        raise MachineError(f"{path}: cannot be kept in {folder}: {error.strerror or error}") from error
    return kept


def supersede(path: Path, folder: Path, name: Path | None = None) -> Path:
    """Move whatever is at `path` into `folder`, named as `keep_copy` names it (by the stem of `name`); return it.

    By one rename: a kill leaves it whole in one of both places. Only a symbolic link to a file, and a folder on another
    disk, get a copy first. Nothing at `path` is no error. Raises MachineError for what cannot be moved.
    """
    try:
        kept = kept_path(path, folder, name)
        if not os.path.lexists(path):
            return kept
        folder.mkdir(parents=True, exist_ok=True)
        try:
            if path.is_symlink() and path.is_file():
                raise OSError(errno.EXDEV, "a link")
            path.rename(kept)
        except FileNotFoundError:
            return kept
        except OSError as error:
            if error.errno != errno.EXDEV or not path.is_file():
                raise
            keep_copy(path, folder).replace(kept)
            path.unlink()
        right = kept_path(kept, folder, name or path)  # it may have changed in between
        return kept if right == kept else kept.rename(right)
    except OSError as error:
        raise MachineError(f"{path}: cannot be moved to {folder}: {error.strerror or error}") from error


def kept_path(path: Path, folder: Path, name: Path | None = None) -> Path:
    """Where `keep_copy` keeps what is at `path` now: `folder/STEM.0123456789abcdef.json`."""
    name = name or path
    return folder / f"{name.stem}.{_content_sha256(path)[:16]}{name.suffix}"


def _content_sha256(path: Path) -> str:
    """Hash of a file's bytes, of the names in a folder, of the kind of anything else; empty if there is nothing.

    A file that may not be read, as another user's, has that of its size and time.
    """
    if path.is_file():
        try:
            return sha256_of(path)
        except PermissionError:
            status = path.stat()
            return hashlib.sha256(f"{status.st_size} {status.st_mtime_ns}".encode()).hexdigest()
    if not os.path.lexists(path):
        return ""
    inside = sorted(str(file.relative_to(path)) for file in path.rglob("*")) if path.is_dir() else []
    kind = os.readlink(path) if path.is_symlink() else str(stat.S_IFMT(path.stat().st_mode))
    return hashlib.sha256("\0".join([kind, *inside]).encode("utf-8", "surrogateescape")).hexdigest()


def write_json(path: Path, content: object) -> None:
    """Put indented JSON at `path`, whole or not at all; ValueError for a number that JSON does not know."""
    write_atomic(path, (json.dumps(content, indent=2, allow_nan=False) + "\n").encode("ascii"))


def read_regular(path: Path, limit: int) -> bytes:
    """Return the bytes of a regular file of at most `limit` bytes.

    Raises OSError for anything else under that name, and never waits for the other end of a pipe.
    """
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        status = os.fstat(handle)
        if not stat.S_ISREG(status.st_mode):
            raise OSError(errno.EINVAL, "a folder, pipe or device, not a regular file", str(path))
        if status.st_size > limit:
            raise OSError(errno.EFBIG, f"over {limit} bytes", str(path))
        with open(handle, "rb", closefd=False) as file:
            return file.read(status.st_size)
    finally:
        os.close(handle)


def read_json(path: Path, limit: int) -> dict[str, Any]:
    """Return the JSON object in a regular file of at most `limit` bytes; an empty one for whatever is none."""
    try:
        content = json.loads(read_regular(path, limit))
    except (OSError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def in_workflow(path: Path) -> Path:
    """A file of the workflow: in the working folder, else beside the Snakefile that runs (`snakemake -d FOLDER`)."""
    return path if path.exists() else Path(os.environ.get(SNAKEFILE_FOLDER, "")) / path


def packaged_text(name: str) -> str:
    """Return a text file that ships with the package, such as `goldens/published_datasets.csv`."""
    return resources.files("qablate").joinpath(name).read_text(encoding="utf-8")


def check_writable(folder: Path) -> None:
    """Make a folder and a file in it, or raise MachineError: hours of training should not end at a read-only folder."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        remove_leftovers(folder / "writable")
        with tempfile.NamedTemporaryFile(prefix=f".writable.{_process()}.", suffix=".tmp", dir=folder):
            pass
    except OSError as error:
        raise MachineError(f"{folder}: cannot write: {error.strerror or error}") from error


def remove_leftovers(path: Path) -> None:
    """Remove the temporary files of `path` that nobody is writing any more: of dead processes here, or a day old."""
    for temporary in path.parent.glob(f".{glob.escape(path.name)}.*.tmp"):
        with contextlib.suppress(OSError):
            found = re.match(r"(?P<host>.*)-(?P<process>[0-9]{1,9})\.", temporary.name[len(path.name) + 2 :])
            here = found is not None and found["host"] == platform.node()
            dead = here and found is not None and command_of(int(found["process"])) is None
            if dead or time.time() - temporary.stat().st_mtime > LEFTOVER_AGE_S:
                temporary.unlink()


def _process() -> str:
    """Host and process, the middle of a temporary file's name."""
    return f"{platform.node()}-{os.getpid()}"


def _sync_folder(folder: Path) -> None:
    """Force the rename itself to the disk; file systems that cannot (some network ones) are left alone."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def sha256_of(path: Path) -> str:
    """Return the hex sha256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
