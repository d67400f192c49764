"""What other services sent, as values for JSON: the same in the API and in the CLI."""

from __future__ import annotations

from typing import Any

from sao_events.ports import Delivered
from sao_events.report import iso


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
