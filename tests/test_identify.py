"""Identities on the real dbt with DuckDB: which edits of a project keep them, which do not, and what is compiled."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from textwrap import dedent

import pytest

from sao_events.core.identity import Inputs, Rendered
from sao_events.core.project import Project, project_from_bytes, project_to_bytes
from sao_events.dbt import DbtBuilder, DbtSettings, open_builder
from sao_events.deploy import apart, identify
from sao_events.deploy.identify import identified, recognised
from sao_events.store.memory import MemoryStore
from tests.dbt_projects import write_project

pytest.importorskip("dbt.cli", reason="dbt is not installed: install the extra [dbt]")
pytestmark = [pytest.mark.dbt, pytest.mark.slow]

TABLE = "{{ config(materialized='table') }} "
FILES = {
    "profiles.yml": """
        tiny:
          target: dev
          outputs:
            dev: {type: duckdb, path: warehouse.duckdb, threads: 2}
            prod: {type: duckdb, path: warehouse.duckdb, threads: 2}
        """,
    "seeds/raw.csv": "id,amount\n1,10\n2,20\n",
    "macros/cents.sql": "{% macro cents(column) %}{{ column }} * 100{% endmacro %}",
    "models/base.sql": TABLE + "select id, {{ cents('amount') }} as cents from {{ ref('raw') }} where id != 3",
    "models/folded.sql": "{{ config(materialized='ephemeral') }} select cents from {{ ref('base') }} where id > 0",
    "models/total.sql": TABLE + "select sum(cents) as cents from {{ ref('folded') }}",
    "models/grows.sql": """
        {{ config(materialized='incremental', unique_key='id') }}
        select id, cents from {{ ref('base') }} {% if is_incremental() %} where id > 1 {% endif %}""",
    "models/clock.sql": TABLE + "select '{{ run_started_at }}' as at, 1 as one",
    "models/asks.sql": TABLE + "select {{ run_query('select 7').columns[0].values()[0] if execute else 0 }} as n",
    "models/forced.sql": TABLE + "select {{ 1 if flags.FULL_REFRESH else 2 }} as n",
    "models/where.sql": TABLE + "select '{{ target.name }}' as at",
    "models/python.py": """
        def model(dbt, session):
            dbt.config(materialized="table")
            return dbt.ref("base")
        """,
    "snapshots/kept.sql": """
        {% snapshot kept %}{{ config(unique_key='id', strategy='check', check_cols='all') }}
        select * from {{ ref('base') }}{% endsnapshot %}""",
    "models/properties.yml": """
        version: 2
        models:
          - name: base
            columns: [{name: id, data_tests: [not_null, unique]}]
        """,
    "tests/nothing_negative.sql": "select * from {{ ref('total') }} where cents < 0",
}
PROFILE = """
    tiny:
      target: dev
      outputs:
        dev:
          {type: postgres, threads: 1, host: "{{ env_var('DBT_HOST') }}", password: "{{ env_var('DBT_PASSWORD') }}"}
    """


class Shop:
    """A project, a store, and what was asked of dbt since the last look."""

    def __init__(self, root: Path, builder: DbtBuilder) -> None:
        self.root, self.builder, self.store = root, builder, MemoryStore()
        self.asked: set[str] = set()
        self.began = self.before = self.look()
        self.first, self.asked = self.asked, set()

    def render(self, wanted: Mapping[str, Inputs]) -> dict[str, Rendered]:
        self.asked |= {name.split(".")[2] for name in wanted}
        return self.builder.render(wanted)

    def look(self) -> Project:
        return identified(self.builder.load().project, self.store, self.render)

    def write(self, path: str, text: str) -> None:
        (self.root / path).write_text(dedent(text), encoding="utf-8")

    def edited(self, path: str, old: str, new: str) -> set[str]:
        """Replace a text in a file; the names of the nodes whose identity is another then."""
        text = (self.root / path).read_text(encoding="utf-8")
        assert old in text
        self.write(path, text.replace(old, new))
        before, self.before = self.before, self.look()
        return changed(before, self.before)

    def sql(self, name: str, *, again: bool = False) -> str:
        node = next(node for node in self.before.graph.nodes.values() if node.name == name)
        text = node.again if again else node.compiled
        assert text is not None
        return " ".join(self.store.get_texts([text])[text].split())


def changed(before: Project, after: Project) -> set[str]:
    then, now = before.graph.fingerprints, after.graph.fingerprints
    return {name.split(".")[2] for name in now if then.get(name) != now[name]}


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    root = write_project(tmp_path_factory.mktemp("shop"), FILES)
    with closing(open_builder(DbtSettings(root, root / ".sao", runner="warm"))) as builder:
        yield Shop(root, builder)


def test_a_node_carries_the_sql_that_dbt_runs(shop: Shop) -> None:
    assert shop.sql("base") == 'select id, amount * 100 as cents from "warehouse"."main"."raw" where id != 3'
    assert shop.sql("kept") == 'select * from "warehouse"."main"."base"'
    assert shop.sql("total").startswith("with __dbt__cte__folded as (")
    tests = {test.name: test.compiled for test in shop.before.graph.tests.values()}
    assert all(tests.values())
    [text] = shop.store.get_texts([str(tests["not_null_base_id"])]).values()
    assert "where id is null" in text


def test_dbt_as_a_process_of_its_own_renders_the_same_where_it_can(shop: Shop, tmp_path: Path) -> None:
    refusing = {f"models/no_{n}.sql": "{{ exceptions.raise_compiler_error('no') if execute }}" for n in (1, 2)}
    asking = {
        "models/asks_folded.sql": "{{ config(materialized='ephemeral') }} select {{ run_query('select 1') }} as n",
        "models/over_it.sql": "select n from {{ ref('asks_folded') }}",
        "models/there.sql": "{% set a = adapter %}select '{{ a.get_relation(this.database, this.schema, 'x') }}' as n",
    }
    settings = DbtSettings(write_project(tmp_path / "shop", FILES | refusing | asking), tmp_path, runner="subprocess")
    with closing(open_builder(settings)) as builder:
        found = identified(builder.load().project, MemoryStore(), builder.render)
    nodes = {node.name: node for node in found.graph.nodes.values()}
    same = {node.name: node.compiled for node in shop.began.graph.nodes.values() if node.compiled}
    assert same.pop("grows")
    assert {name: nodes[name].compiled for name in same} == same
    tests = {test.name: test.compiled for test in shop.began.graph.tests.values()}
    assert {test.name: test.compiled for test in found.graph.tests.values()} == tests
    doubts = {name: node.doubt for name, node in nodes.items() if node.doubt and name not in ("raw", "python")}
    refused = {name: doubts.pop(name) for name in sorted(doubts) if name.startswith("no_")}
    assert list(refused) == ["no_1", "no_2"]
    assert all(text.startswith("dbt cannot compile it: Compilation Error in model no_") for text in refused.values())
    asks = "it may ask the warehouse while it is compiled"
    assert doubts == {
        "clock": "it may render otherwise each time (run_started_at)",
        "forced": "it may render otherwise when it is built (flags)",
        "grows": "it renders otherwise once its table is there, which only the warm runner can see",
        **dict.fromkeys(("asks", "asks_folded", "over_it", "there"), asks),
    }
    assert not (settings.project_dir / "warehouse.duckdb").exists()


def test_an_incremental_model_has_the_sql_of_the_first_run_and_that_of_later_ones(shop: Shop) -> None:
    assert shop.sql("grows") == 'select id, cents from "warehouse"."main"."base"'
    assert shop.sql("grows", again=True) == 'select id, cents from "warehouse"."main"."base" where id > 1'


def test_what_may_render_otherwise_when_it_is_built_has_no_sql(shop: Shop) -> None:
    without = {node.name for node in shop.before.graph.nodes.values() if node.compiled is None}
    assert without == {"raw", "clock", "asks", "forced", "python"}
    doubts = {node.name: node.doubt for node in shop.before.graph.nodes.values() if node.doubt}
    assert doubts == {
        "raw": "it is not made of SQL",
        "python": "it is not made of SQL",
        "clock": "it may render otherwise each time (run_started_at)",
        "forced": "it may render otherwise when it is built (flags)",
        "asks": "it asks the warehouse while it is compiled",
    }
    assert {"clock", "forced", "python", "raw"}.isdisjoint(shop.first)  # dbt was not even asked
    assert not (shop.root / "warehouse.duckdb").exists()  # nor has it touched the warehouse


def test_a_stored_project_keeps_the_digests(shop: Shop) -> None:
    stored = project_from_bytes(project_to_bytes(shop.before))
    assert stored.graph.nodes == shop.before.graph.nodes
    assert stored.graph.tests == shop.before.graph.tests


def test_nothing_is_compiled_again_for_what_is_known(shop: Shop) -> None:
    shop.asked = set()
    assert not changed(shop.before, shop.look())
    assert shop.asked == set()
    assert shop.edited("models/base.sql", "id != 3", "id != 4") == {"base"}
    assert shop.asked == {"base"}
    shop.asked = set()
    assert shop.edited("models/base.sql", "id != 4", "id != 3") == {"base"}  # A, B, A: what stands is B
    assert shop.asked == set()


def test_a_macro_that_renders_the_same_changes_nothing(shop: Shop) -> None:
    new = "{% macro cents(column) %}{% set by = 50 + 50 %}{{ column }} * {{ by }}{% endmacro %}"
    assert shop.edited("macros/cents.sql", FILES["macros/cents.sql"], new) == set()
    assert shop.edited("macros/cents.sql", "50 + 50", "50 + 51") == {"base"}
    assert shop.edited("macros/cents.sql", new.replace("50 + 50", "50 + 51"), FILES["macros/cents.sql"]) == {"base"}


def test_an_edit_of_a_folded_model_counts_for_its_reader_unless_it_says_the_same(shop: Shop) -> None:
    assert shop.edited("models/folded.sql", "where id > 0", "where id > {{ 0 }}") == set()
    assert shop.edited("models/folded.sql", "where id > {{ 0 }}", "where id > 1") == {"folded", "total"}
    assert "id > 1" in shop.sql("total")


def test_an_edit_of_a_folded_model_reaches_as_far_as_the_column_that_it_changes(shop: Shop) -> None:
    """Also for who only looks, though the reader's own files are as they were."""
    shop.edited("models/folded.sql", "select cents from", "select cents, cents + 1 as more from")
    shop.edited("models/total.sql", "sum(cents) as cents", "sum(cents) as cents, sum(more) as more")
    before, text = shop.before.graph.own_codes, (shop.root / "models/folded.sql").read_text(encoding="utf-8")
    total = next(node.id for node in shop.before.graph.nodes.values() if node.name == "total")
    shop.write("models/folded.sql", text.replace("cents + 1", "cents + 2"))
    for seen in (recognised(shop.builder.load().project, shop.store, shop.render), shop.look()):
        after = seen.graph.own_codes
        assert changed(shop.before, seen) == {"folded", "total"}
        assert after[total].base == before[total].base
        assert [(a == b) for a, b in zip(before[total].columns, after[total].columns, strict=True)] == [True, False]
    shop.write("models/folded.sql", text.replace("cents + 1", "cents + 2").replace("id > 1", "id > 2"))
    assert shop.look().graph.own_codes[total].base != before[total].base
    shop.write("models/folded.sql", text)
    shop.write("models/total.sql", FILES["models/total.sql"])
    shop.before = shop.look()


