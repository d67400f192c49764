"""Answers those who ask for what is left behind: looks at it and drops what they have agreed to, one after the other.

A request is an event (`CleanAsked`), its answer another one. It holds for the engine that is at work: an engine that
starts takes up none from before, so that nothing is dropped late, when nobody waits for it. What is asked for is judged
anew, by the project as it is now: what a person has agreed to may have come back meanwhile.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Collection
from contextlib import AbstractContextManager, closing
from typing import Protocol

from sao_events.config import Config
from sao_events.core.errors import DbtError, SaoError, words
from sao_events.core.events import CleanAnswered, Event, RelationsCleaned
from sao_events.core.graph import Graph
from sao_events.core.project import project_from_bytes
from sao_events.core.relations import named
from sao_events.core.state import World
from sao_events.environment import Environment
from sao_events.ports import Draft
from sao_events.store import open_store
from sao_events.store.checkpoint import load_world
from sao_events.upkeep import cleaning

LOG = logging.getLogger("sao_events")
IDLE, POLL = 5.0, 0.1  # seconds: between looks at the record without being told; while something is waited for


class Warehouse(cleaning.Droppable, Protocol):
    """A warehouse that can be kept from being built in."""

    def held(self) -> AbstractContextManager[None]:
        """Within it no build begins, and no other project comes into force."""


class Host(Environment, Protocol):
    """An environment whose project can be looked up again, and whose warehouse can be asked."""

    @property
    def dbt(self) -> Warehouse:
        """Where the relations are."""

    @property
    def loads(self) -> int:
        """How many times the project has been looked up."""

    @property
    def load_error(self) -> str | None:
        """What keeps its newest state from being in force."""

    @property
    def error(self) -> str | None:
        """What keeps the engine from working."""

    def reload(self) -> int:
        """Look the project up again; what `loads` is once that is done."""


class Cleaner:
    """`run` in a thread of its own."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self._answered: set[str] = set()
        self._nudged = threading.Event()
        self._nudged.set()
        self._closed = False

    def soon(self) -> None:
        """There is a request."""
        self._nudged.set()

    def close(self) -> None:
        """Answer no more. A statement under way ends by itself, and what it has dropped is recorded."""
        self._closed = True
        self._nudged.set()

    def run(self) -> None:
        """Answer what is asked, until `close`."""
        while not self._closed:
            self._nudged.wait(IDLE)
            self._nudged.clear()
            try:
                while (asked := self._next()) is not None:
                    self._answer(*asked)
            except Exception as error:
                LOG.warning("who asks for what is left behind is not answered: %s", words(error))
                LOG.debug("while it was answered", exc_info=not isinstance(error, SaoError))

    def _next(self) -> tuple[str, tuple[str, ...]] | None:
        with self.host.view() as view:
            asked = view.world.cleaning
        self._answered &= asked.keys()
        if self._closed:
            return None
        return next((item for item in asked.items() if item[0] not in self._answered), None)

    def _answer(self, request: str, relations: tuple[str, ...]) -> None:
        try:
            found = self._done(request, relations)
            answer = CleanAnswered(request, {item.name: cleaning.value_of(item) for item in found})
        except Exception as problem:  # noqa: BLE001 - whoever asked is told
            answer = CleanAnswered(request, error=words(problem))
        if not self._closed:  # what was ended says nothing: who asked sees that the service has ended
            self._record(answer)
            self._answered.add(request)

    def _done(self, request: str, relations: Collection[str]) -> list[cleaning.Left]:
        """What was found, and dropped where that was agreed to. Raises SaoError where it cannot be known."""
        self._up_to_date()
        if not relations:
            return self._look()
        with self.host.dbt.held():
            found = self._look()
            graph, world = self._in_force()
            if request not in world.cleaning:
                raise SaoError("it was withdrawn")
            still = {item.name for item in cleaning.candidates(graph, world, elsewhere(self.host.config))}
            cleaning.drop(cleaning.agreed(found, relations, still), self.host.dbt, self._cleaned)
        return found

    def _look(self) -> list[cleaning.Left]:
        graph, world = self._in_force()
        found = cleaning.candidates(graph, world, elsewhere(self.host.config))
        cleaning.look(found, self.host.dbt, graph.adapter)
        return found

    def _in_force(self) -> tuple[Graph, World]:
        with self.host.view() as view:
            if view.project is None:
                raise DbtError("no project is in force")
            return view.project.graph, view.world

    def _up_to_date(self) -> None:
        """Wait until the project as it is now is in force. Raises DbtError where it is refused."""
        host, wanted = self.host, self.host.reload()
        while host.loads < wanted and host.healthy:
            host.wait_change(2**62, POLL)
        last = host.store.last()
        while host.wait_change(last - 1, POLL) < last and host.healthy:
            pass
        if host.load_error or not host.ready:
            raise DbtError(host.load_error or host.error or "no project is in force")

    def _cleaned(self, relations: tuple[str, ...]) -> None:
        """What is gone is on record, so that what dbt builds again under such a name is built, not reused."""
        self._record(RelationsCleaned(relations))

    def _record(self, event: Event) -> None:
        self.host.submit([Draft(event, self.host.clock.now(), sender="cleaner")]).result()


def elsewhere(config: Config) -> set[str]:
    """The plain names of what the other environments beside this one have in force. Raises StoreError."""
    own = config.state_dir.absolute()
    base = own.parent.parent if own.parent.name == "targets" else own
    names = set[str]()
    for folder in (base, *sorted((base / "targets").glob("*"))):
        if folder == own or not (folder / "state.db").is_file():
            continue
        with closing(open_store(str(folder / "state.db"))) as store:
            world = load_world(store)
            if world.project is not None:
                names |= named(project_from_bytes(store.get_project(world.project)).graph)
    return names
