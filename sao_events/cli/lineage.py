"""`lineage`: which columns a column is made of, and which are made of it."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any

from sao_events.ancestry import column_lineage, columns_known
from sao_events.cli.options import Context, add_command
from sao_events.cli.project import parse
from sao_events.cli.record import node_ids, opened
from sao_events.errors import UsageError
from sao_events.graph import Graph

EXAMPLES = """  sao-events lineage orders.amount               what it is made of, down to sources and seeds
  sao-events lineage orders.amount --downstream  what is made of it
  sao-events lineage orders.amount --json"""


def declare(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare the command."""
    summary = "show which columns a column is made of, or which are made of it"
    parser = add_command(commands, "lineage", lineage, summary, EXAMPLES)
    parser.add_argument("column", metavar="MODEL.COLUMN", help="a model's name or unique_id, a dot, and its column")
    parser.add_argument("--downstream", action="store_true", help="show what is made of it")


def lineage(context: Context) -> int:
    """Print the lineage of a column. Raises UsageError for a model or column that is not there."""
    name, dot, column = context.args.column.rpartition(".")
    if not dot or not name or not column:
        raise UsageError(f"{context.args.column} is no column", hint="write it as MODEL.COLUMN: orders.amount")
    with opened(context.config) as record:
        project = record.view(context).project or parse(context.config, record)
    [node] = node_ids(project, [name])
    graph = project.graph
    if context.args.downstream and not graph.nodes[node].built:
        raise UsageError(
            f"{name} is ephemeral, so it is a part of its readers",
            hint=f"ask for a column of what it reads: {', '.join(graph.upstreams[node])}",
        )
    found = column_lineage(graph, node, _column(graph, node, column), downstream=context.args.downstream)
    if context.out.as_json:
        context.out.json(found)
    else:
        _show(context, graph, found, 0)
    return 0


def _column(graph: Graph, node: str, name: str) -> str:
    known, all_of = columns_known(graph, node)
    same = [column for column in known if column.casefold() == name.casefold()]
    if same or not all_of:
        return same[0] if same else name
    near = get_close_matches(name, known, n=3) or known[:5]
    raise UsageError(f"{graph.nodes[node].name} has no column {name}", hint=f"did you mean {' or '.join(near)}?")


def _show(context: Context, graph: Graph, found: Mapping[str, Any], depth: int) -> None:
    thing = graph.nodes.get(found["node"]) or graph.sources[found["node"]]
    notes = ["decides the rows"] if found["how"] == "rows" else []
    notes += [found["doubt"]] if found["doubt"] else []
    notes += ["see above"] if found["again"] and found["because"] == [] and found["node"] in graph.nodes else []
    why = f"  ({'; '.join(notes)})" if notes else ""
    context.out.line(f"{'  ' * depth}{thing.name}.{found['column']}{why}")
    for inner in found["because"]:
        _show(context, graph, inner, depth + 1)
