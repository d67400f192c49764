"""Latency of a build through dbt, warm beside one process for each build: to the first node, and to the end.

Generates a project on DuckDB (a seed, views, tables, two tests for each model), then builds one table of it again and
again, by one runner and by the other. Prints medians, and their ratio in this run.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from sao_events.core.project import Project
from sao_events.dbt import DbtBuilder, DbtSettings, open_builder
from sao_events.ports import NodeBegan, NodeEnded, Piece, PieceEnded
from tests.dbt_projects import layered, write_project


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--models", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = write_project(Path(folder) / "project", layered(options.models))
        print(f"{options.models} models, {2 * options.models} tests, {options.rounds} rounds")
        found = {kind: measure(kind, root, Path(folder) / kind, options.rounds) for kind in ("warm", "subprocess")}
    for index, what in enumerate(("to the first node", "to the end")):
        warm, cold = (found[kind][index] for kind in ("warm", "subprocess"))
        print(f"{what:18} warm {warm:6.3f} s   subprocess {cold:6.3f} s   ratio {cold / warm:5.1f}")


def measure(kind: str, root: Path, state: Path, rounds: int) -> tuple[float, float]:
    """Median seconds to the first node and to the end."""
    settings = DbtSettings(root, state, runner="warm" if kind == "warm" else "subprocess")
    with closing(open_builder(settings)) as builder:
        before = time.perf_counter()
        project = builder.load().project
        print(f"{kind:10} parsed in {time.perf_counter() - before:.1f} s", flush=True)
        table = next(node for node in project.graph.nodes.values() if node.kind == "table")
        needed = tuple(node for node in project.graph.ancestors([table.id]) if node != table.id)
        list(build(builder, project, "prepare", needed))
        times = [list(build(builder, project, f"round-{index}", (table.id,))) for index in range(rounds)]
    return statistics.median(t[0] for t in times), statistics.median(t[1] for t in times)


def build(builder: DbtBuilder, project: Project, name: str, nodes: tuple[str, ...]) -> Iterator[float]:
    """Seconds until the first node began and until the piece ended."""
    before, began = time.perf_counter(), False
    builder.start(Piece(name, f"run-{name}", nodes, (), ""), project)
    while True:
        for report in builder.reports():
            if isinstance(report, NodeBegan) and not began:
                began = True
                yield time.perf_counter() - before
            elif isinstance(report, NodeEnded) and report.status != "success":
                sys.exit(f"{report.node}: {report.message}")
            elif isinstance(report, PieceEnded):
                yield time.perf_counter() - before
                return
        time.sleep(0.001)


if __name__ == "__main__":
    main()
