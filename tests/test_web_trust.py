"""Whom a webhook believes: each host over real HTTP, secrets that come and go, and what is done about those who try."""

from __future__ import annotations

import json
import logging
import os
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from sao_events.config import Secret, WebhookConfig
from sao_events.core.errors import StoreError
from sao_events.core.events import CodePushed
from sao_events.inputs import providers
from sao_events.inputs.delivery import Message, Provider, Said
from sao_events.inputs.signed import path_token
from sao_events.ports import Delivered
from sao_events.web import webhooks
from sao_events.web.access import KEPT, Keys, fingerprint
from sao_events.web.answers import Problem
from sao_events.web.guard import Rate
from sao_events.web.message import Room
from tests import senders
from tests.processes import until
from tests.senders import SIGNING, B, payload
from tests.test_web import refused
from tests.web_service import SECRET, START, Service, served

HOSTS = list(senders.PUSHES)
TOKEN = "token-in-the-address-0123456789abcdef"


def read_anything(message: Message, now: float) -> Said:
    """A sender that can do nothing but send."""
    return Said(ignored=f"{message.method} {message.path.partition('/')[2]}")


QUIET = Provider(
    "quiet", "Quiet", "data", lambda secrets, message, now: path_token(secrets, message), read_anything,
    methods=("POST", "PUT"), paths=True, least=32,
)  # fmt: skip


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service with a webhook of each host, another secret for each, and one with a token in its address."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(webhooks, "PROVIDERS", {**providers.PROVIDERS, "quiet": QUIET})
        folder = tmp_path_factory.mktemp("service")
        hooks = {}
        for name in (*HOSTS, "signed", "quiet"):
            (folder / name).write_text(secret_of(name))
            hooks[name] = WebhookConfig("gitlab" if name == "signed" else name, (Secret(file=folder / name),))
            hooks[name] = replace(hooks[name], repository="acme/shop" if name != "azure_devops" else None)
        service = Service(folder)
        remote = "https://dev.azure.com/acme/_git/shop"
        assert service.config.git is not None
        service.config = replace(service.config, webhooks=hooks, git=replace(service.config.git, remote=remote))
        yield service


def secret_of(name: str) -> str:
    return {"signed": SIGNING, "quiet": TOKEN}.get(name, f"secret of the host {name}")


@pytest.fixture(scope="module")
def client(environment: Service) -> Iterator[httpx.Client]:
    with served(environment) as found:
        yield found


@pytest.fixture
def service(environment: Service) -> Service:
    environment.forget()
    return environment


def send(client: httpx.Client, name: str, content: Any = None, **change: str | None) -> httpx.Response:
    """A push to the webhook `name`, as its host sends it; `change` replaces headers, None removes them."""
    provider = "gitlab" if name == "signed" else name
    body = content if isinstance(content, bytes) else json.dumps(content or payload(provider)).encode()
    given: dict[str, str | None] = {**senders.headers(provider, secret_of(name), body, START, "d1")}
    given |= {key.replace("_", "-"): value for key, value in change.items()}
    kept = {key: value for key, value in given.items() if value is not None}
    return client.post(f"/webhooks/{name}", content=body, headers=kept)


# Each host


@pytest.mark.parametrize("name", [*HOSTS, "signed"])
def test_a_push_of_each_host_is_recorded_once(client: httpx.Client, service: Service, name: str) -> None:
    answer = send(client, name)
    assert answer.status_code == 202, answer.text
    assert send(client, name).status_code == 200
    [recorded] = service.store.read()
    assert isinstance(recorded.event, CodePushed)
    assert (recorded.event.ref, recorded.event.commit, recorded.sender) == ("refs/heads/main", B, f"webhook {name}")
    again, first = service.store.deliveries()
    assert (again.delivery.verdict, first.delivery.verdict, first.events) == ("duplicate", "accepted", (1,))
    assert first.delivery.secret == fingerprint(secret_of(name))


