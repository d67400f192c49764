"""The body of a data event: which sources have new data, and what their loader knows of it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from sao_events.core.evidence import AHEAD, is_ahead
from sao_events.inputs.landing import Landing, Place
from sao_events.inputs.strict import Malformed, Refused, shown

MOST, TEXT_LENGTH, ROWS = 1000, 256, 2**63 - 1
LABELS = 32
NAMES = ("source", "sources", "relation", "labels")
KEYS = frozenset((*NAMES, "load_id", "loaded_at", "rows", "bytes", "status"))
STATUSES = ("success", "partial", "failed")
EXAMPLE = (
    'send {"source": "raw.orders"}, with load_id, loaded_at, rows if known; or {"sources": [...]}; or a list of these'
)
_PART = re.compile(r"""((?:"[^"]*"|`[^`]*`|\[[^]]*\]|[^."`[])*+)\.""")
_NAME = re.compile(f"(?:{_PART.pattern})++")
_INSTANT = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d([.,]\d{1,9})?)?(Z|[+-]\d\d:?\d\d)", re.ASCII | re.IGNORECASE)


def read_landings(body: Any, now: float) -> list[Landing]:
    """What a body says of at least one and at most `MOST` sources; loads that failed are left out.

    Raises Malformed, or Refused for a load time more than `AHEAD` seconds after `now`: it would make the loads that
    follow look old.
    """
    items = body if isinstance(body, list) else [body]
    found = list[Landing | None]()
    for item in items:
        found += _landings(item, now)
    if not found:
        raise Malformed("no source is named", hint=EXAMPLE)
    if len(found) > MOST:
        raise Malformed(f"{len(found)} sources in one request", hint=f"send at most {MOST} at once")
    return [landing for landing in found if landing is not None]


def check_key(header: str | None) -> str | None:
    """The Idempotency-Key header as it came. Raises Malformed where it is empty, long or not plain text."""
    if header is not None and not (0 < len(header) <= TEXT_LENGTH and header.isascii() and header.isprintable()):
        raise Malformed("Idempotency-Key is not usable", hint=f"send 1 to {TEXT_LENGTH} printable ASCII characters")
    return header


def unknown_source(name: str, nearest: Sequence[str]) -> Refused:
    """The error for a source that the project does not have; `nearest` are the names most like it."""
    hint = f"did you mean {' or '.join(nearest)}?" if nearest else "the project has no source of a similar name"
    return Refused(f"{shown(name)} is not a source of the project", hint=hint)


def read_instant(value: object) -> float:
    """UTC epoch seconds of an ISO-8601 instant with its offset, such as 2026-01-31T08:00:00Z. Raises Malformed."""
    if isinstance(value, str) and _INSTANT.fullmatch(value):
        try:
            return datetime.fromisoformat(value.upper()).astimezone(UTC).timestamp()
        except (ValueError, OverflowError):
            pass
    hint = "send one with its offset, such as 2026-01-31T08:00:00Z"
    raise Malformed(f"loaded_at {shown(value)} is not an instant", hint=hint)


def _landings(item: Any, now: float) -> list[Landing | None]:
    shared = _checked(item)
    if "sources" not in shared:
        return [_landing(shared, now)]
    named = shared.pop("sources")
    if "source" in shared:
        raise Malformed("both source and sources are given", hint=EXAMPLE)
    if not isinstance(named, list):
        raise Malformed("sources is not a list", hint=EXAMPLE)
    return [_landing(shared | (_checked(one) if isinstance(one, dict) else {"source": one}), now) for one in named]


def _checked(item: Any) -> dict[str, Any]:
    if not isinstance(item, dict):
        raise Malformed("the body is neither an object nor a list of objects", hint=EXAMPLE)
    if not KEYS.issuperset(item):
        raise Malformed(f"unknown key {shown(min(item.keys() - KEYS))}", hint=EXAMPLE)
    return dict(item)


def _landing(item: Mapping[str, Any], now: float) -> Landing | None:
    source, relation, status = item.get("source"), item.get("relation"), item.get("status", STATUSES[0])
    labels = _labels(item.get("labels"))
    if relation is not None and source is not None:
        raise Malformed("both source and relation are given", hint=EXAMPLE)
    for key, name in (("source", source), ("relation", relation)):
        if name is not None and not (isinstance(name, str) and 0 < len(name) <= TEXT_LENGTH * 4):
            raise Malformed(f"{key} is not a name", hint=EXAMPLE)
    if source is None and relation is None and not labels:
        raise Malformed("source is not a name", hint=EXAMPLE)
    if status not in STATUSES:
        raise Malformed(f"status {shown(status)} is not known", hint=f"send one of {', '.join(STATUSES)}")
    landing = Landing(
        source,
        _load_id(item.get("load_id")),
        _loaded_at(item.get("loaded_at"), now),
        _count(item, "rows"),
        partial=status == "partial",
        size=_count(item, "bytes"),
        place=None if relation is None else read_place(relation),
        labels=labels,
    )
    return None if status == "failed" else landing


def _labels(value: Any) -> dict[str, str]:
    if value is None:
        return {}
    if not isinstance(value, dict) or len(value) > LABELS:
        raise Malformed(f"labels is not an object of at most {LABELS} texts", hint=EXAMPLE)
    for name, text in value.items():
        if not (isinstance(text, str) and 0 < len(text) <= TEXT_LENGTH * 4 and 0 < len(name) <= TEXT_LENGTH):
            raise Malformed(f"the label {shown(name)} is not text", hint="send labels as text")
    return dict(value)


def is_ours(body: Any) -> bool:
    """Whether a body is one that `read_landings` would read, and not one of somebody else's."""
    if isinstance(body, list):
        return bool(body) and all(isinstance(item, dict) and is_ours(item) for item in body)
    return isinstance(body, dict) and body.keys() <= KEYS and not body.keys().isdisjoint(NAMES)


def read_place(relation: str) -> Place:
    """The place that `database.schema.table`, `schema.table` or `table` names; its parts may be quoted. Raises
    Malformed.
    """
    parts = split_name(relation)
    if not 0 < len(parts) <= 3 or not all(parts):
        raise Malformed(f"{shown(relation)} is not a relation", hint="send database.schema.table")
    database, schema, table = [None] * (3 - len(parts)) + list[str | None](parts)
    return Place(schema, table, database)


def split_name(name: str) -> list[str]:
    """The parts of a dotted name, each as it is written; a dot in quotes belongs to its part. None where a quote has no
    end.
    """
    return [part.strip() for part in _PART.findall(f"{name}.")] if _NAME.fullmatch(f"{name}.") else []


def _load_id(value: Any) -> str | None:
    if value is not None and not (isinstance(value, str) and 0 < len(value) <= TEXT_LENGTH):
        raise Malformed("load_id is not usable", hint=f"send text of 1 to {TEXT_LENGTH} characters")
    return value


def _loaded_at(value: Any, now: float) -> float | None:
    if value is None:
        return None
    instant = read_instant(value)
    if is_ahead(instant, now):
        raise Refused(
            f"loaded_at {shown(value)} is more than {AHEAD / 60:g} minutes ahead of the clock here",
            hint="check the loader's clock and time zone: with it, the loads that follow would look old",
        )
    return instant


def _count(item: Mapping[str, Any], key: str) -> int | None:
    value: Any = item.get(key)
    if value is not None and (isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= ROWS):
        raise Malformed(f"{key} is not a count", hint="send a whole number from 0 on")
    return value
