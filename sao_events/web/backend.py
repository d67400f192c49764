"""What HTTP needs of the service."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future
from typing import Protocol

from sao_events.environment import Environment
from sao_events.ports import Incoming, Receipt


class Backend(Environment, Protocol):
    """An environment that takes deliveries, and says when it goes down."""

    @property
    def stopping(self) -> bool:
        """Whether the service is on its way down."""

    def receive(self, incoming: Sequence[Incoming]) -> Future[list[Receipt]]:
        """Record deliveries and their events, as `Store.receive` does."""