@pytest.mark.parametrize("name", [*HOSTS, "signed"])
def test_nothing_gets_in_without_the_hosts_own_proof(client: httpx.Client, service: Service, name: str) -> None:
    provider = "gitlab" if name == "signed" else name
    body = json.dumps(payload(provider)).encode()
    proof = senders.proof(provider, secret_of(name), body, START)
    others = [key for key in (*HOSTS, "signed") if key != name]
    for key in proof:
        header = key.replace("-", "_")
        for value in (None, "", "sha256=", "x" * 64):
            refused(send(client, name, body, **{header: value}), 401)
    for other in others:
        foreign = senders.proof(provider, secret_of(other), body, START) if other != "signed" else {}
        refused(send(client, name, body, **{key.replace("-", "_"): foreign.get(key) for key in proof}), 401)
    assert service.store.last() == 0


def test_the_token_is_no_way_around_a_signature(client: httpx.Client, service: Service) -> None:
    for token in (SIGNING, secret_of("gitlab")):
        refused(send(client, "signed", webhook_signature=None, x_gitlab_token=token), 401)
    body = json.dumps(payload("gitlab")).encode()
    for off in (-301, 301):
        old = senders.headers("gitlab", SIGNING, body, START + off)
        refused(client.post("/webhooks/signed", content=body, headers=old), 401)
    assert service.store.last() == 0


def test_two_of_a_header_are_refused(client: httpx.Client, service: Service) -> None:
    body = json.dumps(payload("gitea")).encode()
    given = list(senders.headers("gitea", secret_of("gitea"), body).items())
    for extra in (("x-gitea-signature", "0" * 64), ("x-gitea-event", "push"), ("content-type", "application/json")):
        for headers in ([*given, extra], [extra, *given]):
            refused(client.post("/webhooks/gitea", content=body, headers=headers), 400)
    assert service.store.last() == 0


def test_an_odd_host_header_changes_no_address(client: httpx.Client, service: Service) -> None:
    for host in ("a/webhooks/github?", "x/../webhooks/github#", "[::1", "@"):
        answer = client.get("/api/status", headers={"host": host})
        assert answer.status_code == 400
        body = json.dumps(payload("gitea")).encode()
        headers = senders.headers("gitea", secret_of("gitea"), body) | {"host": host}
        assert client.post("/webhooks/gitea?x=1", content=body, headers=headers).status_code in (200, 202)
    assert service.store.last() == 1


def test_what_is_compressed_or_asked_for_is_not_taken(client: httpx.Client, service: Service) -> None:
    body = json.dumps(payload("gitea")).encode()
    headers = senders.headers("gitea", secret_of("gitea"), body)
    for encoding in ("gzip", "gzip, gzip", "deflate", "br", "zstd", "x"):
        refused(client.post("/webhooks/gitea", content=body, headers=headers | {"content-encoding": encoding}), 415)
    for method in ("GET", "PUT", "DELETE", "OPTIONS", "PATCH"):
        asked = client.request(method, "/webhooks/gitea", params={"payload": body.decode()}, headers=headers)
        refused(asked, 405)
        assert asked.headers["allow"] == "POST"
    assert service.store.last() == 0


def test_a_thousand_headers_are_no_matter(client: httpx.Client) -> None:
    many = {f"x-{number}": "1" for number in range(1000)}
    assert send(client, "github", **many).status_code in (200, 202)


# A token in the address


def test_a_token_in_the_address_lets_in(client: httpx.Client, service: Service) -> None:
    for method, rest in (("POST", "/x"), ("PUT", "/trace"), ("PUT", "/a/b")):
        answer = client.request(method, f"/webhooks/quiet/{TOKEN}{rest}", content=b"x")
        assert answer.json()["ignored"] == f"{method} {rest[1:]}"
    assert client.put(f"/webhooks/quiet/{TOKEN}/x", headers={"host": "tunnel.example"}).status_code == 200


