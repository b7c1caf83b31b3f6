"""Where, when and by what a result was made: recorded, never a reason to refuse a result."""

import contextlib
import functools
import logging
import os
import platform
import re
import resource
import shlex
import subprocess
import sys
import time
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from qablate import __version__
from qablate.errors import one_line

log = logging.getLogger(__name__)


def provenance_of_process() -> dict[str, Any]:
    """Describe this process: host, processor, job, commit, versions and command line."""
    commit, dirty = _git_state()
    return {
        "host": platform.node() or "unknown",
        "cpu": _cpu_name(),
        "job_id": os.environ.get("SLURM_JOB_ID"),
        "array_task_id": os.environ.get("SLURM_ARRAY_TASK_ID"),
        "git_commit": commit,
        "git_dirty": dirty,
        "package_version": __version__,
        "python": platform.python_version(),
        "torch": metadata.version("torch"),
        "numpy": metadata.version("numpy"),
        "command": command_line(),
    }


def command_line() -> str:
    """The line that repeats this run, without the folder of the program."""
    line = shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]])[:4000]
    return line.encode("utf-8", "backslashreplace").decode("utf-8")  # a file name may be no text


def utc_time(seconds: float) -> str:
    """A time in seconds since 1970 as `2026-01-31T12:00:00Z`."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def utc_now() -> str:
    """The current time in the form of `utc_time`."""
    return utc_time(time.time())


def peak_memory_mb() -> float:
    """Largest resident size of this process so far, in MB (Linux counts in kB, macOS in bytes)."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak / (1e6 if sys.platform == "darwin" else 1e3), 1)


@functools.cache
def _git_state() -> tuple[str | None, bool | None]:
    """Commit and dirty flag of the checkout this package runs from; None for an installed copy, or with a line why."""
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return None, None
    # also in a checkout of another user: what is asked runs no more of it than this package does
    ask = ["git", "-c", f"safe.directory={root}", "-C", str(root), "status", "--porcelain=v2", "--branch", "-uno"]
    try:
        done = subprocess.run(ask, capture_output=True, text=True, errors="replace", timeout=10, check=True)
    except (OSError, subprocess.SubprocessError) as error:
        log.warning("git state is not recorded: %s", one_line((getattr(error, "stderr", "") or str(error)).strip()))
        return None, None
    commit = re.search("^# branch.oid ([0-9a-f]+)$", done.stdout, re.MULTILINE)
    return commit and commit[1], any(not line.startswith("#") for line in done.stdout.splitlines())


def _cpu_name() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith(("model name", "Model")):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()
