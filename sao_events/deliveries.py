"""What other services sent, as values for JSON: the same in the API and in the CLI; and what is judged once more."""

from __future__ import annotations

from typing import Any

from sao_events.config import Config
from sao_events.inputs.matched import Matcher, names_in
from sao_events.ports import Delivered, Incoming, Store
from sao_events.report import iso

SHOWN = 20


def delivery_object(delivered: Delivered) -> dict[str, Any]:
    """A delivery that is on record; `times` are all the same, the first at `at`, the newest at `last`."""
    it = delivered.delivery
    return {
        "id": delivered.id,
        "at": iso(it.at),
        "last": iso(delivered.last),
        "times": it.times,
        "endpoint": it.endpoint,
        "provider": it.provider,
        "verdict": it.verdict,
        "reason": it.reason,
        "delivery": it.delivery,
        "events": list(delivered.events),
        "digest": it.digest,
        "secret": it.secret,
        "headers": dict(it.headers),
        "landings": [dict(landing) for landing in it.landings],
    }


def unmatched(store: Store) -> list[dict[str, Any]]:
    """The newest deliveries that are about no source of the project: what they call it, and what may be meant."""
    return [
        {
            "delivery": item.id,
            "endpoint": item.delivery.endpoint,
            "at": iso(item.last),
            "names": names_in(item.delivery.landings),
            "reason": item.delivery.reason,
        }
        for item in store.deliveries(verdict="unmatched", limit=SHOWN)
        if item.delivery.landings
    ]


def replayed(delivered: Delivered, matcher: Matcher, config: Config, now: float) -> Incoming:
    """The delivery as it is to be recorded once more, in its place, with the mapping as it is now."""
    return matcher.again(delivered, config.rules(delivered.delivery.endpoint), now)
