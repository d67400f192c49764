"""How long it takes to replay a month under a policy: 60 models, 8 sources, 58 tests, some 400 events a week."""

from __future__ import annotations

import argparse
import cProfile
import pstats
import random
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from sao_events.compare.replay import Replay
from sao_events.compare.results import result, variants
from sao_events.compare.trace import Trace
from sao_events.compare.tracefile import read_trace
from sao_events.compare.variant import Change, Schedule
from sao_events.core.graph import Graph
from sao_events.core.lineage import Code
from sao_events.core.nodes import Node, Source, Test
from sao_events.core.policy import Policy, Settings
from sao_events.core.project import Project

HOUR = 3600.0
STAGING, INTERMEDIATE, MARTS, TESTS = 8, 22, 30, 58
A_WEEK = 400


def project(chance: random.Random) -> Project:
    """Views on 8 sources, tables on these, and marts with a window of 4 hours; a test on each of what follows."""
    sources = [Source(f"raw.s{number}", f"raw.s{number}") for number in range(STAGING)]
    nodes = [Node(f"stg{n}", f"stg{n}", "view", (f"raw.s{n}",), Code(f"stg{n}")) for n in range(STAGING)]
    for number in range(INTERMEDIATE):
        reads = tuple(f"stg{n}" for n in sorted(chance.sample(range(STAGING), 2)))
        nodes.append(Node(f"int{number}", f"int{number}", "table", reads, Code(f"int{number}")))
    for number in range(MARTS):
        reads = tuple(f"int{n}" for n in sorted(chance.sample(range(INTERMEDIATE), 3)))
        nodes.append(Node(f"mart{number}", f"mart{number}", "table", reads, Code(f"mart{number}"), Policy(4 * HOUR)))
    tests = [
        Test(f"t{n}", f"t{n}", (nodes[len(nodes) - 1 - n % (INTERMEDIATE + MARTS)].id,), "t") for n in range(TESTS)
    ]
    return Project(Graph(nodes, sources, tests), "month")


def month(of: Project, days: float, seed: int) -> Trace:
    """Landings by chance in every source, and a change of code a day."""
    rate = (A_WEEK - 7) / STAGING / 7
    lines = ["sources:", *(f"  raw.s{n}: {{poisson: {rate:.3f}/d}}" for n in range(STAGING)), "code: {poisson: 1/d}"]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "trace.yaml"
        path.write_text("\n".join(lines))
        return read_trace(path, of, days=days, seed=seed)


def main() -> None:
    """Replay each policy once, in this process, and print what it took."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--days", type=float, default=30.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--profile", action="store_true", help="where the time of today's policy goes")
    options = parser.parse_args()
    over = month(project(random.Random(options.seed)), options.days, options.seed)
    policies = variants(
        over,
        baselines=[("every 1h", Schedule(HOUR))],
        changes=[("marts 1d", (Change("mart*", 24 * HOUR),)), ("no windows", (Change("*", 0.0),))],
    )
    print(f"{len(over.happenings)} events in {options.days:g} days")
    for variant in policies:
        began = time.perf_counter()
        found = result(Replay(over, variant, Settings()).run())
        took = time.perf_counter() - began
        evaluations = found.outcome.evaluations
        each = took / evaluations * 1000
        print(
            f"{variant.name:10} {took:6.2f} s  {found.builds:6} builds  {evaluations:6} evaluations, {each:.2f} ms each"
        )
    if options.profile:
        profile = cProfile.Profile()
        profile.runcall(Replay(over, policies[0], Settings()).run)
        pstats.Stats(profile).sort_stats("cumtime").print_stats("sao_events", 25)


if __name__ == "__main__":
    main()
