"""Windows that follow the calendar, checked by hand and, over random calendars, minute by minute."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from sao_events.core.errors import PolicyError
from sao_events.core.windows import Calendar, Span, calendar_object, read_calendar

BERLIN = ZoneInfo("Europe/Berlin")
HOUR = 3600.0


def berlin(text: str) -> float:
    """A local time in Berlin, such as `2026-01-09 20:00` (a Friday), as an instant."""
    return datetime.fromisoformat(text).replace(tzinfo=BERLIN).timestamp()


def calendar(**block: Any) -> Calendar:
    """The calendar that a node's `meta.sao` declares, in Berlin."""
    made = read_calendar({"timezone": "Europe/Berlin", **block}, "m")
    assert made is not None
    return made


def test_without_rules_the_windows_own_length_counts() -> None:
    made = calendar(quiet=[{"weekdays": "sun", "between": "03:00-03:01"}])
    clock = berlin("2026-01-09 20:00")
    assert made.opens(clock, clock, 4 * HOUR) == clock + 4 * HOUR
    assert made.opens(clock, clock + 5 * HOUR, 4 * HOUR) == clock + 5 * HOUR


def test_another_interval_at_the_weekend() -> None:
    made = calendar(window=[{"weekdays": "sat,sun", "every": "48h"}])
    friday = berlin("2026-01-09 20:00")
    assert made.opens(friday, friday, HOUR) == berlin("2026-01-09 21:00")
    # From Friday 23:30 an hour ends on Saturday, where 48 hours count: they end on Sunday at 23:30.
    late = berlin("2026-01-09 23:30")
    assert made.opens(late, late, HOUR) == berlin("2026-01-11 23:30")
    # On Monday the hour counts again, and has long passed.
    noon = berlin("2026-01-11 12:00")
    assert made.opens(noon, noon, HOUR) == berlin("2026-01-12 00:00")


def test_the_first_rule_that_holds_counts() -> None:
    made = calendar(window=[{"between": "09:00-17:00", "every": "15m"}, {"weekdays": "mon-fri", "every": "2h"}])
    assert made.interval(berlin("2026-01-05 10:00"), 9.0) == 900.0
    assert made.interval(berlin("2026-01-05 17:00"), 9.0) == 7200.0
    assert made.interval(berlin("2026-01-10 18:00"), 9.0) == 9.0


def test_nothing_begins_in_quiet_hours() -> None:
    made = calendar(quiet="22:00-06:00")
    assert made.opens(0.0, berlin("2026-01-05 23:00"), 0.0) == berlin("2026-01-06 06:00")
    assert made.opens(0.0, berlin("2026-01-06 05:59"), 0.0) == berlin("2026-01-06 06:00")
    assert made.opens(0.0, berlin("2026-01-05 21:59"), 0.0) == berlin("2026-01-05 21:59")


def test_a_quiet_night_belongs_to_the_day_it_begins_on() -> None:
    made = calendar(quiet=[{"weekdays": "fri", "between": "22:00-06:00"}])
    assert made.is_quiet(berlin("2026-01-10 05:00"))  # Saturday morning
    assert not made.is_quiet(berlin("2026-01-09 05:00"))  # Friday morning


def test_the_clock_change_keeps_local_times() -> None:
    made = calendar(quiet="22:00-06:00")
    # In the night to 29 March 2026 clocks go from 02:00 to 03:00: the night has one hour less.
    start, end = berlin("2026-03-28 22:00"), berlin("2026-03-29 06:00")
    assert made.opens(0.0, start, 0.0) == end
    assert end - start == 7 * HOUR


def test_a_deadline_that_clocks_leave_out_is_when_they_change() -> None:
    made = calendar(fresh_by="02:30")
    before, after = made.deadlines_around(berlin("2026-03-28 12:00"))
    assert (before, after) == (berlin("2026-03-28 02:30"), berlin("2026-03-29 03:00"))


def test_a_deadline_that_clocks_show_twice_is_the_first() -> None:
    made = calendar(fresh_by="02:30")
    noon = berlin("2026-10-24 12:00")
    _, first = made.deadlines_around(noon)
    assert first == noon + 14.5 * HOUR
    assert made.deadlines_around(first) == (first, berlin("2026-10-26 02:30"))


def test_clocks_may_change_at_midnight() -> None:
    made = read_calendar({"timezone": "Africa/Cairo", "quiet": "22:00-00:30", "fresh_by": "00:30"}, "m")
    assert made is not None
    cairo = ZoneInfo("Africa/Cairo")
    night, one = datetime(2026, 4, 23, 22, tzinfo=cairo).timestamp(), datetime(2026, 4, 24, 1, tzinfo=cairo).timestamp()
    assert one == night + 2 * HOUR
    assert made.opens(0.0, night, 0.0) == one
    assert made.deadlines_around(night)[1] == one


def test_deadlines() -> None:
    made = calendar(fresh_by=[{"at": "07:00", "weekdays": "mon-fri"}, {"at": "12:00", "weekdays": "sat"}])
    thursday, friday = berlin("2026-01-08 07:00"), berlin("2026-01-09 07:00")
    saturday, monday = berlin("2026-01-10 12:00"), berlin("2026-01-12 07:00")
    assert made.deadlines_around(friday - 1) == (thursday, friday)
    assert made.deadlines_around(friday) == (friday, saturday)
    assert made.deadlines_around(saturday + 1) == (saturday, monday)


