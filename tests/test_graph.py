"""The project as a graph: order, what lies behind views and ephemeral models, and what is refused."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings

from sao_events.core.errors import GraphError
from sao_events.core.graph import Graph
from sao_events.core.lineage import Code, Reading
from sao_events.core.nodes import Node, Source, Test
from sao_events.core.policy import Policy, Quorum
from sao_events.core.project import graph_warnings
from sao_events.scenario import parse_scenarios
from tests.histories import histories
from tests.record import graph, node, source, view

A, B, C = source("a"), source("b"), source("c")
FIXED = source("fixed", static=True)


# Bad input: a precise error, never a guess

BAD: dict[str, tuple[list[Node | Source | Test], str]] = {
    "a cycle": ([node("x", "y"), node("y", "z"), node("z", "x")], r"the graph has a cycle: .*x -> .*|.*y.*z.*"),
    "a node that reads itself": ([node("x", "x")], "the graph has a cycle: x -> x"),
    "two nodes of one name": ([node("x"), node("x")], "two nodes of the name x"),
    "two sources of one name": ([A, A], "two sources of the name a"),
    "two tests of one name": ([A, Test("t", "t", ("a",)), Test("t", "t", ("a",))], "two tests of the name t"),
    "a node and a source of one name": ([A, node("a")], "a is both a source and a node"),
    "a parent that is not there": ([node("x", "gone")], "x reads gone, which is neither a node nor a source"),
    "a test of nothing": ([Test("t", "t", ("gone",))], "test t reads gone, which is neither a node nor a source"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input(case: str) -> None:
    things, message = BAD[case]
    with pytest.raises(GraphError, match=message):
        graph(*things)


def test_a_cycle_is_named_along_its_edges_and_no_further() -> None:
    with pytest.raises(GraphError) as error:
        graph(node("in"), node("x", "in", "z"), node("y", "x"), node("z", "y"), node("out", "z"))
    path = str(error.value).removeprefix("the graph has a cycle: ").split(" -> ")
    assert sorted(set(path)) == ["x", "y", "z"]
    assert path[0] == path[-1]
    assert {(path[i], path[i + 1]) for i in range(len(path) - 1)} <= {("x", "y"), ("y", "z"), ("z", "x")}


# Order


def test_parents_stand_first_and_otherwise_the_given_order() -> None:
    assert list(graph(node("d", "b"), node("c"), node("b"), node("a1", "c")).nodes) == ["c", "b", "d", "a1"]
    assert graph(node("x"), node("y", "x"), node("z")).sort({"z", "y", "x"}) == ["x", "y", "z"]


@settings(deadline=None)
@given(histories())
def test_what_a_build_looks_at_holds_its_upstreams_and_feeds(text: str) -> None:
    [scenario] = parse_scenarios(text, "random")
    made = scenario.project().graph
    for name, seen in made.looks_at.items():
        assert {*made.upstreams[name], *made.feeds[name]} <= set(seen)


def test_a_parent_named_twice_counts_once() -> None:
    assert graph(A, node("x", "a", "a")).upstreams["x"] == ("a",)


# Views and ephemeral models

LAYERS = graph(
    A,
    B,
    C,
    node("e1", "a", "b", kind="ephemeral"),
    node("e2", "e1", "c", kind="ephemeral"),
    view("v", "e2"),
    view("w", "v", "b"),
    node("m", "w", "e1"),
)


def test_an_ephemeral_parent_is_replaced_by_its_own() -> None:
    assert LAYERS.upstreams["v"] == ("a", "b", "c")
    assert LAYERS.upstreams["m"] == ("w", "a", "b")


def test_feeds_are_the_data_behind_views() -> None:
    assert LAYERS.feeds["w"] == ("a", "b", "c")
    assert LAYERS.feeds["m"] == ("a", "b", "c")
    assert LAYERS.behind("m") == ("m",)
    assert LAYERS.behind("v") == ("a", "b", "c")
    assert LAYERS.behind("a") == ("a",)


def test_readers_skip_ephemeral_models() -> None:
    assert LAYERS.readers["a"] == ("v", "m")
    assert LAYERS.readers["v"] == ("w",)
    assert LAYERS.readers["e1"] == ()


def test_folded_are_the_ephemeral_models_inside_a_node() -> None:
    assert LAYERS.folded == {"e2": ("e1",), "v": ("e2", "e1"), "m": ("e1",)}


def test_what_a_build_looks_at_goes_through_views_and_stops_at_tables() -> None:
    assert LAYERS.looked_at(["m"]) == {"w", "v", "e1", "e2", "a", "b", "c"}
    assert graph(A, node("t", "a"), view("v", "t"), node("m", "v")).looked_at(["m"]) == {"v", "t"}


def test_ancestors_and_descendants() -> None:
    assert LAYERS.ancestors({"v"}) == {"v", "e2", "e1"}
    assert LAYERS.descendants({"c"}) == {"v", "w", "m"}


def test_the_text_of_an_ephemeral_model_is_part_of_what_reads_it() -> None:
    def prints(e1: str) -> dict[str, str]:
        nodes = [*LAYERS.nodes.values()]
        changed = [Node("e1", "e1", "ephemeral", ("a", "b"), Code(e1)) if n.id == "e1" else n for n in nodes]
        return Graph(changed, LAYERS.sources.values()).fingerprints

    before, after = prints("one"), prints("two")
    assert {name for name in before if before[name] != after[name]} == {"e1", "e2", "v", "m"}


# What never changes, and quorums


def test_what_never_changes() -> None:
    found = graph(
        A,
        FIXED,
        node("s", kind="seed"),
        view("v", "s", "fixed"),
        view("w", "v"),
        view("x", "v", "a"),
        node("t", "s"),
        view("none"),
        node("e", "s", kind="ephemeral"),
    )
    assert found.unchanging == {"fixed", "s", "v", "w", "none", "e"}
    assert found.unfed == found.unchanging | {"t"}


def test_what_a_quorum_of_all_counts() -> None:
    found = graph(
        A,
        FIXED,
        node("s", kind="seed"),
        node("m", "a", "fixed", "s", on="all"),
        node("n", "a"),
        node("o", "s", on="all"),
    )
    assert [found.counted(name) for name in ("m", "n", "o")] == [("a",), (), ()]


def test_views_under_a_quorum() -> None:
    found = graph(A, view("any", "a"), view("all", "a", on="all"), view("over", "all"), node("m", "over"))
    assert found.gathering == {"all", "over"}


def aged(name: str, *reads: str, on: Quorum = "any") -> Node:
    return replace(node(name, *reads, on=on), policy=Policy(0.0, on, max_staleness=3600.0))


def test_a_greatest_age_makes_new_data_of_nothing() -> None:
    found = graph(node("s", kind="seed"), aged("t", "s"), node("n", "t"), aged("none"), view("v", "none"))
    assert found.unfed == {"s"}


def test_a_quorum_that_cannot_be_met_feeds_nobody() -> None:
    found = graph(A, node("spine"), node("held", "a", "spine", on="all"), view("v", "held"), node("m", "v"))
    assert found.unfed == {"spine", "held", "v", "m"}


def test_warnings_name_what_they_are_about() -> None:
    given = graph(
        source("looks", view=True),
        A,
        FIXED,
        node("s", kind="seed"),
        node("spine", "s"),
        view("behind", "spine"),
        node("only_fixed", "fixed", on="all"),
        node("never", "a", "spine", on="all"),
        node("after", "a", "never", on="all"),
        view("held", "a", "behind", on="all"),
        node("fine", "a", "s", on="all"),
        node("no_parents", on="all"),
        aged("ages", on="all"),
        node("seed_all", kind="seed", on="all"),
        view("over_nothing", on="all"),
        node("folded", "spine", kind="ephemeral", on="all"),
    )
    found = graph_warnings(given, {"never": "models/p.yml:7", "looks": "sources.yml:3"})
    never = "updates_on: all can never be met"
    means = "so no new data ever builds this node; write updates_on: any"
    assert found[0].startswith("looks: a view in the warehouse")
    assert found[0].endswith("(sources.yml:3)")
    assert found[1:] == [
        f"only_fixed: {never}: fixed cannot have new data, {means}, or give max_staleness to only_fixed",
        f"never: {never}: spine cannot have new data, {means}, or give max_staleness to spine (models/p.yml:7)",
        f"after: {never}: never cannot have new data, {means}, or give max_staleness to never",
        f"held: {never}: behind cannot have new data, {means}",
        f"no_parents: {never}: it reads no source or model, {means}, or give max_staleness to no_parents",
    ]


# Tests, and how ephemeral models are read through


def test_tests_by_what_they_read() -> None:
    found = graph(
        A,
        node("e", "a", kind="ephemeral"),
        node("m", "e"),
        Test("source", "source", ("a",)),
        Test("folded", "folded", ("e", "a")),
        Test("mixed", "mixed", ("m", "a")),
    )
    assert found.tests_of == {"a": ("source", "folded", "mixed"), "e": ("folded",), "m": ("mixed",)}
    assert found.tests_of_unbuilt == {"a": ("source", "folded"), "e": ("folded",)}


READINGS: dict[str, tuple[Reading, Reading, Reading]] = {
    "names through names": (Reading({"e": ("x",)}), Reading({"u": ("x", "y")}), Reading({"u": ("x", "y")})),
    "names through a star": (Reading({"e": ("x",)}), Reading({}, frozenset({"u"})), Reading({"u": ("x",)})),
    "a star through a star": (
        Reading({}, frozenset({"e"})),
        Reading({}, frozenset({"u"})),
        Reading({}, frozenset({"u"})),
    ),
    "a star through names": (Reading({}, frozenset({"e"})), Reading({"u": ("x",)}), Reading({"u": ("x",)})),
    "unknown through a star": (Reading(), Reading({}, frozenset({"u"})), Reading()),
    "names through unknown": (Reading({"e": ("x",)}), Reading(), Reading()),
}


@pytest.mark.parametrize("case", READINGS)
def test_how_an_ephemeral_model_is_read_through(case: str) -> None:
    outer, inner, together = READINGS[case]
    found = Graph(
        [
            node("u"),
            Node("e", "e", "ephemeral", ("u",), Code("e"), reading=inner),
            Node("m", "m", "table", ("e",), Code("m"), reading=outer),
        ]
    )
    assert found.readings["m"] == together
