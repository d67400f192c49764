"""Status, plan, why, runs and events over histories that the simulator made with the real engine."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Protocol

import pytest

from sao_events import report
from sao_events.core.decision import Action, Decision, Reason
from sao_events.core.events import (
    BuildStarted,
    CodePushed,
    EngineStarted,
    Event,
    NodeBuilt,
    Observed,
    ProjectLoaded,
    Recorded,
    TestFinished,
)
from sao_events.core.graph import Graph
from sao_events.core.lineage import Code
from sao_events.core.named import resolve_node, resolve_source
from sao_events.core.nodes import Node, Source
from sao_events.core.plan import plan
from sao_events.core.policy import Settings
from sao_events.core.project import Project, graphs_of
from sao_events.core.state import World
from sao_events.ports import Draft
from sao_events.report import Find, View
from sao_events.report.causes import Causes
from sao_events.scenario import read_scenarios
from sao_events.simulate import Simulation
from sao_events.store.memory import MemoryStore

PROJECT = """
scenario: shop
settings: {build_duration: 1m, retries: {attempts: 1, backoff: 10m}}
nodes:
  raw.orders: {kind: source}
  raw.payments: {kind: source}
  stg: {kind: view, reads: [raw.orders]}
  orders: {kind: table, reads: [stg]}
  mart: {kind: table, reads: [orders, raw.payments], config: {freshness: {build_after: {count: 4, period: hour}}}}
  both: {kind: table, reads: [raw.orders, raw.payments], config: {freshness: {build_after: {updates_on: all}}}}
tests:
  t_orders: {on: [orders]}
