"""A recorded log as a trace: what the simulator did is what a replay of its log does; and logs that are no logs."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from sao_events.compare.recording import Recording, read_recording, trace_of
from sao_events.compare.replay import Replay
from sao_events.compare.results import RECORDED, variants
from sao_events.compare.tracefile import read_trace
from sao_events.compare.variant import Variant
from sao_events.core import events as e
from sao_events.core.errors import ConfigError, UsageError
from sao_events.core.events import Recorded
from sao_events.core.graph import Graph
from sao_events.core.nodes import Test as DataTest
from sao_events.core.policy import Settings
from sao_events.core.project import project_from_bytes, project_to_bytes
from sao_events.ports import Draft
from sao_events.report.history import event_object
from sao_events.scenario import Scenario, read_scenarios
from sao_events.simulate import Simulation
from sao_events.store import open_store
from tests.compared import DAY, HOUR, START, node, project

# What a build came to is not replayed, and a restart, which looks at everything again, neither.
NOT_REPLAYED = {"fail", "fail_test", "same_output", "crash"}

SHOP = project(node("a", "raw.x"), node("b", "raw.y", hours=3), node("c", "a", "b", hours=1))


def scenarios() -> Iterator[Scenario]:
    for path in sorted((Path(__file__).parent / "scenarios").glob("*.yaml")):
        for scenario in read_scenarios(path):
            if not NOT_REPLAYED.intersection(happening.kind for happening in scenario.happenings):
                yield scenario


@pytest.mark.parametrize("scenario", [*scenarios()], ids=lambda scenario: scenario.name)
def test_a_replay_of_a_simulations_log_makes_its_builds(scenario: Scenario) -> None:
    simulation = Simulation(scenario)
    timeline = simulation.run()
    loads = [item.event.project for item in timeline.log if isinstance(item.event, e.ProjectLoaded)]
    projects = {name: project_from_bytes(simulation.store.get_project(name)) for name in loads}
    over = trace_of(Recording(timeline.log, projects, scenario.name), until=scenario.expected.until + 0.001)
    [policy] = [each for each in variants(over)[:2] if each.name == RECORDED] or variants(over)[:1]
    outcome = Replay(over, policy, scenario.settings, gated=True).run()
    assert sorted((build.at, build.node, build.reason) for build in outcome.builds) == sorted(timeline.builds)


@pytest.mark.parametrize("seed", range(8))
def test_a_replay_of_a_replays_log_makes_its_builds(seed: int, tmp_path: Path) -> None:
    """As a service does it: runs in one piece, two threads, builds and tests that take their time."""
    (tmp_path / "trace.yaml").write_text(
        "sources:\n  raw.x: {poisson: 2/h}\n  raw.y: {every: 50m, jitter: 40m}\n"
        "code: {poisson: 4/d}\ndurations: {default: 7m, b: 31m}\n"
    )
    graph, tests = SHOP.graph, [DataTest("t", "t", ("b",))]
    tested = replace(SHOP, graph=Graph(graph.nodes.values(), graph.sources.values(), tests))
    over = read_trace(tmp_path / "trace.yaml", tested, days=3, seed=seed)
    chance = random.Random(seed)
    more = [Draft(e.RelationDropped("b"), over.start + chance.uniform(0, 3 * DAY)) for _ in range(3)]
    more += [Draft(e.StateCleared(("c",)), over.start + chance.uniform(0, 3 * DAY))]
    over = replace(over, happenings=tuple(sorted([*over.happenings, *more], key=lambda draft: draft.at)))
    settings = Settings(settle=120.0, code_changes="after_window" if seed % 2 else "immediate", max_concurrent_runs=2)
    first = Replay(over, Variant(RECORDED), settings, threads=2)
    builds = first.run().builds
    assert len({build.node for build in builds}) == 3
    recording = Recording(first.store.read(), over.projects, "test")
    again = Replay(trace_of(recording, until=over.until), variants(over)[0], settings, threads=2)
    assert again.run().builds == builds


def log_of(*events: tuple[float, e.Event]) -> list[Recorded]:
    return [Recorded(seq, START + hour * HOUR, event) for seq, (hour, event) in enumerate(events, start=1)]


def a_day() -> list[Recorded]:
    """The log of a service that lived for a day: with builds, which took their time."""
    outside = log_of(
        (0, e.EngineStarted()),
        (0, e.ProjectLoaded("p")),
        (1, e.DataLanded("raw.x", "l1")),
        (2, e.DataLanded("raw.y", rows=5)),
        (9, e.JobRequested("j1", "nightly", START + 9 * HOUR, ("b",), state_aware=False)),
        (20, e.DataLanded("raw.x", "l2", START + 19 * HOUR)),
        (24, e.CodePushed("refs/heads/main")),
    )
    over = trace_of(Recording(outside, {"p": SHOP}, "test"))
    replay = Replay(over, Variant(RECORDED), Settings())
    replay.run()
    return replay.store.read()


def stored(folder: Path, events: Sequence[Recorded]) -> Path:
    store = open_store(str(folder / "state.db"))
    store.put_project("p", project_to_bytes(SHOP))
    store.append([Draft(item.event, item.at, item.key, item.sender) for item in events])
    store.close()
    return folder


def test_the_log_of_a_state_folder_of_its_file_and_as_json_is_the_same_trace(tmp_path: Path) -> None:
    events = a_day()
    folder = stored(tmp_path, events)
    lines, whole = tmp_path / "lines.json", tmp_path / "whole.json"
    lines.write_text("\n".join(json.dumps(event_object(item)) for item in events))
    whole.write_text(json.dumps({"events": [event_object(item) for item in reversed(events)]}, indent=2))
    first = trace_of(read_recording(folder))
    assert [type(item.event).__name__ for item in first.happenings] == [
        "ProjectLoaded", "DataLanded", "DataLanded", "JobRequested", "DataLanded",
    ]  # fmt: skip
    assert first.project.name == "shop"
    assert first.happenings == trace_of(read_recording(folder / "state.db")).happenings
    for file in (lines, whole):
        again = trace_of(read_recording(file), project=SHOP)
        assert (again.start, again.until, again.happenings) == (first.start, first.until, first.happenings)
        assert again.durations == first.durations


def test_build_times_are_the_medians_of_what_was_measured() -> None:
    log = log_of(
        (0, e.ProjectLoaded("p")),
        *((1, e.NodeBuilt("r", "a", seconds)) for seconds in (1.0, 9.0, 3.0)),
        (1, e.NodeBuilt("r", "b", 4.0)),
        (1, e.NodeBuilt("r", "b", 6.0)),
        (2, e.TestFinished("r", "t", "pass", seconds=0.5)),
    )
    durations = trace_of(Recording(log, {"p": SHOP}, "test")).durations
    assert (durations.nodes, durations.tests) == ({"a": 3.0, "b": 5.0}, {"t": 0.5})
    assert (durations.of("a"), durations.of("c"), durations.of_test("u")) == (3.0, 30.0, 0.0)


def test_the_last_days_begin_with_what_was_on_record() -> None:
    log = log_of(
        (0, e.ProjectLoaded("p")), (1, e.DataLanded("raw.x")), (40, e.DataLanded("raw.y")), (48, e.DataLanded("raw.x"))
    )
    over = trace_of(Recording(log, {"p": SHOP}, "test"), days=1)
    assert (over.start, over.until) == (START + DAY, START + 2 * DAY)
    assert [item.event for item in over.happenings] == [e.DataLanded("raw.y")]
    assert [item.seq for item in over.before] == [1, 2]
    outcome = Replay(over, variants(over)[0], Settings()).run()
    # Nothing was ever built: at the restart everything is, at 40:00 what reads raw.y.
    assert [(build.node, build.reason) for build in outcome.builds] == [
        ("a", "first_build"), ("b", "first_build"), ("c", "first_build"), ("b", "new_data"), ("c", "new_data"),
    ]  # fmt: skip


def test_what_a_node_has_written_is_left_to_its_builds() -> None:
    told = e.DataLanded("raw.x"), e.DataLanded("raw.y", scope="node"), e.DataLanded("raw.y", scope="probe")
    log = log_of((0, e.ProjectLoaded("p")), *((1, event) for event in told), (2, e.RunFinished("r", "success")))
    assert [item.event for item in trace_of(Recording(log, {"p": SHOP}, "test")).happenings[1:]] == [told[0], told[2]]


def test_a_log_without_its_project_needs_one_given() -> None:
    recording = Recording(log_of((0, e.ProjectLoaded("p")), (1, e.DataLanded("raw.x"))), {}, "log.json")
    with pytest.raises(
        UsageError, match=r"log\.json: the log names the project p, which is not stored(.|\n)*--manifest"
    ):
        trace_of(recording)
    assert trace_of(recording, project=SHOP).project is SHOP
    no_loads = Recording(log_of((0, e.DataLanded("raw.x")), (1, e.DataLanded("raw.y"))), {}, "log.json")
    assert isinstance(trace_of(no_loads, project=SHOP).happenings[0].event, e.ProjectLoaded)


def test_time_that_runs_backwards_is_an_error_that_names_the_event() -> None:
    log = log_of((5, e.ProjectLoaded("p")), (6, e.DataLanded("raw.x")), (4, e.DataLanded("raw.y")))
    with pytest.raises(ConfigError, match=r"backwards at event 3: 2026-01-05T04:00:00\.000Z after 2026-01-05T06:00:00"):
        trace_of(Recording(log, {"p": SHOP}, "test"))


def test_senders_a_little_out_of_step_are_no_error() -> None:
    log = log_of(
        (5, e.ProjectLoaded("p")),
        (6, e.DataLanded("raw.x")),
        (6 - 1 / 3600, e.DataLanded("raw.y")),
        (7, e.EngineStarted()),
    )
    assert [item.at - START for item in trace_of(Recording(log, {"p": SHOP}, "t")).happenings] == [
        5 * HOUR,
        6 * HOUR,
        6 * HOUR,
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            '{"seq": 1, "at": "2026-01-05T00:00:00Z", "kind": "DataLanded"}',
            "log.json:1: this is not an event of a log: 'data'",
        ),
        ('{"at": "noon", "kind": "DataLanded", "data": {"source": "x"}}', "log.json:1: .*noon"),
        ('{"at": 1, "kind": "DataLanded", "data": {"sauce": "x"}}', "log.json:1: .*sauce"),
        ("[1, 2]", "log.json:1: this is not an event"),
        ('{"at": 1, "kind": "EngineStarted", "data": {}}\nnonsense', "log.json:2: not an event as JSON"),
    ],
)
def test_a_file_that_is_no_log_is_named_with_its_line(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "log.json").write_text(text)
    with pytest.raises(ConfigError, match=message):
        read_recording(tmp_path / "log.json")


def test_a_folder_without_a_log_and_an_empty_log(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"there is no log here \(no state\.db\)"):
        read_recording(tmp_path)
    assert not (tmp_path / "state.db").exists()
    with pytest.raises(UsageError, match="the log is empty"):
        trace_of(read_recording(stored(tmp_path, [])))
