"""What the command line does about loads: replay what could not be mapped, show what waits, tell of parts."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from sao_events.inputs.landing import Landing, Place, landing_to_json
from sao_events.ports import Delivery, Incoming
from sao_events.store import open_store
from tests.test_cli import answer, call, shop

__all__ = ["shop"]

MAPPED = """
data: {loads: {both: {sources: [raw.orders, raw.payments]}}}
webhooks:
  hub: {provider: generic, secrets: [{env: X}], map: [{match: {table: "orders_*"}, sources: [raw.orders]}]}
"""


def keep(folder: Path, *landings: Landing) -> None:
    """Deliveries of the webhook hub that are about no source, one for each landing."""
    store = open_store(str(folder / ".sao" / "state.db"))
    now = time.time()
    store.receive(
        [
            Incoming(Delivery(now + n, "hub", "generic", "unmatched", "why", landings=(landing_to_json(it),)))
            for n, it in enumerate(landings)
        ]
    ).result()
    store.close()


def test_what_could_not_be_mapped_is_shown_and_replayed(shop: Path, capsys: pytest.CaptureFixture[str]) -> None:
    keep(shop, Landing(load_id="1", labels={"table": "orders_v2"}), Landing(place=Place("s", "t")))
    assert "delivery 1 of hub is about no source: why" in call(capsys, "status")[1]
    [still] = answer(capsys, "events", "replay", "--delivery", "1")["deliveries"]
    assert still["verdict"] == "unmatched"
    (shop / "sao.yml").write_text(MAPPED.replace("data: {loads: {both: {sources: [raw.orders, raw.payments]}}}", ""))
    code, out, _ = call(capsys, "events", "replay", "--all-unmatched")
    assert code == 0
    assert "delivery 1 of hub: 1 event recorded" in out
    assert "delivery 2 of hub: unmatched; no source is known as 's.t'" in out
    [lost] = answer(capsys, "status")["unmatched"]
    assert (lost["delivery"], lost["names"]) == (2, ["s.t"])
    [landed] = answer(capsys, "events", "--kind", "DataLanded", "--limit", "1")["events"]
    assert (landed["data"]["source"], landed["data"]["load_id"]) == ("raw.orders", "1")


def test_what_cannot_be_replayed_is_told(shop: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "no delivery is without a source" in call(capsys, "events", "replay", "--all-unmatched")[1]
    code, _, err = call(capsys, "events", "replay", "--delivery", "9")
    assert (code, "there is no delivery 9" in err) == (2, True)
    assert call(capsys, "events", "replay")[0] == 2
    assert call(capsys, "events", "replay", "--delivery", "1", "--all-unmatched")[0] == 2
    assert call(capsys, "events", "--limit", "1")[0] == 0


def test_a_load_that_waits_for_the_rest_is_shown(shop: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (shop / "sao.yml").write_text(MAPPED)
    before = {it["name"]: it["version"] for it in answer(capsys, "status")["sources"]}
    answer(capsys, "emit", "data", "raw.orders", "--load-id", "n1")
    now = {it["name"]: it for it in answer(capsys, "status")["sources"]}
    assert now["raw.orders"]["version"] == before["raw.orders"]
    assert (now["raw.orders"]["held"]["why"], now["raw.orders"]["held"]["load"]) == ("incomplete", "both")
    waits = "raw.orders: load n1 of both has landed; it counts when raw.payments has too"
    assert waits in call(capsys, "status")[1]
    assert waits in call(capsys, "why", "orders")[1]
    [held] = answer(capsys, "why", "orders")["held"]
    assert (held["name"], held["held"]["missing"], held["held"]["landed_too"]) == ("raw.orders", ["raw.payments"], [])
    assert answer(capsys, "why", "broken")["held"] == []
    answer(capsys, "emit", "data", "raw.payments", "--load-id", "n1")
    after = {it["name"]: it for it in answer(capsys, "status")["sources"]}
    assert after["raw.orders"]["version"] == before["raw.orders"] + 1
    assert (after["raw.orders"]["held"], after["raw.orders"]["load_id"]) == (None, "n1")


def test_parts_and_loads_of_nothing_are_told(shop: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert (
        "part of a load in raw.orders, load p" in call(capsys, *"emit data raw.orders --load-id p --partial".split())[1]
    )
    told = call(capsys, *"emit data raw.orders --rows 0".split())[1]
    assert "a load of nothing in raw.orders, 0 rows; it does not count as new" in told
    status = call(capsys, "status")[1]
    assert "raw.orders: a load brought no rows; it does not count as new" in status
