"""Who may send events: secrets as they are now, and the bearer token of a request."""

from __future__ import annotations

import hmac
import logging
from collections.abc import Callable, Iterable, Sequence

from sao_events.config import Secret
from sao_events.errors import ConfigError
from sao_events.web.answers import Problem
from sao_events.web.message import Head

LOG = logging.getLogger("sao_events.web")
KEPT = 5.0


class Keys:
    """The values of `secrets`, looked up again after `KEPT` seconds: they can be exchanged while the service runs."""

    def __init__(self, secrets: Sequence[Secret], now: Callable[[], float]) -> None:
        self.secrets, self.now = secrets, now
        self._until = float("-inf")
        self._values: tuple[str, ...] = ()

    def values(self) -> tuple[str, ...]:
        """All that are set. One that cannot be read is left out, and logged."""
        now = self.now()
        if now >= self._until:
            self._values, self._until = tuple(_readable(self.secrets)), now + KEPT
        return self._values


def _readable(secrets: Iterable[Secret]) -> Iterable[str]:
    for secret in secrets:
        try:
            value = secret.value()
        except ConfigError as error:
            LOG.error("%s", error)
            continue
        if value and value.strip():
            yield value


def require_bearer(head: Head, keys: Keys) -> None:
    """Let a request with one of `keys` as its bearer token pass. Raises Problem: 403 where there are none, or 401."""
    values = keys.values()
    if not values:
        hint = "set data.tokens in sao.yml to where a token is, such as [{env: SAO_DATA_TOKEN}], and set that"
        raise Problem(403, "events over HTTP are not open: no token is configured", hint=hint)
    scheme, _, given = (head.get(b"authorization") or "").partition(" ")
    token, passed = given.strip().encode("latin-1"), False
    for value in values:
        passed |= hmac.compare_digest(value.encode(), token)
    if not passed or scheme.lower() != "bearer":
        hint = "send the header Authorization: Bearer <token> with a configured token"
        raise Problem(
            401, "the bearer token is missing or not valid", hint=hint, headers={"www-authenticate": "Bearer"}
        )
