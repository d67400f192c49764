"""What happened to a project in a stretch of time, whatever was built for it: landings, changes of code, jobs.

A `Trace` comes from a recorded log (`recording`) or is made from rates (`rates`); `replay` runs policies over it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from statistics import median

from sao_events.core import events as e
from sao_events.core.events import Recorded
from sao_events.core.project import Project
from sao_events.ports import Draft

ASSUMED = 30.0


@dataclass(frozen=True, slots=True)
class Durations:
    """Seconds that the build of a node and the run of a test take; `assumed` for nodes of which nothing is known."""

    nodes: Mapping[str, float] = field(default_factory=dict)
    tests: Mapping[str, float] = field(default_factory=dict)
    assumed: float = ASSUMED

    def of(self, node: str) -> float:
        """Of a node."""
        return self.nodes.get(node, self.assumed)

    def of_test(self, test: str) -> float:
        """Of a test; 0 where nothing is known."""
        return self.tests.get(test, 0.0)

    def over(self, other: Durations) -> Durations:
        """These, and those of `other` for nodes and tests that are lacking here."""
        return replace(self, nodes={**other.nodes, **self.nodes}, tests={**other.tests, **self.tests})


@dataclass(frozen=True, slots=True)
class Trace:
    """From `start` (included) to `until` (excluded), UTC epoch seconds.

    `happenings` are in order of time; a `ProjectLoaded` among them names one of `projects`. `before` is the log up to
    `start`: what was on record then.
    """

    start: float
    until: float
    happenings: tuple[Draft, ...]
    projects: Mapping[str, Project]
    durations: Durations = Durations()
    before: tuple[Recorded, ...] = ()

    @property
    def days(self) -> float:
        """The length in days."""
        return (self.until - self.start) / 86400

    @property
    def project(self) -> Project:
        """The project that is in force at the end."""
        events = [*(item.event for item in self.before), *(item.event for item in self.happenings)]
        return self.projects[[event.project for event in events if isinstance(event, e.ProjectLoaded)][-1]]

    def landings(self) -> dict[str, list[float]]:
        """When data landed in each source that has landings, in order of time."""
        found: dict[str, list[float]] = {}
        for item in self.happenings:
            if isinstance(item.event, e.DataLanded):
                found.setdefault(item.event.source, []).append(item.at)
        return found


def measured(log: Iterable[Recorded]) -> Durations:
    """What the builds and tests in `log` took: the median of each."""
    nodes: dict[str, list[float]] = {}
    tests: dict[str, list[float]] = {}
    for recorded in log:
        event = recorded.event
        if isinstance(event, e.NodeBuilt):
            nodes.setdefault(event.node, []).append(event.seconds)
        elif isinstance(event, e.TestFinished) and not event.proven:
            tests.setdefault(event.test, []).append(event.seconds)
    return Durations(
        {node: median(seconds) for node, seconds in nodes.items()},
        {test: median(seconds) for test, seconds in tests.items()},
    )
