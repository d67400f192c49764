"""The command line: what it prints, what it returns, what it refuses, and that its page has all of it."""

from __future__ import annotations

import argparse
import io
import json
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from sao_events.cli import exit_code, main, make_parser
from sao_events.cli.log import since_instant
from sao_events.cli.output import Output, node_row, span
from sao_events.clock import clock
from sao_events.core.errors import Busy, ConfigError, DbtError, SaoError, StoreError, UsageError
from sao_events.core.events import RunStarted
from sao_events.lock import StateLock
from sao_events.ports import Delivery, Draft, Incoming
from sao_events.scenario import read_scenarios
from sao_events.simulate import Simulation
from sao_events.store import open_store

ROOT = Path(__file__).parent.parent
SHOP = """
scenario: shop
settings: {build_duration: 1m, retries: {attempts: 0}}
nodes:
  raw.orders: {kind: source}
  raw.payments: {kind: source}
  stg: {kind: view, reads: [raw.orders]}
  orders: {kind: table, reads: [stg]}
  mart: {kind: table, reads: [orders, raw.payments], config: {state: {lag_tolerance: 5000w}}}
  broken:
    kind: table
    reads: [raw.payments]
    config:
      meta:
        sao: {window: {every: 1h, weekdays: mon-fri}, quiet: "22:00-06:00", fresh_by: "07:00", max_staleness: 5000w}
tests:
  t_orders: {on: [orders]}
events:
  - {at: +1h, land: raw.orders, load_id: l7, rows: 20}
  - {at: +2h, fail: broken, times: 9}
  - {at: +2h, land: raw.payments}
expect: {until: +3h}
"""


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with the log of a shop that the simulator ran; no dbt project is needed to read it."""
    path = tmp_path / "shop.yaml"
    path.write_text(SHOP, encoding="utf-8")
    [scenario] = read_scenarios(path)
    simulation = Simulation(scenario)
    timeline = simulation.run()
    store = open_store(str(tmp_path / ".sao" / "state.db"))
    digest = simulation.engine.world.project
    assert digest is not None
    store.put_project(digest, simulation.store.get_project(digest))
    store.append([Draft(item.event, item.at, item.key, item.sender) for item in timeline.log])
    store.close()
    (tmp_path / "sao.yml").write_text("decisions: {retries: {attempts: 0}}\n", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def call(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    """The exit code and the two outputs of a command run in this process."""
    code = main(arguments)
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def answer(capsys: pytest.CaptureFixture[str], *arguments: str) -> Any:
    """The JSON that a command prints; it must succeed and say nothing else."""
    code, out, err = call(capsys, *arguments, "--json")
    assert (code, err) == (0, "")
    return json.loads(out)


def process(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """A command run as a process of its own."""
    command = [sys.executable, "-m", "sao_events", *arguments]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False, timeout=60)


# What is printed


def test_status_prints_a_plain_table_where_nobody_looks(shop: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = call(capsys, "status")
    assert code == 0
    assert "\x1b" not in out
    lines = out.splitlines()
    assert lines[0] == "default: 2 reuse, 1 wait, 1 blocked"
    assert lines[1].split() == ["node", "action", "reason", "since", "next"]
    [mart] = [line for line in lines if line.startswith("mart")]
    assert "wait" in mart
    assert "new data in orders, raw.payments; its window is not over" in mart
    assert re.search(r"ago  \d{4}-\d\d-\d\d \d\d:\d\d \(in \d+d", mart)
    assert "broken failed: the scenario lets it fail" in lines


def test_status_says_that_nobody_carries_on_a_run_whose_service_died(
    shop: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = open_store(str(shop / ".sao" / "state.db"))
    store.append([Draft(RunStarted("r99", {"orders": "new_data"}), 1_767_610_000.0)])
    store.close()
    lock = StateLock(shop / ".sao")
    lock.acquire()
    assert "no service" not in call(capsys, "status")[1]
    lock.release()
    ended = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, check=True)
    lock.path.write_bytes(ended.stdout.strip().ljust(16))
    out = call(capsys, "status")[1].splitlines()
    assert out[1].startswith("run r99 of 1 node since ")
    assert out[2] == "no service is at work here: what was being built is decided again when one starts"


def test_status_in_json_has_the_node_objects(shop: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = answer(capsys, "status")
    assert set(found) >= {"environment", "commit", "at", "nodes"}
    for node in found["nodes"]:
        assert set(node) >= {"node", "action", "reason", "eligible_at", "waiting_for", "evidence"}
    assert {node["node"]: node["action"] for node in found["nodes"]} == {
        "stg": "reuse",
        "orders": "reuse",
        "mart": "wait",
        "broken": "blocked",
    }


def test_why_leads_to_the_event(shop: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = call(capsys, "why", "mart")
    assert code == 0
    assert re.search(r"orders built in 60\.0 s \(version 2, built with 1\): event \d+ by engine at ", out)
    assert re.search(r"    new data in raw\.orders, load l7, 20 rows .*: event \d+ by scenario at ", out)
    assert re.search(r"  new data in raw\.payments \(version 1, built with 0\): event \d+ by scenario", out)
    assert re.search(r"build_after 35000d from 2026-01-05 \d\d:02, updates_on any", out)


def test_why_shows_a_policy_that_follows_the_calendar(shop: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = call(capsys, "why", "broken")[1].splitlines()
    at = lines.index("  policy: window by the calendar, updates_on any, again after 35000d")
    assert [line.strip() for line in lines[at + 1 : at + 4]] == [
        "mon-fri 00:00-24:00: every 1h (UTC)",
        "mon-sun 22:00-06:00: no build for new data (UTC)",
        "mon-sun: fresh by 07:00 (UTC)",
    ]


def test_why_of_a_failure_has_its_message_and_builds(shop: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = call(capsys, "why", "broken")
    assert code == 0
    assert "blocked: the last build failed and no retries are allowed" in out
    assert re.search(r"last failure\n  the scenario lets it fail", out)
    assert re.search(r"new_data +error +60\.0", out)
    assert answer(capsys, "why", "broken")["builds"][0]["status"] == "error"


def test_why_answers_for_the_past(shop: Path, capsys: pytest.CaptureFixture[str]) -> None:
    built = answer(capsys, "events", "--kind", "NodeBuilt", "--node", "orders")["events"]
    first = answer(capsys, "why", "mart", "--at", built[0]["at"])
    assert (first["action"], first["reason"]) == ("build", "first_build")
    assert [build["status"] for build in first["builds"]] == ["running"]  # it began at that very instant
    later = answer(capsys, "why", "orders", "--at", built[1]["at"])
    assert later["action"] == "reuse"
    assert [build["reason"] for build in later["builds"]] == ["new_data", "first_build"]
    assert call(capsys, "why", "orders", "--at", "2020-01-01T00:00:00Z")[0] == 2


def test_what_an_event_caused(shop: Path, capsys: pytest.CaptureFixture[str]) -> None:
    landed = answer(capsys, "events", "--kind", "DataLanded", "--node", "raw.orders")["events"]
    found = answer(capsys, "events", "--effects", str(landed[0]["seq"]))["events"]
    assert [(item["kind"], item["data"]["node"]) for item in found if item["data"]["node"] == "orders"] == [
        ("BuildStarted", "orders"),
        ("NodeBuilt", "orders"),
    ]
    assert call(capsys, "events", "--effects", "99999")[0] == 2


def test_events_are_read_oldest_first_and_filtered(shop: Path, capsys: pytest.CaptureFixture[str]) -> None:
    landings = answer(capsys, "events", "--kind", "DataLanded")["events"]
    assert [(item["data"]["source"], item["sender"]) for item in landings] == [
        ("raw.orders", "scenario"),
        ("raw.payments", "scenario"),
    ]
    of_orders = answer(capsys, "events", "--node", "orders", "--limit", "2")["events"]
    assert [item["kind"] for item in of_orders][:1] != []
    assert all("orders" in json.dumps(item["data"]) for item in of_orders)
    assert answer(capsys, "events", "--since", "1m")["events"] == []
    assert len(answer(capsys, "events", "--since", "2026-01-05T10:00:00Z")["events"]) > 0
    assert answer(capsys, "events", "--limit", "0")["events"] == []


def test_deliveries_are_shown_oldest_first_and_filtered(shop: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert answer(capsys, "deliveries") == {"deliveries": []}
    assert call(capsys, "deliveries")[1] == "nothing has come\n"
    store = open_store(str(shop / ".sao" / "state.db"))
    for number, verdict in enumerate(("ignored", "rejected", "ignored")):
        delivery = Delivery(1_767_000_000.0, "hub", "github", verdict, f"reason {number}", str(number))
        store.receive([Incoming(delivery)]).result()
    store.close()
    assert [it["reason"] for it in answer(capsys, "deliveries")["deliveries"]] == ["reason 0", "reason 1", "reason 2"]
    assert [it["id"] for it in answer(capsys, "deliveries", "--verdict", "ignored")["deliveries"]] == [1, 3]
    assert [it["id"] for it in answer(capsys, "deliveries", "--limit", "1")["deliveries"]] == [3]
    assert answer(capsys, "deliveries", "--endpoint", "other") == {"deliveries": []}
    code, out, _ = call(capsys, "deliveries", "--endpoint", "hub")
    assert code == 0
    assert [line.split()[0] for line in out.splitlines()] == ["id", "1", "2", "3"]
    assert call(capsys, "deliveries", "--verdict", "good")[0] == 2
    assert call(capsys, "deliveries", "--limit", "-1")[0] == 2


def test_events_for_people_are_a_line_each(shop: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = call(capsys, "events", "--kind", "NodeFailed")
    assert code == 0
    assert re.fullmatch(r" +\d+  \S+ \S+  NodeFailed +broken failed: the scenario lets it fail  \(engine\)\n", out)


def test_emitted_data_is_recorded_once(shop: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = (
        "emit",
        "data",
        "raw.payments",
        "--load-id",
        "p1",
        "--rows",
        "3",
        "--loaded-at",
        "2026-01-31T08:00:00Z",
    )
    first, second = answer(capsys, *arguments), answer(capsys, *arguments)
    assert first["recorded"] is True
    assert (first["event"]["sender"], first["event"]["data"]) == (
        "cli",
        {"source": "raw.payments", "load_id": "p1", "rows": 3, "loaded_at": "2026-01-31T08:00:00.000Z"},
    )
    assert second == {"recorded": False, "event": None}
    [payments] = [item for item in answer(capsys, "status")["sources"] if item["name"] == "raw.payments"]
    assert (payments["version"], payments["rows"]) == (2, 3)


def test_emitted_code_needs_nothing_but_a_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    found = answer(capsys, "--state-dir", "elsewhere", "emit", "code", "--ref", "refs/heads/main")
    assert found["event"]["data"] == {"ref": "refs/heads/main"}
    assert (tmp_path / "elsewhere" / "state.db").is_file()


def test_clear_forgets(shop: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = call(capsys, "clear", "broken", "orders")
    assert (code, out.partition(": ")[2]) == (0, "state cleared of broken, orders\n")
    nodes = {node["node"]: node for node in answer(capsys, "status")["nodes"]}
    assert (nodes["broken"]["reason"], nodes["orders"]["reason"]) == ("state_cleared", "state_cleared")
    assert nodes["stg"]["reason"] == "view_unchanged"
    assert call(capsys, "clear", "--all")[0] == 0
    assert {node["reason"] for node in answer(capsys, "status")["nodes"]} >= {"state_cleared"}


def test_reading_commands_write_nothing(shop: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = answer(capsys, "status")["seq"]
    for arguments in (("status",), ("why", "mart"), ("events",), ("events", "--node", "mart")):
        assert main(arguments) == 0
    capsys.readouterr()
    assert answer(capsys, "status")["seq"] == before


def test_a_log_that_is_not_there_is_not_made_by_looking(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert answer(capsys, "events") == {"events": []}
    assert not (tmp_path / ".sao").exists()


# Simulation

SCENARIO = """scenario: fine
nodes:
  raw.a: {kind: source}
  m: {kind: table, reads: [raw.a]}
