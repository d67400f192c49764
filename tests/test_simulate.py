"""Scenario files that are wrong, what a simulation collects, and how it tells what differs."""

from __future__ import annotations

from pathlib import Path

import pytest

from sao_events.core.errors import ConfigError, SaoError
from sao_events.core.events import BuildStarted
from sao_events.scenario import offset, parse_scenarios, read_scenarios
from sao_events.simulate import Simulation, Timeline, VirtualClock

NODES = """nodes:
  raw.a: {kind: source}
  m: {kind: table, reads: [raw.a]}
"""
UNTIL = "expect: {until: +1h}\n"


def run(path: Path, text: str) -> Timeline:
    """The timeline of the one scenario in `text`."""
    path.write_text(text, encoding="utf-8")
    [scenario] = read_scenarios(path)
    return Simulation(scenario).run()


@pytest.mark.parametrize("text", ["", "# nothing yet\n"])
def test_a_file_without_a_scenario(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigError, match=r"s\.yaml: there is no scenario in it"):
        run(tmp_path / "s.yaml", text)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("scenario: s\nnods: {}\nexpect: {until: +1h}\n", [":2: unknown key nods", "did you mean nodes?"]),
        (f"scenario: s\n{NODES}", [":1: the key expect is missing"]),
        (f"scenario: s\n{NODES}expect: {{}}\n", [":5: the key until is missing"]),
        (f"scenario: s\n{NODES}expect:\n  until: +1h\n  bulids: []\n", [":7: unknown key bulids", "builds"]),
        ("scenario: s\nnodes:\n  m: {kind: tabel}\n" + UNTIL, [":3: m: kind must be", "did you mean table?"]),
        ("scenario: s\nnodes:\n  m:\n    kind: table\n    read: [a]\n" + UNTIL, [":5: unknown key read", "reads"]),
        (f"scenario: s\nsettings: {{settel: 1m}}\n{NODES}{UNTIL}", [":2: unknown key settel", "settle"]),
        (f"scenario: s\nsettings: {{settle: -1m}}\n{NODES}{UNTIL}", [":2: '-1m' is not a duration"]),
        (f"scenario: s\nsettings: {{retries: {{attempts: -1}}}}\n{NODES}{UNTIL}", [":2: attempts must be"]),
        (f"scenario: s\nstart: yesterday\n{NODES}{UNTIL}", [":2: start must be an instant"]),
        (
            "scenario: s\nnodes:\n  m: {kind: table, config: {state: {lag_tolerance: -4h}}}\n" + UNTIL,
            [":3: m: state.lag_tolerance: '-4h' is not a duration"],
        ),
        (
            "scenario: s\nnodes:\n  m: {kind: table, config: {freshness: {build_after: {count: 1}}}}\n" + UNTIL,
            [":3: m:", "must have a value for `period` if a `count` is provided"],
        ),
        (f"scenario: s\n{NODES}events:\n  - {{at: +1h, land: raw.b}}\n{UNTIL}", [":6: land: there is no raw.b"]),
        (f"scenario: s\n{NODES}events:\n  - {{at: +1h, land: m}}\n{UNTIL}", [":6: land: there is no m"]),
        (f"scenario: s\n{NODES}events:\n  - {{at: +1h, edit: n, change: sql}}\n{UNTIL}", [":6: edit: there is no n"]),
        (f"scenario: s\n{NODES}events:\n  - {{at: +1h, fail_test: t}}\n{UNTIL}", [":6: fail_test: there is no t"]),
        (f"scenario: s\n{NODES}events:\n  - {{at: 1h, land: raw.a}}\n{UNTIL}", [":6: 1h is not an offset such as"]),
        (f"scenario: s\n{NODES}events:\n  - {{at: +1 hour, land: raw.a}}\n{UNTIL}", [":6: '1 hour' is not a duration"]),
        (f"scenario: s\n{NODES}events:\n  - {{land: raw.a}}\n{UNTIL}", [":6: the key at is missing"]),
        (f"scenario: s\n{NODES}events:\n  - {{at: +1h}}\n{UNTIL}", [":6: an event is exactly one of"]),
        (f"scenario: s\n{NODES}events:\n  - {{at: +1h, lnd: raw.a}}\n{UNTIL}", [":6: unknown key lnd", "land"]),
        (
            f"scenario: s\n{NODES}events:\n  - {{at: +1h, land: raw.a, row: 1}}\n{UNTIL}",
            [":6: unknown key row", "rows"],
        ),
        (
            f"scenario: s\n{NODES}events:\n  - {{at: +1h, edit: m, change: sequel}}\n{UNTIL}",
            [":6: change must be one of sql", "not sequel"],
        ),
        (f"scenario: s\n{NODES}events:\n  - {{at: +1h, fail: m, times: 0}}\n{UNTIL}", [":6: times must be a whole"]),
        (f"scenario: s\n{NODES}{UNTIL}---\nscenario: s\n{NODES}{UNTIL}", [":7: two scenarios of the name s"]),
        ("scenario: s\nnodes:\n  m: {kind: table}\n  m: {kind: view}\n" + UNTIL, [":4: the key m stands here twice"]),
        ("scenario: s\n  nodes: [\n", ["not valid YAML"]),
        ("just text\n", [":1: a mapping is expected here"]),
    ],
)
def test_a_file_that_is_wrong_is_refused_with_its_line(tmp_path: Path, text: str, words: list[str]) -> None:
    path = tmp_path / "wrong.yaml"
    with pytest.raises(ConfigError) as caught:
        run(path, text)
    assert str(path) in str(caught.value)
    assert [word for word in words if word not in str(caught.value)] == [], str(caught.value)


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("scenario: [b]", "scenario must be text, not a list"),
        ("why: {}", "why must be text, not a mapping"),
        ("adapter: postgress", "did you mean postgres?"),
        ("start: [1]", "start must be an instant"),
        ("nodes: [m]", "nodes must be a mapping"),
        ("nodes: {raw.a: {kind: source}}", "there is no node in it"),
        ("nodes: {m: {kind: table, reads: [raw.b]}, raw.a: {kind: source}}", "did you mean raw.a?"),
        ("nodes: {m: {kind: table, build_duration: [1m]}}", "build_duration must be text, not a list"),
        ("nodes: {m: {kind: table, config: {meta: 7}}}", "meta.sao must be a mapping, not 7"),
        ("nodes: {m: {kind: table, config: {meta: {sao: 7}}}}", "meta.sao must be a mapping, not 7"),
        ("nodes: {m: table}", "m must be a mapping"),
        ("nodes: {m: {kind: table, reads: m}}", "reads must be a list"),
        ("nodes: {m: {kind: table, reads: [[a]]}}", "reads must be a list of names"),
        ("nodes: {m: {kind: table, uses: [a]}}", "uses must be a mapping"),
        ("nodes: {m: {kind: table, uses: {raw.a: [id]}}}", "m does not read raw.a"),
        ("nodes: {m: {kind: table, config: 7}}", "config must be a mapping"),
        ("nodes: {m: {kind: table, config: {freshnes: null}}}", "unknown key freshnes"),
        ("settings: 7", "settings must be a mapping"),
        ("settings: {retries: 3}", "retries must be a mapping"),
        ("settings: {default_config: 1h}", "default_config must be a mapping"),
        ("settings: {default_config: {freshnes: null}}", "did you mean freshness?"),
        ("settings: {default_config: {meta: {sao: {max_staleness: 1d}}}}", "unknown key meta"),
        ("settings: {default_config: {state: {lag_tolerance: soon}}}", "settings.default_config: state.lag_tolerance:"),
        (
            "settings: {default_config: {state: {lag_tolerance: 0h}}}",
            "settings.default_config: state.lag_tolerance is 0",
        ),
        ("settings: {settle: [1m]}", "settle must be text, not a list"),
        ("tests: [t]", "tests must be a mapping"),
        ("tests: {t: {on: []}}", "on must name what the test looks at"),
        ("tests: {t: {on: [raw.b]}}", "did you mean raw.a?"),
        ("tests: {t: {on: m}}", "on must be a list"),
        ("events: {at: +1h}", "events must be a list"),
        ("events: [land]", "each of events must be a mapping"),
        ("events: [{at: +1h, land: raw.a, rows: many}]", "rows must be a whole number"),
        ("events: [{at: +1h, policy: m}]", "config"),
        ("events: [{at: +1h, edit: m, change: add_column}]", "add_column"),
        ("events: [{at: +1h, clear: m}]", "a list of nodes"),
        ("events: [{at: +1h, clear: []}]", "a list of nodes"),
        ("events: [{at: +1h, job: j, select: []}]", "a list of nodes"),
        ("events: [{at: +1h, job: [j]}]", "job must be text, not a list"),
        ("events: [{at: +1h, land: [raw.a]}]", "land must be text, not a list"),
        ("events: [{at: +1h, land: raw.a, load_id: {a: 1}}]", "load_id must be text, not a mapping"),
        ("events: [{at: [+1h], land: raw.a}]", "is not an offset such as"),
        ("events: [{at: +1h, policy: m, config: {state: {lag_tolerance: 1}}}]", "m: state.lag_tolerance: 1 is not a"),
        ("events: [{at: +1h, job: j, select: m}]", "a list of nodes"),
        ("events: [{at: +1h, job: j, select: [mm]}]", "there is no mm"),
        ("expect: 7", "expect must be a mapping"),
        ("expect: {until: +1h, builds: [[+0m, m]]}", "[offset, node, reason]"),
        ("expect: {until: +1h, builds: [[+0m, mm, new_data]]}", "there is no node mm"),
        ("expect: {until: +1h, builds: [[+0m, m, newdata]]}", "there is no reason newdata"),
        ("expect: {until: +1h, decisions: [m]}", "each of decisions must be a mapping"),
        ("expect: {until: +1h, decisions: [{at: +1h, node: n}]}", "there is no node n"),
        ("expect: {until: +1h, decisions: [{at: +1h, node: m, action: waits}]}", "there is no action waits"),
        ("expect: {until: +1h, decisions: [{at: +1h, node: m, reason: newdata}]}", "there is no reason newdata"),
        ("expect: {until: +1h, decisions: [{at: +2h, node: m}]}", "+2h lies after until"),
        ("expect: {until: +1h, builds: [[+2h, m, new_data]]}", "+2h lies after until"),
        ("events: [{at: +1h, crash: world}]", "there is no world"),
        ("events: [{at: +1h, load: world}]", "there is no world"),
        ("expect: {until: +1h, tests: {t: 3}}", "t must be a mapping"),
        ("expect: {until: +1h, warnings: m}", "warnings must be a list"),
    ],
)
def test_a_value_of_the_wrong_shape_is_refused_with_its_line(tmp_path: Path, line: str, says: str) -> None:
    lines = {
        "nodes": "nodes: {raw.a: {kind: source}, m: {kind: table, reads: [raw.a]}}",
        "expect": "expect: {until: +1h}",
    }
    lines = {"scenario": "scenario: s"} | lines
    lines |= {"settings": "settings: {}", "tests": "tests: {}", "events": "events: []", line.partition(":")[0]: line}
    with pytest.raises(ConfigError) as caught:
        run(tmp_path / "s.yaml", "\n".join(lines.values()))
    assert says in str(caught.value)
    assert f"s.yaml:{1 + list(lines).index(line.partition(':')[0])}:" in str(caught.value)


