"""A manifest that somebody made or changed by hand: read so that what is wrong with it is said where it stands.

dbt writes no key twice and every value of its type; of what it has just written, none of this is asked.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from sao_events.core.errors import DbtError

NEEDED = ("unique_id", "name")
TYPES: dict[str, type] = {
    "unique_id": str, "name": str, "resource_type": str, "config": dict, "depends_on": dict, "raw_code": str,
    "original_file_path": str, "tags": list, "columns": dict, "meta": dict,
}  # fmt: skip
WORDS = {str: "a text", dict: "a mapping", list: "a list", int: "a number", float: "a number", bool: "true or false"}
PARTS = ("nodes", "sources", "functions", "unit_tests", "macros")


def read_strictly(path: Path) -> dict[str, Any]:
    """The manifest as a dictionary. Raises DbtError where it cannot be read, is not JSON, has a key twice in one
    place, or what is read of it is missing or of another type.
    """
    try:
        found = json.loads(path.read_bytes(), object_pairs_hook=_once)
        _check(found, "the manifest", dict)
        for part in ("metadata", *PARTS):
            _check(found.get(part) or {}, part, dict)
        for part in PARTS:
            for key, thing in (found.get(part) or {}).items():
                _check_thing(thing, f"{part}: {key}", part)
    except OSError as error:
        raise DbtError(f"cannot read dbt's manifest {path}: {error.strerror}", hint="run dbt parse") from None
    except (ValueError, RecursionError) as error:
        raise DbtError(f"{path} is not as dbt writes it: {error}", hint="write it anew with dbt parse") from None
    return dict(found)


def _once(pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise ValueError(f"the key {key} stands in one place twice")
        found[key] = value
    return found


def _check_thing(thing: Any, place: str, part: str) -> None:
    _check(thing, place, dict)
    for key in (*NEEDED, *(("resource_type",) if part == "nodes" else ())):
        if key not in thing:
            raise ValueError(f"{place} has no {key}")
    for key, kind in TYPES.items():
        if thing.get(key) is not None or key in NEEDED:
            _check(thing.get(key), f"{place}, {key}", kind)
    depends: Mapping[str, Any] = thing.get("depends_on") or {}
    for key in ("nodes", "macros"):
        names = depends.get(key) or []
        _check(names, f"{place}, depends_on, {key}", list)
        for name in names:
            _check(name, f"{place}, depends_on, {key}", str)


def _check(value: Any, place: str, kind: type) -> None:
    if not isinstance(value, kind):
        raise ValueError(f"{place} is {WORDS.get(type(value), 'null')}, not {WORDS[kind]}")
