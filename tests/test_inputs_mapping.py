"""Which sources of the project a landing is about: names, rules, relations as each warehouse reads them, schemas."""

from __future__ import annotations

from typing import Any

import pytest

from sao_events.core.graph import Graph
from sao_events.core.nodes import Node, Source
from sao_events.core.project import Project
from sao_events.inputs.landing import Landing, Place
from sao_events.inputs.mapping import Atlas, Found, Named, Rule, shared_out, unknown, wrong_in
from sao_events.inputs.openlineage import ADAPTERS


def atlas(adapter: str, *relations: str, models: tuple[str, ...] = ()) -> Atlas:
    """Sources raw.s0, raw.s1 ... and models m0, m1 ... at the relations."""
    sources = [Source(f"source.p.raw.s{n}", f"raw.s{n}", relation=it) for n, it in enumerate(relations)]
    nodes = [Node(f"model.p.m{n}", f"m{n}", "table", relation=it) for n, it in enumerate(models)]
    return Atlas(Project(Graph(nodes, sources), "p", adapter))


def found(where: Atlas, *rules: Rule, **landing: Any) -> str:
    """The numbers of the sources that are found, `own`, or nothing."""
    it = where.find(Landing(**landing), rules)
    return "own" if it.own else "".join(name.rpartition(".s")[2] for name in it.sources)


def at(where: Atlas, text: str) -> str:
    """The same for a relation, `database.schema.table`, or a schema, `database.schema.*`."""
    from sao_events.inputs.data import read_place

    place = read_place(text)
    return found(where, place=Place(place.schema, None if place.table == "*" else place.table, place.database))


# By name


@pytest.mark.parametrize("name", ["source.p.raw.s0", "raw.s0", "s0", "db.sch.orders", '"db"."sch"."orders"'])
def test_a_source_is_found_by_what_people_call_it(name: str) -> None:
    assert found(atlas("duckdb", '"db"."sch"."orders"', '"db"."sch"."items"'), source=name) == "0"


def test_all_of_a_source_is_found_by_its_group() -> None:
    assert found(atlas("duckdb", '"db"."a"."x"', '"db"."b"."y"'), source="raw.*") == "01"
    assert found(atlas("duckdb", '"db"."a"."x"'), source="other.*") == ""


# By relation: what the warehouse has, what dbt renders, what the sender says


@pytest.mark.parametrize(
    ("adapter", "rendered", "said", "same"),
    [
        ("snowflake", "raw.shop.orders", "RAW.SHOP.ORDERS", True),
        ("snowflake", "raw.shop.orders", "raw.shop.orders", True),
        ("snowflake", "raw.shop.orders", 'raw.shop."orders"', False),
        ("snowflake", 'raw.shop."orders"', "RAW.SHOP.ORDERS", False),
        ("snowflake", 'raw.shop."orders"', "RAW.SHOP.orders", True),
        ("snowflake", 'raw.shop."orders"', 'raw.shop."orders"', True),
        ("snowflake", '"RAW"."SHOP"."ORDERS"', "raw.shop.orders", True),
        ("postgres", '"db"."raw"."orders"', "db.raw.ORDERS", True),
        ("postgres", '"db"."raw"."Orders"', "db.raw.orders", False),
        ("postgres", '"db"."raw"."Orders"', "db.raw.Orders", True),
        ("postgres", '"db"."raw"."Orders"', 'db.raw."Orders"', True),
        ("postgres", '"db"."raw"."orders"', 'db.raw."Orders"', False),
        ("redshift", '"db"."raw"."orders"', "DB.RAW.ORDERS", True),
        ("redshift", '"db"."raw"."Orders"', "db.raw.orders", True),
        ("bigquery", "`proj`.`Raw`.`orders`", "proj.Raw.orders", True),
        ("bigquery", "`proj`.`Raw`.`orders`", "proj.raw.orders", False),
        ("bigquery", "`proj`.`raw`.`orders`", "proj.raw.ORDERS", False),
        ("duckdb", '"db"."raw"."Orders"', "db.raw.orders", True),
        ("duckdb", '"db"."raw"."orders"', 'DB.RAW."ORDERS"', True),
        ("databricks", "`main`.`raw`.`orders`", "MAIN.RAW.Orders", True),
        ("spark", "raw.orders", "raw.Orders", True),
        ("sqlserver", '"db"."raw"."orders"', "[db].[RAW].[orders]", True),
        ("duckdb", '"db"."a.b"."orders"', 'db."a.b".orders', True),
        ("duckdb", '"db"."raw"."orders"', "other.raw.orders", False),
        ("duckdb", '"db"."raw"."orders"', "db.other.orders", False),
        ("duckdb", '"db"."raw"."orders"', "raw.orders", True),
    ],
)
def test_relations_are_compared_as_the_warehouse_does(adapter: str, rendered: str, said: str, same: bool) -> None:
    assert at(atlas(adapter, rendered), said) == ("0" if same else "")


