"""What must hold of every history, whatever happened in it: of its log, and of the state once it has come to rest."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from sao_events.core import events as e
from sao_events.core.decision import Action, Decision, Reason
from sao_events.core.graph import Graph
from sao_events.core.lineage import digest
from sao_events.core.plan import decide
from sao_events.core.policy import Policy, Settings
from sao_events.core.project import Project, project_from_bytes
from sao_events.core.state import World
from sao_events.engine.loop import Engine
from sao_events.ports import Draft, NodeEnded, Piece, Report
from sao_events.scenario import Scenario
from sao_events.simulate import Simulation, VirtualBuilder, VirtualClock
from sao_events.store.memory import MemoryStore
from tests.warehouse import Warehouse, follow

YEAR = 365 * 86400.0


class WatchedStore(MemoryStore):
    """The log; data that lands and relations that vanish reach the warehouse as they are recorded."""

    def __init__(self, warehouse: Warehouse) -> None:
        super().__init__()
        self.warehouse = warehouse

    def append(self, drafts: Sequence[Draft]) -> list[e.Recorded | None]:
        found = super().append(drafts)
        for recorded in found:
            if recorded is not None and isinstance(recorded.event, (e.DataLanded, e.RelationDropped)):
                follow(self.warehouse, recorded, {})
        return found


class WarehouseBuilder(VirtualBuilder):
    """Builds that really fill the warehouse. Fails the test where two builds of a node run at once, or one starts on
    what is not there.
    """

    def __init__(self, clock: VirtualClock, scenario: Scenario, warehouse: Warehouse) -> None:
        super().__init__(clock, scenario)
        self.warehouse = warehouse
        self.nodes: dict[str, str] = {}

    def start(self, piece: Piece, project: Project) -> None:
        self.warehouse.graph = project.graph
        for node in piece.nodes:
            assert node not in self.warehouse.started, f"{node} is built twice at once"
            missing = [up for up in project.graph.upstreams[node] if not self.warehouse.exists(up)]
            assert not missing, f"{node} is built although {missing} is not there"
            self.warehouse.begin(node)
        super().start(piece, project)

    def reports(self) -> list[Report]:
        return [self._carried_out(report) for report in super().reports()]

    def cancel(self, run: str) -> None:
        super().cancel(run)
        self.warehouse.started.clear()

    def _carried_out(self, report: Report) -> Report:
        if not isinstance(report, NodeEnded):
            return report
        if report.status != "success":
            del self.warehouse.started[report.node]
            return report
        self.warehouse.finish(report.node)
        held = self.warehouse.tables.get(report.node)
        hashed = held is not None and self.warehouse.graph.nodes[report.node].early_cutoff
        content = digest(held.rows, *sum(held.columns.items(), ())) if held is not None and hashed else None
        return replace(report, same_content=False, content=content, unhashed=None if content else "a view")


class History(Simulation):
    """A scenario run over a warehouse, which can then be brought to rest."""

    def __init__(self, scenario: Scenario) -> None:
        super().__init__(scenario)
        self.warehouse = Warehouse()
        self.store = WatchedStore(self.warehouse)
        self.builder: WarehouseBuilder = WarehouseBuilder(self.clock, scenario, self.warehouse)
        self.engine = Engine(self.store, self.builder, self.clock, scenario.settings)

    def log(self) -> list[e.Recorded]:
        return self.store.read(0, 1_000_000)

    def rest(self) -> None:
        """Nothing more happens and nothing fails any more: let all time pass that anything waits for."""
        self.builder.fails.clear()
        self.builder.test_fails.clear()
        for _ in range(3000):
            wake, ends = self.engine.step(), self.builder.next()
            due = [at for at in (wake, ends) if at is not None]
            if not due:
                return
            self.clock.set(max(min(due), self.clock.now()))
        raise AssertionError("the loop does not come to rest")

    def job(self) -> None:
        """A year later a job asks for everything, which is one more attempt for what had failed."""
        self.clock.set(self.clock.now() + YEAR)
        self.store.append(
            [Draft(e.JobRequested(f"last-{self.store.last()}", "last", self.clock.now()), self.clock.now())]
        )
        self.rest()

    def from_prefix(self, length: int, written: bool, reverted: bool) -> History:
        """The process killed right after the first `length` events were recorded, and started again on them.
        `written`: what was being built had reached the warehouse. `reverted`: before the start all edits were undone.
        """
        log, graphs = self.log()[:length], self.graphs()
        other = History(self.scenario)
        other.store, other.clock = WatchedStore(other.warehouse), VirtualClock(log[-1].at)
        other.store._projects.update(self.store._projects)
        for recorded in log:
            MemoryStore.append(other.store, [Draft(recorded.event, recorded.at, recorded.key, recorded.sender)])
            follow(other.warehouse, recorded, graphs)
        other.warehouse.lose(written)
        first = next(recorded for recorded in log if isinstance(recorded.event, e.ProjectLoaded))
        if reverted:
            other.store.append([Draft(first.event, log[-1].at)])
        other.builder = WarehouseBuilder(other.clock, self.scenario, other.warehouse)
        other.engine = Engine(other.store, other.builder, other.clock, self.scenario.settings)
        return other

    def graphs(self) -> dict[str, Graph]:
        """The graphs that the log names, by digest."""
        return {name: project_from_bytes(body).graph for name, body in self.store._projects.items()}

    @property
    def graph(self) -> Graph:
        assert self.engine.project is not None
        return self.engine.project.graph

    def decisions(self) -> dict[str, Decision]:
        return decide(self.graph, self.engine.world, self.scenario.settings, self.clock.now())


def sound(history: History) -> None:
    """The soundness law, for a history at rest: what is reused holds what building it now would hold, and all that
    does not is pending for a reason on record. Where nothing pends behind it, a node holds what a full build from
    scratch would.
    """
    graph, warehouse, decisions = history.graph, history.warehouse, history.decisions()
    warehouse.graph = graph
    scratch, pending = warehouse.from_scratch(), set[str]()
    for node in graph.nodes.values():
        decision = decisions[node.id]
        assert decision.action is not Action.build, f"at rest {node.id} is still to be built: {decision}"
        if pending.intersection(graph.upstreams[node.id]):
            pending.add(node.id)
        if not node.built:
            continue
        if decision.action is not Action.reuse:
            assert explained(history, node.id, decision, decisions), f"{node.id}: {decision}"
            pending.add(node.id)
        elif not all(map(warehouse.readable, graph.upstreams[node.id])):
            assert pending.intersection(graph.upstreams[node.id])
        elif warehouse.read(node.id) != warehouse.made_now(node.id):
            assert held_in_a_view(graph, warehouse, node.id), f"{node.id} is reused, but a build would change it"
            pending.add(node.id)
        if node.id not in pending:
            assert warehouse.read(node.id) == scratch[node.id], f"{node.id} is not what a full build would hold"


def explained(history: History, name: str, decision: Decision, decisions: Mapping[str, Decision]) -> bool:
    """Whether the reason on record for a node that is not reused is true at rest."""
    graph, warehouse, world = history.graph, history.warehouse, history.engine.world
    made = warehouse.made.get(name)
    match decision.reason:
        case Reason.waiting_for_upstreams:
            assert made is not None
            late = [up for up in decision.waiting_for if surely_newer(graph, warehouse, up, made.changes)]
            return graph.nodes[name].policy.updates_on == "all" and bool(decision.waiting_for) and not late
        case Reason.no_reader_due:
            due = [reader for reader in graph.readers[name] if decisions[reader].action is Action.build]
            return graph.nodes[name].policy.lazy and bool(graph.readers[name]) and not due
        case Reason.retries_exhausted:
            return world.node(name).failure is not None
        case Reason.upstream_not_ready:
            return bool(decision.waiting_for) and all(broken(history, up, decisions) for up in decision.waiting_for)
        case _:
            return False


def broken(history: History, name: str, decisions: Mapping[str, Decision]) -> bool:
    """Whether a node or source is truly not ready: itself, or what a view reads."""
    graph, world = history.graph, history.engine.world
    tests = [world.tests.get(test) for test in graph.tests_of.get(name, ())]
    if name in graph.sources or not graph.nodes[name].built:
        return not history.warehouse.exists(name) or any(test is not None and test.status == "fail" for test in tests)
    if world.node(name).failure is not None or decisions[name].action is Action.blocked:
        return True
    ephemeral = [up for up in graph.nodes[name].reads if up in graph.nodes and not graph.nodes[up].built]
    return graph.is_transparent(name) and any(
        broken(history, up, decisions) for up in (*graph.upstreams[name], *ephemeral)
    )


def surely_newer(graph: Graph, warehouse: Warehouse, name: str, seen: Mapping[str, int]) -> bool:
    """Whether the rows behind `name` have changed since `seen`, a view's own quorum included."""
    if not graph.is_transparent(name):
        return warehouse.changes.get(name, 0) != seen.get(name, 0)
    parents = graph.upstreams[name]
    counted = [parent for parent in parents if not fixed(graph, parent)]
    if graph.nodes[name].policy.updates_on == "all" and counted:
        return all(surely_newer(graph, warehouse, parent, seen) for parent in counted)
    return any(surely_newer(graph, warehouse, parent, seen) for parent in parents)