def test_an_edit_inside_the_block_of_later_runs_counts(shop: Shop) -> None:
    assert shop.edited("models/grows.sql", "where id > 1", "where id > {{ 1 }}") == set()
    assert shop.edited("models/grows.sql", "where id > {{ 1 }}", "where id > 2") == {"grows"}


def test_where_there_is_no_sql_every_edit_but_of_comments_counts(shop: Shop) -> None:
    assert shop.edited("models/clock.sql", "1 as one", "1 one") == {"clock"}
    assert shop.edited("models/forced.sql", "else 2", "else 1 + 1") == {"forced"}
    assert shop.edited("models/asks.sql", "else 0", "else 1 - 1") == {"asks"}
    assert shop.edited("models/asks.sql", " as n", " as n -- that many") == set()


def test_configuration_counts_though_the_sql_is_the_same(shop: Shop) -> None:
    assert shop.edited("models/grows.sql", "unique_key='id'", "unique_key='cents'") == {"grows"}


def test_another_target_counts_for_what_looks_at_it(shop: Shop) -> None:
    assert shop.sql("where") == "select 'dev' as at"
    settings = DbtSettings(shop.root, shop.root / ".other", target="prod", runner="warm")
    with closing(open_builder(settings)) as builder:
        there = identified(builder.load().project, shop.store, builder.render)
    assert changed(shop.before, there) == {"where"}


