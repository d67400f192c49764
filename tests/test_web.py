"""Events over HTTP, against the real server on a loopback port: what is recorded, what is refused, how it is told."""

from __future__ import annotations

import asyncio
import hmac
import json
import logging
import socket
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from hashlib import sha1, sha256
from pathlib import Path
from typing import Any

import httpx
import pytest

from sao_events.config import Secret
from sao_events.core.errors import Busy, StoreError, UsageError
from sao_events.core.events import CodePushed, DataLanded
from sao_events.deliveries import take_up
from sao_events.ports import Draft
from sao_events.store.sqlite import SqliteStore
from sao_events.web import protocol
from sao_events.web.access import KEPT, Keys
from sao_events.web.answers import Problem
from sao_events.web.gather import Gather
from sao_events.web.guard import Buckets, Rate, names_of
from sao_events.web.message import DRAIN, Head, read_body
from sao_events.web.server import HttpServer
from tests.web_service import FCT, ITEMS, ORDERS, SECRET, START, TOKEN, Service, bearer, busy_day, running, served

A, B, ZERO = "a" * 40, "b" * 40, "0" * 40
POSTED = ["/events/data", "/events/code", "/webhooks/github"]


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Service:
    return Service(tmp_path_factory.mktemp("service"))


@pytest.fixture(scope="module")
def client(environment: Service) -> Iterator[httpx.Client]:
    with served(environment) as found:
        yield found


@pytest.fixture
def service(environment: Service) -> Service:
    environment.forget()
    return environment


def send(client: httpx.Client, body: Any, **headers: str) -> httpx.Response:
    """A data event with the right token."""
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return client.post("/events/data", content=content, headers={"content-type": "application/json"} | bearer() | given)


def refused(answer: httpx.Response, status: int) -> str:
    """What an error says, after a look at its form."""
    assert answer.status_code == status, answer.text
    body = answer.json()
    assert set(body) == {"error", "hint"}
    assert body["error"]
    assert "Traceback" not in answer.text
    return f"{body['error']} | {body['hint']}"


def push(client: httpx.Client, payload: Any = None, **change: str | None) -> httpx.Response:
    """A push as GitHub delivers it; `change` replaces headers, None removes them."""
    body = payload if isinstance(payload, bytes) else json.dumps(payload or pushed()).encode()
    headers = {
        "content-type": "application/json",
        "x-github-event": "push",
        "x-github-delivery": sha256(body).hexdigest(),
        "x-hub-signature-256": signature(body),
    }
    given = headers | {name.replace("_", "-"): value for name, value in change.items()}
    return client.post(
        "/webhooks/github", content=body, headers={name: value for name, value in given.items() if value is not None}
    )


def test_what_is_taken_is_answered_as_what_it_is_and_each_header_once(client: httpx.Client, service: Service) -> None:
    hint = client.post("/events/code", json={"ref": "refs/heads/main"}, headers=bearer())
    for answer in (send(client, {"source": "raw.orders"}), hint, push(client)):
        assert answer.status_code == 202, answer.text
        names = [name for name, _ in answer.headers.raw]
        assert len(names) == len(set(names))
        assert (answer.headers["x-content-type-options"], answer.headers["cache-control"]) == ("nosniff", "no-store")


def signature(body: bytes, secret: str = SECRET) -> str:
    return f"sha256={hmac.new(secret.encode(), body, sha256).hexdigest()}"


def pushed(**change: Any) -> dict[str, Any]:
    repository = {"full_name": "acme/shop", "clone_url": "https://github.com/acme/shop.git"}
    return {"ref": "refs/heads/main", "before": A, "after": B, "repository": repository, **change}


def raw(client: httpx.Client, content: bytes, patient: bool = False) -> bytes:
    """The answer to these very bytes; with `patient` all that comes until the server ends the connection."""
    assert client.base_url.port is not None
    with socket.create_connection(("127.0.0.1", client.base_url.port), timeout=20) as connection:
        connection.sendall(content)
        found = b""
        try:
            while part := connection.recv(65536):
                found += part
                if b"\r\n\r\n" in found and not patient:
                    return found
        except ConnectionResetError:
            pass
        return found


# Data events


def test_new_data_is_on_record_when_it_is_acknowledged(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "state.db")
    service = Service(tmp_path, store)
    with served(service) as client:
        answer = send(client, {"source": "raw.orders", "load_id": "7", "rows": 3, "loaded_at": "2026-03-01T11:00:00Z"})
        assert answer.status_code == 202
        [event] = answer.json()["events"]
        other = SqliteStore(tmp_path / "state.db")
        [recorded] = other.read(event["seq"] - 1)
        other.close()
    assert event == {"source": ORDERS, "seq": recorded.seq, "duplicate": False}
    assert recorded.event == DataLanded(ORDERS, "7", START - 3600, 3)
    assert (recorded.at, recorded.sender) == (START, "data")
    store.close()


