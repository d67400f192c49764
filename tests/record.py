"""A record of events written by hand: what was landed, built, failed, dropped, and what is decided on it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from sao_events.core import checks
from sao_events.core import events as e
from sao_events.core.decision import Decision, Reason
from sao_events.core.evolve import evolve
from sao_events.core.graph import Graph
from sao_events.core.lineage import Code, Reading
from sao_events.core.look import Look
from sao_events.core.nodes import Cutoff, Node, Source, Test
from sao_events.core.plan import Plan, attempt, decide, plan
from sao_events.core.policy import Policy, Quorum, Settings
from sao_events.core.state import Job, World

HOUR = 3600.0


def node(
    name: str,
    *reads: str,
    kind: str = "table",
    every: float = 0.0,
    on: Quorum = "any",
    lazy: bool = False,
    columns: Iterable[str] = (),
    uses: dict[str, tuple[str, ...]] | None = None,
    star: Iterable[str] = (),
    cutoff: Cutoff = False,
) -> Node:
    """A node of the name, whose text is its name; `every` hours is its window."""
    own = Code(name, tuple((column, "1") for column in columns))
    reading = Reading(uses or {}, frozenset(star))
    return Node(name, name, kind, reads, own, Policy(every * HOUR, on, lazy), reading, cutoff)


def view(name: str, *reads: str, on: Quorum = "any", **more: Any) -> Node:
    """A view."""
    return node(name, *reads, kind="view", on=on, **more)


def source(name: str, **flags: Any) -> Source:
    """A source."""
    return Source(name, name, **flags)


def graph(*things: Node | Source | Test) -> Graph:
    """The graph of the things."""
    nodes = [thing for thing in things if isinstance(thing, Node)]
    sources = [thing for thing in things if isinstance(thing, Source)]
    return Graph(nodes, sources, [thing for thing in things if isinstance(thing, Test)])


class Record:
    """A graph, what has happened so far, and the clock, in hours."""

    def __init__(self, *things: Node | Source | Test, **settings: Any) -> None:
        self.graph, self.settings, self.world, self.hour = graph(*things), Settings(**settings), World(), 0.0

    @property
    def now(self) -> float:
        """The instant in seconds."""
        return self.hour * HOUR

    def add(self, *events: e.Event) -> Record:
        """Record events."""
        for event in events:
            evolve(self.world, e.Recorded(self.world.seq + 1, self.now, event))
        return self

    def at(self, hour: float) -> Record:
        """The time is now `hour`."""
        self.hour = hour
        return self

    def land(self, *names: str) -> Record:
        """New data in sources."""
        return self.add(*(e.DataLanded(name) for name in names))

    def drop(self, *names: str) -> Record:
        """Relations seen missing."""
        return self.add(*(e.RelationDropped(name) for name in names))

    def clear(self, *names: str) -> Record:
        """State cleared: of all where no name is given."""
        return self.add(e.StateCleared(names or None))

    def edit(self, name: str, base: str | None = None, **changes: Any) -> Record:
        """The node has another text, or other properties."""
        old = self.graph.nodes[name]
        if base is not None:
            changes["own"] = Code(base, old.own.columns)
        new = replace(old, **changes)
        nodes = [new if one.id == name else one for one in self.graph.nodes.values()]
        self.graph = Graph(nodes, self.graph.sources.values(), self.graph.tests.values())
        return self

    def start(self, name: str, reason: str = "new_data", due: float | None = None) -> str:
        """A build begins; `due` is the hour of the job that makes it. Returns its run."""
        look, run = Look(self.graph, self.world, self.settings, self.now), f"r{self.world.seq + 1}"
        clock = self.now if due is None else due * HOUR
        seen = attempt(look, name, run, Reason(reason), clock)
        self.add(
            e.RunStarted(run, {name: reason}),
            e.BuildStarted(run, name, reason, clock, seen.observed, seen.code, seen.retries, seen.advances),
        )
        return run

    def build(self, *names: str, same: bool = False, due: float | None = None) -> Record:
        """Nodes are built at once; all that have a relation where none is named."""
        for name in names or [n.id for n in self.graph.nodes.values() if n.built]:
            run = self.start(name, due=due)
            self.add(e.NodeBuilt(run, name, same_content=same), e.RunFinished(run, "success"))
        return self

    def fail(self, name: str) -> Record:
        """A build fails at once."""
        run = self.start(name)
        return self.add(e.NodeFailed(run, name, "no such column"), e.RunFinished(run, "failed"))

    def test(self, name: str, status: str = "pass", run: str = "r") -> Record:
        """A test has run over what stands there now."""
        test = self.graph.tests[name]
        fails = checks.blamed(self.graph, test, ()) if status == "fail" else ()
        seen = checks.positions(self.graph, self.world, test)
        return self.add(e.TestFinished(run, name, status, checks.definition(self.graph, test), seen, {}, fails))

    def job(self, *select: str, forced: bool = False, due: float | None = None) -> Job:
        """A job that asks now."""
        hour = self.hour if due is None else due
        return Job("job", "job", hour * HOUR, frozenset(select) if select else None, not forced)

    def plan(self, job: Job | None = None, **more: Any) -> Plan:
        """What would be built now."""
        return plan(self.graph, self.world, self.settings, self.now, job=job, **more)

    def decision(self, name: str, job: Job | None = None) -> Decision:
        """The decision for a node now; for a job, as its plan has it."""
        if job is not None:
            return self.plan(job).decisions[name]
        return decide(self.graph, self.world, self.settings, self.now)[name]

    def says(self, name: str, job: Job | None = None) -> str:
        """Action and reason for a node, then the hour at which its wait ends, or what it waits for."""
        found = self.decision(name, job)
        until = [] if found.eligible_at is None else [f"{found.eligible_at / HOUR:g}"]
        return " ".join([found.action, found.reason, *until, *found.waiting_for])
