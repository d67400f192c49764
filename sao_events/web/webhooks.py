"""What other services send: verified over its raw bytes, read strictly, and answered once what it asks for is durable.

Which service sends to an endpoint follows from the configuration. The order of work is that of trust: address, method,
size, signature; only then is anything in the message read.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl

from starlette.types import Receive, Scope, Send

from sao_events.config import WebhookConfig
from sao_events.errors import SaoError
from sao_events.events import Recorded
from sao_events.inputs.delivery import Message, Provider, Said, Unknown, Unverified
from sao_events.inputs.providers import PROVIDERS
from sao_events.inputs.remote import wanted
from sao_events.inputs.strict import Malformed
from sao_events.ports import Draft
from sao_events.web.access import Keys
from sao_events.web.answers import Problem, answer, send_json
from sao_events.web.backend import Backend
from sao_events.web.gather import Gather
from sao_events.web.message import Head, read_body
from sao_events.web.sources import Sources

LOG = logging.getLogger("sao_events.web")


@dataclass(frozen=True, slots=True)
class Hook:
    """An endpoint: who sends to it, and the secrets that prove it."""

    name: str
    config: WebhookConfig
    provider: Provider
    keys: Keys

    @property
    def limit(self) -> int:
        """The longest body that is taken, in bytes."""
        return self.config.body_limit or self.provider.body_limit


class Webhooks:
    """/webhooks/{name}: what the configured service sends there."""

    def __init__(self, backend: Backend, now: Callable[[], float], gather: Gather) -> None:
        self.backend, self.gather, self.sources = backend, gather, Sources(backend)
        self.hooks = {
            name: Hook(name, hook, PROVIDERS[hook.provider], Keys(hook.secrets, now))
            for name, hook in backend.config.webhooks.items()
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """202 when something new was recorded, 200 for what is known or asks for nothing, 401 where it is not known
        who sent it.
        """
        hook = self._hook(scope)
        message = await self._verified(hook, scope, receive)
        said = _read(hook, message, self.backend.clock.now())
        if said.answer is not None:
            await answer(said.answer.body, said.answer.status, said.answer.headers)(scope, receive, send)
            return
        drafts, ignored = await self._drafts(hook, said)
        if ignored is not None:
            await send_json(send, 200, {"ignored": ignored})
            return
        recorded = await self.gather.record(drafts)
        status = 202 if any(recorded) else 200
        await send_json(send, status, {"events": [_told(item) for item in recorded]})

    def _hook(self, scope: Scope) -> Hook:
        hook = self.hooks.get(scope["path_params"]["name"])
        if hook is None or ("rest" in scope["path_params"] and not hook.provider.paths):
            raise _no_such_webhook()
        if scope["method"] not in hook.provider.methods:
            allowed = {"allow": ", ".join(hook.provider.methods)}
            raise Problem(405, "method not allowed", hint="see the header Allow", headers=allowed)
        return hook

    async def _verified(self, hook: Hook, scope: Scope, receive: Receive) -> Message:
        secrets = hook.keys.values()
        if not secrets:
            hint = "set what its entry in sao.yml names"
            raise Problem(403, "this webhook is not open: its secret is not set", hint=hint)
        head = Head(scope)
        body = await read_body(head, receive, hook.limit, compressed=hook.provider.compressed)
        message = _message(scope, head, body)
        try:
            hook.provider.verify(secrets, message, self.backend.clock.now())
        except Unknown:
            raise _no_such_webhook() from None
        except Unverified as error:
            raise Problem(401, error.message, hint=error.hint) from None
        return message

    async def _drafts(self, hook: Hook, said: Said) -> tuple[Sequence[Draft], str | None]:
        """The events that a message asks for, or why it asks for none."""
        at, sender, git = self.backend.clock.now(), f"webhook {hook.name}", self.backend.config.git
        if said.ignored is not None:
            return [], said.ignored
        if said.landings:
            ids = await self.sources.ids([landing.name for landing in said.landings])
            rules = self.sources.rules
            drafts = [it.draft(ids[it.name], at, said.delivery, sender, rules) for it in said.landings]
            return drafts, None
        repository = hook.config.repository or (git.remote if git else None)
        pushes, ignored = wanted(said, repository, git.branch if git else None)
        return [push.draft(hook.provider.name, said.repository, at, sender) for push in pushes], ignored


def _read(hook: Hook, message: Message, now: float) -> Said:
    try:
        return hook.provider.read(message, now)
    except SaoError:
        raise
    except Exception:
        LOG.exception("a message of the webhook %s could not be read: this is a bug", hook.name)
        raise Malformed("the message cannot be understood", hint="please report this: see the service's log") from None


def _message(scope: Scope, head: Head, body: bytes) -> Message:
    repeated = frozenset(name.decode("latin-1") for name in head.repeated)
    path = scope["path_params"].get("rest", "")
    return Message(scope["method"], path, _query(scope["query_string"]), head.all(), body, repeated)


def _query(text: bytes) -> Mapping[str, str]:
    try:
        return dict(parse_qsl(text.decode("ascii"), max_num_fields=16, errors="strict"))
    except ValueError:
        return {}


def _no_such_webhook() -> Problem:
    return Problem(404, "no such webhook", hint="its name is that under webhooks in sao.yml")


def _told(recorded: Recorded | None) -> dict[str, Any]:
    return {"seq": recorded.seq if recorded else None, "duplicate": recorded is None}
