"""What a delivery about data comes to: the events for the sources that it is about, and what is about none, kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sao_events.core.evidence import Evidence
from sao_events.inputs.landing import Landing, landing_from_json, landing_to_json
from sao_events.inputs.mapping import Atlas, Found, Rule, shared_out
from sao_events.inputs.strict import shown
from sao_events.ports import Delivered, Delivery, Draft, Incoming

NAMED = 3
DIRECT, KEY = "events/data", "idempotency-key"
NO_PROJECT = "no project is loaded yet: what it is about is found by itself once one is"


@dataclass(frozen=True, slots=True)
class Matcher:
    """The project's sources, and what counts as new data in it."""

    atlas: Atlas
    evidence: Evidence

    def judge(self, delivery: Delivery, landings: Sequence[Landing], rules: Sequence[Rule]) -> Incoming:
        """The delivery with its verdict, and the events that it asks for. `rules` are those of its endpoint."""
        found = [(landing, self.atlas.find(landing, rules)) for landing in landings]
        drafts = [draft for landing, one in found for draft in self._drafts(delivery, landing, one)]
        lost = [(landing, one) for landing, one in found if not one.sources and not one.own]
        if drafts:
            delivery = replace(delivery, verdict="accepted")
        elif lost:
            delivery = replace(delivery, verdict="unmatched")
        else:
            return Incoming(replace(delivery, verdict="ignored", reason="it is about what this project builds itself"))
        if lost:
            kept = tuple(landing_to_json(landing) for landing, _ in lost)
            delivery = replace(delivery, reason=_reason(lost), landings=kept)
        return Incoming(delivery, drafts)

    def again(self, delivered: Delivered, rules: Sequence[Rule], now: float) -> Incoming:
        """What had no source, judged once more, in the place of the first. It is from when it came."""
        first = delivered.delivery
        landings = [landing_from_json(body) for body in first.landings]
        dated = [replace(it, loaded_at=first.at if it.loaded_at is None else it.loaded_at) for it in landings]
        fresh = replace(first, verdict="unmatched", reason=None, landings=())
        judged = self.judge(fresh, dated, rules)
        done = replace(judged.delivery, verdict="accepted") if delivered.events else judged.delivery
        return Incoming(done, [draft._replace(at=now) for draft in judged.drafts], delivered.id)

    def _drafts(self, delivery: Delivery, landing: Landing, found: Found) -> list[Draft]:
        header = f"{delivery.endpoint} {delivery.delivery}" if delivery.delivery else None
        sender = f"webhook {delivery.endpoint}"
        if delivery.endpoint == DIRECT:
            header, sender = delivery.headers.get(KEY), "data"
        return [
            each.draft(source, delivery.at, header, sender, self.evidence)
            for source, each in shared_out(landing, found.sources)
        ]


def waiting(delivery: Delivery, landings: Sequence[Landing]) -> Incoming:
    """The delivery as it is kept while there is no project whose sources it could be about."""
    kept = tuple(landing_to_json(landing) for landing in landings)
    return Incoming(replace(delivery, verdict="waiting", reason=NO_PROJECT, landings=kept))


def _reason(lost: Sequence[tuple[Landing, Found]]) -> str:
    names = [shown(landing.name, 120) for landing, _ in lost]
    nearest = list(dict.fromkeys(name for _, found in lost for name in found.nearest))[:NAMED]
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    hint = f"; did you mean {' or '.join(nearest)}?" if nearest else ""
    return f"no source is known as {', '.join(names[:NAMED])}{more}{hint}"


def names_in(landings: Sequence[Mapping[str, Any]]) -> list[str]:
    """What the landings on record of a delivery are about, as their sender calls it."""
    return [landing_from_json(body).name for body in landings]
