"""What is made of a delivery, by what is on record of the same one, in any store; and its table in SQLite."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Protocol

from sao_events.core.events import Recorded
from sao_events.ports import Delivered, Delivery, Draft, Incoming, Receipt

MOST, MOST_REJECTED = 10_000, 1_000  # how many deliveries are kept of a verdict that made no event
PRUNE = 16  # after how many new ones those that are too many go
TAKEN = ("accepted", "duplicate")
SAID_BEFORE = "the same was reported before"

_FIND = """
    SELECT id, at, last, times, endpoint, provider, verdict, reason, delivery, digest, secret, headers, landings, events
    FROM deliveries WHERE {conditions} ORDER BY id DESC LIMIT ?
"""
_INSERT = """
    INSERT INTO deliveries (
        at, last, times, endpoint, provider, verdict, reason, delivery, digest, secret, headers, landings, events, mark
    ) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
"""
_UPDATE = """
    UPDATE deliveries SET (
        at, last, times, endpoint, provider, verdict, reason, delivery, digest, secret, headers, landings, events
    ) = (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) WHERE id = ?
"""
_PRUNE = """
    DELETE FROM deliveries WHERE verdict = ?1
    AND id < (SELECT id FROM deliveries WHERE verdict = ?1 ORDER BY id DESC LIMIT 1 OFFSET ?2 - 1)
"""
_LOST = "landings <> '[]'"  # as the index says it
_to_json = json.JSONEncoder(separators=(",", ":"), allow_nan=False).encode


class Table(Protocol):
    """Where deliveries are kept: each with the `mark` that those have which count as one, None where it is alone."""

    def get(self, number: int) -> Delivered | None:
        """The one with this number."""

    def find(self, mark: str) -> Delivered | None:
        """The one with this mark."""

    def put(self, delivered: Delivered, mark: str | None) -> int:
        """Write over the one with its number; as a new one where that is 0. The number."""


def take(incoming: Incoming, table: Table, record: Callable[[Draft], Recorded | None]) -> Receipt:
    """Record a delivery, and with `record` its drafts where it is one that counts. To be called in a transaction."""
    delivery, mark = incoming.delivery, mark_of(incoming.delivery)
    place = table.get(incoming.again) if incoming.again else table.find(mark) if mark else None
    recorded: tuple[Recorded | None, ...] = (None,) * len(incoming.drafts)
    if incoming.again and place is not None and not place.delivery.landings:  # somebody else was faster
        return Receipt(place, recorded)
    known = _known(delivery, place) if place is not None and not incoming.again else None
    if known is not None:
        delivery, mark = known, _to_json([known.verdict, known.endpoint, known.delivery, known.digest])
        place = table.find(mark)
    else:
        recorded = tuple(record(draft) for draft in incoming.drafts)
        if recorded and not any(recorded):
            delivery = replace(delivery, verdict="duplicate", reason=SAID_BEFORE)
    made = tuple(item.seq for item in recorded if item is not None)
    delivered = Delivered(0, delivery, made, delivery.at)
    if place is not None:
        times = place.delivery.times + (0 if incoming.again else delivery.times)
        delivery = replace(delivery, at=place.delivery.at, times=times)
        delivered = Delivered(place.id, delivery, place.events + made, delivered.last)
    return Receipt(replace(delivered, id=table.put(delivered, mark)), recorded)


def mark_of(delivery: Delivery) -> str | None:
    """What deliveries have in common that are one: the sender's id; of rejected ones endpoint, reason and minute."""
    if delivery.verdict == "rejected":
        return _to_json(["rejected", delivery.endpoint, delivery.reason, int(delivery.at // 60)])
    return None if delivery.delivery is None else _to_json([delivery.endpoint, delivery.delivery])


def _known(delivery: Delivery, first: Delivered) -> Delivery | None:
    """What a delivery is because of the first with its id; None where that does not matter."""
    if first.delivery.digest != delivery.digest:
        reason = "the same delivery id came with another body before"
        return replace(delivery, verdict="conflict", reason=reason, landings=())
    if first.delivery.verdict in TAKEN:
        return replace(delivery, verdict="duplicate", reason="it was delivered before", landings=())
    return None


def kept(verdict: str) -> int | None:
    """How many deliveries with this verdict are kept; None: all, those that made events or will."""
    return None if verdict in ("accepted", "waiting") else MOST_REJECTED if verdict == "rejected" else MOST


class SqliteTable:
    """The table in a SQLite database; writing is for the thread that holds a transaction."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.connection = connection

    def get(self, number: int) -> Delivered | None:
        """See `Table.get`."""
        return self._one("id = ?", number)

    def find(self, mark: str) -> Delivered | None:
        """See `Table.find`."""
        return self._one("mark = ?", mark)

    def put(self, delivered: Delivered, mark: str | None) -> int:
        """See `Table.put`; what is more than is kept of the verdict goes."""
        if delivered.id:
            self.connection.execute(_UPDATE, (*_row(delivered), delivered.id))
            return delivered.id
        number = self.connection.execute(_INSERT, (*_row(delivered), mark)).lastrowid
        assert number is not None
        verdict = delivered.delivery.verdict
        if number % PRUNE == 0 and (most := kept(verdict)) is not None:
            self.connection.execute(_PRUNE, (verdict, most))
        return number

    def _one(self, condition: str, value: Any) -> Delivered | None:
        found = self.connection.execute(_FIND.format(conditions=condition), (value, 1)).fetchone()
        return None if found is None else delivered_of(found)


def question(
    endpoint: str | None, verdict: str | None, before: int | None, limit: int, *, lost: bool = False
) -> tuple[str, list[Any]]:
    """The statement that finds deliveries, with its values; `delivered_of` reads its rows."""
    asked: list[tuple[str, Any]] = [("endpoint = ?", endpoint), ("verdict = ?", verdict), ("id < ?", before)]
    given = [(condition, value) for condition, value in asked if value is not None]
    conditions = " AND ".join([*(condition for condition, _ in given), *([_LOST] if lost else [])]) or "1"
    return _FIND.format(conditions=conditions), [*(value for _, value in given), max(limit, 0)]


def _row(delivered: Delivered) -> tuple[Any, ...]:
    it = delivered.delivery
    told = (it.endpoint, it.provider, it.verdict, it.reason, it.delivery, it.digest, it.secret)
    lists = (_to_json(dict(it.headers)), _to_json(list(it.landings)), _to_json(delivered.events))
    return (it.at, delivered.last, it.times, *told, *lists)


def delivered_of(row: tuple[Any, ...]) -> Delivered:
    """A row that was found."""
    (
        number,
        at,
        last,
        times,
        endpoint,
        provider,
        verdict,
        reason,
        delivery,
        digest,
        secret,
        headers,
        landings,
        events,
    ) = row
    said = tuple(json.loads(landings))
    told = Delivery(at, endpoint, provider, verdict, reason, delivery, digest, secret, json.loads(headers), said, times)
    return Delivered(number, told, tuple(json.loads(events)), last)
