"""The plan: the decisions with planned builds counted as done, what may join it, lazy nodes, and which tests run."""

from __future__ import annotations

from dataclasses import replace

from sao_events.core.events import EngineStarted
from sao_events.core.look import Look
from sao_events.core.nodes import Test
from sao_events.core.plan import attempt, decide, observe
from sao_events.core.state import World
from tests.record import HOUR, Record, node, source, view

A, B = source("a"), source("b")


def look(record: Record) -> Look:
    return Look(record.graph, record.world, record.settings, record.now)


def test_readers_that_become_due_join_the_plan_of_their_upstreams() -> None:
    record = Record(A, node("u", "a"), node("m", "u"), node("late", "m", every=3)).build().at(1).land("a")
    assert record.plan().nodes == ("u", "m")
    assert record.plan().decisions["late"].eligible_at == 3 * HOUR
    assert record.plan().wakes == 3 * HOUR


def test_a_decision_counts_nothing_as_done() -> None:
    record = Record(A, node("u", "a"), node("m", "u")).build().at(1).land("a")
    assert (record.says("u"), record.says("m")) == ("build new_data", "reuse no_new_data")


def test_all_counts_planned_builds() -> None:
    record = Record(A, B, node("x", "a"), node("y", "b"), node("m", "x", "y", on="all")).build().at(1)
    assert record.land("a").plan().nodes == ("x",)
    assert record.land("b").plan().nodes == ("x", "y", "m")


def test_code_goes_down_the_whole_plan() -> None:
    record = Record(A, node("u", "a"), node("m", "u", every=9), node("n", "m", every=9)).build().at(1).edit("u", "new")
    reasons = {name: str(decision.reason) for name, decision in record.plan().decisions.items()}
    assert reasons == {"u": "code_changed", "m": "upstream_code_changed", "n": "upstream_code_changed"}


def test_what_is_blocked_blocks_the_rest_of_the_plan_below_it() -> None:
    record = Record(A, B, node("u", "a"), node("m", "u"), node("n", "m"), node("o", "b")).at(1)
    record.fail("u")
    assert record.plan().nodes == ("o",)
    assert {record.says(name) for name in ("m", "n")} == {
        "blocked upstream_not_ready u",
        "blocked upstream_not_ready m",
    }


def test_only_what_a_job_selects_is_planned() -> None:
    record = Record(A, node("u", "a"), node("m", "u"), node("n", "m")).build().at(1).land("a")
    assert record.plan(record.job("m")).nodes == ()
    assert record.plan(record.job("u", "n")).nodes == ("u",)
    assert record.plan(record.job("u", "m")).nodes == ("u", "m")
    assert record.plan(record.job("n", forced=True)).nodes == ("n",)


def test_what_another_run_owns_is_neither_planned_nor_counted_as_done() -> None:
    record = Record(A, B, node("u", "a"), node("m", "u"), node("n", "m", "b")).build().at(1).land("a", "b")
    assert record.plan(claimed={"u", "m"}).nodes == ("n",)
    assert record.plan(claimed={"n"}).nodes == ("u", "m")


def test_only_limits_the_plan_and_the_pass() -> None:
    record = Record(A, B, node("u", "a"), node("m", "u"), node("o", "b")).build().at(1).land("a", "b")
    limited = record.plan(only={"m", "u"})
    assert limited.nodes == ("u", "m")
    assert "o" not in limited.decisions
    assert record.plan(only={"m"}).nodes == ()


def test_a_plan_changes_nothing() -> None:
    record = Record(A, node("u", "a"), node("m", "u")).build().at(1).land("a")
    before = dict(record.world.nodes)
    assert record.plan() == record.plan()
    assert record.world.nodes == before


# Lazy nodes


def test_lazy_nodes_wait_for_the_earliest_reader() -> None:
    record = Record(
        A, node("x", "a", lazy=True), node("y", "x", lazy=True), node("m", "y", every=3), node("n", "y", every=2)
    )
    record.build().at(1).land("a")
    assert record.plan().nodes == ()
    assert record.says("x") == "wait no_reader_due 2"
    assert record.at(2).plan().nodes == ("x", "y", "n")


def test_a_lazy_node_that_another_run_reads_waits() -> None:
    record = Record(A, node("x", "a", lazy=True), node("m", "x")).build().at(1).land("a")
    assert record.plan(claimed={"m"}).nodes == ()
    assert record.plan(record.job("x")).nodes == ()


