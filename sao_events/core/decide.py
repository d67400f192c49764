"""The decision: for every node build, reuse, wait or blocked, with the reason and the evidence.

`rules` is the contract, read from top to bottom; the first rule that applies wins. `plan.decide` takes it over a
whole graph. Sources: semantics sections 2 and 3, which follow dbt's state-aware orchestration and dbt State, and name
where they go beyond. Pure: time comes in as an argument.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sao_events.core.decision import NO_NEW_DATA, VIEW_UNCHANGED, Action, Decision, Reason, earliest
from sao_events.core.events import Observed
from sao_events.core.look import Look
from sao_events.core.nodes import Node
from sao_events.core.state import Baseline, Failure, NodeState

MOST_DOUBLINGS = 30  # of the wait between two retries: more is as good as never


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
    changed, newer = look.news(node.id, baseline.observed)
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
    found, transparent = dict[str, Any](), look.graph.transparent
    for name in newer:
        through = name in transparent
        for feed in look.graph.feeds[name] if through else (name,):
            if feed not in found and (not through or look.newer(feed, observed)):
                found[feed] = {"built_with": observed.versions.get(feed), "now": look.position(feed)}
    return {"newer": found}
