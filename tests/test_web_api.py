"""What is on record over HTTP: JSON, the page, and the log as it grows; against the real server on a loopback port."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.routing import Route

from sao_events import report
from sao_events.core.decision import Action
from sao_events.core.events import CodePushed, DataLanded, EngineStarted, ProjectLoaded, ProjectRejected, SourceProbed
from sao_events.core.graph import Graph
from sao_events.core.lineage import Code
from sao_events.core.nodes import Node, Source
from sao_events.core.project import Project
from sao_events.web import live
from sao_events.web.app import create_app
from sao_events.web.output import MOST, run_output
from sao_events.web.page import STATES, health, limits, span
from tests.web_service import FCT, ITEMS, MART, ORDERS, SLOW, STG, Service, busy_day, running, served

NONE = "\N{EN DASH}"  # as the page has it where there is nothing
CONTRACT = {"node", "action", "reason", "eligible_at", "waiting_for", "evidence"}


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
    busy_day(environment)
    return environment


def get(client: httpx.Client, path: str, **parameters: Any) -> Any:
    answer = client.get(path, params=parameters)
    assert answer.status_code == 200, answer.text
    assert answer.headers["cache-control"] == "no-store"
    return answer.json()


def refused(client: httpx.Client, path: str, status: int) -> str:
    answer = client.get(path)
    assert answer.status_code == status, answer.text
    assert set(answer.json()) == {"error", "hint"}
    return answer.text


# The description


def test_the_description_is_of_the_routes_that_there_are(tmp_path: Path) -> None:
    guard, _ = create_app(Service(tmp_path))
    app = guard.app
    assert isinstance(app, Starlette)
    described = json.loads((Path(live.__file__).parent / "openapi.json").read_text())
    paths = {path: {method.upper() for method in methods} for path, methods in described["paths"].items()}
    routes = [route for route in app.routes if isinstance(route, Route)]
    assert len(routes) == len(app.routes)
    assert paths.keys() == {route.path.replace(":path", "") for route in routes}
    for route in routes:  # which methods a webhook takes follows from who sends to it
        if route.methods is not None:
            assert paths[route.path] == route.methods - {"HEAD"}


def test_the_manual_names_every_path_that_is_for_others() -> None:
    manual = (Path(__file__).parent.parent / "docs" / "API.md").read_text()
    paths = json.loads((Path(live.__file__).parent / "openapi.json").read_text())["paths"]
    missing = [path for path in paths if path not in manual and not path.startswith("/static/")]
    assert missing == []


def test_the_description_is_served_and_whole(client: httpx.Client) -> None:
    answer = client.get("/api/openapi.json")
    described = answer.json()
    assert described["openapi"].startswith("3.1")
    for reference in re.findall(r'"\$ref": ?"#/([^"]+)"', answer.text):
        place = described
        for part in reference.split("/"):
            place = place[part]
    for path, methods in described["paths"].items():
        for operation in methods.values():
            named = {p["name"] for p in operation.get("parameters", []) if p["in"] == "path"}
            assert named == set(re.findall(r"\{(\w+)\}", path))
            assert operation["summary"]


def test_the_description_names_the_fields_that_are_sent(client: httpx.Client, service: Service) -> None:
    schemas = client.get("/api/openapi.json").json()["components"]["schemas"]
    status = get(client, "/api/status")
    assert set(schemas["Node"]["properties"]) == set(status["nodes"][0])
    decisions, rest = schemas["Decisions"]["properties"], schemas["Status"]["allOf"][1]["properties"]
    assert set(decisions) | set(rest) == set(status)
    assert set(schemas["Event"]["properties"]) == set(get(client, "/api/events")["events"][0])
    assert set(schemas["Run"]["properties"]) == set(get(client, "/api/runs")["runs"][0])
    why = set(schemas["Why"]["allOf"][1]["properties"]) | set(schemas["Node"]["properties"])
    assert why == set(get(client, f"/api/nodes/{FCT}/why", diff="1"))


def sources_of_all_kinds(folder: Path) -> Service:
    """One that is looked at and too old, one that cannot be looked at, one with a load that is held, one of nothing."""
    old = {"loaded_at_field": "at", "warn_after": 60, "error_after": 3600.0, "probe": "2m"}
    found = [
        Source(ORDERS, "raw.orders", relation='"db"."raw"."orders"', meta=old),
        Source(ITEMS, "raw.items", relation='"db"."raw"."items"', meta={"warn_after": 60}),
        Source("source.shop.raw.held", "raw.held"),
        Source("source.shop.raw.silent", "raw.silent"),
        Source("source.shop.raw.days", "raw.days", static=True),
    ]
    nodes = [Node(FCT, "orders", "table", (ORDERS, ITEMS), Code("fct"))]
    service = Service(folder, loaded=Project(Graph(nodes, found, []), "shop", "duckdb"))
    service.record(ProjectLoaded("digest"))
    service.record(DataLanded(ITEMS, scope="probe"))
    service.record(SourceProbed(ORDERS, "loaded_at_field", "1", service.clock.at - 600))
    service.record(SourceProbed(ITEMS, "metadata", None, None, "it is locked"))
    service.record(DataLanded("source.shop.raw.held", "1"))
    service.record(DataLanded("source.shop.raw.held", "2", rows=0, counts=False))
    return service


def test_the_description_names_what_is_said_of_sources(tmp_path: Path) -> None:
    described = json.loads((Path(live.__file__).parent / "openapi.json").read_text())["components"]["schemas"]["Source"]
    service = sources_of_all_kinds(tmp_path)
    with served(service) as client:
        found = {it["name"]: it for it in get(client, "/api/status")["sources"]}
        assert get(client, f"/api/nodes/{FCT}/why")["sources"] == [found["raw.orders"], found["raw.items"]]
    assert {name: it["signal"] for name, it in found.items()} == {
        "raw.orders": "loaded_at_field",
        "raw.items": None,
        "raw.held": "sent",
        "raw.silent": None,
        "raw.days": "static",
    }
    assert all(set(it) == set(described["properties"]) == set(described["required"]) for it in found.values())
    for part, of in (("probe", "raw.orders"), ("freshness", "raw.orders"), ("held", "raw.held")):
        inner = described["properties"][part]
        assert set(found[of][part]) == set(inner["properties"]) == set(inner["required"])
    assert found["raw.orders"]["freshness"]["status"] == "warn"
    assert found["raw.items"]["probe"]["error"] == "it is locked"


def test_the_page_shows_how_sources_fare_and_what_tells_of_them(tmp_path: Path) -> None:
    with served(sources_of_all_kinds(tmp_path)) as client:
        found = page(client)
    assert found.row("raw.orders")[1:] == ["warn", "loaded_at_field; a look every 2 min", "10 min ago"]
    assert found.row("raw.items")[2] == "nothing; a look every 1 minit is locked"
    assert found.row("raw.held")[1:3] == [NONE, "its senders"]
    assert found.row("raw.silent")[1:] == [NONE, "nothing", NONE]
    assert found.row("raw.days")[2] == "declared as static"
    assert limits({"warn_after": 21_600, "error_after": 86_400}) == "warns after 6 h, an error after 1 d"
    assert limits({"warn_after": None, "error_after": 60}) == "an error after 1 min"


@pytest.mark.parametrize(
    "path", ["/api/status", "/api/runs", "/", "/static/style.css", "/healthz", "/nothing", "/live/"]
)
def test_a_head_is_as_a_get_without_its_body(client: httpx.Client, service: Service, path: str) -> None:
    head, whole = client.head(path), client.get(path)
    assert (head.status_code, head.content) == (whole.status_code, b"")
    assert client.post(path, content=b"x" * 10).status_code in (404, 405)


# Status, decisions, why


def test_status_is_that_of_the_record(client: httpx.Client, service: Service) -> None:
    found = get(client, "/api/status")
    with service.view() as view:
        assert found == json.loads(json.dumps({**report.status(view), "unmatched": []}))
    assert (found["environment"], found["state"], found["seq"]) == ("test", "ready", service.store.last())
    assert {node["node"]: node["action"] for node in found["nodes"]}[MART] == "wait"


def test_decisions_hold_the_keys_of_the_contract(client: httpx.Client, service: Service) -> None:
    found = get(client, "/api/decisions")
    assert [node["node"] for node in found["nodes"]] == [STG, FCT, MART, SLOW]
    assert all(node.keys() >= CONTRACT for node in found["nodes"])
    assert found["counts"] == {"build": 1, "reuse": 1, "wait": 1, "blocked": 1}


@pytest.mark.parametrize("action", list(Action))
def test_decisions_of_one_action(client: httpx.Client, service: Service, action: str) -> None:
    every = get(client, "/api/decisions")["nodes"]
    expected = [node for node in every if node["action"] == action]
    assert get(client, "/api/decisions", action=action)["nodes"] == expected
    assert expected


def test_an_action_that_does_not_exist_is_told(client: httpx.Client) -> None:
    assert "reuse" in refused(client, "/api/decisions?action=skip", 400)


@pytest.mark.parametrize("name", [MART, "revenue"])
def test_why_goes_by_id_or_name(client: httpx.Client, service: Service, name: str) -> None:
    found = get(client, f"/api/nodes/{name}/why")
    assert (found["node"], found["reason"]) == (MART, "within_build_after")
    assert found["because"][0]["about"] == FCT
    assert found["builds"][0]["run"] == "r5"


def test_why_of_an_unknown_node_names_the_nearest(client: httpx.Client, service: Service) -> None:
    assert "revenue" in refused(client, "/api/nodes/revenu/why", 404)
    refused(client, f"/api/nodes/{'x' * 5000}/why", 404)
    refused(client, "/api/nodes/%2e%2e%2f%2e%2e/why", 404)


def test_lineage_of_a_column_both_ways(client: httpx.Client, service: Service) -> None:
    up, down = (get(client, "/api/lineage", column="raw.orders.id", downstream=way) for way in ("0", "1"))
    assert (up["node"], up["column"], up["because"]) == (ORDERS, "id", [])
    assert [it["node"] for it in down["because"]] == [STG]
    described = client.get("/api/openapi.json").json()["components"]["schemas"]["Column"]
    assert set(described["properties"]) == set(described["required"]) == set(up)


@pytest.mark.parametrize(
    ("asked", "status", "hint"),
    [
        ("", 400, "MODEL.COLUMN"),
        ("column=", 400, "MODEL.COLUMN"),
        ("column=orders.", 400, "MODEL.COLUMN"),
        ("column=" + "x" * 5000, 400, "MODEL"),
        ("column=revenu.id", 404, "revenue"),
    ],
)
def test_lineage_of_no_column_says_what_is_near(
    client: httpx.Client, service: Service, asked: str, status: int, hint: str
) -> None:
    assert hint in refused(client, f"/api/lineage?{asked}", status)
    assert hint in refused(client, f"/api/lineage?{asked}&downstream=1", status)


# Events


def seqs(found: Any) -> list[int]:
    return [event["seq"] for event in found["events"]]


def test_the_log_is_read_backwards_page_by_page(client: httpx.Client, service: Service) -> None:
    seen, before = list[int](), dict[str, int]()
    while True:
        found = get(client, "/api/events", limit=7, **before)
        seen += seqs(found)
        if found["before"] is None:
            break
        before = {"before": found["before"]}
    assert seen == list(range(service.store.last(), 0, -1))


def test_the_log_is_followed_forwards(client: httpx.Client, service: Service) -> None:
    seen, after = list[int](), 0
    while page := seqs(found := get(client, "/api/events", after=after, limit=7)):
        seen, after = seen + page, found["next"]
    assert seen == list(range(1, service.store.last() + 1))
    service.record(CodePushed())
    assert seqs(get(client, "/api/events", after=after)) == [service.store.last()]


def test_the_log_is_filtered_by_kind_and_by_what_it_is_about(client: httpx.Client, service: Service) -> None:
    landed = get(client, "/api/events", kind="DataLanded")
    assert [event["data"]["source"] for event in landed["events"]] == [ORDERS, ITEMS, ORDERS, ITEMS, ORDERS]
    both = get(client, "/api/events", kind=["DataLanded", "NodeFailed"])
    assert both == get(client, "/api/events", kind="DataLanded,NodeFailed")
    assert len(seqs(both)) == 6
    assert seqs(get(client, "/api/events", node=SLOW, kind="NodeFailed"))
    for filters in ({"kind": "DataLanded"}, {"node": FCT}, {"node": ORDERS, "kind": "DataLanded"}):
        forwards = get(client, "/api/events", after=0, limit=1000, **filters)
        assert seqs(forwards) == seqs(get(client, "/api/events", limit=1000, **filters))[::-1]
        assert forwards["next"] == service.store.last()


def test_following_with_a_filter_misses_nothing(client: httpx.Client, service: Service) -> None:
    expected = seqs(get(client, "/api/events", node=FCT, limit=1000))[::-1]
    seen, after = list[int](), 0
    while page := seqs(found := get(client, "/api/events", node=FCT, after=after, limit=2)):
        seen, after = seen + page, found["next"]
    assert seen == expected


@pytest.mark.parametrize(
    "query",
    ["limit=0", "limit=1001", "limit=x", "limit=-1", "limit=", "after=-1", "after=1e3", "after=" + "9" * 30,
     "before=%00", "kind=Nothing", "kind=DataLanded,x", "limit=\u0661"],
)  # fmt: skip
def test_parameters_out_of_their_range_are_told(client: httpx.Client, query: str) -> None:
    refused(client, f"/api/events?{query}", 400)


def test_a_position_beyond_the_end_is_an_empty_answer(client: httpx.Client, service: Service) -> None:
    assert get(client, "/api/events", after=10**6) == {"events": [], "next": 10**6}
    assert get(client, "/api/events", node="nobody") == {"events": [], "before": None}


# Runs


def test_runs_are_told_newest_first(client: httpx.Client, service: Service) -> None:
    found = get(client, "/api/runs")["runs"]
    assert [(run["run"], run["status"]) for run in found] == [("r30", "running"), ("r20", "failed"), ("r5", "success")]
    assert [run["run"] for run in get(client, "/api/runs", limit=1)["runs"]] == ["r30"]


def write_logs(folder: Path, run: str, **pieces: str) -> None:
    for number, text in pieces.items():
        place = folder / "runs" / run / f"{run}.{number[1:]}"
        place.mkdir(parents=True)
        (place / "dbt.log").write_text(text)


def test_a_run_is_told_with_what_dbt_wrote(client: httpx.Client, service: Service) -> None:
    write_logs(service.config.state_dir, "r20", p1="first\n", p2="\x1b[32mOK\x1b[0m <b>\n", p10="last é\n")
    found = get(client, "/api/runs/r20")
    assert (found["run"], found["status"]) == ("r20", "failed")
    assert [(it["piece"], it["text"]) for it in found["output"]] == [
        ("r20.1", "first\n"), ("r20.2", "OK <b>\n"), ("r20.10", "last é\n"),
    ]  # fmt: skip
    text = client.get("/api/runs/r20/output")
    assert text.headers["content-type"] == "text/plain; charset=utf-8"
    assert text.text.index("first") < text.text.index("OK <b>") < text.text.index("last é")
    assert "no output" in client.get("/api/runs/r5/output").text


@pytest.mark.parametrize(
    "run",
    ["r1", "..", "%2e%2e", "..%2f..%2fsecret", "%2e%2e%2f%2e%2e%2ftoken", "r20%2f..%2f..", "r20%00", "r20/", "*",
     "r20.1", "x" * 3000, "~", "%5c..%5c", "R20"],
)  # fmt: skip
def test_what_is_no_run_is_not_found(client: httpx.Client, service: Service, run: str) -> None:
    for path in (f"/api/runs/{run}", f"/api/runs/{run}/output"):
        answer = client.get(path)
        assert answer.status_code in (404, 200 if path.endswith("/runs/..") else 404)
        assert "secret" not in answer.text.lower()


def test_only_files_of_the_run_itself_are_read(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("hush")
    write_logs(tmp_path, "r1", p1="mine")
    (tmp_path / "runs" / "r1" / "r1.2").mkdir()
    (tmp_path / "runs" / "r1" / "r1.2" / "dbt.log").symlink_to(tmp_path / "token")
    (tmp_path / "runs" / "r1" / "r1.3").symlink_to(tmp_path)
    (tmp_path / "dbt.log").write_text("not mine")
    assert [it.text for it in run_output(tmp_path, "r1")] == ["mine"]
    for run in ("", ".", "..", "r1/..", "../runs/r1", "r1/r1.1", "r*", "r1\n"):
        assert run_output(tmp_path, run) == []


def test_of_a_long_log_the_end_is_told(tmp_path: Path) -> None:
    write_logs(tmp_path, "r1", p1="".join(f"line {number:06}\n" for number in range(40_000)))
    [found] = run_output(tmp_path, "r1")
    assert found.truncated
    assert len(found.text) <= MOST
    assert found.text.startswith("line ")
    assert found.text.endswith("line 039999\n")


# Health


def test_health_and_readiness(tmp_path: Path) -> None:
    service = Service(tmp_path)
    with served(service) as client:
        assert get(client, "/healthz") == {"status": "ok"}
        assert get(client, "/readyz") == {"status": "ready"}
        service.ready = False
        refused(client, "/readyz", 503)
        assert get(client, "/healthz") == {"status": "ok"}
        service.healthy = False
        refused(client, "/healthz", 503)


def test_without_a_project_everything_answers(tmp_path: Path) -> None:
    service = Service(tmp_path)
    service.project = None
    with served(service) as client:
        assert get(client, "/api/status")["state"] == "empty"
        assert get(client, "/api/decisions")["nodes"] == []
        assert get(client, "/api/runs") == {"runs": []}
        refused(client, "/api/nodes/orders/why", 503)
        refused(client, "/api/lineage?column=orders.id", 503)
        assert "No project is loaded yet" in client.get("/").text


# The page


class Reader(HTMLParser):
    """The text of a page, the rows of its tables, and everything that a strict content policy would stop."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.text, self.rows, self.stopped = "", list[list[str]](), list[str]()
        self.ids, self.links = list[str](), list[str]()
        self._in_cell = False
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.stopped += [name for name in given if name.startswith("on") or name == "style"]
        self.stopped += [tag] if tag == "style" or (tag == "script" and "src" not in given) else []
        self.links += [str(value) for name, value in attrs if name in ("href", "src")]
        self.ids += [str(given["id"])] if "id" in given else []
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")
            self._in_cell = True

    def handle_endtag(self, tag: str) -> None:
        if tag in ("td", "th"):
            self._in_cell = False

    def handle_data(self, data: str) -> None:
        self.text += data
        if self._in_cell:
            self.rows[-1][-1] += data

    def row(self, name: str) -> list[str]:
        """The cells of the row that begins with `name`."""
        [found] = [row for row in self.rows if row[0].strip() == name]
        return [" ".join(cell.split()) for cell in found]


