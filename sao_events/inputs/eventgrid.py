"""Azure Event Grid: https://learn.microsoft.com/azure/event-grid/webhook-event-delivery, in its own schema and as
CloudEvents. The secret is in the address: what asks for validation is answered to those alone who know it.
"""

from __future__ import annotations

from typing import Any

from sao_events.inputs import cloudevents, fields, objects, told
from sao_events.inputs.data import MOST
from sao_events.inputs.delivery import Answer, Message, Said
from sao_events.inputs.landing import Landing
from sao_events.inputs.loads import proven_by_address
from sao_events.inputs.strict import Malformed, media_type, read_json

KIND = "aeg-event-type"
VALIDATION, CREATED, STORAGE = (
    "Microsoft.EventGrid.SubscriptionValidationEvent",
    "Microsoft.Storage.BlobCreated",
    "Microsoft.Storage.",
)


def read(message: Message, now: float) -> Said:
    """See `Provider.read`. The address that a validation offers is never called."""
    kind = media_type(message.header("content-type"))
    if message.method == "OPTIONS" or kind.startswith(cloudevents.STRUCTURED):
        return cloudevents.read(message, now)
    events = read_json(message.body)
    if not isinstance(events, list) or not 0 < len(events) <= MOST or not all(isinstance(e, dict) for e in events):
        raise Malformed(f"the body is not a list of 1 to {MOST} events", hint="is it Event Grid that sends here?")
    if fields.text(events[0], "eventType") == VALIDATION or message.header(KIND) == "SubscriptionValidation":
        code = fields.text(fields.mapping(events[0], "data"), "validationCode")
        return Said(
            fields.text(events[0], "id"), ignored="a validation", answer=Answer(200, {"validationResponse": code})
        )
    landings = [landing for event in events for landing in _landings(event)]
    delivery = fields.text(events[0], "id") if len(events) == 1 else None
    return Said(delivery, landings=tuple(landings), ignored=None if landings else "no event tells of new data")


def _landings(event: dict[str, Any]) -> list[Landing]:
    identity, kind = fields.text(event, "id"), fields.text(event, "eventType")
    data = fields.mapping_or_empty(event, "data")
    if kind.startswith(STORAGE):
        return [objects.azure(data)] if kind == CREATED else []
    labels = told.labels(data) | told.labels(event, "eventType", "subject", "topic")
    return [Landing(load_id=identity, loaded_at=told.instant(event.get("eventTime")), labels=labels)]


PROVIDER = proven_by_address(
    "eventgrid",
    "Azure Event Grid",
    read,
    kept=(KIND, "aeg-subscription-name", "user-agent"),
    methods=("POST", "OPTIONS"),
)
