"""Independent work side by side on this machine's processors, where it is enough to pay for starting them."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")
ENOUGH = 4_000  # happenings to replay: a few seconds of work


def spread(task: Callable[[T], R], items: Sequence[T], *, size: int, workers: int | None = None) -> list[R]:
    """What `task` makes of each of `items`, in their order. `size` is how many happenings one of them replays.

    `task`, items and results must be picklable. An error that a task raises is raised here.
    """
    workers = min(workers or os.cpu_count() or 1, len(items))
    if workers < 2 or size * len(items) < ENOUGH:
        return [task(item) for item in items]
    # Processes of their own: a copy of this one would inherit whatever its threads hold at that moment.
    with ProcessPoolExecutor(workers, get_context("spawn"), _leave_interrupts) as pool:
        return list(pool.map(task, items))


def _leave_interrupts() -> None:
    """Ctrl-C is for the process that waits for us; it ends us."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
