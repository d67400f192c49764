"""Cost of deciding: a pass over a whole project, one event to decisions, folding the log, memory.

    python benchmarks/decide.py [--nodes 1058 10000 100000] [--events 300] [--fold 1000000] [--log] [--peer PYTHON]

A project is made of layers as dbt projects are: sources, views, tables, ephemeral models, more tables with windows, a
test on every third node. Everything has been built. Then, one at a time, data lands in a source by chance: what is
timed is the engine's own path on a SQLite file, from the append over the fold to the decisions and the plan, and on to
the run that is handed to the builder; builds themselves take no time, and what is recorded of them is timed apart.
Beside it stands a pass over everything, as a scheduler without memory would make it. Folding is timed with the events
in memory and, with --log, read from a SQLite file. Memory is that of a process with the project, its state and an
engine.

--peer: a Python in an environment of its own with dbt-orchestra, whose decision step is timed on the same graph:

    python3 -m venv /tmp/peer && /tmp/peer/bin/pip install dbt-orchestra==1.5.0
    python benchmarks/decide.py --peer /tmp/peer/bin/python

Times are seconds of the processor, so that what else the machine does counts little. Aims: a pass over 100,000 nodes
0.5 s, event to decisions 10 ms (p99), 1,000,000 events folded in 10 s, 500 MB.
"""

from __future__ import annotations

import argparse
import gc
import json
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.parts_of_decide.project import HOUR, SETTINGS, built, history, project
from sao_events.core import events as e
from sao_events.core.evolve import evolve
from sao_events.core.graph import Graph
from sao_events.core.plan import Plan, plan
from sao_events.core.policy import Settings
from sao_events.core.project import Project
from sao_events.core.standing import Standing
from sao_events.core.state import World
from sao_events.engine.loop import Engine
from sao_events.ports import Draft, NodeBegan, NodeEnded, Piece, PieceEnded, Report, Store, TestEnded
from sao_events.simulate import VirtualClock
from sao_events.store.checkpoint import catch_up
from sao_events.store.memory import MemoryStore
from sao_events.store.sqlite import SqliteStore

LANDED = "raw.0"
PAGE = 10_000
PEER_HINT = "dbt-orchestra: not measured; install it in an environment of its own and name its Python with --peer"


class AtOnce:
    """A builder whose builds take no time; what came of them is told when it is asked for the next time."""

    gated = False

    def __init__(self) -> None:
        self.begun: list[Piece] = []

    def ready(self, project: str) -> bool:
        """Always."""
        return True

    def hashes(self, adapter: str) -> bool:
        """Never."""
        return False

    def start(self, piece: Piece, project: Project) -> None:
        """Everything in the piece will have succeeded."""
        self.begun.append(piece)

    def reports(self) -> list[Report]:
        """Nothing while `held`, so that the moment of the hand-over can be seen."""
        done, self.begun = ([], self.begun) if self.held else (self.begun, [])
        return [report for piece in done for report in self.come_of(piece)]

    def come_of(self, piece: Piece) -> Iterator[Report]:
        """All that is told of a piece."""
        for node in piece.nodes:
            yield from (NodeBegan(piece.id, node), NodeEnded(piece.id, node, "success", 1.0))
        yield from (TestEnded(piece.id, test, "pass") for test in piece.tests)
        yield PieceEnded(piece.id)

    def cancel(self, run: str) -> None:
        """Never asked for."""

    held = False


class Timed(Standing):
    """Notes when it had decided."""

    made = 0.0

    def plan(self, graph: Graph, world: World, settings: Settings, now: float, claimed: Collection[str] = ()) -> Plan:
        """See `Standing.plan`."""
        made = super().plan(graph, world, settings, now, claimed)
        self.made = time.process_time()
        return made


def engine_on(graph: Graph, world: World, store: Store) -> tuple[Engine, AtOnce, VirtualClock]:
    """An engine that has the project in force and has looked at it once."""
    builder, clock = AtOnce(), VirtualClock(5 * HOUR)
    store.put_project("p", b"")
    world.seq, world.project = 0, "p"
    engine = Engine(store, builder, clock, SETTINGS, world=world, read_project=lambda _: Project(graph))
    engine.standing = Timed()
    engine.step()
    return engine, builder, clock


class Taken(NamedTuple):
    """Seconds from each event to its decisions, to the hand-over of its run, and to take in what came of it; how many
    nodes were built.
    """

    decided: list[float]
    handed: list[float]
    recorded: list[float]
    nodes: int


def events_to_decisions(graph: Graph, world: World, count: int, store: Store) -> Taken:
    """One event after the other, each with its run."""
    engine, builder, clock = engine_on(graph, world, store)
    assert isinstance(engine.standing, Timed)
    sources, chance = list(graph.sources), random.Random(3)
    decided, handed, recorded, before = [], [], [], engine.store.last()
    gc.collect()
    gc.freeze()
    for _ in range(count):
        clock.set(clock.now() + 10.0)
        engine.step()
        builder.held = True
        begin = time.process_time()
        engine.store.append([Draft(e.DataLanded(chance.choice(sources)), clock.now())])
        engine.step()
        middle = time.process_time()
        decided.append(engine.standing.made - begin)
        builder.held = False
        engine.step()
        handed.append(middle - begin)
        recorded.append(time.process_time() - middle)
    gc.unfreeze()
    log = engine.store.read(before, 10**9)
    return Taken(decided, handed, recorded, sum(isinstance(item.event, e.NodeBuilt) for item in log))


