"""Whether what is called proven is true: random queries over random data, against dbt's own test queries.

    python -m tests.proof_oracle CASES [SEED] [--postgres]

On DuckDB, or on a PostgreSQL of its own, which refuses more of the queries.

For each output and each kind of test: where the claims that a proof asks for hold on the data, the test of the result
must pass. Prints the seed of what does not, and how often something was proven.
"""

from __future__ import annotations

import argparse
import random
import re
import sys
from collections import Counter
from collections.abc import Mapping
from contextlib import nullcontext
from typing import Any

import duckdb

from sao_events.core.claims import Claim
from sao_events.core.proof import needs, shape_of
from tests.oracle import postgres
from tests.oracle.postgres import PostgresServer

TABLES = {
    "a": {"id": "integer", "k": "integer", "v": "varchar", "s": "varchar", "d": "date", "x": "double"},
    "b": {"id": "integer", "a_id": "integer", "v": "varchar", "s": "varchar", "big": "bigint"},
    "c": {"k": "integer", "v": "varchar", "n": "varchar", "flag": "boolean", "x": "double"},
}
FAMILY = {
    "integer": "int",
    "bigint": "int",
    "varchar": "text",
    "date": "date",
    "boolean": "boolean",
    "double": "double",
}
VALUES = ("'p'", "'q'", "'r'")
DATA = {
    "integer": ("1", "2", "3", "4", "5", "6"),
    "bigint": ("1", "2", "3", "4"),
    "varchar": ("'p'", "'q'", "'r'", "'01'", "'1'", "'P'"),
    "date": ("date '2026-01-01'", "date '2026-01-02'", "date '2026-01-03'"),
    "boolean": ("true", "false"),
    "double": ("1.0", "2.5", "'nan'::double", "0.0", "-0.0"),
}


class Duck:
    """DuckDB in memory."""

    adapter = "duckdb"
    refusals: tuple[type[Exception], ...] = (duckdb.Error,)

    def __init__(self) -> None:
        self._connection = duckdb.connect()

    def clear(self) -> None:
        """Begin anew, without tables."""
        self._connection.close()
        self._connection = duckdb.connect()

    def run(self, statement: str) -> list[tuple[Any, ...]]:
        """The rows of a statement."""
        return self._connection.execute(statement).fetchall()


class Postgres:
    """A database of PostgreSQL."""

    adapter = "postgres"

    def __init__(self, server: PostgresServer) -> None:
        import psycopg2

        self.refusals: tuple[type[Exception], ...] = (psycopg2.Error,)
        self._cursor = server.connect().cursor()
        self._cursor.execute("set statement_timeout = 20000")

    def clear(self) -> None:
        """Begin anew, without tables."""
        self._cursor.execute("drop schema public cascade; create schema public")

    def run(self, statement: str) -> list[tuple[Any, ...]]:
        """The rows of a statement."""
        self._cursor.execute(re.sub(r"\bdouble\b", "double precision", statement))
        return self._cursor.fetchall() if self._cursor.description else []


def failures(database: Duck | Postgres, claim: Claim) -> int:
    """How many failures dbt's test of the claim counts; -1 where it ends in an error."""
    column, relation = claim.column, claim.relation
    query = {
        "not_null": f"select {column} from {relation} where {column} is null",
        "unique": f"select {column} from {relation} where {column} is not null group by {column} having count(*) > 1",
        "accepted_values": f"select * from (select {column} as f, count(*) from {relation} group by {column}) v "
        f"where f not in ({', '.join(claim.values) or 'null'})",
        "relationships": f"with child as (select {column} as f from {relation} where {column} is not null), "
        f"parent as (select {claim.field} as t from {claim.to}) "
        "select f from child left join parent on f = t where t is null",
    }[claim.kind]
    try:
        [(found,)] = database.run(f"select count(*) from ({query}) failed")
    except database.refusals:  # the values are of another type than the column
        return -1
    return int(found)


