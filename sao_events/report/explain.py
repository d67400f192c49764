"""The one table that turns a reason code and its evidence into a sentence, for command line, page, API and log alike.

Pure words: instants are not in the sentences, they stand beside them (`eligible_at`, `since`), in the way of
each edge.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from sao_events.core import events as e
from sao_events.core.decision import Action, Decision, Reason
from sao_events.core.events import Event
from sao_events.core.state import Held

Names = Mapping[str, str]
MOST = 3
_PARTS = {"folded": "an ephemeral model in it"}
_ARRIVED = {"code": "its code", "cleared": "a clear", "dropped": "its missing relation", "test": "the test that failed"}


def explain(decision: Decision, names: Names) -> str:
    """Why the decision was taken, as a short sentence. `names`: what people call nodes and sources; ids otherwise."""
    return _SENTENCES[decision.reason](decision, names)


def reason_text(reason: str) -> str:
    """A reason code in a few words, where there is no evidence to tell of; an unknown code as it is."""
    return _WORDS.get(reason, reason.replace("_", " "))


def describe(event: Event, names: Names) -> str:
    """What happened, as a short sentence."""
    tell = _EVENTS.get(type(event))
    return tell(event, names) if tell else type(event).__name__


def explain_held(held: Held, missing: Iterable[str], names: Names) -> str:
    """Why a landing made nothing new, as a short sentence; `missing` are the sources that its load still lacks."""
    load = f"load {held.landed.load_id}" if held.landed.load_id is not None else "a load"
    if held.why == "incomplete":
        return f"{load} of {held.load} has landed; it counts when {listed(missing, names)} has too"
    return f"{load} {'brought no rows' if held.why == 'empty' else 'broke off'}; it does not count as new"


def listed(things: Iterable[str], names: Names, most: int = MOST) -> str:
    """The names of `things`, at most `most` of them and how many more there are."""
    known = [names.get(thing, thing) for thing in things]
    more = f" and {len(known) - most} more" if len(known) > most else ""
    return ", ".join(known[:most]) + more


def _forced(decision: Decision, names: Names) -> str:
    job = decision.evidence.get("job")
    return f"forced by {job}, whatever its state" if job else "forced, whatever its state"


def explain_left(left: Mapping[str, Any], names: Names) -> str:
    """A relation that is not in the project any more, and what has taken its place, as a short sentence."""
    node, now = left["node"], left["now"]
    since = f" since commit {left['commit'][:10]}" if left["commit"] else ""
    if now == node:
        return f"{_named(node, names)} is built elsewhere{since}"
    renamed = f", renamed to {_named(now, names)}" if now else ""
    return f"{node.rpartition('.')[2]} is not in the project{since}{renamed}"


def _missing(decision: Decision, names: Names) -> str:
    relation, other = decision.evidence.get("relation"), decision.evidence.get("fallen_with")
    if other is not None:
        return f"the warehouse drops it when it replaces {listed([other], names)}"
    return f"its relation {relation} is missing" if relation else "its relation is missing from the warehouse"


def _retry(decision: Decision, names: Names) -> str:
    if decision.action is Action.wait:
        return f"{_failed(decision, names)}; tried again when the pause is over"
    if arrived := decision.evidence.get("arrived"):
        known = listed((_ARRIVED.get(what, names.get(what, what)) for what in arrived), {})
        return f"tried again after a failure: new since then is {known}"
    if job := decision.evidence.get("job"):
        return f"tried again after a failure: {job} asks"
    return "tried again after a failure: the pause is over"


def _exhausted(decision: Decision, names: Names) -> str:
    retries = decision.evidence.get("retries", 0)
    used = "no retries are allowed" if not retries else f"{retries} {'retry' if retries == 1 else 'retries'} failed too"
    return f"{_failed(decision, names)} and {used}; something new or a job starts it again"


def _failed(decision: Decision, names: Names) -> str:
    test = decision.evidence.get("test")
    return "the last build failed" if test is None else f"{names.get(test, test)} failed on it"


def _code(decision: Decision, names: Names) -> str:
    parts = [_PARTS.get(part, part) for part in decision.evidence.get("parts") or ()]
    return f"its code changed ({listed(parts, {})})" if parts else "its code changed"


def _upstream_code(decision: Decision, names: Names) -> str:
    return f"the code changed upstream: {listed(decision.evidence.get('changed', ()), names)}"


def _waiting(decision: Decision, names: Names) -> str:
    return f"updates_on: all waits for new data in {listed(decision.waiting_for, names)}{_beside(decision, names)}"


def _beside(decision: Decision, names: Names) -> str:
    newer = decision.evidence.get("newer")
    return f"; new is {listed(newer, names)}" if newer else ""


def _window(decision: Decision, names: Names) -> str:
    held = decision.evidence.get("held")
    if held == Reason.upstream_code_changed:
        return f"{_upstream_code(decision, names)}; its window is not over"
    if held is not None:
        return "its code changed; its window is not over"
    return f"{_new_data(decision, names)}; its window is not over"


def _lazy(decision: Decision, names: Names) -> str:
    return f"lazy: {_new_data(decision, names)}, but no reader is due"


def _new_data(decision: Decision, names: Names) -> str:
    newer = decision.evidence.get("newer")
    return f"new data in {listed(newer, names)}" if newer else "new data upstream"


def _not_ready(decision: Decision, names: Names) -> str:
    why = decision.evidence.get("would_be")
    due = f" (due: {reason_text(why)})" if why else ""
    return f"cannot be built before {listed(decision.waiting_for, names)}{due}"


def _constant(text: str) -> Callable[[Decision, Names], str]:
    return lambda decision, names: text


_WORDS: dict[str, str] = {
    Reason.forced: "forced",
    Reason.state_cleared: "its recorded state was cleared",
    Reason.first_build: "never built",
    Reason.relation_missing: "its relation is missing",
    Reason.retry: "tried again after a failure",
    Reason.retries_exhausted: "failed, no retries left",
    Reason.code_changed: "its code changed",
    Reason.upstream_code_changed: "the code changed upstream",
    Reason.view_unchanged: "holds no data itself: new data shows through it",
    Reason.no_new_data: "nothing new upstream",
    Reason.waiting_for_upstreams: "waits for upstreams",
    Reason.within_build_after: "its window is not over",
    Reason.max_staleness: "older than it may be",
    Reason.no_reader_due: "no reader is due",
    Reason.new_data: "new data upstream",
    Reason.upstream_not_ready: "an upstream is not ready",
}

_SENTENCES: dict[Reason, Callable[[Decision, Names], str]] = {
    Reason.forced: _forced,
    Reason.state_cleared: _constant(_WORDS[Reason.state_cleared]),
    Reason.first_build: _constant("never built successfully"),
    Reason.relation_missing: _missing,
    Reason.retry: _retry,
    Reason.retries_exhausted: _exhausted,
    Reason.code_changed: _code,
    Reason.upstream_code_changed: _upstream_code,
    Reason.view_unchanged: _constant(_WORDS[Reason.view_unchanged]),
    Reason.no_new_data: _constant("nothing new upstream since its last build"),
    Reason.waiting_for_upstreams: _waiting,
    Reason.within_build_after: _window,
    Reason.max_staleness: _constant("older than it may be, by its own greatest age"),
    Reason.no_reader_due: _lazy,
    Reason.new_data: _new_data,
    Reason.upstream_not_ready: _not_ready,
}


def _named(name: str, names: Names) -> str:
    return names.get(name, name)


def _commit(commit: str | None) -> str:
    return f" at commit {commit[:10]}" if commit else ""


def _message(message: str | None) -> str:
    return f": {message.strip().splitlines()[0]}" if message and message.strip() else ""


def _code_pushed(event: e.CodePushed, names: Names) -> str:
    ref = f" to {event.ref}" if event.ref else ""
    paths = f": {listed(event.paths, {})}" if event.paths else ""
    return f"code changed{ref}{_commit(event.commit)}{paths}"


def _data_landed(event: e.DataLanded, names: Names) -> str:
    rows = "" if event.rows is None else f", {event.rows} {'row' if event.rows == 1 else 'rows'}"
    load = f", load {event.load_id}" if event.load_id is not None else ""
    if event.scope == "probe":
        return f"new data in {_named(event.source, names)}, seen by looking at it"
    what = "part of a load" if event.partial else "new data" if event.counts else "a load of nothing"
    only = "" if event.counts else "; it does not count as new"
    whole = f", of {listed(event.together, names)} together" if event.together else ""
    return f"{what} in {_named(event.source, names)}{load}{rows}{whole}{only}"


def _probed(event: e.SourceProbed, names: Names) -> str:
    name = _named(event.source, names)
    if event.error:
        what = "cannot be looked at" if event.loaded_at is None else "is looked at in vain"
        return f"{name} {what}{_message(event.error)}"
    return f"a look at {name} ({event.by}): {'not as before' if event.value else 'nothing there'}"


def _cleared(event: e.StateCleared, names: Names) -> str:
    return f"state cleared of {'all nodes' if event.nodes is None else listed(event.nodes, names)}"


def _job_requested(event: e.JobRequested, names: Names) -> str:
    what = "all nodes" if event.select is None else listed(event.select, names)
    return f"job {event.name} asks for {what}{'' if event.state_aware else ', whatever their state'}"


def _run_started(event: e.RunStarted, names: Names) -> str:
    count = len(event.nodes)
    tests = f", {len(event.tests)} {'test' if len(event.tests) == 1 else 'tests'}" if event.tests else ""
    return f"run {event.run} of {count} {'node' if count == 1 else 'nodes'}{tests} ({event.cause})"


def _build_started(event: e.BuildStarted, names: Names) -> str:
    return f"{_named(event.node, names)} is being built: {reason_text(event.reason)}"


def _built(event: e.NodeBuilt, names: Names) -> str:
    equal = ", with the content that it had" if event.same_content else ""
    return f"{_named(event.node, names)} built in {event.seconds:.1f} s{equal}"


def _head_seen(event: e.HeadSeen, names: Names) -> str:
    branch = event.ref.removeprefix("refs/heads/") if event.ref else "the branch"
    return f"{branch} is{_commit(event.commit)}" if event.commit else f"{branch} cannot be asked{_message(event.error)}"


def _preview_made(event: e.PreviewMade, names: Names) -> str:
    said = f": {event.summary}" if event.summary else ""
    return f"request {event.number}{_commit(event.commit)}{said}{_message(event.error)}"


def _clean_asked(event: e.CleanAsked, names: Names) -> str:
    return f"to be dropped: {', '.join(event.relations)}" if event.relations else "asked what is left behind"


def _clean_answered(event: e.CleanAnswered, names: Names) -> str:
    if event.error:
        return f"left behind{_message(event.error)}"
    counts = Counter(it["status"] for it in event.relations.values())
    return f"left behind: {', '.join(f'{count} {status}' for status, count in counts.items()) or 'nothing'}"


def _loaded(event: e.ProjectLoaded, names: Names) -> str:
    count = len(event.warnings)
    warnings = f", {count} {'warning' if count == 1 else 'warnings'}" if count else ""
    return f"project loaded{_commit(event.commit)}{warnings}"


_EVENTS: dict[type[Event], Callable[[Any, Names], str]] = {
    e.RelationsSeen: lambda event, names: f"{listed(event.nodes, names)} seen in the warehouse again",
    e.EngineStarted: lambda event, names: "the service started",
    e.HeadSeen: _head_seen,
    e.PreviewAsked: lambda event, names: f"preview of request {event.number} asked for{_commit(event.commit)}",
    e.PreviewMade: _preview_made,
    e.ProjectLoaded: _loaded,
    e.ProjectRejected: lambda event, names: f"project refused{_commit(event.commit)}{_message(event.error)}",
    e.CodePushed: _code_pushed,
    e.DataLanded: _data_landed,
    e.SourceProbed: _probed,
    e.RelationDropped: lambda event, names: f"{_named(event.node, names)} is missing from the warehouse",
    e.RelationsKnown: lambda event, names: f"relations on record: {len(event.relations)}",
    e.RelationsCleaned: lambda event, names: f"dropped, having left the project: {', '.join(event.relations)}",
    e.CleanAsked: _clean_asked,
    e.CleanAnswered: _clean_answered,
    e.StateCleared: _cleared,
    e.JobRequested: _job_requested,
    e.JobFinished: lambda event, names: f"job {event.job}: {event.status}{_message(event.message)}",
    e.RunStarted: _run_started,
    e.RunFinished: lambda event, names: f"run {event.run}: {event.status}{_message(event.message)}",
    e.BuildStarted: _build_started,
    e.NodeBuilt: _built,
    e.NodeFailed: lambda event, names: f"{_named(event.node, names)} failed{_message(event.message)}",
    e.BuildInterrupted: lambda event, names: f"{_named(event.node, names)} interrupted",
    e.TestFinished: lambda event, names: (
        f"test {_named(event.test, names)}: {'proven' if event.proven else event.status}{_message(event.message)}"
    ),
}
