"""GitHub's webhook: the signature, what a delivery says, and which pushes ask for anything."""

from __future__ import annotations

import hmac
import json
from copy import deepcopy
from hashlib import sha1, sha256
from pathlib import Path
from typing import Any
from urllib.parse import quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sao_events.core.errors import UsageError
from sao_events.core.events import CodePushed
from sao_events.inputs.delivery import FORM, FORM_LIMIT, JSON, Message, Push, Repository, Said, Unverified
from sao_events.inputs.git import is_commit, is_nothing, is_ref, read_hint
from sao_events.inputs.github import PROVIDER
from sao_events.inputs.remote import wanted
from sao_events.inputs.strict import DEPTH, Malformed, UnknownForm, read_json

SHARED = Path(__file__).parent.parent.parent / "shared" / "payloads"
A, B, ZERO = "a" * 40, "b" * 40, "0" * 40
OTHER = "another repository is deployed, not Acme/Shop"
PUSH: dict[str, Any] = {
    "ref": "refs/heads/main",
    "before": A,
    "after": B,
    "created": False,
    "deleted": False,
    "forced": False,
    "commits": [],
    "repository": {
        "full_name": "Acme/Shop",
        "clone_url": "https://github.com/Acme/Shop.git",
        "default_branch": "main",
        "pushed_at": 1_767_225_600,
    },
}


def signed(body: bytes, secret: str = "hush", algorithm: Any = sha256, prefix: str = "sha256=") -> str:
    return prefix + hmac.new(secret.encode(), body, algorithm).hexdigest()


def changed(**changes: Any) -> dict[str, Any]:
    return {**deepcopy(PUSH), **changes}


def verify(secrets: list[str], body: bytes, header: str | None) -> bool:
    headers = {} if header is None else {"x-hub-signature-256": header}
    try:
        return PROVIDER.verify(secrets, Message(headers=headers, body=body), 0.0) in secrets
    except Unverified:
        return False


def read(event: str | None, kind: str | None, body: bytes) -> Said:
    given = {"x-github-event": event, "content-type": kind, "x-github-delivery": "one"}
    return PROVIDER.read(Message(headers={k: v for k, v in given.items() if v is not None}, body=body), 0.0)


def read_push(payload: Any) -> Push:
    [found] = read("push", JSON, json.dumps(payload).encode()).pushes
    return found


def key(payload: Any) -> str | None:
    said = read("push", JSON, json.dumps(payload).encode())
    return said.pushes[0].draft("github", said.repository, 0.0, "x").key


# The signature


def test_the_example_of_githubs_documentation_verifies() -> None:
    header = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"
    assert verify(["It's a Secret to Everybody"], b"Hello, World!", header)


def test_every_active_secret_is_tried() -> None:
    body = b"{}"
    for secrets in (["hush"], ["old", "hush"], ["hush", "old"], ["a", "b", "hush"]):
        assert verify(secrets, body, signed(body))
    assert not verify(["old", "older"], body, signed(body))


@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        "sha256=",
        "sha256",
        signed(b"{}")[:-1],
        signed(b"{}") + "0",
        signed(b"{}").upper(),
        "SHA256=" + signed(b"{}")[7:],
        signed(b"{}")[7:],
        f" {signed(b'{}')}",
        f"{signed(b'{}')}, {signed(b'{}')}",
        signed(b"{}", algorithm=sha1, prefix="sha1="),
        signed(b"{}", algorithm=sha1, prefix="sha256="),
        signed(b"{}", secret="other"),
        signed(b"{} "),
        "sha256=\xe9",
        "sha256=" + "é" * 64,
        "sha256=\x00",
        "sha256=\U0001f511",
        "sha256=\udce9",
    ],
)
def test_what_is_not_the_signature_does_not_verify(header: str | None) -> None:
    assert not verify(["hush"], b"{}", header)


