"""What follows from a look at the warehouse: which nodes have a relation there, and what follows where not."""

from __future__ import annotations

import pytest

from sao_events.core import events as e
from sao_events.core.decision import Reason
from sao_events.core.events import Recorded
from sao_events.core.evolve import evolve
from sao_events.core.graph import Graph
from sao_events.core.lineage import Code
from sao_events.core.look import Look
from sao_events.core.nodes import Node, Source
from sao_events.core.plan import attempt, decide, observe
from sao_events.core.policy import Settings
from sao_events.core.state import World
from sao_events.core.vanished import expected, judged
from sao_events.ports import Answer
from sao_events.warehouse import catalog


def graph(adapter: str = "duckdb", **code: str) -> Graph:
    """A table on a source, a view on it, an ephemeral model and a table on the view; `code` sets a node's own code."""

    def node(name: str, kind: str, *reads: str) -> Node:
        relation = None if kind == "ephemeral" else f'"db"."main"."{name}"'
        return Node(name, name, kind, reads, Code(code.get(name, "1")), relation=relation)

    made = [node("t", "table", "raw"), node("v", "view", "t"), node("e", "ephemeral", "t")]
    return Graph([*made, node("m", "table", "v", "e")], [Source("raw", "raw")], adapter=adapter)


class Log:
    """A record that nodes of a graph were built in."""

    def __init__(self, graph: Graph, *nodes: str) -> None:
        self.graph, self.world, self.runs = graph, World(), 0
        for name in nodes:
            self.build(name)

    def add(self, *events: e.Event) -> None:
        for event in events:
            seq = self.world.seq + 1
            evolve(self.world, Recorded(seq, float(seq), event))

    def begin(self, name: str, reason: str = "first_build") -> str:
        self.runs += 1
        run, look = f"r{self.runs}", Look(self.graph, self.world, Settings(), 0.0)
        begun = attempt(look, name, run, Reason(reason), 0.0, observe(look, name))
        started = e.BuildStarted(run, name, reason, 0.0, begun.observed, begun.code)
        self.add(e.RunStarted(run, {name: reason}), started)
        return run

    def build(self, name: str, reason: str = "first_build") -> None:
        run = self.begin(name, reason)
        self.add(e.NodeBuilt(run, name), e.RunFinished(run, "success"))

    def look(self, *there: str, before: World | None = None, graph: Graph | None = None) -> list[e.Event]:
        """What is concluded where `there` are the nodes whose relations are, and those of all others are not."""
        found = {node.relation: node.id in there for node in self.graph.nodes.values() if node.relation}
        return judged(graph or self.graph, before or self.world, self.world, found)


ALL = ("t", "v", "m")


def test_every_node_that_was_built_and_only_those_have_a_relation() -> None:
    assert list(expected(graph(), Log(graph(), "t", "v").world)) == ["t", "v"]
    assert list(expected(graph(), Log(graph(), *ALL).world)) == ["t", "v", "m"]


def test_what_is_gone_is_recorded_and_built_and_its_readers_are_not_for_that() -> None:
    log = Log(graph(), *ALL)
    assert log.look(*ALL) == []
    concluded = log.look("v", "m")
    assert concluded == [e.RelationDropped("t")]
    log.add(*concluded)
    decided = decide(log.graph, log.world, Settings(), 100.0)
    told = {name: (str(decision.action), str(decision.reason)) for name, decision in decided.items()}
    assert told["t"] == ("build", "relation_missing")
    assert told["v"] == ("reuse", "view_unchanged"), "its own relation is there"
    assert log.look("v", "m") == [], "it is said once"


def test_nothing_is_concluded_without_an_answer() -> None:
    log = Log(graph(), *ALL)
    assert judged(log.graph, log.world, log.world, {}) == []


