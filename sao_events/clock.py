"""The clock of the real world; the only place of the package where the service reads it."""

from __future__ import annotations

import time


class SystemClock:
    """UTC epoch seconds of this machine, never running backwards within one process."""

    def __init__(self) -> None:
        self._last = 0.0

    def now(self) -> float:
        """The present instant; where the machine's clock was set back, the latest one that was given out."""
        self._last = max(self._last, time.time())
        return self._last
