"""A job followed in the log: what it planned, what came of each node, and how it ended."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sao_events.cli.job import Followed
from sao_events.config import Config, DbtConfig
from sao_events.core.events import JobFinished, JobRequested, Recorded, RunFinished
from sao_events.core.policy import Settings
from sao_events.ports import Draft
from sao_events.scenario import read_scenarios
from sao_events.simulate import Simulation
from sao_events.store.memory import MemoryStore

PROJECT = """
scenario: shop
settings: {trigger: jobs, build_duration: 1m, retries: {attempts: 0}}
nodes:
  raw.orders: {kind: source}
  raw.items: {kind: source}
  stg: {kind: view, reads: [raw.orders]}
  orders: {kind: table, reads: [stg]}
  mart: {kind: table, reads: [orders]}
  items: {kind: table, reads: [raw.items]}
tests:
  t_orders: {on: [orders]}
"""


def follow(tmp_path: Path, rest: str, job: str, *, until: type | None = None) -> tuple[Followed, list[str]]:
    """What a command sees that follows the job named `job` through a timeline, up to the first event `until`."""
    path = tmp_path / "shop.yaml"
    path.write_text(PROJECT + rest, encoding="utf-8")
    [scenario] = read_scenarios(path)
    simulation = Simulation(scenario)
    log = simulation.run().log
    [start] = [i for i, item in enumerate(log) if isinstance(item.event, JobRequested) and item.event.name == job]
    end = next(
        (i + 1 for i, item in enumerate(log) if i >= start and until and isinstance(item.event, until)), len(log)
    )
    store = MemoryStore()
    digest = simulation.engine.world.project
    assert digest is not None
    store.put_project(digest, simulation.store.get_project(digest))
    append(store, log[:start])
    requested = log[start].event
    assert isinstance(requested, JobRequested)
    settings = Settings(attempts=0)
    config = Config("prod", DbtConfig(tmp_path), tmp_path / ".sao", settings)
    told: list[str] = []
    followed = Followed.begin(store, requested.job, config, told.append)
    for item in log[start:end]:
        append(store, [item])
        followed.look()
    return followed, told


def append(store: MemoryStore, log: list[Recorded]) -> None:
    """The events of a log, as they were."""
    for item in log:
        store.append([Draft(item.event, item.at, item.key, item.sender)])


def outcome(followed: Followed, select: tuple[str, ...] | None = None) -> dict[str, Any]:
    """Status and seconds of each node in the result."""
    result = followed.result(select, followed.world.at)
    return {node["node"]: (node["action"], node["reason"], node["status"], node["seconds"]) for node in result["nodes"]}


ALL = "events: [{at: +0m, job: first}, {at: +1h, land: raw.orders}, {at: +2h, job: second}]\nexpect: {until: +3h}\n"


def test_what_was_built_and_what_was_reused(tmp_path: Path) -> None:
    followed, told = follow(tmp_path, ALL, "second")
    assert followed.status == "success"
    assert outcome(followed) == {
        "stg": ("reuse", "view_unchanged", "reused", None),
        "orders": ("build", "new_data", "success", 60.0),
        "mart": ("build", "new_data", "success", 60.0),
        "items": ("reuse", "no_new_data", "reused", None),
    }
    assert told == [
        "orders is being built: new data upstream",
        "orders built in 60.0 s",
        "mart is being built: new data upstream",
        "mart built in 60.0 s",
    ]


def test_the_result_names_run_tests_and_evidence(tmp_path: Path) -> None:
    followed, _ = follow(tmp_path, ALL, "second")
    result = followed.result(None, followed.world.at)
    assert result["run"] == followed.run
    assert result["started_at"] == "2026-01-05T10:00:00.000Z"
    [orders] = [node for node in result["nodes"] if node["node"] == "orders"]
    assert orders["evidence"] == {"newer": {"raw.orders": {"built_with": 0, "now": 1}}}
    assert [(test["test"], test["status"]) for test in result["tests"]] == [("t_orders", "pass")]


def test_only_what_is_selected_is_told(tmp_path: Path) -> None:
    rest = ALL.replace("job: second", "job: second, select: [orders]")
    followed, _ = follow(tmp_path, rest, "second")
    assert list(outcome(followed, ("orders",))) == ["orders"]


def test_what_waits_for_a_failed_node_is_skipped(tmp_path: Path) -> None:
    rest = ALL.replace("{at: +1h,", "{at: +1h, fail: orders}, {at: +1h,")
    followed, told = follow(tmp_path, rest, "second")
    assert followed.status == "failed"
    found = outcome(followed)
    assert found["orders"] == ("build", "new_data", "error", 60.0)
    assert found["mart"] == ("build", "new_data", "skipped", None)
    assert "orders failed: the scenario lets it fail" in told


def test_a_failed_test_is_in_the_result(tmp_path: Path) -> None:
    rest = ALL.replace("{at: +1h,", "{at: +1h, fail_test: t_orders}, {at: +1h,")
    followed, told = follow(tmp_path, rest, "second")
    assert followed.status == "failed"
    assert outcome(followed)["mart"][2] == "skipped"
    assert [test["status"] for test in followed.result(None, 0.0)["tests"]] == ["fail"]
    assert "test t_orders: fail" in told


def test_what_a_failed_test_of_a_source_holds_back_is_skipped(tmp_path: Path) -> None:
    rest = "  t_raw: {on: [raw.orders]}\n" + ALL.replace("{at: +1h,", "{at: +1h, fail_test: t_raw}, {at: +1h,")
    followed, _ = follow(tmp_path, rest, "second")
    assert followed.status == "failed"
    assert {name: status for name, (_, _, status, _) in outcome(followed).items()} == {
        "stg": "reused", "orders": "skipped", "mart": "skipped", "items": "reused",
    }  # fmt: skip


def test_a_job_with_nothing_to_do_ends_well(tmp_path: Path) -> None:
    rest = "events: [{at: +0m, job: first}, {at: +1h, job: second}]\nexpect: {until: +2h}\n"
    followed, _ = follow(tmp_path, rest, "second")
    assert followed.status == "success"
    assert {status for _, _, status, _ in outcome(followed).values()} == {"reused"}


def test_a_job_under_way_has_not_ended(tmp_path: Path) -> None:
    followed, _ = follow(tmp_path, ALL, "second", until=RunFinished)
    assert followed.status is None
    assert followed.run is not None


def test_a_run_that_dbt_could_not_do_ends_the_following(tmp_path: Path) -> None:
    followed, _ = follow(tmp_path, ALL, "second", until=RunFinished)
    assert followed.run is not None
    followed.store.append([Draft(RunFinished("r-other", "error", "not mine"), 0.0)])
    assert followed.look() is False
    followed.store.append([Draft(RunFinished(followed.run, "error", "the file is locked"), 0.0)])
    assert followed.look() is True
    assert (followed.status, followed.message) == ("error", "the file is locked")


def test_another_job_that_ends_is_not_this_one(tmp_path: Path) -> None:
    followed, _ = follow(tmp_path, ALL, "second", until=RunFinished)
    followed.store.append([Draft(JobFinished("another", "failed"), 0.0)])
    assert followed.look() is False


def test_a_restart_of_the_service_does_not_end_the_job(tmp_path: Path) -> None:
    rest = ALL.replace("job: second}", "job: second}, {at: +2h30s, crash: engine}")
    followed, _ = follow(tmp_path, rest, "second")
    assert followed.status == "success"
    assert outcome(followed)["orders"][2] == "success"


@pytest.mark.parametrize("select", [None, ("orders",)])
def test_a_job_that_never_began_has_no_nodes(tmp_path: Path, select: tuple[str, ...] | None) -> None:
    followed, _ = follow(tmp_path, ALL, "second", until=JobRequested)
    assert followed.result(select, 0.0)["nodes"] == []
