"""The clock of the real world; the only place of the package where the service reads it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

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
