"""Windows proposed from history: for each folder a few windows are replayed, and the one at the knee is proposed,
beyond which more age buys little.

A longer window saves builds and lets data grow older; how old it may be only people know, so every candidate is shown
with what it saves and what it costs.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import PurePosixPath
from statistics import median

from sao_events.compare.drawing import span
from sao_events.compare.replay import Replay
from sao_events.compare.results import P95, aging, result
from sao_events.compare.staleness import Ages
from sao_events.compare.trace import Trace
from sao_events.compare.variant import Change, Variant, words
from sao_events.compare.workers import spread
from sao_events.core import events as e
from sao_events.core.graph import Graph
from sao_events.core.nodes import Node
from sao_events.core.policy import Policy, Settings
from sao_events.core.project import Project

PROPOSED = "proposed"
MINUTE, HOUR, DAY = 60.0, 3600.0, 86400.0
WINDOWS = (
    *(minutes * MINUTE for minutes in (5, 10, 15, 20, 30)),
    *(hours * HOUR for hours in (1, 2, 3, 4, 6, 8, 12)),
    DAY,
)
TIMES = (1, 2, 4, 8, 16, 32, 64)
FEWEST, NAMED, WORTH, BEND, PATIENCE = 3, 3, 0.05, 0.1, 1.5
UNWINDOWED = frozenset({"seed", "snapshot"})


@dataclass(frozen=True, slots=True)
class Candidate:
    """A policy for a group, named `words`: today's with `change`, if any. Build seconds a day of all that it touches,
    and the age of the data in the group and in what is made from it.
    """

    words: str
    change: Change | None
    seconds_a_day: float
    builds_a_day: float
    mean: float
    p95: float
    most: float


@dataclass(frozen=True, slots=True)
class Proposal:
    """For the `nodes` of a folder (or one node that has none): what they do today, the candidates by length of their
    window, and the one that is proposed, None where today's is to be kept. `why` and `quorum` say it in words.
    """

    group: str
    nodes: tuple[str, ...]
    today: Candidate
    candidates: tuple[Candidate, ...] = ()
    proposed: Candidate | None = None
    why: str = ""
    quorum: str = ""


def recommend(trace: Trace, settings: Settings, *, today: Project | None = None, threads: int = 4) -> list[Proposal]:
    """A proposal for each folder with models that data can reach, in graph order, others as they are today."""
    project = today or trace.project
    pinned = {name: node.policy for name, node in project.graph.nodes.items()}
    return [
        _Group(trace, settings, threads, pinned, group, nodes).proposal() for group, nodes in groups(project).items()
    ]


def together(today: Variant, proposals: Sequence[Proposal]) -> Variant:
    """The policy in which everything that is proposed is done."""
    changed = {
        name: _changed(today.pinned[name], each.proposed) for each in proposals if each.proposed for name in each.nodes
    }
    return Variant(PROPOSED, {**today.pinned, **changed})


def groups(project: Project) -> dict[str, tuple[str, ...]]:
    """The nodes that a window means something for, by their folder, or alone where they have none."""
    found: dict[str, list[str]] = {}
    for name in aging(project):
        node = project.graph.nodes[name]
        if node.kind not in UNWINDOWED:
            found.setdefault(folder(node) or node.name, []).append(name)
    return {group: tuple(nodes) for group, nodes in found.items()}


def folder(node: Node) -> str:
    """The innermost folder of a node, from the project's own top folder on; empty where it has none."""
    return str(PurePosixPath(node.path).parent) if node.path and "/" in node.path else ""


