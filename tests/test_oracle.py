"""A few random histories of the real service on real warehouses; `python -m tests.oracle` has as many as one likes.

The seeds here are always the same, so that a change is told from bad luck; the command takes new ones and prints them.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from tests.nest import Nest, nest
from tests.nightly import NIGHTLY, by_night
from tests.oracle import postgres
from tests.oracle.__main__ import one
from tests.oracle.scratch import Dbt

STEPS = 7 if NIGHTLY else 4


@pytest.fixture(scope="module")
def hatched() -> Iterator[Nest]:
    pytest.importorskip("dbt.cli", reason="dbt is not installed: install the extra [dbt]")
    with nest() as started:
        yield started


@pytest.mark.dbt
@pytest.mark.slow
@pytest.mark.parametrize(
    ("adapter", "project"),
    [("duckdb", "shop"), pytest.param("duckdb", "generated", marks=by_night), ("postgres", "generated")],
)
def test_at_rest_the_warehouse_is_that_of_a_full_build(
    adapter: str, project: str, tmp_path: Path, hatched: Nest
) -> None:
    if adapter == "postgres" and (why := postgres.missing()):
        pytest.skip(why)
    seed = "1/0"
    with ExitStack() as stack:
        server = stack.enter_context(postgres.server()) if adapter == "postgres" else None
        dbt = stack.enter_context(closing(Dbt(hatched)))
        outcome = one(seed, adapter, tmp_path / "h0", dbt, hatched, server, STEPS, project)
    again = f"python -m tests.oracle --adapter {adapter} --project {project} --steps {STEPS} --seed {seed}"
    assert outcome.problem is None, "\n".join((again, *outcome.told, outcome.problem))
    assert outcome.counts.compared > 0
