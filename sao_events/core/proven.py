"""Tests that need not run: what they assert follows from the SQL of their node and from tests that passed on the data
that it was built from (semantics, section 7).

A claim about a node holds where a plain test of it stands and passed, or where the SQL that it was built with proves it
from claims about what that SQL reads, as it was read: every node on the way must have been built since by nobody.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from itertools import chain
from typing import TYPE_CHECKING

from sao_events.core import checks
from sao_events.core.claims import Claim, implies
from sao_events.core.graph import Graph
from sao_events.core.nodes import Node, Source, Test
from sao_events.core.policy import Settings
from sao_events.core.state import Job, World

if TYPE_CHECKING:
    from sao_events.core.proof import Rel

Text = Callable[[str], str | None]
Chain = tuple[str, ...]
Alternatives = frozenset[frozenset[Claim]]
Columns = Mapping[str, Mapping[str, str | None] | None]

PROVABLE = frozenset({"table", "view"})
DEEPEST = 12  # nodes on the way from a claim to what it rests on


class Proofs:
    """What is proven of a graph, whatever the state is: which claims about what it reads a claim about a node needs.

    `text` gives the SQL that is stored under a digest. What was found is kept, as long as the columns of what is read
    are the same.
    """

    def __init__(self, graph: Graph, text: Text) -> None:
        self.graph, self.text = graph, text
        self.dialect = graph.adapter
        self._shapes: dict[str, tuple[Columns, Rel]] = {}
        self._needs: dict[Claim, tuple[Rel, Alternatives]] = {}
        self._columns: dict[str, tuple[Mapping[str, str], Mapping[str, str | None] | None]] = {}
        self.claims: dict[str, list[Test]] = {}
        for test in graph.tests.values():
            if test.claim is not None:
                self.claims.setdefault(test.claim.relation, []).append(test)

    @cached_property
    def names(self) -> dict[str, str]:
        """The folded relation name of each node and source; where two have one name, of neither."""
        from sao_events.core.proof.names import known, relation_name

        found: dict[str, str] = {}
        things = chain[Source | Node](self.graph.sources.values(), self.graph.nodes.values())
        for thing in things if known(self.dialect) else ():
            name = relation_name(thing.relation, self.dialect) if thing.relation else None
            if name is not None:
                found[thing.id] = name
        often = Counter(found.values())
        return {of: name for of, name in found.items() if often[name] == 1}

    def needs(self, claim: Claim, world: World) -> Alternatives:
        """Alternatives of claims about what the SQL of the claim's node reads, by ids."""
        from sao_events.core.proof import needs

        rel = self._shape(self.graph.nodes[claim.relation], world)
        if rel is None or (claim.to and claim.to not in self.names):
            return frozenset()
        kept = self._needs.get(claim)
        if kept is None or kept[0] is not rel:
            to = self.names[claim.to] if claim.to else ""
            found = needs(Claim("", claim.kind, claim.column, claim.values, to, claim.field), rel, self.dialect)
            kept = self._needs[claim] = rel, frozenset(map(self._by_ids, filter(self._known, found)))
        return kept[1]

    def _shape(self, node: Node, world: World) -> Rel | None:
        """What the node's SQL is made of; None where it is not known."""
        from sao_events.core.proof import shape_of

        reads = self.graph.looked_at((node.id,))
        columns = {self.names[name]: self.columns(name, world) for name in reads if name in self.names}
        kept = self._shapes.get(node.id)
        if kept is None or kept[0] != columns:
            text = self.text(node.compiled) if node.compiled else None
            if text is None:
                return None
            kept = self._shapes[node.id] = columns, shape_of(text, self.dialect, columns.get)
        return kept[1]

    def columns(self, name: str, world: World) -> Mapping[str, str | None] | None:
        """The columns of what a node has built, by their folded names, with the families of their types."""
        from sao_events.core.proof.kinds import family
        from sao_events.core.proof.names import stored_name

        seen = world.node(name).columns if name in self.graph.nodes else {}
        kept = self._columns.get(name)
        if kept is None or kept[0] is not seen:
            found = {stored_name(column, self.dialect): family(kind, self.dialect) for column, kind in seen.items()}
            kept = self._columns[name] = seen, found if found and len(found) == len(seen) else None
        return kept[1]

    @cached_property
    def _ids(self) -> dict[str, str]:
        return {name: of for of, name in self.names.items()}

    def _known(self, option: frozenset[Claim]) -> bool:
        return all(one.relation in self._ids for one in option)

    def _by_ids(self, option: frozenset[Claim]) -> frozenset[Claim]:
        ids = self._ids
        return frozenset(
            Claim(ids[one.relation], one.kind, one.column, one.values, ids.get(one.to, ""), one.field) for one in option
        )

    def repeatable(self, node: Node) -> bool:
        """Whether the node's SQL gives the same rows each time it is asked, over the same data."""
        from sao_events.core.proof import repeatable

        text = self.text(node.compiled) if node.compiled else None
        return text is not None and repeatable(text, self.dialect)


