"""The rules one by one, and the order in which they are looked at (semantics, section 2)."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from sao_events.core.decision import Action, Decision, Reason
from sao_events.core.events import EngineStarted, NodeBuilt
from sao_events.core.lineage import Code
from sao_events.core.nodes import Test
from sao_events.core.plan import decide
from sao_events.core.policy import Settings
from sao_events.core.state import World
from tests.record import HOUR, Record, graph, node, source, view

A, B = source("a"), source("b")


def built(*things: object, **settings: object) -> Record:
    """All is built at hour 0; it is hour 1."""
    return Record(*things, **settings).build().at(1)  # type: ignore[arg-type]


# One case is one row: what is on record, and what is said of `m`.
CASES: dict[str, tuple[Callable[[], Record], str]] = {
    "1 cleared": (lambda: built(A, node("m", "a")).clear("m"), "build state_cleared"),
    "1 all cleared": (lambda: built(A, node("m", "a")).clear(), "build state_cleared"),
    "1 cleared before its first build": (lambda: Record(A, node("m", "a")).clear("m"), "build state_cleared"),
    "1 cleared and dropped": (lambda: built(A, node("m", "a")).clear("m").drop("m"), "build state_cleared"),
    "1 cleared, then built": (lambda: built(A, node("m", "a")).clear("m").build("m"), "reuse no_new_data"),
    "2 never built": (lambda: Record(A, node("m", "a")), "build first_build"),
    "2 dropped before it was built": (lambda: Record(A, node("m", "a")).drop("m"), "build first_build"),
    "3 dropped": (lambda: built(A, node("m", "a", every=9)).drop("m"), "build relation_missing"),
    "3 dropped and edited": (lambda: built(A, node("m", "a")).drop("m").edit("m", "new"), "build relation_missing"),
    "3 dropped, then built": (lambda: built(A, node("m", "a")).drop("m").build("m"), "reuse no_new_data"),
    "5 edited": (lambda: built(A, node("m", "a", every=9)).edit("m", "new"), "build code_changed"),
    "5 edited and back": (lambda: built(A, node("m", "a")).edit("m", "new").edit("m", "m"), "reuse no_new_data"),
    "5 edited, built and back": (
        lambda: built(A, node("m", "a")).edit("m", "new").build("m").edit("m", "m"),
        "build code_changed",
    ),
    "5 edited, held by the window": (
        lambda: built(A, node("m", "a", every=3), code_changes="after_window").edit("m", "new"),
        "wait within_build_after 3",
    ),
    "5 edited, at the end of the window": (
        lambda: built(A, node("m", "a", every=3), code_changes="after_window").edit("m", "new").at(3),
        "build code_changed",
    ),
    "5 a new text of an ephemeral parent": (
        lambda: built(A, node("e", "a", kind="ephemeral"), node("m", "e")).edit("e", "new"),
        "build code_changed",
    ),
    "6 upstream rebuilt with other code": (
        lambda: built(A, node("u", "a"), node("m", "u", every=9)).edit("u", "new").build("u"),
        "build upstream_code_changed",
    ),
    "6 upstream edited and not yet rebuilt": (
        lambda: built(A, node("u", "a"), node("m", "u")).edit("u", "new"),
        "reuse no_new_data",
    ),
    "6 a view upstream": (
        lambda: built(A, view("u", "a"), node("m", "u", every=9)).edit("u", "new").build("u"),
        "build upstream_code_changed",
    ),
    "6 held by the window": (
        lambda: (
            built(A, node("u", "a"), node("m", "u", every=3), code_changes="after_window").edit("u", "new").build("u")
        ),
        "wait within_build_after 3",
    ),
    "6 there and back upstream": (
        lambda: built(A, node("u", "a"), node("m", "u")).edit("u", "new").build("u").edit("u", "u").build("u"),
        "build new_data",
    ),
    "6 a column that it does not use": (
        lambda: (
            built(A, node("u", "a", columns="x"), node("m", "u", uses={"u": ("x",)}))
            .edit("u", own=node("u", columns="xy").own)
            .build("u")
        ),
        "reuse no_new_data",
    ),
    "6 a view that names its columns": (
        lambda: built(A, node("u", "a"), view("m", "u", uses={"u": ("x",)})).edit("u", "new").build("u"),
        "build upstream_code_changed",
    ),
    "5 a lost build of other code": (lambda: lost(built(A, node("m", "a")), "new"), "build code_changed"),
    "5 a lost build of the same code": (lambda: lost(built(A, node("m", "a")), "m"), "reuse no_new_data"),
    "7 a view": (lambda: built(A, view("m", "a")).land("a"), "reuse view_unchanged"),
    "8 nothing new": (lambda: built(A, node("m", "a")).at(999), "reuse no_new_data"),
    "8 the same content": (
        lambda: built(A, node("u", "a", cutoff=True), node("m", "u")).land("a").build("u", same=True),
        "reuse no_new_data",
    ),
    "8 a view that waits": (
        lambda: built(A, B, view("v", "a", "b", on="all"), node("m", "v")).land("a"),
        "reuse no_new_data",
    ),
    "9 one of two": (
        lambda: built(A, B, node("m", "a", "b", on="all")).land("a"),
        "wait waiting_for_upstreams b",
    ),
    "9 before the window": (
        lambda: built(A, B, node("m", "a", "b", on="all", every=3)).land("a"),
        "wait waiting_for_upstreams b",
    ),
    "9 both": (lambda: built(A, B, node("m", "a", "b", on="all")).land("a", "b"), "build new_data"),
    "9 what never changes": (
        lambda: built(A, source("s", static=True), node("m", "a", "s", on="all")).land("a"),
        "build new_data",
    ),
    "10 inside the window": (lambda: built(A, node("m", "a", every=3)).land("a"), "wait within_build_after 3"),
    "10 a second before its end": (
        lambda: built(A, node("m", "a", every=3)).land("a").at(3 - 1 / 3600),
        "wait within_build_after 3",
    ),
    "10 exactly its end": (lambda: built(A, node("m", "a", every=3)).land("a").at(3), "build new_data"),
    "10 the clock of a job": (
        lambda: Record(A, node("m", "a", every=3)).at(0.5).build(due=0.25).at(1).land("a"),
        "wait within_build_after 3.25",
    ),
    "11 lazy": (
        lambda: built(A, node("m", "a", lazy=True), node("r", "m", every=3)).land("a"),
        "wait no_reader_due 3",
    ),
    "11 lazy without readers": (lambda: built(A, node("m", "a", lazy=True)).land("a"), "build new_data"),
    "11 lazy below a view that nobody reads": (
        lambda: built(A, node("m", "a", lazy=True), view("v", "m")).land("a"),
        "build new_data",
    ),
    "11 lazy and edited": (
        lambda: built(A, node("m", "a", lazy=True), node("r", "m", every=3)).edit("m", "new"),
        "build code_changed",
    ),
    "12 new data": (lambda: built(A, node("m", "a")).land("a"), "build new_data"),
    "12 through two views": (
        lambda: built(A, view("v", "a"), view("w", "v"), node("m", "w")).land("a"),
        "build new_data",
    ),
    "an ephemeral model": (lambda: Record(A, node("m", "a", kind="ephemeral")), "reuse view_unchanged"),
    "not ready: never built": (lambda: Record(A, node("u", "a"), node("m", "u")), "blocked upstream_not_ready u"),
    "not ready: never loaded": (
        lambda: Record(source("a", empty=True), node("m", "a")),
        "blocked upstream_not_ready a",
    ),
    "not ready: dropped": (
        lambda: built(A, B, node("u", "a"), node("m", "u", "b")).land("b").drop("u"),
        "blocked upstream_not_ready u",
    ),
    "not ready: failed": (
        lambda: built(A, B, node("u", "a"), node("m", "u", "b")).land("b").fail("u"),
        "blocked upstream_not_ready u",
    ),
    "not ready: behind a view": (
        lambda: built(A, B, node("u", "a"), view("v", "u"), node("m", "v", "b")).land("b").fail("u"),
        "blocked upstream_not_ready v",
    ),
    "not ready: a failed test": (
        lambda: built(A, B, node("u", "a"), node("m", "u", "b"), Test("t", "t", ("u",))).land("b").test("t", "fail"),
        "blocked upstream_not_ready u",
    ),
    "not ready: a failed test of a source": (
        lambda: built(A, node("m", "a"), Test("t", "t", ("a",))).land("a").test("t", "fail"),
        "blocked upstream_not_ready a",
    ),
    "a test of a source that failed before the new data": (
        lambda: built(A, node("m", "a"), Test("t", "t", ("a",))).test("t", "fail").land("a"),
        "build new_data",
    ),
    "not ready: a failed test of an ephemeral model": (
        lambda: (
            built(A, node("e", "a", kind="ephemeral"), node("m", "e"), Test("t", "t", ("e",)))
            .land("a")
            .test("t", "fail")
        ),
        "blocked upstream_not_ready e",
    ),
    "a warning": (
        lambda: built(A, B, node("u", "a"), node("m", "u", "b"), Test("t", "t", ("u",))).land("b").test("t", "warn"),
        "build new_data",
    ),
    "a test between a node and its source": (
        lambda: built(A, node("m", "a"), Test("t", "t", ("m", "a"))).test("t", "fail").land("a"),
        "build retry",
    ),
    "reuse stands on what is not ready": (
        lambda: built(A, node("u", "a"), node("m", "u")).land("a").fail("u"),
        "reuse no_new_data",
    ),
    "wait stands on what is not ready": (
        lambda: built(A, B, node("u", "a"), node("m", "u", "b", every=3)).land("b").fail("u"),
        "wait within_build_after 3",
    ),
}


def lost(record: Record, base: str) -> Record:
    """A build of `m` with the text `base` is lost, and the text taken back."""
    record.edit("m", base).start("m")
    return record.add(EngineStarted()).edit("m", "m")


@pytest.mark.parametrize("case", CASES)
def test_rule(case: str) -> None:
    record, said = CASES[case]
    assert record().says("m") == said


# Rule 4: what may follow a failed attempt at hour 1. Two more attempts, after one and two hours.
FAILURES: dict[str, tuple[Callable[[Record], object], str]] = {
    "the backoff": (lambda r: r, "wait retry 2"),
    "exactly its end": (lambda r: r.at(2), "build retry"),
    "it doubles": (lambda r: r.at(2).fail("m"), "wait retry 4"),
    "exhausted": (lambda r: r.at(2).fail("m").at(4).fail("m").at(99), "blocked retries_exhausted"),
    "new data": (lambda r: r.at(1.5).land("a"), "build retry"),
    "new data when exhausted": (lambda r: r.at(2).fail("m").at(4).fail("m").land("a"), "build retry"),
    "a new series": (lambda r: r.at(2).fail("m").at(4).fail("m").land("a").fail("m"), "wait retry 5"),
    "new code": (lambda r: r.edit("m", "new"), "build retry"),
    "the old code": (lambda r: r.edit("m", "new").fail("m").edit("m", "m"), "build retry"),
    "an upstream built again": (lambda r: r.build("u"), "build retry"),
    "one of all is new": (lambda r: r.edit("m", policy=node("m", on="all").policy).at(1.5).land("a"), "build retry"),
    "a clear forgets it": (lambda r: r.clear("m"), "build state_cleared"),
    "a clear of all forgets it": (lambda r: r.clear(), "build state_cleared"),
    "cleared, then failed": (lambda r: r.clear("m").fail("m"), "wait retry 2"),
    "dropped after it": (lambda r: r.drop("m"), "build relation_missing"),
    "dropped, then failed": (lambda r: r.drop("m").fail("m"), "wait retry 2"),
    "an upstream is not ready": (lambda r: r.drop("u").at(1.5).land("a"), "blocked upstream_not_ready u"),
    "success": (lambda r: r.at(2).build("m"), "reuse no_new_data"),
    "it doubles again": (lambda r: with_attempts(r, 9).fail("m").fail("m").fail("m"), "wait retry 9"),
    "an interrupted attempt is none": (lambda r: r.at(2).start("m"), "build retry"),
}


@pytest.mark.parametrize("case", FAILURES)
def test_rule_4(case: str) -> None:
    happens, said = FAILURES[case]
    record = built(A, node("u"), node("m", "a", "u", every=9), attempts=2, backoff=HOUR).land("a").fail("m")
    happens(record)
    assert record.says("m") == said


def with_attempts(record: Record, attempts: int) -> Record:
    """The same, with so many attempts more."""
    record.settings = Settings(attempts=attempts, backoff=HOUR)
    return record


def test_rule_4_before_rule_2() -> None:
    record = Record(A, node("m", "a"), node("n", "m"), attempts=1).fail("m")
    assert record.says("m") == f"wait retry {60 / HOUR:g}"
    assert record.says("n") == "blocked upstream_not_ready m"


def test_rule_4_a_failed_test_restores_the_baseline_and_keeps_the_data() -> None:
    record = built(A, node("m", "a"), node("n", "m"), Test("t", "t", ("m",))).land("a")
    run = record.start("m")
    before = record.world.node("m").baseline
    record.add(NodeBuilt(run, "m")).test("t", "fail", run)
    assert record.world.node("m").baseline == before
    assert record.says("m") == "blocked retries_exhausted"
    assert record.says("n") == "blocked upstream_not_ready m"


@pytest.mark.parametrize("now", [(), (Test("t", "t", ("m",), "another"),)])
def test_rule_4_a_test_that_is_gone_or_another_is_something_new(now: tuple[Test, ...]) -> None:
    record = built(A, node("m", "a"), Test("t", "t", ("m",), "one")).land("a").build("m").test("t", "fail")
    assert record.says("m") == "blocked retries_exhausted"
    record.graph = graph(A, node("m", "a"), *now)
    assert record.says("m") == "build retry"
    assert record.decision("m").evidence["arrived"] == ("test",)
    record.build("m")
    assert record.says("m") == "reuse no_new_data"


def test_rule_4_a_wait_between_retries_is_finite_however_often_they_failed() -> None:
    record = built(A, node("m", "a"), attempts=10_000).land("a")
    for _ in range(1100):
        record.fail("m")
    assert record.decision("m").eligible_at is not None


# What a job asks

JOBS: dict[str, tuple[Callable[[], Record], dict[str, object], str]] = {
    "1 forced": (lambda: built(A, node("m", "a")), {"forced": True}, "build forced"),
    "1 forced before rule 4": (lambda: built(A, node("m", "a")).fail("m"), {"forced": True}, "build forced"),
    "1 forced before a clear": (lambda: built(A, node("m", "a")).clear(), {"forced": True}, "build forced"),
    "1 forced, never built": (lambda: Record(A, node("m", "a")), {"forced": True}, "build forced"),
    "1 forced, of a lazy node": (
        lambda: built(A, node("m", "a", lazy=True), node("r", "m")),
        {"forced": True},
        "build forced",
    ),
    "1 forced, upstream not ready": (
        lambda: Record(source("a", empty=True), node("m", "a")),
        {"forced": True},
        "blocked upstream_not_ready a",
    ),
    "4 an attempt even with none left": (lambda: built(A, node("m", "a")).fail("m"), {}, "build retry"),
    "8 a view as a source": (lambda: built(source("a", view=True), node("m", "a")), {}, "build new_data"),
    "10 a view as a source": (
        lambda: built(source("a", view=True), node("m", "a", every=3)),
        {},
        "wait within_build_after 3",
    ),
    "9 a view as a source": (
        lambda: built(source("a", view=True), B, node("m", "a", "b", on="all")),
        {},
        "wait waiting_for_upstreams b",
    ),
    "a job does not count a source's earlier failure as its own": (
        lambda: built(A, node("m", "a"), Test("t", "t", ("a",))).at(0.5).test("t", "fail").at(1),
        {"forced": True},
        "build forced",
    ),
    "a cached failure still blocks": (
        lambda: built(A, B, node("m", "a", "b"), Test("t", "t", ("a",))).at(0.5).test("t", "fail").at(1).land("b"),
        {},
        "blocked upstream_not_ready a",
    ),
}


@pytest.mark.parametrize("case", JOBS)
def test_what_a_job_asks(case: str) -> None:
    made, asks, said = JOBS[case]
    record = made()
    assert record.says("m", record.job(forced=bool(asks.get("forced")))) == said


def test_a_job_asks_only_for_what_it_selects() -> None:
    record = built(A, node("m", "a"), node("n", "a")).fail("m").fail("n")
    job = record.job("n", forced=True)
    assert (record.says("m", job), record.says("n", job)) == ("blocked retries_exhausted", "build forced")


def test_without_a_job_a_view_as_a_source_is_never_new_by_itself() -> None:
    assert built(source("a", view=True), node("m", "a")).says("m") == "reuse no_new_data"
    assert built(source("a", view=True), node("m", "a")).land("a").says("m") == "build new_data"


def test_a_view_that_a_lost_build_may_have_left_otherwise_is_not_read_before_it_is_made_anew() -> None:
    record = built(A, B, view("v", "a"), node("m", "v", "b")).land("b").edit("v", "new")
    record.start("v", "code_changed")
    record.add(EngineStarted()).edit("v", "v")
    assert record.says("v") == "build code_changed"
    assert record.says("m") == "blocked upstream_not_ready v"
    assert record.plan().nodes == ("v", "m")


def test_a_change_of_code_that_was_cut_off_stays_cut_off() -> None:
    """The content was the same under the new text; what comes later is new data, with the reader's window."""
    record = built(A, node("u", "a", cutoff=True), node("m", "u", every=9)).edit("u", "new").build("u", same=True)
    assert record.says("m") == "reuse no_new_data"
    assert record.land("a").build("u").says("m") == "wait within_build_after 9"
    assert record.edit("u", "newer").build("u").says("m") == "build upstream_code_changed"