def test_a_wrong_one_finds_what_no_webhook_finds(client: httpx.Client, service: Service) -> None:
    nothing = client.post("/webhooks/nothing/x", content=b"x")
    for rest in ("", "/", "/x", f"/{TOKEN}x", f"/{TOKEN[:-1]}", f"//{TOKEN}", f"/%00{TOKEN}", f"/{TOKEN.upper()}"):
        answer = client.post(f"/webhooks/quiet{rest}", content=b"x")
        assert (answer.status_code, answer.content) == (nothing.status_code, nothing.content), rest
    assert nothing.status_code == 404
    assert client.get(f"/webhooks/quiet/{TOKEN}").status_code == 405
    assert client.delete(f"/webhooks/quiet/{TOKEN}").headers["allow"] == "POST, PUT"


def test_it_is_in_no_log_and_on_no_record(
    client: httpx.Client, service: Service, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.DEBUG)
    client.post(f"/webhooks/quiet/{TOKEN}/x", content=b"x")
    client.post(f"/webhooks/quiet/{TOKEN}x/x", content=b"x")

    def broken(*_: Any) -> Any:
        raise StoreError("the disk is full") if caplog.messages.count("stand in") == 0 else ZeroDivisionError()

    monkeypatch.setattr(service.store, "receive", broken)
    assert client.post(f"/webhooks/quiet/{TOKEN}/x", content=b"x").status_code == 503
    logging.getLogger("sao_events.web").info("stand in")
    assert client.post(f"/webhooks/quiet/{TOKEN}/x", content=b"x").status_code == 500

    def text() -> str:
        server = [record for record in list(caplog.records) if not record.name.startswith(("httpx", "httpcore"))]
        return "\n".join(f"{record.getMessage()} {record.exc_text}" for record in server)

    until(lambda: "ZeroDivisionError" in text(), "what went wrong in the log")  # it is written after the answer
    assert "the disk is full" in text()
    assert TOKEN not in text()
    assert TOKEN not in repr(service.store.deliveries())


# Secrets


def test_secrets_end_when_they_are_told_to(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "old").write_text("old secret 0123456789")
    (tmp_path / "new").write_text("new secret 0123456789")
    now = [0.0]
    secrets = (Secret(file=tmp_path / "old", not_after=START), Secret(file=tmp_path / "new"))
    keys = Keys(secrets, lambda: now[0], wall=lambda: START - 3 + now[0])
    assert keys.values() == ("old secret 0123456789", "new secret 0123456789")
    now[0] += KEPT
    assert keys.values() == ("new secret 0123456789",)
    assert "not_after is over" in caplog.text


def test_a_secret_that_is_no_text_proves_nothing_and_the_others_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("SAO_TEST_BYTES", os.fsdecode(b"\xff\xfe" * 20))
    (tmp_path / "good").write_text("g" * 32)
    (tmp_path / "bytes").write_bytes(b"\xff\xfe" * 20)
    secrets = (Secret(env="SAO_TEST_BYTES"), Secret(file=tmp_path / "bytes"), Secret(file=tmp_path / "good"))
    assert Keys(secrets, lambda: 0.0).values() == ("g" * 32,)
    assert "the environment variable SAO_TEST_BYTES: the secret cannot be read: it is not UTF-8" in caplog.text


