"""What is desired, what is deployed, and how it fares: from the record, over HTTP, and on a real remote."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sao_events import report
from sao_events.core import events as e
from sao_events.core.graph import Graph
from sao_events.core.lineage import Code
from sao_events.core.nodes import Node, Source
from sao_events.core.project import Project
from sao_events.report.deployment import Tracked
from sao_events.service import Service as RealService
from tests.processes import sao, until
from tests.web_service import FCT, ITEMS, MART, ORDERS, SLOW, START, STG, Service, served

OLD, NEW = "a" * 40, "b" * 40
TRACKED = Tracked("https://github.com/acme/shop.git", "main", START)


def told(service: Service, tracked: Tracked | None = TRACKED) -> dict[str, Any]:
    """The deployment, as it is told."""
    with service.view() as view:
        found: dict[str, Any] = report.status(replace(view, tracked=tracked))["deployment"]
    return found


@pytest.fixture
def service(tmp_path: Path) -> Service:
    """A project that is deployed at `OLD`, all of it built."""
    service = Service(tmp_path)
    service.record(e.EngineStarted(), e.HeadSeen(OLD, "refs/heads/main"), e.ProjectLoaded("digest", OLD))
    service.record(e.DataLanded(ORDERS, "1"), e.DataLanded(ITEMS, "1"))
    service.build("r1", dict.fromkeys((STG, FCT, MART, SLOW)))
    service.record(e.TestFinished("r1", "test.shop.unique", "pass"))
    return service


def test_the_head_that_is_in_force_is_in_sync(service: Service) -> None:
    found = told(service)
    assert found["desired"]["commit"] == found["deployed"]["commit"] == OLD
    assert found["desired"]["checked_at"] == report.iso(START)
    assert (found["sync"], found["health"], found["why"]) == ("in_sync", "healthy", [])
    assert (found["remote"], found["branch"]) == ("https://github.com/acme/shop.git", "main")


def test_a_head_that_is_not_in_force_yet_is_out_of_sync_and_progressing(tmp_path: Path) -> None:
    service = Service(tmp_path)
    service.record(e.HeadSeen(OLD), e.ProjectLoaded("digest", OLD), e.HeadSeen(NEW))
    found = told(service)
    assert (found["sync"], found["health"]) == ("out_of_sync", "progressing")
    assert found["why"][0] == f"commit {NEW[:10]} is being parsed"


def test_a_refused_head_is_degraded_until_another_is_in_force(tmp_path: Path) -> None:
    service = Service(tmp_path)
    service.record(e.HeadSeen(OLD), e.ProjectLoaded("digest", OLD), e.HeadSeen(NEW))
    service.record(e.ProjectRejected("dbt cannot read /x:\n  Compilation Error\n    no model nowhere\n  hint", NEW))
    found = told(service)
    assert (found["sync"], found["health"], found["deployed"]["commit"]) == ("out_of_sync", "degraded", OLD)
    [why] = found["why"]
    stays = "the one before stays in force"
    assert why == f"commit {NEW[:10]} was refused by dbt; {stays}: Compilation Error: no model nowhere"
    service.record(e.HeadSeen(OLD), e.ProjectLoaded("digest", OLD))
    assert (told(service)["sync"], told(service)["health"]) == ("in_sync", "progressing")


def test_a_remote_that_is_away_is_degraded_and_what_was_seen_stays(service: Service) -> None:
    service.record(e.HeadSeen(None, "refs/heads/main", "git cannot fetch main from /srv/shop.git: no answer"))
    found = told(service)
    assert (found["sync"], found["health"]) == ("in_sync", "degraded")
    assert "git cannot fetch main" in found["why"][0]
    service.record(e.HeadSeen(OLD, "refs/heads/main"))
    assert told(service)["health"] == "healthy"


def test_a_remote_that_was_never_there_is_unknown(tmp_path: Path) -> None:
    service = Service(tmp_path)
    service.record(e.HeadSeen(None, "refs/heads/main", "git cannot fetch main"))
    found = told(service)
    assert (found["desired"], found["deployed"], found["sync"], found["health"]) == (None, None, "unknown", "degraded")


def test_failures_are_named(service: Service) -> None:
    service.record(e.DataLanded(ITEMS, "2"))
    service.build("r2", {SLOW: "Constraint Error"}, "failed")
    service.record(e.TestFinished("r2", "test.shop.unique", "warn", message="2 results"))
    assert (told(service)["health"], told(service)["why"]) == ("degraded", ["1 node failed: history"])
    service.record(e.TestFinished("r3", "test.shop.unique", "fail", message="2 results"))
    assert told(service)["why"] == ["1 node failed: history", "1 test failed: unique_orders_id"]


def test_what_is_built_and_to_be_built_is_progressing(service: Service) -> None:
    service.record(e.DataLanded(ITEMS, "2"))
    assert (told(service)["health"], told(service)["why"]) == ("progressing", ["1 node to be built: history"])
    service.build("r2", {SLOW: "running"}, None)
    assert (told(service)["health"], told(service)["why"]) == ("progressing", ["run r2 builds 1 node: history"])


def test_what_cannot_be_built_and_waits_for_nobody_is_degraded(tmp_path: Path) -> None:
    missing = Node(FCT, "orders", "table", (ORDERS,), Code("fct"))
    empty = Source(ORDERS, "raw.orders", empty=True)
    service = Service(tmp_path, loaded=Project(Graph([missing], [empty], []), "shop"))
    service.record(e.HeadSeen(OLD), e.ProjectLoaded("digest", OLD))
    assert told(service)["health"] == "degraded"
    assert told(service)["why"] == ["1 node cannot be built: orders; missing: raw.orders"]


def test_a_folder_is_in_sync_unless_dbt_refuses_it(tmp_path: Path) -> None:
    service = Service(tmp_path)
    assert told(service, None)["sync"] == "unknown"
    service.record(e.ProjectLoaded("digest"))
    found = told(service, None)
    assert (found["branch"], found["desired"], found["sync"]) == (None, None, "in_sync")
    service.record(e.ProjectRejected("no model nowhere"))
    assert (told(service, None)["sync"], told(service, None)["health"]) == ("out_of_sync", "degraded")


def test_page_and_api_show_it(service: Service) -> None:
    service.tracked = TRACKED
    service.record(e.HeadSeen(NEW))
    service.record(e.ProjectRejected("no model nowhere", NEW))
    with served(service) as client:
        assert client.get("/api/status").json()["deployment"]["sync"] == "out_of_sync"
        page = client.get("/").text
    assert "out of sync" in page
    assert "degraded" in page
    assert NEW[:10] in page
    assert OLD[:10] in page


# On a real remote


@pytest.mark.dbt
@pytest.mark.slow
def test_lost_webhooks_heal_pushes_coalesce_and_status_follows(tmp_path: Path) -> None:
    """Nobody tells the service of a push: polling finds it. Ten pushes while one is parsed are one more parse."""
    pytest.importorskip("dbt.cli", reason="dbt is not installed: install the extra [dbt]")
    from tests.test_service import Deployed, log, rest, running, status

    deployed = Deployed(tmp_path)
    with running(deployed.folder) as service:
        rest(service)
        first = status(service)["deployment"]
        assert (first["sync"], first["health"], first["why"]) == ("in_sync", "healthy", [])
        pushed = deployed.commit(new="select 1 as id")
        until(lambda: status(service)["deployment"]["desired"]["commit"] == pushed, "the poll")
        until(lambda: status(service)["deployment"]["sync"] == "in_sync", "the deployment")
        assert status(service)["deployment"]["deployed"]["commit"] == pushed
        bad = deployed.commit(new="select * from {{ ref('nowhere') }}")
        until(lambda: "nowhere" in str(status(service)["deployment"]["why"]), "the rejection")
        found = status(service)["deployment"]
        assert (found["desired"]["commit"], found["deployed"]["commit"]) == (bad, pushed)
        assert found["health"] == "degraded"
        assert "nowhere" in found["why"][0]
    assert main_status(deployed.folder)["deployment"]["why"] == found["why"]
    config = deployed.folder / "sao.yml"
    text = config.read_text().replace("poll: 1s", "poll: 1h")
    config.write_text(f"{text}\ndata: {{loads: {{nightly: {{sources: [raw.nowhere]}}}}}}\n")
    with running(deployed.folder) as service:
        until(lambda: service.loads == 1, "the look at the start")
        [warning] = until(lambda: status(service)["warnings"], "what is said of it")
        assert "sao.yml:" in warning
        assert "data.loads.nightly: raw.nowhere is no source of the project" in warning
        loads = service.loads
        last = ""
        for number in range(10):
            last = deployed.commit(new=f"select {number} as id")
            service.submit([service_push(service)]).result()
        until(lambda: status(service)["deployment"]["deployed"]["commit"] == last, "the last push")
        rest(service)
        loaded = [it.commit for it in log(service.store, e.ProjectLoaded) if isinstance(it, e.ProjectLoaded)]
        assert loaded[-1] == last
        assert service.loads - loads < 10


def service_push(service: RealService) -> Any:
    """The hint that a hook or a webhook leaves."""
    from sao_events.ports import Draft

    return Draft(e.CodePushed("refs/heads/main"), service.clock.now())


def main_status(folder: Path) -> dict[str, Any]:
    """What `sao-events status --json` prints, while no service runs."""
    found: dict[str, Any] = json.loads(sao(folder, "status", "--json").stdout)
    return found
