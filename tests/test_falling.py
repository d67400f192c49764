"""Which builds take the views on a relation along, measured with dbt-postgres on a real PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from sao_events.core.falling import replaced
from tests.imported_dbt import said
from tests.oracle.database import PostgresDatabase
from tests.oracle.postgres import missing, server
from tests.oracle.scratch import Dbt

pytestmark = [
    pytest.mark.dbt,
    pytest.mark.slow,
    pytest.mark.skipif(missing() is not None, reason=missing() or ""),
]
KINDS = ("table", "incremental", "view", "materialized_view", "seed", "snapshot")
PROFILES = """
falling:
  target: dev
  outputs:
    dev:
      {type: postgres, host: "{{ env_var('ORACLE_HOST') }}", port: "{{ env_var('ORACLE_PORT') | int }}",
       user: postgres, password: "", dbname: "{{ env_var('ORACLE_DB') }}", schema: public, threads: 1}
"""
FILES = {
    "dbt_project.yml": "name: falling\nprofile: falling\nflags: {send_anonymous_usage_stats: false}\n",
    "profiles.yml": PROFILES,
    "seeds/seed.csv": "id\n1\n",
    "models/base.sql": "select 1 as id",
    "snapshots/snapshot.yml": "snapshots: [{name: snapshot, relation: ref('base'), "
    "config: {unique_key: id, strategy: check, check_cols: all, schema: public}}]\n",
    **{
        f"models/{kind}.sql": f"{{{{ config(materialized='{kind}') }}}} select 1 as id"
        for kind in ("table", "incremental", "view", "materialized_view")
    },
    **{f"models/on_{kind}.sql": f"select id from {{{{ ref('{kind}') }}}}" for kind in KINDS},
    **{f"models/far_{kind}.sql": f"select id from {{{{ ref('on_{kind}') }}}}" for kind in KINDS},
}


class Shop:
    """A relation of each kind, a view on each, and a view on that view."""

    def __init__(self, folder: Path, dbt: Dbt, database: PostgresDatabase) -> None:
        self.folder, self.dbt, self.database = folder, dbt, database
        for name, text in FILES.items():
            file = folder / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text, encoding="utf-8")

    def build(self, *arguments: str) -> None:
        """Run `dbt build`, which must succeed."""
        assert self.dbt(self.folder, ["build", *arguments], self.database.env) == 0, said(self.folder)

    def views(self, kind: str) -> set[str]:
        """The views on the relation of this kind that are there."""
        found = self.database.execute("select viewname from pg_views where schemaname = 'public'")
        return {name for (name,) in found} & {f"on_{kind}", f"far_{kind}"}

    def fallen(self, *arguments: str) -> set[str]:
        """The kinds of relations whose views go when they are built anew; all or none of them do."""
        self.build()
        assert all(self.views(kind) == {f"on_{kind}", f"far_{kind}"} for kind in KINDS)
        self.build("--select", *KINDS, *arguments)
        left = {kind: self.views(kind) for kind in KINDS}
        assert all(views in (set(), {f"on_{kind}", f"far_{kind}"}) for kind, views in left.items()), left
        return {kind for kind, views in left.items() if not views}


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    with server() as postgres, closing(Dbt()) as dbt:
        yield Shop(tmp_path_factory.mktemp("falling"), dbt, PostgresDatabase(postgres, "falling"))


def test_a_build_takes_the_views_along_where_the_table_says_always(shop: Shop) -> None:
    assert shop.fallen() == {kind for kind in KINDS if replaced("postgres", kind) == "always"}


def test_a_full_refresh_takes_them_along_except_where_it_says_never(shop: Shop) -> None:
    assert shop.fallen("--full-refresh") == {kind for kind in KINDS if replaced("postgres", kind) != "never"}
