"""What is known of relations that builds have left behind, by hand-made records."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sao_events.core import events as e
from sao_events.core.evolve import evolve
from sao_events.core.graph import Graph
from sao_events.core.nodes import Node, Source
from sao_events.core.relations import behind, left, left_objects, made_by, recalled, unknown
from sao_events.core.state import World
from tests.record import graph, node, source


def at(name: str, where: str, **more: object) -> Node:
    """A node whose relation is `db.s.<where>`, with SQL of its own."""
    made = replace(node(name), relation=f'"db"."s"."{where}"', parts={"sql": f"sql of {name}"})
    return replace(made, **more)  # type: ignore[arg-type]


def name(relation: str) -> str:
    return f'"db"."s"."{relation}"'


class Project:
    """A log in which projects come into force and nodes are built, a second apart."""

    def __init__(self) -> None:
        self.world, self.graph = World(), Graph([], [], [])
        self.loads: list[tuple[float, str | None, Graph]] = []

    def add(self, *events: e.Event) -> None:
        for event in events:
            seq = self.world.seq + 1
            evolve(self.world, e.Recorded(seq, float(seq), event))

    def load(self, *things: Node | Source, commit: str | None = None) -> None:
        new = graph(*things)
        self.add(e.ProjectLoaded("d", commit, (), left(made_by(self.graph), new)))
        self.graph = new
        self.loads.append((self.world.at, commit, new))

    def build(self, *names: str, told: bool = True) -> None:
        for it in names:
            self.begin(it, told)
            self.add(e.NodeBuilt("r", it), e.RunFinished("r", "success"))

    def begin(self, it: str, told: bool = True) -> None:
        made = self.graph.nodes[it]
        seen = e.Observed(self.graph.fingerprints[it], parts=made.on_record, drops=self.world.node(it).drops)
        where = (made.relation, made.kind) if told else (None, "")
        self.add(e.RunStarted("r", {it: "new_data"}))
        self.add(e.BuildStarted("r", it, "new_data", 0.0, seen, made.own, 0, True, (), *where))

    @property
    def left(self) -> set[str]:
        return set(behind(self.graph, self.world))


@pytest.fixture
def shop() -> Project:
    """Two tables that were built."""
    made = Project()
    made.load(at("a", "a"), at("b", "b"), commit="c1")
    made.build("a", "b")
    return made


def test_what_is_in_the_project_is_not_left(shop: Project) -> None:
    assert shop.left == set()


def test_a_removed_node_leaves_its_relation_behind(shop: Project) -> None:
    shop.load(at("b", "b"), commit="c2")
    [found] = left_objects(shop.graph, shop.world)
    assert (found["relation"], found["node"], found["kind"], found["commit"]) == (name("a"), "a", "table", "c2")
    assert (found["built_at"], found["left_at"], found["now"]) == (4.0, 10.0, None)


def test_since_when_it_is_left_does_not_change_with_later_commits(shop: Project) -> None:
    shop.load(at("b", "b"), commit="c2")
    shop.load(at("b", "b2"), commit="c3")
    assert [it["commit"] for it in left_objects(shop.graph, shop.world)] == ["c3", "c2"]


def test_what_was_never_built_leaves_nothing(shop: Project) -> None:
    shop.load(at("a", "a"), at("b", "b"), at("c", "c"))
    shop.load(at("a", "a"), at("b", "b"))
    assert shop.left == set()


def test_a_node_that_moves_leaves_what_it_had_and_a_place_it_never_built_is_none(shop: Project) -> None:
    shop.load(at("a", "moved"), at("b", "b"))
    shop.load(at("a", "again"), at("b", "b"))
    shop.build("a")
    assert shop.left == {name("a")}
    assert left_objects(shop.graph, shop.world)[0]["now"] == "a"


def test_a_node_that_is_made_ephemeral_leaves_its_relation(shop: Project) -> None:
    shop.load(at("a", "a", kind="ephemeral", relation=None), at("b", "b"))
    [found] = left_objects(shop.graph, shop.world)
    assert (found["relation"], found["now"]) == (name("a"), None)


def test_a_renamed_node_is_told_by_its_sql(shop: Project) -> None:
    shop.load(at("a2", "a2", parts={"sql": "sql of a"}), at("b", "b"))
    assert [it["now"] for it in left_objects(shop.graph, shop.world)] == ["a2"]
    shop.build("a2")
    assert [it["now"] for it in left_objects(shop.graph, shop.world)] == ["a2"]


def test_what_was_there_beside_it_or_is_not_alone_is_no_new_name(shop: Project) -> None:
    shop.load(at("b", "b", parts={"sql": "sql of a"}))
    assert [it["now"] for it in left_objects(shop.graph, shop.world)] == [None]
    shop.load(at("x", "x", parts={"sql": "sql of a"}), at("y", "y", parts={"sql": "sql of a"}), at("b", "b"))
    assert [it["now"] for it in left_objects(shop.graph, shop.world)] == [None]


@pytest.mark.parametrize("spelled", ['"db"."s"."a"', "db.s.a", "`DB`.`S`.`A`", '"DB"."S"."A"'])
def test_what_a_node_or_a_source_names_in_any_spelling_is_not_left(shop: Project, spelled: str) -> None:
    shop.load(at("b", "b"), replace(source("s"), relation=spelled))
    assert shop.left == set()
    shop.load(at("b", "b"), at("other", "", relation=spelled))
    assert shop.left == set()


def test_what_comes_back_is_not_left_and_stands_as_it_was_built(shop: Project) -> None:
    shop.load(at("b", "b"), commit="c2")
    shop.load(at("a", "a"), at("b", "b"), commit="c3")
    assert shop.left == set()
    assert not shop.world.node("a").dropped
    shop.load(at("b", "b"), commit="c4")
    assert [it["commit"] for it in left_objects(shop.graph, shop.world)] == ["c4"]


def test_what_another_node_has_written_since_is_no_longer_what_was_built(shop: Project) -> None:
    shop.load(at("b", "a"))
    shop.build("b")
    assert shop.left == {name("b")}
    assert shop.world.node("a").dropped
    assert not shop.world.node("b").dropped


@pytest.mark.parametrize("end", [e.NodeFailed("r", "b"), e.BuildInterrupted("r", "b"), e.EngineStarted()])
def test_nor_what_another_node_may_have_written_in_a_build_that_failed_or_was_lost(shop: Project, end: e.Event) -> None:
    shop.load(at("b", "a"))
    shop.begin("b")
    shop.add(end)
    shop.load(at("a", "a"), at("b", "b"))
    assert shop.world.node("a").dropped, "dbt renames before its hooks, and nobody saw how far it came"


def test_a_build_that_fails_in_its_own_place_leaves_the_record_of_it(shop: Project) -> None:
    shop.begin("a")
    shop.add(e.NodeFailed("r", "a"))
    assert not shop.world.node("a").dropped
    assert not shop.world.node("b").dropped


def test_a_node_that_had_moved_away_stays_as_it_is_where_another_takes_its_old_place(shop: Project) -> None:
    shop.load(at("a", "moved"), at("b", "a"))
    shop.build("a", "b")
    assert not shop.world.node("a").dropped
    assert shop.left == {name("b")}


def test_what_was_cleaned_is_forgotten_and_built_again_when_it_comes_back(shop: Project) -> None:
    shop.load(at("b", "b"))
    shop.add(e.RelationsCleaned((name("a"), name("never"))))
    assert shop.left == set()
    assert shop.world.node("a").dropped
    assert not shop.world.node("b").dropped


def test_a_request_that_nobody_has_answered_ends_with_its_engine(shop: Project) -> None:
    shop.load(at("b", "b"))
    shop.add(e.CleanAsked("looks"), e.CleanAsked("drops", (name("a"), name("never"))), e.CleanAsked("late"))
    assert shop.world.cleaning == {"looks": (), "drops": (name("a"), name("never")), "late": ()}
    shop.add(e.EngineStarted())
    assert shop.world.cleaning == {}
    assert shop.left == {name("a")}, "it is not known whether it is gone: it is looked at again"
    assert shop.world.node("a").dropped, "and should its node come back, it is built"
    assert not shop.world.node("b").dropped


def test_a_request_that_was_answered_leaves_nothing_for_the_next_engine(shop: Project) -> None:
    shop.load(at("b", "b"))
    shop.add(e.CleanAsked("drops", (name("a"),)), e.CleanAnswered("drops"), e.CleanAnswered("other"))
    shop.add(e.EngineStarted())
    assert (shop.world.cleaning, shop.left) == ({}, {name("a")})
    assert not shop.world.node("a").dropped


def test_what_an_earlier_release_recorded_is_found_in_the_projects_of_its_log() -> None:
    told, silent = Project(), Project()
    for made, says in ((told, True), (silent, False)):
        made.load(at("a", "a"), at("b", "b"), at("c", "c"), commit="c1")
        made.build("a", "b", "c", told=says)
        made.load(at("a", "a"), at("b", "b2"), commit="c2")
        made.load(at("a", "a"), at("b", "b2"), commit="c3")
    assert not unknown(told.world)
    assert unknown(silent.world)
    assert not silent.left
    silent.add(recalled(silent.world, silent.loads))
    assert silent.world.relations == told.world.relations
    assert silent.left == {name("b"), name("c")}
    assert not unknown(silent.world)
