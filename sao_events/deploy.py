"""Which state of the project is in force: a working folder as it stands, or the head of a tracked git branch.

A load parses the project with dbt and records the result: loaded, or rejected with dbt's error, in which case the one
before stays in force. What a push said is only a hint; what is deployed is looked up here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from sao_events import events as e
from sao_events.checkout import Checkout
from sao_events.config import Config, SourceConfig
from sao_events.errors import DbtError, GraphError, PolicyError, SaoError
from sao_events.graph import Graph, Source
from sao_events.ports import Store
from sao_events.project import Project, project_digest, project_to_bytes


class Parser(Protocol):
    """What a deployment needs of dbt: to parse a folder, and to remember under which digest its result is built."""

    def load(self, folder: Path) -> Project:
        """Parse the project in `folder`. Raises DbtError."""

    def keep(self, digest: str) -> None:
        """Build pieces of the project `digest` from what was parsed last."""


@dataclass(frozen=True, slots=True)
class Deployed:
    """The outcome of a load: the event to record, or None where nothing changed, and whether the graph is another
    one.
    """

    event: e.ProjectLoaded | e.ProjectRejected | None
    changed: bool


class Deployer:
    """Loads the project of an environment. `in_force` is what the log says: digest and commit."""

    def __init__(self, config: Config, parser: Parser, store: Store) -> None:
        self.config, self.parser, self.store = config, parser, store
        git = config.git
        self.checkout = Checkout(git.remote, git.branch, config.state_dir / "git") if git else None

    def load(self, in_force: Callable[[], tuple[str | None, str | None]]) -> Deployed:
        """Look up what should be in force, parse it, store it. Raises SaoError where git or the disk fails, not for a
        bad project.
        """
        commit = self.checkout.head() if self.checkout else None
        folder = self.config.dbt.project_dir
        if self.checkout and commit and self.config.git:
            folder = self.checkout.lay_out(commit) / self.config.git.subdir
        try:
            project = with_sources(self.parser.load(folder), self.config.sources)
        except (DbtError, GraphError, PolicyError) as error:
            return Deployed(e.ProjectRejected(str(error), commit), changed=False)
        data = project_to_bytes(project)
        digest = project_digest(data)
        self.store.put_project(digest, data)
        self.parser.keep(digest)
        before = in_force()
        event = e.ProjectLoaded(digest, commit, project.warnings) if before != (digest, commit) else None
        return Deployed(event, changed=before[0] != digest)


def with_sources(project: Project, told: Mapping[str, SourceConfig]) -> Project:
    """The project with what the configuration says of its sources. Raises SaoError for a source that is not in it."""
    if not told:
        return project
    known = dict(project.graph.sources)
    for name, says in told.items():
        found = [source for source in known.values() if name in (source.id, source.name, source.relation)]
        if not found:
            names = ", ".join(sorted(source.name for source in known.values()))
            raise SaoError(f"sources: there is no source {name} in the project", hint=f"there are: {names or 'none'}")
        for source in found:
            known[source.id] = _told(source, says)
    graph = Graph(project.graph.nodes.values(), known.values(), project.graph.tests.values())
    return replace(project, graph=graph)


def _told(source: Source, says: SourceConfig) -> Source:
    return replace(source, static=source.static or says.static, view=source.view or says.view)