"""


class Story(Protocol):
    """Runs the shop through a timeline and gives the view of its end and the look into its log."""

    def __call__(self, rest: str, settings: str = "") -> tuple[View, Find]:
        """`rest` are the events and until when, `settings` more of these."""


@pytest.fixture
def story(tmp_path: Path) -> Story:
    """Runs the shop through a timeline and gives the view of its end."""

    def tell(rest: str, settings: str = "") -> tuple[View, Find]:
        path = tmp_path / "story.yaml"
        project = PROJECT.replace("settings: {", f"settings: {{{settings}, " if settings else "settings: {")
        path.write_text(project + rest, encoding="utf-8")
        [scenario] = read_scenarios(path)
        simulation = Simulation(scenario)
        simulation.run()
        engine = simulation.engine
        simulation.clock.set(scenario.expected.until)
        view = View("prod", engine.project, engine.world, engine.settings, simulation.clock.now())
        return view, simulation.store.find

    return tell


def node(answer: dict[str, Any], name: str) -> dict[str, Any]:
    """The object of one node in an answer."""
    [found] = [item for item in answer["nodes"] if item["node"] == name]
    return dict(found)


LANDED = "events: [{at: +1h, land: raw.orders, load_id: l7, rows: 20}]\nexpect: {until: +1h30m}\n"


def test_status_holds_every_node_with_its_decision_and_age(story: Story) -> None:
    view, _ = story(LANDED)
    answer = report.status(view)
    assert (answer["environment"], answer["commit"], answer["at"]) == ("prod", None, "2026-01-05T09:30:00.000Z")
    assert [item["node"] for item in answer["nodes"]] == ["stg", "orders", "mart", "both"]
    mart = node(answer, "mart")
    assert (mart["action"], mart["reason"]) == ("wait", "within_build_after")
    assert mart["evidence"] == {"newer": {"orders": {"built_with": 1, "now": 2}}}
    assert mart["since"] == "2026-01-05T08:02:00.000Z"
    assert mart["built_at"] == "2026-01-05T08:03:00.000Z"
    assert mart["eligible_at"] == "2026-01-05T12:02:00.000Z"
    assert mart["window_from"] == mart["since"]
    assert mart["age_seconds"] == 88 * 60
    policy = {"build_after": 4 * 3600, "updates_on": "any", "lazy": False, "max_staleness": None, "calendar": None}
    assert mart["policy"] == policy
    assert node(answer, "both")["waiting_for"] == ["raw.payments"]
    assert answer["counts"] == {"build": 0, "reuse": 2, "wait": 2, "blocked": 0}
    assert answer["next_at"] == "2026-01-05T12:02:00.000Z"
    json.dumps(answer)


def test_status_tells_what_is_known_of_sources(story: Story) -> None:
    view, _ = story(LANDED)
    orders, payments = report.status(view)["sources"]
    assert (orders["source"], orders["version"], orders["loaded_at"], orders["rows"]) == (
        "raw.orders",
        1,
        "2026-01-05T09:00:00.000Z",
        20,
    )
    assert (payments["version"], payments["loaded_at"], payments["event"]) == (0, None, None)


def test_status_shows_a_run_and_a_build_under_way(story: Story) -> None:
    view, _ = story("events: [{at: +1h, land: raw.orders}]\nexpect: {until: +1h30s}\n")
    answer = report.status(view)
    [run] = answer["runs"]
    assert run["nodes"] == {"orders": "new_data"}
    assert node(answer, "orders")["running"] == {
        "run": run["run"],
        "reason": "new_data",
        "since": "2026-01-05T09:00:00.000Z",
    }
    assert node(answer, "mart")["running"] is None


def test_status_without_a_project_says_so() -> None:
    empty = View("prod", None, World(), Settings(), 0.0)
    assert report.status(empty)["state"] == "empty"
    assert report.status(empty)["nodes"] == []


def test_status_names_the_error_and_failing_tests(story: Story) -> None:
    view, _ = story("events: [{at: +1h, fail_test: t_orders}, {at: +1h, land: raw.orders}]\nexpect: {until: +1h5m}\n")
    failed = View(view.environment, view.project, view.world, view.settings, view.now, error="the file is locked")
    answer = report.status(failed)
    assert (answer["state"], answer["error"]) == ("error", "the file is locked")
    [test] = answer["tests"]
    assert (test["test"], test["status"], test["reads"], test["stands"]) == ("t_orders", "fail", ["orders"], True)
    assert node(answer, "orders")["failure"]["message"].startswith("test t_orders failed")
    assert node(answer, "orders")["reason"] == "retry"
    assert node(answer, "orders")["evidence"]["failed_at"] == "2026-01-05T09:01:00.000Z"


def test_plan_counts_what_it_builds_as_done(story: Story) -> None:
    view, _ = story(LANDED)
    later = View(view.environment, view.project, view.world, view.settings, view.now + 4 * 3600)
    assert view.project is not None
    answer = report.plan_object(later, plan(view.project.graph, view.world, view.settings, later.now))
    assert set(answer["nodes"][0]) >= {"node", "action", "reason", "eligible_at", "waiting_for", "evidence"}
    assert answer["build"] == ["mart"]
    assert node(answer, "mart")["reason"] == "new_data"


def test_why_leads_from_a_wait_to_the_event_that_was_landed(story: Story) -> None:
    view, find = story(LANDED)
    answer = report.why(view, find, "mart")
    assert (answer["node"], answer["reason"], answer["upstreams"]) == (
        "mart",
        "within_build_after",
        ["orders", "raw.payments"],
    )
    [cause] = answer["because"]
    assert (cause["what"], cause["about"], cause["built_with"], cause["now"]) == ("build", "orders", 1, 2)
    assert cause["event"]["kind"] == "NodeBuilt"
    [landing] = cause["because"]
    assert (landing["what"], landing["about"]) == ("data", "raw.orders")
    assert landing["event"]["kind"] == "DataLanded"
    assert landing["event"]["sender"] == "scenario"
    assert landing["event"]["at"] == "2026-01-05T09:00:00.000Z"
    assert landing["event"]["data"] == {"source": "raw.orders", "load_id": "l7", "rows": 20}


def test_why_leads_from_the_last_build_to_what_was_new_then(story: Story) -> None:
    view, find = story(LANDED)
    answer = report.why(view, find, "orders")
    assert (answer["reason"], answer["because"]) == ("no_new_data", [])
    [landing] = answer["last_build_because"]
    assert (landing["about"], landing["built_with"], landing["now"]) == ("raw.orders", 0, 1)
    assert landing["event"]["data"]["load_id"] == "l7"
    assert report.why(view, find, "mart")["last_build_because"] == []  # its first


CHAIN = """
scenario: chain
nodes:
  raw.r: {kind: source}
  b: {kind: table, reads: [raw.r], columns: [id, x]}
  a: {kind: table, reads: [b], uses: {b: [id]}, config: {freshness: {build_after: {count: 1, period: hour}}}}
  m: {kind: table, reads: [a]}
