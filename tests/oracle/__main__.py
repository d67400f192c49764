"""The nightly command: many random histories, each seed printed so that it can be played again."""

from __future__ import annotations

import argparse
import random
import shutil
import sys
import tempfile
import time
import traceback
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import dataclass, fields
from pathlib import Path
from queue import SimpleQueue
from random import Random

from tests.nest import Nest
from tests.nest import nest as nested
from tests.oracle.database import Database, DuckDatabase, PostgresDatabase
from tests.oracle.history import Counts, History
from tests.oracle.postgres import PostgresServer, missing, server
from tests.oracle.scratch import Dbt
from tests.oracle.shop import Shop
from tests.oracle.steps import play
from tests.oracle.subject import Generated

SHOPS = 0.25  # of the histories are about the example project
CUTOFFS = 0.6  # of them hash the content of all that is built


@dataclass(frozen=True)
class Outcome:
    """How a history went. `problem` is None where everything held."""

    seed: str
    seconds: float
    counts: Counts
    problem: str | None
    told: tuple[str, ...]


def one(
    seed: str,
    adapter: str,
    folder: Path,
    dbt: Dbt,
    nest: Nest,
    postgres: PostgresServer | None,
    length: int,
    project: str | None = None,
) -> Outcome:
    """One history in a new `folder`, which stays where something went wrong. `project`: `shop`, `generated`, or either
    as the seed has it.
    """
    began, rng = time.monotonic(), Random(f"{seed}/project")
    folder.mkdir(parents=True)
    database: Database
    if postgres is None:
        database = DuckDatabase(folder / "oracle.duckdb")
    else:
        database = PostgresDatabase(postgres, f"h_{folder.name}")
    shop = rng.random() < SHOPS if project is None else project == "shop"
    cutoff = Random(f"{seed}/{adapter}/{project}/cutoff").random() < CUTOFFS
    history = History(
        folder,
        Shop(folder, adapter) if shop else Generated(rng, adapter),
        database,
        dbt,
        nest,
        rng,
        in_git=rng.random() < 0.6,
        runs_at_once=1 if adapter == "duckdb" else rng.choice((1, 2)),
        cutoff=cutoff,
    )
    problem = None
    try:
        play(history, seed, length)
    except Exception as error:  # noqa: BLE001 (whatever it is, it is this history's outcome)
        problem = "".join(traceback.format_exception(error))
    finally:
        history.close()
        if problem is None:
            database.remove()
            shutil.rmtree(folder, ignore_errors=True)
    return Outcome(seed, time.monotonic() - began, history.counts, problem, tuple(history.told))


def many(
    seeds: Sequence[str], adapter: str, folder: Path, jobs: int, length: int, project: str | None = None
) -> list[Outcome]:
    """Histories side by side, each told of when it has ended."""
    found = list[Outcome]()
    with ExitStack() as stack:
        postgres = stack.enter_context(server()) if adapter == "postgres" else None
        nest = stack.enter_context(nested(adapter))
        free: SimpleQueue[Dbt] = SimpleQueue()
        for _ in range(jobs):
            free.put(stack.enter_context(closing(Dbt(nest))))
        pool = stack.enter_context(ThreadPoolExecutor(jobs))

        def run(number: int) -> None:
            dbt = free.get()
            try:
                found.append(one(seeds[number], adapter, folder / f"h{number}", dbt, nest, postgres, length, project))
            finally:
                free.put(dbt)
            tell(found[-1], len(found))

        for future in [pool.submit(run, number) for number in range(len(seeds))]:
            future.result()
    return found


def tell(outcome: Outcome, number: int) -> None:
    """One line for a history that went well, all that is known for one that did not."""
    told = ", ".join(f"{field.name} {getattr(outcome.counts, field.name)}" for field in fields(outcome.counts))
    print(
        f"{number}: {outcome.seed} {'FAILED' if outcome.problem else 'ok'} {outcome.seconds:.0f} s ({told})", flush=True
    )
    if outcome.problem:
        print("\n".join(f"    {line}" for line in outcome.told), outcome.problem, sep="\n", flush=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; its exit status: 1 where any history was unsound."""
    parser = argparse.ArgumentParser(prog="python -m tests.oracle", description=__doc__)
    parser.add_argument("--histories", type=int, default=200, help="how many (default: 200)")
    parser.add_argument("--seed", help="of the first; NAME/K is one history alone, as printed (default: by chance)")
    parser.add_argument("--adapter", choices=("duckdb", "postgres"), default="duckdb")
    parser.add_argument("--project", choices=("shop", "generated"), help="one of the two alone (default: both)")
    parser.add_argument("--steps", type=int, default=14, help="steps of each history (default: 14)")
    parser.add_argument("--jobs", type=int, default=2, help="histories side by side (default: 2)")
    parser.add_argument("--folder", type=Path, help="where to work; what failed stays there (default: a temporary one)")
    options = parser.parse_args(arguments)
    if options.adapter == "postgres" and (why := missing()):
        parser.error(why)
    seed = options.seed or str(random.randrange(10**9))
    seeds = [seed] if "/" in seed else [f"{seed}/{number}" for number in range(options.histories)]
    folder = options.folder or Path(tempfile.mkdtemp(prefix="sao-oracle-"))
    print(f"seed {seed}, {len(seeds)} histories on {options.adapter}, in {folder}", flush=True)
    began = time.monotonic()
    outcomes = many(seeds, options.adapter, folder, min(options.jobs, len(seeds)), options.steps, options.project)
    failed = [outcome.seed for outcome in outcomes if outcome.problem]
    totals = {field.name: sum(getattr(o.counts, field.name) for o in outcomes) for field in fields(Counts)}
    took = time.monotonic() - began
    print(f"{len(outcomes)} histories in {took:.0f} s, {len(failed)} failed: {failed or 'none'}; {totals}")
    if not failed and not options.folder:
        shutil.rmtree(folder, ignore_errors=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