def test_the_same_load_twice_is_one(client: httpx.Client, service: Service) -> None:
    assert send(client, {"source": "raw.orders", "load_id": "7"}).status_code == 202
    again = send(client, {"source": "raw.orders", "load_id": "7", "rows": 9})
    assert again.status_code == 200
    assert again.json() == {"events": [{"source": ORDERS, "seq": None, "duplicate": True}]}
    assert send(client, {"source": "raw.orders", "load_id": "8"}).status_code == 202
    assert send(client, {"source": "raw.items", "load_id": "7"}).status_code == 202
    assert [event.load_id for event in service.data()] == ["7", "8", "7"]


def test_without_a_load_id_the_idempotency_key_counts(client: httpx.Client, service: Service) -> None:
    body = {"sources": ["raw.orders", "raw.items"]}
    assert [send(client, body, idempotency_key="k1").status_code for _ in range(3)] == [202, 200, 200]
    assert [send(client, body).status_code for _ in range(2)] == [202, 202]
    assert len(service.data()) == 6


def test_a_request_that_is_new_in_part_is_accepted(client: httpx.Client) -> None:
    send(client, {"source": "raw.orders", "load_id": "7"})
    answer = send(client, [{"source": "raw.orders", "load_id": "7"}, {"source": "raw.items", "load_id": "7"}])
    assert answer.status_code == 202
    assert [event["duplicate"] for event in answer.json()["events"]] == [True, False]


@pytest.mark.parametrize("name", [ORDERS, "raw.orders", "RAW.Orders", "orders", "db.raw.orders", '"db"."raw"."orders"'])
def test_a_source_goes_by_any_of_its_names(client: httpx.Client, service: Service, name: str) -> None:
    assert send(client, {"source": name}).status_code == 202
    assert [event.source for event in service.data()] == [ORDERS]


def test_an_unknown_source_is_refused_with_the_nearest_and_nothing_is_recorded(
    client: httpx.Client, service: Service
) -> None:
    assert "raw.orders" in refused(send(client, {"source": "raw.ordrs"}), 422)
    refused(send(client, [{"source": "raw.orders"}, {"source": "raw.nothing"}]), 422)
    assert not service.data()


def test_a_source_that_a_new_project_brings_is_known_at_once(tmp_path: Path) -> None:
    service = Service(tmp_path)
    loaded, service.project = service.project, None
    with served(service) as client:
        service.project = loaded
        assert send(client, {"source": "raw.orders"}).status_code == 202


def test_what_comes_before_a_project_is_known_is_taken_and_judged_then_as_if_it_came_now(tmp_path: Path) -> None:
    service, key = Service(tmp_path), {"idempotency-key": "k"}
    loaded, service.project = service.project, None
    assert loaded is not None
    with served(service) as client:
        taken = send(client, [{"source": "raw.orders"}, {"source": "raw.nothing"}], **key)
        assert (taken.status_code, taken.json()["events"]) == (202, [])
        assert (taken.json()["unmatched"], "by itself" in taken.json()["hint"]) == (["raw.orders", "raw.nothing"], True)
        assert send(client, {"source": "raw.items"}, **key).status_code == 202
        assert client.get("/api/status").json()["unmatched"][0]["verdict"] == "waiting"
        assert "waiting</span>" in client.get("/").text
        assert client.post("/api/deliveries/1/replay", headers=bearer()).status_code == 503
        came, service.clock.at = service.clock.at, service.clock.at + 60
        take_up(service.store, loaded, service.config, service.clock.at)
        service.project = loaded
        assert [(event.source, event.loaded_at) for event in service.data()] == [(ORDERS, came), (ITEMS, came)]
        assert [item.sender for item in service.store.read()] == ["data", "data"]
        [lost] = client.get("/api/status").json()["unmatched"]
        assert (lost["names"], lost["verdict"]) == (["raw.nothing"], "accepted")
        assert send(client, {"source": "raw.orders"}, **key).status_code == 200
    take_up(service.store, loaded, service.config, service.clock.at)
    assert len(service.data()) == 2


def test_a_clock_that_is_ahead_is_refused(client: httpx.Client, service: Service) -> None:
    assert send(client, {"source": "raw.orders", "loaded_at": "2026-03-01T12:04:59Z"}).status_code == 202
    assert "ahead" in refused(send(client, {"source": "raw.orders", "loaded_at": "2026-03-01T12:06:00Z"}), 422)
    assert len(service.data()) == 1


