"""The store in one SQLite file: write-ahead log, acknowledged events synced to disk, commits shared by all who wait.

Several processes may use one file. The schema is in `migrations/`.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import astuple
from itertools import chain, groupby, islice
from pathlib import Path
from threading import Lock
from typing import Any, NamedTuple, TypeAlias, cast

from sao_events.core.compact import encoder
from sao_events.core.errors import StoreError, UsageError
from sao_events.core.events import Recorded
from sao_events.core.events import subject as about
from sao_events.core.identity import Known
from sao_events.core.stored import event_from_json, event_to_json
from sao_events.ports import Delivered, Draft, Incoming, Receipt
from sao_events.store import identities
from sao_events.store.database import STATEMENTS, connect, explained, migrate, migrations, transaction
from sao_events.store.deliveries import SqliteTable, delivered_of, question, take
from sao_events.store.drafts import check, check_incoming
from sao_events.store.pieces import put_together, taken_apart
from sao_events.store.writer import GroupedWriter

_Values: TypeAlias = tuple[float, str, str | None, str, str, str | None, str | None]
_Row: TypeAlias = tuple[Draft, _Values]

# Many rows by one statement: while it runs, so do other threads of Python. One for each length, as they stay prepared.
_INSERT = "INSERT INTO events (at, kind, key, sender, body, subject, run) VALUES (?, ?, ?, ?, ?, ?, ?)"
_INSERTS = [_INSERT + ", (?, ?, ?, ?, ?, ?, ?)" * more for more in range(STATEMENTS // 2)]
_PUT_AFTER = "SELECT seq, key FROM events WHERE seq > ? ORDER BY seq"
_READ = "SELECT seq, at, kind, key, sender, body FROM events WHERE seq > ? ORDER BY seq LIMIT ?"
_FIND = """
    SELECT seq, at, kind, key, sender, body FROM events
    WHERE {conditions} ORDER BY seq DESC LIMIT ?
"""
_LAST = "SELECT max(seq) FROM events"
_PUT_PROJECT = "INSERT INTO projects (digest, body) VALUES (?, ?) ON CONFLICT DO NOTHING"
_GET_PROJECT = "SELECT body FROM projects WHERE digest = ?"
_PUT_CHECKPOINT = """
    INSERT INTO checkpoint (id, seq, body) VALUES (1, ?, ?)
    ON CONFLICT (id) DO UPDATE SET seq = excluded.seq, body = excluded.body WHERE excluded.seq >= seq
