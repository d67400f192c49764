"""Relations that vanish from a real DuckDB and PostgreSQL are noticed by a look and built again, and no others."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import duckdb
import pytest

from sao_events.config import load_config
from sao_events.core import events as e
from sao_events.ports import Draft
from sao_events.service import Service
from tests.dbt_projects import write_project
from tests.nightly import ADAPTERS
from tests.oracle.postgres import PostgresServer, missing, server
from tests.processes import configure, processes_in, until

pytest.importorskip("dbt.cli", reason="dbt is not installed: install the extra [dbt]")
pytestmark = [pytest.mark.dbt, pytest.mark.slow]

SLOWLY = 300.0  # seconds until the test gives up; it does not depend on how long anything takes
PROFILE = """
tiny:
  target: dev
  outputs:
    dev: {{type: postgres, host: {host}, port: {port}, user: postgres, password: "", dbname: postgres, schema: public,
          connect_timeout: 2, retries: 0}}
"""
FILES = {
    "seeds/seed.csv": "id\n1\n",
    "models/t.sql": "{{ config(materialized='table', alias='Mixed', schema='Other') }} "
    "select id from {{ ref('seed') }}",
    "models/i.sql": "{{ config(materialized='incremental') }} select id from {{ ref('seed') }}",
    "models/v.sql": "select id from {{ ref('i') }}",
    "models/m.sql": "{{ config(materialized='table') }} select id from {{ ref('v') }}",
    "snapshots/snap.yml": "snapshots: [{name: snap, relation: ref('seed'), "
    "config: {unique_key: id, strategy: check, check_cols: all}}]\n",
}


@dataclass
class Shop:
    """A service in which everything is built, and its warehouse."""

    service: Service
    folder: Path
    server: PostgresServer | None

    def execute(self, *statements: str) -> None:
        """What somebody else does to the warehouse."""
        if self.server is not None:
            with self.server.connect().cursor() as cursor:
                for statement in statements:
                    cursor.execute(statement)
            return
        with duckdb.connect(str(self.folder / "warehouse.duckdb")) as connection:
            for statement in statements:
                connection.execute(statement)

    def look(self) -> tuple[set[str], set[str]]:
        """What a look concludes to be gone, and what is built for that, by name."""
        before = self.service.store.last()
        self.service.looks.subjects[0].next = 0.0  # type: ignore[attr-defined]
        self.service.looks.look()
        until(self.at_rest, "rest", SLOWLY)
        seen = [recorded.event for recorded in self.service.store.read(before)]
        gone = {event.node for event in seen if isinstance(event, e.RelationDropped)}
        built = {event.node for event in seen if isinstance(event, e.NodeBuilt)}
        return {name.rpartition(".")[2] for name in gone}, {name.rpartition(".")[2] for name in built}

    def at_rest(self) -> bool:
        from sao_events import report

        with self.service.view() as view:
            found = report.status(view)
        if found["seq"] < self.service.store.last():
            return False
        due = any(node["action"] == "build" for node in found["nodes"])
        return bool(found["nodes"]) and not (due or found["runs"] or found["error"])


@pytest.fixture(scope="module", params=ADAPTERS)
def shop(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    folder = tmp_path_factory.mktemp(request.param) / "project"
    configure(write_project(folder, FILES), "relations: {every: 1d}\n")
    with ExitStack() as stack:
        running = None
        if request.param == "postgres":
            if reason := missing():
                pytest.skip(reason)
            running = stack.enter_context(server())
            (folder / "profiles.yml").write_text(PROFILE.format(host=running.host, port=running.port))
        service = Service(load_config(None, folder, {}))
        service.start()
        stack.callback(service.stop)
        made = Shop(service, folder, running)
        until(made.at_rest, "the first builds", SLOWLY)
        yield made
    assert processes_in(folder) == []


def schema(shop: Shop) -> str:
    return "public" if shop.server else "main"


def test_a_view_that_is_gone_is_built_again_alone(shop: Shop) -> None:
    shop.execute("drop view v")
    assert shop.look() == ({"v"}, {"v"})
    assert shop.look() == (set(), set())


def test_a_job_looks_before_it_decides(shop: Shop) -> None:
    """The interval is a day: nothing else would look."""
    shop.execute("drop view v")
    before, now = shop.service.store.last(), shop.service.clock.now()
    shop.service.submit([Draft(e.JobRequested("j", "job", now, ("model.tiny.v",)), now, sender="test")]).result()
    until(lambda: any(isinstance(it.event, e.JobFinished) for it in shop.service.store.read(before)), "the job", SLOWLY)
    events = [recorded.event for recorded in shop.service.store.read(before)]
    [run] = [event for event in events if isinstance(event, e.RunStarted)]
    assert (run.job, run.nodes) == ("j", {"model.tiny.v": "relation_missing"})
    assert shop.look() == (set(), set())


def test_each_kind_of_relation_is_missed(shop: Shop) -> None:
    place = schema(shop)
    shop.execute(
        f'drop table "{place}_Other"."Mixed"', "drop table m", "drop table snap", "drop view v", "drop table i",
        "drop table seed",
    )  # fmt: skip
    gone, built = shop.look()
    assert gone == built == {"t", "m", "snap", "v", "i", "seed"}
    assert shop.look() == (set(), set())


def test_a_name_of_another_case_is_another_relation_where_the_warehouse_says_so(shop: Shop) -> None:
    place = f'"{schema(shop)}_Other"'
    shop.execute(f'alter table {place}."Mixed" rename to kept', f"create table {place}.mixed as select 1 as id")
    gone, _ = shop.look()
    assert gone == ({"t"} if shop.server else set())


def test_a_warehouse_that_cannot_be_asked_says_nothing(shop: Shop) -> None:
    profiles = shop.folder / "profiles.yml"
    kept = profiles.read_text()
    broken = shop.folder / "broken.duckdb"
    broken.write_bytes(b"this is no database" * 100)
    port = shop.server.port if shop.server else 0
    profiles.write_text(kept.replace("warehouse.duckdb", broken.name).replace(f"port: {port},", "port: 1,"))
    assert shop.look() == (set(), set())
    assert ("refused" if shop.server else "not a valid DuckDB") in str(shop.service.looks.subjects[0].error)  # type: ignore[attr-defined]
    profiles.write_text(kept)
