"""Which relations fall when dbt builds another: some warehouses drop the views on a relation that dbt replaces.

dbt's macros for PostgreSQL make the new relation, rename it into its place and `drop ... cascade` the old one, and with
it every view and materialized view on it, at any distance. Measured with dbt-postgres by tests/test_falling.py.
Redshift has the same macros; its late binding views stay, and are then built once too often.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

Replaced = Literal["always", "anew", "never"]

FALLING = frozenset({"view", "materialized_view"})
_POSTGRES: Mapping[str, Replaced] = {
    "table": "always",
    "python": "always",
    "view": "always",
    "incremental": "anew",  # on a full refresh, and where something of another kind stood in its place
    "materialized_view": "anew",
    "seed": "anew",
    "snapshot": "never",
}
WITH_VIEWS_THAT_FALL: Mapping[str, Mapping[str, Replaced]] = {"postgres": _POSTGRES, "redshift": _POSTGRES}


def replaced(adapter: str, kind: str) -> Replaced:
    """Whether a build of a node of `kind` drops the views on it: `always`, only where the relation is made `anew`, or
    `never`, as with every adapter that is not in the table.
    """
    return WITH_VIEWS_THAT_FALL.get(adapter, {}).get(kind, "never")
