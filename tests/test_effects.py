"""What an event caused, on logs that the engine wrote under a virtual clock."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from sao_events.core import events as e
from sao_events.core.events import Event, Recorded
from sao_events.core.project import project_from_bytes
from sao_events.report.effects import Effects
from sao_events.scenario import parse_scenarios
from sao_events.simulate import Simulation

SHOP = """
scenario: shop
nodes:
  raw.orders: {kind: source}
  raw.stores: {kind: source}
  stg: {kind: view, reads: [raw.orders]}
  orders: {kind: table, reads: [stg]}
  daily: {kind: table, reads: [orders], config: {freshness: {build_after: {count: 4, period: hour}}}}
  stores: {kind: table, reads: [raw.stores]}
  report: {kind: table, reads: [daily, stores]}
tests:
  orders_ok: {on: [orders]}
events:
EVENTS
expect: {until: +12h}
"""


def caused(events: str, picked: Callable[[Event], bool], settings: str = "{}") -> list[str]:
    """What the first event that is picked caused, each as its kind and its node."""
    text = SHOP.replace("EVENTS", "\n".join(f"  - {{{line}}}" for line in events.split("; ")))
    text += f"settings: {settings}\n"
    [scenario] = parse_scenarios(text, "shop.yaml")
    simulation = Simulation(scenario)
    log = simulation.run().log
    seq = next(recorded.seq for recorded in log if picked(recorded.event))
    store = simulation.store
    found = Effects(seq, lambda digest: project_from_bytes(store.get_project(digest)).graph).read(log)
    return [told(recorded) for recorded in found]


def told(recorded: Recorded) -> str:
    event = recorded.event
    name = getattr(event, "node", None) or getattr(event, "test", None) or ""
    return f"{type(event).__name__} {name}".strip()


def both(*nodes: str) -> list[str]:
    return [f"{kind} {node}" for node in nodes for kind in ("BuildStarted", "NodeBuilt")]


def landed(source: str) -> Callable[[Event], bool]:
    return lambda event: isinstance(event, e.DataLanded) and event.source == source


def test_new_data_is_followed_through_views_and_windows() -> None:
    assert caused("at: +1h, land: raw.orders", landed("raw.orders")) == both("orders", "daily", "report")


def test_what_other_data_caused_is_left_out() -> None:
    assert caused("at: +1h, land: raw.orders; at: +2h, land: raw.stores", landed("raw.stores")) == both(
        "stores", "report"
    )


def test_of_two_loads_that_one_build_took_both_caused_it() -> None:
    events = "at: +1h, land: raw.orders; at: +5h, land: raw.orders"
    assert caused(events, landed("raw.orders")) == both("orders", "daily", "report")


def test_each_landing_of_a_load_in_two_tables_caused_what_its_end_lets_be_built() -> None:
    loads = "{loads: {shop: {sources: [raw.orders, raw.stores]}}}"
    events = "at: +1h, land: raw.orders, load_id: one; at: +2h, land: raw.stores, load_id: one"
    assert caused(events, landed("raw.orders"), loads) == both("orders", "daily", "report")
    after = caused(events, landed("raw.stores"), loads)
    assert after == ["BuildStarted orders", "NodeBuilt orders", *both("stores", "report", "daily"), *both("report")]


def test_a_landing_whose_load_never_ended_caused_nothing() -> None:
    loads = "{loads: {shop: {sources: [raw.orders, raw.stores]}}}"
    events = "at: +1h, land: raw.orders, load_id: one; at: +2h, land: raw.orders, load_id: two; "
    events += "at: +3h, land: raw.stores, load_id: two"
    assert caused(events, landed("raw.orders"), loads) == []


def test_a_repeated_load_caused_nothing() -> None:
    events = "at: +1h, land: raw.stores, load_id: a; at: +2h, land: raw.stores, load_id: a"
    again = iter([False, True])
    assert caused(events, lambda event: isinstance(event, e.DataLanded) and next(again)) == []


def test_a_failed_build_is_an_effect_and_so_is_its_retry() -> None:
    events = "at: +30m, fail: stores; at: +1h, land: raw.stores; at: +2h, land: raw.stores"
    assert caused(events, landed("raw.stores"))[:4] == [
        "BuildStarted stores", "NodeFailed stores", "BuildStarted stores", "NodeBuilt stores",
    ]  # fmt: skip


def test_a_test_that_failed_a_node_is_an_effect() -> None:
    events = "at: +30m, fail_test: orders_ok, severity: error; at: +1h, land: raw.orders"
    assert caused(events, landed("raw.orders"))[:3] == [
        "BuildStarted orders", "NodeBuilt orders", "TestFinished orders_ok",
    ]  # fmt: skip


def test_changed_code_is_followed_to_every_reader() -> None:
    loads = iter([False, True])
    assert caused(
        "at: +1h, edit: stg, change: sql", lambda event: isinstance(event, e.ProjectLoaded) and next(loads)
    ) == both("stg", "orders", "daily", "report")


@pytest.mark.parametrize(
    ("line", "kind", "first"),
    [("clear: [stores]", e.StateCleared, "stores"), ("drop: daily", e.RelationDropped, "daily")],
)
def test_clears_and_drops_are_followed(line: str, kind: type[Event], first: str) -> None:
    assert caused(f"at: +1h, {line}", lambda event: isinstance(event, kind)) == both(first, "report")


def test_a_job_is_followed_to_its_run_and_what_reads_what_it_built() -> None:
    events = "at: +1h, job: nightly, select: [stores], state_aware: false"
    found = caused(events, lambda event: isinstance(event, e.JobRequested))
    assert found == ["RunStarted", *both("stores"), "JobFinished", *both("report")]
