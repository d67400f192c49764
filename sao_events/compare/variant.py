"""A policy to be compared: today's, today's with changes, or a fixed schedule that builds everything each time."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from sao_events.compare.selector import select
from sao_events.core.errors import UsageError
from sao_events.core.graph import Graph
from sao_events.core.nodes import Node
from sao_events.core.policy import Policy, Quorum
from sao_events.core.project import Project, with_graph
from sao_events.core.windows import parse_duration

_UNITS = (("d", 86400), ("h", 3600), ("m", 60), ("s", 1))
_SCHEDULE = re.compile(r"every\s+(\S+)(?:\s+at\s+([01]?\d|2[0-3]):([0-5]\d))?")


@dataclass(frozen=True, slots=True)
class Change:
    """What the nodes that `selector` names get: a window in seconds, a quorum, laziness. None leaves what is; a window
    takes the place of a calendar.
    """

    selector: str
    window: float | None = None
    quorum: Quorum | None = None
    lazy: bool | None = None

    def over(self, policy: Policy) -> Policy:
        """The policy with this change."""
        made = policy if self.window is None else replace(policy, build_after=self.window, calendar=None)
        quorum, lazy = self.quorum or made.updates_on, made.lazy if self.lazy is None else self.lazy
        return replace(made, updates_on=quorum, lazy=lazy)


@dataclass(frozen=True, slots=True)
class Schedule:
    """A full build every `every` seconds: from the start on, or at the time of day `at` (UTC seconds)."""

    every: float
    at: int | None = None

    def instants(self, start: float, until: float) -> Iterator[float]:
        """The instants of its builds from `start` (included) to `until` (excluded)."""
        first = start
        if self.at is not None:
            midnight = datetime.fromtimestamp(start, UTC).replace(hour=0, minute=0, second=0, microsecond=0)
            days = (midnight + timedelta(days=day, seconds=self.at) for day in (0, 1))
            first = next(day.timestamp() for day in days if day.timestamp() >= start)
        count = 0
        while (instant := first + count * self.every) < until:
            yield instant
            count += 1


@dataclass(frozen=True, slots=True)
class Variant:
    """A named policy. `pinned` are policies by node id that hold for the whole time, whatever the project said then;
    `changes` go over these, later ones over earlier; a `schedule` stands in for all of it.
    """

    name: str
    pinned: Mapping[str, Policy] = field(default_factory=dict)
    changes: tuple[Change, ...] = ()
    schedule: Schedule | None = None

    def over(self, project: Project) -> Project:
        """The project under this policy. Raises UsageError for a selector that names nothing in it."""
        found = {name: self.pinned.get(name, node.policy) for name, node in project.graph.nodes.items()}
        for change in self.changes:
            found.update({name: change.over(found[name]) for name in select(project, change.selector)})
        return with_policies(project, found)


def with_policies(project: Project, policies: Mapping[str, Policy]) -> Project:
    """The project with other policies for the nodes named."""
    graph = project.graph
    nodes = [_with(node, policies.get(node.id, node.policy)) for node in graph.nodes.values()]
    return with_graph(project, Graph(nodes, graph.sources.values(), graph.tests.values(), graph.adapter))


def _with(node: Node, policy: Policy) -> Node:
    return node if node.policy == policy else replace(node, policy=policy)


def read_change(text: str) -> Change:
    """`marts:4h all`, `orders:30m`, `*:1d any lazy`: nodes, then a window, a quorum, `lazy` or `eager`, at least one.

    Raises UsageError that says what is wrong with it.
    """
    selector, _, rest = text.rpartition(":")
    if not selector.strip() or not rest.split():
        raise UsageError(f"{text!r} is no change of policy", hint="write NODES:WINDOW [any|all] [lazy], 'marts:4h all'")
    change = Change(selector.strip())
    for word in rest.split():
        change = _word(change, word, text)
    return change


def _word(change: Change, word: str, text: str) -> Change:
    said = _said(word, text)
    for key in said:
        if getattr(change, key) is not None:
            raise UsageError(
                f"{text!r}: {word} contradicts what stands before it",
                hint="name one window, one of any and all, and one of lazy and eager at most",
            )
    return replace(change, **said)


def _said(word: str, text: str) -> dict[str, Any]:
    if word in ("any", "all"):
        return {"quorum": word}
    if word in ("lazy", "eager"):
        return {"lazy": word == "lazy"}
    try:
        return {"window": 0.0 if word in ("0", "none") else parse_duration(word)}
    except ValueError:
        raise UsageError(
            f"{text!r}: {word} is neither a window such as 30m, 4h, 1d or none, nor any, all, lazy or eager"
        ) from None


def read_named(text: str) -> tuple[str, tuple[Change, ...]]:
    """`NAME=sel:win quorum, sel2:...`: a name and its changes. Raises UsageError."""
    name, equals, rest = text.partition("=")
    if not equals or not name.strip() or not rest.strip():
        raise UsageError(f"{text!r} is no named policy", hint="write NAME='NODES:WINDOW [any|all] [lazy], ...'")
    return name.strip(), read_changes(rest.split(","))


def read_changes(texts: Sequence[str]) -> tuple[Change, ...]:
    """Several changes. Raises UsageError."""
    return tuple(read_change(text.strip()) for text in texts if text.strip())


def read_schedule(text: str) -> Schedule:
    """`every 1h`, `every 1d at 06:00`. Raises UsageError."""
    match = _SCHEDULE.fullmatch(text.strip())
    try:
        every = parse_duration(match[1]) if match else 0.0
    except ValueError:
        every = 0.0
    if match is None or every <= 0:
        raise UsageError(f"{text!r} is no schedule", hint="write 'every 1h' or 'every 1d at 06:00' (UTC)")
    return Schedule(every, int(match[2]) * 3600 + int(match[3]) * 60 if match[2] else None)


def words(policy: Policy) -> str:
    """A policy in the words of a change: `4h all lazy`, `none`."""
    more = {"all": policy.updates_on == "all", "lazy": policy.lazy, "by the calendar": policy.calendar is not None}
    again = [] if policy.max_staleness is None else [f"again after {_length(policy.max_staleness)}"]
    window = _length(policy.build_after) if policy.build_after else "none"
    return " ".join([window, *(word for word, holds in more.items() if holds), *again])


def _length(seconds: float) -> str:
    unit, size = next((unit, size) for unit, size in _UNITS if not seconds % size or size == 1)
    return f"{seconds / size:g}{unit}"
