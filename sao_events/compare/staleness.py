"""How old the data is that a node serves, exactly and at every instant.

The staleness of a node at an instant is the time for which the oldest landing that it does not show yet has been
waiting: 0 while it shows everything that has landed in the sources behind it. Between landings and builds it grows by
a second each second, so mean, quantiles and maximum follow from the instants at which it changes, without sampling.
All values are seconds, all instants UTC epoch seconds.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from sao_events.core.graph import Graph

KEPT = 8  # builds of a node whose contents are remembered for readers that saw an older one


@dataclass(frozen=True, slots=True)
class Point:
    """From `at` on the oldest landing that is not shown is the one of `waiting`; None: everything is shown."""

    at: float
    waiting: float | None


@dataclass(slots=True)
class Ages:
    """How long a node, or several, served data of which age: `fresh` seconds at 0, and stretches in which the age
    grew from one value to another.
    """

    fresh: float = 0.0
    grown: list[tuple[float, float]] = field(default_factory=list)

    @property
    def seconds(self) -> float:
        """The time that is accounted for."""
        return self.fresh + sum(to - since for since, to in self.grown)

    @property
    def mean(self) -> float:
        """The age, averaged over the time; 0 where there is none."""
        area = sum((to - since) * (to + since) / 2 for since, to in self.grown)
        return area / self.seconds if self.grown else 0.0

    @property
    def most(self) -> float:
        """The greatest age that was reached."""
        return max((to for _, to in self.grown), default=0.0)

    def quantile(self, share: float) -> float:
        """The least age that was not exceeded for `share` of the time."""
        wanted = share * self.seconds - self.fresh
        if wanted <= 0:
            return 0.0
        steps = sorted([(since, 1) for since, _ in self.grown] + [(to, -1) for _, to in self.grown])
        below, reached, slope = 0.0, 0.0, 0
        for at, step in steps:
            more = slope * (at - below)
            if slope and reached + more >= wanted:
                return below + (wanted - reached) / slope
            below, reached, slope = at, reached + more, slope + step
        return below

    def add(self, other: Ages) -> None:
        """Account for the time of `other` too."""
        self.fresh += other.fresh
        self.grown += other.grown


def ages(points: Iterable[Point], since: float, until: float) -> Ages:
    """What `points`, in order of time, come to between `since` and `until`; the time before the first is left out."""
    found, known = Ages(), list(points)
    for point, following in zip(known, [*(later.at for later in known[1:]), until], strict=False):
        begin, end = max(point.at, since), min(following, until)
        if end <= begin:
            continue
        if point.waiting is None:
            found.fresh += end - begin
        else:
            found.grown.append((begin - point.waiting, end - point.waiting))
    return found


class Tracker:
    """Follows a log: what each node that owns data shows of each source behind it, and since when it lacks what.

    Versions are those of the log: the n-th load that brought new data makes version n of its source.
    """

    def __init__(self) -> None:
        self.points: dict[str, list[Point]] = {}
        self._graph = Graph(())
        self._landed: dict[str, list[float]] = {}
        self._seeing: dict[str, dict[str, int]] = {}
        self._shows: dict[str, dict[int, dict[str, int]]] = {}
        self._now_shows: dict[str, dict[str, int]] = {}
        self._behind: dict[str, set[str]] = {}

    def load(self, graph: Graph) -> None:
        """`graph` is in force from here on."""
        self._graph = graph

    def landed(self, source: str, at: float, version: int) -> None:
        """After a landing the source is at `version`, which is a new one or, where it brought nothing new, the old."""
        known = self._landed.setdefault(source, [])
        if version <= len(known):
            return
        known.append(at)
        for node in self._behind.get(source, ()):
            points = self.points[node]
            if source in self._now_shows[node] and points[-1].waiting is None:
                points.append(Point(at, at))

    def began(self, node: str, versions: Mapping[str, int]) -> None:
        """A build of `node` saw `versions` of its feeds."""
        if node not in self._graph.nodes or self._graph.is_transparent(node):
            return
        seen: dict[str, int] = {}
        for feed, version in versions.items():
            shown = {feed: version} if feed in self._graph.sources else self._shown(feed, version)
            for source, landing in shown.items():
                seen[source] = min(seen.get(source, landing), landing)
        self._seeing[node] = seen

    def built(self, node: str, version: int, at: float) -> None:
        """The build succeeded at `at` and left the node at `version`."""
        seen = self._seeing.pop(node, None)
        if seen is None:
            return
        known = self._shows.setdefault(node, {})
        known[version] = self._now_shows[node] = seen
        if len(known) > KEPT:
            del known[next(iter(known))]
        for source in seen:
            self._behind.setdefault(source, set()).add(node)
        points, waiting = self.points.setdefault(node, []), self._waiting(seen)
        if not points or points[-1].waiting != waiting:
            points.append(Point(at, waiting))

    def _shown(self, feed: str, version: int) -> Mapping[str, int]:
        known = self._shows.get(feed, {})
        return known.get(version) or next(iter(known.values()), {})

    def _waiting(self, seen: Mapping[str, int]) -> float | None:
        lacking = (self._landed.get(source, [])[version : version + 1] for source, version in seen.items())
        return min((at for landings in lacking for at in landings), default=None)
