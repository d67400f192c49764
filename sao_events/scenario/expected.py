"""What must come of a scenario: its `expect`."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from sao_events.core.decision import Action, Reason
from sao_events.core.errors import ConfigError
from sao_events.scenario.model import Expected, instant
from sao_events.yamltext import Block, among, plain

DECISION_KEYS = ("at", "node", "action", "reason", "eligible_at", "waiting_for")


def read_expected(block: Block, start: float, place: str, nodes: Collection[str], tests: Collection[str]) -> Expected:
    """What the block says. Raises ConfigError naming `place` and line, for what would never be looked at too."""
    block.expect(place, ("until", "builds", "decisions", "tests", "warnings"), needs=("until",))
    until, builds = instant(block["until"], start, place, block.line_of("until")), None
    if "builds" in block:
        line = block.line_of("builds")
        builds = tuple(_build(item, start, until, place, line, nodes) for item in block.items_of(place, "builds"))
    decisions = [_decision(item, start, until, place, nodes) for item in block.mappings_of(place, "decisions")]
    counted = {}
    for name, counts in block.blocks(place, "tests").items():
        among([name], tests, "tests: there is no test", place, counts.line)
        counts.expect(place, ("run", "reused", "proven"))
        counted[name] = {key: counts.number(place, key, 0) for key in counts}
    return Expected(until, builds, tuple(decisions), counted, block.words(place, "warnings"))


def _build(
    item: Any, start: float, until: float, place: str, line: int, nodes: Collection[str]
) -> tuple[float, str, str]:
    if not isinstance(item, list) or len(item) != 3 or not all(isinstance(part, str) for part in item):
        raise ConfigError(f"{place}:{line}: each of builds must be [offset, node, reason], not {item}")
    among([item[1]], nodes, "builds: there is no node", place, item[1].line)
    among([item[2]], [reason.value for reason in Reason], "builds: there is no reason", place, item[2].line)
    return _looked_at(item[0], start, until, place, line), str(item[1]), str(item[2])


def _decision(
    block: Block, start: float, until: float, place: str, nodes: Collection[str]
) -> tuple[float, dict[str, Any]]:
    block.expect(place, DECISION_KEYS, needs=("at", "node"))
    wanted: dict[str, Any] = {"node": block.text(place, "node")}
    among([wanted["node"]], nodes, "decisions: there is no node", place, block.line_of("node"))
    for key, known in (("action", Action), ("reason", Reason)):
        if key in block:
            wanted[key] = plain(block[key])
            values = [each.value for each in known]
            among([str(wanted[key])], values, f"decisions: there is no {key}", place, block.line_of(key))
    if "waiting_for" in block:
        wanted["waiting_for"] = list(block.words(place, "waiting_for"))
    if "eligible_at" in block:
        wanted["eligible_at"] = instant(block["eligible_at"], start, place, block.line_of("eligible_at"))
    return _looked_at(block["at"], start, until, place, block.line_of("at")), wanted


def _looked_at(value: object, start: float, until: float, place: str, line: int) -> float:
    at = instant(value, start, place, line)
    if at > until:
        line = getattr(value, "line", line)
        raise ConfigError(f"{place}:{line}: {value} lies after until: nothing is looked at there")
    return at
