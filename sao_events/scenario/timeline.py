"""What happens in a scenario: the entries of its `events`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sao_events.core.errors import ConfigError
from sao_events.scenario.model import DBT_KEYS, READ_KEYS, Happening, instant
from sao_events.yamltext import Block, among

CONFIG_KEYS = (*READ_KEYS, *DBT_KEYS)
CHANGES = ("sql", "cosmetic", "config", "add_column", "is_incremental_block", "volatile", "revert")
EVENT_KEYS = {
    "load": (), "land": ("load_id", "loaded_at", "rows", "partial"), "edit": ("change", "column"),
    "policy": ("config",),
    "fail": ("times",), "fail_test": ("times", "severity"), "drop": (), "clear": (),
    "job": ("select", "state_aware"), "crash": (), "same_output": ("times",),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Known:
    """The names of a scenario's project."""

    sources: frozenset[str]
    nodes: Mapping[str, Block]

    @property
    def all(self) -> frozenset[str]:
        """Nodes and sources."""
        return self.sources.union(self.nodes)


def read_happenings(
    scenario: Block, start: float, place: str, known: Known, tests: Mapping[str, str]
) -> list[Happening]:
    """The entries in the order of the file; where none loads the project, that is the first. `tests` are the tests with
    their severities. Raises ConfigError naming `place` and line.
    """
    found = [_happening(block, start, place, known, tests) for block in scenario.mappings_of(place, "events")]
    if not any(happening.kind == "load" for happening in found):
        found.insert(0, Happening(start, "load", "project", {}))
    return found


def _happening(block: Block, start: float, place: str, known: Known, tests: Mapping[str, str]) -> Happening:
    kinds = [kind for kind in EVENT_KEYS if kind in block]
    if len(kinds) != 1:
        block.expect(place, ("at", *EVENT_KEYS), needs=("at",))
        raise ConfigError(f"{place}:{block.line}: an event is exactly one of {', '.join(EVENT_KEYS)}")
    kind = kinds[0]
    block.expect(place, ("at", kind, *EVENT_KEYS[kind]), needs=("at",))
    values = {key: block[key] for key in EVENT_KEYS[kind] if key in block}
    if kind == "clear":
        subject = "all" if block["clear"] == "all" else "nodes"
        values["nodes"] = None if subject == "all" else _names(block, "clear", place, known)
    else:
        subject = block.text(place, kind)
        _check_subject(kind, subject, place, block.line_of(kind), known, tests)
    values |= _READERS[kind](block, place) if kind in _READERS else {}
    if kind == "fail_test":
        own = "severity" not in block
        values["severity"] = tests[subject] if own else block.choice(place, "severity", ("error", "warn"))
    if "times" in EVENT_KEYS[kind]:
        values["times"] = block.number(place, "times", 1, least=1)
    if "loaded_at" in values:
        values["loaded_at"] = instant(values["loaded_at"], start, place, block.line_of("loaded_at"))
    if kind == "job":
        values["state_aware"] = block.truth(place, "state_aware", True)
        values["select"] = _names(block, "select", place, known) if "select" in block else None
    return Happening(instant(block["at"], start, place, block.line_of("at")), kind, subject, values, block.line)


def _edit(block: Block, place: str) -> Mapping[str, Any]:
    change = block.choice(place, "change", CHANGES)
    if (change == "add_column") != ("column" in block):
        raise ConfigError(f"{place}:{block.line}: change: add_column and column: NAME belong together")
    return {"change": change} | ({"column": block.text(place, "column")} if "column" in block else {})


def _policy(block: Block, place: str) -> Mapping[str, Any]:
    block.expect(place, tuple(block), needs=("config",))
    config = block.block(place, "config")
    config.expect(place, CONFIG_KEYS)
    return {"config": config}


def _landing(block: Block, place: str) -> Mapping[str, Any]:
    found: dict[str, Any] = {"partial": block.truth(place, "partial")}
    if "rows" in block:
        found["rows"] = block.number(place, "rows", 0)
    if "load_id" in block:
        found["load_id"] = block.text(place, "load_id")
    return found


_READERS = {"edit": _edit, "policy": _policy, "land": _landing}


def _names(block: Block, key: str, place: str, known: Known) -> tuple[str, ...]:
    value = block[key]
    if not isinstance(value, list) or not value:
        got = "an empty one" if value == [] else value
        raise ConfigError(f"{place}:{block.line_of(key)}: {key}: a list of nodes such as [a, b] is expected, not {got}")
    names = block.words(place, key)
    among(names, known.all, f"{key}: there is no", place, block.line_of(key))
    return names


def _check_subject(kind: str, subject: str, place: str, line: int, known: Known, tests: Mapping[str, str]) -> None:
    right: frozenset[str] | None = None
    if kind in ("edit", "policy", "fail", "drop", "same_output"):
        right = frozenset(known.nodes)
    elif kind == "land":
        right = known.sources
    elif kind == "fail_test":
        right = frozenset(tests)
    elif kind in ("load", "crash"):
        right = frozenset({"project" if kind == "load" else "engine"})
    if right is not None:
        among([subject], right, f"{kind}: there is no", place, line)
    if kind in ("fail", "drop", "same_output") and known.nodes[subject]["kind"] == "ephemeral":
        raise ConfigError(f"{place}:{line}: {kind}: {subject} is ephemeral: it is never built, and has no relation")
