"""What HTTP needs of the service."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future
from contextlib import AbstractContextManager
from typing import Protocol

from sao_events.config import Config
from sao_events.events import Recorded
from sao_events.ports import Clock, Draft, Incoming, Receipt, Store
from sao_events.report import View


class Backend(Protocol):
    """One environment: its log, its record, and whether it works. Every method may be called from any thread."""

    @property
    def config(self) -> Config:
        """What the environment was told."""

    @property
    def clock(self) -> Clock:
        """Where the instants of events come from."""

    @property
    def store(self) -> Store:
        """The log."""

    @property
    def ready(self) -> bool:
        """Whether a project is in force and the engine runs."""

    @property
    def healthy(self) -> bool:
        """Whether the threads of the service are alive."""

    @property
    def stopping(self) -> bool:
        """Whether the service is on its way down."""

    def submit(self, drafts: Sequence[Draft]) -> Future[list[Recorded | None]]:
        """Append in one transaction; done when durable. None stands for a duplicate."""

    def receive(self, incoming: Sequence[Incoming]) -> Future[list[Receipt]]:
        """Record deliveries and their events, as `Store.receive` does."""

    def view(self) -> AbstractContextManager[View]:
        """What is on record, held still while the context lasts."""

    def wait_change(self, after: int, timeout: float) -> int:
        """Wait at most `timeout` seconds for a folded event after `after`; the newest folded position."""
