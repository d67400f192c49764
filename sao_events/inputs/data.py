"""The body of a data event: which sources have new data, and what their loader knows of it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sao_events.events import DataLanded
from sao_events.inputs.strict import Malformed, Refused, shown
from sao_events.ports import Draft

MOST, TEXT_LENGTH, ROWS = 1000, 256, 2**63 - 1
AHEAD = 300.0
KEYS = ("source", "sources", "load_id", "loaded_at", "rows")
EXAMPLE = (
    'send {"source": "raw.orders"}, with load_id, loaded_at, rows if known; or {"sources": [...]}; or a list of these'
)
_INSTANT = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d([.,]\d{1,9})?)?(Z|[+-]\d\d:?\d\d)", re.ASCII | re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Landing:
    """New data in a source, which `source` names as the sender does. `loaded_at` is UTC epoch seconds."""

    source: str
    load_id: str | None = None
    loaded_at: float | None = None
    rows: int | None = None

    def draft(self, source: str, at: float, header: str | None, sender: str) -> Draft:
        """The event to be appended for the source with the id `source`. `header` is the request's Idempotency-Key,
        which counts where there is no load id.
        """
        event = DataLanded(source, self.load_id, self.loaded_at, self.rows)
        return Draft(event, at, _key(source, self.load_id, header), sender)


def read_landings(body: Any, now: float) -> list[Landing]:
    """What a body says, at least one and at most `MOST`. Raises Malformed, or Refused for a load time more than `AHEAD`
    seconds after `now`: it would make the loads that follow look old.
    """
    items = body if isinstance(body, list) else [body]
    found = [landing for item in items for landing in _landings(item, now)]
    if not found:
        raise Malformed("no source is named", hint=EXAMPLE)
    if len(found) > MOST:
        raise Malformed(f"{len(found)} sources in one request", hint=f"send at most {MOST} at once")
    return found


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


def _landings(item: Any, now: float) -> list[Landing]:
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
    if unknown := item.keys() - set(KEYS):
        raise Malformed(f"unknown key {shown(min(unknown))}", hint=EXAMPLE)
    return dict(item)


def _landing(item: Mapping[str, Any], now: float) -> Landing:
    source = item.get("source")
    if not isinstance(source, str) or not 0 < len(source) <= TEXT_LENGTH * 4:
        raise Malformed("source is not a name", hint=EXAMPLE)
    loaded_at = _loaded_at(item.get("loaded_at"), now)
    return Landing(source, _load_id(item.get("load_id")), loaded_at, _rows(item.get("rows")))


def _load_id(value: Any) -> str | None:
    if value is not None and not (isinstance(value, str) and 0 < len(value) <= TEXT_LENGTH):
        raise Malformed("load_id is not usable", hint=f"send text of 1 to {TEXT_LENGTH} characters")
    return value


def _loaded_at(value: Any, now: float) -> float | None:
    if value is None:
        return None
    instant = read_instant(value)
    if instant > now + AHEAD:
        raise Refused(
            f"loaded_at {shown(value)} is more than {AHEAD / 60:g} minutes ahead of the clock here",
            hint="check the loader's clock and time zone: with it, the loads that follow would look old",
        )
    return instant


def _rows(value: Any) -> int | None:
    if value is not None and (isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= ROWS):
        raise Malformed("rows is not a count", hint="send a whole number from 0 on")
    return value


def _key(source: str, load_id: str | None, header: str | None) -> str | None:
    name = source.replace("%", "%25").replace("/", "%2F")
    if load_id is not None:
        return f"data/{name}/load/{load_id}"
    return None if header is None else f"data/{name}/request/{header}"