def test_the_exact_spelling_goes_before_the_folded_one() -> None:
    both = atlas("snowflake", 'raw.shop."orders"', "raw.shop.orders")
    assert (at(both, "RAW.SHOP.orders"), at(both, "RAW.SHOP.ORDERS"), at(both, 'raw.shop."ORDERS"')) == ("0", "1", "1")


def test_two_sources_of_one_relation_are_both_meant() -> None:
    assert at(atlas("duckdb", '"db"."raw"."orders"', '"db"."raw"."orders"'), "raw.orders") == "01"


def test_a_table_alone_is_found_where_only_one_has_it() -> None:
    assert at(atlas("duckdb", '"db"."raw"."orders"', '"db"."raw"."items"'), "orders") == "0"
    assert at(atlas("duckdb", '"db"."a"."orders"', '"db"."b"."orders"'), "orders") == ""


def test_a_schema_is_all_of_its_sources() -> None:
    three = atlas("snowflake", "raw.shop.orders", "raw.shop.items", "raw.crm.leads")
    assert (at(three, "raw.shop.*"), at(three, "SHOP.*"), at(three, "other.shop.*")) == ("01", "01", "")
    assert found(three, place=Place("crm")) == "2"


def test_a_namespace_of_another_warehouse_is_not_here() -> None:
    here = atlas("postgres", '"db"."raw"."orders"')
    place = Place("raw", "orders", "db")
    assert found(here, place=place, adapters=ADAPTERS["postgres"]) == "0"
    assert found(here, place=place, adapters=ADAPTERS["snowflake"]) == ""
    assert found(atlas("redshift", '"db"."raw"."orders"'), place=place, adapters=ADAPTERS["postgres"]) == "0"


# What the project builds itself


def test_what_the_project_builds_itself_is_no_news() -> None:
    here = atlas("duckdb", '"db"."raw"."orders"', models=('"db"."main"."revenue"',))
    assert found(here, place=Place("main", "revenue", "db")) == "own"
    assert found(here, place=Place("main", "other", "db")) == ""


def test_dbts_own_word_of_a_model_that_is_a_source_too_makes_no_loop() -> None:
    here = atlas("duckdb", '"db"."main"."revenue"', models=('"db"."main"."revenue"',))
    place = Place("main", "revenue", "db")
    assert found(here, place=place, labels={"integration": "DBT"}) == "own"
    assert found(here, place=place, labels={"integration": "SPARK"}) == "0"


# Rules


SHOP = atlas("duckdb", '"db"."raw"."orders"', '"db"."raw"."items"', '"db"."crm"."leads"')


def test_the_first_rule_that_matches_decides() -> None:
    rules = (
        Rule({"connector_id": "a"}, ("raw.s0", "raw.s1")),
        Rule({"connector_id": "*"}, schema="{connector_name}"),
    )
    assert found(SHOP, *rules, labels={"connector_id": "a", "connector_name": "crm"}) == "01"
    assert found(SHOP, *rules, labels={"connector_id": "b", "connector_name": "crm"}) == "2"
    assert found(SHOP, *rules, labels={"connector_name": "crm"}) == ""


def test_a_rule_goes_before_the_place_and_after_the_name() -> None:
    rule = Rule({"connector_id": "a"}, ("raw.s1",))
    labels = {"connector_id": "a"}
    assert found(SHOP, rule, labels=labels, place=Place("raw")) == "1"
    assert found(SHOP, rule, labels=labels, source="raw.s0") == "0"
    assert found(SHOP, rule, labels={"connector_id": "b"}, place=Place("raw")) == "01"