@pytest.mark.parametrize(
    "body",
    [
        b"", b"null", b"[]", b"{", b"1", b'"x"', b'{"source": NaN}', b'{"source": "raw.orders", "rows": 1e999}',
        b'{"source": "raw.orders", "source": "raw.items"}', b"[" * 50_000, b'{"a":' * 9_000 + b"1" + b"}" * 9_000,
        b'{"source": "\xff"}', b'{"source": "\\ud800"}', b'{"source": "raw.orders", "load_id": "\\u0000"}',
        b"\xff\xfe{\x00}\x00", b"\xef\xbb\xbf{}", b"9" * 5_000, b"source=raw.orders", b"\x1f\x8b\x08\x00",
        b'{"source": "raw.orders", "extra": 1}', b'{"source": "raw.orders", "loaded_at": "yesterday"}',
    ],
    ids=lambda body: repr(body[:14]),
)  # fmt: skip
def test_a_body_that_is_not_right_is_a_400_and_nothing_is_recorded(
    client: httpx.Client, service: Service, body: bytes
) -> None:
    refused(send(client, body), 400)
    assert not service.data()
    assert send(client, {"source": "raw.orders"}).status_code == 202


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"])
def test_other_media_types_are_refused(client: httpx.Client, kind: str) -> None:
    assert "Content-Type" in refused(send(client, {"source": "raw.orders"}, content_type=kind), 415)


def test_a_compressed_body_is_refused_unread(client: httpx.Client) -> None:
    refused(send(client, b"\x1f\x8b" + b"\x00" * 1000, content_encoding="gzip"), 415)


@pytest.mark.parametrize("key", ["", "x" * 300, "a\x00b"])
def test_an_unusable_idempotency_key_is_refused(client: httpx.Client, service: Service, key: str) -> None:
    assert send(client, {"source": "raw.orders"}, idempotency_key="x" * 256).status_code == 202
    content = b'{"source": "raw.orders"}'
    head = (
        f"POST /events/data HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {TOKEN}\r\nIdempotency-Key: {key}\r\n"
    )
    answer = raw(client, head.encode() + b"Content-Length: %d\r\n\r\n%s" % (len(content), content))
    assert answer.startswith(b"HTTP/1.1 400 ")


# Who may send


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [("authorization", "")],
        [("authorization", "Bearer")],
        [("authorization", "Bearer wrong")],
        [("authorization", TOKEN)],
        [("authorization", f"Basic {TOKEN}")],
        [("authorization", f"Bearer {TOKEN}x")],
        [("authorization", f"Bearer {TOKEN[:-1]}")],
        [("authorization", f"Bearer {TOKEN} {TOKEN}")],
        [("x-authorization", f"Bearer {TOKEN}")],
    ],
)
@pytest.mark.parametrize("path", ["/events/data", "/events/code"])
def test_without_the_token_nothing_gets_in(
    client: httpx.Client, service: Service, path: str, headers: list[tuple[str, str]]
) -> None:
    answer = client.post(path, json={"source": "raw.orders"}, headers=headers)
    refused(answer, 401)
    assert answer.headers["www-authenticate"] == "Bearer"
    assert not service.store.last()


def test_two_authorizations_or_odd_ones_are_refused(client: httpx.Client, service: Service) -> None:
    content = b'{"source": "raw.orders"}'
    for value in (f"Bearer {TOKEN}\r\nAuthorization: Bearer x", "Bearer \xe9", "Bearer \U0001f511"):
        head = f"POST /events/data HTTP/1.1\r\nHost: localhost\r\nAuthorization: {value}\r\nContent-Length: 24\r\n\r\n"
        assert raw(client, head.encode() + content)[9:12] in (b"400", b"401")
    assert not service.data()


def test_the_scheme_may_be_in_any_case(client: httpx.Client) -> None:
    answer = client.post("/events/data", json={"source": "raw.orders"}, headers={"authorization": f"bEARER  {TOKEN}"})
    assert answer.status_code == 202


@pytest.mark.parametrize("text", [None, "", "   \n"])
def test_without_a_configured_token_nobody_gets_in(tmp_path: Path, text: str | None) -> None:
    service = Service(tmp_path)
    if text is None:
        (tmp_path / "token").unlink()
    else:
        (tmp_path / "token").write_text(text)
    with served(service) as client:
        for header in (bearer(), {"authorization": "Bearer"}, {"authorization": ""}, {}):
            assert "data.tokens" in refused(client.post("/events/data", json={}, headers=header), 403)


def test_a_secret_can_be_exchanged_while_the_service_runs(tmp_path: Path) -> None:
    file, now = tmp_path / "secret", [0.0]
    file.write_text("old")
    keys = Keys((Secret(file=file), Secret(env="SAO_TEST_IS_NOT_SET")), lambda: now[0])
    assert keys.values() == ("old",)
    file.write_text("new\n")
    now[0] = KEPT
    assert keys.values() == ("new",)


