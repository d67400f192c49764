"""Statements put to the warehouse through dbt's own adapter, inside dbt's own process, and what comes back.

They are asked one after the other over one connection, by a thread: one that takes too long is cancelled, and the rest
goes over a new one. Each has a transaction of its own that is rolled back, unless what it writes is to be kept.
"""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from queue import Empty, SimpleQueue
from typing import Any

from sao_events.core.probes import LOADED_AT, NO_TABLE

Tell = Callable[[Mapping[str, Any]], None]
CANCELLED_WITHIN = 5.0  # seconds that a cancelled statement is given to end


def install(statements: Sequence[str], seconds: float, most: int, tell: Tell, *, keep: bool = False) -> None:
    """Have `dbt run-operation` ask in the place of what it is told to do. `tell` is given an answer for each statement,
    in order: `columns` and at most `most` `rows`, or the `error`. `keep`: what a statement without error writes is
    committed.
    """
    from dbt.adapters.factory import get_adapter
    from dbt.task.run_operation import RunOperationTask

    def run(task: Any) -> None:
        _ask_all(get_adapter(task.config), _Sources(task), statements, seconds, most, tell, keep)

    patched: list[tuple[str, Any]] = [("run", run), ("interpret_results", staticmethod(lambda _: True))]
    for name, instead in patched:
        setattr(RunOperationTask, name, instead)


class _Sources:
    """What dbt itself knows of when sources were loaded."""

    def __init__(self, task: Any) -> None:
        self.config, self.manifest = task.config, task.manifest

    def sql(self, source: str) -> str | None:
        """The `loaded_at_query` of a source, rendered as for `dbt source freshness`; None where it has none."""
        from dbt.clients.jinja import get_rendered
        from dbt.context.providers import RuntimeProvider, SourceContext

        node = self.manifest.sources[source]
        query = getattr(node, "loaded_at_query", None)
        if not query:
            return None
        context = SourceContext(node, self.config, self.manifest, RuntimeProvider(), None).to_dict()
        return str(get_rendered(query, context, node))

    def changed(self, adapter: Any, source: str) -> datetime | None:
        """When the table of a source was changed last, by the warehouse's metadata. Raises LookupError for anything but
        a table: of a view the metadata tells when it was defined.
        """
        node = self.manifest.sources[source]
        relation = adapter.Relation.create_from(self.config, node)
        with _rolled_back(adapter.connections):
            there = adapter.get_relation(node.database, node.schema, node.identifier)
            if there is None or not there.is_table:
                raise LookupError(NO_TABLE if there else "there is no such relation in the warehouse")
            _, found = adapter.calculate_freshness_from_metadata(relation, macro_resolver=self.manifest)
        at: datetime = found["max_loaded_at"]
        return at if at.year > 1 else None  # what dbt takes for one that is not known


def _ask_all(
    adapter: Any, sources: _Sources, statements: Sequence[str], seconds: float, most: int, tell: Tell, keep: bool
) -> None:
    left = deque(statements)
    while left:
        answers, stop = SimpleQueue[Mapping[str, Any]](), threading.Event()
        asking = (adapter, sources, tuple(left), most, answers.put, stop, keep)
        thread = threading.Thread(target=_ask, args=asking, name="asking", daemon=True)
        thread.start()
        try:
            while left:
                tell(answers.get(timeout=seconds))
                left.popleft()
        except BaseException as error:
            stop.set()
            _cancel(adapter)
            if not isinstance(error, Empty):
                raise
            tell({"error": f"no answer within {seconds:g} seconds"})
            left.popleft()
        thread.join(CANCELLED_WITHIN)
        if thread.is_alive():
            for _ in left:
                tell({"error": "not asked: the warehouse does not end a statement before this one"})
            return


def _ask(
    adapter: Any,
    sources: _Sources,
    statements: Sequence[str],
    most: int,
    tell: Tell,
    stop: threading.Event,
    keep: bool,
) -> None:
    """What the thread does. A connection that cannot be had is the answer to all."""
    try:
        with adapter.connection_named("sao_events"):
            _ = adapter.connections.get_thread_connection().handle
            for sql in statements:
                if stop.is_set():
                    return
                told = sql.removeprefix(LOADED_AT)
                tell(_answer(adapter, sql, most, keep) if told == sql else _loaded_at(adapter, sources, told))
    except Exception as error:  # noqa: BLE001 (whatever an adapter's driver raises)
        for _ in statements:
            tell({"error": _words(error)})


@contextlib.contextmanager
def _rolled_back(connections: Any) -> Iterator[None]:
    """A transaction of its own, so that an error in it is no matter to the next statement."""
    from dbt.adapters.sql import SQLConnectionManager

    if not isinstance(connections, SQLConnectionManager):
        yield
        return
    connections.begin()
    try:
        yield
    finally:
        connections.rollback_if_open()


def _loaded_at(adapter: Any, sources: _Sources, source: str) -> dict[str, Any]:
    try:
        if sql := sources.sql(source):
            return _answer(adapter, sql, 1, False)
        return {"columns": ["loaded_at"], "rows": [[answered(sources.changed(adapter, source))]]}
    except Exception as error:  # noqa: BLE001 (whatever an adapter's driver or a macro raises)
        return {"error": _words(error)}


def _answer(adapter: Any, sql: str, most: int, keep: bool) -> dict[str, Any]:
    from dbt.adapters.sql import SQLConnectionManager

    connections = adapter.connections
    try:
        if isinstance(connections, SQLConnectionManager):
            connections.begin()
            try:
                _, cursor = connections.add_query(sql, auto_begin=False)
                columns = [column[0] for column in cursor.description or ()]
                rows = cursor.fetchmany(most) if columns else []
                if keep:
                    connections.commit()
            finally:
                connections.rollback_if_open()
        else:
            _, table = adapter.execute(sql, auto_begin=False, fetch=True, limit=most)
            columns, rows = list(table.column_names), list(table.rows)
        return {"columns": columns, "rows": [[answered(value) for value in row] for row in rows]}
    except Exception as error:  # noqa: BLE001 (whatever an adapter's driver raises)
        return {"error": _words(error)}


def answered(value: Any) -> Any:
    """The value as JSON has it; the port says how."""
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    if isinstance(value, datetime):
        zoned = value if value.tzinfo else value.replace(tzinfo=UTC)
        return zoned.astimezone(UTC).isoformat()
    if isinstance(value, date):
        return value.isoformat()
    return bytes(value).hex() if isinstance(value, (bytes, bytearray, memoryview)) else str(value)


def _cancel(adapter: Any) -> None:
    """Cancel what the thread asks; where the adapter cannot, it ends with the process."""
    if adapter.is_cancelable():
        with contextlib.suppress(Exception), adapter.connection_named("sao_events_cancel"):
            adapter.cancel_open_connections()


def _words(error: Exception) -> str:
    return str(error).strip() or type(error).__name__
