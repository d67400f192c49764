"""The content hash as the warm dbt tells it of what it has just built, on DuckDB and PostgreSQL; and what the service
makes of it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import duckdb
import pytest

from sao_events.builds import Builds
from sao_events.config import load_config
from sao_events.dbt import DbtSettings, open_builder
from sao_events.ports import NodeEnded
from tests.dbt_projects import write_project
from tests.nightly import ADAPTERS
from tests.oracle.postgres import PostgresServer, missing, server
from tests.processes import configure
from tests.test_cli_dbt import answer, brief
from tests.test_runners import Bench
from tests.test_warehouse import PROFILE

pytest.importorskip("dbt.cli", reason="dbt is not installed: install the extra [dbt]")
pytestmark = [pytest.mark.dbt, pytest.mark.slow]

SOURCE = "select id, label from {{ source('raw', 'things') }}"
FILES = {
    "models/sources.yml": "sources: [{name: raw, schema: raw, tables: [{name: things}]}]\n",
    "models/plain.sql": "{{ config(materialized='table') }} " + SOURCE,
    "models/some.sql": "{{ config(materialized='incremental', unique_key='id') }} " + SOURCE + " where id < 3",
    "models/seen.sql": SOURCE,
    "models/odd.sql": "{{ config(materialized='table') }} select {{ var('odd') }} as a",
    "models/hooked.sql": "{{ config(materialized='table', post_hook='insert into {{ this }} select -1, null') }} "
    + SOURCE,
    "seeds/fixed.csv": "id,label\n1,a\n2,\n",
    "snapshots/kept.yml": "snapshots: [{name: kept, relation: \"source('raw', 'things')\", config: {schema: snapshots, "
    "unique_key: id, strategy: check, check_cols: all}}]\n",
}
ODD = {"duckdb": "union_value(x := 1)", "postgres": "point(1, 1)"}
NAMES = ("plain", "some", "hooked", "fixed", "kept")


class Things:
    """A builder on the project, and the table behind it."""

    def __init__(self, bench: Bench, postgres: PostgresServer | None) -> None:
        self.bench, self.postgres = bench, postgres

    def run(self, *statements: str) -> None:
        if self.postgres is not None:
            with closing(self.postgres.connect()) as connection, closing(connection.cursor()) as cursor:
                cursor.execute("; ".join(statements))
        else:
            with duckdb.connect(str(self.bench.root / "warehouse.duckdb")) as connection:
                connection.execute("; ".join(statements))

    def built(self, *names: str, limit: float = 60.0, **options: Any) -> dict[str, NodeEnded]:
        """What is told of nodes that are built with their content hashed."""
        nodes = {node.name: node.id for node in self.bench.project.graph.nodes.values()}
        reports = self.bench.run(*names, hashes={nodes[name]: limit for name in names}, **options)
        found = {r.node.split(".")[2]: r for r in reports if isinstance(r, NodeEnded)}
        assert {report.status for report in found.values()} == {"success"}
        return found

    def hashes(self, *names: str, **options: Any) -> dict[str, str | None]:
        """The hashes of nodes that are built."""
        return {name: report.content for name, report in self.built(*names, **options).items()}


@pytest.fixture(scope="module", params=ADAPTERS)
def things(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Things]:
    folder = tmp_path_factory.mktemp(request.param)
    root = write_project(folder / "project", FILES, settings=f"vars: {{odd: '{ODD[request.param]}'}}")
    with ExitStack() as stack:
        running = None
        if request.param == "postgres":
            if reason := missing():
                pytest.skip(reason)
            running = stack.enter_context(server())
            (root / "profiles.yml").write_text(PROFILE.format(host=running.host, port=running.port))
        bench = Bench(stack.enter_context(closing(open_builder(DbtSettings(root, folder / "state")))), root)
        made = Things(bench, running)
        made.run("create schema raw", "create table raw.things (id integer, label varchar)")
        made.run("insert into raw.things values (1, 'a'), (2, null), (3, 'NULL')")
        yield made


def test_the_same_rows_have_the_same_hash_however_they_were_built(things: Things) -> None:
    first = things.hashes(*NAMES)
    assert None not in first.values()
    assert len(set(first.values())) == len(NAMES)
    things.run("delete from raw.things where id = 1", "insert into raw.things values (1, 'a')")
    assert things.hashes(*NAMES) == first
    again = things.hashes(*NAMES, full_refresh=True)
    assert {name: again[name] for name in NAMES if name != "kept"} == {n: h for n, h in first.items() if n != "kept"}
    things.run("insert into raw.things values (3, 'NULL')")
    assert {name for name, found in things.hashes(*NAMES[:-1]).items() if found != first[name]} == {"plain", "hooked"}
    things.run("delete from raw.things where id = 3", "insert into raw.things values (3, 'NULL')")
    things.run("update raw.things set label = '' where id = 2")
    assert {name for name, found in things.hashes(*NAMES).items() if found != first[name]} == {*NAMES} - {"fixed"}
    things.run("update raw.things set label = null where id = 2")


def test_what_has_no_hash_says_why_and_is_built(things: Things) -> None:
    found = things.built("seen", "odd", "plain")
    assert found["seen"].content is found["odd"].content is None
    assert found["seen"].unhashed == "it is no table"
    assert "of the type" in str(found["odd"].unhashed)
    assert found["plain"].content


def test_a_hash_that_takes_too_long_is_given_up_and_the_build_stands(things: Things) -> None:
    rows = {"duckdb": "range(12000000) r(i)", "postgres": "generate_series(1, 1000000) r(i)"}
    many = rows["postgres" if things.postgres else "duckdb"]
    things.run(
        "alter table raw.things rename to few", f"create table raw.things as select i as id, 'x' as label from {many}"
    )
    try:
        report = things.built("plain", limit=0.05)["plain"]
    finally:
        things.run("drop table raw.things", "alter table raw.few rename to things")
    assert (report.content, report.unhashed) == (None, "it takes more than 0.05 seconds")
    assert things.built("plain")["plain"].content


def test_the_subprocess_runner_hashes_nothing_and_says_so(tmp_path: Path) -> None:
    text = "{{ config(materialized='table', meta={'sao': {'early_cutoff': true}}) }} select 1 as id"
    root = write_project(tmp_path, {"models/one.sql": text, "models/two.sql": "select * from {{ ref('one') }}"})
    configure(root, "dbt: {runner: subprocess}\n")
    builds = Builds(load_config(root / "sao.yml", root, {}))
    with closing(builds):
        [warning] = builds.load(root).warnings
    assert warning.startswith("early_cutoff is set for one, and content is only hashed by the warm runner")


def test_a_service_leaves_the_readers_of_equal_content_alone(tmp_path: Path) -> None:
    cutoff = "{{ config(materialized='table', meta={'sao': {'early_cutoff': true}}) }} "
    text = cutoff + "select distinct label from {{ source('raw', 'things') }}"
    reader = "{{ config(materialized='table') }} select count(*) as n from {{ ref('labels') }}"
    files = {"models/sources.yml": FILES["models/sources.yml"], "models/labels.sql": text, "models/reader.sql": reader}
    root = write_project(tmp_path, files)

    def run(*sql: str) -> dict[str, tuple[Any, ...]]:
        with duckdb.connect(str(root / "warehouse.duckdb")) as connection:
            connection.execute("; ".join(sql))
        return brief(answer(root, "run"), "reason", "status")

    labels, mart = "model.tiny.labels", "model.tiny.reader"
    run("create schema raw", "create table raw.things as select 1 as id, 'a' as label")
    answer(root, "emit", "data", "raw.things")
    equal = ("no_new_data", "reused")
    assert run("insert into raw.things values (2, 'a')") == {labels: ("new_data", "success"), mart: equal}
    (root / "models/labels.sql").write_text(text.replace("distinct label", "label") + " group by label")
    assert run("select 1") == {labels: ("code_changed", "success"), mart: equal}
    (root / "models/labels.sql").write_text(text.replace("distinct label", "distinct upper(label) as label"))
    assert run("select 1") == {labels: ("code_changed", "success"), mart: ("upstream_code_changed", "success")}
    found = answer(root, "why", "labels")["cutoff"]
    assert (found["builds"], found["equal"], found["spared_builds"], found["unhashed"]) == (4, 2, 2, None)
