"""What the record says of the relations in the warehouse: who wrote them, which are gone, which were seen again.

A part of the fold (`evolve`), in a module of its own.
"""

from __future__ import annotations

from sao_events.core import events as e
from sao_events.core.events import Recorded
from sao_events.core.records import replace
from sao_events.core.state import Attempt, Hashed, Relation, World


def relation_dropped(world: World, recorded: Recorded, event: e.RelationDropped) -> None:
    """The relation of a node is not there, nor what was known of its content."""
    drop(world, event.node)
    state = world.nodes[event.node]
    world.nodes[event.node] = replace(state, hashed=unknown(state.hashed))


def relations_seen(world: World, recorded: Recorded, event: e.RelationsSeen) -> None:
    """What was built because it was missing is there."""
    for name in event.nodes:
        if name in world.nodes:
            state = world.nodes[name]
            world.nodes[name] = replace(state, seen=state.builds)


def relations_left(world: World, recorded: Recorded, event: e.ProjectLoaded) -> None:
    """Relations are in the project no more."""
    for name in event.left:
        if name in world.relations:
            world.relations[name] = replace(world.relations[name], left=recorded.at, commit=event.commit)


def relations_known(world: World, recorded: Recorded, event: e.RelationsKnown) -> None:
    """Relations that builds have written before it was recorded of each."""
    for name, known in event.relations.items():
        world.relations.setdefault(name, Relation(**known))


def relations_cleaned(world: World, recorded: Recorded, event: e.RelationsCleaned) -> None:
    """Relations were dropped on request."""
    for name in event.relations:
        relation = world.relations.pop(name, None)
        if relation is not None:
            _gone(world, relation)


def clean_asked(world: World, recorded: Recorded, event: e.CleanAsked) -> None:
    """Somebody waits for what is left behind to be looked at or dropped."""
    world.cleaning[event.request] = event.relations


def clean_answered(world: World, recorded: Recorded, event: e.CleanAnswered) -> None:
    """Nobody waits any more."""
    world.cleaning.pop(event.request, None)


def cleaning_lost(world: World) -> None:
    """Whoever was to drop relations has died over it: they may be gone without that being on record. They are on record
    still, to be looked at again; should their nodes come back, they are built.
    """
    for name in sorted({name for relations in world.cleaning.values() for name in relations}):
        if name in world.relations:
            _gone(world, world.relations[name])
    world.cleaning.clear()


def wrote(world: World, node: str, attempt: Attempt, at: float) -> None:
    """A build has written its relation."""
    may_have_written(world, node, attempt)
    if attempt.relation is not None:
        world.relations[attempt.relation] = Relation(node, attempt.kind, at)


def may_have_written(world: World, node: str, attempt: Attempt) -> None:
    """A build has ended, well or not; where another node had built its relation, the rows of that are gone, or may be:
    dbt puts the new relation in its place before hooks and grants, and before anybody can record it.
    """
    before = world.relations.get(attempt.relation) if attempt.relation is not None else None
    if before is not None and before.node != node:
        _gone(world, before)


def drop(world: World, node: str) -> None:
    """Count one more loss of the relation of a node."""
    state = world.node(node)
    world.nodes[node] = replace(state, drops=state.drops + 1)


def unknown(known: Hashed) -> Hashed:
    """What is left to be known of a content that may have become another."""
    return known if known.content is None else replace(known, content=None)


def _gone(world: World, relation: Relation) -> None:
    """What the node had built is not there any more, unless it has built elsewhere since."""
    if not any(other.node == relation.node and other.built > relation.built for other in world.relations.values()):
        drop(world, relation.node)
        state = world.nodes[relation.node]
        world.nodes[relation.node] = replace(state, hashed=unknown(state.hashed))
