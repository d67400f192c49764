"""Requests that arrive together are recorded together: one transaction for all of one turn of the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from concurrent.futures import Future
from typing import TypeAlias

from sao_events.core.errors import SaoError
from sao_events.core.events import Recorded
from sao_events.ports import Draft
from sao_events.web.backend import Backend

Outcome: TypeAlias = list[Recorded | None]
_Waiting: TypeAlias = list[tuple[Sequence[Draft], "asyncio.Future[Outcome]"]]


class Gather:
    """Hands drafts to the log. Waking the event loop from the log's thread costs more than all else that is done for a
    request; so it is done once for many.
    """

    def __init__(self, backend: Backend) -> None:
        self.backend = backend
        self._waiting: _Waiting = []

    async def record(self, drafts: Sequence[Draft]) -> Outcome:
        """Append `drafts` in one transaction; they are durable on return. None stands for a duplicate.

        Raises what the log raises: then none of them is recorded.
        """
        loop = asyncio.get_running_loop()
        if not self._waiting:
            loop.call_soon(self._hand_over, loop)
        future: asyncio.Future[Outcome] = loop.create_future()
        self._waiting.append((drafts, future))
        return await future

    def _hand_over(self, loop: asyncio.AbstractEventLoop) -> None:
        waiting, self._waiting = self._waiting, []
        try:
            done = self.backend.submit([draft for drafts, _ in waiting for draft in drafts])
        except SaoError as error:
            _fail(waiting, error)
            return
        done.add_done_callback(lambda done: loop.call_soon_threadsafe(_give, waiting, done))


def _give(waiting: _Waiting, done: Future[Outcome]) -> None:
    if error := done.exception():
        _fail(waiting, error)
        return
    recorded, first = done.result(), 0
    for drafts, future in waiting:
        if not future.done():
            future.set_result(recorded[first : first + len(drafts)])
        first += len(drafts)


def _fail(waiting: _Waiting, error: BaseException) -> None:
    for _, future in waiting:
        if not future.done():
            future.set_exception(error)
