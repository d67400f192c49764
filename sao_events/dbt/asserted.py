"""What the tests of a manifest assert, and which models hold nothing but the rows of their SQL: what proofs start from.

Both only where dbt's own macros are at work with nothing configured that changes what they do.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from sao_events.core.claims import KINDS, Claim

PLAIN = {"fail_calc": "count(*)", "warn_if": "!= 0", "error_if": "!= 0", "severity": "error"}
UNSET = ("limit", "where", "store_failures", "store_failures_as", "sql_header")
_TESTING = re.compile(
    r"(?:\w+__)?(?:test_(?:unique|not_null|accepted_values|relationships)|get_test_sql|get_where_subquery|ref|source)"
)
_MAKING = re.compile(
    r"materialization_(?:table|view)_\w+|(?:\w+__)?(?:get_create_(?:table|view)_as_sql|create_(?:table|view)_as)"
)
_NUMBER = re.compile(r"-?\d+")


class Asserted:
    """Reads what a manifest says of tests and models. `nodes` are the ids of those that count."""

    def __init__(self, manifest: Mapping[str, Any], adapter: str, nodes: Iterable[str]) -> None:
        own = {"dbt", f"dbt_{adapter}"}
        macros = (manifest.get("macros") or {}).values()
        names = [str(macro["name"]) for macro in macros if macro["package_name"] not in own]
        self.tests_are_dbts = not any(map(_TESTING.fullmatch, names))
        self.models_are_dbts = not any(map(_MAKING.fullmatch, names))
        self.adapter, self.ids = adapter, frozenset(nodes) | (manifest.get("sources") or {}).keys()

    def verbatim(self, thing: Mapping[str, Any]) -> bool:
        """Whether the relation of a model holds the rows of its SQL: nothing else writes to it or changes types."""
        config = thing.get("config") or {}
        contract = (config.get("contract") or {}).get("enforced") or (thing.get("contract") or {}).get("enforced")
        changed = any(config.get(name) for name in ("pre-hook", "post-hook", "pre_hook", "post_hook", "sql_header"))
        plain = thing["resource_type"] == "model" and config.get("materialized") in {"table", "view"}
        return plain and self.models_are_dbts and not (changed or contract)

    def claim(self, thing: Mapping[str, Any]) -> Claim | None:
        """What a test asserts; None where it is no plain test of a column."""
        metadata = thing.get("test_metadata") or {}
        kind, given = metadata.get("name"), metadata.get("kwargs") or {}
        on = thing.get("attached_node")
        if kind not in KINDS or metadata.get("namespace") or not self.tests_are_dbts or on not in self.ids:
            return None
        others = [name for name in (thing.get("depends_on") or {}).get("nodes") or () if name != on]
        column = self._column(given.get("column_name"))
        if column is None or not _default(thing.get("config") or {}):
            return None
        if kind == "accepted_values":
            values = _values(given)
            return Claim(on, kind, column, values) if values and not others else None
        if kind == "relationships":
            field, to = self._column(given.get("field")), others[0] if len(others) == 1 else on
            return Claim(on, kind, column, to=to, field=field) if field and to in self.ids and len(others) < 2 else None
        return Claim(on, kind, column) if not others else None

    def _column(self, text: Any) -> str | None:
        from sao_events.core.proof.names import column_name, known

        if not isinstance(text, str) or "{{" in text or "{%" in text or not known(self.adapter):
            return None
        return column_name(text, self.adapter)


def _default(config: Mapping[str, Any]) -> bool:
    if any(config.get(name) for name in UNSET):
        return False
    return all(str(config.get(name) or default).lower() == default for name, default in PLAIN.items())


def _values(given: Mapping[str, Any]) -> tuple[str, ...] | None:
    """The values as SQL literals; None where they are not plain text or whole numbers."""
    values = given.get("values")
    texts = [str(value) for value in values] if isinstance(values, list) else []
    if any(mark in text for text in texts for mark in ("'", "\\", "{{", "{%")):
        return None
    if given.get("quote", True) is True:
        return tuple(sorted(f"'{text}'" for text in texts)) or None
    return tuple(sorted(texts)) if texts and all(map(_NUMBER.fullmatch, texts)) else None
