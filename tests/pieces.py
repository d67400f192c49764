"""What dbt does with several nodes and tests at once, in small: each when all above it has ended, tests that gate what
is below, and nothing of what is below a failure, at any distance. Measured with dbt itself by `test_runners`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from heapq import heappop, heappush

from sao_events.core.graph import Graph
from sao_events.core.project import Project
from sao_events.engine.loop import Engine
from sao_events.ports import NodeBegan, NodeEnded, Piece, PieceEnded, Report, TestEnded
from sao_events.scenario import Scenario
from sao_events.simulate import VirtualClock
from tests.laws import History, WarehouseBuilder
from tests.warehouse import Warehouse

WELL = frozenset({"success", "pass", "warn"})


@dataclass
class Carried:
    """A piece that is being carried out: the nodes and tests that have not had their turn, what is being built, and how
    the rest ended.
    """

    piece: Piece
    graph: Graph
    nodes: list[str]
    tests: list[str]
    building: set[str] = field(default_factory=set)
    ended: dict[str, str] = field(default_factory=dict)

    def waits(self, before: set[str]) -> bool:
        """Whether something of `before` that is in the piece has yet to end."""
        return not {*self.nodes, *self.tests, *self.building}.isdisjoint(before)

    def well(self, before: set[str]) -> bool:
        """Whether nothing of `before` failed or was skipped in it."""
        return all(status in WELL for name, status in self.ended.items() if name in before)

    def before_test(self, name: str) -> set[str]:
        """What a test waits for: what it reads, and of a unit test what its model reads."""
        test = self.graph.tests[name]
        own = set(test.reads) if test.kind == "unit" else set()
        return self.graph.ancestors(test.reads) - own

    def before_node(self, name: str) -> set[str]:
        """What a node waits for: all above it, and the tests of nothing but that, and its unit tests."""
        graph = self.graph
        nodes = graph.ancestors(graph.nodes[name].reads)
        above = nodes.union(*(graph.nodes[it].reads for it in (name, *nodes)))
        tests = (graph.tests[it] for it in self.piece.tests)
        return nodes | {it.id for it in tests if above.issuperset(it.reads) or (it.kind == "unit" and name in it.reads)}


class PieceBuilder(WarehouseBuilder):
    """A builder that is given as much as holds together. Fails a node whose upstreams are gone from the warehouse."""

    def __init__(self, clock: VirtualClock, scenario: Scenario, warehouse: Warehouse) -> None:
        super().__init__(clock, scenario, warehouse)
        self.gated = False
        self._calls: list[tuple[float, int, Callable[[], None]]] = []
        self._said: list[Report] = []

    def start(self, piece: Piece, project: Project) -> None:
        it = Carried(piece, project.graph, project.graph.sort(piece.nodes), list(piece.tests))
        self._later(0.0, lambda: self._go_on(it))

    def reports(self) -> list[Report]:
        while self._calls and self._calls[0][0] <= self.clock.now():
            heappop(self._calls)[2]()
        said, self._said = self._said, []
        return said

    def next(self) -> float | None:
        return self._calls[0][0] if self._calls else None

    def cancel(self, run: str) -> None:
        super().cancel(run)
        self._calls.clear()
        self._said.clear()

    def _later(self, seconds: float, call: Callable[[], None]) -> None:
        self._number += 1
        heappush(self._calls, (self.clock.now() + seconds, self._number, call))

    def _go_on(self, it: Carried) -> None:
        while any(self._test(it, name) for name in it.tests) or any(self._node(it, name) for name in it.nodes):
            pass
        if not (it.nodes or it.tests or it.building):
            self._said.append(PieceEnded(it.piece.id))

    def _test(self, it: Carried, name: str) -> bool:
        if it.waits(before := it.before_test(name)):
            return False
        it.tests.remove(name)
        severities = self.test_fails.get(name)
        status = "skipped"
        if it.well(before):
            status = {"error": "fail", "warn": "warn"}[severities.pop(0)] if severities else "pass"
        it.ended[name] = status
        self._said.append(TestEnded(it.piece.id, name, status))
        return True

    def _node(self, it: Carried, name: str) -> bool:
        if it.waits(before := it.before_node(name)):
            return False
        it.nodes.remove(name)
        if not it.well(before):
            it.ended[name] = "skipped"
            self._said.append(NodeEnded(it.piece.id, name, "skipped"))
            return True
        self.warehouse.graph = it.graph
        failed, there = self._take(self.fails, name), all(map(self.warehouse.readable, it.graph.upstreams[name]))
        if there:
            assert name not in self.warehouse.started, f"{name} is built twice at once"
            self.warehouse.begin(name)
        it.building.add(name)
        self._said.append(NodeBegan(it.piece.id, name))
        self._later(self.scenario.duration(name), lambda: self._end(it, name, failed, there))
        return True

    def _end(self, it: Carried, name: str, failed: bool, there: bool) -> None:
        it.building.remove(name)
        status = it.ended[name] = "error" if failed or not there else "success"
        ended = NodeEnded(it.piece.id, name, status, self.scenario.duration(name))
        self._said.append(self._carried_out(ended) if there else ended)
        self._go_on(it)


class InPieces(History):
    """A history whose builds are handed over in pieces, as to dbt."""

    def __init__(self, scenario: Scenario) -> None:
        super().__init__(scenario)
        self.builder = PieceBuilder(self.clock, scenario, self.warehouse)
        self.engine = Engine(self.store, self.builder, self.clock, scenario.settings)
