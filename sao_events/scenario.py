"""Scenario files: a small project, a timeline of events, and the builds that must come of them.

One YAML document is one scenario; keys and names are text as written, errors name file, line and the nearest valid key.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sao_events.config.landings import EVIDENCE_KEYS, read_evidence
from sao_events.decide import Action, Reason
from sao_events.errors import ConfigError, GraphError, PolicyError
from sao_events.evidence import Evidence
from sao_events.graph import Graph
from sao_events.lineage import Code, Reading, digest
from sao_events.nodes import KINDS, Node, Source, Test
from sao_events.policy import Settings, read_policy
from sao_events.project import Project, graph_warnings
from sao_events.windows import parse_duration
from sao_events.yamltext import Block, Word, among, documents, plain

START = datetime(2026, 1, 5, 8, tzinfo=UTC).timestamp()
CONFIG_KEYS = (
    "freshness", "state", "meta", "lazy", "materialized", "tags", "unique_key", "enabled", "schema", "alias",
    "database", "incremental_strategy", "on_schema_change",
    "full_refresh", "grants", "contract", "docs", "group", "access",
)  # fmt: skip
CHANGES = ("sql", "cosmetic", "config", "add_column", "is_incremental_block", "volatile", "revert")
EVENT_KEYS = {
    "load": (), "land": ("load_id", "loaded_at", "rows", "partial"), "edit": ("change", "column"),
    "policy": ("config",),
    "fail": ("times",), "fail_test": ("times", "severity"), "drop": (), "clear": (),
    "job": ("select", "state_aware"), "crash": (), "same_output": ("times",),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Happening:
    """One entry of the timeline: at the instant `at`, `kind` happens to `subject`, with further values."""

    at: float
    kind: str
    subject: str
    values: Mapping[str, Any]
    line: int = 0


@dataclass(frozen=True, slots=True)
class Expected:
    """What must come of the timeline; the parts that are None are not looked at."""

    until: float
    builds: tuple[tuple[float, str, str], ...] | None
    decisions: tuple[tuple[float, Mapping[str, Any]], ...]
    tests: Mapping[str, Mapping[str, int]]
    warnings: tuple[str, ...]


@dataclass(slots=True)
class Text:
    """What a node's text is now: how often it changed in meaning, and the columns that were added."""

    edits: tuple[str, ...] = ()
    added: tuple[str, ...] = ()


@dataclass(slots=True)
class Scenario:
    """A scenario as read. `project` gives the project as it is after the edits made so far."""

    name: str
    why: str
    start: float
    settings: Settings
    build_duration: float
    sources: list[Source]
    nodes: dict[str, Block]
    tests: list[Test]
    happenings: list[Happening]
    expected: Expected
    place: str
    line: int
    evidence: Evidence
    adapter: str = "scenario"
    texts: dict[str, Text] = field(default_factory=dict)
    loaded: dict[str, Text] = field(default_factory=dict)
    configs: dict[str, Mapping[str, Any]] = field(default_factory=dict)

    def edit(self, name: str, change: str, column: str | None) -> None:
        """Change the text of a node as the scenario format defines it."""
        text = self.texts.setdefault(name, Text())
        if change == "revert":
            self.texts[name] = replace(self.loaded.get(name, Text()))
        elif change == "add_column":
            text.added = (*text.added, column or "")
        elif change not in ("cosmetic", "volatile"):
            text.edits = (*text.edits, f"{change}{len(text.edits)}")

    def load(self) -> None:
        """The project becomes known: `revert` goes back to the texts as they are now."""
        self.loaded = {name: replace(text) for name, text in self.texts.items()}

    def project(self) -> Project:
        """The project at this moment, with its load-time warnings. Raises ConfigError for a policy that cannot be
        understood.
        """
        warnings: list[str] = []
        nodes = [self._node(name, block, warnings) for name, block in self.nodes.items()]
        try:
            graph = Graph(nodes, self.sources, self.tests, self.adapter)
        except GraphError as error:
            raise ConfigError(f"{self.place}:{self.line}: {self.name}: {error.message}") from None
        places = {name: f"{self.place}:{block.line}" for name, block in self.nodes.items()}
        return Project(graph, self.name, self.adapter, (*warnings, *graph_warnings(graph, places)))

    def duration(self, name: str) -> float:
        """The virtual seconds that a build of the node takes."""
        own = self.nodes[name].get("build_duration")
        return self.build_duration if own is None else seconds(own, self.place)

    def _node(self, name: str, block: Block, warnings: list[str]) -> Node:
        text = self.texts.get(name, Text())
        reads, uses = block.words(self.place, "reads"), block.block(self.place, "uses")
        among(uses, reads, f"{name} does not read", self.place, uses.line)
        named = {up: uses.words(self.place, up) for up in uses}
        star = frozenset(reads) if block.truth(self.place, "select_star") else frozenset[str]()
        columns = (*block.words(self.place, "columns"), *text.added)
        config = {**self.configs.get(name, config_of(block, "config", self.place))}
        if "lazy" in block:
            config["lazy"] = block.truth(self.place, "lazy")
        try:
            policy, found = read_policy(config, node=name, default=self.settings.default_config)
        except PolicyError as error:
            raise ConfigError(f"{self.place}:{block.line}: {error.message}") from None
        warnings.extend(f"{warning} ({self.place}:{block.line})" for warning in found)
        own = Code(digest(name, *text.edits), tuple((column, "1") for column in columns))
        cutoff = block.truth(self.place, "early_cutoff")
        return Node(name, name, str(block["kind"]), reads, own, policy, Reading(named, star), cutoff)


