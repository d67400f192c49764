"""Azure DevOps: https://learn.microsoft.com/azure/devops/service-hooks/events. It signs nothing and sends a password.

With "resource details to send" set to less than all, a message says only that something was pushed: it is looked up.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sao_events.inputs import fields
from sao_events.inputs.delivery import Message, Provider, Push, Repository, Said, moved, object_of
from sao_events.inputs.signed import authorization


def verify(secrets: Sequence[str], message: Message, now: float) -> str:
    """By the password of Basic authentication, or a bearer token among the HTTP headers of the subscription."""
    return authorization(secrets, message)


def read(message: Message, now: float) -> Said:
    """Pushes; everything else is ignored."""
    payload = object_of(message)
    kind, delivery = fields.text(payload, "eventType"), _delivery(payload)
    if kind != "git.push":
        return Said(delivery, ignored="only pushes are acted on")
    date = fields.text_or_none(payload, "createdDate") or ""
    resource = fields.mapping(payload, "resource") if payload.get("resource") is not None else {}
    if "refUpdates" not in resource:
        return Said(delivery, pushes=(Push(stamp=f"{date} {delivery or message.digest}"),))
    pushes = tuple(_push(update, date) for update in fields.mappings(resource, "refUpdates"))
    return Said(delivery, _repository(resource), pushes)


def _delivery(payload: Mapping[str, Any]) -> str | None:
    """Of the notification, where it says so: the id of the event is the same for every subscription."""
    subscription, number = fields.text_or_none(payload, "subscriptionId"), payload.get("notificationId")
    if subscription and isinstance(number, int):
        return f"{subscription}/{number:x}"
    return fields.text_or_none(payload, "id")


def _repository(resource: Mapping[str, Any]) -> Repository:
    block = fields.mapping(resource, "repository")
    branch = fields.text_or_none(block, "defaultBranch")
    return Repository(fields.text(block, "name"), fields.addresses(block, "remoteUrl", "sshUrl", "webUrl"), branch)


def _push(update: Mapping[str, Any], date: str) -> Push:
    before, after = fields.commit(update, "oldObjectId"), fields.commit(update, "newObjectId")
    return moved(fields.ref(update, "name"), before, after, stamp=date)


PROVIDER = Provider(
    name="azure_devops",
    title="Azure DevOps",
    kind="git",
    verify=verify,
    read=read,
    kept=("x-vss-activityid",),
)
