"""A few random histories of the real service on real warehouses; `python -m tests.oracle` has as many as one likes.

The seeds here are always the same, so that a change is told from bad luck; the command takes new ones and prints them.
"""

from __future__ import annotations

from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from tests.nightly import NIGHTLY, by_night
from tests.oracle import postgres
from tests.oracle.__main__ import one
from tests.oracle.nest import nest
from tests.oracle.scratch import Dbt

STEPS = 7 if NIGHTLY else 4


@pytest.mark.dbt
@pytest.mark.slow
@pytest.mark.parametrize(
    ("adapter", "project"),
    [("duckdb", "shop"), pytest.param("duckdb", "generated", marks=by_night), ("postgres", "generated")],
)
def test_at_rest_the_warehouse_is_that_of_a_full_build(adapter: str, project: str, tmp_path: Path) -> None:
    pytest.importorskip("dbt.cli", reason="dbt is not installed: install the extra [dbt]")
    if adapter == "postgres" and (why := postgres.missing()):
        pytest.skip(why)
    seed = "1/0"
    with ExitStack() as stack:
        server = stack.enter_context(postgres.server()) if adapter == "postgres" else None
        hatched = stack.enter_context(nest(adapter))
        dbt = stack.enter_context(closing(Dbt(hatched)))
        outcome = one(seed, adapter, tmp_path / "h0", dbt, hatched, server, STEPS, project)
    again = f"python -m tests.oracle --adapter {adapter} --project {project} --steps {STEPS} --seed {seed}"
    assert outcome.problem is None, "\n".join((again, *outcome.told, outcome.problem))
    assert outcome.counts.compared > 0
