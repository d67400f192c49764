"""What has to be looked up to know a sender: over HTTPS, from hosts named here, without redirects, small and soon."""

from __future__ import annotations

import http.client
import re
import ssl
from collections.abc import Callable
from typing import TypeAlias
from urllib.parse import urlsplit

from sao_events.core.errors import SaoError

Fetch: TypeAlias = Callable[[str], bytes]
SECONDS, MOST = 5.0, 65_536


class Unreachable(SaoError):
    """What has to be looked up cannot be: nothing is wrong with the message (HTTP 503)."""


def is_at(url: str, host: re.Pattern[str]) -> bool:
    """Whether `url` is an https address at a host that `host` matches as a whole: no user, port or fragment in it."""
    if not url.isascii() or not url.isprintable() or any(mark in url for mark in ' \\#@"<>'):
        return False
    try:
        parts = urlsplit(url)
        name, port = parts.hostname, parts.port
    except ValueError:
        return False
    return parts.scheme == "https" and port is None and bool(name) and host.fullmatch(parts.netloc) is not None


def fetch(url: str) -> bytes:
    """The body of what stands at an address that `is_at` let pass. Raises Unreachable for anything but a plain 200."""
    parts = urlsplit(url)
    target = f"{parts.path or '/'}?{parts.query}" if parts.query else parts.path or "/"
    connection = http.client.HTTPSConnection(parts.netloc, timeout=SECONDS, context=ssl.create_default_context())
    try:
        connection.request("GET", target, headers={"accept": "*/*"})
        answer = connection.getresponse()
        body = answer.read(MOST + 1)
    except (OSError, http.client.HTTPException) as error:
        raise Unreachable(f"{parts.netloc} cannot be asked: {error}") from None
    finally:
        connection.close()
    if answer.status != 200 or len(body) > MOST:
        raise Unreachable(f"{parts.netloc} answered {answer.status}, {len(body)} bytes")
    return body
