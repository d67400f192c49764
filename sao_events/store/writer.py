"""Grouped writing: many ask, one thread writes, as much in one go as is waiting."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from copy import copy
from dataclasses import dataclass, field
from queue import SimpleQueue
from threading import Lock, Thread
from time import sleep
from typing import Generic, TypeVar

from sao_events.core.errors import StoreError

Asked = TypeVar("Asked")
Given = TypeVar("Given")


@dataclass(slots=True, eq=False)
class _Request(Generic[Asked, Given]):
    items: Sequence[Asked]
    future: Future[list[Given]] = field(default_factory=Future)


class GroupedWriter(Generic[Asked, Given]):
    """Hands what is waiting to `write`, in its own thread: several requests at a time, up to `limit` items in all.

    `write` takes the items of each request and returns the results of each, or raises; then just these requests fail.
    """

    def __init__(self, write: Callable[[list[Sequence[Asked]]], list[list[Given]]], limit: int = 1000) -> None:
        self._write = write
        self._limit = limit
        self._waiting: SimpleQueue[_Request[Asked, Given] | None] = SimpleQueue()
        self._door = Lock()
        self._closed = False
        self._thread = Thread(target=self._run, name="sao-events writer", daemon=True)
        self._thread.start()

    def submit(self, items: Sequence[Asked]) -> Future[list[Given]]:
        """Queue `items` as one request. The future cannot be cancelled: what was handed in is written."""
        request: _Request[Asked, Given] = _Request(items)
        request.future.set_running_or_notify_cancel()
        with self._door:
            if self._closed:
                raise StoreError("the store is closed", hint="open it again")
            self._waiting.put(request)
        return request.future

    def close(self) -> None:
        """Write what is waiting, then end the thread. Afterwards `submit` raises StoreError."""
        with self._door:
            if not self._closed:
                self._closed = True
                self._waiting.put(None)
        self._thread.join()

    def _run(self) -> None:
        going_on = True
        while going_on:
            requests, going_on = self._take()
            if requests:
                self._carry_out(requests)

    def _take(self) -> tuple[list[_Request[Asked, Given]], bool]:
        """At least one request, and whether more may come."""
        requests: list[_Request[Asked, Given]] = []
        size = 0
        while not requests or (size < self._limit and not self._waiting.empty()):
            request = self._waiting.get()
            if not requests:
                sleep(
                    0
                )  # lets those run whom the last commit woke: they come along, which halves the number of commits
            if request is None:
                return requests, False
            requests.append(request)
            size += len(request.items)
        return requests, True

    def _carry_out(self, requests: list[_Request[Asked, Given]]) -> None:
        try:
            results = self._write([request.items for request in requests])
        except BaseException as error:  # noqa: BLE001 - whatever it is belongs to those who wait; the thread goes on
            for request in requests:
                request.future.set_exception(copy(error) if isinstance(error, StoreError) else error)
        else:
            for request, result in zip(requests, results, strict=True):
                request.future.set_result(result)