def test_a_secret_that_cannot_be_read_is_left_out_and_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "good").write_text("good")
    (tmp_path / "bad").write_bytes(b"\xff\xfe")
    keys = Keys((Secret(file=tmp_path / "bad"), Secret(file=tmp_path / "good")), lambda: 0.0)
    assert keys.values() == ("good",)
    assert str(tmp_path / "bad") in caplog.text


# Webhooks


def test_a_push_is_recorded_once_whatever_its_delivery_id(client: httpx.Client, service: Service) -> None:
    answer = push(client)
    assert answer.status_code == 202
    again = push(client, x_github_delivery="00000000-0000-0000-0000-000000000000")
    assert (again.status_code, again.json()["events"][0]["duplicate"]) == (200, True)
    [recorded] = service.store.read()
    assert recorded.event == CodePushed("refs/heads/main", B)
    assert recorded.sender == "webhook github"


@pytest.mark.parametrize("ids", [1, 50])
def test_fifty_redeliveries_at_once_are_one_event(tmp_path: Path, ids: int) -> None:
    service = Service(tmp_path, SqliteStore(tmp_path / "state.db"))
    with served(service) as client, ThreadPoolExecutor(50) as pool:
        answers = list(pool.map(lambda number: push(client, x_github_delivery=str(number % ids)), range(50)))
    assert sorted(answer.status_code for answer in answers) == [200] * 49 + [202]
    assert service.store.last() == 1
    found = service.store.deliveries()
    assert sum(it.delivery.times for it in found if it.delivery.verdict == "duplicate") == 49
    assert [it.events for it in found if it.delivery.verdict == "accepted"] == [(1,)]
    service.store.close()


