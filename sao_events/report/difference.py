"""What differs between the code that a node was built with and the code in force, part by part, for people to read."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from difflib import unified_diff
from typing import Any

from sao_events.core.nodes import Node
from sao_events.core.sqltext import pretty, same_sql

Texts = Callable[[Iterable[str]], Mapping[str, str]]  # the texts under these digests, where they are known
LARGEST = 2000  # lines of one difference
_KEYED, _SECRET = frozenset({"config"}), frozenset({"vars", "env", "target"})


def difference(node: Node, built: Mapping[str, str], texts: Texts, adapter: str) -> list[dict[str, Any]]:
    """For each part that differs its name (`part`), the lines of a unified difference (`diff`), empty where the texts
    are not known, and `same` for SQL that is written otherwise and means the same.

    `compiled` is the SQL that dbt makes of it, `again` that of an incremental model once its table is there. Values of
    vars and environment variables are not shown, only which of them are others.
    """
    now = node.on_record
    if not built:
        return []
    changed = [name for name in sorted({*now, *built}) if now.get(name) != built.get(name)]
    if {"compiled", "sql"} <= {*changed} and now.get("compiled") and built.get("compiled"):
        changed.remove("sql")  # the same, seen before dbt has rendered it
    known = texts({side[name] for side in (now, built) for name in changed if name in side})
    return [_part(name, known.get(built.get(name, "")), known.get(now.get(name, "")), adapter) for name in changed]


def _part(name: str, old: str | None, new: str | None, adapter: str) -> dict[str, Any]:
    if name in {"compiled", "again"} and old and new and same_sql(old, new, adapter):
        return {"part": name, "diff": [], "same": True}
    before, after = _lines(name, old or "", adapter), _lines(name, new or "", adapter)
    lines = [line.rstrip("\n") for line in unified_diff(before, after, "built", "in force", lineterm="")]
    more = len(lines) - LARGEST
    shown = [*lines[:LARGEST], f"... {more} more lines"] if more > 0 else lines
    return {"part": name, "diff": shown, "same": False}


def _lines(name: str, text: str, adapter: str) -> list[str]:
    if not text:
        return []
    if name in {"compiled", "again"}:
        return pretty(text, adapter).splitlines()
    if name in {"sql", "macros", "graph"}:
        return text.strip().splitlines()
    try:
        value = json.loads(text)
    except ValueError:
        return text.splitlines()
    if name in _SECRET and isinstance(value, dict):
        return [f"{key}: (value {known})" for key, known in sorted(value.items())]
    if name in _KEYED and isinstance(value, dict):
        return [f"{key}: {json.dumps(it, sort_keys=True)}" for key, it in sorted(value.items())]
    return json.dumps(value, indent=2, sort_keys=True).splitlines()