def page(client: httpx.Client, path: str = "/") -> Reader:
    answer = client.get(path)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    return Reader(answer.text)


def test_the_page_says_at_a_glance_how_things_are(client: httpx.Client, service: Service) -> None:
    found = page(client)
    assert "1 building, 1 failed" in found.text
    assert "c0ffeec0ff" in found.text
    assert found.row("orders")[1:3] == ["table", "building"]
    assert found.row("revenue")[1:] == [
        "table",
        "wait",
        "new data in orders; its window is not over",
        "12 min",
        "in 47 min",
    ]
    assert found.row("history")[2] == "failed"
    assert "Constraint Error: <b>duplicate</b> key" in found.row("history")[3]
    assert found.row("r20")[1:4] == ["failed", "2 nodes", "new data upstream (2)"]
    assert "unique_orders_id" in found.text
    assert "new data in raw.orders, load 2, 120 rows" in found.text
    assert "/api/runs/r20/output" in found.links
    assert f"/api/nodes/{MART}/why" in found.links


def test_every_link_of_the_page_leads_somewhere_here(client: httpx.Client, service: Service) -> None:
    links = {link for link in page(client).links if link != "data:,"}
    assert all(link.startswith("/") and not link.startswith("//") for link in links)
    assert {client.get(link).status_code for link in links} == {200}


