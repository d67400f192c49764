"""GitLab: https://docs.gitlab.com/user/project/integrations/webhook_events/. Project, group and system hooks.

A secret that begins with `whsec_` is a signing token: once there is one, only signed messages are taken, because a
message can be sent without its signature by anyone. Any other secret is compared with the secret token.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sao_events.inputs import fields
from sao_events.inputs.delivery import Message, Provider, Pull, Push, Repository, Said, moved, object_of
from sao_events.inputs.signed import SIGNING, standard_header, standard_webhooks, token

KINDS = ("push", "tag_push")


def verify(secrets: Sequence[str], message: Message, now: float) -> str:
    """By the signature where a signing token is configured, else by the header X-Gitlab-Token."""
    if any(secret.startswith(SIGNING) for secret in secrets):
        return standard_webhooks(secrets, message, now)
    return token(secrets, message.header("x-gitlab-token"), "the header X-Gitlab-Token")


def read(message: Message, now: float) -> Said:
    """Pushes of branches and tags, merge requests. X-Gitlab-Event-UUID is shared by several hooks and is no id."""
    delivery = standard_header(message, "id") or message.header("idempotency-key")
    payload = object_of(message)
    kind = fields.text_or_none(payload, "object_kind") or fields.text(payload, "event_name")
    if kind == "merge_request":
        return _request(payload, delivery)
    if kind not in KINDS:
        return Said(delivery, ignored="only pushes and merge requests are acted on")
    return Said(delivery, repository(payload), (_push(payload),))


def repository(payload: Mapping[str, Any]) -> Repository:
    """Which project the payload is about. Raises Malformed."""
    block = fields.mapping(payload, "project")
    return Repository(
        fields.text(block, "path_with_namespace"),
        fields.addresses(block, "git_http_url", "git_ssh_url", "http_url", "ssh_url", "web_url"),
        fields.text_or_none(block, "default_branch"),
    )


def _request(payload: Mapping[str, Any], delivery: str | None) -> Said:
    """An update without `oldrev` changes the title, a label or the like, and no code."""
    request = fields.mapping(payload, "object_attributes")
    action = request.get("action")
    if action not in ("open", "reopen") and not (action == "update" and request.get("oldrev")):
        return Said(delivery, ignored="a merge request is looked at when its code changes")
    ours, theirs = request.get("target_project_id"), request.get("source_project_id")
    fork = not isinstance(ours, int) or ours != theirs
    head = fields.commit(fields.mapping(request, "last_commit"), "id")
    pull = Pull(fields.number(request, "iid"), head, fields.text(request, "target_branch"), fork)
    return Said(delivery, repository(payload), pull=pull)


def _push(payload: Mapping[str, Any]) -> Push:
    before, after = fields.commit(payload, "before"), fields.commit(payload, "after")
    return moved(fields.ref(payload, "ref"), before, after, files=fields.files(payload))


PROVIDER = Provider(
    name="gitlab",
    title="GitLab",
    kind="git",
    verify=verify,
    read=read,
    kept=("x-gitlab-event", "x-gitlab-instance", "idempotency-key", "webhook-id"),
)
