"""Whom a change of code upstream touches: what differs in an upstream, what its reader reads of it, and so why the
reader stays as it is or not. And what early cutoff costs and spares.

Nothing of it is stored: it follows from what the reader's last build saw and what stands now (rule 6), so it is the
same after a restart, and for the past.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from sao_events.core.graph import Graph
from sao_events.core.lineage import Code, Reading
from sao_events.core.nodes import Node
from sao_events.core.state import Hashed, NodeState, World
from sao_events.report.explain import Names, listed
from sao_events.report.history import iso

SHOWN = 8  # digits of a content hash in a sentence
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


def equal_content(graph: Graph, world: World, name: str, known: Names) -> list[dict[str, Any]]:
    """The upstreams, views looked through, that were built since `name` was and left the content that they had: its
    hash, `since` when they have it, and `at` which instant it was found to be the same, with the reason of that build.
    """
    return list(_equal(graph, world, name, known))


def _equal(graph: Graph, world: World, name: str, known: Names) -> Iterator[dict[str, Any]]:
    mine = world.node(name).baseline
    for feed in graph.feeds[name] if mine else ():
        built, hashed = world.node(feed).baseline, world.node(feed).hashed
        if mine is None or built is None or hashed.content is None or built.started < mine.started:
            continue
        if hashed.since < built.ended and mine.observed.versions.get(feed) == world.node(feed).version:
            text = f"{known.get(feed, feed)} was built again and left the same content ({hashed.content[:SHOWN]})"
            yield {
                "upstream": feed,
                "content": hashed.content,
                "since": iso(hashed.since),
                "at": iso(built.ended),
                "reason": built.reason,
                "text": text,
            }


def cutoff(node: Node, state: NodeState) -> dict[str, Any] | None:
    """What early cutoff has cost for a node and what it has spared; None where its content is never hashed."""
    hashed = state.hashed
    if not (node.early_cutoff or hashed.builds or hashed.unhashed):
        return None
    return {
        "early_cutoff": node.early_cutoff,
        "content": hashed.content,
        "since": iso(hashed.since) if hashed.content else None,
        "unhashed": hashed.unhashed,
        "builds": hashed.builds,
        "equal": hashed.equal,
        "hash_seconds": hashed.seconds,
        **_sums([hashed]),
    }


def cutoffs(world: World) -> dict[str, Any]:
    """The same of all nodes together."""
    known = [state.hashed for state in world.nodes.values()]
    return {"builds": sum(it.builds for it in known), "equal": sum(it.equal for it in known), **_sums(known)}


def _sums(known: Sequence[Hashed]) -> dict[str, Any]:
    return {
        "hash_seconds_total": round(sum(it.spent for it in known), 3),
        "spared_builds": sum(it.spared for it in known),
        "spared_seconds": round(sum(it.saved for it in known), 3),
    }


def cutoff_text(found: Mapping[str, Any]) -> str:
    """What it cost and spared, as a sentence."""
    builds = f"{found['equal']} of {found['builds']} {'build' if found['builds'] == 1 else 'builds'}"
    spared = f"{found['spared_builds']} {'build' if found['spared_builds'] == 1 else 'builds'}"
    cost = f"hashing took {found['hash_seconds_total']:.1f} s and spared {spared} of readers"
    return f"{builds} left equal content; {cost}, {found['spared_seconds']:.1f} s by what they took before"


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
    built = world.node(name).standing
    for up in graph.upstreams[name] if built else ():
        then, now = built.observed.codes.get(up) if built else None, world.node(up).code
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
