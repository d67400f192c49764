"""Who sent it: the proof of each host, and everything that is none."""

from __future__ import annotations

import hmac
import json
import logging
from base64 import b64encode
from hashlib import sha1, sha256, sha512
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sao_events.core.errors import UsageError
from sao_events.inputs.delivery import Message, Unknown, Unverified
from sao_events.inputs.providers import PROVIDERS
from sao_events.inputs.signed import path_token, signing_key, standard_webhooks
from tests.senders import FORM, JSON, SIGNING, headers, hexed, payload, proof, standard
from tests.test_inputs_github import SHARED

HOSTS = [name for name, provider in PROVIDERS.items() if provider.kind == "git"]
SECRET, OTHER = "secret-of-the-webhook-9876543210", "another-secret-0123456789-012345"
BODY = json.dumps(payload("github")).encode()
NOW = 1_772_366_400.0
HEADERS = {
    "github": "x-hub-signature-256",
    "gitlab": "x-gitlab-token",
    "bitbucket_cloud": "x-hub-signature",
    "bitbucket_dc": "x-hub-signature",
    "gitea": "x-gitea-signature",
    "forgejo": "x-forgejo-signature",
    "gogs": "x-gogs-signature",
    "azure_devops": "authorization",
}


def verified(provider: str, secrets: list[str], given: dict[str, str], body: bytes = BODY, now: float = NOW) -> bool:
    """Whether these headers prove it, by one of these secrets."""
    try:
        message = Message(headers={"content-type": JSON} | given, body=body)
        return PROVIDERS[provider].verify(secrets, message, now) in secrets
    except Unverified:
        return False


@pytest.mark.parametrize("provider", HOSTS)
def test_each_active_secret_proves_it_and_is_named(provider: str) -> None:
    given = proof(provider, SECRET, BODY)
    for secrets in ([SECRET], [OTHER, SECRET], [SECRET, OTHER], ["1", "2", "3", SECRET]):
        message = Message(headers={"content-type": JSON} | given, body=BODY)
        assert PROVIDERS[provider].verify(secrets, message, NOW) == SECRET
    assert not verified(provider, [OTHER], given)
    assert not verified(provider, [], given)


@pytest.mark.parametrize("provider", HOSTS)
@pytest.mark.parametrize("secret", ["", " ", "\t"])
def test_a_blank_secret_proves_nothing(provider: str, secret: str) -> None:
    """Hosts that have no secret send an empty signature."""
    for sent in ({}, {HEADERS[provider]: ""}, {HEADERS[provider]: "sha256="}, proof(provider, secret, BODY)):
        assert not verified(provider, [secret], sent)
        assert not verified(provider, [SECRET], sent)


def wrong(provider: str) -> list[str]:
    good = proof(provider, SECRET, BODY)[HEADERS[provider]]
    digest = hexed(SECRET, BODY)
    return [
        "",
        "sha256=",
        good[:-1],
        good + "0",
        good.upper(),
        f" {good}",
        f"{good}, {good}",
        *([] if provider == "azure_devops" else [f"{good}\n"]),
        f"sha1={hmac.new(SECRET.encode(), BODY, sha1).hexdigest()}",
        f"sha512={hmac.new(SECRET.encode(), BODY, sha512).hexdigest()}",
        "sha256=\xe9",
        "\U0001f511",
        "\udce9",
        "\ud800",
        "sha256=" + "\u0660" * 64,
        "x" * 60_000,
        *([digest] if good != digest else [f"sha256={digest}"]),
    ]


@pytest.mark.parametrize("provider", HOSTS)
def test_what_is_not_the_proof_proves_nothing(provider: str) -> None:
    for value in wrong(provider):
        assert not verified(provider, [SECRET], {HEADERS[provider]: value}), value


@pytest.mark.parametrize("provider", [name for name in HOSTS if name not in ("gitlab", "azure_devops")])
def test_a_body_that_was_altered_is_not_the_signed_one(provider: str) -> None:
    given = proof(provider, SECRET, BODY)
    again = json.dumps(json.loads(BODY), indent=1).encode()
    for body in (BODY + b"\n", b"\xef\xbb\xbf" + BODY, BODY[:-1], again, b""):
        assert not verified(provider, [SECRET], given, body)


@pytest.mark.parametrize("provider", HOSTS)
def test_the_proof_of_another_host_is_none(provider: str) -> None:
    """Gitea and Forgejo send the headers of GitHub and Gogs as well."""
    others = {name: value for host in HOSTS for name, value in proof(host, SECRET, BODY).items()}
    others = {name: value for name, value in others.items() if name not in proof(provider, SECRET, BODY)}
    if provider == "bitbucket_dc":
        del others["authorization"]
    assert not verified(provider, [SECRET], others)


