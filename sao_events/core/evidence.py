"""What an environment takes for new data: loads that brought nothing, that broke off, that belong together.

Decided once, when a landing is recorded, and part of the event from then on: a changed configuration does not change
the past.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal, TypeAlias

from sao_events.core.events import DataLanded

Taken: TypeAlias = Literal["count", "record"]
AHEAD = 300.0  # seconds by which the clock of a loader may be ahead of the one here


@dataclass(frozen=True, slots=True)
class Evidence:
    """`empty`: a complete load of no rows, which has not replaced any; `partial`: one that broke off after it wrote:
    each counts as new data or is only recorded. `loads`: by a name for people, sources that are new only when all have
    landed with one load id.
    """

    empty: Taken = "record"
    partial: Taken = "count"
    loads: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def judged(self, landed: DataLanded) -> DataLanded:
        """`landed` with what follows for it from these rules; its source and those of `loads` are ids."""
        if landed.partial:
            counts = self.partial == "count"
        else:
            counts = self.empty == "count" or landed.rows != 0 or landed.replaces is True
        name, together = self._load_of(landed.source)
        if (counts, name, together) == (landed.counts, landed.load, landed.together):
            return landed
        return replace(landed, counts=counts, load=name, together=together)

    def _load_of(self, source: str) -> tuple[str | None, tuple[str, ...]]:
        for name, sources in self.loads.items():
            if source in sources:
                return name, sources
        return None, ()


def is_ahead(loaded_at: float | None, now: float) -> bool:
    """Whether a load time cannot be true: until it comes, the loads that follow would look old."""
    return loaded_at is not None and loaded_at > now + AHEAD


def in_two_loads(loads: Mapping[str, Iterable[str]]) -> tuple[str, str, str] | None:
    """A source that belongs to two loads, with their names: its landings could not say which they are of."""
    seen: dict[str, str] = {}
    for name, sources in loads.items():
        for source in sources:
            if seen.setdefault(source, name) != name:
                return source, seen[source], name
    return None
