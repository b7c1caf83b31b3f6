"""The end of a cell's training log: how far it came, what happened last, whether it is still written to.

Layer 0, for whoever asks about cells that have no result yet: status and report. Only the end of a log is read, and
nothing in it is believed to be well-formed: it may be cut off, overwritten or no text at all.
"""

import json
import os
import platform
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

TAIL_BYTES = 65536
EVENT = "@qablate "
EPOCH = re.compile(r"Epoch +([0-9]{1,6})/[0-9]{1,6} \(([0-9]{1,9}(?:\.[0-9]{1,3})?)s\)")
ENDED = ("stop", "fail", "result")
POSITIONED = ("resume", "checkpoint")
SILENCE_S = 120.0
"""Seconds that a running cell may stay silent beyond its checkpoint interval: loading, one batch, a busy disk."""
LONGEST_INTERVAL_S = 3600.0


@dataclass(frozen=True)
class LogTail:
    """What the last lines of a log say.

    `event`: the last event; `began`: the last start or resume; `saved_epoch`: the epoch under way when the last
    checkpoint was written. `epoch`: of the last epoch line; `seconds`: of all epoch lines in the tail.
    `modified`: seconds since 1970, None without a log.
    """

    event: Mapping[str, Any] = field(default_factory=dict)
    began: Mapping[str, Any] = field(default_factory=dict)
    saved_epoch: int | None = None
    epoch: int = 0
    seconds: tuple[float, ...] = ()
    modified: float | None = None

    @property
    def name(self) -> str:
        """Name of the last event, empty if there is none."""
        return str(self.event.get("event", ""))

    @property
    def reason(self) -> str:
        """Reason that the last event gives, in one line that any terminal can show."""
        return _in_one_line(str(self.event.get("reason", "")))

    def silent_for(self, now: float | None = None) -> float | None:
        """Seconds since the log was last written to."""
        return None if self.modified is None else max(0.0, (time.time() if now is None else now) - self.modified)

    def is_running(self, checkpoint_interval: float, now: float | None = None) -> bool:
        """Whether a process seems to be at work on this log.

        A running cell writes a line at every epoch and every checkpoint, so that one that has been silent for much
        longer is none. A process of this machine that is gone is known to be gone.
        """
        silence = self.silent_for(now)
        if silence is None or not self.began or self.name in ENDED or self.process_gone:
            return False
        usual = max(1.5 * min(checkpoint_interval, LONGEST_INTERVAL_S), 3 * max(self.seconds, default=0.0))
        return silence < usual + SILENCE_S

    @property
    def process_gone(self) -> bool:
        """Whether the process that wrote this log was one of this machine and is no more."""
        process = self.began.get("pid")
        if self.began.get("host") != platform.node() or type(process) is not int or not 0 < process < 2**31:
            return False
        try:
            os.kill(process, 0)
        except ProcessLookupError:
            return True
        except OSError:
            return False
        return False


def log_path(results: Path, name: str) -> Path:
    """Log of the cell with this name below a results folder."""
    return results / "logs" / "train" / f"{name}.log"


def read_tail(log: Path) -> LogTail:
    """Read the end of a log; an empty LogTail if there is none that can be read."""
    try:
        return parse_tail(*read_end(log, TAIL_BYTES))
    except OSError:
        return LogTail()


def read_end(path: Path, n_bytes: int) -> tuple[str, float | None]:
    """Return the last bytes of a file as text, and when it was written; nothing and None for what is no file."""
    if not path.is_file():
        return "", None
    status = path.stat()
    with path.open("rb") as file:
        file.seek(max(0, status.st_size - n_bytes))
        return file.read(n_bytes).decode("utf-8", errors="replace"), status.st_mtime


def parse_tail(text: str, modified: float | None = None) -> LogTail:
    """Say what the last lines of a log tell; a training that starts anew hides the epochs before it."""
    event: dict[str, Any] = {}
    began: dict[str, Any] = {}
    saved, epoch, seconds = None, 0, list[float]()
    for line in text.splitlines():
        if line.startswith(EVENT):
            event = parse_event(line)
            if event.get("event") == "start":
                saved, epoch, seconds = None, 0, []
            if event.get("event") in ("start", "resume"):
                began = event
            if event.get("event") in POSITIONED:
                saved = event["epoch"] if _is_count(event.get("epoch")) else None
        elif found := EPOCH.match(line):
            epoch = int(found[1])
            seconds.append(float(found[2]))
    return LogTail(event, began, saved, epoch, tuple(seconds), modified)


def parse_event(line: str) -> dict[str, Any]:
    """Return the event that a line of a log holds, an empty mapping if it is damaged."""
    try:
        event = json.loads(line.removeprefix(EVENT))
    except (ValueError, RecursionError):
        return {}
    return event if isinstance(event, dict) else {}


def duration(seconds: float) -> str:
    """`50 s`, `12 min` or `3.4 h`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 <= value < 10**6


def _in_one_line(text: str) -> str:
    return "".join(sign if sign.isprintable() else " " for sign in text[:500])