@pytest.mark.parametrize(
    ("text", "line", "says"),
    [
        ("m:\n    kind: table\n    reads:\n      - raw.a\n      - raw.b", 8, "m reads what is neither a node nor"),
        (
            "m:\n    kind: table\n    config: {freshness: {\n      build_after: {count: 1,\n        period: week}}}",
            8,
            "m: freshness.build_after.period must be one of",
        ),
        (
            "m:\n    kind: table\n    lazy: false\n    config:\n      lazy: true",
            8,
            "m: lazy stands beside config and in it",
        ),
        ("m:\n    kind: table\n    lazy: 3\n    config: {}", 6, "lazy must be true or false"),
        ("m:\n    kind: table\n    config:\n      meta: {sao: {lazy: 3}}", 7, "m: meta.sao.lazy must be true or false"),
        (
            "m:\n    kind: table\n    early_cutoff: true\n    config:\n      meta: {sao: {early_cutoff: false}}",
            8,
            "m: early_cutoff stands beside config and in it",
        ),
        (
            "m:\n    kind: table\n    config:\n      lazy: true\n      meta: {sao: {lazy: false}}",
            8,
            "m: lazy stands in config and in its meta.sao",
        ),
        (
            "m: {kind: table}\nevents:\n  - at: +1h\n    policy: m\n    config: {meta: {sao: {early_cutoff: maybe}}}",
            8,
            "early_cutoff must be true or false, not maybe",
        ),
    ],
)
def test_what_is_wrong_in_a_node_is_told_with_its_own_line(tmp_path: Path, text: str, line: int, says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        run(tmp_path / "s.yaml", f"scenario: s\nnodes:\n  raw.a: {{kind: source}}\n  {text}\n{UNTIL}")
    assert f"s.yaml:{line}: {says}" in str(caught.value)


@pytest.mark.parametrize(
    ("config", "line", "says"),
    [
        ("state:\n        lag_tolerance: 1h\n        lag_tolerence: 2h", 8, "state has the unknown key lag_tolerence"),
        ("state: {}\n      enabled: false", 7, "enabled is not read here"),
        ("meta:\n        sao:\n          timezone: UTC", 8, "meta.sao.timezone changes nothing"),
    ],
)
def test_what_is_doubtful_in_a_node_is_told_with_its_own_line(
    tmp_path: Path, config: str, line: int, says: str
) -> None:
    text = f"scenario: s\nnodes:\n  m:\n    kind: table\n    config:\n      {config}\n{UNTIL}"
    [warning] = run(tmp_path / "s.yaml", text).warnings
    assert says in warning
    assert warning.endswith(f"s.yaml:{line})")


def test_what_a_service_would_not_expect_is_named(tmp_path: Path) -> None:
    nodes = "nodes:\n  raw.a: {kind: source, static: true}\n  m: {kind: table, reads: [raw.a]}\n"
    events = "events:\n  - {at: +1h, land: raw.a}\n  - {at: +2h, land: raw.a, loaded_at: +2h6m}\n"
    timeline = run(tmp_path / "s.yaml", f"scenario: s\n{nodes}{events}expect: {{until: +3h}}\n")
    assert [reason for _, _, reason in timeline.builds] == ["first_build", "new_data", "new_data"]
    once, again, ahead = timeline.warnings
    assert "raw.a: declared static, and yet new data was reported in it" in once
    lines = ["s.yaml:6)", "s.yaml:7)", "s.yaml:7)"]
    assert [warning[-len(line) :] for warning, line in zip(timeline.warnings, lines, strict=True)] == lines
    assert once.replace(lines[0], "") == again.replace(lines[1], "")
    assert "has a loaded_at that is still to come" in ahead


@pytest.mark.parametrize(
    ("event", "says"),
    [
        ("at: +1h, fail: m", "`fail: m` at +1h comes to nothing: m is not built after it"),
        ("at: +1h, fail_test: t", "`fail_test: t` at +1h comes to nothing: t is not run after it"),
        ("at: +61m, land: raw.a", "`land: raw.a` at +1h1m does not happen: it lies after until"),
        ("at: +61m, fail: m", "`fail: m` at +1h1m does not happen: it lies after until"),
        ("at: +0m, same_output: m", "`same_output: m` at +0m counts for nothing: m has no early_cutoff: true"),
    ],
)
def test_what_comes_to_nothing_is_named(tmp_path: Path, event: str, says: str) -> None:
    text = f"scenario: s\n{NODES}tests: {{t: {{on: [m]}}}}\nevents:\n  - {{{event}}}\n"
    [warning] = run(tmp_path / "s.yaml", f"{text}expect: {{until: +1h}}\n").warnings
    assert warning == f"s: {says} ({tmp_path}/s.yaml:7)"
    assert run(tmp_path / "s.yaml", text.replace(event, "at: +0m, fail: m") + "expect: {until: +1h}\n").warnings == ()


def test_a_scenario_without_an_end_is_given_up(tmp_path: Path) -> None:
    nodes = NODES.replace("reads: [raw.a]", "reads: [raw.a], config: {meta: {sao: {max_staleness: 1s}}}")
    [scenario] = parse_scenarios(f"scenario: s\n{nodes}expect: {{until: +4w}}\n", "s.yaml")
    simulation = Simulation(scenario)
    simulation.builder.most = 20
    with pytest.raises(SaoError, match=r"s: more than 100000 builds by \+20s") as caught:
        simulation.run()
    assert "max_staleness" in str(caught.value.hint)


def test_what_is_never_built_neither_fails_nor_vanishes(tmp_path: Path) -> None:
    for event in ("fail", "drop", "same_output"):
        text = f"scenario: s\nnodes:\n  e: {{kind: ephemeral}}\nevents:\n  - {{at: +1h, {event}: e}}\n{UNTIL}"
        with pytest.raises(ConfigError, match=rf"s\.yaml:5: {event}: e is ephemeral: it is never built"):
            run(tmp_path / "s.yaml", text)


def test_failures_of_several_events_add_up(tmp_path: Path) -> None:
    events = "[{at: +1h, fail: m, times: 1}, {at: +1h, fail: m, times: 1}, {at: +2h, land: raw.a}]"
    settings = "settings: {retries: {attempts: 3, backoff: 1m}}"
    text = f"scenario: s\n{settings}\n{NODES}events: {events}\nexpect: {{until: +3h}}\n"
    assert [reason for _, _, reason in run(tmp_path / "s.yaml", text).builds] == [
        "first_build",
        "new_data",
        "retry",
        "retry",
    ]


def test_a_cycle_is_shown(tmp_path: Path) -> None:
    text = "scenario: s\nnodes:\n  a: {kind: table, reads: [b]}\n  b: {kind: table, reads: [a]}\n" + UNTIL
    with pytest.raises(ConfigError, match=r"cycle\.yaml:[34]: s: the graph has a cycle: (a -> b -> a|b -> a -> b)"):
        run(tmp_path / "cycle.yaml", text)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"missing\.yaml: cannot be read"):
        list(read_scenarios(tmp_path / "missing.yaml"))


