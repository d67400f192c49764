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
from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass, field

import duckdb

from sao_events.columns import Analysis, Whole, analyse
from sao_events.lineage import Code, Reading

TABLES = {"t1": ("id", "g", "x", "s"), "t2": ("id", "g", "y", "s"), "t3": ("id", "x", "y", "z")}
JOINS = ("join", "left join", "right join", "full join", "cross join")
Rows = Counter[tuple[object, ...]]


@dataclass
class Select:
    """One select, as text in pieces that can be edited."""

    source: str
    alias: str
    columns: list[tuple[str, str]]
    joins: list[list[str]] = field(default_factory=list)
    where: str = ""
    group: list[str] = field(default_factory=list)
    having: str = ""
    qualify: str = ""
    distinct: str = ""
    order: str = ""
    star: str = ""
    union: tuple[str, Select] | None = None

    def sql(self) -> str:
        """The text."""
        outputs = ([self.star] if self.star else []) + [f"{e} as {name}" for e, name in self.columns]
        text = f"select {self.distinct} {', '.join(outputs)} from {self.source} {self.alias}"
        text += "".join(f" {kind} {table} {alias} {on}" for kind, table, alias, on in self.joins)
        for word, part in (("where", self.where), ("group by", ", ".join(self.group)), ("having", self.having)):
            text += f" {word} {part}" if part else ""
        text += f" qualify {self.qualify}" if self.qualify else ""
        text += f" {self.union[0]} {self.union[1].sql()}" if self.union else ""
        return text + (f" order by {self.order}" if self.order else "")


@dataclass
class Model:
    """A query with its CTEs."""

    ctes: list[tuple[str, Select]]
    final: Select

    def sql(self) -> str:
        """The text."""
        ctes = ", ".join(f"{name} as ({query.sql()})" for name, query in self.ctes)
        return f"with {ctes} {self.final.sql()}" if ctes else self.final.sql()

    def selects(self) -> list[Select]:
        """All of its selects."""
        found = [query for _, query in self.ctes] + [self.final]
        return found + [query.union[1] for query in found if query.union]


