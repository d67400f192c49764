"""One environment as those see it who work beside its engine."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future
from contextlib import AbstractContextManager
from typing import Protocol

from sao_events.config import Config
from sao_events.core.events import Recorded
from sao_events.ports import Clock, Draft, Store
from sao_events.report import View


class Environment(Protocol):
    """Its log, its record, and whether it works. Every method may be called from any thread."""

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

    def submit(self, drafts: Sequence[Draft]) -> Future[list[Recorded | None]]:
        """Append in one transaction; done when durable. None stands for a duplicate."""

    def view(self) -> AbstractContextManager[View]:
        """What is on record, held still while the context lasts."""

    def wait_change(self, after: int, timeout: float) -> int:
        """Wait at most `timeout` seconds for a folded event after `after`; the newest folded position."""
