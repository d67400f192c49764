"""What the rules look at: the graph and the record at one instant, and what is decided and planned so far."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property

from sao_events.core import checks
from sao_events.core.decision import NEVER, Decision, Reason
from sao_events.core.events import Observed
from sao_events.core.graph import Graph
from sao_events.core.nodes import Node
from sao_events.core.policy import Settings
from sao_events.core.state import Job, NodeState, World
from sao_events.core.windows import Calendar

HEAD_START, MARGIN = 60.0, 1.1  # before a deadline: seconds for dbt to begin, and what durations are multiplied with


class Look:
    """What can be seen at one instant: the graph, the record, and who asks (`job`, or nobody: the service itself).

    `assumed` holds states that a plan counts as reached; `held` are lazy nodes for which no reader is due, each with
    the instant at which one is, where known; `fallen` are views that are dropped with what the plan builds, each with
    what that is; `decisions` are those already taken, parents before readers.
    """

    def __init__(self, graph: Graph, world: World, settings: Settings, now: float, job: Job | None = None) -> None:
        self.graph, self.world, self.settings, self.now, self.job = graph, world, settings, now, job
        self.states: Mapping[str, NodeState] = world.nodes
        self.assumed: dict[str, NodeState] = {}
        self.held: dict[str, float | None] = {}
        self.fallen: dict[str, str] = {}
        self.decisions: dict[str, Decision] = {}
        self._missing: dict[str, bool] = {}

    def state(self, name: str) -> NodeState:
        """The state of a node, planned builds counted as done."""
        return self.assumed.get(name) or self.states.get(name) or self.world.node(name)

    def asked(self, name: str) -> bool:
        """Whether the node may be built for who asks: a job asks for each node that it selects once."""
        return self.job is None or self.job.asks(name)

    def forced(self, name: str) -> bool:
        """Whether the job that asks builds the node whatever its state."""
        return self.job is not None and not self.job.state_aware and self.job.asks(name)

    def position(self, name: str) -> int:
        """The data version of a source or stored node."""
        return self.world.source(name).version if name in self.graph.sources else self.state(name).version

    def newer(self, upstream: str, observed: Observed, quorum: bool = True) -> bool:
        """Whether `upstream` has newer data than `observed`. A view is looked through, under its own `updates_on`
        unless `quorum` is off.
        """
        if upstream not in self.graph.transparent:
            return self._advanced(upstream, observed)
        if not quorum or upstream not in self.graph.gathering:
            return any(self._advanced(feed, observed) for feed in self.graph.feeds[upstream])
        return self._gathered(upstream, observed, {})

    def _advanced(self, feed: str, observed: Observed) -> bool:
        source = self.graph.sources.get(feed)
        if source is None:
            return self.state(feed).version > observed.versions.get(feed, -1)
        if source.view and self.job is not None:
            return True
        return self.world.source(feed).version > observed.versions.get(feed, -1)

    def _gathered(self, view: str, observed: Observed, known: dict[str, bool]) -> bool:
        """`newer` for a view that has `updates_on: all`, or looks through one that has; each is looked at once."""
        if view not in self.graph.gathering:
            return self.newer(view, observed)
        if view not in known:
            counted = self.graph.counted(view)
            over, quorum = (counted, all) if counted else (self.graph.upstreams[view], any)
            known[view] = quorum(self._gathered(parent, observed, known) for parent in over)
        return known[view]

    def opens(self, node: Node, clock: float) -> float:
        """The instant from which a node whose window counts from `clock` may be built for new data: the end of its
        window, by its calendar the first that is not in the past, sooner where a deadline asks for it.
        """
        ends, calendar = clock + node.policy.build_after, node.policy.calendar
        if calendar is not None:
            opens = calendar.opens(clock, self.now, node.policy.build_after)
            ends = opens if opens is not None else NEVER
        leads = self.leads.get(node.id)
        return min(ends, *(self.begins(clock, *deadline) for deadline in leads)) if leads else ends

    def begins(self, clock: float, calendar: Calendar, lead: float) -> float:
        """When a node must begin that is to be ready `lead` seconds before a deadline; now where it should have."""
        passed, ahead = calendar.deadlines_around(self.now + lead)
        if passed is not None and clock < passed - lead:
            return self.now
        return ahead - lead if ahead is not None else NEVER

    @cached_property
    def leads(self) -> dict[str, list[tuple[Calendar, float]]]:
        """For each node that a deadline is about, its own or a reader's: how many seconds before it the node begins,
        by the durations that were measured on the way.
        """
        found: dict[str, list[tuple[Calendar, float]]] = {}
        for name in reversed(self.graph.order_to_deadlines):
            found[name] = self.lead(name, found)
        return found

    def lead(self, name: str, found: Mapping[str, list[tuple[Calendar, float]]]) -> list[tuple[Calendar, float]]:
        """The entry of one node in `leads`, from those `found` for its readers."""
        node, last = self.graph.nodes[name], self.world.node(name).baseline
        seconds = MARGIN * max(last.seconds, last.ended - last.started) if last else 0.0
        asked = [(calendar, lead) for reader in self.graph.readers[name] for calendar, lead in found.get(reader, ())]
        if node.policy.calendar is not None and node.policy.calendar.deadlines:
            asked.append((node.policy.calendar, HEAD_START))
        longest: dict[Calendar, float] = {}
        for calendar, lead in asked:
            longest[calendar] = max(longest.get(calendar, 0.0), lead + seconds)
        return list(longest.items())

    def overdue(self, node: Node, clock: float) -> float | None:
        """The instant from which the node is built even without new data, where it owns data and declares an age."""
        return None if node.transparent or node.policy.max_staleness is None else clock + node.policy.max_staleness

    def changed(self, reader: str, upstream: str, observed: Observed) -> bool:
        """Whether what `reader` depends on in `upstream` was last built from other code than `observed` saw."""
        if upstream in self.graph.sources:
            return False
        now, then = self.state(upstream).code, observed.codes.get(upstream)
        if now is None or now is then or now == then:
            return False
        reading = self.graph.readings[reader]
        return then is None or reading.sees(upstream, now) != reading.sees(upstream, then)

    def undisturbed(self, name: str) -> bool:
        """Whether everything that the rules look at is as the last build of the node left it or saw it, whatever
        quorums and columns say: the node stays as it is. Most nodes are, in a pass over all, and `rules` would find
        the same by a longer way.
        """
        state = self.assumed.get(name) or self.states.get(name)
        compared = self.graph.compared.get(name)
        if state is None or compared is None or state.baseline is None or state.failure is not None or state.doubtful:
            return False
        observed, (fingerprint, feeds, upstreams) = state.baseline.observed, compared
        if (
            fingerprint != observed.fingerprint
            or state.clears != observed.clears
            or state.drops != observed.drops
            or name in self.fallen
            or (self.job is not None and self.forced(name))
        ):
            return False
        versions, codes, assumed, states = observed.versions, observed.codes, self.assumed, self.states
        sources = self.graph.sources
        for feed in feeds:
            read = None if feed in sources else assumed.get(feed) or states.get(feed)
            if self._advanced(feed, observed) if read is None else read.version > versions.get(feed, -1):
                return False
        for upstream in upstreams:
            read = assumed.get(upstream) or states.get(upstream) or self.state(upstream)
            if read.code is not codes.get(upstream) and self.changed(name, upstream, observed):
                return False
        return True

    def news(self, name: str, observed: Observed) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """The upstreams of a node that are `changed`, and those that are `newer`."""
        changed, newer = list[str](), list[str]()
        for upstream in self.graph.upstreams[name]:  # each state is looked up once: events come through here
            if upstream in self.graph.sources:
                if self._advanced(upstream, observed):
                    newer.append(upstream)
                continue
            state = self.state(upstream)
            if state.code is not observed.codes.get(upstream) and self.changed(name, upstream, observed):
                changed.append(upstream)
            transparent = upstream in self.graph.transparent
            if self.newer(upstream, observed) if transparent else state.version > observed.versions.get(upstream, -1):
                newer.append(upstream)
        return tuple(changed), tuple(newer)

    def unloaded(self, source: str) -> bool:
        """Whether the source is not there before its first landing."""
        return self.graph.sources[source].empty and not self.world.source(source).version

    def failing(self, name: str, before: str) -> bool:
        """Whether a test of severity error failed on the source or ephemeral model `name` and will not run again
        before the node `before` is built; a forced job takes its own results.
        """
        if name not in self.graph.tests_of_unbuilt:
            return False
        among = self.job.tested if self.job is not None and not self.job.state_aware else None
        place = self.graph.position
        return checks.failing(
            self.graph, self.world, name, among, lambda seen: seen in self.assumed and place[seen] < place[before]
        )

    def missing(self, name: str) -> bool:
        """Whether a reader cannot be built on the node: never built, dropped, failed or blocked; through a view its
        upstreams too.
        """
        known = False if name in self.assumed else self._missing.get(name)  # what is planned lacks nothing
        if known is None:
            known = self._missing[name] = self._is_missing(name)
        return known

    def _is_missing(self, name: str) -> bool:
        state = self.state(name)
        return state.baseline is None or state.failure is not None or self.unready(name)

    def unready(self, name: str) -> bool:
        """Whether a node that was built cannot be read as it stands: dropped, waiting for what it is itself to be built
        from, or a view on what is not there.
        """
        state, decision = self.state(name), self.decisions.get(name)
        if state.dropped or name in self.fallen or (decision and decision.reason is Reason.upstream_not_ready):
            return True
        return self.graph.is_transparent(name) and (state.doubtful or bool(self.lacking(name)))

    def lacking(self, name: str) -> tuple[str, ...]:
        """The upstreams of a node that are missing, a source that was never loaded or whose tests fail among them, and
        the ephemeral models folded into it whose tests fail.
        """
        found = [up for up in self.graph.upstreams[name] if self._lacks(name, up)]
        if folded := self.graph.folded.get(name):
            found += [one for one in folded if self.failing(one, name)]
        return tuple(found)

    def _lacks(self, name: str, upstream: str) -> bool:
        if upstream in self.graph.sources:
            return self.unloaded(upstream) or self.failing(upstream, name)
        return self.missing(upstream)

    def move(self, now: float) -> None:
        """Look again at a later instant: what was decided before stands until it is decided again."""
        self.now = now
        self._missing = {}
