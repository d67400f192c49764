"""Policies side by side: what each of them built over the same trace, what that took, and how old the data became.

Counts, seconds and ages are defined in docs/SIMULATE.md; `values` are the same numbers as JSON.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from sao_events.compare.replay import Outcome, Replay
from sao_events.compare.staleness import Ages, ages
from sao_events.compare.trace import Trace
from sao_events.compare.variant import Change, Schedule, Variant
from sao_events.compare.workers import spread
from sao_events.core import events as e
from sao_events.core.policy import Settings
from sao_events.core.project import Project
from sao_events.report.history import iso

TODAY, RECORDED = "today", "as recorded"
P95 = 0.95


@dataclass(frozen=True, slots=True)
class NodeResult:
    """What came of one node: its builds, their seconds, and the ages of the data it served."""

    node: str
    name: str
    builds: int
    seconds: float
    ages: Ages


@dataclass(frozen=True, slots=True)
class Result:
    """What came of one policy. `seconds` is the work of all builds, `wall` the time in which a run was under way;
    `nodes` are those that own data which comes from a source, `ages` theirs together.
    """

    outcome: Outcome
    builds: int
    reuses: int
    seconds: float
    wall: float
    tests: int
    ages: Ages
    nodes: tuple[NodeResult, ...]

    @property
    def name(self) -> str:
        """The name of the policy."""
        return self.outcome.variant.name

    @property
    def days(self) -> float:
        """The length of the trace in days."""
        return (self.outcome.until - self.outcome.start) / 86400


def variants(
    trace: Trace,
    *,
    baselines: Iterable[tuple[str, Schedule]] = (),
    changes: Iterable[tuple[str, tuple[Change, ...]]] = (),
    today: Project | None = None,
) -> list[Variant]:
    """The policies to compare: today's, those of the time where they were others, the fixed schedules, the changes.

    Today's are those of the project `today`, by default of the last in the trace, for the whole time.
    """
    last = (today or trace.project).graph
    pinned = {name: node.policy for name, node in last.nodes.items()}
    found = [Variant(TODAY, pinned)]
    nodes = (node for project in trace.projects.values() for node in project.graph.nodes.values())
    if any(pinned.get(node.id, node.policy) != node.policy for node in nodes):
        found.append(Variant(RECORDED))
    found += [Variant(name, schedule=schedule) for name, schedule in baselines]
    found += [Variant(name, pinned, change) for name, change in changes]
    return found


def compare(trace: Trace, policies: Sequence[Variant], settings: Settings, *, threads: int = 4) -> list[Result]:
    """Run each policy over the trace. Raises UsageError for a change that names no node."""
    for variant in policies:
        variant.over(trace.project)
    return spread(partial(_one, trace, settings, threads), policies, size=len(trace.happenings))


def _one(trace: Trace, settings: Settings, threads: int, variant: Variant) -> Result:
    return result(Replay(trace, variant, settings, threads=threads).run())


def result(outcome: Outcome) -> Result:
    """The numbers of an outcome."""
    count = Counter(build.node for build in outcome.builds)
    seconds: dict[str, float] = dict.fromkeys(outcome.project.graph.nodes, 0.0)
    for build in outcome.builds:
        seconds[build.node] = seconds.get(build.node, 0.0) + build.seconds
    nodes = tuple(
        NodeResult(name, outcome.project.graph.nodes[name].name, count[name], seconds[name], _ages(outcome, name))
        for name in aging(outcome.project)
    )
    together = Ages()
    for node in nodes:
        together.add(node.ages)
    return Result(
        outcome,
        len(outcome.builds),
        outcome.reuses,
        sum(seconds.values()),
        covered(outcome.runs),
        outcome.tests,
        together,
        nodes,
    )


def aging(project: Project) -> list[str]:
    """The nodes whose data can grow old: they own it, and a source is behind them."""
    graph, fed = project.graph, set[str]()
    for name in graph.nodes:
        if any(feed in graph.sources or feed in fed for feed in graph.feeds[name]):
            fed.add(name)
    return [name for name in graph.nodes if name in fed and not graph.is_transparent(name)]


def covered(stretches: Iterable[tuple[float, float]]) -> float:
    """The seconds that lie in at least one of the stretches."""
    total, reached = 0.0, float("-inf")
    for begin, end in sorted(stretches):
        total += max(0.0, end - max(begin, reached))
        reached = max(reached, end)
    return total


def reference(results: Sequence[Result]) -> Result | None:
    """The result that others are measured by: the first fixed schedule."""
    return next((each for each in results if each.outcome.variant.schedule is not None), None)


def notes(trace: Trace, results: Sequence[Result]) -> list[str]:
    """What a reader of the numbers should know."""
    graph = trace.project.graph
    built = [name for name, node in graph.nodes.items() if node.built]
    unknown = [name for name in built if name not in trace.durations.nodes]
    silent = [source.name for source in graph.sources.values() if not source.static and not _lands(trace, source.id)]
    found = []
    if unknown:
        found.append(f"for {len(unknown)} of {len(built)} nodes no build time is known: "
                     f"{trace.durations.assumed:g} s each is assumed")  # fmt: skip
    if silent:
        found.append(f"no data lands in {', '.join(silent)}: nothing is ever new there")
    found += [
        f"{each.name}: at the end {each.outcome.unfinished} scheduled builds had not begun: it cannot keep up"
        for each in results
        if each.outcome.unfinished > 0
    ]
    return found + _warnings(results)


def _warnings(results: Sequence[Result]) -> list[str]:
    """What is wrong with the policies, once, under the name of the first that has it unless that is today's."""
    found: dict[str, str] = {}
    for each in results:
        if each.outcome.variant.schedule is None:
            for warning in each.outcome.project.warnings:
                found.setdefault(warning, each.name)
    return [warning if name == TODAY else f"{name}: {warning}" for warning, name in found.items()]


def _lands(trace: Trace, source: str) -> bool:
    return any(isinstance(item.event, e.DataLanded) and item.event.source == source for item in trace.happenings)


def _ages(outcome: Outcome, node: str) -> Ages:
    return ages(outcome.points.get(node, ()), outcome.start, outcome.until)


def values(trace: Trace, results: Sequence[Result]) -> dict[str, Any]:
    """The comparison as JSON values."""
    kinds = Counter(type(item.event) for item in trace.happenings)
    base = reference(results)
    return {
        "project": trace.project.name,
        "start": iso(trace.start),
        "until": iso(trace.until),
        "days": round(trace.days, 6),
        "landings": kinds[e.DataLanded],
        "loads_of_code": kinds[e.ProjectLoaded],
        "notes": notes(trace, results),
        "policies": [_policy(each, base) for each in results],
    }


def _policy(each: Result, base: Result | None) -> dict[str, Any]:
    return {
        "policy": each.name,
        "builds": each.builds,
        "reuses": each.reuses,
        "evaluations": each.outcome.evaluations,
        "build_seconds": round(each.seconds, 3),
        "wall_seconds": round(each.wall, 3),
        "test_runs": each.tests,
        "saved": None if base is None or not base.seconds else round(1 - each.seconds / base.seconds, 4),
        "staleness": _staleness(each.ages),
        "nodes": [
            {
                "node": node.node,
                "name": node.name,
                "builds": node.builds,
                "build_seconds": round(node.seconds, 3),
                "staleness": _staleness(node.ages),
            }
            for node in each.nodes
        ],
    }


def _staleness(of: Ages) -> dict[str, float]:
    return {
        "mean_seconds": round(of.mean, 3),
        "p95_seconds": round(of.quantile(P95), 3),
        "max_seconds": round(of.most, 3),
    }
