"""Part of week.py: what is true of the week, kept apart from every tool: which change reaches which model, what each
build has seen, how stale that leaves the models, and the least builds that the declared windows allow.

A change is either the landing of rows in a source or an edit that alters what a model holds. A position is a number of
changes: a build has seen the first so many of each kind.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from heapq import heappop, heappush
from itertools import pairwise
from typing import NamedTuple

from benchmarks.parts_of_week.project import SETTLE, START, WINDOW, Happening, Layout, Model

SEED = "regions"


class Built(NamedTuple):
    """dbt has built `node` (a model or the seed) at `at`."""

    at: float
    node: str


@dataclass
class Truth:
    """The changes of a week, by key, each with its instants in order. `data:SOURCE` are landings; `code:MODEL` are
    edits that change the rows that readers read; `own:MODEL` are those that only the model itself must be built for.
    """

    layouts: list[tuple[float, Layout]]
    changes: dict[str, list[float]] = field(default_factory=dict)
    needs: dict[str, frozenset[str]] = field(default_factory=dict)

    @classmethod
    def of(cls, first: Layout, happenings: Sequence[Happening]) -> Truth:
        """What the week really changes."""
        truth = cls([(START, first)])
        for happening in happenings:
            if happening.layout is not None:
                truth._edited(happening.at, truth.layouts[-1][1], happening.layout)
                truth.layouts.append((happening.at, happening.layout))
            elif happening.rows:
                truth.changes.setdefault(f"data:raw.{happening.source}", []).append(happening.at)
        for model in first.models.values():
            passed = (f"code:{model.name}", *(key for up in model.reads for key in truth._shown(up)))
            truth.needs[model.name] = frozenset((*passed, f"own:{model.name}"))
        truth.needs[SEED] = frozenset([f"code:{SEED}"])
        return truth

    def _shown(self, name: str) -> Iterable[str]:
        """The keys that whoever reads `name` depends on."""
        if name.startswith("raw."):
            return [f"data:{name}"]
        if name == SEED:
            return [f"code:{SEED}"]
        return self.needs[name] - {f"own:{name}"}

    def _edited(self, at: float, before: Layout, after: Layout) -> None:
        if before.weight != after.weight:
            self.changes.setdefault(f"code:{SEED}", []).append(at)
        for name, model in after.models.items():
            old = before.models[name]
            if _rows(before, old) != _rows(after, model):
                self.changes.setdefault(f"code:{name}", []).append(at)
            if (old.extras, old.kind) != (model.extras, model.kind):
                self.changes.setdefault(f"own:{name}", []).append(at)

    def layout(self, at: float) -> Layout:
        """The project as it is at `at`."""
        return next(layout for since, layout in reversed(self.layouts) if since <= at)

    def position(self, key: str, at: float) -> int:
        """How many changes of `key` there have been, those at `at` included."""
        return bisect_right(self.changes.get(key, ()), at)

    def pending(self, name: str, since: float, at: float, *, code: bool = True, data: bool = True) -> bool:
        """Whether anything that `name` needs changed after `since`, up to `at`; of a view, only its own code."""
        model = self.layout(at).models.get(name)
        keys = self.needs[name]
        if model is not None and model.kind == "view":
            keys = frozenset((f"code:{name}", f"own:{name}"))
        wanted = (key for key in keys if (data if key.startswith("data:") else code))
        return any(self.position(key, at) > self.position(key, since) for key in wanted)


def _rows(layout: Layout, model: Model) -> tuple[int, int]:
    return model.factor, layout.macro if model.layer == "staging" else 0


@dataclass(frozen=True)
class Staleness:
    """In seconds, over a set of models. `worst` and `mean` beyond what windows allow; `behind`: the mean age of the
    oldest change that a model does not show.
    """

    worst: float
    mean: float
    behind: float


class Ledger:
    """What every build has seen, derived from the order of the builds alone."""

    def __init__(self, truth: Truth, built: Sequence[Built]) -> None:
        self.truth = truth
        self.seen = dict[str, dict[str, int]]()
        self.history = dict[str, list[tuple[float, dict[str, int]]]]()
        for at, node in built:
            self.seen[node] = self._sees(node, at)
            self.history.setdefault(node, []).append((at, self.seen[node]))

    def _sees(self, node: str, at: float) -> dict[str, int]:
        model = self.truth.layout(at).models.get(node)
        found = {f"code:{node}": self.truth.position(f"code:{node}", at)}
        if model is None:
            return found
        found[f"own:{node}"] = self.truth.position(f"own:{node}", at)
        if model.kind != "view":
            for up in model.reads:
                _merge(found, self._shown(up, at))
        return found

    def _shown(self, name: str, at: float) -> dict[str, int]:
        """What reading `name` at `at` shows: of a view, what is behind it then."""
        if name.startswith("raw."):
            return {f"data:{name}": self.truth.position(f"data:{name}", at)}
        found = {key: seen for key, seen in self.seen[name].items() if not key.startswith("own:")}
        model = self.truth.layout(at).models.get(name)
        if model is not None and model.kind == "view":
            for up in model.reads:
                _merge(found, self._shown(up, at))
        return found

    def wrong(self, at: float) -> list[str]:
        """Models that do not show everything that happened up to `at`."""
        return [
            name
            for name in self.truth.needs
            if any(
                seen < self.truth.position(key, at)
                for key, seen in {**self.seen[name], **self._sees_now(name, at)}.items()
            )
        ]

    def _sees_now(self, name: str, at: float) -> dict[str, int]:
        return {} if name == SEED else self._shown(name, at)

    def staleness(self, models: Iterable[str], window: float, until: float) -> Staleness:
        """Over the whole time up to `until`; an edit may be waited for no longer than `settle`, new data as long as the
        window of the last build before it, too.
        """
        worst = beyond = behind = 0.0
        names = list(models)
        for name in names:
            builds = [*self.history[name], (until, {})]
            starts = [at for at, _ in self.history[name]]
            for (begin, seen), (end, _) in pairwise(builds):
                late = [self._allowed(key, at, starts, window) for key, at in self._unseen(seen, end)]
                if late:
                    worst = max(worst, end - min(late))
                    beyond += _integral(begin, end, min(late))
                    behind += _integral(begin, end, min(at for _, at in self._unseen(seen, end)))
        total = len(names) * (until - START)
        return Staleness(worst, beyond / total, behind / total)

    def _unseen(self, seen: dict[str, int], before: float) -> list[tuple[str, float]]:
        """Of each key the first change that was not seen, where it came before `before`."""
        changes = ((key, self.truth.changes.get(key, [])[number:]) for key, number in seen.items())
        return [(key, left[0]) for key, left in changes if left and left[0] < before]

    def _allowed(self, key: str, at: float, starts: list[float], window: float) -> float:
        if not key.startswith("data:"):
            return at + SETTLE
        return max(at + SETTLE, starts[max(0, bisect_left(starts, at) - 1)] + window)


def _merge(into: dict[str, int], more: dict[str, int]) -> None:
    for key, seen in more.items():
        into[key] = min(seen, into.get(key, seen))


def _integral(begin: float, end: float, since: float) -> float:
    """Of the seconds since `since`, over the time from `begin` to `end`."""
    begin = max(begin, since)
    return max(0.0, ((end - since) ** 2 - (begin - since) ** 2) / 2) if end > begin else 0.0


def marts(layout: Layout) -> list[str]:
    """The models with a window."""
    return [name for name, model in layout.models.items() if model.layer == "marts"]


def others(layout: Layout) -> list[str]:
    """The tables without one."""
    return [name for name, model in layout.models.items() if model.layer != "marts" and model.kind == "table"]


def least(truth: Truth, *, lazy: bool) -> Counter[str]:
    """How often each model must be built, the first build of all included, so that at every instant at which a window
    allows it the models show all there is; nothing is built that nothing due needs. `lazy`: new data is brought to
    staging and intermediate models only where a mart that is due reads it.

    Each build counted is forced: something that was due could not have been right without it.
    """
    first = truth.layouts[0][1]
    above = _above(first)
    last = dict.fromkeys(truth.needs, START)
    counts = Counter(list(truth.needs))
    instants = list[float]()
    for changes in truth.changes.values():
        for at in changes:
            heappush(instants, at + SETTLE)
    for _ in marts(first):
        heappush(instants, START + WINDOW)
    while instants:
        at = heappop(instants)
        due = [name for name in truth.needs if _due(truth, name, last[name], at, lazy)]
        needed = {name for mine in due for name in (mine, *above.get(mine, ()))}
        for name in needed:
            if truth.pending(name, last[name], at):
                counts[name] += 1
                last[name] = at
                if name.startswith("mart_"):
                    heappush(instants, at + WINDOW)
    return counts


def _due(truth: Truth, name: str, last: float, at: float, lazy: bool) -> bool:
    if truth.pending(name, last, at, data=False):
        return True
    mart = name.startswith("mart_")
    if (lazy and not mart) or (mart and at < last + WINDOW):
        return False
    return truth.pending(name, last, at, code=False)


def _above(layout: Layout) -> dict[str, set[str]]:
    """All that each model is made from."""
    found = dict[str, set[str]]()
    for name, model in layout.models.items():
        found[name] = {up for read in model.reads if not read.startswith("raw.") for up in (read, *found.get(read, ()))}
    return found
