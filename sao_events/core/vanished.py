"""Which relations must be in the warehouse, and what follows where a look finds that they are not (rule 3).

A view whose own relation is there stays as it is, whatever it reads: what vanishes below it is built again, and it
shows that. Who reads a vanished model waits for it.
"""

from __future__ import annotations

from collections.abc import Mapping

from sao_events.core.decision import Reason
from sao_events.core.events import Event, RelationDropped, RelationsSeen
from sao_events.core.graph import Graph
from sao_events.core.state import World


def expected(graph: Graph, world: World) -> dict[str, str]:
    """The nodes that have a relation in the warehouse by the record, each with its name as dbt writes it.

    Nothing is said of a node that a run has before it, of the views that may fall with one, and of one whose code has
    changed since it was built: its relation may be another one.
    """
    taken = {name for run in world.runs.values() for name in run.nodes}
    taken |= {view for name in taken for view in graph.falling.get(name, ())}
    found: dict[str, str] = {}
    for name, node in graph.nodes.items():
        state = world.nodes.get(name)
        if state is None or state.baseline is None or state.running or state.dropped or name in taken:
            continue
        if not node.built or node.relation is None or name.startswith("function."):
            continue
        if state.baseline.observed.fingerprint == graph.fingerprints[name]:
            found[name] = node.relation
    return found


def judged(graph: Graph, before: World, now: World, there: Mapping[str, bool]) -> list[Event]:
    """What a look shows that began at the record `before` and ended at `now`: `there` says of relations whether they
    are. Of a node about which anything was recorded meanwhile nothing is concluded.

    A node that was built because its relation was missing, and has not been seen since, is not built again for it: what
    its build makes is then not what is looked for.
    """
    old, events, seen = expected(graph, before), list[Event](), list[str]()
    for name, relation in expected(graph, now).items():
        state, is_there = now.nodes[name], there.get(relation)
        if is_there is None or name not in old or before.nodes[name] != state or state.baseline is None:
            continue
        unsure = state.baseline.reason == Reason.relation_missing and state.seen != state.builds
        if is_there and unsure:
            seen.append(name)
        elif not is_there and not unsure:
            events.append(RelationDropped(name))
    return [*([RelationsSeen(tuple(seen))] if seen else []), *events]
