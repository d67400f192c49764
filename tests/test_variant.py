"""Policies as the command line writes them, and the nodes that a selector names."""

from __future__ import annotations

import pytest

from sao_events.compare.selector import select
from sao_events.compare.variant import (
    Change,
    Schedule,
    Variant,
    read_change,
    read_named,
    read_schedule,
    with_policies,
    words,
)
from sao_events.core.errors import UsageError
from sao_events.core.policy import Policy
from sao_events.core.windows import Calendar
from tests.compared import HOUR, START, node, project

SHOP = project(
    node("stg_orders", "raw.orders", kind="view", path="models/staging/stg_orders.sql"),
    node("mart_orders", "stg_orders", path="models/marts/mart_orders.sql", hours=1),
    node("mart_books", "mart_orders", path="models/marts/finance/mart_books.sql", hours=2),
    node("loose", "mart_orders"),
)


@pytest.mark.parametrize(
    ("selector", "names"),
    [
        ("*", ["stg_orders", "mart_orders", "mart_books", "loose"]),
        ("mart_orders", ["mart_orders"]),
        ("marts", ["mart_orders", "mart_books"]),
        ("path:models/marts", ["mart_orders", "mart_books"]),
        ("path:models/marts/", ["mart_orders", "mart_books"]),
        ("marts/finance", ["mart_books"]),
        ("finance", ["mart_books"]),
        ("models", ["stg_orders", "mart_orders", "mart_books"]),
        ("*_orders", ["stg_orders", "mart_orders"]),
    ],
)
def test_a_selector_names(selector: str, names: list[str]) -> None:
    assert list(select(SHOP, selector)) == names


@pytest.mark.parametrize("text", ["m:all any", "m:1h 2h", "m:none 30m", "m:lazy 1h eager"])
def test_a_change_that_contradicts_itself_is_an_error(text: str) -> None:
    with pytest.raises(UsageError, match=f"{text.rsplit(maxsplit=1)[-1]} contradicts"):
        read_change(text)


@pytest.mark.parametrize(
    ("selector", "hint"),
    [
        ("mart_order", "did you mean mart_orders"),
        ("mart", "did you mean marts"),
        ("path:loose", "did you mean|known are"),
    ],
)
def test_a_selector_that_names_nothing_is_an_error_with_the_nearest_name(selector: str, hint: str) -> None:
    with pytest.raises(UsageError, match=f"no node has the name(.|\n)*{hint}"):
        select(SHOP, selector)


@pytest.mark.parametrize(
    ("text", "change"),
    [
        ("marts:4h all", Change("marts", 4 * HOUR, "all")),
        ("path:models/marts:1h30m", Change("path:models/marts", 5400.0)),
        ("*:none", Change("*", 0.0)),
        ("a:0", Change("a", 0.0)),
        ("a: any lazy", Change("a", None, "any", True)),
        ("a:eager", Change("a", None, None, False)),
    ],
)
def test_a_change_reads(text: str, change: Change) -> None:
    assert read_change(text) == change


@pytest.mark.parametrize("text", ["marts", "marts:", ":4h", "marts:4 hours", "marts:4h most", "marts:-4h", ""])
def test_what_is_no_change_is_an_error_that_quotes_it(text: str) -> None:
    with pytest.raises(UsageError, match=repr(text)):
        read_change(text)


def test_changes_leave_what_they_do_not_name_and_later_ones_win() -> None:
    variant = Variant("v", {}, (Change("marts", 4 * HOUR, "all"), Change("mart_books", None, "any", True)))
    found = {name: each.policy for name, each in variant.over(SHOP).graph.nodes.items()}
    assert found == {
        "stg_orders": Policy(),
        "mart_orders": Policy(4 * HOUR, "all"),
        "mart_books": Policy(4 * HOUR, "any", True),
        "loose": Policy(),
    }


def test_a_window_takes_the_place_of_a_calendar_and_leaves_the_greatest_age() -> None:
    before = Policy(HOUR, "all", False, 9 * HOUR, Calendar())
    assert Change("*", 2 * HOUR).over(before) == Policy(2 * HOUR, "all", False, 9 * HOUR)
    assert Change("*", None, "any").over(before) == Policy(HOUR, "any", False, 9 * HOUR, Calendar())


def test_a_policy_that_stays_leaves_the_node_untouched() -> None:
    made = with_policies(SHOP, {"mart_orders": Policy(HOUR), "loose": Policy(9.0)})
    assert made.graph.nodes["mart_orders"] is SHOP.graph.nodes["mart_orders"]
    assert made.graph.nodes["loose"].policy == Policy(9.0)
    assert made.graph.upstreams == SHOP.graph.upstreams


def test_named_changes() -> None:
    assert read_named("calm = marts:12h, loose:1h lazy") == (
        "calm",
        (Change("marts", 12 * HOUR), Change("loose", HOUR, None, True)),
    )
    for text in ("marts:4h", "=marts:4h", "calm="):
        with pytest.raises(UsageError, match="no named policy"):
            read_named(text)


def test_schedules() -> None:
    assert read_schedule("every 1h") == Schedule(HOUR)
    assert read_schedule(" every 1d at 6:30") == Schedule(24 * HOUR, 6 * 3600 + 30 * 60)
    for text in ("hourly", "every", "every 0s", "every hour", "every 1d at 24:00", "every 1h at"):
        with pytest.raises(UsageError, match="no schedule"):
            read_schedule(text)
    assert list(Schedule(HOUR).instants(START, START + 2 * HOUR)) == [START, START + HOUR]


@pytest.mark.parametrize(
    ("policy", "text"),
    [
        (Policy(), "none"),
        (Policy(90.0), "90s"),
        (Policy(4 * HOUR, "all"), "4h all"),
        (Policy(86400, "any", True, 7200.0, Calendar()), "1d lazy by the calendar again after 2h"),
    ],
)
def test_policies_in_words(policy: Policy, text: str) -> None:
    assert words(policy) == text
