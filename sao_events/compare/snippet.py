"""Proposals as YAML to paste into dbt_project.yml, or for nodes without a folder into a file of properties."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from sao_events.compare.recommend import Proposal
from sao_events.core.policy import Policy
from sao_events.core.project import Project

PERIODS = (("day", 86400), ("hour", 3600), ("minute", 60))


@dataclass(slots=True)
class _Folder:
    lines: list[str] = field(default_factory=list)
    inside: dict[str, _Folder] = field(default_factory=dict)


def snippet(project: Project, proposals: Sequence[Proposal]) -> str:
    """The blocks of what is proposed; empty where nothing is. A folder below one that gets a block keeps its own
    policy by a block of its own, for dbt's blocks are inherited.
    """
    top, alone = _Folder(), list[str]()
    given = [each.group for each in proposals if each.proposed]
    for each in proposals:
        if not each.proposed and not any(each.group.startswith(f"{folder}/") for folder in given):
            continue
        block = build_after(_policy(project, each))
        if any(project.graph.nodes[name].path for name in each.nodes):
            lines = _inner(top, each.group).lines
            lines += _own(project, each)
            lines.append(f"+freshness: {block}" + ("" if each.proposed else "  # as it is today"))
        else:
            alone += [f"  - name: {each.group}", "    config:", f"      freshness: {block}"]
    text = [line for name, folder in top.inside.items() for line in (f"{name}:", *_shown(project.name, folder))]
    return "\n".join([*text, *(["models:", *alone] if alone else []), ""]) if text or alone else ""


def build_after(policy: Policy) -> str:
    """The window and quorum as dbt writes them; a window of seconds is rounded up to minutes, none is left out."""
    window = policy.build_after
    if not window:
        return f"{{build_after: {{updates_on: {policy.updates_on}}}}}"
    period, size = next(((period, size) for period, size in PERIODS if not window % size), PERIODS[-1])
    quorum = "" if policy.updates_on == "any" else f", updates_on: {policy.updates_on}"
    return f"{{build_after: {{count: {math.ceil(window / size)}, period: {period}{quorum}}}}}"


def _policy(project: Project, proposal: Proposal) -> Policy:
    """What the folder is to declare: what is proposed over what most of its nodes have."""
    common = _common(project, proposal)
    change = proposal.proposed.change if proposal.proposed else None
    return change.over(common) if change else common


def _common(project: Project, proposal: Proposal) -> Policy:
    policies = [project.graph.nodes[name].policy for name in proposal.nodes]
    return max(policies, key=policies.count)


def _inner(top: _Folder, group: str) -> _Folder:
    folder = top
    for part in group.split("/"):
        folder = folder.inside.setdefault(part, _Folder())
    return folder


def _own(project: Project, proposal: Proposal) -> Iterator[str]:
    """A word on nodes that may declare a policy of their own, or follow a calendar."""
    common, nodes = _common(project, proposal), [project.graph.nodes[name] for name in proposal.nodes]
    others = [node.name for node in nodes if node.policy != common]
    timed = [node.name for node in nodes if node.policy.calendar is not None and proposal.proposed is not None]
    if timed:
        yield f"# take the calendar out of meta.sao of these, it wins: {', '.join(timed)}"
    if others:
        yield f"# another policy today, which stays where they declare it themselves: {', '.join(others)}"


def _shown(project: str, folder: _Folder) -> Iterator[str]:
    yield f"  {project}:"
    yield from _nested(folder, "    ")


def _nested(folder: _Folder, indent: str) -> Iterator[str]:
    yield from (indent + line for line in folder.lines)
    for name, inner in folder.inside.items():
        yield f"{indent}{name}:"
        yield from _nested(inner, indent + "  ")
