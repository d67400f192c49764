"""The clock of the real world, the only place of the package where the service reads it, and how people read it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime

PACE = 0.5  # of real time, while the machine's clock catches up


class SystemClock:
    """UTC epoch seconds of this machine, never running backwards within one process. Thread-safe.

    Where the machine's clock was set back, time goes on at half its pace until the machine has caught up: whoever waits
    for an instant still sees it come.
    """

    def __init__(self, wall: Callable[[], float] = time.time, steady: Callable[[], float] = time.monotonic) -> None:
        self._wall, self._steady = wall, steady
        self._lock = threading.Lock()
        self._last, self._at = wall(), steady()

    def now(self) -> float:
        """The present instant."""
        with self._lock:
            at = self._steady()
            self._last = max(self._wall(), self._last + (at - self._at) * PACE)
            self._at = at
            return self._last


def seconds_of(instant: str) -> float:
    """Epoch seconds of an instant in ISO-8601."""
    return datetime.fromisoformat(instant).timestamp()


def clock(at: float, now: float) -> str:
    """An instant as a person reads it off a clock here: the time, with the date where it is not today's."""
    there, today = (datetime.fromtimestamp(instant, UTC).astimezone() for instant in (at, now))
    return there.strftime("%H:%M:%S" if there.date() == today.date() else "%Y-%m-%d %H:%M")
