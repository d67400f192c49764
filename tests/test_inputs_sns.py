"""Amazon SNS: signed with a key of the test's own, whose certificate only a made-up fetcher hands out."""

from __future__ import annotations

import json
from base64 import b64encode
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from sao_events.core.errors import ConfigError
from sao_events.inputs import fetched, sns
from sao_events.inputs.delivery import Message, Provider, Unknown, Unverified
from sao_events.inputs.fetched import is_at
from sao_events.inputs.strict import Malformed
from tests.loader_payloads import BRIDGE, SECRET

cryptography = pytest.importorskip("cryptography", reason="the extra [sns] is not installed")
from cryptography import x509  # noqa: E402
from cryptography.hazmat.primitives import hashes, serialization  # noqa: E402
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa  # noqa: E402

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
TOPIC = "arn:aws:sns:eu-central-1:123456789012:landing"
CERTIFICATE = "https://sns.eu-central-1.amazonaws.com/SimpleNotificationService-0.pem"
SUBSCRIBE = "https://sns.eu-central-1.amazonaws.com/?Action=ConfirmSubscription&Token=abc"
KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
OTHER = rsa.generate_private_key(public_exponent=65537, key_size=2048)


def certificate(key: Any = KEY, begins: datetime = NOW - timedelta(days=1), days: int = 30) -> bytes:
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "sns.amazonaws.com")])
    made = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    made = made.serial_number(1).not_valid_before(begins).not_valid_after(begins + timedelta(days=days))
    return made.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


class Amazon:
    """What hands out certificates, and keeps count."""

    def __init__(self, pem: bytes | None = None) -> None:
        self.pem, self.asked = pem or certificate(), list[str]()

    def __call__(self, url: str) -> bytes:
        self.asked.append(url)
        return self.pem


def body(message: Any = "hello", **changes: Any) -> dict[str, Any]:
    """A message of SNS, unsigned."""
    text = message if isinstance(message, str) else json.dumps(message)
    return {
        "Type": "Notification", "MessageId": "22b8", "TopicArn": TOPIC, "Message": text, "SignatureVersion": "2",
        "Timestamp": "2026-03-01T11:59:00.000Z", "SigningCertURL": CERTIFICATE,
        "UnsubscribeURL": "https://sns.eu-central-1.amazonaws.com/?Action=Unsubscribe", **changes,
    }  # fmt: skip


def confirmation(**changes: Any) -> dict[str, Any]:
    """What SNS sends first."""
    return body(**{"Type": "SubscriptionConfirmation", "SubscribeURL": SUBSCRIBE, "Token": "abc", **changes})