def test_what_is_wrong_with_a_secret_is_told_once_and_not_what_it_is(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    service = Service(tmp_path)
    values = {
        "short": "brief",
        "weak": "only12chars!",
        "blank": "  ",
        "broken": "whsec_not/base64/!!!",
        "good": "g" * 32,
    }
    for name, value in values.items():
        (tmp_path / name).write_text(value)
    found = tuple(Secret(file=tmp_path / name) for name in (*values, "absent"))
    service.config = replace(service.config, webhooks={"hub": WebhookConfig("gitlab", found)})
    with served(service) as client:
        for token, status in (
            ("brief", 401),
            ("only12chars!", 202),
            ("g" * 32, 200),
            ("whsec_not/base64/!!!", 401),
            ("", 401),
        ):
            body = json.dumps(payload("gitlab")).encode()
            headers = {"content-type": "application/json", "x-gitlab-token": token}
            service.config = replace(service.config, git=None)
            assert client.post("/webhooks/hub", content=body, headers=headers).status_code == status, token
    told = [record.getMessage() for record in caplog.records if record.name == "sao_events.web"]
    for name, part in (
        ("short", "fewer than the 8"),
        ("weak", "fewer than 16"),
        ("blank", "holds nothing"),
        ("broken", "no signing"),
    ):
        assert sum(str(tmp_path / name) in line and part in line for line in told) == 1, name
    assert any(fingerprint("g" * 32) in line for line in told)
    assert not any(value in line for line in told for value in values.values() if value.strip())


# Those who try


def test_who_sends_too_much_to_a_webhook_is_told_to_wait(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webhooks, "RATE", Rate(each_second=0.1, at_once=3))
    with served(Service(tmp_path)) as client:
        statuses = [client.post("/webhooks/github", content=b"{}").status_code for _ in range(5)]
        assert statuses == [401, 401, 401, 429, 429]
        assert int(client.post("/webhooks/github").headers["retry-after"]) <= 10
        assert client.get("/healthz").status_code == 200


def test_a_message_of_25_mb_is_read_and_one_more_is_not(tmp_path: Path) -> None:
    service = Service(tmp_path)
    hook = replace(service.config.webhooks["github"], body_limit=None)
    service.config = replace(service.config, webhooks={"github": hook})
    content = payload("github")
    content["repository"]["clone_url"] = "https://github.com/acme/shop.git"
    content["commits"] = [{"added": ["x" * 900] * 25_000}]
    body = json.dumps(content).encode()
    assert 20_000_000 < len(body) < 25_000_000
    with served(service) as client:
        headers = senders.headers("github", SECRET, body)
        assert client.post("/webhooks/github", content=body, headers=headers).status_code == 202
        assert client.post("/webhooks/github", content=b" " * 25_000_001).status_code == 413
    assert service.store.last() == 1


def test_a_large_form_is_refused_before_it_is_taken_apart(client: httpx.Client, service: Service) -> None:
    body = b"payload=" + b"%41" * 1_500_000
    headers = senders.headers("gitea", secret_of("gitea"), body) | {"content-type": senders.FORM}
    assert "form" in refused(client.post("/webhooks/gitea", content=body, headers=headers), 400)
    assert service.store.last() == 0


def test_only_so_much_is_held_of_all_that_is_sent() -> None:
    room = Room(10)
    room.take(6)
    room.take(4)
    with pytest.raises(Problem) as caught:
        room.take(1)
    assert caught.value.status == 429
    room.leave(4)
    room.take(3)


def test_bodies_that_never_end_leave_room_for_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webhooks, "BUFFERED", 200_000)
    service = Service(tmp_path)
    service.config = replace(
        service.config, webhooks={"github": replace(service.config.webhooks["github"], body_limit=None)}
    )
    head = b"POST /webhooks/github HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    with served(service) as client:
        port = client.base_url.port
        assert port is not None
        open_ones = [socket.create_connection(("127.0.0.1", port), timeout=20) for _ in range(2)]
        for connection in open_ones:
            connection.sendall(head + b"%x\r\n" % 100_000 + b" " * 99_000)
        time.sleep(0.2)
        with socket.create_connection(("127.0.0.1", port), timeout=20) as third:
            third.sendall(head + b"%x\r\n" % 50_000 + b" " * 49_000)
            assert third.recv(65536).startswith(b"HTTP/1.1 429 ")
        body = json.dumps(payload("github")).encode()
        assert client.post("/webhooks/github", content=body, headers=senders.headers("github", SECRET, body)).is_success
        for connection in open_ones:
            connection.close()


def test_many_wrong_messages_at_once_are_a_few_rows(tmp_path: Path) -> None:
    service = Service(tmp_path)
    with served(service) as client:
        threads = [
            threading.Thread(target=lambda: [client.post("/webhooks/github") for _ in range(30)]) for _ in range(10)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    found: list[Delivered] = service.store.deliveries()
    assert sum(it.delivery.times for it in found) == 300
    assert len(found) <= 2