events: [{at: +1h, land: raw.a}]
expect:
  until: +2h
  builds: [[+0m, m, first_build], [+1h, m, new_data]]
  decisions: [{at: +1h, node: m, action: reuse}]
"""


def test_simulate_prints_the_whole_timeline(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "fine.yaml"
    path.write_text(SCENARIO, encoding="utf-8")
    found = answer(capsys, "simulate", str(path))
    assert found["ok"] is True
    [scenario] = found["scenarios"]
    assert (scenario["scenario"], scenario["ok"], scenario["differences"]) == ("fine", True, [])
    assert [(build["at"], build["node"], build["reason"]) for build in scenario["builds"]] == [
        ("+0m", "m", "first_build"),
        ("+1h", "m", "new_data"),
    ]
    assert scenario["decisions"][0]["reason"] == "no_new_data"
    [landed] = [item for item in scenario["log"] if item["kind"] == "DataLanded"]
    assert (landed["offset"], landed["at"]) == ("+1h", "2026-01-05T09:00:00.000Z")


def test_simulate_says_what_differs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "two.yaml"
    wrong = SCENARIO.replace("fine", "wrong").replace("[+1h, m, new_data]", "[+90m, m, new_data]")
    path.write_text(f"{SCENARIO}---\n{wrong}", encoding="utf-8")
    code, out, err = call(capsys, "simulate", str(path))
    assert (code, err) == (1, "")
    assert out.splitlines() == [
        "ok       fine",
        f"differs  wrong  ({path})",
        "         not built: [+1h30m, m, new_data]",
        "         built, but not expected: [+1h, m, new_data]",
        "2 scenarios, 1 differs",
    ]
    code, out, _ = call(capsys, "simulate", str(path), "--json")
    assert (code, json.loads(out)["ok"]) == (1, False)


def test_simulate_shows_the_warnings_of_a_policy(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "one.yaml"
    policy = "kind: table, config: {state: {lag_tolerance: 1h}, freshness: {build_after: {count: 2, period: hour}}}"
    path.write_text(SCENARIO.replace("kind: table", policy), encoding="utf-8")
    _, out, err = call(capsys, "simulate", str(path))
    assert out.startswith("ok ")
    assert err.startswith("warning  m: state.lag_tolerance (3600s)")


# What is refused


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("why", "ordes"), ["there is no node ordes", "did you mean orders?"]),
        (("why", "raw.orders"), ["raw.orders is a source, not a node", "sao-events events --node raw.orders"]),
        (("clear", "mrt"), ["there is no node mrt", "did you mean mart?"]),
        (("clear", "qqqqq"), ["there is no node qqqqq", "there are, for example: broken, mart, orders, stg"]),
        (("clear",), ["either the names of nodes or --all"]),
        (("clear", "mart", "--all"), ["either the names of nodes or --all"]),
        (("emit", "data", "raw.order"), ["raw.order", "did you mean raw.orders?"]),
        (("emit", "data", "raw.orders", "--loaded-at", "soon"), ["soon", "is not an instant"]),
        (("emit", "data", "raw.orders", "--rows", "-1"), ["rows is not a count"]),
        (("emit", "code", "--ref", "main"), ["ref is not the full name"]),
        (("events", "--kind", "DataLanding"), ["no kind of event DataLanding", "did you mean DataLanded?"]),
        (("events", "--node", "ordes"), ["there is no node, source or test ordes", "orders"]),
        (("events", "--since", "yesterday"), ["yesterday is neither a duration"]),
        (("events", "--limit", "-1"), ["--limit must not be negative"]),
        (("--config", "none.yml", "status"), ["none.yml", "no such configuration file"]),
        (("--project-dir", "none", "status"), ["--project-dir none", "no such folder"]),
        (("simulate", "none.yaml"), ["none.yaml: cannot be read"]),
    ],
)
def test_wrong_usage_is_one_message_and_exit_code_2(
    shop: Path, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], words: list[str]
) -> None:
    code, out, err = call(capsys, *arguments)
    assert (code, out) == (2, "")
    assert err.startswith("error: ")
    assert "Traceback" not in err
    assert [word for word in words if word not in err] == [], err


@pytest.mark.parametrize("arguments", [(), ("nothing",), ("why",), ("status", "--nothing"), ("emit",), ("hooks",)])
def test_what_is_no_command_is_exit_code_2(capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...]) -> None:
    code, _, err = call(capsys, *arguments)
    assert code == 2
    assert "usage: sao-events" in err


@pytest.mark.parametrize("command", [("status",), ("plan",), ("run",), ("watch",), ("serve",)])
def test_without_a_dbt_project_a_command_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], command: tuple[str, ...]
) -> None:
    monkeypatch.chdir(tmp_path)
    code, _, err = call(capsys, *command)
    assert code == 2
    assert "there is no dbt project here" in err
    assert not (tmp_path / ".sao").exists()


def test_emit_and_clear_without_a_project_on_record_say_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for arguments in (("emit", "data", "raw.a"), ("clear", "--all")):
        code, _, err = call(capsys, *arguments)
        assert code == 2
        assert "no project is on record yet" in err


def test_a_bad_configuration_is_named_with_file_and_line(shop: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (shop / "sao.yml").write_text("environment: prod\nhttp: {prot: 1}\n", encoding="utf-8")
    code, _, err = call(capsys, "status")
    assert code == 2
    assert f"{shop / 'sao.yml'}:2: unknown key prot in http" in err
    assert "did you mean port?" in err


def test_a_log_that_is_none_is_exit_code_3(shop: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (shop / ".sao" / "state.db").write_bytes(b"this is no database, whatever its name says" * 100)
    code, out, err = call(capsys, "status")
    assert (code, out) == (3, "")
    assert err.startswith("error: ")
    assert str(shop / ".sao" / "state.db") in err


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (SaoError("x"), 1),
        (UsageError("x"), 2),
        (ConfigError("x"), 2),
        (DbtError("x"), 3),
        (StoreError("x"), 3),
        (Busy("x"), 3),
    ],
)
def test_an_error_has_its_exit_code(error: SaoError, code: int) -> None:
    assert exit_code(error) == code


def test_a_bug_says_that_it_is_one(
    shop: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError("half of nothing")

    monkeypatch.setattr("sao_events.report.status", broken)
    code, _, err = call(capsys, "status")
    assert code == 3
    assert "ZeroDivisionError: half of nothing" in err
    assert "this is a bug" in err
    assert "Traceback" not in err
    monkeypatch.setenv("SAO_DEBUG", "1")
    assert "Traceback" in call(capsys, "status")[2]


# As processes


def test_exit_codes_and_json_of_real_processes(shop: Path) -> None:
    done = process("status", "--json", cwd=shop)
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["counts"]["wait"] == 1
    wrong = process("why", "nobody", cwd=shop)
    assert (wrong.returncode, wrong.stdout) == (2, "")
    assert wrong.stderr.startswith("error: there is no node nobody")
    bad = shop / "bad.yaml"
    bad.write_text(SCENARIO.replace("+1h, m, new_data", "+2h, m, new_data"), encoding="utf-8")
    assert process("simulate", "bad.yaml", cwd=shop).returncode == 1
    assert process("--version", cwd=shop).stdout.startswith("sao-events ")


def test_a_reader_that_leaves_is_no_error(shop: Path) -> None:
    command = f"{sys.executable} -m sao_events events --limit 1000 | head -n 1; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], cwd=shop, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")


def test_follow_prints_what_comes_until_interrupted(shop: Path) -> None:
    command = [sys.executable, *"-m sao_events events --follow --limit 1 --json --kind DataLanded".split()]
    with subprocess.Popen(command, cwd=shop, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as following:
        assert following.stdout is not None
        try:
            past = json.loads(following.stdout.readline())
            assert process("emit", "data", "raw.orders", "--load-id", "new", cwd=shop).returncode == 0
            found = json.loads(following.stdout.readline())
        finally:
            following.send_signal(2)
            following.wait(timeout=30)
    assert past["data"]["source"] == "raw.payments"
    assert (found["kind"], found["data"]) == ("DataLanded", {"source": "raw.orders", "load_id": "new"})
    assert following.returncode == 130


# Pieces


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0s"),
        (45.4, "45s"),
        (60, "1m"),
        (185, "3m 5s"),
        (3600, "1h"),
        (7800, "2h 10m"),
        (273600, "3d 4h"),
        (-5, "0s"),
    ],
)
def test_spans_have_their_two_largest_units(seconds: float, text: str) -> None:
    assert span(seconds) == text


def test_a_clock_has_the_date_only_where_it_is_another_day() -> None:
    now = datetime(2026, 1, 5, 12, tzinfo=UTC).timestamp()
    assert re.fullmatch(r"\d\d:\d\d:\d\d", clock(now + 60, now))
    assert re.fullmatch(r"2026-01-1\d \d\d:\d\d", clock(now + 7 * 86400, now))


def test_since_takes_durations_and_instants() -> None:
    assert since_instant("2h", 10_000.0) == 2_800.0
    assert since_instant("1970-01-01T01:00:00Z", 0.0) == 3_600.0
    assert since_instant("1970-01-01T01:00:00+01:00", 0.0) == 0.0


def test_a_node_under_way_says_since_when() -> None:
    node = {
        "name": "orders",
        "action": "build",
        "text": "new data",
        "age_seconds": None,
        "eligible_at": None,
        "running": {"run": "r1", "since": "1970-01-01T00:00:10.000Z"},
    }
    assert node_row(node, 100.0) == ["orders", "build", "new data", "-", "being built for 1m 30s"]


def test_cells_of_several_lines_stay_in_their_row(capsys: pytest.CaptureFixture[str]) -> None:
    Output(stream=sys.stdout).table(("a", "b"), [["one\ntwo", "x"], ["y", "z"]])
    assert capsys.readouterr().out == "a        b\none two  x\ny        z\n"


class Terminal(io.StringIO):
    """Somebody looks at it."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("no_color", [None, "1"])
