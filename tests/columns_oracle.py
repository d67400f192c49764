"""Whether what is called unchanged is: random edits of random queries and of what they read, on random data in DuckDB.

    python -m tests.columns_oracle CASES [SEED]

Two versions of a model are run, and a reader over each. The columns that are said to be unchanged, if the rows are,
hold the same rows; a reader that is said to be spared gives the same. What comes of the composition of identities is
held to the same rule. Prints the seed of what does not hold, and how often something was rightly called unchanged.
"""

from __future__ import annotations

import random
import sys
from collections import Counter
from collections.abc import Sequence

import duckdb

from sao_events.core.columns import Analysis, Whole, analyse
from sao_events.core.lineage import Code, Reading
from tests.random_queries import TABLES, Maker, everything, fill, rows


def taken_apart(text: str) -> tuple[Analysis | None, Code]:
    """The analysis of a query and its code; as one piece where there is no analysis."""
    try:
        found = analyse(text, "duckdb")
    except Whole:
        return None, Code(text)
    return found, found.code


def reading_of(found: Analysis | None) -> Reading:
    """How the query reads the model and the tables, which are their own ids."""
    return found.reading({name: name for name in ("m", *TABLES)}) if found else Reading()


def shared(old: Code, new: Code) -> list[str] | None:
    """The columns that are said to be as they were; None where the rows may be others."""
    if old.base != new.base:
        return None
    known = dict(old.columns)
    return [name for name, identity in new.columns if known.get(name) == identity]


def built(connection: duckdb.DuckDBPyConnection, name: str, text: str) -> bool:
    """Make a table of a query; whether that is possible."""
    try:
        connection.execute("select setseed(0.5)")
        connection.execute(f"create or replace table {name} as {text}")
    except duckdb.Error:
        return False
    return True


def case(seed: int, found: Counter[str]) -> list[str]:
    """What does not hold in one case; counts in `found` what was said."""
    maker = Maker(seed)
    with duckdb.connect(":memory:") as connection:
        connection.execute("set threads = 1")
        fill(connection, maker.random)
        model = maker.model(dict(TABLES))
        old, new = model.sql(), maker.edited(model).sql()
        if not (built(connection, "old_m", old) and built(connection, "new_m", new)):
            found["not valid"] += 1
            return []
        columns = tuple(name for name, *_ in connection.execute("describe old_m").fetchall())
        (before, own), (after, edited) = taken_apart(old), taken_apart(new)
        found["model taken apart"] += before is not None
        found["cases"] += 1
        problems = [f"model: {problem}" for problem in compared(connection, "m", own, edited, found)]
        reader = maker.model({"m": columns, "t1": TABLES["t1"]}).sql()
        seen, code = taken_apart(reader)
        made = []
        for version in ("old", "new"):
            connection.execute(f"create or replace view m as select * from {version}_m")
            made.append(built(connection, f"{version}_r", reader))
        if " m " not in f"{reader} " or not made[0]:
            return problems
        found["readers"] += 1
        reading = reading_of(seen)
        parents = [{"m": reading_of(a).compose(c, {})} for a, c in ((before, own), (after, edited))]
        if reading.sees("m", parents[0]["m"]) == reading.sees("m", parents[1]["m"]):
            found["readers spared"] += 1
            if not made[1]:
                problems.append(f"a reader was spared that can no longer be built: {reader}")
            elif everything(connection, "old_r") != everything(connection, "new_r"):
                problems.append(f"a reader was spared: {reader}")
        elif made[1] and everything(connection, "old_r") == everything(connection, "new_r"):
            found["readers built in vain"] += 1
        if made[1]:
            whole = [reading.compose(code, parent) for parent in parents]
            problems += [f"reader: {p}: {reader}" for p in compared(connection, "r", whole[0], whole[1], found)]
        return [f"{problem}\n  {old}\n  {new}" for problem in problems]


def compared(connection: duckdb.DuckDBPyConnection, name: str, old: Code, new: Code, found: Counter[str]) -> list[str]:
    """What is said to be unchanged between old and new, and is not."""
    names = shared(old, new)
    if names is None:
        return []
    found[f"{name}: rows said to be the same"] += 1
    found[f"{name}: columns said to be the same"] += len(names)
    before, after = rows(connection, f"old_{name}", names), rows(connection, f"new_{name}", names)
    return [] if before == after else [f"{names} differ"]


def main(arguments: Sequence[str]) -> int:
    """Run the cases; 1 where something does not hold."""
    cases = int(arguments[0]) if arguments else 2000
    first = int(arguments[1]) if len(arguments) > 1 else random.SystemRandom().randrange(10**9)
    found, wrong = Counter[str](), 0
    for seed in range(first, first + cases):
        for problem in case(seed, found):
            wrong += 1
            print(f"seed {seed}: {problem}")
    print(f"seeds {first} to {first + cases - 1}: {wrong} violations; {dict(sorted(found.items()))}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