@pytest.mark.parametrize(
    ("expected", "difference"),
    [
        ("builds: []", "built, but not expected: [+0m, m, first_build]"),
        ("builds: [[+0m, m, first_build], [+30m, m, new_data]]", "not built: [+30m, m, new_data]"),
        ("decisions: [{at: +1h, node: m, action: build}]", "at +1h m: action is reuse, expected build"),
        ("warnings: [m]", "no warning names m"),
        ("tests: {t: {run: 2}}", "test t: run 1, expected 2"),
    ],
)
def test_what_differs_is_told(tmp_path: Path, expected: str, difference: str) -> None:
    text = f"scenario: s\n{NODES}tests: {{t: {{on: [m]}}}}\nexpect: {{until: +1h, {expected}}}\n"
    assert run(tmp_path / "s.yaml", text).differences == [difference]


def test_a_wait_that_ends_at_another_time_is_told_in_offsets(tmp_path: Path) -> None:
    text = (
        "scenario: s\nnodes:\n  raw.a: {kind: source}\n"
        "  m: {kind: table, reads: [raw.a], config: {state: {lag_tolerance: 4h}}}\n"
        "events: [{at: +1h, land: raw.a}]\n"
        "expect: {until: +2h, decisions: [{at: +1h, node: m, eligible_at: +3h}]}\n"
    )
    assert run(tmp_path / "s.yaml", text).differences == ["at +1h m: eligible_at is +4h, expected +3h"]


