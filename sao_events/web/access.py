"""Who may send events: secrets as they are now, and the bearer token of a request."""

from __future__ import annotations

import hmac
import logging
from collections.abc import Callable, Sequence
from hashlib import sha256
from time import time

from sao_events.config import Secret
from sao_events.core.errors import ConfigError
from sao_events.web.answers import Problem
from sao_events.web.message import Head

LOG = logging.getLogger("sao_events.web")
KEPT = 5.0
SHORT = 16  # characters that a secret should have
STRONGER = "make a longer one, such as with `openssl rand -hex 32`"
Check = Callable[[str], str | None]


class Keys:
    """The values of `secrets`, looked up again after `KEPT` seconds: they can be exchanged while the service runs.

    `now` is any clock in seconds, `wall` the one that `not_after` is about. Of the values, those that `unusable` has a
    reason against are left out. What is wrong is logged once, as something of `whose`; values never are.
    """

    def __init__(
        self,
        secrets: Sequence[Secret],
        now: Callable[[], float],
        *,
        whose: str = "data.tokens",
        wall: Callable[[], float] = time,
        unusable: Check = lambda value: None,
    ) -> None:
        self.secrets, self.now, self.whose, self.wall, self.unusable = secrets, now, whose, wall, unusable
        self._until = float("-inf")
        self._values: tuple[str, ...] = ()
        self._told: set[str] = set()

    def values(self) -> tuple[str, ...]:
        """All that may be used now."""
        now = self.now()
        if now >= self._until:
            found, self._until = tuple(filter(None, map(self._value, self.secrets))), now + KEPT
            if found != self._values:
                LOG.info("%s: in use are the secrets with the fingerprints %s", self.whose, _fingerprints(found))
            self._values = found
        return self._values

    def _value(self, secret: Secret) -> str | None:
        value, problem, taken = self._looked_at(secret)
        if problem is not None and problem not in self._told:
            self._told.add(problem)
            LOG.warning("%s: %s", self.whose, problem)
        return value if taken else None

    def _looked_at(self, secret: Secret) -> tuple[str | None, str | None, bool]:
        """The value, what is wrong with it, and whether it may be used."""
        try:
            value = secret.value()
        except ConfigError as error:
            return None, error.message, False
        if not value:
            return None, f"{secret} holds nothing: it verifies nobody", False
        if secret.not_after is not None and self.wall() >= secret.not_after:
            return value, f"what is in {secret} is no longer taken: its not_after is over", False
        if reason := self.unusable(value):
            return value, f"what is in {secret} {reason}", False
        if len(value) < SHORT:
            return value, f"what is in {secret} has fewer than {SHORT} characters and can be guessed: {STRONGER}", True
        return value, None, True


def _fingerprints(values: Sequence[str]) -> str:
    return ", ".join(map(fingerprint, values)) or "(none)"


def fingerprint(secret: str) -> str:
    """By what a secret is told from others without being shown."""
    return sha256(secret.encode()).hexdigest()[:8]


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
