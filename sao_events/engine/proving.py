"""Proofs in a run: which tests of a piece need not run, and what is recorded of them.

A test of a node that the piece builds is left out where it is expected to be proven; it is looked at again when the
node is built, and where the proof does not hold then, it has its turn as any other test.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from sao_events.core import checks
from sao_events.core import events as e
from sao_events.core.graph import Graph
from sao_events.core.policy import Settings
from sao_events.core.proven import Proofs, Question, hoped, may_prove
from sao_events.core.state import World
from sao_events.engine.turns import ActiveRun, Flight

Names = tuple[str, ...]


class Proving:
    """The proofs of one graph over the state `world`, which is the engine's. `text` gives stored SQL by its digest."""

    def __init__(self, graph: Graph, world: World, text: Callable[[str], str | None]) -> None:
        self.graph, self.world, self.proofs = graph, world, Proofs(graph, text)

    def split(self, run: ActiveRun, settings: Settings, nodes: Names, tests: Names) -> tuple[Names, Names, Names]:
        """The tests of a piece that builds `nodes`: those to run, those proven now, those hoped to be proven later."""

        def may(test: str) -> bool:
            return test not in run.unproven and may_prove(self.graph.tests[test], settings, run.job)

        asked = [name for name in tests if may(name)]
        found = hoped(self.proofs, self.world, nodes, tests, asked) if asked else frozenset()
        now = {name for name in found if set(nodes).isdisjoint(checks.looked_at(self.graph, self.graph.tests[name]))}
        kept = tuple(name for name in tests if name not in found)
        return kept, tuple(sorted(now)), tuple(sorted(found - now))

    def finished(self, run: ActiveRun, name: str) -> e.TestFinished | None:
        """What is recorded of a test that is proven; None where it is not, and is to run."""
        test = self.graph.tests[name]
        chain = Question(self.proofs, self.world).proof_of(test)
        if chain is None:
            return None
        definition, seen = checks.definition(self.graph, test), checks.positions(self.graph, self.world, test)
        return e.TestFinished(run.id, name, "pass", definition, seen, proven=chain)

    def due(self, run: ActiveRun, flight: Flight) -> Iterator[str]:
        """The tests that were hoped for and whose nodes are built now; they are looked at once."""
        for name in sorted(flight.hoped):
            seen = set(checks.looked_at(flight.graph, flight.graph.tests[name]))
            if run.built.issuperset(seen.intersection(flight.piece.nodes)):
                flight.hoped.discard(name)
                yield name