@pytest.mark.parametrize("secret", ["", " ", "\t\n"])
def test_a_blank_secret_verifies_nothing(secret: str) -> None:
    body = b"{}"
    for header in (None, "", "sha256=", signed(body, secret), signed(body, "")):
        assert not verify([secret], body, header)
    assert not verify([], body, signed(body, ""))


@given(st.text(), st.binary(max_size=200))
def test_no_header_makes_the_check_fail_otherwise_than_by_false(header: str, body: bytes) -> None:
    assert verify(["hush"], body, header) is (header == signed(body))


@given(st.binary(min_size=1, max_size=200), st.data())
def test_a_body_altered_anywhere_does_not_verify(body: bytes, data: st.DataObject) -> None:
    place = data.draw(st.integers(0, len(body) - 1))
    other = body[:place] + bytes([body[place] ^ 1]) + body[place + 1 :]
    assert verify(["hush"], body, signed(body))
    assert not verify(["hush"], other, signed(body))


# What a delivery says


def test_a_push_is_read_from_json_and_from_a_form() -> None:
    body = json.dumps(PUSH).encode()
    push = Push("refs/heads/main", A, B, forced=False, files=(), stamp="1767225600")
    repository = Repository("Acme/Shop", ("https://github.com/Acme/Shop.git",), "main")
    expected = Said("one", repository, (push,))
    assert read("push", JSON, body) == expected
    assert read("push", "Application/JSON; charset=utf-8", body) == expected
    assert read("push", FORM, b"payload=" + quote_plus(body).encode()) == expected


def test_the_draft_is_a_hint_with_ref_and_commit() -> None:
    said = read("push", JSON, json.dumps(changed(commits=[{"added": ["b.sql"], "modified": ["a.sql"]}])).encode())
    draft = said.pushes[0].draft("github", said.repository, 12.5, "webhook github")
    assert draft.event == CodePushed("refs/heads/main", B, ("a.sql", "b.sql"))
    assert (draft.at, draft.sender, draft.key) == (12.5, "webhook github", key(PUSH))


def test_the_key_is_of_what_was_signed() -> None:
    one = key(PUSH)
    assert key(changed(commits=[{"id": B}], forced=True)) == one
    other = {"ref": "refs/heads/next", "before": ZERO, "after": "c" * 40}
    assert len({one, *(key(changed(**{name: value})) for name, value in other.items())}) == 4
    elsewhere = changed(repository={**PUSH["repository"], "full_name": "acme/other"})
    assert key(elsewhere) != one


def test_going_back_and_forth_between_two_commits_makes_new_pushes_each_time() -> None:
    at = PUSH["repository"]["pushed_at"]
    pushes = [
        changed(before=before, after=after, repository={**PUSH["repository"], "pushed_at": at + place})
        for place, (before, after) in enumerate(((A, B), (B, A), (A, B)))
    ]
    assert len({key(push) for push in pushes}) == 3


@pytest.mark.parametrize("event", ["ping", "create", "delete", "pull_request", "x" * 500])
def test_other_events_are_ignored_with_a_reason(event: str) -> None:
    found = read(event, JSON, b'{"zen": "Keep it logically awesome.", "ref": "simple-tag", "ref_type": "tag"}')
    assert found.ignored
    assert not found.pushes


def test_ids_of_sha_256_repositories_are_read() -> None:
    push = read_push(changed(before="0" * 64, after="c" * 64, created=True))
    assert (push.after, push.created, push.deleted) == ("c" * 64, True, False)
    assert read_push(changed(after="0" * 64)).deleted


def test_a_deletion_is_known_by_its_flag_or_by_its_zeros() -> None:
    assert read_push(changed(after=ZERO)).deleted
    assert read_push(changed(deleted=True)).deleted
    assert not read_push(PUSH).deleted


@pytest.mark.parametrize("event", [None, ""])
def test_without_the_event_header_nothing_is_read(event: str | None) -> None:
    with pytest.raises(Malformed, match="X-GitHub-Event"):
        read(event, JSON, json.dumps(PUSH).encode())


