"""Test queries and rows scanned, with efficient testing and without.

Generates a project on DuckDB: tables of made-up rows, views on them, tables that join these, two tests for each model.
Builds and tests it all twice, the second time with other code in one of the tables at the bottom; once as plain dbt
would test, once with results reused, proven and asked together. Counts what dbt's log says was asked of the warehouse.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import duckdb

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.dbt_projects import write_project

RELATION = re.compile(r'"\w+"\."\w+"\."(\w+)"')
QUERY = re.compile(r"^[\d:.]+ +On (test\.\S+): (?!BEGIN|COMMIT|ROLLBACK|Close)", re.MULTILINE)


class Counted(NamedTuple):
    """What one run asked: outcomes of tests, queries, rows of the relations in them, seconds."""

    tests: Counter[str]
    queries: int
    rows: int
    seconds: float


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--models", type=int, default=1000)
    parser.add_argument("--rows", type=int, default=10_000, help="of each table at the bottom")
    options = parser.parse_args()
    print(f"{options.models} models, {2 * options.models} tests, tables of {options.rows} rows")
    print(f"{'':34}{'run':>6}{'reused':>8}{'proven':>8}{'queries':>9}{'rows scanned':>15}{'seconds':>9}")
    found = {}
    for name, on in (("each test by itself", "false"), ("efficient testing", "true")):
        with tempfile.TemporaryDirectory() as folder:
            found[name] = measure(Path(folder), options.models, options.rows, on)
        for what, counted in zip(("everything built", "one table of the bottom changed"), found[name], strict=True):
            ran = counted.tests.total() - counted.tests["reused"] - counted.tests["proven"]
            head = f"{name}, {what.split()[0]}"
            print(
                f"{head:34}{ran:6}{counted.tests['reused']:8}{counted.tests['proven']:8}"
                f"{counted.queries:9}{counted.rows:15,}{counted.seconds:9.1f}",
                flush=True,
            )
    for index, what in enumerate(("everything built", "one table of the bottom changed")):
        plain, ours = found["each test by itself"][index], found["efficient testing"][index]
        print(f"{what}: queries {ours.queries / plain.queries:.2f} of plain, rows {ours.rows / plain.rows:.2f}")


def measure(root: Path, models: int, rows: int, on: str) -> list[Counted]:
    """Build all, change one table, build what is due."""
    files = project(models, rows) | {"sao.yml": f"tests: {{reuse: {on}, proof: {on}, aggregate: {on}}}\n"}
    write_project(root, files, threads=4)
    first = run(root)
    path = root / "models/base_0.sql"
    path.write_text(path.read_text().replace("as amount", "+ 1 as amount"), encoding="utf-8")
    return [first, run(root)]


def project(models: int, rows: int) -> dict[str, str]:
    """A fifth tables of rows, a third views on them, the others tables that join two of these."""
    bases, views = max(2, models // 5), max(2, models // 3)
    files, names = {}, list[str]()
    for number in range(models):
        if number < bases:
            name, kind = f"base_{number}", "table"
            sql = f"select range::integer as id, (range % 97)::integer as amount from range({rows})"
        elif number < bases + views:
            name, kind = f"shown_{number}", "view"
            sql = f"select id, amount from {{{{ ref('base_{number % bases}') }}}}"
        else:
            name, kind = f"mart_{number}", "table"
            left, right = (bases + (number * step) % views for step in (1, 7))
            right = right if right != left else bases + (right - bases + 1) % views
            sql = f"select a.id, a.amount + b.amount as amount from {{{{ ref('shown_{left}') }}}} a "
            sql += f"join {{{{ ref('shown_{right}') }}}} b on a.id = b.id"
        files[f"models/{name}.sql"] = f"{{{{ config(materialized='{kind}') }}}}\n{sql}\n"
        names.append(name)
    listed = [{"name": name, "columns": [{"name": "id", "data_tests": ["not_null", "unique"]}]} for name in names]
    return files | {"models/properties.yml": json.dumps({"version": 2, "models": listed})}


def run(root: Path) -> Counted:
    """One job; what it asked."""
    logs = set((root / ".sao").rglob("dbt.log"))
    before = time.perf_counter()
    command = [sys.executable, "-m", "sao_events", "run", "--json"]
    env = {"PYTHONPATH": str(Path(__file__).parents[1])}
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False, env=env)
    seconds = time.perf_counter() - before
    if done.returncode:
        raise SystemExit(done.stderr)
    tests = json.loads(done.stdout)["tests"]
    told = Counter("reused" if t["reused"] else "proven" if t["proven"] else t["status"] for t in tests)
    texts = [file.read_text() for file in set((root / ".sao").rglob("dbt.log")) - logs if "/runs/" in str(file)]
    asked = [found for text in texts for query in QUERY.split(text)[2::2] if (found := _scanned(query))]
    with duckdb.connect(str(root / "warehouse.duckdb"), read_only=True) as connection:
        sizes = dict(connection.execute("select table_name, estimated_size from duckdb_tables()").fetchall())
        behind = {
            name: sum(sizes[of] for of in set(re.findall(r"\w+", sql)) & sizes.keys())
            for name, sql in connection.execute(
                "select view_name, sql from duckdb_views() where not internal"
            ).fetchall()
        }
    rows = sum((sizes | behind).get(name, 0) for found in asked for name in found)
    return Counted(told, len(asked), rows, seconds)


def _scanned(query: str) -> list[str]:
    """The relations of a query, up to the end of its text in the log."""
    return RELATION.findall(re.split(r"^\d\d:\d\d:", query, maxsplit=1, flags=re.MULTILINE)[0])


if __name__ == "__main__":
    main()
