"""Gitea, Forgejo and Gogs: https://docs.gitea.com/usage/webhooks. Each also sends the headers of the others.

What they sign is the JSON text, also where it comes in a form; without a secret they send an empty signature.
"""

from __future__ import annotations

from collections.abc import Sequence

from sao_events.inputs import fields, github
from sao_events.inputs.delivery import Message, Provider, Said, moved, object_of, payload_of
from sao_events.inputs.signed import hmac_hex
from sao_events.inputs.strict import Malformed


def _provider(name: str, title: str) -> Provider:
    event_header, delivery_header, signature_header = (
        f"x-{name}-{part}" for part in ("event", "delivery", "signature")
    )

    def verify(secrets: Sequence[str], message: Message, now: float) -> str:
        return hmac_hex(secrets, payload_of(message), message.header(signature_header))

    def read(message: Message, now: float) -> Said:
        event, delivery = message.header(event_header), message.header(delivery_header)
        if not event:
            raise Malformed(f"the header X-{title}-Event is missing", hint=f"is it {title} that sends here?")
        payload = object_of(message)
        if event != "push":
            return Said(delivery, ignored="only pushes are acted on")
        before, after = fields.commit(payload, "before"), fields.commit(payload, "after")
        ref, files = fields.ref(payload, "ref"), fields.files(payload)
        stamp = fields.text_or_none(fields.mapping(payload, "repository"), "updated_at") or ""
        push = moved(ref, before, after, files=files, stamp=stamp)
        return Said(delivery, github.repository(payload), (push,))

    return Provider(name, title, "git", verify, read, kept=(event_header, delivery_header))


GITEA, FORGEJO, GOGS = _provider("gitea", "Gitea"), _provider("forgejo", "Forgejo"), _provider("gogs", "Gogs")