def read_scenarios(path: Path) -> Iterator[Scenario]:
    """The scenarios of a file, in order. Raises ConfigError naming file and line."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from None
    found = list(parse_scenarios(text, str(path)))
    if not found:
        raise ConfigError(f"{path}: there is no scenario in it")
    yield from found


def parse_scenarios(text: str, place: str) -> Iterator[Scenario]:
    """The scenarios of a YAML text, in order; errors name `place` and line."""
    names: set[str] = set()
    for document in documents(text, place):
        scenario = _scenario(document, place)
        if scenario.name in names:
            raise ConfigError(f"{place}:{document.line}: two scenarios of the name {scenario.name}")
        names.add(scenario.name)
        yield scenario


def seconds(value: object, place: str) -> float:
    """A duration, as seconds."""
    try:
        return parse_duration(str(value))
    except ValueError as error:
        raise ConfigError(f"{place}:{getattr(value, 'line', '?')}: {error}") from None


def config_of(block: Block, key: str, place: str) -> dict[str, Any]:
    """A node's configuration as in dbt, with the keys that are read here."""
    found = block.block(place, key)
    found.expect(place, CONFIG_KEYS)
    made: dict[str, Any] = plain(found)
    return made


def _offset(value: object, start: float, place: str) -> float:
    text = str(value)
    if not text.startswith("+"):
        raise ConfigError(
            f"{place}:{getattr(value, 'line', '?')}: {text} is not an offset such as +90s, +10m or +1h30m"
        )
    return start + seconds(Word(text[1:], getattr(value, "line", 0)), place)


def _scenario(block: Block, place: str) -> Scenario:
    block.expect(
        place,
        ("scenario", "why", "start", "adapter", "settings", "nodes", "tests", "events", "expect"),
        needs=("scenario", "nodes", "expect"),
    )
    start = _start(block, place)
    settings, duration = _settings(block.block(place, "settings"), place)
    sources, nodes = _nodes(block.blocks(place, "nodes"), place)
    tests = [_test(name, test, place) for name, test in block.blocks(place, "tests").items()]
    known = {source.id for source in sources} | set(nodes)
    happenings = [_happening(event, start, place, known, nodes, tests) for event in block.mappings_of(place, "events")]
    if not any(happening.kind == "load" for happening in happenings):
        happenings.insert(0, Happening(start, "load", "project", {}))
    expected = _expected(block.block(place, "expect"), start, place, nodes, tests)
    scenario = Scenario(
        str(block["scenario"]),
        str(block.get("why", "")),
        start,
        settings,
        duration,
        sources,
        nodes,
        tests,
        happenings,
        expected,
        place,
        block.line,
        _evidence(block.block(place, "settings"), place, [source.id for source in sources]),
        str(block.get("adapter", "scenario")),
    )
    scenario.project()
    return scenario


