"""The content hash, on the real DuckDB and PostgreSQL: equal exactly where columns, types and the rows with their
number are.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Any

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sao_events.dbt.content import NotHashedError, Relation, content_hash
from tests.oracle.postgres import missing, server

EXAMPLES = int(os.environ.get("SAO_CONTENT_EXAMPLES", "60"))
TEXTS = ["null", "''", "'NULL'", "'null'", "'~'", "'a'", "'A'", "'ab'", "'a '", "'a,'", "',~'", "'1'", "'1:a'", "'é'"]

# Values of a type that are all different for some reader, as SQL literals.
BOTH: dict[str, list[str]] = {
    "integer": ["null", "0", "1", "-1", "10"],
    "boolean": ["null", "true", "false"],
    "varchar": TEXTS,
    "decimal(10,2)": ["null", "0", "1", "0.1", "0.01", "-0.01", "99999999.99"],
    "date": ["null", "'2026-01-01'", "'2026-01-02'", "'0044-03-15 (BC)'", "'infinity'"],
    "time": ["null", "'00:00:00'", "'00:00:00.000001'", "'23:59:59'"],
    "timestamp": ["null", "'2026-01-01 00:00:00'", "'2026-01-01 00:00:00.000001'", "'infinity'", "'-infinity'"],
    "uuid": ["null", "'00000000-0000-0000-0000-000000000000'", "'00000000-0000-0000-0000-000000000001'"],
    "interval": ["null", "'1 month'", "'30 days'", "'720 hours'", "'-1 month'", "'29 days 24 hours'"],
}
FLOATS = ["null", "'0.0'", "'-0.0'", "'nan'", "'infinity'", "'-infinity'", "1", "1.0000000000000002", "1e300"]
ZONED = ["null", "'2026-01-01 12:00:00+00'", "'2026-01-01 12:00:00+02'", "'infinity'", "'-infinity'"]
LISTS = ["null", "{}", "{null}", "{''}", "{'NULL'}", "{'a','b'}", "{'b','a'}", "{'ab'}", "{'a, b'}", "{'a',null}"]
VALUES: dict[str, dict[str, list[str]]] = {
    "duckdb": BOTH
    | {
        "double": FLOATS,
        "float": ["null", "'-0.0'", "0", "'nan'", "16777216", "16777218"],
        "hugeint": ["null", "0", "170141183460469231731687303715884105727"],
        "timestamptz": ZONED,
        "timetz": ["null", "'12:00:00+00'", "'12:00:00+02'", "'14:00:00+02'"],
        "timestamp_ns": ["null", "'2026-01-01 00:00:00'", "'2026-01-01 00:00:00.000000001'"],
        "blob": ["null", "''", "'\\x00'", "'\\x00\\x00'", "'00'", "'a'", "'A'"],
        "bit": ["null", "'0'", "'00'", "'1'"],
        "json": ["null", "'null'", "'1'", "'1.0'", "'\"1\"'"],
        "enum('a','b')": ["null", "'a'", "'b'"],
        "varchar[]": [text.replace("{", "[").replace("}", "]") for text in LISTS],
        "integer[][]": ["null", "[]", "[[]]", "[null]", "[[null]]", "[[1],[2]]", "[[1,2]]", "[[1,2],[]]", "[[],[1,2]]"],
        "integer[2]": ["null", "[1,2]", "[2,1]", "[null,1]"],
        'struct(a integer, "b ""c" varchar)': [
            "null",
            "row(null,null)",
            "row(1,null)",
            "row(null,'1')",
            "row(1,'')",
            "row(1,'1')",
            "row(11,'')",
        ],
        "struct(s struct(x varchar), y varchar[])": [
            "row(null,null)",
            "row(row(null),null)",
            "row(row('a'),['b'])",
            "row(row('ab'),[])",
            "row(row(''),['a','b'])",
        ],
        "map(varchar, integer)": ["null", "map{}", "map{'a':1}", "map{'a':null}", "map{'b':1}", "map{'a':1,'b':2}"],
    },
    "postgres": BOTH
    | {
        "float8": FLOATS,
        "float4": ["null", "'-0.0'", "0", "'nan'", "16777216", "16777218"],
        "numeric": ["null", "1", "1.0", "1.00", "'nan'", "1e30"],
        "timestamptz": ZONED,
        "timetz": ["null", "'12:00:00+00'", "'12:00:00+02'", "'14:00:00+02'"],
        "bytea": ["null", "''", "'\\x00'", "'\\x0000'", "'\\x6100'", "'\\x61'"],
        "char(3)": ["null", "''", "'a'", "'A'"],
        "jsonb": ["null", "'null'", "'1'", "'1.0'", "'\"1\"'", "'{}'", "'[]'", "'{\"a\":null}'"],
        "json": ["null", "'{}'", "'{ }'"],
        "varbit": ["null", "'0'", "'00'", "'1'"],
        "text[]": [
            "null",
            *("'" + text.replace("''", '""').replace("'", '"').replace('""', '""') + "'" for text in LISTS[1:]),
            '\'[0:1]={"a","b"}\'',
        ],
        "integer[]": ["null", "'{}'", "'{{1,2}}'", "'{1,2}'", "'{{1},{2}}'", "'{12}'"],
    },
}


@dataclass
class Warehouse:
    """One relation of a database, made again and again."""

    adapter: str
    connection: Any

    def ask(self, sql: str) -> Sequence[Sequence[Any]]:
        with closing(self.connection.cursor()) as cursor:
            cursor.execute(sql)
            return list(cursor.fetchall())

    def run(self, sql: str) -> None:
        with closing(self.connection.cursor()) as cursor:
            cursor.execute(sql)

    def hash(self) -> str:
        database, schema = self.ask("select current_database(), current_schema()")[0]
        return content_hash(self.ask, self.adapter, Relation(f'"{schema}"."t"', database, schema, "t"))

    def made(self, columns: Sequence[tuple[str, str]], rows: Sequence[Sequence[str]]) -> str:
        """The hash of a table with these columns and rows, values given as literals."""
        self.run("drop table if exists t")
        self.run(f"create table t ({', '.join(f'{name} {kind}' for name, kind in columns)})")
        if rows:
            casts = [[f"cast({value} as {columns[i][1]})" for i, value in enumerate(row)] for row in rows]
            self.run("insert into t values " + ", ".join(f"({', '.join(row)})" for row in casts))
        return self.hash()

    def of(self, sql: str) -> str:
        """The hash of a table with the rows of a query."""
        self.run("drop table if exists t")
        self.run(f"create table t as {sql}")
        return self.hash()


@pytest.fixture(scope="module", params=["duckdb", "postgres"])
def warehouse(request: pytest.FixtureRequest) -> Iterator[Warehouse]:
    if request.param == "duckdb":
        with duckdb.connect() as connection:
            yield Warehouse("duckdb", connection)
        return
    if reason := missing():
        pytest.skip(reason)
    with server() as running, closing(running.connect()) as connection:
        yield Warehouse("postgres", connection)


def test_every_two_values_of_a_type_are_told_apart(warehouse: Warehouse) -> None:
    for kind, values in VALUES[warehouse.adapter].items():
        found = {value: warehouse.made([("a", kind)], [[value]]) for value in values}
        assert len(set(found.values())) == len(values), (kind, found)


@st.composite
def tables(draw: st.DrawFn, adapter: str) -> tuple[list[tuple[str, str]], list[list[list[str]]]]:
    """Columns, and the rows of two tables with them that are often the same in another order, or nearly so."""
    kinds = draw(st.lists(st.sampled_from(list(VALUES[adapter])), min_size=1, max_size=4))
    row = st.tuples(*(st.sampled_from(VALUES[adapter][kind]) for kind in kinds)).map(list)
    one = draw(st.lists(row, max_size=6))
    other = draw(st.one_of(st.permutations(one), st.permutations([*one, *one]), st.lists(row, max_size=6)))
    if other and draw(st.booleans()):
        other = [*other[:-1], draw(row)]
    return [(f"c{i}", kind) for i, kind in enumerate(kinds)], [one, other]


def test_hashes_are_equal_exactly_where_the_rows_and_their_number_are(warehouse: Warehouse) -> None:
    @settings(max_examples=EXAMPLES, deadline=None, database=None)
    @given(tables(warehouse.adapter))
    def check(drawn: tuple[list[tuple[str, str]], list[list[list[str]]]]) -> None:
        columns, (one, other) = drawn
        same = Counter(map(tuple, one)) == Counter(map(tuple, other))
        assert (warehouse.made(columns, one) == warehouse.made(columns, other)) is same

    check()


DIFFERENT = {
    "where a text ends": ("select 'a' as a, 'bc' as b", "select 'ab' as a, 'bc' as b", "select 'ab' as a, 'c' as b"),
    "which column is null": (
        "select 'a' as a, null::varchar as b",
        "select null::varchar as a, 'a' as b",
        "select 'a' as a, '' as b",
        "select 'a' as a, 'NULL' as b",
    ),
    "types": (
        "select 1::integer as a",
        "select 1::bigint as a",
        "select '1'::varchar as a",
        "select 1::decimal(9,0) as a",
        "select 1::decimal(9,1) as a",
        "select 1::decimal(10,0) as a",
        "select true as a",
        "select 1::real as a",
    ),
    "names of columns": ("select 1 as a", 'select 1 as "A"', 'select 1 as "a "', 'select 1 as "a""b"'),
    "order of columns": ("select 1 as a, 1 as b", "select 1 as b, 1 as a"),
    "number of columns": ("select 1 as a", "select 1 as a, null::integer as b", "select 1 as a, 1 as b"),
    "how often": (
        "select 1 as a where false",
        "select 1 as a",
        "select 1 as a union all select 1",
        "select 1 as a union all select 1 union all select 1",
        "select 1 as a union all select 1 union all select 2 union all select 2",
        "select 1 as a union all select 2",
        "select 2 as a union all select 2",
    ),
    "an empty table of other types": ("select 1 as a where false", "select 'x'::varchar as a where false"),
    "values that change places": (
        "select 1 as a, 2 as b union all select 3, 4",
        "select 1 as a, 4 as b union all select 3, 2",
        "select 2 as a, 1 as b union all select 4, 3",
    ),
}


@pytest.mark.parametrize("what", DIFFERENT)
def test_what_differs_is_told_apart(warehouse: Warehouse, what: str) -> None:
    found = [warehouse.of(sql) for sql in DIFFERENT[what]]
    assert len(set(found)) == len(found), found


def test_the_order_of_rows_and_how_they_are_stored_make_no_difference(warehouse: Warehouse) -> None:
    rows = {"duckdb": "range(5000) r(i)", "postgres": "generate_series(0, 4999) r(i)"}[warehouse.adapter]
    query = f"select i as a, 'n' || (i % 7) as b from {rows} order by {{}}"
    first = warehouse.of(query.format("i"))
    assert warehouse.of(query.format("i % 7, i desc")) == first
    warehouse.run("insert into t values (-1, 'x')")
    assert warehouse.hash() != first
    warehouse.run("delete from t where a = -1")
    assert warehouse.hash() == first
    warehouse.run("update t set b = 'N6' where a = 6")
    assert warehouse.hash() != first


def test_what_is_set_in_a_session_makes_no_two_tables_the_same(warehouse: Warehouse) -> None:
    zone = "set timezone = '{}'" if warehouse.adapter == "postgres" else "set TimeZone = '{}'"
    instants = ["2026-10-25 00:30:00+00", "2026-10-25 01:30:00+00"]  # the same hour twice on the clocks of Berlin
    with _setting(warehouse, zone.format("Europe/Berlin"), zone.format("UTC")):
        found = [warehouse.made([("a", "timestamptz")], [[f"'{instant}'"]]) for instant in instants]
    assert len(set(found)) == 2
    assert found == [warehouse.made([("a", "timestamptz")], [[f"'{instant}'"]]) for instant in instants]
    if warehouse.adapter == "postgres":
        with _setting(warehouse, "set extra_float_digits = -15", "reset extra_float_digits"):
            assert warehouse.of("select 1.1::float8 as a") != warehouse.of("select 1.2::float8 as a")


@contextmanager
def _setting(warehouse: Warehouse, before: str, after: str) -> Iterator[None]:
    warehouse.run(before)
    try:
        yield
    finally:
        warehouse.run(after)


NOT_HASHED = {
    "duckdb": {
        "create view t as select 1 as a": "no table",
        "create table t (a union(x integer, y varchar))": "type UNION",
        "create table t (a varchar collate nocase)": "collation",
        "create table t (a struct(x struct(y union(z integer, w integer)))[])": "type UNION",
        "select 1": "no table",
    },
    "postgres": {
        "create view t as select 1 as a": "no table",
        "create table t (a point)": "type point",
        "create table t (a int4range)": "type int4range",
        "create domain odd as integer; create table t (a odd)": "type odd",
        "create type mood as enum ('sad', 'ok'); create table t (a mood)": "type mood",
        "create type pair as (x integer, y text); create table t (a pair[])": "type pair",
        "create table t (a integer); alter table t enable row level security": "all of its rows",
        "select 1": "not there",
    },
}


def test_what_may_not_be_known_has_no_hash(warehouse: Warehouse) -> None:
    clean = "drop table if exists t; drop domain if exists odd; drop type if exists mood; drop type if exists pair"
    for sql, why in NOT_HASHED[warehouse.adapter].items():
        warehouse.run("drop table if exists t" if warehouse.adapter == "duckdb" else clean)
        warehouse.run(sql)
        with pytest.raises(NotHashedError, match=why):
            warehouse.hash()
        if " view " in sql:
            warehouse.run("drop view t")
    with pytest.raises(NotHashedError, match="snowflake"):
        content_hash(warehouse.ask, "snowflake", Relation("t", "", "", "t"))


def test_another_collation_is_another_content(warehouse: Warehouse) -> None:
    if warehouse.adapter == "postgres":
        one = warehouse.of("""select 'a'::text collate "C" as a""")
        assert one != warehouse.of("select 'a'::text as a")
