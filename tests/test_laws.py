"""The laws of semantics section 8 and of the log, over random projects and histories.

| law | held by |
|---|---|
| never early: windows, calendars, `after_window`, retries | `laws.LogReader`, here and in `test_laws_live` |
| never two builds of a node at once | `laws.LogReader`, `laws.WarehouseBuilder` |
| no accepted change lost | `laws.sound` at rest; `test_laws_live` after everything that happens |
| all that pends is built in time or has a reason | `laws.sound` at rest; `test_laws_live.on_time` |
| replay equals live | `test_the_log_is_the_truth`, `test_laws_live`, `test_state`, `test_standing` |
| what is told again changes nothing | `test_a_load_told_again...`, `test_laws_live`, `test_state`, `store_contract` |
| it comes to rest | `History.rest` in both |
| `settle` delays what an event asks for, by no more, and nothing else | `test_a_decision_waits_until...` |
| in pieces of several nodes, as dbt gets them | `test_in_pieces_too...` |
| crashes at every append | `test_killed_at_any_append_it_comes_to_rest` |

Every history is a scenario: what hypothesis prints can be saved as a file and run with `sao-events simulate`. The
quick profile is for every change; `SAO_NIGHTLY=1` takes twenty times as many.
"""

from __future__ import annotations

import json
from copy import deepcopy
from dataclasses import replace

from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st

from sao_events.core import events as e
from sao_events.core.evolve import evolve
from sao_events.core.plan import plan
from sao_events.core.state import World
from sao_events.core.stored import event_from_json, event_to_json
from sao_events.ports import Draft
from sao_events.scenario import parse_scenarios
from sao_events.store.checkpoint import world_from_bytes, world_to_bytes
from sao_events.yamltext import Word
from tests.histories import histories
from tests.laws import History, decided, lawful, sound
from tests.nightly import NIGHTLY
from tests.pieces import InPieces

MANY = 20 if NIGHTLY else 1
CALM = [HealthCheck.too_slow, HealthCheck.data_too_large]


def quick(examples: int) -> settings:
    return settings(max_examples=examples * MANY, deadline=None, print_blob=True, suppress_health_check=CALM)


def history(text: str) -> History:
    [scenario] = parse_scenarios(text, "random")
    return History(scenario)


@quick(150)
@given(histories())
def test_at_rest_the_warehouse_is_sound(text: str) -> None:
    note(text)
    it = history(text)
    it.run()
    it.rest()
    if it.scenario.settings.trigger == "continuous":
        sound(it)
    it.job()
    sound(it)
    lawful(it.log(), it.graphs(), it.scenario.settings)


@quick(80)
@given(histories())
def test_in_pieces_too_and_what_dbt_skips_is_no_failure_of_dbt(text: str) -> None:
    document = json.loads(text)
    for block in document["tests"].values():
        if len(block["on"]) == 1 and document["nodes"][block["on"][0]]["kind"] in ("table", "incremental", "view"):
            block["kind"] = "unit"
    note(json.dumps(document))
    [scenario] = parse_scenarios(json.dumps(document), "random")
    it = InPieces(scenario)
    it.run()
    it.rest()
    if scenario.settings.trigger == "continuous":
        sound(it)
    it.job()
    sound(it)
    ends = [recorded.event for recorded in it.log() if isinstance(recorded.event, e.RunFinished)]
    assert "error" not in {end.status for end in ends}
    assert not it.engine.world.jobs


@quick(60)
@given(histories(), st.lists(st.floats(0, 1), min_size=1, max_size=3), st.booleans(), st.booleans())
def test_killed_at_any_append_it_comes_to_rest(text: str, places: list[float], written: bool, reverted: bool) -> None:
    note(text)
    whole = history(text)
    whole.run()
    log = whole.log()
    for place in places:
        length = 2 + round(place * (len(log) - 2))
        it = whole.from_prefix(length, written, reverted)
        it.rest()
        if it.scenario.settings.trigger == "continuous":
            sound(it)
        it.job()
        sound(it)
        lawful(it.log(), it.graphs(), it.scenario.settings)
        assert not it.engine.world.jobs


