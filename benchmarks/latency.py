"""From a data event to dbt's first node, and the memory of an idle service, on a generated project that is built
already.

python benchmarks/latency.py [--models 1000] [--events 15]

A real service process for each runner, events over HTTP, times from the log. `settle` is 0 here; its default adds 2
s. Memory is the resident set of the service and of the processes that it keeps, as the system reports it for each.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import duckdb

SOURCES, TOKEN = 20, "benchmark-token"


def main() -> None:
    """Measure both runners in turn and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=int, default=1000)
    parser.add_argument("--events", type=int, default=15)
    options = parser.parse_args()
    print(f"{options.models} models, {options.models} tests, {SOURCES} sources; {options.events} events", flush=True)
    medians = {}
    with tempfile.TemporaryDirectory(prefix="sao-latency-") as folder:
        project = write_project(Path(folder), options.models)
        for runner in ("warm", "subprocess"):
            with service(project, runner) as url:
                started = time.monotonic()
                at_rest(url)
                print(f"\n{runner}: at rest after {time.monotonic() - started:.1f} s", flush=True)
                print(f"  idle memory: {memory(url)}")
                waits = sorted(land(url, number) for number in range(options.events))
                medians[runner] = statistics.median(waits)
                print(
                    f"  event acknowledged -> first node begins: median {medians[runner]:.2f} s, max {waits[-1]:.2f} s"
                )
    print(f"\nsubprocess / warm: {medians['subprocess'] / medians['warm']:.1f}")


def write_project(folder: Path, models: int) -> Path:
    """Two fifths views on sources, the rest tables on three views each, a test for each; raw data in DuckDB."""
    views = models * 2 // 5
    texts = {
        "dbt_project.yml": "name: big\nversion: '1.0'\nprofile: big\nflags: {send_anonymous_usage_stats: false}\n",
        "profiles.yml": f"big:\n  target: dev\n  outputs:\n    dev: {{type: duckdb, path: {folder}/big.duckdb}}\n",
        "models/sources.yml": "sources:\n  - name: raw\n    tables: ["
        + ", ".join(f"{{name: t{number}}}" for number in range(SOURCES))
        + "]\n",
        "models/tests.yml": "models:\n"
        + "".join(f"  - {{name: m{n}, columns: [{{name: id, data_tests: [not_null]}}]}}\n" for n in range(models)),
    }
    for number in range(models):
        if number < views:
            sql = f"select id, {number} as n from {{{{ source('raw', 't{number % SOURCES}') }}}}\n"
        else:
            parents = sorted({(number * step) % views for step in (1, 7, 13)})
            sql = "{{ config(materialized='table') }}\n" + "\nunion all\n".join(
                f"select id, n from {{{{ ref('m{parent}') }}}}" for parent in parents
            )
        texts[f"models/m{number}.sql"] = sql
    for name, text in texts.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text)
    with duckdb.connect(str(folder / "big.duckdb")) as warehouse:
        warehouse.execute("create schema raw")
        for number in range(SOURCES):
            warehouse.execute(f"create table raw.t{number} as select range as id from range(100)")
    return folder


@contextmanager
def service(project: Path, runner: str) -> Iterator[str]:
    """A served project; its address."""
    config = project / "sao.yml"
    config.write_text(
        f"dbt: {{runner: {runner}}}\nhttp: {{port: 0}}\ndata: {{tokens: [{{env: SAO_BENCHMARK_TOKEN}}]}}\n"
        "decisions: {settle: 0s}\n"
    )
    command = [sys.executable, "-m", "sao_events", "--config", str(config), "--json", "serve"]
    environ = {**os.environ, "SAO_BENCHMARK_TOKEN": TOKEN}
    with (project / "service.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, env=environ)
    try:
        assert process.stdout is not None
        told = json.loads(process.stdout.readline())
        PROCESSES[told["url"]] = process.pid
        yield told["url"]
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(timeout=60)


PROCESSES: dict[str, int] = {}


def ask(url: str, path: str) -> Any:
    """A read endpoint."""
    with urllib.request.urlopen(f"{url}{path}", timeout=30) as answer:
        return json.load(answer)


def at_rest(url: str, after: int = 0) -> dict[str, Any]:
    """Wait until everything after the event `after` is done; the status."""
    while True:
        status: dict[str, Any] = ask(url, "/api/status")
        busy = status["runs"] or not status["nodes"] or status["counts"]["build"] or status["seq"] <= after
        if not busy:
            return status
        time.sleep(0.3)


def land(url: str, number: int) -> float:
    """Send one data event; seconds until the first node that it causes begins."""
    before = at_rest(url)["seq"]
    body = json.dumps({"source": f"raw.t{number % SOURCES}", "load_id": f"{PROCESSES[url]}-{number}"}).encode()
    headers = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"}
    urllib.request.urlopen(urllib.request.Request(f"{url}/events/data", body, headers), timeout=30).close()
    acknowledged = time.time()
    at_rest(url, before)
    events = ask(url, f"/api/events?after={before}&limit=500")["events"]
    begun = min(event["at"] for event in events if event["kind"] == "BuildStarted")
    return instant(begun) - acknowledged


def instant(text: str) -> float:
    """An ISO instant as epoch seconds."""
    from datetime import datetime

    return datetime.fromisoformat(text).timestamp()


def memory(url: str) -> str:
    """Resident megabytes of the service and of its children, where the system has /proc."""
    found = {}
    for status in Path("/proc").glob("[0-9]*/status"):
        try:
            lines = dict(line.split(":", 1) for line in status.read_text().splitlines() if ":" in line)
        except OSError:
            continue
        found[int(lines["Pid"])] = (int(lines["PPid"]), int(lines.get("VmRSS", "0").split()[0]) // 1024)
    family, grown = {PROCESSES[url]}, True
    while grown:
        fresh = {pid for pid, (parent, _) in found.items() if parent in family} - family
        family, grown = family | fresh, bool(fresh)
    if PROCESSES[url] not in found:
        return "not known on this system"
    others = sum(found[pid][1] for pid in family) - found[PROCESSES[url]][1]
    return f"service {found[PROCESSES[url]][1]} MB, processes it keeps {others} MB"


if __name__ == "__main__":
    main()