def test_after_a_cut_off_change_a_reader_is_not_taken_for_one_of_the_code_before() -> None:
    """What it has read since was made by the new text: the old one again is another, though it was seen before."""
    record = Record(A, node("u", "a", cutoff=True, columns=("x", "y")), node("m", "u", uses={"u": ("x",)}))
    before = record.land("a").build().graph.nodes["u"].own
    record.at(1).edit("u", own=Code(before.base, (("x", "2"), ("y", "1")))).build("u", same=True)
    record.at(2).land("a").build("u", "m")
    assert record.says("m") == "reuse no_new_data"
    assert record.at(3).edit("u", own=before).build("u").says("m") == "build upstream_code_changed"


def test_the_same_code_again_with_equal_content_concerns_nobody() -> None:
    record = built(A, node("u", "a", cutoff=True), node("m", "u")).edit("u", "new").build("u", same=True)
    assert record.edit("u", "u").build("u", same=True).says("m") == "reuse no_new_data"


# Evidence


def test_evidence_of_new_data_names_the_feeds_and_versions() -> None:
    record = built(A, B, view("v", "a", "b"), node("m", "v")).land("b").land("b")
    assert record.decision("m").evidence == {"newer": {"b": {"built_with": 0, "now": 1}}}


def test_evidence_of_a_block_says_what_would_be() -> None:
    record = built(A, B, node("u", "a"), node("m", "u", "b")).land("b").drop("u")
    assert record.decision("m").evidence["would_be"] == "new_data"


