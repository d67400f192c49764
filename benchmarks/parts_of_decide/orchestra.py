"""The decision step of dbt-orchestra on the graph that comes as JSON on standard input; prints seconds.

Run with a Python that has dbt-orchestra, in an environment of its own. What is measured is its pass over nodes whose
state is loaded: `propagate_freshness_config` and `calculate_nodes_to_run`.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from datetime import UTC, datetime, timedelta
from importlib import import_module
from typing import Any

TIMES = 3


def main() -> None:
    """Make the graph, decide some times, print the median."""
    given = json.load(sys.stdin)
    models, sao, windows = (import_module(f"orchestra_dbt.{part}") for part in ("models", "sao", "build_after"))
    taken = []
    for _ in range(TIMES):
        dag = _dag(models, given)
        start = time.process_time()
        windows.propagate_freshness_config(dag)
        sao.calculate_nodes_to_run(dag)
        taken.append(time.process_time() - start)
    print(statistics.median(taken))


def _dag(models: Any, given: dict[str, Any]) -> Any:
    now = datetime.now(UTC)
    built = now - timedelta(hours=5)
    nodes: dict[str, Any] = {}
    for name in given["sources"]:
        landed = now if name == given["landed"] else built - timedelta(hours=1)
        nodes[name] = models.SourceNode(last_updated=landed)
    for name, (reads, minutes, quorum) in given["nodes"].items():
        nodes[name] = models.MaterialisationNode(
            last_updated=built, asset_external_id=name, checksum=name, dbt_path=name, file_path=name, reason="same",
            freshness_config=models.FreshnessConfig(minutes_sla=minutes or None, updates_on=quorum),
            freshness=models.Freshness.CLEAN, sources={up: built for up in reads if up in given["sources"]},
        )  # fmt: skip
    edges = [models.Edge(from_=up, to_=name) for name, (reads, _, _) in given["nodes"].items() for up in reads]
    return models.ParsedDag(nodes=nodes, edges=edges)


if __name__ == "__main__":
    main()