def test_fifty_loads_at_once_are_each_recorded(tmp_path: Path) -> None:
    service = Service(tmp_path, SqliteStore(tmp_path / "state.db"))
    bodies = [{"source": "raw.orders", "load_id": str(number // 2)} for number in range(50)]
    with served(service) as client, ThreadPoolExecutor(50) as pool:
        answers = list(pool.map(lambda body: send(client, body), bodies))
    assert sorted(answer.status_code for answer in answers) == [200] * 25 + [202] * 25
    assert sorted(event.load_id or "" for event in service.data()) == sorted(str(number) for number in range(25))
    service.store.close()


@pytest.mark.parametrize(
    ("payload", "headers", "why"),
    [
        ({"zen": "Practicality beats purity."}, {"x_github_event": "ping"}, "ping"),
        ({"ref": "v1", "ref_type": "tag"}, {"x_github_event": "create"}, "only pushes"),
        (pushed(ref="refs/heads/next"), {}, "only the branch main"),
        (pushed(ref="refs/tags/main"), {}, "only branches"),
        (pushed(after=ZERO, deleted=True), {}, "deleted"),
        (pushed(repository={"full_name": "acme/b", "clone_url": "https://github.com/acme/b.git"}), {}, "another"),
    ],
)
def test_what_asks_for_nothing_is_acknowledged_and_not_recorded(
    client: httpx.Client, service: Service, payload: Any, headers: dict[str, str], why: str
) -> None:
    answer = push(client, payload, **headers)
    assert answer.status_code == 200
    assert why in answer.json()["ignored"]
    assert not service.store.last()


def test_a_push_may_come_as_a_form(client: httpx.Client) -> None:
    body = httpx.Request("POST", "http://x", data={"payload": json.dumps(pushed())}).read()
    assert push(client, body, content_type="application/x-www-form-urlencoded").status_code == 202


BODY = json.dumps(pushed()).encode()


@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        "sha256=",
        signature(BODY)[:-1],
        signature(BODY).upper(),
        signature(BODY)[7:],
        signature(BODY, "other"),
        signature(BODY, ""),
        signature(BODY + b"\n"),
        f"sha1={hmac.new(SECRET.encode(), BODY, sha1).hexdigest()}",
    ],
)
def test_a_wrong_signature_is_refused_before_anything_is_read(
    client: httpx.Client, service: Service, header: str | None
) -> None:
    refused(push(client, BODY, x_hub_signature_256=header), 401)
    refused(push(client, b"[" * 5000, x_hub_signature_256=header), 401)
    assert not service.store.last()


def test_the_old_sha1_header_and_a_second_signature_are_of_no_use(client: httpx.Client, service: Service) -> None:
    old = f"sha1={hmac.new(SECRET.encode(), BODY, sha1).hexdigest()}"
    refused(push(client, BODY, x_hub_signature_256=None, x_hub_signature=old), 401)
    good = signature(BODY)
    for first, second in ((good, "sha256=0"), ("sha256=0", good), (good, good)):
        headers = [("x-github-event", "push"), ("x-hub-signature-256", first), ("x-hub-signature-256", second)]
        refused(client.post("/webhooks/github", content=BODY, headers=headers), 400)
    assert not service.store.last()


@pytest.mark.parametrize("value", [b"sha256=\xe9", b"sha256=\xf0\x9f\x94\x91", b"sha256=" + b"a" * 60_000])
def test_an_odd_signature_is_refused(client: httpx.Client, service: Service, value: bytes) -> None:
    head = b"POST /webhooks/github HTTP/1.1\r\nHost: localhost\r\nX-GitHub-Event: push\r\n"
    signed = head + b"X-Hub-Signature-256: %s\r\nContent-Length: %d\r\n\r\n%s" % (value, len(BODY), BODY)
    assert raw(client, signed).startswith(b"HTTP/1.1 401 ")
    assert not service.store.last()


@pytest.mark.parametrize("body", [b"", b"{}", b"[]", b"null", b'{"ref":"test"}', b"[" * 50_000, b'{"a":1,"a":2}'])
def test_a_signed_body_that_is_no_push_is_a_400(client: httpx.Client, service: Service, body: bytes) -> None:
    refused(push(client, body), 400)
    assert not service.store.last()


def test_a_webhook_without_its_secret_is_shut(tmp_path: Path) -> None:
    service = Service(tmp_path)
    (tmp_path / "secret").write_text(" \n")
    with served(service) as client:
        for header in (signature(BODY), signature(BODY, ""), "", None):
            assert "secret" in refused(push(client, BODY, x_hub_signature_256=header), 403)
    assert not service.store.last()


@pytest.mark.parametrize("name", ["gitlab", "github/", "../github", "%2e%2e%2fgithub", "", "x" * 8000, "git%00hub"])
def test_other_webhooks_do_not_exist(client: httpx.Client, name: str) -> None:
    answer = client.post(f"/webhooks/{name}", content=BODY, headers={"x-hub-signature-256": signature(BODY)})
    assert answer.status_code == 404


# Hints of git hooks


def test_a_hook_says_that_code_changed(client: httpx.Client, service: Service) -> None:
    hint = {"ref": "refs/heads/main", "commit": B}
    answers = [
        client.post("/events/code", json=body, headers=bearer()) for body in (hint, hint, {"ref": "", "commit": ""})
    ]
    assert [answer.status_code for answer in answers] == [202, 202, 202]
    events = [item.event for item in service.store.read()]
    assert events == [CodePushed("refs/heads/main", B), CodePushed("refs/heads/main", B), CodePushed()]


def test_a_hook_may_send_a_key_and_the_end_of_a_branch(client: httpx.Client, service: Service) -> None:
    for expected in (202, 200):
        answer = client.post("/events/code", json={}, headers=bearer() | {"idempotency-key": "1"})
        assert answer.status_code == expected
    gone = client.post("/events/code", json={"ref": "refs/heads/x", "commit": ZERO}, headers=bearer())
    assert (gone.status_code, gone.json()) == (200, {"ignored": "the ref was deleted"})
    assert service.store.last() == 1


def test_a_hint_of_another_shape_is_refused(client: httpx.Client) -> None:
    bodies: list[Any] = [{"ref": "--upload-pack=x"}, {"commit": "HEAD"}, {"x": 1}, []]
    for body in bodies:
        refused(client.post("/events/code", json=body, headers=bearer()), 400)


# Size, time, transport


@pytest.mark.parametrize("path", POSTED)
def test_a_large_body_is_refused_and_the_service_goes_on(client: httpx.Client, service: Service, path: str) -> None:
    large = b" " * (service.config.http.body_limit + 1)
    headers = bearer() | {"x-hub-signature-256": signature(large), "content-type": "application/json"}
    assert "body_limit" in refused(client.post(path, content=large, headers=headers), 413)
    in_parts = client.post(path, content=(large[:5000] for _ in range(100)), headers=headers)
    assert "body_limit" in refused(in_parts, 413)
    assert send(client, {"source": "raw.orders"}).status_code == 202


def test_a_huge_body_is_not_waited_for(client: httpx.Client) -> None:
    head = (
        f"POST /events/data HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\nContent-Length: 10000000000\r\n\r\n"
    )
    answer = raw(client, head.encode())
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b"connection: close" in answer.lower()


def test_a_client_that_asks_first_is_told_before_it_sends(client: httpx.Client) -> None:
    head = f"POST /events/data HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\nExpect: 100-continue\r\n"
    assert raw(client, head.encode() + b"Content-Length: 200000\r\n\r\n").startswith(b"HTTP/1.1 413 ")


def test_a_body_at_the_limit_is_read(client: httpx.Client, service: Service) -> None:
    body = b'{"source": "raw.orders"}'
    assert send(client, body + b" " * (service.config.http.body_limit - len(body))).status_code == 202


@pytest.mark.parametrize(
    "head",
    [b"X: " + b"y" * 200_000, b"\r\n".join(b"X-%d: y" % number for number in range(30_000)), b"x" * 200_000],
    ids=["one", "many", "unended"],
)
def test_a_huge_head_is_cut_off(client: httpx.Client, head: bytes) -> None:
    answer = raw(client, b"POST /events/data HTTP/1.1\r\nHost: x\r\n" + head)
    assert answer == b"" or answer[9:12] in (b"431", b"400")
    assert client.get("/healthz", headers={"x-much": "y" * 30_000}).status_code == 200


def test_who_sends_a_head_or_a_body_too_slowly_is_let_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "HEAD_SECONDS", 0.2)
    monkeypatch.setattr(protocol, "BODY_SECONDS", 0.2)
    head = f"POST /events/data HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\nContent-Length: 100\r\n\r\n"
    begun = head.encode()
    slow = [b"", b"POST /events/data HT", begun, begun + b"{", begun.replace(TOKEN.encode(), b"x")]
    with served(Service(tmp_path)) as client, ThreadPoolExecutor(len(slow)) as pool:
        ended = list(pool.map(lambda content: raw(client, content, patient=True), slow))
        assert [answer[9:12] for answer in ended] == [b"", b"", b"", b"", b"401"]
        assert client.get("/healthz").status_code == 200


