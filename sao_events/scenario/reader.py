"""Reads scenario files; what happens in them is read by `timeline`, what must come of it by `expected`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path

from sao_events.config.landings import EVIDENCE_KEYS, read_evidence
from sao_events.config.policies import default_in
from sao_events.core.errors import ConfigError
from sao_events.core.evidence import Evidence
from sao_events.core.falling import WITH_VIEWS_THAT_FALL
from sao_events.core.nodes import KINDS, Source, Test
from sao_events.core.policy import Settings
from sao_events.core.proof.names import FOLDS
from sao_events.scenario.expected import read_expected
from sao_events.scenario.model import Scenario, seconds
from sao_events.scenario.timeline import CONFIG_KEYS, Known, read_happenings
from sao_events.yamltext import Block, among, documents, nearest

START = datetime(2026, 1, 5, 8, tzinfo=UTC).timestamp()
ADAPTERS = ("scenario", *sorted({*FOLDS, *WITH_VIEWS_THAT_FALL}))


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


def _scenario(block: Block, place: str) -> Scenario:
    block.expect(
        place,
        ("scenario", "why", "start", "adapter", "settings", "nodes", "tests", "events", "expect"),
        needs=("scenario", "nodes", "expect"),
    )
    start = _start(block, place)
    settings, duration = _settings(block.block(place, "settings"), place)
    sources, nodes = _nodes(block.blocks(place, "nodes"), place)
    if not nodes:
        raise ConfigError(f"{place}:{block.line_of('nodes')}: nodes: there is no node in it that could be built")
    known = Known(frozenset(source.id for source in sources), nodes)
    tests = [_test(name, test, place, known) for name, test in block.blocks(place, "tests").items()]
    severities = {test.id: test.severity for test in tests}
    expected = read_expected(block.block(place, "expect"), start, place, nodes, list(severities))
    scenario = Scenario(
        block.text(place, "scenario"),
        block.text(place, "why"),
        start,
        settings,
        duration,
        sources,
        nodes,
        tests,
        read_happenings(block, start, place, known, severities),
        expected,
        place,
        block.line,
        _evidence(block.block(place, "settings"), place, [source.id for source in sources]),
        block.choice(place, "adapter", ADAPTERS),
    )
    scenario.project()
    for happening in scenario.happenings:
        if happening.kind == "policy":
            scenario.policy(happening.subject, happening.values["config"])
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
    default = block.block(place, "default_config")
    default.expect(place, ("freshness", "state", "lazy"))
    made = Settings(
        trigger=block.choice(place, "trigger", ("continuous", "jobs")),
        code_changes=block.choice(place, "code_changes", ("immediate", "after_window")),
        settle=seconds(block, "settle", place),
        attempts=retries.number(place, "attempts", 0),
        backoff=seconds(retries, "backoff", place, "1m"),
        max_concurrent_runs=block.number(place, "max_concurrent_runs", 1, least=1),
        default_config=default_in(default, place, "settings.default_config"),
    )
    return made, seconds(block, "build_duration", place)


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
            known = ("source", *sorted(KINDS))
            wrong = f"{name}: kind must be {', '.join(known)}, not {kind}"
            raise ConfigError(f"{place}:{node.line_of('kind')}: {wrong}", hint=nearest(kind, known))
        node.block(place, "config").expect(place, CONFIG_KEYS)
        seconds(node, "build_duration", place)
        nodes[name] = node
    for name, node in nodes.items():
        for read in node.items_of(place, "reads"):
            if isinstance(read, str):
                among([read], blocks, f"{name} reads what is neither a node nor a source:", place, _line(read, node))
    return sources, nodes


def _test(name: str, block: Block, place: str, known: Known) -> Test:
    block.expect(place, ("on", "kind", "severity"), needs=("on",))
    severity = block.choice(place, "severity", ("error", "warn"))
    on = block.words(place, "on")
    if not on:
        raise ConfigError(f"{place}:{block.line_of('on')}: {name}: on must name what the test looks at")
    among(on, known.all, f"{name} is on what is neither a node nor a source:", place, block.line_of("on"))
    return Test(name, name, on, name, severity, block.text(place, "kind"))


def _line(word: object, block: Block) -> int:
    return int(getattr(word, "line", block.line_of("reads")))
