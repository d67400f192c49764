"""Events that come in: the sender is verified, the message read strictly, and answered once its events are durable.

Plain ASGI applications, one for each endpoint: this is the path that must stand a burst.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from starlette.types import Receive, Scope, Send

from sao_events.core.events import Recorded
from sao_events.inputs.data import check_key, read_landings
from sao_events.inputs.git import is_nothing, read_hint
from sao_events.inputs.landing import Landing
from sao_events.inputs.matched import DIRECT, KEY, NO_PROJECT, waiting
from sao_events.inputs.strict import UnknownForm, media_type, read_json
from sao_events.ports import Delivery, Draft
from sao_events.web.access import Keys, require_bearer
from sao_events.web.answers import send_json, told
from sao_events.web.backend import Backend
from sao_events.web.gather import Gather
from sao_events.web.message import Head, read_body
from sao_events.web.sources import Sources


class DataEvents:
    """POST /events/data: new data in sources."""

    def __init__(self, backend: Backend, keys: Keys, gather: Gather) -> None:
        self.backend, self.keys, self.gather = backend, keys, gather
        self.sources = Sources(backend)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """202 when something is new, 200 when all of it was known."""
        head = Head(scope)
        require_bearer(head, self.keys)
        body = await _json_body(head, receive, self.backend)
        key = check_key(head.get(b"idempotency-key"))
        at = self.backend.clock.now()
        landings = read_landings(body, at)
        if not landings:
            await send_json(send, 200, {"ignored": "the load failed"})
            return
        ids = await self.sources.ids([landing.name for landing in landings])
        if ids is None:
            await self._keep(send, landings, key, at)
            return
        rules = self.sources.rules
        drafts = [landing.draft(ids[landing.name], at, key, "data", rules) for landing in landings]
        recorded = await self.gather.record(drafts)
        events = [told(item, source=ids[it.name]) for it, item in zip(landings, recorded, strict=True)]
        await send_json(send, _status(recorded), {"events": events})

    async def _keep(self, send: Send, landings: Sequence[Landing], key: str | None, at: float) -> None:
        """Take what cannot be told from an error before a project is known: it is judged once one is."""
        headers = {KEY: key} if key else {}
        kept = waiting(Delivery(at, DIRECT, "generic", "waiting", headers=headers), landings)
        [receipt] = await asyncio.wrap_future(self.backend.receive([kept]))
        names = [landing.name for landing in landings]
        more = {"unmatched": names, "hint": NO_PROJECT, "delivery": receipt.delivered.id}
        await send_json(send, 202, {"events": [], **more})


class CodeEvents:
    """POST /events/code: a hint that the code changed, from a git hook."""

    def __init__(self, backend: Backend, keys: Keys, gather: Gather) -> None:
        self.backend, self.keys, self.gather = backend, keys, gather

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """202 when it was recorded, 200 when it was known or asks for nothing."""
        head = Head(scope)
        require_bearer(head, self.keys)
        event = read_hint(await _json_body(head, receive, self.backend))
        key = check_key(head.get(b"idempotency-key"))
        if event.commit is not None and is_nothing(event.commit):
            await send_json(send, 200, {"ignored": "the ref was deleted"})
            return
        draft = Draft(event, self.backend.clock.now(), f"code/request/{key}" if key else None, "code")
        recorded = await self.gather.record([draft])
        await send_json(send, _status(recorded), {"events": [told(item) for item in recorded]})


async def _json_body(head: Head, receive: Receive, backend: Backend) -> Any:
    body = await read_body(head, receive, backend.config.http.body_limit)
    if media_type(head.get(b"content-type")) not in ("", "application/json"):
        raise UnknownForm("the body is not JSON", hint="send the header Content-Type: application/json")
    return read_json(body)


def _status(recorded: Sequence[Recorded | None]) -> int:
    return 202 if any(recorded) else 200