@pytest.mark.parametrize(
    ("pattern", "key", "matches"),
    [
        ("shop/{table}/*.parquet", "shop/orders/1.parquet", True),
        ("shop/{table}/*.parquet", "shop/orders/2026/1.parquet", True),
        ("shop/{table}/*.parquet", "shop/orders.parquet", False),
        ("*/{table}/*", "a/b/orders/1", True),
        ("shop/*", "shop/", True),
        ("shop/*", "shopping/x", False),
        ("*a*b*", "xxaxxbxx", True),
        ("*a*b*", "xxbxxaxx", False),
        ("shop/[abc]", "shop/a", False),
    ],
)
def test_patterns(pattern: str, key: str, matches: bool) -> None:
    rule = Rule({"key": pattern}, relation="raw.orders")
    assert found(SHOP, rule, labels={"key": key}) == ("0" if matches else "")


def test_a_rule_names_a_relation_by_what_it_captured() -> None:
    rule = Rule({"bucket": "landing", "key": "shop/{table}/*"}, relation="raw.{table}")
    labels = {"bucket": "landing", "key": "shop/items/7"}
    assert found(SHOP, rule, labels=labels) == "1"
    assert found(SHOP, rule, labels={**labels, "key": "shop/a.b/7"}) == ""
    assert found(SHOP, rule, labels={"key": "shop/items/7"}) == ""


def test_a_rule_may_ask_for_the_place_and_make_another_of_it() -> None:
    rule = Rule({"schema": "shopify"}, relation="raw.{table}")
    assert found(SHOP, rule, place=Place("shopify", "orders"), labels={"table": "orders"}) == "0"


@pytest.mark.parametrize("text", ["raw.{missing}", "{a", "a}", "{}", "raw..orders", '"', "{table}"])
def test_a_target_that_cannot_be_filled_in_stands_for_nothing(text: str) -> None:
    assert found(SHOP, Rule({}, relation=text), labels={"x": "y"}) == ""


def test_no_text_takes_long_to_be_told_from_a_pattern() -> None:
    rule = Rule({"key": "*a" * 40 + "*{x}/{y}*b"}, relation="raw.orders")
    assert found(SHOP, rule, labels={"key": "a" * 1024}) == ""  # it would be hours, did it try every way


def test_rules_that_cannot_be_meant_are_told() -> None:
    assert wrong_in(Rule({"a": "b"}, ("raw.s0",))) is None
    for rule in (Rule({"a": "b"}), Rule({}, ("x",), "y"), Rule({}, (), "x", "y"), Rule({"a": "{x}{x}"}, ("raw.s0",))):
        assert wrong_in(rule)


# What is about nothing


def test_what_is_not_found_is_told_with_the_nearest() -> None:
    project = Project(
        Graph([], [Source("source.p.raw.orders", "raw.orders", relation='"db"."raw"."orders"')]), "p", "x"
    )
    for landing in (Landing("raw.ordrs"), Landing(place=Place("raw", "ordres", "db")), Landing("RAW.ORDER")):
        assert Atlas(project).find(landing).nearest == ("raw.orders",)
    assert Atlas(project).find(Landing(labels={"key": "raw.orders"})) == Found()


def test_a_count_over_a_connection_is_that_of_no_table() -> None:
    landing = Landing(rows=10, size=100, scope="connection")
    assert [it.rows for _, it in shared_out(landing, ["a"])] == [10]
    assert [(it.rows, it.size) for _, it in shared_out(landing, ["a", "b"])] == [(None, None)] * 2
    assert [it.rows for _, it in shared_out(Landing(rows=0), ["a", "b"])] == [0, 0]


# What a configuration calls sources, and is none


@pytest.mark.parametrize(
    ("kind", "good", "wrong", "nearest"),
    [
        ("source", "raw.s1", "raw.s7", "raw.s"),
        ("source", "s0", "raw.*", ""),
        ("sources", "raw.*", "rw.*", ""),
        ("sources", "raw.{table}", "raw.t0", "raw.s0"),
        ("relation", "sch.orders", "sch.ordrs", ""),
        ("relation", "{schema}.orders", "orders.sch.db.x", ""),
        ("schema", "db.sch", "db.other", ""),
        ("schema", "{schema}", "sch.db", ""),
    ],
)
def test_a_name_that_is_no_source_is_told_with_its_place(kind: str, good: str, wrong: str, nearest: str) -> None:
    project = atlas("duckdb", '"db"."sch"."orders"', '"db"."sch"."items"').project
    names = [Named("sao.yml:3: here", kind, good), Named("sao.yml:4: there", kind, wrong)]
    [warning] = unknown(project, names)
    assert warning.startswith(f"sao.yml:4: there: {wrong} is no source of the project")
    assert f"did you mean {nearest}" in warning if nearest else True
