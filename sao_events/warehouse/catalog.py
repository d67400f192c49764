"""Which relations are there: one question to the catalog of a warehouse for each schema, and what its answers say.

DuckDB: `information_schema.tables`, which spans attached databases. PostgreSQL: `pg_class`, for `information_schema`
leaves out what the role has no rights on, and materialized views. Each answer also says that the database was found: no
rows in a database that is not attached, or is another one, say nothing about what is in it. Other adapters are not
asked: what their catalogs leave out, and when, was not measured.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from sao_events.ports import Answer

Name = tuple[str, str, str]  # database, schema, identifier, as the warehouse compares them
SUPPORTED = frozenset({"duckdb", "postgres"})
MOST = 1_000_000  # rows of an answer: one that has them all may lack some
KINDS = {"r": "table", "p": "table", "f": "table", "v": "view", "m": "materialized view"}
_PART = re.compile(r'"((?:[^"]|"")+)"|([^".\s]+)')
_DUCKDB = """select table_catalog, table_schema, table_name, case table_type when 'VIEW' then 'view' else 'table' end
from information_schema.tables where lower(table_catalog) = {database} and lower(table_schema) = {schema}
union all
select database_name, null, null, 'database' from duckdb_databases() where lower(database_name) = {database}"""
_POSTGRES = """select current_database()::text, n.nspname::text, c.relname::text, c.relkind::text
from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
where n.nspname = {schema} and c.relkind in ('r', 'p', 'f', 'v', 'm') and current_database() = {database}
union all select current_database()::text, null, null, 'database'"""


@dataclass(frozen=True, slots=True)
class Question:
    """What to ask to see `relations`, which share a database and a schema: names as dbt writes them, as the warehouse
    compares them.
    """

    statement: str
    relations: Mapping[str, Name]


def name_of(relation: str, adapter: str) -> Name | None:
    """The relation that dbt writes as `relation`, as the warehouse compares names; None for what has no three parts.

    DuckDB compares without regard to case, quoted or not; PostgreSQL takes unquoted names as lower case.
    """
    parts, at = [], 0
    while found := _PART.match(relation, at):
        quoted, bare = found.groups()
        name = quoted.replace('""', '"') if quoted is not None else bare
        parts.append(name.lower() if adapter == "duckdb" or quoted is None else name)
        at = found.end() + 1
        if relation[found.end() : at] != ".":
            break
    return (parts[0], parts[1], parts[2]) if len(parts) == 3 and at > len(relation) else None


def questions(relations: Iterable[str], adapter: str) -> list[Question]:
    """One question for each schema that `relations` are in. What cannot be asked about is left out: a name that is not
    understood, a database in memory, which is another one in each process, and all of an adapter that is not supported.
    """
    if adapter not in SUPPORTED:
        return []
    schemas: dict[tuple[str, str], dict[str, Name]] = {}
    for relation in relations:
        name = name_of(relation, adapter)
        if name is not None and not (adapter == "duckdb" and name[0] == "memory"):
            schemas.setdefault(name[:2], {})[relation] = name
    form = _DUCKDB if adapter == "duckdb" else _POSTGRES
    return [
        Question(form.format(database=_text(database), schema=_text(schema)), names)
        for (database, schema), names in schemas.items()
    ]


def seen(asked: Sequence[Question], answers: Sequence[Answer], adapter: str) -> dict[str, str | Literal[False]]:
    """For each relation that was asked about and answered for: the kind of what is there under its name (`table`,
    `view`, `materialized view`), or False for nothing. An error, an answer that may lack rows, and a database that was
    not found are no answer.
    """
    found: dict[str, str | Literal[False]] = {}
    for question, answer in zip(asked, answers, strict=True):
        names = set(question.relations.values())
        database = {name[0] for name in names}
        there = [tuple(_folded(value, adapter) for value in row) for row in answer.rows]
        if answer.error is not None or len(there) >= MOST:
            continue
        if not any(row[3] == "database" and row[0] in database for row in there):
            continue
        kinds = {row[:3]: row[3] for row in there if row[3] != "database"}
        for relation, name in question.relations.items():
            kind = kinds.get(name)
            found[relation] = False if kind is None else KINDS.get(kind, kind)
    return found


def _folded(value: object, adapter: str) -> str:
    text = "" if value is None else str(value)
    return text.lower() if adapter == "duckdb" else text


def _text(value: str) -> str:
    """As a literal of SQL; a percent sign is doubled for no driver, as nothing is bound to the statement."""
    return "'" + value.replace("'", "''") + "'"
