"""Land the shop's raw tables in DuckDB, as an extract-and-load tool would.

``init`` creates the schema ``raw`` with a small history; ``land`` appends one load to a table and, once the rows are
committed and the file is closed, reports the load to a callback URL. What the rows say follows from the seed and from
what the table holds; only ``_loaded_at`` follows the clock. Instants are UTC; columns of type timestamp hold naive UTC.

Exit codes: 0 done, 1 a problem with the input or the file, 2 wrong usage, 3 the file stayed locked, 4 the rows are in
but the callback was not delivered (repeat the command with the same ``--load-id``: no row is appended twice).
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
from raw_data import GENERATORS, INITIAL_ROWS, TABLES, Row, Shop

LOCK_SIGNS = ("Could not set lock", "being used by another process")


class LoaderError(Exception):
    """The load cannot be made; the message says what, where and what to do."""

    exit_code = 1


class DatabaseLockedError(LoaderError):
    """Another process held the DuckDB file for longer than the lock timeout. Nothing was written."""

    exit_code = 3


class CallbackError(LoaderError):
    """The rows are committed but the callback did not take the report."""

    exit_code = 4


@dataclass(frozen=True)
class Load:
    """One load of one raw table. ``repeated`` is true when its rows were already there under this ``load_id``."""

    source: str
    load_id: str
    loaded_at: str
    rows: int
    repeated: bool = False

    def report(self) -> dict[str, Any]:
        """The body of the callback: source, load_id, loaded_at (ISO-8601 with Z), rows."""
        return {"source": self.source, "load_id": self.load_id, "loaded_at": self.loaded_at, "rows": self.rows}


def connect(path: Path, lock_timeout: float) -> duckdb.DuckDBPyConnection:
    """Open the file for writing, waiting at most ``lock_timeout`` seconds while another process holds its lock."""
    deadline = time.monotonic() + lock_timeout
    delay = 0.05
    while True:
        try:
            return duckdb.connect(str(path))
        except duckdb.IOException as error:
            if not any(sign in str(error) for sign in LOCK_SIGNS):
                raise LoaderError(f"cannot open {path}: {error}") from error
            if time.monotonic() >= deadline:
                raise DatabaseLockedError(
                    f"{path} is locked by another process; gave up after {lock_timeout:g} s, nothing was written. "
                    f"Wait for that process to end or give a longer --lock-timeout. DuckDB says: {error}"
                ) from error
        time.sleep(min(delay, max(0.0, deadline - time.monotonic())))
        delay = min(1.0, delay * 2)


def existing_tables(con: duckdb.DuckDBPyConnection) -> set[str]:
    """The names of the tables in schema ``raw``."""
    query = "select table_name from information_schema.tables where table_schema = 'raw'"
    return {name for (name,) in con.execute(query).fetchall()}


def append(con: duckdb.DuckDBPyConnection, table: str, made: list[Row], load_id: str, loaded_at: datetime) -> None:
    """Insert the rows in one statement, inside the caller's transaction."""
    values = [value for row in made for value in (*row, loaded_at, load_id)]
    row = f"({', '.join('?' * (len(made[0]) + 2))})"
    con.execute(f"insert into raw.{table} values {', '.join([row] * len(made))}", values)


def init(con: duckdb.DuckDBPyConnection, seed: int, at: datetime) -> list[Load]:
    """Create and fill the raw tables that are missing, in one transaction; what is there is left as it is."""
    con.begin()
    con.execute("create schema if not exists raw")
    present = existing_tables(con)
    loads = []
    for table, columns in TABLES.items():
        if table not in present:
            con.execute(f"create table raw.{table} ({columns}, _loaded_at timestamp, _load_id varchar)")
            made = GENERATORS[table](Shop(con, table, seed), INITIAL_ROWS[table])
            append(con, table, made, f"{table}-init", at)
            loads.append(Load(f"raw.{table}", f"{table}-init", iso(at), len(made)))
    con.commit()
    return loads


