"""What loaders have in common: the bytes they send as JSON, and how they prove who they are."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Collection, Sequence
from typing import Any

from sao_events.inputs import signed
from sao_events.inputs.delivery import Message, Provider, Said
from sao_events.inputs.signed import TOKEN_LENGTH
from sao_events.inputs.strict import Malformed, UnknownForm, media_type, read_json

LIMIT = 1_000_000
SIGNATURE = "x-signature"
UNPACKED, RATIO = 20_000_000, 100


def any_proof(secrets: Sequence[str], message: Message, now: float) -> str:
    """The secret that a message proves in one of the ways a sender may choose: signed as Standard Webhooks says, signed
    in the header X-Signature (`sha256=` and the HMAC of the body), or with a bearer token. Raises Unverified.
    """
    if signed.standard_header(message, "signature"):
        return signed.standard_webhooks(secrets, message, now)
    if given := message.header(SIGNATURE):
        return signed.hmac_hex(secrets, message.body, given, prefix="sha256=")
    return signed.authorization(secrets, message)


def path_or_proof(secrets: Sequence[str], message: Message, now: float) -> str:
    """The secret at the end of the address, or else that of `any_proof`."""
    return signed.path_token(secrets, message) if message.path else any_proof(secrets, message, now)


def path_or_proof_beside(paths: Collection[str]) -> Callable[[Sequence[str], Message, float], str]:
    """`path_or_proof` for a sender that adds one of `paths` to the address by itself."""

    def verify(secrets: Sequence[str], message: Message, now: float) -> str:
        given = message.path.strip("/")
        return any_proof(secrets, message, now) if given in paths else signed.path_token(secrets, message)

    return verify


def proven_by_address(name: str, title: str, read: Callable[[Message, float], Said], **more: Any) -> Provider:
    """A loader that can neither sign nor send a header: its secret is the end of the address, and long."""

    def verify(secrets: Sequence[str], message: Message, now: float) -> str:
        return signed.path_token(secrets, message)

    given = {"kept": ("user-agent",), **more}
    return Provider(name, title, "data", verify, read, body_limit=LIMIT, least=TOKEN_LENGTH, paths=True, **given)


def json_of(message: Message, *, kinds: tuple[str, ...] = ("", "application/json")) -> Any:
    """The JSON value in the body, of one of the media types `kinds`. Raises UnknownForm or Malformed."""
    if (kind := media_type(message.header("content-type"))) not in kinds and not kind.endswith("+json"):
        raise UnknownForm("the body is not JSON", hint="send the header Content-Type: application/json")
    return read_json(message.body)


def object_of(message: Message) -> dict[str, Any]:
    """The JSON object in the body, whatever media type it is said to be of. Raises Malformed."""
    body = read_json(message.body)
    if not isinstance(body, dict):
        raise Malformed("the body is not an object", hint="is it the configured provider that sends here?")
    return body


def unpacked(message: Message) -> bytes:
    """The body, decompressed where it is gzip: to at most `UNPACKED` bytes, and `RATIO` times its size.

    Raises UnknownForm for another encoding, Malformed for what is damaged or grows beyond that.
    """
    encoding = (message.header("content-encoding") or "identity").strip().lower()
    if encoding in ("", "identity"):
        return message.body
    if encoding != "gzip":
        raise UnknownForm("the body is compressed in a way that is not read here", hint="send it as it is, or as gzip")
    most = min(UNPACKED, RATIO * len(message.body))
    unpacker = zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)
    try:
        body = unpacker.decompress(message.body, most)
    except zlib.error:
        raise Malformed("the body is not gzip", hint="send it as the header Content-Encoding says") from None
    if unpacker.unconsumed_tail or not unpacker.eof or unpacker.unused_data:
        raise Malformed("the gzip body is too large, cut off or followed by more", hint="send it in smaller parts")
    return body
