"""Writing files so that a kill at any moment leaves the old file or the new one, never a part.

The bytes go to a temporary name in the same folder (same file system), are forced to the disk, and take the final
name by one rename. Temporary names end in `.tmp`, so that counting `*.json` never counts one.
"""

import hashlib
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from qablate.errors import QablateError


def write_atomic(path: Path, write: bytes | Callable[[BinaryIO], None]) -> None:
    """Put bytes, or what `write(file)` writes, at `path`, whole or not at all.

    Raises QablateError with the path and the system's reason (no space, read-only folder) and leaves an existing file
    as it was.
    """
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
        temporary = Path(name)
        with os.fdopen(handle, "wb") as file:
            if callable(write):
                write(file)
            else:
                file.write(write)
            file.flush()
            os.fsync(file.fileno())
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(path)
        _sync_folder(path.parent)
    except OSError as error:
        raise QablateError(f"{path}: cannot write: {error.strerror or error}") from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


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


def sha256_of(path: Path) -> str:
    """Return the hex sha256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