def test_who_asks_whether_to_send_is_told_to_go_on(client: httpx.Client) -> None:
    body = b'{"source": "raw.orders"}'
    head = f"POST /events/data HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\nExpect: 100-continue\r\n"
    with socket.create_connection((client.base_url.host, client.base_url.port or 80), timeout=10) as connection:
        connection.sendall(head.encode() + b"Content-Length: %d\r\n\r\n" % len(body))
        assert connection.recv(1000).startswith(b"HTTP/1.1 100 ")
        connection.sendall(body)
        assert connection.recv(1000).startswith(b"HTTP/1.1 202 ")


class Wire(asyncio.Transport):
    """What is sent, call by call."""

    def __init__(self) -> None:
        super().__init__()
        self.sent: list[bytes] = []
        self.closed = False

    def write(self, data: Any) -> None:
        self.sent.append(data)

    def close(self) -> None:
        self.closed = True


def test_the_head_of_an_answer_goes_out_with_what_follows() -> None:
    wire = Wire()
    together = protocol.Together(wire)
    together.write(b"HTTP/1.1 202 Accepted\r\n\r\n")
    together.write(b"{}")
    together.write(b"5\r\nmore\n\r\n\r\n")  # a part that looks like an end is not waited with
    together.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    together.write(b"HTTP/1.1 204 No Content\r\n\r\n")
    together.flush()
    together.flush()
    together.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
    together.close()
    assert wire.sent == [
        b"HTTP/1.1 202 Accepted\r\n\r\n{}",
        b"5\r\nmore\n\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\n",
        b"HTTP/1.1 204 No Content\r\n\r\n",
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
    ]
    assert wire.closed


def read_parts(*parts: bytes, pause: float = 0.0, limit: int = 10, seconds: float = 15.0, **headers: str) -> bytes:
    """What `read_body` makes of these parts."""
    left = list(parts)

    async def receive() -> dict[str, Any]:
        if not left:
            return {"type": "http.disconnect"}
        await asyncio.sleep(pause if len(left) < len(parts) else 0)
        return {"type": "http.request", "body": left.pop(0), "more_body": bool(left) or parts[-1] == b""}

    found = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    return asyncio.run(read_body(Head({"headers": found}), receive, limit, seconds))


def test_a_body_is_read_in_parts_up_to_the_limit() -> None:
    assert read_parts(b"abc", b"def", b"ghij") == b"abcdefghij"
    with pytest.raises(Problem) as caught:
        read_parts(b"abc", b"def", b"ghijk")
    assert caught.value.status == 413
    with pytest.raises(Problem) as caught:
        read_parts(b"x", content_length=str(11 + DRAIN))
    assert caught.value.status == 413


def test_a_body_that_drips_is_given_up() -> None:
    with pytest.raises(Problem) as caught:
        read_parts(b"a", b"b", b"c", pause=0.2, seconds=0.05)
    assert caught.value.status == 408


def test_a_body_that_breaks_off_is_not_taken_for_a_whole_one() -> None:
    with pytest.raises(UsageError, match="complete"):
        read_parts(b"abc", b"")


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "PATCH", "OPTIONS"])
@pytest.mark.parametrize("path", POSTED)
def test_events_are_posted_and_nothing_else(client: httpx.Client, method: str, path: str) -> None:
    answer = client.request(method, path, headers=bearer())
    assert answer.status_code == 405
    assert answer.headers["allow"] == "POST"


@pytest.mark.parametrize(
    "path", ["/nothing", "/events", "/events/data/", "/Events/Data", "//events/data", "/events/data%00"]
)
def test_nothing_else_is_there_and_nobody_is_sent_elsewhere(client: httpx.Client, path: str) -> None:
    answer = client.post(path, headers=bearer())
    assert answer.status_code == 404
    assert "location" not in answer.headers


