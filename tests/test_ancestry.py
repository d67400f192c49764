"""Column lineage: what a column is made of, what is made of it, and what nobody knows."""

from __future__ import annotations

from typing import Any

import pytest

from sao_events.core import events as e
from sao_events.core.columns import analyse
from sao_events.core.errors import NotThere, UsageError
from sao_events.core.graph import Graph
from sao_events.core.nodes import Node, Source
from sao_events.core.project import Project
from sao_events.report.ancestry import PASSED, UNKNOWN, column_lineage, columns_known
from sao_events.report.column_name import lineage_of, seeds_built
from tests.record import Record, node

QUERIES = {
    "star": "select * from raw",
    "orders": "select id, a + b as amount from star where kind = 'x'",
    "sums": "select id, sum(amount) as total from orders group by id",
    "count": "select count(*) as n from orders",
    "passing": "select * from sums",
}
READS = {"star": ("raw",), "orders": ("star",), "sums": ("orders",), "count": ("orders",), "passing": ("sums",)}


def shop() -> Graph:
    nodes = [Node("opaque", "opaque", "table", ("orders",), doubt="it asks the warehouse")]
    for name, sql in QUERIES.items():
        found = analyse(sql, "duckdb")
        reading = found.reading({up: up for up in found.relations})
        assert {*found.relations} == {*READS[name]}
        nodes.append(Node(name, name, "table", READS[name], own=found.code, reading=reading))
    return Graph(nodes, [Source("raw", "raw")])


def edges(tree: dict[str, Any]) -> set[tuple[str, str, str]]:
    found = {(it["node"], it["column"], it["how"]) for it in tree["because"]}
    return found.union(*(edges(it) for it in tree["because"]))


def test_a_column_is_followed_to_the_source() -> None:
    tree = column_lineage(shop(), "passing", "total")
    assert {
        ("sums", "total", "feeds"),
        ("orders", "amount", "feeds"),
        ("star", "a", "feeds"),
        ("raw", "a", "feeds"),
    } <= (edges(tree))
    assert ("star", "kind", "rows") in edges(tree)
    assert ("star", "id", "feeds") not in edges(column_lineage(shop(), "orders", "amount"))


def test_what_nobody_knows_is_said() -> None:
    graph = shop()
    assert column_lineage(graph, "star", "a")["doubt"] == PASSED
    assert column_lineage(graph, "opaque", "x")["doubt"] == f"{UNKNOWN} (it asks the warehouse)"
    assert columns_known(graph, "star") == ((), False)
    assert columns_known(graph, "passing") == (("id", "total"), True)


def test_what_is_made_of_a_column() -> None:
    found = edges(column_lineage(shop(), "raw", "a", downstream=True))
    assert {("star", "a", "feeds"), ("orders", "amount", "feeds"), ("sums", "total", "feeds")} <= found
    assert {("passing", "total", "feeds"), ("opaque", "*", "feeds")} <= found
    assert ("orders", "id", "feeds") not in found


def test_rows_count_where_no_column_is_read() -> None:
    assert ("orders", "*", "rows") in edges(column_lineage(shop(), "count", "n"))
    assert ("star", "kind", "feeds") in edges(column_lineage(shop(), "count", "n"))
    assert ("count", "*", "rows") in edges(column_lineage(shop(), "raw", "kind", downstream=True))


def test_going_down_the_doubt_is_about_the_reader() -> None:
    tree = column_lineage(shop(), "orders", "amount", downstream=True)
    assert tree["doubt"] == ""
    doubts = {(it["node"], it["column"]): it["doubt"] for it in tree["because"]}
    assert doubts == {("opaque", "*"): f"{UNKNOWN} (it asks the warehouse)", ("sums", "total"): ""}


def test_a_column_is_named_by_its_node_or_source() -> None:
    project = Project(shop(), "shop", "duckdb")
    assert lineage_of(project, "orders.AMOUNT") == column_lineage(shop(), "orders", "amount")
    assert lineage_of(project, "raw.a", downstream=True) == column_lineage(shop(), "raw", "a", downstream=True)
    assert lineage_of(project, "raw.a")["because"] == []


