"""GitHub: https://docs.github.com/en/webhooks. What it says is a hint; what is deployed is looked up."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sao_events.inputs import fields
from sao_events.inputs.delivery import Message, Provider, Pull, Push, Repository, Said, object_of
from sao_events.inputs.git import is_nothing
from sao_events.inputs.signed import hmac_hex
from sao_events.inputs.strict import Malformed

PREVIEWED = ("opened", "reopened", "synchronize", "ready_for_review")
EVENT, DELIVERY, SIGNATURE = "x-github-event", "x-github-delivery", "x-hub-signature-256"


def verify(secrets: Sequence[str], message: Message, now: float) -> str:
    """By the HMAC-SHA256 of the raw body, of a form too; the older SHA-1 is never looked at."""
    return hmac_hex(secrets, message.body, message.header(SIGNATURE), "sha256=")


def read(message: Message, now: float) -> Said:
    """Pushes and pull requests; everything else is ignored."""
    event, delivery = message.header(EVENT), message.header(DELIVERY)
    if not event:
        raise Malformed("the header X-GitHub-Event is missing", hint="is it GitHub that sends here?")
    payload = object_of(message)
    if event == "ping":
        return Said(delivery, ignored="ping")
    if event == "pull_request":
        if payload.get("action") not in PREVIEWED:
            return Said(delivery, ignored="a pull request is looked at when its code changes")
        return Said(delivery, repository(payload), pull=pull(payload))
    if event != "push":
        return Said(delivery, ignored="only pushes and pull requests are acted on")
    return Said(delivery, repository(payload), (push(payload),))


def repository(payload: Mapping[str, Any]) -> Repository:
    """Which repository the payload is about. Raises Malformed."""
    block = fields.mapping(payload, "repository")
    return Repository(
        fields.text(block, "full_name"),
        fields.addresses(block, "clone_url", "ssh_url", "git_url", "html_url"),
        fields.text_or_none(block, "default_branch"),
    )


def pull(payload: Mapping[str, Any]) -> Pull:
    """The pull request. Raises Malformed. Of a repository that is gone nobody can tell that it is no fork."""
    request = fields.mapping(payload, "pull_request")
    head, base = fields.mapping(request, "head"), fields.mapping(request, "base")
    ours, theirs = (fields.mapping_or_empty(side, "repo").get("full_name") for side in (base, head))
    fork = not isinstance(ours, str) or ours != theirs
    return Pull(fields.number(payload, "number"), fields.commit(head, "sha"), fields.text(base, "ref"), fork)


def push(payload: Mapping[str, Any]) -> Push:
    """The one change of a push. Raises Malformed."""
    before, after = fields.commit(payload, "before"), fields.commit(payload, "after")
    pushed_at = fields.mapping(payload, "repository").get("pushed_at")
    created, deleted, forced = (fields.flag(payload, key) for key in ("created", "deleted", "forced"))
    return Push(
        ref=fields.ref(payload, "ref"),
        before=before,
        after=after,
        created=created,
        deleted=deleted or is_nothing(after),
        forced=forced,
        files=fields.files(payload),
        stamp=str(pushed_at or "") if isinstance(pushed_at, int) else "",
    )


PROVIDER = Provider(
    name="github",
    title="GitHub",
    kind="git",
    verify=verify,
    read=read,
    kept=(EVENT, DELIVERY, "x-github-hook-id"),
)
