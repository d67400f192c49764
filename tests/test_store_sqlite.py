"""The SQLite store keeps the contract, survives what disks and files do, and says clearly what is wrong with them."""

from __future__ import annotations

import json
import os
import resource
import sqlite3
import stat
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from sao_events.core import events as e
from sao_events.core.errors import SaoError, StoreError, UsageError
from sao_events.core.lineage import digest
from sao_events.ports import Delivery, Draft, Incoming, Store
from sao_events.store import database, open_store
from sao_events.store.memory import MemoryStore
from sao_events.store.sqlite import SqliteStore
from tests.store_contract import StoreContract, landed, numbers


class TestSqliteStore(StoreContract):
    @pytest.fixture
    def store(self, tmp_path: Path) -> Iterator[Store]:
        with closing(SqliteStore(tmp_path / "state.db")) as store:
            yield store


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "deep" / "er" / "state.db"


@pytest.fixture
def store(path: Path) -> Iterator[SqliteStore]:
    with closing(SqliteStore(path)) as store:
        yield store


@contextmanager
def raw(path: Path) -> Iterator[sqlite3.Connection]:
    """The file as any other program would open it."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        yield connection


def says(error: SaoError, path: Path, *words: str) -> None:
    """The message names the file and says what to do about it."""
    assert str(path) in error.message
    assert error.hint
    for word in words:
        assert word in str(error)


# Opening


@pytest.mark.parametrize("url", ["sqlite:{}", "{}"])
def test_a_store_is_opened_by_its_url(path: Path, url: str) -> None:
    with closing(open_store(url.format(path))) as store:
        store.append([landed(1)])
    with raw(path) as connection:
        assert connection.execute("SELECT count(*) FROM events").fetchone() == (1,)


def test_the_memory_store_has_a_url() -> None:
    assert isinstance(open_store("memory:"), MemoryStore)


@pytest.mark.parametrize("url", ["", "sqlite:", "postgresql://localhost/sao", "mysql://x"])
def test_another_url_is_refused_with_what_is_known(url: str) -> None:
    with pytest.raises(UsageError, match="memory:"):
        open_store(url)


def test_the_file_is_private_and_its_directory_made(store: SqliteStore, path: Path) -> None:
    store.append([landed(1)])
    modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir()}
    assert modes == dict.fromkeys(("state.db", "state.db-wal", "state.db-shm"), 0o600)


def test_every_commit_is_synced(store: SqliteStore) -> None:
    assert store._writes.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert store._writes.execute("PRAGMA synchronous").fetchone() == (2,)


def test_everything_is_there_after_opening_again(path: Path) -> None:
    with closing(SqliteStore(path)) as store:
        recorded = store.append([landed(1, "k"), landed(2)])
        store.put_project("d", b"project")
        store.put_checkpoint(2, b"state")
    with closing(SqliteStore(path)) as store:
        assert store.read() == recorded
        assert (store.get_project("d"), store.get_checkpoint()) == (b"project", (2, b"state"))
        assert store.append([landed(3, "k"), landed(4)])[0] is None
        assert [item.seq for item in store.read()] == [1, 2, 3]


def test_closing_leaves_one_file_and_may_be_repeated(path: Path) -> None:
    store = SqliteStore(path)
    futures = [store.submit([landed(number)]) for number in range(50)]
    store.close()
    store.close()
    assert all(future.done() for future in futures)
    assert [file.name for file in path.parent.iterdir()] == ["state.db"]
    with raw(path) as connection:
        assert connection.execute("SELECT count(*) FROM events").fetchone() == (50,)


@pytest.mark.parametrize(
    "use",
    [
        lambda store: store.append([landed(1)]),
        lambda store: store.last(),
        lambda store: store.put_project("d", b""),
    ],
)
def test_a_closed_store_says_so(path: Path, use: Callable[[Store], object]) -> None:
    store = SqliteStore(path)
    store.close()
    with pytest.raises(StoreError, match="closed"):
        use(store)


# The log


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE events SET at = 0",
        "UPDATE events SET key = NULL WHERE seq = 2",
        "DELETE FROM events",
        "DELETE FROM events WHERE seq = 2",
        "INSERT OR REPLACE INTO events VALUES (1, 0, 'EngineStarted', NULL, 'x', '{}', NULL, NULL)",
        "REPLACE INTO events VALUES (2, 0, 'EngineStarted', 'new', 'x', '{}', NULL, NULL)",
    ],
)
def test_no_program_can_change_the_log(store: SqliteStore, path: Path, statement: str) -> None:
    before = store.append([landed(1), landed(2, "k")])
    with raw(path) as other, pytest.raises(sqlite3.IntegrityError, match="append-only"):
        other.execute(statement)
    assert store.read() == before


def test_no_program_can_replace_an_event_by_its_key(store: SqliteStore, path: Path) -> None:
    before = store.append([landed(1), landed(2, "k")])
    with raw(path) as other:
        other.execute("REPLACE INTO events VALUES (NULL, 0, 'EngineStarted', 'k', 'x', '{}', NULL, NULL)")
    assert store.read() == before


def test_text_that_is_no_unicode_survives_inside_an_event(store: SqliteStore) -> None:
    event = e.NodeFailed("run", "model.a", "broken \ud800 output \0")
    store.append([Draft(event, 1.0)])
    assert store.read()[0].event == event


def test_a_number_that_json_cannot_hold_is_refused(store: SqliteStore) -> None:
    with pytest.raises(UsageError, match="DataLanded"):
        store.append([Draft(e.DataLanded("source.x", loaded_at=float("nan")), 1.0)])
    assert store.last() == 0


@pytest.mark.parametrize(
    ("kind", "body", "named"),
    [
        ("WarpDrive", "{}", "WarpDrive"),
        ("RelationDropped", '{"node": "a", "warp": 9}', "be read: 2 "),
        ("RelationDropped", '{"node": ', "be read: 2 "),
        ("RelationDropped", "{}, {}", "be read: 2 "),
        ("RelationDropped", "[" * 100_000, "be read: 2 "),
        ("BuildStarted", '{"observed": 3}', "be read: 2 "),
    ],
)
def test_an_event_of_a_newer_release_is_an_error_not_a_gap(
    store: SqliteStore, path: Path, kind: str, body: str, named: str
) -> None:
    store.append([landed(1)])
    with raw(path) as other:
        other.execute("INSERT INTO events (at, kind, sender, body) VALUES (1, ?, 'x', ?)", (kind, body))
    store.append([landed(3)])
    assert store.last() == 3
    with pytest.raises(StoreError, match=named) as caught:
        store.read()
    assert caught.value.hint is not None
    assert "upgrade sao-events" in caught.value.hint
    assert numbers(store.read(2)) == [3]


# The schema


def test_migrations_are_numbered_without_gaps() -> None:
    folder = Path(database.__file__).parent / "migrations"
    names = sorted(file.name for file in folder.glob("*.sql"))
    assert [int(name.split("_")[0]) for name in names] == list(range(1, len(names) + 1))
    assert len(database.migrations()) == len(names)


def test_an_older_file_is_brought_up_to_date_with_what_it_holds(path: Path) -> None:
    with closing(SqliteStore(path)) as store:
        recorded = store.append([landed(1, "k")])
    scripts = [*database.migrations(), "CREATE TABLE notes (text); INSERT INTO notes VALUES ('new; here')"]
    with closing(database.connect(path)) as connection:
        database.migrate(connection, path, scripts)
        database.migrate(connection, path, scripts)
        assert connection.execute("SELECT text FROM notes").fetchall() == [("new; here",)]
        assert connection.execute("PRAGMA user_version").fetchone() == (len(scripts),)
        assert connection.execute("SELECT seq, key FROM events").fetchall() == [(1, "k")]
    assert recorded[0] is not None


def test_a_file_of_the_first_schema_takes_deliveries(path: Path) -> None:
    with closing(database.connect(path)) as connection:
        database.migrate(connection, path, database.migrations()[:1])
        connection.execute(
            "INSERT INTO events (at, kind, key, sender, body) VALUES (1, 'EngineStarted', 'k', 'x', '{}')"
        )
    with closing(SqliteStore(path)) as store:
        delivery = Delivery(2.0, "hub", "github", "accepted", delivery="1")
        [receipt] = store.receive([Incoming(delivery, [landed(1, "k"), landed(2, "other")])]).result()
        assert (receipt.recorded[0], receipt.delivered.events) == (None, (2,))


def test_a_delivery_that_cannot_be_recorded_leaves_no_event(store: SqliteStore, path: Path) -> None:
    store.append([landed(1)])
    with raw(path) as connection:
        connection.execute("ALTER TABLE deliveries RENAME TO elsewhere")
    incoming = Incoming(Delivery(2.0, "hub", "github", "accepted", delivery="1"), [landed(2, "k")])
    with pytest.raises(StoreError):
        store.receive([incoming]).result()
    with raw(path) as connection:
        connection.execute("ALTER TABLE elsewhere RENAME TO deliveries")
    assert store.last() == 1
    [receipt] = store.receive([incoming]).result()
    assert receipt.delivered.events == (2,)


def test_a_migration_that_fails_changes_nothing(path: Path) -> None:
    scripts = [*database.migrations(), "CREATE TABLE notes (text)", "CREATE TABLE more (x); SELECT * FROM nowhere"]
    with closing(database.connect(path)) as connection:
        with pytest.raises(sqlite3.OperationalError, match="nowhere"):
            database.migrate(connection, path, scripts)
        assert connection.execute("SELECT name FROM sqlite_master").fetchall() == []
        assert connection.execute("PRAGMA user_version").fetchone() == (0,)
    with closing(SqliteStore(path)) as store:
        assert store.append([landed(1)]) == store.read()


def test_a_newer_schema_asks_for_an_upgrade(store: SqliteStore, path: Path) -> None:
    with raw(path) as other:
        other.execute("PRAGMA user_version = 9999")
    with pytest.raises(StoreError) as caught:
        SqliteStore(path)
    says(caught.value, path, "9999", "upgrade sao-events")


def test_a_database_of_another_program_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "theirs.db"
    with raw(path) as other:
        other.execute("CREATE TABLE theirs (x)")
    before = path.read_bytes()
    with pytest.raises(StoreError) as caught:
        SqliteStore(path)
    says(caught.value, path, "another program")
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


# What happens to files


def test_a_file_that_is_no_database_is_named(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    path.write_bytes(b"this was something else once\n" * 500)
    with pytest.raises(StoreError) as caught:
        SqliteStore(path)
    says(caught.value, path, "damaged", "restore a backup", "move it away")


def test_a_file_whose_schema_is_no_text_is_named_as_damaged(store: SqliteStore, path: Path) -> None:
    store.close()
    path.write_bytes(path.read_bytes().replace(b"tableevents", b"table\xffvents").replace(b"CREATE", b"CRE:TE"))
    with pytest.raises(StoreError) as caught:
        SqliteStore(path)
    says(caught.value, path, "damaged", "restore a backup")


def test_a_damaged_file_is_named_and_one_moved_away_is_begun_anew(path: Path) -> None:
    with closing(SqliteStore(path)) as store:
        store.append([landed(number, f"k{number}") for number in range(2000)])
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(os.urandom(path.stat().st_size - 4096))
    with pytest.raises(StoreError) as caught, closing(SqliteStore(path)) as store:
        store.read()
    says(caught.value, path, "restore a backup", "move it away")
    path.rename(path.with_suffix(".damaged"))
    with closing(SqliteStore(path)) as store:
        assert store.append([landed(1)]) == store.read()


def test_a_project_after_an_edit_takes_little_more_room(store: SqliteStore, path: Path) -> None:
    def room() -> int:
        with raw(path) as other:
            [(size,)] = other.execute(
                "SELECT (SELECT sum(length(body)) FROM projects) + (SELECT sum(length(body)) FROM texts)"
            )
        return int(size)

    things = [{"id": f"model.a.{n}", "own": digest(str(n))} for n in range(5000)]
    store.put_project("before", json.dumps(things).encode())
    before = room()
    store.put_project("after", json.dumps([{"id": "first"}, *things[:2500], {"id": "new"}, *things[2501:]]).encode())
    assert room() - before < before / 20


def test_a_project_with_a_piece_lost_is_damaged_and_one_kept_whole_is_read(store: SqliteStore, path: Path) -> None:
    store.put_project("a", b"{}")
    with raw(path) as other:
        other.execute("INSERT INTO projects VALUES ('old', ?)", [zlib.compress(b"[1]")])
        other.execute("DELETE FROM texts")
    assert store.get_project("old") == b"[1]"
    with pytest.raises(StoreError, match="damaged project"):
        store.get_project("a")


def test_a_damaged_checkpoint_counts_as_none(store: SqliteStore, path: Path) -> None:
    store.put_checkpoint(1, b"state")
    with raw(path) as other:
        other.execute("UPDATE checkpoint SET body = x'00'")
    assert store.get_checkpoint() is None
    with raw(path) as other:
        other.execute("DELETE FROM checkpoint")
    assert store.get_checkpoint() is None


def test_a_directory_in_the_place_of_the_file(tmp_path: Path) -> None:
    with pytest.raises(StoreError) as caught:
        SqliteStore(tmp_path)
    says(caught.value, tmp_path, "cannot be opened")


def test_a_file_in_the_place_of_the_directory(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    path = tmp_path / "file" / "state.db"
    with pytest.raises(StoreError) as caught:
        SqliteStore(path)
    says(caught.value, path, "cannot be opened", "writable")


@contextmanager
def unprivileged() -> Iterator[None]:
    """As a user without the rights of root, who would be let in everywhere."""
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(user)


def test_a_directory_that_may_not_be_written() -> None:
    with TemporaryDirectory() as folder:
        Path(folder).chmod(0o555)
        for path in (Path(folder) / "state.db", Path(folder) / "deeper" / "state.db"):
            with unprivileged(), pytest.raises(StoreError) as caught:
                SqliteStore(path)
            says(caught.value, path, "cannot be opened", "writable by this user")
        Path(folder).chmod(0o755)


def test_a_file_that_may_not_be_written() -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "state.db"
        with closing(SqliteStore(path)) as store:
            store.append([landed(1)])
        path.chmod(0o444)
        Path(folder).chmod(0o555)
        with unprivileged(), pytest.raises(StoreError) as caught:
            SqliteStore(path)
        says(caught.value, path, "writable by this user")
        Path(folder).chmod(0o755)


def test_a_file_removed_while_in_use_loses_nothing_in_silence(store: SqliteStore, path: Path) -> None:
    store.append([landed(1)])
    away = path.rename(path.with_suffix(".away"))
    for use in (lambda: store.append([landed(2)]), lambda: store.put_checkpoint(1, b"")):
        with pytest.raises(StoreError) as caught:
            use()
        says(caught.value, path, "removed", "put it back")
    away.rename(path)
    store.append([landed(3)])
    assert numbers(store.read()) == [1, 3]


def test_a_file_locked_for_too_long(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "PATIENCE", 0.05)
    with closing(SqliteStore(path)) as store:
        with raw(path) as other:
            other.execute("BEGIN IMMEDIATE")
            with pytest.raises(StoreError) as caught:
                store.append([landed(1)])
            says(caught.value, path, "locked by another process")
        store.append([landed(2)])
        assert numbers(store.read()) == [2]


# Full disks


def pages(store: SqliteStore, limit: int) -> None:
    """Let the file have so many pages; a page is 4096 bytes."""
    store._writes.execute(f"PRAGMA max_page_count = {limit}")


def large(number: int, key: str | None = None) -> Draft:
    """An event that does not fit on a page."""
    return Draft(e.DataLanded("x" * 9000, f"load-{number}", rows=number), 1.0, key)


def test_a_full_disk_fails_what_does_not_fit_and_heals(store: SqliteStore, path: Path) -> None:
    before = store.append([landed(1)])
    pages(store, 20)
    batch = [large(number, f"k{number}") for number in range(100)]
    with pytest.raises(StoreError) as caught:
        store.append(batch)
    says(caught.value, path, "disk is full", "free some space")
    assert store.read() == before
    with pytest.raises(StoreError, match="disk is full"):
        store.put_checkpoint(1, os.urandom(200_000))
    pages(store, 1_000_000)
    assert None not in store.append(batch)
    assert [item.seq for item in store.read()] == list(range(1, 102))


def test_each_of_those_who_wait_is_told_and_the_next_is_served(store: SqliteStore) -> None:
    pages(store, 20)
    with ThreadPoolExecutor(20) as pool:
        futures = [pool.submit(store.append, [large(number)] * 50) for number in range(20)]
        errors = [future.exception() for future in futures]
    assert all(isinstance(error, StoreError) for error in errors)
    assert len({id(error) for error in errors}) == 20
    pages(store, 1_000_000)
    store.append([landed(7)])
    assert numbers(store.read()) == [7]


def test_a_disk_that_refuses_to_write(store: SqliteStore, path: Path) -> None:
    """The quota of a process makes real write errors, in the write-ahead log as well."""
    before = store.append([landed(1)])
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        with pytest.raises(StoreError) as caught:
            store.append([large(number) for number in range(100)])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    says(caught.value, path, "goes on by itself")
    assert store.read() == before
    store.append([large(2)])
    assert numbers(store.read()) == [1, 2]


def test_state_in_a_projects_own_folder_stays_out_of_git(tmp_path: Path) -> None:
    open_store(str(tmp_path / ".sao" / "targets" / "dev" / "state.db")).close()
    assert (tmp_path / ".sao" / ".gitignore").read_text() == "*\n"
    open_store(str(tmp_path / "elsewhere" / "state.db")).close()
    assert not (tmp_path / "elsewhere" / ".gitignore").exists()