def test_a_node_goes_before_a_source_of_its_name() -> None:
    nodes = [Node("model.shop.orders", "orders", "table", ("source.shop.raw.orders",))]
    project = Project(Graph(nodes, [Source("source.shop.raw.orders", "raw.orders")]), "shop", "duckdb")
    assert lineage_of(project, "orders.id")["node"] == "model.shop.orders"
    assert lineage_of(project, "raw.orders.id")["node"] == "source.shop.raw.orders"


@pytest.mark.parametrize(
    ("asked", "hint"),
    [("orders", "orders.amount"), (".id", "orders.amount"), ("order.id", "orders"), ("orders.amonut", "amount")],
)
def test_what_is_no_column_is_refused_with_the_nearest(asked: str, hint: str) -> None:
    with pytest.raises(UsageError) as refused:
        lineage_of(Project(shop(), "shop", "duckdb"), asked)
    assert hint in (refused.value.hint or "")


def seeded(record: Record) -> tuple[Project, dict[str, tuple[str, ...]]]:
    graph = record.graph
    return Project(graph, "shop", "duckdb"), seeds_built(graph, record.world)


def seed_and_star() -> Record:
    found = analyse("select * from codes", "duckdb")
    star = Node("star", "star", "table", ("codes",), found.code, reading=found.reading({"codes": "codes"}))
    record = Record(node("codes", kind="seed"), star)
    record.graph = Graph(record.graph.nodes.values(), adapter="duckdb")
    return record


def built(record: Record, **columns: str) -> Record:
    run = record.start("codes")
    return record.add(e.NodeBuilt(run, "codes", 1.0, columns=columns), e.RunFinished(run, "success"))


def test_the_columns_of_a_seed_are_those_that_it_was_built_with() -> None:
    project, seeds = seeded(built(seed_and_star(), Id="INTEGER", Name="VARCHAR"))
    assert seeds == {"codes": ("id", "name")}
    assert lineage_of(project, "codes.NAME", seeds=seeds)["column"] == "name"
    for asked in ("codes.nme", "star.nme"):
        with pytest.raises(NotThere) as refused:
            lineage_of(project, asked, seeds=seeds)
        assert (refused.value.message.partition(" has")[2], refused.value.hint) == (
            " no column nme",
            "did you mean name?",
        )
    tree = lineage_of(project, "star.NAME", seeds=seeds)
    assert (tree["column"], tree["doubt"]) == ("name", "")
    assert ("codes", "name", "feeds") in edges(tree)
    assert lineage_of(project, "star.name")["doubt"] == PASSED


def test_the_columns_of_a_seed_that_is_another_now_are_not_known() -> None:
    assert seeded(seed_and_star())[1] == {}
    assert seeded(built(seed_and_star()))[1] == {}
    record = built(seed_and_star(), id="INTEGER")
    record.edit("codes", "another file")
    record.graph = Graph(record.graph.nodes.values(), adapter="duckdb")
    assert seeded(record)[1] == {}


@pytest.mark.parametrize("asked", ["x" * 5000, f"orders.{'x' * 5000}", f"{'x' * 5000}.id"])
def test_what_was_asked_is_repeated_shortened(asked: str) -> None:
    with pytest.raises(UsageError) as refused:
        lineage_of(Project(shop(), "shop", "duckdb"), asked)
    assert "x" * 50 in refused.value.message
    assert len(refused.value.message) < 150


def test_a_part_of_its_readers_has_none_of_its_own() -> None:
    nodes = [Node("part", "part", "ephemeral", ("raw",)), Node("whole", "whole", "table", ("part",))]
    project = Project(Graph(nodes, [Source("raw", "raw")]), "shop", "duckdb")
    with pytest.raises(UsageError, match="ephemeral"):
        lineage_of(project, "part.id", downstream=True)
