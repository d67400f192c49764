"""Takes the SQL of models apart, column by column, and gives them identities by column; what was found is kept.

Only where a relation holds the rows of its SQL and nothing else (`Node.verbatim`): an incremental model, a snapshot, a
model with hooks or a contract counts as one piece. An analysis is stored under the digest of its SQL, so that another
version of sqlglot makes no model look changed, and a load costs no parsing.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

from sao_events.core.graph import Graph
from sao_events.core.identity import Known
from sao_events.core.lineage import Code, Reading, digest
from sao_events.core.nodes import Node
from sao_events.core.project import Project
from sao_events.core.proof.names import known, relation_name
from sao_events.ports import Store

if TYPE_CHECKING:
    from sao_events.core.columns import Analysis

FORM = "columns 5"  # to be counted up when an analysis says more, or something else


def taken_apart(project: Project, store: Store, texts: Mapping[str, str]) -> tuple[dict[str, Analysis], dict[str, str]]:
    """The analyses by node, and those of them that are new, to be stored. `texts`: SQL that may not be stored yet."""
    if not known(project.adapter):
        return {}, {}
    nodes = {node.id: node.compiled for node in project.graph.nodes.values() if node.compiled and node.verbatim}
    names = {compiled: digest(FORM, compiled, project.adapter) for compiled in nodes.values()}
    stored = store.get_texts(names.values())
    lacking = [compiled for compiled, name in names.items() if name not in stored]
    sql = store.get_texts([name for name in lacking if name not in texts]) | dict(texts)
    new = {names[name]: _written(sql[name], project.adapter) for name in lacking if name in sql}
    read = {name: _read(text) for name, text in (stored | new).items()}
    found = {node: analysis for node, compiled in nodes.items() if (analysis := read.get(names[compiled]))}
    return found, new


def by_column(project: Project, apart: Mapping[str, Analysis], states: Mapping[str, Known]) -> Project:
    """`project` with what is known of its models by column."""
    graph = project.graph
    nodes = [
        _node(graph, node, apart[node.id], states[node.id].rest, project.adapter) if node.id in apart else node
        for node in graph.nodes.values()
    ]
    return replace(project, graph=Graph(nodes, graph.sources.values(), graph.tests.values(), graph.adapter))


def _node(graph: Graph, node: Node, analysis: Analysis, rest: str, adapter: str) -> Node:
    own = Code(digest(rest, analysis.base), analysis.columns)
    return replace(node, own=own, reading=_reading(graph, node, analysis, adapter))


def _reading(graph: Graph, node: Node, analysis: Analysis, adapter: str) -> Reading:
    upstreams = dict[str, str]()
    for name in graph.upstreams[node.id]:  # what ephemeral models read is read by the SQL that they are folded into
        thing = graph.nodes.get(name) or graph.sources.get(name)
        relation = relation_name(thing.relation, adapter) if thing and thing.relation else None
        if relation is None or relation in upstreams:
            return Reading()
        upstreams[relation] = name
    return analysis.reading(upstreams)


def _written(text: str, adapter: str) -> str:
    from sao_events.core.columns import Whole, analyse

    try:
        body: dict[str, Any] = asdict(analyse(text, adapter))
    except Whole as reason:
        body = {"whole": str(reason)}
    return json.dumps(body, default=sorted, sort_keys=True)


def _read(text: str) -> Analysis | None:
    from sao_events.core.columns import Analysis

    body = json.loads(text)
    if "whole" in body:
        return None
    return Analysis(
        body["base"],
        tuple((name, identity) for name, identity in body["columns"]),
        _names(body["rows"]),
        {column: _names(feed) for column, feed in body["feeds"].items()},
        frozenset(body["star"]),
        frozenset(body["wholly"]),
        frozenset(body["plain"]),
        body["steady"],
        _names(body["mentioned"]),
    )


def _names(body: Mapping[str, Iterable[str]]) -> dict[str, tuple[str, ...]]:
    return {relation: tuple(columns) for relation, columns in body.items()}