def fixed(graph: Graph, name: str) -> bool:
    """Whether `name` can never have new data: a seed, a static source, a view over nothing but these."""
    if name in graph.sources:
        return graph.sources[name].static
    return graph.nodes[name].kind == "seed" or (
        graph.is_transparent(name) and all(fixed(graph, parent) for parent in graph.upstreams[name])
    )


def held_in_a_view(graph: Graph, warehouse: Warehouse, name: str) -> bool:
    """Whether what a node lacks is held back by the quorum of a view that it reads, and by nothing else."""
    made = warehouse.made[name]
    if any(surely_newer(graph, warehouse, up, made.changes) for up in graph.upstreams[name]):
        return False
    quorums = (view for view in views(graph, name) if graph.nodes[view].policy.updates_on == "all")
    return any(warehouse.changes.get(feed, 0) != made.changes[feed] for view in quorums for feed in graph.feeds[view])


def views(graph: Graph, name: str) -> Iterator[str]:
    """The views that a node looks through."""
    for up in graph.upstreams[name]:
        if graph.is_transparent(up):
            yield up
            yield from views(graph, up)


def lawful(log: list[e.Recorded], graphs: Mapping[str, Graph], settings: Settings) -> None:
    """What must hold of every log: one build of a node at a time, none for new data inside its window or without new
    data, no retry before its time, and each reason in its place.
    """
    reader = LogReader(graphs, settings)
    for recorded in log:
        reader.read(recorded)


