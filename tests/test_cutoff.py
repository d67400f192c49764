"""Early cutoff: what the engine makes of equal content, and the same on the real dbt."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from sao_events import events as e
from sao_events.lineage import Code
from sao_events.ports import NodeBegan, NodeEnded, PieceEnded
from tests.record import graph, node, source
from tests.test_engine import Bench

A, B = source("a"), source("b")
SHOP = graph(A, B, node("u", "a", cutoff=True), node("m", "u", "b"))


class Cut(Bench):
    """An engine on a table whose content is hashed, and a reader of it; both are built."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(SHOP, max_concurrent_runs=2, **settings)
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
