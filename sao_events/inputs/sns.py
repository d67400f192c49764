"""Amazon SNS over HTTPS: https://docs.aws.amazon.com/sns/latest/dg/sns-verify-signature-of-message.html. What S3 tells
of new files, or what anyone publishes in our own words or as labels.

A valid signature proves that it was some topic of some customer. So the topics that may send are named in the
configuration, and no address in a message is asked before the message is of one of them and the address is Amazon's.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from sao_events.core.errors import ConfigError
from sao_events.inputs import eventbridge, fetched, fields, objects, signed, told
from sao_events.inputs.data import is_ours, read_landings
from sao_events.inputs.delivery import Message, Provider, Said, Unverified
from sao_events.inputs.fetched import Fetch, is_at
from sao_events.inputs.landing import Landing
from sao_events.inputs.loads import LIMIT, object_of
from sao_events.inputs.strict import Malformed, read_json

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

TYPES = ("Notification", "SubscriptionConfirmation", "UnsubscribeConfirmation")
NOTICE = ("Message", "MessageId", "Subject", "Timestamp", "TopicArn", "Type")
CONFIRMATION = ("Message", "MessageId", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type")
HOST = re.compile(r"sns\.[a-z0-9-]{3,32}\.amazonaws\.com(?:\.cn)?", re.ASCII)
TEXT = 300_000  # what SNS sends at most is 256 KiB


def is_supported() -> bool:
    """Whether what checks a signature is installed: the extra [sns]."""
    return find_spec("cryptography") is not None


class Topics:
    """Verifies messages of the topics named, and of no other."""

    def __init__(self, topics: Sequence[str], fetch: Fetch | None = None) -> None:
        self.topics = frozenset(topics)
        self.key = lru_cache(maxsize=16)(lambda url: _public_key((fetch or fetched.fetch)(url)))

    def verify(self, secrets: Sequence[str], message: Message, now: float) -> str:
        """See `Provider.verify`: also the secret at the end of the address, where one is configured."""
        secret = signed.path_token(secrets, message) if secrets else ""
        body = object_of(message)
        topic, address = body.get("TopicArn"), body.get("SigningCertURL")
        if not isinstance(topic, str) or topic not in self.topics:
            raise Unverified("the topic may not send here", hint="name its ARN under topics of the webhook in sao.yml")
        if not isinstance(address, str) or not is_at(address, HOST) or not address.endswith(".pem"):
            raise Unverified("the certificate is not at an address of Amazon SNS")
        content, signature = canonical(body), fields.text(body, "Signature")
        key, begins, ends = self.key(address)
        if not begins <= now <= ends:
            raise Unverified("the certificate is not valid now")
        if not _is_signed(key, content, signature, str(body.get("SignatureVersion"))):
            raise Unverified("the signature is not valid")
        return secret


def _public_key(pem: bytes) -> tuple[RSAPublicKey, float, float]:
    """The key in a certificate, and from when to when that holds. Raises Unverified."""
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
    from cryptography.x509 import load_pem_x509_certificate

    try:
        certificate = load_pem_x509_certificate(pem)
        key = certificate.public_key()
    except ValueError:
        raise Unverified("the certificate cannot be read") from None
    if not isinstance(key, RSAPublicKey):
        raise Unverified("the certificate has no RSA key")
    return key, certificate.not_valid_before_utc.timestamp(), certificate.not_valid_after_utc.timestamp()


def _is_signed(key: RSAPublicKey, content: bytes, signature: str, version: str) -> bool:
    from base64 import b64decode

    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
    from cryptography.hazmat.primitives.hashes import SHA1, SHA256

    method = {"1": SHA1, "2": SHA256}.get(version)
    if method is None:
        return False
    try:
        key.verify(b64decode(signature, validate=True), content, PKCS1v15(), method())
    except (InvalidSignature, ValueError):
        return False
    return True


def canonical(body: dict[str, Any]) -> bytes:
    """The bytes that are signed. Raises Malformed."""
    kind = fields.text(body, "Type")
    if kind not in TYPES:
        raise fields.missing("Type")
    names = NOTICE if kind == TYPES[0] else CONFIRMATION
    lines = list[str]()
    for name in names:
        if name == "Subject" and body.get(name) is None:
            continue
        lines += [name, _line(body, name)]
    return "".join(f"{line}\n" for line in lines).encode()


def _line(body: dict[str, Any], name: str) -> str:
    value = body.get(name)
    if not isinstance(value, str) or len(value) > TEXT:
        raise fields.missing(name)
    return value


def read(message: Message, now: float) -> Said:
    """See `Provider.read`."""
    body = object_of(message)
    delivery, kind = fields.text(body, "MessageId"), fields.text(body, "Type")
    if kind == TYPES[1]:
        address = fields.text(body, "SubscribeURL")
        if not is_at(address, HOST):
            raise Malformed("the address that confirms the subscription is not one of Amazon SNS")
        return Said(delivery, ignored="a subscription, which is confirmed", visit=address)
    if kind != TYPES[0]:
        return Said(delivery, ignored="the end of a subscription")
    return _notice(delivery, _line(body, "Message"), body, now)


def _notice(delivery: str, text: str, body: dict[str, Any], now: float) -> Said:
    try:
        inner = read_json(text.encode())
    except Malformed:
        inner = None
    if isinstance(inner, dict) and inner.get("Event") == "s3:TestEvent":
        return Said(delivery, ignored="a test of S3")
    if isinstance(inner, dict) and "Records" in inner:
        return _said(delivery, objects.s3_records(inner))
    if is_ours(inner):
        return _said(delivery, read_landings(inner, now))
    if isinstance(inner, dict) and "detail-type" in inner:
        return eventbridge.said(inner, now)
    plain = told.labels(inner) if isinstance(inner, dict) else {}
    labels = plain | told.labels(body, "TopicArn", "Subject")
    return _said(delivery, [Landing(load_id=delivery, loaded_at=told.instant(body.get("Timestamp")), labels=labels)])


def _said(delivery: str, found: list[Landing]) -> Said:
    return Said(delivery, landings=tuple(found), ignored=None if found else "nothing in it is new data")


def _closed(secrets: Sequence[str], message: Message, now: float) -> str:
    raise Unverified("no topic may send here", hint="name their ARNs under topics of the webhook in sao.yml")


def of_topics(topics: Sequence[str], fetch: Fetch | None = None) -> Provider:
    """The provider that takes messages of these topics alone. Raises ConfigError where the extra [sns] is missing."""
    if not is_supported():
        hint = "pip install 'sao-events[sns]'"
        raise ConfigError("signatures of Amazon SNS cannot be checked: cryptography is not installed", hint=hint)
    return _provider(Topics(topics, fetch).verify)


def _provider(verify: Any) -> Provider:
    return Provider(
        name="sns",
        title="Amazon SNS",
        kind="data",
        verify=verify,
        read=read,
        kept=("x-amz-sns-message-type", "x-amz-sns-message-id", "x-amz-sns-topic-arn"),
        body_limit=LIMIT,
        paths=True,
        remote=True,
        topics=of_topics,
    )


PROVIDER = _provider(_closed)
