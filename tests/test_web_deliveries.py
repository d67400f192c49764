"""What is kept of messages to webhooks: every one with its verdict, none of what could harm."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import httpx
import pytest

from sao_events.ports import Delivered
from sao_events.store.sqlite import SqliteStore
from tests.test_web import A, B, push, pushed, signature
from tests.web_service import SECRET, Service, served


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    store = SqliteStore(tmp_path / "state.db")
    yield Service(tmp_path, store)
    store.close()


@pytest.fixture
def client(service: Service) -> Iterator[httpx.Client]:
    with served(service) as found:
        yield found


def deliveries(client: httpx.Client, **asked: Any) -> list[Any]:
    answer = client.get("/api/deliveries", params=asked)
    assert answer.status_code == 200, answer.text
    return list(answer.json()["deliveries"])


def rejected(service: Service, enough: Callable[[list[Delivered]], bool]) -> list[Delivered]:
    """Those that were rejected, once there are enough: they are recorded now and then."""
    found: list[Delivered] = []
    for _ in range(200):
        found = service.store.deliveries(verdict="rejected")
        if enough(found):
            break
        time.sleep(0.05)
    assert enough(found)
    return found


def test_each_verdict_is_shown_with_its_reason(client: httpx.Client, service: Service) -> None:
    other = pushed(repository={"full_name": "acme/b", "clone_url": "https://github.com/acme/b.git"})
    body = json.dumps(pushed()).encode()
    sent = [
        push(client, body, x_github_delivery="1"),
        push(client, body, x_github_delivery="1"),
        push(client, body, x_github_delivery="2"),
        push(client, pushed(after="c" * 40), x_github_delivery="1"),
        push(client, {"zen": "x"}, x_github_event="ping"),
        push(client, pushed(ref="refs/heads/next")),
        push(client, other),
        push(client, b'{"ref": 1}'),
    ]
    assert [answer.status_code for answer in sent] == [202, 200, 200, 409, 200, 200, 200, 400]
    found = deliveries(client)[::-1]
    assert [(it["verdict"], it["events"]) for it in found] == [
        ("accepted", [1]),
        ("duplicate", []),
        ("duplicate", []),
        ("conflict", []),
        ("ignored", []),
        ("ignored", []),
        ("unmatched", []),
        ("invalid", []),
    ]
    reasons = [it["reason"] or "" for it in found]
    for reason, part in zip(
        reasons, ["", "delivered", "reported", "body", "ping", "main", "repository", "valid"], strict=True
    ):
        assert part in reason
    first = found[0]
    assert (first["endpoint"], first["provider"], first["delivery"]) == ("github", "github", "1")
    assert first["digest"] == sha256(body).hexdigest()
    assert first["secret"] == sha256(SECRET.encode()).hexdigest()[:8]
    assert first["headers"] == {"x-github-event": "push", "x-github-delivery": "1"}
    assert service.store.last() == 1
    assert [it["id"] for it in deliveries(client, verdict="conflict", endpoint="github", limit=1)] == [4]
    assert [it["id"] for it in deliveries(client, before=3)] == [2, 1]
    assert deliveries(client, endpoint="nobody") == []
    for wrong in ({"verdict": "good"}, {"limit": 0}, {"before": "x"}):
        assert client.get("/api/deliveries", params=wrong).status_code == 400


def test_what_was_ignored_counts_when_it_is_sent_again_and_asked_for(client: httpx.Client, service: Service) -> None:
    body = pushed(ref="refs/heads/next")
    assert push(client, body, x_github_delivery="1").json()["ignored"]
    assert service.config.git is not None
    object.__setattr__(service.config.git, "branch", "next")
    assert push(client, body, x_github_delivery="1").status_code == 202
    [found] = deliveries(client)
    assert (found["verdict"], found["times"], found["events"], found["reason"]) == ("accepted", 2, [1], None)


def test_the_rejected_are_counted_and_nothing_of_them_is_kept(client: httpx.Client, service: Service) -> None:
    for _ in range(40):
        push(client, pushed(), x_hub_signature_256=None)
        push(client, pushed(), x_hub_signature_256=signature(b"other"), x_github_delivery="canary-of-the-attacker")
        push(client, b"canary-of-the-attacker" * 10_000)
    found = rejected(service, lambda found: sum(it.delivery.times for it in found) == 120)
    assert {it.delivery.reason for it in found} == {
        "the signature is missing",
        "the signature is not valid",
        "the body is too large",
    }
    for it in found:
        assert (it.delivery.delivery, it.delivery.digest, it.delivery.headers, it.events) == (None, None, {}, ())
    assert len(found) <= 6
    assert service.store.last() == 0
    folder = Path(service.config.state_dir)
    assert not any(b"canary-of-the-attacker" in path.read_bytes() for path in folder.glob("state.db*"))


def test_the_rejected_are_recorded_when_the_service_ends(service: Service) -> None:
    with served(service) as client:
        push(client, pushed(), x_hub_signature_256=None)
    assert rejected(service, bool)[0].delivery.times == 1


def test_a_webhook_that_is_shut_shows_why(service: Service, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("")
    with served(service) as client:
        assert push(client, pushed()).status_code == 403
    [found] = rejected(service, bool)
    assert "secret is not set" in (found.delivery.reason or "")


@pytest.mark.parametrize("identity", ["", "x" * 1000, "caf\xe9", "a\tb"])
def test_an_odd_delivery_id_is_none(client: httpx.Client, identity: str) -> None:
    body = json.dumps(pushed()).encode()
    headers = [
        (b"content-type", b"application/json"),
        (b"x-github-event", b"push"),
        (b"x-github-delivery", identity.encode("latin-1")),
        (b"x-hub-signature-256", signature(body).encode()),
    ]
    assert client.post("/webhooks/github", content=body, headers=headers).status_code == 202
    [found] = deliveries(client)
    assert found["delivery"] is None


def test_going_back_to_a_commit_is_told_though_it_is_no_new_event(client: httpx.Client) -> None:
    """Hosts that sign no instant say the same of two pushes in which a branch came to the same commit."""
    steps = [(A, B), (B, A), (A, B)]
    answers = [
        push(client, pushed(before=before, after=after), x_github_delivery=str(number))
        for number, (before, after) in enumerate(steps)
    ]
    assert [answer.status_code for answer in answers] == [202, 202, 200]
    assert deliveries(client, limit=1)[0]["reason"] == "the same was reported before"


def test_the_page_shows_what_came_last(client: httpx.Client) -> None:
    assert 'data-part="deliveries" aria-labelledby="deliveries" hidden' in client.get("/").text
    push(client, pushed(), x_github_delivery="1")
    for _ in range(2):
        push(client, pushed(), x_github_delivery="1")
    push(client, b'{"ref": "<script>"}')
    page = client.get("/").text
    part = page.partition('data-part="deliveries"')[2].partition("</section>")[0]
    assert "hidden" not in part.partition(">")[0]
    assert [line for line in ("accepted", "duplicate", "invalid", "2 times") if line not in part] == []
    assert "<script>" not in part
