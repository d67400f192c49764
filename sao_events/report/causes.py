"""What led to a decision or to a build: the log read backwards, from what was decided to the events it came from.

What is told of a build is what stood in the log when it began: nothing that came later is taken for its cause.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sao_events.core import events as e
from sao_events.core.decision import Action, Decision
from sao_events.core.errors import SaoError
from sao_events.core.events import Recorded
from sao_events.core.graph import Graph
from sao_events.core.project import Graphs
from sao_events.core.state import World
from sao_events.report.explain import Names, explain
from sao_events.report.history import Find, event_object

DEEP = 20  # landings, builds or loads of the project that are looked through for the one that is meant


class Causes:
    """Follows a decision back through the log: which event made which source or code new, and through which nodes."""

    def __init__(
        self,
        graph: Graph,
        world: World,
        decisions: Mapping[str, Decision],
        find: Find,
        known: Names,
        graphs: Graphs | None = None,
    ) -> None:
        """`graphs`: the projects on record; without, code counts as brought by the newest load."""
        self.graph, self.world, self.decisions, self.find, self.known = graph, world, decisions, find, known
        self.graphs = graphs
        self.seen: set[str] = set()

    def of(self, node: str) -> list[dict[str, Any]]:
        """What led to the decision about `node`."""
        decision = self.decisions[node]
        evidence, reason = decision.evidence, str(decision.evidence.get("would_be", decision.reason))
        found = [self._newer(feed, versions) for feed, versions in evidence.get("newer", {}).items()]
        found += [self._changed(upstream) for upstream in evidence.get("changed", ())]
        found += [self._arrived(node, what) for what in evidence.get("arrived", ())]
        if "code_changed" in (reason, evidence.get("held")):
            found.append(self._code(node, self.graph.fingerprints[node]))
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

    def _newer(self, feed: str, versions: Mapping[str, Any], before: int | None = None) -> dict[str, Any]:
        """A source or stored node that has newer data: the landing, or the build with what led to it."""
        if feed in self.graph.sources:
            return self._cause("data", feed, self._landing(feed, before), **versions)
        built = self.find(["NodeBuilt"], feed, before=before, limit=1)
        return self._cause("build", feed, next(iter(built), None), **versions, because=self._built(feed, before))

    def _landing(self, source: str, before: int | None) -> Recorded | None:
        """The landing in `source` that made it new last, as of that place in the log."""
        if before is None:
            last = self.world.source(source).event
            return next(iter(self.find(["DataLanded"], source, before=last + 1, limit=1)), None) if last else None
        found = self.find(["DataLanded"], source, before=before, limit=DEEP)
        return max((item for item in reversed(found) if self._counts(item, before)), key=_loaded, default=None)

    def _counts(self, landing: Recorded, before: int) -> bool:
        """Whether it was new by then: what waits for the other sources of its load is not."""
        event = landing.event
        if not isinstance(event, e.DataLanded) or not event.counts:
            return False
        others = (name for name in event.together if event.load_id is not None and name != event.source)
        return all(
            any(
                isinstance(item.event, e.DataLanded) and item.event.load_id == event.load_id
                for item in self.find(["DataLanded"], other, before=before, limit=DEEP)
            )
            for other in others
        )

    def _built(self, node: str, before: int | None = None) -> list[dict[str, Any]]:
        """What led to the last successful build of `node` that had ended by then."""
        good = [] if node in self.seen else self._good(node, before)
        self.seen.add(node)
        if len(good) < 2:
            return []
        (begun, now), (_, old) = good
        if now.reason == "state_cleared":
            return [self._cleared(node, begun)]
        if now.reason == "relation_missing":
            return [self._dropped(node, begun)]
        seen, then = now.observed, old.observed
        found = [
            self._newer(feed, {"built_with": then.versions.get(feed), "now": version}, begun)
            for feed, version in seen.versions.items()
            if version > then.versions.get(feed, version)  # what it did not read before came with its code
        ]
        if seen.fingerprint != then.fingerprint:
            found.append(self._code(node, seen.fingerprint, begun))
        return found + [
            self._changed(up, begun) for up, code in seen.codes.items() if up in then.codes and then.codes[up] != code
        ]

    def _good(self, node: str, before: int | None) -> list[tuple[int, e.BuildStarted]]:
        """The beginnings of its last two builds of which no test failed, the newer first."""
        found: list[tuple[int, e.BuildStarted]] = []
        for built in self.find(["NodeBuilt"], node, before=before, limit=DEEP):
            run = built.event.run if isinstance(built.event, e.NodeBuilt) else None
            tests = (item.event for item in self.find(["TestFinished"], run=run, limit=10_000))
            if any(isinstance(test, e.TestFinished) and node in test.fails for test in tests):
                continue
            starts = self.find(["BuildStarted"], node, run, limit=1)
            found += [(start.seq, start.event) for start in starts if isinstance(start.event, e.BuildStarted)]
            if len(found) == 2:
                break
        return found

    def _changed(self, upstream: str, before: int | None = None) -> dict[str, Any]:
        built = next(iter(self.find(["NodeBuilt"], upstream, before=before, limit=1)), None)
        return self._cause("code", upstream, built, because=self._built(upstream, before))

    def _code(self, node: str, wanted: str, before: int | None = None) -> dict[str, Any]:
        """The load of the project that brought the code `wanted` of `node`, with the push or the saved file that was
        reported before it.
        """
        loads, loaded = self.find(["ProjectLoaded"], before=before, limit=DEEP if self.graphs else 1), None
        for load in loads:  # back to the first of those that had it
            if self._has(load, node, wanted):
                loaded = load
            elif loaded:
                break
        loaded = loaded or next(iter(loads), None)
        because = [self._cause("push", "project", pushed) for pushed in self._pushed(loaded)]
        return self._cause("code", "project", loaded, because=because)

    def _pushed(self, loaded: Recorded | None) -> list[Recorded]:
        """What asked for that load, at most one: not what the service before it was told, nor what an earlier load came
        of; but a push may come while the one before it is parsed.
        """
        if loaded is None:
            return []
        loads = self.find(["ProjectLoaded"], before=loaded.seq, limit=2)
        barriers = (*self.find(["EngineStarted"], before=loaded.seq, limit=1), *loads[1:])
        pushes = self.find(["CodePushed"], before=loaded.seq, limit=1)
        return [it for it in pushes if all(it.seq > barrier.seq for barrier in barriers)]

    def _has(self, load: Recorded, node: str, wanted: str) -> bool:
        if self.graphs is None or not isinstance(load.event, e.ProjectLoaded):
            return False
        try:
            return self.graphs(load.event.project).fingerprints.get(node) == wanted
        except SaoError:  # a log without the projects of its time
            return False

    def _arrived(self, node: str, what: str) -> dict[str, Any]:
        if what in ("code", "test"):
            return self._code(node, self.graph.fingerprints[node])
        if what == "cleared":
            return self._cleared(node)
        if what == "dropped":
            return self._dropped(node)
        if what in self.graph.sources or not self.graph.is_transparent(what):
            return self._newer(what, {})
        feeds = [self._newer(feed, {}) for feed in self.graph.behind(what)]
        return self._cause("view", what, None, because=feeds)

    def _dropped(self, node: str, before: int | None = None) -> dict[str, Any]:
        """The last time the relation was seen missing, or fell with one that was replaced."""
        found = self.find(["RelationDropped"], node, before=before, limit=1)
        for above, falling in self.graph.falling.items():
            if node in falling:
                begun = self.find(["BuildStarted"], above, before=before, limit=1)
                found += [item for item in begun if isinstance(item.event, e.BuildStarted) and node in item.event.drops]
        return self._cause("relation", node, max(found, key=lambda item: item.seq, default=None))

    def _cleared(self, node: str, before: int | None = None) -> dict[str, Any]:
        found = (item for item in self.find(["StateCleared"], before=before, limit=100) if _clears(item, node))
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


def _loaded(landing: Recorded) -> float:
    at = landing.event.loaded_at if isinstance(landing.event, e.DataLanded) else None
    return landing.at if at is None else at


def _clears(recorded: Recorded, node: str) -> bool:
    event = recorded.event
    return isinstance(event, e.StateCleared) and (event.nodes is None or node in event.nodes)


def _fails(recorded: Recorded, node: str) -> bool:
    event = recorded.event
    return (isinstance(event, e.NodeFailed) and event.node == node) or (
        isinstance(event, e.TestFinished) and node in event.fails
    )
