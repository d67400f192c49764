"""Tests: which results stand, which must be run again (semantics, section 7).

The position of what a test reads is the version of a source and the number of builds of a node; a view adds what lies
behind it. A result stands while the test's definition and every position are as they were when it last ran.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Container

from sao_events.core.graph import Graph
from sao_events.core.nodes import Test
from sao_events.core.policy import Settings
from sao_events.core.state import Job, World

FAILED = frozenset({"fail", "error"})


def definition(graph: Graph, test: Test) -> str:
    """Identity of what the test would run: its own text and the ephemeral models folded into it."""
    return graph.definitions[test.id]


def positions(graph: Graph, world: World, test: Test) -> dict[str, int]:
    """Where everything stands that the test looks at, now."""
    return {name: position(graph, world, name) for name in looked_at(graph, test)}


def position(graph: Graph, world: World, name: str) -> int:
    """Where a source or node stands: its version, or how often it was built."""
    return world.source(name).version if name in graph.sources else world.node(name).builds


def looked_at(graph: Graph, test: Test) -> tuple[str, ...]:
    """What the test reads, and what lies behind the views and ephemeral models among it."""
    return graph.tested[test.id]


def stands(graph: Graph, world: World, test: Test) -> bool:
    """Whether the last result of the test, a failure or warning included, is still its result."""
    state, seen = world.tests.get(test.id), looked_at(graph, test)
    if state is None or state.definition != definition(graph, test) or len(state.seen) != len(seen):
        return False
    for name in seen:  # noqa: SIM110 - no generator: a pass over a large project asks this of each test
        if state.seen.get(name) != position(graph, world, name):
            return False
    return True


def asked_anyway(test: Test, settings: Settings, job: Job | None) -> bool:
    """Whether the job is to run the test once even where its result stands."""
    return job is not None and not (test.reuse and settings.reuse_tests and job.state_aware)


def outdated(graph: Graph, world: World, test: Test) -> bool:
    """Whether the result fell behind by a build, a new definition, or never having run; newer data in sources alone
    is not enough.
    """
    state = world.tests.get(test.id)
    if state is None or state.definition != definition(graph, test):
        return True
    now = positions(graph, world, test)
    return any(state.seen.get(name) != position for name, position in now.items() if name in graph.nodes)


def failing(
    graph: Graph, world: World, name: str, among: Container[str] | None, rebuilt: Callable[[str], bool]
) -> bool:
    """Whether a standing result of a test on the source or ephemeral model `name` is a failure of severity error: of
    a test `among` these, where they are given, over nothing that is `rebuilt`. A test that reads a node as well failed
    on that node.
    """
    for test in graph.tests_of_unbuilt.get(name, ()):
        state = world.tests.get(test)
        if state is None or state.status not in FAILED or (among is not None and test not in among):
            continue
        again = any(rebuilt(seen) for seen in looked_at(graph, graph.tests[test]))
        if not again and stands(graph, world, graph.tests[test]):
            return True
    return False


def blamed(graph: Graph, test: Test, built: Collection[str]) -> tuple[str, ...]:
    """The nodes that count as failed when the test fails: those it reads that its run has built, otherwise all it
    reads.
    """
    nodes = [name for name in test.reads if name in graph.nodes and graph.nodes[name].built]
    return tuple(name for name in nodes if name in built) or tuple(nodes)