@pytest.mark.parametrize("kind", [None, "", "text/plain", "multipart/form-data; boundary=x", "application/xml"])
def test_other_media_types_are_refused(kind: str | None) -> None:
    with pytest.raises(UnknownForm):
        read("push", kind, json.dumps(PUSH).encode())


@pytest.mark.parametrize(
    "form",
    [
        b"",
        b"payload",
        b"other=1",
        b"payload=%7B%7D&payload=%7B%7D",
        b"payload=%ff%fe",
        b"payload=\xff",
        b"&".join(b"a%d=1" % number for number in range(100)),
        b"payload=not+json",
        b"payload=" + b"%41" * (FORM_LIMIT // 3),
    ],
)
def test_a_form_without_one_payload_is_malformed(form: bytes) -> None:
    with pytest.raises(Malformed):
        read("push", FORM, form)


@pytest.mark.parametrize("body", [b"", b"null", b"[]", b'"x"', b"1", b"{}", b'{"ref":"test"}', b"\xef\xbb\xbf{}"])
def test_what_is_no_push_is_malformed(body: bytes) -> None:
    with pytest.raises(Malformed):
        read("push", JSON, body)


@pytest.mark.parametrize("key", ["before", "after"])
@pytest.mark.parametrize(
    "commit", ["", "a" * 39, "a" * 41, "A" * 40, "g" * 40, "a" * 63, f"{A}\n", "-" * 40, "\u0660" * 40, None, 0, [], {}]
)
def test_a_commit_that_is_no_full_id_is_malformed(key: str, commit: Any) -> None:
    with pytest.raises(Malformed, match=key):
        read_push(changed(**{key: commit}))


@pytest.mark.parametrize(
    "ref",
    [
        "",
        "HEAD",
        "main",
        "heads/main",
        "refs/",
        "--upload-pack=touch /tmp/pwned",
        "refs/heads/../../x",
        "refs/heads/a b",
        "refs/heads/@{u}",
        "refs/heads/.hidden",
        "refs/heads/a.lock",
        "refs/heads/a.lock/b",
        "refs/heads/a/",
        "refs/heads/a.",
        "refs/heads//a",
        "refs/heads/a~1",
        "refs/heads/a^",
        "refs/heads/a:b",
        "refs/heads/a?",
        "refs/heads/*",
        "refs/heads/[a]",
        "refs/heads/a\\b",
        "refs/heads/a\x00",
        "refs/heads/a\n",
        "refs/heads/a\x7f",
        f"refs/heads/{'a' * 5000}",
        None,
        1,
        [],
    ],
)
def test_a_ref_that_git_would_not_accept_is_malformed(ref: Any) -> None:
    with pytest.raises(Malformed):
        read_push(changed(ref=ref))


@pytest.mark.parametrize(
    "ref", ["refs/heads/main", "refs/tags/v1.0", "refs/heads/feature/a-b_c", "refs/heads/-x", "refs/heads/größe"]
)
def test_refs_of_every_sort_are_read(ref: str) -> None:
    assert read_push(changed(ref=ref)).ref == ref


ODD: list[Any] = [None, "", [], {}, 0, -1, 1.5, "boom", True, [{}], {"a": 1}, "\u0131", 2**70]


@pytest.mark.parametrize("key", [*PUSH, "full_name", "clone_url", "default_branch", "pushed_at"])
@pytest.mark.parametrize("value", [*ODD, "removed"])
def test_any_field_may_be_anything(key: str, value: Any) -> None:
    payload = deepcopy(PUSH)
    place = payload if key in payload else payload["repository"]
    if value == "removed":
        del place[key]
    else:
        place[key] = value
    try:
        found = read("push", JSON, json.dumps(payload).encode())
    except Malformed:
        assert key in ("ref", "before", "after", "created", "deleted", "forced", "repository", "full_name")
    else:
        [pushed] = found.pushes
        assert is_ref(pushed.ref or "")
        assert is_commit(pushed.after or "")


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(max_size=10), inner),
)


