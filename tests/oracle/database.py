"""The warehouse of a history, as its loader and the comparison use it: DuckDB in a file, or a PostgreSQL database."""

from __future__ import annotations

import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any, Protocol

import duckdb

from tests.oracle.postgres import PostgresServer

LOCK_SIGNS = ("Could not set lock", "being used by another process")
PATIENCE = 60.0
SCRATCH = "_scratch"  # follows a database's name in that of its copy
KINDS = {"r": "table", "v": "view", "m": "materialized view"}
SYSTEM = "('raw', 'pg_catalog', 'information_schema', 'pg_toast')"
Execute = Callable[..., list[tuple[Any, ...]]]


@dataclass(frozen=True)
class Table:
    """What a relation holds: columns with their types in order, rows in none. `error`: why it cannot be read."""

    columns: tuple[tuple[str, str], ...] = ()
    rows: Counter[tuple[Any, ...]] = field(default_factory=Counter)
    error: str | None = None

    def difference(self, other: Table, most: int = 5) -> str:
        """What this one has that `other` lacks, and the reverse."""
        if self.error or other.error:
            return f"{self.error or 'there'} / {other.error or 'there'}"
        if self.columns != other.columns:
            return f"columns {self.columns} / {other.columns}"
        here, there = self.rows - other.rows, other.rows - self.rows
        return f"only here {len(here)}: {list(here)[:most]}; only there {len(there)}: {list(there)[:most]}"


class Database(Protocol):
    """A warehouse. `execute` runs one statement in a transaction of its own, waiting while a file is locked."""

    adapter: str
    env: dict[str, str]

    def execute(self, sql: str, values: Iterable[Any] = ()) -> list[tuple[Any, ...]]:
        """The rows that a statement gives."""

    def session(self) -> Any:
        """A context in which several statements make one transaction; it gives what runs them."""

    def drop(self, schema: str, name: str) -> None:
        """Remove a relation, whatever it is, with what depends on it."""

    def table(self, schema: str, name: str) -> Table:
        """What a relation holds."""

    def scratch_env(self, folder: Path) -> dict[str, str]:
        """The `env` of the copy that `scratch` makes in `folder`."""

    def scratch(self, folder: Path, keep: Iterable[tuple[str, str]]) -> Database:
        """A copy that holds the raw tables and those of `keep`, nothing else."""

    def remove(self) -> None:
        """Delete it."""


class DuckDatabase:
    """A DuckDB file, opened only while something is done."""

    adapter = "duckdb"

    def __init__(self, path: Path) -> None:
        self.path, self.env = path, {"ORACLE_DB": str(path)}

    @contextmanager
    def session(self) -> Iterator[Execute]:
        """See `Database.session`."""
        with self._open() as connection:
            connection.begin()
            yield lambda sql, values=(): connection.execute(sql, list(values)).fetchall()
            connection.commit()

    def execute(self, sql: str, values: Iterable[Any] = ()) -> list[tuple[Any, ...]]:
        """See `Database.execute`."""
        with self._open() as connection:
            return connection.execute(sql, list(values)).fetchall()

    def _open(self) -> duckdb.DuckDBPyConnection:
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                return duckdb.connect(str(self.path))
            except duckdb.IOException as error:
                if not any(sign in str(error) for sign in LOCK_SIGNS) or time.monotonic() > deadline:
                    raise
            time.sleep(0.03)

    def drop(self, schema: str, name: str) -> None:
        """See `Database.drop`."""
        with self.session() as execute:
            for kind in _duck_kinds(execute, schema, name):
                execute(f'drop {kind} "{schema}"."{name}"')

    def table(self, schema: str, name: str) -> Table:
        """See `Database.table`."""
        with self._open() as connection:
            try:
                columns = connection.execute(f'describe select * from "{schema}"."{name}"').fetchall()
                rows = connection.execute(f'select * from "{schema}"."{name}"').fetchall()
            except duckdb.Error as error:
                return Table(error=str(error).splitlines()[0])
        return Table(tuple((column[0], column[1]) for column in columns), Counter(rows))

    def scratch_env(self, folder: Path) -> dict[str, str]:
        """See `Database.scratch_env`."""
        return {"ORACLE_DB": str(folder / self.path.name)}

    def scratch(self, folder: Path, keep: Iterable[tuple[str, str]]) -> DuckDatabase:
        """See `Database.scratch`."""
        self.execute("checkpoint")
        copy = DuckDatabase(folder / self.path.name)
        copy.remove()
        shutil.copyfile(self.path, copy.path)
        kept = set(keep)
        with copy.session() as execute:
            found = execute(
                "select table_schema, table_name, table_type from information_schema.tables "
                "where table_schema <> 'raw' and table_catalog = current_database() order by table_type desc"
            )
            for schema, name, kind in found:
                if (schema, name) not in kept:
                    execute(f'drop {"view" if kind == "VIEW" else "table"} "{schema}"."{name}"')
        return copy

    def remove(self) -> None:
        """See `Database.remove`."""
        for path in (self.path, self.path.with_name(f"{self.path.name}.wal")):
            path.unlink(missing_ok=True)


