"""The lock of a Snakemake that was killed, taken over by the next one in its folder.

Layer 0. Snakemake locks a folder by files without an owner, so that a killed one leaves it locked until somebody types
`--unlock`. Here each run notes its owner next to these files before it locks, and removes its own note and lock alone.
"""

import atexit
import contextlib
import json
import os
import platform
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from qablate.errors import MachineError
from qablate.files import write_atomic
from qablate.slurm import command_of, job_state

LOCKS = Path(".snakemake/locks")
PID_NAMESPACE = "/proc/self/ns/pid"


def take_over_lock(folder: Path = LOCKS) -> str:
    """Remove a lock whose owner is dead and note this process as the next owner; return a line to print, or "".

    A lock is left alone, and Snakemake refuses to run, unless every owner noted next to it is known to be dead: a
    process of this host that is gone, or one in a Slurm job that is over. Whoever works next to a living owner notes
    itself too; next to a lock without a note nobody does, or it would pass for that lock's owner.
    """
    notes = {path: _read(path) for path in folder.glob("owner-*.json")}
    line = ""
    if locks := sorted(folder.glob("*.lock")):
        if not all(notes.values()) or not notes:
            return ""
        if all(map(_is_dead, notes.values())):
            if not _claim(notes):
                return ""
            for lock in locks:
                lock.unlink(missing_ok=True)
            owner = next(iter(notes.values()))
            line = f"removed the lock of a Snakemake that was killed (process {owner['pid']} on {owner['host']})"
    note = folder.absolute() / f"owner-{platform.node()}-{os.getpid()}.json"
    own = {**_here(), "pid": os.getpid(), "command": command_of(os.getpid()), "job": os.environ.get("SLURM_JOB_ID")}
    with contextlib.suppress(OSError, MachineError):    # without a note, a lock is left to the user
        write_atomic(note, json.dumps(own).encode())
        atexit.register(note.unlink, missing_ok=True)
    return line


def _claim(notes: Iterable[Path]) -> bool:
    """Take the notes away; of two processes that find the same dead owner, one succeeds and removes its lock."""
    try:
        for path in sorted(notes):
            path.rename(path.with_suffix(f".{os.getpid()}")).unlink(missing_ok=True)
        return True
    except OSError:
        return False


def _here() -> dict[str, str]:
    """Where process numbers mean the same: containers may share a host's name."""
    space = os.readlink(PID_NAMESPACE) if os.path.lexists(PID_NAMESPACE) else ""
    return {"host": platform.node(), "space": space}


def _read(path: Path) -> dict[str, Any]:
    try:
        note = json.loads(path.read_text(encoding="utf-8"))
        return {**{key: note[key] for key in ("host", "space", "command", "job")}, "pid": int(note["pid"])}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def _is_dead(note: Mapping[str, Any]) -> bool:
    if note and all(note[key] == value for key, value in _here().items()):
        return command_of(note["pid"]) not in (note["command"], [])    # the number may be another process's now
    return bool(note.get("job")) and job_state(str(note["job"])) == ""