@given(st.dictionaries(st.sampled_from([*PUSH]), json_values))
def test_a_payload_is_read_or_malformed(changes: dict[str, Any]) -> None:
    body = json.dumps({**PUSH, **changes}).encode()
    try:
        found = read("push", JSON, body)
    except Malformed:
        return
    assert len(found.pushes) == 1


# Which pushes ask for anything


@pytest.mark.parametrize(
    ("change", "remote", "branch", "reason"),
    [
        ({}, None, None, None),
        ({}, None, "main", None),
        ({"ref": "refs/heads/next"}, None, "main", "only the branch main is deployed"),
        ({"ref": "refs/tags/main"}, None, "main", "only branches are deployed"),
        ({"ref": "refs/tags/v1"}, None, None, "only branches are deployed"),
        ({"after": ZERO, "deleted": True}, None, "main", "the ref was deleted"),
        ({}, "https://github.com/acme/shop.git", "main", None),
        ({}, "https://token@GitHub.com:443/Acme/Shop/", "main", None),
        ({}, "git@github.com:acme/shop.git", "main", None),
        ({}, "ssh://git@github.com/acme/shop", "main", None),
        ({}, "https://github.com/acme/other.git", "main", OTHER),
        ({}, "git@github.com:acme/shop-2.git", "main", OTHER),
        ({}, "https://mirror.example/acme/shop.git", "main", OTHER),
        (
            {},
            "https://github.com@mirror.example/acme/shop.git",
            "main",
            "another repository is deployed, not Acme/Shop",
        ),
        (
            {},
            "https://github.com.mirror.example/acme/shop.git",
            "main",
            "another repository is deployed, not Acme/Shop",
        ),
        ({}, "acme/shop", "main", None),
        ({}, "acme/other", "main", OTHER),
        ({}, "/srv/git/shop.git", "main", None),
        ({}, "file:///srv/git/shop.git", "main", None),
        ({}, "https://[broken", "main", None),
    ],
)
def test_only_the_deployed_branch_of_the_deployed_repository_counts(
    change: dict[str, Any], remote: str | None, branch: str | None, reason: str | None
) -> None:
    said = read("push", JSON, json.dumps(changed(**change)).encode())
    assert wanted(said, remote, branch) == ((() if reason else said.pushes), reason)


@pytest.mark.parametrize("url", ["ext::sh -c id", "http://169.254.169.254/", "https://[", "boom", None, [], {}])
def test_an_odd_address_in_the_payload_is_never_followed_and_never_an_error(url: Any) -> None:
    said = read("push", JSON, json.dumps(changed(repository={**PUSH["repository"], "clone_url": url})).encode())
    pushes, reason = wanted(said, "https://github.com/acme/shop.git", "main")
    assert pushes == said.pushes or reason == OTHER


# Hints of git hooks


def test_a_hint_may_name_ref_and_commit_or_nothing() -> None:
    assert read_hint({"ref": "refs/heads/main", "commit": B}) == CodePushed("refs/heads/main", B)
    for nothing in ({}, {"ref": None, "commit": None}, {"ref": "", "commit": ""}):
        assert read_hint(nothing) == CodePushed()
    assert is_nothing(ZERO)
    assert not is_nothing(B)


@pytest.mark.parametrize(
    "body",
    [
        None,
        [],
        "x",
        1,
        {"ref": "main"},
        {"ref": 1},
        {"commit": "abc"},
        {"commit": 7},
        {"commit": {}},
        {"ref": False},
        {"paths": []},
        {"ref": "refs/heads/a b"},
    ],
)
def test_a_hint_of_another_shape_is_malformed(body: Any) -> None:
    with pytest.raises(Malformed):
        read_hint(body)