def test_secrets_of_a_profile_are_in_no_identity(tmp_path: Path) -> None:
    write_project(tmp_path, {"profiles.yml": PROFILE})
    settings = DbtSettings(tmp_path, tmp_path, env={"DBT_HOST": "here", "DBT_PASSWORD": "secret"})
    assert settings.given_target() == {
        "name": "dev",
        "output": {"type": "postgres", "host": "{{ env_var('DBT_HOST') }}"},
        "env": {"DBT_HOST": "here"},
    }


def test_who_only_looks_records_nothing_and_sees_the_same(shop: Shop) -> None:
    known = dict(shop.store._known)
    path, text = "models/base.sql", (shop.root / "models/base.sql").read_text(encoding="utf-8")
    shop.write(path, text.replace("id != 3", "id != {{ 3 }}"))
    shop.asked = set()
    seen = recognised(shop.builder.load().project, shop.store, shop.render)
    assert not changed(shop.before, seen)
    assert shop.asked == {"base"}
    assert shop.store._known == known
    shop.write(path, text)


def test_a_new_dbt_renders_again_and_rebuilds_nothing(shop: Shop) -> None:
    parsed = shop.builder.load().project
    newer = Project(parsed.graph, parsed.name, parsed.adapter, (), {"dbt": "99.0"}, parsed.inputs, parsed.texts)
    shop.asked = set()
    assert not changed(shop.before, identified(newer, shop.store, shop.render))
    assert {"base", "total", "grows", "kept"} < shop.asked


