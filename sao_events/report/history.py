"""The log read backwards: events as values for JSON, what came of runs and builds, and what led to a decision.

Instants are ISO-8601 in UTC with a Z, durations seconds.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Protocol

from sao_events.core import events as e
from sao_events.core.decision import Action, Decision
from sao_events.core.events import Recorded
from sao_events.core.graph import Graph
from sao_events.core.state import World
from sao_events.core.stored import event_to_json
from sao_events.core.windows import LATEST
from sao_events.report.explain import Names, describe, explain

_INSTANTS = frozenset({"loaded_at", "due", "clock", "failed_at"})
_RESULTS = ("NodeBuilt", "NodeFailed", "BuildInterrupted")


class Find(Protocol):
    """Looks into the log: events of `kinds`, about the node, source or test `subject`, of the run `run`, with a `seq`
    below `before`; newest first, at most `limit`.
    """

    def __call__(
        self,
        kinds: Sequence[str] | None = None,
        subject: str | None = None,
        run: str | None = None,
        before: int | None = None,
        limit: int = 100,
    ) -> list[Recorded]:
        """The events asked for."""


def iso(at: float | None) -> str | None:
    """An instant as `2026-01-05T08:00:00.000Z`; None stays None."""
    if at is None:
        return None
    moment = datetime.fromtimestamp(min(at, LATEST), UTC)  # a window of as good as never ends after all calendars
    return moment.isoformat(timespec="milliseconds").removesuffix("+00:00") + "Z"


def plain(value: Any, key: str = "") -> Any:
    """Evidence and fields of events as JSON values: instants in ISO-8601, tuples as lists."""
    if isinstance(value, Mapping):
        return {name: plain(item, name) for name, item in value.items()}
    if isinstance(value, (tuple, list, frozenset, set)):
        return [plain(item) for item in (sorted(value) if isinstance(value, (set, frozenset)) else value)]
    return iso(value) if key in _INSTANTS and isinstance(value, (int, float)) else value


def event_object(recorded: Recorded, known: Names | None = None) -> dict[str, Any]:
    """An event with its place in the log; `data` are its own fields, `text` says it in words."""
    kind, body = event_to_json(recorded.event)
    return {
        "seq": recorded.seq,
        "at": iso(recorded.at),
        "kind": kind,
        "sender": recorded.sender,
        "key": recorded.key,
        "text": describe(recorded.event, known or {}),
        "data": plain(body),
    }


def builds(find: Find, node_id: str, limit: int = 10) -> list[dict[str, Any]]:
    """The last builds of a node, newest first: run, reason, start, end, dbt's status, seconds and message, and the
    `failed_tests` that were told of what it left.
    """
    found: list[dict[str, Any]] = []
    results: dict[str, Recorded] = {}
    alive = begun(find)
    for recorded in find(["BuildStarted", *_RESULTS], node_id, limit=3 * limit):
        event = recorded.event
        if len(found) == limit:
            break
        if isinstance(event, e.BuildStarted):
            tests = [it.event for it in find(["TestFinished"], run=event.run, limit=100_000)]
            failed = [it.test for it in tests if isinstance(it, e.TestFinished) and node_id in it.fails]
            found.append({**_build(recorded, event, results.pop(event.run, None), alive), "failed_tests": failed})
        elif isinstance(event, (e.NodeBuilt, e.NodeFailed, e.BuildInterrupted)):
            results[event.run] = recorded
    return found


def begun(find: Find) -> int:
    """The place in the log at which the service, as it runs now or ran last, began: what began before and has no end
    was cut short.
    """
    start = find(["EngineStarted"], limit=1)
    return start[0].seq if start else 0


def _build(started: Recorded, event: e.BuildStarted, ended: Recorded | None, alive: int) -> dict[str, Any]:
    result = ended.event if ended else None
    done = result if isinstance(result, (e.NodeBuilt, e.NodeFailed)) else None
    return {
        "run": event.run,
        "node": event.node,
        "reason": event.reason,
        "started_at": iso(started.at),
        "ended_at": iso(ended.at) if ended else None,
        "status": done.status if done else "interrupted" if ended or started.seq < alive else "running",
        "seconds": done.seconds if done else None,
        "message": done.message if done else None,
    }


def runs(find: Find, limit: int = 20) -> list[dict[str, Any]]:
    """The last runs, newest first, each with its nodes and what came of them."""
    alive = begun(find)
    return [run_object(find, recorded, alive) for recorded in find(["RunStarted"], limit=limit)]


def run_object(find: Find, started: Recorded, alive: int | None = None) -> dict[str, Any]:
    """One run: its cause, status and nodes. One that began before the event `alive` (by itself the last start of the
    service) and has no end was interrupted; then nobody knows when it ended.
    """
    event, alive = started.event, begun(find) if alive is None else alive
    assert isinstance(event, e.RunStarted)
    log = find(run=event.run, limit=100_000)
    end = next((item for item in log if isinstance(item.event, e.RunFinished)), None)
    finished = end.event if end is not None and isinstance(end.event, e.RunFinished) else None
    tests = [item.event for item in log if isinstance(item.event, e.TestFinished)]
    return {
        "run": event.run,
        "cause": event.cause,
        "job": event.job,
        "started_at": iso(started.at),
        "ended_at": iso(end.at) if end else None,
        "status": finished.status if finished else "interrupted" if started.seq < alive else "running",
        "message": finished.message if finished else None,
        "nodes": _run_nodes(event, log, alive),
        "tests": {"planned": len(event.tests), **Counter("proven" if test.proven else test.status for test in tests)},
    }


def _run_nodes(event: e.RunStarted, log: Sequence[Recorded], alive: int) -> list[dict[str, Any]]:
    found = {name: {"node": name, "reason": reason, "status": None} for name, reason in event.nodes.items()}
    began = {item.event.node: item for item in log if isinstance(item.event, e.BuildStarted)}
    ended: dict[str, Recorded] = {}
    for item in log:
        if isinstance(item.event, (e.NodeBuilt, e.NodeFailed, e.BuildInterrupted)):
            ended.setdefault(item.event.node, item)
    for name, item in began.items():
        assert isinstance(item.event, e.BuildStarted)
        found[name] = _build(item, item.event, ended.get(name), alive)
    return list(found.values())


class Causes:
    """Follows a decision back through the log: which event made which source or code new, and through which nodes."""

    def __init__(self, graph: Graph, world: World, decisions: Mapping[str, Decision], find: Find, known: Names) -> None:
        self.graph, self.world, self.decisions, self.find, self.known = graph, world, decisions, find, known
        self.seen: set[str] = set()

    def of(self, node: str) -> list[dict[str, Any]]:
        """What led to the decision about `node`."""
        decision = self.decisions[node]
        evidence, reason = decision.evidence, str(decision.evidence.get("would_be", decision.reason))
        found = [self._newer(feed, versions) for feed, versions in evidence.get("newer", {}).items()]
        found += [self._changed(upstream) for upstream in evidence.get("changed", ())]
        found += [self._arrived(node, what) for what in evidence.get("arrived", ())]
        if "code_changed" in (reason, evidence.get("held")):
            found.append(self._code())
        if reason == "state_cleared":
            found.append(self._cleared(node))
        if reason == "relation_missing":
            found.append(self._dropped(node))
        if "failed_at" in evidence:
            found.append(self._failure(node))
        if decision.action is Action.blocked:
            found += [self._not_ready(name) for name in decision.waiting_for]
        return found

    def of_last_build(self, node: str) -> list[dict[str, Any]]:
        """What was new when `node` was last built with success, against the build before; nothing for its first."""
        return self._built(node)

    def _cause(self, what: str, about: str, event: Recorded | None, **more: Any) -> dict[str, Any]:
        shown = event_object(event, self.known) if event else None
        return {"what": what, "about": about, "name": self.known.get(about, about), "event": shown, **more}

    def _event(self, what: str, about: str, kinds: Sequence[str], subject: str | None = None) -> dict[str, Any]:
        return self._cause(what, about, next(iter(self.find(kinds, subject, limit=1)), None))

    def _newer(self, feed: str, versions: Mapping[str, Any], before: int | None = None) -> dict[str, Any]:
        """A source or stored node that has newer data: the landing, or the build with what led to it."""
        if feed in self.graph.sources:
            return self._cause("data", feed, self._landing(feed, before), **versions)
        built = self.find(["NodeBuilt"], feed, before=before, limit=1)
        return self._cause("build", feed, next(iter(built), None), **versions, because=self._built(feed))

    def _landing(self, source: str, before: int | None) -> Recorded | None:
        """The last landing in `source` before that place in the log which can have made it new."""
        last = self.world.source(source).event
        upto = before if before is not None else last + 1 if last is not None else None
        found = self.find(["DataLanded"], source, before=upto, limit=1 if before is None else 20)
        counted = (item for item in found if isinstance(item.event, e.DataLanded) and item.event.counts)
        return next(counted, found[0] if found else None)

    def _built(self, node: str) -> list[dict[str, Any]]:
        """What led to the last successful build of `node`."""
        state = self.world.node(node)
        if node in self.seen or state.baseline is None:
            return []
        self.seen.add(node)
        seen, run = state.baseline.observed, state.baseline.run
        start = next(iter(self.find(["BuildStarted"], node, run, limit=1)), None)
        before = start.seq if start else None
        if state.previous is None:
            return []
        then = state.previous.observed
        found = [
            self._newer(feed, {"built_with": then.versions.get(feed), "now": version}, before)
            for feed, version in seen.versions.items()
            if version > then.versions.get(feed, -1)
        ]
        if seen.fingerprint != then.fingerprint:
            found.append(self._code(before))
        return found + [
            self._changed(up) for up, code in seen.codes.items() if up in then.codes and then.codes[up] != code
        ]

    def _changed(self, upstream: str) -> dict[str, Any]:
        built = next(iter(self.find(["NodeBuilt"], upstream, limit=1)), None)
        return self._cause("code", upstream, built, because=self._built(upstream))

    def _code(self, before: int | None = None) -> dict[str, Any]:
        """The project's change that is in force, with the push or the saved file that was reported before it."""
        loaded = next(iter(self.find(["ProjectLoaded"], before=before, limit=1)), None)
        pushed = self.find(["CodePushed"], before=loaded.seq, limit=1) if loaded else []
        because = [self._cause("push", "project", pushed[0])] if pushed else []
        return self._cause("code", "project", loaded, because=because)

    def _arrived(self, node: str, what: str) -> dict[str, Any]:
        if what in ("code", "test"):
            return self._code()
        if what == "cleared":
            return self._cleared(node)
        if what == "dropped":
            return self._dropped(node)
        if what in self.graph.sources or not self.graph.is_transparent(what):
            return self._newer(what, {})
        feeds = [self._newer(feed, {}) for feed in self.graph.behind(what)]
        return self._cause("view", what, None, because=feeds)

    def _dropped(self, node: str) -> dict[str, Any]:
        """The last time the relation was seen missing, or fell with one that was replaced."""
        found = self.find(["RelationDropped"], node, limit=1)
        for above, falling in self.graph.falling.items():
            if node in falling:
                begun = self.find(["BuildStarted"], above, limit=1)
                found += [item for item in begun if isinstance(item.event, e.BuildStarted) and node in item.event.drops]
        return self._cause("relation", node, max(found, key=lambda item: item.seq, default=None))

    def _cleared(self, node: str) -> dict[str, Any]:
        found = (item for item in self.find(["StateCleared"], limit=100) if _clears(item, node))
        return self._cause("clear", node, next(found, None))

    def _failure(self, node: str) -> dict[str, Any]:
        failure = self.world.node(node).failure
        log = self.find(["NodeFailed", "TestFinished"], run=failure.run if failure else None, limit=10_000)
        return self._cause("failure", node, next((item for item in log if _fails(item, node)), None))

    def _not_ready(self, name: str) -> dict[str, Any]:
        decision = self.decisions.get(name)
        text = explain(decision, self.known) if decision else "never loaded, or a test of it fails"
        failure = self.world.node(name).failure
        return self._cause("not_ready", name, None, text=text, message=failure.message if failure else None)


def _clears(recorded: Recorded, node: str) -> bool:
    event = recorded.event
    return isinstance(event, e.StateCleared) and (event.nodes is None or node in event.nodes)


def _fails(recorded: Recorded, node: str) -> bool:
    event = recorded.event
    return (isinstance(event, e.NodeFailed) and event.node == node) or (
        isinstance(event, e.TestFinished) and node in event.fails
    )
