"""A loaded project: its graph and what is known of it, with one JSON form that is stored under its digest."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import astuple, dataclass, field, replace
from functools import lru_cache
from typing import Any

from sao_events.core.claims import Claim
from sao_events.core.graph import Graph
from sao_events.core.identity import Inputs
from sao_events.core.lineage import Code, Reading, digest
from sao_events.core.nodes import Node, Source, Test
from sao_events.core.policy import Policy
from sao_events.core.windows import calendar_from_json, calendar_to_json

# Folders in one that hold what dbt, git, Python or we have made.
IGNORED_FOLDERS = frozenset({"target", "logs", "dbt_packages", ".git", ".sao", ".venv", "__pycache__", "node_modules"})

KEPT = 20  # graphs
Graphs = Callable[[str], Graph]  # of a project that was in force, by the digest that its load is recorded with


@dataclass(frozen=True, slots=True)
class Project:
    """A graph with the `name` of the dbt project, its `adapter` (`duckdb`, `postgres` ...), and warnings found at
    load. Only when it was just parsed it has the `inputs` of the identities of nodes and tests, the `texts` of what
    the digests in `Node.parts` stand for, and the `places` (`file:line`) where nodes ask for a quorum of all; none of
    them is stored with it.
    """

    graph: Graph
    name: str = "project"
    adapter: str = ""
    warnings: tuple[str, ...] = ()
    meta: Mapping[str, Any] = field(default_factory=dict)
    inputs: Mapping[str, Inputs] = field(default_factory=dict, compare=False, repr=False)
    texts: Mapping[str, str] = field(default_factory=dict, compare=False, repr=False)
    places: Mapping[str, str] = field(default_factory=dict, compare=False, repr=False)


def project_to_bytes(project: Project) -> bytes:
    """The project as canonical JSON: equal projects give equal bytes."""
    body = {
        "format": 1,
        "name": project.name,
        "adapter": project.adapter,
        "warnings": list(project.warnings),
        "meta": dict(project.meta),
        "sources": [_source(source) for source in project.graph.sources.values()],
        "nodes": [_node(node) for node in project.graph.nodes.values()],
        "tests": [_test(test) for test in project.graph.tests.values()],
    }
    return json.dumps(body, sort_keys=True, separators=(",", ":")).encode()


def project_from_bytes(data: bytes) -> Project:
    """The inverse of `project_to_bytes`."""
    body = json.loads(data)
    graph = Graph(
        [_read_node(node) for node in body["nodes"]],
        [Source(**source) for source in body["sources"]],
        [_read_test(test) for test in body["tests"]],
        body["adapter"],
    )
    return Project(graph, body["name"], body["adapter"], tuple(body["warnings"]), body["meta"])


def graphs_of(read: Callable[[str], bytes]) -> Graphs:
    """The graphs of projects on record, by their digests; `read` gives a project as bytes. The last ones are kept."""
    return lru_cache(maxsize=KEPT)(lambda digest: project_from_bytes(read(digest)).graph)


def project_digest(data: bytes) -> str:
    """The name under which a serialised project is stored."""
    return digest(data.decode())


def graph_warnings(graph: Graph, places: Mapping[str, str]) -> list[str]:
    """What a user should know of the graph at load, each naming the node or source it is about, and its place."""
    found = [
        f"{source.name}: a view in the warehouse has no trusted load time and counts as new at every job; send events"
        + _at(places, source.id)
        for source in graph.sources.values()
        if source.view and not source.meta.keys() & {"loaded_at_field", "loaded_at_query"}
    ]
    found += [
        f"{source.name}: declared static, and so never looked at: its {key} has no use; take one of the two out"
        + _at(places, source.id)
        for source in graph.sources.values()
        for key in ("probe", "files")
        if source.static and source.meta.get(key)
    ]
    return found + list(quorum_warnings(graph, places).values())


def quorum_warnings(graph: Graph, places: Mapping[str, str]) -> dict[str, str]:
    """For each node whose `updates_on: all` can never be met: why, and what to do; with its place, where that is
    known. What is never built for new data anyway is left out: seeds, ephemeral models, views that
    hold up nobody; so is what its age builds, where nothing can hold it up.
    """
    found: dict[str, str] = {}
    for node in graph.nodes.values():
        if node.policy.updates_on != "all" or node.kind == "seed" or not node.built:
            continue
        counted, over = graph.counted(node.id), graph.upstreams[node.id]
        never = [name for name in counted if name in graph.unfed]
        harmless = not never if counted else node.transparent or node.policy.max_staleness is not None
        if harmless:
            continue
        named = [(graph.nodes.get(name) or graph.sources[name]).name for name in never or over]
        why = f"{', '.join(named)} cannot have new data" if over else "it reads no source or model"
        aged = named if never else [node.name]
        instead = "" if graph.transparent.intersection(never) else f", or give max_staleness to {' and '.join(aged)}"
        found[node.id] = (
            f"{node.name}: updates_on: all can never be met: {why}, so no new data ever builds this node; "
            f"write updates_on: any{instead}{_at(places, node.id)}"
        )
    return found


def with_graph(project: Project, graph: Graph) -> Project:
    """The project with other sources or policies in its graph, and the warnings that follow from these."""
    old, new = (graph_warnings(it, project.places) for it in (project.graph, graph))
    warnings = [warning for warning in project.warnings if warning not in old or warning in new]
    return replace(project, graph=graph, warnings=(*warnings, *(warning for warning in new if warning not in old)))


def _at(places: Mapping[str, str], name: str) -> str:
    return f" ({places[name]})" if name in places else ""


def _source(source: Source) -> dict[str, Any]:
    flags = {name: True for name in ("static", "view", "empty") if getattr(source, name)}
    extra = {"relation": source.relation} if source.relation else {}
    meta = {"meta": dict(source.meta)} if source.meta else {}
    return {"id": source.id, "name": source.name, **flags, **extra, **meta}


def _node(node: Node) -> dict[str, Any]:
    body: dict[str, Any] = {
        "id": node.id,
        "name": node.name,
        "kind": node.kind,
        "reads": list(node.reads),
        "own": [node.own.base, [list(column) for column in node.own.columns]],
        "policy": _policy(node.policy),
    }
    optional = {
        "named": _lists(node.reading.named),
        "star": sorted(node.reading.star),
        "rows": None if node.reading.rows is None else _lists(node.reading.rows),
        "feeds": {column: _lists(feed) for column, feed in node.reading.feeds.items()},
        "early_cutoff": node.early_cutoff,
        "relation": node.relation,
        "path": node.path,
        "parts": dict(node.parts),
        "compiled": node.compiled,
        "again": node.again,
        "verbatim": node.verbatim,
        "doubt": node.doubt,
    }
    return body | {name: value for name, value in optional.items() if value or (name == "rows" and value is not None)}


def _test(test: Test) -> list[Any]:
    known: list[Any] = [test.id, test.name, list(test.reads), test.own, test.severity, test.kind]
    claim = list(astuple(test.claim)) if test.claim else None
    optional = {"reuse": test.reuse, "prove": test.prove, "compiled": test.compiled, "claim": claim}
    rest = {name: value for name, value in optional.items() if value not in (None, True)}
    return [*known, rest] if rest else known


def _read_test(body: list[Any]) -> Test:
    rest = body.pop() if isinstance(body[-1], dict) else {}
    if claim := rest.get("claim"):
        relation, kind, column, values, to, field_ = claim
        rest["claim"] = Claim(relation, kind, column, tuple(values), to, field_)
    return Test(body[0], body[1], tuple(body[2]), *body[3:], **rest)


def _policy(policy: Policy) -> list[Any]:
    calendar = calendar_to_json(policy.calendar) if policy.calendar else None
    rest = [policy.max_staleness, calendar] if policy.max_staleness or calendar else []
    return [policy.build_after, policy.updates_on, policy.lazy, *rest]


def _read_policy(body: list[Any]) -> Policy:
    calendar = calendar_from_json(body[4]) if len(body) > 4 and body[4] else None
    return Policy(body[0], body[1], body[2], body[3] if len(body) > 3 else None, calendar)


def _read_reading(body: Mapping[str, Any]) -> Reading:
    rows, feeds = body.get("rows"), body.get("feeds", {})
    return Reading(
        _names(body.get("named", {})),
        frozenset(body.get("star", ())),
        None if rows is None else _names(rows),
        {column: _names(feed) for column, feed in feeds.items()},
    )


def _lists(names: Mapping[str, Iterable[str]]) -> dict[str, list[str]]:
    return {up: list(columns) for up, columns in names.items()}


def _names(body: Mapping[str, Iterable[str]]) -> dict[str, tuple[str, ...]]:
    return {up: tuple(names) for up, names in body.items()}


def _read_node(body: Mapping[str, Any]) -> Node:
    base, columns = body["own"]
    return Node(
        body["id"],
        body["name"],
        body["kind"],
        tuple(body["reads"]),
        Code(base, tuple((name, identity) for name, identity in columns)),
        _read_policy(body["policy"]),
        _read_reading(body),
        body.get("early_cutoff", False),
        body.get("relation"),
        body.get("path"),
        body.get("parts", {}),
        body.get("compiled"),
        body.get("again"),
        body.get("verbatim", False),
        body.get("doubt", ""),
    )
