"""What people and senders name: the node or the source that a name means, or those that are meant perhaps."""

from __future__ import annotations

from dataclasses import replace
from difflib import get_close_matches

from sao_events.core.evidence import Evidence
from sao_events.core.project import Project


def resolve_node(project: Project, name: str) -> str | list[str]:
    """The id of the node that `name` names, by id or by its name; otherwise the names that are meant perhaps."""
    nodes = project.graph.nodes
    if name in nodes:
        return name
    same = [node.id for node in nodes.values() if node.name == name]
    if len(same) == 1:
        return same[0]
    return same or get_close_matches(name, dict.fromkeys([*(node.name for node in nodes.values()), *nodes]), n=3)


def resolve_source(project: Project, name: str) -> str | list[str]:
    """The id of the source that `name` names: by id, `source_name.table`, relation, or a table's name that only one
    has; otherwise the names that are meant perhaps.
    """
    if name in project.graph.sources:
        return name
    wanted = _bare(name)
    spelled: dict[str, list[str]] = {}
    for source in project.graph.sources.values():
        for spelling in _spellings(source.id, source.name, source.relation):
            spelled.setdefault(spelling, []).append(source.id)
    same = spelled.get(wanted, [])
    if len(same) == 1:
        return same[0]
    return same or get_close_matches(name, [source.name for source in project.graph.sources.values()], n=3)


def evidence_in(project: Project, rules: Evidence) -> Evidence:
    """`rules` with the ids of the sources that its loads name; names that the project does not have are left out."""
    loads = {}
    for name, sources in rules.loads.items():
        ids = [found for source in sources if isinstance(found := resolve_source(project, source), str)]
        if ids:
            loads[name] = tuple(ids)
    return replace(rules, loads=loads)


def _spellings(source_id: str, name: str, relation: str | None) -> set[str]:
    parts = source_id.split(".")
    found = {_bare(name), _bare(".".join(parts[-2:])), _bare(parts[-1])}
    if relation:
        pieces = _bare(relation).split(".")
        found |= {".".join(pieces[start:]) for start in range(len(pieces))}
    return found


def _bare(name: str) -> str:
    return name.translate(str.maketrans("", "", "\"`[]'")).lower()
