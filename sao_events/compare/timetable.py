"""Builds and tests that take the time they are known to take, and all succeed.

Nodes of a run are built as dbt builds them: as soon as what they need is there, `threads` at a time.
"""

from __future__ import annotations

from heapq import heappop, heappush

from sao_events.compare.trace import Durations
from sao_events.core.graph import Graph
from sao_events.core.project import Project
from sao_events.engine.turns import waits_on
from sao_events.ports import NodeBegan, NodeEnded, Piece, PieceEnded, Report, TestEnded
from sao_events.simulate import VirtualClock

Timetable = list[tuple[str, float, float]]


class TimedBuilder:
    """A `Builder` whose builds and tests take their time and pass. `gated`: node by node, decided again at each turn,
    with as many side by side as there are; else a run as one invocation of dbt with `threads`.
    """

    def __init__(self, clock: VirtualClock, durations: Durations, threads: int = 4, gated: bool = False) -> None:
        self.clock, self.durations, self.threads, self.gated = clock, durations, threads, gated
        self._due: list[tuple[float, int, Report]] = []
        self._number = 0
        self._timetables: dict[object, Timetable] = {}

    def ready(self, project: str) -> bool:
        """Always."""
        return True

    def hashes(self, adapter: str) -> bool:
        """Never: a trace says nothing of content."""
        return False

    def start(self, piece: Piece, project: Project) -> None:
        """Begin with a piece: all of its timetable is known at once."""
        key, now = (piece.project, piece.nodes, piece.tests), self.clock.now()
        timetable = self._timetables.get(key) or self._timetables.setdefault(key, self._timetable(piece, project.graph))
        for name, begins, ends in timetable:
            if name in project.graph.tests:
                self._report(now + ends, TestEnded(piece.id, name, "pass", ends - begins))
            else:
                self._report(now + begins, NodeBegan(piece.id, name))
                self._report(now + ends, NodeEnded(piece.id, name, "success", self.durations.of(name)))
        self._report(now + max((ends for _, _, ends in timetable), default=0.0), PieceEnded(piece.id))

    def reports(self) -> list[Report]:
        """What has come to an end by now."""
        found = []
        while self._due and self._due[0][0] <= self.clock.now():
            found.append(heappop(self._due)[2])
        return found

    def next(self) -> float | None:
        """The instant of the next report."""
        return self._due[0][0] if self._due else None

    def cancel(self, run: str) -> None:
        """Nothing is ever cancelled in a replay."""

    def _timetable(self, piece: Piece, graph: Graph) -> Timetable:
        """Whatever is ready first begins first, in graph order, as long as a thread is free."""
        needs = _needs(piece, graph)
        names, place = list(needs), {name: number for number, name in enumerate(needs)}
        lacking = {name: len(before) for name, before in needs.items()}
        readers: dict[str, list[str]] = {name: [] for name in needs}
        for name, before in needs.items():
            for other in before:
                readers[other].append(name)
        now, running, found = 0.0, list[tuple[float, int]](), list[tuple[str, float, float]]()
        ready = [place[name] for name, count in lacking.items() if not count]
        while ready or running:
            while ready and (self.gated or len(running) < self.threads):
                name = names[heappop(ready)]
                ends = now + (self.durations.of_test(name) if name in graph.tests else self.durations.of(name))
                found.append((name, now, ends))
                heappush(running, (ends, place[name]))
            now, done = heappop(running)
            for reader in readers[names[done]]:
                lacking[reader] -= 1
                if not lacking[reader]:
                    heappush(ready, place[reader])
        return found

    def _report(self, at: float, report: Report) -> None:
        self._number += 1
        heappush(self._due, (at, self._number, report))


def _needs(piece: Piece, graph: Graph) -> dict[str, set[str]]:
    """What of the piece comes before each of its nodes and tests. As in `dbt build` a node waits for the tests of what
    it reads, where these read nothing that comes later.
    """
    nodes, found, above = set(piece.nodes), dict[str, set[str]](), dict[str, set[str]]()
    reading: dict[str, list[str]] = {}
    for test in piece.tests:
        for name in graph.tests[test].reads:
            reading.setdefault(name, []).append(test)
    for name in graph.sort(nodes):
        before = nodes.intersection(waits_on(graph, name))
        above[name] = before.union(*(above[other] for other in before))
        gates = {test for other in before for test in reading.get(other, ())}
        found[name] = before | {test for test in gates if above[name].issuperset(nodes & set(graph.tests[test].reads))}
    return found | {test: nodes.intersection(graph.tests[test].reads) for test in piece.tests}
