"""What must hold of every history beside its tables: what was acknowledged is in the log, and no node was ever built
twice at once, by the log and by dbt's own account.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, time, timedelta
from pathlib import Path

from sao_events.core import events as e
from sao_events.core.events import Recorded

_WORK = re.compile(r"(?m)^(\d\d:\d\d:\d\d)  (Began|Finished) running node (\S+)")
_TIME = re.compile(r"(?m)^(\d\d:\d\d:\d\d)  ")
_STATEMENT = re.compile(
    r"(?m)^(\S+ \S+) \S+ \[(\d+)\] (\S+) LOG: .*?\"node_id\": \"((?:model|seed|snapshot)\.[^\"]+)\""
)


@dataclass(frozen=True)
class Span:
    """From when to when a dbt process worked on a node, in seconds of its clock."""

    node: str
    begin: float
    end: float
    piece: str


def once_by_log(log: Iterable[Recorded]) -> None:
    """By the log no node is built twice at once."""
    running = dict[str, str]()
    for recorded in log:
        event = recorded.event
        match event:
            case e.EngineStarted():
                running.clear()
            case e.BuildStarted():
                assert event.node not in running, f"{event.node} is built twice at once (event {recorded.seq})"
                running[event.node] = event.run
            case e.NodeBuilt() | e.NodeFailed() | e.BuildInterrupted():
                assert running.pop(event.node, None) == event.run, f"{event.node} ends unbegun (event {recorded.seq})"
            case e.RunFinished():
                assert event.run not in running.values(), f"{event.run} ends before its builds (event {recorded.seq})"
            case _:
                pass


def once_by_dbt(runs: Path, began: float) -> int:
    """By dbt's own logs, to the second, no node is built twice at once. `began`: when the first of them began, epoch
    seconds. How many builds there were.
    """
    spans = [span for file in runs.glob("*/*/dbt.log") for span in _spans(file, began)]
    _apart(spans)
    return len(spans)


def once_by_server(log: Path, database: str) -> int:
    """By the account of the PostgreSQL server, to the millisecond, no two sessions build a node at once. How many
    statements there were; the server must log them all, each line beginning with time, process and database.
    """
    spans, count = dict[tuple[str, str], Span](), 0
    for at, process, where, node in _STATEMENT.findall(log.read_text(errors="replace")):
        if where == database:
            count += 1
            instant = datetime.fromisoformat(at).timestamp()
            begin = spans[process, node].begin if (process, node) in spans else instant
            spans[process, node] = Span(node, begin, instant, process)
    _apart(spans.values())
    return count


def _apart(spans: Iterable[Span]) -> None:
    last = dict[str, Span]()
    for span in sorted(spans, key=lambda span: (span.begin, span.end)):
        before = last.get(span.node)
        assert before is None or before.end <= span.begin, f"{span.node} is built twice at once: {before} and {span}"
        last[span.node] = span


def _spans(file: Path, began: float) -> Iterator[Span]:
    """The builds of nodes, tests left out; one that did not end lasted as long as anything was written."""
    piece, text = file.parent.name, file.read_text(errors="replace")
    start = datetime.fromtimestamp(began).astimezone()
    open_ = dict[str, float]()
    for at, what, node in _WORK.findall(text):
        instant = _instant(at, start)
        if what == "Began" and not node.startswith(("test.", "unit_test.")):
            open_[node] = instant
        elif node in open_:
            yield Span(node, open_.pop(node), instant, piece)
    if open_:
        end = _instant(_TIME.findall(text)[-1], start)
        for node, begin in open_.items():
            yield Span(node, begin, max(begin, end), piece)


def _instant(clock: str, start: datetime) -> float:
    """The first instant from `start` on at which clocks showed `clock`."""
    at = datetime.combine(start.date(), time.fromisoformat(clock), start.tzinfo)
    if at < start - timedelta(minutes=1):
        at += timedelta(days=1)
    return at.timestamp()