def test_evidence_of_a_wait_for_code_says_so() -> None:
    record = built(A, node("m", "a", every=3), code_changes="after_window").edit("m", "new")
    assert record.decision("m").evidence["held"] == "code_changed"


# Total, and pure


def test_decide_knows_nothing_and_still_decides_for_every_node_in_graph_order() -> None:
    project = graph(A, node("m", "a"), view("v", "m"), node("e", "v", kind="ephemeral"))
    found = decide(project, World(), Settings(), 0.0)
    assert list(found) == ["m", "v", "e"]
    assert found["m"] == Decision(Action.build, Reason.first_build)


def test_time_backwards_is_only_an_earlier_now() -> None:
    record = Record(A, node("m", "a", every=1)).at(5).build().at(2).land("a")
    assert record.says("m") == "wait within_build_after 6"


def test_what_is_on_record_of_nodes_that_are_gone_changes_nothing() -> None:
    record = built(A, node("m", "a"), node("gone", "m")).fail("gone")
    record.graph = graph(A, node("m", "a"))
    assert list(decide(record.graph, record.world, record.settings, record.now)) == ["m"]
    assert record.says("m") == "reuse no_new_data"


def test_many_views_upon_views_are_looked_through_once() -> None:
    """Forty floors of two views that both read both below: as a tree they have 2**40 ways down."""
    floors = [
        view(f"v{i}.{j}", *(("a",) if i == 0 else (f"v{i - 1}.0", f"v{i - 1}.1")), on="all")
        for i in range(40)
        for j in (0, 1)
    ]
    record = built(
        A, *floors, node("low", "a", lazy=True), view("top", "low"), node("m", "v39.0", "v39.1", on="all")
    ).land("a")
    assert record.says("m") == "build new_data"
    assert record.drop("v0.0").says("m") == "blocked upstream_not_ready v39.0 v39.1"
