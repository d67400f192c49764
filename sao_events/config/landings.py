"""The keys that say what counts as new data, the same in a configuration and in a scenario."""

from __future__ import annotations

from sao_events.core.errors import ConfigError
from sao_events.core.evidence import Evidence, Taken, in_two_loads
from sao_events.inputs.mapping import Named, Rule, wrong_in
from sao_events.yamltext import Block

EVIDENCE_KEYS = ("empty_loads", "partial_loads", "loads")
RULE_KEYS = ("match", "sources", "relation", "schema")
LOAD_KEYS = ("sources", "complete")
_RECORD: tuple[Taken, ...] = ("record", "count")
_COUNT: tuple[Taken, ...] = ("count", "record")


def read_evidence(block: Block, place: str) -> Evidence:
    """The rules in `block`; sources of loads as they are named there. Raises ConfigError naming `place` and line."""
    loads = {name: _load(load, place) for name, load in block.blocks(place, "loads").items()}
    if found := in_two_loads(loads):
        source, first, second = found
        wrong = f"{source} is in the loads {first} and {second}: its landings could not say which they are of"
        raise ConfigError(f"{place}:{block.line_of('loads')}: {wrong}", hint="make one load of them")
    empty = block.choice(place, "empty_loads", _RECORD)
    partial = block.choice(place, "partial_loads", _COUNT)
    return Evidence(empty, partial, {name: sources for name, sources in loads.items() if sources})


def read_rules(block: Block, place: str) -> tuple[Rule, ...]:
    """The rules under `map`, first to last. Raises ConfigError naming `place` and line."""
    return tuple(_rule(item, block, place) for item in block.items_of(place, "map"))


def names_in_loads(block: Block, place: str) -> tuple[Named, ...]:
    """What the loads in `block` call sources, where it was read already."""
    return tuple(
        Named(f"{place}:{word.line}: data.loads.{name}", "source", str(word))
        for name, load in block.blocks(place, "loads").items()
        for word in load.items_of(place, "sources")
    )


def names_in_rules(block: Block, place: str, hook: str) -> tuple[Named, ...]:
    """What the rules of the webhook `hook` call sources, where they were read already."""
    return tuple(
        Named(f"{place}:{word.line}: webhooks.{hook}.map", key, str(word))
        for item in block.items_of(place, "map")
        for key in RULE_KEYS[1:]
        for word in (item.items_of(place, key) if key == "sources" else [item[key]] if item.get(key) else ())
    )


def _rule(item: object, block: Block, place: str) -> Rule:
    if not isinstance(item, Block):
        line = getattr(item, "line", block.line_of("map"))
        raise ConfigError(f"{place}:{line}: a rule is a mapping such as {{match: {{...}}, sources: [...]}}, not {item}")
    item.expect(place, RULE_KEYS)
    match = item.block(place, "match")
    for name, pattern in match.items():
        if not isinstance(pattern, str):
            raise ConfigError(f"{place}:{match.line_of(name)}: {name} must be text, with * for any")
    texts = (str(item[key]) if isinstance(item.get(key), str) else None for key in ("relation", "schema"))
    rule = Rule({str(name): str(text) for name, text in match.items()}, item.words(place, "sources"), *texts)
    if wrong := wrong_in(rule):
        raise ConfigError(f"{place}:{item.line}: webhooks.*.map: {wrong}")
    return rule


def _load(block: Block, place: str) -> tuple[str, ...]:
    """The sources that are new only together: none where any of them may be new alone."""
    block.expect(place, LOAD_KEYS, needs=("sources",))
    complete = block.choice(place, "complete", ("all", "any"))
    sources = tuple(dict.fromkeys(block.words(place, "sources")))
    return sources if complete == "all" else ()
