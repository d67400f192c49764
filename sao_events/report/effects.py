"""What an event caused: the log read forwards from it.

New data is followed by version: a build is an effect where it saw a version that is there because of the event and
the build before it did not. Changed code is followed by what the builds were made from. What is cleared, dropped or
asked for by a job is followed to the builds that answer it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TypeAlias

from sao_events.core import events as e
from sao_events.core.events import Observed, Recorded
from sao_events.core.evolve import evolve
from sao_events.core.project import Graphs
from sao_events.core.state import World

NOTHING = Observed("")
# What stood before an event: the versions of the sources that it is about, or the project in force.
_Before: TypeAlias = Mapping[str, int] | str | None


class Effects:
    """Folds the log and gathers what comes of the event `seq`: its own kind of trace first, then builds and their
    results.
    """

    def __init__(self, seq: int, graphs: Graphs) -> None:
        self.seq, self.graphs = seq, graphs
        self.world = World()
        self.found: list[Recorded] = []
        self.versions: dict[str, int] = {}
        self.waiting: str | None = None  # a source, whose landing becomes new with the last of its load
        self.code: set[str] = set()
        self.asked: set[str] = set()
        self.job: str | None = None
        self.pushed = False
        self.builds: set[tuple[str, str]] = set()
        self.recoded: set[tuple[str, str]] = set()
        self.runs: set[str] = set()

    def read(self, log: Iterable[Recorded]) -> list[Recorded]:
        """The effects, in order. `log` is the whole log."""
        for recorded in log:
            before = self._before(recorded)
            if recorded.seq > self.seq and self._is_effect(recorded):
                self.found.append(recorded)
            evolve(self.world, recorded)
            if recorded.seq == self.seq:
                self._start(recorded, before)
            elif recorded.seq > self.seq:
                self._spread(recorded, before)
        return self.found

    def _before(self, recorded: Recorded) -> _Before:
        event = recorded.event
        if isinstance(event, e.DataLanded):
            return {name: self.world.source(name).version for name in (event.source, *event.together)}
        return self.world.project

    def _start(self, recorded: Recorded, before: _Before) -> None:
        event = recorded.event
        if isinstance(before, Mapping):
            now = {name: self.world.source(name).version for name in before}
            self.versions |= {name: version for name, version in now.items() if version != before[name]}
            self.waiting = event.source if isinstance(event, e.DataLanded) and not self.versions else None
        elif isinstance(event, e.ProjectLoaded):
            self._loaded(before, event)
        elif isinstance(event, e.StateCleared):
            self.asked = set(self.world.nodes if event.nodes is None else event.nodes)
        elif isinstance(event, e.RelationDropped):
            self.asked = {event.node}
        elif isinstance(event, e.JobRequested):
            self.job = event.job
        elif isinstance(event, e.RunStarted):
            self.runs.add(event.run)
        self.pushed = isinstance(event, e.CodePushed)

    def _loaded(self, before: str | None, event: e.ProjectLoaded) -> None:
        self.versions |= {name: self.world.source(name).version for name in event.entered}
        now = self.graphs(event.project).fingerprints
        then = self.graphs(before).fingerprints if before else {}
        self.code |= {name for name, fingerprint in now.items() if then.get(name) != fingerprint}

    def _is_effect(self, recorded: Recorded) -> bool:
        event = recorded.event
        if isinstance(event, (e.ProjectLoaded, e.ProjectRejected)):
            return self.pushed
        if isinstance(event, e.RunStarted):
            return self.job is not None and event.job == self.job
        if isinstance(event, e.JobFinished):
            return event.job == self.job
        if isinstance(event, e.BuildStarted):
            return self._caused(event)
        if isinstance(event, (e.NodeBuilt, e.NodeFailed, e.BuildInterrupted)):
            return (event.run, event.node) in self.builds
        return isinstance(event, e.TestFinished) and any((event.run, node) in self.builds for node in event.fails)

    def _caused(self, event: e.BuildStarted) -> bool:
        state = self.world.node(event.node)
        then = state.baseline.observed if state.baseline else NOTHING
        fresh = any(
            event.observed.versions.get(feed, -1) >= version > then.versions.get(feed, -1)
            for feed, version in self.versions.items()
        )
        code = (event.node in self.code and event.observed.fingerprint != then.fingerprint) or any(
            name in self.code and event.observed.codes.get(name) != code for name, code in then.codes.items()
        )
        if state.built_code is not None and event.code != state.built_code:
            self.recoded.add((event.run, event.node))
        return fresh or code or event.node in self.asked or event.run in self.runs

    def _spread(self, recorded: Recorded, before: _Before) -> None:
        event = recorded.event
        if isinstance(event, (e.ProjectLoaded, e.ProjectRejected)) and self.pushed:
            self.pushed = False
            if isinstance(event, e.ProjectLoaded):
                self._loaded(before if isinstance(before, str) else None, event)
        elif self.waiting is not None and self.world.source(self.waiting).event == self.seq:
            self.versions[self.waiting], self.waiting = self.world.source(self.waiting).version, None
        elif isinstance(event, e.RunStarted) and self.job is not None and event.job == self.job:
            self.runs.add(event.run)
        elif isinstance(event, e.BuildStarted) and self.found and self.found[-1] is recorded:
            self.builds.add((event.run, event.node))
        elif isinstance(event, e.NodeBuilt) and (event.run, event.node) in self.builds:
            self._built(event)

    def _built(self, event: e.NodeBuilt) -> None:
        self.asked.discard(event.node)
        self.versions.setdefault(event.node, self.world.node(event.node).version)
        if (event.run, event.node) in self.recoded:
            self.code.add(event.node)
