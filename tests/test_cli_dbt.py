"""`plan`, `run`, `status` and `serve` as processes, on a small dbt project with the real dbt and DuckDB."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import duckdb
import httpx
import pytest

from tests.nightly import by_night
from tests.processes import sao

pytestmark = [pytest.mark.dbt, pytest.mark.slow]

FILES = {
    "dbt_project.yml": "name: shop\nversion: '1.0.0'\nprofile: shop\nmodel-paths: [models]\n"
    "flags: {send_anonymous_usage_stats: false}\n",
    "profiles.yml": "shop:\n  target: dev\n  outputs:\n    dev: {type: duckdb, path: shop.duckdb, threads: 1}\n",
    "models/sources.yml": "version: 2\nsources:\n  - name: raw\n    schema: raw\n    tables: [{name: orders}]\n",
    "models/stg.sql": "select * from {{ source('raw', 'orders') }}",
    "models/orders.sql": "{{ config(materialized='table') }}\nselect id, amount from {{ ref('stg') }}",
    "models/mart.sql": "{{ config(materialized='table', freshness={'build_after': {'count': 4, 'period': 'hour'}}) }}\n"
    "select sum(amount) as total from {{ ref('orders') }}",
    "models/models.yml": "version: 2\nmodels:\n  - name: orders\n    columns: [{name: id, data_tests: [unique]}]\n",
}
STG, ORDERS, MART = "model.shop.stg", "model.shop.orders", "model.shop.mart"


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    """A dbt project of three models and a test over a source with two rows."""
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text, encoding="utf-8")
    with duckdb.connect(str(tmp_path / "shop.duckdb")) as database:
        database.execute("create schema raw; create table raw.orders as select 1 as id, 10 as amount")
    return tmp_path


def answer(folder: Path, *arguments: str, code: int = 0) -> Any:
    """The JSON of a command that ends with `code`."""
    done = sao(folder, *arguments, "--json")
    assert done.returncode == code, done.stderr
    return json.loads(done.stdout)


def brief(found: Any, *keys: str) -> dict[str, tuple[Any, ...]]:
    """Some keys of each node."""
    return {node["node"]: tuple(node[key] for key in keys) for node in found["nodes"]}


def seconds_of(found: Any) -> list[float | None]:
    """The seconds of each node."""
    return [node["seconds"] for node in found["nodes"]]


def test_from_nothing_to_a_second_run(shop: Path) -> None:
    planned = answer(shop, "plan")
    assert brief(planned, "action", "reason") == {
        STG: ("build", "first_build"),
        ORDERS: ("build", "first_build"),
        MART: ("build", "first_build"),
    }
    assert (planned["build"], len(planned["tests"])) == ([STG, ORDERS, MART], 1)
    assert not (shop / ".sao" / "state.db").exists()
    assert brief(answer(shop, "status"), "action", "waiting_for") == {
        STG: ("build", []),
        ORDERS: ("blocked", [STG]),
        MART: ("blocked", [ORDERS]),
    }
    assert not (shop / ".sao" / "state.db").exists()

    built = answer(shop, "run")
    assert built["status"] == "success"
    assert brief(built, "action", "status") == {
        STG: ("build", "success"),
        ORDERS: ("build", "success"),
        MART: ("build", "success"),
    }
    assert all(seconds is not None and seconds >= 0 for seconds in seconds_of(built))
    assert [test["status"] for test in built["tests"]] == ["pass"]

    assert answer(shop, "emit", "data", "raw.orders", "--load-id", "l1")["recorded"] is True
    again = answer(shop, "run")
    assert brief(again, "action", "reason", "status") == {
        STG: ("reuse", "view_unchanged", "reused"),
        ORDERS: ("build", "new_data", "success"),
        MART: ("wait", "within_build_after", "reused"),
    }
    why = answer(shop, "why", "mart")
    [cause] = why["because"]
    [landed] = cause["because"]
    assert landed["event"]["data"] == {"source": "source.shop.raw.orders", "load_id": "l1"}
    assert why["at"] < why["eligible_at"]

    text = FILES["models/orders.sql"].replace("id, amount", "id, amount + 1 as amount")
    (shop / "models/orders.sql").write_text(text, encoding="utf-8")
    assert answer(shop, "run", "stg")["status"] == "success"  # so that the edit is in force, and not built
    [part] = answer(shop, "why", "orders", "--diff")["diff"]
    assert (part["part"], part["same"]) == ("compiled", False)
    changed = [line for line in part["diff"] if line[:1] in "+-" and line[:3] not in ("---", "+++")]
    assert [" ".join(line.split()) for line in changed] == ["- amount", "+ amount + 1 AS amount"]
    said = sao(shop, "why", "orders", "--diff").stdout
    assert "changed since the last build" in said
    assert "amount + 1" in said


def test_a_selector_is_dbts_own(shop: Path) -> None:
    planned = answer(shop, "plan", "mart", "stg", "--exclude", "config.materialized:view")
    assert brief(planned, "action", "reason") == {MART: ("blocked", "upstream_not_ready")}
    forced = answer(shop, "run", "--select", "+orders", "--force")
    assert brief(forced, "reason", "status") == {STG: ("forced", "success"), ORDERS: ("forced", "success")}
    nothing = sao(shop, "run", "nothing_of_that_name")
    assert nothing.returncode == 2
    assert "nothing_of_that_name names no model, seed or snapshot" in nothing.stderr


def test_a_node_that_fails_is_exit_code_1_and_holds_its_readers(shop: Path) -> None:
    (shop / "models" / "orders.sql").write_text(
        "{{ config(materialized='table') }}\nselect nothing from {{ ref('stg') }}"
    )
    failed = answer(shop, "run", code=1)
    assert brief(failed, "status") == {STG: ("success",), ORDERS: ("error",), MART: ("skipped",)}
    [orders] = [node for node in failed["nodes"] if node["node"] == ORDERS]
    assert "nothing" in orders["message"]
    status = sao(shop, "status")
    assert status.returncode == 0
    assert re.search(r"^orders failed: ", status.stdout, re.MULTILINE)


def test_a_test_that_fails_is_exit_code_1(shop: Path) -> None:
    with duckdb.connect(str(shop / "shop.duckdb")) as database:
        database.execute("insert into raw.orders values (1, 20)")
    failed = answer(shop, "run", code=1)
    assert [test["status"] for test in failed["tests"]] == ["fail"]
    assert brief(failed, "status")[MART] == ("skipped",)


def test_a_project_that_does_not_parse_is_exit_code_3(shop: Path) -> None:
    (shop / "models" / "mart.sql").write_text("select * from {{ ref('nobody') }}")
    for command in ("plan", "run"):
        done = sao(shop, command)
        assert (done.returncode, done.stdout) == (3, "")
        assert "nobody" in done.stderr
        assert "Traceback" not in done.stderr


def test_a_profile_that_is_missing_is_exit_code_3(shop: Path) -> None:
    (shop / "profiles.yml").unlink()
    done = sao(shop, "--profiles-dir", str(shop), "run")
    assert done.returncode == 3
    assert "profile" in done.stderr
    assert "Traceback" not in done.stderr


@by_night
def test_a_locked_file_is_exit_code_3_and_uses_up_no_retry(shop: Path) -> None:
    with duckdb.connect(str(shop / "shop.duckdb")):
        done = sao(shop, "run")
        assert done.returncode == 3
        assert "lock" in done.stderr
    assert {node["failure"] for node in answer(shop, "status")["nodes"]} == {None}
    assert answer(shop, "run")["status"] == "success"


@by_night
def test_a_service_without_a_project_does_not_keep_a_run_waiting(shop: Path) -> None:
    broken = (shop / "models" / "mart.sql").read_text()
    (shop / "models" / "mart.sql").write_text("select * from {{ ref('nobody') }}")
    with started(shop, "serve", "--port", "0", "--json") as service:
        assert service.stdout is not None
        service.stdout.readline()
        done = sao(shop, "run")
        assert done.returncode == 3
        assert "nobody" in done.stderr
    (shop / "models" / "mart.sql").write_text(broken)
    assert answer(shop, "status")["jobs"] == []


@contextmanager
def started(folder: Path, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """A command as a process that is ended with the block, by force if need be."""
    command = [sys.executable, "-m", "sao_events", *arguments]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, cwd=folder, stdout=pipe, stderr=pipe, text=True) as process:
        try:
            yield process
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGINT)
                try:
                    process.communicate(timeout=60)
                finally:
                    process.kill()


def test_an_interrupted_run_is_no_failed_attempt(shop: Path) -> None:
    (shop / "models" / "mart.sql").write_text(
        "{{ config(materialized='table') }}\n"
        "select sum(a.i * b.i % 7) as total from range(900000) a(i), range(900000) b(i), {{ ref('orders') }}"
    )
    with started(shop, "run") as running:
        assert running.stderr is not None
        assert any("mart is being built" in line for line in running.stderr)
        running.send_signal(signal.SIGINT)
        out, _ = running.communicate(timeout=60)
    assert running.returncode == 130
    assert re.search(r"^mart +interrupted", out, re.MULTILINE)
    status = answer(shop, "status")
    assert brief(status, "action", "reason", "failure")[MART] == ("build", "first_build", None)
    assert (status["runs"], status["jobs"]) == ([], [])


def test_watch_tells_each_event_and_builds_what_is_saved(shop: Path) -> None:
    with started(shop, "watch", "--json") as watching:
        assert watching.stdout is not None
        told = (json.loads(line) for line in watching.stdout)
        first = next(event for event in told if event["kind"] == "RunFinished")
        assert first["data"]["status"] == "success"
        model = shop / "models" / "orders.sql"
        model.write_text(f"{model.read_text()}\nwhere amount > 0", encoding="utf-8")
        begun = [next(event for event in told if event["kind"] == "BuildStarted") for _ in range(2)]
        watching.send_signal(signal.SIGINT)
        watching.communicate(timeout=60)
    assert [(event["data"]["node"], event["data"]["reason"]) for event in begun] == [
        (ORDERS, "code_changed"),
        (MART, "upstream_code_changed"),
    ]
    assert watching.returncode == 0


def test_a_service_takes_the_job_of_a_run(shop: Path) -> None:
    with started(shop, "serve", "--port", "0", "--json") as service:
        assert service.stdout is not None
        url = json.loads(service.stdout.readline())["url"]
        done = sao(shop, "run", "--json")
        assert done.returncode == 0, done.stderr
        assert set(brief(json.loads(done.stdout), "status").values()) <= {("success",), ("reused",)}
        told = httpx.get(f"{url}/api/status", timeout=30).json()
        assert brief(told, "action") == brief(answer(shop, "status"), "action")
        second = sao(shop, "serve", "--port", "0")
        assert second.returncode == 3
        assert f"in use by process {service.pid}" in second.stderr
        taken = sao(shop, "--state-dir", str(shop / "other"), "serve", "--port", url.rpartition(":")[2])
        assert taken.returncode == 3
        assert "is in use" in taken.stderr
        os.kill(service.pid, signal.SIGTERM)
        service.communicate(timeout=60)
    assert service.returncode == 0
