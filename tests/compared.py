"""A small project and its traces, for the tests of comparing policies. Times are hours after START."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from sao_events.compare.trace import Durations, Trace
from sao_events.core import events as e
from sao_events.core.graph import Graph
from sao_events.core.lineage import Code
from sao_events.core.nodes import Node, Source, Test
from sao_events.core.policy import Policy
from sao_events.core.project import Project
from sao_events.ports import Draft

START = datetime(2026, 1, 5, tzinfo=UTC).timestamp()  # a Monday
HOUR, DAY = 3600.0, 86400.0
INSTANT = Durations(assumed=0.0)


def node(
    name: str, *reads: str, kind: str = "table", hours: float = 0, path: str | None = None, **policy: object
) -> Node:
    """A model with a window of `hours`."""
    return Node(name, name, kind, reads, Code(name), Policy(hours * HOUR, **policy), path=path)  # type: ignore[arg-type]


def project(*nodes: Node, tests: Sequence[Test] = ()) -> Project:
    """A project of these nodes; what they read and is no node is a source."""
    known = {each.name for each in nodes}
    sources = dict.fromkeys(read for each in nodes for read in each.reads if read not in known)
    return Project(Graph(nodes, [Source(name, name) for name in sources], tests), "shop")


def trace(of: Project, hours: float, landings: Mapping[str, Sequence[float]], durations: Durations = INSTANT) -> Trace:
    """`of` from START on, for `hours`, with data landing in the sources at these hours."""
    drafts = [
        Draft(e.DataLanded(source), START + hour * HOUR, sender="test")
        for source, times in landings.items()
        for hour in times
    ]
    drafts.sort(key=lambda draft: draft.at)
    happenings = (Draft(e.ProjectLoaded("p"), START, sender="test"), *drafts)
    return Trace(START, START + hours * HOUR, happenings, {"p": of}, durations)
