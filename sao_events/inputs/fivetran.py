"""Fivetran's webhooks: https://fivetran.com/docs/rest-api/api-reference/webhooks. They name a connection, no tables.

The signature is the hex HMAC-SHA256 of the body; the documentation writes it in upper case, the wire has lower case.
"""

from __future__ import annotations

from collections.abc import Sequence

from sao_events.inputs import fields, told
from sao_events.inputs.data import split_name
from sao_events.inputs.delivery import Message, Provider, Said
from sao_events.inputs.landing import Landing, Place
from sao_events.inputs.loads import LIMIT, object_of
from sao_events.inputs.signed import hmac_hex

SIGNATURE = "x-fivetran-signature-256"
END, SUCCESS = "sync_end", "SUCCESSFUL"
LABELS = ("connector_id", "connector_name", "connector_type", "destination_group_id")


def verify(secrets: Sequence[str], message: Message, now: float) -> str:
    """See `Provider.verify`."""
    given = message.header(SIGNATURE)
    return hmac_hex(secrets, message.body, given.lower() if given and given.isascii() else given)


def read(message: Message, now: float) -> Said:
    """See `Provider.read`. Only the end of a sync that succeeded is new data."""
    body = object_of(message)
    event, sync = fields.text(body, "event"), told.identity(body.get("sync_id"))
    delivery = f"{sync}/{event}" if sync else None
    if event != END:
        return Said(delivery, ignored="only the end of a sync is acted on")
    status = fields.text(fields.mapping(body, "data"), "status")
    if status != SUCCESS:
        return Said(delivery, ignored="the sync did not succeed")
    fields.text(body, "connector_id")
    landing = Landing(
        load_id=sync,
        loaded_at=told.instant(body.get("created")),
        scope="connection",
        place=_place(fields.text_or_none(body, "connector_name")),
        labels=told.labels(body, *LABELS),
    )
    return Said(delivery, landings=(landing,))


def _place(name: str | None) -> Place | None:
    """A connection is named after the schema that it fills, or after schema and table."""
    parts = split_name(name or "")
    if not 0 < len(parts) <= 2 or not all(parts):
        return None
    return Place(parts[0], parts[1] if len(parts) == 2 else None)


PROVIDER = Provider(
    name="fivetran", title="Fivetran", kind="data", verify=verify, read=read, kept=("user-agent",), body_limit=LIMIT
)
