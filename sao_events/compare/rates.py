"""How often something happens: beats, times of day or chance, within hours and weekdays, as trace files write it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from random import Random

from sao_events.core.errors import ConfigError
from sao_events.core.windows import parse_duration
from sao_events.yamltext import Block

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
KEYS = ("every", "poisson", "at", "jitter", "between", "weekdays")
_RATE = re.compile(r"(\d+(?:\.\d+)?)\s*/\s*([smhdw])")
_TIME = re.compile(r"([01]?\d|2[0-4]):([0-5]\d)")


@dataclass(frozen=True, slots=True)
class Rate:
    """When something happens: every `every` seconds, at the times of day `at`, or by chance `poisson` times a second.

    Each instant may come up to `jitter` seconds late. `between` (seconds of the day) and `weekdays` (0 is Monday), in
    the time zone `zone`, leave out the others.
    """

    every: float | None = None
    poisson: float | None = None
    at: tuple[int, ...] = ()
    jitter: float = 0.0
    between: tuple[int, int] | None = None
    weekdays: frozenset[int] = frozenset(range(7))
    zone: tzinfo = UTC

    def instants(self, start: float, until: float, random: Random) -> list[float]:
        """The instants from `start` (excluded) to `until` (excluded), in order of time, to the millisecond."""
        kept = (beat for beat in self._beats(start, until, random) if self._open(beat))
        late = (round(beat + random.uniform(0, self.jitter), 3) for beat in kept)
        return sorted(at for at in late if start < at < until)

    def expected(self, seconds: float) -> float:
        """About how many instants that long a time has."""
        return seconds * (self.poisson or (1 / self.every if self.every else len(self.at) / 86400))

    def _beats(self, start: float, until: float, random: Random) -> Iterator[float]:
        if self.at:
            yield from self._times_of_day(start, until)
        beat, count = start, 0
        while not self.at and beat < until:
            count += 1
            beat = start + count * self.every if self.every else beat + random.expovariate(self.poisson or 0.0)
            yield beat

    def _times_of_day(self, start: float, until: float) -> Iterator[float]:
        day = datetime.fromtimestamp(start, self.zone).date() - timedelta(days=1)
        while datetime(day.year, day.month, day.day, tzinfo=self.zone).timestamp() < until:
            for seconds in self.at:
                hour, minute = divmod(seconds // 60, 60)
                yield datetime(day.year, day.month, day.day, hour, minute, tzinfo=self.zone).timestamp()
            day += timedelta(days=1)

    def _open(self, at: float) -> bool:
        local = datetime.fromtimestamp(at, self.zone)
        if local.weekday() not in self.weekdays:
            return False
        if self.between is None:
            return True
        opens, closes = self.between
        second = local.hour * 3600 + local.minute * 60 + local.second
        return opens <= second < closes if opens <= closes else second >= opens or second < closes


def read_rate(block: Block, name: str, place: str, zone: tzinfo) -> Rate:
    """The rate of `name` as `block` of the file `place` writes it; hours and days are those of `zone`.

    Raises ConfigError naming file and line. Keys other than `KEYS` are the caller's to check.
    """
    given = [key for key in ("every", "poisson", "at") if key in block]
    if len(given) != 1:
        raise ConfigError(f"{place}:{block.line}: {name}: give exactly one of every, poisson and at")
    return Rate(
        every=read_seconds(block, "every", place, above=True) if "every" in block else None,
        poisson=_poisson(block, place),
        at=_times(block, place),
        jitter=read_seconds(block, "jitter", place) if "jitter" in block else 0.0,
        between=_between(block, place),
        weekdays=_weekdays(block, place),
        zone=zone,
    )


def read_seconds(block: Block, key: str, place: str, above: bool = False) -> float:
    """The duration under `key`, as seconds; `above`: zero is none."""
    try:
        seconds = parse_duration(str(block[key]))
    except ValueError:
        seconds = -1.0
    if seconds < 0 or (above and not seconds):
        raise wrong(block, key, place, "a duration such as 30s, 10m or 1d" + (" above zero" if above else ""))
    return seconds


def wrong(block: Block, key: str, place: str, wanted: str) -> ConfigError:
    """The error that says what must stand under `key`."""
    return ConfigError(f"{place}:{block.line_of(key)}: {key} must be {wanted}, not {block[key]}")


def _poisson(block: Block, place: str) -> float | None:
    if "poisson" not in block:
        return None
    match = _RATE.fullmatch(str(block["poisson"]))
    if match is None or not float(match[1]):
        raise wrong(block, "poisson", place, "a rate above zero such as 6/h or 0.5/d")
    return float(match[1]) / parse_duration(f"1{match[2]}")


def _times(block: Block, place: str) -> tuple[int, ...]:
    given = block.get("at", ())
    times = [given] if isinstance(given, str) else given
    found = [_time(time, block, "at", place) for time in times]
    if "at" in block and (not found or max(found) >= 86400):
        raise wrong(block, "at", place, "a time of day or a list of them, 06:00 or [06:00, 18:30]")
    return tuple(sorted(found))


def _time(text: object, block: Block, key: str, place: str) -> int:
    match = _TIME.fullmatch(str(text))
    if match is None or (seconds := int(match[1]) * 3600 + int(match[2]) * 60) > 86400:
        raise wrong(block, key, place, "times of day such as 06:00")
    return seconds


def _between(block: Block, place: str) -> tuple[int, int] | None:
    if "between" not in block:
        return None
    opens, dash, closes = str(block["between"]).partition("-")
    times = _time(opens.strip(), block, "between", place), _time(closes.strip(), block, "between", place)
    if not dash or times[0] == times[1]:
        raise wrong(block, "between", place, "two times of day, 06:00-22:00")
    return times


def _weekdays(block: Block, place: str) -> frozenset[int]:
    given = block.get("weekdays", "mon-sun")
    found: set[int] = set()
    for part in given if isinstance(given, list) else str(given).split(","):
        first, _, last = str(part).strip().lower().partition("-")
        if first not in DAYS or (last or first) not in DAYS:
            raise wrong(block, "weekdays", place, f"days such as mon-fri or mon,thu, of {', '.join(DAYS)}")
        begin, length = DAYS.index(first), (DAYS.index(last or first) - DAYS.index(first)) % 7
        found.update((begin + day) % 7 for day in range(length + 1))
    return frozenset(found)