def test_what_needs_looking_at_comes_first_and_each_state_can_be_picked(client: httpx.Client, service: Service) -> None:
    shown = [row[2].strip() for row in page(client).rows if len(row) == 6][1:]
    assert shown == ["failed", "building", "wait", "reuse"]
    assert [row[0].strip() for row in page(client, "/?show=wait").rows if len(row) == 6][1:] == ["revenue"]
    assert len([row for row in page(client, "/?show=nonsense").rows if len(row) == 6]) == 5
    assert "No node is in this state" in page(client, "/?show=blocked").text


def test_nothing_in_the_page_needs_what_its_policy_forbids(client: httpx.Client, service: Service) -> None:
    answer = client.get("/")
    policy = answer.headers["content-security-policy"]
    assert "unsafe" not in policy
    assert "default-src 'none'" in policy
    assert Reader(answer.text).stopped == []
    assert answer.text.startswith("<!doctype html>")


@pytest.mark.parametrize(
    "path", ["/", "/api/status", "/nothing", "/static/style.css", "/events/data", "/api/events?limit=x"]
)
def test_every_answer_carries_what_protects_a_browser(client: httpx.Client, service: Service, path: str) -> None:
    for answer in (client.get(path), client.post(path)):
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "no-referrer"
        assert answer.headers["x-frame-options"] == "DENY"
        assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]
        assert "server" not in answer.headers


HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(1)>\"'&{{7*7}}"


def test_nothing_that_others_name_becomes_markup(tmp_path: Path) -> None:
    node = Node("model.x.evil", HOSTILE, "table", (ORDERS,), Code("1"))
    service = Service(tmp_path, loaded=Project(Graph([node], [Source(ORDERS, HOSTILE)]), HOSTILE, "duckdb"))
    service.record(
        EngineStarted(), ProjectLoaded("d", HOSTILE), DataLanded(ORDERS, HOSTILE), CodePushed(HOSTILE, HOSTILE)
    )
    service.build("r1", {node.id: HOSTILE}, "failed")
    service.error = HOSTILE
    with served(service) as client:
        found = page(client)
    assert found.stopped == []
    assert not [link for link in found.links if link == "x"]
    assert HOSTILE in found.text
    named = [row[0] for row in found.rows if row[0].strip() == HOSTILE]  # the node and the source
    assert len(named) == 2
    assert "49" not in "".join(named)


def test_a_thousand_nodes_are_a_page_too(tmp_path: Path) -> None:
    nodes = [Node(f"model.shop.m{number}", f"m{number}", "table", (ORDERS,)) for number in range(1000)]
    with served(Service(tmp_path, loaded=Project(Graph(nodes, [Source(ORDERS, "raw.orders")])))) as client:
        found = page(client)
    assert len([row for row in found.rows if len(row) == 6]) == 1001
    assert len(found.ids) == len(set(found.ids))
    assert "1000 nodes" in found.text


