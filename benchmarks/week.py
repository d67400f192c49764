"""A week of a dbt project, really built: sao-events beside an hourly full build and dbt's own selectors.

    python benchmarks/week.py [--days 7] [--seed 1] [--ways service lazy full selectors] [--sampled 6]

The project is generated: 60 models on 8 sources, 58 tests, on DuckDB; marts have a window of 4 hours. In a week there
are some 400 landings and edits, the same for every way of running it. Only the clock is shifted: every build is dbt's.
Prints for each way what was built and tested, what it cost, how stale it left the models beyond their windows, and how
many tables differ at the end from a build from scratch; beside it the least builds that the windows allow.

`service`: the log, engine, deployer and warm dbt of sao-events. `lazy`: the same, staging and intermediate models
`lazy`. `full`: all models every hour, by the same warm dbt; a sample of its jobs is repeated as `dbt build` processes.
`selectors`: `dbt source freshness` and `dbt build --select state:modified+ source_status:fresher+` every hour; a
sample is timed as users run it and stands for all. A whole week takes about half an hour on two cores.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from random import Random

sys.path.insert(0, str(Path(__file__).parents[1]))

import duckdb

from benchmarks.parts_of_week.account import Ledger, Truth, least, marts, others
from benchmarks.parts_of_week.commands import Imported, in_process
from benchmarks.parts_of_week.hourly import Sampled, everything, selectors
from benchmarks.parts_of_week.project import HOUR, WINDOW, Happening, Layout, Place, first_layout, week
from benchmarks.parts_of_week.service import Outcome, Week

WAYS = ("service", "lazy", "full", "selectors")


def main() -> None:
    """Run each way over the same week and print what it came to."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--days", type=float, default=7.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=WAYS)
    parser.add_argument("--sampled", type=int, default=6, help="jobs that are also timed as processes of their own")
    options = parser.parse_args()
    rng = Random(options.seed)
    layout = first_layout(rng)
    happenings = week(rng, layout, options.days)
    truth, jobs = Truth.of(layout, happenings), round(options.days * 24)
    print(f"seed {options.seed}, {options.days:g} days: {told(happenings)}; {len(layout.models)} models and a seed\n")
    for lazy in (False, True):
        fewest = least(truth, lazy=lazy)
        print(f"least builds that the windows allow{', lazy below the marts' if lazy else '':24} {total(fewest):6}")
    print(f"\n{'':22}  built  tests  jobs   wall s    cpu s   worst h  beyond s  behind s  wrong  differ")
    with tempfile.TemporaryDirectory() as folder:
        for way in options.ways:
            run(way, Path(folder) / way, layout, happenings, jobs, options.sampled, truth)


def told(happenings: Sequence[Happening]) -> str:
    """What happens in the week, counted."""
    kinds = Counter("edit" if happening.layout else happening.what for happening in happenings)
    return f"{kinds['load']} loads, {kinds['again']} told again, {kinds['edit']} edits"


def total(counts: Counter[str]) -> int:
    """Builds of models; the seed is left out, as everywhere here."""
    return sum(number for name, number in counts.items() if name != "regions")


def run(
    way: str, folder: Path, layout: Layout, happenings: Sequence[Happening], jobs: int, sampled: int, truth: Truth
) -> None:
    """One way of running the week: a line of the table, and what is to be told below it."""
    place = Place(folder / "project", layout, lazy=way == "lazy")
    cold: Sampled | None = None
    if way in ("service", "lazy"):
        outcome = Week(place, folder / "state").run(happenings)
    elif way == "full":
        outcome, cold = everything(place, folder / "state", happenings, jobs, sampled)
    else:
        with closing(Imported()) as imported:
            outcome, cold = selectors(place, happenings, jobs, sampled, imported)
    print(line(way, outcome, truth, layout, differing(place, folder / "scratch")), flush=True)
    if way == "full" and cold and cold.costs:
        mean = cold.mean()
        print(f"  {'as dbt build processes':20} {'':18} {mean.wall * jobs:8.0f} {mean.cpu * jobs:8.0f}   by a sample")
    by_time = sorted(outcome.parts.items(), key=lambda item: -item[1])
    parts = ", ".join(f"{part} {seconds:.0f}" for part, seconds in by_time if seconds >= 0.5)
    print(f"  of it seconds: {parts}" if parts else "", flush=True)


def line(way: str, outcome: Outcome, truth: Truth, layout: Layout, differ: int) -> str:
    """The numbers of one way. Marts may be as stale as their window, everything else not at all."""
    built = [one for one in outcome.built if one.node != "regions"]
    ledger = Ledger(truth, outcome.built)
    until = outcome.until
    with_window = ledger.staleness(marts(layout), WINDOW, until)
    without = ledger.staleness(others(layout), 0.0, until)
    worst, mean = max(with_window.worst, without.worst), (with_window.mean + without.mean) / 2
    wrong, behind = len(ledger.wrong(until)), (with_window.behind + without.behind) / 2
    numbers = f"{len(built):6} {outcome.tests:6} {outcome.jobs:5} {outcome.wall:8.0f} {outcome.cpu:8.0f}"
    return f"{way:22} {numbers} {worst / HOUR:9.2f} {mean:9.0f} {behind:9.0f} {wrong:6} {differ:7}"


def differing(place: Place, scratch: Path) -> int:
    """How many models hold other rows than a build from scratch of the same files over the same sources."""
    rebuilt = Place(scratch, Layout({}), lazy=place.lazy)
    for name in ("models", "macros", "seeds", "tests"):
        copy(place.folder / name, scratch / name)
    copy(place.folder / "dbt_project.yml", scratch / "dbt_project.yml")
    with duckdb.connect(str(rebuilt.warehouse)) as connection:
        connection.execute(f"attach '{place.warehouse}' as was (read_only)")
        for (table,) in connection.execute(
            "select table_name from duckdb_tables() where database_name = 'was' and schema_name = 'raw'"
        ).fetchall():
            connection.execute(f"create or replace table raw.{table} as select * from was.raw.{table}")
    in_process(scratch, ["build"])
    with duckdb.connect(str(rebuilt.warehouse)) as connection:
        connection.execute(f"attach '{place.warehouse}' as was (read_only)")
        names = connection.execute(
            "select table_name from information_schema.tables where table_catalog = ? and table_schema = 'main'",
            [rebuilt.warehouse.stem],
        ).fetchall()
        return sum(map(bool, (different(connection, name) for (name,) in names)))


def different(connection: duckdb.DuckDBPyConnection, name: str) -> bool:
    """Whether the relation holds other rows or columns in the two warehouses."""
    there = f"main.{name}", f"was.main.{name}"
    columns = [connection.execute(f"describe {one}").fetchall() for one in there]
    if columns[0] != columns[1]:
        return True
    pairs = (there, there[::-1])
    return any(connection.execute(f"from {a} except all from {b} limit 1").fetchall() for a, b in pairs)


def copy(there: Path, here: Path) -> None:
    """A file, or a folder with all in it, in the place of what is here."""
    if there.is_dir():
        shutil.rmtree(here, ignore_errors=True)
        shutil.copytree(there, here)
    else:
        shutil.copyfile(there, here)


if __name__ == "__main__":
    main()
