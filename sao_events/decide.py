"""The decision: for every node build, reuse, wait or blocked, with the reason and the evidence.

`rules` is the contract, read from top to bottom; the first rule that applies wins. `plan.decide` takes it over a
whole graph. Sources: semantics sections 2 and 3, which follow dbt's state-aware orchestration and dbt State, and name
where they go beyond. Pure: time comes in as an argument.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from enum import StrEnum
from functools import cached_property
from typing import Any

from sao_events import checks
from sao_events.events import Observed
from sao_events.graph import Graph
from sao_events.nodes import Node
from sao_events.policy import Settings
from sao_events.records import record
from sao_events.state import Baseline, Failure, Job, NodeState, World
from sao_events.windows import Calendar


class Action(StrEnum):
    """What is to happen with a node."""

    build = "build"
    reuse = "reuse"
    wait = "wait"
    blocked = "blocked"


class Reason(StrEnum):
    """Why: stable codes. Text for people is made from code and evidence in one place, `explain`."""

    forced = "forced"
    state_cleared = "state_cleared"
    first_build = "first_build"
    relation_missing = "relation_missing"
    retry = "retry"
    retries_exhausted = "retries_exhausted"
    code_changed = "code_changed"
    upstream_code_changed = "upstream_code_changed"
    view_unchanged = "view_unchanged"
    no_new_data = "no_new_data"
    waiting_for_upstreams = "waiting_for_upstreams"
    within_build_after = "within_build_after"
    max_staleness = "max_staleness"
    no_reader_due = "no_reader_due"
    new_data = "new_data"
    upstream_not_ready = "upstream_not_ready"


@record
class Decision:
    """What to do with a node now. `eligible_at` is the instant (UTC epoch seconds) at which a wait ends, where one is
    known.
    """

    action: Action
    reason: Reason
    eligible_at: float | None = None
    waiting_for: tuple[str, ...] = ()
    evidence: Mapping[str, Any] = field(default_factory=dict)


MOST_DOUBLINGS = 30  # of the wait between two retries: more is as good as never
NEVER = float("inf")
HEAD_START, MARGIN = 60.0, 1.1  # before a deadline: seconds for dbt to begin, and what durations are multiplied with
VIEW_UNCHANGED = Decision(Action.reuse, Reason.view_unchanged)
NO_NEW_DATA = Decision(Action.reuse, Reason.no_new_data)


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

    def still(self, name: str, observed: Observed) -> bool:
        """Whether nothing that the node is built from differs from `observed`, whatever quorums and columns say: no
        upstream is `newer` or `changed`. Most nodes are, at most looks.
        """
        versions, codes, assumed, states = observed.versions, observed.codes, self.assumed, self.states
        feeds, nodes = self.graph.apart[name]
        for feed in feeds:
            if self._advanced(feed, observed):
                return False
        for upstream in nodes:
            state = assumed.get(upstream) or states.get(upstream) or self.state(upstream)
            if (state.code is not codes.get(upstream) and self.changed(name, upstream, observed)) or (
                state.version > versions.get(upstream, -1) and upstream not in self.graph.transparent
            ):
                return False
        return True

    def news(self, name: str, observed: Observed) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """The upstreams of a node that are `changed`, and those that are `newer`."""
        changed, newer = list[str](), list[str]()
        for upstream in self.graph.upstreams[name]:
            if self.changed(name, upstream, observed):
                changed.append(upstream)
            if self.newer(upstream, observed):
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


def decide_node(look: Look, name: str) -> Decision:
    """The decision for one node whose parents are decided: the first rule that applies, then whether its upstreams
    are ready.
    """
    node = look.graph.nodes[name]
    if not node.built:
        return VIEW_UNCHANGED
    decision = rules(look, node)
    if decision.action is Action.build and (lacking := look.lacking(name)):
        evidence = {**decision.evidence, "would_be": decision.reason.value}
        return Decision(Action.blocked, Reason.upstream_not_ready, waiting_for=lacking, evidence=evidence)
    return decision


def rules(look: Look, node: Node) -> Decision:
    """What is to happen with a node that dbt builds, were all its upstreams ready: the first rule that applies."""
    state = look.state(node.id)
    baseline = state.baseline

    if look.forced(node.id):  # rule 1
        return Decision(Action.build, Reason.forced, evidence={"job": look.job.name if look.job else None})
    if state.failure is not None:  # rule 4, looked at first after a failed attempt, which answered what asked for it
        return _after_failure(look, node, state, state.failure)
    if state.cleared:  # rule 1
        return Decision(Action.build, Reason.state_cleared)
    if baseline is None:  # rule 2
        return Decision(Action.build, Reason.first_build)
    if state.dropped or node.id in look.fallen:  # rule 3
        with_ = {"fallen_with": look.fallen[node.id]} if node.id in look.fallen else {}
        return Decision(Action.build, Reason.relation_missing, evidence={"relation": node.relation, **with_})

    if look.graph.fingerprints[node.id] != baseline.observed.fingerprint:  # rule 5
        parts = node.differs_in(baseline.observed.parts)
        evidence = {
            "built_with": baseline.observed.fingerprint,
            "now": look.graph.fingerprints[node.id],
            "parts": parts,
        }
        return _code(look, node, baseline, Reason.code_changed, evidence)
    still = look.still(node.id, baseline.observed)
    changed, newer = ((), ()) if still else look.news(node.id, baseline.observed)
    if changed:  # rule 6
        return _code(look, node, baseline, Reason.upstream_code_changed, {"changed": changed})
    if state.doubtful:  # rule 5, not held: what a lost build of other code has left may stand in the warehouse
        return Decision(Action.build, Reason.code_changed, evidence={"interrupted": True})
    if node.transparent:  # rule 7
        return VIEW_UNCHANGED
    overdue = look.overdue(node, baseline.clock)
    if overdue is not None and look.now >= overdue:  # ours: a greatest age, declared for the node
        return Decision(Action.build, Reason.max_staleness, evidence={"since": baseline.clock})
    if not newer:  # rule 8
        return NO_NEW_DATA if overdue is None else Decision(Action.reuse, Reason.no_new_data, overdue)
    evidence = _newer(look, node, newer, baseline.observed)
    if lacking := tuple(name for name in look.graph.counted(node.id) if name not in newer):  # rule 9
        return Decision(Action.wait, Reason.waiting_for_upstreams, overdue, waiting_for=lacking, evidence=evidence)
    window_ends = look.opens(node, baseline.clock)
    if look.now < window_ends:  # rule 10
        return Decision(Action.wait, Reason.within_build_after, earliest(window_ends, overdue), evidence=evidence)
    if node.id in look.held:  # rule 11
        return Decision(Action.wait, Reason.no_reader_due, earliest(look.held[node.id], overdue), evidence=evidence)
    return Decision(Action.build, Reason.new_data, evidence=evidence)  # rule 12


def earliest(*instants: float | None) -> float | None:
    """The first of the instants that are known and ever come."""
    return min((at for at in instants if at is not None and at != NEVER), default=None)


def _code(look: Look, node: Node, baseline: Baseline, reason: Reason, evidence: Mapping[str, Any]) -> Decision:
    if look.settings.code_changes == "after_window":
        ends = earliest(look.opens(node, baseline.clock), look.overdue(node, baseline.clock))
        if ends is None or look.now < ends:
            held = {**evidence, "held": reason.value}
            return Decision(Action.wait, Reason.within_build_after, ends, evidence=held)
    return Decision(Action.build, reason, evidence=evidence)


def _after_failure(look: Look, node: Node, state: NodeState, failure: Failure) -> Decision:
    if state.drops > failure.drops:  # rule 3: seen missing after the failure
        return Decision(Action.build, Reason.relation_missing, evidence={"relation": node.relation})
    evidence = {"message": failure.message, "failed_at": failure.ended, "retries": failure.retries}
    if failure.test is not None:
        evidence["test"] = failure.test
    if news := arrived_since(look, node, failure):
        return Decision(Action.build, Reason.retry, evidence={**evidence, "arrived": news})
    if look.job is not None and look.asked(node.id):
        return Decision(Action.build, Reason.retry, evidence={**evidence, "job": look.job.name})
    if failure.retries >= look.settings.attempts:
        return Decision(Action.blocked, Reason.retries_exhausted, evidence=evidence)
    due = failure.ended + look.settings.backoff * 2.0 ** min(failure.retries, MOST_DOUBLINGS)
    if look.now < due:
        return Decision(Action.wait, Reason.retry, due, evidence=evidence)
    return Decision(Action.build, Reason.retry, evidence=evidence)


def arrived_since(look: Look, node: Node, failure: Failure) -> tuple[str, ...]:
    """What has arrived since an attempt that failed: names of newer or changed upstreams, `code`, `cleared`, `dropped`,
    and `test`, where the test that failed is gone or another.
    """
    state, upstreams, observed = look.state(node.id), look.graph.upstreams[node.id], failure.observed
    own = {
        "test": failure.test is not None and look.graph.definitions.get(failure.test) != failure.definition,
        "code": look.graph.fingerprints[node.id] != observed.fingerprint,
        "cleared": state.clears > observed.clears,
        "dropped": state.drops > observed.drops,
    }
    return (
        *(what for what, arrived in own.items() if arrived),
        *(
            name
            for name in upstreams
            if look.newer(name, observed, quorum=False) or look.changed(node.id, name, observed)
        ),
    )


def _newer(look: Look, node: Node, newer: tuple[str, ...], observed: Observed) -> dict[str, Any]:
    """Evidence: which feeds are newer, with the version the last build saw and the one on record."""
    found = dict[str, Any]()
    for name in newer:
        for feed in look.graph.behind(name):
            if feed not in found and look.newer(feed, observed):
                found[feed] = {"built_with": observed.versions.get(feed), "now": look.position(feed)}
    return {"newer": found}
