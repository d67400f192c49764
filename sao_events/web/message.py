"""One incoming message: its headers, each at most once, and its body, bounded in size and time."""

from __future__ import annotations

import asyncio
from collections import Counter

from starlette.types import Message, Receive, Scope

from sao_events.inputs.strict import Malformed
from sao_events.web.answers import Problem

SECONDS, DRAIN, DRAIN_SECONDS = 15.0, 8_000_000, 2.0
CLOSE = {"connection": "close"}


class Head:
    """The headers of a request, each with its one value."""

    def __init__(self, scope: Scope) -> None:
        found = scope["headers"]
        self._values: dict[bytes, bytes] = dict(found)
        self.repeated: frozenset[bytes] = frozenset()
        if len(self._values) < len(found):
            names = Counter(name for name, _ in found)
            self.repeated = frozenset(name for name, times in names.items() if times > 1)

    def get(self, name: bytes) -> str | None:
        """The header `name` (lower case) as it came; None where it is not there. Raises Malformed where it is there
        twice: then nobody can say which is meant.
        """
        if name in self.repeated:
            raise Malformed(f"the header {name.decode('latin-1')} is there more than once", hint="send it once")
        value = self._values.get(name)
        return None if value is None else value.decode("latin-1")

    def all(self) -> dict[str, str]:
        """Every header by its name; of one that is there more than once the last."""
        return {name.decode("latin-1"): value.decode("latin-1") for name, value in self._values.items()}


class Room:
    """How many bytes of bodies that come in parts may be held at once, of all that send."""

    def __init__(self, most: int) -> None:
        self.most, self.taken = most, 0

    def take(self, size: int) -> None:
        """Raises Problem where there is no room for so many bytes more."""
        if self.taken + size > self.most:
            after = CLOSE | {"retry-after": "5"}
            raise Problem(429, "too much is being sent at once", hint="send it again in a moment", headers=after)
        self.taken += size

    def leave(self, size: int) -> None:
        """So many bytes are held no more."""
        self.taken -= size


async def read_body(
    head: Head,
    receive: Receive,
    limit: int,
    seconds: float = SECONDS,
    *,
    compressed: bool = False,
    room: Room | None = None,
    limited_by: str = "http.body_limit",
) -> bytes:
    """The whole body as it came, of at most `limit` bytes, or Problem: 413 for more, 408 where it takes more than
    `seconds`, 415 for one that is compressed, unless `compressed`. `limited_by` is what sets the limit.
    """
    if not compressed and head.get(b"content-encoding") not in (None, "", "identity"):
        raise Problem(415, "the body is compressed", hint="send it as it is", headers=CLOSE)
    declared = _declared(head)
    if declared > limit:
        if declared <= limit + DRAIN and head.get(b"expect") is None:
            await _drain(receive, declared)
        raise _too_large(limit, limited_by)
    message = await receive()  # the server ends a connection on which nothing comes
    body: bytes = message.get("body", b"")
    if message["type"] == "http.request" and not message.get("more_body", False) and len(body) <= limit:
        return body
    try:
        async with asyncio.timeout(seconds):
            return await _rest(message, receive, limit, room or Room(limit), limited_by)
    except TimeoutError:
        raise Problem(408, "the body did not arrive in time", hint="send it at once", headers=CLOSE) from None


def _declared(head: Head) -> int:
    length = head.get(b"content-length")
    return int(length) if length is not None and length.isascii() and length.isdigit() else 0


async def _rest(message: Message, receive: Receive, limit: int, room: Room, limited_by: str) -> bytes:
    parts, size = list[bytes](), 0
    try:
        while True:
            if message["type"] == "http.disconnect":
                raise Malformed("the connection was closed before the body was complete")
            part: bytes = message.get("body", b"")
            if size + len(part) > limit:
                if message.get("more_body", False):
                    await _drain(receive, DRAIN)
                raise _too_large(limit, limited_by)
            room.take(len(part))
            size += len(part)
            parts.append(part)
            if not message.get("more_body", False):
                return b"".join(parts)
            message = await receive()
    finally:
        room.leave(size)


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


def _too_large(limit: int, limited_by: str) -> Problem:
    hint = f"at most {limit} bytes are read; {limited_by} sets it"
    return Problem(413, "the body is too large", hint=hint, headers=CLOSE)