class Maker:
    """Random models and random edits."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.number = 0

    def chance(self, share: float) -> bool:
        """True with this probability."""
        return self.random.random() < share

    def name(self, prefix: str) -> str:
        """A new name."""
        self.number += 1
        return f"{prefix}{self.number}"

    def expression(self, names: Sequence[str], depth: int = 2, inner: bool = True) -> str:
        """An expression of integers over the columns `names`."""
        pick = self.random.choice
        if depth == 0 or self.chance(0.3):
            return pick(names) if self.chance(0.85) else str(self.random.randint(-2, 4))

        def part() -> str:
            return self.expression(names, depth - 1, inner)

        shapes = [
            f"({part()} {pick('+-*')} {part()})",
            f"coalesce({part()}, {part()})",
            f"case when {self.condition(names, depth - 1)} then {part()} else {part()} end",
            f"nullif({part()}, {part()})",
            f"cast({part()} as {pick(('bigint', 'integer', 'double'))})",
        ]
        if inner:
            table = pick(list(TABLES))
            column = pick(TABLES[table])
            shapes += [
                f"sum({part()}) over (partition by {pick(names)})",
                f"count(*) over (partition by {pick(names)})",
                f"rank() over (order by {pick(names)})",
                f"(select max({column}) from {table})",
                f"(select count(*) from {table} where {column} = {pick(names)})",
                f"(select min(q.{column}) from {table} q where q.id > {pick(names)})",
            ]
        return pick(shapes)

    def condition(self, names: Sequence[str], depth: int = 1, inner: bool = False) -> str:
        """A condition over the columns `names`."""
        pick, left = self.random.choice, self.expression(names, depth, False)
        table: str = pick(list(TABLES))
        return pick(
            [
                f"{left} {pick(('=', '<>', '<', '>='))} {self.expression(names, depth, False)}",
                f"{left} is {pick(('', 'not '))}null",
                f"{left} between 0 and {self.random.randint(1, 4)}",
                f"{left} in (1, 2, {self.random.randint(0, 5)})",
                *([f"{left} in (select {pick(TABLES[table])} from {table})"] if inner else []),
            ]
        )

    def select(self, relations: dict[str, tuple[str, ...]]) -> Select:
        """A select over some of the relations."""
        pick = self.random.choice
        source, alias = pick(list(relations)), self.name("r")
        names = [f"{alias}.{column}" for column in relations[source]]
        if self.chance(0.3):
            names = list(relations[source])
        found = Select(source, alias, [])
        for _ in range(pick((0, 0, 1, 1, 2))):
            table, other, kind = pick(list(relations)), self.name("r"), pick(JOINS)
            names = [name if "." in name else f"{alias}.{name}" for name in names]
            others = [f"{other}.{column}" for column in relations[table]]
            on = "" if kind == "cross join" else f"on {pick(names)} = {pick(others)}"
            found.joins.append([kind, table, other, on])
            names += others
        if self.chance(0.4):
            found.where = self.condition(names, inner=True)
        if self.chance(0.25):
            found.group = self.random.sample(names, self.random.randint(1, min(2, len(names))))
            found.columns = [(key, self.name("c")) for key in found.group]
            found.columns += [(self.aggregate(names), self.name("c")) for _ in range(pick((1, 2)))]
            found.having = f"count(*) > {pick((0, 1))}" if self.chance(0.3) else ""
            if self.chance(0.3):
                found.group = [str(place + 1) for place in range(len(found.group))]
            return found
        if self.chance(0.1):
            found.columns = [(self.aggregate(names), self.name("c")) for _ in range(pick((1, 2)))]
            return found
        found.columns = [(self.output(names), self.name("c")) for _ in range(pick((1, 2, 3, 4)))]
        if self.chance(0.25):  # an output that hides a column of its source
            found.columns.append((self.expression(names), pick(relations[source])))
        if self.chance(0.2):
            found.columns.append((f"{found.columns[0][1]} + 1", self.name("c")))
        if not found.joins and self.chance(0.2):
            found.star = "*"
            found.columns = []
        if self.chance(0.15):
            found.distinct = "distinct"
        if self.chance(0.15):
            found.qualify = f"rank() over (partition by {pick(names)} order by {pick(names)}) <= {pick((1, 2))}"
        if self.chance(0.1):
            found.order = found.columns[0][1] if found.columns and self.chance(0.5) else pick(names)
        if found.columns and not found.order and self.chance(0.15):
            below = Select(source, alias, [(self.output(relations[source]), name) for _, name in found.columns])
            found.union = (pick(("union all", "union", "except", "intersect", "union all")), below)
        return found

    def aggregate(self, names: Sequence[str]) -> str:
        """An aggregate."""
        inner = self.expression(names, 1, False)
        return self.random.choice(
            [
                f"sum({inner})",
                "count(*)",
                f"count(distinct {inner})",
                f"min({inner})",
                f"max({inner}) filter (where true)",
            ]
        )

    def output(self, names: Sequence[str]) -> str:
        """An output, often a column as it is."""
        return self.random.choice(list(names)) if self.chance(0.5) else self.expression(names)

    def model(self, relations: dict[str, tuple[str, ...]]) -> Model:
        """A model over the relations."""
        known, ctes = dict(relations), list[tuple[str, Select]]()
        for _ in range(self.random.choice((0, 0, 1, 2, 3))):
            name, query = self.name("w"), self.select(known)
            ctes.append((name, query))
            known[name] = names_of(query, known)
        last = {ctes[-1][0]: known[ctes[-1][0]]} if ctes and self.chance(0.7) else known
        return Model(ctes, self.select(last))

    def edited(self, model: Model) -> Model:
        """The model after an edit, which need not mean anything."""
        new = deepcopy(model)
        query = self.random.choice(new.selects())
        edits: list[Callable[[Select], None]] = [
            self._add, self._add, self._remove, self._change, self._change, self._reorder, self._rename, self._where,
            self._join, self._constant, self._distinct, self._alias, self._swap, self._group,
        ]  # fmt: skip
        self.random.choice(edits)(query)
        return new

    def _names(self, query: Select) -> list[str]:
        tables = [(query.source, query.alias), *((table, alias) for _, table, alias, _ in query.joins)]
        found = [f"{alias}.{column}" for table, alias in tables for column in TABLES.get(table, ())]
        return found or [e for e, _ in query.columns] or ["1"]

    def _add(self, query: Select) -> None:
        names = self._names(query)
        e = self.aggregate(names) if query.group or self.chance(0.1) else self.output(names)
        name = self.random.choice([self.name("c"), self.random.choice(["id", "g", "x", "y"])])
        if query.group and query.group[0].isdigit():
            query.columns.append((e, name))
        else:
            query.columns.insert(self.random.randint(0, len(query.columns)), (e, name))

    def _remove(self, query: Select) -> None:
        if len(query.columns) > 1:
            query.columns.pop(self.random.randrange(len(query.columns)))

    def _change(self, query: Select) -> None:
        if query.columns:
            at, names = self.random.randrange(len(query.columns)), self._names(query)
            e = self.aggregate(names) if query.group else self.output(names)
            query.columns[at] = (e, query.columns[at][1])

    def _reorder(self, query: Select) -> None:
        self.random.shuffle(query.columns)

    def _rename(self, query: Select) -> None:
        if query.columns:
            at = self.random.randrange(len(query.columns))
            query.columns[at] = (query.columns[at][0], self.name("c"))

    def _where(self, query: Select) -> None:
        query.where = "" if query.where and self.chance(0.5) else self.condition(self._names(query))

    def _join(self, query: Select) -> None:
        for join in query.joins[:1]:
            join[0] = self.random.choice(JOINS[:4])

    def _constant(self, query: Select) -> None:
        query.where = query.where.replace("1", "2")
        query.columns = [(e.replace(" 1", " 2"), name) for e, name in query.columns]

    def _distinct(self, query: Select) -> None:
        query.distinct = "" if query.distinct else "distinct"

    def _alias(self, query: Select) -> None:
        """An edit that changes nothing: white space and an order of comparison."""
        query.where = f"( {query.where} )" if query.where else ""

    def _swap(self, query: Select) -> None:
        if len(query.columns) > 1:
            (a, x), (b, y) = query.columns[:2]
            query.columns[:2] = [(b, x), (a, y)]

    def _group(self, query: Select) -> None:
        query.group = query.group[:-1]


def names_of(query: Select, known: dict[str, tuple[str, ...]]) -> tuple[str, ...]:
    """The columns that a select gives."""
    return (*(known[query.source] if query.star else ()), *(name for _, name in query.columns))


def fill(connection: duckdb.DuckDBPyConnection, source: random.Random) -> None:
    """Tables of a few rows with nulls and duplicates."""
    for table, columns in TABLES.items():
        connection.execute(f"create table {table} ({', '.join(f'{name} integer' for name in columns)})")
        rows = [[source.choice((None, 0, 1, 2, 3)) for _ in columns] for _ in range(source.randint(3, 8))]
        connection.executemany(f"insert into {table} values ({', '.join('?' for _ in columns)})", rows)


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


def rows(connection: duckdb.DuckDBPyConnection, table: str, names: Sequence[str]) -> Rows:
    """The rows of some columns."""
    columns = ", ".join(f'"{name}"' for name in names) or "1"
    return Counter(tuple(map(repr, row)) for row in connection.execute(f"select {columns} from {table}").fetchall())


def built(connection: duckdb.DuckDBPyConnection, name: str, text: str) -> bool:
    """Make a table of a query; whether that is possible."""
    try:
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


def everything(connection: duckdb.DuckDBPyConnection, table: str) -> tuple[list[object], Rows]:
    """Columns in order with their types, and all rows."""
    shape = [row[:2] for row in connection.execute(f"describe {table}").fetchall()]
    return list(shape), rows(connection, table, [str(name) for name, _ in shape])


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
