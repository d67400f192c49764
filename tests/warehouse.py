"""A warehouse small enough to be obviously right: what every table would hold, were each build really carried out.

It knows nothing of versions, fingerprints or rules. A table holds what its text made, at the start of its build, of
what its parents held then; a view holds what it makes of its parents when it is read. Rows and columns are named by
all that went into them, so two relations are equal exactly where their histories cannot be told apart.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from sao_events.core import events as e
from sao_events.core.graph import Graph
from sao_events.core.lineage import digest
from sao_events.core.nodes import Node


@dataclass(frozen=True)
class Held:
    """The content of a relation: its rows as a whole, and each column that is known by name."""

    rows: str
    columns: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Definition:
    """A node's text as it was when its relation was made, ephemeral models folded in, and what its `*` meant then."""

    node: Node
    folded: Mapping[str, Definition]
    stars: Mapping[str, tuple[str, ...]]


@dataclass(frozen=True)
class Started:
    """A build under way: what will be held when it succeeds, and how often the rows of its feeds had changed."""

    definition: Definition
    holds: Held | None
    changes: Mapping[str, int]


class Warehouse:
    """Sources, tables and views. `graph` is the project that builds are made from; in PostgreSQL, replacing a table or
    view drops the views on it.
    """

    def __init__(self) -> None:
        self.graph = Graph(())
        self.loads: dict[str, list[tuple[str | None, float]]] = {}
        self.tables: dict[str, Held] = {}
        self.views: dict[str, Definition] = {}
        self.changes: dict[str, int] = {}
        self.started: dict[str, Started] = {}
        self.made: dict[str, Started] = {}

    def exists(self, name: str) -> bool:
        """Whether there is a relation of the name."""
        source = self.graph.sources.get(name)
        if source is not None:
            return not source.empty or bool(self.loads.get(name))
        return name in self.tables or name in self.views

    def readable(self, name: str) -> bool:
        """Whether the relation is there and, of a view, all that it reads."""
        behind = self.graph.upstreams[name] if self.graph.is_transparent(name) else ()
        return self.exists(name) and all(map(self.readable, behind))

    def land(self, source: str, load_id: str | None, loaded_at: float) -> None:
        """A load: new where neither its id is known nor its time older than another's."""
        known = self.loads.setdefault(source, [])
        if load_id is not None and any(load_id == other for other, _ in known):
            return
        if not known or loaded_at > max(at for _, at in known):
            self.changes[source] = self.changes.get(source, 0) + 1
        known.append((load_id, loaded_at))

    def drop(self, name: str) -> None:
        """The relation is gone; a build under way makes it anew when it ends."""
        self.tables.pop(name, None)
        self.views.pop(name, None)

    def begin(self, name: str) -> None:
        """A build starts. Everything it reads must be there."""
        definition = self._define(name)
        feeds = self.graph.feeds[name]
        holds = None if self.graph.is_transparent(name) else self._make(definition)
        changes = {feed: self.changes.get(feed, 0) for feed in feeds}
        self.started[name] = Started(definition, holds, changes)

    def finish(self, name: str) -> bool:
        """The build has succeeded. Returns whether the content is as it was before it."""
        self._replace(name)
        done = self.started.pop(name)
        before = self.made.get(name)
        self.made[name] = done
        if done.holds is None:
            self.views[name] = done.definition
            return False
        same = before is not None and before.holds == done.holds
        if before is not None and before.holds is not None and before.holds.rows != done.holds.rows:
            self.changes[name] = self.changes.get(name, 0) + 1
        self.tables[name] = done.holds
        return same

    def lose(self, written: bool) -> None:
        """The builds under way are lost: `written`, after their tables were, and before anyone could record it."""
        for name, done in self.started.items() if written else ():
            self._replace(name)
            if done.holds is None:
                self.views[name] = done.definition
            else:
                self.tables[name] = done.holds
        self.started.clear()

    def read(self, name: str) -> Held:
        """What a reader of the source, table or view sees now."""
        if name in self.graph.sources:
            return Held(f"{name}#{self.changes.get(name, 0)}")
        return self._make(self.views[name]) if name in self.views else self.tables[name]

    def from_scratch(self) -> dict[str, Held]:
        """What a full build of everything would hold now; what cannot be built for lack of a source is left out."""
        fresh = Warehouse()
        fresh.graph, fresh.loads, fresh.changes = self.graph, self.loads, dict(self.changes)
        for node in self.graph.nodes.values():
            if node.built and all(fresh.exists(parent) for parent in self.graph.upstreams[node.id]):
                fresh.begin(node.id)
                fresh.finish(node.id)
        return {name: fresh.read(name) for name in self.graph.nodes if fresh.exists(name)}

    def made_now(self, name: str) -> Held:
        """What a build of this one node would hold now."""
        return self._make(self._define(name))

    def _replace(self, name: str) -> None:
        if self.graph.adapter == "postgres" and self.graph.nodes[name].kind in ("table", "view"):
            for view, definition in list(self.views.items()):
                if view != name and name in _named(definition):
                    self.views.pop(view, None)
                    self._replace(view)

    def _define(self, name: str) -> Definition:
        node = self.graph.nodes[name]
        folded = {parent: self._define(parent) for parent in node.reads if self._ephemeral(parent)}
        stars = {parent: tuple(self._columns(parent, folded)) for parent in self._starred(node)}
        return Definition(node, folded, stars)

    def _columns(self, parent: str, folded: Mapping[str, Definition]) -> Iterable[str]:
        return (self._make(folded[parent]) if parent in folded else self.read(parent)).columns

    def _ephemeral(self, name: str) -> bool:
        return name in self.graph.nodes and not self.graph.nodes[name].built

    @staticmethod
    def _starred(node: Node) -> list[str]:
        return [name for name in node.reads if name in node.reading.star and name not in node.reading.named]

    def _make(self, definition: Definition) -> Held:
        node, rows = definition.node, [definition.node.own.base]
        columns = {column: f"{column} as written" for column, _ in node.own.columns}
        for parent in node.reads:
            seen = self._make(definition.folded[parent]) if parent in definition.folded else self.read(parent)
            names: Iterable[str] = node.reading.named.get(parent, sorted(seen.columns))
            if parent in definition.stars:
                columns |= {name: seen.columns.get(name, "gone") for name in definition.stars[parent]}
                names = ()
            rows += [parent, seen.rows, *(f"{name}: {seen.columns.get(name, 'absent')}" for name in names)]
        made = digest(*rows)
        return Held(str(int(made, 16) % 2) if node.early_cutoff else made, columns)


def _named(definition: Definition) -> Iterable[str]:
    for parent in definition.node.reads:
        if parent in definition.folded:
            yield from _named(definition.folded[parent])
        else:
            yield parent


def follow(warehouse: Warehouse, recorded: e.Recorded, graphs: Mapping[str, Graph]) -> None:
    """Carry out one event of a log in `warehouse`."""
    event = recorded.event
    match event:
        case e.ProjectLoaded():
            warehouse.graph = graphs[event.project]
        case e.DataLanded():
            warehouse.land(event.source, event.load_id, recorded.at if event.loaded_at is None else event.loaded_at)
        case e.RelationDropped():
            warehouse.drop(event.node)
        case e.BuildStarted():
            warehouse.begin(event.node)
        case e.NodeBuilt():
            warehouse.finish(event.node)
        case e.NodeFailed() | e.BuildInterrupted():
            warehouse.started.pop(event.node, None)
        case e.EngineStarted():
            warehouse.lose(written=False)
        case _:
            pass