"""


def ended(tmp_path: Path, rest: str, project: str = CHAIN) -> Simulation:
    """The simulation of a project after its timeline."""
    path = tmp_path / "chain.yaml"
    path.write_text(project + rest, encoding="utf-8")
    [scenario] = read_scenarios(path)
    simulation = Simulation(scenario)
    simulation.run()
    simulation.clock.set(scenario.expected.until)
    return simulation


def told(simulation: Simulation, name: str) -> dict[str, Any]:
    """The why of a node, which knows the projects on record."""
    engine, store = simulation.engine, simulation.store
    view = View("prod", engine.project, engine.world, engine.settings, simulation.clock.now())
    return report.why(view, store.find, name, graphs_of(store.get_project))


def roots(causes: list[dict[str, Any]]) -> list[str]:
    """When the events at the ends of the chains of causes were recorded."""
    found = []
    for cause in causes:
        found += roots(cause.get("because") or []) or [cause["event"]["at"][11:16]]
    return found


def test_a_landing_after_a_build_is_not_named_as_its_cause(tmp_path: Path) -> None:
    events = "events: [{at: +10m, land: raw.r}, {at: +70m, land: raw.r}]\nexpect: {until: +75m}\n"
    simulation = ended(tmp_path, events)
    assert roots(told(simulation, "a")["because"]) == ["09:10"]  # waits, for what b took up again since
    for name in ("a", "m"):  # built at 09:00, when the window of a was over
        assert roots(told(simulation, name)["last_build_because"]) == ["08:10"]


def test_code_that_spared_a_node_is_not_named_as_the_cause_of_its_last_build(tmp_path: Path) -> None:
    events = "  - {at: +2h, edit: b, change: sql}\n  - {at: +3h, edit: b, change: add_column, column: y}\n"
    answer = told(ended(tmp_path, f"events:\n{events}expect: {{until: +4h}}\n"), "a")
    assert answer["built_because"] == "upstream_code_changed"
    assert answer["builds"][0]["started_at"] == "2026-01-05T10:00:00.000Z"
    assert set(roots(answer["last_build_because"])) == {"10:00"}


def test_a_later_load_of_the_project_is_not_named_for_code_that_waits(tmp_path: Path) -> None:
    held = CHAIN.replace("nodes:", "settings: {code_changes: after_window}\nnodes:")
    edits = "  - {at: +10m, edit: a, change: sql}\n  - {at: +20m, edit: m, change: sql}\n"
    waits = told(ended(tmp_path, f"events:\n{edits}expect: {{until: +30m}}\n", held), "a")
    assert (waits["reason"], roots(waits["because"])) == ("within_build_after", ["08:10"])
    built = told(ended(tmp_path, f"events:\n{edits}expect: {{until: +90m}}\n", held), "a")
    assert (built["built_because"], roots(built["last_build_because"])) == ("code_changed", ["08:10"])


def test_why_does_not_take_for_new_data_what_a_node_did_not_read_before() -> None:
    store = MemoryStore()
    for run, seen in (("r1", Observed("old", {"a": 1})), ("r2", Observed("new", {"a": 1, "b": 4}))):
        begun = BuildStarted(run, "m", "code_changed", 0.0, seen, Code(seen.fingerprint))
        store.append([Draft(event, 0.0) for event in (ProjectLoaded(run), begun, NodeBuilt(run, "m", 1.0))])
    graph = Graph([Node("m", "m", "table", ("a", "b"), Code("new"))], [Source("a", "a"), Source("b", "b")])
    [cause] = Causes(graph, World(), {}, store.find, {}).of_last_build("m")
    assert cause["what"] == "code"


@pytest.mark.parametrize(
    ("log", "named"),
    [
        ("L P L", True),
        ("L P P L", True),
        ("L P L L", True),  # came while the one before it was parsed
        ("P L L L", False),
        ("L P L S L", False),
        ("L S P L", True),
        ("L L", False),
    ],
)
def test_a_load_is_led_back_to_the_push_that_asked_for_it_and_to_no_older_one(log: str, named: bool) -> None:
    events: dict[str, Event] = {"L": ProjectLoaded("d"), "P": CodePushed(), "S": EngineStarted()}
    store = MemoryStore()
    store.append([Draft(events[letter], at) for at, letter in enumerate(log.split())])
    graph = Graph([Node("m", "m", "table", (), Code("new"))], [])
    decisions = {"m": Decision(Action.build, Reason.code_changed)}
    [cause] = Causes(graph, World(), decisions, store.find, {}).of("m")
    assert bool(cause["because"]) == named


def test_why_names_who_cleared_what_was_built_for_that_and_who_saw_it_missing(tmp_path: Path) -> None:
    cleared = told(ended(tmp_path, "events: [{at: +10m, clear: [a]}]\nexpect: {until: +30m}\n"), "a")
    [cause] = cleared["last_build_because"]
    assert (cause["what"], cause["event"]["kind"], cause["event"]["at"][11:16]) == ("clear", "StateCleared", "08:10")
    missing = told(ended(tmp_path, "events: [{at: +10m, drop: a}]\nexpect: {until: +30m}\n"), "a")
    assert [(it["what"], it["event"]["kind"]) for it in missing["last_build_because"]] == [
        ("relation", "RelationDropped")
    ]


DEADLINE = """
scenario: deadline
nodes:
  raw.r: {kind: source}
  up: {kind: table, reads: [raw.r], config: {freshness: {build_after: {count: 9, period: day}}}}
  mart: {kind: table, reads: [up], config: {meta: {sao: {fresh_by: "14:00"}}}}
  other: {kind: table, reads: [raw.r], config: {freshness: {build_after: {count: 9, period: day}}}}