class _Group:
    def __init__(
        self,
        trace: Trace,
        settings: Settings,
        threads: int,
        pinned: Mapping[str, Policy],
        group: str,
        nodes: tuple[str, ...],
    ) -> None:
        self.trace, self.settings, self.threads, self.pinned = narrowed(trace, nodes), settings, threads, pinned
        self.group, self.nodes = group, nodes
        self.shown = self.trace.project.graph.descendants(nodes)
        landed, sources = trace.landings(), set().union(*map(self._behind, nodes))
        self.landings = {name: landed.get(name, []) for name in sorted(sources - self.trace.project.graph.unchanging)}

    def proposal(self) -> Proposal:
        gaps = [median(_gaps(landings)) for landings in self.landings.values() if len(landings) >= FEWEST]
        if not gaps:
            today, why = self._tried(None), "too little has landed to say anything"
            return Proposal(self.group, self.nodes, today, why=why)
        windows = [0.0, *_windows(min(gaps), self.trace.days * DAY / 2)]
        changes = [None, *(Change("", window) for window in windows)]
        today, *candidates = spread(self._tried, changes, size=len(self.trace.happenings))
        best, why = _knee(candidates)
        tried, quorum = self._with_quorum(best or today, min(gaps))
        if tried is not None:
            candidates.append(tried)
            if _worth(tried, best or today, candidates):
                best, quorum = tried, f"{quorum}: proposed"
            else:
                quorum += ": not worth it"
        if best is not None:
            why += _against(best, today)
        if best is not None and all(self.pinned[name] == _changed(self.pinned[name], best) for name in self.nodes):
            best, why = None, "today's window is at the knee"
        return Proposal(self.group, self.nodes, today, tuple(candidates), best, why, quorum)

    def _with_quorum(self, base: Candidate, gap: float) -> tuple[Candidate | None, str]:
        """`base` with `updates_on: all`, and a word on it; not tried where it would wait for what seldom lands."""
        graph = self.trace.project.graph
        joins = [name for name in self.nodes if len(set(graph.upstreams[name]) - graph.unchanging) > 1]
        if not joins or any(self.pinned[name].updates_on == "all" for name in self.nodes):
            return None, ""
        patience = PATIENCE * max(gap, *(_changed(self.pinned[name], base).build_after for name in joins))
        waits = [(seconds, up) for name in joins for up, seconds in self._waits(name).items() if seconds > patience]
        if seldom := {up: seconds for seconds, up in sorted(waits)}:
            longest = sorted(seldom, key=lambda up: -seldom[up])[:NAMED]
            said = ", ".join(f"{up} (up to {span(seldom[up])})" for up in longest)
            more = f" and {len(seldom) - NAMED} more" if len(seldom) > NAMED else ""
            return None, f"all is no choice: new data of others would wait for {said}{more}"
        tried = self._tried(replace(base.change or Change(""), quorum="all"))
        saved = span(max(base.seconds_a_day - tried.seconds_a_day, 0.0))
        return tried, f"all saves {saved} a day, at a mean age of {span(tried.mean)} instead of {span(base.mean)}"

    def _waits(self, node: str) -> dict[str, float]:
        """For each upstream how long new data of the others would at most have waited for news of it."""
        graph = self.trace.project.graph
        behind = {up: self._behind(up) for up in graph.upstreams[node] if up not in graph.unchanging}
        found: dict[str, float] = {}
        for up, mine in behind.items():
            others = self._landed(set().union(*behind.values()) - mine)
            edges = pairwise([self.trace.start, *self._landed(mine), self.trace.until])
            named = graph.sources[up].name if up in graph.sources else graph.nodes[up].name
            found[named] = max((end - _first(others, begin, end) for begin, end in edges), default=0.0)
        return found

    def _behind(self, name: str) -> set[str]:
        graph = self.trace.project.graph
        above = [name, *graph.ancestors([name])]
        feeds = {name} | {feed for up in above if up in graph.nodes for feed in graph.feeds[up]}
        return feeds & graph.sources.keys()

    def _landed(self, sources: Iterable[str]) -> list[float]:
        return sorted(at for source in sources for at in self.landings.get(source, ()))

    def _tried(self, change: Change | None) -> Candidate:
        mine = {name: change.over(self.pinned[name]) if change else self.pinned[name] for name in self.nodes}
        variant = Variant(self.group, {**self.pinned, **mine})
        found = result(Replay(self.trace, variant, self.settings, threads=self.threads).run())
        ages = Ages()
        for node in found.nodes:
            if node.node in self.shown:
                ages.add(node.ages)
        shown = dict.fromkeys(words(change.over(Policy()) if change else policy) for policy in mine.values())
        return Candidate(
            " / ".join(shown),
            change,
            found.seconds / found.days,
            found.builds / found.days,
            ages.mean,
            ages.quantile(P95),
            ages.most,
        )


