"""When a run has to save or stop: signals, the checkpoint interval, the wall-clock budget."""

import signal
import time
from typing import Any


class Stopped(Exception):
    """The run stopped before its end, with a checkpoint on disk; the message is the reason."""


class Interrupts:
    """Collects reasons to write a checkpoint or to stop; asked between two batches.

    SIGTERM, SIGINT and SIGHUP (unless it is ignored, as under nohup): save and stop. SIGUSR1: save and go on.
    `max_seconds` is the wall-clock budget of this process, counted from `started`; it stops in time to save: a tenth of
    the budget, between 1 and 60 seconds, before it ends.
    """

    def __init__(self, interval: float, max_seconds: float | None, started: float | None = None) -> None:
        self.interval, self.max_seconds = interval, max_seconds
        self.started = time.monotonic() if started is None else started
        self.saved_at = time.monotonic()
        self.stop_signal: str | None = None
        self.save_asked = False
        self._old: dict[int, Any] = {}

    def __enter__(self) -> "Interrupts":
        hang_up = [] if signal.getsignal(signal.SIGHUP) == signal.SIG_IGN else [signal.SIGHUP]
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, *hang_up):
            self._old[number] = signal.signal(number, self._receive)
        return self

    def __exit__(self, *error: object) -> None:
        for number, old in self._old.items():
            signal.signal(number, old)

    def _receive(self, number: int, frame: object) -> None:
        if number == signal.SIGUSR1:
            self.save_asked = True
        else:
            self.stop_signal = signal.Signals(number).name

    def stop_reason(self) -> str | None:
        """Why to save and stop now, or None."""
        if self.stop_signal or self.max_seconds is None:
            return self.stop_signal
        reserve = min(60.0, max(1.0, 0.1 * self.max_seconds))
        over = time.monotonic() - self.started > self.max_seconds - reserve
        return f"wall-clock budget of {self.max_seconds:g} s" if over else None

    def stop_if_due(self) -> None:
        """Raise Stopped if there is a reason; for where a checkpoint is already on disk."""
        if reason := self.stop_reason():
            raise Stopped(reason)

    def save_due(self) -> bool:
        """Whether the interval has passed or a signal asked for a checkpoint."""
        return self.save_asked or time.monotonic() - self.saved_at >= self.interval

    def saved(self) -> None:
        """Note that a checkpoint was written."""
        self.saved_at, self.save_asked = time.monotonic(), False