"""
_GET_CHECKPOINT = "SELECT seq, body FROM checkpoint"

# What wrong fields of an event, or bytes that are no JSON, may raise.
_UNREADABLE = (TypeError, ValueError, LookupError, AttributeError, RecursionError)

_to_json = encoder(ensure_ascii=True)


class _Arrival(NamedTuple):
    incoming: Incoming
    rows: Sequence[_Values]  # of its drafts


class SqliteStore:
    """`Store` in a SQLite file. Every method may be called from any thread; errors are StoreError and name the file."""

    def __init__(self, path: str | Path) -> None:
        """Open the file, creating it and its directory where they are missing, and bring its schema up to date."""
        self.path = Path(path).expanduser().absolute()
        self._reading, self._writing = Lock(), Lock()
        with explained(self.path):
            self._writes = connect(self.path)
            try:
                migrate(self._writes, self.path, migrations())
                self._reads = connect(self.path)
                self._identity = _identity(self.path)
            except BaseException:
                self._writes.close()
                raise
        self._deliveries = SqliteTable(self._writes)
        self._writer: GroupedWriter[_Row | _Arrival, Recorded | Receipt | None] = GroupedWriter(self._insert)

    def append(self, drafts: Sequence[Draft]) -> list[Recorded | None]:
        """See `Store.append`."""
        return self.submit(drafts).result()

    def submit(self, drafts: Sequence[Draft]) -> Future[list[Recorded | None]]:
        """See `Store.submit`."""
        check(drafts)
        future = self._writer.submit([(draft, _row(draft)) for draft in drafts])
        return cast("Future[list[Recorded | None]]", future)

    def receive(self, incoming: Sequence[Incoming]) -> Future[list[Receipt]]:
        """See `Store.receive`."""
        check_incoming(incoming)
        arrivals = [_Arrival(one, [_row(draft) for draft in one.drafts]) for one in incoming]
        return cast("Future[list[Receipt]]", self._writer.submit(arrivals))

    def _insert(self, requests: list[Sequence[_Row | _Arrival]]) -> list[list[Recorded | Receipt | None]]:
        with explained(self.path), self._writing:
            self._still_there()
            with transaction(self._writes):
                put = iter(self._put_in([item for items in requests for item in items]))
                return [list(islice(put, len(items))) for items in requests]

    def _put_in(self, items: Sequence[_Row | _Arrival]) -> list[Recorded | Receipt | None]:
        put: list[Recorded | Receipt | None] = []
        for kind, group in groupby(items, type):
            if kind is _Arrival:
                put += map(self._put_arrival, cast("Iterable[_Arrival]", group))
            else:
                put += self._put_events(cast("list[_Row]", list(group)))
        return put

    def _put_arrival(self, arrival: _Arrival) -> Receipt:
        rows = iter(arrival.rows)
        return take(arrival.incoming, self._deliveries, lambda draft: self._put_events([(draft, next(rows))])[0])

    def _put_events(self, rows: Sequence[_Row]) -> list[Recorded | None]:
        """What each became, in their order; None where its key is there."""
        most = len(_INSERTS)
        return [put for first in range(0, len(rows), most) for put in self._put_together(rows[first : first + most])]

    def _put_together(self, rows: Sequence[_Row]) -> list[Recorded | None]:
        done = self._writes.execute(_INSERTS[len(rows) - 1], list(chain.from_iterable([values for _, values in rows])))
        if not done.rowcount:
            return [None] * len(rows)
        last = (done.lastrowid or 0) - done.rowcount  # what is inserted gets numbers that follow each other
        if done.rowcount == len(rows):  # in their order, as the rows of one statement are
            return [_recorded(seq, draft) for seq, (draft, _) in enumerate(rows, last + 1)]
        new = {key: seq for seq, key in self._writes.execute(_PUT_AFTER, (last,)) if key is not None}
        put: list[Recorded | None] = []
        for draft, _ in rows:
            seq = last + 1 if draft.key is None else new.pop(draft.key, None)
            put.append(None if seq is None else _recorded(seq, draft))
            last = last if seq is None else seq
        return put

    def _still_there(self) -> None:
        """SQLite goes on writing into a file that was deleted, where no one will ever find it."""
        if _identity(self.path) != self._identity:
            raise StoreError(
                f"{self.path} was removed or replaced while it was in use; nothing was recorded",
                hint="put it back, or restart: then a new state is begun",
            )

    def read(self, after: int = 0, limit: int = 10_000) -> list[Recorded]:
        """See `Store.read`."""
        return self._events(_READ, after, limit)

    def _events(self, question: str, *values: Any) -> list[Recorded]:
        rows = self._ask(question, *values)
        try:
            return _decoded(rows)
        except _UNREADABLE as error:
            raise StoreError(
                f"{self.path} holds an event that cannot be read: {_first_unreadable(rows)} ({error})",
                hint="a newer release wrote it, or the file is damaged: upgrade sao-events or restore a backup",
            ) from error

    def find(
        self,
        kinds: Sequence[str] | None = None,
        subject: str | None = None,
        run: str | None = None,
        before: int | None = None,
        limit: int = 100,
    ) -> list[Recorded]:
        """See `Store.find`."""
        # A kind that stands in a partial index must stand in the statement itself for the index to be used.
        names = ", ".join(f"'{kind}'" for kind in kinds or () if kind.isalpha())
        asked: list[tuple[str, Any]] = [("subject = ?", subject), ("run = ?", run), ("seq < ?", before)]
        given = [(condition, value) for condition, value in asked if value is not None]
        conditions = " AND ".join([f"kind IN ({names})"] * (kinds is not None) + [c for c, _ in given]) or "1"
        return self._events(_FIND.format(conditions=conditions), *(value for _, value in given), max(limit, 0))

    def deliveries(
        self,
        endpoint: str | None = None,
        verdict: str | None = None,
        before: int | None = None,
        limit: int = 100,
        *,
        lost: bool = False,
    ) -> list[Delivered]:
        """See `Store.deliveries`."""
        asked, values = question(endpoint, verdict, before, limit, lost=lost)
        return [delivered_of(row) for row in self._ask(asked, *values)]

    def last(self) -> int:
        """See `Store.last`."""
        return self._ask(_LAST)[0][0] or 0

    def put_project(self, digest: str, body: bytes) -> None:
        """See `Store.put_project`."""
        row, pieces = taken_apart(body)
        self._put_all(identities.PUT_TEXT, pieces)
        self._put(_PUT_PROJECT, digest, row)

    def get_project(self, digest: str) -> bytes:
        """See `Store.get_project`."""
        found = self._ask(_GET_PROJECT, digest)
        if not found:
            raise StoreError(f"there is no project {digest} in {self.path}", hint="load the project again")
        try:
            return put_together(found[0][0], lambda names: self._ask_each(identities.GET_TEXTS, names))
        except (KeyError, zlib.error) as error:
            raise StoreError(f"{self.path} holds a damaged project: {error}", hint="restore a backup") from None

    def put_texts(self, texts: Mapping[str, str]) -> None:
        """See `Store.put_texts`."""
        self._put_all(identities.PUT_TEXT, identities.text_rows(texts))

    def get_texts(self, digests: Iterable[str]) -> dict[str, str]:
        """See `Store.get_texts`."""
        return identities.texts_of(self._ask_each(identities.GET_TEXTS, digests))

    def put_known(self, known: Iterable[Known]) -> None:
        """See `Store.put_known`."""
        self._put_all(identities.PUT_KNOWN, [astuple(one) for one in known])

    def get_known(self, inputs: Iterable[str]) -> list[Known]:
        """See `Store.get_known`."""
        return [Known(*row) for row in self._ask_each(identities.GET_KNOWN, inputs)]

    def states_of(self, node: str, limit: int = 10) -> list[Known]:
        """See `Store.states_of`."""
        return [Known(*row) for row in self._ask(identities.STATES_OF, node, max(limit, 0))]

    def put_checkpoint(self, seq: int, body: bytes) -> None:
        """See `Store.put_checkpoint`."""
        self._put(_PUT_CHECKPOINT, seq, zlib.compress(body, level=1))

    def get_checkpoint(self) -> tuple[int, bytes] | None:
        """See `Store.get_checkpoint`; None too where it is damaged, since it can be made again."""
        for seq, body in self._ask(_GET_CHECKPOINT):
            try:
                return seq, zlib.decompress(body)
            except zlib.error:
                return None
        return None

    def close(self) -> None:
        """Record what was submitted, fold the write-ahead log into the file, and let go of it. May be called again."""
        self._writer.close()
        with explained(self.path), self._writing, self._reading:
            self._reads.close()
            self._writes.close()

    def _ask(self, question: str, *values: Any) -> list[Any]:
        with explained(self.path), self._reading:
            return self._reads.execute(question, values).fetchall()

    def _ask_each(self, question: str, values: Iterable[str]) -> list[Any]:
        """The answers to a question about a list of texts, asked in one go."""
        return self._ask(question, json.dumps(sorted(set(values))))

    def _put_all(self, statement: str, rows: Sequence[Sequence[Any]]) -> None:
        if rows:
            with explained(self.path), self._writing:
                self._still_there()
                with transaction(self._writes):
                    self._writes.executemany(statement, rows)

    def _put(self, statement: str, *values: Any) -> None:
        with explained(self.path), self._writing:
            self._still_there()
            with transaction(self._writes):
                self._writes.execute(statement, values)


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino


def _row(draft: Draft) -> _Values:
    kind, body = event_to_json(draft.event)
    try:
        return draft.at, kind, draft.key, draft.sender, _to_json(body), about(draft.event), body.get("run")
    except ValueError as error:
        raise UsageError(f"the event {kind} holds a number that is not finite", hint="leave it out") from error


def _decoded(rows: list[Any]) -> list[Recorded]:
    # One call of the parser for all: it is faster and shares the names of fields.
    if not rows:
        return []
    places, times, kinds, keys, senders, texts = zip(*rows, strict=True)
    events = map(event_from_json, kinds, json.loads(f"[{','.join(texts)}]"))
    return list(map(Recorded, places, times, events, keys, senders))


def _first_unreadable(rows: list[Any]) -> int:
    for row in rows:
        try:
            _decoded([row])
        except _UNREADABLE:
            return int(row[0])
    return int(rows[0][0])


def _recorded(seq: int, draft: Draft) -> Recorded:
    return Recorded(seq, draft.at, draft.event, draft.key, draft.sender)
