"""The same laws while it runs: after every single thing that happens, and just before the next one is due, not only
at rest. One machine drives the real loop under a virtual clock over a warehouse that is really filled.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace

from hypothesis import HealthCheck, note, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from sao_events.core import events as e
from sao_events.core.decision import Action
from sao_events.core.evolve import evolve
from sao_events.core.plan import plan
from sao_events.core.state import World
from sao_events.scenario import parse_scenarios
from sao_events.simulate import Simulation
from sao_events.store.checkpoint import world_from_bytes, world_to_bytes
from tests.histories import OURS, histories
from tests.laws import History, LogReader, decided, held_in_a_view, sound
from tests.nightly import NIGHTLY

MANY = 20 if NIGHTLY else 1
CALM = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]
PLACE = st.integers(0, 2**16)  # taken modulo how many there are: shrinks to the first
MINUTES = st.sampled_from((0, 1, 3, 5, 30, 60, 61, 180, 600))


class Live(RuleBasedStateMachine):
    """Anything happens at any time. `settling`: until when an event may have to settle."""

    @initialize(text=histories(), ours=st.lists(st.sampled_from(OURS), min_size=1, max_size=8))
    def begin(self, text: str, ours: list[dict[str, object]]) -> None:
        """A project without a history, its nodes with calendars and greatest ages of our own."""
        document = json.loads(text) | {"events": []}
        models = [block for block in document["nodes"].values() if block["kind"] != "source"]
        for number, block in enumerate(models):
            block["config"]["meta"] = {"sao": ours[number % len(ours)]}
        note(json.dumps(document))
        [scenario] = parse_scenarios(json.dumps(document), "random")
        self.it = History(scenario)
        self.settings = scenario.settings
        self.world, self.seen, self.settling = World(), 0, scenario.start + self.settings.settle
        self.reader = LogReader(self.it.graphs(), self.settings)
        self.models = sorted(scenario.nodes)
        self.happen(lambda: Simulation._on_load(self.it, "project", {}))

    # What happens

    def happen(self, what: Callable[[], None]) -> None:
        """It happens, and the loop does what is due."""
        self.it.engine.take_reports()
        before = self.it.store.last()
        what()
        if any(not isinstance(item.event, e.JobRequested) for item in self.it.store.read(before)):
            self.settling = self.it.clock.now() + self.settings.settle
        self.it.engine.step()

    def one(self, names: list[str], place: int) -> str:
        return names[place % len(names)]

    @rule(place=PLACE, load=st.sampled_from((None, "one", "two")), ago=MINUTES)
    def land(self, place: int, load: str | None, ago: int) -> None:
        source = self.one(sorted(self.it.graph.sources), place)
        at = self.it.clock.now() - 60.0 * ago if ago else None
        self.happen(lambda: self.it._append(e.DataLanded(source, load, at)))

    @rule(place=PLACE, times=st.integers(2, 8), minutes=st.sampled_from((7, 30, 61)))
    def keep_landing(self, place: int, times: int, minutes: int) -> None:
        """Most of what happens in a day: one source has new data again and again."""
        for _ in range(times):
            self.land(place, None, 0)
            self.time_passes(minutes)

    @rule(place=PLACE, change=st.sampled_from(("sql", "sql", "cosmetic", "config", "add_column", "revert", "volatile")))
    def edit(self, place: int, change: str) -> None:
        values = {"change": change, **({"column": "note"} if change == "add_column" else {})}
        self.happen(lambda: self.it._on_edit(self.one(self.models, place), values))

    @rule(place=PLACE, times=st.integers(1, 2))
    def fail(self, place: int, times: int) -> None:
        self.it.builder.fails[self.one(self.models, place)] += times

    @precondition(lambda self: self.it.graph.tests)
    @rule(place=PLACE, times=st.integers(1, 2))
    def fail_test(self, place: int, times: int) -> None:
        self.it._on_fail_test(self.one(sorted(self.it.graph.tests), place), {"severity": "error", "times": times})

    @rule(place=PLACE)
    def drop(self, place: int) -> None:
        self.happen(lambda: self.it._append(e.RelationDropped(self.one(self.models, place))))

    @rule(place=PLACE)
    def clear(self, place: int) -> None:
        self.happen(lambda: self.it._append(e.StateCleared((self.one(self.models, place),))))

    @rule(places=st.lists(PLACE, max_size=2), state_aware=st.booleans())
    def job(self, places: list[int], state_aware: bool) -> None:
        select = tuple(dict.fromkeys(self.one(self.models, place) for place in places)) or None
        self.happen(lambda: self.it._on_job("job", {"select": select, "state_aware": state_aware}))

    @rule(written=st.booleans())
    def kill(self, written: bool) -> None:
        """`written`: what was being built had reached the warehouse, and nobody has recorded it."""

        def killed() -> None:
            self.it.warehouse.lose(written)
            self.it._on_crash("engine", {})

        self.happen(killed)

    @precondition(lambda self: any(isinstance(item.event, e.DataLanded) for item in self.it.log()))
    @rule(place=PLACE)
    def tell_again(self, place: int) -> None:
        """A load that is on record is told again, whenever that is."""
        loads = [item for item in self.it.log() if isinstance(item.event, e.DataLanded)]
        named = [item for item in loads if isinstance(item.event, e.DataLanded) and item.event.load_id]
        chosen = named if named and place % 2 == 0 else loads
        told = chosen[place // 2 % len(chosen)]
        assert isinstance(told.event, e.DataLanded)
        again = told.event if told.event.load_id else replace(told.event, loaded_at=told.event.loaded_at or told.at)
        sources, before = dict(self.it.engine.world.sources), self.it.decisions()
        self.happen(lambda: self.it._append(again))
        self.catch_up()
        assert self.it.engine.world.sources == sources
        if not self.it.engine.busy:
            assert self.it.decisions() == before

    @rule(minutes=MINUTES)
    def time_passes(self, minutes: int) -> None:
        """From one thing that is due to the next; in between nothing may become due."""
        until = self.it.clock.now() + 60.0 * minutes
        for _ in range(3000):
            heads = [at for at in (self.it.engine.step(), self.it.builder.next()) if at is not None]
            now = min([until, *heads])
            self.on_time(now - 0.001)
            self.it.clock.set(max(now, self.it.clock.now()))
            self.it.engine.take_reports()
            if now >= until:
                self.it.engine.step()
                return
        raise AssertionError("the loop does not come to rest")

    # What must hold

    def on_time(self, until: float) -> None:
        """Whoever sleeps to then misses nothing: no node becomes due before."""
        it, engine = self.it, self.it.engine
        now = it.clock.now()
        if until <= now or now < self.settling or self.settings.trigger != "continuous":
            return
        if len(engine.runs) >= self.settings.max_concurrent_runs:
            return
        claimed = {name for run in engine.runs.values() for name in (*run.unfinished(), *run.untested(it.graph))}
        for at in (now, until):
            due = plan(it.graph, engine.world, self.settings, at, claimed=claimed).nodes
            assert not due, f"{due} are due by {at}, and nobody wakes before {until}"

    def catch_up(self) -> None:
        """Every new event obeys the laws of the log, and leaves the state that the loop has."""
        self.reader.graphs = self.it.graphs()
        for recorded in self.it.store.read(self.seen):
            self.seen = recorded.seq
            evolve(self.world, recorded)
            self.reader.read(recorded)

    @invariant()
    def replay_equals_live(self) -> None:
        self.catch_up()
        assert self.world == self.it.engine.world
        assert world_from_bytes(world_to_bytes(self.world)) == self.world

    @invariant()
    def every_node_has_a_decision_and_what_is_reused_holds(self) -> None:
        """What is reused at any moment holds what a build now would make of what stands upstream, lost builds apart:
        what they left there is on nobody's record before it is built again.
        """
        it, warehouse = self.it, self.it.warehouse
        decided(it.graph, it.engine.world, self.settings, it.clock.now())
        warehouse.graph = it.graph
        for name, decision in it.decisions().items():
            if decision.action is not Action.reuse or not it.graph.nodes[name].built or name in warehouse.started:
                continue
            assert warehouse.exists(name), f"{name} is reused and not there"
            feeds = [it.engine.world.node(up) for up in it.graph.feeds[name] if up in it.graph.nodes]
            lost = any(state.interrupted or state.doubtful for state in feeds)
            if not lost and all(map(warehouse.readable, it.graph.upstreams[name])):
                same = warehouse.read(name) == warehouse.made_now(name)
                assert same or held_in_a_view(it.graph, warehouse, name), f"{name} is reused, but a build changes it"

    def teardown(self) -> None:
        """Once nothing is built for its age alone it comes to rest, and then the whole of it is sound."""
        if not hasattr(self, "it"):
            return
        for block in self.it.scenario.nodes.values():
            block["config"].pop("meta")
        self.happen(self.it._load)
        self.it.rest()
        if self.settings.trigger == "continuous":
            sound(self.it)
        self.it.job()
        sound(self.it)
        self.replay_equals_live()


TestLive = Live.TestCase
TestLive.settings = settings(
    max_examples=40 * MANY, stateful_step_count=25, deadline=None, print_blob=True, suppress_health_check=CALM
)
