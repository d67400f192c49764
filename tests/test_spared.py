"""Why a reader stays as it is although an upstream was built with other code: over histories of the real engine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sao_events import report
from sao_events.cli import main
from sao_events.ports import Draft
from sao_events.report import View
from sao_events.scenario import read_scenarios
from sao_events.simulate import Simulation
from sao_events.store import open_store
from sao_events.store.checkpoint import load_world, world_from_bytes, world_to_bytes

SHOP = """
scenario: shop
nodes:
  raw.a: {kind: source}
  orders: {kind: table, reads: [raw.a], columns: [id, amount]}
  star: {kind: view, reads: [orders], select_star: true}
  ids: {kind: table, reads: [orders, raw.a], columns: [id], uses: {orders: [id], raw.a: [x]}}
  below: {kind: table, reads: [ids], uses: {ids: [id]}}
  sums: {kind: table, reads: [star], uses: {star: [amount]}}
  none: {kind: table, reads: [star], uses: {star: []}}
  unknown: {kind: table, reads: [orders]}
"""
ADD = "{at: +1h, edit: orders, change: add_column, column: note}"


def told(tmp_path: Path, events: str) -> Simulation:
    path = tmp_path / "story.yaml"
    path.write_text(f"{SHOP}events: [{events}]\nexpect: {{until: +2h}}\n", encoding="utf-8")
    [scenario] = read_scenarios(path)
    simulation = Simulation(scenario)
    simulation.run()
    return simulation


def seen(simulation: Simulation) -> View:
    engine = simulation.engine
    return View("prod", engine.project, engine.world, engine.settings, simulation.clock.now())


def why(simulation: Simulation, name: str) -> dict[str, Any]:
    return report.why(seen(simulation), simulation.store.find, name)


def test_a_reader_of_other_columns_shows_what_differs_and_what_it_reads(tmp_path: Path) -> None:
    found = why(told(tmp_path, ADD), "ids")
    assert (found["action"], found["reason"], found["spared_by"]) == ("reuse", "no_new_data", ["orders"])
    [change] = found["changes_upstream"]
    text = change.pop("text")
    assert change == {
        "reader": "ids",
        "upstream": "orders",
        "touched": False,
        "rows": "same",
        "columns": {"added": ["note"], "removed": [], "changed": []},
        "reads": ["id"],
        "decides_rows": [],
    }
    assert text == (
        "orders was built with other code since: its rows are the same, of its columns new: note; "
        "ids reads only id: that leaves it as it is"
    )


def test_behind_a_view_that_passes_columns_on_its_readers_are_spared_too(tmp_path: Path) -> None:
    simulation = told(tmp_path, ADD)
    [change] = why(simulation, "sums")["changes_upstream"]
    assert (change["upstream"], change["columns"]["added"], change["reads"]) == ("star", ["note"], ["amount"])
    [change] = why(simulation, "none")["changes_upstream"]
    assert "none reads none of its columns" in change["text"]


def test_who_reads_a_spared_reader_sees_what_spared_that(tmp_path: Path) -> None:
    found = why(told(tmp_path, ADD), "below")
    [change] = found["changes_upstream"]
    assert (change["reader"], change["upstream"], change["touched"]) == ("ids", "orders", False)
    assert found["spared_by"] == []


def test_who_was_touched_was_built_and_has_nothing_to_prove(tmp_path: Path) -> None:
    simulation = told(tmp_path, ADD)
    assert why(simulation, "unknown")["built_because"] == "upstream_code_changed"
    for name in ("unknown", "star", "orders"):
        assert why(simulation, name)["changes_upstream"] == []


def test_a_reader_that_is_touched_and_waits_says_by_what(tmp_path: Path) -> None:
    events = "{at: +1h, fail: ids, times: 9}, {at: +1h, edit: orders, change: sql}"
    found = why(told(tmp_path, events), "ids")
    [change] = found["changes_upstream"]
    assert (change["touched"], change["rows"], found["spared_by"]) == (True, "may_differ", [])


def test_the_proof_is_the_same_after_a_restart(tmp_path: Path) -> None:
    simulation = told(tmp_path, ADD)
    before, view = why(simulation, "ids"), seen(simulation)
    folded = load_world(simulation.store)
    kept = world_from_bytes(world_to_bytes(view.world))
    assert kept is not None
    for world in (folded, kept):
        again = View("prod", view.project, world, view.settings, view.now)
        assert report.why(again, simulation.store.find, "ids") == before


def test_the_command_line_says_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    on_record(told(tmp_path, ADD), tmp_path)
    monkeypatch.chdir(tmp_path)
    assert main(["why", "ids"]) == 0
    assert "other code upstream\n  orders was built with other code since: " in capsys.readouterr().out
    assert main(["why", "unknown"]) == 0
    assert "other code upstream" not in capsys.readouterr().out


def test_the_command_line_says_once_that_an_upstream_brought_new_rows_and_other_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    on_record(told(tmp_path, "{at: +1h, edit: orders, change: sql}"), tmp_path)
    monkeypatch.chdir(tmp_path)
    assert main(["why", "unknown"]) == 0
    assert capsys.readouterr().out.count("  orders built in ") == 1


def on_record(simulation: Simulation, tmp_path: Path) -> None:
    """Make a folder of a service with the log of a simulation."""
    store, digest = open_store(str(tmp_path / ".sao" / "state.db")), simulation.engine.world.project
    assert digest is not None
    store.put_project(digest, simulation.store.get_project(digest))
    store.append([Draft(item.event, item.at, item.key, item.sender) for item in simulation.store.read()])
    store.close()
    (tmp_path / "sao.yml").write_text("{}\n", encoding="utf-8")


@pytest.mark.parametrize(("name", "shown"), [("ids", True), ("unknown", False)])
def test_status_says_by_whom_a_node_is_spared(tmp_path: Path, name: str, shown: bool) -> None:
    [node] = [node for node in report.status(seen(told(tmp_path, ADD)))["nodes"] if node["node"] == name]
    assert node["spared_by"] == (["orders"] if shown else [])
