"""One policy over a trace: the real core, planner and engine loop under a virtual clock that jumps to the next instant
at which anything is due, with builds that take the time they are known to take.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from sao_events.compare.staleness import Point, Tracker
from sao_events.compare.timetable import TimedBuilder
from sao_events.compare.trace import Trace
from sao_events.compare.variant import Variant
from sao_events.core import events as e
from sao_events.core.errors import SaoError
from sao_events.core.events import Recorded
from sao_events.core.evolve import evolve
from sao_events.core.policy import Settings
from sao_events.core.project import Project
from sao_events.core.state import World
from sao_events.engine.loop import ASKS, Engine
from sao_events.ports import Draft
from sao_events.simulate import VirtualClock
from sao_events.store.memory import MemoryStore

RESTLESS = 1000


@dataclass(frozen=True, slots=True)
class Build:
    """A build of `node` that started at the instant `at` and took `seconds`."""

    at: float
    node: str
    reason: str
    seconds: float


@dataclass(slots=True)
class Outcome:
    """What came of a policy from `start` to `until`.

    `builds` are those that started in that time, `runs` the stretches in which a run was under way, `tests` how many
    tests were run. `evaluations` are the instants at which the policy decided, `reuses` the nodes that it left alone
    at these, added up. `unfinished` are jobs that had no turn. `points` say how old the data of each node was.
    """

    variant: Variant
    start: float
    until: float
    project: Project
    builds: list[Build] = field(default_factory=list)
    runs: list[tuple[float, float]] = field(default_factory=list)
    tests: int = 0
    evaluations: int = 0
    reuses: int = 0
    unfinished: int = 0
    points: dict[str, list[Point]] = field(default_factory=dict)


class Replay:
    """One variant over one trace; `run` gives the outcome."""

    def __init__(
        self, trace: Trace, variant: Variant, settings: Settings, *, threads: int = 4, gated: bool = False
    ) -> None:
        self.trace = trace
        self.settings = settings if variant.schedule is None else replace(settings, trigger="jobs")
        self.projects = {name: variant.over(project) for name, project in trace.projects.items()}
        self.outcome = Outcome(variant, trace.start, trace.until, variant.over(trace.project))
        self.clock = VirtualClock(trace.start)
        self.builder = TimedBuilder(self.clock, trace.durations, threads, gated)
        self.store = MemoryStore()
        for name in self.projects:
            self.store.put_project(name, name.encode())
        self._runs: dict[str, float] = {}
        self._tracker = Tracker()
        self._world = self._before()
        self.engine = Engine(
            self.store,
            self.builder,
            self.clock,
            self.settings,
            world=self._world,
            read_project=lambda name: self.projects[name.decode()],
        )
        self.engine.on_event = self._noted

    def run(self) -> Outcome:
        """Everything before the end of the trace. Raises SaoError where the loop does not come to rest."""
        happenings, place, wake, stuck = self._happenings(), 0, self.engine.step(), 0
        while True:
            heads = (happenings[place].at if place < len(happenings) else None, wake, self.builder.next())
            now = min((at for at in heads if at is not None), default=self.trace.until)
            if now >= self.trace.until:
                return self._ended()
            stuck = stuck + 1 if now <= self.clock.now() else 0
            if stuck > RESTLESS:
                raise SaoError(f"{self.outcome.variant.name}: the loop does not come to rest")
            self.clock.set(max(now, self.clock.now()))
            self.engine.take_reports()
            first = place
            while place < len(happenings) and happenings[place].at <= now:
                place += 1
            self.store.append(happenings[first:place])
            before = len(self.outcome.builds)
            due = self._evaluates(happenings[first:place], wake, now)
            wake = self.engine.step()
            if due:
                self._evaluated(before)

    def _happenings(self) -> list[Draft]:
        schedule = self.outcome.variant.schedule
        if schedule is None:
            return list(self.trace.happenings)
        given = [item for item in self.trace.happenings if not isinstance(item.event, e.JobRequested)]
        jobs = [
            Draft(e.JobRequested(f"scheduled {at}", "scheduled", at, state_aware=False), at)
            for at in schedule.instants(self.trace.start, self.trace.until)
        ]
        return sorted([*given, *jobs], key=lambda item: item.at)

    def _before(self) -> World:
        """What is on record at the start, as the beginning of a log of its own."""
        world = World()
        for recorded in self.trace.before:
            evolve(world, recorded)
            self._follow(recorded, world)
        world.seq = 0
        return world

    def _evaluates(self, happenings: Sequence[Draft], wake: float | None, now: float) -> bool:
        """Whether the policy decides at this instant: a job, the end of a wait, or an event that is not settling."""
        if any(isinstance(item.event, e.JobRequested) for item in happenings):
            return True
        if self.settings.trigger != "continuous":
            return False
        asked = not self.settings.settle and any(isinstance(item.event, ASKS) for item in happenings)
        return asked or (wake is not None and wake <= now)

    def _evaluated(self, before: int) -> None:
        project = self.engine.project
        if project is not None:
            owed = {build.node for build in self.outcome.builds[before:]}
            owed.update(*(run.unfinished() for run in self.engine.runs.values()))
            self.outcome.evaluations += 1
            self.outcome.reuses += sum(node.built and node.id not in owed for node in project.graph.nodes.values())

    def _noted(self, recorded: Recorded) -> None:
        self._follow(recorded, self._world)
        event, outcome = recorded.event, self.outcome
        if isinstance(event, e.BuildStarted):
            seconds = self.trace.durations.of(event.node)
            outcome.builds.append(Build(recorded.at, event.node, event.reason, seconds))
        elif isinstance(event, e.TestFinished) and not event.proven:
            outcome.tests += 1
        elif isinstance(event, e.RunStarted):
            self._runs[event.run] = recorded.at
        elif isinstance(event, e.RunFinished) and event.run in self._runs:
            outcome.runs.append((self._runs.pop(event.run), recorded.at))

    def _follow(self, recorded: Recorded, world: World) -> None:
        event, tracker = recorded.event, self._tracker
        if isinstance(event, e.ProjectLoaded):
            tracker.load(self.projects[event.project].graph)
        elif isinstance(event, e.DataLanded):
            tracker.landed(event.source, recorded.at, world.source(event.source).version)
        elif isinstance(event, e.BuildStarted):
            tracker.began(event.node, event.observed.versions)
        elif isinstance(event, e.NodeBuilt):
            tracker.built(event.node, world.node(event.node).version, recorded.at)

    def _ended(self) -> Outcome:
        self.outcome.runs += [(started, self.trace.until) for started in self._runs.values()]
        self.outcome.points = self._tracker.points
        self.outcome.unfinished = len(self.engine.world.jobs) - sum(
            run.job is not None for run in self.engine.runs.values()
        )
        return self.outcome
