"""Part of week.py: the week under sao-events, with the parts that the service is made of.

Real are the log on disk, the engine, the deployer, the warm dbt and all it builds. Only the clock is not: it stands
still while something is built, and else jumps to the next event or to the next instant at which the engine asks to be
woken. So a build takes no virtual time, and the same seed gives the same builds.
"""

from __future__ import annotations

import resource
import threading
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from benchmarks.parts_of_week.account import Built
from benchmarks.parts_of_week.project import START, Happening, Place
from sao_events.builds import Builds
from sao_events.config import DEFAULTS, Config, DbtConfig
from sao_events.core import events as e
from sao_events.core.project import Project
from sao_events.deploy.deployer import Deployer
from sao_events.engine.loop import Engine
from sao_events.inputs.landing import Landing
from sao_events.ports import Draft, NodeEnded, Piece, PieceEnded, Report, TestEnded
from sao_events.simulate import VirtualClock
from sao_events.store import open_store
from sao_events.store.checkpoint import load_world

PATIENCE = 120.0  # seconds for one build, until the benchmark gives up


@dataclass
class Outcome:
    """What one way of running the week came to. Seconds are those of the tool alone, the benchmark's own work left
    out; `cpu` counts all its processes.
    """

    built: list[Built] = field(default_factory=list)
    tests: int = 0
    jobs: int = 0
    wall: float = 0.0
    cpu: float = 0.0
    parts: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    until: float = START

    @contextmanager
    def working(self, part: str) -> Iterator[None]:
        """The tool works: count its time, under `part` too."""
        began, used = time.perf_counter(), own_cpu()
        try:
            yield
        finally:
            took = time.perf_counter() - began
            self.wall += took
            self.cpu += own_cpu() - used
            self.parts[part] += took


def own_cpu() -> float:
    """CPU seconds of this process."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def child_cpu() -> float:
    """CPU seconds of all processes that this one has started and that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


class _Told(Builds):
    """Builds that note what dbt says it has built, and where the time of a run goes."""

    outcome: Outcome
    clock: VirtualClock
    since = 0.0
    phase = ""

    def start(self, piece: Piece, project: Project) -> None:
        """See `Builds.start`."""
        self.enter("until the first node or test")
        super().start(piece, project)
        self.outcome.jobs += 1

    def reports(self) -> list[Report]:
        """See `Builds.reports`."""
        found = super().reports()
        for report in found:
            if isinstance(report, PieceEnded):
                assert report.status == "done", report
                self.enter("to record that it has ended")
                continue
            self.enter("nodes and tests, and dbt's end")
            if isinstance(report, NodeEnded):
                assert report.status == "success", report
                self.outcome.built.append(Built(self.clock.now(), report.node.split(".")[2]))
            elif isinstance(report, TestEnded):
                assert report.status == "pass", report
                self.outcome.tests += 1
        return found

    def enter(self, phase: str) -> None:
        """What follows counts as `phase`."""
        now = time.perf_counter()
        if self.phase:
            self.outcome.parts[self.phase] += now - self.since
        self.since, self.phase = now, phase


class Week:
    """One environment, from its first start until it is at rest after the last event."""

    def __init__(self, place: Place, state: Path) -> None:
        self.place, self.outcome = place, Outcome()
        self.clock, self._told = VirtualClock(START), threading.Event()
        settings = replace(DEFAULTS, max_concurrent_runs=1)  # as the service itself does on DuckDB
        config = Config("week", DbtConfig(place.folder, profiles_dir=place.folder), state, settings=settings)
        self.store = open_store(str(state / "state.db"))
        self.builds = _Told(config, notify=self._told.set)
        self.builds.outcome, self.builds.clock = self.outcome, self.clock
        self.engine = Engine(self.store, self.builds, self.clock, settings, world=load_world(self.store))
        self.deployer = Deployer(config, self.builds, self.store, self.engine.world, self.clock)

    def run(self, happenings: Sequence[Happening]) -> Outcome:
        """Everything in its order."""
        before = child_cpu()
        try:
            with self.outcome.working("first parse"):
                self._look()
            for happening in happenings:
                self._rest(happening.at)
                self.clock.set(happening.at)
                self.place.happen(happening)
                with self.outcome.working("parse after an edit" if happening.layout else "append an event"):
                    self._tell(happening)
            self._rest(float("inf"))
        finally:
            with self.outcome.working("end"):
                self.builds.close()
                self.store.close()
        self.outcome.cpu += child_cpu() - before
        self.outcome.until = self.clock.now()
        return self.outcome

    def _tell(self, happening: Happening) -> None:
        """What a loader's callback or a saved file appends to the log."""
        now = self.clock.now()
        if happening.layout is not None:
            self.store.append([Draft(e.CodePushed(), now, sender="watch")])
            self._look()
        else:
            landing = Landing(f"raw.{happening.source}", f"load-{happening.number}", None, happening.rows or None)
            self.store.append([landing.draft(f"source.week.raw.{happening.source}", now, None, "loader")])

    def _look(self) -> None:
        """Parse, and record what is in force, as the service's deployer does."""
        found = self.deployer.look()
        if found.error:
            raise RuntimeError(found.error)
        if found.events:
            self.store.append([Draft(event, self.clock.now(), sender="deployer") for event in found.events])
        self.deployer.recorded(found)

    def _rest(self, until: float) -> None:
        """Let time pass up to, not including, `until`; or until nothing is left to do."""
        while True:
            with self.outcome.working("all runs"):
                wake = self.engine.step()
                while self.engine.busy:
                    if not self._told.wait(PATIENCE):
                        raise RuntimeError("dbt has said nothing for two minutes")
                    self._told.clear()
                    wake = self.engine.step()
            self.builds.enter("")
            if self.engine.error:
                raise RuntimeError(self.engine.error)
            if wake is None or wake >= until:
                return
            self.clock.set(wake)