@dataclass
class LogReader:
    """Reads a log event by event and fails the test at the first that breaks a law. `moved`: when a feed last had
    something new; `clocks`, `begun`: of the last success; `arrived`: when anything last did that a failed build may be
    tried again for; `failures`: when the last one of a node ended, and the event with which its attempt began; `alone`:
    nodes that are tried again for no such thing, `tries`: how many of these attempts in a row failed.
    """

    graphs: Mapping[str, Graph]
    settings: Settings
    graph: Graph = field(default_factory=lambda: Graph(()))
    due: dict[str | None, float] = field(default_factory=dict)
    jobs: dict[str, str | None] = field(default_factory=dict)
    running: set[str] = field(default_factory=set)
    failed: set[str] = field(default_factory=set)
    lost: set[str] = field(default_factory=set)
    starts: dict[str, tuple[float, int]] = field(default_factory=dict)
    clocks: dict[str, float] = field(default_factory=dict)
    begun: dict[str, int] = field(default_factory=dict)
    moved: dict[str, int] = field(default_factory=dict)
    arrived: int = 0
    failures: dict[str, tuple[float, int]] = field(default_factory=dict)
    alone: set[str] = field(default_factory=set)
    tries: dict[str, int] = field(default_factory=dict)

    def read(self, recorded: e.Recorded) -> None:
        if isinstance(recorded.event, (e.ProjectLoaded, e.DataLanded, e.StateCleared, e.RelationDropped, e.NodeBuilt)):
            self.arrived = recorded.seq
        match recorded.event:
            case e.ProjectLoaded(project):
                self.graph = self.graphs[project]
            case e.JobRequested(job, _, due):
                self.due[job] = due
            case e.RunStarted(run, _, _, job):
                self.jobs[run] = job
            case e.DataLanded(source):
                self.moved[source] = recorded.seq
            case e.StateCleared(nodes):
                self.failed -= self.failed if nodes is None else set(nodes)
            case e.TestFinished() as test:
                self.fail(recorded.at, *test.fails)
            case e.EngineStarted():
                self.end(*self.running)
            case e.BuildStarted() as build:
                self.start(recorded, build)
            case e.NodeBuilt() as built:
                self.built(recorded.seq, built)
            case e.NodeFailed(_, name):
                self.running.remove(name)
                self.fail(recorded.at, name)
            case e.BuildInterrupted(_, name):
                self.end(name)
            case _:
                pass

    def start(self, recorded: e.Recorded, build: e.BuildStarted) -> None:
        name, at = build.node, f"{build.node}, event {recorded.seq}"
        assert name not in self.running, f"built twice at once: {at}"
        self.running.add(name)
        self.starts[name] = (self.due.get(self.jobs[build.run], recorded.at), recorded.seq)
        assert build.reason != "first_build" or name not in self.clocks, f"built before: {at}"
        assert name not in self.failed or build.reason in ("retry", "forced", "relation_missing"), f"had failed: {at}"
        assert self.failed.isdisjoint(self.graph.looked_at((name,))), f"built on what failed: {at}"
        ended, attempt = self.failures.get(name, (0.0, 0))
        self.alone.discard(name)
        if build.reason == "retry" and self.jobs[build.run] is None and self.arrived < attempt:
            self.alone.add(name)
            assert self.tries[name] < self.settings.attempts, f"tried too often: {at}"
            assert recorded.at >= ended + self.settings.backoff, f"tried too soon: {at}"
        else:
            self.tries[name] = 0
        node = self.graph.nodes[name]
        if build.reason == "max_staleness":
            assert recorded.at >= self.clocks[name] + (node.policy.max_staleness or 0.0), f"not that old: {at}"
        held = self.settings.code_changes == "after_window" and name not in self.lost
        for_code = build.reason in ("code_changed", "upstream_code_changed")
        aged = for_code and recorded.at >= self.clocks.get(name, 0.0) + (node.policy.max_staleness or float("inf"))
        if build.reason == "new_data" or (held and for_code and not aged):
            early = inside_its_window(node.policy, self.clocks[name], recorded.at)
            assert not early or name in self.graph.order_to_deadlines, f"too early: {at}"
        if build.reason == "new_data":
            assert not node.transparent, f"shows new data by itself: {at}"
            assert any(self.moved.get(feed, 0) > self.begun[name] for feed in self.graph.feeds[name]), (
                f"nothing new: {at}"
            )

    def built(self, seq: int, built: e.NodeBuilt) -> None:
        name = built.node
        self.running.remove(name)
        self.clocks[name], self.begun[name] = self.starts[name]
        self.failed.discard(name)
        if not built.same_content or name in self.lost:
            self.moved[name] = seq
        self.lost.discard(name)

    def fail(self, at: float, *names: str) -> None:
        for name in names:
            self.failed.add(name)
            self.failures[name] = at, self.starts[name][1]
            self.tries[name] += name in self.alone
            self.alone.discard(name)

    def end(self, *names: str) -> None:
        self.lost |= self.running.intersection(names)
        self.running.difference_update(names)


def inside_its_window(policy: Policy, clock: float, at: float) -> bool:
    """Whether a node whose window counts from `clock` is held at an instant, were no deadline about it."""
    calendar = policy.calendar
    if calendar is None:
        return at < clock + policy.build_after
    return calendar.is_quiet(at) or at < clock + calendar.interval(at, policy.build_after)


def decided(graph: Graph, world: World, settings: Settings, now: float) -> None:
    """What must hold of decisions at any moment: there is one for every node, the same when asked again, and each
    says what it must.
    """
    decisions = decide(graph, world, settings, now)
    assert list(decisions) == list(graph.nodes)
    assert decisions == decide(graph, world, settings, now)
    for decision in decisions.values():
        if decision.reason in (Reason.within_build_after, Reason.retry) and decision.action is Action.wait:
            assert decision.eligible_at is not None
            assert decision.eligible_at > now
        if decision.reason in (Reason.waiting_for_upstreams, Reason.upstream_not_ready):
            assert decision.waiting_for
        assert (decision.action is Action.reuse) == (decision.reason in (Reason.view_unchanged, Reason.no_new_data))
