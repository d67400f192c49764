"""A column as people and programs name it: `orders.amount`, and its lineage."""

from __future__ import annotations

from difflib import get_close_matches
from typing import Any

from sao_events.ancestry import column_lineage, columns_known
from sao_events.errors import NotThere, UsageError
from sao_events.graph import Graph
from sao_events.project import Project
from sao_events.report import resolve_node, resolve_source


def lineage_of(project: Project, asked: str, *, downstream: bool = False) -> dict[str, Any]:
    """The lineage (`ancestry.column_lineage`) of `asked`, the name or id of a node or source, a dot, and a column.
    Raises NotThere for what is not there, with the nearest names, UsageError for what is no column.
    """
    name, _, column = asked.rpartition(".")
    if not name or not column:
        raise UsageError(f"{asked or 'nothing'} is no column", hint="write it as MODEL.COLUMN: orders.amount")
    thing, graph = _named(project, name), project.graph
    if downstream and thing in graph.nodes and not graph.nodes[thing].built:
        reads = ", ".join(graph.upstreams[thing])
        raise NotThere(
            f"{name} is ephemeral, so it is a part of its readers", hint=f"ask for a column of what it reads: {reads}"
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
    raise NotThere(f"there is no node or source {name}", hint=hint)


def _spelled(graph: Graph, node: str, name: str) -> str:
    known, all_of = columns_known(graph, node)
    same = [column for column in known if column.casefold() == name.casefold()]
    if same or not all_of:
        return same[0] if same else name
    near = get_close_matches(name, known, n=3) or known[:5]
    raise NotThere(f"{graph.nodes[node].name} has no column {name}", hint=f"did you mean {' or '.join(near)}?")
