"""What every request passes first: its sender's rate, the host it is meant for; and what every answer carries."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from math import ceil

from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sao_events.core.errors import SaoError
from sao_events.web.answers import explained, failed, problem

_CONTENT = (
    b"default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; "
    b"base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
PLAIN: list[tuple[bytes, bytes]] = [(b"x-content-type-options", b"nosniff")]
SECURITY: list[tuple[bytes, bytes]] = [
    *PLAIN,
    (b"content-security-policy", _CONTENT),
    (b"referrer-policy", b"no-referrer"),
    (b"x-frame-options", b"DENY"),
    (b"cross-origin-resource-policy", b"same-origin"),
]


@dataclass(frozen=True, slots=True)
class Rate:
    """How many requests a second one client may send in the long run, and how many at once after a pause."""

    each_second: float = 2_000.0
    at_once: float = 10_000.0


class Buckets:
    """A bucket of tokens for each client; each request takes one. The `most` clients seen last are remembered."""

    def __init__(self, rate: Rate, most: int = 10_000) -> None:
        self.rate, self.most = rate, most
        self._levels: dict[str, tuple[float, float]] = {}

    def take(self, client: str, now: float) -> float:
        """Take a token at the instant `now` (seconds, of any clock). Returns 0, or the seconds until there is one."""
        level, since = self._levels.pop(client, (self.rate.at_once, now))
        level = min(self.rate.at_once, level + (now - since) * self.rate.each_second)
        wait = max(0.0, (1.0 - level) / self.rate.each_second)
        self._levels[client] = (level if wait else level - 1.0, now)
        if len(self._levels) > self.most:
            del self._levels[next(iter(self._levels))]
        return wait


def names_of(host: str) -> frozenset[str] | None:
    """The Host headers, without port, under which a service bound to `host` may be read; None where it may be any.

    A page on the web can point a name of its own at a loopback address and have a browser here ask it. Then only names
    of this machine's own are answered.
    """
    try:
        loopback = host == "localhost" or ip_address(host.strip("[]")).is_loopback
    except ValueError:
        loopback = False
    return frozenset({"localhost", "127.0.0.1", "[::1]", host.lower()}) if loopback else None


class Guard:
    """Middleware: rate, host, and the headers that keep a browser from doing more with an answer than showing it.

    The host is not looked at where an event is posted: that needs a secret, and webhooks may come through a tunnel.
    What is posted to a path in `direct` takes no further way through middleware and routes; of those headers its own
    answers, which only the holder of a token gets and no browser shows, carry `PLAIN` alone.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        hosts: frozenset[str] | None,
        rate: Rate,
        now: Callable[[], float],
        direct: Mapping[str, ASGIApp],
    ) -> None:
        self.app, self.hosts, self.now, self.direct = app, hosts, now, direct
        self.buckets = Buckets(rate)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer what is refused, pass on the rest."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        client = scope["client"]
        if wait := self.buckets.take(client[0] if client else "", self.now()):
            after = {"retry-after": str(ceil(wait)), "connection": "close"}
            refusal = problem(429, "too many requests", "send fewer, or many events in one request", after)
            await refusal(scope, receive, _secured(send))
        elif self.hosts is not None and _is_read(scope) and _host(scope) not in self.hosts:
            refusal = problem(
                400, "unknown host", "ask for it as localhost, or set http.host to the name it is reached by"
            )
            await refusal(scope, receive, _secured(send))
        elif scope["method"] == "POST" and scope["path"] in self.direct:
            try:
                await self.direct[scope["path"]](scope, receive, _secured(send, PLAIN))
            except SaoError as error:
                await explained(Request(scope), error)(scope, receive, _secured(send))
            except Exception as error:
                await failed(Request(scope), error)(scope, receive, _secured(send))
                raise
        else:
            await self.app(scope, receive, _secured(send))


def _secured(send: Send, headers: Sequence[tuple[bytes, bytes]] = SECURITY) -> Send:
    """`send`, with what protects a browser on the way."""

    async def secured(message: Message) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [*message["headers"], *headers]
        await send(message)

    return secured


def _is_read(scope: Scope) -> bool:
    return scope["method"] != "POST" and not scope["path"].startswith("/webhooks/")


def _host(scope: Scope) -> str | None:
    """The Host header without its port, in lower case; None where there is not exactly one."""
    found: list[bytes] = [value for name, value in scope["headers"] if name == b"host"]
    if len(found) != 1:
        return None
    host = found[0].decode("latin-1").lower()
    name, colon, port = host.rpartition(":")
    return name if colon and port.isdigit() else host
