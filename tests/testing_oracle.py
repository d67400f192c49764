"""Whether tests come out as by plain dbt: random projects with nulls, duplicates and orphans in their data."""

from __future__ import annotations

import json
import random

KINDS = ("integer", "varchar", "date", "double")
VALUES = {
    "integer": [str(number) for number in range(1, 9)],
    "varchar": ["'a'", "'b'", "'c'", "'A'", "'01'", "'1'", "''", "' a'"],
    "date": [f"date '2026-01-0{day}'" for day in range(1, 9)],
    "double": ["1.0", "2.5", "0.0", "-0.0", "'nan'::double", "'inf'::double", "1e300", "3.0"],
}


def random_project(rng: random.Random, models: int) -> dict[str, str]:
    """Files of a project: tables of planted values, each column with every kind of test."""
    columns = {f"m{number}": {f"c{place}": rng.choice(KINDS) for place in range(3)} for number in range(models)}
    files, entries = {}, []
    for name, kinds in columns.items():
        files[f"models/{name}.sql"] = _table(rng, kinds)
        listed = [{"name": column, "data_tests": _tests(rng, kind, columns)} for column, kind in kinds.items()]
        entries.append({"name": name, "columns": listed})
    files["models/properties.yml"] = json.dumps({"version": 2, "models": entries}, indent=1)
    return files


def _table(rng: random.Random, kinds: dict[str, str]) -> str:
    """A table; each column may have nulls and duplicates."""
    rows, columns = rng.choice((0, 1, 4, 8)), []
    for kind in kinds.values():
        pool = VALUES[kind]
        values = rng.sample(pool, rows) if rng.random() < 0.6 else [rng.choice(pool) for _ in range(rows)]
        if rng.random() < 0.4:
            values = ["null" if rng.random() < 0.3 else value for value in values]
        columns.append(values)
    typed = ", ".join(f"cast({name} as {kind}) as {name}" for name, kind in kinds.items())
    if not rows:
        empty = ", ".join(f"cast(null as {kind}) as {name}" for name, kind in kinds.items())
        return f"select {empty} where false"
    values_ = ", ".join(f"({', '.join(row)})" for row in zip(*columns, strict=True))
    return f"{{{{ config(materialized='table') }}}} select {typed} from (values {values_}) r({', '.join(kinds)})"


def _tests(rng: random.Random, kind: str, columns: dict[str, dict[str, str]]) -> list[object]:
    found: list[object] = ["not_null", "unique"]
    if kind in {"integer", "varchar"}:
        quoted = kind == "varchar"
        values = [value.strip("'") for value in rng.sample(VALUES[kind], rng.choice((3, 6, 8)))]
        given = [value if quoted else int(value) for value in values]
        found.append({"accepted_values": {"arguments": {"values": given, "quote": quoted}}})
    others = [(model, name) for model, of in columns.items() for name, other in of.items() if other == kind]
    model, name = rng.choice(others)
    found.append({"relationships": {"arguments": {"to": f"ref('{model}')", "field": name}}})
    if rng.random() < 0.2:
        found.append({"not_null": {"name": f"odd_{rng.randrange(10**9)}", "config": {"severity": "warn"}}})
    return found
