"""The log and what lies beside it, in memory or in a SQLite file: `open_store` picks by URL."""

from __future__ import annotations

from sao_events.core.errors import UsageError
from sao_events.ports import Store
from sao_events.store.memory import MemoryStore
from sao_events.store.sqlite import SqliteStore


def open_store(url: str) -> Store:
    """The store at `url`: `memory:`, `sqlite:PATH` or a plain path. A file is created where there is none.

    Raises UsageError for a URL of another kind, StoreError for a file that cannot be used.
    """
    if url == "memory:":
        return MemoryStore()
    path = url.removeprefix("sqlite:")
    if not path or (path == url and "://" in url):
        raise UsageError(
            f"{url!r} names no store that sao-events knows",
            hint="give the path of a file, sqlite:PATH, or memory: for one that is forgotten at exit",
        )
    return SqliteStore(path)
