"""`lineage`: which columns a column is made of, and which are made of it."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Any

from sao_events.cli.options import Context, add_command
from sao_events.cli.project import parse
from sao_events.cli.record import opened
from sao_events.core.graph import Graph
from sao_events.report.column_name import lineage_of, seeds_built

EXAMPLES = """  sao-events lineage orders.amount               what it is made of, down to sources and seeds
  sao-events lineage orders.amount --downstream  what is made of it
  sao-events lineage raw.orders.amount --downstream
  sao-events lineage orders.amount --json"""


def declare(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare the command."""
    summary = "show which columns a column is made of, or which are made of it"
    parser = add_command(commands, "lineage", lineage, summary, EXAMPLES)
    parser.add_argument(
        "column", metavar="MODEL.COLUMN", help="a node's or source's name or unique_id, a dot, and its column"
    )
    parser.add_argument("--downstream", action="store_true", help="show what is made of it")


def lineage(context: Context) -> int:
    """Print the lineage of a column. Raises UsageError for a model or column that is not there."""
    with opened(context.config) as record:
        view = record.view(context)
        project = view.project or parse(context.config, record)
    seeds = seeds_built(project.graph, view.world)
    found = lineage_of(project, context.args.column, downstream=context.args.downstream, seeds=seeds)
    if context.out.as_json:
        context.out.json(found)
    else:
        _show(context, project.graph, found, 0)
    return 0


def _show(context: Context, graph: Graph, found: Mapping[str, Any], depth: int) -> None:
    thing = graph.nodes.get(found["node"]) or graph.sources[found["node"]]
    notes = ["decides the rows"] if found["how"] == "rows" else []
    notes += [found["doubt"]] if found["doubt"] else []
    notes += ["see above"] if found["again"] and found["because"] == [] and found["node"] in graph.nodes else []
    why = f"  ({'; '.join(notes)})" if notes else ""
    context.out.line(f"{'  ' * depth}{thing.name}.{found['column']}{why}")
    for inner in found["because"]:
        _show(context, graph, inner, depth + 1)