# JSON


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"", "not valid JSON"),
        (b"{", "not valid JSON"),
        (b"{} {}", "not valid JSON"),
        (b"NaN", "NaN"),
        (b'{"a": Infinity}', "Infinity"),
        (b'{"a": -Infinity}', "Infinity"),
        (b"1e999", "too large"),
        (b"-1e999", "too large"),
        (b"9" * 5000, "too large"),
        (b'{"a": 1, "a": 2}', "same key twice"),
        (b'[{"x": {"a": 1, "b": 2, "a": 1}}]', "same key twice"),
        (b"[" * 100_000, "too deep"),
        (b"[" * (DEPTH + 2) + b"]" * (DEPTH + 2), "too deep"),
        (b'{"a":' * 500 + b"1" + b"}" * 500, "too deep"),
        (b'"\xff"', "UTF-8"),
        (b"\xff\xfe[\x00]\x00", "UTF-8"),
        (b'\xef\xbb\xbf{"a": 1}', "not valid JSON"),
        (b'"\\ud800"', "surrogate"),
        (b'{"\\udc00": 1}', "surrogate"),
        (b'"a\\u0000b"', "NUL"),
        (b'{"\\u0000": 1}', "NUL"),
        (b'"a\x00b"', "not valid JSON"),
    ],
)
def test_json_that_is_not_strict_is_refused(body: bytes, says: str) -> None:
    with pytest.raises(Malformed, match=says):
        read_json(body)


@pytest.mark.parametrize(
    ("body", "value"),
    [
        (b'{"a": [1, 2.5, true, null, "x"]}', {"a": [1, 2.5, True, None, "x"]}),
        (b'"\\ud83d\\ude00"', "\U0001f600"),
        (b'"\\\\u0000"', "\\u0000"),
        (b"[" * DEPTH + b"]" * DEPTH, json.loads("[" * DEPTH + "]" * DEPTH)),
        (b" 7\n", 7),
    ],
)
def test_json_that_is_strict_is_read(body: bytes, value: Any) -> None:
    assert read_json(body) == value


@given(st.binary(max_size=60))
def test_any_bytes_are_read_or_malformed(body: bytes) -> None:
    try:
        value = read_json(body)
    except UsageError:
        return
    assert value == json.loads(body)


# Real deliveries


def oracles(host: str) -> list[Any]:
    index = SHARED / "git" / "index.json"
    if not index.exists():
        return [pytest.param(None, marks=pytest.mark.skip(reason=f"{index} is not there"))]
    return [pytest.param(entry, id=entry["file"]) for entry in json.loads(index.read_text()) if entry["host"] == host]


@pytest.mark.shared
@pytest.mark.parametrize("entry", oracles("github"))
def test_real_payloads_say_what_an_independent_reader_found(entry: dict[str, Any]) -> None:
    body = (SHARED / "git" / entry["file"]).read_bytes()
    oracle = entry["oracle"]
    names = {"create_or_delete": ("create", "delete")}.get(oracle["event"], (oracle["event"],))
    for found in [read(name, JSON, body) for name in names] + [
        read(name, FORM, b"payload=" + quote_plus(body).encode()) for name in names
    ]:
        if oracle["event"] != "push":
            assert found.ignored
            continue
        [expected], [pushed] = oracle["changes"], found.pushes
        assert expected == {name: getattr(pushed, name) for name in expected}
        assert list(pushed.files or ()) == oracle["files"]
        assert found.repository is not None
        assert (found.repository.name, found.repository.default_branch) == (oracle["repo"], oracle["default_branch"])
        assert oracle["clone"] in found.repository.addresses


@pytest.mark.shared
def test_known_signatures_verify() -> None:
    vectors = SHARED / "signatures.json"
    if not vectors.exists():
        pytest.skip(f"{vectors} is not there")
    known = [entry for entry in json.loads(vectors.read_text()) if entry["host"] == "github"]
    assert known
    for entry in known:
        body = entry["body_text"].encode()
        assert verify([entry["secret"]], body, entry["value"])
        assert not verify([entry["secret"]], body + b"\n", entry["value"])
