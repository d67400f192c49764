"""Whether two texts of SQL, as dbt compiles it, say the same."""

from __future__ import annotations

from sao_events.fingerprint import canonical


def same_sql(old: str, new: str, adapter: str) -> bool:
    """Whether `old` and `new` certainly do the same in the warehouse of dbt's `adapter`. In doubt they do not."""
    return canonical(old, jinja=False, dialect=adapter) == canonical(new, jinja=False, dialect=adapter)
