"""What early cutoff costs and what it spares: the same loads with it and without it.

A table of rows from a source, and readers on it that group, sort and join. Each load brings rows that the table
filters out, so that it is built again with equal content; a last one brings rows that it keeps. Nodes built and seconds
of dbt's builds of the readers, beside the seconds that hashing took and what the service says that was spared.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import duckdb

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.dbt_projects import write_project

TABLE = "{{ config(materialized='table') }} "
CONFIG = "{{{{ config(materialized='table', meta={{'sao': {{'early_cutoff': {}}}}}) }}}} "
KEPT = "select id, amount, label from {{ source('raw', 'rows') }} where kind = 'kept'"
READERS = (
    "select amount, count(*) as n, avg(id) as middle from {{ ref('kept') }} group by amount",
    "select id, amount, rank() over (partition by amount order by id) as place from {{ ref('kept') }}",
    "select a.id, a.amount + b.amount as amount from {{ ref('kept') }} a join {{ ref('kept') }} b on a.id = b.id",
    "select distinct amount % 1000 as amount, label from {{ ref('kept') }}",
)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rows", type=int, default=2_000_000)
    parser.add_argument("--loads", type=int, default=3, help="that change nothing")
    parser.add_argument("--readers", type=int, default=8)
    options = parser.parse_args()
    print(
        f"{options.rows} rows, {options.readers} readers, {options.loads} loads that change nothing and one that does"
    )
    print(f"{'early_cutoff':14}{'load':>10}{'built':>7}{'s of readers':>14}{'s of hashing':>14}{'s in all':>10}")
    for cutoff in ("false", "true", "'auto'"):
        with tempfile.TemporaryDirectory() as folder:
            measured = Measured(Path(folder), cutoff, options.rows, options.readers)
            for number in range(options.loads + 1):
                measured.load("kept" if number == options.loads else "left out")
            print(f"{cutoff:14}in all: {measured.sums()}", flush=True)


class Measured:
    """A project that was built, and its next loads."""

    def __init__(self, folder: Path, cutoff: str, rows: int, readers: int) -> None:
        self.cutoff, self.database, self.hashed = cutoff, folder / "project" / "warehouse.duckdb", 0.0
        files = {
            "models/kept.sql": CONFIG.format(cutoff) + KEPT,
            "models/sources.yml": "sources: [{name: raw, schema: main, tables: [{name: rows}]}]\n",
        }
        files |= {f"models/reader_{n}.sql": TABLE + READERS[n % len(READERS)] for n in range(readers)}
        self.root = write_project(folder / "project", files)
        values = "range as id, range % 977 as amount, 'label ' || range % 31 as label, 'kept' as kind"
        self.execute(f"create table rows as select {values} from range({rows})")
        self.say("run")
        self.hashed = self.total()

    def load(self, kind: str) -> None:
        """Some rows, and what is built of them."""
        self.execute(f"insert into rows select range, range % 7, 'new', '{kind}' from range(1000)")
        self.say("emit", "data", "raw.rows")
        before = time.perf_counter()
        told = self.say("run")
        took = time.perf_counter() - before
        built = {it["name"]: it["seconds"] for it in told["nodes"] if it["status"] == "success"}
        readers = sum(seconds for name, seconds in built.items() if name != "kept")
        hashing, self.hashed = self.total() - self.hashed, self.total()
        print(f"{self.cutoff:14}{kind:>10}{len(built):7}{readers:14.2f}{hashing:14.2f}{took:10.2f}", flush=True)

    def total(self) -> float:
        """Seconds of hashing up to now."""
        return float((self.say("status")["cutoff"] or {}).get("hash_seconds_total", 0.0))

    def sums(self) -> str:
        """What the service says of costs and savings."""
        return json.dumps(self.say("status")["cutoff"])

    def execute(self, sql: str) -> None:
        """Change the warehouse as a loader does."""
        with duckdb.connect(str(self.database)) as connection:
            connection.execute(sql)

    def say(self, *arguments: str) -> Any:
        """What a command answers."""
        command = [sys.executable, "-m", "sao_events", *arguments, "--json"]
        env = {"PYTHONPATH": str(Path(__file__).parents[1])}
        done = subprocess.run(command, cwd=self.root, capture_output=True, text=True, check=False, env=env)
        if done.returncode:
            raise SystemExit(done.stderr)
        return json.loads(done.stdout)


if __name__ == "__main__":
    main()