def test_an_error_or_a_refused_commit_is_the_first_thing_to_read(tmp_path: Path) -> None:
    service = Service(tmp_path)
    busy_day(service)
    service.record(ProjectRejected("Compilation Error in model orders\n  column missing", "d" * 40))
    with served(service) as client:
        assert "The newest code was refused" in page(client).text
        assert "column missing" in page(client).text
        service.error = "dbt is missing\n  install it"
        assert "dbt is missing" in page(client).text


def test_the_files_of_the_page_are_kept_until_they_change(client: httpx.Client) -> None:
    for name, kind in (("style.css", "text/css"), ("live.js", "text/javascript")):
        answer = client.get(f"/static/{name}")
        assert (answer.status_code, answer.headers["content-type"]) == (200, f"{kind}; charset=utf-8")
        again = client.get(f"/static/{name}", headers={"if-none-match": answer.headers["etag"]})
        assert (again.status_code, again.content) == (304, b"")
    for name in ("nothing", "..%2fpage.html", "%2e%2e%2f%2e%2e%2fapp.py", "style.css%00"):
        assert client.get(f"/static/{name}").status_code == 404


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(None, ""), (-5, "0 s"), (0, "0 s"), (0.4, "0 s"), (59, "59 s"), (60, "1 min"), (3599, "59 min"), (3600, "1 h"),
     (4800, "1 h 20 min"), (36_000, "10 h"), (37_000, "10 h"), (86_400, "1 d"), (90_000, "1 d 1 h"),
     (864_000 * 3, "30 d")],
)  # fmt: skip
def test_a_span_of_time_is_told_in_its_largest_units(seconds: float | None, text: str) -> None:
    assert span(seconds) == text