def test_states_that_a_new_dbt_renders_apart_share_their_identity_no_longer(shop: Shop) -> None:
    def render(wanted: Mapping[str, Inputs]) -> dict[str, Rendered]:
        """The dbt to come: it limits snapshots, and what is written with braces."""
        found = shop.builder.render(wanted)
        limited = {name for name in found if name.endswith(".kept") or (braces and name.endswith(".grows"))}
        return {
            name: Rendered(f"{it.sql} limit 5", it.again and f"{it.again} limit 5") if name in limited else it
            for name, it in found.items()
        }

    def newer() -> Project:
        return identified(replace(parsed, meta={"dbt": "100.0"}), shop.store, render)

    shop.write("models/grows.sql", FILES["models/grows.sql"])
    shop.before = shop.look()
    assert shop.edited("models/grows.sql", "where id > 1", "where id > {{ 1 + 0 }}") == set()
    braces, parsed = True, shop.builder.load().project
    there = newer()
    assert changed(shop.before, there) == {"grows"}  # `kept` shares with nobody: its inputs are what they were
    assert not changed(there, newer())
    shop.write("models/grows.sql", FILES["models/grows.sql"])
    braces, parsed = False, shop.builder.load().project
    assert changed(there, newer()) == {"grows"}  # what the braces built is no such table


def test_another_sqlglot_rebuilds_nothing_and_hides_no_edit(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    def otherwise(text: str, adapter: str) -> str:
        """The analysis as a version may write it down that sees the same in the text."""
        body = json.loads(written(text, adapter))
        if "base" in body:
            body |= {"base": body["base"] + "'", "columns": [[name, f"{of}'"] for name, of in body["columns"]]}
        return json.dumps(body)

    written = apart._written
    monkeypatch.setattr(apart, "_written", otherwise)
    monkeypatch.setattr(identify, "same_sql", lambda *texts: False)
    assert not changed(shop.before, shop.look())
    assert shop.edited("models/total.sql", "sum(cents)", "max(cents)") == {"total"}
    assert shop.edited("models/total.sql", "max(cents)", "sum(cents)") == {"total"}
    monkeypatch.undo()  # and back to the version before
    assert not changed(shop.before, shop.look())
