"""A run under way: whose turn it is, and what of it makes one piece for the builder.

A run's nodes are fixed by its plan; at its turn each is decided again and left out when it is no longer due. A run
waits for a node that another run is building, both to build it and to read it, and for that node alone.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field

from sao_events.core import checks
from sao_events.core import events as e
from sao_events.core.cutoff import spared
from sao_events.core.decision import Action, Decision
from sao_events.core.graph import Graph
from sao_events.core.lineage import Code
from sao_events.core.look import Look
from sao_events.core.nodes import UNIT, Test
from sao_events.core.plan import aside, data_readers, decide_also, drops, drops_on_record, part, unreadable
from sao_events.core.policy import Settings
from sao_events.core.state import Job, World
from sao_events.ports import NodeEnded, Piece, TestEnded


@dataclass(slots=True)
class Flight:
    """A piece that the builder has: what it saw of everything outside itself when it was handed over, and why each
    node is built. `hoped` are tests that it does not run: they are expected to be proven. `beside` are the nodes that
    were being built then, `aside` the views that stand as other code built them, once that was looked up.
    """

    piece: Piece
    graph: Graph
    versions: dict[str, int]
    positions: dict[str, int]
    codes: dict[str, Code]
    decisions: dict[str, Decision]
    open_nodes: set[str]
    open_tests: set[str]
    hoped: set[str] = field(default_factory=set)
    beside: frozenset[str] = frozenset()
    failed: set[str] = field(default_factory=set)
    aside: tuple[str, ...] | None = None

    def drops(self, look: Look, node: str) -> tuple[str, ...]:
        """The views that the warehouse drops as `node` begins."""
        self.aside = aside(look) if self.aside is None else self.aside
        return drops_on_record(look, node, self.aside)

    def tested(self, run: ActiveRun, world: World, test: Test, report: TestEnded) -> e.TestFinished:
        """The event for a test that has ended, before it is on record."""
        failed = report.status in checks.FAILED
        seen = self._seen(world, test, failed)
        blamed = checks.blamed(self.graph, test, run.built) if failed else ()
        return e.TestFinished(
            run.id,
            test.id,
            report.status,
            checks.definition(self.graph, test),
            seen,
            {name: self.versions[name] for name in seen if name in self.versions} if failed else {},
            tuple(name for name in blamed if name not in self.open_nodes),  # what dbt does not begin then is refused
            report.message,
            report.seconds,
        )

    def _seen(self, world: World, test: Test, failed: bool) -> dict[str, int]:
        """Where everything stood that the test looked at. A unit test that passed in front of the build of its model,
        as dbt has it, holds for what that build leaves.
        """
        ahead = self.open_nodes.intersection(() if failed or test.kind != UNIT else test.reads)
        now = checks.positions(self.graph, world, test)
        return {name: self.positions.get(name, at) + (name in ahead) for name, at in now.items()}

    def built(self, run: str, report: NodeEnded, look: Look) -> list[e.Event]:
        """The event for a node that was built, before it is on record, and what is new where it is read as a source.
        The content counts as another where what stood there is not certain, or somebody may have read it in between.
        """
        graph, state = self.graph, look.world.node(report.node)
        same = report.same_content or (report.content is not None and report.content == state.hashed.content)
        same = same and state.certain and self.beside.isdisjoint(data_readers(graph, report.node))
        landed = [] if same else graph.read_as_sources.get(report.node, ())
        built = e.NodeBuilt(
            run,
            report.node,
            report.seconds,
            same,
            report.words or report.status,
            report.message,
            columns=report.columns if report.columns != state.columns else None,
            content=report.content,
            unhashed=report.unhashed,
            hashing=report.hashing,
            spared=spared(graph, look.world, look.settings, look.now, report.node, look.job) if same else {},
        )
        return [built, *(e.DataLanded(source, scope="node") for source in landed)]


@dataclass(slots=True)
class ActiveRun:
    """What is left of a run: nodes and tests that have not had their turn, pieces with the builder, and what came of
    the rest. `unproven` are tests whose proof did not hold.
    """

    id: str
    job: Job | None
    nodes: set[str]
    tests: set[str]
    flights: dict[str, Flight] = field(default_factory=dict)
    built: set[str] = field(default_factory=set)
    failed: bool = False
    stopped: tuple[str, str | None] | None = None
    pieces: int = 0
    unproven: set[str] = field(default_factory=set)

    def stop(self, status: str, message: str | None = None) -> None:
        """Nothing of what is left has its turn; the run ends with `status` when the builder has ended its pieces."""
        self.nodes.clear()
        self.tests.clear()
        self.stopped = self.stopped or (status, message)

    @property
    def ended(self) -> bool:
        """Whether nothing is left to do."""
        return not (self.nodes or self.tests or self.flights)

    def unfinished(self) -> set[str]:
        """Nodes that the run still owes: waiting for their turn, or being built."""
        return self.nodes | self.building()

    def building(self) -> set[str]:
        """Nodes that the builder has in hand for the run."""
        return {name for flight in self.flights.values() for name in flight.open_nodes}

    def testing(self) -> set[str]:
        """Tests that the run still owes: waiting for their turn, being run, or expected to be proven."""
        return self.tests.union(*(flight.open_tests | flight.hoped for flight in self.flights.values()))

    def untested(self, graph: Graph) -> set[str]:
        """Nodes that the run has built and whose tests, with all that they look at there, have yet to end."""
        owed, found = self.unfinished(), set[str]()
        for test in (graph.tests[name] for name in self.testing() if name in graph.tests):
            if owed.isdisjoint(seen := checks.looked_at(graph, test)):
                found.update(self.built.intersection(seen))
        return found


@dataclass(frozen=True, slots=True)
class Turn:
    """What to do next in a run: `pieces` (nodes, tests) to hand to the builder, and what is left out."""

    pieces: list[tuple[tuple[str, ...], tuple[str, ...]]]
    dropped: set[str]
    dropped_tests: set[str]
    decisions: dict[str, Decision]


def next_turn(
    run: ActiveRun,
    graph: Graph,
    world: World,
    settings: Settings,
    now: float,
    *,
    others: Collection[ActiveRun],
    gated: bool,
    hashed: Callable[[str], bool],
    planned: Mapping[str, Decision] | None = None,
) -> Turn:
    """Who may go now. What other runs are building is waited for, by nodes until it is tested, too, and by the same
    tests until it has their results. `gated`: single nodes, else as much as holds together, without the readers of
    what is to be `hashed`. `planned`: the decisions of the run's plan, where nothing happened since.
    """
    gone = run.nodes.difference(graph.nodes)
    tests = sorted(run.tests & graph.tests.keys(), key=graph.test_position.__getitem__)
    look = Look(graph, world, settings, now, run.job)
    owed = run.unfinished() & graph.nodes.keys()
    look.decisions = _decided(Look(graph, world, settings, now, run.job), owed, tests, planned)
    turn = _Turn(run, graph, world, others, look.decisions, gated, hashed)
    for name in graph.sort(run.nodes - gone):
        turn.consider(name, look)
    for test in tests:
        turn.consider_test(test, look)
    return Turn(
        turn.pieces(), turn.dropped | gone, turn.dropped_tests | run.tests.difference(graph.tests), look.decisions
    )


def _decided(
    look: Look, nodes: set[str], tests: Iterable[str], planned: Mapping[str, Decision] | None
) -> dict[str, Decision]:
    """The decisions for the nodes that a run still owes, what is being built counted as done as in its plan, and for
    what its tests look at among that these are built from.
    """
    graph = look.graph
    if planned is None:
        part(look, nodes)
    seen = {name for test in tests for name in graph.tested[test]} & graph.nodes.keys()
    beside = {name for name in seen - nodes if planned is None or planned[name].action is Action.blocked}
    before = graph.sort(beside & graph.ancestors(nodes)) if beside else []
    if planned is None:
        decide_also(look, before)
        return look.decisions
    return {name: planned[name] for name in (*nodes, *before)}


class _Turn:
    def __init__(
        self,
        run: ActiveRun,
        graph: Graph,
        world: World,
        others: Collection[ActiveRun],
        decisions: Mapping[str, Decision],
        gated: bool,
        hashed: Callable[[str], bool],
    ) -> None:
        self.run, self.graph, self.world, self.decisions = run, graph, world, decisions
        self.gated, self.hashed = gated, hashed
        self.building = set[str]().union(*(other.building() for other in others))
        self.untested = set[str]().union(*(other.untested(graph) for other in others))
        self.busy = self.building | self.untested
        self.testing = set[str]().union(*(other.testing() for other in others))
        self.owed = run.unfinished()  # what has yet to be built before something that reads it may go
        self.gating = self._gating()
        self.taken: dict[str, None] = {}
        self.taken_tests: list[str] = []
        self.apart: list[str] = []  # unit tests whose models are not built with them
        self.dropped: set[str] = set()
        self.dropped_tests: set[str] = set()

    def consider(self, name: str, look: Look) -> None:
        """Take the node, leave it out, or let it wait."""
        before = self.graph.looks_at[name]
        if name in self.busy or not self.busy.isdisjoint(before) or not self.owed.isdisjoint(before):
            return
        if any(not self.busy.isdisjoint((view, *self.graph.readers[view])) for view in drops(look, name)):
            return  # a view that another run reads would be gone from under it
        if self._untested(name, before):
            return
        if self.decisions[name].action is Action.build:
            self.taken[name] = None
            if not (self.gated or self.hashed(name)):
                self.owed.discard(name)
        else:
            self.dropped.add(name)
            self.owed.discard(name)

    def consider_test(self, test: str, look: Look) -> None:
        """Take the test once all it reads has had its turn; leave it out where it cannot run or its result stands."""
        definition = self.graph.tests[test]
        reads = set(checks.looked_at(self.graph, definition))
        if not self.owed.isdisjoint(reads) or not self.building.isdisjoint(reads):
            return
        taken = reads & self.taken.keys()
        apart = definition.kind == UNIT and not (self.gated or self.taken.keys() >= set(definition.reads))
        if apart and taken:
            return  # what lies behind its view is built first
        own = taken or reads & self.run.built
        if test in self.testing and not own and not self.untested.isdisjoint(reads):
            return  # left to the run that built what it looks at: its result may stand for this one
        job = look.job
        forced = job is not None and checks.asked_anyway(definition, look.settings, job) and test not in job.tested
        if any(unreadable(look, name) for name in reads - taken):
            self.dropped_tests.add(test)
        elif forced or own or not checks.stands(self.graph, self.world, definition):
            (self.apart if apart else self.taken_tests).append(test)
        else:
            self.dropped_tests.add(test)

    def pieces(self) -> list[tuple[tuple[str, ...], tuple[str, ...]]]:
        """What is taken, as one piece or, gated, one by one. With nodes dbt runs no unit test without its model: those
        go ahead by themselves.
        """
        if self.apart:
            return [((), tuple(self.apart))]
        if self.gated:
            return [((name,), ()) for name in self.taken] + [((), (test,)) for test in self.taken_tests]
        return [(tuple(self.taken), tuple(self.taken_tests))] if self.taken or self.taken_tests else []

    def _gating(self) -> dict[str, list[Test]]:
        """By what they read, the tests that have yet to run before what looks at it is built; in one piece with it dbt
        sees to that itself.
        """
        open_tests = {name for flight in self.run.flights.values() for name in flight.open_tests | flight.hoped}
        found: dict[str, list[Test]] = {}
        for test in open_tests | {name for name in self.run.tests if self.gated or self._alone(name)}:
            if test in self.graph.tests:
                for name in self.graph.tests[test].reads:
                    found.setdefault(name, []).append(self.graph.tests[test])
        return found

    def _alone(self, test: str) -> bool:
        """Whether it is a unit test whose model the run has not to build."""
        known = self.graph.tests.get(test)
        return known is not None and known.kind == UNIT and self.run.nodes.isdisjoint(known.reads)

    def _untested(self, name: str, before: Iterable[str]) -> bool:
        """Whether a test that gates the node has yet to run."""
        gating = [test for seen in self.graph.looks_at[name] for test in self.gating.get(seen, ())]
        if not gating:
            return False
        above = self.graph.ancestors(before)
        return any(all(name in above or name in self.graph.sources for name in test.reads) for test in gating)


def waits_on(graph: Graph, name: str) -> set[str]:
    """The nodes that must be done before `name` may be built."""
    return {seen for seen in graph.looks_at[name] if seen in graph.nodes}


def as_it_stands(
    graph: Graph, world: World, names: Iterable[str]
) -> tuple[dict[str, int], dict[str, int], dict[str, Code]]:
    """Of `names`, as they stand: data versions of sources and stored nodes, test positions, and codes of nodes."""
    versions: dict[str, int] = {}
    positions: dict[str, int] = {}
    codes: dict[str, Code] = {}
    for name in names:
        if name in graph.sources:
            versions[name] = positions[name] = world.source(name).version
            continue
        state = world.node(name)
        versions[name], positions[name] = state.version, state.builds
        if state.code is not None:
            codes[name] = state.code
    return versions, positions, codes


def refused_by(flight: Flight, name: str) -> Test | None:
    """The unit test that failed on a node in its piece: dbt runs it before the node, which it does not begin then."""
    return next((test for test in _failed_tests(flight) if test.kind == UNIT and name in test.reads), None)


def left_undone(flight: Flight, look: Look) -> tuple[set[str], list[str]]:
    """Nodes that dbt skipped: those below something in the piece that failed, which it skips at any distance, what lies
    between them and is not built included; and those that it had no reason to skip.
    """
    graph, open_nodes = flight.graph, flight.open_nodes & flight.graph.nodes.keys()
    below = graph.descendants(reader for it in flight.failed | open_nodes for reader in graph.readers.get(it, ()))
    gates = [set(test.reads) - graph.sources.keys() for test in _failed_tests(flight)]

    def explained(name: str) -> bool:
        above = graph.ancestors(graph.nodes[name].reads) if gates else set[str]()
        return name in below or any(gate <= above for gate in gates) or bool(look.lacking(name))

    found = {name for name in open_nodes if explained(name)}
    return found, graph.sort(open_nodes - found)


def _failed_tests(flight: Flight) -> list[Test]:
    return [test for name in sorted(flight.failed) if (test := flight.graph.tests.get(name))]


def not_run(run: ActiveRun, flight: Flight, look: Look) -> list[str]:
    """Tests without a result although nothing failed and all that they look at is there. They stay due: asked for
    again at once, and again, they would keep dbt busy for ever.
    """
    graph = flight.graph
    tests = sorted(flight.open_tests & graph.tests.keys()) if not run.failed else []
    return [
        name for name in tests if not any(unreadable(look, it) for it in checks.looked_at(graph, graph.tests[name]))
    ]