"""


def test_why_names_for_whose_deadline_a_node_begins_before_its_window_is_over(tmp_path: Path) -> None:
    simulation = ended(tmp_path, "events: [{at: +1h, land: raw.r}]\nexpect: {until: +2h}\n", DEADLINE)
    up, other = told(simulation, "up"), told(simulation, "other")
    assert (up["eligible_at"], up["deadline_of"]) == ("2026-01-05T13:59:00.000Z", ["mart"])
    assert (other["eligible_at"], other["deadline_of"]) == ("2026-01-14T08:00:00.000Z", [])


GROUP = """
scenario: group
settings: {loads: {shop: {sources: [raw.a, raw.b]}}}
nodes:
  raw.a: {kind: source}
  raw.b: {kind: source}
  m: {kind: table, reads: [raw.a, raw.b], config: {freshness: {build_after: {count: 1, period: hour}}}}
"""


def test_a_landing_that_was_not_new_by_then_is_not_named_for_a_build(tmp_path: Path) -> None:
    whole = "  - {at: +10m, land: raw.a, load_id: one}\n  - {at: +20m, land: raw.b, load_id: one}\n"
    part = "  - {at: +30m, land: raw.a, load_id: two}\n"  # waits for raw.b
    old = (
        "  - {at: +40m, land: raw.b, load_id: old, loaded_at: +0m}\n  - {at: +50m, land: raw.b, load_id: no, rows: 0}\n"
    )
    events = f"events:\n{whole}{part}{old}expect: {{until: +90m}}\n"
    assert roots(told(ended(tmp_path, events, GROUP), "m")["last_build_because"]) == ["08:10", "08:20"]


def test_why_gives_the_last_builds_newest_first(story: Story) -> None:
    view, find = story(LANDED)
    first, second = report.why(view, find, "orders")["builds"]
    assert (first["reason"], first["status"], first["started_at"], first["seconds"]) == (
        "new_data",
        "success",
        "2026-01-05T09:00:00.000Z",
        60.0,
    )
    assert second["reason"] == "first_build"


def test_why_of_a_failure_shows_its_event_and_message(story: Story) -> None:
    view, find = story("events: [{at: +1h, fail: orders}, {at: +1h, land: raw.orders}]\nexpect: {until: +1h5m}\n")
    answer = report.why(view, find, "orders")
    assert answer["eligible_at"] == "2026-01-05T09:11:00.000Z"
    assert answer["failure"]["message"] == "the scenario lets it fail"
    [cause] = answer["because"]
    assert (cause["what"], cause["event"]["kind"]) == ("failure", "NodeFailed")
    assert answer["builds"][0]["status"] == "error"


def test_why_after_a_failed_test_is_about_what_stands_in_the_warehouse(story: Story) -> None:
    view, find = story(
        "events: [{at: +1h, edit: orders, change: sql}, {at: +1h, fail_test: t_orders, severity: error}]\n"
        "expect: {until: +1h5m}\n"
    )
    answer = report.why(view, find, "orders")
    assert answer["failure"]["message"].startswith("test t_orders failed")
    assert (answer["since"], answer["good_since"]) == ("2026-01-05T09:00:00.000Z", "2026-01-05T08:01:00.000Z")
    assert answer["built_because"] == "code_changed"
    assert [(it["status"], it["failed_tests"]) for it in answer["builds"]] == [
        ("success", ["t_orders"]),
        ("success", []),
    ]
    assert report.code_difference(view, lambda digests: {}, "orders") == []


def test_what_a_killed_service_was_building_is_told_as_interrupted(story: Story) -> None:
    view, find = story("events: [{at: +1h, land: raw.orders}, {at: +1h30s, crash: engine}]\nexpect: {until: +1h10m}\n")
    second, first, _ = report.why(view, find, "orders")["builds"]
    assert (first["status"], first["ended_at"], second["status"]) == ("interrupted", None, "success")
    [cut] = [it for it in report.runs(find) if it["run"] == first["run"]]
    assert {it["status"] for it in cut["nodes"]} == {cut["status"]} == {"interrupted"}


def test_why_of_a_changed_code_shows_the_load_of_the_project(story: Story) -> None:
    view, find = story(
        "events: [{at: +1h, fail: mart, times: 2}, {at: +1h, edit: mart, change: sql}]\nexpect: {until: +1h}\n"
    )
    answer = report.why(view, find, "mart")
    assert answer["reason"] == "code_changed"
    [cause] = answer["because"]
    assert (cause["what"], cause["event"]["kind"], cause["event"]["at"]) == (
        "code",
        "ProjectLoaded",
        "2026-01-05T09:00:00.000Z",
    )


def test_why_of_a_change_upstream_shows_the_build_and_the_load_before_it(story: Story) -> None:
    view, find = story(
        "events: [{at: +0m, job: all}, {at: +1h, edit: orders, change: sql}, {at: +2h, job: one, select: [orders]}]\n"
        "expect: {until: +3h}\n",
        settings="trigger: jobs",
    )
    answer = report.why(view, find, "mart")
    assert (answer["action"], answer["reason"]) == ("build", "upstream_code_changed")
    changed, *more = answer["because"]
    assert more == []
    assert (changed["what"], changed["about"], changed["event"]["kind"]) == ("code", "orders", "NodeBuilt")
    [loaded] = changed["because"]
    assert (loaded["event"]["kind"], loaded["event"]["at"]) == ("ProjectLoaded", "2026-01-05T09:00:00.000Z")


def test_why_of_a_retry_shows_the_failure_and_what_arrived_through_a_view(story: Story) -> None:
    view, find = story(
        "events: [{at: +0m, job: all}, {at: +1h, fail: orders}, {at: +1h, land: raw.orders}, {at: +1h, job: all},\n"
        "  {at: +2h, land: raw.orders, load_id: l2}]\nexpect: {until: +3h}\n",
        settings="trigger: jobs",
    )
    answer = report.why(view, find, "orders")
    assert (answer["reason"], answer["evidence"]["arrived"]) == ("retry", ["stg"])
    arrived, failure = answer["because"]
    assert (failure["what"], failure["event"]["kind"]) == ("failure", "NodeFailed")
    assert (arrived["what"], arrived["about"]) == ("view", "stg")
    [landed] = arrived["because"]
    assert landed["event"]["data"]["load_id"] == "l2"


def test_why_of_a_test_that_failed_shows_it(story: Story) -> None:
    view, find = story(
        "events: [{at: +1h, fail_test: t_orders}, {at: +1h, land: raw.orders}]\nexpect: {until: +1h5m}\n"
    )
    [cause] = report.why(view, find, "orders")["because"]
    assert (cause["event"]["kind"], cause["event"]["data"]["fails"]) == ("TestFinished", ["orders"])


def test_why_of_a_missing_relation_shows_who_saw_it(story: Story) -> None:
    view, find = story(
        "events: [{at: +0m, job: all}, {at: +1h, drop: orders}]\nexpect: {until: +2h}\n", settings="trigger: jobs"
    )
    [cause] = report.why(view, find, "orders")["because"]
    assert (cause["what"], cause["event"]["data"]) == ("relation", {"node": "orders"})


def test_why_of_a_blocked_node_shows_what_is_not_ready(story: Story) -> None:
    view, find = story(
        "events: [{at: +5h, fail: orders, times: 5}, {at: +5h, land: raw.orders}, {at: +5h, land: raw.payments}]\n"
        "expect: {until: +6h}\n"
    )
    answer = report.why(view, find, "mart")
    assert (answer["action"], answer["reason"]) == ("blocked", "upstream_not_ready")
    [missing] = [cause for cause in answer["because"] if cause["what"] == "not_ready"]
    assert missing["about"] == "orders"
    assert missing["message"] == "the scenario lets it fail"
    [data] = [cause for cause in answer["because"] if cause["what"] == "data"]
    assert data["about"] == "raw.payments"


def test_why_of_a_clear_shows_the_event(story: Story) -> None:
    view, find = story("events: [{at: +1h, clear: [orders]}]\nexpect: {until: +1h}\n")
    [cause] = report.why(view, find, "orders")["because"]
    assert (cause["what"], cause["event"]["data"]) == ("clear", {"nodes": ["orders"]})


def test_runs_are_newest_first_with_what_came_of_their_nodes(story: Story) -> None:
    _, find = story("events: [{at: +1h, fail: orders}, {at: +1h, land: raw.orders}]\nexpect: {until: +1h5m}\n")
    second, first = report.runs(find)
    assert (second["status"], second["cause"], second["started_at"]) == ("failed", "event", "2026-01-05T09:00:00.000Z")
    assert [(item["node"], item["status"]) for item in second["nodes"]] == [("orders", "error")]
    assert first["status"] == "success"
    assert {item["node"] for item in first["nodes"]} == {"stg", "orders", "mart", "both"}
    assert first["tests"] == {"planned": 1, "pass": 1}


def test_a_run_that_a_restart_left_behind_is_interrupted(story: Story) -> None:
    _, find = story("events: [{at: +1h, land: raw.orders}, {at: +1h30s, crash: engine}]\nexpect: {until: +1h5m}\n")
    after, before, _ = report.runs(find)
    assert (before["status"], before["ended_at"]) == ("interrupted", None)
    assert after["status"] == "success"


def test_an_instant_after_all_calendars_is_shown_as_their_last() -> None:
    assert report.iso(1e35) == "9999-12-30T00:00:00.000Z"
    assert report.iso(None) is None


def test_an_event_keeps_its_place_and_says_instants_in_iso() -> None:
    landed = Recorded(7, 0.0, TestFinished("r1", "t", "pass"), "k", "loader")
    assert report.event_object(landed) == {
        "seq": 7,
        "at": "1970-01-01T00:00:00.000Z",
        "kind": "TestFinished",
        "sender": "loader",
        "key": "k",
        "text": "test t: pass",
        "data": {"run": "r1", "test": "t", "status": "pass"},
    }


SHOP = Project(
    Graph(
        [
            Node("model.p.orders", "orders", "table", ("source.p.raw.orders",)),
            Node("model.p.same", "same", "table"),
            Node("model.q.same", "same", "table"),
        ],
        [
            Source("source.p.raw.orders", "raw.orders", relation='"db"."landing"."t_orders"'),
            Source("source.p.raw.items", "raw.items"),
            Source("source.p.other.items", "other.items"),
        ],
    )
)


@pytest.mark.parametrize(
    "name",
    [
        "source.p.raw.orders",
        "raw.orders",
        "orders",
        "landing.t_orders",
        "db.landing.t_orders",
        "`DB`.`LANDING`.T_ORDERS",
    ],
)
def test_a_source_goes_by_many_names(name: str) -> None:
    assert resolve_source(SHOP, name) == "source.p.raw.orders"


def test_a_source_that_is_not_meant_by_one_name_gives_suggestions() -> None:
    assert resolve_source(SHOP, "items") == ["source.p.raw.items", "source.p.other.items"]
    assert resolve_source(SHOP, "raw.order") == ["raw.orders"]
    assert resolve_source(SHOP, "zzz") == []


def test_a_node_goes_by_id_and_by_a_name_of_its_own() -> None:
    assert resolve_node(SHOP, "model.p.orders") == "model.p.orders"
    assert resolve_node(SHOP, "orders") == "model.p.orders"
    assert resolve_node(SHOP, "same") == ["model.p.same", "model.q.same"]
    assert resolve_node(SHOP, "ordrs") == ["orders"]


def test_a_shared_name_stands_for_nobody() -> None:
    assert report.names(SHOP)["model.p.orders"] == "orders"
    assert "model.p.same" not in report.names(SHOP)
    assert report.names(None) == {}
