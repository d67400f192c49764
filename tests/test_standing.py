"""What is kept from one look to the next equals a pass over everything, whatever happened in between."""

from __future__ import annotations

import os
from collections.abc import Collection
from dataclasses import replace
from random import Random
from unittest.mock import patch

from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st

from sao_events import engine, plan, turns
from sao_events.decide import Look
from sao_events.evolve import evolve
from sao_events.graph import Graph
from sao_events.nodes import Node
from sao_events.policy import Settings, read_policy
from sao_events.scenario import parse_scenarios
from sao_events.standing import Standing
from sao_events.state import Job, World
from tests.histories import histories
from tests.laws import History

MANY = 20 if os.environ.get("SAO_NIGHTLY") else 1
CALM = [HealthCheck.too_slow, HealthCheck.data_too_large]
PLAIN = Settings(attempts=1)
HOUR = 3600.0
# What a node may declare beside dbt's own window; the histories begin on a Monday and last eight hours.
OURS: tuple[dict[str, object], ...] = (
    {},
    {},
    {"max_staleness": "1h"},
    {"max_staleness": "3h"},
    {"quiet": [{"between": "01:10-03:00"}]},
    {"quiet": [{"between": "02:05-06:00"}], "timezone": "Europe/Berlin"},
    {"window": [{"between": "00:00-04:07", "every": "2h"}, {"every": "10m"}]},
    {"fresh_by": "07:00"},
    {"fresh_by": "04:30", "timezone": "Europe/Berlin", "max_staleness": "2h"},
)


class Checked(Standing):
    """Fails the test where it does not give what a pass over everything gives."""

    def plan(
        self, graph: Graph, world: World, settings: Settings, now: float, claimed: Collection[str] = ()
    ) -> plan.Plan:
        mine, all_of_it = super().plan(graph, world, settings, now, claimed), None
        all_of_it = plan.plan(graph, world, settings, now, claimed=claimed)
        assert mine == all_of_it
        assert list(mine.decisions) == list(all_of_it.decisions)
        assert self.wakes == all_of_it.wakes
        return mine


def checked_part(
    graph: Graph, world: World, settings: Settings, now: float, only: Collection[str], job: Job | None = None
) -> Look:
    """`plan.part`, held equal to the pass over all that `only` is built from."""
    look = plan.part(graph, world, settings, now, only, job)
    whole = plan.plan(graph, world, settings, now, job=job, only=only)
    assert look.decisions == {name: whole.decisions[name] for name in look.decisions}
    assert tuple(look.assumed) == whole.nodes
    assert look.decisions.keys() >= set(only)
    return look


@settings(max_examples=100 * MANY, deadline=None, print_blob=True, suppress_health_check=CALM)
@given(histories())
def test_the_engine_decides_as_if_it_looked_at_everything(text: str) -> None:
    note(text)
    with patch.object(engine, "Standing", Checked), patch.object(turns, "part", checked_part):
        [scenario] = parse_scenarios(text, "random")
        it = History(scenario)
        it.run()
        it.rest()
        it.job()


@settings(max_examples=150 * MANY, deadline=None, print_blob=True, suppress_health_check=CALM)
@given(histories(), st.integers(0, 2**32), st.booleans())
def test_after_every_event_it_stands_as_decided_anew(text: str, seed: int, lazy: bool) -> None:
    note(text)
    [scenario] = parse_scenarios(text, "random")
    it, chance = History(scenario), Random(seed)
    it.run()
    it.rest()
    graphs = {name: other_policies(graph, Random(seed), lazy) for name, graph in it.graphs().items()}
    standing, world, now = Checked(), World(), 0.0
    for recorded in it.log():
        evolve(world, recorded)
        if chance.random() < 0.8 and world.project is not None:
            graph = graphs[world.project]
            now = max(now, recorded.at + chance.choice((0.0, 0.0, 0.5, 59.0, 420.0, HOUR)))
            claimed = set(chance.sample(list(graph.nodes), chance.choice((0, 0, 0, min(1, len(graph.nodes))))))
            standing.plan(graph, world, scenario.settings, now, claimed)
    for seconds in (0.1, 300.0, HOUR, 12 * HOUR, 48 * HOUR):  # and when nothing happens but time
        now += seconds
        standing.plan(graphs[str(world.project)], world, scenario.settings, now)


def other_policies(graph: Graph, chance: Random, lazy: bool) -> Graph:
    """The graph with calendars, deadlines and greatest ages, and with laziness in more places."""

    def changed(node: Node) -> Node:
        ours, _ = read_policy({"meta": {"sao": chance.choice(OURS)}}, node=node.id)
        policy = replace(node.policy, max_staleness=ours.max_staleness, calendar=ours.calendar)
        return replace(node, policy=replace(policy, lazy=policy.lazy or (lazy and chance.random() < 0.4)))

    nodes = [changed(node) for node in graph.nodes.values()]
    return Graph(nodes, graph.sources.values(), graph.tests.values(), graph.adapter)
