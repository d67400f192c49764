"""Statements put to the warehouse by a dbt that is a process of its own: in the Jinja of an inline query, which is
compiled and not run. What comes back is a line of its log for each.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any

from sao_events.dbt.asked import answered
from sao_events.ports import Answer

MARK = "sao-events:answer "
LENGTH = 100_000  # characters; one argument of a process may be little longer
_JINJA = """
{%- if execute -%}
{%- for sql in STATEMENTS -%}
{%- set found = run_query(sql) -%}
{%- set rows = [] -%}
{%- for row in (found.rows | list)[:MOST] -%}
{%- set values = [] -%}
{%- for value in row.values() -%}
{%- if value is none or value is string or value is boolean or value is integer -%}
{%- do values.append({"as": "is", "value": value}) -%}
{%- elif value.isoformat is defined -%}
{%- do values.append({"as": "instant", "value": value.isoformat()}) -%}
{%- elif value is number -%}
{%- do values.append({"as": "number", "value": value | string}) -%}
{%- else -%}
{%- do values.append({"as": "is", "value": value | string}) -%}
{%- endif -%}
{%- endfor -%}
{%- do rows.append(values) -%}
{%- endfor -%}
{%- do log(MARK ~ tojson({"columns": found.column_names | list, "rows": rows}), info=true) -%}
{%- endfor -%}
{%- endif -%}
select 1
"""
_SILENT = "dbt source freshness leaves it out: declare a warn_after or error_after"


def query(statements: Sequence[str], most: int) -> str:
    """The inline query that asks all `statements`, in their order. It ends at the first that fails."""
    given = json.dumps(list(statements), ensure_ascii=False)
    return _JINJA.replace("MARK", json.dumps(MARK)).replace("MOST", str(most)).replace("STATEMENTS", given, 1).strip()


def parts(statements: Sequence[str]) -> list[list[str]]:
    """`statements` in their order, in lots that one process can be given."""
    lots: list[list[str]] = [[]]
    size = 0
    for sql in statements:
        if lots[-1] and size + len(sql) > LENGTH:
            lots.append([])
            size = 0
        lots[-1].append(sql)
        size += len(sql)
    return [lot for lot in lots if lot]


def read(events: Iterable[Mapping[str, Any]]) -> list[Answer]:
    """The answers in what dbt logged, in the order of the statements."""
    texts = (str(event["info"].get("msg") or "") for event in events)
    return [_answer(text.removeprefix(MARK)) for text in texts if text.startswith(MARK)]


def read_freshness(file: Path, sources: Sequence[str], otherwise: str) -> list[Answer]:
    """What `dbt source freshness` has written of `sources`; `otherwise`: what it said where there is nothing."""
    try:
        results = json.loads(file.read_text(encoding="utf-8"))["results"]
        told = {str(result["unique_id"]): result for result in results}
    except (OSError, ValueError, TypeError, KeyError):
        return [Answer(error=otherwise or "dbt did not answer") for _ in sources]
    return [_loaded(told[source]) if source in told else Answer(error=_SILENT) for source in sources]


def _loaded(result: Mapping[str, Any]) -> Answer:
    at = result.get("max_loaded_at")
    if at is None:
        return Answer(error=str(result.get("error") or "dbt does not know when it was loaded"))
    return Answer(("loaded_at",), ((answered(datetime.fromisoformat(at)),),))


def _answer(text: str) -> Answer:
    try:
        found = json.loads(text)
        return Answer(tuple(found["columns"]), tuple(map(_row, found["rows"])))
    except (ValueError, TypeError, KeyError, InvalidOperation) as error:
        return Answer(error=f"what dbt answered cannot be read: {error}")


def _row(told: Iterable[Mapping[str, Any]]) -> tuple[Any, ...]:
    return tuple(map(_value, told))


def _value(told: Mapping[str, Any]) -> Any:
    """The value as `ports.Answer` has it."""
    value = told["value"]
    if told["as"] == "number":
        return answered(Decimal(value))
    if told["as"] == "instant" and len(value) > len("2026-01-31"):
        return answered(datetime.fromisoformat(value))
    return value