class Maker:
    """Random tables and queries."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.number = 0

    def pick(self, *things: str) -> str:
        """One of them."""
        return self.random.choice(things)

    def chance(self, share: float) -> bool:
        """True with this probability."""
        return self.random.random() < share

    def name(self, prefix: str) -> str:
        """A new name."""
        self.number += 1
        return f"{prefix}{self.number}"

    def table(self, name: str, columns: Mapping[str, str]) -> list[str]:
        """Statements that make a table; some of its columns are unique, some never null."""
        rows, parts = self.random.choice((0, 1, 3, 5, 8)), []
        for kind in columns.values():
            pool, unique, full = DATA[kind], self.chance(0.5), self.chance(0.5)
            if unique:
                values = self.random.sample(pool, min(rows, len(pool)))
                values += ["null"] * (rows - len(values))
            else:
                values = [self.random.choice(pool) for _ in range(rows)]
            if not full:
                values = [value if self.chance(0.8) else "null" for value in values]
            self.random.shuffle(values)
            parts.append(values)
        made = [f"create table {name} ({', '.join(f'{c} {k}' for c, k in columns.items())})"]
        return made + [f"insert into {name} values ({', '.join(row)})" for row in zip(*parts, strict=True)]

    # Queries: each gives its text and the names of its outputs, with a rough type.

    def query(self, depth: int) -> tuple[str, dict[str, str]]:
        """A query of at most that depth."""
        if depth > 0 and self.chance(0.12):
            return self.union(depth)
        return self.select(depth)

    def source(self, depth: int) -> tuple[str, dict[str, str]]:
        """Something to select from."""
        if depth <= 0 or self.chance(0.55):
            name = self.pick(*TABLES)
            return name, dict(TABLES[name])
        text, columns = self.query(depth - 1)
        return f"({text})", columns

    def union(self, depth: int) -> tuple[str, dict[str, str]]:
        """Two queries of the same columns, one below the other."""
        wanted = self.random.sample(["integer", "varchar", "date"], self.random.choice((1, 2)))
        parts, names = [], dict[str, str]()
        for _ in range(self.random.choice((2, 2, 3))):
            text, columns = self.query(depth - 1)
            listed = []
            for place, kind in enumerate(wanted):
                fitting = [f"u.{column}" for column, of in columns.items() if of == kind] or ["null"]
                listed.append(f"{self.pick(*fitting, self.literal(kind))} as c{place}")
                names[f"c{place}"] = kind
            parts.append(f"select {', '.join(listed)} from ({text}) u")
        return f" union {self.pick('all ', '', 'all ')}".join(parts), names

    def literal(self, kind: str) -> str:
        """A literal of that type."""
        return self.pick(*DATA.get(kind, ("null",)))

    def select(self, depth: int) -> tuple[str, dict[str, str]]:
        """One select with everything that may be in it."""
        aliases: dict[str, dict[str, str]] = {}
        text, columns = self.source(depth)
        first = self.name("t")
        aliases[first] = columns
        clause = f"from {text} as {first}"
        single = self.chance(0.5)
        for _ in range(0 if single else self.random.choice((1, 1, 2))):
            clause += self.join(depth, aliases)
        every = {f"{alias}.{c}": kind for alias, of in aliases.items() for c, kind in of.items()}
        if not every:
            return f"select 1 as one {clause}", {"one": "integer"}
        where = f" where {self.condition(every, 2)}" if self.chance(0.5) else ""
        if self.chance(0.2):
            return self.grouped(every, f"{clause}{where}")
        if single and self.chance(0.25):
            return self.first_rows(first, aliases[first], f"{clause}{where}")
        if single and self.chance(0.2):
            return self.starred(first, aliases[first], f"{clause}{where}")
        outputs = self.outputs(every, bare=single)
        limit = self.pick(" limit 2", " limit 0") if self.chance(0.05) else ""
        distinct = "distinct " if self.chance(0.12) else ""
        if self.chance(0.06):
            on = self.pick(*every)
            distinct = f"distinct on ({on}) "
        listed = ", ".join(f"{value} as {name}" for name, (value, _) in outputs.items())
        return f"select {distinct}{listed} {clause}{where}{limit}", {n: kind for n, (_, kind) in outputs.items()}

    def join(self, depth: int, aliases: dict[str, dict[str, str]]) -> str:
        """One more source."""
        text, columns = self.source(depth - 1)
        alias = self.name("t")
        before = {f"{a}.{c}": kind for a, of in aliases.items() for c, kind in of.items()}
        mine = {f"{alias}.{c}": kind for c, kind in columns.items()}
        aliases[alias] = columns
        if not before or not mine or self.chance(0.06):
            return f" cross join {text} as {alias}"
        parts = [self.equality(before, mine) for _ in range(self.random.choice((1, 1, 1, 2)))]
        if self.chance(0.2):
            parts.append(self.condition({**before, **mine}, 1))
        kind = self.pick("join", "left join", "left join", "right join", "full join", "inner join")
        return f" {kind} {text} as {alias} on {' and '.join(parts)}"

    def equality(self, before: Mapping[str, str], mine: Mapping[str, str]) -> str:
        """Something that is equal on both sides, of about the same type."""
        left = self.pick(*before)
        like = {"integer", "bigint"} if before[left] in {"integer", "bigint"} else {before[left]}
        fitting = [column for column, kind in mine.items() if kind in like or self.chance(0.1)]
        fitting = [column for column in fitting if kind_fits(before[left], mine[column])]
        if not fitting:
            return f"{self.pick(*mine)} is not null"
        return f"{left} = {self.pick(*fitting)}"

    def condition(self, columns: Mapping[str, str], depth: int) -> str:
        """A condition over the columns."""
        if depth and self.chance(0.3):
            joined = self.pick(" and ", " or ", " and ").join(self.condition(columns, depth - 1) for _ in range(2))
            return f"({joined})"
        column = self.pick(*columns)
        kind = columns[column]
        value = self.literal(kind)
        choices = [
            f"{column} is not null",
            f"{column} is not null",
            f"{column} is null",
            f"{column} = {value}",
            f"{column} in ({value}, {self.literal(kind)})",
            f"{column} not in ({value})",
            f"not ({column} = {value})",
            f"coalesce({column}, {value}) = {value}",
            f"{column} in (select u.{column.split('.')[1]} from ({self.source(0)[0]}) u limit 0)"
            if self.chance(0.02)
            else f"{column} >= {value}",
            f"({column} is null) = false",
        ]
        if kind == "integer":
            choices += [f"{column} in (select id from a)", f"{column} in (select a_id from b)"]
            choices += [f"not ({column} in (select id from a where k = 2))"]
        same = [other for other, of in columns.items() if of == kind and other != column]
        if same:
            choices += [f"{column} = {self.pick(*same)}"] * 2
        return self.pick(*choices)

    def value(self, columns: Mapping[str, str]) -> tuple[str, str]:
        """An expression and its rough type."""
        column = self.pick(*columns)
        kind = columns[column]
        if self.chance(0.6):
            return column, kind
        other = self.pick(*[c for c, of in columns.items() if of == kind])
        condition = self.condition(columns, 1)
        made = [
            (f"coalesce({column}, {self.literal(kind)})", kind),
            (f"coalesce({column}, {other})", kind),
            (f"nullif({column}, {self.literal(kind)})", kind),
            (f"case when {condition} then {column} else {self.literal(kind)} end", kind),
            (f"case when {column} is not null then {column} else {self.literal(kind)} end", kind),
            (f"case when {condition} then {self.literal(kind)} when {condition} then {other} end", kind),
            (f"try_cast({column} as integer)", "integer") if kind in {"varchar", "double"} else (column, kind),
            (f"cast({column} as varchar)", "varchar"),
            (self.literal(kind), kind),
            ("null", "null"),
            (f"case when random() < 0.5 then {column} end", kind),
            (f"row_number() over (partition by {column})", "bigint"),
            (f"max({column}) over (partition by {other})", kind),
            (f"unnest([{column}, {other}])", kind) if self.chance(0.3) else (f"({column})", kind),
        ]
        if kind in {"integer", "bigint"}:
            made += [(f"{column} + {other}", kind), (f"{column} // 2", kind), (f"{column} % 2", kind)]
        if kind == "varchar":
            made += [(f"lower({column})", kind), (f"{column} || {other}", kind), (f"{column} || 'z'", kind)]
        return self.random.choice(made)

    def outputs(self, columns: Mapping[str, str], *, bare: bool = False) -> dict[str, tuple[str, str]]:
        """Named expressions; some take the name of a column of the sources."""
        found = {}
        for _ in range(self.random.choice((1, 2, 3, 4))):
            value, kind = self.value(columns)
            name = self.pick(value.split(".")[1], self.name("o")) if value in columns else self.name("o")
            if bare and self.chance(0.15):
                name = self.pick(*columns).split(".")[1]
            if bare and value in columns and self.chance(0.5):
                value = value.split(".")[1]
            found[name] = value, kind
        return found

    def grouped(self, columns: Mapping[str, str], rest: str) -> tuple[str, dict[str, str]]:
        """A select with groups."""
        keys = {f"g{place}": self.value(columns) for place in range(self.random.choice((0, 1, 1, 2)))}
        keys = {n: v for n, v in keys.items() if not any(w in v[0] for w in ("over", "unnest", "random", "select"))}
        if self.chance(0.15):
            column = self.pick(*columns)
            keys = {column.split(".")[1]: (f"coalesce({column}, {column})", columns[column])}
        aggregates = {}
        for _ in range(self.random.choice((1, 2))):
            column = self.pick(*columns)
            made = [(f"max({column})", columns[column]), ("count(*)", "bigint"), (f"count({column})", "bigint")]
            made += [(f"max({column}) filter (where {self.condition(columns, 0)})", columns[column])]
            aggregates[self.name("m")] = self.random.choice(made)
        named = {**keys, **aggregates}
        listed = ", ".join(f"{value} as {name}" for name, (value, _) in named.items())
        places = ", ".join(str(place + 1) for place in range(len(keys)))
        texts = ", ".join(value for value, _ in keys.values())
        by = self.pick(places, texts, "all", ", ".join(keys)) if keys else ""
        if texts and self.chance(0.15):
            by = self.pick(f"rollup ({texts})", f"cube ({texts})", f"grouping sets (({texts}), ())")
        having = self.pick("", "", " having count(*) > 1")
        return f"select {listed} {rest}{f' group by {by}' if by else ''}{having}", {n: k for n, (_, k) in named.items()}

    def first_rows(self, alias: str, columns: Mapping[str, str], rest: str) -> tuple[str, dict[str, str]]:
        """The first row of each partition, in two ways."""
        by = [column for column in columns if self.chance(0.4)][:2]
        parted = f"partition by {', '.join(by)} " if by else ""
        window = f"row_number() over ({parted}order by {self.pick(*columns)})"
        number = self.pick("rn", "rn", self.pick(*columns))
        kept = {name: kind for name, kind in columns.items() if name != number}
        test = self.pick("= 1", "= 1", "= 1", "<= 1", "= 2")
        if self.chance(0.4):
            return f"select {alias}.* {rest} qualify {window} {test}", dict(columns)
        listed = self.pick("*", f"{alias}.*", ", ".join([*kept]) or "1")
        inner = f"select {listed}, {window} as {number} {rest}"
        if not kept:
            return inner, {}
        return f"select {', '.join(kept)} from ({inner}) r where {number} {test}", kept

    def starred(self, alias: str, columns: Mapping[str, str], rest: str) -> tuple[str, dict[str, str]]:
        """All columns, some left out or replaced."""
        dropped = self.pick(*columns)
        left = {name: kind for name, kind in columns.items() if name != dropped}
        if left and self.chance(0.4):
            return f"select {self.pick('*', f'{alias}.*')} exclude ({dropped}) {rest}", left
        if self.chance(0.4):
            return (
                f"select * replace (coalesce({dropped}, {self.literal(columns[dropped])}) as {dropped}) {rest}",
                dict(columns),
            )
        return f"select {self.pick('*', f'{alias}.*')} {rest}", dict(columns)


def kind_fits(one: str, other: str) -> bool:
    """Whether the two can be compared at all."""
    numbers = {"integer", "bigint", "double"}
    return one == other or {one, other} <= numbers or {one, other} == {"integer", "varchar"}


def case(seed: int, counts: Counter[str], database: Duck | Postgres | None = None) -> list[str]:
    """One random case; what was called proven and is not true."""
    maker, database = Maker(seed), database or Duck()
    database.clear()
    for name, columns in TABLES.items():
        for statement in maker.table(name, columns):
            database.run(statement)
    text, outputs = maker.query(maker.random.choice((0, 1, 2, 3)))
    try:
        database.run(f"create table result as {text}")
    except database.refusals:
        counts["refused"] += 1
        return []
    counts["queries"] += 1
    open_tables = maker.chance(0.3)
    known = {} if open_tables else {t: {c: FAMILY[k] for c, k in of.items()} for t, of in TABLES.items()}
    found = []
    for column in outputs:
        for claim in claims(column):
            options = needs(claim, shape_of(text, database.adapter, known.get), database.adapter)
            counts[f"{claim.kind} possible"] += bool(options)
            for option in options:
                if all(failures(database, premise) == 0 for premise in option):
                    counts[f"{claim.kind} proven"] += 1
                    if wrong := failures(database, claim):
                        found.append(f"seed {seed}: {claim} has {wrong} failures, from {sorted(option)}\n  {text}")
    return found


def claims(column: str) -> list[Claim]:
    """What is asked of each output."""
    return [
        Claim("result", "not_null", column),
        Claim("result", "unique", column),
        Claim("result", "accepted_values", column, VALUES),
        Claim("result", "accepted_values", column, ("1", "2", "3")),
        Claim("result", "relationships", column, to="a", field="id"),
        Claim("result", "relationships", column, to="c", field="v"),
    ]


def main(cases: int, seed: int, server: PostgresServer | None = None) -> int:
    """Run that many cases; the number of violations."""
    database = Postgres(server) if server else Duck()
    counts, wrong = Counter[str](), 0
    for number in range(seed, seed + cases):
        for problem in case(number, counts, database):
            wrong += 1
            print(problem)
    print(f"seeds {seed} to {seed + cases - 1}: {wrong} violations; {dict(sorted(counts.items()))}")
    return wrong


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("cases", type=int)
    parser.add_argument("seed", type=int, nargs="?", default=random.randrange(10**6))
    parser.add_argument("--postgres", action="store_true", help="on a PostgreSQL of its own; else on DuckDB")
    options = parser.parse_args()
    with postgres.server() if options.postgres else nullcontext() as started:
        sys.exit(1 if main(options.cases, options.seed, started) else 0)