def _duck_kinds(execute: Execute, schema: str, name: str) -> list[str]:
    found = execute(
        "select table_type from information_schema.tables where table_schema = ? and table_name = ?", (schema, name)
    )
    return ["view" if kind == "VIEW" else "table" for (kind,) in found]


class PostgresDatabase:
    """One database of a server."""

    adapter = "postgres"

    def __init__(self, server: PostgresServer, name: str, template: str | None = None) -> None:
        self.server, self.name = server, name
        self.env = {"ORACLE_DB": name, "ORACLE_HOST": server.host, "ORACLE_PORT": str(server.port)}
        self._admin(f'drop database if exists "{name}" with (force)')
        self._admin(f'create database "{name}"' + (f' template "{template}"' if template else ""))

    def _admin(self, statement: str) -> None:
        connection = self.server.connect()
        try:
            connection.cursor().execute(statement)
        finally:
            connection.close()

    @contextmanager
    def session(self) -> Iterator[Execute]:
        """See `Database.session`."""
        connection = self.server.connect(self.name)
        connection.autocommit = False
        try:
            yield lambda sql, values=(): _fetched(connection, sql, values)
            connection.commit()
        finally:
            connection.close()

    def execute(self, sql: str, values: Iterable[Any] = ()) -> list[tuple[Any, ...]]:
        """See `Database.execute`."""
        with self.session() as execute:
            return execute(sql, values)

    def drop(self, schema: str, name: str) -> None:
        """See `Database.drop`."""
        with self.session() as execute:
            for kind in self._kinds(execute, schema, name):
                execute(f'drop {kind} "{schema}"."{name}" cascade')

    def _kinds(self, execute: Execute, schema: str, name: str) -> list[str]:
        found = execute(
            "select c.relkind from pg_class c join pg_namespace n on n.oid = c.relnamespace "
            "where n.nspname = ? and c.relname = ? and c.relkind in ('r', 'v', 'm')",
            (schema, name),
        )
        return [KINDS[kind] for (kind,) in found]

    def table(self, schema: str, name: str) -> Table:
        """See `Database.table`."""
        import psycopg2

        relation = f'"{schema}"."{name}"'
        with self.session() as execute:
            try:
                rows = execute(f"select * from {relation}")
            except psycopg2.Error as error:
                return Table(error=str(error).splitlines()[0])
            columns = execute(
                "select attname, format_type(atttypid, atttypmod) from pg_attribute "
                "where attrelid = ?::regclass and attnum > 0 and not attisdropped order by attnum",
                (relation,),
            )
        return Table(tuple(columns), Counter(rows))

    def scratch_env(self, folder: Path) -> dict[str, str]:
        """See `Database.scratch_env`."""
        return self.env | {"ORACLE_DB": f"{self.name}{SCRATCH}"}

    def scratch(self, folder: Path, keep: Iterable[tuple[str, str]]) -> PostgresDatabase:
        """See `Database.scratch`."""
        self._hang_up()
        copy = PostgresDatabase(self.server, f"{self.name}{SCRATCH}", template=self.name)
        kept = set(keep)
        with copy.session() as execute:
            found = execute(
                "select n.nspname, c.relname from pg_class c join pg_namespace n on n.oid = c.relnamespace "
                f"where c.relkind in ('r', 'v', 'm') and n.nspname not in {SYSTEM}"
            )
            for schema, name in found:
                if (schema, name) not in kept:
                    for kind in copy._kinds(execute, schema, name):
                        execute(f'drop {kind} "{schema}"."{name}" cascade')
        return copy

    def _hang_up(self) -> None:
        """End the sessions of processes that were killed: a database with sessions cannot be copied."""
        self._admin(f"select pg_terminate_backend(pid) from pg_stat_activity where datname = '{self.name}'")
        time.sleep(0.05)

    def remove(self) -> None:
        """See `Database.remove`."""
        self._admin(f'drop database if exists "{self.name}" with (force)')


def _fetched(connection: Any, sql: str, values: Iterable[Any]) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        given = tuple(values)
        cursor.execute(sql.replace("%", "%%").replace("?", "%s") if given else sql, given or None)
        return list(cursor.fetchall()) if cursor.description else []


def create_sources(database: Database, sources: Iterable[str]) -> None:
    """Empty raw tables."""
    with database.session() as execute:
        execute("create schema if not exists raw")
        for source in sources:
            columns = "id integer, amount integer, loaded_at timestamp, load_id varchar(40)"
            execute(f"create table if not exists raw.{source} ({columns})")


def load(database: Database, source: str, rng: Random, load_id: str, at: Any) -> int:
    """One load, in one transaction: some rows change, some are new. How many there are."""
    with database.session() as execute:
        [[known]] = execute(f"select coalesce(max(id), 0) from raw.{source}")
        changed = rng.sample(range(1, known + 1), min(known, rng.randint(0, 2)))
        for id_ in changed:
            execute(
                f"update raw.{source} set amount = ?, loaded_at = ?, load_id = ? where id = ?",
                (rng.randint(1, 99), at, load_id, id_),
            )
        fresh = rng.randint(0 if changed else 1, 3)
        for id_ in range(known + 1, known + 1 + fresh):
            execute(f"insert into raw.{source} values (?, ?, ?, ?)", (id_, rng.randint(1, 99), at, load_id))
    return len(changed) + fresh
