"""Who sent it: proofs over the raw bytes of a message, each compared in constant time with every active secret."""

from __future__ import annotations

import hmac
from base64 import b64decode, b64encode
from binascii import Error as NoBase64
from collections.abc import Callable, Iterable, Sequence
from hashlib import sha256

from sao_events.inputs.delivery import Message, Unknown, Unverified

SIGNING = "whsec_"  # what secrets of Standard Webhooks begin with
TOLERANCE = 300.0  # seconds between a signed instant and now
SIGNATURES, ID_LENGTH, TOKEN_LENGTH = 16, 256, 32
_KEY_LENGTHS = range(24, 65)


def hmac_hex(secrets: Sequence[str], content: bytes, given: str | None, prefix: str = "") -> str:
    """The one of `secrets` under which `given` is `prefix` and the HMAC-SHA256 of `content` in lower-case hex digits.

    Blank secrets prove nothing. Raises Unverified.
    """

    def expected(secret: str) -> bytes:
        return prefix.encode() + hmac.new(secret.encode(), content, sha256).hexdigest().encode()

    if not given:
        raise Unverified("the signature is missing", hint="set a secret in the sender's settings, the same as here")
    found = _matching(secrets, expected, [given.encode("utf-8", "surrogatepass")])
    if found is None:
        hint = "the secret in the sender's settings must be the one that is configured here"
        raise Unverified("the signature is not valid", hint=hint)
    return found


def token(secrets: Sequence[str], given: str | None, what: str) -> str:
    """The one of `secrets` that `given` is; `what` names where it was looked for. Raises Unverified."""
    if not given:
        raise Unverified(f"{what} is missing", hint="the sender must send a secret that is configured here")
    found = _matching(secrets, str.encode, [given.encode("utf-8", "surrogatepass")])
    if found is None:
        raise Unverified(f"{what} is not valid", hint="it must be a secret that is configured here")
    return found


def authorization(secrets: Sequence[str], message: Message) -> str:
    """The one of `secrets` in the header Authorization: as a bearer token, or as the password of Basic, whoever the
    user is, or as the whole `user:password`. Raises Unverified, or Malformed where there are two such headers.
    """
    scheme, _, given = (message.header("authorization") or "").partition(" ")
    if scheme.lower() == "bearer":
        return token(secrets, given.strip(), "the bearer token")
    if scheme.lower() != "basic":
        raise Unverified("the header Authorization is missing", hint="set a password in the sender's settings")
    try:
        pair = b64decode(given.strip(), validate=True)
    except (NoBase64, ValueError):
        raise Unverified("the header Authorization is not valid") from None
    found = _matching(secrets, str.encode, [pair, pair.partition(b":")[2]])
    if found is None:
        raise Unverified("the password is not valid", hint="it must be a secret that is configured here")
    return found


def path_token(secrets: Sequence[str], message: Message) -> str:
    """The one of `secrets` that the first part of the path is: for senders that can neither sign nor send a header.

    Raises Unknown, so that a wrong one finds what no endpoint at all finds.
    """
    long_enough = [secret for secret in secrets if len(secret) >= TOKEN_LENGTH]
    given = message.path.partition("/")[0].encode("utf-8", "surrogatepass")
    found = _matching(long_enough, str.encode, [given])
    if found is None:
        raise Unknown("no such webhook")
    return found


def standard_webhooks(secrets: Sequence[str], message: Message, now: float) -> str:
    """The one of `secrets` that begin with `whsec_` by which the message is signed as https://www.standardwebhooks.com
    says, not more than `TOLERANCE` before or after `now`. Raises Unverified, or Malformed for a repeated header.
    """
    identity, instant, given = (standard_header(message, name) for name in ("id", "timestamp", "signature"))
    if not (identity and instant and given):
        raise Unverified("the signature is missing", hint="the sender must sign as Standard Webhooks says")
    if len(identity) > ID_LENGTH or not (identity + instant + given).isascii():
        raise Unverified("the headers of the signature are not valid")
    if not (instant.isdigit() and len(instant) <= 12 and abs(int(instant) - now) <= TOLERANCE):
        hint = f"it may be {TOLERANCE / 60:g} minutes from the clock here: check both clocks"
        raise Unverified("the signed time is not now", hint=hint)
    content = f"{identity}.{instant}.".encode() + message.body
    signatures = [item[3:].encode() for item in given.split(" ")[:SIGNATURES] if item.startswith("v1,")]

    def expected(secret: str) -> bytes:
        return b64encode(hmac.new(signing_key(secret) or b"", content, sha256).digest())

    found = _matching([secret for secret in secrets if signing_key(secret)], expected, signatures)
    if found is None:
        hint = "the signing token in the sender's settings must be the one that is configured here"
        raise Unverified("the signature is not valid", hint=hint)
    return found


def standard_header(message: Message, name: str) -> str | None:
    """One of the headers of Standard Webhooks, under either of its two names."""
    return message.header(f"webhook-{name}") or message.header(f"svix-{name}")


def signing_key(secret: str) -> bytes | None:
    """The key in a `whsec_` secret; None for what is no such secret."""
    if not secret.startswith(SIGNING):
        return None
    try:
        key = b64decode(secret.removeprefix(SIGNING), validate=True)
    except (NoBase64, ValueError):
        return None
    return key if len(key) in _KEY_LENGTHS else None


def _matching(secrets: Iterable[str], expected: Callable[[str], bytes], given: Sequence[bytes]) -> str | None:
    """The secret whose expected proof is among those given. Every pair is compared, whatever was found before."""
    found: str | None = None
    for secret in secrets:
        proof = expected(secret)
        for one in given:
            if hmac.compare_digest(proof, one) & bool(secret.strip()):
                found = secret
    return found