def test_the_line_of_health_says_the_worst_first() -> None:
    def node(action: str, **more: Any) -> dict[str, Any]:
        return {"action": action, "running": None, "failure": None, **more}

    def level(*nodes: dict[str, Any], **more: Any) -> tuple[str, str]:
        found = health({"nodes": nodes, "error": None, "rejected": None, "state": "ready", **more})
        return found["level"], found["text"]

    assert level(node("reuse"), node("wait"), node("build")) == ("good", "All good")
    assert level(node("build", running={})) == ("good", "All good")
    assert level(node("build", running={"run": "r1"})) == ("building", "1 building")
    assert level(node("blocked", failure={"at": ""}), node("blocked")) == ("failed", "1 failed, 1 blocked")
    assert level(node("reuse"), error="broken") == ("error", "Error")
    assert level(state="empty") == ("empty", "No project is loaded yet")
    assert set(STATES) == {"failed", "building", *Action}


# The log as it grows


class Listener:
    """Reads a stream of events in lines."""

    def __init__(self, answer: httpx.Response) -> None:
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("text/event-stream")
        self.lines = answer.iter_lines()

    def next(self) -> tuple[int, dict[str, Any]]:
        """The next event, with its id."""
        for line in self.lines:
            if line.startswith("id: "):
                data = next(self.lines).removeprefix("data: ")
                return int(line[4:]), json.loads(data)
        raise AssertionError("the stream has ended")


