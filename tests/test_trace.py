"""Traces made from rates: when things happen, the same each time, and what is wrong with a file."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from random import Random
from zoneinfo import ZoneInfo

import pytest

from sao_events.compare.rates import Rate
from sao_events.compare.trace import Durations, Trace
from sao_events.compare.tracefile import read_trace
from sao_events.core import events as e
from sao_events.core.errors import ConfigError
from tests.compared import DAY, HOUR, START, node, project

SHOP = project(
    node("stg_orders", "raw.orders", kind="view", path="models/staging/stg_orders.sql"),
    node("orders", "stg_orders", "raw.payments", path="models/marts/orders.sql"),
    node("books", "orders", "raw.stores", path="models/marts/finance/books.sql"),
)


def made(tmp_path: Path, text: str, days: float = 1, seed: int = 0) -> Trace:
    path = tmp_path / "trace.yaml"
    path.write_text(text)
    return read_trace(path, SHOP, days=days, seed=seed)


def landed(tmp_path: Path, rate: str, days: float = 1, more: str = "") -> list[float]:
    """The hours at which data lands."""
    trace = made(tmp_path, f"{more}\nsources:\n  raw.orders: {rate}\n", days)
    return [round((at - START) / HOUR, 4) for at in trace.landings().get("raw.orders", [])]


def test_beats_count_from_the_start_which_is_a_monday(tmp_path: Path) -> None:
    assert landed(tmp_path, "{every: 6h}") == [6, 12, 18]
    assert datetime.fromtimestamp(START, UTC).weekday() == 0
    assert landed(tmp_path, "{every: 1h30m}", days=0.25) == [1.5, 3, 4.5]


def test_times_of_day(tmp_path: Path) -> None:
    assert landed(tmp_path, "{at: 06:00}", days=2) == [6, 30]
    assert landed(tmp_path, "{at: [18:30, 6:00]}", days=1) == [6, 18.5]
    assert landed(tmp_path, "{at: [00:00]}", days=2) == [24]  # what is there at the start is there already


def test_hours_and_weekdays_leave_out_the_rest(tmp_path: Path) -> None:
    assert landed(tmp_path, "{every: 6h, between: 06:00-18:00}") == [6, 12]
    assert landed(tmp_path, "{every: 6h, between: 18:00-07:00}") == [6, 18]
    assert landed(tmp_path, "{at: 12:00, weekdays: mon-tue}", days=9) == [12, 36, 180, 204]
    assert landed(tmp_path, "{at: 12:00, weekdays: [sat-mon, wed]}", days=7) == [12, 60, 132, 156]
    assert landed(tmp_path, "{every: 6h, between: 12:00-24:00}") == [12, 18]


def test_local_time_follows_the_clocks(tmp_path: Path) -> None:
    # Central Europe goes from UTC+1 to UTC+2 on 29 March 2026 at 01:00 UTC.
    zone = 'start: "2026-03-28T00:00:00Z"\ntimezone: Europe/Berlin'
    trace = made(tmp_path, f"{zone}\nsources:\n  raw.orders: {{at: 06:00}}\n", days=3)
    hours = [(at - trace.start) / HOUR for at in trace.landings()["raw.orders"]]
    assert hours == [5, 24 + 4, 48 + 4]


def test_jitter_makes_late_and_never_early() -> None:
    instants = Rate(every=600, jitter=120).instants(0, DAY, Random(1))
    late = [at % 600 for at in instants]
    assert len(instants) in (143, 142)
    assert max(late) <= 120
    assert len(set(late)) > 100


def test_chance_has_the_rate_it_is_given() -> None:
    # 6 an hour over 100 days are 14,400; their standard deviation is 120.
    assert abs(len(Rate(poisson=6 / HOUR).instants(0, 100 * DAY, Random(5))) - 14_400) < 5 * 120
    # Within 06:00 to 18:00 half of them.
    half = Rate(poisson=6 / HOUR, between=(6 * 3600, 18 * 3600)).instants(0, 100 * DAY, Random(5))
    assert abs(len(half) - 7_200) < 5 * 85
    assert all(6 * HOUR <= at % DAY < 18 * HOUR for at in half)


CHANCE = """
sources:
  raw.orders: {poisson: 6/h}
  raw.payments: {every: 10m, jitter: 2m}
