"""New data as a sender tells of it: where it landed, in the sender's words, and what the sender knows of the load."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from sao_events.core.events import DataLanded
from sao_events.core.evidence import Evidence
from sao_events.ports import Draft

EVERYTHING = Evidence()


@dataclass(frozen=True, slots=True)
class Place:
    """A part of a warehouse: a table, or all of a schema where `table` is None. Names as the sender spells them; one in
    quotes is meant exactly so.
    """

    schema: str | None = None
    table: str | None = None
    database: str | None = None

    def __str__(self) -> str:
        return ".".join(name for name in (self.database, self.schema, self.table or "*") if name)


@dataclass(slots=True)  # not frozen, which costs more than all the rest of reading one
class Landing:
    """New data in the source that `source` names, or at a place, or in whatever the configuration's rules make of the
    `labels`. `loaded_at` is UTC epoch seconds, `size` bytes; `partial`: the load broke off; `scope`: what the sender
    speaks of, a `table`, `schema`, `connection` or `file`; `adapters`: dbt's, in whose warehouses the place can be, of
    any where there are none.
    """

    source: str | None = None
    load_id: str | None = None
    loaded_at: float | None = None
    rows: int | None = None
    partial: bool = False
    size: int | None = None
    replaces: bool | None = None
    scope: str | None = None
    place: Place | None = None
    adapters: tuple[str, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """What the sender calls it, for people."""
        if self.source:
            return self.source
        return str(self.place) if self.place else ", ".join(f"{key} {value}" for key, value in self.labels.items())

    def draft(self, source: str, at: float, header: str | None, sender: str, rules: Evidence = EVERYTHING) -> Draft:
        """The event to be appended for the source with the id `source`, as `rules` judge it. `header` is an id of the
        request, such as its Idempotency-Key, which counts where there is no load id.
        """
        event = DataLanded(
            source,
            self.load_id,
            None if self.loaded_at is None else min(self.loaded_at, at),
            self.rows,
            self.partial,
            size=self.size,
            replaces=self.replaces,
            scope=self.scope,
        )
        judged = rules.judged(event)
        return Draft(judged, at, _key(judged, header), sender)


def landing_to_json(landing: Landing) -> dict[str, Any]:
    """What is kept of a landing that no source was found for."""
    told = asdict(landing)
    return {name: value for name, value in told.items() if value is not None and value not in ({}, ())}


def landing_from_json(body: Mapping[str, Any]) -> Landing:
    """The inverse of `landing_to_json`."""
    place = body.get("place")
    values = {**body, "place": Place(**place) if place else None, "adapters": tuple(body.get("adapters", ()))}
    return Landing(**values)


def _key(event: DataLanded, header: str | None) -> str | None:
    """What is said of a part of a load, or of no rows, must not hide what is said of the whole later."""
    name = event.source.replace("%", "%25").replace("/", "%2F")
    if event.load_id is not None:
        kind = "part" if event.partial else "load" if event.counts else "empty"
        return f"data/{name}/{kind}/{event.load_id}"
    return None if header is None else f"data/{name}/request/{header}"
