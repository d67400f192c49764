"""The log as it grows, as server-sent events: `id` is the position in the log, so that a client that comes back goes on
where it was.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from threading import Thread

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from sao_events import report
from sao_events.core.events import Recorded
from sao_events.web.answers import Problem
from sao_events.web.backend import Backend

CLIENTS, PAGE, HEARTBEAT, LOOK = 100, 500, 15.0, 0.25


class Live:
    """Wakes all who listen when the record has moved. One thread waits for the service, however many listen."""

    def __init__(self, backend: Backend) -> None:
        self.backend = backend
        self.seq = 0
        self.clients = 0
        self.closed = False
        self._moved = asyncio.Event()
        self._thread: Thread | None = None

    async def open(self) -> None:
        """Begin to wait for changes."""
        self.seq = await asyncio.to_thread(self.backend.wait_change, -1, 0.0)
        loop = asyncio.get_running_loop()
        self._thread = Thread(target=self._watch, args=(loop, self.seq), name="sao-live", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End all streams. To be called in the event loop."""
        self.closed = True
        self._moved.set()

    async def join(self) -> None:
        """Wait for the thread to end, after `close`."""
        if self._thread is not None:
            await asyncio.to_thread(self._thread.join)

    def _watch(self, loop: asyncio.AbstractEventLoop, seq: int) -> None:
        while not (self.closed or self.backend.stopping):
            newest = self.backend.wait_change(seq, LOOK)
            if newest != seq:
                seq = newest
                loop.call_soon_threadsafe(self._move, seq)
        if not self.closed:
            loop.call_soon_threadsafe(self.close)

    def _move(self, seq: int) -> None:
        self.seq = seq
        if not self.closed:
            self._moved.set()
            self._moved = asyncio.Event()

    async def listen(self, request: Request) -> Response:
        """GET /live: the events after `Last-Event-ID`, or after the parameter `after`, or from now on."""
        headers = {"cache-control": "no-store", "x-accel-buffering": "no"}
        if request.method == "HEAD":
            return Response(headers=headers, media_type="text/event-stream")
        if self.clients >= CLIENTS:
            raise Problem(429, f"{CLIENTS} clients are listening already", headers={"retry-after": "30"})
        given = request.headers.get("last-event-id") or request.query_params.get("after") or ""
        after = int(given) if given.isascii() and given.isdigit() and len(given) < 20 else self.seq
        last = self.seq if after <= self.seq else await asyncio.to_thread(self.backend.store.last)
        stream = self._stream(min(after, last))
        return StreamingResponse(stream, headers=headers, media_type="text/event-stream")

    async def _stream(self, after: int) -> AsyncIterator[bytes]:
        self.clients += 1
        try:
            yield b"retry: 2000\n\n"
            while not self.closed:
                moved = self._moved
                log = await asyncio.to_thread(self.backend.store.read, after, PAGE) if after < self.seq else []
                if log:
                    after = log[-1].seq
                    yield b"".join(_frame(item) for item in log)
                else:
                    yield await _beat(moved)
        finally:
            self.clients -= 1


async def _beat(moved: asyncio.Event) -> bytes:
    """Nothing as soon as there is news; a comment, which keeps the connection open, where there is none for long."""
    try:
        async with asyncio.timeout(HEARTBEAT):
            await moved.wait()
    except TimeoutError:
        return b": alive\n\n"
    return b""


def _frame(recorded: Recorded) -> bytes:
    body = json.dumps(report.event_object(recorded), ensure_ascii=False, separators=(",", ":"))
    return f"id: {recorded.seq}\ndata: {body}\n\n".encode()