def signed(unsigned: dict[str, Any], key: rsa.RSAPrivateKey = KEY) -> dict[str, Any]:
    """As SNS signs it."""
    names = ["Message", "MessageId", "Subject", "Timestamp", "TopicArn", "Type"]
    if unsigned["Type"] != "Notification":
        names = ["Message", "MessageId", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type"]
    text = "".join(f"{name}\n{unsigned[name]}\n" for name in names if name in unsigned)
    algorithm = hashes.SHA1() if unsigned["SignatureVersion"] == "1" else hashes.SHA256()  # noqa: S303
    return {**unsigned, "Signature": b64encode(key.sign(text.encode(), padding.PKCS1v15(), algorithm)).decode()}


def sent(content: dict[str, Any], path: str = "") -> Message:
    """As it arrives: SNS says that it is plain text."""
    return Message(path=path, headers={"content-type": "text/plain; charset=UTF-8"}, body=json.dumps(content).encode())


def provider(amazon: Amazon | None = None, *topics: str) -> Provider:
    return sns.of_topics(topics or (TOPIC,), amazon or Amazon())


def passes(
    content: dict[str, Any], amazon: Amazon | None = None, secrets: tuple[str, ...] = (), path: str = ""
) -> bool:
    try:
        provider(amazon).verify(secrets, sent(content, path), NOW.timestamp())
    except (Unverified, Malformed):
        return False
    return True


@pytest.mark.parametrize("version", ["1", "2"])
def test_what_sns_has_signed_passes(version: str) -> None:
    for content in (body(SignatureVersion=version), body(Subject="a", SignatureVersion=version), confirmation()):
        assert passes(signed(content))


def test_a_certificate_is_asked_for_once() -> None:
    amazon = Amazon()
    one = provider(amazon)
    for _ in range(3):
        one.verify((), sent(signed(body())), NOW.timestamp())
    assert amazon.asked == [CERTIFICATE]


@pytest.mark.parametrize(
    "changes",
    [
        {"Message": "other"}, {"MessageId": "other"}, {"Timestamp": "2026-03-01T12:00:00.000Z"}, {"Subject": "new"},
        {"Signature": ""}, {"Signature": "AAAA"}, {"Signature": "***"}, {"Signature": None}, {"SignatureVersion": "3"},
        {"SignatureVersion": None}, {"SignatureVersion": []}, {"Type": "SubscriptionConfirmation"}, {"Type": "x"},
        {"Type": None}, {"Message": None}, {"Message": 7}, {"SigningCertURL": None}, {"TopicArn": None},
        {"TopicArn": []},
    ],
)  # fmt: skip
def test_what_was_changed_after_it_was_signed_does_not(changes: dict[str, Any]) -> None:
    assert not passes({**signed(body()), **changes})


def test_another_key_or_certificate_does_not() -> None:
    assert not passes(signed(body(), OTHER))
    assert not passes(signed(body()), Amazon(certificate(OTHER)))
    assert not passes(signed(body()), Amazon(certificate(ec.generate_private_key(ec.SECP256R1()))))
    assert not passes(signed(body()), Amazon(b"no certificate"))
    assert not passes(signed(body()), Amazon(certificate(begins=NOW - timedelta(days=60))))
    assert not passes(signed(body()), Amazon(certificate(begins=NOW + timedelta(days=1))))


def test_a_topic_that_is_not_named_is_refused_though_its_signature_is_good_and_nothing_is_asked_for() -> None:
    amazon = Amazon()
    for topic in (TOPIC + "2", TOPIC.upper(), "arn:aws:sns:eu-central-1:999999999999:landing", ""):
        assert not passes(signed(body(TopicArn=topic)), amazon)
        assert not passes(signed(confirmation(TopicArn=topic)), amazon)
    with pytest.raises(Unverified):
        sns.PROVIDER.verify((), sent(signed(body())), NOW.timestamp())
    assert amazon.asked == []


BAD_ADDRESSES = (
    "https://sns.us-east-1.amazonaws.com.evil.com/x.pem", "https://evil.com#sns.us-east-1.amazonaws.com/x.pem",
    "https://evil.com/sns.us-east-1.amazonaws.com/x.pem", "http://sns.us-east-1.amazonaws.com/x.pem",
    "https://sns.us-east-1.amazonaws.com@evil.com/x.pem", "https://user@sns.us-east-1.amazonaws.com/x.pem",
    "https://sns.us-east-1.amazonaws.com:444/x.pem", "https://sns.us-east-1.amazonaws.com\\@evil.com/x.pem",
    "https://s3.amazonaws.com/x.pem", "https://sns.us-east-1.amazonaws.com./x.pem", "https://169.254.169.254/x.pem",
    "https://SNS.us-east-1.amazonaws.com/x.pem", "https://sns.us-east-1.amazonaws.com\n.evil.com/x.pem",
    "https://sns.us_east.amazonaws.com/x.pem", "file:///etc/x.pem", "//sns.us-east-1.amazonaws.com/x.pem", "", "x.pem",
    "https://[::1/x.pem", "https://sns.us-east-1.amazonaws.com%2eevil.com/x.pem",
)  # fmt: skip


@pytest.mark.parametrize("address", BAD_ADDRESSES)
def test_no_address_but_amazons_is_asked(address: str) -> None:
    amazon = Amazon()
    assert not is_at(address, sns.HOST)
    assert not passes(signed(body(SigningCertURL=address)), amazon)
    assert amazon.asked == []
    with pytest.raises(Malformed):
        sns.read(sent(confirmation(SubscribeURL=address)), NOW.timestamp())


def test_an_address_of_amazon_that_is_no_certificate_is_not_asked() -> None:
    amazon = Amazon()
    assert not passes(signed(body(SigningCertURL="https://sns.eu-central-1.amazonaws.com/?Action=x")), amazon)
    assert amazon.asked == []


def test_a_secret_in_the_address_is_demanded_too_where_there_is_one() -> None:
    amazon = Amazon()
    assert passes(signed(body()), amazon, (SECRET,), SECRET)
    with pytest.raises(Unknown):
        provider(amazon).verify((SECRET,), sent(signed(body())), NOW.timestamp())
    assert not passes(signed(body()), Amazon(), (SECRET,), "wrong")


def test_a_subscription_is_confirmed_where_amazon_says() -> None:
    said = sns.read(sent(confirmation()), NOW.timestamp())
    assert (said.visit, said.landings) == (SUBSCRIBE, ())
    assert said.ignored
    end = sns.read(sent(body(Type="UnsubscribeConfirmation")), NOW.timestamp())
    assert (end.visit, bool(end.ignored)) == (None, True)


# What it says


S3 = {
    "Records": [
        {
            "eventName": "ObjectCreated:Put",
            "eventTime": "2026-03-01T11:58:00.000Z",
            "s3": {
                "bucket": {"name": "landing"},
                "object": {"key": "shop/orders/a+b%2Fc.parquet", "size": 9, "eTag": "d41d", "sequencer": "0055AED6"},
            },
        }
    ]
}


def read(message: Any) -> Any:
    return sns.read(sent(body(message)), NOW.timestamp())


def test_files_of_s3_are_told_by_bucket_and_key() -> None:
    [landing] = read(S3).landings
    assert landing.labels == {"bucket": "landing", "key": "shop/orders/a b/c.parquet"}
    assert (landing.load_id, landing.size, landing.loaded_at) == ("shop/orders/a b/c.parquet 0055AED6", 9, None)
    assert read(S3).delivery == "22b8"


def test_what_is_no_new_file_is_ignored() -> None:
    removed = json.loads(json.dumps(S3).replace("ObjectCreated:Put", "ObjectRemoved:Delete"))
    quiet: tuple[Any, ...] = (removed, {"Event": "s3:TestEvent", "Service": "Amazon S3"}, {"Records": []})
    for message in quiet:
        assert read(message).ignored


def test_anyone_may_publish_in_our_words_or_be_told_by_labels() -> None:
    assert read({"source": "raw.orders", "rows": 3}).landings[0].source == "raw.orders"
    assert read(BRIDGE.body).landings[0].labels["bucket"] == "landing"
    assert read({"table": "orders"}).landings[0].labels == {"table": "orders", "TopicArn": TOPIC}
    assert read("plain text").landings[0].labels == {"TopicArn": TOPIC}


@pytest.mark.parametrize(
    "bad", [None, [], "boom", 7, {}, {"Records": None}, {"Records": [1]}, {"Records": [{"s3": {}}]}]
)
def test_a_message_of_another_form_is_refused_or_ignored(bad: Any) -> None:
    try:
        said = sns.read(sent({**body(), "Message": bad if isinstance(bad, str) else json.dumps(bad)}), NOW.timestamp())
    except Malformed:
        return
    assert said.landings or said.ignored


# Without the extra, and what fetches


def test_without_what_checks_signatures_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sns, "find_spec", lambda name: None)
    with pytest.raises(ConfigError) as caught:
        sns.of_topics([TOPIC])
    assert "sao-events[sns]" in str(caught.value.hint)


def test_what_cannot_be_reached_is_told_and_nothing_else_is_wrong() -> None:
    with pytest.raises(fetched.Unreachable):
        fetched.fetch("https://127.0.0.1:9/x.pem")


def test_the_message_may_come_with_any_headers() -> None:
    message = replace(sent(signed(body())), headers={})
    assert provider().verify((), message, NOW.timestamp()) == ""
