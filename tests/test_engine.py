"""The loop, driven by hand: what it asks of the builder, what it makes of reports, and when it looks again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from sao_events.core import events as e
from sao_events.core.errors import SaoError
from sao_events.core.graph import Graph
from sao_events.core.lineage import Code
from sao_events.core.nodes import Node, Test
from sao_events.core.policy import Settings
from sao_events.core.project import Project, project_digest, project_to_bytes
from sao_events.engine.loop import ERROR_HOLD, ERROR_HOLD_MOST, Engine
from sao_events.ports import Draft, NodeBegan, NodeEnded, Piece, PieceEnded, Report, TestEnded
from sao_events.simulate import VirtualClock
from sao_events.store.memory import MemoryStore
from tests.record import HOUR, graph, node, source, view

A, B = source("a"), source("b")
CHAIN = graph(A, node("u", "a"), node("m", "u"))


class ByHand:
    """A builder that notes what it is given, and reports what the test says."""

    def __init__(self, gated: bool) -> None:
        self.gated, self.pieces, self.said, self.cancelled, self.can = (
            gated,
            list[Piece](),
            list[Report](),
            list[str](),
            True,
        )

    def ready(self, project: str) -> bool:
        return self.can

    def hashes(self, adapter: str) -> bool:
        return True

    def start(self, piece: Piece, project: Project) -> None:
        self.pieces.append(piece)

    def reports(self) -> list[Report]:
        said, self.said = self.said, []
        return said

    def cancel(self, run: str) -> None:
        self.cancelled.append(run)


class Bench:
    """An engine on a memory store, a builder by hand, and a clock that the test sets."""

    def __init__(self, project: Graph = CHAIN, gated: bool = False, **settings: object) -> None:
        self.store, self.clock, self.builder = MemoryStore(), VirtualClock(1000.0), ByHand(gated)
        self.settings = Settings(**settings)  # type: ignore[arg-type]
        self.engine = Engine(self.store, self.builder, self.clock, self.settings)
        self.load(project)

    def load(self, project: Graph, entered: tuple[str, ...] = ()) -> None:
        body = project_to_bytes(Project(project, adapter=project.adapter))
        self.store.put_project(project_digest(body), body)
        self.add(e.ProjectLoaded(project_digest(body), entered=entered))

    def add(self, *events: e.Event) -> None:
        self.store.append([Draft(event, self.clock.now()) for event in events])

    def step(self, *said: Report, after: float = 0.0) -> float | None:
        self.clock.set(self.clock.now() + after)
        self.builder.said += said
        return self.engine.step()

    def done(self, *names: str, status: str = "success", more: tuple[Report, ...] = ()) -> None:
        """The newest piece ends, having built `names`, or all of its nodes."""
        piece = self.builder.pieces[-1]
        said: list[Report] = []
        for name in names or piece.nodes:
            said += [NodeBegan(piece.id, name), NodeEnded(piece.id, name, status)]
        said += more or [TestEnded(piece.id, test, "pass") for test in piece.tests]
        self.step(*said, PieceEnded(piece.id))

    def log(self, *kinds: type[e.Event]) -> list[e.Event]:
        return [r.event for r in self.store.read() if not kinds or isinstance(r.event, kinds)]

    def restart(self) -> None:
        self.builder = ByHand(self.builder.gated)
        self.engine = Engine(self.store, self.builder, self.clock, self.settings)

    def kinds(self) -> list[str]:
        return [type(event).__name__ for event in self.log()]


# What is asked of the builder


def test_a_run_is_one_piece_where_nothing_has_to_be_decided_in_between() -> None:
    bench = Bench()
    bench.step()
    assert [piece.nodes for piece in bench.builder.pieces] == [("u", "m")]


def test_gated_it_is_one_node_at_a_time() -> None:
    bench = Bench(gated=True)
    bench.step()
    bench.done()
    assert [piece.nodes for piece in bench.builder.pieces] == [("u",), ("m",)]


def test_after_an_early_cutoff_the_rest_is_decided_again() -> None:
    bench = Bench(graph(A, node("u", "a", cutoff=True), node("m", "u")))
    bench.step()
    bench.done()
    bench.done()
    assert [piece.nodes for piece in bench.builder.pieces] == [("u",), ("m",)]
    bench.add(e.DataLanded("a"))
    bench.step(after=1)
    piece = bench.builder.pieces[-1]
    bench.step(NodeEnded(piece.id, "u", "success", same_content=True), PieceEnded(piece.id))
    assert [piece.nodes for piece in bench.builder.pieces] == [("u",), ("m",), ("u",)]
    assert not bench.engine.busy


def test_nothing_starts_before_the_builder_is_ready() -> None:
    bench = Bench()
    bench.builder.can = False
    bench.step()
    assert not bench.builder.pieces
    bench.builder.can = True
    bench.step()
    assert bench.builder.pieces


def test_a_full_refresh_reaches_the_builder() -> None:
    bench = Bench(trigger="jobs")
    bench.add(e.JobRequested("j", "fresh", 1000.0, full_refresh=True))
    bench.step()
    assert bench.builder.pieces[-1].full_refresh


# What is made of reports


def test_what_a_piece_sees_of_the_outside_is_what_stood_when_it_was_handed_over() -> None:
    bench = Bench(graph(A, view("v", "a"), node("m", "v")))
    bench.step()
    bench.done()
    bench.add(e.DataLanded("a"))
    bench.step(after=1)
    piece = bench.builder.pieces[-1]
    bench.add(e.DataLanded("a"))
    bench.step(NodeBegan(piece.id, "m"), after=1)
    assert bench.engine.world.node("m").running is not None
    bench.done()
    assert bench.builder.pieces[-1].nodes == ("m",), "what landed before the build began is built once more"
    assert bench.builder.pieces[-1] is not piece


def test_the_code_of_what_another_run_rebuilt_meanwhile_is_not_taken_for_seen() -> None:
    """`m` began before `v` was made anew, its report came after: it has read the old one."""
    bench = Bench(graph(A, B, view("v", "a"), node("m", "v", "b")), max_concurrent_runs=2)
    bench.step()
    bench.done()
    bench.add(e.DataLanded("b"))
    bench.step(after=1)
    of_m = bench.builder.pieces[-1]
    bench.load(graph(A, B, view("v", "a", columns=["more"]), node("m", "v", "b")))
    bench.step(after=1)
    of_v = bench.builder.pieces[-1]
    assert (of_m.nodes, of_v.nodes) == (("m",), ("v",))
    bench.step(
        NodeEnded(of_v.id, "v", "success"),
        PieceEnded(of_v.id),
        NodeBegan(of_m.id, "m"),
        NodeEnded(of_m.id, "m", "success"),
        PieceEnded(of_m.id),
    )
    assert bench.builder.pieces[-1].nodes == ("m",)
    assert bench.builder.pieces[-1] is not of_m


def test_a_result_without_a_beginning_is_a_build_all_the_same() -> None:
    bench = Bench()
    bench.step()
    piece = bench.builder.pieces[-1]
    bench.step(NodeEnded(piece.id, "u", "success"))
    assert bench.kinds()[-2:] == ["BuildStarted", "NodeBuilt"]


def test_reports_of_pieces_that_are_not_known_are_left_alone() -> None:
    bench = Bench()
    bench.step()
    before = bench.log()
    bench.step(
        NodeBegan("r0.1", "u"),
        NodeEnded("nonsense", "u", "success"),
        PieceEnded("r0.1"),
        TestEnded("r0.1", "t", "fail"),
    )
    piece = bench.builder.pieces[-1]
    bench.step(NodeBegan(piece.id, "gone"), NodeEnded(piece.id, "gone", "success"), TestEnded(piece.id, "gone", "pass"))
    assert bench.log() == before


def test_the_same_result_twice_is_one() -> None:
    bench = Bench()
    bench.step()
    piece = bench.builder.pieces[-1]
    bench.step(NodeEnded(piece.id, "u", "success"), NodeEnded(piece.id, "u", "success"), NodeBegan(piece.id, "u"))
    assert len(bench.log(e.NodeBuilt, e.BuildStarted)) == 2


def test_a_failure_blocks_what_must_be_built_from_it() -> None:
    bench = Bench()
    bench.step()
    bench.done("u", status="error", more=(NodeEnded(bench.builder.pieces[-1].id, "m", "skipped"),))
    assert [(str(d.action), str(d.reason)) for d in bench.engine.decisions.values()] == [
        ("blocked", "retries_exhausted"),
        ("blocked", "upstream_not_ready"),
    ]
    [finished] = bench.log(e.RunFinished)
    assert isinstance(finished, e.RunFinished)
    assert finished.status == "failed"


def test_what_is_left_open_when_a_piece_ends_was_interrupted() -> None:
    bench = Bench()
    bench.step()
    piece = bench.builder.pieces[-1]
    bench.step(NodeBegan(piece.id, "u"), PieceEnded(piece.id, "interrupted", "cancelled"))
    assert bench.kinds()[-2:] == ["BuildInterrupted", "RunFinished"]
    assert bench.engine.world.node("u").failure is None


UNIT = Test("u", "doubles", ("m",), "1", "error", "unit")


def refused(bench: Bench) -> None:
    """What dbt says where a unit test fails: it has not begun the model, nor what reads it."""
    piece = bench.builder.pieces[-1]
    skipped = [NodeEnded(piece.id, name, "skipped") for name in piece.nodes]
    bench.step(TestEnded(piece.id, "u", "fail"), *skipped, PieceEnded(piece.id))


@pytest.mark.parametrize("built", [False, True])
def test_a_unit_test_that_fails_is_a_failed_attempt_of_its_model(built: bool) -> None:
    """It was taken for a failure of dbt itself: everything was held up, and tried again for ever."""
    m, r = node("m", "a"), node("r", "m")
    bench = Bench(graph(A, m, r, UNIT), attempts=1, backoff=60.0)
    bench.step()
    if built:
        bench.done()
        bench.load(graph(A, node("m", "a", columns=["new"]), r, UNIT))
        bench.step()
    begun = len(bench.builder.pieces)
    refused(bench)
    assert (bench.engine.error, bench.engine.decisions["m"].action) == (None, "wait")
    assert bench.engine.decisions["m"].eligible_at == bench.clock.now() + 60.0
    assert len(bench.builder.pieces) == begun
    assert bench.step(after=60) is None
    refused(bench)
    assert bench.engine.decisions["m"].reason == "retries_exhausted"
    failure = bench.engine.world.node("m").failure
    assert failure is not None
    assert (failure.test, failure.message, failure.retries) == ("u", "its unit test doubles failed", 1)
    assert len(bench.builder.pieces) == begun + 1
    bench.add(e.JobRequested("j", "job", bench.clock.now()))
    bench.step()
    refused(bench)
    assert [event.status for event in bench.log(e.JobFinished) if isinstance(event, e.JobFinished)] == ["failed"]
    project = bench.engine.project
    assert project is not None
    bench.load(graph(A, project.graph.nodes["m"], r, replace(UNIT, own="2")))
    bench.step()
    assert bench.builder.pieces[-1].nodes == ("m", "r"), "the test is another now"
    bench.done()
    assert bench.engine.world.node("m").failure is None


@pytest.mark.parametrize("aware", [True, False])
def test_what_dbt_leaves_out_for_a_failed_test_of_its_source_is_blocked_and_ends_the_job(aware: bool) -> None:
    """A state-agnostic job goes by its own results alone: this is one."""
    bench = Bench(graph(A, node("m", "a"), Test("t", "t", ("a",), "1")), trigger="jobs")
    bench.add(e.JobRequested("j", "job", bench.clock.now(), state_aware=aware))
    bench.step()
    piece = bench.builder.pieces[-1]
    bench.step(TestEnded(piece.id, "t", "fail"), NodeEnded(piece.id, "m", "skipped"), PieceEnded(piece.id))
    assert bench.engine.error is None
    assert [event.status for event in bench.log(e.JobFinished) if isinstance(event, e.JobFinished)] == ["failed"]
    assert len(bench.builder.pieces) == 1


def far(*more: Test) -> Bench:
    """`z` is far below `x`: what lies between them has a window. Both are due, in one piece."""
    bench = Bench(graph(A, B, node("x", "a"), node("y", "x", every=6), node("z", "y", "b"), *more), attempts=1)
    bench.step()
    bench.done()
    bench.add(e.DataLanded("a"), e.DataLanded("b"))
    bench.step(after=1)
    assert bench.builder.pieces[-1].nodes == ("x", "z")
    return bench


@pytest.mark.parametrize("test", [False, True])
def test_what_dbt_leaves_out_far_below_a_failure_has_another_turn(test: bool) -> None:
    """dbt knows nothing of the window between them. A failure blocks what must be built from it, and that is not."""
    bench = far(*([Test("t", "t", ("a",), "1")] if test else []))
    piece = bench.builder.pieces[-1]
    failed = TestEnded(piece.id, "t", "fail") if test else NodeEnded(piece.id, "x", "error")
    skipped = [NodeEnded(piece.id, name, "skipped") for name in (("x", "z") if test else ("z",))]
    bench.step(failed, *skipped, PieceEnded(piece.id))
    assert bench.engine.error is None
    assert (bench.builder.pieces[-1].nodes, bench.builder.pieces[-1].run) == (("z",), piece.run)
    bench.done()
    assert bench.engine.world.node("z").builds == 2
    assert bench.engine.world.node("x").builds == 1


def test_what_failed_and_is_built_meanwhile_by_another_run_was_a_reason_all_the_same() -> None:
    bench = Bench(graph(A, B, node("x", "a"), node("y", "x"), node("w", "b")), max_concurrent_runs=2, attempts=1)
    bench.step()
    first = bench.builder.pieces[-1]
    bench.step(NodeEnded(first.id, "x", "error"), NodeEnded(first.id, "y", "skipped"))
    bench.step(after=60)
    assert bench.builder.pieces[-1].nodes == ("x",)
    bench.done()
    bench.step(NodeEnded(first.id, "w", "success"), PieceEnded(first.id))
    assert bench.engine.error is None
    assert bench.builder.pieces[-1].nodes == ("y",)


def test_other_tests_of_a_model_that_its_unit_test_refused_wait_until_it_is_there() -> None:
    bench = Bench(graph(A, node("m", "a"), UNIT, Test("n", "n", ("m",), "1")))
    bench.step()
    refused(bench)
    bench.restart()
    bench.step()
    assert not bench.builder.pieces


def test_a_unit_test_that_fails_drops_no_view() -> None:
    t, v = node("m", "a"), view("v", "m")
    bench = Bench(Graph([t, v], [A], [UNIT], adapter="postgres"))
    bench.step()
    bench.done()
    bench.load(Graph([node("m", "a", columns=["new"]), v], [A], [UNIT], adapter="postgres"))
    bench.step()
    refused(bench)
    assert not bench.engine.world.node("v").dropped


# When the project becomes another


def test_what_comes_back_with_its_source_has_new_data_unless_a_look_would_tell() -> None:
    """A commit took both away and is taken back: a load in between named no source of the project."""
    things = (A, B, node("m", "a"), node("n", "b"))
    bench = Bench(graph(*things))
    bench.add(e.DataLanded("a"), e.SourceProbed("b", "metadata", "seen"))
    bench.step()
    bench.done()
    bench.load(graph(A, node("other", "a")))
    bench.step(after=1)
    bench.done()
    bench.load(graph(*things), entered=("b",))
    bench.step(after=1)
    assert len(bench.builder.pieces) == 2, "the next look at b tells whether it is new"
    bench.load(graph(B, node("n", "b")))
    bench.load(graph(*things), entered=("a",))
    bench.step(after=1)
    assert bench.builder.pieces[-1].nodes == ("m",)
    bench.done()
    assert len(bench.builder.pieces) == 3


def test_a_job_is_decided_once_the_warehouse_was_looked_at_for_it() -> None:
    bench = Bench(Graph([node("m", "a"), node("n", "b")], [A, B]))
    bench.step()
    bench.done()
    looked = set[str]()
    bench.engine.looked = looked.__contains__
    bench.add(e.JobRequested("j", "job", bench.clock.now()), e.DataLanded("a"))
    bench.step(after=1)
    assert len(bench.builder.pieces) == 1
    bench.add(e.RelationDropped("n"))
    looked.add("j")
    bench.step()
    assert set(bench.builder.pieces[-1].nodes) == {"m", "n"}
    assert [run.job for run in bench.engine.world.runs.values()] == ["j"]


def on_postgres(*nodes: Node) -> Graph:
    return Graph(nodes, [A, B], adapter="postgres")


def test_a_view_that_left_the_project_falls_with_what_it_stands_on_and_is_built_when_it_is_back() -> None:
    """There as it was built, it is dropped with the table, and with it the view on it."""
    t, v, w = node("t", "a"), view("v", "t"), view("w", "v")
    bench = Bench(on_postgres(t, v, w))
    bench.step()
    bench.done()
    bench.load(on_postgres(t))
    bench.add(e.DataLanded("a"))
    bench.step(after=1)
    bench.done()
    bench.load(on_postgres(t, v, w))
    bench.step(after=1)
    assert bench.builder.pieces[-1].nodes == ("v", "w")
    assert [run.nodes["v"] for run in bench.engine.world.runs.values()] == ["relation_missing"]


@pytest.mark.parametrize("now", [view("v", "b", every=6, columns=["new"]), node("v", "t", every=6, columns=["new"])])
def test_a_view_whose_change_waits_falls_with_what_it_stands_on_in_the_warehouse(now: Node) -> None:
    """It is to read something else, or to be a table, and until then it is there as it was built."""
    t, m = node("t", "a"), node("m", "v", "a")
    bench = Bench(on_postgres(t, view("v", "t", every=6), m), code_changes="after_window")
    bench.step()
    bench.done()
    bench.load(on_postgres(t, now, m))
    bench.step(after=1)
    while bench.engine.busy:
        bench.done()
    bench.add(e.DataLanded("a"))
    bench.step(after=1)
    piece = bench.builder.pieces[-1]
    bench.step(NodeBegan(piece.id, "t"))
    assert bench.engine.world.node("v").dropped
    bench.done()
    assert {"v", "m"} <= set(bench.builder.pieces[-1].nodes)


def test_a_view_whose_change_waits_falls_with_the_view_that_it_stands_on() -> None:
    t, v = node("t", "a"), view("v", "t")
    bench = Bench(on_postgres(t, v, view("w", "v", every=6)), code_changes="after_window")
    bench.step()
    bench.done()
    bench.load(on_postgres(t, v, view("w", "b", every=6, columns=["new"])))
    bench.step(after=1)
    bench.add(e.DataLanded("a"))
    bench.step(after=1)
    piece = bench.builder.pieces[-1]
    bench.step(NodeBegan(piece.id, "t"))
    assert bench.engine.world.node("v").dropped
    assert bench.engine.world.node("w").dropped


# When dbt itself cannot do it


@pytest.mark.parametrize(
    "said",
    [
        lambda piece: [PieceEnded(piece, "error", "no profile")],
        lambda piece: [NodeEnded(piece, "u", "skipped"), NodeEnded(piece, "m", "skipped"), PieceEnded(piece)],
        lambda piece: [PieceEnded(piece)],
    ],
    ids=["an error", "skipped without a reason", "left out without a word"],
)
def test_nothing_is_lost_and_it_is_tried_again_after_a_pause_that_doubles(said: Callable[[str], list[Report]]) -> None:
    bench = Bench()
    bench.step()
    pause = ERROR_HOLD
    for _ in range(9):
        pieces = len(bench.builder.pieces)
        wake = bench.step(*said(bench.builder.pieces[-1].id))
        assert bench.engine.error is not None
        assert wake == bench.clock.now() + pause
        assert len(bench.builder.pieces) == pieces
        bench.step(after=pause)
        assert len(bench.builder.pieces) == pieces + 1
        pause = min(2 * pause, ERROR_HOLD_MOST)
    bench.done()
    assert (bench.engine.error, bench.engine.errors) == (None, 0)
    assert bench.engine.world.node("m").builds == 1


def test_one_broken_piece_of_two_breaks_the_run_when_both_have_ended() -> None:
    bench = Bench(graph(A, B, node("x", "a"), node("y", "b"), node("z", "y")), gated=True, trigger="jobs")
    bench.add(e.JobRequested("j", "all", 1000.0))
    bench.step()
    one, other = bench.builder.pieces
    bench.step(PieceEnded(one.id, "error", "no profile"))
    assert not bench.log(e.RunFinished)
    bench.step(NodeEnded(other.id, "y", "success"), PieceEnded(other.id))
    [finished] = bench.log(e.RunFinished)
    assert isinstance(finished, e.RunFinished)
    assert (finished.status, finished.message) == ("error", "no profile")
    assert not bench.log(e.JobFinished), "the job is still owed"
    bench.step(after=ERROR_HOLD)
    assert [piece.nodes for piece in bench.builder.pieces[2:]] == [("x",), ("z",)], "what the job has built it has"


# Cancelling


def test_a_cancelled_run_begins_nothing_more_and_is_not_started_again_by_itself() -> None:
    bench = Bench(gated=True)
    bench.step()
    [run] = bench.engine.runs
    bench.engine.cancel(run)
    assert bench.builder.cancelled == [run]
    piece = bench.builder.pieces[-1]
    bench.step(NodeBegan(piece.id, "u"), NodeEnded(piece.id, "u", "interrupted"), PieceEnded(piece.id, "interrupted"))
    assert len(bench.builder.pieces) == 1
    assert not bench.engine.busy
    bench.add(e.DataLanded("a"))
    bench.step(after=1)
    assert len(bench.builder.pieces) == 2


def test_cancelling_what_is_not_known_does_nothing() -> None:
    bench = Bench()
    bench.engine.cancel("r99")
    assert bench.builder.cancelled == []


# When it looks again


def test_it_sleeps_until_the_end_of_a_window() -> None:
    bench = Bench(graph(A, node("m", "a", every=1)))
    bench.step()
    bench.done()
    bench.add(e.DataLanded("a"))
    assert bench.step(after=60) == 1000 + HOUR
    assert bench.step(after=HOUR - 60.0) is None
    assert len(bench.builder.pieces) == 2


def test_it_sleeps_for_as_long_as_an_event_has_to_settle_and_no_longer() -> None:
    bench = Bench(settle=10.0)
    assert bench.step() == 1010.0
    bench.add(e.DataLanded("a"))
    assert bench.step(after=5) == 1010.0
    bench.step(after=5)
    assert len(bench.builder.pieces) == 1


def test_with_nothing_to_wait_for_it_sleeps_until_something_happens() -> None:
    bench = Bench()
    bench.step()
    bench.done()
    assert bench.step() is None


def test_between_jobs_it_neither_looks_nor_wakes() -> None:
    bench = Bench(graph(A, node("m", "a", every=1)), trigger="jobs")
    bench.add(e.DataLanded("a"))
    assert bench.step() is None
    assert not bench.builder.pieces


def test_one_slot_is_shared_and_jobs_are_served_in_their_order() -> None:
    bench = Bench(graph(A, B, node("x", "a"), node("y", "b")), trigger="jobs")
    bench.add(e.JobRequested("j1", "one", 1000.0, ("y",)), e.JobRequested("j2", "two", 1000.0))
    bench.step()
    assert [piece.nodes for piece in bench.builder.pieces] == [("y",)]
    bench.done()
    assert [piece.nodes for piece in bench.builder.pieces] == [("y",), ("x",)]
    bench.done()
    assert [event.job for event in bench.log(e.JobFinished) if isinstance(event, e.JobFinished)] == ["j1", "j2"]


@pytest.mark.parametrize(("slots", "then"), [(2, [("m",), ("u",)]), (1, [("m",)])])
def test_what_arrived_during_a_build_does_not_wait_for_the_rest_of_its_run(slots: int, then: list[object]) -> None:
    bench = Bench(gated=True, max_concurrent_runs=slots)
    bench.step()
    piece = bench.builder.pieces[-1]
    bench.step(NodeBegan(piece.id, "u"))
    bench.add(e.DataLanded("a"))
    bench.step()
    assert [piece.nodes for piece in bench.builder.pieces] == [("u",)]
    bench.step(NodeEnded(piece.id, "u", "success"), PieceEnded(piece.id))
    assert [piece.nodes for piece in bench.builder.pieces[1:]] == then


# Restarts


def test_a_restart_loses_what_was_running_and_decides_again_at_once() -> None:
    bench = Bench(settle=60.0)
    bench.step(after=60)
    piece = bench.builder.pieces[-1]
    bench.step(NodeBegan(piece.id, "u"))
    bench.restart()
    assert bench.engine.world.node("u").running is None
    bench.step()
    assert [piece.nodes for piece in bench.builder.pieces] == [("u", "m")]
    bench.step(NodeEnded(piece.id, "u", "success"))
    assert not bench.log(e.NodeBuilt), "a worker that lost its lease cannot record a result"


def test_a_restart_takes_up_unfinished_jobs_and_no_others() -> None:
    bench = Bench(trigger="jobs")
    bench.add(e.JobRequested("j", "all", 1000.0))
    bench.step()
    bench.restart()
    bench.step()
    bench.done()
    bench.restart()
    bench.step()
    assert not bench.builder.pieces


def test_an_engine_on_an_empty_log_waits_for_a_project() -> None:
    store, clock = MemoryStore(), VirtualClock(0.0)
    engine = Engine(store, ByHand(True), clock, Settings())
    store.append([Draft(e.DataLanded("a"), 0.0), Draft(e.JobRequested("j", "all", 0.0), 0.0)])
    assert engine.step() is None
    assert not engine.busy


def test_listeners_hear_each_event_once_it_is_folded() -> None:
    bench, heard = Bench(), list[tuple[int, int]]()
    bench.engine.on_event = lambda recorded: heard.append((recorded.seq, bench.engine.world.seq))
    bench.step()
    bench.done()
    assert heard == [(seq, seq) for seq in range(2, bench.store.last() + 1)]


def test_a_virtual_clock_does_not_run_backwards() -> None:
    clock = VirtualClock(10.0)
    clock.set(10.0)
    with pytest.raises(SaoError, match="time would run backwards"):
        clock.set(9.0)


def test_what_is_built_is_new_to_those_who_read_it_as_a_source() -> None:
    written, seed = replace(A, relation="raw.a"), replace(node("seed", kind="seed"), relation="raw.a")
    bench = Bench(graph(written, B, seed, node("m", "a"), node("n", "b")))
    bench.step()
    bench.done()
    bench.done()
    assert [piece.nodes for piece in bench.builder.pieces[1:]] == [("m",)], "dbt may have built it before the seed"
    bench.load(graph(written, B, replace(seed, own=Code("other")), node("m", "a"), node("n", "b")))
    bench.step(after=1.0)
    bench.done()
    bench.done()
    assert [piece.nodes for piece in bench.builder.pieces[2:]] == [("seed",), ("m",)]
    assert not bench.engine.busy


def test_rows_that_are_as_they_were_are_not_new_to_those_who_read_them_as_a_source() -> None:
    written, seed = replace(A, relation="raw.a"), replace(node("seed", "b"), relation="raw.a")
    bench = Bench(graph(written, B, seed, node("m", "a")))
    bench.step()
    bench.done()
    bench.done()
    bench.add(e.DataLanded("b"))
    bench.step(after=1.0)
    piece = bench.builder.pieces[-1]
    bench.step(NodeBegan(piece.id, "seed"), NodeEnded(piece.id, "seed", "success", same_content=True))
    bench.step(PieceEnded(piece.id))
    assert [event.source for event in bench.log() if isinstance(event, e.DataLanded)] == ["a", "b"]


def test_what_reads_its_own_relation_as_a_source_comes_to_rest() -> None:
    bench = Bench(graph(replace(A, relation="raw.a"), replace(node("m", "a"), relation="raw.a")))
    bench.step()
    bench.done()
    bench.step(after=1.0)
    assert (len(bench.builder.pieces), bench.engine.busy) == (1, False)


def test_what_read_each_other_as_sources_come_to_rest() -> None:
    sources = replace(A, relation="raw.a"), replace(B, relation="raw.b")
    m, n = replace(node("m", "a"), relation="raw.b"), replace(node("n", "b"), relation="raw.a")
    bench = Bench(graph(*sources, m, n))
    bench.step()
    bench.done()
    bench.step(after=1.0)
    assert (len(bench.builder.pieces), bench.engine.busy) == (1, False)


# Tests


def test_a_test_of_a_source_is_in_one_piece_with_what_it_gates() -> None:
    bench = Bench(graph(A, node("m", "a"), Test("t", "t", ("a",))))
    bench.step()
    assert [(piece.nodes, piece.tests) for piece in bench.builder.pieces] == [(("m",), ("t",))]
    piece = bench.builder.pieces[-1]
    bench.step(TestEnded(piece.id, "t", "fail"), NodeEnded(piece.id, "m", "skipped"), PieceEnded(piece.id))
    assert len(bench.builder.pieces) == 1
    assert bench.engine.decisions["m"].waiting_for == ("a",)
    assert bench.engine.error is None


def test_a_skipped_test_has_no_result() -> None:
    bench = Bench(graph(A, node("m", "a"), Test("t", "t", ("m",))))
    bench.step()
    piece = bench.builder.pieces[-1]
    bench.step(NodeEnded(piece.id, "m", "error"), TestEnded(piece.id, "t", "skipped"), PieceEnded(piece.id))
    assert not bench.log(e.TestFinished)
    assert len(bench.builder.pieces) == 1


def job_beside_an_untested_build() -> tuple[Bench, Piece]:
    """A job has built `m` and not tested it so far when another is asked for; the piece of the first."""
    bench = Bench(graph(A, node("m", "a"), Test("t", "t", ("m",))), max_concurrent_runs=2, trigger="jobs")
    bench.add(e.JobRequested("j1", "one", 1000.0))
    bench.step()
    first = bench.builder.pieces[-1]
    bench.add(e.JobRequested("j2", "two", 1000.0))
    bench.step(NodeBegan(first.id, "m"), NodeEnded(first.id, "m", "success"))
    return bench, first


def test_a_job_leaves_a_test_to_the_run_that_built_what_it_looks_at() -> None:
    bench, first = job_beside_an_untested_build()
    assert bench.builder.pieces == [first]
    bench.step(TestEnded(first.id, "t", "pass"), PieceEnded(first.id))
    assert (bench.builder.pieces, bench.engine.busy) == ([first], False)
    assert [event.reused_tests for event in bench.log(e.JobFinished) if isinstance(event, e.JobFinished)] == [
        (),
        ("t",),
    ]


def test_what_the_other_run_did_not_test_after_all_is_tested_by_the_job_that_waited() -> None:
    bench, first = job_beside_an_untested_build()
    bench.step(PieceEnded(first.id, "interrupted", "cancelled"))
    assert (bench.builder.pieces[-1].nodes, bench.builder.pieces[-1].tests) == ((), ("t",))


def with_a_unit_test(code: str = "") -> Graph:
    """A unit test `u` of the view `v`, which `r` reads. Its definition is `code`, and so is the code of `m` and `r`."""
    other = [replace(it, own=Code(code)) for it in (node("m", "b"), node("r", "v"))]
    return graph(A, B, node("t", "a"), view("v", "t"), *other, Test("u", "u", ("v",), code, kind="unit"))


def built_with_its_unit_test() -> Bench:
    """All is built, the unit test in front of its model, as dbt runs it."""
    bench = Bench(with_a_unit_test(), trigger="jobs")
    bench.add(e.JobRequested("j1", "first", 1000.0))
    bench.step()
    [piece] = bench.builder.pieces
    bench.step(NodeBegan(piece.id, "t"), NodeEnded(piece.id, "t", "success"), TestEnded(piece.id, "u", "pass"))
    bench.done("v", "m", "r", more=(TestEnded("none", "u", "pass"),))
    bench.add(e.JobRequested("j2", "second", 1000.0))
    return bench


def test_a_unit_test_that_passed_in_front_of_a_build_holds_for_what_it_left() -> None:
    bench = built_with_its_unit_test()
    bench.step()
    assert len(bench.builder.pieces) == 1
    ended = [event for event in bench.log(e.JobFinished) if isinstance(event, e.JobFinished)]
    assert [event.reused_tests for event in ended] == [(), ("u",)]


def test_a_unit_test_whose_model_is_not_built_goes_ahead_by_itself_and_gates_its_readers() -> None:
    bench = built_with_its_unit_test()
    bench.load(with_a_unit_test("other"))
    bench.step()
    _, alone, beside = bench.builder.pieces
    assert [(piece.nodes, piece.tests) for piece in (alone, beside)] == [((), ("u",)), (("m",), ())]
    bench.step(TestEnded(alone.id, "u", "pass"), PieceEnded(alone.id))
    assert (bench.builder.pieces[-1].nodes, bench.builder.pieces[-1].tests) == (("r",), ())


def test_a_failed_unit_test_of_a_model_that_is_not_built_blocks_its_readers() -> None:
    bench = built_with_its_unit_test()
    bench.load(with_a_unit_test("other"))
    bench.step()
    _, alone, beside = bench.builder.pieces
    bench.step(TestEnded(alone.id, "u", "fail"), PieceEnded(alone.id))
    bench.step(NodeBegan(beside.id, "m"), NodeEnded(beside.id, "m", "success"), PieceEnded(beside.id))
    assert (len(bench.builder.pieces), bench.engine.busy) == (3, False)


def test_a_unit_test_of_a_view_waits_for_what_is_built_behind_it() -> None:
    bench = built_with_its_unit_test()
    bench.load(with_a_unit_test("other"))
    bench.add(e.DataLanded("a"))
    bench.step()
    first = bench.builder.pieces[-1]
    assert (first.nodes, first.tests) == (("t", "m"), ())
    bench.done()
    assert (bench.builder.pieces[-1].nodes, bench.builder.pieces[-1].tests) == ((), ("u",))
    bench.done()
    assert (bench.builder.pieces[-1].nodes, bench.builder.pieces[-1].tests) == (("r",), ())