def test_lazy_through_views_with_readers_and_without() -> None:
    record = Record(A, node("x", "a", lazy=True), view("v", "x"), node("m", "v", every=3)).build().at(1).land("a")
    assert record.says("x") == "wait no_reader_due 3"
    record = Record(A, node("x", "a", lazy=True), view("v", "x"), node("m", "x", every=3)).build().at(1).land("a")
    assert record.says("x") == "build new_data"


# What a build will have meant


def test_what_a_build_sees_is_what_stands_when_it_starts() -> None:
    record = Record(A, node("u", "a"), view("v", "u"), node("m", "v", "a")).build().at(1).land("a")
    seen = observe(look(record), "m")
    assert seen.versions == {"u": 1, "a": 1}
    assert set(seen.codes) == {"v"}


def test_a_build_for_a_column_alone_does_not_advance_the_data() -> None:
    record = Record(A, node("u", "a", columns="x")).build().at(1).edit("u", own=node("u", columns="xy").own)
    assert not attempt(look(record), "u", "r", record.decision("u").reason, 0.0).advances
    assert attempt(look(record.land("a")), "u", "r", record.decision("u").reason, 0.0).advances


def test_a_build_after_a_lost_one_advances_the_data() -> None:
    record = Record(A, node("u", "a", columns="x")).build().at(1).edit("u", "other")
    record.start("u")
    record.add(EngineStarted()).edit("u", own=node("u", columns="xy").own)
    assert attempt(look(record), "u", "r", record.decision("u").reason, 0.0).advances


def test_the_retries_of_a_series_are_counted_and_new_data_starts_another() -> None:
    record = Record(A, node("m", "a"), attempts=9).build().at(1).land("a").fail("m").fail("m")
    assert attempt(look(record), "m", "r", record.decision("m").reason, 0.0).retries == 2
    assert attempt(look(record.at(2).land("a")), "m", "r", record.decision("m").reason, 0.0).retries == 0


# Tests


def with_tests() -> Record:
    record = Record(
        A,
        B,
        node("m", "a"),
        view("v", "m"),
        node("n", "b"),
        Test("on_m", "on_m", ("m",)),
        Test("on_v", "on_v", ("v",)),
        Test("on_both", "on_both", ("m", "n")),
        Test("on_n", "on_n", ("n",)),
        Test("on_a", "on_a", ("a",)),
    )
    record.build()
    for name in record.graph.tests:
        record.test(name)
    return record.at(1)


def test_tests_run_for_what_is_built_and_what_lies_behind_a_view() -> None:
    record = with_tests()
    assert record.plan().tests == ()
    assert record.land("a").plan().tests == ("on_m", "on_v", "on_both", "on_a")


def test_a_test_of_a_source_runs_before_what_reads_it_is_built() -> None:
    record = with_tests().edit("m", policy=node("m", every=5).policy).land("a")
    assert record.plan().tests == ()
    assert "on_a" in record.at(5).plan().tests


def test_a_job_runs_what_no_longer_stands_of_what_it_selects() -> None:
    record = with_tests().land("b").build("n")
    assert record.plan(record.job("m")).tests == ("on_both",)
    assert record.plan(record.job()).tests == ("on_both", "on_n")
    assert record.plan(record.job("v", forced=True)).tests == ("on_v",)


def test_a_test_that_is_not_to_be_reused_runs_once_in_every_job() -> None:
    record = with_tests()
    assert record.plan(record.job()).tests == ()
    record.settings = replace(record.settings, reuse_tests=False)
    assert record.plan(record.job("n")).tests == ("on_both", "on_n")
    assert record.plan(replace(record.job("n"), tested=frozenset({"on_both"}))).tests == ("on_n",)
    assert record.plan().tests == ()
    record.settings = replace(record.settings, reuse_tests=True)
    record.graph.tests["on_n"] = replace(record.graph.tests["on_n"], reuse=False)
    assert record.plan(record.job("n")).tests == ("on_n",)


def test_a_test_of_what_is_not_there_does_not_run() -> None:
    record = with_tests().drop("n").fail("m")
    assert record.plan(record.job("v")).tests == ()


def test_a_test_whose_nodes_another_run_owns_belongs_to_that_run() -> None:
    assert with_tests().land("a").plan(claimed={"m"}).tests == ()


def test_an_empty_project_has_an_empty_plan() -> None:
    record = Record()
    assert (record.plan().nodes, record.plan().tests, record.plan().wakes) == ((), (), None)
    assert decide(record.graph, World(), record.settings, 0.0) == {}