@pytest.mark.parametrize("provider", ["gitea", "forgejo", "gogs"])
def test_of_a_form_the_text_within_is_what_they_sign(provider: str) -> None:
    form = b"payload=%7B%22ref%22%3A1%7D"
    assert verified(provider, [SECRET], proof(provider, SECRET, b'{"ref":1}') | {"content-type": FORM}, form)
    assert not verified(provider, [SECRET], proof(provider, SECRET, form) | {"content-type": FORM}, form)
    assert verified("github", [SECRET], proof("github", SECRET, form) | {"content-type": FORM}, form)


@pytest.mark.parametrize("provider", ["azure_devops", "bitbucket_dc"])
@pytest.mark.parametrize(
    ("value", "good"),
    [
        (f"any:{SECRET}", True),
        (f":{SECRET}", True),
        ("user:pass:word", True),
        (SECRET, True),
        ("user:password", False),
        (f"{SECRET}:", False),
        ("", False),
    ],
)
def test_basic_passwords_are_compared_whoever_the_user_is(provider: str, value: str, good: bool) -> None:
    given = {"authorization": "Basic " + b64encode(value.encode()).decode()}
    assert verified(provider, [SECRET, "pass:word"], given) is good


@pytest.mark.parametrize(
    ("value", "good"),
    [
        (f"Bearer {SECRET}", True),
        (f"bearer {SECRET}", True),
        (f"Bearer {OTHER}", False),
        (f"Token {SECRET}", False),
        (SECRET, False),
        ("Basic", False),
        ("Basic !!!", False),
        (f"Basic {SECRET}", False),
        ("Basic /////w==", False),
        ("Basic \u0661", False),
        ("Bearer ", False),
    ],
)
def test_other_ways_to_authorize(value: str, good: bool) -> None:
    assert verified("azure_devops", [SECRET], {"authorization": value}) is good


@given(st.text(), st.binary(max_size=100))
def test_no_header_makes_the_check_fail_otherwise(value: str, body: bytes) -> None:
    for provider in HOSTS:
        if provider in ("gitea", "forgejo", "gogs"):
            assert verified(provider, [SECRET], {HEADERS[provider]: value}, body) is (value == hexed(SECRET, body))
        elif provider not in ("azure_devops", "gitlab"):
            expected = f"sha256={hexed(SECRET, body)}"
            assert verified(provider, [SECRET], {HEADERS[provider]: value}, body) is (value == expected)
        else:
            assert verified(provider, [SECRET], {HEADERS[provider]: value}, body) is (value == SECRET)


def test_only_the_test_of_a_connection_goes_unsigned() -> None:
    ping = {"x-event-key": "diagnostics:ping"}
    verify = PROVIDERS["bitbucket_dc"].verify
    assert verify([SECRET], Message(headers=ping, body=b'{"test": true}'), NOW) == ""
    for body in (b"{}", b'{"test": true, "changes": []}', BODY, b"", b"["):
        with pytest.raises(Unverified):
            verify([SECRET], Message(headers=ping, body=body), NOW)
    for sent in ({"x-event-key": "repo:refs_changed"}, ping | {"x-hub-signature": "sha256=0"}):
        with pytest.raises(Unverified):
            verify([SECRET], Message(headers=sent, body=b'{"test":true}'), NOW)


# Standard Webhooks


