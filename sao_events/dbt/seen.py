"""What was just built, asked of the warehouse inside dbt's own process: the columns, which are what proofs know of
types, and the content hash.

Text is only told as text where no collation takes different texts as the same; else its type is left open.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Mapping
from typing import Any

from sao_events.dbt import content

Tell = Callable[[Mapping[str, Any]], None]

# Whether the warehouse has any collation that takes different texts as the same. Where this is not known, it may.
COLLATIONS = {
    "duckdb": "select count(*) from (select sql from duckdb_tables() union all select sql from duckdb_views()"
    " union all select ' collate ' where coalesce(current_setting('default_collation'), '') != '')"
    " where sql ilike '% collate %'",
    "postgres": "select count(*) from pg_collation where not collisdeterministic",
}
TEXT = ("char", "text", "string")


def install(tell: Tell, *, columns: bool, hashes: Mapping[str, float]) -> None:
    """Have the `columns` of each model, seed and snapshot told as soon as it is built, before dbt says so, and of those
    in `hashes` the content hash, if it does not take more seconds than are given there.
    """
    import dbt.task.run

    runner: Any = dbt.task.run.ModelRunner
    execute, texts = getattr(runner, "execute", None), _Texts()
    if execute is None:
        return

    def looking(self: Any, model: Any, manifest: Any) -> Any:
        result = execute(self, model, manifest)
        name = model.unique_id
        if columns:
            with contextlib.suppress(Exception):  # nothing that a build depends on
                tell({"node": name, "columns": _columns(self, model, texts)})
        if name in hashes:
            tell({"node": name, **content.told(self, model, hashes[name])})
        return result

    runner.execute = looking


def _columns(runner: Any, model: Any, texts: _Texts) -> dict[str, str]:
    relation = runner.adapter.Relation.create_from(runner.config, model)
    found = {column.name: str(column.dtype) for column in runner.adapter.get_columns_in_relation(relation)}
    exact = texts.exact(runner.adapter)
    return {name: kind if exact or not _is_text(kind) else "" for name, kind in found.items()}


def _is_text(kind: str) -> bool:
    return any(word in kind.lower() for word in TEXT)


class _Texts:
    """Whether equal texts are the same texts, asked once."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.answer: bool | None = None

    def exact(self, adapter: Any) -> bool:
        with self.lock:
            if self.answer is None:
                self.answer = self._ask(adapter)
            return self.answer

    def _ask(self, adapter: Any) -> bool:
        sql = COLLATIONS.get(adapter.type())
        if sql is None:
            return False
        _, table = adapter.execute(sql, auto_begin=False, fetch=True)
        return int(table.rows[0][0]) == 0
