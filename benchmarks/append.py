"""Acknowledged durable appends per second into the SQLite store, and reading and folding a million events.

    python benchmarks/append.py [--appends 20000] [--log 50000] [--events 1000000]

Each append is one event; it counts when it is on disk. "threads" are handlers that wait, "tasks" those of one asyncio
loop. Beside them stands what one thread reaches that commits each event itself, and the disk's own fsync.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sqlite3
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from itertools import count, islice
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Barrier

sys.path.insert(0, str(Path(__file__).parent.parent))

from sao_events.core.events import (
    BuildStarted,
    DataLanded,
    Event,
    NodeBuilt,
    Observed,
    Recorded,
    RunFinished,
    RunStarted,
)
from sao_events.core.evolve import evolve
from sao_events.core.lineage import Code, digest
from sao_events.core.state import World
from sao_events.ports import Draft
from sao_events.store.checkpoint import catch_up, load_world, save_world
from sao_events.store.sqlite import SqliteStore

START = 1_767_225_600.0
SUBMITTERS = (1, 16, 64)


def callback(number: int) -> Draft:
    """A loader's callback: the event that arrives most."""
    event = DataLanded(f"source.shop.raw.table_{number % 40}", f"load-{number:08x}", START + number, number % 5000)
    return Draft(event, START + number, f"airbyte:{number:024x}", "airbyte")


def by_threads(store: SqliteStore, drafts: Sequence[Sequence[Draft]]) -> float:
    """Seconds until each of `drafts` is appended, by as many threads, one event at a time."""
    ready = Barrier(len(drafts) + 1)

    def submit(mine: Sequence[Draft]) -> None:
        ready.wait()
        for draft in mine:
            store.append([draft])

    with ThreadPoolExecutor(len(drafts)) as pool:
        running = [pool.submit(submit, mine) for mine in drafts]
        ready.wait()
        began = time.perf_counter()
        for submitter in running:
            submitter.result()
        return time.perf_counter() - began


def by_tasks(store: SqliteStore, drafts: Sequence[Sequence[Draft]]) -> float:
    """The same by tasks of one asyncio loop."""

    async def submit(mine: Sequence[Draft]) -> None:
        for draft in mine:
            await asyncio.wrap_future(store.submit([draft]))

    async def all_of_them() -> float:
        began = time.perf_counter()
        await asyncio.gather(*map(submit, drafts))
        return time.perf_counter() - began

    return asyncio.run(all_of_them())


def by_itself(path: Path, appends: int) -> float:
    """Seconds for single commits of rows as large, with nothing around them."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("CREATE TABLE log (seq INTEGER PRIMARY KEY, key TEXT UNIQUE, body TEXT)")
        began = time.perf_counter()
        for number in range(appends):
            connection.execute("INSERT INTO log (key, body) VALUES (?, ?)", (f"{number:032x}", "x" * 150))
        return time.perf_counter() - began


def fsyncs(path: Path, times: int = 500) -> float:
    """Seconds for so many pages written and synced."""
    file = os.open(path, os.O_CREAT | os.O_WRONLY)
    began = time.perf_counter()
    for _ in range(times):
        os.write(file, b"x" * 4096)
        os.fsync(file)
    took = time.perf_counter() - began
    os.close(file)
    return took


def history(nodes: int = 500) -> Iterator[Event]:
    """A project's log: loads, and runs of ten nodes that each read two others."""
    names = [f"model.shop.layer_{number % 7}_model_{number}" for number in range(nodes)]
    codes = {name: Code(digest(name), tuple((f"column_{i}", digest(name, str(i))) for i in range(4))) for name in names}
    for number in count():
        yield callback(number).event
        chosen = [names[(number * 10 + i) % nodes] for i in range(10)]
        yield RunStarted(f"run-{number}", dict.fromkeys(chosen, "new_data"))
        for name in chosen:
            above = [names[(number * 7 + i) % nodes] for i in range(2)]
            seen = Observed(digest(name, "sql"), dict.fromkeys(above, number), {up: codes[up] for up in above})
            yield BuildStarted(f"run-{number}", name, "new_data", START + number, seen, codes[name])
            yield NodeBuilt(f"run-{number}", name, 1.25)
        yield RunFinished(f"run-{number}", "success")


def measure(folder: Path, appends: int) -> None:
    """Print appends per second, one event at a time and in batches."""
    print(f"fsync of one page              {500 / fsyncs(folder / 'page'):>10,.0f} /s")
    print(f"bare sqlite3, a commit each    {appends / 6 / by_itself(folder / 'bare', appends // 6):>10,.0f} /s")
    fresh = count()
    with closing(SqliteStore(folder / "appends")) as store:
        for name, way in (("threads", by_threads), ("tasks", by_tasks)):
            for submitters in SUBMITTERS:
                each = appends // submitters if submitters > 1 else appends // 6
                drafts = [[callback(next(fresh)) for _ in range(each)] for _ in range(submitters)]
                print(f"{submitters:>3} {name:<8} one event each  {submitters * each / way(store, drafts):>10,.0f} /s")
        for size in (10, 100, 1000):
            batches = [[callback(next(fresh)) for _ in range(size)] for _ in range(appends // size)]
            began = time.perf_counter()
            for batch in batches:
                store.append(batch)
            took = time.perf_counter() - began
            print(f"  1 thread, batches of {size:<5}    {appends / took:>10,.0f} events/s")


def timed(work: Callable[[], object]) -> float:
    """Seconds that `work` takes."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def fold(folder: Path, length: int, events: int) -> None:
    """Print the time to read and fold `events` events, a log of `length` over and over, and start from a checkpoint."""
    with closing(SqliteStore(folder / "fold")) as store:
        drafts = (Draft(event, START + i, f"key-{i}" if i % 23 == 0 else None) for i, event in enumerate(history()))
        took = timed(lambda: fill(store, islice(drafts, length)))
        size = (folder / "fold").stat().st_size / length
        print(f"log of {length:,} events of {size:,.0f} bytes, written in {took:.1f} s")
        print(f"  fold alone                   {length / timed_fold(store.read(0, length)):>10,.0f} events/s")
        rounds = max(1, events // length)
        took = timed(lambda: [catch_up(store, World()) for _ in range(rounds)])
        print(f"  read and fold                {rounds * length / took:>10,.0f} events/s")
        print(f"  {rounds * length:,} events in {took:.1f} s")
        world = load_world(store)
        print(f"  write a checkpoint           {timed(lambda: save_world(store, world)) * 1000:>10,.0f} ms")
        print(f"  start from it                {timed(lambda: load_world(store)) * 1000:>10,.0f} ms")


def timed_fold(log: Sequence[Recorded]) -> float:
    """Seconds to fold what is in memory already."""
    world = World()
    began = time.perf_counter()
    for recorded in log:
        evolve(world, recorded)
    return time.perf_counter() - began


def fill(store: SqliteStore, drafts: Iterator[Draft]) -> None:
    """Append all of `drafts`, some thousand at a time."""
    while batch := list(islice(drafts, 5000)):
        store.append(batch)


def main() -> None:
    """Measure in a temporary directory: set TMPDIR to choose the disk."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--appends", type=int, default=20_000, help="events per measurement (default 20000)")
    parser.add_argument("--log", type=int, default=50_000, help="length of the log to fold (default 50000)")
    parser.add_argument("--events", type=int, default=1_000_000, help="events to fold in all (default 1000000)")
    arguments = parser.parse_args()
    with TemporaryDirectory() as folder:
        measure(Path(folder), arguments.appends)
        fold(Path(folder), arguments.log, arguments.events)


if __name__ == "__main__":
    main()