def test_what_is_no_http_is_a_400(client: httpx.Client) -> None:
    for content in (b"\x00\x01\x02\r\n\r\n", b"GET\r\n\r\n", b"POST /events/data HTTP/9.9\r\n\r\n"):
        assert raw(client, content).startswith(b"HTTP/1.1 400 ")
    both = b"POST /events/data HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
    assert raw(client, both)[9:12] in (b"400", b"401")


# Rate, host


def test_a_bucket_lets_a_burst_through_and_then_its_rate() -> None:
    buckets = Buckets(Rate(each_second=2.0, at_once=3.0))
    assert [buckets.take("a", 0.0) for _ in range(4)] == [0.0, 0.0, 0.0, 0.5]
    assert buckets.take("b", 0.0) == 0.0
    assert [buckets.take("a", 0.5) for _ in range(2)] == [0.0, 0.5]
    assert [buckets.take("a", 100.0) for _ in range(4)] == [0.0, 0.0, 0.0, 0.5]


def test_only_so_many_clients_are_remembered() -> None:
    buckets = Buckets(Rate(1.0, 1.0), most=2)
    assert [buckets.take(name, 0.0) for name in ("a", "b", "a", "c", "a", "b")] == [0.0, 0.0, 1.0, 0.0, 1.0, 0.0]


def test_who_asks_too_often_is_told_when_to_come_again(tmp_path: Path) -> None:
    service = Service(tmp_path)
    with served(service, rate=Rate(each_second=0.001, at_once=3)) as client:
        assert [client.get("/healthz").status_code for _ in range(3)] == [200] * 3
        late = send(client, {"source": "raw.orders"})
        refused(late, 429)
        assert int(late.headers["retry-after"]) > 0
    assert not service.data()


@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1.evil.example", "localhost.evil.example:80", "a/x?", "", "[::2]"]
)
def test_a_page_elsewhere_cannot_read_the_service_through_a_name_of_its_own(client: httpx.Client, host: str) -> None:
    busy = client.get("/api/status", headers={"host": host})
    assert busy.status_code == 400
    assert "environment" not in busy.text


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:8181", "127.0.0.1", "127.0.0.1:1", "[::1]:8181"])
def test_the_machines_own_names_are_answered(client: httpx.Client, host: str) -> None:
    assert client.get("/api/status", headers={"host": host}).status_code == 200


def test_two_host_headers_or_none_are_refused(client: httpx.Client) -> None:
    for lines in (b"Host: localhost\r\nHost: evil.example\r\n", b""):
        assert raw(client, b"GET /api/status HTTP/1.1\r\n%s\r\n" % lines).startswith(b"HTTP/1.1 400 ")


def test_a_webhook_may_come_through_a_tunnel(client: httpx.Client) -> None:
    assert push(client, host="abc.tunnel.example").status_code == 202


def test_a_service_that_is_open_to_others_goes_by_any_name() -> None:
    assert names_of("0.0.0.0") is None  # noqa: S104 - nothing is bound
    assert names_of("10.0.0.5") is None
    assert names_of("::1") == names_of("127.0.0.1") | {"::1"}  # type: ignore[operator]


# Recording together


class Counting(Service):
    """Counts how often the log is handed something."""

    handed: list[int]

    def submit(self, drafts: Any) -> Future[Any]:
        self.handed.append(len(drafts))
        return super().submit(drafts)


def drafts(*loads: str) -> list[Draft]:
    return [Draft(DataLanded(ORDERS, load), START, load) for load in loads]


def test_what_arrives_together_is_recorded_together_and_each_gets_its_own_back(tmp_path: Path) -> None:
    service = Counting(tmp_path)
    service.handed = []

    async def together() -> list[Any]:
        gather = Gather(service)
        requests = (drafts("1", "2"), drafts("2"), drafts(), drafts("3"))
        first = await asyncio.gather(*(gather.record(request) for request in requests))
        return [*first, await gather.record(drafts("4"))]

    found = asyncio.run(together())
    assert [[item and item.event.load_id for item in one] for one in found] == [["1", "2"], [None], [], ["3"], ["4"]]
    assert service.handed == [4, 1]


def test_one_who_leaves_takes_nothing_from_the_others(tmp_path: Path) -> None:
    async def together() -> tuple[Any, Any]:
        gather = Gather(Service(tmp_path))
        leaving = asyncio.ensure_future(gather.record(drafts("1")))
        staying = asyncio.ensure_future(gather.record(drafts("2")))
        await asyncio.sleep(0)
        leaving.cancel()
        return await asyncio.gather(leaving, staying, return_exceptions=True)

    left, stayed = asyncio.run(together())
    assert isinstance(left, asyncio.CancelledError)
    assert [item.event.load_id for item in stayed] == ["2"]


