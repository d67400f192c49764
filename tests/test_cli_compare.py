"""`simulate` with policies to compare, as it is called and what it prints."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from sao_events.cli import main
from sao_events.ports import Draft
from sao_events.scenario import read_scenarios
from sao_events.simulate import Simulation
from sao_events.store import open_store

SCENARIO = (
    """
scenario: hourly
start: 2026-01-05T00:00:00Z
settings: {build_duration: 10s}
nodes:
  raw: {kind: source}
  lone: {kind: source}
  mart: {kind: table, reads: [raw], config: {state: {lag_tolerance: 4h}}}
  books: {kind: table, reads: [mart, lone]}
events:
"""
    + "".join(f"  - {{at: +{hour}h, land: raw}}\n" for hour in range(1, 24))
    + "expect: {until: +24h}\n"
)
TRACE = "sources:\n  raw: {every: 1h}\n"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with a scenario, a trace, and a configuration in which nothing settles."""
    (tmp_path / "hourly.yaml").write_text(SCENARIO)
    (tmp_path / "trace.yaml").write_text(TRACE)
    (tmp_path / "sao.yml").write_text("decisions: {settle: 0s}\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def record(folder: Path) -> None:
    """The log of a service that lived through the scenario, in the state folder."""
    [scenario] = read_scenarios(folder / "hourly.yaml")
    simulation = Simulation(scenario)
    timeline = simulation.run()
    store = open_store(str(folder / ".sao" / "state.db"))
    digest = simulation.engine.world.project
    assert digest is not None
    store.put_project(digest, simulation.store.get_project(digest))
    store.append([Draft(item.event, item.at, item.key, item.sender) for item in timeline.log])
    store.close()


def call(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    code = main(["simulate", *arguments])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def told(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    code, out, err = call(capsys, *arguments, "--json")
    assert (code, err) == (0, "")
    return dict(json.loads(out))


def builds(answer: dict[str, Any]) -> dict[str, int]:
    return {policy["policy"]: policy["builds"] for policy in answer["policies"]}


def test_a_scenario_compares_policies_over_its_own_events(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    answer = told(capsys, "hourly.yaml", "--baseline", "every 1h", "--set", "mart:8h", "--policy", "eager=*:none")
    # mart and books at 0, 4, 8 ... 20; each hour; at 0, 8, 16; at 0 and at each of 23 landings.
    assert builds(answer) == {"today": 12, "every 1h": 48, "mart:8h": 6, "eager": 48}
    today, hourly = answer["policies"][:2]
    assert (today["saved"], hourly["saved"]) == (0.75, 0.0)
    assert (hourly["reuses"], hourly["build_seconds"], today["build_seconds"]) == (0, 480, 120)
    assert answer["notes"] == ["no data lands in lone: nothing is ever new there"]


def test_the_scenarios_project_and_a_trace(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    answer = told(capsys, "hourly.yaml", "--trace", "trace.yaml", "--days", "2")
    assert (builds(answer), answer["landings"], answer["days"]) == ({"today": 24}, 47, 2.0)


def test_the_project_on_record_its_build_times_and_a_trace(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    record(folder)
    answer = told(capsys, "--trace", "trace.yaml", "--days", "1")
    assert builds(answer) == {"today": 12}
    assert answer["policies"][0]["build_seconds"] == 120
    assert answer["notes"] == ["no data lands in lone: nothing is ever new there"]


def test_the_log_of_the_state_folder_and_one_given(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    record(folder)
    mine = told(capsys, "--set", "mart:12h")
    assert builds(mine) == {"today": 12, "mart:12h": 4}
    assert told(capsys, "--log", ".sao", "--set", "mart:12h") == mine
    assert main(["events", "--limit", "1000", "--json"]) == 0
    (folder / "log.json").write_text(capsys.readouterr().out)
    (folder / ".sao" / "state.db").unlink()
    code, _, err = call(capsys, "--log", "log.json")
    assert code == 2
    assert "give the project with --manifest" in err


def test_the_table_says_the_same(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = call(capsys, "hourly.yaml", "--baseline", "every 1h", "--nodes")
    assert code == 0
    lines = [line.split() for line in out.splitlines()]
    # As in test_compare, plus the 10 and 20 seconds that the builds take: a mean of 67.5 minutes and a little.
    assert ["today", "12", "36", "2m", "2m", "0", "1h", "7m", "2h", "48m", "3h", "-75%", "build", "time"] in lines
    assert any(line[:3] == ["books", "today", "6"] for line in lines)


def test_proposals_come_as_a_table_as_yaml_and_as_json(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = call(capsys, "hourly.yaml", "--recommend")
    assert code == 0
    assert "mart: " in out
    answer = told(capsys, "hourly.yaml", "--recommend")
    assert [each["group"] for each in answer["proposals"]] == ["mart", "books"]
    mart = answer["proposals"][0]
    assert mart["today"]["policy"] == "4h"
    assert {each["policy"]: each["saved_seconds_a_day"] for each in mart["candidates"]}["8h"] == 60
    assert "seldom" not in mart["all"]
    assert ("build_after" in answer["yaml"]) == any(each["proposed"] for each in answer["proposals"])


def test_the_picture_is_written(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = call(capsys, "hourly.yaml", "--svg", "out.svg")
    assert (code, err) == (0, "the picture is in out.svg\n")
    assert ET.parse(folder / "out.svg").getroot().tag.endswith("svg")  # noqa: S314
    code, _, err = call(capsys, "hourly.yaml", "--svg", "no/such/out.svg")
    assert code == 2
    assert "no/such/out.svg: cannot be written" in err


def test_the_same_seed_prints_the_same(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "trace.yaml").write_text("sources:\n  raw: {poisson: 3/h}\n")
    first, again, other = (
        told(capsys, "hourly.yaml", "--trace", "trace.yaml", "--seed", seed, "--days", "1") for seed in "112"
    )
    assert first == again
    assert first != other


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "nothing to simulate"),
        (("--svg", "x.svg"), "there is no history to replay"),
        (("--trace", "trace.yaml"), "no project is given"),
        (("--trace", "none.yaml", "hourly.yaml"), "none.yaml: cannot be read"),
        (("--log", "nowhere"), "nowhere: there is no log here"),
        (("hourly.yaml", "trace.yaml", "--nodes"), "one scenario file at a time"),
        (("hourly.yaml", "--set", "marts:4h"), "no node has the name, folder or pattern marts\n  did you mean mart?"),
        (("hourly.yaml", "--set", "mart"), "'mart' is no change of policy"),
        (("hourly.yaml", "--baseline", "hourly"), "'hourly' is no schedule"),
        (("hourly.yaml", "--policy", "today=mart:1h"), "two policies of the name today"),
        (("hourly.yaml", "--policy", "mart:1h"), "is no named policy"),
        (("--manifest", "none.json", "--trace", "trace.yaml"), "none.json"),
    ],
)
def test_what_cannot_be_compared_is_said(
    folder: Path, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], message: str
) -> None:
    code, out, err = call(capsys, *arguments)
    assert (code in (2, 3), out) == (True, "")
    assert message in err


def model(name: str, *reads: str, **config: Any) -> dict[str, Any]:
    """As dbt's manifest has it, as far as it is read."""
    file = f"models/{name}.sql"
    depends, config = {"nodes": list(reads), "macros": []}, {"materialized": "table", **config}
    known = {"name": name, "resource_type": "model", "raw_code": "select 1", "language": "sql"}
    return {"unique_id": name, **known, "original_file_path": file, "config": config, "depends_on": depends}


def manifest(*models: dict[str, Any]) -> dict[str, Any]:
    source = {"unique_id": "source.raw", "name": "raw", "source_name": "raw"}
    metadata = {"dbt_schema_version": "https://schemas.getdbt.com/dbt/manifest/v12.json", "adapter_type": "duckdb"}
    nodes = {f"entry {place}": model for place, model in enumerate(models)}
    return {"metadata": metadata, "nodes": nodes, "sources": {"source.raw": source}}


MANIFESTS: dict[str, tuple[Any, str]] = {
    "a cycle": (
        manifest(model("model.x", "model.y"), model("model.y", "model.x")),
        "the graph has a cycle: model.x -> model.y -> model.x",
    ),
    "a node twice": (manifest(model("model.x"), model("model.x")), "two nodes of the name model.x"),
    "a relation twice": (
        manifest(
            {**model("model.x"), "relation_name": '"db"."main"."x"'},
            {**model("model.y"), "relation_name": '"db"."main"."X"'},
        ),
        'two nodes make "db"."main"."X": model.x and model.y',
    ),
    "a policy": (manifest(model("x", state={"lag_tolerance": "1"})), "'1' is not a duration"),
    "nodes that are none": (manifest({"unique_id": "x", "name": "x"}), "nodes: entry 0 has no resource_type"),
    "another type": (
        manifest({**model("x"), "depends_on": "y"}),
        "nodes: entry 0, depends_on is a text, not a mapping",
    ),
    "names that are none": (
        manifest({**model("x"), "depends_on": {"nodes": [1]}}),
        "nodes: entry 0, depends_on, nodes is a number, not a text",
    ),
    "nothing": (manifest({**model("x"), "name": None}), "nodes: entry 0, name is null, not a text"),
    "nodes in a list": ({**manifest(), "nodes": [model("x")]}, "nodes is a list, not a mapping"),
    "a list": ([1], "the manifest is a list, not a mapping"),
    "a number": (3, "the manifest is a number, not a mapping"),
}


@pytest.mark.parametrize("case", MANIFESTS)
def test_a_manifest_made_by_hand_that_is_wrong(case: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    body, says = MANIFESTS[case]
    (folder / "hand.json").write_text(json.dumps(body))
    code, out, err = call(capsys, "--manifest", "hand.json", "--trace", "trace.yaml")
    assert (code in (1, 3), out) == (True, "")
    assert says in err
    assert err.count("hand.json") == 1
    assert "bug" not in err


def test_a_node_that_stands_twice_in_a_manifest_is_not_lost(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    nodes = manifest(model("model.x"), model("model.y"))
    (folder / "hand.json").write_text(json.dumps(nodes).replace("entry 1", "entry 0"))
    code, out, err = call(capsys, "--manifest", "hand.json", "--trace", "trace.yaml")
    assert (code, out) == (3, "")
    assert "hand.json is not as dbt writes it: the key entry 0 stands in one place twice" in err


def test_what_is_wrong_with_the_policies_is_noted(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    zero = {"state": {"lag_tolerance": "0s"}, "freshness": {"build_after": {"count": 1, "period": "day"}}}
    body = manifest(model("model.s"), model("model.x", "source.raw", "model.s", **zero))
    (folder / "hand.json").write_text(json.dumps(body))
    (folder / "trace.yaml").write_text("sources: {raw.raw: {every: 1h}}\n")
    given = ("--manifest", "hand.json", "--trace", "trace.yaml", "--baseline", "every 1d", "--set", "model.x:all")
    notes = [note for note in told(capsys, *given)["notes"] if "model.x" in note]
    assert [" ".join(note.split()[:3]) for note in notes] == [
        "model.x: state.lag_tolerance is",
        "model.x: state.lag_tolerance (0s)",
        "model.x:all: model.x: updates_on:",
    ]
    assert "can never be met: model.s cannot have new data" in notes[-1]


def test_days_must_be_days(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for days in ("0", "-1", "x", "nan", "1e9"):
        assert call(capsys, "hourly.yaml", "--days", days, "--nodes")[0] == 2
    assert "3660 at most" in call(capsys, "hourly.yaml", "--days", "3661", "--nodes")[2]


def test_several_scenarios_in_a_file_are_too_many(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "two.yaml").write_text(f"{SCENARIO}---{SCENARIO.replace('hourly', 'again')}")
    code, _, err = call(capsys, "two.yaml", "--nodes")
    assert code == 2
    assert "this file has 2: hourly, again" in err
