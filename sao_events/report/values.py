"""What is shown to people and programs: status, plan, the why of a node, runs and events, as values for JSON.

Read models only: made from a consistent `View` of the record and from the log, changing nothing. Instants are ISO-8601
in UTC with a Z, durations seconds.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from sao_events.core import checks
from sao_events.core.decision import Action, Decision
from sao_events.core.look import Look
from sao_events.core.nodes import Node, Source
from sao_events.core.plan import Plan, decide
from sao_events.core.policy import Policy, Settings
from sao_events.core.probes import Probe, age, loaded_at, probes, signal
from sao_events.core.project import Graphs, Project
from sao_events.core.proven import said
from sao_events.core.relations import left_objects
from sao_events.core.state import Held, Landed, SourceState, World
from sao_events.core.windows import calendar_object
from sao_events.report.causes import Causes
from sao_events.report.deployment import Tracked, deployment
from sao_events.report.difference import Texts, difference
from sao_events.report.explain import Names, explain, explain_held, explain_left
from sao_events.report.history import Find, builds, iso, plain
from sao_events.report.spared import changes_upstream, cutoff, cutoffs, equal_content, spared_by

RESTLESS = (
    "{}: declared static, and yet new data was reported in it: what reads it is built for that, but no updates_on: all "
    "waits for it; take static out, or the report"
)
SILENT = "{}: nothing tells of new data in it; what reads it is built for changes of code alone (docs/PROBES.md)"


@dataclass(frozen=True, slots=True)
class View:
    """One environment at the instant `now`. `error`: what keeps the service from working, `tracked`: what it deploys
    from, `active`: what is known of runs under way beside the log.
    """

    environment: str
    project: Project | None
    world: World
    settings: Settings
    now: float
    error: str | None = None
    tracked: Tracked | None = None
    active: Mapping[str, Any] = field(default_factory=dict)


def names(project: Project | None) -> Names:
    """What people call nodes, sources and tests, by id. A name that two nodes share is not used."""
    if project is None:
        return {}
    graph = project.graph
    count = Counter(node.name for node in graph.nodes.values())
    return {
        **{node.id: node.name for node in graph.nodes.values() if count[node.name] == 1},
        **{source.id: source.name for source in graph.sources.values()},
        **{test.id: test.name for test in graph.tests.values()},
    }


def header(view: View) -> dict[str, Any]:
    """What every answer begins with: the environment, the commit in force, and the instant it is about."""
    return {"environment": view.environment, "commit": view.world.commit, "at": iso(view.now)}


def node_object(view: View, node_id: str, decision: Decision, known: Names | None = None) -> dict[str, Any]:
    """A node with its decision. `since`: the instant its data is as of, the start of the last build that left rows;
    `good_since`: that of the last successful one, which differs where a test failed on what stands there.
    """
    assert view.project is not None
    node, state = view.project.graph.nodes[node_id], view.world.node(node_id)
    good, built, running, failure = state.baseline, state.standing, state.running, state.failure
    known = names(view.project) if known is None else known
    equal = equal_content(view.project.graph, view.world, node_id, known)
    told = [explain(decision, known), *(it["text"] for it in equal[:1] if decision.action is Action.reuse)]
    return {
        "node": node_id,
        "name": node.name,
        "kind": node.kind,
        "action": decision.action.value,
        "reason": decision.reason.value,
        "text": "; ".join(told),
        "since": iso(built.started) if built else None,
        "good_since": iso(good.started) if good else None,
        "eligible_at": iso(decision.eligible_at),
        "waiting_for": list(decision.waiting_for),
        "spared_by": spared_by(view.project.graph, view.world, node_id),
        "equal_upstream": equal,
        "evidence": plain(decision.evidence),
        "built_at": iso(built.ended) if built else None,
        "built_because": built.reason if built else None,
        "window_from": iso(good.clock) if good else None,
        "build_seconds": built.seconds if built else None,
        "age_seconds": round(max(0.0, view.now - built.started), 3) if built else None,
        "running": {"run": running.run, "reason": running.reason, "since": iso(running.started)} if running else None,
        "failure": {"at": iso(failure.ended), "run": failure.run, "message": failure.message} if failure else None,
        "policy": _policy(node.policy),
        "cutoff": cutoff(node, state),
        "relation": node.relation,
        "path": node.path,
    }


def _policy(policy: Policy) -> dict[str, Any]:
    return {
        "build_after": policy.build_after,
        "updates_on": policy.updates_on,
        "lazy": policy.lazy,
        "max_staleness": policy.max_staleness,
        "calendar": calendar_object(policy.calendar) if policy.calendar else None,
    }


def status(view: View) -> dict[str, Any]:
    """Every node with its decision now, the sources, failing tests, runs and jobs under way, and what is wrong."""
    world, known = view.world, names(view.project)
    decisions = decide(view.project.graph, world, view.settings, view.now) if view.project else {}
    rejected = world.rejected
    return {
        **header(view),
        "project": view.project.name if view.project else None,
        "state": "error" if view.error else "ready" if view.project else "empty",
        "error": view.error,
        "rejected": {"commit": rejected.commit, "error": rejected.error} if rejected else None,
        "deployment": deployment(world, view.project, decisions, known, tracked=view.tracked, error=view.error),
        "warnings": [*(view.project.warnings if view.project else ()), *_doubts(view)],
        "counts": _counts(decisions.values()),
        "next_at": iso(min((d.eligible_at for d in decisions.values() if d.eligible_at is not None), default=None)),
        "nodes": [node_object(view, name, decision, known) for name, decision in decisions.items()],
        "sources": sources(view, known),
        "cutoff": cutoffs(world),
        "tests": failing_tests(view),
        "runs": [
            {"run": run.id, "job": run.job, "since": iso(run.started), "nodes": plain(run.nodes)}
            for run in world.runs.values()
        ],
        "jobs": [{"job": job.id, "name": job.name, "due": iso(job.due)} for job in world.jobs.values()],
        "left": left_behind(view, known),
        "seq": world.seq,
    }


def left_behind(view: View, known: Names) -> list[dict[str, Any]]:
    """The relations that were built and are not in the project any more, with what may have taken their place."""
    found = []
    for left in left_objects(view.project.graph, view.world) if view.project else ():
        at = {name: iso(left[name]) for name in ("built_at", "left_at")}
        text = explain_left(left, known)
        found.append({**left, **at, "text": text})
    return found


def plan_object(view: View, plan: Plan) -> dict[str, Any]:
    """What would be done now: every node that was looked at with its decision, and the tests that would run."""
    known = names(view.project)
    return {
        **header(view),
        "counts": _counts(plan.decisions.values()),
        "nodes": [node_object(view, name, decision, known) for name, decision in plan.decisions.items()],
        "build": list(plan.nodes),
        "tests": list(plan.tests),
        "next_at": iso(plan.wakes),
    }


def _counts(decisions: Iterable[Decision]) -> dict[str, int]:
    count = Counter(decision.action for decision in decisions)
    return {action.value: count[action] for action in Action}


def sources(view: View, known: Names) -> list[dict[str, Any]]:
    """The sources with what is known of their loads; `event` is the place in the log of the last new one."""
    found, asked = [], probes(view.project, view.settings.probe_every) if view.project else {}
    for source in view.project.graph.sources.values() if view.project else ():
        state, probe = view.world.source(source.id), asked.get(source.id)
        seen = {
            "version": state.version,
            "loaded_at": iso(loaded_at(source.id, view.world)),
            **_load(state),
            "event": state.event,
        }
        kind = {"static": source.static, "view": source.view, "signal": _signal(view, source, probe)}
        held = _held(view.world, source.id, state.held, known) if state.held else None
        more = {"held": held, "probe": _probe(view, probe), "freshness": _freshness(view, source)}
        found.append({"source": source.id, "name": source.name, **kind, **seen, **more})
    return found


def _doubts(view: View) -> list[str]:
    """What is doubtful of sources by what is on record of them."""
    found = view.project.graph.sources.values() if view.project else ()
    restless = [source.name for source in found if source.static and view.world.source(source.id).sent]
    return [*map(SILENT.format, silent(view)), *map(RESTLESS.format, restless)]


def silent(view: View) -> list[str]:
    """The names of the sources of which nothing tells when they have new data; views, which are new to every job, have
    a warning of their own.
    """
    if view.project is None:
        return []
    asked = probes(view.project, view.settings.probe_every)
    found = view.project.graph.sources.values()
    unknown = (source for source in found if _signal(view, source, asked.get(source.id)) is None)
    return [source.name for source in unknown if not source.view]


def _signal(view: View, source: Source, probe: Probe | None) -> str | None:
    """`signal`, or `node` where nothing else tells of what a node writes."""
    assert view.project is not None
    return signal(source, probe, view.world) or ("node" if source.id in view.project.graph.written_by_nodes else None)


def _probe(view: View, probe: Probe | None) -> dict[str, Any] | None:
    """How a source is looked at, and what came of it; None where it is not."""
    if probe is None or (view.world.source(probe.source).sent and not probe.told):
        return None
    known = view.world.probes.get(probe.source)
    seen = {"since": iso(known.at), "loaded_at": iso(known.loaded_at), "error": known.error} if known else {}
    return {"by": probe.by, "every": probe.every, "since": None, "loaded_at": None, "error": None, **seen}


def _freshness(view: View, source: Source) -> dict[str, Any] | None:
    """How old the data of a source is, by what it declares; None where it declares nothing."""
    limits = {key: source.meta.get(key) for key in ("warn_after", "error_after")}
    if not any(limits.values()):
        return None
    verdict, seconds = age(source, view.world, view.now)
    return {"status": verdict, "age_seconds": None if seconds is None else round(seconds, 3), **limits}


def _load(state: SourceState | Landed) -> dict[str, Any]:
    return {"load_id": state.load_id, "rows": state.rows, "partial": state.partial}


def _held(world: World, source: str, held: Held, known: Names) -> dict[str, Any]:
    """A landing that made nothing new: why, what else has landed of its load, and what of it has not."""
    landed = held.landed
    beside = world.incomplete.get(held.load or "", {}).get(landed.load_id or "", {})
    others, missing = [name for name in beside if name != source], [it for it in held.together if it not in beside]
    seen = {"loaded_at": iso(landed.loaded_at), **_load(landed), "event": landed.event}
    text = explain_held(held, missing, known)
    return {"why": held.why, "text": text, "load": held.load, **seen, "landed_too": others, "missing": missing}


def failing_tests(view: View) -> list[dict[str, Any]]:
    """The tests whose last result is not a pass; `stands` says whether it still is the result."""
    found = []
    for test in view.project.graph.tests.values() if view.project else ():
        state = view.world.tests.get(test.id)
        if state is not None and state.status != "pass":
            found.append(test_object(view, test.id))
    return found


def test_object(view: View, test_id: str) -> dict[str, Any]:
    """A test with its last result (`status` is None where it has none), whether that `stands`, and how it was `proven`,
    where it was not run.
    """
    assert view.project is not None
    test, state = view.project.graph.tests[test_id], view.world.tests.get(test_id)
    stands = checks.stands(view.project.graph, view.world, test)
    result = (state.status, state.message, iso(state.at), list(state.proven)) if state else (None, None, None, [])
    seen = dict(zip(("status", "message", "at", "proven"), result, strict=True))
    return {"test": test.id, "name": test.name, "reads": list(test.reads), **seen, "stands": stands}


def why_test(view: View, test_id: str) -> dict[str, Any]:
    """A test: what it asserts, what it reads and what lies behind that, and its `last` result (`test_object`)."""
    assert view.project is not None
    graph = view.project.graph
    test = graph.tests[test_id]
    more = {"kind": test.kind, "severity": test.severity, "asserts": said(test.claim) if test.claim else None}
    last, behind = test_object(view, test_id), list(checks.looked_at(graph, test))
    named = {key: last.pop(key) for key in ("test", "name", "reads")}
    return {**header(view), **named, **more, "looks_at": behind, "last": last if last["status"] else None}


def why(view: View, find: Find, node_id: str, graphs: Graphs | None = None) -> dict[str, Any]:
    """The node with its decision, the events that led to it (`because`) and to its last good build, other code upstream
    and whom it touches, its last builds, and what is around it. `held` are the sources that it is made from, at any
    distance, in which something landed that is not new; `sources` are all of them. `graphs` has the projects on record.
    """
    assert view.project is not None
    graph, known = view.project.graph, names(view.project)
    decisions = decide(graph, view.world, view.settings, view.now)
    fed = {upstream for above in graph.ancestors([node_id]) for upstream in graph.upstreams[above]}
    behind = [it for it in sources(view, known) if it["source"] in fed]
    return {
        **header(view),
        **node_object(view, node_id, decisions[node_id], known),
        "identity": _identity(graph.nodes[node_id]),
        "deadline_of": _deadline_of(view, node_id, decisions[node_id]),
        "changes_upstream": changes_upstream(graph, view.world, node_id, known),
        "because": Causes(graph, view.world, decisions, find, known, graphs).of(node_id),
        "last_build_because": Causes(graph, view.world, decisions, find, known, graphs).of_last_build(node_id),
        "builds": builds(find, node_id),
        "upstreams": list(graph.upstreams[node_id]),
        "readers": list(graph.readers[node_id]),
        "tests": [test_object(view, test) for test in graph.tests_of.get(node_id, ())],
        "held": [it for it in behind if it["held"]],
        "sources": behind,
    }


def _deadline_of(view: View, node_id: str, decision: Decision) -> list[str]:
    """The nodes, itself or readers of it, for whose deadline a node that waits begins when it does."""
    assert view.project is not None
    graph, last = view.project.graph, view.world.node(node_id).baseline
    if decision.action is not Action.wait or decision.eligible_at is None or last is None:
        return []
    look = Look(graph, view.world, view.settings, view.now)
    leads = look.leads.get(node_id, ())
    asking = {calendar for calendar, lead in leads if look.begins(last.clock, calendar, lead) == decision.eligible_at}
    return [name for name in graph.sort(graph.descendants([node_id])) if graph.nodes[name].policy.calendar in asking]


def _identity(node: Node) -> dict[str, Any]:
    """By what a change of its code is seen: `compiled` SQL, or the `code` as it is written, and then `why`."""
    return {"by": "compiled" if node.compiled else "code", "why": node.doubt or None}


def code_difference(view: View, texts: Texts, node_id: str) -> list[dict[str, Any]]:
    """What differs between the code that the node was last built with and the code in force, as `difference` says."""
    assert view.project is not None
    last = view.world.node(node_id).standing
    built = last.observed.parts if last else {}
    return difference(view.project.graph.nodes[node_id], built, texts, view.project.adapter)
