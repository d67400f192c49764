"""Trace files: how often data lands in each source and how often the code changes, from which a trace is made.

The same file, project and seed give the same trace, each source a stream of chance of its own: adding a source leaves
the others as they were. docs/SIMULATE.md has the format.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime, tzinfo
from pathlib import Path
from random import Random
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from sao_events.compare.rates import KEYS, Rate, read_rate, read_seconds, wrong
from sao_events.compare.selector import select
from sao_events.compare.trace import ASSUMED, Durations, Trace
from sao_events.core import events as e
from sao_events.core.errors import ConfigError, UsageError
from sao_events.core.graph import Graph
from sao_events.core.lineage import Code, digest
from sao_events.core.named import resolve_source
from sao_events.core.project import Project
from sao_events.ports import Draft
from sao_events.yamltext import Block, documents, nearest

START = datetime(2026, 1, 5, tzinfo=UTC).timestamp()
MOST = 500_000


def read_trace(path: Path, project: Project, *, days: float, seed: int) -> Trace:
    """The trace that the file `path` describes for `project`, `days` long.

    Raises ConfigError naming file and line, and the nearest name for a source or node that is not there.
    """
    try:
        found = list(documents(path.read_text(encoding="utf-8"), str(path)))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from None
    if len(found) != 1:
        raise ConfigError(f"{path}: a trace is one YAML document, this file has {len(found)}")
    return _Reader(str(path), project).trace(found[0], days, seed)


class _Reader:
    def __init__(self, place: str, project: Project) -> None:
        self.place, self.project = place, project
        self.zone: tzinfo = UTC

    def trace(self, block: Block, days: float, seed: int) -> Trace:
        block.expect(self.place, ("start", "timezone", "sources", "code", "durations"), needs=("sources",))
        self.zone = self._zone(block)
        start = self._start(block)
        until = start + days * 86400
        rates = dict(self._rates(block))
        self._check_size(rates, until - start)
        landings = [
            Draft(e.DataLanded(source), at, sender="trace")
            for source, rate in rates.items()
            for at in rate.instants(start, until, Random(f"{seed}:{source}"))  # noqa: S311 - chance, not secrets
        ]
        edits, projects = self._edits(block, start, until, seed)
        happenings = sorted([*edits, *landings], key=lambda draft: draft.at)
        return Trace(start, until, tuple(happenings), projects, self._durations(block))

    def _rates(self, block: Block) -> Iterator[tuple[str, Rate]]:
        sources = block["sources"]
        if not isinstance(sources, Block):
            raise ConfigError(f"{self.place}:{block.line_of('sources')}: sources must be a mapping of names to rates")
        for name, rate in sources.items():
            if not isinstance(rate, Block):
                raise ConfigError(f"{self.place}:{sources.line_of(name)}: {name}: a rate is written {{every: 10m}}")
            rate.expect(self.place, KEYS)
            yield self._source(name, sources), read_rate(rate, name, self.place, self.zone)

    def _source(self, name: str, sources: Block) -> str:
        found = resolve_source(self.project, name)
        if isinstance(found, str):
            return found
        known = [source.name for source in self.project.graph.sources.values()]
        several = len(found) > 1 and all(one.endswith(f".{name}") for one in found)
        hint = f"several have it: {', '.join(found)}" if several else nearest(name, known)
        raise ConfigError(f"{self.place}:{sources.line_of(name)}: the project has no source {name}", hint=hint)

    def _edits(self, block: Block, start: float, until: float, seed: int) -> tuple[list[Draft], dict[str, Project]]:
        """The project as it is at the start and after each change of code, and the events that bring them."""
        projects = {"code 0": self.project}
        drafts = [Draft(e.ProjectLoaded("code 0"), start, sender="trace")]
        code = block.get("code")
        if code is None:
            return drafts, projects
        if not isinstance(code, Block):
            raise ConfigError(f"{self.place}:{block.line_of('code')}: code is written {{every: 1d, nodes: [NAME]}}")
        code.expect(self.place, (*KEYS, "nodes"))
        rate, nodes = read_rate(code, "code", self.place, self.zone), self._nodes(code)
        random = Random(f"{seed}:code")  # noqa: S311
        current = self.project
        for number, at in enumerate(rate.instants(start, until, random), start=1):
            current = edited(current, random.choice(nodes), number)
            projects[f"code {number}"] = current
            drafts.append(Draft(e.ProjectLoaded(f"code {number}"), at, sender="trace"))
        return drafts, projects

    def _nodes(self, code: Block) -> list[str]:
        names = code.get("nodes", ["*"])
        if not isinstance(names, list) or not names:
            raise ConfigError(f"{self.place}:{code.line_of('nodes')}: nodes must be a list of names, folders or globs")
        return [node for name in names for node in self._select(str(name), getattr(name, "line", code.line))]

    def _durations(self, block: Block) -> Durations:
        durations = block.get("durations", Block({}, block.line))
        if not isinstance(durations, Block):
            raise ConfigError(f"{self.place}:{block.line_of('durations')}: durations is written {{default: 30s}}")
        nodes: dict[str, float] = {}
        for name in (name for name in durations if name != "default"):
            seconds = read_seconds(durations, name, self.place)
            nodes.update(dict.fromkeys(self._select(name, durations.line_of(name)), seconds))
        assumed = read_seconds(durations, "default", self.place) if "default" in durations else ASSUMED
        return Durations(nodes, {}, assumed)

    def _select(self, name: str, line: int) -> tuple[str, ...]:
        try:
            return select(self.project, name)
        except UsageError as error:
            raise ConfigError(f"{self.place}:{line}: {error.message}", hint=error.hint) from None

    def _check_size(self, rates: Mapping[str, Rate], seconds: float) -> None:
        source, rate = max(rates.items(), key=lambda item: item[1].expected(seconds), default=("", Rate(every=1.0)))
        if sum(rate.expected(seconds) for rate in rates.values()) > MOST:
            raise ConfigError(
                f"{self.place}: more than {MOST} landings, {rate.expected(seconds):.0f} of them in {source}",
                hint="give fewer --days, or lower rates",
            )

    def _zone(self, block: Block) -> tzinfo:
        try:
            return ZoneInfo(str(block["timezone"])) if "timezone" in block else UTC
        except (ZoneInfoNotFoundError, ValueError):
            line = block.line_of("timezone")
            raise ConfigError(f"{self.place}:{line}: timezone {block['timezone']} is not known") from None

    def _start(self, block: Block) -> float:
        if "start" not in block:
            return START
        try:
            moment = datetime.fromisoformat(str(block["start"]))
        except ValueError:
            raise wrong(block, "start", self.place, "an instant such as 2026-01-05T00:00:00Z") from None
        return (moment if moment.tzinfo else moment.replace(tzinfo=self.zone)).timestamp()


def edited(project: Project, node: str, number: int) -> Project:
    """The project after the `number`-th change of code, one of what `node` means."""
    graph = project.graph
    known = graph.nodes[node]
    rewritten = replace(known, own=Code(digest(known.own.base, str(number)), known.own.columns))
    nodes = [rewritten if name == node else other for name, other in graph.nodes.items()]
    return replace(project, graph=Graph(nodes, graph.sources.values(), graph.tests.values(), graph.adapter))
