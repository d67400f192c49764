"""Whom a change of code upstream touches: what differs in an upstream, what its reader reads of it, and so why the
reader stays as it is or not.

Nothing of it is stored: it follows from what the reader's last build saw and what stands now (rule 6), so it is the
same after a restart, and for the past.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from sao_events.explain import Names, listed
from sao_events.graph import Graph
from sao_events.lineage import Code, Reading
from sao_events.state import World

MOST = 8  # names of columns in a sentence


def changes_upstream(graph: Graph, world: World, name: str, known: Names) -> list[dict[str, Any]]:
    """The upstreams that were built with other code since `name` was built: whether that is `touched` by it, whether
    the `rows` may differ, which `columns` do, and what it `reads` (None: everything, or nobody knows). Behind an
    upstream that is itself spared, what spares it; `reader` says whom it is about.
    """
    return list(_changes(graph, world, name, known, set()))


def spared_by(graph: Graph, world: World, name: str) -> list[str]:
    """The direct upstreams whose change of code leaves the node as it is."""
    return [up for up, then, now in _differing(graph, world, name) if not _touched(graph.readings[name], up, then, now)]


def _changes(graph: Graph, world: World, name: str, known: Names, seen: set[str]) -> Iterator[dict[str, Any]]:
    if name in seen:
        return
    seen.add(name)
    differing = {up: (then, now) for up, then, now in _differing(graph, world, name)}
    for up in graph.upstreams[name]:
        if up in differing:
            yield _change(graph.readings[name], name, up, *differing[up], known)
        elif up in graph.nodes:
            yield from (it for it in _changes(graph, world, up, known, seen) if not it["touched"])


def _differing(graph: Graph, world: World, name: str) -> Iterator[tuple[str, Code, Code]]:
    baseline = world.node(name).baseline
    for up in graph.upstreams[name] if baseline else ():
        then, now = baseline.observed.codes.get(up) if baseline else None, world.node(up).code
        if up in graph.nodes and then is not None and now is not None and then is not now and then != now:
            yield up, then, now


def _touched(reading: Reading, upstream: str, then: Code, now: Code) -> bool:
    return reading.sees(upstream, then) != reading.sees(upstream, now)


def _change(reading: Reading, reader: str, upstream: str, then: Code, now: Code, known: Names) -> dict[str, Any]:
    old, new = dict(then.columns), dict(now.columns)
    columns = {
        "added": [name for name in new if name not in old],
        "removed": [name for name in old if name not in new],
        "changed": [name for name in new if name in old and old[name] != new[name]],
    }
    named = reading.named.get(upstream)
    found = {
        "reader": reader,
        "upstream": upstream,
        "touched": _touched(reading, upstream, then, now),
        "rows": "same" if then.base == now.base else "may_differ",
        "columns": columns,
        "reads": None if named is None else list(named),
        "decides_rows": list((reading.rows or {}).get(upstream, ())),
    }
    return {**found, "text": _text(found, known)}


def _text(found: Mapping[str, Any], known: Names) -> str:
    """What differs and what is read of it, as a sentence."""
    reader, upstream = (known.get(found[key], found[key]) for key in ("reader", "upstream"))
    words = {"added": "new", "removed": "gone", "changed": "other"}
    columns = [f"{words[how]}: {listed(names, {}, MOST)}" for how, names in found["columns"].items() if names]
    if found["rows"] == "same":
        differs = f"its rows are the same, of its columns {', '.join(columns) or 'only the order is another'}"
    else:
        differs = "its rows may be others"
    reads = found["reads"]
    if reads is None:
        what = "all of it, or nobody knows what"
    elif reads:
        what = f"{'' if found['touched'] else 'only '}{listed(reads, {}, MOST)}"
    else:
        what = "none of its columns"
    so = "that concerns it" if found["touched"] else "that leaves it as it is"
    return f"{upstream} was built with other code since: {differs}; {reader} reads {what}: {so}"