def land(
    con: duckdb.DuckDBPyConnection, table: str, rows: int, seed: int, at: datetime, load_id: str | None = None
) -> Load:
    """Append one load and commit it. A ``load_id`` that is already in the table appends nothing and is reported again.

    ``_loaded_at`` is ``at``, or just after the newest known load where ``at`` is not later: it never goes backwards.
    """
    missing = set(TABLES) - existing_tables(con)
    if missing:
        raise LoaderError(f"no table raw.{min(missing)} in this database; run 'python loader.py init' first")
    con.begin()
    newest = max(con.execute(f"select max(_loaded_at) from raw.{name}").fetchall()[0][0] for name in TABLES)
    at = max(at, newest + timedelta(microseconds=1))
    load_id = load_id or f"{table}-{at:%Y%m%dT%H%M%S.%fZ}"
    known = f"select count(*), max(_loaded_at) from raw.{table} where _load_id = ?"
    count, landed_at = con.execute(known, [load_id]).fetchall()[0]
    if count:
        con.rollback()
        return Load(f"raw.{table}", load_id, iso(landed_at), count, repeated=True)
    append(con, table, GENERATORS[table](Shop(con, table, seed), rows), load_id, at)
    con.commit()
    return Load(f"raw.{table}", load_id, iso(at), rows)


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A redirected POST would arrive as a GET without its body, so a redirect is an error here."""

    def redirect_request(self, *_: Any, **__: Any) -> None:
        return None


def notify(url: str, load: Load, token: str | None, attempts: int = 4, timeout: float = 10.0) -> int:
    """POST the report of a committed load and return the HTTP status (2xx).

    A refused connection, a timeout, 429 and 5xx are tried again (1, 2, 4 seconds apart); any other answer is final.
    Raises CallbackError.
    """
    headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {token}"} if token else {})
    request = urllib.request.Request(url, json.dumps(load.report()).encode(), headers, method="POST")
    opener = urllib.request.build_opener(_NoRedirect)
    problem, final = "was not tried", False
    for attempt in range(attempts):
        try:
            with opener.open(request, timeout=timeout) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            problem = f"answered {error.code}: {error.read(200).decode(errors='replace').strip()}"
            final = error.code != 429 and error.code < 500
        except OSError as error:
            problem, final = f"could not be reached: {error}", False
        if final or attempt == attempts - 1:
            break
        time.sleep(2.0**attempt)
    raise CallbackError(
        f"the rows of load {load.load_id} are committed, but {url} {problem}. "
        f"Repeat the command with --load-id {load.load_id} to report it again."
    )


def iso(at: datetime) -> str:
    """Naive UTC to ISO-8601 with microseconds and Z."""
    return at.isoformat(timespec="microseconds") + "Z"


def utc_now() -> datetime:
    """The present instant as naive UTC."""
    return datetime.now(UTC).replace(tzinfo=None)


def instant(text: str) -> datetime:
    """ISO-8601, UTC where it names no offset, to naive UTC."""
    at = datetime.fromisoformat(text)
    return at.astimezone(UTC).replace(tzinfo=None) if at.tzinfo else at


def positive(text: str) -> int:
    """A whole number of at least 1."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} is less than 1")
    return number


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """The command line. Common options may stand before or after the command."""
    common = argparse.ArgumentParser(add_help=False, argument_default=argparse.SUPPRESS)
    common.add_argument("--db", type=Path, help="DuckDB file (default: $SAO_EXAMPLE_DB, else jaffle_shop.duckdb)")
    common.add_argument("--seed", type=int, help="what the rows say follows from it (default: 7)")
    common.add_argument("--at", type=instant, help="instant of the load, ISO-8601 (default: now)")
    common.add_argument("--lock-timeout", type=float, metavar="SECONDS", help="wait for a locked file (default: 60)")
    common.add_argument("--json", action="store_true", help="print one JSON document instead of text")
    parser = argparse.ArgumentParser(prog="loader.py", description="Land the raw tables.", parents=[common])
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("init", parents=[common], help="create and fill the raw tables that are missing")
    landing = commands.add_parser("land", parents=[common], help="append one load to a raw table")
    landing.add_argument("table", choices=list(TABLES))
    landing.add_argument("--rows", type=positive, default=20)
    landing.add_argument("--load-id", help="identity of the load; the same one is never appended twice")
    landing.add_argument("--callback", metavar="URL", help="report the load there once it is committed")
    landing.add_argument("--token-file", type=Path, help="file with the bearer token of the callback")
    defaults: dict[str, Any] = {
        "db": Path(os.environ.get("SAO_EXAMPLE_DB", "jaffle_shop.duckdb")),
        "seed": 7,
        "at": None,
        "lock_timeout": 60.0,
        "json": False,
    }
    return parser.parse_args(argv, argparse.Namespace(**defaults))


def run_init(options: argparse.Namespace) -> tuple[str, dict[str, Any]]:
    """Run ``init``: a line for people, a document for machines."""
    with connect(options.db, options.lock_timeout) as con:
        loads = init(con, options.seed, options.at or utc_now())
    said = ", ".join(f"{load.source} ({load.rows})" for load in loads) or "nothing: all raw tables are there"
    return f"{options.db}: created {said}", {"created": [load.report() for load in loads]}


def run_land(options: argparse.Namespace) -> tuple[str, dict[str, Any]]:
    """Run ``land``: append, close the file, report. A line for people, a document for machines."""
    token = options.token_file.read_text().strip() if options.token_file else None
    if not options.db.exists():
        raise LoaderError(f"{options.db} does not exist; run 'python loader.py --db {options.db} init' first")
    with connect(options.db, options.lock_timeout) as con:
        load = land(con, options.table, options.rows, options.seed, options.at or utc_now(), options.load_id)
    status = notify(options.callback, load, token) if options.callback else None
    verb = "had already landed" if load.repeated else "landed"
    told = f", {options.callback} answered {status}" if options.callback else ""
    line = f"{load.source}: {verb} {load.rows} rows as load {load.load_id} at {load.loaded_at}{told}"
    return line, load.report() | {"repeated": load.repeated, "callback_status": status}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return the exit code; errors go to standard error as one line."""
    options = parse(argv)
    try:
        line, document = run_init(options) if options.command == "init" else run_land(options)
    except (LoaderError, OSError, duckdb.Error) as error:
        print(f"loader.py: {error}", file=sys.stderr)
        return getattr(error, "exit_code", 1)
    print(json.dumps(document) if options.json else line)
    return 0


if __name__ == "__main__":
    sys.exit(main())
