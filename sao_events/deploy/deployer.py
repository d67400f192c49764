"""Which state of the project is in force: a working folder as it stands, or the head of a tracked git branch.

A look parses the project with dbt and says what is to be recorded: loaded, or rejected with dbt's error, in which case
the one before stays in force. What a push said is only a hint; what is deployed is looked up here.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from sao_events.builds import dbt_settings
from sao_events.config import Config, SourceConfig
from sao_events.core import events as e
from sao_events.core.errors import DbtError, GraphError, PolicyError, SaoError
from sao_events.core.graph import Graph
from sao_events.core.identity import Inputs, Rendered
from sao_events.core.nodes import Source
from sao_events.core.project import (
    Project,
    project_digest,
    project_from_bytes,
    project_to_bytes,
    with_graph,
)
from sao_events.core.relations import left, made_by, recalled
from sao_events.core.relations import unknown as not_on_record
from sao_events.core.state import World
from sao_events.deploy.identify import identified
from sao_events.files import stamp
from sao_events.git.checkout import Checkout, without_password
from sao_events.inputs.mapping import unknown
from sao_events.ports import Clock, Draft, Store
from sao_events.report.deployment import Tracked
from sao_events.store.checkpoint import catch_up, load_world
from sao_events.yamltext import nearest

LOG = logging.getLogger("sao_events")
# Seconds until what was refused is parsed again although no file has changed; they double. What dbt reads elsewhere may
# have come back: a package, an adapter.
AGAIN_LEAST, AGAIN_MOST = 10.0, 600.0
HOUR = 3600.0
RECALLED = 200  # states of the project that are read back after an upgrade


class Parser(Protocol):
    """What a deployment needs of dbt: to parse a folder, and to remember under which digest its result is built."""

    def load(self, folder: Path) -> Project:
        """Parse the project in `folder`. Raises DbtError."""

    def render(self, wanted: Mapping[str, Inputs]) -> Mapping[str, Rendered]:
        """Their SQL, as `DbtBuilder.render`. Raises DbtError."""

    def keep(self, digest: str) -> None:
        """Build pieces of the project `digest` from what was parsed last."""

    def folders(self) -> Collection[Path]:
        """The folders that are built from."""


@dataclass(frozen=True, slots=True)
class Found:
    """What a look found. `events` are to be recorded in this order, then `Deployer.recorded` is to be called; `error`
    is what keeps the newest state from being in force; `project` was parsed and stored as `digest`.
    """

    events: tuple[e.ProjectLoaded | e.ProjectRejected, ...] = ()
    error: str | None = None
    project: Project | None = None
    digest: str | None = None
    commit: str | None = None


@dataclass(frozen=True, slots=True)
class _Refused:
    """What could not be loaded: the `stamp` of the files it was read from, at which instant that was known, and for how
    many seconds from then on it is not tried again.
    """

    stamp: str
    error: SaoError | OSError
    at: float
    pause: float


@dataclass(frozen=True, slots=True)
class _Names:
    """The relations that a `project`, by its digest, makes, and its sources."""

    project: str | None = None
    relations: tuple[str, ...] = ()
    sources: frozenset[str] = frozenset()

    @classmethod
    def of(cls, project: str, graph: Graph) -> _Names:
        return cls(project, made_by(graph), frozenset(graph.sources))

    def lacks(self, graph: Graph) -> tuple[str, ...]:
        """The sources of a graph that are not in it, but for those that never change."""
        return tuple(name for name, it in graph.sources.items() if name not in self.sources and not it.static)


class Deployer:
    """Looks up the project of an environment. `world` is what is on record when it begins; from then on it alone
    records what is in force.
    """

    def __init__(self, config: Config, parser: Parser, store: Store, world: World, clock: Clock) -> None:
        self.config, self.parser, self.store, self.clock = config, parser, store, clock
        self.in_force, self.rejected = (world.project, world.commit), world.rejected
        self.built_from: tuple[str | None, str | None] | None = None
        self._refused: dict[str | None, _Refused] = {}
        self._warned: tuple[str, ...] = ()
        self._hour: int | None = None  # of the last parse, where what the project says depends on it
        self._names = _Names()
        self.on_head: Callable[[str | None, str | None], None] = lambda commit, error: None
        git = config.git
        self.checkout = Checkout(git.remote, git.branch, config.state_dir / "git") if git else None

    def look(self, *, fresh: bool = True) -> Found:
        """Look up what should be in force, parse it, store it. Without `fresh`, a commit that is in force already is
        not parsed again before its `patience` ends, and what was refused only after a change of its files, or rarely.
        What goes wrong is in what is returned.
        """
        if fresh:
            self._refused.clear()
        try:
            commit = self._head()
        except SaoError as error:
            return self._go_on(str(error))
        known = self.rejected is None and self.built_from == self.in_force and self.in_force[1] == commit
        if commit and known and not fresh and self._hour in (None, self._this_hour()):
            return Found()
        try:
            return self._load(commit)
        except (DbtError, GraphError, PolicyError) as error:
            return self._go_on(str(error), e.ProjectRejected(str(error), commit))
        except SaoError as error:
            return self._go_on(str(error))
        except OSError as error:
            where = f"{error.filename}: " if error.filename else ""
            said = f"the project cannot be read: {where}{error.strerror}\n  it is tried again by itself"
            return self._go_on(said)

    def patience(self, poll: float | None) -> float | None:
        """The seconds until the next look that nobody asks for: `poll`, or the rest of the hour where what the project
        says depends on when it is parsed (docs/SEMANTICS.md, section 3). None for never.
        """
        if self._hour is None:
            return poll
        rest = max((self._hour + 1) * HOUR - self.clock.now(), 0.0) + 1.0
        return rest if poll is None else min(poll, rest)

    def _this_hour(self) -> int:
        return int(self.clock.now() // HOUR)

    def recorded(self, found: Found) -> None:
        """What was found is on record: build from it."""
        for event in found.events:
            if isinstance(event, e.ProjectLoaded):
                self.in_force, self.rejected = (event.project, event.commit), None
            else:
                self.rejected = event
        if found.project is not None and found.project.warnings != self._warned:
            self._warned = found.project.warnings
            for warning in self._warned:
                LOG.warning("%s", warning)
        if found.digest is not None and found.project is not None:
            self._names = _Names.of(found.digest, found.project.graph)
            self.parser.keep(found.digest)
            self.built_from = (found.digest, found.commit)

    def close(self) -> None:
        """End a fetch that is under way."""
        if self.checkout:
            self.checkout.close()

    def _head(self) -> str | None:
        """The head of the tracked branch; `on_head` is told of it before anything is parsed, or why there is none."""
        if self.checkout is None:
            return None
        try:
            commit = self.checkout.head()
        except SaoError as error:
            self.on_head(None, str(error))
            raise
        self.on_head(commit, None)
        return commit

    def _load(self, commit: str | None) -> Found:
        """As `_parse`, unless it would be refused as before."""
        folder = None if self.checkout else self.config.dbt.project_dir
        read = stamp(folder, dbt_settings(self.config).profiles(), without=self.config.state_dir)
        known = self._refused.get(commit)
        same = known is not None and known.stamp == read
        # A clock that is set back holds up nothing.
        if known and same and 0 <= self.clock.now() - known.at < known.pause:
            raise known.error.with_traceback(None)
        try:
            found = self._parse(commit)
        except (SaoError, OSError) as error:
            pause = min(known.pause * 2, AGAIN_MOST) if known and same else AGAIN_LEAST
            others = [it for it in self._refused.items() if it[0] != commit]
            refused = _Refused(read, error, self.clock.now(), pause)
            self._refused = dict([*others[-1:], (commit, refused)])  # the head's, and that of the one in force
            raise
        self._refused.pop(commit, None)
        return found

    def _parse(self, commit: str | None) -> Found:
        folder, hour = self.config.dbt.project_dir, self._this_hour()
        if self.checkout and commit and self.config.git:
            folder = self.checkout.lay_out(commit, self.parser.folders()) / self.config.git.subdir
        project = as_told(identified(self.parser.load(folder), self.store, self.parser.render), self.config)
        data = project_to_bytes(project)
        digest = project_digest(data)
        self.store.put_project(digest, data)
        self._hour = hour if project.meta.get("timed") else None
        known = self.rejected is None and self.in_force == (digest, commit)
        before, graph = self._before() if not known else None, project.graph
        left_behind, entered = (left(before.relations, graph), before.lacks(graph)) if before else ((), ())
        event = e.ProjectLoaded(digest, commit, project.warnings, left_behind, entered)
        return Found(() if known else (event,), None, project, digest, commit)

    def _before(self) -> _Names | None:
        """What the project in force calls its things; None where none is."""
        digest = self.in_force[0]
        if digest is not None and self._names.project != digest:
            self._names = _Names.of(digest, project_from_bytes(self.store.get_project(digest)).graph)
        return self._names if digest is not None else None

    def _go_on(self, error: str, rejected: e.ProjectRejected | None = None) -> Found:
        """The newest state cannot be in force. A process that has just begun builds from the commit that is."""
        found = self._loaded_before(rejected.commit if rejected else None)
        refused = (rejected,) if rejected and (found.events or rejected != self.rejected) else ()
        return replace(
            found, events=(*found.events, *refused), error=f"{error}\n{found.error}" if found.error else error
        )

    def _loaded_before(self, refused: str | None) -> Found:
        """The commit in force, loaded where nothing is. That is recorded only where it reads otherwise than it did."""
        commit = self.in_force[1]
        if self.checkout is None or self.built_from is not None or commit is None or commit == refused:
            return Found()
        try:
            found = self._load(commit)
        except (SaoError, OSError) as error:
            return Found(error=f"{commit[:10]}, which is in force, cannot be loaded either: {error}")
        return found if found.digest != self.in_force[0] else replace(found, events=())


def remembered(store: Store, now: float) -> World:
    """The state at the end of the log. What builds have written that an earlier release recorded without it is looked
    up in the projects of the log, and recorded at the instant `now`.
    """
    world = load_world(store)
    if not not_on_record(world):
        return world
    graphs: dict[str, Graph] = {}
    loads = list[tuple[float, str | None, Graph]]()
    for recorded in reversed(store.find(["ProjectLoaded"], limit=RECALLED)):
        event = recorded.event
        if isinstance(event, e.ProjectLoaded):
            if event.project not in graphs:
                graphs[event.project] = project_from_bytes(store.get_project(event.project)).graph
            loads.append((recorded.at, event.commit, graphs[event.project]))
    known = recalled(world, loads)
    if known.relations:
        store.append([Draft(known, now, sender="upgrade")])
    return catch_up(store, world)


def tracked(config: Config, checked: float | None = None) -> Tracked | None:
    """What is deployed from, without a password, where that is git."""
    git = config.git
    return Tracked(without_password(git.remote), git.branch, checked) if git else None


def as_told(project: Project, config: Config) -> Project:
    """The project with what the configuration says of its sources, and with a warning for each name in it that is none.
    Raises SaoError as `with_sources`.
    """
    project = with_sources(project, config.sources)
    return replace(project, warnings=(*project.warnings, *unknown(project, config.names))) if config.names else project


def with_sources(project: Project, told: Mapping[str, SourceConfig]) -> Project:
    """The project with what the configuration says of its sources, and the warnings that follow. Raises SaoError for a
    source that is not in it.
    """
    if not told:
        return project
    known = dict(project.graph.sources)
    for name, says in told.items():
        found = [source for source in known.values() if name in (source.id, source.name, source.relation)]
        if not found:
            names = sorted(source.name for source in known.values())
            wrong = f"{says.place}sources: there is no source {name} in the project"
            raise SaoError(wrong, hint=nearest(name, names) if names else "it has none")
        for source in found:
            known[source.id] = _told(source, says)
    graph = project.graph
    return with_graph(project, Graph(graph.nodes.values(), known.values(), graph.tests.values(), graph.adapter))


def _told(source: Source, says: SourceConfig) -> Source:
    given = {"probe": says.probe, "files": says.files}
    meta = {**source.meta, **{key: value for key, value in given.items() if value is not None}}
    return replace(source, static=source.static or says.static, view=source.view or says.view, meta=meta)
