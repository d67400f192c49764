"""POST /api/deliveries/{id}/replay: what was about no source, judged once more, after the mapping was mended."""

from __future__ import annotations

import asyncio

from starlette.types import Receive, Scope, Send

from sao_events.deliveries import delivery_object, replayed
from sao_events.web.access import Keys, require_bearer
from sao_events.web.answers import Problem, send_json, unavailable
from sao_events.web.backend import Backend
from sao_events.web.message import Head
from sao_events.web.sources import Sources


class Replay:
    """For who may send data events."""

    def __init__(self, backend: Backend, keys: Keys) -> None:
        self.backend, self.keys, self.sources = backend, keys, Sources(backend)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """202 when it made events, 200 when it still is about no source."""
        require_bearer(Head(scope), self.keys)
        number = scope["path_params"]["id"]
        if not (number.isascii() and number.isdigit() and len(number) < 19):
            raise _no_such()
        found = await asyncio.to_thread(self.backend.store.deliveries, before=int(number) + 1, limit=1)
        if not found or found[0].id != int(number):
            raise _no_such()
        if not found[0].delivery.landings:
            raise Problem(409, "nothing of it is without a source", hint="/api/deliveries?verdict=unmatched has those")
        matcher = await self.sources.matcher()
        if matcher is None:
            raise unavailable("no project is loaded yet", "it is judged by itself once one is")
        incoming = replayed(found[0], matcher, self.backend.config, self.backend.clock.now())
        [receipt] = await asyncio.wrap_future(self.backend.receive([incoming]))
        made = any(receipt.recorded)
        await send_json(send, 202 if made else 200, {"delivery": delivery_object(receipt.delivered)})


def _no_such() -> Problem:
    return Problem(404, "no such delivery", hint="/api/deliveries has their ids")
