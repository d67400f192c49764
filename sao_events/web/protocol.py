"""HTTP/1.1 as uvicorn speaks it, with a bound on how large and how slow a request may be before anyone looks at it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, cast

HEAD = 65_536
HEAD_SECONDS, BODY_SECONDS = 10.0, 20.0
_REFUSAL = b'{"error":"the head of the request is too large","hint":"send less in it"}'
_TOO_LARGE = b"\r\n".join(
    (
        b"HTTP/1.1 431 Request Header Fields Too Large",
        b"connection: close",
        b"content-type: application/json",
        b"content-length: %d" % len(_REFUSAL),
        b"",
        _REFUSAL,
    )
)


class Together:
    """A transport that sends the head of an answer with what follows it, by one call of the system instead of two. In
    all else it is the one that it is given.
    """

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport, self._head = transport, b""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        """Send `data`, or keep it until the next call where it is the head of an answer."""
        if self._head:
            data, self._head = self._head + data, b""
        elif data.startswith(b"HTTP/1.1 ") and not data.startswith(b"HTTP/1.1 1"):  # 100: the sender is to go on
            self._head = data
            return
        self._transport.write(data)

    def flush(self) -> None:
        """Send the head that nothing follows."""
        if self._head:
            self.write(b"")

    def close(self) -> None:
        """Let go of the connection once all is sent."""
        self.flush()
        self._transport.close()


def http_protocol() -> Any:
    """The protocol class for uvicorn: on httptools where it is installed; h11, which bounds heads itself, elsewhere."""
    try:
        from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
    except ImportError:
        return "h11"

    class BoundedProtocol(HttpToolsProtocol):
        """Counts what arrives of a head, and knows since when it is waited for. Nothing is done for a whole request."""

        _head = 0
        _since: float | None = None
        _seen: RequestResponseCycle | None = None
        _looked = 0.0

        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            super().connection_made(cast(asyncio.Transport, Together(cast(asyncio.Transport, transport))))
            self._since = self.loop.time()

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            scope: Mapping[str, Any] | None = self.scope
            if scope is not None and "path" in scope:  # the head is complete
                self._since = None
                return
            if self._since is None:
                self._head, self._since = 0, self.loop.time()
            self._head += len(data)
            if self._head > HEAD:
                cycle: RequestResponseCycle | None = self.cycle
                if cycle is None or cycle.response_complete:
                    self.transport.write(_TOO_LARGE)
                self.transport.close()

        def on_response_complete(self) -> None:
            cast(Together, self.transport).flush()
            super().on_response_complete()

        def hang_up_if_slow(self, now: float) -> None:
            """To be called now and then: let go of a sender that keeps a head or a body waiting."""
            cycle: RequestResponseCycle | None = self.cycle
            if self._since is not None:
                if self._since < now - HEAD_SECONDS:
                    self.transport.abort()
            elif cycle is not None and cycle.more_body:
                if cycle is not self._seen:
                    self._seen, self._looked = cycle, now
                elif self._looked < now - BODY_SECONDS:
                    self.transport.abort()

    return BoundedProtocol
