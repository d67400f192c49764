"""Loaders against the served application: each case as its sender would send it, to the events of its sources."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from sao_events.config import Secret, WebhookConfig
from sao_events.core.evidence import Evidence
from sao_events.deliveries import take_up
from sao_events.inputs import fetched
from sao_events.inputs.mapping import Rule
from tests.loader_payloads import CASES, DLT, FIVETRAN, GENERIC, LINEAGE, SECRET, STITCH, Case, put, zipped
from tests.web_service import ITEMS, ORDERS, TOKEN, Service, bearer, served

LANDING = Rule({"bucket": "landing", "key": "shop/{table}/*"}, relation="raw.{table}")
AIRBYTES = Rule({"connection_name": "postgres to *"}, sources=("raw.*",))
BOTH = {"fivetran", "airbyte", "stitch", "dlt"}


@pytest.fixture
def service(tmp_path: Path) -> Service:
    made = Service(tmp_path)
    (tmp_path / "loader").write_text(SECRET)
    secrets = (Secret(file=tmp_path / "loader"),)
    hooks = {case.provider: WebhookConfig(case.provider, secrets, rules=(LANDING, AIRBYTES)) for case in CASES}
    made.config = replace(made.config, webhooks={**made.config.webhooks, **hooks})
    return made


@pytest.fixture
def client(service: Service) -> Iterator[httpx.Client]:
    with served(service) as made:
        yield made


def post(client: httpx.Client, case: Case, body: Any = None, **more: Any) -> httpx.Response:
    message = case.message(body)
    address = f"/webhooks/{case.provider}" + (f"/{case.path}" if case.path else "")
    return client.request(case.method, address, headers=dict(message.headers), content=message.body, **more)


def landings_on_the_page(client: httpx.Client) -> str:
    """What the page says of landings that made nothing new."""
    return (
        client.get("/").text.partition('data-part="landings" aria-labelledby="landings"')[2].partition("</section>")[0]
    )


def test_what_comes_before_a_project_is_known_is_taken_once_and_judged_then(service: Service) -> None:
    loaded, service.project = service.project, None
    assert loaded is not None
    with served(service) as client:
        for _ in range(2):
            answers = {case.provider: post(client, case).status_code for case in CASES}
            assert set(answers.values()) == {202}, answers
        assert not service.data()
        assert {it.delivery.verdict for it in service.store.deliveries(lost=True)} == {"waiting"}
        take_up(service.store, loaded, service.config, service.clock.now())
        service.project = loaded
        assert {event.source for event in service.data()} == {ORDERS, ITEMS}
        assert {post(client, case).status_code for case in CASES} == {200}
    assert {it.delivery.verdict for it in service.store.deliveries()} == {"accepted", "duplicate"}


@pytest.mark.parametrize("case", CASES, ids=[case.provider for case in CASES])
def test_a_load_makes_its_sources_new_once(service: Service, client: httpx.Client, case: Case) -> None:
    first, second = post(client, case), post(client, case)
    assert (first.status_code, second.status_code) == (202, 200), (first.text, second.text)
    landed = service.data()
    assert [event.source for event in landed] == ([ORDERS, ITEMS] if case.provider in BOTH else [ORDERS])
    assert service.world.source(ORDERS).version == 1
    assert all(event["duplicate"] for event in second.json().get("events", []))


@pytest.mark.parametrize("case", CASES, ids=[case.provider for case in CASES])
def test_without_the_secret_nothing_is_told(service: Service, client: httpx.Client, case: Case) -> None:
    for path in ("", "/wrong", f"/{'x' * 40}"):
        answer = client.request(case.method, f"/webhooks/{case.provider}{path}", json=case.body)
        assert answer.status_code in (401, 404)
        assert SECRET not in answer.text
    assert client.get(f"/webhooks/{case.provider}").status_code in (401, 404, 405)
    assert service.data() == []


def test_what_is_about_no_source_is_kept_with_the_nearest(service: Service, client: httpx.Client) -> None:
    answer = post(client, GENERIC, {"source": "raw.ordrs", "rows": 3})
    assert answer.status_code == 202
    assert answer.json()["unmatched"] == ["raw.ordrs"]
    assert "did you mean raw.orders?" in answer.json()["hint"]
    [kept] = service.store.deliveries(verdict="unmatched")
    assert kept.delivery.landings[0]["rows"] == 3
    assert service.data() == []


def test_what_is_known_counts_beside_what_is_not(service: Service, client: httpx.Client) -> None:
    answer = post(client, GENERIC, {"sources": ["raw.orders", "raw.nothing"]})
    assert (answer.status_code, answer.json()["unmatched"]) == (202, ["raw.nothing"])
    assert [event.source for event in service.data()] == [ORDERS]
    [kept] = service.store.deliveries(verdict="accepted")
    assert len(kept.delivery.landings) == 1


def test_what_the_project_builds_is_no_news(service: Service, client: httpx.Client) -> None:
    answer = post(client, LINEAGE, put(LINEAGE.body, "outputs.0.name", "db.main.orders"))
    assert (answer.status_code, "builds itself" in answer.text) == (200, True)
    assert service.store.last() == 0


def test_the_addresses_that_clients_of_openlineage_know(service: Service, client: httpx.Client) -> None:
    for path, body in (("", LINEAGE.body), ("/batch", [put(LINEAGE.body, "outputs.0.name", "db.raw.items")])):
        assert client.post(f"/api/v1/lineage{path}", json=body, headers=bearer()).status_code == 202
        assert client.post(f"/api/v1/lineage{path}", json=body, headers=bearer("wrong")).status_code == 401
        assert client.post(f"/api/v1/lineage{path}", json=body).status_code == 401
    assert [event.source for event in service.data()] == [ORDERS, ITEMS]
    assert client.get("/api/v1/lineage").status_code == 405
    headers = {**bearer(SECRET), "content-encoding": "gzip"}
    assert client.post("/api/v1/lineage", content=zipped(LINEAGE.body), headers=headers).status_code == 200
    assert client.post("/api/v1/lineage/other", json=LINEAGE.body, headers=bearer()).status_code == 404
    assert TOKEN not in client.post("/api/v1/lineage", json={}, headers=bearer()).text


def test_gzip_is_for_openlineage_alone(client: httpx.Client) -> None:
    headers = {**GENERIC.message().headers, "content-encoding": "gzip"}
    assert client.post("/webhooks/generic", content=zipped(GENERIC.body), headers=headers).status_code == 415


def test_dlt_puts_what_it_likes_without_a_header(service: Service, client: httpx.Client) -> None:
    state = replace(DLT, path=f"{SECRET}/state", body={"pipeline_name": "shop"})
    assert (post(client, state).status_code, service.store.last()) == (200, 0)
    assert post(client, DLT).status_code == 202
    assert post(client, replace(DLT, method="GET")).status_code == 405


def test_handshakes(service: Service, client: httpx.Client) -> None:
    origin = {"webhook-request-origin": "eventgrid.azure.net"}
    told = client.options(f"/webhooks/cloudevents/{SECRET}", headers=origin)
    assert (told.status_code, told.headers["webhook-allowed-origin"]) == (200, "eventgrid.azure.net")
    for path in ("", "/wrong"):
        refused = client.options(f"/webhooks/cloudevents{path}", headers=origin)
        assert refused.status_code in (401, 404)
        assert "webhook-allowed-origin" not in refused.headers
    kind = "Microsoft.EventGrid.SubscriptionValidationEvent"
    body = [{"id": "1", "eventType": kind, "data": {"validationCode": "c0de"}}]
    assert client.post(f"/webhooks/eventgrid/{SECRET}", json=body).json() == {"validationResponse": "c0de"}
    assert client.post("/webhooks/eventgrid/wrong", json=body).status_code == 404
    assert service.store.last() == 0


def test_fifty_at_once_are_one(service: Service, client: httpx.Client) -> None:
    start = threading.Barrier(25)

    def send(_: int) -> int:
        start.wait(timeout=20)
        return post(client, FIVETRAN).status_code

    with ThreadPoolExecutor(25) as pool:
        statuses = [*pool.map(send, range(25)), *pool.map(send, range(25))]
    assert sorted(statuses) == [200] * 49 + [202]
    assert len(service.data()) == 2


def test_a_load_in_several_tables_waits_for_all(service: Service) -> None:
    service.config = replace(service.config, evidence=Evidence(loads={"shop": ("raw.orders", "raw.items")}))
    with served(service) as client:
        orders, items = STITCH.body["tables"]
        post(client, STITCH.changed(tables=[orders]))
        status = client.get("/api/status").json()
        held = {source["name"]: source["held"] for source in status["sources"]}
        assert held["raw.orders"]["why"] == "incomplete"
        assert (held["raw.orders"]["missing"], held["raw.orders"]["landed_too"]) == ([ITEMS], [])
        assert "of shop has landed; it counts when raw.items has too" in landings_on_the_page(client)
        assert service.world.source(ORDERS).version == 0
        post(client, STITCH.changed(tables=[items], destination_root_table_name="items"))
        assert (service.world.source(ORDERS).version, service.world.source(ITEMS).version) == (1, 1)
        assert landings_on_the_page(client).startswith(" hidden>")


def test_rows_load_and_parts_are_shown(service: Service, client: httpx.Client) -> None:
    post(client, GENERIC, {"source": "raw.orders", "load_id": "7", "rows": 5, "status": "partial"})
    post(client, GENERIC, {"source": "raw.items", "rows": 0})
    sources = {source["name"]: source for source in client.get("/api/status").json()["sources"]}
    orders = sources["raw.orders"]
    assert (orders["load_id"], orders["rows"], orders["partial"], orders["held"]) == ("7", 5, True, None)
    assert (sources["raw.items"]["version"], sources["raw.items"]["held"]["why"]) == (0, "empty")


def test_a_subscription_of_sns_is_confirmed_once_it_is_proved(
    service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("cryptography", reason="the extra [sns] is not installed")
    from tests.test_inputs_sns import CERTIFICATE, SUBSCRIBE, TOPIC, Amazon, body, certificate, confirmation, signed

    amazon = Amazon(certificate(days=3650))
    monkeypatch.setattr(fetched, "fetch", amazon)
    service.config = replace(service.config, webhooks={"sns": WebhookConfig("sns", (), topics=(TOPIC,))})
    with served(service) as client:
        plain = {"content-type": "text/plain; charset=UTF-8"}

        def send(content: dict[str, Any]) -> int:
            return client.post("/webhooks/sns", content=json.dumps(content), headers=plain).status_code

        assert send(confirmation()) == 400
        assert send(signed(confirmation(TopicArn=TOPIC + "x"))) == 401
        assert amazon.asked == []
        assert send(signed(confirmation(MessageId="first"))) == 200
        assert amazon.asked == [CERTIFICATE, SUBSCRIBE]
        assert send(signed(body({"source": "raw.orders"}))) == 202
        assert send({**signed(body({"source": "raw.items"})), "MessageId": "other"}) == 401
    assert [event.source for event in service.data()] == [ORDERS]


def test_no_message_is_answered_with_an_error_of_ours(client: httpx.Client) -> None:
    raws = (b"", b"null", b"[" * 100_000, b'{"a":1,"a":2}', b'{"a":"\\u0000"}', b"\xff", b"9" * 5000, b"{}", b"[]")
    for case in CASES:
        for raw in raws:
            assert post(client, case, raw).status_code in (200, 400, 415, 422), (case.provider, raw[:20])
    long = post(client, GENERIC, json.dumps({"source": "x" * 2_000_000}).encode())
    assert long.status_code == 413


# Mended, and judged once more


def test_what_was_about_no_source_is_replayed_once_the_mapping_is_mended(service: Service) -> None:
    with served(service) as client:
        post(client, GENERIC, {"source": "shop.orders", "load_id": "7", "rows": 3})
        [kept] = client.get("/api/status").json()["unmatched"]
        assert f"events replay --delivery {kept['delivery']}</code>" in landings_on_the_page(client)
        assert (kept["names"], kept["endpoint"]) == (["shop.orders"], "generic")
        address = f"/api/deliveries/{kept['delivery']}/replay"
        assert client.post(address).status_code == 401
        assert client.post(address, headers=bearer()).status_code == 200
        assert client.get("/api/status").json()["unmatched"] != []
    came = service.store.deliveries()[0].delivery.at
    mended = WebhookConfig("generic", service.config.webhooks["generic"].secrets, rules=(Rule({}, ("raw.orders",)),))
    service.config = replace(service.config, webhooks={"generic": mended})
    service.clock.at += 3600
    with served(service) as client:
        answer = client.post(address, headers=bearer())
        assert (answer.status_code, answer.json()["delivery"]["verdict"]) == (202, "accepted")
        assert client.get("/api/status").json()["unmatched"] == []
        assert client.post(address, headers=bearer()).status_code == 409
        for wrong in ("/api/deliveries/99/replay", "/api/deliveries/x/replay", f"/api/deliveries/{9**30}/replay"):
            assert client.post(wrong, headers=bearer()).status_code == 404
    [event] = service.data()
    assert (event.source, event.load_id, event.rows, event.loaded_at) == (ORDERS, "7", 3, came)


def test_a_load_that_landed_meanwhile_is_newer_than_what_is_replayed(service: Service) -> None:
    with served(service) as client:
        post(client, GENERIC, {"source": "shop.orders", "load_id": "7"})
        service.clock.at += 60
        post(client, GENERIC, {"source": "raw.orders", "load_id": "8"})
    mended = WebhookConfig("generic", service.config.webhooks["generic"].secrets, rules=(Rule({}, ("raw.orders",)),))
    service.config = replace(service.config, webhooks={"generic": mended})
    with served(service) as client:
        assert client.post("/api/deliveries/1/replay", headers=bearer()).status_code == 202
    assert (len(service.data()), service.world.source(ORDERS).version) == (2, 1)


def test_a_part_that_was_about_no_source_is_replayed_alone(service: Service) -> None:
    with served(service) as client:
        number = post(client, GENERIC, {"sources": ["raw.orders", "shop.items"]}).json()["delivery"]
    mended = WebhookConfig("generic", service.config.webhooks["generic"].secrets, rules=(Rule({}, ("raw.items",)),))
    service.config = replace(service.config, webhooks={"generic": mended})
    with served(service) as client:
        told = client.post(f"/api/deliveries/{number}/replay", headers=bearer()).json()["delivery"]
    assert (told["verdict"], len(told["events"]), told["landings"]) == ("accepted", 2, [])
    assert [event.source for event in service.data()] == [ORDERS, ITEMS]


def test_a_load_that_failed_is_taken_note_of_and_nothing_else(service: Service, client: httpx.Client) -> None:
    failed = {"source": "raw.orders", "status": "failed"}
    direct = client.post("/events/data", json=failed, headers=bearer())
    assert (direct.status_code, direct.json()) == (200, {"ignored": "the load failed"})
    hooked = post(client, GENERIC, failed)
    assert (hooked.status_code, hooked.json()["ignored"]) == (200, "the load failed")
    assert service.store.last() == 0
    parts = [{"source": "raw.orders"}, {"source": "raw.items", "status": "failed"}]
    assert client.post("/events/data", json=parts, headers=bearer()).status_code == 202
    assert [event.source for event in service.data()] == [ORDERS]


def test_a_relation_is_taken_without_a_webhook_too(service: Service, client: httpx.Client) -> None:
    body = {"relation": "db.raw.orders", "bytes": 7, "rows": 2}
    assert client.post("/events/data", json=body, headers=bearer()).status_code == 202
    [event] = service.data()
    assert (event.source, event.size, event.rows) == (ORDERS, 7, 2)
    assert client.post("/events/data", json={"labels": {"a": "b"}}, headers=bearer()).status_code == 422
    bodies: list[dict[str, Any]] = [{"relation": "a.b.c.d"}, {"relation": '"'}, {"relation": "a.b", "source": "a.b"}]
    for wrong in (*bodies, {"labels": []}):
        assert client.post("/events/data", json=wrong, headers=bearer()).status_code == 400
