"""Questions to the warehouse through dbt's adapter, on the real dbt, DuckDB and PostgreSQL; and whose turn it is."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path

import duckdb
import pytest

from sao_events.builds import Builds
from sao_events.config import load_config
from sao_events.core.probes import LOADED_AT, NO_TABLE
from sao_events.core.project import Project
from sao_events.dbt import DbtBuilder, DbtSettings, open_builder
from sao_events.dbt.cold import START, ColdBuilder
from sao_events.ports import Answer, NodeBegan, Piece, PieceEnded, Report
from tests.dbt_projects import write_project
from tests.nightly import ADAPTERS, by_night
from tests.oracle.postgres import PostgresServer, missing, server
from tests.processes import configure, processes_in, until

pytest.importorskip("dbt.cli", reason="dbt is not installed: install the extra [dbt]")
pytestmark = [pytest.mark.dbt, pytest.mark.slow]

PROFILE = """
tiny:
  target: dev
  outputs:
    dev: {{type: postgres, host: {host}, port: {port}, user: postgres, password: "", dbname: postgres, schema: public,
          connect_timeout: 2, retries: 0}}
"""
ENDLESS = {
    "duckdb": "select count(*) from range(100000000000) as r(a) where hash(a) % 7 = 9",
    "postgres": "select pg_sleep(600)",
}
TABLE = "{{ config(materialized='table') }} "
SOURCES = """
    sources:
      - name: raw
        schema: raw
        tables:
          - name: queried
            config:
              freshness: {warn_after: {count: 1, period: day}}
              loaded_at_query: >
                {% set at = until('2026-01-03') %}select timestamp '{{ at }}' where '{{ this }}' like '%queried%'
          - name: wrong
            config: {loaded_at_query: "select {{ no_such_macro() }}"}
          - name: changed
          - name: unknown
          - name: broken
          - name: shown
          - name: missing
    """
# What adapters have for those warehouses whose metadata tells when a table was changed.
METADATA = """
    {% macro until(at) %}{{ at }} 12:00:00{% endmacro %}
    {% macro default__get_relation_last_modified(information_schema, relations) %}
      {% call statement('last_modified', fetch_result=True) %}
        {% for relation in relations %}
          select {{ "no_such_column, " if relation.identifier == 'broken' }} '{{ relation.schema }}' as schema,
            '{{ relation.identifier }}' as identifier,
            {{ "timestamp '2026-01-02 12:00:00'" if relation.identifier == 'changed' else 'cast(null as timestamp)' }}
              as last_modified, current_timestamp as snapshotted_at
          {{ "union all" if not loop.last }}
        {% endfor %}
      {% endcall %}
      {{ return(load_result('last_modified')) }}
    {% endmacro %}
    """
MODELS = {"models/sources.yml": SOURCES, "macros/metadata.sql": METADATA}
MODELS |= {"models/one.sql": TABLE + "select 1 as id", "models/slow.sql": TABLE + ENDLESS["duckdb"]}


@dataclass
class Asked:
    """A builder, and the warehouse that it asks."""

    builder: DbtBuilder
    adapter: str
    root: Path
    server: PostgresServer | None = None

    def ask(self, *statements: str, seconds: float = 30.0, most: int = 100) -> list[Answer]:
        return self.builder.ask(statements, seconds, most)


@pytest.fixture(scope="module", params=ADAPTERS)
def asked(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Asked]:
    """A builder that has parsed a project."""
    folder = tmp_path_factory.mktemp(request.param)
    root = write_project(folder / "project", MODELS)
    with ExitStack() as stack:
        running = None
        if request.param == "postgres":
            if reason := missing():
                pytest.skip(reason)
            running = stack.enter_context(server())
            (root / "profiles.yml").write_text(PROFILE.format(host=running.host, port=running.port))
        builder = stack.enter_context(closing(open_builder(DbtSettings(root, folder / "state", grace=5.0))))
        builder.load()
        yield Asked(builder, request.param, root, running)
    assert processes_in(folder) == []


def test_values_come_back_as_the_port_says(asked: Asked) -> None:
    sql = """select 1 as a, cast('12.50' as decimal(9, 2)) as b, cast('7' as decimal(9, 2)) as c, '0012' as d,
        '2026-01-01' as e, true as f, cast(null as integer) as g, timestamp '2026-01-01 12:00:00.5' as h,
        cast('2026-01-01 12:00:00+02' as timestamp with time zone) as i, date '2026-01-02' as j, 0.5 as k"""
    (answer,) = asked.ask(sql)
    assert answer.error is None
    assert answer.columns == tuple("abcdefghijk")
    instants = ("2026-01-01T12:00:00.500000+00:00", "2026-01-01T10:00:00+00:00", "2026-01-02")
    assert answer.rows == ((1, 12.5, 7, "0012", "2026-01-01", True, None, *instants, 0.5),)
    assert isinstance(answer.rows[0][2], int)


def test_a_whole_number_of_any_size_is_exact(asked: Asked) -> None:
    big = "12345678901234567890123456789"
    (answer,) = asked.ask(f"select cast('{big}' as decimal(38, 0))")
    assert answer.rows == ((int(big),),)


def test_dbt_itself_is_asked_when_a_source_was_loaded(asked: Asked) -> None:
    tables = [f"create table raw.{name} as select 1 as id" for name in ("broken", "changed", "unknown")]
    asked.builder.change(["create schema raw", *tables, "create view raw.shown as select 1 as id"], 30.0)
    (shown, missing) = asked.ask(*[f"{LOADED_AT}source.tiny.raw.{name}" for name in ("shown", "missing")])
    assert shown.error == NO_TABLE
    assert "no such relation" in str(missing.error)
    names = ("broken", "queried", "wrong", "changed", "nowhere", "unknown")
    asks = [f"{LOADED_AT}source.tiny.raw.{name}" for name in names]
    broken, queried, wrong, changed, nowhere, unknown, plain = asked.ask(*asks, "select 1")
    assert "no_such_column" in str(broken.error)
    assert plain.rows == ((1,),)
    assert (queried.rows, queried.error) == ((("2026-01-03T12:00:00+00:00",),), None)
    assert (changed.rows, changed.error) == ((("2026-01-02T12:00:00+00:00",),), None)
    assert (unknown.rows, unknown.error) == (((None,),), None)
    assert "no_such_macro" in str(wrong.error)
    assert "nowhere" in str(nowhere.error)


def test_no_more_rows_come_than_are_wanted(asked: Asked) -> None:
    (answer,) = asked.ask("select a from (values (1), (2), (3)) as t(a) order by a", most=2)
    assert answer.rows == ((1,), (2,))


def test_an_error_concerns_its_statement_alone(asked: Asked) -> None:
    first, second, third = asked.ask("select 1", "select * from nothing_there", "select 3")
    assert (first.rows, third.rows) == (((1,),), ((3,),))
    assert second.rows == ()
    assert "nothing_there" in str(second.error)


def test_what_takes_too_long_is_cancelled_and_the_rest_is_asked(asked: Asked) -> None:
    first, second, third = asked.ask("select 1", ENDLESS[asked.adapter], "select 3", seconds=2.0)
    assert (first.rows, third.rows) == (((1,),), ((3,),))
    assert second.error == "no answer within 2 seconds"
    if asked.server is not None:
        (left,) = asked.ask(
            "select count(*) from pg_stat_activity where state = 'active' and query like '%pg_sleep(6%'"
            " and pid <> pg_backend_pid()"
        )
        assert left.rows == ((0,),)


def test_nothing_that_is_written_is_kept(asked: Asked) -> None:
    written, gone = asked.ask("create table left_over as select 1 as id", "select * from left_over")
    assert written.error is None
    assert "left_over" in str(gone.error)


def test_many_statements_are_one_question(asked: Asked) -> None:
    answers = asked.ask(*[f"select {number}" for number in range(300)])
    assert [answer.rows[0][0] for answer in answers] == list(range(300))
    assert asked.ask() == []


def test_without_a_connection_each_answer_says_why(asked: Asked) -> None:
    profiles, broken = asked.root / "profiles.yml", asked.root / "broken.duckdb"
    kept = profiles.read_text()
    broken.write_bytes(b"this is no database" * 100)
    port = asked.server.port if asked.server else 0
    profiles.write_text(kept.replace("warehouse.duckdb", broken.name).replace(f"port: {port},", "port: 1,"))
    first, second = asked.ask("select 1", "select 2")
    profiles.write_text(kept)
    assert first.error == second.error
    assert ("refused" if asked.server else "not a valid DuckDB") in str(first.error)
    assert asked.ask("select 1")[0].rows == ((1,),)


def test_dbt_as_a_process_of_its_own_answers_the_same(tmp_path: Path) -> None:
    root = write_project(tmp_path / "project", MODELS)
    values = """select 1 as a, cast('12.50' as decimal(9, 2)) as b, cast('7' as decimal(9, 2)) as c, '0012 "{{ é' as d,
        true as e, cast(null as integer) as f, timestamp '2026-01-01 12:00:00.5' as g, date '2026-01-02' as h,
        cast('2026-01-01 12:00:00+02' as timestamp with time zone) as i, 0.5 as j,
        170141183460469231731687303715884105727 as k"""
    asked = [values, f"{LOADED_AT}source.tiny.raw.queried", f"{LOADED_AT}source.tiny.raw.changed"]
    with closing(open_builder(DbtSettings(root, tmp_path / "state", runner="subprocess"))) as builder:
        good, loaded, left_out = builder.ask(asked, 30.0, 3)
        [refused] = builder.change(["create table left_over (id int)"], 30.0)
    assert good.error is None
    assert good.columns == tuple("abcdefghijk")
    instants = ("2026-01-01T12:00:00.500000+00:00", "2026-01-02", "2026-01-01T10:00:00+00:00")
    assert good.rows == ((1, 12.5, 7, '0012 "{{ é', True, None, *instants, 0.5, 2**127 - 1),)
    assert loaded.rows == (("2026-01-03T12:00:00+00:00",),)
    assert "warn_after" in str(left_out.error)
    assert "dbt.runner" in str(refused.error)


@by_night
def test_a_statement_that_a_process_of_its_own_cannot_answer_concerns_no_other(tmp_path: Path) -> None:
    root = write_project(tmp_path / "project", {"models/one.sql": "select 1 as id"})
    with closing(open_builder(DbtSettings(root, tmp_path / "state", runner="subprocess"))) as builder:
        many, wrong = builder.ask(["select a from range(9) as r(a)", "select no_such_column"], 30.0, 3)
        [slow] = builder.ask([ENDLESS["duckdb"]], 1.0 - START, 1)
    assert many.rows == ((0,), (1,), (2,))
    assert "no_such_column" in str(wrong.error)
    assert "no answer within" in str(slow.error)
    assert processes_in(tmp_path) == []


@by_night
def test_a_process_of_its_own_that_cannot_connect_is_started_twice_whatever_is_asked(tmp_path: Path) -> None:
    root = write_project(tmp_path / "project", {"models/one.sql": "select 1 as id"})
    (root / "warehouse.duckdb").write_text("no database")
    with closing(open_builder(DbtSettings(root, tmp_path / "state", runner="subprocess", threads=1))) as builder:
        assert isinstance(builder, ColdBuilder)
        started, spawn = list[str](), builder._spawn

        def counted(arguments: list[str]) -> subprocess.Popen[str]:
            started.append(arguments[0])
            return spawn(arguments)

        builder._spawn = counted  # type: ignore[method-assign]
        answers = builder.ask([f"select {n}" for n in range(5)], 30.0, 1)
        assert started == ["compile", "debug"]
        assert all("not a valid DuckDB" in str(answer.error) for answer in answers)
        (root / "warehouse.duckdb").unlink()
        wrong = builder.ask([f"select {'no_column' if n == 3 else n}" for n in range(5)], 30.0, 1)
        assert [answer.rows for answer in wrong] == [((0,),), ((1,),), ((2,),), (), ((4,),)]
        assert started[2:] == ["compile", "compile"]
        quick, slow = builder.ask(["select 1", ENDLESS["duckdb"]], 0.0, 1)
    assert quick.rows == ((1,),)
    assert "no answer within" in str(slow.error)


class Turns:
    """The builders of an environment on DuckDB, and questions that are asked beside them."""

    def __init__(self, builds: Builds, project: Project) -> None:
        self.builds, self.project = builds, project
        self.seen: list[Report] = []
        self.answers: list[Answer] = []

    def start(self, name: str) -> None:
        assert self.builds.ready("digest")
        self.builds.start(Piece(f"{name}.1", name, (f"model.tiny.{name}",), (), "digest"), self.project)

    def ask(self, sql: str, seconds: float) -> threading.Thread:
        """Ask from a thread of its own."""
        thread = threading.Thread(target=lambda: self.answers.extend(self.builds.ask([sql], seconds, 1)))
        thread.start()
        return thread

    def until(self, kind: type[Report], what: str) -> Report:
        """The first report of the kind."""
        until(lambda: self._seen(kind), what)
        return next(report for report in self.seen if isinstance(report, kind))

    def _seen(self, kind: type[Report]) -> bool:
        self.seen += self.builds.reports()
        return any(isinstance(report, kind) for report in self.seen)


@pytest.fixture(scope="module")
def builds(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Turns]:
    """The builders of an environment. The last test closes them."""
    folder = tmp_path_factory.mktemp("turns")
    root = configure(write_project(folder / "project", MODELS), "dbt: {grace: 1s}\n")
    with closing(Builds(load_config(None, root, {}))) as builds:
        nobody = builds.ask(["select 1", "select 2"], 1.0, 1)
        assert nobody == [Answer(error="no project is in force here")] * 2
        project = builds.load(root)
        builds.keep("digest")
        yield Turns(builds, project)
    assert processes_in(folder) == []


@pytest.fixture
def turns(builds: Turns) -> Turns:
    """The same, with nothing seen so far."""
    return Turns(builds.builds, builds.project)


def test_a_question_waits_for_what_is_being_built(turns: Turns) -> None:
    turns.start("slow")
    turns.until(NodeBegan, "the build")
    thread = turns.ask("select 1", 30.0)
    until(lambda: turns.builds._asking > 0, "the question")
    assert turns.answers == [], "it waits, and nothing more is built before it"
    turns.builds.cancel("slow")
    turns.until(PieceEnded, "the end of the build")
    thread.join()
    assert turns.answers == [Answer(turns.answers[0].columns, ((1,),))]
    assert turns.builds.ready("digest")


def test_what_is_to_be_built_waits_for_a_question_and_finds_the_file_free(turns: Turns) -> None:
    thread = turns.ask(ENDLESS["duckdb"], 2.0)
    until(lambda: turns.builds._asking > 0, "the question")
    thread.join()
    assert [answer.error for answer in turns.answers] == ["no answer within 2 seconds"]
    turns.start("one")
    assert turns.until(PieceEnded, "the build") == PieceEnded("one.1")
    with duckdb.connect(str(turns.builds.config.dbt.project_dir / "warehouse.duckdb"), read_only=True) as connection:
        assert connection.sql("select id from one").fetchall() == [(1,)]


def test_questions_that_nobody_will_answer_are_told_so(turns: Turns) -> None:
    turns.start("slow")
    turns.until(NodeBegan, "the build")
    thread = turns.ask("select 1", 30.0)
    until(lambda: turns.builds._asking > 0, "the question")
    turns.builds.close()
    thread.join()
    assert [answer.error for answer in turns.answers] == ["no project is in force here"]
