"""Early cutoff: whether the content of a node is hashed after a build, so that equal content leaves its readers as
they are (semantics, section 5).

Follows from the graph and from what is on record, so that it is the same after a restart.
"""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Iterable

from sao_events.core.evolve import succeeded
from sao_events.core.graph import Graph
from sao_events.core.look import Look
from sao_events.core.nodes import Node
from sao_events.core.plan import data_readers, part
from sao_events.core.policy import Settings
from sao_events.core.records import replace
from sao_events.core.state import Job, World

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


def spared(
    graph: Graph, world: World, settings: Settings, now: float, name: str, job: Job | None = None
) -> dict[str, float]:
    """The nodes that would be built now, had the build of `name` that ends now not left equal content, with the seconds
    that their last builds took. A node's window counts from where it would have been built the last time.
    """
    below = _below(graph, name)
    built = [_built(graph, world, settings, now, name, job, below, same) for same in (True, False)]
    return {reader: seconds_of(world, reader) for reader in graph.sort(built[1] - built[0])}


def _below(graph: Graph, name: str) -> set[str]:
    """All that reads the node, at any distance."""
    found, stack = set[str](), [name]
    while stack:
        fresh = [reader for reader in graph.readers[stack.pop()] if reader not in found]
        found.update(fresh)
        stack.extend(fresh)
    return found


def _built(
    graph: Graph,
    world: World,
    settings: Settings,
    now: float,
    name: str,
    job: Job | None,
    below: Iterable[str],
    same: bool,
) -> set[str]:
    """What would be built now of `below`, once the build of `name` has left equal content or not."""
    look, state = Look(graph, world, settings, now, job), world.node(name)
    if state.running is None:
        return set()
    done = {name: succeeded(state, state.running, now, 0.0, same)}
    for reader in below:
        known = world.node(reader)
        if known.baseline is not None and known.spared is not None and known.spared > known.baseline.clock:
            done[reader] = replace(known, baseline=replace(known.baseline, clock=known.spared))
    look.states = ChainMap(done, world.nodes)
    part(look, [reader for reader in below if world.node(reader).running is None])
    return set(look.assumed)
