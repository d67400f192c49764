"""What the shell needs from the outside: a log, something that builds, a clock. Adapters implement these protocols."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

from sao_events.core.events import Event, Recorded
from sao_events.core.identity import Known
from sao_events.core.project import Project


class Draft(NamedTuple):
    """An event to be appended. `at` is its instant (UTC epoch seconds); a `key` that is already in the log makes it a
    duplicate.
    """

    event: Event
    at: float
    key: str | None = None
    sender: str = "engine"


@dataclass(frozen=True, slots=True)
class Delivery:
    """A message that another service sent to `endpoint`, and what was made of it: `verdict` is one of `VERDICTS`, with
    the `reason` for people. `delivery` is the sender's own id of it, `digest` that of its body, which is not kept;
    `secret` the fingerprint of the secret that proved it; `headers` those that may be shown; `landings` what it said,
    where no source was found for it. `times`: how many there were that are all the same.
    """

    at: float
    endpoint: str
    provider: str
    verdict: str
    reason: str | None = None
    delivery: str | None = None
    digest: str | None = None
    secret: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    landings: tuple[Mapping[str, Any], ...] = ()
    times: int = 1


# accepted: it made events; duplicate: all of it was known; ignored: it asks for nothing; unmatched: it is about what is
# not known here; waiting: it came before any project was loaded; conflict: its id was used for another body; invalid:
# it cannot be understood; rejected: nobody knows who sent it.
VERDICTS = ("accepted", "duplicate", "ignored", "unmatched", "waiting", "conflict", "invalid", "rejected")


@dataclass(frozen=True, slots=True)
class Delivered:
    """A delivery on record under the number `id`: `events` are the positions of those it made, `last` the instant of
    the newest of its `times`.
    """

    id: int
    delivery: Delivery
    events: tuple[int, ...]
    last: float


@dataclass(frozen=True, slots=True)
class Incoming:
    """A delivery to be recorded with the events it asks for. `again`: the number of the one on record that it takes
    the place of, where it is judged a second time.
    """

    delivery: Delivery
    drafts: Sequence[Draft] = ()
    again: int | None = None


@dataclass(frozen=True, slots=True)
class Receipt:
    """What was recorded of a delivery, and of each of its drafts: None for one whose key is already in the log, and
    for all of a delivery that is a duplicate or in conflict.
    """

    delivered: Delivered
    recorded: tuple[Recorded | None, ...]


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

    def receive(self, incoming: Sequence[Incoming]) -> Future[list[Receipt]]:
        """Record deliveries and their events in one transaction; done when durable, or with a StoreError.

        An endpoint's delivery id is taken once. Again with the same body: a duplicate, unless nothing came of the
        first; then it is judged again in its place. With another body: a conflict. Neither makes events or keeps
        landings. One whose drafts are all in the log is a duplicate too. Deliveries that are the same are one with
        their `times`, as are rejected ones of an endpoint, reason and minute; of those that made no event, and do not
        wait, the newest of each verdict stay.
        """

    def deliveries(
        self,
        endpoint: str | None = None,
        verdict: str | None = None,
        before: int | None = None,
        limit: int = 100,
        *,
        lost: bool = False,
    ) -> list[Delivered]:
        """Deliveries to `endpoint`, with `verdict`, with an id below `before`; newest first, at most `limit`. `lost`:
        only those that have `landings`.
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

    def put_texts(self, texts: Mapping[str, str]) -> None:
        """Keep texts under their digests; writing one again changes nothing."""

    def get_texts(self, digests: Iterable[str]) -> dict[str, str]:
        """The texts that are stored under `digests`; those that are not there are left out."""

    def put_known(self, known: Iterable[Known]) -> None:
        """Record states of nodes and tests; of one that is on record all is written again, in its place."""

    def get_known(self, inputs: Iterable[str]) -> list[Known]:
        """The states on record with one of the digests `inputs`, of whatever node."""

    def states_of(self, node: str, limit: int = 10) -> list[Known]:
        """The states of a node or test on record, newest first."""

    def put_checkpoint(self, seq: int, body: bytes) -> None:
        """Keep a folded state; only the newest is kept."""

    def get_checkpoint(self) -> tuple[int, bytes] | None:
        """The newest checkpoint, or None."""

    def close(self) -> None:
        """Release what the store holds."""


@dataclass(frozen=True, slots=True)
class Piece:
    """What one invocation of the builder does: a connected part of a run. `project` is the digest of the project it
    is built from. The content of the nodes in `hashes` is to be hashed, each within so many seconds.
    """

    id: str
    run: str
    nodes: tuple[str, ...]
    tests: tuple[str, ...]
    project: str
    full_refresh: bool = False
    hashes: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class NodeBegan:
    """The builder has begun with a node."""

    piece: str
    node: str


@dataclass(frozen=True, slots=True)
class NodeEnded:
    """The builder is done with a node: `success`, `error`, `skipped` or `interrupted`; `seconds` of work, and
    the columns of the relation with their types, where they were looked at. Where it was to be hashed, the hash of its
    `content` or why it is `unhashed`, and the seconds of `hashing`, which are not in `seconds`.
    """

    piece: str
    node: str
    status: str
    seconds: float = 0.0
    message: str | None = None
    same_content: bool = False
    words: str | None = None
    columns: Mapping[str, str] = field(default_factory=dict)
    content: str | None = None
    unhashed: str | None = None
    hashing: float = 0.0


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

    def hashes(self, adapter: str) -> bool:
        """Whether the content of what is built in such a warehouse can be hashed."""

    def start(self, piece: Piece, project: Project) -> None:
        """Begin with a piece; returns at once. Never raises for what dbt does: that comes as a report."""

    def reports(self) -> list[Report]:
        """What has happened since the last call, in order."""

    def cancel(self, run: str) -> None:
        """Stop the pieces of a run: politely, then by force."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What the warehouse answers to a statement: names of columns, and rows; or the `error`.

    A value is None, a bool, number or text. An instant is ISO-8601 text in UTC with its offset (one without a zone is
    taken as UTC, as dbt does), a decimal without a fraction an int, with one a float, binary data hexadecimal digits;
    everything else is as Python writes it.
    """

    columns: tuple[str, ...] = ()
    rows: tuple[tuple[Any, ...], ...] = ()
    error: str | None = None


class Warehouse(Protocol):
    """Where the data is. What statements write is rolled back.

    `probes.LOADED_AT` and the id of a source in the place of SQL asks dbt itself, as `dbt source freshness` does: by
    the source's `loaded_at_query` with all its Jinja, else by what the adapter knows of the last change of its table.
    """

    def ask(self, statements: Sequence[str], seconds: float, most: int) -> list[Answer]:
        """An answer to each statement, in order, with at most `most` rows; none waits longer than `seconds`, counted
        from when it is put. Blocks, and longer where the warehouse is taken. Never raises for what is asked: an error
        is the answer to its statement alone, or to all where there is no connection.
        """


class Clock(Protocol):
    """Where the shell reads the time."""

    def now(self) -> float:
        """UTC epoch seconds."""
