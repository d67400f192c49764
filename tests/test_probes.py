"""Looking at sources that send nothing: what is asked, what an answer means, and the whole of it on real warehouses."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import duckdb
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sao_events.core import events as e
from sao_events.core.errors import PolicyError
from sao_events.core.events import Recorded
from sao_events.core.evolve import evolve
from sao_events.core.graph import Graph
from sao_events.core.lineage import Code
from sao_events.core.nodes import Source
from sao_events.core.policy import Settings
from sao_events.core.probes import (
    LOADED_AT,
    METADATA,
    Probe,
    Seen,
    age,
    asked,
    doubted,
    pause,
    probe_of,
    read_answer,
    signal,
    told_of,
    was_read,
)
from sao_events.core.project import Project
from sao_events.core.state import World
from sao_events.ports import Answer, Draft
from sao_events.report import RESTLESS, View, status
from sao_events.upkeep.prober import Prober, _files
from tests.dbt_projects import write_project
from tests.oracle.postgres import missing, server
from tests.processes import Served, served, until

ID = "source.p.raw.orders"
TABLES = {"raw.orders": '"w"."raw"."orders"', "raw.other": '"w"."raw"."other"'}
ASKED = f"{LOADED_AT}{ID}"
META, AT = Probe(ID, METADATA, 60.0, "sql"), Probe(ID, "loaded_at_field", 60.0, "sql")


def source(**meta: Any) -> Source:
    return Source(ID, "raw.orders", relation=TABLES["raw.orders"], meta=meta)


def world_of(*happened: e.Event) -> World:
    world = World()
    for seq, event in enumerate(happened, 1):
        evolve(world, Recorded(seq, float(seq), event))
    return world


def fold(world: World, *happened: e.Event) -> World:
    for event in happened:
        evolve(world, Recorded(world.seq + 1, world.at + 1, event))
    return world


def built(version: int) -> tuple[e.Event, ...]:
    """A reader was built, and has read this version."""
    started = e.BuildStarted("r", "m", "new_data", 1.0, e.Observed("f", {ID: version}), Code("c"))
    return (e.RunStarted("r", {"m": "new_data"}), started, e.NodeBuilt("r", "m"), e.RunFinished("r", "success"))


# What is asked


@pytest.mark.parametrize(
    ("meta", "by", "sql"),
    [
        ({"loaded_at_query": "select max(a) from {{ this }}", "loaded_at_field": "b"}, "loaded_at_query", '"orders"'),
        ({"loaded_at_query": "select 1 from {{ source('raw', \"other\") }}"}, "loaded_at_query", TABLES["raw.other"]),
        ({"loaded_at_field": "b", "filter": "c > 1", "files": "x"}, "loaded_at_field", "select max(b) from"),
        ({"loaded_at_field": "b", "filter": "c > 1"}, "loaded_at_field", "where c > 1"),
        ({"loaded_at_query": "select max(a) from {{ this }} where a > '{{ var('x') }}'"}, "loaded_at_query", ASKED),
        ({"loaded_at_query": "{% set a = 1 %} select {{ a }}"}, "loaded_at_query", ASKED),
        ({}, METADATA, 'pragma_storage_info(\'"w"."raw"."orders"\')'),
    ],
)
def test_the_strongest_signal_is_asked(meta: dict[str, Any], by: str, sql: str) -> None:
    probe = probe_of(source(**meta), "duckdb", TABLES)
    assert probe is not None
    assert (probe.by, sql in str(probe.sql)) == (by, True)


def test_what_is_not_asked() -> None:
    assert probe_of(source(), "trino", TABLES) is None
    assert probe_of(source(probe=True), "", TABLES) is None
    assert probe_of(source(probe=False, loaded_at_field="a"), "duckdb", TABLES) is None
    assert probe_of(Source(ID, "raw.orders", static=True, relation="r"), "duckdb", TABLES) is None
    assert probe_of(Source(ID, "raw.orders", view=True, relation="r"), "duckdb", TABLES) is None


def test_other_warehouses_are_asked_through_dbt() -> None:
    for adapter, meta in (("snowflake", {}), ("bigquery", {}), ("trino", {"probe": True})):
        probe = probe_of(source(**meta), adapter, TABLES)
        assert probe == Probe(ID, METADATA, 600.0, ASKED, told=bool(meta))
        assert read_answer(probe, [["2026-01-01T12:00:00+00:00"]], adapter) == Seen("1767268800.000000", 1767268800.0)
        assert read_answer(probe, [[None]], adapter) == Seen()


def test_what_goes_wrong_is_looked_at_less_and_less() -> None:
    assert [pause(60.0, failures) for failures in range(7)] == [60.0, 60.0, 120.0, 240.0, 480.0, 600.0, 600.0]
    assert [pause(3600.0, failures) for failures in (0, 1, 9, 5000)] == [3600.0] * 4


def test_how_often() -> None:
    def every(adapter: str, given: float | None = None, **meta: Any) -> float:
        probe = probe_of(source(loaded_at_field="a", **meta), adapter, TABLES, given)
        assert probe is not None
        return probe.every

    assert (every("duckdb"), every("snowflake"), every("snowflake", 5.0)) == (60.0, 600.0, 5.0)
    assert every("snowflake", 5.0, probe="2h") == 7200.0
    for wrong in ("0s", "often", "1.5"):
        with pytest.raises(PolicyError):
            every("duckdb", probe=wrong)


@pytest.mark.parametrize(
    ("location", "files"),
    [
        ("data/{name}.csv", "data/orders.csv"),
        ("read_csv('data/{identifier}_*.csv', header=true)", "data/o_*.csv"),
        ("s3://bucket/{name}.parquet", None),
        ("read_json(getvariable('x'))", None),
    ],
)
def test_files_that_dbt_duckdb_reads(location: str, files: str | None) -> None:
    probe = probe_of(source(external_location=location, identifier="o"), "duckdb", TABLES)
    assert probe is not None
    assert probe.files == files


def test_files_are_told_by_their_number_sizes_and_times(tmp_path: Path) -> None:
    probe, seen = Probe(ID, "files", 60.0, files="d/*.csv"), list[Seen]()
    (tmp_path / "d").mkdir()
    steps: list[Callable[[], object]] = [
        lambda: None,
        lambda: (tmp_path / "d" / "a.csv").write_text("1"),
        lambda: (tmp_path / "d" / "a.csv").write_text("12"),
        lambda: os.utime(tmp_path / "d" / "a.csv", ns=(1, 1)),
        lambda: (tmp_path / "d" / "b.csv").write_text("12"),
        (tmp_path / "d" / "a.csv").unlink,
        lambda: (tmp_path / "d" / "a.txt").write_text("12"),
    ]
    for step in steps:
        step()
        seen.append(_files(probe, tmp_path))
    values = [found.value for found in seen]
    assert (values[0], seen[0].error) == (None, f"there is no file {probe.files}")
    assert len(set(values)) == 6
    assert values[5] == values[6]
    assert seen[3].loaded_at == pytest.approx(1e-9)


def test_files_that_are_not_there_yet_are_missed_and_then_new(tmp_path: Path) -> None:
    probe = Probe(ID, "files", 60.0, files="landing/*.csv")
    missing = _files(probe, tmp_path)
    world = fold(world_of(*built(0)), *told_of(World(), probe, missing))
    assert signal(source(files=probe.files), probe, world) is None  # a pattern that is misspelled is told of
    (tmp_path / "landing").mkdir()
    (tmp_path / "landing" / "a.csv").write_text("1")
    assert [type(it) for it in told_of(world, probe, _files(probe, tmp_path))] == [e.SourceProbed, e.DataLanded]
    assert _files(Probe(ID, "files", 60.0, files="a\0b"), tmp_path).error


# What an answer means


def test_instants_of_any_form_are_read_as_dbt_reads_them() -> None:
    for text in ("2026-01-01T12:00:00+00:00", "2026-01-01T13:00:00+01:00", "2026-01-01 12:00:00"):
        assert read_answer(AT, [[text]], "duckdb").loaded_at == 1767268800.0
    assert read_answer(AT, [["2026-01-01"]], "duckdb").loaded_at == 1767225600.0
    assert read_answer(AT, [[None]], "duckdb") == Seen()
    for wrong in ("soon", 12, True):
        assert "no date or timestamp" in str(read_answer(AT, [[wrong]], "duckdb").error)
    assert read_answer(META, [], "postgres").error
    assert "view" in str(read_answer(META, [[None, None, "v"]], "postgres").error)


def test_the_first_look_makes_nothing_new_where_nothing_was_built() -> None:
    [seen] = told_of(World(), META, Seen("a"))
    assert seen == e.SourceProbed(ID, METADATA, "a")


def test_a_change_is_new_once_what_was_there_has_been_read() -> None:
    world = fold(world_of(e.SourceProbed(ID, METADATA, "a")), *built(0))
    assert told_of(world, META, Seen("a")) == []
    noticed, landed = told_of(world, META, Seen("b", rows=3))
    assert isinstance(landed, e.DataLanded)
    fold(world, noticed, landed)
    assert (world.source(ID).version, world.source(ID).rows) == (1, 3)
    assert told_of(world, META, Seen("b")) == []
    assert told_of(world, META, Seen("c")) == [e.SourceProbed(ID, METADATA, "c")]  # nobody has read 1 so far
    fold(world, *told_of(world, META, Seen("c")), *built(1))
    assert len(told_of(world, META, Seen("a"))) == 2  # back to what it was is a change


def test_what_runs_may_have_read_it() -> None:
    world = world_of(e.SourceProbed(ID, METADATA, "a"), e.RunStarted("r", {"m": "first_build"}))
    assert len(told_of(world, META, Seen("b"))) == 2


@given(st.lists(st.sampled_from(["look", "change", "build"]), max_size=25))
def test_no_build_rests_on_other_content_than_there_is(steps: list[str]) -> None:
    """Whatever the order: after a look, a reader that has read old content sees a newer version than it has read."""
    world, content, read = World(), 0, -1
    for step in steps:
        if step == "change":
            content += 1
        elif step == "build":
            read = content
            fold(world, *built(world.source(ID).version))
        else:
            fold(world, *told_of(world, META, Seen(str(content))))
            observed = world.node("m").baseline
            looked_before = world.probes[ID].value is not None
            if observed is not None and looked_before and read != content:
                assert world.source(ID).version > observed.observed.versions[ID]


def test_an_instant_that_goes_back_is_nothing_new() -> None:
    world = fold(world_of(e.SourceProbed(ID, "loaded_at_field", "100.000000", 100.0)), *built(0))
    assert told_of(world, AT, Seen("99.000000", 99.0)) == []
    assert len(told_of(world, AT, Seen("101.000000", 101.0))) == 2


def test_an_instant_that_is_still_to_come_is_told_of_and_holds_nothing_back() -> None:
    world = fold(world_of(e.SourceProbed(ID, "loaded_at_field", "100.000000", 100.0)), *built(0))
    now = 200.0
    far = doubted(AT, Seen("99000.000000", 99000.0), now)
    assert "1970-01-02T03:30:00+00:00, which is still to come" in str(far.error)
    noticed, landed = told_of(world, AT, far)
    assert isinstance(landed, e.DataLanded)
    fold(world, noticed, landed, *built(1))
    assert world.probes[ID].error == far.error
    assert told_of(world, AT, far) == []
    back = doubted(AT, Seen("150.000000", 150.0), now)  # the row is gone, another load is there
    assert back.error is None
    assert [type(it) for it in told_of(world, AT, back)] == [e.SourceProbed, e.DataLanded]


def test_an_instant_that_has_come_meanwhile_is_told_of_no_more() -> None:
    far = doubted(AT, Seen("1000.000000", 1000.0), 200.0)
    world = fold(world_of(e.SourceProbed(ID, "loaded_at_field", "1000.000000", 1000.0, far.error)), *built(0))
    [noticed] = told_of(world, AT, doubted(AT, Seen("1000.000000", 1000.0), 800.0))
    assert noticed == e.SourceProbed(ID, "loaded_at_field", "1000.000000", 1000.0)


@pytest.mark.parametrize("probe", [META, replace(AT, by="files")], ids=["metadata", "files"])
def test_what_is_not_compared_as_an_instant_may_be_of_any_time(probe: Probe) -> None:
    assert doubted(probe, Seen("a", 99000.0), 200.0).error is None


def test_an_error_is_told_once_and_its_end_too() -> None:
    world = fold(world_of(e.SourceProbed(ID, METADATA, "a")), *built(0))
    fold(world, *told_of(world, META, Seen(error="locked")))
    assert (world.probes[ID].error, world.probes[ID].value) == ("locked", "a")
    assert told_of(world, META, Seen(error="locked")) == []
    fold(world, *told_of(world, META, Seen("a")))
    assert world.probes[ID].error is None
    assert world.source(ID).version == 0


def test_a_source_that_is_reported_is_asked_no_more_unless_it_is_wanted() -> None:
    world = world_of(e.DataLanded(ID))
    for wish, count in ((None, 0), (True, 1), ("5m", 1)):
        project = Project(Graph([], [source(**({} if wish is None else {"probe": wish}))]), "p", "duckdb")
        assert len(asked(project, World())) == 1
        assert len(asked(project, world)) == count


def test_a_source_that_nothing_tells_of() -> None:
    silent = Source(ID, "raw.orders", relation="r")
    assert signal(silent, None, World()) is None
    assert signal(silent, None, world_of(e.DataLanded(ID))) == "sent"
    assert signal(silent, META, World()) == METADATA
    assert signal(silent, META, world_of(e.SourceProbed(ID, METADATA, error="it is a view"))) is None
    assert signal(Source(ID, "raw.orders", static=True), None, World()) == "static"
    assert signal(Source(ID, "raw.orders", static=True), None, world_of(e.DataLanded(ID))) == "sent"
    assert not was_read(World(), "other")


@pytest.mark.parametrize(("static", "landed"), [(True, True), (True, False), (False, True)])
def test_new_data_in_a_source_that_is_declared_static_is_told_of(static: bool, landed: bool) -> None:
    project = Project(Graph([], [Source(ID, "raw.orders", static=static)]), "p", "duckdb")
    world = world_of(e.DataLanded(ID)) if landed else World()
    warnings = status(View("test", project, world, Settings(), 0.0))["warnings"]
    assert warnings == [RESTLESS.format("raw.orders")] * (static and landed)


def test_how_old_the_data_may_be() -> None:
    strict, world = source(warn_after=60.0, error_after=3600.0), world_of(e.DataLanded(ID, loaded_at=1.0))
    assert age(strict, World(), 100.0) == (None, None)
    assert [age(strict, world, at)[0] for at in (61.0, 61.1, 3601.0, 3602.0)] == ["pass", "warn", "warn", "error"]
    assert age(source(), world, 61.0) == (None, 60.0)
    fold(world, e.SourceProbed(ID, "loaded_at_field", "3000.0", 3000.0))
    assert age(strict, world, 3602.0)[0] == "warn"
    seen = world_of(e.SourceProbed(ID, "loaded_at_field", "5.0", 5.0), e.DataLanded(ID, scope="probe"))
    assert age(strict, fold(seen, e.EngineStarted()), 5.0) == ("pass", 0.0)  # not as of when it was seen


class Away:
    """A warehouse that is away until it is `back`, and a clock."""

    def __init__(self) -> None:
        self.at, self.asked, self.back = 0.0, list[float](), False

    def now(self) -> float:
        return self.at

    def ask(self, statements: Sequence[str], seconds: float, most: int) -> list[Answer]:
        self.asked.append(self.at)
        one = Answer(("at",), (("1970-01-01T00:00:00",),)) if self.back else Answer(error="connection refused")
        return [one for _ in statements]


def test_a_warehouse_that_is_away_is_asked_less_and_less_and_as_usual_once_it_is_back() -> None:
    away, world = Away(), World()
    view = View("test", Project(Graph([], [source(loaded_at_field="a")], []), "p", "duckdb"), world, Settings(), 0.0)

    @contextmanager
    def shown() -> Iterator[View]:
        yield view

    def submit(drafts: Sequence[Draft]) -> Future[list[Recorded | None]]:
        fold(world, *(draft.event for draft in drafts))
        done = Future[list[Recorded | None]]()
        done.set_result([])
        return done

    prober = Prober(away, away, shown, submit, Path)

    def look_until(end: float) -> list[float]:
        away.asked.clear()
        while away.at < end:
            away.at += 1.0
            prober.look()
        return [later - earlier for earlier, later in pairwise(away.asked)]

    assert look_until(3000.0) == [60.0, 120.0, 240.0, 480.0, 600.0, 600.0, 600.0]
    assert world.probes[ID].error == "connection refused"
    away.back = True
    assert set(look_until(4000.0)) == {60.0}
    assert world.probes[ID].error is None


# On real warehouses

SOURCES = """
    sources:
      - name: raw
        schema: raw
        tables:
          - name: counted
          - name: stamped
            config: {loaded_at_field: at_, freshness: {warn_after: {count: 1, period: minute}}}
          - name: shown
    """
TABLE = "{{{{ config(materialized='table') }}}} select * from {{{{ source('raw', '{0}') }}}}"
MODELS = {f"models/m_{name}.sql": TABLE.format(name) for name in ("counted", "stamped", "shown")}
PROFILE = """
tiny:
  target: dev
  outputs:
    dev: {{type: postgres, host: {host}, port: {port}, user: postgres, password: "", dbname: postgres, schema: public}}
