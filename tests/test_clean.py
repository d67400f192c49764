"""`clean` on the real dbt, DuckDB and PostgreSQL: what nodes have left behind is dropped, and nothing else."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import duckdb
import pytest

from sao_events.cli import main
from tests.dbt_projects import write_project
from tests.nightly import ADAPTERS, by_night
from tests.oracle.postgres import missing, server
from tests.processes import PATIENCE, command, processes_in, served, until

pytest.importorskip("dbt.cli", reason="dbt is not installed: install the extra [dbt]")
psycopg2 = pytest.importorskip("psycopg2")
pytestmark = [pytest.mark.dbt, pytest.mark.slow]

PROFILE = """
tiny:
  target: dev
  outputs:
    dev: {{type: postgres, host: {host}, port: {port}, user: postgres, password: "", dbname: postgres, schema: public}}
"""
TABLE = "{{ config(materialized='table') }} "
MODELS = {
    "models/kept.sql": TABLE + "select 1 as id",
    "models/removed.sql": TABLE + "select 2 as id",
    "models/on_removed.sql": "select * from {{ ref('removed') }}",
    "models/old_name.sql": TABLE + "select 3 as id",
    "models/looked_at.sql": TABLE + "select 4 as id",
    "models/replaced.sql": TABLE + "select 5 as id",
    "models/taken.sql": TABLE + "select 6 as id",
    "models/gone.sql": TABLE + "select 7 as id",
}


@dataclass
class Shop:
    """A project of which all was built, and the warehouse as somebody else sees it."""

    root: Path
    execute: Callable[[str], list[Any]]
    adapter: str

    def relations(self) -> dict[str, str]:
        found = self.execute(
            "select table_name, table_type from information_schema.tables where table_schema in ('main', 'public')"
        )
        return {name: "view" if kind == "VIEW" else "table" for name, kind in found}

    def say(self, capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, Any]:
        capsys.readouterr()
        code = main(["--project-dir", str(self.root), *arguments, "--json"])
        said = capsys.readouterr()
        return code, json.loads(said.out) if said.out else said.err


@pytest.fixture(scope="module", params=ADAPTERS)
def shop(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    folder = tmp_path_factory.mktemp(f"clean_{request.param}")
    root = write_project(folder / "project", MODELS)
    with ExitStack() as stack:
        if request.param == "postgres":
            if reason := missing():
                pytest.skip(reason)
            running = stack.enter_context(server())
            (root / "profiles.yml").write_text(PROFILE.format(host=running.host, port=running.port))
            connection = psycopg2.connect(host=running.host, port=running.port, user="postgres", dbname="postgres")
            connection.autocommit = True
            stack.callback(connection.close)

            def execute(sql: str) -> list[Any]:
                with connection.cursor() as cursor:
                    cursor.execute(sql)
                    return list(cursor.fetchall()) if cursor.description else []
        else:

            def execute(sql: str) -> list[Any]:
                def asked() -> list[list[Any]]:
                    try:
                        with duckdb.connect(str(root / "warehouse.duckdb")) as connection:
                            return [connection.execute(sql).fetchall()]
                    except duckdb.IOException:  # a service looks at it just now
                        return []

                [rows] = until(asked, "a turn at the file")
                return list(rows)

        yield Shop(root, execute, request.param)
    assert processes_in(folder) == []


def test_clean_drops_what_is_left_behind_and_nothing_else(
    shop: Shop, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert shop.say(capsys, "run")[0] == 0
    sibling = shop.root / ".sao" / "targets" / "other"  # another environment, which has all of it in force
    sibling.mkdir(parents=True)
    shutil.copy(shop.root / ".sao" / "state.db", sibling)
    models = shop.root / "models"
    for name in ("removed", "on_removed", "looked_at", "replaced", "gone"):
        (models / f"{name}.sql").unlink()
    (models / "old_name.sql").rename(models / "new_name.sql")
    (models / "taken.sql").unlink()
    (models / "taker.sql").write_text("{{ config(materialized='table', alias='taken') }} select 8 as id")
    shop.execute("create view theirs as select * from looked_at")
    shop.execute("drop table replaced")
    shop.execute("create view replaced as select 9 as id")
    shop.execute("drop table gone")
    assert shop.say(capsys, "run")[0] == 0

    left = {it["node"].rpartition(".")[2]: it for it in shop.say(capsys, "status")[1]["left"]}
    assert set(left) == {"removed", "on_removed", "old_name", "looked_at", "replaced", "gone"}
    assert left["old_name"]["now"] == "model.tiny.new_name"
    assert left["removed"]["now"] is None

    with served(shop.root) as service:
        service.rest()
        beside_a_service(shop, capsys, monkeypatch, sibling)
        [*_, cleaned] = service.events("RelationsCleaned")
        assert cleaned["sender"] == "cleaner"
    code, answer = shop.say(capsys, "clean", "--dry-run")
    assert (code, "replaced" in statuses(answer), "removed" in statuses(answer)) == (1, True, False), "alone too"
    _what_was_dropped_is_built_when_its_node_comes_back(shop, capsys)
    _who_says_yes_has_it_dropped(shop, monkeypatch)


def beside_a_service(
    shop: Shop, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, sibling: Path
) -> None:
    before = shop.relations()
    assert shop.say(capsys, "clean", "--dry-run")[1]["relations"] == []
    shutil.rmtree(sibling)
    code, answer = shop.say(capsys, "clean", "--dry-run")
    found = {it["node"].rpartition(".")[2]: it for it in answer["relations"]}
    stands = "refused" if shop.adapter == "postgres" else "left"
    expected = {"removed": "left", "on_removed": "left", "old_name": "left", "gone": "gone", "replaced": "refused"}
    assert statuses(answer) == {**expected, "looked_at": stands}
    assert code == 1
    assert (found["removed"]["there"], found["on_removed"]["there"], found["gone"]["there"]) == ("table", "view", None)
    assert shop.relations() == before

    broken = shop.root / "models" / "broken.sql"
    broken.write_text("{{ broken")
    code, answer = shop.say(capsys, "clean", "--yes")
    assert (code, "dbt cannot read the project" in answer) == (3, True), "it could name what is left behind"
    broken.unlink()

    code, answer = shop.say(capsys, "clean")
    assert code == 2, "nobody can be asked"
    assert shop.relations() == before

    assert answered(shop, monkeypatch, "") == 0
    told = capsys.readouterr().out
    assert "nothing was dropped" in told
    assert "on_removed" in told, "who is asked was shown what it is about"
    assert shop.relations() == before

    code, answer = shop.say(capsys, "clean", "--yes")
    dropped = {it["node"].rpartition(".")[2] for it in answer["relations"] if it["status"] == "dropped"}
    assert code == 1
    away = {"removed", "on_removed", "old_name"} | ({"looked_at"} if shop.adapter == "duckdb" else set())
    assert dropped == away
    kept = {name: kind for name, kind in before.items() if name not in away}
    assert shop.relations() == kept
    assert {"kept", "replaced", "theirs", "new_name"} <= kept.keys()
    assert shop.execute("select id from taken") == [(8,)]
    if shop.adapter == "postgres":
        [refused] = [it for it in answer["relations"] if it["node"].endswith(".looked_at")]
        assert refused["dependants"] == ['"postgres"."public"."theirs"']
        assert "theirs" in refused["message"]


def statuses(answer: Any) -> dict[str, str]:
    """The status of each relation that is left behind, by the name of its node."""
    return {it["node"].rpartition(".")[2]: it["status"] for it in answer["relations"]}


def answered(shop: Shop, monkeypatch: pytest.MonkeyPatch, answer: str) -> int:
    """The exit code of `clean` at a terminal at which somebody answers the question."""
    with monkeypatch.context() as patch:
        patch.setattr("sys.stdin", SimpleNamespace(isatty=lambda: True))
        patch.setattr("builtins.input", lambda question: answer)
        return main(["--project-dir", str(shop.root), "clean"])


def _what_was_dropped_is_built_when_its_node_comes_back(shop: Shop, capsys: pytest.CaptureFixture[str]) -> None:
    (shop.root / "models" / "removed.sql").write_text(MODELS["models/removed.sql"])
    code, answer = shop.say(capsys, "run")
    [node] = [it for it in answer["nodes"] if it["name"] == "removed"]
    assert (code, node["reason"], node["status"]) == (0, "relation_missing", "success")
    assert shop.execute("select id from removed") == [(2,)]


def _who_says_yes_has_it_dropped(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    (shop.root / "models" / "removed.sql").unlink()
    assert answered(shop, monkeypatch, "y") == 1, "what was refused before is still there"
    assert "removed" not in shop.relations()


@by_night
def test_what_a_service_was_dropping_when_it_was_killed_is_dropped(
    shop: Shop, capsys: pytest.CaptureFixture[str]
) -> None:
    late = [shop.root / "models" / f"late_{number}.sql" for number in range(6)]
    for path in late:
        path.write_text(TABLE + "select 10 as id")
    names = {path.stem for path in late}
    assert shop.say(capsys, "run")[0] == 0
    assert names <= shop.relations().keys()
    for path in late:
        path.unlink()
    with served(shop.root) as service:
        asked = subprocess.Popen(command("clean", "--yes", "--json"), cwd=shop.root, stdout=subprocess.PIPE, text=True)
        before = len(service.events("RelationsCleaned"))
        until(lambda: len(service.events("RelationsCleaned")) > before, "a drop")
        service.kill()
        told = statuses(json.loads(asked.communicate(timeout=PATIENCE)[0]))
    assert {told[name] for name in names} <= {"dropped", "gone"}
    assert not names & shop.relations().keys()
    assert not names & statuses(shop.say(capsys, "clean", "--dry-run")[1]).keys()
