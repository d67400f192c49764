"""Several tests of a node in one query, on the real dbt and DuckDB: every result is the one that dbt gives alone."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sao_events.dbt import DbtSettings, open_builder
from sao_events.ports import TestEnded
from tests.dbt_projects import write_project
from tests.nightly import by_night
from tests.test_runners import Bench
from tests.testing_oracle import compare, random_project

pytest.importorskip("dbt.cli", reason="dbt is not installed: install the extra [dbt]")
pytestmark = [pytest.mark.dbt, pytest.mark.slow]

ROWS = "(values (1, 'a', 'x'), (1, 'b', null), (1, 'c', 'y'), (2, 'd', 'y'), (2, 'e', 'z'), (null, 'f', 'z'))"
FILES = {
    "models/clean.sql": "select * from (values (1, 'a'), (2, 'b'), (3, null)) r(id, label)",
    "models/spoiled.sql": f"select * from {ROWS} r(id, label, kind)",
    "models/properties.yml": """
        version: 2
        models:
          - name: clean
            columns:
              - name: id
                data_tests: [not_null, unique, {accepted_values: {arguments: {values: [1, 2, 3], quote: false}}}]
              - name: label
                data_tests:
                  - unique
                  - accepted_values: {arguments: {values: [a, b]}}
                  - relationships: {arguments: {to: ref('spoiled'), field: label}}
                  - not_null: {config: {where: id < 3}}
          - name: spoiled
            columns:
              - name: id
                data_tests:
                  - not_null
                  - unique
                  - relationships: {arguments: {to: ref('clean'), field: id}}
                  - unique: {name: tolerated, config: {error_if: '> 5'}}
                  - not_null: {name: warned, config: {severity: warn}}
                  - unique: {name: counted, config: {fail_calc: sum(n_records)}}
                  - not_null: {name: kept, config: {store_failures: true}}
                  - unique: {name: by_itself, config: {meta: {sao: {aggregate: false}}}}
              - {name: label, data_tests: [not_null, unique]}
              - {name: kind, data_tests: [{accepted_values: {arguments: {values: [x, y]}}}]}
        """,
}


@pytest.fixture
def benches(tmp_path: Path) -> Iterator[Any]:
    """Makes benches on a project, with aggregation or without."""
    made: list[Bench] = []

    def make(files: dict[str, str], **options: Any) -> Bench:
        root = write_project(tmp_path / f"project_{len(made)}", files)
        bench = Bench(open_builder(DbtSettings(root, root / "state", runner="warm", **options)), root)
        made.append(bench)
        return bench

    yield make
    for bench in made:
        bench.builder.close()


def outcomes(bench: Bench) -> dict[str, tuple[str, str | None]]:
    """Build everything with its tests: status and words of each test."""
    nodes = [node.name for node in bench.project.graph.nodes.values()]
    tests = [test.name for test in bench.project.graph.tests.values()]
    bench.run(*nodes)
    reports = bench.run(tests=tests)
    return {r.test: (r.status, r.message) for r in reports if isinstance(r, TestEnded)}


def log(bench: Bench) -> str:
    """What dbt wrote of all pieces."""
    return "\n".join(file.read_text() for file in (bench.root / "state").rglob("dbt.log"))


def test_each_test_has_the_result_it_has_alone(benches: Any) -> None:
    together, alone = benches(FILES), benches(FILES, aggregate=False)
    found = outcomes(together)
    assert found == outcomes(alone)
    assert len(found) == 18
    by_name = {name.split(".")[2]: result for name, result in found.items()}
    assert by_name["unique_spoiled_id"] == ("fail", "Got 2 results, configured to fail if != 0")
    assert by_name["accepted_values_spoiled_kind__x__y"][1] == "Got 1 result, configured to fail if != 0"
    assert by_name["warned"][0] == "warn"
    assert "one query for 6 tests" in log(together)  # clean: all but the one with a `where`
    assert "one query for 6 tests" in log(together).partition('"spoiled"')[2]
    assert "one query for" not in log(alone)


def test_a_macro_of_the_project_that_runs_tests_is_obeyed(benches: Any) -> None:
    macro = "{% macro default__test_unique(model, column_name) %} select 1 as found {% endmacro %}"
    bench = benches(FILES | {"macros/mine.sql": macro})
    found = {name.split(".")[2]: status for name, (status, _) in outcomes(bench).items()}
    assert found["unique_clean_id"] == "fail"
    assert found["not_null_clean_id"] == "pass"


def test_where_the_one_query_fails_each_runs_alone(benches: Any) -> None:
    broken = FILES["models/properties.yml"].replace("name: label, data_tests", "name: no_such, data_tests")
    bench = benches(FILES | {"models/properties.yml": broken})
    found = {name.split(".")[2]: status for name, (status, _) in outcomes(bench).items()}
    assert found["not_null_spoiled_no_such"] == "error"
    assert found["unique_spoiled_id"] == "fail"
    assert found["unique_clean_id"] == "pass"
    assert "went wrong, each runs alone" in log(bench)


def test_random_data_with_nulls_duplicates_and_orphans(benches: Any) -> None:
    files = random_project(random.Random(5), models=6)
    found = outcomes(benches(files))
    assert found == outcomes(benches(files, aggregate=False))
    assert {status for status, _ in found.values()} >= {"pass", "fail"}
    assert len(found) > 40


@by_night
def test_reused_proven_and_together_tests_come_out_as_by_plain_dbt(tmp_path: Path) -> None:
    counts = Counter[str]()
    assert compare(104, tmp_path, counts) == []
    assert counts["run"] > 20
    assert min(counts["reused"], counts["proven"]) > 5
