"""Scenarios on the real core, planner and engine loop, under a virtual clock that jumps to the next instant at which
anything is due.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sao_events.core import events as e
from sao_events.core.decision import Decision
from sao_events.core.errors import SaoError
from sao_events.core.plan import decide
from sao_events.core.project import Project, project_digest, project_to_bytes
from sao_events.engine.loop import Engine
from sao_events.ports import Draft, NodeBegan, NodeEnded, Piece, PieceEnded, Report, TestEnded
from sao_events.scenario import Happening, Scenario, offset
from sao_events.scenario.doubts import doubts, in_vain
from sao_events.store.memory import MemoryStore

MOST = 100_000  # builds of one scenario


class VirtualClock:
    """A clock that stands still until it is set."""

    def __init__(self, now: float) -> None:
        self._now = now

    def now(self) -> float:
        """The instant that was set last."""
        return self._now

    def set(self, now: float) -> None:
        """Jump to `now`. Raises SaoError where that would be backwards."""
        if now < self._now:
            raise SaoError(f"time would run backwards: from {self._now} to {now}")
        self._now = now


@dataclass(slots=True)
class VirtualBuilder:
    """Builds that take virtual time and come out as the scenario says."""

    clock: VirtualClock
    scenario: Scenario
    gated: bool = True
    fails: Counter[str] = field(default_factory=Counter)
    same: Counter[str] = field(default_factory=Counter)
    test_fails: dict[str, list[str]] = field(default_factory=dict)
    most: int = MOST
    _due: list[tuple[float, int, Report]] = field(default_factory=list)
    _number: int = 0

    def ready(self, project: str) -> bool:
        """Always."""
        return True

    def hashes(self, adapter: str) -> bool:
        """Always: the scenario says what it leaves."""
        return True

    def start(self, piece: Piece, project: Project) -> None:
        """Begin with one node or one test."""
        now = self.clock.now()
        self.most -= len(piece.nodes)
        if self.most < 0:
            raise SaoError(
                f"{self.scenario.name}: more than {MOST} builds by {offset(now - self.scenario.start)}",
                hint="let until be earlier, windows, max_staleness and backoff longer, or attempts fewer",
            )
        for node in piece.nodes:
            self._report(now, NodeBegan(piece.id, node))
            ends = now + self.scenario.duration(node)
            failed, same = self._take(self.fails, node), self._take(self.same, node)
            same &= node in piece.hashes
            message = "the scenario lets it fail" if failed else None
            status = "error" if failed else "success"
            self._report(ends, NodeEnded(piece.id, node, status, ends - now, message, same))
            self._report(ends, PieceEnded(piece.id))
        for test in piece.tests:
            severities = self.test_fails.get(test)
            outcome = {"error": "fail", "warn": "warn"}[severities.pop(0)] if severities else "pass"
            self._report(now, TestEnded(piece.id, test, outcome))
            self._report(now, PieceEnded(piece.id))

    def reports(self) -> list[Report]:
        """What has come to an end by now."""
        now = self.clock.now()
        due = sorted((item for item in self._due if item[0] <= now), key=lambda item: item[:2])
        self._due = [item for item in self._due if item[0] > now]
        return [report for _, _, report in due]

    def next(self) -> float | None:
        """The instant at which the next build ends."""
        return min((at for at, _, _ in self._due), default=None)

    def cancel(self, run: str) -> None:
        """Everything under way is lost."""
        self._due.clear()

    def _take(self, counter: Counter[str], node: str) -> bool:
        if counter[node] > 0:
            counter[node] -= 1
            return True
        return False

    def _report(self, at: float, report: Report) -> None:
        self._number += 1
        self._due.append((at, self._number, report))


@dataclass(slots=True)
class Timeline:
    """What came of a scenario: builds (instant, node, reason), decisions asked for, tests counted, warnings, and the
    whole log.
    """

    builds: list[tuple[float, str, str]] = field(default_factory=list)
    decisions: list[tuple[float, str, Decision | None]] = field(default_factory=list)
    tests: dict[str, Counter[str]] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    log: list[e.Recorded] = field(default_factory=list)
    differences: list[str] = field(default_factory=list)


class Simulation:
    """One scenario, run to its end."""

    def __init__(self, scenario: Scenario) -> None:
        self.scenario = scenario
        self.clock = VirtualClock(scenario.start)
        self.builder = VirtualBuilder(self.clock, scenario)
        self.store = MemoryStore()
        self.engine = Engine(self.store, self.builder, self.clock, scenario.settings)
        self.loaded = False
        self.project = scenario.project()
        self.happenings = sorted(scenario.happenings, key=lambda happening: happening.at)
        self.warnings: dict[str, None] = dict.fromkeys(doubts(scenario))

    def run(self) -> Timeline:
        """Everything up to and including the instant `until`. Raises SaoError where the loop does not come to rest."""
        timeline = Timeline()
        happenings, asked = list(self.happenings), sorted(self.scenario.expected.decisions, key=lambda d: d[0])
        until, wake, stuck = self.scenario.expected.until, None, 0
        while True:
            heads = [
                happenings[0].at if happenings else None,
                asked[0][0] if asked else None,
                wake,
                self.builder.next(),
            ]
            now = min((at for at in heads if at is not None), default=until + 1)
            if now > until:
                break
            stuck = stuck + 1 if now <= self.clock.now() else 0
            if stuck > 1000:
                raise SaoError(f"{self.scenario.name}: the loop does not come to rest at {self._offset(now)}")
            self.clock.set(max(now, self.clock.now()))
            self.engine.take_reports()
            while happenings and happenings[0].at <= now:
                self._happen(happenings.pop(0))
            wake = self.engine.step()
            while asked and asked[0][0] <= now:
                at, wanted = asked.pop(0)
                timeline.decisions.append((at, str(wanted["node"]), self._decision(str(wanted["node"]))))
        return self._collect(timeline)

    def _decision(self, node: str) -> Decision | None:
        if not self.loaded or node not in self.project.graph.nodes:
            return None
        return decide(self.project.graph, self.engine.world, self.scenario.settings, self.clock.now())[node]

    def _happen(self, happening: Happening) -> None:
        getattr(self, f"_on_{happening.kind}")(happening.subject, happening.values)

    def _append(self, event: e.Event) -> None:
        self.store.append([Draft(event, self.clock.now(), sender="scenario")])

    def _load(self) -> None:
        self.project = self.scenario.project()
        self.warnings.update(dict.fromkeys(self.project.warnings))
        data = project_to_bytes(self.project)
        name = project_digest(data)
        self.store.put_project(name, data)
        self._append(e.ProjectLoaded(name))

    def _on_load(self, subject: str, values: Mapping[str, Any]) -> None:
        self.scenario.load()
        self.loaded = True
        self._load()

    def _on_land(self, subject: str, values: Mapping[str, Any]) -> None:
        load_id = str(values["load_id"]) if "load_id" in values else None
        rows = int(values["rows"]) if "rows" in values else None
        landed = e.DataLanded(subject, load_id, values.get("loaded_at"), rows, values["partial"])
        self._append(self.scenario.evidence.judged(landed))

    def _on_edit(self, subject: str, values: Mapping[str, Any]) -> None:
        self.scenario.edit(subject, values["change"], str(values["column"]) if "column" in values else None)
        if self.loaded:
            self._load()

    def _on_policy(self, subject: str, values: Mapping[str, Any]) -> None:
        self.scenario.configs[subject] = values["config"]
        if self.loaded:
            self._load()

    def _on_fail(self, subject: str, values: Mapping[str, Any]) -> None:
        self.builder.fails[subject] += values["times"]

    def _on_fail_test(self, subject: str, values: Mapping[str, Any]) -> None:
        self.builder.test_fails.setdefault(subject, []).extend([values["severity"]] * values["times"])

    def _on_same_output(self, subject: str, values: Mapping[str, Any]) -> None:
        self.builder.same[subject] += values["times"]

    def _on_drop(self, subject: str, values: Mapping[str, Any]) -> None:
        self._append(e.RelationDropped(subject))

    def _on_clear(self, subject: str, values: Mapping[str, Any]) -> None:
        self._append(e.StateCleared(values["nodes"]))

    def _on_job(self, subject: str, values: Mapping[str, Any]) -> None:
        job = f"{subject}-{self.store.last() + 1}"
        self._append(e.JobRequested(job, subject, self.clock.now(), values["select"], values["state_aware"]))

    def _on_crash(self, subject: str, values: Mapping[str, Any]) -> None:
        self.builder.cancel("all")
        self.engine = Engine(self.store, self.builder, self.clock, self.scenario.settings)

    def _collect(self, timeline: Timeline) -> Timeline:
        after = 0
        while found := self.store.read(after):
            timeline.log.extend(found)
            after = found[-1].seq
        counts = timeline.tests = {name: Counter(run=0, reused=0, proven=0) for name in self.project.graph.tests}
        for recorded in timeline.log:
            event = recorded.event
            if isinstance(event, e.BuildStarted):
                timeline.builds.append((recorded.at, event.node, event.reason))
            elif isinstance(event, e.TestFinished):
                counts[event.test]["proven" if event.proven else "run"] += 1
            elif isinstance(event, e.JobFinished):
                for test in event.reused_tests:
                    counts[test]["reused"] += 1
        timeline.warnings = (*self.warnings, *in_vain(self.scenario, timeline.log))
        position = self.project.graph.position
        timeline.builds.sort(key=lambda build: (build[0], position[build[1]]))
        timeline.differences = self._differences(timeline)
        return timeline

    def _differences(self, timeline: Timeline) -> list[str]:
        expected, found = self.scenario.expected, list[str]()
        if expected.builds is not None:
            got, wanted = Counter(timeline.builds), Counter(expected.builds)
            found += [f"not built: {self._build(build)}" for build in sorted((wanted - got).elements())]
            found += [f"built, but not expected: {self._build(build)}" for build in sorted((got - wanted).elements())]
        asked = sorted(expected.decisions, key=lambda decision: decision[0])
        for (at, wanted_decision), (_, node, decision) in zip(asked, timeline.decisions, strict=False):
            found += self._unlike(at, node, wanted_decision, decision)
        for name, counts in expected.tests.items():
            actual = timeline.tests.get(name, Counter())
            found += [
                f"test {name}: {key} {actual[key]}, expected {n}" for key, n in counts.items() if actual[key] != n
            ]
        found += [f"no warning names {name}" for name in expected.warnings if not _named(name, timeline.warnings)]
        return found

    def _unlike(self, at: float, node: str, wanted: Mapping[str, Any], decision: Decision | None) -> list[str]:
        if decision is None:
            return [f"at {self._offset(at)} there is no decision for {node}"]
        actual: dict[str, Any] = {
            "action": decision.action.value,
            "reason": decision.reason.value,
            "eligible_at": decision.eligible_at,
            "waiting_for": sorted(decision.waiting_for),
        }
        found = []
        for key in (key for key in wanted if key != "node"):
            want = sorted(map(str, wanted[key])) if key == "waiting_for" else wanted[key]
            if actual[key] != want:
                shown = [self._offset(v) if isinstance(v, float) else v for v in (actual[key], want)]
                found.append(f"at {self._offset(at)} {node}: {key} is {shown[0]}, expected {shown[1]}")
        return found

    def _build(self, build: tuple[float, str, str]) -> str:
        return f"[{self._offset(build[0])}, {build[1]}, {build[2]}]"

    def _offset(self, at: float) -> str:
        return offset(at - self.scenario.start)


def _named(name: str, warnings: tuple[str, ...]) -> bool:
    return any(name in warning for warning in warnings)