def test_the_timeline_holds_builds_tests_and_the_log_in_order(tmp_path: Path) -> None:
    text = (
        f"scenario: s\n{NODES}tests: {{t: {{on: [m]}}}}\nevents: [{{at: +1h, land: raw.a}}]\nexpect: {{until: +2h}}\n"
    )
    timeline = run(tmp_path / "s.yaml", text)
    start = timeline.builds[0][0]
    assert timeline.builds == [(start, "m", "first_build"), (start + 3600, "m", "new_data")]
    assert timeline.tests["t"]["run"] == 2
    assert [item.seq for item in timeline.log] == list(range(1, len(timeline.log) + 1))
    assert [item.at for item in timeline.log] == sorted(item.at for item in timeline.log)
    assert sum(isinstance(item.event, BuildStarted) for item in timeline.log) == 2


def test_what_happens_at_until_happens(tmp_path: Path) -> None:
    text = f"scenario: s\n{NODES}events: [{{at: +2h, land: raw.a}}]\nexpect: {{until: +2h}}\n"
    assert len(run(tmp_path / "s.yaml", text).builds) == 2


def test_events_out_of_order_happen_in_order_and_are_named(tmp_path: Path) -> None:
    events = "[{at: +2h, land: raw.a}, {at: +1h, land: raw.a}, {at: +2h, edit: m, change: cosmetic}]"
    timeline = run(tmp_path / "s.yaml", f"scenario: s\n{NODES}events: {events}\nexpect: {{until: +3h}}\n")
    start = timeline.builds[0][0]
    assert [at - start for at, _, _ in timeline.builds] == [0, 3600, 7200]
    (warning,) = timeline.warnings
    assert "`land: raw.a` at +1h stands after +2h" in warning
    assert warning.endswith(f"({tmp_path}/s.yaml:5)")


def test_the_same_scenario_twice_is_the_same_timeline(tmp_path: Path) -> None:
    text = (
        f"scenario: s\n{NODES}events: [{{at: +1h, land: raw.a}}, {{at: +2h, crash: engine}}]\nexpect: {{until: +3h}}\n"
    )
    first, second = (run(tmp_path / "s.yaml", text) for _ in range(2))
    assert (first.builds, first.log) == (second.builds, second.log)


def test_time_does_not_run_backwards() -> None:
    clock = VirtualClock(100.0)
    clock.set(100.0)
    with pytest.raises(SaoError, match="time would run backwards"):
        clock.set(99.0)
    assert clock.now() == 100.0


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "+0m"), (90, "+1m30s"), (3600, "+1h"), (86400 + 7200 + 180 + 4, "+1d2h3m4s")],
)
def test_offsets_are_written_as_they_are_read(seconds: int, text: str) -> None:
    assert offset(seconds) == text
