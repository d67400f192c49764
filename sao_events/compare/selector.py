"""Names for sets of nodes on the command line and in files: a node's name, a glob of names, a folder, or `*`."""

from __future__ import annotations

from fnmatch import fnmatchcase
from pathlib import PurePosixPath

from sao_events.core.errors import UsageError
from sao_events.core.nodes import Node
from sao_events.core.project import Project
from sao_events.yamltext import nearest


def select(project: Project, selector: str) -> tuple[str, ...]:
    """The ids of the nodes that `selector` names, in graph order.

    `orders`, `model.shop.orders`: the node; `mart_*`: names that match; `marts`, `marts/finance`, `path:models/marts`:
    all below folders of that name; `*`: all. Raises UsageError, with the nearest name, where it names nothing.
    """
    nodes = project.graph.nodes.values()
    folder = selector.removeprefix("path:").strip("/")
    found = () if selector.startswith("path:") else tuple(node.id for node in nodes if selector in (node.name, node.id))
    found = found or tuple(node.id for node in nodes if folder in folders(node))
    found = found or tuple(node.id for node in nodes if fnmatchcase(node.name, selector))
    if not found:
        known = dict.fromkeys([*(node.name for node in nodes), *(name for node in nodes for name in folders(node))])
        raise UsageError(f"no node has the name, folder or pattern {selector}", hint=nearest(selector, list(known)))
    return found


def folders(node: Node) -> list[str]:
    """The folders that hold the node: `models/marts/finance` is `marts/finance`, `finance` and `marts` too."""
    parts = PurePosixPath(node.path or "").parts[:-1]
    ends = range(1, len(parts) + 1)
    return ["/".join(parts[begin:end]) for end in ends for begin in range(end)]
