"""What the shell needs from the outside: a log, something that builds, a clock. Adapters implement these protocols."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Protocol

from sao_events.events import Event, Recorded
from sao_events.project import Project


@dataclass(frozen=True, slots=True)
class Draft:
    """An event to be appended. `at` is its instant (UTC epoch seconds); a `key` that is already in the log makes it a
    duplicate.
    """

    event: Event
    at: float
    key: str | None = None
    sender: str = "engine"


class Store(Protocol):
    """The append-only log with one total order, beside it the projects by digest and a checkpoint that may be lost."""

    def append(self, drafts: Sequence[Draft]) -> list[Recorded | None]:
        """Append in order, in one transaction, durable on return. None for a draft whose key is already in the log.
        Thread-safe.

        Raises StoreError where the log cannot be written: then nothing of it is there, and it may be tried again.
        Raises UsageError for what could not be read back: an instant that is not finite, a key that is no valid text.
        """

    def submit(self, drafts: Sequence[Draft]) -> Future[list[Recorded | None]]:
        """`append` without waiting: the future holds what it would return, or its StoreError. What one thread submits
        is recorded in its order. Cancelling the future takes nothing back.
        """

    def read(self, after: int = 0, limit: int = 10_000) -> list[Recorded]:
        """Events with `seq > after`, in order."""

    def find(
        self,
        kinds: Sequence[str] | None = None,
        subject: str | None = None,
        run: str | None = None,
        before: int | None = None,
        limit: int = 100,
    ) -> list[Recorded]:
        """Events of `kinds`, about the node, source or test `subject`, of the run `run`, with a `seq` below `before`;
        newest first, at most `limit`.
        """

    def last(self) -> int:
        """The `seq` of the newest event; 0 for an empty log."""

    def put_project(self, digest: str, body: bytes) -> None:
        """Keep a serialised project under its digest; writing it again changes nothing."""

    def get_project(self, digest: str) -> bytes:
        """The project stored under `digest`. Raises StoreError where there is none."""

    def put_checkpoint(self, seq: int, body: bytes) -> None:
        """Keep a folded state; only the newest is kept."""

    def get_checkpoint(self) -> tuple[int, bytes] | None:
        """The newest checkpoint, or None."""

    def close(self) -> None:
        """Release what the store holds."""


@dataclass(frozen=True, slots=True)
class Piece:
    """What one invocation of the builder does: a connected part of a run. `project` is the digest of the project it
    is built from.
    """

    id: str
    run: str
    nodes: tuple[str, ...]
    tests: tuple[str, ...]
    project: str
    full_refresh: bool = False


@dataclass(frozen=True, slots=True)
class NodeBegan:
    """The builder has begun with a node."""

    piece: str
    node: str


@dataclass(frozen=True, slots=True)
class NodeEnded:
    """The builder is done with a node: `success`, `error`, `skipped` or `interrupted`; `seconds` of work."""

    piece: str
    node: str
    status: str
    seconds: float = 0.0
    message: str | None = None
    same_content: bool = False
    words: str | None = None


@dataclass(frozen=True, slots=True)
class TestEnded:
    """The builder is done with a test: `pass`, `warn`, `fail`, `error`, `skipped` or `interrupted`."""

    __test__ = False

    piece: str
    test: str
    status: str
    seconds: float = 0.0
    message: str | None = None


@dataclass(frozen=True, slots=True)
class PieceEnded:
    """The invocation is over. `status`: `done` (whatever its nodes did), `error` (dbt itself could not do it),
    `interrupted`.
    """

    piece: str
    status: str = "done"
    message: str | None = None


Report = NodeBegan | NodeEnded | TestEnded | PieceEnded


class Builder(Protocol):
    """Carries out pieces in the background and reports. Where `gated`, a piece is one node or one test, decided again
    at its turn.
    """

    gated: bool

    def ready(self, project: str) -> bool:
        """Whether pieces of the project with this digest can be built now."""

    def start(self, piece: Piece, project: Project) -> None:
        """Begin with a piece; returns at once. Never raises for what dbt does: that comes as a report."""

    def reports(self) -> list[Report]:
        """What has happened since the last call, in order."""

    def cancel(self, run: str) -> None:
        """Stop the pieces of a run: politely, then by force."""


class Clock(Protocol):
    """Where the shell reads the time."""

    def now(self) -> float:
        """UTC epoch seconds."""
