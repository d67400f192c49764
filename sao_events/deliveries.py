"""What other services sent, as values for JSON: the same in the API and in the CLI; and what is judged once more."""

from __future__ import annotations

from typing import Any

from sao_events.config import Config
from sao_events.core.named import evidence_in
from sao_events.core.project import Project
from sao_events.inputs.mapping import Atlas
from sao_events.inputs.matched import Matcher, names_in
from sao_events.ports import Delivered, Incoming, Receipt, Store
from sao_events.report import iso
from sao_events.store.deliveries import SAID_BEFORE

SHOWN, PAGE = 20, 500


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
    """The newest deliveries of which something is about no source of the project, or waits for one: what they call it,
    and what may be meant.
    """
    return [
        {
            "delivery": item.id,
            "endpoint": item.delivery.endpoint,
            "verdict": item.delivery.verdict,
            "at": iso(item.last),
            "names": names_in(item.delivery.landings),
            "reason": item.delivery.reason,
        }
        for item in store.deliveries(lost=True, limit=SHOWN)
    ]


def replayed(delivered: Delivered, matcher: Matcher, config: Config, now: float) -> Incoming:
    """The delivery as it is to be recorded once more, in its place, with the mapping as it is now."""
    return matcher.again(delivered, config.rules(delivered.delivery.endpoint), now)


def take_up(store: Store, project: Project, config: Config, now: float) -> None:
    """Judge what came before any project was loaded, now that one is. Raises StoreError: what is left then waits on."""
    matcher: Matcher | None = None
    while found := store.deliveries(verdict="waiting", limit=PAGE):
        matcher = matcher or Matcher(Atlas(project), evidence_in(project, config.evidence))
        store.receive([replayed(item, matcher, config, now) for item in reversed(found)]).result()


def waits(receipt: Receipt) -> bool:
    """Whether it waits for a project."""
    return receipt.delivered.delivery.verdict == "waiting"


def may_be_news(receipt: Receipt) -> bool:
    """Whether it is known by what it says alone, not by its id."""
    return receipt.delivered.delivery.reason == SAID_BEFORE
