"""Whether tests come out as by plain `dbt test`: random projects with nulls, duplicates and orphans in their data.

    python -m tests.testing_oracle CASES [SEED] [--postgres]

A project has tables of planted values and models on them, and each column its tests. The service builds and tests it on
DuckDB, or on a PostgreSQL of its own, twice, with other data the second time; reused, proven and asked together, every
result must have the status and the number of failures that plain dbt finds in the same warehouse. A case is one result.
Seeds are printed.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import subprocess
import sys
import tempfile
from collections import Counter
from contextlib import closing, nullcontext
from pathlib import Path
from typing import Any

from sao_events.dbt import DbtSettings
from tests.dbt_projects import write_project
from tests.oracle import postgres
from tests.oracle.postgres import PostgresServer

KINDS = ("integer", "varchar", "date", "double")
VALUES = {
    "integer": [str(number) for number in range(1, 9)],
    "varchar": ["'a'", "'b'", "'c'", "'A'", "'01'", "'1'", "''", "' a'"],
    "date": [f"date '2026-01-0{day}'" for day in range(1, 9)],
    "double": ["1.0", "2.5", "0.0", "-0.0", "'nan'::double", "'inf'::double", "1e300", "3.0"],
}
WARN = {"severity": "warn"}


class Maker:
    """A random project, whose data can be changed."""

    def __init__(self, rng: random.Random, models: int, derived: int = 0, *, postgres: bool = False) -> None:
        self.rng, self.postgres = rng, postgres
        self.columns: dict[str, dict[str, str]] = {}
        self.files: dict[str, str] = {}
        self.clean: set[tuple[str, str]] = set()  # columns that stay unique and full
        self.base = [f"m{number}" for number in range(models)]
        self.entries: list[dict[str, Any]] = []
        for name in self.base:
            self.columns[name] = {f"c{place}": rng.choice(KINDS) for place in range(3)}
            self.clean |= {(name, column) for column in self.columns[name] if derived and rng.random() < 0.7}
            self.plant(name)
        for name in [*self.base]:
            self._describe(name, failing="warn" if derived else "error")
        for number in range(derived):
            self._derive(f"d{number}")
        self.files["models/properties.yml"] = json.dumps({"version": 2, "models": self.entries}, indent=1)

    def plant(self, name: str) -> None:
        """Other data in a table; each column may have nulls and duplicates."""
        rng, kinds, columns = self.rng, self.columns[name], []
        rows = rng.choice((0, 1, 4, 6, 8))
        for column, kind in kinds.items():
            pool, clean = VALUES[kind], (name, column) in self.clean
            values = rng.sample(pool, rows) if clean or rng.random() < 0.4 else [rng.choice(pool) for _ in range(rows)]
            if not clean and rng.random() < 0.5:
                values = ["null" if rng.random() < 0.3 else value for value in values]
            columns.append(values)
        typed = ", ".join(f"cast({column} as {kind}) as {column}" for column, kind in kinds.items())
        if rows:
            listed = ", ".join(f"({', '.join(row)})" for row in zip(*columns, strict=True))
            sql = f"select {typed} from (values {listed}) r({', '.join(kinds)})"
        else:
            sql = f"select {', '.join(f'cast(null as {k}) as {c}' for c, k in kinds.items())} where false"
        if self.postgres:
            sql = re.sub(r"\bdouble\b", "double precision", sql)
        self.files[f"models/{name}.sql"] = f"{{{{ config(materialized='table') }}}} {sql}"

    def _describe(self, name: str, failing: str) -> None:
        listed = [
            {"name": column, "data_tests": self._tests(kind, "error" if (name, column) in self.clean else failing)}
            for column, kind in self.columns[name].items()
        ]
        self.entries.append({"name": name, "columns": listed})

    def _tests(self, kind: str, failing: str) -> list[object]:
        """Tests of a column. Some are of severity warn, so that not everything stops at the first failure."""
        rng = self.rng
        found: list[object] = [self._made(test, {}, failing) for test in ("not_null", "unique")]
        failing = "warn" if self.clean and failing == "error" else failing
        if kind in {"integer", "varchar"}:
            quoted = kind == "varchar"
            values = [value.strip("'") for value in rng.sample(VALUES[kind], rng.choice((3, 6, 8)))]
            given = {"values": [value if quoted else int(value) for value in values], "quote": quoted}
            found.append(self._made("accepted_values", given, failing))
        others = [(model, name) for model in self.base for name, other in self.columns[model].items() if other == kind]
        if others:
            model, name = rng.choice(others)
            found.append(self._made("relationships", {"to": f"ref('{model}')", "field": name}, failing))
        return found

    def _made(self, test: str, arguments: dict[str, Any], failing: str) -> object:
        share = {"warn": 0.9, "some": 0.3}.get(failing, 0.0)
        config = WARN if self.rng.random() < share else {}
        body = ({"arguments": arguments} if arguments else {}) | ({"config": config} if config else {})
        return {test: body} if body else test

    def _derive(self, name: str) -> None:
        """A model on others, with the shapes that people write."""
        rng = self.rng
        left, right = rng.choice([*self.columns]), rng.choice([*self.columns])
        mine, other = self.columns[left], self.columns[right]
        first = rng.choice([*mine])
        same = [column for column, kind in other.items() if kind == mine[first]]
        shapes = ["passed", "filtered", "grouped", "distinct", "latest", "filled"] + ["joined", "stacked"] * bool(
            same
        ) * 2
        shape, kind = (
            rng.choice(shapes),
            rng.choice(("table", "table", "view", "ephemeral" if rng.random() < 0.3 else "table")),
        )
        value, columns = VALUES[mine[first]][0], dict(mine)
        source = f"{{{{ ref('{left}') }}}}"
        if shape == "filtered":
            condition = rng.choice((f"{first} is not null", f"{first} = {value}", f"{first} in ({value})"))
            sql = f"select * from {source} where {condition}"
        elif shape == "grouped":
            sql, columns = (
                f"select {first} as g, count(*) as n from {source} group by 1",
                {"g": mine[first], "n": "integer"},
            )
        elif shape == "distinct":
            sql, columns = f"select distinct {first} from {source}", {first: mine[first]}
        elif shape == "latest":
            window = f"row_number() over (partition by {first} order by {rng.choice([*mine])})"
            sql = f"with r as (select *, {window} as rn from {source}) select {', '.join(mine)} from r where rn = 1"
        elif shape == "filled":
            sql = (
                f"select coalesce({first}, {value}) as f, case when {first} is null then {value} else {first} end as w"
            )
            sql, columns = f"{sql} from {source}", {"f": mine[first], "w": mine[first]}
        elif shape == "joined":
            join, key = rng.choice(("left join", "join", "full join")), rng.choice(same)
            listed = ", ".join([f"a.{c} as a_{c}" for c in mine] + [f"b.{c} as b_{c}" for c in other])
            sql = f"select {listed} from {source} a {join} {{{{ ref('{right}') }}}} b on a.{first} = b.{key}"
            columns = {f"a_{c}": k for c, k in mine.items()} | {f"b_{c}": k for c, k in other.items()}
        elif shape == "stacked":
            sql = f"select {first} as s from {source} union all select {rng.choice(same)} from {{{{ ref('{right}') }}}}"
            columns = {"s": mine[first]}
        else:
            sql = f"with source as (select * from {source}) select {', '.join(mine)} from source"
        self.columns[name] = columns
        self.files[f"models/{name}.sql"] = f"{{{{ config(materialized='{kind}') }}}} {sql}"
        self._describe(name, failing="some")


def random_project(rng: random.Random, models: int) -> dict[str, str]:
    """Files of a project of tables alone, each column with every kind of test."""
    return Maker(rng, models).files


def compare(seed: int, folder: Path, counts: Counter[str], server: PostgresServer | None = None) -> list[str]:
    """One project, built and tested twice; the results that are not dbt's."""
    maker = Maker(random.Random(seed), models=3, derived=5, postgres=server is not None)
    write_project(folder, maker.files | (_profile(seed, server) if server else {}))
    problems = _round(seed, folder, counts)
    for name in maker.rng.sample(maker.base, 2):
        maker.plant(name)
        (folder / f"models/{name}.sql").write_text(maker.files[f"models/{name}.sql"], encoding="utf-8")
    return problems + _round(seed, folder, counts)


