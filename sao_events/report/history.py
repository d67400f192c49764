"""The log read backwards: events as values for JSON, and what came of runs and builds.

Instants are ISO-8601 in UTC with a Z, durations seconds.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Protocol

from sao_events.core import events as e
from sao_events.core.events import Recorded
from sao_events.core.stored import event_to_json
from sao_events.core.windows import LATEST
from sao_events.report.explain import Names, describe

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
