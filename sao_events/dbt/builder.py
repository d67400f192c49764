"""What both ways of running dbt share: the queue of reports, the settings, the project that was loaded last."""

from __future__ import annotations

import re
import threading
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from sao_events.core.errors import DbtError, SaoError
from sao_events.core.identity import Inputs, Rendered
from sao_events.core.project import Project
from sao_events.dbt.command import plain
from sao_events.dbt.manifest import read_manifest, read_project
from sao_events.dbt.placed import refused_windows
from sao_events.dbt.settings import DbtSettings
from sao_events.ports import Answer, Piece, Report

MOST = 5  # places in a message
CHANGED = "the project's files changed after they were read, so dbt built something else than was decided"


class Loaded(NamedTuple):
    """A project and the manifest it was read from."""

    project: Project
    manifest: Path


class DbtBuilder(ABC):
    """A `ports.Builder` and `ports.Warehouse` on dbt, for use from any thread. `load` and `select` block and raise
    DbtError.
    """

    gated = False

    def __init__(
        self, settings: DbtSettings, *, keep_fd: int | None = None, notify: Callable[[], None] | None = None
    ) -> None:
        self.settings, self.keep_fd, self._notify = settings, keep_fd, notify
        self._reports: deque[Report] = deque()
        self.lock = threading.Lock()

    @abstractmethod
    def load(self, default: Mapping[str, Any] | None = None) -> Loaded:
        """Parse the project. `default` is the environment's policy for nodes that declare none."""

    def hashes(self, adapter: str) -> bool:
        """`ports.Builder`: the subprocess runner cannot."""
        return False

    @abstractmethod
    def start(self, piece: Piece, project: Project) -> None:
        """Begin with a piece; returns at once."""

    @abstractmethod
    def cancel(self, run: str) -> None:
        """Stop the pieces of a run: by SIGINT, after the grace of the settings by SIGKILL."""

    @abstractmethod
    def select(self, text: str, exclude: str | None = None) -> tuple[str, ...]:
        """Ids of the nodes and tests that dbt's selector `text` names, without those that `exclude` names."""

    @abstractmethod
    def render(self, wanted: Mapping[str, Inputs]) -> dict[str, Rendered]:
        """The SQL of nodes and tests of the project that was loaded last, without a look at the warehouse: of those
        that render `twice` also as it is once their table is there. What is left out could not be rendered.
        """

    @abstractmethod
    def ask(self, statements: Sequence[str], seconds: float, most: int) -> list[Answer]:
        """`ports.Warehouse`. The subprocess runner starts dbt for it, which takes seconds."""

    @abstractmethod
    def change(self, statements: Sequence[str], seconds: float) -> list[Answer]:
        """As `ask`; what a statement without error has written is kept. The subprocess runner cannot: its answers say
        so.
        """

    @abstractmethod
    def close(self) -> None:
        """End everything that was started, builds as by `cancel`; returns when it has ended."""

    def reports(self) -> list[Report]:
        """What has happened since the last call, in order."""
        found: list[Report] = []
        while self._reports:
            found.append(self._reports.popleft())
        return found

    def report(self, reports: Iterable[Report]) -> None:
        """Queue reports and say so."""
        found = list(reports)
        self._reports.extend(found)
        if self._notify is not None and found:
            self._notify()


def read_parsed(settings: DbtSettings, manifest: Path, default: Mapping[str, Any] | None = None) -> Loaded:
    """The project that dbt just parsed to `manifest`."""
    body = read_manifest(manifest)
    env, given = settings.environment(), settings.given_vars()
    root, target = settings.project_dir.absolute(), settings.given_target()
    project = read_project(body, vars=given, env=env, target=target, default=default, root=root)
    return Loaded(project, manifest)


def changed_code(expected: Project, found: Project, nodes: Iterable[str]) -> list[str]:
    """Those of `nodes` that would not execute the same in both projects."""
    return [name for name in nodes if _parts(expected, name) != _parts(found, name)]


def changed_on_disk(settings: DbtSettings, manifest: Path, project: Project, piece: Piece) -> str | None:
    """Why what dbt parsed for this piece is not what was decided on; None where it is."""
    if not manifest.exists():
        return None
    try:
        found = read_parsed(settings, manifest).project
    except SaoError:
        return CHANGED
    names = changed_code(project, found, piece.nodes)
    return f"{CHANGED} ({', '.join(names[:5])})" if names else None


def parse_error(settings: DbtSettings, said: str) -> DbtError:
    """The error for a project that dbt refuses, with dbt's own words."""
    said = plain(said) or "dbt gave no reason"
    hint = "correct the project and try again; `dbt parse` says the same"
    if re.search(r"Path '[^']*' does not exist", said):  # all that dbt says where there is neither of the two
        said = "there is no profiles.yml"
    if "profile" in said.lower():
        looked = settings.profiles_dir or f"{settings.project_dir} and ~/.dbt"
        hint = f"profiles are looked for in {looked}; name another folder as profiles_dir, or a profile of that file"
    if "build_after" in said and (places := refused_windows(settings.project_dir)):
        said += f"\nit stands in {', '.join(places[:MOST])}"
    return DbtError(f"dbt cannot read the project in {settings.project_dir}:\n{_indented(said)}", hint=hint)


def both(first: Mapping[str, Mapping[str, str]], again: Mapping[str, Mapping[str, str]]) -> dict[str, Rendered]:
    """What was rendered, from the answers to both questions."""
    found = dict[str, Rendered]()
    for name, answer in first.items():
        second = again.get(name, {"sql": ""})
        doubt = answer.get("doubt") or second.get("doubt") or ""
        found[name] = Rendered(doubt=doubt) if doubt else Rendered(answer["sql"], second["sql"])
    return found


def _indented(text: str) -> str:
    return "\n".join(f"  {line}" for line in text.splitlines())


def _parts(project: Project, name: str) -> list[Mapping[str, str] | None]:
    """The parts of a node and of the ephemeral models that are folded into it."""
    found, stack, seen = list[Mapping[str, str] | None](), [name], set[str]()
    while stack:
        node = project.graph.nodes.get(stack.pop())
        found.append(node.parts if node else None)
        for parent in sorted(node.reads) if node else ():
            upstream = project.graph.nodes.get(parent)
            if upstream is not None and not upstream.built and parent not in seen:
                seen.add(parent)
                stack.append(parent)
    return found
