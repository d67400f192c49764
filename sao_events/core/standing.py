"""The plan as it stands, kept from one look to the next: after an event only what the event can reach is decided again.

`plan.plan` is the specification, a pass over everything. `Standing` gives exactly what it gives, from what was decided
before. Whatever can make a decision another puts its node among those to be decided again: a state that was written, a
node that another run took or gave back, an instant that has come, a lead to a deadline, the readers of a lazy node.
From there it spreads in graph order, parents before readers, and goes on only where what readers can see of a node is
not as it was. In doubt a node is decided again; with another graph, other settings or an earlier instant, everything.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from heapq import heapify, heappop, heappush
from typing import Any

from sao_events.core import checks
from sao_events.core.decision import Action, earliest
from sao_events.core.graph import Graph
from sao_events.core.look import Look
from sao_events.core.plan import Plan, data_readers, hold, is_due, take
from sao_events.core.policy import Settings
from sao_events.core.state import NodeState, World

# What a graph works out when it is first asked, and the first event would wait for.
OF_EVENTS = ("readers", "looks_at", "falling", "tests_of", "order_to_deadlines", "own_codes", "readings")
EARLY = 1.0  # seconds: an instant that was computed and one that is compared with it may differ in their last digits


class Standing:
    """The decisions and the plan of the service itself (of no job) for one world, which it watches."""

    def __init__(self) -> None:
        self._kept: _Kept | None = None

    def plan(self, graph: Graph, world: World, settings: Settings, now: float, claimed: Collection[str] = ()) -> Plan:
        """What `plan.plan` gives for these. The decisions in it are kept up to date: the next call changes them."""
        kept, self._kept = self._kept, None  # what breaks half-way is not gone on with
        if kept is None or not kept.holds(graph, world, settings, now):
            kept = _Kept(graph, world, settings, now)
        kept.look(now, frozenset(claimed))
        self._kept = kept
        return kept.plan()

    @property
    def wakes(self) -> float | None:
        """`Plan.wakes` of the last plan."""
        return self._kept.final.wakes.first() if self._kept else None

    @property
    def turns(self) -> float | None:
        """The instant before which the last plan stays the same while time alone passes; None for ever."""
        return earliest(self.wakes, self._kept.final.blocked.first()) if self._kept else None


class _Kept:
    """What is kept of one graph, world and settings: the pass, where there are lazy nodes also one that does without
    their laziness, and the tests that are due.
    """

    def __init__(self, graph: Graph, world: World, settings: Settings, now: float) -> None:
        self.graph, self.world, self.settings = graph, world, settings
        self.reach = _Reach(graph)
        self.written, self.clears = world.watch(), world.clears_of_all
        self.held: dict[str, float | None] = {}
        self.final = _Pass(self.reach, Look(graph, world, settings, now), self.held)
        self.free = _Pass(self.reach, Look(graph, world, settings, now), {}) if self.reach.lazy else None
        if self.free is not None:
            self.free.look.leads = self.final.look.leads
        self.claimed: frozenset[str] = frozenset()
        self.tests: set[str] = set()
        self.fed: dict[str, int] = {}
        self.first = True

    def holds(self, graph: Graph, world: World, settings: Settings, now: float) -> bool:
        """Whether it is about these, and nothing happened that concerns everything."""
        return (
            graph is self.graph
            and world is self.world
            and world.watched_by(self.written)
            and world.clears_of_all == self.clears
            and settings == self.settings
            and now >= self.final.look.now
        )

    def look(self, now: float, claimed: frozenset[str]) -> None:
        """Decide again whatever may be another decision than at the last look."""
        written, moved = set(self.written), claimed ^ self.claimed
        self.written.clear()
        self.claimed = claimed
        due = set(self.graph.nodes) if self.first else self._due(written, moved)
        if self.free is not None:
            decided, _ = self.free.decide(due, written, claimed, now)
            due |= self._held_again(decided | (self.held.keys() & self.final.look.leads.keys()))
        decided, planned = self.final.decide(due, written, claimed, now)
        tests = self._fed_again(planned)
        tests.update(self.graph.tests if self.first else self.reach.tests_over(written | decided))
        tests.update(self.graph.tests.keys() & written)
        for test in tests:
            self._test_again(test)
        self.first = False

    def plan(self) -> Plan:
        """The plan as it stands."""
        tests = sorted(self.tests, key=self.graph.test_position.__getitem__)
        return Plan(tuple(self.graph.sort(self.final.look.assumed)), tuple(tests), self.final.look.decisions)

    def _due(self, written: set[str], moved: frozenset[str]) -> set[str]:
        """The nodes to be decided again because of states that were `written` and nodes that other runs took or gave
        back.
        """
        due = (written | moved) & self.graph.nodes.keys()
        for name in written:
            if name in self.graph.sources:
                due.update(self.reach.readers(name))
            if name in self.reach.alone:
                due.update(self.reach.behind_test(name))
            for test in self.reach.failed_over(name, self.world):
                due.update(self.reach.behind_test(test))
        return due | self._leads_again(written)

    def _leads_again(self, written: set[str]) -> set[str]:
        """The nodes that begin sooner or later before a deadline than they did, since a duration was measured."""
        if not self.graph.order_to_deadlines:
            return set()
        leads, changed = self.final.look.leads, set[str]()
        queue = _Queue(self.graph, written & leads.keys(), backwards=True)
        for name in queue:
            lead = self.final.look.lead(name, leads)
            if lead != leads[name]:
                leads[name] = lead
                changed.add(name)
                queue.add(up for up in self.graph.upstreams[name] if up in leads)
        return changed

    def _held_again(self, decided: set[str]) -> set[str]:
        """The lazy nodes that are held back now and were not, the reverse, or until another instant."""
        assert self.free is not None
        changed = set[str]()
        queue = _Queue(self.graph, (lazy for name in decided for lazy in self.reach.lazy.get(name, ())), backwards=True)
        for name in queue:
            before = name in self.held, self.held.get(name)
            hold(self.free.look, name, self.held)
            if before != (name in self.held, self.held.get(name)):
                changed.add(name)
                queue.add(self.reach.lazy[name])
        return changed

    def _fed_again(self, planned: set[str]) -> set[str]:
        """The tests of what planned builds look at now and did not, or the reverse."""
        found = set[str]()
        for name in planned:
            step = 1 if name in self.final.look.assumed else -1
            for seen in self.graph.looks_at[name]:
                before = self.fed.get(seen, 0)
                if before + step:
                    self.fed[seen] = before + step
                else:
                    del self.fed[seen]
                if not before or not before + step:
                    found.update(self.graph.tests_of.get(seen, ()))
        return found

    def _test_again(self, name: str) -> None:
        if is_due(self.final.look, self.graph.tests[name], self.fed.keys(), self.claimed):
            self.tests.add(name)
        else:
            self.tests.discard(name)


class _Pass:
    """A pass over the whole graph that is kept: `look` holds what it decided and counts as done."""

    def __init__(self, reach: _Reach, look: Look, held: dict[str, float | None]) -> None:
        self.reach, self.look = reach, look
        look.held = held
        self.wakes, self.turns, self.blocked = _Instants(), _Instants(), _Instants()
        self.falling: dict[str, tuple[str, ...]] = {}
        self.fall_with: dict[str, set[str]] = {}

    def decide(
        self, due: Iterable[str], written: set[str], claimed: frozenset[str], now: float
    ) -> tuple[set[str], set[str]]:
        """Decide again the nodes that are `due`, those whose instant has come, and what that reaches. Returns what was
        decided, and of it what is counted as done now and was not, or the reverse.
        """
        look, decided, planned = self.look, set[str](), set[str]()
        look.move(now)
        queue = _Queue(look.graph, (*due, *self.turns.come(now + EARLY)))
        for name in queue:
            before, was_planned = self._seen(name), name in look.assumed
            queue.add(self._decide(name, claimed))
            decided.add(name)
            is_planned = name in look.assumed
            if name in written or is_planned != was_planned or not _alike(self._seen(name), before):
                queue.add(self.reach.readers(name))
            if is_planned != was_planned:
                planned.add(name)
                queue.add(self._tested_before(name))
        return decided, planned

    def _decide(self, name: str, claimed: frozenset[str]) -> set[str]:
        """Decide a node as if for the first time. Returns the views that fall with it now and did not, or the
        reverse.
        """
        look, place = self.look, self.look.graph.position.__getitem__
        look.assumed.pop(name, None)
        look.fallen.pop(name, None)
        if with_ := self.fall_with.get(name):
            look.fallen[name] = max(with_, key=place)
        falling = take(look, name, claimed)
        decision, turn = look.decisions[name], turns_at(look, name)
        self.wakes.set(name, decision.eligible_at)
        self.turns.set(name, turn)
        # Blocked, it blocks its readers; in its quiet hours it only waits, and they are built.
        self.blocked.set(name, turn if decision.action is Action.blocked else None)
        changed = {*self.falling.get(name, ())} ^ {*falling}
        for view in changed:
            self.fall_with.setdefault(view, set()).symmetric_difference_update((name,))
        if changed:
            self.falling[name] = falling
        return changed

    def _seen(self, name: str) -> tuple[bool, str | None, NodeState]:
        """What others can see of a node when they are decided, beside whether it is planned: whether it is blocked,
        with what it falls, and its state, a planned build counted as done.
        """
        look, decision = self.look, self.look.decisions.get(name)
        blocked = decision is not None and decision.action is Action.blocked
        return blocked, look.fallen.get(name), look.state(name)

    def _tested_before(self, name: str) -> Iterable[str]:
        """The nodes after `name` that a failed test holds up, which looks at `name`."""
        place = self.look.graph.position
        for test in self.reach.failed_over(name, self.look.world):
            yield from (held for held in self.reach.behind_test(test) if place[held] > place[name])


def _alike(one: tuple[bool, str | None, NodeState], other: tuple[bool, str | None, NodeState]) -> bool:
    """Whether others see the same. Of a state, they see all but what only its node's own next decision looks at, and
    the instants.
    """
    return one[:2] == other[:2] and (one[2] is other[2] or _shown(one[2]) == _shown(other[2]))


def _shown(state: NodeState) -> tuple[Any, ...]:
    return (
        state.baseline is None, state.version, state.builds, state.code, state.built_code, state.failure, state.clears,
        state.drops, state.dropped, state.cleared, state.interrupted, state.doubtful,
    )  # fmt: skip


def turns_at(look: Look, name: str) -> float | None:
    """An instant before which the decision for a node stays the same while time alone passes; None for ever."""
    node, decision, baseline = look.graph.nodes[name], look.decisions[name], look.world.node(name).baseline
    overdue = look.overdue(node, baseline.clock) if baseline is not None else None
    ahead = overdue if overdue is not None and overdue > look.now else None
    calendar = node.policy.calendar if decision.action is not Action.reuse else None
    if ahead is None and calendar is None:
        return decision.eligible_at
    return earliest(decision.eligible_at, ahead, calendar.even_until(look.now) if calendar else None)


class _Reach:
    """Of one graph, who depends on what beside the edges themselves.

    `lazy`: for each node the lazy ones that it decides about, itself or as a reader. `alone`: the tests that read
    nothing that dbt builds: while they fail, what reads the same waits.
    """

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        for worked_out in OF_EVENTS:
            getattr(graph, worked_out)
        self.alone = {test for tests in graph.tests_of_unbuilt.values() for test in tests}
        self._folding: dict[str, list[str]] = {}
        self._tests: dict[str, list[str]] = {}
        self._alone: dict[str, list[str]] = {}
        self.lazy: dict[str, list[str]] = {}
        for name, folded in graph.folded.items():
            for ephemeral in folded:
                self._folding.setdefault(ephemeral, []).append(name)
        for test in graph.tests.values():
            for seen in checks.looked_at(graph, test):
                self._tests.setdefault(seen, []).append(test.id)
                if test.id in self.alone:
                    self._alone.setdefault(seen, []).append(test.id)
        for lazy in graph.lazy:
            for name in (lazy, *data_readers(graph, lazy)):
                self.lazy.setdefault(name, []).append(lazy)

    def readers(self, name: str) -> set[str]:
        """Who looks at the node or source: its readers, and through views theirs."""
        graph, folding = self.graph, self._folding.get(name)
        found = set(graph.readers[name])
        if folding:
            found.update(folding)
        stack = [reader for reader in found if reader in graph.transparent]
        while stack:
            beyond = [reader for reader in graph.readers[stack.pop()] if reader not in found]
            found.update(beyond)
            stack += [reader for reader in beyond if reader in graph.transparent]
        return found

    def tests_over(self, names: Iterable[str]) -> set[str]:
        """The tests that look at any of `names`."""
        return {test for name in names for test in self._tests.get(name, ())}

    def failed_over(self, name: str, world: World) -> list[str]:
        """The tests `alone` that failed and look at the node or source."""
        over = self._alone.get(name)
        if over is None:
            return []
        states = ((test, world.tests.get(test)) for test in over)
        return [test for test, state in states if state is not None and state.status in checks.FAILED]

    def behind_test(self, test: str) -> set[str]:
        """The nodes that look at what the test reads."""
        return {reader for name in self.graph.tests[test].reads for reader in self.readers(name)}


class _Queue:
    """Names in graph order, or against it, to which more are added that come after the one at hand; each once."""

    def __init__(self, graph: Graph, names: Iterable[str], *, backwards: bool = False) -> None:
        self._order, self._place, self._sign = graph.order, graph.position, -1 if backwards else 1
        self._known = {self._sign * self._place[name] for name in names}
        self._heap = list(self._known)
        heapify(self._heap)

    def add(self, names: Iterable[str]) -> None:
        """Let `names` have their turn."""
        for name in names:
            place = self._sign * self._place[name]
            if place not in self._known:
                self._known.add(place)
                heappush(self._heap, place)

    def __iter__(self) -> _Queue:
        return self

    def __next__(self) -> str:
        if not self._heap:
            raise StopIteration
        return self._order[self._sign * heappop(self._heap)]


class _Instants:
    """At most one instant for each name; the first is found without looking at the others."""

    def __init__(self) -> None:
        self._at: dict[str, float] = {}
        self._heap: list[tuple[float, str]] = []

    def set(self, name: str, at: float | None) -> None:
        """Remember `at` for the name instead of what was; None for nothing."""
        if at is None:
            self._at.pop(name, None)
        elif self._at.get(name) != at:
            self._at[name] = at
            heappush(self._heap, (at, name))
            if len(self._heap) > 100 + 2 * len(self._at):
                self._heap = [(at, name) for name, at in self._at.items()]
                heapify(self._heap)

    def first(self) -> float | None:
        """The earliest."""
        while self._heap and self._at.get(self._heap[0][1]) != self._heap[0][0]:
            heappop(self._heap)
        return self._heap[0][0] if self._heap else None

    def come(self, now: float) -> list[str]:
        """Take out the names whose instant is not after `now`."""
        found = []
        while (first := self.first()) is not None and first <= now:
            found.append(heappop(self._heap)[1])
            del self._at[found[-1]]
        return found