def test_nothing_is_concluded_about_what_is_being_built_or_was_meanwhile() -> None:
    log = Log(graph(), *ALL)
    run = log.begin("t", "new_data")
    assert log.look() == [e.RelationDropped("v"), e.RelationDropped("m")]
    during = log.world.snapshot()
    log.add(e.NodeBuilt(run, "t"), e.RunFinished(run, "success"))
    assert e.RelationDropped("t") not in log.look(before=during)
    before = log.world.snapshot()
    log.build("t", "new_data")
    assert e.RelationDropped("t") not in log.look(before=before)


def test_nor_about_the_views_that_may_fall_with_it() -> None:
    log = Log(graph("postgres"), *ALL)
    log.add(e.RunStarted("r", {"t": "new_data"}))
    assert log.look() == [e.RelationDropped("m")]


def test_nor_about_a_node_whose_code_is_not_what_was_built() -> None:
    log = Log(graph(), *ALL)
    assert log.look(graph=graph(t="2")) == [e.RelationDropped("v"), e.RelationDropped("m")]


def test_a_build_that_does_not_bring_the_relation_back_is_not_done_over_and_over() -> None:
    log = Log(graph(), *ALL)
    log.add(*log.look("v", "m"))
    log.build("t", "relation_missing")
    assert log.look("v", "m") == []
    seen = log.look(*ALL)
    assert seen == [e.RelationsSeen(("t",))]
    log.add(*seen)
    assert log.look(*ALL) == []
    assert log.look("v", "m") == [e.RelationDropped("t")], "it was there, and is gone again"


@pytest.mark.parametrize(
    ("relation", "adapter", "name"),
    [
        ('"Db"."Main"."Orders"', "duckdb", ("db", "main", "orders")),
        ('"Db"."Main"."Orders"', "postgres", ("Db", "Main", "Orders")),
        ("Db.Main.Orders", "postgres", ("db", "main", "orders")),
        ('"a""b"."c.d"."e f"', "postgres", ('a"b', "c.d", "e f")),
        ('"main"."orders"', "postgres", None),
        ('"a"."b"."c"."d"', "postgres", None),
        ("read_csv('a.csv')", "duckdb", None),
        ("", "duckdb", None),
        ('"a"."b".', "duckdb", None),
    ],
)
def test_names_are_read_as_the_warehouse_compares_them(relation: str, adapter: str, name: object) -> None:
    assert catalog.name_of(relation, adapter) == name


def test_a_schema_is_asked_about_once() -> None:
    asked = catalog.questions(['"d"."a"."x"', '"D"."A"."y"', '"d"."b"."x"'], "duckdb")
    assert [list(question.relations) for question in asked] == [['"d"."a"."x"', '"D"."A"."y"'], ['"d"."b"."x"']]
    assert len(catalog.questions(['"d"."a"."x"', '"d"."A"."y"'], "postgres")) == 2
    assert catalog.questions(['"d"."a"."x"'], "snowflake") == []
    assert catalog.questions(['"memory"."main"."x"'], "duckdb") == []


HERE = ("d", None, None, "database")
X = '"d"."a"."x"'


@pytest.mark.parametrize(
    ("answer", "found"),
    [
        (Answer(rows=(HERE, ("d", "a", "x", "r"))), {X: "table"}),
        (Answer(rows=(HERE, ("d", "a", "x", "m"))), {X: "materialized view"}),
        (Answer(rows=(HERE, ("d", "a", "X", "r"))), {X: False}),
        (Answer(rows=(HERE,)), {X: False}),
        (Answer(rows=(HERE,), error="lost"), {}),
        (Answer(error="no answer within 60 seconds"), {}),
        (Answer(), {}),
        (Answer(rows=(("other", None, None, "database"),)), {}),
        (Answer(rows=(HERE, ("d", "a", "y", "r"), ("d", "a", "z", "r"))), {}),
    ],
)
def test_only_a_whole_answer_about_the_right_database_says_anything(
    answer: Answer, found: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(catalog, "MOST", 3)
    asked = catalog.questions([X], "postgres")
    assert catalog.seen(asked, [answer], "postgres") == found
