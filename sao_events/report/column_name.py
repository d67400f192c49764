"""A column as people and programs name it: `orders.amount`, and its lineage."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from difflib import get_close_matches
from typing import Any

from sao_events.core.errors import NotThere, UsageError
from sao_events.core.graph import Graph
from sao_events.core.lineage import Code
from sao_events.core.named import resolve_node, resolve_source
from sao_events.core.project import Project
from sao_events.core.proof.names import known, stored_name
from sao_events.core.state import World
from sao_events.report.ancestry import column_lineage, columns_known

MOST = 80  # characters of what was asked that an error repeats


def lineage_of(
    project: Project, asked: str, *, downstream: bool = False, seeds: Mapping[str, tuple[str, ...]] | None = None
) -> dict[str, Any]:
    """The lineage (`ancestry.column_lineage`) of `asked`, the name or id of a node or source, a dot, and a column;
    `seeds` are the columns of seeds, where they are known. Raises NotThere for what is not there, with the nearest
    names, UsageError for what is no column.
    """
    name, _, column = asked.rpartition(".")
    if not name or not column:
        raise UsageError(f"{_short(asked) or 'nothing'} is no column", hint="write it as MODEL.COLUMN: orders.amount")
    thing, graph = _named(project, name), _with_seeds(project.graph, seeds or {})
    if downstream and thing in graph.nodes and not graph.nodes[thing].built:
        reads = ", ".join(graph.upstreams[thing])
        raise NotThere(
            f"{_short(name)} is ephemeral, so it is a part of its readers",
            hint=f"ask for a column of what it reads: {reads}",
        )
    column = _spelled(graph, thing, column) if thing in graph.nodes else column
    return column_lineage(graph, thing, column, downstream=downstream)


def _named(project: Project, name: str) -> str:
    """A node before a source: a model often has the name of the table that it is made of."""
    node, source = resolve_node(project, name), resolve_source(project, name)
    if isinstance(node, str):
        return node
    if isinstance(source, str):
        return source
    near = [*node, *source]
    hint = f"did you mean {' or '.join(near)}?" if near else "sao-events status lists the nodes and sources"
    raise NotThere(f"there is no node or source {_short(name)}", hint=hint)


def seeds_built(graph: Graph, world: World) -> dict[str, tuple[str, ...]]:
    """The columns of each seed as it was last built, where that is as it is now and somebody looked."""
    found: dict[str, tuple[str, ...]] = {}
    if not known(graph.adapter):
        return found
    for node in graph.nodes.values():
        state = world.nodes.get(node.id) if node.kind == "seed" else None
        standing = state.standing if state else None
        if state and standing and standing.observed.fingerprint == graph.fingerprints[node.id]:
            found[node.id] = tuple(stored_name(column, graph.adapter) for column in state.columns)
    return {name: columns for name, columns in found.items() if columns}


def _with_seeds(graph: Graph, seeds: Mapping[str, tuple[str, ...]]) -> Graph:
    if not seeds:
        return graph
    nodes = list(graph.nodes.values())
    for place, node in enumerate(nodes):
        if node.id in seeds:
            columns = tuple((column, "") for column in seeds[node.id])
            nodes[place] = replace(node, own=Code(node.own.base, columns))
    return Graph(nodes, graph.sources.values(), graph.tests.values(), graph.adapter)


def _short(text: str) -> str:
    return text if len(text) <= MOST else f"{text[:MOST]}..."


def _spelled(graph: Graph, node: str, name: str) -> str:
    columns, all_of = columns_known(graph, node)
    same = [column for column in columns if column.casefold() == name.casefold()]
    if same or not all_of:
        return same[0] if same else name
    near = get_close_matches(name, columns, n=3) or columns[:5]
    raise NotThere(f"{graph.nodes[node].name} has no column {_short(name)}", hint=f"did you mean {' or '.join(near)}?")
