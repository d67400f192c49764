"""The keys that say what counts as new data, the same in a configuration and in a scenario."""

from __future__ import annotations

from sao_events.errors import ConfigError
from sao_events.evidence import Evidence, Taken, in_two_loads
from sao_events.yamltext import Block

EVIDENCE_KEYS = ("empty_loads", "partial_loads", "loads")
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


def _load(block: Block, place: str) -> tuple[str, ...]:
    """The sources that are new only together: none where any of them may be new alone."""
    block.expect(place, LOAD_KEYS, needs=("sources",))
    complete = block.choice(place, "complete", ("all", "any"))
    sources = tuple(dict.fromkeys(block.words(place, "sources")))
    return sources if complete == "all" else ()
