"""The project's macros: which of them a text may reach, and what they read.

dbt notes for a node only the macros that ran while it was parsed, not those behind `is_incremental()` or `execute`. So
a name counts wherever it occurs inside the tags of a text, called or not. Macros of dbt and its adapters are left out:
a new release of dbt must not read as a change of every model.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from sao_events.core.fingerprint import Text, read
from sao_events.core.lineage import digest

# Adapters that stand on another adapter's macros.
BASES = {
    "redshift": ("postgres",),
    "greenplum": ("postgres",),
    "materialize": ("postgres",),
    "databricks": ("spark",),
    "synapse": ("fabric", "sqlserver"),
    "fabric": ("sqlserver",),
}
NAMING = ("generate_schema_name", "generate_alias_name", "generate_database_name")  # seen in the relation's name


@dataclass(frozen=True, slots=True)
class Reach:
    """A set of macros: the identity of their texts, the texts, and one `listing` of them for people."""

    identity: str
    texts: tuple[Text, ...]
    listing: str = ""


class Macros:
    """The macros of a manifest that are the user's own or come with packages. Those of the packages `overriding` may
    stand in the place of dbt's own; None: those of any.
    """

    def __init__(self, macros: Mapping[str, Any], adapter: str, overriding: Container[str] | None = None) -> None:
        internal = _internal(adapter)
        known = {_bare(macro["name"]) for macro in macros.values() if macro["package_name"] in internal}
        self.texts: dict[str, Text] = {}
        self._names: dict[str, list[str]] = {}
        self.sources: dict[str, str] = {}
        self._given: dict[str, list[str]] = {}
        overrides = list[str]()
        for key, macro in sorted(macros.items()):
            if macro["package_name"] in internal:
                continue
            name = macro["name"]
            self.texts[key] = read(macro["macro_sql"], dialect=adapter, exact=True)
            self.sources[key] = macro["macro_sql"]
            self._given[key] = (macro.get("depends_on") or {}).get("macros") or []
            for known_as in {name, _bare(name)}:
                self._names.setdefault(known_as, []).append(key)
            if (overriding is None or macro["package_name"] in overriding) and _overrides(name, known):
                overrides.append(key)
        self._steps: dict[str, tuple[str, ...]] = {}
        self._cache: dict[frozenset[str], Reach] = {}
        self.overrides = frozenset(overrides)

    def reach(self, words: Iterable[str], given: Iterable[str] = ()) -> Reach:
        """What `words` may name, the macros `given`, those in the place of dbt's own; and all that these call."""
        entries = {key for word in words for key in self._names.get(word, ())}
        entries.update(key for key in given if key in self.texts)
        start = frozenset(entries | self.overrides)
        if start not in self._cache:
            found = sorted(self._closure(start))
            identity = digest(*(part for key in found for part in (key, self.texts[key].canonical))) if found else ""
            listing = "\n\n".join(self.sources[key].strip() for key in found)
            self._cache[start] = Reach(identity, tuple(self.texts[key] for key in found), listing)
        return self._cache[start]

    def called(self, words: Iterable[str]) -> list[str]:
        """The sources of the macros that `words` may name, and of all that these call."""
        return [
            self.sources[key] for key in self._closure({key for word in words for key in self._names.get(word, ())})
        ]

    def _closure(self, start: Iterable[str]) -> set[str]:
        found, stack = set[str](), list(start)
        while stack:
            key = stack.pop()
            if key not in found:
                found.add(key)
                stack.extend(self._step(key))
        return found

    def _step(self, key: str) -> tuple[str, ...]:
        if key not in self._steps:
            called = {other for word in self.texts[key].words for other in self._names.get(word, ())}
            called.update(other for other in self._given[key] if other in self.texts)
            self._steps[key] = tuple(called)
        return self._steps[key]


def overriding(manifest: Mapping[str, Any], project: Mapping[str, Any]) -> frozenset[str] | None:
    """The packages whose macros dbt may call in the place of its own: the project, packages with nodes (for these), and
    those that `dispatch` in the project's file names for dbt's macros. None: nobody can tell.
    """
    dispatch, metadata = project.get("dispatch") or [], manifest.get("metadata") or {}
    root, internal = metadata.get("project_name"), _internal(metadata.get("adapter_type") or "")
    if not (project and root and isinstance(dispatch, list)) or "{" in str([_leads(entry) for entry in dispatch]):
        return None
    led_to = (name for space, order in map(_leads, dispatch) if space in internal for name in order)
    nodes = (node.get("package_name") for node in (manifest.get("nodes") or {}).values())
    return frozenset(map(str, (root, *nodes, *led_to)))


def _leads(entry: Any) -> tuple[str, list[str]]:
    """The namespace of an entry of `dispatch`, and the packages where dbt looks for its macros."""
    if not isinstance(entry, dict):
        return "{", []
    order = entry.get("search_order")
    return str(entry.get("macro_namespace")), order if isinstance(order, list) else [str(order)]


def _internal(adapter: str) -> set[str]:
    """The packages that come with dbt and its adapters."""
    return {"dbt", *(f"dbt_{name}" for name in (adapter, *BASES.get(adapter, ())))}


def _bare(name: str) -> str:
    """The name that `adapter.dispatch` is asked for: `star` of `default__star`."""
    return name.partition("__")[2] or name


def _overrides(name: str, known: set[str]) -> bool:
    bare = _bare(name)
    if bare in NAMING or bare.startswith(("test_", "materialization_")):
        return False
    return bare in known
