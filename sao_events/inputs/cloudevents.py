"""CloudEvents 1.0 over HTTP: https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/bindings/http-protocol-binding.md.

Binary, structured and batched. What an event is about is in its data: our own words, a file in an object store, a load
job of BigQuery; or rules make sources of its type, source, subject and the plain fields of its data.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any
from urllib.parse import unquote_to_bytes

from sao_events.inputs import fields, objects, told
from sao_events.inputs.data import MOST, is_ours, read_landings
from sao_events.inputs.delivery import Answer, Message, Provider, Said
from sao_events.inputs.landing import Landing, Place
from sao_events.inputs.loads import LIMIT, path_or_proof
from sao_events.inputs.strict import Malformed, UnknownForm, media_type, read_json

Block = Mapping[str, Any]
BATCH, STRUCTURED, PREFIX = "application/cloudevents-batch", "application/cloudevents", "ce-"
ORIGIN = "webhook-request-origin"
GCS, BLOB = "google.cloud.storage.object.v1.", "Microsoft.Storage."
_HOST = re.compile(r"[A-Za-z0-9][A-Za-z0-9.-]{0,252}", re.ASCII)


def read(message: Message, now: float) -> Said:
    """See `Provider.read`."""
    if message.method == "OPTIONS":
        return handshake(message)
    events = _events(message)
    landings = [landing for event in events for landing in _landings(event, now)]
    if len(landings) > MOST:
        raise Malformed(f"{len(landings)} landings in one message", hint=f"at most {MOST} are read")
    delivery = told.identity(f"{events[0]['source']} {events[0]['id']}"[-256:]) if len(events) == 1 else None
    return Said(delivery, landings=tuple(landings), ignored=None if landings else "no event tells of new data")


def handshake(message: Message) -> Said:
    """The answer to a sender that asks whether it may send here: https://github.com/cloudevents/spec/blob/v1.0.2/
    cloudevents/http-webhook.md#4-abuse-protection. That it knows the secret in the address is why it may. The address
    that it offers for a later answer is never called. Raises Malformed.
    """
    origin = message.header(ORIGIN)
    if origin is None or not _HOST.fullmatch(origin):
        raise Malformed("this is no validation request", hint="send the header WebHook-Request-Origin")
    allowed = {"webhook-allowed-origin": origin, "webhook-allowed-rate": "*", "allow": "POST, OPTIONS"}
    return Said(ignored="a validation request", answer=Answer(200, {}, allowed))


def _events(message: Message) -> list[Block]:
    """The events in a message, attributes and data side by side as in structured mode."""
    kind = media_type(message.header("content-type"))
    if kind.startswith(STRUCTURED):
        if kind.rpartition("+")[2] != "json" and "+" in kind:
            raise UnknownForm("this format of CloudEvents is not read", hint="send them as JSON")
        body = read_json(message.body)
        events = body if kind.startswith(BATCH) else [body]
        if not isinstance(events, list) or len(events) > MOST:
            raise Malformed(f"a batch is a list of at most {MOST} events")
        return [_checked(event) for event in events]
    return [_checked(_binary(message, kind))]


def _binary(message: Message, kind: str) -> dict[str, Any]:
    names = {name for name in message.headers if name.startswith(PREFIX)}
    event: dict[str, Any] = {name.removeprefix(PREFIX): _decoded(message.header(name) or "") for name in names}
    if message.body and (kind in ("", "application/json") or kind.endswith("+json")):
        event["data"] = read_json(message.body)
    return event


def _decoded(value: str) -> str:
    """The value of a header: without its quotes, and percent-decoded exactly once. Raises Malformed."""
    if len(value) > 1 and value[0] == value[-1] == '"':
        value = re.sub(r"\\(.)", r"\1", value[1:-1])
    try:
        return unquote_to_bytes(value.encode("latin-1")).decode()
    except UnicodeDecodeError:
        raise Malformed("a ce- header is not UTF-8 once it is decoded", hint="percent-encode UTF-8") from None


def _checked(event: Any) -> Block:
    if not isinstance(event, dict):
        raise Malformed("an event is not an object")
    if event.get("specversion") != "1.0":
        raise Malformed("specversion is not 1.0", hint="send CloudEvents 1.0")
    for key in ("id", "source", "type"):
        fields.text(event, key)
    return event


def _landings(event: Block, now: float) -> list[Landing]:
    kind, data, subject = fields.text(event, "type"), event.get("data"), fields.text_or_none(event, "subject")
    block = data if isinstance(data, dict) else {}
    identity = told.identity(f"{event['source']} {event['id']}"[-256:])
    if kind.startswith(GCS):
        return [objects.gcs(fields.text(block, "bucket"), fields.text(block, "name"), block)] if _is_new(kind) else []
    if kind.startswith(BLOB):
        return [objects.azure(block)] if kind == f"{BLOB}BlobCreated" else []
    if is_ours(data):
        read_ones = read_landings(data, now)
        return [_with(landing, identity, told.instant(event.get("time"))) for landing in read_ones]
    labels = {"type": kind, "source": str(event["source"]), **({"subject": subject} if subject else {})}
    table = _bigquery(block)
    rows = told.count(block.get("rows"))
    time = told.instant(event.get("time"))
    return [Landing(load_id=identity, loaded_at=time, rows=rows, place=table, labels=told.labels(block) | labels)]


def _is_new(kind: str) -> bool:
    return kind == f"{GCS}finalized"


def _with(landing: Landing, load_id: str | None, loaded_at: float | None) -> Landing:
    return replace(landing, load_id=landing.load_id or load_id, loaded_at=landing.loaded_at or loaded_at)


def _bigquery(block: Block) -> Place | None:
    """The table that an entry of BigQuery's audit log says a job has loaded or written."""
    payload = fields.mapping_or_empty(block, "protoPayload")
    job = _down(payload, "serviceData", "jobCompletedEvent", "job", "jobConfiguration")
    for way in ("load", "query", "tableCopy"):
        table = _down(job, way, "destinationTable")
        names = [fields.text_or_none(table, key) for key in ("datasetId", "tableId", "projectId")]
        if names[0] and names[1]:
            return Place(names[0], names[1], names[2])
    return None


def _down(block: Block, *keys: str) -> Block:
    for key in keys:
        block = fields.mapping_or_empty(block, key)
    return block


PROVIDER = Provider(
    name="cloudevents",
    title="CloudEvents",
    kind="data",
    verify=path_or_proof,
    read=read,
    kept=("ce-id", "ce-source", "ce-type", "ce-time", "ce-subject", "user-agent"),
    methods=("POST", "OPTIONS"),
    body_limit=LIMIT,
    paths=True,
)
