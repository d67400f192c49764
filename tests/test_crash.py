"""The service is killed at any instant and started again at once: nothing that was acknowledged is lost, nothing is
built twice at a time, nothing stays behind, and the tables come out as a full build makes them.

`SAO_NIGHTLY=1` runs many more rounds, each killed at an instant drawn by chance; a failure names the seed.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import pytest

from tests.dbt_projects import write_project
from tests.nightly import NIGHTLY, by_night
from tests.processes import Served, configure, processes_in, served, traced, traced_model, until

pytest.importorskip("dbt.cli", reason="dbt is not installed: install the extra [dbt]")
pytestmark = [pytest.mark.dbt, pytest.mark.slow]

TABLE = "{{ config(materialized='table') }}"
SLOW = "(select count(*) from range(80000000) as r(n) where hash(n) % 7 = 8) as nothing"
FILES = {
    "models/sources.yml": """
        version: 2
        sources:
          - name: raw
            config: {meta: {external_location: "read_csv('data/{name}.csv')"}}
            tables: [{name: a}, {name: b}]
        models:
          - name: t_a
            columns: [{name: id, data_tests: [not_null, unique]}]
        """,
    "models/stg_a.sql": "select * from {{ source('raw', 'a') }}",
    "models/t_a.sql": f"{TABLE} select * from {{{{ ref('stg_a') }}}}",
    "models/t_b.sql": f"{TABLE} select * from {{{{ source('raw', 'b') }}}}",
    "models/grows.sql": "{{ config(materialized='incremental', unique_key='id') }} select * from {{ ref('stg_a') }}",
    "models/slow.sql": f"{TABLE} select (select sum(amount) from {{{{ ref('t_a') }}}}) as total, {SLOW}",
    "models/mart.sql": f"""{TABLE} select a.id, a.amount, b.amount as other, s.total from {{{{ ref('t_a') }}}} as a
        left join {{{{ ref('traced') }}}} as b using (id) cross join {{{{ ref('slow') }}}} as s""",
    "tests/slow_test.sql": f"select * from (select id, {SLOW} from {{{{ ref('t_a') }}}}) where nothing > id",
}
TABLES = ("t_a", "t_b", "grows", "slow", "traced", "mart")


def shop(folder: Path, files: dict[str, str], more: str) -> Path:
    """A project of these files, and a Python model that traces its builds."""
    traced = traced_model("t_b", Path("trace"), 0.7)
    return configure(write_project(folder, {**files, "models/traced.py": traced}), more)


class Loader:
    """Lands new rows and reports each load until that is acknowledged, as loaders do, through every restart."""

    def __init__(self, folder: Path, chance: random.Random) -> None:
        self.folder, self.chance = folder, chance
        self.service: Served | None = None
        self.acknowledged: dict[str, int | None] = {}
        self._rows = {"a": {}, "b": {}}  # type: dict[str, dict[int, int]]
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._run)
        (folder / "data").mkdir(exist_ok=True)
        for name in self._rows:
            self._write(name)

    def __enter__(self) -> Loader:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def finish(self) -> None:
        """Report the last load, and land nothing any more."""
        self._done.set()
        self._thread.join()

    def _run(self) -> None:
        number = 0
        while not self._done.is_set():
            number += 1
            name, load = self.chance.choice("ab"), f"load-{number}"
            self._write(name)
            while not self._reported(f"raw.{name}", load):
                time.sleep(0.02)
            self._done.wait(self.chance.uniform(0.0, 0.5))

    def _reported(self, source: str, load: str) -> bool:
        service = self.service
        answer = service.land(source, load) if service and service.url else None
        if answer is not None:
            self.acknowledged[load] = answer["seq"]
        return answer is not None

    def _write(self, name: str) -> None:
        rows = self._rows[name]
        rows[self.chance.randrange(1, 30)] = self.chance.randrange(1_000_000)
        lines = ["id,amount", *(f"{key},{value}" for key, value in sorted(rows.items()))]
        fresh = self.folder / "data" / f"{name}.new"
        fresh.write_text("\n".join(lines) + "\n", encoding="utf-8")
        fresh.rename(self.folder / "data" / f"{name}.csv")


def sees(service: Served, kind: str, node: str = "", wait: float = 0.0) -> None:
    """Wait until this process of the service has recorded an event of the kind, about a node of the name."""
    service.listens()
    begun = until(lambda: service.events("EngineStarted"), "the start")[-1]["seq"]

    def seen() -> bool:
        found = service.get(f"/api/events?after={begun}&limit=1000")["events"]
        return any(it["kind"] == kind and it["data"].get("node", "").endswith(node) for it in found)

    until(seen, f"{kind} {node}; log:\n{service.log[-3000:]}")
    time.sleep(wait)


def appends(service: Served, loader: Loader) -> None:
    """Wait until some more loads were acknowledged, and one is on its way."""
    service.listens()
    enough = len(loader.acknowledged) + 4
    until(lambda: len(loader.acknowledged) >= enough, "acknowledged loads")


MOMENTS: dict[str, Callable[[Served, Loader, random.Random], None]] = {
    "while events are appended": lambda service, loader, chance: appends(service, loader),
    "while the project is parsed": lambda service, loader, chance: time.sleep(chance.uniform(0.3, 3.0)),
    "between the plan and the build": lambda service, loader, chance: sees(service, "RunStarted"),
    "while a slow model is built": lambda service, loader, chance: sees(service, "BuildStarted", ".slow", 0.2),
    "while a Python model is built": lambda service, loader, chance: sees(service, "BuildStarted", ".traced", 0.3),
    "while tests run": lambda service, loader, chance: sees(service, "NodeBuilt", ".t_a", 0.3),
    "at any instant": lambda service, loader, chance: time.sleep(chance.uniform(0.0, 9.0)),
}
FEW = {
    "warm": ["while events are appended", "between the plan and the build", "while a Python model is built"],
    "subprocess": ["while a slow model is built"],
}


@pytest.mark.parametrize("runner", ["warm", pytest.param("subprocess", marks=by_night)])
def test_killed_at_any_instant(runner: str, tmp_path: Path) -> None:
    folder = shop(tmp_path / "project", FILES, f"dbt: {{runner: {runner}}}\n")
    seed = random.randrange(1_000_000)
    print("seed", seed)  # shown where it fails
    chance = random.Random(seed)
    moments = [*MOMENTS, *["at any instant"] * 15] if NIGHTLY else FEW[runner]
    with served(folder, start=False) as service, Loader(folder, chance) as loader:
        loader.service = service
        for moment in moments:
            service.begin()
            MOMENTS[moment](service, loader, chance)
            service.kill()
        service.start()
        loader.finish()
        service.rest()
        log = service.events()
        service.stop()
        assert processes_in(folder) == []
    nothing_was_lost(log, loader.acknowledged)
    one_at_a_time(folder, log)
    assert contents(folder) == contents(built_at_once(folder))


@pytest.mark.parametrize("runner", ["warm", pytest.param("subprocess", marks=by_night)])
def test_a_build_that_will_not_end_is_waited_for(runner: str, tmp_path: Path) -> None:
    """A build that is stopped cannot end politely. It is killed after the grace, and until then nothing is built."""
    files = {name: FILES[name] for name in ("models/t_b.sql", "models/sources.yml")}
    folder = shop(tmp_path / "project", files, f"dbt: {{runner: {runner}, grace: 10s}}\n")
    Loader(folder, random.Random(1))
    with served(folder, start=False) as service:
        service.begin()
        sees(service, "BuildStarted", ".traced")
        [build] = until(lambda: traced(folder / "trace"), "the trace")
        os.kill(build["begin"], signal.SIGSTOP)
        service.kill()
        assert not gone(build["begin"])
        service.start()
        assert gone(build["begin"])
        assert "waiting up to 15 s for the end of a build" in service.log
        service.rest()
        assert [line.get("beside") for line in traced(folder / "trace") if "begin" in line] == [[], []]


def gone(pid: int) -> bool:
    """Whether a process has ended."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8")
    except OSError:
        return True
    return stat.rpartition(")")[2].split()[0] in "ZX"


