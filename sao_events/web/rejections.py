"""Deliveries of nobody knows whom: counted, and recorded now and then, so that who may not send cannot fill a disk."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from concurrent.futures import Future

from sao_events.core.errors import SaoError
from sao_events.ports import Delivery, Incoming, Receipt
from sao_events.web.backend import Backend

LOG = logging.getLogger("sao_events.web")
PAUSE, MOST = 1.0, 1_000


class Rejections:
    """Counts by endpoint and reason; what was counted is recorded after `PAUSE` seconds. For use in the event loop."""

    def __init__(self, backend: Backend) -> None:
        self.backend = backend
        self._counted: Counter[tuple[str, str, str]] = Counter()
        self._timer: asyncio.TimerHandle | None = None

    def count(self, endpoint: str, provider: str, reason: str) -> None:
        """One more was rejected."""
        if len(self._counted) < MOST or (endpoint, provider, reason) in self._counted:
            self._counted[endpoint, provider, reason] += 1
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(PAUSE, self.record)

    def record(self) -> None:
        """Record what was counted, without waiting for it."""
        self._timer, counted, self._counted = None, self._counted, Counter()
        at = self.backend.clock.now()
        found = [
            Incoming(Delivery(at, endpoint, provider, "rejected", reason, times=times))
            for (endpoint, provider, reason), times in counted.items()
        ]
        if not found:
            return
        try:
            self.backend.receive(found).add_done_callback(_told)
        except SaoError as error:
            LOG.error("rejected deliveries were not recorded: %s", error)


def _told(done: Future[list[Receipt]]) -> None:
    if error := done.exception():
        LOG.error("rejected deliveries were not recorded: %s", error)
