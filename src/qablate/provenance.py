"""Where, when and by what a result was made: recorded, never a reason to refuse a result."""

import functools
import logging
import os
import platform
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
    root, commit, dirty = Path(__file__).resolve().parents[2], None, None
    if not (root / ".git").exists():
        return None, None
    # also in a checkout of another user: what is asked runs no more of it than this package does
    git = ["git", "-c", f"safe.directory={root}", "-C", str(root)]
    ask = functools.partial(subprocess.run, capture_output=True, text=True, errors="replace", timeout=10, check=True)
    try:
        commit = ask([*git, "rev-parse", "HEAD"]).stdout.strip()
        dirty = bool(ask([*git, "status", "--porcelain", "--untracked-files=no"]).stdout.strip())
    except (OSError, subprocess.SubprocessError) as error:
        reason = (getattr(error, "stderr", "") or str(error)).strip()
        log.warning("%s is not recorded: %s", "git state" if commit is None else "git_dirty", one_line(reason))
    return commit, dirty


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    names = (line.split(":", 1)[1].strip() for line in lines if line.startswith(("model name", "Model")))
    return next(names, platform.processor() or platform.machine())