def test_events_are_sent_as_they_are_folded(client: httpx.Client, service: Service) -> None:
    with client.stream("GET", "/live", params={"after": service.store.last()}) as answer:
        listener = Listener(answer)
        for load in ("a", "b"):
            service.record(DataLanded(ORDERS, load))
            seq, event = listener.next()
            assert (seq, event["seq"], event["data"]["load_id"]) == (service.store.last(), seq, load)


def test_a_client_that_comes_back_goes_on_where_it_was(client: httpx.Client, service: Service) -> None:
    last = service.store.last()
    for how in ({"headers": {"last-event-id": str(last - 3)}}, {"params": {"after": last - 3}}):
        with client.stream("GET", "/live", **how) as answer:
            listener = Listener(answer)
            assert [listener.next()[0] for _ in range(3)] == [last - 2, last - 1, last]


def test_a_long_log_is_sent_whole(tmp_path: Path) -> None:
    service = Service(tmp_path)
    service.record(*(CodePushed(commit=None, paths=(str(number),)) for number in range(live.PAGE * 2 + 5)))
    with served(service) as client, client.stream("GET", "/live", params={"after": 0}) as answer:
        listener = Listener(answer)
        assert [listener.next()[0] for _ in range(live.PAGE * 2 + 5)] == list(range(1, live.PAGE * 2 + 6))