def nothing_was_lost(log: list[dict[str, Any]], acknowledged: dict[str, int | None]) -> None:
    """Each load is there once, in the place that was told; what was cut short was begun again."""
    places = {event["data"]["load_id"]: event["seq"] for event in log if event["kind"] == "DataLanded"}
    assert len(places) == sum(event["kind"] == "DataLanded" for event in log)
    assert acknowledged.keys() <= places.keys()
    assert all(places[load] == seq for load, seq in acknowledged.items() if seq is not None)
    assert [event["seq"] for event in log] == list(range(1, len(log) + 1))
    running, again = dict[str, int](), set[str]()
    for event in log:
        node = event["data"].get("node", "")
        if event["kind"] == "BuildStarted":
            again.discard(node)
            running[node] = event["seq"]
        elif event["kind"] in ("NodeBuilt", "NodeFailed", "BuildInterrupted"):
            running.pop(node, None)
        elif event["kind"] == "EngineStarted":
            again |= running.keys()
            running.clear()
    assert not again
    assert not running


def one_at_a_time(folder: Path, log: list[dict[str, Any]]) -> None:
    """No build met another of its node, and none found the warehouse taken."""
    ended = [event["data"] for event in log if event["kind"] == "RunFinished"]
    assert [end for end in ended if end["status"] == "error"] == []
    assert [event for event in log if event["kind"] == "NodeFailed"] == []
    trace = traced(folder / "trace")
    assert [line for line in trace if line.get("beside")] == []
    assert any("begin" in line for line in trace)
    assert any("end" in line for line in trace)


def built_at_once(folder: Path) -> Path:
    """A copy of the project and its data, built from nothing by dbt alone."""
    whole = folder.parent / "whole"
    left_out = shutil.ignore_patterns(".sao", "target", "logs", "*.duckdb*", "trace")
    shutil.copytree(folder, whole, ignore=left_out)
    dbt = Path(sys.executable).parent / "dbt"
    done = subprocess.run([dbt, "build"], cwd=whole, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    return whole


def contents(folder: Path) -> dict[str, list[Any]]:
    """All rows of all tables."""
    with duckdb.connect(str(folder / "warehouse.duckdb"), read_only=True) as database:
        return {name: sorted(database.sql(f"select * from {name}").fetchall()) for name in TABLES}
