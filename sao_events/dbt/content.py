"""The content hash of a relation, computed in the warehouse: equal hashes stand for the same columns in the same order,
of the same types, and the same rows, each as often, in whatever order.

Each row becomes one text that no other row has, of that the MD5, and the halves of all of them are added up apart from
the number of rows: a row that is there twice counts twice. What tells two values apart tells their texts apart: null,
an empty text and 'NULL', 1.0 and 1.00, 0.0 and -0.0, upper and lower case. A type of which that is not known makes no
hash, nor does a view. Only for DuckDB and PostgreSQL.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

from sao_events.core.lineage import digest

Ask = Callable[[str], Sequence[Sequence[Any]]]
VERSION = "1"  # of what is hashed: another makes other hashes of the same rows
DEEPEST = 8  # types within types

# What DuckDB writes of a value of these is another text for another value, without a comma in it.
DUCKDB_PLAIN = frozenset(
    """BOOLEAN TINYINT SMALLINT INTEGER BIGINT HUGEINT UTINYINT USMALLINT UINTEGER UBIGINT UHUGEINT FLOAT DOUBLE DATE
    TIME TIME_NS TIMESTAMP TIMESTAMP_S TIMESTAMP_MS TIMESTAMP_NS INTERVAL UUID BIT""".split()
) | {"TIME WITH TIME ZONE"}
# What PostgreSQL sends of a value of these is other bytes for another value, whatever is set in the session.
POSTGRES_TYPES = frozenset(
    """bool bytea char name int2 int4 int8 float4 float8 numeric text varchar bpchar date time timetz timestamp
    timestamptz interval uuid json jsonb bit varbit inet cidr macaddr macaddr8 oid money""".split()
)

DUCKDB_COLUMNS = """
select c.column_name, c.data_type, t.sql from duckdb_tables() t join duckdb_columns() c using (table_oid, database_oid)
where lower(t.database_name) = lower({database}) and lower(t.schema_name) = lower({schema})
and lower(t.table_name) = lower({name}) order by c.column_index"""
POSTGRES_COLUMNS = """
select a.attname::text, format_type(a.atttypid, a.atttypmod), e.typname::text, n.nspname::text,
c.relkind::text, c.relrowsecurity, a.attgenerated::text,
coalesce(quote_ident(m.nspname) || '.' || quote_ident(l.collname), '')
from pg_class c join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
join pg_type t on t.oid = a.atttypid
join pg_type e on e.oid = case when t.typcategory = 'A' and t.typelem <> 0 then t.typelem else t.oid end
join pg_namespace n on n.oid = e.typnamespace
left join pg_collation l on l.oid = a.attcollation left join pg_namespace m on m.oid = l.collnamespace
where c.oid = to_regclass({relation}) order by a.attnum"""


class NotHashedError(Exception):
    """Why there is no content hash."""


class Relation(NamedTuple):
    """A relation: as SQL names it, and the parts of its name."""

    sql: str
    database: str
    schema: str
    name: str


def content_hash(ask: Ask, adapter: str, relation: Relation) -> str:
    """The hash, 32 hexadecimal digits. `ask` puts SQL to the warehouse. Raises NotHashedError, and what `ask` does.
    Relations of different names have different hashes.
    """
    if adapter not in HASHED:
        raise NotHashedError(f"nothing is known of how {adapter} could hash it")
    columns, row = HASHED[adapter](ask, relation)
    count, hashed, high, low = ask(f"select count(*), count(h), {row}")[0]
    if int(count) != int(hashed):
        raise NotHashedError("some of its rows have a value that cannot be hashed")
    names = [part for column in columns for part in column]
    return digest(VERSION, adapter, *relation, str(len(columns)), *names, str(count), str(high), str(low))


def _duckdb(ask: Ask, relation: Relation) -> tuple[list[tuple[str, str]], str]:
    given = {"database": relation.database, "schema": relation.schema, "name": relation.name}
    found = ask(DUCKDB_COLUMNS.format(**{key: _text(value) for key, value in given.items()}))
    if not found:
        raise NotHashedError("it is no table")
    if re.search(r"\bcollate\b", str(found[0][2]), re.IGNORECASE):
        raise NotHashedError("it has a collation")
    columns = [(str(name), str(kind)) for name, kind, _ in found]
    cells = [_duckdb_cell(f"sao_row.{_name(name)}", kind, 0) for name, kind in columns]
    rows = f"select md5_number({' || '.join(cells)})::uhugeint as h from {relation.sql} as sao_row"  # noqa: S608 (names are quoted)
    sums = "sum((h >> 64)::ubigint), sum((h & 18446744073709551615)::ubigint)"
    return columns, f"{sums} from ({rows}) as hashed"


def _duckdb_cell(value: str, kind: str, depth: int) -> str:
    """SQL for a text that tells the value apart from every other, null included, and that no other of them begins
    with.
    """
    return f"case when {value} is null then '~' else {_duckdb_value(value, kind, depth)} end"


def _duckdb_value(value: str, kind: str, depth: int) -> str:
    if depth > DEEPEST:
        raise NotHashedError("its types are too deep")
    if kind in DUCKDB_PLAIN or re.fullmatch(r"DECIMAL\(\d+, ?\d+\)", kind):
        return f"{value}::varchar || ','"
    if kind == "TIMESTAMP WITH TIME ZONE":  # as text it depends on what is set; infinite ones have no number
        return f"coalesce(epoch_us({value})::varchar, {value}::varchar) || ','"
    if kind in {"VARCHAR", "JSON"} or re.fullmatch(r"ENUM\(.*\)", kind, re.DOTALL):
        return f"strlen({value}::varchar)::varchar || ':' || {value}::varchar"
    if kind == "BLOB":
        return f"hex({value}) || ','"
    if array := re.fullmatch(r"(.*)\[\d*\]", kind, re.DOTALL):
        item = f"sao_item_{depth}"
        each = _duckdb_cell(item, array[1], depth + 1)
        return f"len({value})::varchar || '[' || coalesce(array_to_string([{each} for {item} in {value}], ''), '')"
    if fields := re.fullmatch(r"STRUCT\((.*)\)", kind, re.DOTALL):
        named = [_field(part) for part in _split(fields[1])]
        cells = [_duckdb_cell(f"struct_extract({value}, {_text(name)})", inner, depth + 1) for name, inner in named]
        return " || ".join(["'('", *cells])
    if entries := re.fullmatch(r"MAP\((.*)\)", kind, re.DOTALL):
        key, item = _split(entries[1])
        return _duckdb_value(f"map_entries({value})", f'STRUCT("key" {key}, "value" {item})[]', depth)
    raise NotHashedError(f"it has a column of the type {kind}")


def _split(text: str) -> list[str]:
    """The parts of a list of types or fields, cut at commas outside brackets and quotes."""
    parts, depth = [""], 0
    for piece in re.findall(r"\"(?:[^\"]|\"\")*\"|'(?:[^']|'')*'|.", text, re.DOTALL):
        depth += (piece in "([") - (piece in ")]")
        if piece == "," and not depth:
            parts.append("")
        else:
            parts[-1] += piece
    return [part.strip() for part in parts]


def _field(text: str) -> tuple[str, str]:
    """The name and type of a field of a struct."""
    found = re.fullmatch(r"(\"(?:[^\"]|\"\")*\"|[^\s\"]+) (.*)", text, re.DOTALL)
    if found is None:
        raise NotHashedError("it has a struct without names")
    name = found[1]
    return (name[1:-1].replace('""', '"') if name.startswith('"') else name), found[2]


def _postgres(ask: Ask, relation: Relation) -> tuple[list[tuple[str, str]], str]:
    found = ask(POSTGRES_COLUMNS.format(relation=_text(relation.sql)))
    if not found:
        raise NotHashedError("it is not there")
    columns = []
    for name, kind, element, schema, relkind, secured, generated, collation in found:
        if relkind not in ("r", "p", "m"):
            raise NotHashedError("it is no table")
        if secured:
            raise NotHashedError("who asks may not see all of its rows")
        if schema != "pg_catalog" or element not in POSTGRES_TYPES or generated == "v":
            raise NotHashedError(f"it has a column of the type {kind}")
        columns.append((str(name), f"{kind} {collation}"))
    rows = f"select md5(record_send(sao_row)) as h from {relation.sql} as sao_row offset 0"  # noqa: S608 (dbt's own name)
    halves = (f"sum(('x' || substr(h, {start}, 16))::bit(64)::bigint)" for start in (1, 17))
    return columns, f"{', '.join(halves)} from ({rows}) as hashed"


HASHED: Mapping[str, Callable[[Ask, Relation], tuple[list[tuple[str, str]], str]]] = {
    "duckdb": _duckdb,
    "postgres": _postgres,
}


def _text(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"


def _name(value: str) -> str:
    return '"' + value.replace('"', '""') + '"'


def told(runner: Any, model: Any, limit: float) -> dict[str, Any]:
    """What there is to tell of a node that `runner`, dbt's own, has just built: its `content`, or why it is `unhashed`,
    and how many seconds were spent on it, no more than `limit`.
    """
    started, adapter, late = time.perf_counter(), runner.adapter, list[bool]()
    made = adapter.Relation.create_from(runner.config, model)
    relation = Relation(made.render(), *(str(part or "") for part in (made.database, made.schema, made.identifier)))
    try:
        if str(getattr(model.config, "incremental_strategy", None)) == "microbatch":
            raise NotHashedError("it is built in batches")
        with _within(adapter, limit, late):
            found = {"content": content_hash(lambda sql: _rows(adapter, sql), adapter.type(), relation)}
    except Exception as error:  # noqa: BLE001 (whatever a driver raises: nothing that a build depends on)
        why = f"it takes more than {limit:g} seconds" if late else " ".join(str(error).split())[:300]
        found = {"unhashed": why or type(error).__name__}
    return {**found, "hashing": round(time.perf_counter() - started, 6)}


def _rows(adapter: Any, sql: str) -> list[Any]:
    _, cursor = adapter.connections.add_query(sql, auto_begin=False)
    return list(cursor.fetchall())


@contextmanager
def _within(adapter: Any, limit: float, late: list[bool]) -> Iterator[None]:
    """Stop what the adapter's connection is asked after `limit` seconds; then `late` is no longer empty."""
    handle, lock = adapter.connections.get_thread_connection().handle, threading.Lock()
    done = False

    def stop() -> None:
        with lock:
            if not done:
                late.append(True)
                handle.cancel() if hasattr(handle, "cancel") else handle.cursor().interrupt()

    timer = threading.Timer(limit, stop)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        with lock:
            done = True
        timer.cancel()
