"""A project of any size, everything in it built once, and a log of any length."""

from __future__ import annotations

import random
from collections.abc import Iterator

from sao_events.core import checks
from sao_events.core import events as e
from sao_events.core.decision import Reason
from sao_events.core.evolve import evolve
from sao_events.core.graph import Graph
from sao_events.core.lineage import Code
from sao_events.core.look import Look
from sao_events.core.nodes import Node, Source, Test
from sao_events.core.plan import attempt
from sao_events.core.policy import Policy, Settings
from sao_events.core.state import World

SETTINGS = Settings(attempts=2)
KINDS = ("view", "table", "table", "incremental", "view", "ephemeral", "table", "table")
HOUR = 3600.0


def project(size: int, seed: int = 1) -> Graph:
    """`size` nodes, one source for twenty of them, in layers of an eighth each; a test on every third node."""
    chance = random.Random(seed)
    sources = [Source(f"raw.{number}", f"raw.{number}") for number in range(max(size // 20, 1))]
    before, layer = [source.id for source in sources], list[str]()
    nodes: list[Node] = []
    for number in range(size):
        depth = number * len(KINDS) // size
        if number and depth != (number - 1) * len(KINDS) // size:
            before, layer = layer, []
        reads = tuple(dict.fromkeys(_near(before, number, chance) for _ in range(chance.choice((1, 1, 2, 3)))))
        window = chance.choice((0.0, 0.0, HOUR, 4 * HOUR))
        policy = Policy(window, "all" if chance.random() < 0.1 else "any")
        name = f"model.{number}"
        nodes.append(Node(name, name, KINDS[depth], reads, Code(f"text {number}"), policy))
        layer.append(name)
    tests = [Test(f"test.{number}", f"test.{number}", (f"model.{number}",)) for number in range(0, size, 3)]
    return Graph(nodes, sources, tests)


def _near(names: list[str], number: int, chance: random.Random) -> str:
    """One of `names`, mostly from the same part of the project."""
    place = number % len(names) if chance.random() < 0.9 else chance.randrange(len(names))
    return names[(place + chance.randrange(3)) % len(names)]


def built(graph: Graph) -> World:
    """The state after a first build of everything at the instant 0, all tests passed."""
    world = World()
    names = {name: "first_build" for name, node in graph.nodes.items() if node.built}
    evolve(world, e.Recorded(1, 0.0, e.RunStarted("r", names)))
    look = Look(graph, world, SETTINGS, 0.0)
    for name in names:
        begun = attempt(look, name, "r", Reason.first_build, 0.0)
        evolve(world, e.Recorded(2, 0.0, e.BuildStarted("r", name, begun.reason, 0.0, begun.observed, begun.code)))
        evolve(world, e.Recorded(3, 0.0, e.NodeBuilt("r", name, 1.0)))
    for test in graph.tests.values():
        seen, text = checks.positions(graph, world, test), checks.definition(graph, test)
        evolve(world, e.Recorded(4, 0.0, e.TestFinished("r", test.id, "pass", text, seen)))
    return evolve(world, e.Recorded(5, 0.0, e.RunFinished("r", "success")))


def history(graph: Graph, length: int) -> Iterator[e.Recorded]:
    """A log of `length` events: data lands, and a run of five nodes comes of it."""
    names, sources = [name for name, node in graph.nodes.items() if node.built], list(graph.sources)
    world = World()
    look, chance, seq = Look(graph, world, SETTINGS, 0.0), random.Random(1), 0
    while seq < length:
        run = f"r{seq}"
        some = [names[(seq + k) % len(names)] for k in range(5)]
        happened: list[e.Event] = [e.DataLanded(chance.choice(sources)), e.RunStarted(run, dict.fromkeys(some, "x"))]
        for name in some:
            begun = attempt(look, name, run, Reason.new_data, float(seq))
            happened.append(e.BuildStarted(run, name, begun.reason, begun.clock, begun.observed, begun.code))
            happened.append(e.NodeBuilt(run, name, 1.0))
        for event in (*happened, e.RunFinished(run, "success")):
            seq += 1
            yield e.Recorded(seq, float(seq), event)
