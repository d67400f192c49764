"""SQLite files: opened with what durability needs, brought to the present schema, their errors put in words."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from importlib.resources import files
from pathlib import Path
from time import monotonic, sleep

from sao_events.core.errors import StoreError

APPLICATION_ID = 0x53414F45
PATIENCE = 10.0  # seconds to wait for another process that writes
STATEMENTS = 256  # that a connection keeps prepared
WAL_PAGES = 8_000  # of 4 KiB, after which a commit also brings the write-ahead log into the file

_AWAY = "stop what uses it, then restore a backup or move it away: the next builds write a new state"
_RIGHTS = "it and its directory must be readable and writable by this user"
_TROUBLE: dict[int, tuple[str, str]] = {
    sqlite3.SQLITE_NOTADB: ("is damaged or no database", _AWAY),
    sqlite3.SQLITE_CORRUPT: ("is damaged or no database", _AWAY),
    sqlite3.SQLITE_FULL: ("cannot grow, the disk is full", "free some space; recording goes on by itself then"),
    sqlite3.SQLITE_IOERR: (
        "cannot be read or written",
        "check the disk and its quota; recording goes on by itself then",
    ),
    sqlite3.SQLITE_CANTOPEN: ("cannot be opened", _RIGHTS),
    sqlite3.SQLITE_PERM: ("cannot be opened", _RIGHTS),
    sqlite3.SQLITE_AUTH: ("cannot be opened", _RIGHTS),
    sqlite3.SQLITE_READONLY: ("cannot be written", _RIGHTS),
    sqlite3.SQLITE_BUSY: (f"has been locked by another process for {PATIENCE:g} s", "try again, or end that process"),
}


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """Turns errors of SQLite and of the file system into StoreError: which file, what is wrong, what to do."""
    try:
        yield
    except OSError as error:
        raise StoreError(f"{path} cannot be opened: {error.strerror}", hint=_RIGHTS) from error
    except UnicodeDecodeError as error:  # SQLite repeats in its words what it cannot read
        what, hint = _TROUBLE[sqlite3.SQLITE_CORRUPT]
        raise StoreError(f"{path} {what} ({error})", hint=hint) from error
    except sqlite3.Error as error:
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        what, hint = _TROUBLE.get(code, ("cannot be used", "try again; if it stays so, restore a backup"))
        raise StoreError(f"{path} {what} ({error})", hint=hint) from error


@contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """All or nothing, and durable at its end. Waits `PATIENCE` for other writers."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        with suppress(sqlite3.Error):
            connection.rollback()
        raise


def _keep_out_of_git(folder: Path) -> None:
    """State in a project's own `.sao` is nobody's source code."""
    home = next((part for part in (folder, *folder.parents) if part.name == ".sao"), None)
    if home is not None:
        with suppress(FileExistsError), (home / ".gitignore").open("x", encoding="utf-8") as ignored:
            ignored.write("*\n")


def connect(path: Path) -> sqlite3.Connection:
    """A connection to the database at `path`, created where there is none; for use by one thread at a time.

    Raises StoreError for a database of something else, sqlite3.Error or OSError for what `explained` puts in words.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    _keep_out_of_git(path.parent)
    # Never opened and closed again where it exists: closing drops the locks that SQLite holds in this process.
    with suppress(FileExistsError):
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
    connection = sqlite3.connect(
        path, timeout=PATIENCE, isolation_level=None, check_same_thread=False, cached_statements=STATEMENTS
    )
    try:
        _refuse_strangers(connection, path)
        _write_ahead(connection)
        connection.execute("PRAGMA synchronous = FULL")
        # A statement that inserts many rows keeps what it changes for the case that it fails: not in a file of its own.
        connection.execute("PRAGMA temp_store = MEMORY")
        connection.execute(f"PRAGMA wal_autocheckpoint = {WAL_PAGES}")
    except BaseException:
        connection.close()
        raise
    return connection


def _write_ahead(connection: sqlite3.Connection) -> None:
    """Several processes may create the file at once; in the change of the journal SQLite does not wait by itself."""
    deadline = monotonic() + PATIENCE
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or monotonic() > deadline:
                raise
        sleep(0.01)


def _refuse_strangers(connection: sqlite3.Connection, path: Path) -> None:
    # In this order: another process may be creating the tables, and marks the file in the same transaction.
    if not _number(connection, "SELECT count(*) FROM sqlite_master"):
        return
    if _number(connection, "PRAGMA application_id") != APPLICATION_ID:
        raise StoreError(f"{path} is a database of another program", hint="name another file for the state")


def migrations() -> list[str]:
    """The scripts that lead from an empty database to the present schema, in order; the n-th leads to version n."""
    folder = files("sao_events.store") / "migrations"
    return [
        script.read_text(encoding="utf-8")
        for script in sorted(folder.iterdir(), key=lambda f: f.name)
        if script.name.endswith(".sql")
    ]


def migrate(connection: sqlite3.Connection, path: Path, scripts: Sequence[str]) -> None:
    """Bring the schema to the version `len(scripts)`, all or nothing. Raises StoreError where it is newer already."""
    version = _number(connection, "PRAGMA user_version")
    if version > len(scripts):
        raise StoreError(
            f"{path} was written by a newer release (schema {version}, this one knows {len(scripts)})",
            hint="upgrade sao-events",
        )
    if version < len(scripts):
        with transaction(connection):
            _apply(connection, scripts)


def _apply(connection: sqlite3.Connection, scripts: Sequence[str]) -> None:
    from sqlite_utils import Database

    database = Database(connection, execute_plugins=False)
    # Read again: another process may have migrated while this one waited for its turn.
    for number, script in enumerate(scripts, start=1):
        if number > _number(connection, "PRAGMA user_version"):
            database.executescript(script)
            connection.execute(f"PRAGMA user_version = {number}")


def _number(connection: sqlite3.Connection, question: str) -> int:
    return int(connection.execute(question).fetchone()[0])
