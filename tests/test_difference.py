"""What is told of the difference between the code that was built and the code in force."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping

from sao_events.core.nodes import Node
from sao_events.report.difference import LARGEST, difference

TEXTS = {
    "old": "select id, a from t",
    "new": "select id, a\n  , b from t",
    "spelled": "SELECT id, a -- both\nFROM t",
    "raw": "select * from {{ ref('t') }}",
    "raw2": "select id from {{ ref('t') }}",
    "c1": json.dumps({"materialized": "table", "unique_key": "id"}),
    "c2": json.dumps({"materialized": "table", "unique_key": ["id", "a"]}),
    "v1": json.dumps({"limit": "aaaa", "same": "cccc"}),
    "v2": json.dumps({"limit": "bbbb", "same": "cccc"}),
    "long": "\n".join(f"line {number}" for number in range(LARGEST + 10)),
}


def texts(digests: Iterable[str]) -> Mapping[str, str]:
    return {name: TEXTS[name] for name in digests if name in TEXTS}


def told(built: Mapping[str, str], **parts: str) -> dict[str, list[str]]:
    compiled = parts.pop("compiled", None)
    node = Node("model.m", "m", "table", parts=parts, compiled=compiled)
    return {
        it["part"]: [line for line in it["diff"] if line[:3] not in {"---", "+++"}]
        for it in difference(node, built, texts, "duckdb")
    }


def test_sql_is_shown_as_dbt_compiles_it_laid_out_in_one_way() -> None:
    found = told({"sql": "raw", "compiled": "old"}, sql="raw2", compiled="new")
    assert list(found) == ["compiled"]
    assert [line for line in found["compiled"] if line[0] in "+-"] == ["-  a", "+  a,", "+  b"]


def test_another_spelling_is_said_to_be_the_same() -> None:
    node = Node("model.m", "m", "table", parts={"sql": "raw2"}, compiled="spelled")
    [part] = difference(node, {"sql": "raw", "compiled": "old"}, texts, "duckdb")
    assert (part["part"], part["diff"], part["same"]) == ("compiled", [], True)


def test_where_there_is_no_compiled_sql_it_is_shown_as_written() -> None:
    *_, old, new = told({"sql": "raw"}, sql="raw2")["sql"]
    assert (old, new) == ("-select * from {{ ref('t') }}", "+select id from {{ ref('t') }}")


def test_configuration_is_shown_by_key_and_values_of_vars_not_at_all() -> None:
    found = told({"config": "c1", "vars": "v1"}, config="c2", vars="v2")
    assert [line for line in found["config"] if line[0] in "+-"] == ['-unique_key: "id"', '+unique_key: ["id", "a"]']
    assert [line for line in found["vars"] if line[0] in "+-"] == ["-limit: (value aaaa)", "+limit: (value bbbb)"]


def test_a_part_whose_text_is_not_kept_is_named() -> None:
    assert told({"graph": "gone"}, graph="lost") == {"graph": []}
    assert told({}, sql="raw") == {}


def test_a_long_difference_is_cut() -> None:
    [lines] = told({"sql": "raw"}, sql="long").values()
    assert len(lines) <= LARGEST + 1
    assert "more lines" in lines[-1]


def test_what_came_of_the_parts_is_no_part_that_changed() -> None:
    assert Node("m", "m", "table", parts={"sql": "raw2"}).differs_in({"sql": "raw", "compiled": "old"}) == ["sql"]
    assert Node("m", "m", "table", parts={"sql": "raw"}).differs_in({"sql": "raw", "compiled": "old"}) == ["folded"]