# What goes wrong here


class Broken(Service):
    """A log that cannot be written, at once or after a while; and a record that cannot be read."""

    at_once = False
    error_of_record: Exception | None = None

    def submit(self, drafts: Any) -> Future[Any]:
        error = StoreError("/var/lib/sao/state.db: the disk is full", hint="free some space")
        if self.at_once:
            raise error
        future: Future[Any] = Future()
        future.set_exception(error)
        return future

    def receive(self, incoming: Any) -> Future[Any]:
        return self.submit(incoming)

    def view(self) -> Any:
        if self.error_of_record:
            raise self.error_of_record
        return super().view()


@pytest.mark.parametrize("at_once", [True, False])
def test_a_log_that_cannot_be_written_is_a_503_that_says_nothing_of_the_inside(
    tmp_path: Path, at_once: bool, caplog: pytest.LogCaptureFixture
) -> None:
    service = Broken(tmp_path)
    service.at_once = at_once
    with served(service) as client:
        for answer in (send(client, {"source": "raw.orders"}), push(client)):
            told = refused(answer, 503)
            assert "disk" not in told
            assert "/var" not in told
            assert answer.headers["retry-after"] == "5"
    assert "the disk is full" in caplog.text


@pytest.mark.parametrize("path", ["/api/status", "/"])
def test_an_error_that_nobody_foresaw_is_logged_and_not_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, path: str
) -> None:
    service = Broken(tmp_path)
    service.error_of_record = ZeroDivisionError("a detail of the inside")
    with served(service) as client:
        assert "inside" not in refused(client.get(path), 500)
        assert "inside" not in refused(send(client, {"source": "raw.orders"}), 500)
        assert client.get("/healthz").status_code == 200
    assert "a detail of the inside" in caplog.text


def test_secrets_are_in_no_answer_and_no_log(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    service = Service(tmp_path)
    with served(service) as client:
        busy_day(service)
        paths = ("/", "/api/status", "/api/events", "/api/openapi.json", "/nothing", f"/api/nodes/{FCT}/why")
        texts = [client.get(path, headers=bearer()).text for path in paths]
        answers = [
            send(client, {"source": "raw.orders"}),
            send(client, {"source": "raw.nothing"}),
            send(client, b"{"),
            client.post("/events/data", headers=bearer(f"{TOKEN}x")),
            push(client),
            push(client, x_hub_signature_256=signature(b"other")),
            push(client, b"{"),
        ]
        texts += [answer.text for answer in answers] + [str(answer.headers) for answer in answers]
        raw(client, f"GET / HTTP/1.1\r\nAuthorization: Bearer {TOKEN}\r\nbroken\r\n\r\n".encode())
    told = "\n".join([*texts, caplog.text])
    for secret in (TOKEN, SECRET, signature(BODY).partition("=")[2]):
        assert secret not in told


# The server


def test_a_port_in_use_is_told_with_what_to_do(service: Service) -> None:
    with running(service) as server:
        with pytest.raises(Busy, match=f"port {server.port} of 127.0.0.1 is in use") as caught:
            HttpServer(service, "127.0.0.1", server.port)
        assert "--port" in str(caught.value)


@pytest.mark.parametrize("host", ["no.such.host.invalid", "203.0.113.7"])
def test_an_address_of_another_machine_is_told(service: Service, host: str) -> None:
    with pytest.raises(UsageError, match=host):
        HttpServer(service, host, 0)


def test_requests_under_way_are_answered_before_the_server_ends(tmp_path: Path) -> None:
    class Slow(Service):
        def submit(self, drafts: Any) -> Future[Any]:
            return pool.submit(self._later, drafts)

        def _later(self, drafts: Any) -> Any:
            time.sleep(0.5)
            return self.store.append(drafts)

    with ThreadPoolExecutor(2) as pool:
        with running(Slow(tmp_path)) as server:
            client = httpx.Client(base_url=server.url)
            under_way = pool.submit(send, client, {"source": "raw.orders"})
            while not server._server.server_state.tasks:
                time.sleep(0.01)
            server.stop()
        assert under_way.result().status_code == 202
        client.close()


def test_what_was_not_read_of_one_request_is_not_taken_for_the_next(client: httpx.Client, service: Service) -> None:
    body = b'Content-Length: 24\r\n\r\n{"source": "raw.orders"}'
    smuggled = b"POST /events/data HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\n%s" % (TOKEN.encode(), body)
    outer = b"POST /events/data HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s" % (len(smuggled), smuggled)
    assert raw(client, outer).startswith(b"HTTP/1.1 401 ")
    assert send(client, {"source": "raw.items"}).status_code == 202
    assert [event.source for event in service.data()] == [ITEMS]