def test_a_terminal_has_colours_unless_they_are_unwanted(monkeypatch: pytest.MonkeyPatch, no_color: str | None) -> None:
    for name in ("FORCE_COLOR", "NO_COLOR", "TTY_COMPATIBLE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    if no_color:
        monkeypatch.setenv("NO_COLOR", no_color)
    stream = Terminal()
    out = Output(stream=stream)
    out.table(("node", "action"), [["orders", "blocked"], ["[bold]mart[/bold]", "reuse"]])
    out.line("[red]not markup[/red]", "red")
    assert ("\x1b[31m" in stream.getvalue()) is (no_color is None)
    assert "[bold]mart[/bold]" in stream.getvalue()
    assert "[red]not markup[/red]" in stream.getvalue()


# The page


def leaves(
    parser: argparse.ArgumentParser, path: tuple[str, ...] = ()
) -> Iterator[tuple[str, argparse.ArgumentParser]]:
    """Every command that can be called, with its parser."""
    inner = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    if not inner or not inner[0].required:
        yield " ".join(path), parser
    for action in inner:
        for name, sub in action.choices.items():
            yield from leaves(sub, (*path, name))


COMMANDS = dict(leaves(make_parser()))


def options(parser: argparse.ArgumentParser) -> set[str]:
    """Every option and argument of a command as its page writes it."""
    found = set()
    for action in parser._actions:
        found |= set(action.option_strings) or {str(action.metavar)}
    return found - {"-h"}


def sections() -> dict[str, str]:
    """The text of each section of the page, by its command."""
    page = (ROOT / "docs" / "CLI.md").read_text(encoding="utf-8")
    parts = re.split(r"^## (.*)$", page, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def documented(text: str) -> set[str]:
    """The options that the tables of a section describe."""
    cells = re.findall(r"^\| (`[^|]*`) \|", text, re.MULTILINE)
    return {name for cell in cells for name in re.findall(r"`([^`]+)`", cell)}


GLOBAL = {"--config", "--project-dir", "--profiles-dir", "--target", "--state-dir", "--json", "--help"}


def test_the_page_has_every_command_and_no_other() -> None:
    assert {title.strip("`") for title in sections() if title.startswith("`")} == set(COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_the_page_has_every_option_and_no_other(command: str) -> None:
    assert documented(sections()[f"`{command}`"]) == options(COMMANDS[command]) - GLOBAL


def test_the_page_has_the_global_options() -> None:
    found = {name for name in documented(sections()["For all commands"]) if name.startswith("--")}
    assert found == GLOBAL
    for parser in COMMANDS.values():
        assert options(parser) >= GLOBAL


@pytest.mark.parametrize("command", COMMANDS)
def test_every_help_has_examples_and_exit_codes(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = call(capsys, *command.split(), "--help")
    assert code == 0
    name, *_ = command.split()
    assert f"sao-events {name}" in out.partition("examples:")[2]
    for number in ("0 ", "1 ", "2 ", "3 ", "130"):
        assert f"\n  {number}" in out.partition("exit codes:")[2]


def rows(text: str) -> Sequence[str]:
    """The exit codes of a table."""
    return re.findall(r"^\| (\d+) \|", text, re.MULTILINE)


def test_the_page_has_the_exit_codes() -> None:
    assert list(rows(sections()["For all commands"])) == ["0", "1", "2", "3", "130"]
