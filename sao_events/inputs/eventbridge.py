"""Amazon EventBridge through an API destination: https://docs.aws.amazon.com/eventbridge/latest/userguide/
eb-api-destinations.html. Its connection sends a header of your choice, here Authorization or X-Api-Key.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from sao_events.inputs import fields, objects, signed, told
from sao_events.inputs.data import is_ours, read_landings
from sao_events.inputs.delivery import Message, Provider, Said
from sao_events.inputs.landing import Landing
from sao_events.inputs.loads import LIMIT, object_of

KEY = "x-api-key"
CREATED, OTHER = "Object Created", "Object "


def verify(secrets: Sequence[str], message: Message, now: float) -> str:
    """See `Provider.verify`."""
    if given := message.header(KEY):
        return signed.token(secrets, given, "the API key")
    return signed.authorization(secrets, message)


def read(message: Message, now: float) -> Said:
    """See `Provider.read`."""
    return said(object_of(message), now)


def said(event: dict[str, object], now: float) -> Said:
    """What one event says, however it came. Raises Malformed."""
    delivery, kind = fields.text(event, "id"), fields.text(event, "detail-type")
    detail, source = fields.mapping(event, "detail"), fields.text(event, "source")
    if source == "aws.s3" and kind.startswith(OTHER):
        if kind != CREATED:
            return Said(delivery, ignored="only objects that are created are new data")
        return Said(delivery, landings=(objects.s3_detail(detail),))
    if is_ours(detail):
        found = [replace(landing, load_id=landing.load_id or delivery) for landing in read_landings(detail, now)]
        return Said(delivery, landings=tuple(found), ignored=None if found else "the load failed")
    labels = told.labels(detail) | {"detail-type": kind, "source": source}
    landing = Landing(load_id=delivery, loaded_at=told.instant(event.get("time")), labels=labels)
    return Said(delivery, landings=(landing,))


PROVIDER = Provider(
    name="eventbridge",
    title="Amazon EventBridge",
    kind="data",
    verify=verify,
    read=read,
    kept=("user-agent",),
    body_limit=LIMIT,
)
