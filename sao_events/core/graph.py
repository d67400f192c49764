"""The project as a graph: sources feed nodes, nodes feed nodes, tests hang on nodes.

A `Graph` is immutable. It answers what the rules ask for: the upstreams of a node with ephemeral parents replaced by
their own, the sources and stored nodes that lie behind them, and who reads whom.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from heapq import heappop, heappush
from itertools import chain
from typing import TypeVar

from sao_events.core.errors import GraphError
from sao_events.core.falling import FALLING, replaced
from sao_events.core.lineage import Code, Reading, digest
from sao_events.core.nodes import Node, Source, Test

Compared = tuple[str, tuple[str, ...], tuple[str, ...]]
T = TypeVar("T", Node, Source, Test)


class Graph:
    """Nodes in topological order (parents first, otherwise as given), sources and tests. Raises GraphError on a cycle
    or a lost reference.
    """

    def __init__(
        self, nodes: Iterable[Node], sources: Iterable[Source] = (), tests: Iterable[Test] = (), adapter: str = ""
    ) -> None:
        self.adapter = adapter
        self.sources: dict[str, Source] = _unique(sources, "source")
        given = _unique(nodes, "node")
        if twice := given.keys() & self.sources.keys():
            raise GraphError(f"{min(twice)} is both a source and a node")
        self.tests: dict[str, Test] = _unique(tests, "test")
        self.nodes: dict[str, Node] = {name: given[name] for name in _ordered(given, self.sources)}
        self.order: list[str] = list(self.nodes)
        self.position: dict[str, int] = {name: index for index, name in enumerate(self.order)}
        self._check_tests()

    def _check_tests(self) -> None:
        for test in self.tests.values():
            for name in test.reads:
                if name not in self.nodes and name not in self.sources:
                    raise GraphError(f"test {test.id} reads {name}, which is neither a node nor a source")

    @cached_property
    def upstreams(self) -> dict[str, tuple[str, ...]]:
        """Direct parents of each node; an ephemeral parent is replaced by its own parents. No parent twice."""
        found: dict[str, tuple[str, ...]] = {}
        for node in self.nodes.values():
            parents: dict[str, None] = {}
            for name in node.reads:
                through = found[name] if self._ephemeral(name) else (name,)
                parents.update(dict.fromkeys(through))
            found[node.id] = tuple(parents)
        return found

    @cached_property
    def feeds(self) -> dict[str, tuple[str, ...]]:
        """The sources and stored nodes whose data each node shows: its upstreams, looked at through views."""
        found: dict[str, tuple[str, ...]] = {}
        for name, parents in self.upstreams.items():
            behind: dict[str, None] = {}
            for parent in parents:
                behind.update(dict.fromkeys(found[parent] if self.is_transparent(parent) else (parent,)))
            found[name] = tuple(behind)
        return found

    @cached_property
    def compared(self) -> dict[str, Compared]:
        """What a look compares with the last build of each node, in one place: its fingerprint, the feeds whose data is
        new to it (of a view, none), and the nodes among its upstreams. Ephemeral models are left out, and what has a
        greatest age: time alone disturbs it.
        """
        found = dict[str, Compared]()
        for node in self.nodes.values():
            if node.built and node.policy.max_staleness is None:
                upstreams = self.upstreams[node.id]
                nodes = tuple(name for name in upstreams if name not in self.sources)
                feeds = () if node.transparent else self.feeds[node.id]
                found[node.id] = self.fingerprints[node.id], feeds, nodes if len(nodes) < len(upstreams) else upstreams
        return found

    @cached_property
    def readers(self) -> dict[str, tuple[str, ...]]:
        """Who has the node or source among its upstreams (ephemeral readers are replaced by their own readers), in
        graph order.
        """
        found: dict[str, list[str]] = {name: [] for name in (*self.sources, *self.nodes)}
        for name, parents in self.upstreams.items():
            if self.nodes[name].built:
                for parent in parents:
                    found[parent].append(name)
        return {name: tuple(readers) for name, readers in found.items()}

    @cached_property
    def folded(self) -> dict[str, tuple[str, ...]]:
        """The ephemeral models that are part of what each node executes, at any depth; other nodes are left out."""
        found: dict[str, tuple[str, ...]] = {}
        for node in self.nodes.values():
            direct = [name for name in node.reads if self._ephemeral(name)]
            if direct:
                found[node.id] = tuple(dict.fromkeys(e for name in direct for e in (name, *found.get(name, ()))))
        return found

    @cached_property
    def fingerprints(self) -> dict[str, str]:
        """Identity of what each node would execute: its own text and configuration, and the ephemeral models folded
        into it.
        """
        found: dict[str, str] = {}
        for node in self.nodes.values():
            folded = [found[name] for name in node.reads if self._ephemeral(name)]
            found[node.id] = digest(node.own.whole(), *folded) if folded else node.own.whole()
        return found

    @cached_property
    def own_codes(self) -> dict[str, Code]:
        """`Node.own` with the ephemeral models that are folded into the node. Where its SQL is taken apart, theirs is
        part of that.
        """
        found: dict[str, Code] = {}
        for node in self.nodes.values():
            whole = node.reading.rows is None
            folded = [self.fingerprints[name] for name in node.reads if whole and self._ephemeral(name)]
            found[node.id] = Code(digest(node.own.base, *folded), node.own.columns) if folded else node.own
        return found

    @cached_property
    def readings(self) -> dict[str, Reading]:
        """How each node reads its upstreams, ephemeral parents looked through."""
        found: dict[str, Reading] = {}
        for node in self.nodes.values():
            folds = node.reading.rows is None and any(map(self._ephemeral, node.reads))
            found[node.id] = self._through(node, found) if folds else node.reading
        return found

    @cached_property
    def unchanging(self) -> frozenset[str]:
        """What can never have new data: seeds, static sources, and views over nothing but these, or over nothing."""
        found = {source.id for source in self.sources.values() if source.static}
        for node in self.nodes.values():
            over = self.upstreams[node.id]
            if node.kind == "seed" or (node.transparent and found.issuperset(over)):
                found.add(node.id)
        return frozenset(found)

    @cached_property
    def unfed(self) -> frozenset[str]:
        """What can never have new data by itself: what never changes, every node over nothing else, and every node
        whose quorum of all counts one of these. A greatest age makes new data of nothing.
        """
        found = set(self.unchanging)
        for name, over in self.upstreams.items():
            held = found.issuperset(over) or not found.isdisjoint(self.counted(name))
            if held and (self.is_transparent(name) or self.nodes[name].policy.max_staleness is None):
                found.add(name)
        return frozenset(found)

    @cached_property
    def gathering(self) -> frozenset[str]:
        """Views that count as newer under a quorum of `all`: their own, or that of a view which they look through."""
        found: set[str] = set()
        for node in self.nodes.values():
            if node.kind == "view" and (self.counted(node.id) or not found.isdisjoint(self.upstreams[node.id])):
                found.add(node.id)
        return frozenset(found)

    @cached_property
    def lazy(self) -> tuple[str, ...]:
        """The nodes that are built for new data only when a reader is due."""
        return tuple(node.id for node in self.nodes.values() if node.policy.lazy)

    def counted(self, name: str) -> tuple[str, ...]:
        """The upstreams that `updates_on: all` of the node waits for; none where it has `any`."""
        if self.nodes[name].policy.updates_on != "all":
            return ()
        return tuple(up for up in self.upstreams[name] if up not in self.unchanging)

    @cached_property
    def order_to_deadlines(self) -> list[str]:
        """The nodes that declare a deadline and all they are built from, in graph order."""
        declared = [n.id for n in self.nodes.values() if n.policy.calendar is not None and n.policy.calendar.deadlines]
        return self.sort(self.ancestors(declared)) if declared else []

    @cached_property
    def falling(self) -> dict[str, tuple[str, ...]]:
        """The views and materialized views that the warehouse drops with a relation that it replaces, in graph order;
        nodes with which none falls are left out.
        """
        exposed = [node.id for node in self.nodes.values() if replaced(self.adapter, node.kind) != "never"]
        found = ((name, self.sort(self._fallen(name))) for name in exposed)
        return {name: tuple(views) for name, views in found if views}

    def _fallen(self, name: str) -> set[str]:
        found: set[str] = set()
        stack = [name]
        while stack:
            for reader in self.readers[stack.pop()]:
                if self.nodes[reader].kind in FALLING and reader not in found:
                    found.add(reader)
                    stack.append(reader)
        return found

    @cached_property
    def definitions(self) -> dict[str, str]:
        """Identity of what each test would run: its own text and the ephemeral models folded into it."""
        return {
            test.id: digest(test.own, *(self.fingerprints[name] for name in test.reads if self._ephemeral(name)))
            for test in self.tests.values()
        }

    @cached_property
    def tested(self) -> dict[str, tuple[str, ...]]:
        """What each test reads, and what lies behind the views and ephemeral models among it, views on the way too."""
        return {test.id: self._with_behind(test.reads, self.looks_at) for test in self.tests.values()}

    @cached_property
    def read_as_sources(self) -> dict[str, tuple[str, ...]]:
        """The sources that are the relation of a node: it is read without being referred to, a seed for example. One
        that the node itself is made of, also by way of others, is left out: it would never come to rest.
        """
        found: dict[str, list[str]] = {}
        for source in self.sources.values():
            if source.relation:
                found.setdefault(source.relation, []).append(source.id)
        written = {node.id: found[node.relation] for node in self.nodes.values() if node.relation in found}
        if not written:
            return {}
        onward = {name: (*self.readers.get(name, ()), *of) for name, of in written.items()}
        steps = {**self.readers, **onward}
        return {name: tuple(it for it in of if name not in self._closure([it], steps)) for name, of in written.items()}

    @cached_property
    def written_by_nodes(self) -> frozenset[str]:
        """The sources in `read_as_sources`."""
        return frozenset(chain.from_iterable(self.read_as_sources.values()))

    @cached_property
    def tests_of(self) -> dict[str, tuple[str, ...]]:
        """The tests that read a node or source."""
        found: dict[str, list[str]] = {}
        for test in self.tests.values():
            for name in test.reads:
                found.setdefault(name, []).append(test.id)
        return {name: tuple(tests) for name, tests in found.items()}

    @cached_property
    def tests_of_unbuilt(self) -> dict[str, tuple[str, ...]]:
        """The tests of a source or ephemeral model that read nothing else: no node carries their failure."""
        free = {test.id for test in self.tests.values() if not any(map(self._built, test.reads))}
        return {
            name: of for name, tests in self.tests_of.items() if (of := tuple(test for test in tests if test in free))
        }

    @cached_property
    def test_position(self) -> dict[str, int]:
        """The place of each test among all."""
        return {name: place for place, name in enumerate(self.tests)}

    def is_transparent(self, name: str) -> bool:
        """Whether `name` is a view or an ephemeral model (sources are not)."""
        return name in self.transparent

    @cached_property
    def transparent(self) -> frozenset[str]:
        """The views and ephemeral models."""
        return frozenset(node.id for node in self.nodes.values() if node.transparent)

    def ancestors(self, names: Iterable[str]) -> set[str]:
        """`names` and every node (not source) they are built from, at any distance."""
        return self._closure(names, self._reads)

    def descendants(self, names: Iterable[str]) -> set[str]:
        """Every node that reads one of `names` at any distance, and those of `names` that are nodes."""
        return self._closure(names, self.readers) & self.nodes.keys()

    @cached_property
    def _reads(self) -> dict[str, tuple[str, ...]]:
        return {name: node.reads for name, node in self.nodes.items()}

    def sort(self, names: Iterable[str]) -> list[str]:
        """`names` in the order of the graph."""
        return sorted(names, key=self.position.__getitem__)

    def behind(self, name: str) -> tuple[str, ...]:
        """The sources and stored nodes whose rows one sees when reading `name`."""
        return self.feeds[name] if self.is_transparent(name) else (name,)

    @cached_property
    def looks_at(self) -> dict[str, tuple[str, ...]]:
        """The nodes and sources that building each node looks at: its parents, and through views and ephemeral models
        the parents of these. Its upstreams and feeds are among them.
        """
        found: dict[str, tuple[str, ...]] = {}
        for node in self.nodes.values():
            found[node.id] = self._with_behind(node.reads, found)
        return found

    def _with_behind(self, reads: Sequence[str], found: Mapping[str, tuple[str, ...]]) -> tuple[str, ...]:
        through = (seen for name in reads if self.is_transparent(name) for seen in found[name])
        return tuple(dict.fromkeys((*reads, *through)))

    def looked_at(self, names: Iterable[str]) -> set[str]:
        """The nodes and sources that building `names` looks at."""
        return set[str]().union(*map(self.looks_at.__getitem__, names))

    def _closure(self, names: Iterable[str], steps: Mapping[str, Sequence[str]]) -> set[str]:
        found: set[str] = set()
        stack = list(names)
        while stack:
            name = stack.pop()
            if name not in found:
                found.add(name)
                stack.extend(steps.get(name, ()))
        return found.difference(self.sources)

    def _ephemeral(self, name: str) -> bool:
        node = self.nodes.get(name)
        return node is not None and not node.built

    def _built(self, name: str) -> bool:
        node = self.nodes.get(name)
        return node is not None and node.built

    def _through(self, node: Node, found: Mapping[str, Reading]) -> Reading:
        named, star = dict(node.reading.named), set(node.reading.star)
        unknown = {name for name in node.reads if not self._ephemeral(name) and name not in named and name not in star}
        for name in filter(self._ephemeral, node.reads):
            inner, columns, all_columns = found[name], named.pop(name, None), name in star
            star.discard(name)
            for parent in self.upstreams[name]:
                if parent in inner.named:
                    named[parent] = (*named.get(parent, ()), *inner.named[parent])
                elif parent in inner.star and columns is not None:
                    named[parent] = (*named.get(parent, ()), *columns)
                elif parent in inner.star and all_columns:
                    star.add(parent)
                else:
                    unknown.add(parent)
        star -= unknown
        return Reading({name: used for name, used in named.items() if name not in unknown | star}, frozenset(star))


def _unique(things: Iterable[T], what: str) -> dict[str, T]:
    found: dict[str, T] = {}
    for thing in things:
        if thing.id in found:
            raise GraphError(f"two {what}s of the name {thing.id}")
        found[thing.id] = thing
    return found


def _ordered(nodes: Mapping[str, Node], sources: Mapping[str, Source]) -> list[str]:
    place = {name: index for index, name in enumerate(nodes)}
    waiting, readers = dict.fromkeys(nodes, 0), {name: list[str]() for name in nodes}
    for node in nodes.values():
        for parent in dict.fromkeys(node.reads):
            if parent in nodes:
                waiting[node.id] += 1
                readers[parent].append(node.id)
            elif parent not in sources:
                raise GraphError(f"{node.id} reads {parent}, which is neither a node nor a source", about=node.id)
    ready = [place[name] for name, count in waiting.items() if not count]
    names, order = list(nodes), list[str]()
    ready.sort()
    while ready:
        name = names[heappop(ready)]
        order.append(name)
        for reader in readers[name]:
            waiting[reader] -= 1
            if not waiting[reader]:
                heappush(ready, place[reader])
    if len(order) < len(nodes):
        cycle = _cycle(nodes, set(nodes) - set(order))
        raise GraphError(f"the graph has a cycle: {' -> '.join(cycle)}", about=cycle[0])
    return order


def _cycle(nodes: Mapping[str, Node], rest: set[str]) -> list[str]:
    path, seen = [min(rest)], set[str]()
    while path[-1] not in seen:
        seen.add(path[-1])
        path.append(next(parent for parent in nodes[path[-1]].reads if parent in rest))
    return path[path.index(path[-1]) :][::-1]