def _start(block: Block, place: str) -> float:
    if "start" not in block:
        return START
    try:
        moment = datetime.fromisoformat(str(block["start"]))
    except ValueError:
        raise ConfigError(
            f"{place}:{block.line_of('start')}: start must be an instant such as 2026-01-05T08:00:00Z"
        ) from None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def _settings(block: Block, place: str) -> tuple[Settings, float]:
    keys = ("trigger", "code_changes", "build_duration", "settle", "retries", "max_concurrent_runs", "default_config")
    block.expect(place, (*keys, *EVIDENCE_KEYS))
    retries = block.block(place, "retries")
    retries.expect(place, ("attempts", "backoff"))
    made = Settings(
        trigger=block.choice(place, "trigger", ("continuous", "jobs")),
        code_changes=block.choice(place, "code_changes", ("immediate", "after_window")),
        settle=seconds(block.get("settle", "0s"), place),
        attempts=retries.number(place, "attempts", 0),
        backoff=seconds(retries.get("backoff", "1m"), place),
        max_concurrent_runs=block.number(place, "max_concurrent_runs", 1, least=1),
        default_config=config_of(block, "default_config", place),
    )
    return made, seconds(block.get("build_duration", "0s"), place)


def _evidence(block: Block, place: str, sources: list[str]) -> Evidence:
    found = read_evidence(block, place)
    for names in found.loads.values():
        among(names, sources, "loads: there is no source", place, block.line_of("loads"))
    return found


def _nodes(blocks: Mapping[str, Block], place: str) -> tuple[list[Source], dict[str, Block]]:
    sources: list[Source] = []
    nodes: dict[str, Block] = {}
    for name, node in blocks.items():
        kind = str(node.get("kind", ""))
        if kind == "source":
            node.expect(place, ("kind", "static", "view", "empty"))
            static, view, empty = (node.truth(place, flag) for flag in ("static", "view", "empty"))
            sources.append(Source(name, name, static, view, empty))
            continue
        keys = ("kind", "reads", "config", "build_duration", "early_cutoff", "lazy", "select_star", "columns", "uses")
        node.expect(place, keys, needs=("kind",))
        if kind not in KINDS:
            raise ConfigError(
                f"{place}:{node.line_of('kind')}: {name}: kind must be source, {', '.join(sorted(KINDS))}, not {kind}"
            )
        nodes[name] = node
    return sources, nodes


def _test(name: str, block: Block, place: str) -> Test:
    block.expect(place, ("on", "kind", "severity"), needs=("on",))
    severity = block.choice(place, "severity", ("error", "warn"))
    return Test(name, name, block.words(place, "on"), name, severity, str(block.get("kind", "")))


def _happening(
    block: Block, start: float, place: str, known: set[str], nodes: Mapping[str, Block], tests: list[Test]
) -> Happening:
    kinds = [kind for kind in EVENT_KEYS if kind in block]
    if len(kinds) != 1:
        block.expect(place, ("at", *EVENT_KEYS), needs=("at",))
        raise ConfigError(f"{place}:{block.line}: an event is exactly one of {', '.join(EVENT_KEYS)}")
    kind = kinds[0]
    block.expect(place, ("at", kind, *EVENT_KEYS[kind]), needs=("at",))
    values = {key: block[key] for key in EVENT_KEYS[kind] if key in block}
    subject = block[kind]
    _check_subject(kind, subject, place, block.line, known, nodes, tests)
    if kind == "edit":
        values["change"] = block.choice(place, "change", CHANGES)
        if (values["change"] == "add_column") != ("column" in block):
            raise ConfigError(f"{place}:{block.line}: change: add_column and column: NAME belong together")
    if kind == "policy":
        block.expect(place, tuple(block), needs=("config",))
        values["config"] = config_of(block, "config", place)
    if kind == "land":
        values["partial"] = block.truth(place, "partial")
    if "rows" in block:
        values["rows"] = block.number(place, "rows", 0)
    if kind == "fail_test":
        values["severity"] = block.choice(place, "severity", ("error", "warn"))
    if "times" in EVENT_KEYS[kind]:
        values["times"] = block.number(place, "times", 1, least=1)
    if "loaded_at" in values:
        values["loaded_at"] = _offset(values["loaded_at"], start, place)
    if kind == "job":
        values["state_aware"] = block.truth(place, "state_aware", True)
        values["select"] = _names(values["select"], block, place) if "select" in values else None
        among(values["select"] or (), known, "job: there is no", place, block.line)
    if kind == "clear":
        values["nodes"] = None if not isinstance(subject, list) and subject == "all" else _names(subject, block, place)
        among(values["nodes"] or (), known, "clear: there is no", place, block.line)
    return Happening(_offset(block["at"], start, place), kind, str(subject), values, block.line)


