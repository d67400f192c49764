"""Early cutoff: whether the content of a node is hashed after a build, so that equal content leaves its readers as
they are (semantics, section 5).

Follows from the graph and from what is on record, so that it is the same after a restart.
"""

from __future__ import annotations

from sao_events.graph import Graph
from sao_events.nodes import Node
from sao_events.plan import data_readers
from sao_events.state import World

LONGEST = 300.0  # seconds that a hash may take where it is asked for always
TURN = 0.5  # seconds: what the readers' having to wait for it costs, a dbt invocation of their own
LEAST = 0.05  # share of builds that may leave equal content, whatever was seen


def hashing(graph: Graph, world: World, name: str) -> float | None:
    """The seconds within which the content of a node is to be hashed when it is built now; None where it is not."""
    node = graph.nodes[name]
    if node.transparent or not node.early_cutoff:
        return None
    return _pays(graph, world, node) if node.early_cutoff == "auto" else LONGEST


def _pays(graph: Graph, world: World, node: Node) -> float | None:
    """By what was measured: the seconds that hashing may take, where it took no more the last time."""
    state = world.node(node.id)
    hashed, built = state.hashed, state.baseline
    if hashed.unhashed and built is not None and graph.fingerprints[node.id] == built.observed.fingerprint:
        return None
    equal = max(LEAST, (hashed.equal + 1) / (hashed.builds + 2))
    limit = equal * sum(seconds_of(world, reader) for reader in data_readers(graph, node.id)) - TURN
    return limit if limit > hashed.seconds else None


def seconds_of(world: World, name: str) -> float:
    """What the last successful build of a node took, in seconds; 0 where there was none."""
    built = world.node(name).baseline
    return built.seconds if built else 0.0
