"""Data events: what a body may say, what is refused, and what makes two of them the same."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sao_events.core.events import DataLanded
from sao_events.core.evidence import AHEAD
from sao_events.inputs.data import (
    MOST,
    ROWS,
    TEXT_LENGTH,
    check_key,
    read_instant,
    read_landings,
    unknown_source,
)
from sao_events.inputs.landing import Landing
from sao_events.inputs.strict import Malformed, Refused

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC).timestamp()
ORDERS, ITEMS = "source.shop.raw.orders", "source.shop.raw.items"


def read_one(**body: Any) -> Landing:
    [found] = read_landings(body, NOW)
    return found


def iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat()


# What a body may say


def test_a_source_alone_is_enough() -> None:
    assert read_landings({"source": "raw.orders"}, NOW) == [Landing("raw.orders")]


def test_everything_a_loader_knows_is_read() -> None:
    body = {"source": "raw.orders", "load_id": "42", "loaded_at": "2026-03-01T11:59:30Z", "rows": 0}
    assert read_landings(body, NOW) == [Landing("raw.orders", "42", NOW - 30, 0)]


def test_null_is_as_good_as_absent() -> None:
    assert read_one(source="a.b", load_id=None, loaded_at=None, rows=None) == Landing("a.b")


def test_several_sources_may_share_what_is_known_or_say_it_themselves() -> None:
    body = {"sources": ["raw.orders", {"source": "raw.items", "rows": 7, "load_id": "mine"}], "load_id": "7", "rows": 1}
    assert read_landings(body, NOW) == [Landing("raw.orders", "7", None, 1), Landing("raw.items", "mine", None, 7)]


def test_a_list_holds_any_of_these() -> None:
    body = [{"source": "a.b", "load_id": "1"}, {"sources": ["c.d", "e.f"], "load_id": "2"}]
    assert read_landings(body, NOW) == [Landing("a.b", "1"), Landing("c.d", "2"), Landing("e.f", "2")]


def test_up_to_a_thousand_sources_are_read_at_once() -> None:
    names = [f"raw.t{number}" for number in range(MOST)]
    assert [landing.source for landing in read_landings({"sources": names}, NOW)] == names
    for body in ({"sources": [*names, "raw.more"]}, [{"source": name} for name in [*names, "raw.more"]]):
        with pytest.raises(Malformed, match=str(MOST)):
            read_landings(body, NOW)


@pytest.mark.parametrize("body", [[], {"sources": []}, [{"sources": []}, {"sources": []}]])
def test_at_least_one_source_is_named(body: Any) -> None:
    with pytest.raises(Malformed, match="no source"):
        read_landings(body, NOW)


@pytest.mark.parametrize(
    "body",
    [
        None, 1, True, "raw.orders", 1.5, ["raw.orders"], [[]], [None], [[{"source": "a.b"}]], {}, {"rows": 1},
        {"source": None}, {"source": ""}, {"source": 1}, {"source": ["a.b"]}, {"source": {"name": "a.b"}},
        {"source": "x" * 2000}, {"sources": "a.b"}, {"sources": {"a": 1}}, {"sources": [None]}, {"sources": [[]]},
        {"sources": [{}]}, {"sources": [{"sources": ["a.b"]}]}, {"source": "a.b", "sources": ["c.d"]},
        {"Source": "a.b"}, {"source": "a.b", "table": "x"}, {"source": "a.b", "": 1},
    ],
)  # fmt: skip
def test_any_other_shape_is_malformed(body: Any) -> None:
    with pytest.raises(Malformed) as caught:
        read_landings(body, NOW)
    assert caught.value.hint


def test_an_unknown_key_is_named() -> None:
    with pytest.raises(Malformed, match="loadid"):
        read_one(source="a.b", loadid="1")


@pytest.mark.parametrize("load_id", ["", "x" * (TEXT_LENGTH + 1), 7, 1.5, True, [], {}])
def test_a_load_id_is_text_of_some_length(load_id: Any) -> None:
    assert read_one(source="a.b", load_id="x" * TEXT_LENGTH).load_id == "x" * TEXT_LENGTH
    with pytest.raises(Malformed, match="load_id"):
        read_one(source="a.b", load_id=load_id)


@pytest.mark.parametrize("rows", [-1, 1.0, "100", True, False, [], {}, ROWS + 1, 10**400])
def test_rows_are_a_count(rows: Any) -> None:
    assert read_one(source="a.b", rows=ROWS).rows == ROWS
    with pytest.raises(Malformed, match="rows"):
        read_one(source="a.b", rows=rows)


# Instants


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1970-01-01T00:00:00Z", 0.0),
        ("1970-01-01t00:00:00z", 0.0),
        ("1970-01-01 00:00:00+00:00", 0.0),
        ("1970-01-01T01:00:00+01:00", 0.0),
        ("1970-01-01T01:00:00+0100", 0.0),
        ("1969-12-31T19:00:00-05:00", 0.0),
        ("1970-01-01T00:01Z", 60.0),
        ("1970-01-01T00:00:00.25Z", 0.25),
        ("1970-01-01T00:00:00,5Z", 0.5),
        ("2026-03-01T12:00:00Z", NOW),
        ("2024-02-29T00:00:00Z", 1_709_164_800.0),
    ],
)
def test_an_instant_is_read_with_its_offset(text: str, seconds: float) -> None:
    assert read_instant(text) == seconds


@pytest.mark.parametrize(
    "value",
    [
        "2026-03-01T12:00:00", "2026-03-01", "12:00:00Z", "2026-03-01T12Z", "20260301T120000Z", "2026-W09-7T12:00:00Z",
        "2026-02-29T00:00:00Z", "2026-13-01T00:00:00Z", "2026-03-01T24:00:00Z", "2026-03-01T12:60:00Z",
        "2026-03-01T12:00:00+25:00", "2026-03-01T12:00:00Zz", " 2026-03-01T12:00:00Z", "2026-03-01T12:00:00Z\n",
        "2026-03-01T12:00:00\u06f0Z", "\u0662026-03-01T12:00:00Z", "0001-01-01T00:00:00+23:00", "now", "", "nan",
        "9" * 5000, 1_772_366_400, 1.5, True, [], {},
    ],
)  # fmt: skip
def test_anything_else_is_no_instant(value: Any) -> None:
    with pytest.raises(Malformed, match="loaded_at"):
        read_one(source="a.b", loaded_at=value)


@given(
    st.datetimes(datetime(1971, 1, 1), datetime(2026, 1, 1)),
    st.integers(-14 * 60, 14 * 60),
)
def test_every_form_that_python_writes_reads_as_the_same_instant(moment: datetime, minutes: int) -> None:
    aware = moment.replace(tzinfo=timezone(timedelta(minutes=minutes)))
    assert read_instant(aware.isoformat()) == aware.timestamp()


def test_a_clock_that_is_ahead_is_refused_and_says_so() -> None:
    assert read_one(source="a.b", loaded_at=iso(NOW + AHEAD)).loaded_at == NOW + AHEAD
    with pytest.raises(Refused, match="5 minutes ahead") as caught:
        read_one(source="a.b", loaded_at=iso(NOW + AHEAD + 1))
    assert caught.value.hint
    assert "clock" in caught.value.hint


@pytest.mark.parametrize("far", ["9999-12-31T23:59:59Z", "9999-12-31T23:59:59-23:00"])
def test_a_far_future_is_refused_or_malformed_but_never_an_accident(far: str) -> None:
    with pytest.raises((Refused, Malformed)):
        read_one(source="a.b", loaded_at=far)


def test_an_old_load_is_taken_it_just_changes_nothing() -> None:
    assert read_one(source="a.b", loaded_at="1970-01-01T00:00:00Z").loaded_at == 0.0


# What makes two the same


def test_the_draft_names_the_source_by_its_id() -> None:
    draft = read_one(source="raw.orders", load_id="7", rows=3).draft(ORDERS, NOW, None, "data")
    assert draft.event == DataLanded(ORDERS, "7", None, 3)
    assert (draft.at, draft.sender) == (NOW, "data")


def key(source: str, load_id: str | None = None, header: str | None = None, **more: Any) -> str | None:
    return read_one(source="x.y", load_id=load_id, **more).draft(source, NOW, header, "data").key


def test_the_same_load_of_a_source_has_the_same_key_whatever_else_is_said() -> None:
    assert key(ORDERS, "7") is not None
    assert key(ORDERS, "7") == key(ORDERS, "7", rows=5) == key(ORDERS, "7", "header", loaded_at=iso(NOW))


def test_without_a_load_id_the_header_counts_and_without_both_nothing_does() -> None:
    assert key(ORDERS, None, "abc") == key(ORDERS, None, "abc")
    assert key(ORDERS) is None


def test_different_loads_sources_and_requests_have_different_keys() -> None:
    keys = [key(source, *ids) for source in (ORDERS, ITEMS) for ids in (("7",), ("8",), (None, "7"), (None, "8"))]
    assert len(set(keys)) == 8


names = st.text("abc/.%_ é", min_size=1, max_size=6)


@given(names, names, names, names)
def test_no_two_sources_and_loads_share_a_key_by_the_way_they_are_spelled(a: str, b: str, c: str, d: str) -> None:
    assert (key(a, b) == key(c, d)) == ((a, b) == (c, d))
    assert key(a, b) != key(c, None, "x")


@pytest.mark.parametrize("header", ["", "x" * (TEXT_LENGTH + 1), "a\x00", "a\nb", "caf\xe9", "\u0660"])
def test_an_idempotency_key_is_plain_text(header: str) -> None:
    assert check_key(None) is None
    assert check_key("8e03978e-40d5-43dd-bc93-6894a57f9324") == "8e03978e-40d5-43dd-bc93-6894a57f9324"
    with pytest.raises(Malformed, match="Idempotency-Key"):
        check_key(header)


def test_an_unknown_source_is_told_with_the_nearest_names() -> None:
    error = unknown_source("raw.ordrs", ["raw.orders", "raw.order_items"])
    assert "raw.ordrs" in error.message
    assert error.hint == "did you mean raw.orders or raw.order_items?"
    assert unknown_source("zzz", []).hint


def test_a_long_name_is_not_repeated_at_length() -> None:
    assert len(unknown_source("x" * 1000, []).message) < 120
    with pytest.raises(Malformed) as caught:
        read_one(source="a.b", loaded_at="x" * 10_000)
    assert len(caught.value.message) < 120