@dataclass
class Question:
    """One look at one state. `taken` are nodes that are about to be built, `running` tests that are about to run: what
    they will show is hoped for, where their failure would keep the node from being built.
    """

    proofs: Proofs
    world: World
    taken: frozenset[str] = frozenset()
    running: frozenset[str] = frozenset()
    above: frozenset[str] = frozenset()
    _asked: set[Claim] = field(default_factory=set)

    def proof_of(self, test: Test) -> Chain | None:
        """The chain by which the test must pass; None where it has to run."""
        if test.claim is None or not test.prove or test.claim.relation not in self.proofs.graph.nodes:
            return None
        self.above = self._above(test.claim.relation)
        return self._by_sql(test.claim, 0)

    def _above(self, name: str) -> frozenset[str]:
        """All that the node is built from."""
        graph, found = self.proofs.graph, set[str]()
        stack = list(graph.nodes[name].reads)
        while stack:
            parent = stack.pop()
            if parent not in found:
                found.add(parent)
                stack.extend(graph.nodes[parent].reads if parent in graph.nodes else ())
        return frozenset(found)

    def _holds(self, claim: Claim, depth: int) -> Chain | None:
        if depth > DEEPEST or claim in self._asked:
            return None
        for test in self.proofs.claims.get(claim.relation, ()):
            if test.claim is not None and implies(test.claim, claim) and self._passes(test):
                return (f"{said(claim)}: test {test.id}",)
        if claim.relation not in self.proofs.graph.nodes:
            return None
        self._asked.add(claim)
        found = self._by_sql(claim, depth + 1)
        self._asked.discard(claim)
        return found

    def _passes(self, test: Test) -> bool:
        """Whether the test passed on the data now in place, or will have before the node in question is built."""
        graph, world = self.proofs.graph, self.world
        seen = checks.looked_at(graph, test)
        if not all(map(self._trusted, seen)):
            return False
        if test.id in self.running or not self.taken.isdisjoint(seen):
            return test.id in self.running and test.severity == "error" and self.above.issuperset(test.reads)
        state = world.tests.get(test.id)
        if state is None or state.status != "pass" or not checks.stands(graph, world, test):
            return False
        return all(map(self._settled, seen))

    def _trusted(self, name: str) -> bool:
        """Whether what a test saw there is what a reader sees: a view gives the same again, a source says when it has
        new data.
        """
        graph = self.proofs.graph
        if name in graph.sources:
            source = graph.sources[name]
            return source.static or (name in self.world.sources and not source.view)
        node = graph.nodes[name]
        return node.kind not in {"materialized_view", "ephemeral"} and (
            not node.transparent or self.proofs.repeatable(node)
        )

    def _settled(self, name: str) -> bool:
        """Whether what stands there is what is on record."""
        if name in self.proofs.graph.sources:
            return True
        state = self.world.node(name)
        lost = state.interrupted or state.doubtful or state.dropped or state.running is not None
        return state.failure is None and not lost

    def _by_sql(self, claim: Claim, depth: int) -> Chain | None:
        node = self.proofs.graph.nodes[claim.relation]
        if node.kind not in PROVABLE or not node.verbatim or not self._as_written(node):
            return None
        for option in sorted(self.proofs.needs(claim, self.world), key=len):
            parts = list[str]()
            for one in sorted(option):
                found = self._holds(one, depth)
                if found is None:
                    break
                parts += found
            else:
                return (f"{said(claim)}: by the SQL of {node.id}", *dict.fromkeys(parts))
        return None

    def _as_written(self, node: Node) -> bool:
        """Whether what stands there was made by the SQL of today over what stands now in all that it looks at."""
        graph, world = self.proofs.graph, self.world
        if node.id in self.taken:
            return all(self._settled(name) for name in graph.looked_at((node.id,)) - self.taken)
        baseline = world.node(node.id).baseline
        if baseline is None or not self._settled(node.id) or node.id not in graph.nodes:
            return False
        if baseline.observed.fingerprint != graph.fingerprints[node.id]:
            return False
        return all(self._as_read(node, name) for name in graph.looked_at((node.id,)))

    def _as_read(self, node: Node, name: str) -> bool:
        """Whether what the node read there stands there still. A view reads it anew each time."""
        graph, world = self.proofs.graph, self.world
        baseline = world.node(node.id).baseline
        assert baseline is not None
        if name in self.taken:
            return node.transparent
        if not self._settled(name):
            return False
        if name in graph.sources:
            version = baseline.observed.versions.get(name)
            return node.transparent or (version is not None and version == world.source(name).version)
        folded = not graph.nodes[name].built
        return node.transparent or folded or baseline.observed.builds.get(name) == world.node(name).builds


def said(claim: Claim) -> str:
    """A claim for people, with the ids of what it is about."""
    if claim.kind == "accepted_values":
        return f"{claim.kind}({claim.column}: {', '.join(claim.values)}) of {claim.relation}"
    to = f" in {claim.field} of {claim.to}" if claim.to else ""
    return f"{claim.kind}({claim.column}{to}) of {claim.relation}"


def may_prove(test: Test, settings: Settings, job: Job | None) -> bool:
    """Whether a proof may take the place of a run of the test."""
    asked = checks.asked_anyway(test, settings, job)
    return settings.prove_tests and test.prove and test.claim is not None and not asked


def hoped(
    proofs: Proofs, world: World, nodes: Collection[str], tests: Collection[str], asked: Collection[str]
) -> frozenset[str]:
    """Of the tests `asked`, some of the `tests` of a piece that builds `nodes`, those that are expected to be proven
    once their nodes are built.
    """
    question = Question(proofs, world, frozenset(nodes), frozenset(tests))
    return frozenset(name for name in asked if question.proof_of(proofs.graph.tests[name]) is not None)
