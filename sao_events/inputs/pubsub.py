"""Google Pub/Sub push: https://cloud.google.com/pubsub/docs/push. Above all what Cloud Storage publishes of new files:
https://cloud.google.com/storage/docs/pubsub-notifications.

The secret is in the address of the push endpoint. That Google signs a token proves nothing here: anyone who pays Google
can have one signed, and a subscription without a secret address would have to be told apart by audience and account.
"""

from __future__ import annotations

from base64 import b64decode
from binascii import Error as NoBase64
from dataclasses import replace
from typing import Any

from sao_events.inputs import fields, objects, told
from sao_events.inputs.data import is_ours, read_landings
from sao_events.inputs.delivery import Message, Said
from sao_events.inputs.landing import Landing
from sao_events.inputs.loads import object_of, proven_by_address
from sao_events.inputs.strict import Malformed, read_json

FINALIZED = "OBJECT_FINALIZE"


def read(message: Message, now: float) -> Said:
    """See `Provider.read`. A message that is delivered again may count its attempts, so its id is that of the load."""
    inner = fields.mapping(object_of(message), "message")
    delivery = told.identity(inner.get("messageId") or inner.get("message_id"))
    if delivery is None:
        raise fields.missing("messageId")
    attributes = told.labels(fields.mapping_or_empty(inner, "attributes"))
    data = _data(inner.get("data"))
    if "eventType" in attributes and "bucketId" in attributes:
        if attributes["eventType"] != FINALIZED:
            return Said(ignored="only files that are complete are new data")
        generation = {"generation": attributes.get("objectGeneration")}
        item = {**(data if isinstance(data, dict) else {}), **generation}
        return Said(
            delivery, landings=(objects.gcs(attributes["bucketId"], fields.text(attributes, "objectId"), item),)
        )
    if is_ours(data):
        found = [replace(landing, load_id=landing.load_id or delivery) for landing in read_landings(data, now)]
        return Said(landings=tuple(found), ignored=None if found else "the load failed")
    labels = (told.labels(data) if isinstance(data, dict) else {}) | attributes
    if not labels:
        return Said(ignored="the message has neither attributes nor fields that a rule could match")
    published = told.instant(inner.get("publishTime") or inner.get("publish_time"))
    return Said(landings=(Landing(load_id=delivery, loaded_at=published, labels=labels),))


def _data(value: object) -> Any:
    """The JSON in the data; None for data that is no JSON. Raises Malformed for what is not even base64."""
    if value is None:
        return None
    if not isinstance(value, str):
        raise fields.missing("data")
    try:
        raw = b64decode(value, validate=True)
    except (NoBase64, ValueError):
        raise Malformed("data is not base64", hint="is it Pub/Sub that sends here?") from None
    try:
        return read_json(raw)
    except Malformed:
        return None


PROVIDER = proven_by_address("pubsub", "Google Pub/Sub", read)
