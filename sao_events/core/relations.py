"""Relations that builds have left behind: of nodes that are in the project no more, or were moved or renamed there.

What was built is on record by its relation (`World.relations`). What the project in force names, as a node or as a
source, is never counted as left; names are compared without regard to case and quotes, so that in doubt one stays.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from sao_events.core.events import RelationsKnown
from sao_events.core.graph import Graph
from sao_events.core.state import Relation, World


def plain_name(relation: str) -> str:
    """The name of a relation without quotes, in small letters."""
    return relation.translate(str.maketrans("", "", '"`[]')).lower()


def named(graph: Graph) -> set[str]:
    """The plain names of all relations that a graph builds or reads."""
    read = (source.relation for source in graph.sources.values() if source.relation)
    return {plain_name(relation) for relation in (*made_by(graph), *read)}


def made_by(graph: Graph) -> tuple[str, ...]:
    """The relations of the nodes of a graph."""
    return tuple(node.relation for node in graph.nodes.values() if node.built and node.relation)


def left(before: Iterable[str], now: Graph) -> tuple[str, ...]:
    """Those of the relations `before` that the graph does not have."""
    there = named(now)
    return tuple(sorted(name for name in before if plain_name(name) not in there))


def unknown(world: World) -> bool:
    """Whether there are builds on record, and of none what it wrote: a release recorded them that did not say so."""
    return not world.relations and any(state.baseline is not None for state in world.nodes.values())


def recalled(world: World, loads: Sequence[tuple[float, str | None, Graph]]) -> RelationsKnown:
    """What the builds on record have written, by the projects that came into force: when, as which commit, in order."""
    found: dict[str, Mapping[str, Any]] = {}
    for name, state in world.nodes.items():
        if state.baseline is None:
            continue
        place = bisect_right(loads, state.baseline.started, key=lambda load: load[0])
        node = loads[place - 1][2].nodes.get(name) if place else None
        if node is None or not node.relation or not node.built:
            continue
        without = (load for load in loads[place:] if left([node.relation], load[2]))
        gone = next(without, None) if left([node.relation], loads[-1][2]) else None
        since = {"left": gone[0], "commit": gone[1]} if gone else {}
        found[node.relation] = {"node": name, "kind": node.kind, "built": state.baseline.ended, **since}
    return RelationsKnown(found)


def behind(graph: Graph, world: World) -> dict[str, Relation]:
    """What was built and is not in the project: by relation, with what is on record of it."""
    there = named(graph)
    return {name: it for name, it in world.relations.items() if plain_name(name) not in there}


def renamed(graph: Graph, world: World, relation: Relation) -> str | None:
    """The node that has taken the place: the same one under another relation, or, where it has left the project, the
    only one of the same kind whose SQL is that which it was built with, and which was first built after it.
    """
    if relation.node in graph.nodes:
        return relation.node if graph.nodes[relation.node].built else None
    found = list(_alike(graph, world, relation))
    return found[0] if len(found) == 1 else None


def _alike(graph: Graph, world: World, relation: Relation) -> Iterator[str]:
    state = world.nodes.get(relation.node)
    parts = state.baseline.observed.parts if state is not None and state.baseline is not None else {}
    known = {name: parts[name] for name in ("compiled", "sql") if name in parts}
    if not known:
        return
    for node in graph.nodes.values():
        if node.kind == relation.kind and node.relation and any(node.on_record.get(n) == t for n, t in known.items()):
            there = world.relations.get(node.relation)
            if there is None or relation.left is None or there.built >= relation.left:
                yield node.id


def left_objects(graph: Graph, world: World) -> list[dict[str, Any]]:
    """`behind` as values, the last built first; instants are epoch seconds."""
    found: Iterable[tuple[str, Relation]] = behind(graph, world).items()
    return [
        {
            "relation": name,
            "node": it.node,
            "kind": it.kind,
            "built_at": it.built,
            "left_at": it.left,
            "commit": it.commit,
            "now": renamed(graph, world, it),
        }
        for name, it in sorted(found, key=lambda item: (-item[1].built, item[0]))
    ]
