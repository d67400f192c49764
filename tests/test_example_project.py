"""The example project: its loader on a real DuckDB file and a real HTTP server, its models under the real dbt."""

from __future__ import annotations

import importlib
import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

duckdb = pytest.importorskip("duckdb", reason="the example needs duckdb: install the extra [dbt]")

PROJECT = Path(__file__).parents[1] / "examples" / "jaffle_shop"
AT = "2026-03-01T10:00:00Z"
TABLES = ("customers", "stores", "products", "orders", "order_items", "payments")


@pytest.fixture
def loader(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The loader as a module, from where it lies."""
    monkeypatch.syspath_prepend(str(PROJECT))
    return importlib.import_module("loader")


@pytest.fixture
def db(loader: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    """A database in which the first rows have landed at AT."""
    path = tmp_path / "shop.duckdb"
    assert loader.main(["--db", str(path), "--at", AT, "init"]) == 0
    capsys.readouterr()
    return path


def query(path: Path, sql: str) -> list[tuple[Any, ...]]:
    with duckdb.connect(str(path), read_only=True) as con:
        rows: list[tuple[Any, ...]] = con.execute(sql).fetchall()
    return rows


def contents(path: Path) -> dict[str, list[tuple[Any, ...]]]:
    return {table: query(path, f"from raw.{table} order by all") for table in TABLES}


@contextmanager
def receiver(statuses: list[int]) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """A local HTTP server that answers with the given statuses in turn (the last one for ever) and keeps requests."""
    received: list[dict[str, Any]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            received.append({"path": self.path, "headers": dict(self.headers), "body": json.loads(body)})
            self.send_response(statuses[min(len(received), len(statuses)) - 1])
            self.send_header("Location", "/elsewhere")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            """Keep the test output clean."""

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/events/data", received
        finally:
            server.shutdown()
            thread.join()


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Another process that holds the file while the block runs."""
    code = "import sys, duckdb; con = duckdb.connect(sys.argv[1]); print('held', flush=True); sys.stdin.read()"
    command = [sys.executable, "-c", code, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout
        assert holder.stdin
        assert holder.stdout.readline() == "held\n"
        try:
            yield
        finally:
            holder.stdin.close()
            holder.wait()


def test_init_creates_six_related_tables(db: Path) -> None:
    counts = {table: len(rows) for table, rows in contents(db).items()}
    assert all(counts[table] > 0 for table in TABLES)
    orphans = "select count(*) from raw.{} where {key} not in (select {key} from raw.{})"
    for child, parent, key in (
        ("orders", "customers", "customer_id"),
        ("orders", "stores", "store_id"),
        ("order_items", "orders", "order_id"),
        ("order_items", "products", "product_id"),
        ("payments", "orders", "order_id"),
        ("customers", "orders", "customer_id"),
    ):
        assert query(db, orphans.format(child, parent, key=key)) == [(0,)], (child, parent)


def test_an_order_costs_what_its_items_and_its_payment_say(loader: Any, db: Path) -> None:
    loader.main(["--db", str(db), "land", "orders", "--rows", "5"])
    loader.main(["--db", str(db), "land", "order_items", "--rows", "3"])
    loader.main(["--db", str(db), "land", "order_items", "--rows", "60"])
    loader.main(["--db", str(db), "land", "payments", "--rows", "5"])
    rows = query(
        db,
        "select o.amount_cents, p.paid, i.cost from raw.orders o "
        "join (select order_id, sum(amount_cents) paid from raw.payments group by 1) p using (order_id) "
        "join (select order_id, sum(quantity * unit_price_cents) cost, max(order_item_id) last "
        "from raw.order_items group by 1) i using (order_id) where order_id > 250",
    )
    assert len(rows) == 5
    assert all(amount == paid and cost >= amount for amount, paid, cost in rows)


def test_init_again_changes_nothing(loader: Any, db: Path, capsys: pytest.CaptureFixture[str]) -> None:
    loader.main(["--db", str(db), "land", "orders", "--rows", "3"])
    before = contents(db)
    capsys.readouterr()
    assert loader.main(["--db", str(db), "init"]) == 0
    assert contents(db) == before
    assert "nothing" in capsys.readouterr().out


def test_init_restores_a_dropped_table_alone(loader: Any, db: Path) -> None:
    before = contents(db)
    with duckdb.connect(str(db)) as con:
        con.execute("drop table raw.payments")
    assert loader.main(["--db", str(db), "--at", AT, "init"]) == 0
    assert contents(db) == before


def test_same_seed_and_loads_give_the_same_rows(loader: Any, tmp_path: Path) -> None:
    def shop(name: str, *seed: str) -> dict[str, list[tuple[Any, ...]]]:
        path = tmp_path / name
        loader.main(["--db", str(path), "--at", AT, *seed, "init"])
        for table in TABLES:
            loader.main(["--db", str(path), "--at", AT, *seed, "land", table, "--rows", "7"])
        return contents(path)

    assert shop("one.duckdb") == shop("two.duckdb")
    assert shop("three.duckdb", "--seed", "8") != shop("four.duckdb")


@pytest.mark.parametrize("table", TABLES)
def test_land_appends_the_rows_asked_for(loader: Any, db: Path, table: str, capsys: pytest.CaptureFixture[str]) -> None:
    before = contents(db)
    assert loader.main(["--db", str(db), "land", table, "--rows", "23", "--load-id", "x", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    after = contents(db)
    assert set(before[table]) < set(after[table])
    assert len(after[table]) == len(before[table]) + 23
    assert all(after[other] == before[other] for other in TABLES if other != table)
    assert (said["source"], said["load_id"], said["rows"], said["repeated"]) == (f"raw.{table}", "x", 23, False)
    assert said["loaded_at"].endswith("Z")
    loaded_at = query(db, f"select distinct _loaded_at from raw.{table} where _load_id = 'x'")
    assert loaded_at == [(datetime.fromisoformat(said["loaded_at"]).replace(tzinfo=None),)]


def test_keys_of_facts_stay_unique_and_versions_repeat_keys(loader: Any, db: Path) -> None:
    for table in TABLES:
        loader.main(["--db", str(db), "land", table, "--rows", "3"])
    for table in ("customers", "orders", "order_items", "payments"):
        assert query(db, f"select count(*) - count(distinct {table[:-1]}_id) from raw.{table}") == [(0,)]
    for table in ("products", "stores"):
        assert query(db, f"select count(*) - count(distinct {table[:-1]}_id) from raw.{table}") == [(3,)]


def test_loaded_at_never_goes_backwards(loader: Any, db: Path) -> None:
    loader.main(["--db", str(db), "--at", "2026-02-01T00:00:00Z", "land", "orders", "--rows", "1", "--load-id", "a"])
    loader.main(["--db", str(db), "--at", AT, "land", "payments", "--rows", "1", "--load-id", "b"])
    first = query(db, "select _loaded_at from raw.orders where _load_id = 'a'")[0][0]
    second = query(db, "select _loaded_at from raw.payments where _load_id = 'b'")[0][0]
    assert datetime(2026, 3, 1, 10) < first < second < datetime(2026, 3, 1, 10) + timedelta(seconds=1)


def test_at_with_an_offset_is_turned_into_utc(loader: Any, db: Path) -> None:
    loader.main(["--db", str(db), "--at", "2026-03-02T01:30:00+02:00", "land", "orders", "--load-id", "a"])
    assert query(db, "select distinct _loaded_at from raw.orders where _load_id = 'a'") == [
        (datetime(2026, 3, 1, 23, 30),)
    ]


def test_land_before_init_says_what_to_do(loader: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "none.duckdb"
    assert loader.main(["--db", str(path), "land", "orders"]) == 1
    assert "init" in capsys.readouterr().err
    assert not path.exists()
    duckdb.connect(str(path)).close()
    assert loader.main(["--db", str(path), "land", "orders"]) == 1
    assert "init" in capsys.readouterr().err


def test_a_file_that_is_no_database_is_one_clear_line(
    loader: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "lock.duckdb"
    path.write_bytes(b"not a database" * 1000)
    assert loader.main(["--db", str(path), "--lock-timeout", "30", "init"]) == 1
    assert str(path) in capsys.readouterr().err


def test_a_file_that_stays_locked_is_reported_and_unchanged(
    loader: Any, db: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = contents(db)
    with locked(db):
        assert loader.main(["--db", str(db), "--lock-timeout", "0.2", "land", "orders"]) == 3
    message = capsys.readouterr().err
    assert all(part in message for part in (str(db), "locked by another process", "--lock-timeout"))
    assert contents(db) == before


def test_land_waits_for_a_locked_file(loader: Any, db: Path) -> None:
    outcome: list[int] = []
    arguments = ["--db", str(db), "--lock-timeout", "60", "land", "orders", "--rows", "1", "--load-id", "late"]
    waiting = threading.Thread(target=lambda: outcome.append(loader.main(arguments)))
    with locked(db):
        waiting.start()
        waiting.join(timeout=0.3)
        assert not outcome
    waiting.join()
    assert outcome == [0]
    assert query(db, "select count(*) from raw.orders where _load_id = 'late'") == [(1,)]


def test_callback_reports_the_committed_load(
    loader: Any, db: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    token = tmp_path / "token"
    token.write_text("s3cret\n")
    with receiver([202]) as (url, received):
        arguments = ["--db", str(db), "--at", "2026-03-02T00:00:00Z", "land", "orders", "--rows", "20"]
        assert loader.main([*arguments, "--load-id", "L1", "--callback", url, "--token-file", str(token)]) == 0
    (request,) = received
    assert request["path"] == "/events/data"
    assert request["headers"]["Authorization"] == "Bearer s3cret"
    assert request["headers"]["Content-Type"] == "application/json"
    assert request["body"] == {
        "source": "raw.orders",
        "load_id": "L1",
        "loaded_at": "2026-03-02T00:00:00.000000Z",
        "rows": 20,
    }
    (line,) = capsys.readouterr().out.splitlines()
    assert all(part in line for part in ("raw.orders", "20 rows", "L1", "202"))


def test_the_file_is_free_when_the_callback_arrives(loader: Any, db: Path) -> None:
    """The receiver may start a build at once, so the loader holds no lock by then."""
    code = "import sys, duckdb; print(duckdb.connect(sys.argv[1]).sql(sys.argv[2]).fetchall()[0][0])"
    seen: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            sql = "select count(*) from raw.orders where _load_id = 'L1'"
            command = [sys.executable, "-c", code, str(db), sql]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            seen.append(done.stdout.strip() or done.stderr)
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            """Keep the test output clean."""

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.handle_request)
        thread.start()
        url = f"http://127.0.0.1:{server.server_port}/"
        assert loader.main(["--db", str(db), "land", "orders", "--load-id", "L1", "--callback", url]) == 0
        thread.join()
    assert seen == ["20"]


def test_a_refused_callback_fails_and_the_same_load_id_only_reports_again(
    loader: Any, db: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--db", str(db), "land", "orders", "--rows", "4", "--load-id", "L1", "--callback"]
    with receiver([401]) as (url, refused):
        assert loader.main([*arguments, url]) == 4
    assert len(refused) == 1, "an answer that will not change is not asked for again"
    assert "Authorization" not in refused[0]["headers"]
    message = capsys.readouterr().err
    assert all(part in message for part in ("401", "--load-id L1", "committed"))
    before = contents(db)
    with receiver([200]) as (url, received):
        assert loader.main([*arguments, url]) == 0
    assert contents(db) == before
    assert received[0]["body"] == refused[0]["body"]


def test_a_busy_receiver_is_asked_again(loader: Any, db: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    monkeypatch.setattr(loader.time, "sleep", waits.append)
    with receiver([503, 429, 200]) as (url, received):
        assert loader.main(["--db", str(db), "land", "orders", "--callback", url]) == 0
    assert len(received) == 3
    assert waits == [1.0, 2.0]


def test_a_redirect_is_not_followed(loader: Any, db: Path) -> None:
    with receiver([302, 200]) as (url, received):
        assert loader.main(["--db", str(db), "land", "orders", "--callback", url]) == 4
    assert len(received) == 1


def test_an_unreachable_receiver_is_tried_a_bounded_number_of_times(
    loader: Any, db: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    waits: list[float] = []
    monkeypatch.setattr(loader.time, "sleep", waits.append)
    with receiver([200]) as (url, _):
        pass
    assert loader.main(["--db", str(db), "land", "orders", "--load-id", "L1", "--callback", url]) == 4
    assert waits == [1.0, 2.0, 4.0]
    assert url in capsys.readouterr().err
    assert query(db, "select count(*) from raw.orders where _load_id = 'L1'") == [(20,)]


def test_a_missing_token_file_is_noticed_before_anything_lands(
    loader: Any, db: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = contents(db)
    arguments = ["--callback", "http://127.0.0.1:1/", "--token-file", str(tmp_path / "absent")]
    assert loader.main(["--db", str(db), "land", "orders", *arguments]) == 1
    assert "absent" in capsys.readouterr().err
    assert contents(db) == before


@pytest.mark.parametrize("arguments", [["land", "nothing"], ["land", "orders", "--rows", "0"], []])
def test_wrong_usage_exits_with_2(loader: Any, arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        loader.main(arguments)
    assert caught.value.code == 2


class Shop:
    """A copy of the project beside a database whose name is no plain identifier; runs its loader and dbt."""

    def __init__(self, folder: Path) -> None:
        self.project = folder / "project"
        self.db = folder / "the shop-1.duckdb"
        ignore = shutil.ignore_patterns("target", "logs", "*.duckdb*", ".user.yml", "__pycache__", ".sao")
        shutil.copytree(PROJECT, self.project, ignore=ignore)

    def run(self, *command: str, **env: str) -> str:
        """Run a Python command in the project; return its output, or fail with it."""
        done = subprocess.run(
            [sys.executable, *command],
            cwd=self.project,
            env=os.environ | {"SAO_EXAMPLE_DB": str(self.db), "NO_COLOR": "1"} | env,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout
        return done.stdout

    def dbt(self, *arguments: str, **env: str) -> str:
        """Run dbt with every warning as an error."""
        return self.run("-m", "dbt.cli.main", "--no-use-colors", "--warn-error", *arguments, **env)

    def artifact(self, name: str) -> Any:
        """A JSON document that dbt wrote."""
        return json.loads((self.project / "target" / name).read_text())


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    pytest.importorskip("dbt.cli.main", reason="dbt is not installed: install the extra [dbt]")
    return Shop(tmp_path)


@pytest.mark.slow
@pytest.mark.dbt
def test_dbt_reads_the_policies_as_the_readme_tells_them(shop: Shop) -> None:
    shop.dbt("parse", SAO_DEMO_WINDOW_MINUTES="1")
    manifest = shop.artifact("manifest.json")
    models = {node["name"]: node for node in manifest["nodes"].values() if node["resource_type"] == "model"}
    windows = {
        name: tuple(node["config"]["freshness"]["build_after"].values())
        for name, node in models.items()
        if node["unrendered_config"].get("freshness")
    }
    assert windows == {
        "mart_customer_orders": (4, "hour", "any"),
        "mart_menu": (4, "hour", "any"),
        "mart_product_sales": (12, "hour", "any"),
        "mart_payment_reconciliation": (1, "hour", "all"),
        "mart_store_daily": (1, "minute", "any"),
        "mart_customer_value": (24, "hour", "any"),
    }
    assert [name for name, node in models.items() if node["unrendered_config"].get("freshness", 0) is None] == [
        "mart_orders"
    ]
    kinds = {node["config"]["materialized"] for node in models.values()}
    assert kinds == {"view", "table", "incremental", "ephemeral"}
    assert {source["identifier"] for source in manifest["sources"].values()} == set(TABLES)
    assert {source["database"] for source in manifest["sources"].values()} == {"the shop-1"}
    watched = {source["name"] for source in manifest["sources"].values() if source["loaded_at_field"]}
    assert watched == {"orders", "order_items", "payments"}


@pytest.mark.slow
@pytest.mark.dbt
def test_dbt_builds_it_and_takes_in_what_lands_later(shop: Shop) -> None:
    shop.run("loader.py", "init")
    shop.run("loader.py", "land", "orders", "--rows", "20")
    shop.dbt("build")
    assert {result["status"] for result in shop.artifact("run_results.json")["results"]} == {
        "success",
        "pass",
        "no-op",
    }
    for table, rows in (("order_items", 30), ("payments", 10), ("products", 12), ("stores", 2)):
        shop.run("loader.py", "land", table, "--rows", str(rows))
    with duckdb.connect(str(shop.db)) as con:  # an order of the first load is no longer what it was, and no load tells
        con.execute("update raw.payments set amount_cents = amount_cents + 100 where payment_id = 1")
    shop.dbt("build")
    facts = "select order_id, customer_id, store_id, ordered_at, status, amount, item_count, paid, changed_at"
    assert query(shop.db, f"{facts} from mart_orders order by 1") == query(
        shop.db, f"{facts} from int_orders order by 1"
    ), "what the incremental model took in load by load is what a full build would hold"
    assert query(shop.db, "select count(*) from mart_orders") == query(shop.db, "select count(*) from raw.orders")
    assert query(shop.db, "select count(*) from mart_payment_reconciliation where state = 'unpaid'") == [(10,)]
    assert query(shop.db, "select sum(price_changes) from mart_menu") == [(10,)]
    shop.dbt("source", "freshness")
    statuses = {result["unique_id"]: result["status"] for result in shop.artifact("sources.json")["results"]}
    assert statuses == {"source.jaffle_shop.raw.orders": "pass", "source.jaffle_shop.raw.payments": "pass"}
