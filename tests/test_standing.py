"""What is kept from one look to the next equals a pass over everything, whatever happened in between."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from random import Random
from typing import Any
from unittest.mock import patch

from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st

from sao_events.core import events as e
from sao_events.core import plan
from sao_events.core import standing as standing_module
from sao_events.core.decision import Decision
from sao_events.core.evolve import evolve
from sao_events.core.graph import Graph
from sao_events.core.look import Look
from sao_events.core.nodes import Node, Source, Test
from sao_events.core.policy import Quorum, Settings, read_policy
from sao_events.core.standing import Standing
from sao_events.core.state import World
from sao_events.engine import loop as engine
from sao_events.engine import turns
from sao_events.scenario import parse_scenarios
from tests.histories import OURS, histories
from tests.laws import History
from tests.nightly import NIGHTLY
from tests.record import Record, node

MANY = 20 if NIGHTLY else 1
CALM = [HealthCheck.too_slow, HealthCheck.data_too_large]
PLAIN = Settings(attempts=1)
HOUR = 3600.0
DECIDED = turns._decided


def by_rules(graph: Graph, world: World, settings: Settings, now: float, **more: Any) -> plan.Plan:
    """What a pass over everything gives that takes no short way: each node goes through all rules."""
    with patch.object(Look, "undisturbed", return_value=False):
        return plan.plan(graph, world, settings, now, **more)


class Checked(Standing):
    """Fails the test where it does not give what a pass over everything gives, by the rules and by the short way."""

    def plan(
        self, graph: Graph, world: World, settings: Settings, now: float, claimed: Collection[str] = ()
    ) -> plan.Plan:
        mine = super().plan(graph, world, settings, now, claimed)
        all_of_it = by_rules(graph, world, settings, now, claimed=claimed)
        assert mine == all_of_it == plan.plan(graph, world, settings, now, claimed=claimed)
        assert list(mine.decisions) == list(all_of_it.decisions)
        assert self.wakes == all_of_it.wakes
        return mine


def checked_turn(
    look: Look, nodes: set[str], tests: Iterable[str], planned: Mapping[str, Decision] | None
) -> dict[str, Decision]:
    """What is decided at a turn, held equal to the pass over all that the nodes are built from."""
    whole = by_rules(look.graph, look.world, look.settings, look.now, job=look.job, only=nodes)
    found = DECIDED(look, nodes, tests, planned)
    assert found == {name: whole.decisions[name] for name in found}
    assert found.keys() >= nodes
    return found


@settings(max_examples=100 * MANY, deadline=None, print_blob=True, suppress_health_check=CALM)
@given(histories())
def test_the_engine_decides_as_if_it_looked_at_everything(text: str) -> None:
    note(text)
    with patch.object(engine, "Standing", Checked), patch.object(turns, "_decided", checked_turn):
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


@settings(max_examples=400 * MANY, deadline=None, print_blob=True, suppress_health_check=CALM)
@given(st.integers(0, 2**32))
def test_whatever_is_recorded_it_stands_as_decided_anew(seed: int) -> None:
    chance = Random(seed)
    record, standing = random_record(chance), Checked()
    nodes = [node.id for node in record.graph.nodes.values() if node.built]
    for _ in range(30):
        happen(record, chance, nodes)
        record.at(record.hour + chance.choice((0.0, 0.0, 0.0, 0.0002, 0.1, 0.5, 2.0, -0.7)))
        if chance.random() < 0.7:
            claimed = chance.sample(nodes, chance.choice((0, 0, 0, 1, min(3, len(nodes)))))
            standing.plan(record.graph, record.world, record.settings, record.now, claimed)


def happen(record: Record, chance: Random, nodes: list[str]) -> None:
    """Something is recorded, or the settings or the graph are others."""
    name, tests = chance.choice(nodes), list(record.graph.tests)
    match chance.choice("lllllllbbbbbbbbbbffttttttttdcse"):
        case "l":
            record.land(chance.choice(list(record.graph.sources)))
        case "b":
            run = record.start(name)
            record.hour += chance.choice((0.0, 0.2, 1.5))
            record.add(e.NodeBuilt(run, name, 1.0, same_content=chance.random() < 0.2), e.RunFinished(run, "success"))
        case "f":
            run = record.start(name)
            record.add(chance.choice((e.NodeFailed(run, name), e.BuildInterrupted(run, name), e.EngineStarted())))
        case "t" if tests:
            record.test(chance.choice(tests), chance.choice(("pass", "fail", "fail", "warn")))
        case "d":
            record.drop(name)
        case "c":
            record.clear(*chance.choice(((name,), (name,), ())))
        case "s" if chance.random() < 0.3:
            record.settings = replace(record.settings, attempts=chance.randrange(3))
        case "e" if chance.random() < 0.3:
            adapter = record.graph.adapter
            graph = record.edit(name, f"text {chance.random()}").graph
            record.graph = Graph(graph.nodes.values(), graph.sources.values(), graph.tests.values(), adapter)
        case _:
            pass


def random_record(chance: Random) -> Record:
    """A project of some ten nodes, most of it built, with tests on all kinds of things."""
    kinds = ("table", "table", "incremental", "view", "view", "ephemeral")
    things: list[Node | Source | Test] = [Source(f"s{n}", f"s{n}", empty=chance.random() < 0.2) for n in range(3)]
    for number in range(chance.randrange(3, 12)):
        reads = [thing.id for thing in chance.sample(things[-6:], chance.choice((1, 1, 2, 3)))]
        quorum: Quorum = chance.choice(("any", "any", "all"))
        made = node(f"n{number}", *reads, kind=chance.choice(kinds), every=chance.choice((0, 0, 1, 3)), on=quorum)
        things.append(made)
    names = [thing.id for thing in things]
    on = [tuple(chance.sample(names, chance.choice((1, 1, 2)))) for _ in range(chance.randrange(6))]
    things += [Test(f"t{number}", f"t{number}", reads) for number, reads in enumerate(on)]
    code = chance.choice(("immediate", "after_window"))
    record = Record(*things, node("last", "n0"), attempts=1, backoff=1800.0, code_changes=code)
    other = other_policies(record.graph, chance, chance.random() < 0.5)
    adapter = chance.choice(("duckdb", "postgres"))
    record.graph = Graph(other.nodes.values(), other.sources.values(), other.tests.values(), adapter)
    record.at(1.0).land("s0", "s1", "s2")
    for name in (name for name, it in record.graph.nodes.items() if it.built):
        if chance.random() < 0.95:
            record.build(name)
    return record.at(record.hour + 1.0)


def test_a_failed_test_that_will_run_again_holds_nothing_up() -> None:
    test = Test("t", "t", ("s", "e"))
    late, over_n = node("late", "s", "b"), node("e", "n", kind="ephemeral")
    sources = [Source(name, name) for name in "sab"]
    record = Record(*sources, node("n", "a"), over_n, late, test)
    record.at(1.0).land("s", "a", "b").build().at(2.0).test("t", "fail").land("b")
    standing, asked = Checked(), (record.graph, record.world, record.settings)
    assert standing.plan(*asked, record.now).decisions["late"].waiting_for == ("s",)
    record.land("a")  # what the test looks at is built, and the test runs again, before `late` has its turn
    assert standing.plan(*asked, record.now).nodes == ("n", "late")


def test_one_event_decides_what_it_reaches_and_no_more() -> None:
    things = [Source(f"s{n}", f"s{n}") for n in range(50)]
    tables = [node(f"n{n}", f"s{n}") for n in range(50)]
    readers = [node(f"m{n}", f"n{n}") for n in range(50)]
    record, standing = Record(*things, *tables, *readers), Standing()
    record.at(1.0).land(*(thing.id for thing in things)).build().at(2.0)
    standing.plan(record.graph, record.world, record.settings, record.now)
    record.land("s7")
    with patch.object(standing_module, "take", wraps=plan.take) as taken:
        assert standing.plan(record.graph, record.world, record.settings, record.now).nodes == ("n7", "m7")
        assert [call.args[1] for call in taken.call_args_list] == ["n7", "m7"]
        standing.plan(record.graph, record.world, record.settings, record.now)
        assert taken.call_count == 2


def test_who_does_not_watch_any_more_looks_at_everything() -> None:
    record = Record(Source("s", "s"), node("n", "s"))
    asked = (record.graph, record.world, record.settings)
    first, second = Checked(), Checked()
    for standing in (first, second, first, second):
        record.at(record.hour + 1.0).land("s").build("n").at(record.hour + 1.0).land("s")
        assert standing.plan(*asked, record.now + 1.0).nodes == ("n",)
