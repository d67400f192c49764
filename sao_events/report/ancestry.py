"""Which columns a column of the project is made of, and which are made of it.

Sources and seeds are ends. Ephemeral models are looked through, as they are part of what their readers execute. What
is not known is said: a model that is not taken apart may make any of its columns of anything that it reads.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from sao_events.core.graph import Graph

Step = Callable[[Graph, str, str], Iterator[tuple[str, str, str, str]]]
WHOLE = "*"  # a column of which nobody knows which one it is
PASSED = "passed on by select *; nobody knows the columns of what it reads"
UNKNOWN = "its SQL is not taken apart: any of what it reads may be in it"


def columns_known(graph: Graph, node: str) -> tuple[tuple[str, ...], bool]:
    """The columns of a node in order, and whether these are all."""
    found = _known(graph, node, set())
    return tuple(dict.fromkeys(found[0])), found[1]


def column_lineage(graph: Graph, node: str, column: str, *, downstream: bool = False) -> dict[str, Any]:
    """What `column` of `node` is made of, or with `downstream` what is made of it, as a tree of `node`, `column` (`*`:
    any of them), `how` (`feeds`: its values; `rows`: it decides which rows there are), `doubt` (empty: certain) and
    `because`. What was told once in a tree is told there again without what is behind it (`again`).
    """
    step = _downstream if downstream else _upstream
    return _tree(graph, node, column, "feeds", step, set())


def _tree(
    graph: Graph, node: str, column: str, how: str, step: Step, seen: set[tuple[str, str]], doubt: str = ""
) -> dict[str, Any]:
    again = (node, column) in seen
    seen.add((node, column))
    found = [] if again else list(step(graph, node, column))
    down = step is _downstream  # there a doubt is about the reader, else about the node that reads
    doubt = doubt or next((text for *_, text in found if text and not down), "")
    inner = [_tree(graph, name, it, way, step, seen, text if down else "") for name, it, way, text in found]
    return {"node": node, "column": column, "how": how, "doubt": doubt, "again": again, "because": inner}


def _known(graph: Graph, node: str, seen: set[str]) -> tuple[list[str], bool]:
    if node not in graph.nodes or node in seen:
        return [], False
    seen.add(node)
    reading, found = graph.readings[node], [name for name, _ in graph.nodes[node].own.columns]
    whole = reading.rows is not None or bool(found)
    for up in graph.upstreams[node]:
        if up in reading.star:
            passed, all_of = _known(graph, up, seen)
            found, whole = found + passed, whole and all_of
    return found, whole


def _upstream(graph: Graph, node: str, column: str) -> Iterator[tuple[str, str, str, str]]:
    if node not in graph.nodes:
        return
    reading, own = graph.readings[node], {name for name, _ in graph.nodes[node].own.columns}
    if reading.rows is None or column == WHOLE:
        for up in graph.upstreams[node]:
            names = reading.named.get(up)
            doubt = _doubt(graph, node) if reading.rows is None else ""
            yield from ((up, name, "feeds", doubt) for name in names or (WHOLE,))
        return
    for up, names in reading.feeds.get(column, {}).items():
        yield from ((up, name, "feeds", "") for name in names)
    if column not in own:
        yield from _passed(graph, node, column)
    for up, names in reading.rows.items():
        read = names or reading.feeds.get(column, {}).get(up)  # with count(*) the rows count, and no column
        if names or not read:
            yield from ((up, name, "rows", "") for name in names or (WHOLE,))


def _passed(graph: Graph, node: str, column: str) -> Iterator[tuple[str, str, str, str]]:
    """The relations whose columns are passed on and that have this one, or may have it."""
    for up in graph.upstreams[node]:
        if up in graph.readings[node].star:
            known, all_of = columns_known(graph, up)
            if column in known or not all_of:
                yield up, column, "feeds", "" if column in known else PASSED


def _downstream(graph: Graph, node: str, column: str) -> Iterator[tuple[str, str, str, str]]:
    for reader in graph.readers[node]:
        if graph.readings[reader].rows is None:
            names = graph.readings[reader].named.get(node)
            if names is None or column in names or column == WHOLE:
                yield reader, WHOLE, "feeds", _doubt(graph, reader)
            continue
        yield from _in_reader(graph, node, column, reader)


def _in_reader(graph: Graph, node: str, column: str, reader: str) -> Iterator[tuple[str, str, str, str]]:
    reading = graph.readings[reader]
    used = (reading.rows or {}).get(node, ())
    if column in used or column == WHOLE or (used and WHOLE in used):
        yield reader, WHOLE, "rows", ""
    for own, feed in reading.feeds.items():
        if node in feed and (column == WHOLE or column in feed[node] or WHOLE in feed[node]):
            yield reader, own, "feeds", ""
    if node in reading.star:
        yield reader, column, "feeds", ""


def _doubt(graph: Graph, node: str) -> str:
    reason = graph.nodes[node].doubt
    return f"{UNKNOWN} ({reason})" if reason else UNKNOWN
