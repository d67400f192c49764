"""Bitbucket Cloud: https://support.atlassian.com/bitbucket-cloud/docs/event-payloads/. A push has several changes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sao_events.inputs import fields
from sao_events.inputs.delivery import Message, Provider, Push, Repository, Said, object_of
from sao_events.inputs.signed import hmac_hex
from sao_events.inputs.strict import Malformed

EVENT, DELIVERY, SIGNATURE = "x-event-key", "x-request-uuid", "x-hub-signature"
_FOLDERS = {
    "branch": "refs/heads/",
    "named_branch": "refs/heads/",
    "bookmark": "refs/heads/",
    "tag": "refs/tags/",
    "annotated_tag": "refs/tags/",
}


def verify(secrets: Sequence[str], message: Message, now: float) -> str:
    """By the HMAC-SHA256 of the raw body."""
    return hmac_hex(secrets, message.body, message.header(SIGNATURE), "sha256=")


def read(message: Message, now: float) -> Said:
    """Pushes; everything else is ignored."""
    event, delivery = message.header(EVENT), message.header(DELIVERY)
    if not event:
        raise Malformed("the header X-Event-Key is missing", hint="is it Bitbucket that sends here?")
    payload = object_of(message)
    if event != "repo:push":
        return Said(delivery, ignored="only pushes are acted on")
    changes = fields.mappings(fields.mapping(payload, "push"), "changes")
    return Said(delivery, _repository(payload), tuple(_push(change) for change in changes))


def _repository(payload: Mapping[str, Any]) -> Repository:
    block = fields.mapping(payload, "repository")
    page = fields.mapping_or_empty(fields.mapping_or_empty(block, "links"), "html")
    return Repository(fields.text(block, "full_name"), fields.addresses(page, "href"))


def _push(change: Mapping[str, Any]) -> Push:
    ends = [fields.mapping(change, key) if change.get(key) is not None else None for key in ("old", "new")]
    found = [(_ref(end), fields.commit(fields.mapping(end, "target"), "hash")) for end in ends if end is not None]
    if not found or len({ref for ref, _ in found}) > 1:
        raise fields.missing("old and new")
    nothing = "0" * len(found[0][1])
    before, after = (None if end is None else _hash(end) for end in ends)
    return Push(
        ref=found[0][0],
        before=before or nothing,
        after=after or nothing,
        created=before is None,
        deleted=after is None,
        forced=fields.flag(change, "forced"),
    )


def _hash(end: Mapping[str, Any]) -> str:
    return fields.commit(fields.mapping(end, "target"), "hash")


def _ref(end: Mapping[str, Any]) -> str:
    folder = _FOLDERS.get(fields.text(end, "type"))
    if folder is None:
        raise fields.missing("type")
    return fields.ref({"name": folder + fields.text(end, "name")}, "name")


PROVIDER = Provider(
    name="bitbucket_cloud",
    title="Bitbucket Cloud",
    kind="git",
    verify=verify,
    read=read,
    kept=(EVENT, DELIVERY, "x-hook-uuid", "x-attempt-number"),
)