"""
LANDED = (
    "create schema raw",
    "create table raw.counted as select 1 as id",
    "create table raw.stamped as select 1 as id, timestamp '2026-01-01 12:00:00' as at_",
    "create view raw.shown as select 1 as id",
)
NEWER = (
    "update raw.counted set id = 2",
    "insert into raw.stamped values (2, timestamp '2026-01-01 13:00:00')",
)


@contextmanager
def warehouse(adapter: str, folder: Path) -> Iterator[Callable[..., None]]:
    """Writes to the warehouse of the project in `folder` as a loader does that reports nothing."""
    if adapter == "duckdb":

        def write(*statements: str) -> None:
            def written() -> bool:
                try:
                    connection = duckdb.connect(str(folder / "warehouse.duckdb"))
                except duckdb.IOException:  # it is taken for a moment
                    return False
                with connection:
                    for statement in statements:
                        connection.execute(statement)
                return True

            until(written, "the warehouse")

        yield write
        return
    with server() as running:
        (folder / "profiles.yml").write_text(PROFILE.format(host=running.host, port=running.port))

        def put(*statements: str) -> None:
            connection = running.connect()
            with connection.cursor() as cursor:
                for statement in statements:
                    cursor.execute(statement)
            connection.close()

        yield put


@pytest.mark.dbt
@pytest.mark.slow
@pytest.mark.parametrize("adapter", ["duckdb", "postgres"])
def test_rows_that_nobody_reports_are_built(adapter: str, tmp_path: Path) -> None:
    pytest.importorskip("dbt.cli", reason="dbt is not installed: install the extra [dbt]")
    if adapter == "postgres" and (why := missing()):
        pytest.skip(why)
    folder = write_project(tmp_path / "project", {"models/sources.yml": SOURCES, **MODELS})
    (folder / "sao.yml").write_text("probes: {every: 1s}\ndecisions: {settle: 0s}\n")
    with ExitStack() as stack:
        write = stack.enter_context(warehouse(adapter, folder))
        write(*LANDED)
        service = stack.enter_context(served(folder))
        service.rest()
        assert builds(service) == {"m_counted": 1, "m_stamped": 1, "m_shown": 1}
        write(*NEWER)
        until(lambda: builds(service) == {"m_counted": 2, "m_stamped": 2, "m_shown": 1}, "the builds", 180.0)
        service.rest()
        status = service.status()
        told = {it["name"]: it["signal"] for it in status["sources"]}
        assert told == {"raw.counted": METADATA, "raw.stamped": "loaded_at_field", "raw.shown": None}
        stamped = next(it for it in status["sources"] if it["name"] == "raw.stamped")
        assert stamped["probe"]["loaded_at"] == "2026-01-01T13:00:00.000Z"
        assert stamped["freshness"]["status"] == "warn"
        assert [it for it in status["warnings"] if "raw.shown: nothing tells of new data" in it]
        why = service.get("/api/nodes/m_counted/why")
        assert why["builds"][0]["reason"] == "new_data"
        seen = service.events("SourceProbed")
        service.kill()
        service.start()
        service.rest()
        assert service.events("SourceProbed") == seen  # nothing is other than before the end
        assert builds(service) == {"m_counted": 2, "m_stamped": 2, "m_shown": 1}
        write("delete from raw.counted")
        until(lambda: builds(service)["m_counted"] == 3, "the build", 180.0)


def builds(service: Served) -> dict[str, int]:
    """How often each model was built."""
    found = [event["data"]["node"].rpartition(".")[2] for event in service.events("NodeBuilt")]
    return {name: found.count(name) for name in found}