def _names(value: object, block: Block, place: str) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise ConfigError(f"{place}:{block.line}: a list of nodes such as [a, b] is expected, not {value}")
    return tuple(map(str, value))


def _check_subject(
    kind: str, subject: Any, place: str, line: int, known: set[str], nodes: Mapping[str, Block], tests: list[Test]
) -> None:
    right: set[str] | None = None
    if kind in ("edit", "policy", "fail", "drop", "same_output"):
        right = set(nodes)
    elif kind == "land":
        right = known - set(nodes)
    elif kind == "fail_test":
        right = {test.id for test in tests}
    elif kind in ("load", "crash"):
        right = {"project" if kind == "load" else "engine"}
    if right is not None:
        among([str(subject)], right, f"{kind}: there is no", place, line)


def _looked_at(value: object, start: float, until: float, place: str) -> float:
    at = _offset(value, start, place)
    if at > until:
        raise ConfigError(
            f"{place}:{getattr(value, 'line', '?')}: {value} lies after until: nothing is looked at there"
        )
    return at


def _build(
    item: Any, start: float, until: float, place: str, line: int, nodes: Iterable[str]
) -> tuple[float, str, str]:
    if not isinstance(item, list) or len(item) != 3 or not all(isinstance(part, str) for part in item):
        raise ConfigError(f"{place}:{line}: each of builds must be [offset, node, reason], not {item}")
    among([item[1]], nodes, "builds: there is no node", place, item[1].line)
    among([item[2]], [reason.value for reason in Reason], "builds: there is no reason", place, item[2].line)
    return _looked_at(item[0], start, until, place), str(item[1]), str(item[2])


def _expected(block: Block, start: float, place: str, nodes: Iterable[str], known_tests: list[Test]) -> Expected:
    block.expect(place, ("until", "builds", "decisions", "tests", "warnings"), needs=("until",))
    until, builds = _offset(block["until"], start, place), None
    if "builds" in block:
        line = block.line_of("builds")
        builds = tuple(_build(item, start, until, place, line, nodes) for item in block.items_of(place, "builds"))
    decisions = []
    for decision in block.mappings_of(place, "decisions"):
        decision.expect(place, ("at", "node", "action", "reason", "eligible_at", "waiting_for"), needs=("at", "node"))
        among([str(decision["node"])], nodes, "decisions: there is no node", place, decision.line)
        for key, known in (("action", Action), ("reason", Reason)):
            if key in decision:
                among(
                    [str(decision[key])],
                    [each.value for each in known],
                    f"decisions: there is no {key}",
                    place,
                    decision.line,
                )
        wanted = {key: plain(value) for key, value in decision.items() if key not in ("at", "eligible_at")}
        if "eligible_at" in decision:
            wanted["eligible_at"] = _offset(decision["eligible_at"], start, place)
        decisions.append((_looked_at(decision["at"], start, until, place), wanted))
    tests = {}
    for name, counts in block.blocks(place, "tests").items():
        among([name], [test.id for test in known_tests], "tests: there is no test", place, counts.line)
        counts.expect(place, ("run", "reused", "proven"))
        tests[name] = {key: counts.number(place, key, 0) for key in counts}
    return Expected(until, builds, tuple(decisions), tests, block.words(place, "warnings"))
