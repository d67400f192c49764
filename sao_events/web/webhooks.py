"""What other services send: verified over its raw bytes, read strictly, and answered once what it asks for is durable.

Which service sends to an endpoint follows from the configuration. The order of work is that of trust: address, method,
size, signature; only then is anything in the message read. Every delivery goes on record with its verdict.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import ceil
from typing import Any
from urllib.parse import parse_qsl

from starlette.types import Receive, Scope, Send

from sao_events.config import Config, WebhookConfig
from sao_events.core.errors import SaoError, UsageError
from sao_events.inputs import fetched, openlineage
from sao_events.inputs.delivery import Message, Provider, Pull, Said, Unknown, Unverified
from sao_events.inputs.matched import names_in, waiting
from sao_events.inputs.providers import PROVIDERS
from sao_events.inputs.remote import ANOTHER, unwanted, wanted
from sao_events.inputs.signed import SIGNING, signing_key
from sao_events.inputs.strict import Malformed
from sao_events.ports import Delivery, Incoming, Receipt
from sao_events.web.access import STRONGER, Keys, fingerprint
from sao_events.web.answers import Problem, answer, send_json, told
from sao_events.web.backend import Backend
from sao_events.web.guard import Buckets, Rate
from sao_events.web.message import Head, Room, read_body
from sao_events.web.rejections import Rejections
from sao_events.web.sources import Sources

LOG = logging.getLogger("sao_events.web")
LARGE, LARGE_AT_ONCE, SHOWN, BUFFERED = 200_000, 2, 200, 256_000_000
RATE = Rate(each_second=200.0, at_once=2_000.0)  # of one sender to one webhook
LIMITED = "the webhook's body_limit"
STATUS = {"accepted": 202, "conflict": 409}  # of the other verdicts 200


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

    def delivery(self, message: Message, secret: str, at: float) -> Delivery:
        """The record of a verified message that is not read yet."""
        shown = {name: message.headers[name][:SHOWN] for name in self.provider.kept if name in message.headers}
        by, it = fingerprint(secret) if secret else None, self.provider.name
        return Delivery(at, self.name, it, "invalid", None, None, message.digest, by, shown)


class Webhooks:
    """/webhooks/{name}: what the configured service sends there."""

    def __init__(self, backend: Backend, now: Callable[[], float], rejections: Rejections) -> None:
        self.backend, self.rejections, self.sources = backend, rejections, Sources(backend)
        self.hooks = {name: self._opened(name, hook, now) for name, hook in backend.config.webhooks.items()}
        self.lineage = self._opened("lineage", _lineage(backend.config), now, "data.tokens, for /api/v1/lineage")
        self.now, self.buckets, self.room = now, Buckets(RATE), Room(BUFFERED)
        self._large = asyncio.Semaphore(LARGE_AT_ONCE)
        self._looking_up = asyncio.Semaphore(LARGE_AT_ONCE)

    def _opened(self, name: str, config: WebhookConfig, now: Callable[[], float], whose: str | None = None) -> Hook:
        provider, wall = _provider(config), self.backend.clock.now
        keys = Keys(config.secrets, now, whose=whose or f"webhooks.{name}", wall=wall, unusable=_unusable(provider))
        keys.values()  # so that what is wrong with them is told at once
        return Hook(name, config, provider, keys)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """202 when something new was recorded, 200 for what is known or asks for nothing, 401 where it is not known
        who sent it, 400 for what they sent that is not understood.
        """
        hook = self._hook(scope)
        self._limit(hook, scope)
        try:
            message, secret = await self._verified(hook, scope, receive)
        except SaoError as error:
            self.rejections.count(hook.name, hook.provider.name, error.message)
            raise _no_such_webhook() if isinstance(error, Unknown) else error from None
        delivery = hook.delivery(message, secret, self.backend.clock.now())
        try:
            said = await self._read(hook, message, delivery.at)
            if said.visit is not None:
                await asyncio.to_thread(fetched.fetch, said.visit)
            if said.answer is not None:
                await answer(said.answer.body, said.answer.status, said.answer.headers)(scope, receive, send)
                return
            incoming = await self._judged(hook, said, delivery)
        except UsageError as error:
            await self._record(Incoming(replace(delivery, reason=error.message)))
            raise
        receipt = await self._record(incoming)
        found = receipt.delivered.delivery
        await send_json(send, 202 if found.landings else STATUS.get(found.verdict, 200), _told(receipt))

    def _hook(self, scope: Scope) -> Hook:
        hook = self.hooks.get(scope["path_params"]["name"]) if "name" in scope["path_params"] else self.lineage
        if hook is None or ("rest" in scope["path_params"] and not hook.provider.paths):
            raise _no_such_webhook()
        if scope["method"] not in hook.provider.methods:
            allowed = {"allow": ", ".join(hook.provider.methods)}
            raise Problem(405, "method not allowed", hint="see the header Allow", headers=allowed)
        return hook

    def _limit(self, hook: Hook, scope: Scope) -> None:
        client = scope["client"]
        if wait := self.buckets.take(f"{hook.name} {client[0] if client else ''}", self.now()):
            after = {"retry-after": str(ceil(wait)), "connection": "close"}
            raise Problem(429, "too many messages to this webhook", hint="send fewer", headers=after)

    async def _verified(self, hook: Hook, scope: Scope, receive: Receive) -> tuple[Message, str]:
        """The message, and the secret that proves who sent it."""
        secrets = hook.keys.values()
        if not secrets and (hook.config.secrets or not hook.config.topics):
            hint = "set what its entry in sao.yml names"
            raise Problem(403, "this webhook is not open: its secret is not set", hint=hint)
        head = Head(scope)
        body = await read_body(
            head, receive, hook.limit, compressed=hook.provider.compressed, room=self.room, limited_by=LIMITED
        )
        message = _message(scope, head, body)
        try:
            return message, await self._proof(hook, secrets, message)
        except Unknown:
            raise
        except Unverified as error:
            raise Problem(401, error.message, hint=error.hint) from None

    async def _proof(self, hook: Hook, secrets: Sequence[str], message: Message) -> str:
        if not hook.provider.remote and len(message.body) < LARGE:
            return hook.provider.verify(secrets, message, self.backend.clock.now())
        async with self._looking_up if hook.provider.remote else self._large:
            return await asyncio.to_thread(hook.provider.verify, secrets, message, self.backend.clock.now())

    async def _read(self, hook: Hook, message: Message, now: float) -> Said:
        """What the message says. A large one takes a while, in which others are to be answered."""
        if len(message.body) < LARGE:
            return _read(hook, message, now)
        async with self._large:
            return await asyncio.to_thread(_read, hook, message, now)

    async def _judged(self, hook: Hook, said: Said, delivery: Delivery) -> Incoming:
        """The delivery with its verdict, and the events that it asks for."""
        delivery = replace(delivery, delivery=_usable(said.delivery))
        at, sender, git = delivery.at, f"webhook {hook.name}", self.backend.config.git
        if said.ignored is not None:
            return Incoming(replace(delivery, verdict="ignored", reason=said.ignored))
        if said.landings:
            matcher = await self.sources.matcher()
            if matcher is None:
                return waiting(delivery, said.landings)
            return matcher.judge(delivery, said.landings, hook.config.rules)
        repository = hook.config.repository or (git.remote if git else None)
        if said.pull is not None:
            return self._preview(hook, said, said.pull, repository, delivery)
        pushes, reason = wanted(said, repository, git.branch if git else None)
        if reason is not None:
            verdict = "unmatched" if reason.startswith(ANOTHER) else "ignored"
            return Incoming(replace(delivery, verdict=verdict, reason=reason))
        drafts = [push.draft(hook.provider.name, said.repository, at, sender) for push in pushes]
        return Incoming(replace(delivery, verdict="accepted"), drafts)

    def _preview(self, hook: Hook, said: Said, pull: Pull, repository: str | None, delivery: Delivery) -> Incoming:
        """A pull or merge request, judged."""
        previews, git = self.backend.config.previews, self.backend.config.git
        if previews is None or git is None:
            return Incoming(
                replace(delivery, verdict="ignored", reason="previews are not switched on (previews.token)")
            )
        if reason := unwanted(said, repository, git.branch, forks=previews.forks):
            return Incoming(replace(delivery, verdict="unmatched" if reason == ANOTHER else "ignored", reason=reason))
        draft = pull.draft(hook.provider.name, said.repository, delivery.at, f"webhook {hook.name}")
        return Incoming(replace(delivery, verdict="accepted"), [draft])

    async def _record(self, incoming: Incoming) -> Receipt:
        [receipt] = await asyncio.wrap_future(self.backend.receive([incoming]))
        found = receipt.delivered.delivery
        if found.verdict == "conflict":
            LOG.warning("the webhook %s had a delivery that is not acted on: %s", found.endpoint, found.reason)
        return receipt


def _unusable(provider: Provider) -> Callable[[str], str | None]:
    """Why a value is no secret of this kind of sender."""

    def reason(value: str) -> str | None:
        if len(value) < provider.least:
            return f"has fewer than the {provider.least} characters that {provider.title} needs: {STRONGER}"
        if value.startswith(SIGNING) and signing_key(value) is None:
            return f"begins with {SIGNING} but is no signing token: copy all of it"
        return None

    return reason


def _provider(config: WebhookConfig) -> Provider:
    provider = PROVIDERS[config.provider]
    return provider.topics(config.topics) if provider.topics is not None else provider


def _lineage(config: Config) -> WebhookConfig:
    """The endpoint that clients of OpenLineage know, open to the tokens for data and to the first webhook of theirs."""
    mine = config.lineage()
    secrets = (*config.data_tokens, *(mine.secrets if mine else ()))
    return WebhookConfig(openlineage.PROVIDER.name, secrets, rules=mine.rules if mine else ())


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


def _usable(delivery: str | None) -> str | None:
    """The sender's id of a delivery, where it is one that can be kept."""
    good = delivery is not None and 0 < len(delivery) <= SHOWN and delivery.isascii() and delivery.isprintable()
    return delivery if good else None


def _no_such_webhook() -> Problem:
    return Problem(404, "no such webhook", hint="its name is that under webhooks in sao.yml")


def _told(receipt: Receipt) -> dict[str, Any]:
    found, number = receipt.delivered.delivery, receipt.delivered.id
    if found.verdict == "conflict":
        return {"error": found.reason, "hint": "a delivery id stands for one delivery", "delivery": number}
    if found.landings:
        events = [told(item) for item in receipt.recorded]
        return {"events": events, "unmatched": names_in(found.landings), "hint": found.reason, "delivery": number}
    if not receipt.recorded:
        return {"ignored": found.reason, "delivery": number}
    return {"events": [told(item) for item in receipt.recorded], "delivery": number}
