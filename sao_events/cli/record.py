"""What is on record, for commands that need no service: the log opened in place, folded, with the project in force."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from sao_events.cli.options import Context
from sao_events.config import Config
from sao_events.core.errors import SaoError, UsageError
from sao_events.core.events import Recorded
from sao_events.core.evolve import evolve
from sao_events.core.named import resolve_node, resolve_source
from sao_events.core.project import Project, project_from_bytes
from sao_events.core.state import World
from sao_events.deploy.deployer import tracked
from sao_events.ports import Store
from sao_events.report import Find, View
from sao_events.store import open_store
from sao_events.store.checkpoint import load_world

FILE = "state.db"


@dataclass(slots=True)
class Record:
    """The log of an environment, the state it folds to, and the project in force, where there is one."""

    store: Store
    world: World
    project: Project | None

    def known(self) -> Project:
        """The project in force. Raises UsageError where none was loaded yet."""
        if self.project is None:
            raise UsageError(
                "no project is on record yet, so its nodes and sources are not known",
                hint="`sao-events serve`, `watch` or `run` load it",
            )
        return self.project

    def view(self, context: Context) -> View:
        """What is on record, now."""
        config = context.config
        now = context.clock.now()
        return View(config.environment, self.project, self.world, config.settings, now, tracked=tracked(config))

    def past(self, context: Context, at: float) -> tuple[View, Find]:
        """What was on record at the instant `at`, and a look into the log up to then. Raises UsageError where there was
        no project yet.
        """
        world, store = World(), self.store
        for recorded in log(store):
            if recorded.at > at:
                break
            evolve(world, recorded)
        if world.project is None:
            raise UsageError("no project was on record then", hint="`sao-events events` shows when the log begins")
        project = project_from_bytes(store.get_project(world.project))

        def find(
            kinds: Sequence[str] | None = None,
            subject: str | None = None,
            run: str | None = None,
            before: int | None = None,
            limit: int = 100,
        ) -> list[Recorded]:
            upto = world.seq + 1 if before is None else min(before, world.seq + 1)
            return store.find(kinds, subject, run, upto, limit)

        config = context.config
        return View(config.environment, project, world, config.settings, at), find


def log(store: Store) -> Iterator[Recorded]:
    """The whole log, in order."""
    after = 0
    while page := store.read(after, 500):
        yield from page
        after = page[-1].seq


@contextmanager
def opened(config: Config, *, create: bool = False) -> Iterator[Record]:
    """The record of an environment; a log that is not there counts as empty, and is only made with `create`."""
    path = config.state_dir / FILE
    store = open_store(str(path) if create or path.exists() else "memory:")
    try:
        world = load_world(store)
        project = project_from_bytes(store.get_project(world.project)) if world.project else None
        yield Record(store, world, project)
    finally:
        store.close()


def node_ids(project: Project, given: Iterable[str]) -> list[str]:
    """The ids of nodes that are named by id or name. Raises UsageError that names the nearest."""
    return [_node_id(project, name) for name in given]


def _node_id(project: Project, name: str) -> str:
    found = resolve_node(project, name)
    if isinstance(found, str):
        return found
    if isinstance(resolve_source(project, name), str):
        hint = f"sao-events events --node {name} shows what came of it, sao-events status what is known of its loads"
        raise UsageError(f"{name} is a source, not a node", hint=hint)
    raise no_such("node", name, found, project.graph.nodes)


def no_such(what: str, name: str, nearest: list[str], known: Iterable[str]) -> SaoError:
    """The error for a name that nothing has, or several have."""
    if name in {near.rpartition(".")[2] for near in nearest} and len(nearest) > 1:
        return UsageError(f"{name} could be any of several {what}s", hint=f"name one: {', '.join(nearest)}")
    if nearest:
        return UsageError(f"there is no {what} {name}", hint=f"did you mean {' or '.join(nearest)}?")
    some = ", ".join(sorted(known)[:5])
    return UsageError(
        f"there is no {what} {name}", hint=f"there are, for example: {some}" if some else "there are none"
    )