def narrowed(trace: Trace, nodes: Sequence[str]) -> Trace:
    """The trace with only what has to do with `nodes`: what they are made from, what is made from them and from what
    else that is; without tests.
    """
    projects = {name: _part(project, nodes) for name, project in trace.projects.items()}
    sources = {source for project in projects.values() for source in project.graph.sources}
    happenings = (
        item for item in trace.happenings if not isinstance(item.event, e.DataLanded) or item.event.source in sources
    )
    return replace(trace, projects=projects, happenings=tuple(happenings))


def _part(project: Project, nodes: Sequence[str]) -> Project:
    graph = project.graph
    known = [name for name in nodes if name in graph.nodes]
    touched = graph.descendants(known)
    kept = [node for name, node in graph.nodes.items() if name in graph.ancestors(touched) | touched]
    sources = {name for node in kept for name in node.reads}
    read = [source for name, source in graph.sources.items() if name in sources]
    return replace(project, graph=Graph(kept, read, adapter=graph.adapter))


def _against(best: Candidate, today: Candidate) -> str:
    less = today.seconds_a_day - best.seconds_a_day
    building = f"{span(abs(less))} {'less' if less >= 0 else 'more'} building a day"
    return f"; against today {building}, at a mean age of {span(best.mean)} instead of {span(today.mean)}"


def _worth(tried: Candidate, base: Candidate, candidates: Sequence[Candidate]) -> bool:
    """Whether a candidate is cheaper than `base`, or fresher at no cost, and no other is both as cheap and as fresh."""
    saved = base.seconds_a_day - tried.seconds_a_day
    better = saved >= WORTH * base.seconds_a_day or (saved >= 0 and tried.mean <= (1 - BEND) * base.mean)
    return better and not any(
        other.seconds_a_day <= tried.seconds_a_day and other.mean <= tried.mean
        for other in candidates
        if other is not tried
    )


def _changed(policy: Policy, candidate: Candidate) -> Policy:
    return candidate.change.over(policy) if candidate.change else policy


def _first(instants: Sequence[float], begin: float, end: float) -> float:
    """The first of the instants after `begin` and before `end`, else `end`."""
    place = bisect_right(instants, begin)
    return min(instants[place], end) if place < len(instants) else end


def _gaps(instants: Sequence[float]) -> list[float]:
    return [later - earlier for earlier, later in pairwise(instants)]


def _windows(gap: float, most: float) -> list[float]:
    """Round windows of about 1, 2, 4 ... times `gap`, from five minutes to a day, none longer than `most`."""
    near = (min(WINDOWS, key=lambda window: abs(window - gap * times)) for times in TIMES)
    return sorted({window for window in near if window <= most})


def _knee(candidates: Sequence[Candidate]) -> tuple[Candidate | None, str]:
    """The candidate that lies farthest below the line from the first to the last, build time and mean age both measured
    as shares of the whole way.
    """
    first, last = candidates[0], candidates[-1]
    cost, age = first.seconds_a_day - last.seconds_a_day, last.mean - first.mean
    if cost <= WORTH * first.seconds_a_day or age <= 0:
        return None, "windows save next to nothing here"
    shares = [
        (1 - (each.mean - first.mean) / age - (each.seconds_a_day - last.seconds_a_day) / cost, each)
        for each in candidates
    ]
    bend, best = max(shares, key=lambda share: share[0])
    if bend < BEND:
        return None, "no knee: each hour of age saves about as much as the one before; choose by what readers need"
    return best, f"the knee: {1 - best.seconds_a_day / first.seconds_a_day:.0%} less build time than without a window"
