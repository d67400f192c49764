"""Several processes on one file, and processes that are killed: what was acknowledged is there, in one order, once."""

from __future__ import annotations

import random
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from sao_events.store.sqlite import SqliteStore
from tests.store_contract import landed

ROOT = Path(__file__).parent.parent

# Appends events of 1 to 3 from four threads until it is killed; prints the keys and numbers that were acknowledged.
RESTLESS = """
import os, sys, threading
from sao_events.store.sqlite import SqliteStore
from tests.store_contract import landed

store = SqliteStore(sys.argv[1])

def work(thread):
    for number in range(1_000_000):
        batch = [landed(i, f"{sys.argv[2]}-{thread}-{number}-{i}") for i in range(1 + number % 3)]
        lines = [f"{item.seq} {item.key}\\n" for item in store.append(batch)]
        os.write(1, "".join(lines).encode())

for thread in range(4):
    threading.Thread(target=work, args=(thread,)).start()
"""

# Appends events of its own and events that the others append as well; prints which of these were recorded for it.
SHARING = """
import sys
from sao_events.store.sqlite import SqliteStore
from tests.store_contract import landed

path, name, times = sys.argv[1:]
store = SqliteStore(path)
print("ready", flush=True)
sys.stdin.readline()
for number in range(int(times)):
    mine, shared = store.append([landed(number, f"{name}-{number}"), landed(number, f"shared-{number}")])
    assert mine is not None
    if shared is not None:
        print(shared.seq, shared.key)
store.close()
"""


@contextmanager
def process(script: str, *arguments: object) -> Iterator[subprocess.Popen[str]]:
    """Another Python; ended with the block, whatever happens."""
    command = [sys.executable, "-c", script, *map(str, arguments)]
    with subprocess.Popen(
        command, cwd=ROOT, text=True, bufsize=1, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as child:
        try:
            yield child
        finally:
            child.kill()


def acknowledged(lines: list[str]) -> dict[str, int]:
    """Key and number of each whole line; the last may have been cut off by the kill."""
    return {line.split()[1]: int(line.split()[0]) for line in lines if line.endswith("\n")}


@pytest.mark.slow
def test_what_was_acknowledged_outlives_kill_9(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    seed = random.randrange(1_000_000)
    chance = random.Random(seed)
    known: dict[str, int] = {}
    for attempt in range(6):
        with process(RESTLESS, path, attempt) as child:
            assert child.stdout is not None
            lines = [child.stdout.readline() for _ in range(chance.randrange(1, 400))]
            child.kill()
            lines += child.stdout.readlines()
        known |= acknowledged(lines)
        with closing(SqliteStore(path)) as store:
            log = store.read(limit=1_000_000)
            assert [item.seq for item in log] == list(range(1, store.last() + 1)), f"seed {seed}"
            places = {item.key: item.seq for item in log if item.key is not None}
            assert len(places) == len(log), f"seed {seed}"
            assert known.items() <= places.items(), f"seed {seed}"
            whole = {(key, key.rpartition("-")[0]) for key in places}
            for key, batch in whole:
                assert all(f"{batch}-{i}" in places for i in range(int(key.split("-")[2]) % 3 + 1)), f"seed {seed}"


def test_processes_share_one_order_and_see_each_other(tmp_path: Path) -> None:
    path, times = tmp_path / "state.db", 100
    with closing(SqliteStore(path)) as store, process(SHARING, path, "child", times) as child:
        assert child.stdout is not None
        assert child.stdin is not None
        child.stdout.readline()
        print(file=child.stdin)
        for number in range(times):
            store.append([landed(number, f"parent-{number}"), landed(number, f"shared-{number}")])
        theirs = acknowledged(child.stdout.readlines())
        assert child.wait() == 0
        assert store.last() == 3 * times
        log = store.read()
    assert [item.seq for item in log] == list(range(1, 3 * times + 1))
    keys = {f"{name}-{number}" for name in ("parent", "child", "shared") for number in range(times)}
    assert {item.key for item in log} == keys
    assert theirs.items() <= {item.key: item.seq for item in log}.items()


def test_processes_may_create_the_file_at_once(tmp_path: Path) -> None:
    path, times = tmp_path / "new" / "state.db", 5
    children = []
    for number in range(4):
        command = [sys.executable, "-c", SHARING, str(path), str(number), str(times)]
        children.append(subprocess.Popen(command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL))
    assert [child.wait() for child in children] == [0] * 4
    with closing(SqliteStore(path)) as store:
        assert store.last() == 5 * times
