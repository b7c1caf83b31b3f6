"""Writing files so that a kill at any moment leaves the old file or the new one, never a part.

The bytes go to a temporary name in the same folder (same file system), are forced to the disk, and take the final
name by one rename. Temporary names begin with a dot and end in `.tmp`, so that counting `*.json` never counts one. They
also hold host and process: what a killed process left behind is known by that, and the next write of the same file
removes it.
"""

import contextlib
import errno
import hashlib
import json
import os
import platform
import re
import stat
import tempfile
import time
from collections.abc import Callable
from importlib import resources
from pathlib import Path
from typing import BinaryIO

from qablate.errors import MachineError

LEFTOVER_AGE_S = 86_400
"""After a day nobody is still writing a temporary file, whatever host it came from."""


def write_atomic(path: Path, write: bytes | Callable[[BinaryIO], None], keep: Path | None = None) -> None:
    """Put bytes, or what `write(file)` writes, at `path`, whole or not at all.

    The file that stood there goes on to exist as `keep`, if that is given. Raises MachineError with the path and the
    system's reason (no space, read-only folder) and leaves an existing file as it was.
    """
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
        temporary.chmod(0o666 & ~_umask())
        if keep is not None:
            with contextlib.suppress(FileNotFoundError):  # none yet, or another process of this cell was faster
                path.replace(keep)
        temporary.replace(path)
        _sync_folder(path.parent)
    except OSError as error:
        raise MachineError(f"{path}: cannot write: {error.strerror or error}") from error
    finally:
        if temporary is not None:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)


def write_json(path: Path, content: object) -> None:
    """Put indented JSON at `path`, whole or not at all; ValueError for a number that JSON does not know."""
    write_atomic(path, (json.dumps(content, indent=2, allow_nan=False) + "\n").encode("ascii"))


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
    for temporary in path.parent.glob(f".{_escaped(path.name)}.*.tmp"):
        with contextlib.suppress(OSError):
            if _is_leftover(temporary, path.name):
                temporary.unlink()


def _is_leftover(temporary: Path, name: str) -> bool:
    found = re.match(r"(?P<host>.*)-(?P<process>[0-9]+)\.", temporary.name[len(name) + 2 :])
    if found and found["host"] == platform.node():
        try:
            os.kill(int(found["process"]), 0)
        except (ProcessLookupError, OverflowError):
            return True
        except PermissionError:
            pass  # alive, another user's
    return time.time() - temporary.stat().st_mtime > LEFTOVER_AGE_S


def _process() -> str:
    """Host and process, the middle of a temporary file's name."""
    return f"{platform.node()}-{os.getpid()}"


def _escaped(name: str) -> str:
    """Name for a glob pattern that matches it alone."""
    return re.sub(r"([\[*?])", r"[\1]", name)


def _umask() -> int:
    """The process's umask; mkstemp makes files private, results are to be readable like any other file."""
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _sync_folder(folder: Path) -> None:
    """Force the rename itself to the disk; file systems that cannot (some network ones) are left alone."""
    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(handle)
    except OSError:
        pass
    finally:
        os.close(handle)


def read_regular(path: Path, limit: int) -> bytes:
    """Return the bytes of a regular file of at most `limit` bytes; OSError for anything else, also for a named pipe,
    which would be waited for.
    """
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        status = os.fstat(handle)
        if not stat.S_ISREG(status.st_mode):
            raise OSError(errno.EINVAL, "not a regular file")
        if status.st_size > limit:
            raise OSError(errno.EFBIG, f"over {limit} bytes")
        with open(handle, "rb", closefd=False) as file:
            return file.read()
    finally:
        os.close(handle)


def sha256_of(path: Path) -> str:
    """Return the hex sha256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