def test_the_example_of_the_specification_verifies() -> None:
    """https://github.com/standard-webhooks/standard-webhooks: the vector that its libraries are tested with."""
    secret, body = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", b'{"test": 2432232314}'
    given = {
        "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
        "webhook-timestamp": "1614265330",
        "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    }
    for prefix in ("webhook", "svix"):
        named = {name.replace("webhook", prefix): value for name, value in given.items()}
        assert standard_webhooks([secret], Message(headers=named, body=body), 1614265330.0) == secret


def signed(body: bytes = BODY, **change: str | None) -> dict[str, str]:
    given = standard(SIGNING, body, NOW) | {f"webhook-{name}": value for name, value in change.items()}
    return {name: value for name, value in given.items() if value is not None}


def test_a_signing_token_is_required_once_there_is_one() -> None:
    assert verified("gitlab", [SIGNING], signed())
    assert verified("gitlab", [SECRET, SIGNING], signed())
    for secrets in ([SIGNING], [SECRET, SIGNING]):
        assert not verified("gitlab", secrets, {"x-gitlab-token": SECRET})
        assert not verified("gitlab", secrets, {"x-gitlab-token": SIGNING})
        assert not verified("gitlab", secrets, signed(signature=None) | {"x-gitlab-token": SECRET})
    assert not verified("gitlab", [SECRET], signed())


def test_one_signature_of_several_is_enough() -> None:
    good = signed()["webhook-signature"]
    other = "whsec_" + b64encode(b"o" * 32).decode()
    for value in (f"v1,AAAA {good}", f"{good} v1,AAAA", f"v1a,xyz {good}", f"v2,x v1, {good}"):
        assert verified("gitlab", [SIGNING], signed(signature=value))
    assert verified("gitlab", [other, SIGNING], signed())
    assert not verified("gitlab", [other], signed())


@pytest.mark.parametrize(
    "signature",
    ["", "v1", "v1,", "v1,a,b", "  v1,x", "v1a,x", ",", "v1,\xe9", "v1,\u0661", "x" * 60_000, "v1,AAAA " * 10_000],
)
def test_odd_signatures_are_none(signature: str) -> None:
    assert not verified("gitlab", [SIGNING], signed(signature=signature))


def test_a_good_signature_after_many_is_not_looked_for() -> None:
    assert not verified("gitlab", [SIGNING], signed(signature="v1,AAAA " * 1000 + signed()["webhook-signature"]))


@pytest.mark.parametrize(
    "instant",
    [
        "",
        "nan",
        "1e9",
        "-1",
        f"{NOW}",
        "\u0661\u0662",
        "9" * 400,
        " 1772366400",
        "0x10",
        str(int(NOW)) + "\n",
        "+1772366400",
    ],
)
def test_odd_instants_are_none(instant: str) -> None:
    body = f"msg_1.{instant}.".encode() + BODY
    signature = b64encode(hmac.new(b"k" * 32, body, sha256).digest()).decode()
    assert not verified("gitlab", [SIGNING], signed(timestamp=instant, signature=f"v1,{signature}"))


def test_what_was_signed_long_ago_or_ahead_is_refused() -> None:
    for off, good in ((0, True), (299, True), (-299, True), (301, False), (-301, False), (86_400, False)):
        assert verified("gitlab", [SIGNING], standard(SIGNING, BODY, NOW + off)) is good


def test_each_part_is_under_the_signature() -> None:
    other = str(int(NOW) + 1)
    for change in ({"id": "msg_2"}, {"timestamp": other}, {"id": "msg_1.1"}, {"id": None}, {"timestamp": None}):
        assert not verified("gitlab", [SIGNING], signed(**change))
    assert not verified("gitlab", [SIGNING], signed(), BODY + b" ")
    assert not verified("gitlab", [SIGNING], signed(id="x" * 10_000))


@pytest.mark.parametrize("secret", ["whsec_", "whsec_!!!", "whsec_" + b64encode(b"short").decode(), "whsec_\u0661"])
def test_a_signing_token_that_is_none_proves_nothing(secret: str) -> None:
    assert signing_key(secret) is None
    assert not verified("gitlab", [secret], signed())
    assert not verified("gitlab", [secret], {"x-gitlab-token": secret})


@given(st.text(), st.text(), st.text())
def test_any_headers_are_answered(identity: str, instant: str, signature: str) -> None:
    assert not verified("gitlab", [SIGNING], signed(id=identity, timestamp=instant, signature=signature))


# Tokens in the address


@pytest.mark.parametrize(
    ("path", "good"),
    [
        (SECRET, True),
        (f"{SECRET}/trace", True),
        ("", False),
        (f"/{SECRET}", False),
        (SECRET[:-1], False),
        (f"{SECRET}x", False),
        ("\u0661" * 32, False),
    ],
)
def test_a_token_is_the_first_part_of_the_path(path: str, good: bool) -> None:
    if good:
        assert path_token([OTHER, SECRET], Message(path=path)) == SECRET
    else:
        with pytest.raises(Unknown):
            path_token([OTHER, SECRET], Message(path=path))


def test_a_short_token_in_the_address_is_none() -> None:
    with pytest.raises(Unknown):
        path_token(["x" * 31], Message(path="x" * 31))


# Known answers


def vectors() -> list[Any]:
    index = SHARED / "signatures.json"
    if not index.exists():
        return [pytest.param(None, marks=pytest.mark.skip(reason=f"{index} is not there"))]
    return [pytest.param(entry, id=entry.get("file", entry["host"])) for entry in json.loads(index.read_text())]


@pytest.mark.shared
@pytest.mark.parametrize("entry", vectors())
def test_known_signatures_verify(entry: dict[str, Any]) -> None:
    host = {"bitbucket-server": "bitbucket_dc"}.get(entry["host"], entry["host"])
    body = entry["body_text"].encode() if "body_text" in entry else (SHARED / entry["file"]).read_bytes()
    given = {entry["header"].lower(): entry["value"]}
    assert verified(host, [OTHER, entry["secret"]], given, body)
    assert not verified(host, [entry["secret"]], given, body + b"\n")
    assert not verified(host, [OTHER], given, body)


def test_an_error_says_nothing_of_a_secret(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    for provider in HOSTS:
        given = headers(provider, OTHER, BODY)
        with pytest.raises(UsageError) as caught:
            PROVIDERS[provider].verify([SECRET], Message(headers=given, body=BODY), NOW)
        for secret in (SECRET, OTHER, hexed(SECRET, BODY), hexed(OTHER, BODY)):
            assert secret not in f"{caught.value}{caplog.text}"