@pytest.mark.parametrize("given", ["", "x", "-1", "99999999", "9" * 40, "\u0661"])
def test_a_position_that_makes_no_sense_counts_as_now(tmp_path: Path, given: str) -> None:
    service = Service(tmp_path)
    busy_day(service)
    with served(service) as client, client.stream("GET", "/live", params={"after": given}) as answer:
        listener = Listener(answer)
        assert next(listener.lines) == "retry: 2000"
        service.record(CodePushed())
        assert listener.next()[0] == service.store.last()


def test_a_quiet_stream_shows_that_it_is_alive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "HEARTBEAT", 0.05)
    with served(Service(tmp_path)) as client, client.stream("GET", "/live") as answer:
        lines = answer.iter_lines()
        assert next(line for line in lines if line.startswith(":")) == ": alive"


def test_a_head_of_the_stream_ends(client: httpx.Client) -> None:
    answer = client.head("/live")
    assert (answer.status_code, answer.headers["content-type"]) == (200, "text/event-stream; charset=utf-8")


def test_only_so_many_may_listen_and_who_leaves_makes_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "CLIENTS", 1)
    monkeypatch.setattr(live, "HEARTBEAT", 0.05)
    with served(Service(tmp_path)) as client:
        with client.stream("GET", "/live") as first:
            lines = first.iter_lines()  # to let go of it would be to hang up
            next(lines)
            refused(client, "/live", 429)
        lines.close()  # type: ignore[attr-defined]
        for _ in range(1000):
            with client.stream("GET", "/live") as second:
                if second.status_code == 200:
                    return
    pytest.fail("there is no room again")


def test_streams_end_when_the_server_does(tmp_path: Path) -> None:
    service, ended = Service(tmp_path), threading.Event()

    def listen(url: str) -> None:
        with httpx.stream("GET", f"{url}/live", timeout=20) as answer:
            for _ in answer.iter_lines():
                begun.set()
        ended.set()

    begun = threading.Event()
    with running(service) as server:
        thread = threading.Thread(target=listen, args=(server.url,))
        thread.start()
        assert begun.wait(20)
    thread.join(timeout=20)
    assert ended.is_set()


SERVE = """
import sys
from pathlib import Path
from sao_events.web.server import serve_http
from tests.web_service import Service
service = Service(Path(sys.argv[1]))
import sao_events.web.server as server
bind = server._bind
def told(host, port):
    listener = bind(host, port)
    print(listener.getsockname()[1], flush=True)
    return listener
server._bind = told
serve_http(service, "127.0.0.1", 0)
print("stopped politely", flush=True)
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_serving_and_lets_the_rest_be_stopped(tmp_path: Path, number: int) -> None:
    command = [sys.executable, "-c", SERVE, str(tmp_path)]
    here = Path(__file__).parent.parent
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=here) as process:
        assert process.stdout is not None
        url = f"http://127.0.0.1:{process.stdout.readline().strip()}"
        with httpx.stream("GET", f"{url}/live", timeout=20) as answer:
            lines = answer.iter_lines()  # to let go of it would be to hang up
            next(lines)
            process.send_signal(number)
            output, errors = process.communicate(timeout=20)
    assert (process.returncode, output, errors) == (0, "stopped politely\n", "")
