"""What proofs start from: which tests assert something plain, and which models hold the rows of their SQL."""

from __future__ import annotations

from typing import Any

import pytest

from sao_events.core.claims import Claim
from sao_events.dbt.asserted import Asserted

MODEL = {"resource_type": "model", "config": {"materialized": "table", "contract": {"enforced": False}}}


def asserted(*macros: str, package: str = "shop", adapter: str = "duckdb") -> Asserted:
    """With macros of these names in a package."""
    body = {f"macro.{package}.{name}": {"name": name, "package_name": package} for name in macros}
    return Asserted({"macros": body, "sources": {"source.s": {}}}, adapter, ["model.m", "model.other"])


def a_test(kind: str = "unique", *others: str, on: str = "model.m", config: Any = None, **given: Any) -> dict[str, Any]:
    """A test as the manifest has it."""
    metadata = {"name": kind, "namespace": None, "kwargs": {"column_name": "id", "model": "{{ it }}"} | given}
    return {
        "test_metadata": metadata,
        "attached_node": on,
        "config": config or {},
        "depends_on": {"nodes": [on, *others]},
    }


def test_what_plain_tests_assert() -> None:
    read = asserted().claim
    assert read(a_test()) == Claim("model.m", "unique", "id")
    assert read(a_test("not_null", on="source.s", column_name="Id")) == Claim("source.s", "not_null", "id")
    assert read(a_test("accepted_values", values=["b", "a"])) == Claim(
        "model.m", "accepted_values", "id", ("'a'", "'b'")
    )
    assert read(a_test("accepted_values", values=[2, 1], quote=False)) == Claim(
        "model.m", "accepted_values", "id", ("1", "2")
    )
    related = a_test("relationships", "model.other", to="ref('other')", field="key")
    assert read(related) == Claim("model.m", "relationships", "id", to="model.other", field="key")
    itself = a_test("relationships", to="ref('m')", field="key")
    assert read(itself) == Claim("model.m", "relationships", "id", to="model.m", field="key")


@pytest.mark.parametrize(
    "config",
    [
        {"severity": "WARN"},
        {"where": "id > 1"},
        {"limit": 3},
        {"fail_calc": "sum(n)"},
        {"warn_if": "> 2"},
        {"error_if": ">10"},
        {"store_failures": True},
        {"store_failures_as": "view"},
    ],
)
def test_what_is_configured_asserts_nothing(config: dict[str, Any]) -> None:
    assert asserted().claim(a_test(config=config)) is None
    assert asserted().claim(a_test(config={"severity": "ERROR", "warn_if": "!= 0", "store_failures": None})) is not None


@pytest.mark.parametrize(
    "test",
    [
        a_test("at_least_one"),
        a_test(column_name="lower(id)"),
        a_test(column_name="{{ var('key') }}"),
        a_test("accepted_values", values=["it's"]),
        a_test("accepted_values", values=["{{ var('x') }}"]),
        a_test("accepted_values", values=[1.5], quote=False),
        a_test("accepted_values", values=[]),
        a_test("relationships", "model.gone", to="ref('gone')", field="key"),
        a_test("unique", "model.other"),
        a_test(on="model.gone"),
        {"config": {}},
    ],
)
def test_what_is_not_plain_asserts_nothing(test: dict[str, Any]) -> None:
    assert asserted().claim(test) is None


def test_a_project_with_its_own_macros_for_tests_asserts_nothing() -> None:
    for name in ("default__test_unique", "test_not_null", "get_where_subquery", "duckdb__get_test_sql", "ref"):
        assert asserted(name).claim(a_test()) is None
    assert asserted("default__test_unique", package="dbt").claim(a_test()) is not None
    assert asserted("default__test_unique_enough").claim(a_test()) is not None
    assert asserted(adapter="sqlite").claim(a_test()) is None


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, True),
        ({"materialized": "view"}, True),
        ({"materialized": "incremental"}, False),
        ({"materialized": "my_own"}, False),
        ({"contract": {"enforced": True}}, False),
        ({"post-hook": [{"sql": "delete from {{ this }}"}]}, False),
        ({"pre-hook": [{"sql": "select 1"}]}, False),
        ({"sql_header": "set x = 1"}, False),
    ],
)
def test_which_models_hold_the_rows_of_their_sql(changes: dict[str, Any], expected: bool) -> None:
    model = MODEL | {"config": {"materialized": "table", "contract": {"enforced": False}} | changes}
    assert asserted().verbatim(model) is expected
    for name in ("materialization_table_default", "duckdb__create_table_as", "get_create_view_as_sql"):
        assert not asserted(name).verbatim(model)
    assert not asserted().verbatim(model | {"resource_type": "seed"})
