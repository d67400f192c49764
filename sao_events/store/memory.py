"""The store that is forgotten at exit: for simulations, and for tests of what does not depend on a file."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future
from itertools import islice
from threading import Lock

from sao_events.errors import StoreError
from sao_events.events import Recorded
from sao_events.events import subject as about
from sao_events.ports import Draft
from sao_events.store.drafts import check


class MemoryStore:
    """`Store` in the memory of this process."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._log: list[Recorded] = []
        self._keys: set[str] = set()
        self._projects: dict[str, bytes] = {}
        self._checkpoint: tuple[int, bytes] | None = None

    def append(self, drafts: Sequence[Draft]) -> list[Recorded | None]:
        """See `Store.append`."""
        check(drafts)
        with self._lock:
            return [self._record(draft) for draft in drafts]

    def submit(self, drafts: Sequence[Draft]) -> Future[list[Recorded | None]]:
        """See `Store.submit`."""
        future: Future[list[Recorded | None]] = Future()
        future.set_result(self.append(drafts))
        return future

    def _record(self, draft: Draft) -> Recorded | None:
        if draft.key is not None:
            if draft.key in self._keys:
                return None
            self._keys.add(draft.key)
        recorded = Recorded(len(self._log) + 1, draft.at, draft.event, draft.key, draft.sender)
        self._log.append(recorded)
        return recorded

    def read(self, after: int = 0, limit: int = 10_000) -> list[Recorded]:
        """See `Store.read`."""
        first = max(after, 0)
        return self._log[first : first + limit]

    def find(
        self,
        kinds: Sequence[str] | None = None,
        subject: str | None = None,
        run: str | None = None,
        before: int | None = None,
        limit: int = 100,
    ) -> list[Recorded]:
        """See `Store.find`."""
        found = (
            recorded
            for recorded in reversed(self._log[: None if before is None else max(before - 1, 0)])
            if (kinds is None or type(recorded.event).__name__ in kinds)
            and (subject is None or about(recorded.event) == subject)
            and (run is None or getattr(recorded.event, "run", None) == run)
        )
        return list(islice(found, max(limit, 0)))

    def last(self) -> int:
        """See `Store.last`."""
        return len(self._log)

    def put_project(self, digest: str, body: bytes) -> None:
        """See `Store.put_project`."""
        self._projects.setdefault(digest, body)

    def get_project(self, digest: str) -> bytes:
        """See `Store.get_project`."""
        if digest not in self._projects:
            raise StoreError(f"there is no project {digest} in this store", hint="load the project again")
        return self._projects[digest]

    def put_checkpoint(self, seq: int, body: bytes) -> None:
        """See `Store.put_checkpoint`."""
        with self._lock:
            if self._checkpoint is None or seq >= self._checkpoint[0]:
                self._checkpoint = seq, body

    def get_checkpoint(self) -> tuple[int, bytes] | None:
        """See `Store.get_checkpoint`."""
        return self._checkpoint

    def close(self) -> None:
        """Nothing to release: what was recorded can still be read."""
