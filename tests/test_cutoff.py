"""Early cutoff: what the engine makes of equal content, and the same on the real dbt."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from sao_events import report
from sao_events.core import events as e
from sao_events.core.cutoff import TURN, hashing
from sao_events.core.graph import Graph
from sao_events.core.lineage import Code
from sao_events.ports import NodeBegan, NodeEnded, PieceEnded
from sao_events.report.spared import cutoff_text
from tests.record import HOUR, Record, graph, node, source, view
from tests.test_engine import Bench

A, B = source("a"), source("b")
SHOP = graph(A, B, node("u", "a", cutoff=True), node("m", "u", "b"))


class Cut(Bench):
    """An engine on a table whose content is hashed, and a reader of it; both are built."""

    def __init__(self, shop: Graph = SHOP, **settings: Any) -> None:
        super().__init__(shop, max_concurrent_runs=2, **settings)
        self.step()
        self.built("h1")
        self.done()
        assert not self.engine.busy

    def built(self, content: str | None, unhashed: str | None = None) -> None:
        """What is under way of `u` has been built."""
        piece = next(piece for piece in reversed(self.builder.pieces) if "u" in piece.nodes)
        ended = NodeEnded(piece.id, "u", "success", 3.0, content=content, unhashed=unhashed, hashing=0.5)
        self.step(NodeBegan(piece.id, "u"), ended, PieceEnded(piece.id))

    def again(self, content: str | None, *before: e.Event) -> list[tuple[str, ...]]:
        """What is built after new data and `before`, where `u` then has the content."""
        known = len(self.builder.pieces)
        self.add(*before, e.DataLanded("a"))
        self.step(after=1)
        self.built(content, None if content else "it is no table")
        found = [piece.nodes for piece in self.builder.pieces[known:]]
        self.done()
        return found


def test_equal_content_concerns_no_reader() -> None:
    bench = Cut()
    assert bench.builder.pieces[0].hashes == {"u": 300.0}
    assert bench.again("h1") == [("u",)]
    assert bench.again("h2") == [("u",), ("m",)]
    assert bench.again("h1") == [("u",), ("m",)]
    assert bench.again("h1") == [("u",)]
    hashed = bench.engine.world.node("u").hashed
    assert (hashed.builds, hashed.equal, hashed.spent, hashed.seconds) == (5, 2, 2.5, 0.5)


def test_content_that_is_not_known_is_equal_to_none() -> None:
    bench = Cut()
    assert bench.again(None) == [("u",), ("m",)]
    assert bench.again(None) == [("u",), ("m",)]
    assert bench.again("h1") == [("u",), ("m",)]
    assert bench.again("h1") == [("u",)]


def test_a_content_is_forgotten_with_what_it_was_told_of() -> None:
    for event in (e.RelationDropped("u"), e.StateCleared(("u",)), e.StateCleared()):
        assert ("m",) in Cut().again("h1", event), event


def test_a_content_is_forgotten_when_a_build_is_lost_or_fails() -> None:
    for status in ("error", "interrupted"):
        bench = Cut(attempts=1, backoff=1.0) if status == "error" else Cut()
        bench.add(e.DataLanded("a"))
        bench.step(after=1)
        piece = bench.builder.pieces[-1]
        bench.step(NodeBegan(piece.id, "u"), NodeEnded(piece.id, "u", status), PieceEnded(piece.id))
        assert bench.engine.world.node("u").hashed.content is None


def test_a_reader_that_was_being_built_may_have_read_something_in_between() -> None:
    bench = Cut()
    bench.add(e.DataLanded("b"))
    bench.step(after=1)
    reading = bench.builder.pieces[-1]
    assert reading.nodes == ("m",)
    bench.step(NodeBegan(reading.id, "m"))
    bench.add(e.DataLanded("a"))
    bench.step(after=1)
    assert bench.builder.pieces[-1].nodes == ("u",)
    bench.step(NodeEnded(reading.id, "m", "success"), PieceEnded(reading.id))
    bench.built("h1")
    assert bench.builder.pieces[-1].nodes == ("m",)


def test_a_reader_with_other_code_is_built_whatever_the_content() -> None:
    bench = Cut()
    bench.load(graph(A, B, node("u", "a", cutoff=True), replace(node("m", "u", "b"), own=Code("new"))))
    assert bench.again("h1") == [("u",), ("m",)]


def test_equal_content_of_other_code_concerns_no_reader() -> None:
    bench = Cut()
    bench.load(graph(A, B, replace(node("u", "a", cutoff=True), own=Code("new")), node("m", "u", "b")))
    bench.step()
    bench.built("h1")
    assert bench.builder.pieces[-1].nodes == ("u",)


# What it has spared, and what is shown of it


def test_what_is_spared_is_what_would_have_been_built_else() -> None:
    late = node("late", "m", every=2.0)
    bench = Cut(graph(A, B, node("u", "a", cutoff=True), view("v", "u"), node("m", "v", "b"), late))
    took = {"m": 40.0, "late": 5.0}
    [run] = [recorded.seq for recorded in bench.store.read() if isinstance(recorded.event, e.RunStarted)]
    assert run
    spared = [event.spared for event in bench.log(e.NodeBuilt) if isinstance(event, e.NodeBuilt)]
    assert spared == [{}] * 4
    for name, seconds in took.items():
        known = bench.engine.world.nodes[name]
        assert known.baseline is not None
        bench.engine.world.nodes[name] = replace(known, baseline=replace(known.baseline, seconds=seconds))
    for after, expected in ((0, ["m"]), (1, ["m"]), (2 * HOUR, ["m", "late"]), (HOUR, ["m"]), (HOUR, ["m", "late"])):
        bench.clock.set(bench.clock.now() + after)
        bench.again("h1")
        found = bench.log(e.NodeBuilt)[-1]
        assert isinstance(found, e.NodeBuilt)
        assert found.spared == {name: took[name] for name in expected}, after
    hashed = bench.engine.world.node("u").hashed
    assert (hashed.spared, hashed.saved) == (7, 5 * 40.0 + 2 * 5.0)


def test_a_reader_that_is_built_all_the_same_is_not_counted_as_spared() -> None:
    bench = Cut()
    bench.again("h1", e.DataLanded("b"))
    built = [event for event in bench.log(e.NodeBuilt) if isinstance(event, e.NodeBuilt) and event.node == "u"]
    assert (built[-1].same_content, built[-1].spared) == (True, {})


def test_a_reader_shows_which_upstream_left_equal_content() -> None:
    bench = Cut()
    bench.clock.set(5000.0)
    bench.again("h1")
    engine = bench.engine
    seen = report.View("prod", engine.project, engine.world, engine.settings, 6000.0)
    found = report.why(seen, bench.store.find, "m")
    [equal] = found["equal_upstream"]
    assert (equal["upstream"], equal["content"], equal["reason"]) == ("u", "h1", "new_data")
    assert (equal["since"], equal["at"]) == (report.iso(1000.0), report.iso(5001.0))
    assert found["text"] == (
        "nothing new upstream since its last build; u was built again and left the same content (h1)"
    )
    assert found["cutoff"] is None
    cost = report.why(seen, bench.store.find, "u")["cutoff"]
    assert cost == {
        "early_cutoff": True,
        "content": "h1",
        "since": report.iso(1000.0),
        "unhashed": None,
        "builds": 2,
        "equal": 1,
        "hash_seconds": 0.5,
        "hash_seconds_total": 1.0,
        "spared_builds": 1,
        "spared_seconds": 0.0,
    }
    assert report.status(seen)["cutoff"] == {
        key: cost[key] for key in ("builds", "equal", "hash_seconds_total", "spared_builds", "spared_seconds")
    }
    assert cutoff_text(cost) == (
        "1 of 2 builds left equal content; hashing took 1.0 s and spared 1 build of readers, "
        "0.0 s by what they took before"
    )
    bench.again("h2")
    assert report.why(seen, bench.store.find, "m")["equal_upstream"] == []


# Whether it is worth finding out


def measured(reader_seconds: float, *builds: tuple[str | None, float, bool], kind: str = "table") -> Record:
    """A node with `auto`, a reader that takes so long, and builds: the hash, what it took, whether it was equal."""
    record = Record(A, node("u", "a", cutoff="auto"), node("m", "u", kind=kind)).land("a")
    for content, seconds, same in (("h0", 0.0, False), *builds):
        run = record.start("u")
        why = None if content else "it is no table"
        record.add(e.NodeBuilt(run, "u", 1.0, same, content=content, unhashed=why, hashing=seconds))
        record.add(e.RunFinished(run, "success"))
    run = record.start("m")
    return record.add(e.NodeBuilt(run, "m", reader_seconds), e.RunFinished(run, "success"))


@pytest.mark.parametrize(
    ("reader_seconds", "builds", "limit"),
    [
        (30.0, (), 30 / 3 - TURN),  # h0 alone: 1 of 3
        (30.0, (("h0", 1.0, True),), 30 * 2 / 4 - TURN),
        (30.0, (("h1", 1.0, False),), 30 * 1 / 4 - TURN),
        (30.0, (("h1", 8.0, False),), None),
        (30.0, (("h0", 8.0, True),), 30 * 2 / 4 - TURN),
        (1.0, (("h0", 0.0, True),), None),  # 1 of 2 is what waiting for it costs
        (0.0, (), None),
        (1000.0, (("h1", 1.0, False),) * 60, 1000.0 / 20 - TURN),
        (30.0, ((None, 0.0, False),), None),
    ],
)
def test_auto_hashes_where_what_readers_take_outweighs_it(
    reader_seconds: float, builds: tuple[tuple[str | None, float, bool], ...], limit: float | None
) -> None:
    record = measured(reader_seconds, *builds)
    found = hashing(record.graph, record.world, "u")
    assert found == (None if limit is None else pytest.approx(limit))


def test_auto_looks_again_once_the_code_is_another() -> None:
    record = measured(30.0, (None, 0.0, False))
    assert hashing(record.graph, record.world, "u") is None
    record.edit("u", "new")
    assert hashing(record.graph, record.world, "u") is not None


def test_what_holds_no_data_or_is_not_asked_for_is_not_hashed() -> None:
    record = Record(A, node("u", "a"), view("v", "u", cutoff=True), node("m", "v", cutoff=True))
    assert [hashing(record.graph, record.world, name) for name in ("u", "v", "m")] == [None, None, 300.0]