def test_no_deadline_where_none_is_declared() -> None:
    assert calendar(quiet="22:00-06:00").deadlines_around(0.0) == (None, None)


def test_weekdays_may_wrap() -> None:
    made = calendar(window=[{"weekdays": "sat-mon", "every": "1h"}])
    assert made.rules[0][0].weekdays == {5, 6, 0}


def test_what_declares_nothing_has_no_calendar() -> None:
    assert read_calendar({"lazy": True, "timezone": "Europe/Berlin"}, "m") is None


@pytest.mark.parametrize(
    ("block", "says"),
    [
        ({"timezone": "Mars/Olympus", "quiet": "22:00-06:00"}, "no time zone Mars/Olympus"),
        ({"quiet": "22:00"}, "HH:MM-HH:MM"),
        ({"quiet": "25:00-26:00"}, "25:00"),
        ({"quiet": "06:00-06:00"}, "empty"),
        ({"quiet": ["00:00-12:00", "12:00-24:00"]}, "leaves no time"),
        ({"quiet": 7}, "must be a list"),
        ({"window": [{"weekdays": "mon"}]}, "every"),
        ({"window": [{"every": "soon"}]}, "soon"),
        ({"window": [{"every": "1h", "weekday": "mon"}]}, "weekdays and between"),
        ({"window": [{"every": "1h", "weekdays": "monday"}]}, "monday"),
        ({"fresh_by": 750}, "times stand in quotes"),  # what YAML makes of 12:30
        ({"fresh_by": [{"by": "07:00"}]}, "fresh_by"),
    ],
)
def test_what_cannot_be_understood_is_named(block: dict[str, Any], says: str) -> None:
    with pytest.raises(PolicyError, match=r"m: meta\.sao") as caught:
        read_calendar(block, "m")
    assert says in str(caught.value)


SPANS = st.builds(
    Span,
    st.frozensets(st.integers(0, 6), min_size=1),
    st.integers(0, 95).map(lambda quarter: quarter * 15),
    st.integers(1, 96).map(lambda quarter: quarter * 15),
).filter(lambda span: span.start != span.end)
CALENDARS = st.builds(
    Calendar,
    st.sampled_from(["UTC", "Europe/Berlin", "America/St_Johns", "Asia/Kathmandu"]),
    st.lists(st.tuples(SPANS, st.sampled_from([900.0, 7200.0, 90000.0])), max_size=3).map(tuple),
    st.lists(SPANS, max_size=2).map(tuple),
)
# Around the nights in which clocks change: in Berlin and Newfoundland, each in spring and in autumn.
CHANGES = [
    berlin("2026-03-29 01:00"),
    berlin("2026-10-25 01:00"),
    berlin("2026-03-08 05:00"),
    berlin("2026-11-01 05:00"),
]
QUARTERS = st.builds(lambda around, later: around + later * 900.0, st.sampled_from(CHANGES), st.integers(-400, 100))


@given(CALENDARS, QUARTERS, st.integers(0, 400), st.sampled_from([0.0, 900.0, 36000.0]))
def test_it_opens_at_the_first_instant_at_which_it_may(
    made: Calendar, clock: float, later: int, otherwise: float
) -> None:
    now = clock + later * 900.0

    def may(at: float) -> bool:
        return not made.is_quiet(at) and at >= clock + made.interval(at, otherwise)

    found = made.opens(clock, now, otherwise)
    walked = next((at for at in (now + step * 900.0 for step in range(3000)) if may(at)), None)
    if walked is None:
        assert found is None or found > now + 2999 * 900.0
    else:
        assert found == walked


MOMENTS = st.integers(1_774_000_000, 1_776_000_000).map(float)  # March 2026: the night in which clocks go forward
AUTUMN = st.integers(1_792_800_000, 1_793_000_000).map(float)  # and that in which they go back


@given(CALENDARS, st.one_of(MOMENTS, AUTUMN))
def test_nothing_changes_while_it_is_even(made: Calendar, at: float) -> None:
    until = made.even_until(at)
    assert at < until <= at + 900.0
    for moment in (at + step for step in range(0, int(until - at), 7)):
        assert (made.interval(moment, 1.0), made.is_quiet(moment)) == (made.interval(at, 1.0), made.is_quiet(at))


@given(CALENDARS, st.one_of(MOMENTS, AUTUMN), st.integers(0, 400), st.floats(0.0, 1.0))
def test_a_wait_ends_when_it_was_said_to(made: Calendar, clock: float, later: int, share: float) -> None:
    now = clock + later * 900.0
    found, again = made.opens(clock, now, 36000.0), now + share * (made.even_until(now) - now)
    if found is not None and again < min(found, made.even_until(now)):
        assert made.opens(clock, again, 36000.0) == found


@given(
    st.builds(
        Calendar,
        st.sampled_from(("UTC", "Europe/Berlin")),
        st.lists(st.tuples(SPANS, st.integers(0, 10**6).map(float)), max_size=3).map(tuple),
        st.lists(SPANS, max_size=1).map(tuple),
        st.lists(st.tuples(st.frozensets(st.integers(0, 6), min_size=1), st.integers(0, 1440)), max_size=2).map(tuple),
    )
)
def test_a_calendar_is_shown_as_it_would_be_written(made: Calendar) -> None:
    assume(made.opens(0.0, 0.0, 0.0) is not None)
    assert read_calendar({"window": [], **calendar_object(made)}, "m") == made
