"""Bitbucket Data Center: https://confluence.atlassian.com/bitbucketserver/event-payload-938025882.html.

A push has several changes. A mirror that brought too many says only that: then something changed, and it is looked up.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sao_events.inputs import fields
from sao_events.inputs.delivery import Answer, Message, Provider, Push, Repository, Said, moved, object_of
from sao_events.inputs.signed import authorization, hmac_hex
from sao_events.inputs.strict import Malformed, read_json

EVENT, DELIVERY, SIGNATURE = "x-event-key", "x-request-id", "x-hub-signature"
PING, PUSHES = "diagnostics:ping", ("repo:refs_changed", "mirror:repo_synchronized")


def verify(secrets: Sequence[str], message: Message, now: float) -> str:
    """By the HMAC-SHA256 of the raw body, or by the password where no signature is sent.

    The button that tests a connection signs nothing; that message alone, which asks for nothing, is let through.
    """
    signature = message.header(SIGNATURE)
    if signature is None and _is_test(message):
        return ""
    if signature is None and message.header("authorization"):
        return authorization(secrets, message)
    return hmac_hex(secrets, message.body, signature, "sha256=")


def _is_test(message: Message) -> bool:
    try:
        return message.header(EVENT) == PING and len(message.body) < 64 and read_json(message.body) == {"test": True}
    except Malformed:
        return False


def read(message: Message, now: float) -> Said:
    """Pushes; everything else is ignored."""
    event, delivery = message.header(EVENT), message.header(DELIVERY)
    if not event:
        raise Malformed("the header X-Event-Key is missing", hint="is it Bitbucket that sends here?")
    payload = object_of(message)
    if event == PING:
        return Said(answer=Answer(200, {"ignored": "ping"}))
    if event not in PUSHES:
        return Said(delivery, ignored="only pushes are acted on")
    date = fields.text_or_none(payload, "date") or ""
    if payload.get("refLimitExceeded") is True:
        return Said(delivery, _repository(payload), (Push(stamp=f"{date} {message.digest}"),))
    changes = fields.mappings(payload, "changes")
    return Said(delivery, _repository(payload), tuple(_push(change, date) for change in changes))


def _repository(payload: Mapping[str, Any]) -> Repository:
    block = fields.mapping(payload, "repository")
    name = f"{fields.text(fields.mapping(block, 'project'), 'key')}/{fields.text(block, 'slug')}"
    clone = fields.mapping_or_empty(block, "links").get("clone")
    links = [link for link in clone if isinstance(link, dict)] if isinstance(clone, list) else []
    return Repository(name, tuple(address for link in links for address in fields.addresses(link, "href")))


def _push(change: Mapping[str, Any], date: str) -> Push:
    before, after = fields.commit(change, "fromHash"), fields.commit(change, "toHash")
    ref, deleted = fields.ref(fields.mapping(change, "ref"), "id"), change.get("type") == "DELETE"
    return moved(ref, before, after, deleted=deleted, stamp=date)


PROVIDER = Provider(
    name="bitbucket_dc",
    title="Bitbucket Data Center",
    kind="git",
    verify=verify,
    read=read,
    kept=(EVENT, DELIVERY),
)
