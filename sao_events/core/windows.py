"""Windows that follow the calendar: other intervals by weekday and hour, quiet hours, deadlines, and a greatest age.

dbt's own `build_after` is one number, and Jinja in it is only evaluated when the project is parsed; these are
declared in a node's `meta.sao` and hold for a service that runs for weeks. Pure: instants are UTC epoch seconds,
local time comes from the time zone.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from typing import Any
from zoneinfo import ZoneInfo

from sao_events.core.errors import PolicyError

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
DAY = 24 * 60
HORIZON = 400
LATEST = datetime(9999, 12, 30, tzinfo=UTC).timestamp()  # in all time zones
_TIME = re.compile(r"([01]?\d|2[0-4]):([0-5]\d)")
UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
_DURATION = re.compile(r"(\d+)\s*([smhdw])")


@dataclass(frozen=True, slots=True)
class Span:
    """A part of the week in local time: from `start` to `end` (minutes of the day; an end before the start is on the
    next day) on days that begin on `weekdays` (Monday is 0).
    """

    weekdays: frozenset[int] = frozenset(range(7))
    start: int = 0
    end: int = DAY

    def holds(self, local: datetime) -> bool:
        """Whether the local time lies in the span."""
        minute, today = local.hour * 60 + local.minute, local.weekday()
        if self.start < self.end:
            return today in self.weekdays and self.start <= minute < self.end
        return (today in self.weekdays and minute >= self.start) or (
            (today - 1) % 7 in self.weekdays and minute < self.end
        )


@dataclass(frozen=True, slots=True)
class Calendar:
    """When a node may be built for new data. `rules`: spans with the least seconds between builds, the first that holds
    counts; `quiet`: spans in which no such build begins; `deadlines`: (weekdays, minute) by which it is to be fresh.
    """

    timezone: str = "UTC"
    rules: tuple[tuple[Span, float], ...] = ()
    quiet: tuple[Span, ...] = ()
    deadlines: tuple[tuple[frozenset[int], int], ...] = ()

    def interval(self, at: float, otherwise: float) -> float:
        """The least seconds between builds that is in force at an instant."""
        local = _local(self.timezone, at)
        return next((seconds for span, seconds in self.rules if span.holds(local)), otherwise)

    def is_quiet(self, at: float) -> bool:
        """Whether no build for new data begins at an instant."""
        local = _local(self.timezone, at)
        return any(span.holds(local) for span in self.quiet)

    def opens(self, clock: float, now: float, otherwise: float) -> float | None:
        """The first instant from `now` on at which a build may begin when the last one counts from `clock`; None for
        never.
        """
        edges = self._edges(now)
        begin = now
        for end in edges:
            if not self.is_quiet(begin):
                at = max(begin, clock + self.interval(begin, otherwise))
                if at < end:
                    return at
            begin = end
        return None

    def even_until(self, at: float) -> float:
        """An instant after `at`, at most a quarter of an hour away, before which no rule, quiet hour or offset of local
        time can change: they do on whole minutes, and offsets on whole quarters of an hour.
        """
        minutes, minute = self._minutes(), at // 60 + 1
        while minute % 15:
            local = _local(self.timezone, minute * 60)
            if local.hour * 60 + local.minute in minutes:
                break
            minute += 1
        return minute * 60

    def _minutes(self) -> set[int]:
        spans = (*(span for span, _ in self.rules), *self.quiet)
        return {0} | {span.start % DAY for span in spans} | {span.end % DAY for span in spans}

    def deadlines_around(self, at: float) -> tuple[float | None, float | None]:
        """The last deadline at or before an instant, and the first after it."""
        today = _local(self.timezone, at).date()
        known = sorted(
            self._instant(day, minute)
            for day in (today + timedelta(days=days) for days in range(-8, 9))
            for weekdays, minute in self.deadlines
            if day.weekday() in weekdays
        )
        before, after = [d for d in known if d <= at], [d for d in known if d > at]
        return (before[-1] if before else None), (after[0] if after else None)

    def _edges(self, now: float) -> Iterator[float]:
        """The instants later than `now` at which another rule or quiet hour may hold, in order: where clocks are
        changed, that instant too, and each time that they show a minute.
        """
        minutes, today = sorted(self._minutes()), _local(self.timezone, now).date()
        for days in range(-1, HORIZON):
            day = today + timedelta(days=days)
            found = [_shown(self.timezone, day, minute) for minute in minutes]
            if change := _changed(self.timezone, day):
                found = sorted({change, *found, *(_shown(self.timezone, day, minute, 1) for minute in minutes)})
            yield from (at for at in found if at > now)

    def _instant(self, day: date, minute: int) -> float:
        """When clocks first show the minute of the day, or a later one, where they leave it out."""
        at, change = _shown(self.timezone, day, minute), _changed(self.timezone, day)
        if change is not None and _shown(self.timezone, day, minute, 1) < change < at:
            return change
        return at


def _local(timezone: str, at: float) -> datetime:
    return datetime.fromtimestamp(at, UTC).astimezone(ZoneInfo(timezone))


def _shown(timezone: str, day: date, minute: int, fold: int = 0) -> float:
    """When clocks show the minute of the day; `fold` 1 is the second time, where they show it twice. Where they leave
    it out, it is later than the change with 0, and earlier with 1.
    """
    midnight = datetime.combine(day, time(), ZoneInfo(timezone))
    return (midnight + timedelta(minutes=minute)).replace(fold=fold).timestamp()


@lru_cache(maxsize=4096)
def _changed(timezone: str, day: date) -> float | None:
    """The instant of the day at which clocks are changed."""

    def offset(minute: int) -> timedelta | None:
        return _local(timezone, minute * 60).utcoffset()

    first, last = (int(_shown(timezone, day, minute)) // 60 for minute in (0, DAY))
    before = offset(first - 1)
    if before == offset(last):
        return None
    return 60.0 * (first + bisect_left(range(first, last), True, key=lambda minute: offset(minute) != before))


def parse_duration(text: object) -> float:
    """Seconds of `90s`, `30m`, `12h`, `1d`, `2w` or of parts side by side (`1h30m`). Raises ValueError otherwise."""
    if not isinstance(text, str) or not text:
        raise ValueError(f"{text!r} is not a duration such as 30m, 12h or 1d")
    total, position = 0, 0
    for match in _DURATION.finditer(text):
        if match.start() != position:
            break
        total, position = total + int(match[1]) * UNITS[match[2]], match.end()
    if position != len(text):
        raise ValueError(f"{text!r} is not a duration such as 30m, 12h or 1d")
    return float(total)


def calendar_object(calendar: Calendar) -> dict[str, Any]:
    """The calendar as it is written in `meta.sao`, the weekdays and times of each entry included."""
    found: dict[str, Any] = {"timezone": calendar.timezone}
    if calendar.rules:
        found["window"] = [{**_span_object(span), "every": duration(seconds)} for span, seconds in calendar.rules]
    if calendar.quiet:
        found["quiet"] = [_span_object(span) for span in calendar.quiet]
    if calendar.deadlines:
        found["fresh_by"] = [{"weekdays": _days(days), "at": _clock(minute)} for days, minute in calendar.deadlines]
    return found


def duration(seconds: float) -> str:
    """The inverse of `parse_duration`, for whole seconds."""
    parts, rest = "", round(seconds)
    for unit in ("d", "h", "m", "s"):
        count, rest = divmod(rest, UNITS[unit])
        parts += f"{count}{unit}" if count else ""
    return parts or "0s"


def _span_object(span: Span) -> dict[str, str]:
    return {"weekdays": _days(span.weekdays), "between": f"{_clock(span.start)}-{_clock(span.end)}"}


def _days(days: frozenset[int]) -> str:
    known = sorted(days)
    if len(known) > 2 and known == list(range(known[0], known[-1] + 1)):
        return f"{DAYS[known[0]]}-{DAYS[known[-1]]}"
    return ",".join(DAYS[day] for day in known)


def _clock(minute: int) -> str:
    return f"{minute // 60:02}:{minute % 60:02}"


def calendar_to_json(calendar: Calendar) -> list[Any]:
    """The calendar as a JSON value."""
    rules = [[*_span_to_json(span), seconds] for span, seconds in calendar.rules]
    quiet = [_span_to_json(span) for span in calendar.quiet]
    return [calendar.timezone, rules, quiet, [[sorted(days), minute] for days, minute in calendar.deadlines]]


def calendar_from_json(body: list[Any]) -> Calendar:
    """The inverse of `calendar_to_json`."""
    timezone, rules, quiet, deadlines = body
    return Calendar(
        timezone,
        tuple((Span(frozenset(days), start, end), seconds) for days, start, end, seconds in rules),
        tuple(Span(frozenset(days), start, end) for days, start, end in quiet),
        tuple((frozenset(days), minute) for days, minute in deadlines),
    )


def _span_to_json(span: Span) -> list[Any]:
    return [sorted(span.weekdays), span.start, span.end]


def read_calendar(block: Mapping[str, Any], node: str) -> Calendar | None:
    """The calendar that a node's `meta.sao` declares with `timezone`, `window`, `quiet` and `fresh_by`; None where it
    has none.

    Raises PolicyError naming the node and the key.
    """
    if not {"window", "quiet", "fresh_by"} & block.keys():
        return None
    timezone = str(block.get("timezone", "UTC"))
    try:
        ZoneInfo(timezone)
    except (ValueError, OSError, KeyError):
        raise PolicyError(f"{node}: meta.sao.timezone: there is no time zone {timezone}") from None
    rules = tuple(_rule(rule, node) for rule in _list(block.get("window", ()), node, "window"))
    quiet = tuple(_span(span, node, "quiet") for span in _list(block.get("quiet", ()), node, "quiet"))
    deadlines = tuple(_deadline(item, node) for item in _list(block.get("fresh_by", ()), node, "fresh_by"))
    made = Calendar(timezone, rules, quiet, deadlines)
    if made.opens(0.0, 0.0, 0.0) is None:
        raise PolicyError(f"{node}: meta.sao.quiet leaves no time in which the node may be built")
    return made


def _list(value: Any, node: str, key: str) -> list[Any]:
    if isinstance(value, (list, tuple)):
        return list(value)
    if isinstance(value, (Mapping, str)):
        return [value]
    raise PolicyError(f"{node}: meta.sao.{key} must be a list, not {value!r}; times stand in quotes")


def _rule(block: Any, node: str) -> tuple[Span, float]:
    if not isinstance(block, Mapping) or "every" not in block:
        raise PolicyError(
            f"{node}: meta.sao.window: each entry needs `every`, such as {{weekdays: mon-fri, every: 1h}}"
        )
    return _span({key: value for key, value in block.items() if key != "every"}, node, "window"), _seconds(
        block["every"], node
    )


def _span(block: Any, node: str, key: str) -> Span:
    if isinstance(block, str):
        block = {"between": block}
    if not isinstance(block, Mapping) or block.keys() - {"weekdays", "between"}:
        raise PolicyError(f"{node}: meta.sao.{key}: known are weekdays and between, not {block!r}")
    start, end = _between(block.get("between", "00:00-24:00"), node, key)
    return Span(_weekdays(block.get("weekdays", "mon-sun"), node, key), start, end)


def _deadline(block: Any, node: str) -> tuple[frozenset[int], int]:
    if isinstance(block, str):
        block = {"at": block}
    if not isinstance(block, Mapping) or "at" not in block or block.keys() - {"at", "weekdays"}:
        raise PolicyError(
            f'{node}: meta.sao.fresh_by: known are at and weekdays, such as {{at: "07:00", weekdays: mon-fri}}'
        )
    return _weekdays(block.get("weekdays", "mon-sun"), node, "fresh_by"), _minute(str(block["at"]), node, "fresh_by")


def _between(text: Any, node: str, key: str) -> tuple[int, int]:
    start, dash, end = str(text).partition("-")
    if not dash:
        raise PolicyError(f'{node}: meta.sao.{key}: between is "HH:MM-HH:MM", not {text!r}')
    found = _minute(start.strip(), node, key), _minute(end.strip(), node, key)
    if found[0] == found[1]:
        raise PolicyError(f"{node}: meta.sao.{key}: between {text} is empty")
    return found


def _minute(text: str, node: str, key: str) -> int:
    match = _TIME.fullmatch(text)
    minute = int(match[1]) * 60 + int(match[2]) if match else DAY + 1
    if minute > DAY:
        raise PolicyError(f"{node}: meta.sao.{key}: {text!r} is not a time of day such as 07:00 (in quotes)")
    return minute


def _weekdays(value: Any, node: str, key: str) -> frozenset[int]:
    names: Iterable[Any] = value if isinstance(value, (list, tuple)) else str(value).split(",")
    found: set[int] = set()
    for name in names:
        first, _, last = str(name).strip().lower().partition("-")
        try:
            begin, end = DAYS.index(first), DAYS.index(last or first)
        except ValueError:
            raise PolicyError(
                f"{node}: meta.sao.{key}: weekdays are {', '.join(DAYS)} or mon-fri, not {name!r}"
            ) from None
        found |= {day % 7 for day in range(begin, end + 1 if end >= begin else end + 8)}
    return frozenset(found)


def _seconds(text: Any, node: str) -> float:
    try:
        return parse_duration(text)
    except ValueError as error:
        raise PolicyError(f"{node}: meta.sao.window: every: {error}") from None
