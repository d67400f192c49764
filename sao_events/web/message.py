"""One incoming message: its headers, each at most once, and its body, bounded in size and time."""

from __future__ import annotations

import asyncio

from starlette.types import Message, Receive, Scope

from sao_events.inputs.strict import Malformed
from sao_events.web.answers import Problem

SECONDS, DRAIN, DRAIN_SECONDS = 15.0, 8_000_000, 2.0
CLOSE = {"connection": "close"}
READ = (
    b"authorization",
    b"content-encoding",
    b"content-length",
    b"content-type",
    b"expect",
    b"idempotency-key",
    b"x-github-event",
    b"x-hub-signature-256",
)


class Head:
    """The headers of a request that are read here, of the names in `READ`."""

    def __init__(self, scope: Scope) -> None:
        """Raises Malformed where one of them is there twice: then nobody can say which is meant."""
        found = scope["headers"]
        self._values: dict[bytes, bytes] = dict(found)
        if len(self._values) < len(found):
            names = [name for name, _ in found]
            if twice := [name for name in READ if names.count(name) > 1]:
                raise Malformed(f"the header {twice[0].decode()} is there more than once", hint="send it once")

    def get(self, name: bytes) -> str | None:
        """The header `name` (lower case) as it came; None where it is not there."""
        value = self._values.get(name)
        return None if value is None else value.decode("latin-1")


async def read_body(head: Head, receive: Receive, limit: int, seconds: float = SECONDS) -> bytes:
    """The whole body, of at most `limit` bytes, or Problem: 413 for more, 408 where it takes more than `seconds`."""
    if head.get(b"content-encoding") not in (None, "", "identity"):
        raise Problem(415, "the body is compressed", hint="send it as it is", headers=CLOSE)
    declared = _declared(head)
    if declared > limit:
        if declared <= limit + DRAIN and head.get(b"expect") is None:
            await _drain(receive, declared)
        raise _too_large(limit)
    message = await receive()  # the server ends a connection on which nothing comes
    body: bytes = message.get("body", b"")
    if message["type"] == "http.request" and not message.get("more_body", False) and len(body) <= limit:
        return body
    try:
        async with asyncio.timeout(seconds):
            return await _rest(message, receive, limit)
    except TimeoutError:
        raise Problem(408, "the body did not arrive in time", hint="send it at once", headers=CLOSE) from None


def _declared(head: Head) -> int:
    length = head.get(b"content-length")
    return int(length) if length is not None and length.isascii() and length.isdigit() else 0


async def _rest(message: Message, receive: Receive, limit: int) -> bytes:
    parts, size = list[bytes](), 0
    while True:
        if message["type"] == "http.disconnect":
            raise Malformed("the connection was closed before the body was complete")
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        if size > limit:
            if message.get("more_body", False):
                await _drain(receive, DRAIN)
            raise _too_large(limit)
        if not message.get("more_body", False):
            return b"".join(parts)
        message = await receive()


async def _drain(receive: Receive, most: int) -> None:
    """Let a sender come to its end, within reason: one that is cut off while it sends may never see the answer."""
    try:
        async with asyncio.timeout(DRAIN_SECONDS):
            while most > 0:
                message = await receive()
                most -= len(message.get("body", b""))
                if not message.get("more_body", False):
                    return
    except TimeoutError:
        return


def _too_large(limit: int) -> Problem:
    hint = f"at most {limit} bytes are read; http.body_limit sets it"
    return Problem(413, "the body is too large", hint=hint, headers=CLOSE)