def settled(landings: list[int], settle: int, window: int) -> list[int]:
    """The minutes of the builds of a table that lands ask for, by the words of the contract: each event asks for a
    decision that much later, which sees all that is there by then; the end of a window is not delayed.
    """
    builds = [settle]
    for decision in sorted(landing + settle for landing in landings):
        if any(builds[-1] < landing <= decision for landing in landings):
            builds.append(max(decision, builds[-1] + window))
    return builds


@quick(60)
@given(st.lists(st.integers(0, 90), max_size=12), st.sampled_from((0, 1, 3, 20)), st.sampled_from((0, 1, 10, 60)))
def test_a_decision_waits_until_an_event_has_settled_and_no_longer(
    landings: list[int], settle: int, window: int
) -> None:
    config = {"freshness": {"build_after": {"count": window, "period": "minute"}}} if window else {}
    document = {
        "scenario": "settles",
        "settings": {"settle": f"{settle}m"},
        "nodes": {"raw": {"kind": "source"}, "m": {"kind": "table", "reads": ["raw"], "config": config}},
        "events": [{"at": f"+{at}m", "land": "raw"} for at in landings],
        "expect": {"until": "+1d"},
    }
    it = history(json.dumps(document))
    builds = [(at - it.scenario.start) / 60 for at, _, _ in it.run().builds]
    assert builds == settled(landings, settle, window)


@quick(60)
@given(histories(), st.floats(0, 1))
def test_the_log_is_the_truth(text: str, place: float) -> None:
    note(text)
    it = history(text)
    it.run()
    log = it.log()
    cut = round(place * len(log))
    world = deepcopy(folded(log[:cut]))
    again = world_from_bytes(world_to_bytes(world))
    assert again == world
    for start in (world, again):
        for recorded in log[cut:]:
            evolve(start, recorded)
        assert start == it.engine.world
    for recorded in log:
        assert event_from_json(*event_to_json(recorded.event)) == recorded.event


@quick(60)
@given(histories())
def test_a_load_told_again_changes_nothing(text: str) -> None:
    note(text)
    it = history(text)
    it.run()
    it.rest()
    sources, before, length = dict(it.engine.world.sources), it.decisions(), len(it.log())
    for recorded in it.log():
        if isinstance(recorded.event, e.DataLanded):
            known = recorded.event.loaded_at or (None if recorded.event.load_id else recorded.at)
            again = replace(recorded.event, loaded_at=known)
            it.store.append([Draft(again, it.clock.now(), sender="again")])
            length += 1
    it.rest()
    assert (it.engine.world.sources, it.decisions(), len(it.log())) == (sources, before, length)


@quick(60)
@given(histories())
def test_every_moment_has_its_decisions(text: str) -> None:
    note(text)
    it = history(text)
    it.run()
    graphs, world, graph = it.graphs(), World(), None
    for recorded in it.log():
        evolve(world, recorded)
        if isinstance(recorded.event, e.ProjectLoaded):
            graph = graphs[recorded.event.project]
        if graph is not None:
            before = deepcopy(world)
            decided(graph, world, it.scenario.settings, recorded.at)
            assert world == before


@quick(60)
@given(histories(calm=True), st.data())
def test_a_plan_is_what_its_run_does(text: str, data: st.DataObject) -> None:
    note(text)
    it = history(text)
    for block in it.scenario.nodes.values():
        block["build_duration"], block["early_cutoff"] = Word("0s", 0), Word("false", 0)
    it.run()
    it.rest()
    it.clock.set(it.clock.now() + data.draw(st.sampled_from((60.0, 3600.0, 86400.0))))
    for source in data.draw(st.sets(st.sampled_from(sorted(it.graph.sources)))):
        it.store.append([Draft(e.DataLanded(source), it.clock.now())])
    it.engine.take_reports()
    world = folded(it.log())
    planned = plan(it.graph, world, it.scenario.settings, it.clock.now())
    before = it.store.last()
    it.engine.step()
    builds = {r.event.node: r.event.reason for r in it.store.read(before) if isinstance(r.event, e.BuildStarted)}
    assert builds == {name: planned.decisions[name].reason.value for name in planned.nodes}
    assert not plan(it.graph, it.engine.world, it.scenario.settings, it.clock.now()).nodes


def folded(log: list[e.Recorded]) -> World:
    world = World()
    for recorded in log:
        evolve(world, recorded)
    return world
