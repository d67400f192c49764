"""The store that is forgotten at exit: for simulations, and for tests of what does not depend on a file."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import replace
from itertools import islice
from threading import Lock

from sao_events.core.errors import StoreError
from sao_events.core.events import Recorded
from sao_events.core.events import subject as about
from sao_events.core.identity import Known
from sao_events.ports import Delivered, Draft, Incoming, Receipt
from sao_events.store.deliveries import kept, take
from sao_events.store.drafts import check, check_incoming


class MemoryStore:
    """`Store` in the memory of this process."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._log: list[Recorded] = []
        self._keys: set[str] = set()
        self._projects: dict[str, bytes] = {}
        self._checkpoint: tuple[int, bytes] | None = None
        self._texts: dict[str, str] = {}
        self._known: dict[tuple[str, str], Known] = {}
        self._deliveries = _Table()

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

    def receive(self, incoming: Sequence[Incoming]) -> Future[list[Receipt]]:
        """See `Store.receive`."""
        check_incoming(incoming)
        future: Future[list[Receipt]] = Future()
        with self._lock:
            receipts = [take(one, self._deliveries, self._record) for one in incoming]
        future.set_result(receipts)
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

    def deliveries(
        self,
        endpoint: str | None = None,
        verdict: str | None = None,
        before: int | None = None,
        limit: int = 100,
        *,
        lost: bool = False,
    ) -> list[Delivered]:
        """See `Store.deliveries`."""
        with self._lock:
            rows = sorted(self._deliveries.rows.values(), key=lambda it: -it.id)
        found = (
            it
            for it in rows
            if (endpoint is None or it.delivery.endpoint == endpoint)
            and (verdict is None or it.delivery.verdict == verdict)
            and (before is None or it.id < before)
            and (it.delivery.landings or not lost)
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

    def put_texts(self, texts: Mapping[str, str]) -> None:
        """See `Store.put_texts`."""
        self._texts = {**texts, **self._texts}

    def get_texts(self, digests: Iterable[str]) -> dict[str, str]:
        """See `Store.get_texts`."""
        return {name: self._texts[name] for name in digests if name in self._texts}

    def put_known(self, known: Iterable[Known]) -> None:
        """See `Store.put_known`."""
        with self._lock:
            self._known |= {(one.node, one.inputs): one for one in known}

    def get_known(self, inputs: Iterable[str]) -> list[Known]:
        """See `Store.get_known`."""
        asked = set(inputs)
        return [one for one in self._known.values() if one.inputs in asked]

    def states_of(self, node: str, limit: int = 10) -> list[Known]:
        """See `Store.states_of`."""
        return [one for one in reversed(self._known.values()) if one.node == node][: max(limit, 0)]

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


class _Table:
    """Deliveries by their number, and the numbers by their mark."""

    def __init__(self) -> None:
        self.rows: dict[int, Delivered] = {}
        self.marks: dict[str, int] = {}
        self.newest = 0

    def get(self, number: int) -> Delivered | None:
        """See `Table.get`."""
        return self.rows.get(number)

    def find(self, mark: str) -> Delivered | None:
        """See `Table.find`."""
        return self.rows.get(self.marks.get(mark, 0))

    def put(self, delivered: Delivered, mark: str | None) -> int:
        """See `Table.put`."""
        if not delivered.id:
            self.newest += 1
            delivered = replace(delivered, id=self.newest)
            if mark is not None:
                self.marks[mark] = self.newest
        self.rows[delivered.id] = delivered
        verdict = delivered.delivery.verdict
        if (most := kept(verdict)) is not None and len(self.rows) > most:
            same = [it.id for it in self.rows.values() if it.delivery.verdict == verdict]
            for number in sorted(same)[:-most]:
                del self.rows[number]
        return delivered.id
