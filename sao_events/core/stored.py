"""Events in their one form in JSON, as the log keeps them. Values that are the default of their field are left out.

Names of events and fields are the stored format: they may be added to, never renamed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, fields
from functools import cache, lru_cache
from typing import Any

from sao_events.core.errors import StoreError
from sao_events.core.events import EVENTS, Event, Observed
from sao_events.core.lineage import Code
from sao_events.core.records import values_of


def event_to_json(event: Event) -> tuple[str, dict[str, Any]]:
    """The event's type name and its fields as JSON values; fields with their default value are left out."""
    return type(event).__name__, _given(event)


def event_from_json(kind: str, body: Mapping[str, Any]) -> Event:
    """The inverse of `event_to_json`. Raises StoreError for a type this release does not know."""
    if kind not in EVENTS:
        raise StoreError(
            f"the log holds an event of the unknown type {kind}",
            hint="it was written by a newer release: upgrade sao-events",
        )
    values = dict(body)
    if list in map(type, body.values()):
        values = {name: tuple(value) if isinstance(value, list) else value for name, value in body.items()}
    if "observed" in values:
        values["observed"] = _observed(values["observed"])
    if "code" in values:
        values["code"] = _code(values["code"])
    return EVENTS[kind](**values)


def code_to_json(code: Code) -> Any:
    """A code identity as one string: base and columns with tabs between them; as lists where a name has a tab."""
    parts = [code.base, *(part for column in code.columns for part in column)]
    return "\t".join(parts) if not any("\t" in part for part in parts) else [code.base, [list(c) for c in code.columns]]


_PLAIN = (str, int, float, bool)


def _plain(value: Any) -> Any:
    if value is None or value.__class__ in _PLAIN:
        return value
    if isinstance(value, Code):
        return code_to_json(value)
    if isinstance(value, Observed):
        return _given(value)
    if isinstance(value, Mapping):
        return {name: _plain(item) for name, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, tuple) else value


def _given(value: Any) -> dict[str, Any]:
    names, defaults, values = _fields(value.__class__)
    told = zip(names, values(value), defaults, strict=True)
    return {name: _plain(found) for name, found, default in told if found is not default and found != default}


@cache  # one for each type of event
def _fields(kind: Any) -> tuple[list[str], list[Any], Callable[[Any], Sequence[Any]]]:
    """The names of the fields, their defaults, and what gets the values of all."""
    made = fields(kind)
    names = [one.name for one in made]
    defaults = [one.default if one.default_factory is MISSING else one.default_factory() for one in made]
    return names, defaults, values_of(kind)


def _code(value: Any) -> Code:
    if isinstance(value, str):
        return _code_of(value)
    return Code(value[0], tuple((name, identity) for name, identity in value[1]))


@lru_cache(maxsize=100_000)
def _code_of(text: str) -> Code:
    base, *rest = text.split("\t")
    return Code(base, tuple(zip(rest[::2], rest[1::2], strict=True)))


def _observed(body: Mapping[str, Any]) -> Observed:
    codes = {name: _code(value) for name, value in body.get("codes", {}).items()}
    counts = body.get("clears", 0), body.get("drops", 0)
    fingerprint, versions = body["fingerprint"], body.get("versions", {})
    return Observed(fingerprint, versions, codes, *counts, body.get("parts", {}), body.get("builds", {}))