code: {poisson: 3/d, nodes: [marts]}
"""


def test_the_same_seed_gives_the_same_trace(tmp_path: Path) -> None:
    first, again, other = (made(tmp_path, CHANCE, days=3, seed=seed) for seed in (7, 7, 8))
    assert first.happenings == again.happenings
    assert first.happenings != other.happenings
    codes = [{name: each.own for name, each in trace.project.graph.nodes.items()} for trace in (first, again)]
    assert codes[0] == codes[1]


def test_another_source_leaves_the_chance_of_the_others_alone(tmp_path: Path) -> None:
    more = CHANCE.replace("sources:", "sources:\n  raw.stores: {poisson: 9/h}")
    before, after = made(tmp_path, CHANCE), made(tmp_path, more)
    assert before.landings().items() < after.landings().items()


def test_code_changes_one_of_the_nodes_each_time(tmp_path: Path) -> None:
    trace = made(tmp_path, "sources: {}\ncode: {every: 6h, nodes: [finance, stg_*]}")
    loads = [(item.at - START, item.event) for item in trace.happenings]
    assert [at / HOUR for at, _ in loads] == [0, 6, 12, 18]
    versions = [trace.projects[event.project].graph.nodes for _, event in loads if isinstance(event, e.ProjectLoaded)]
    for before, after in pairwise(versions):
        changed = [name for name in before if before[name].own != after[name].own]
        assert len(changed) == 1
        assert changed[0] in ("stg_orders", "books")
    assert trace.project.graph.nodes["orders"] is SHOP.graph.nodes["orders"]


def test_sources_go_by_their_names(tmp_path: Path) -> None:
    assert made(tmp_path, "sources:\n  payments: {every: 1h}").landings().keys() == {"raw.payments"}


def test_build_times_may_be_given(tmp_path: Path) -> None:
    trace = made(tmp_path, "sources: {}\ndurations: {default: 2s, marts: 1m, books: 5m}")
    assert [trace.durations.of(name) for name in SHOP.graph.nodes] == [2, 60, 300]
    over = trace.durations.over(Durations({"books": 7.0, "stg_orders": 8.0}, {"t": 1.0}, assumed=99.0))
    assert [over.of(name) for name in SHOP.graph.nodes] == [8, 60, 300]
    assert (over.of_test("t"), over.of("new")) == (1.0, 2.0)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("sources:\n  raw.orders: {every: 1h}\n  raw.order: {every: 1h}",
         r"yaml:3: the project has no source raw\.order\n  did you mean raw\.orders\?"),
        ("sources:\n  raw.orders: {evry: 1h}", r"yaml:2: unknown key evry\n  did you mean every\?"),
        ("sources:\n  raw.orders: {every: -10m}", "yaml:2: every must be a duration .* above zero, not -10m"),
        ("sources:\n  raw.orders: {every: 0s}", "yaml:2: every must be a duration"),
        ("sources:\n  raw.orders: {every: 1h, jitter: -2m}", "yaml:2: jitter must be a duration"),
        ("sources:\n  raw.orders:\n    poisson: -6/h", "yaml:3: poisson must be a rate above zero .*, not -6/h"),
        ("sources:\n  raw.orders: {poisson: 0/h}", "yaml:2: poisson must be a rate above zero"),
        ("sources:\n  raw.orders: {poisson: 6}", "yaml:2: poisson must be a rate"),
        ("sources:\n  raw.orders: {every: 1h, poisson: 6/h}", "yaml:2: raw.orders: give exactly one of every, po"),
        ("sources:\n  raw.orders: {jitter: 1h}", "yaml:2: raw.orders: give exactly one of"),
        ("sources:\n  raw.orders: {at: 25:00}", "yaml:2: at must be times of day"),
        ("sources:\n  raw.orders: {at: 24:00}", "yaml:2: at must be a time of day"),
        ("sources:\n  raw.orders: {at: []}", "yaml:2: at must be a time of day"),
        ("sources:\n  raw.orders: {every: 1h, between: 6-22}", "yaml:2: between must be"),
        ("sources:\n  raw.orders: {every: 1h, between: 06:00-06:00}", "yaml:2: between must be two times of day"),
        ("sources:\n  raw.orders: {every: 1h, weekdays: mon-fry}", "yaml:2: weekdays must be days such as"),
        ("sources:\n  raw.orders: 10m", "yaml:2: raw.orders: a rate is written"),
        ("sources: [raw.orders]", "yaml:1: sources must be a mapping"),
        ("source: {}", r"yaml:1: unknown key source\n  did you mean sources\?"),
        ("sources: {}\nstart: yesterday", "yaml:2: start must be an instant"),
        ("sources: {}\ntimezone: Mars/Olympus", "yaml:2: timezone Mars/Olympus is not known"),
        ("sources: {}\ncode: {every: 1d, nodes: [oders]}", r"yaml:2: no node .* oders\n  did you mean orders"),
        ("sources: {}\ncode: {every: 1d, nodes: []}", "yaml:2: nodes must be a list"),
        ("sources: {}\ncode: 1d", "yaml:2: code is written"),
        ("sources: {}\ndurations:\n  mars: 1m", r"yaml:3: no node .* mars\n  did you mean marts\?"),
        ("sources: {}\ndurations: {default: soon}", "yaml:2: default must be a duration"),
        ("sources: {}\ndurations: 30s", "yaml:2: durations is written"),
        ("sources: {}\n---\nsources: {}", "a trace is one YAML document, this file has 2"),
        ("sources:\n  raw.orders: {every: 1s}\n  raw.stores: {every: 1d}", "500000 landings, 864000 of them in raw"),
        ("sources: {raw.orders: {every: 1h}", "yaml:1: not valid YAML"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_file_is_said_with_its_line(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        made(tmp_path, text, days=10)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.yaml: cannot be read"):
        read_trace(tmp_path / "none.yaml", SHOP, days=1, seed=0)


def test_a_rate_in_a_zone_with_half_hours() -> None:
    rate = Rate(at=(6 * 3600,), zone=ZoneInfo("Asia/Kolkata"))
    assert [(at - START) / HOUR for at in rate.instants(START, START + DAY, Random(0))] == [0.5]


def test_a_name_that_several_sources_have_says_so(tmp_path: Path) -> None:
    (tmp_path / "trace.yaml").write_text("sources:\n  orders: {every: 1h}")
    of = project(node("a", "raw.orders", "archive.orders"))
    with pytest.raises(ConfigError, match=r"no source orders\n  several have it: raw\.orders, archive\.orders"):
        read_trace(tmp_path / "trace.yaml", of, days=1, seed=0)


ROOT = Path(__file__).parent.parent
TABLES = ("orders", "order_items", "customers", "payments", "products", "stores")
JAFFLE = project(
    node("stg_orders", *(f"raw.{table}" for table in TABLES), kind="view", path="models/staging/stg_orders.sql"),
    node("int_orders", "stg_orders", path="models/intermediate/int_orders.sql"),
    node("mart_orders", "int_orders", path="models/marts/mart_orders.sql"),
)


@pytest.mark.parametrize("path", sorted((ROOT / "examples" / "traces").glob("*.yaml")), ids=lambda path: path.stem)
def test_the_examples_are_traces_of_the_example_shop(path: Path) -> None:
    assert read_trace(path, JAFFLE, days=28, seed=0).landings().keys() == {f"raw.{table}" for table in TABLES}


def test_the_example_of_the_page_is_a_trace(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "SIMULATE.md").read_text(encoding="utf-8")
    [example] = [block for block in page.split("```yaml\n") if block.startswith("start:")]
    (tmp_path / "trace.yaml").write_text(example.partition("```")[0])
    trace = read_trace(tmp_path / "trace.yaml", JAFFLE, days=28, seed=0)
    assert set(trace.landings()) == {"raw.orders", "raw.payments", "raw.stores"}
    assert [trace.durations.of(name) for name in JAFFLE.graph.nodes] == [30, 30, 90]
