"""Gives a project that was just parsed the identities on record, and records those that are new.

Staged, so that a push costs little: what has known inputs and known SQL is looked up; dbt compiles only the rest, in
one call; only SQL that differs is parsed. Where dbt cannot compile, identity is that of the inputs: each edit counts.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from functools import partial
from itertools import chain

from sao_events.core.errors import DbtError
from sao_events.core.graph import Graph
from sao_events.core.identity import Inputs, Known, Rendered, Same, keys, recorded, rendered_again, settled, text_digest
from sao_events.core.lineage import Code
from sao_events.core.nodes import Node, Test
from sao_events.core.project import Project
from sao_events.core.sqltext import same_sql
from sao_events.deploy.apart import by_column, taken_apart
from sao_events.ports import Store

LOG = logging.getLogger("sao_events")
RULES = "rules 3"  # to be counted up when other templates may be compiled, or more is kept, so that they are
ALL = 2**31  # states
UNSEEN = "dbt has not compiled it"
Render = Callable[[Mapping[str, Inputs]], Mapping[str, Rendered]]


def identified(project: Project, store: Store, render: Render) -> Project:
    """`project` with identities and compiled SQL, which are on record when this returns. Raises StoreError."""
    found, texts, lacking = _looked_up(project, store, render, everything=True)
    parts = {text for name in lacking for text in _parts(project.graph, name)}
    store.put_texts(texts | {text: project.texts[text] for text in parts if text in project.texts})
    store.put_known([found[name] for name in lacking])
    settled_project = _with(project, found)
    apart, new = taken_apart(settled_project, store, texts)
    store.put_texts(new)
    return by_column(settled_project, apart, found)


def recognised(project: Project, store: Store, render: Render) -> Project:
    """`project` with the identities that it would have, for who only looks: nothing is recorded, and only what has
    other states on record is compiled, and what is made of ephemeral models that may be others.
    """
    found, texts, _ = _looked_up(project, store, render, everything=False)
    settled_project = _with(project, found)
    return by_column(settled_project, taken_apart(settled_project, store, texts)[0], found)


def _looked_up(
    project: Project, store: Store, render: Render, *, everything: bool
) -> tuple[dict[str, Known], dict[str, str], list[str]]:
    """States of nodes and tests, texts that are new, and the names of what is not on record as it is."""
    inputs, wanted = _over_folded(project), _keys(project)
    found = {one.node: one for one in store.get_known(it.whole for it in inputs.values()) if _fits(one, project)}
    folds = project.graph.folded
    lacking = [
        name
        for name in inputs
        if name not in found or (found[name].key != wanted[name] and (everything or name in folds))
    ]
    before = {name: store.states_of(name) for name in lacking if name not in found}
    asked = (name for name in lacking if everything or name in found or before[name])
    clear = {name: inputs[name] for name in asked if not inputs[name].doubt}
    compiled = _compiled(clear, render)
    texts = {text_digest(sql): sql for it in compiled.values() for sql in (it.sql, it.again) if sql}
    same = _same(store, texts, project.adapter)
    for name in lacking:
        state = recorded(name, inputs[name], found.get(name), wanted[name], compiled.get(name))
        if name in before:
            found[name] = settled(state, before[name], same)
        else:
            found[name] = rendered_again(state, found[name], partial(store.states_of, name, ALL), same)
    return found, texts, lacking


def _fits(known: Known, project: Project) -> bool:
    inputs = project.inputs.get(known.node)
    return inputs is not None and inputs.whole == known.inputs


def _keys(project: Project) -> dict[str, str]:
    graph = project.graph
    reads = {thing.id: thing.reads for thing in chain[Node | Test](graph.nodes.values(), graph.tests.values())}
    folded = {node.id for node in graph.nodes.values() if not node.built}
    return keys(reads, project.inputs, folded, f"{RULES}, dbt {project.meta.get('dbt')}")


def _over_folded(project: Project) -> dict[str, Inputs]:
    """The inputs of nodes and tests. What an ephemeral model's SQL may do, the SQL that it is folded into may."""
    graph, found = project.graph, dict(project.inputs)
    for thing in chain[Node | Test](graph.nodes.values(), graph.tests.values()):
        for parent in thing.reads if thing.id in found else ():
            node, own = graph.nodes.get(parent), found[thing.id]
            if node is None or node.built or parent not in found:
                continue
            doubt = own.doubt or (found[parent].doubt and f"of {node.name}, which is part of it: {found[parent].doubt}")
            found[thing.id] = replace(own, doubt=doubt, asks=own.asks or found[parent].asks)
    return found


def _compiled(wanted: Mapping[str, Inputs], render: Render) -> Mapping[str, Rendered]:
    try:
        return render(wanted) if wanted else {}
    except DbtError as error:
        LOG.warning("compiled SQL cannot be compared, so every edit counts as a change: %s", error)
        return {}


def _same(store: Store, texts: Mapping[str, str], adapter: str) -> Same:
    """Compares texts by their digests: those at hand, and those in the store."""

    def text(name: str) -> str | None:
        return texts.get(name) or store.get_texts([name]).get(name)

    def same(old: str, new: str) -> bool:
        before, after = text(old), text(new)
        return before is not None and after is not None and same_sql(before, after, adapter)

    return same


def _parts(graph: Graph, name: str) -> Collection[str]:
    node = graph.nodes.get(name)
    return node.parts.values() if node else ()


def _with(project: Project, known: Mapping[str, Known]) -> Project:
    graph = project.graph
    nodes = [_node(node, known.get(node.id)) for node in graph.nodes.values()]
    tests = [_test(test, known.get(test.id)) for test in graph.tests.values()]
    settled_graph = Graph(nodes, graph.sources.values(), tests, graph.adapter)
    return replace(project, graph=settled_graph, inputs={}, texts={})


def _node(node: Node, known: Known | None) -> Node:
    if known is None:
        return node
    own = Code(known.identity, node.own.columns)
    doubt = "" if known.compiled else known.doubt or UNSEEN
    return replace(node, own=own, compiled=known.compiled or None, again=known.again or None, doubt=doubt)


def _test(test: Test, known: Known | None) -> Test:
    return test if known is None else replace(test, own=known.identity, compiled=known.compiled or None)