def seconds(work: Callable[[], object], times: int = 3) -> float:
    """The median time of some runs of `work`."""
    taken = []
    for _ in range(times):
        gc.collect()
        start = time.process_time()
        work()
        taken.append(time.process_time() - start)
    return statistics.median(taken)


def percentile(values: list[float], share: float) -> float:
    """The value below which `share` of them lie."""
    return sorted(values)[min(int(len(values) * share), len(values) - 1)]


def peer(python: str | None, graph: Graph) -> float | None:
    """Seconds that dbt-orchestra needs for the same graph, where it is there."""
    if python is None:
        return None
    nodes = {n.id: (n.reads, round(n.policy.build_after / 60), n.policy.updates_on) for n in graph.nodes.values()}
    given = json.dumps({"sources": list(graph.sources), "nodes": nodes, "landed": LANDED})
    script = str(Path(__file__).parent / "parts_of_decide" / "orchestra.py")
    done = subprocess.run([python, script], input=given, text=True, capture_output=True, check=False)
    if done.returncode:
        print(f"dbt-orchestra: {python} cannot run it: {(done.stderr.strip() or '?').splitlines()[-1]}")
        return None
    return float(done.stdout)


def told(values: list[float]) -> str:
    """Seconds as milliseconds: the median, the 99th percentile, the most."""
    median, high, most = (1000 * percentile(values, share) for share in (0.5, 0.99, 1.0))
    return f"{median:8.2f} ms median {high:8.2f} p99 {most:8.2f} most"


def passes(size: int, count: int, python: str | None) -> None:
    """One line for a project of `size` nodes: a whole pass, one event, and the peer."""
    graph, other = project(size), None
    world = built(graph)
    evolve(world, e.Recorded(6, 4 * HOUR, e.DataLanded(LANDED)))
    gc.collect()
    gc.freeze()  # as the service does once a project is loaded
    whole = seconds(lambda: plan(graph, world, SETTINGS, 5 * HOUR), 5)
    with tempfile.TemporaryDirectory() as folder, closing(SqliteStore(Path(folder) / "log.db")) as store:
        taken = events_to_decisions(graph, world, count, store)
    median = statistics.median(taken.decided)
    print(
        f"{size:7} nodes: whole pass {whole:7.3f} s | event to decisions {told(taken.decided)} | to hand-over "
        f"{told(taken.handed)} | results of its run {1000 * statistics.median(taken.recorded):8.2f} ms median | "
        f"{taken.nodes / count:.1f} nodes per event | pass : event {whole / median:.0f}"
    )
    other = peer(python, graph)
    if other is not None:
        print(f"{'':7} dbt-orchestra's decision step {other:7.3f} s, {other / whole:.1f} times a whole pass of ours")


def fold(length: int, on_disk: bool) -> None:
    """Fold a log of `length` events of a project of 1,000 nodes, from memory and from a file."""
    taken, read = 0.0, 0.0
    graph, world = project(1000), World()
    log = history(graph, length)
    while page := list(islice(log, PAGE)):
        start = time.process_time()
        for recorded in page:
            evolve(world, recorded)
        taken += time.process_time() - start
    print(f"folding {length:,} events: {taken:.2f} s in memory", end="", flush=True)
    if on_disk:
        with tempfile.TemporaryDirectory() as folder:
            store = SqliteStore(Path(folder) / "log.db")
            log = history(graph, length)
            while page := list(islice(log, PAGE)):
                store.append([Draft(recorded.event, recorded.at) for recorded in page])
            start = time.process_time()
            catch_up(store, World())
            read = time.process_time() - start
            store.close()
        print(f", {read:.2f} s read from SQLite", end="")
    print()


def memory(size: int) -> None:
    """The most memory that this process has had, with a project of `size` nodes in force."""
    graph = project(size)
    engine_on(graph, built(graph), MemoryStore())
    unit = 1024**2 if sys.platform == "darwin" else 1024
    print(f"memory with {size:,} nodes: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit:.0f} MB at most")


def main() -> None:
    """Print one line for each measurement."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nodes", type=int, nargs="*", default=[1058, 10_000, 100_000])
    parser.add_argument("--events", type=int, default=300, help="how many events are timed in each project")
    parser.add_argument("--fold", type=int, default=1_000_000, help="how many events are folded; 0 for none")
    parser.add_argument("--log", action="store_true", help="fold them from a SQLite file, too")
    parser.add_argument("--peer", help="the Python of an environment that has dbt-orchestra")
    parser.add_argument("--memory", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.memory:
        memory(options.memory)
        return
    for size in options.nodes:  # in processes of their own, while this one is small: they inherit its most
        subprocess.run([sys.executable, __file__, "--memory", str(size)], check=True)
    for size in options.nodes:
        passes(size, options.events, options.peer)
    if options.peer is None:
        print(PEER_HINT)
    if options.fold:
        fold(options.fold, options.log)


if __name__ == "__main__":
    main()