def _profile(seed: int, server: PostgresServer) -> dict[str, str]:
    name = f"seed_{seed}"
    with closing(server.connect()) as connection:
        connection.cursor().execute(f"create database {name}")
    output = {"type": "postgres", "host": server.host, "port": server.port, "user": "postgres", "password": ""}
    output |= {"dbname": name, "schema": "public", "threads": 2}
    return {"profiles.yml": json.dumps({"tiny": {"target": "dev", "outputs": {"dev": output}}})}


def _round(seed: int, folder: Path, counts: Counter[str]) -> list[str]:
    told = json.loads(_run(folder, sys.executable, "-m", "sao_events", "run", "--json"))
    settings = DbtSettings(folder, folder / "state")
    _run(folder, settings.executable(), "test", "--target-path", "plain", "--no-use-colors")
    results = json.loads((folder / "plain" / "run_results.json").read_text())["results"]
    plain = {it["unique_id"]: (it["status"], it["failures"] or 0) for it in results}
    problems = []
    for test in told["tests"]:
        ours = test["status"], _failures(test["message"])
        counts["reused" if test["reused"] else "proven" if test["proven"] else "run"] += 1
        counts[test["status"]] += 1
        if ours != plain.get(test["test"]):
            problems.append(f"seed {seed}: {test['test']} is {ours}, plain dbt says {plain.get(test['test'])}: {test}")
    return problems


def _failures(message: str | None) -> int:
    found = re.match(r"Got (\d+) result", message or "")
    return int(found[1]) if found else 0


def _run(folder: Path, *command: str) -> str:
    env = os.environ | {"PYTHONPATH": str(Path(__file__).parent.parent), "DBT_SEND_ANONYMOUS_USAGE_STATS": "false"}
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, check=False)
    if not done.stdout:
        raise AssertionError(done.stderr)
    return done.stdout


def main(cases: int, seed: int, server: PostgresServer | None = None) -> int:
    """Projects until there were that many cases; the number of results that differ."""
    counts, wrong, first = Counter[str](), 0, seed
    while counts["run"] + counts["reused"] + counts["proven"] < cases:
        with tempfile.TemporaryDirectory() as folder:
            for problem in compare(seed, Path(folder), counts, server):
                wrong += 1
                print(problem)
        seed += 1
    print(f"seeds {first} to {seed - 1}: {wrong} results differ from dbt's; {dict(sorted(counts.items()))}")
    return wrong


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("cases", type=int)
    parser.add_argument("seed", type=int, nargs="?", default=random.randrange(10**6))
    parser.add_argument("--postgres", action="store_true", help="on a PostgreSQL of its own; else on DuckDB")
    options = parser.parse_args()
    with postgres.server() if options.postgres else nullcontext() as started:
        sys.exit(1 if main(options.cases, options.seed, started) else 0)
