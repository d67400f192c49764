"""Random queries on DuckDB, random edits of them, and random tables to run them on, for the oracles."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass, field

import duckdb

TABLES = {"t1": ("id", "g", "x", "s"), "t2": ("id", "g", "y", "s"), "t3": ("id", "x", "y", "z")}
JOINS = ("join", "left join", "right join", "full join", "cross join")
WINDOWS = ("lag", "lead", "first_value", "last_value")
FRAMES = ("rows between unbounded", "range between unbounded", "rows between 1", "range between 1")
SETS = ("union all", "union all", "union", "except", "intersect", "except all", "intersect all", "union all by name")
RARE_JOINS = ("semi join", "anti join", "using", "lateral", "natural join", "positional join", "asof join")
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
    limit: str = ""
    window: str = ""
    star: str = ""
    union: tuple[str, Select] | None = None

    def sql(self) -> str:
        """The text."""
        outputs = ([self.star] if self.star else []) + [f"{e} as {name}" for e, name in self.columns]
        text = f"select {self.distinct} {', '.join(outputs)} from {self.source} {self.alias}"
        text += "".join(f" {kind} {table} {alias} {on}" for kind, table, alias, on in self.joins)
        for word, part in (("where", self.where), ("group by", ", ".join(self.group)), ("having", self.having)):
            text += f" {word} {part}" if part else ""
        text += f" window {self.window}" if self.window else ""
        text += f" qualify {self.qualify}" if self.qualify else ""
        text += f" {self.union[0]} {self.union[1].sql()}" if self.union else ""
        text += f" order by {self.order}" if self.order else ""
        return text + (f" limit {self.limit}" if self.limit else "")


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

    def tables(self) -> dict[str, tuple[str, ...]]:
        """All tables with their columns."""
        return dict(TABLES)

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
            f"{pick(('greatest', 'least', 'ifnull'))}({part()}, {part()})",
            f"case {part()} when {part()} then {part()} when null then 1 else {part()} end",
            f"case when {self.condition(names, depth - 1)} then {part()} end",
            f"{pick(names)}::{pick(('bigint', 'integer', 'double', 'smallint'))}",
            f"try_cast({part()} as {pick(('tinyint', 'varchar'))})::integer",
            f"(-{part()})",
            f"abs({part()}) // 2 % 3",
        ]
        if self.chance(0.06):  # another value each time, or in each order
            shapes = [
                f"cast(floor(random() * 3) as integer) + {part()}",
                *([f"row_number() over (order by {pick(names)})", "row_number() over ()"] if inner else []),
            ]
        if inner:
            table = pick(list(TABLES))
            column = pick(TABLES[table])
            shapes += [
                f"sum({part()}) over (partition by {pick(names)})",
                f"count(*) over (partition by {pick(names)})",
                f"rank() over (order by {pick(names)})",
                f"{pick(WINDOWS)}({pick(names)}) over (partition by {pick(names)} order by {pick(names)}, id)",
                f"sum({pick(names)}) over (order by {pick(names)} {pick(FRAMES)} preceding and current row)",
                f"(select count(*) from {table} where exists (select 1 from t1 where {pick(names)} > 1))",
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
                f"{left} not in (1, {self.random.randint(0, 5)})",
                f"{left} is {pick(('', 'not '))}distinct from {self.expression(names, depth, False)}",
                f"not ({left} > 1 {pick(('and', 'or'))} {self.expression(names, depth, False)} = 1)",
                *([f"{left} {pick(('', 'not '))}in (select {pick(TABLES[table])} from {table})"] if inner else []),
                *(
                    [f"{pick(('', 'not '))}exists (select 1 from {table} e where e.id = {pick(names)})"]
                    if inner
                    else []
                ),
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
        names = self.joined(found, names, relations)
        if self.chance(0.4):
            found.where = self.condition(names, inner=True)
        if self.chance(0.25):
            return self.grouped(found, names)
        if self.chance(0.1):
            found.columns = [(self.aggregate(names), self.name("c")) for _ in range(pick((1, 2)))]
            return found
        found.columns = [(self.output(names), self.name("c")) for _ in range(pick((1, 2, 3, 4)))]
        if self.chance(0.25):  # an output that hides a column of its source
            found.columns.append((self.expression(names), pick(relations[source])))
        if self.chance(0.2):
            found.columns.append((f"{found.columns[0][1]} + 1", self.name("c")))
        if not found.joins and self.chance(0.2):
            fewer = [f"* exclude ({pick(relations[source])})"] if len(set(relations[source])) > 1 else []
            found.star = pick(["*", "*", f"{alias}.*", *fewer])
            if self.chance(0.15):
                column = pick(relations[source])
                found.star = f"* replace ({column} + 1 as {column})"
            found.columns = []
        return self.with_rest(found, names, relations[source])

    def grouped(self, found: Select, names: list[str]) -> Select:
        """The select with groups."""
        pick = self.random.choice
        found.group = self.random.sample(names, self.random.randint(1, min(2, len(names))))
        found.columns = [(key, self.name("c")) for key in found.group]
        found.columns += [(self.aggregate(names), self.name("c")) for _ in range(pick((1, 2)))]
        found.having = f"count(*) > {pick((0, 1))}" if self.chance(0.3) else ""
        if self.chance(0.3):
            found.group = [str(place + 1) for place in range(len(found.group))]
        elif self.chance(0.15):
            found.columns[0] = (found.columns[0][0], pick(names).split(".")[-1])  # an alias that may hide the key
            found.group[0] = found.columns[0][1]
        elif self.chance(0.1):
            found.group = [pick(("all", f"rollup ({', '.join(found.group)})"))]
        return found

    def with_rest(self, found: Select, names: list[str], known: tuple[str, ...]) -> Select:
        """The select with what may follow its columns; `known` are the columns of what it selects from."""
        pick = self.random.choice
        if found.columns and self.chance(0.05):
            found.window = f"w as (partition by {pick(names)} order by {pick(names)})"
            found.columns.append((f"{pick(('sum', 'max', 'count'))}({pick(names)}) over w", self.name("c")))
        if self.chance(0.15):
            found.distinct = pick(("distinct", "distinct", f"distinct on ({pick(names)})"))
        if self.chance(0.15):
            found.qualify = f"rank() over (partition by {pick(names)} order by {pick(names)}) <= {pick((1, 2))}"
        if self.chance(0.1):
            found.order = found.columns[0][1] if found.columns and self.chance(0.5) else pick(names)
            found.order += pick(("", " desc", " desc nulls last"))
            found.limit = pick(("", "", "2", "3 offset 1"))
        if found.columns and not found.order and self.chance(0.15):
            below = Select(found.source, found.alias, [(self.output(known), name) for _, name in found.columns])
            found.union = (pick(SETS), below)
        return found

    def joined(self, found: Select, names: list[str], relations: dict[str, tuple[str, ...]]) -> list[str]:
        """Join other relations; the columns that can be named then."""
        pick, alias = self.random.choice, found.alias
        for _ in range(pick((0, 0, 1, 1, 2))):
            table, other, kind = pick(list(relations)), self.name("r"), pick(JOINS)
            if self.chance(0.12):
                names = self.rare_join(found, pick(RARE_JOINS), names, relations)
                continue
            names = [name if "." in name else f"{alias}.{name}" for name in names]
            others = [f"{other}.{column}" for column in relations[table]]
            on = "" if kind == "cross join" else f"on {pick(names)} = {pick(others)}"
            found.joins.append([kind, table, other, on])
            names += others
        return names

    def rare_join(self, query: Select, kind: str, names: list[str], relations: dict[str, tuple[str, ...]]) -> list[str]:
        """Join in one of the ways that few use; the columns that can be named then."""
        pick, other, alias = self.random.choice, self.name("r"), query.alias
        table = pick(list(relations))
        names = [name if "." in name else f"{alias}.{name}" for name in names]
        others = [f"{other}.{column}" for column in relations[table]]
        if kind in {"semi join", "anti join"}:
            query.joins.append([kind, table, other, f"on {pick(names)} = {pick(others)}"])
            return names
        if kind == "lateral":
            query.joins.append([", lateral", f"(select {pick(names)} + 1 as l, count(*) as n from {table})", other, ""])
            return [*names, f"{other}.l", f"{other}.n"]
        if kind == "using":
            both = sorted(set(relations[query.source]) & set(relations[table]))
            on = f"using ({pick(both)})" if both else f"on {pick(names)} < {pick(others)}"
            query.joins.append([pick(JOINS[:4]), table, other, on])
        else:
            on = f"on {pick(names)} >= {pick(others)}" if kind == "asof join" else ""
            query.joins.append([kind, table, other, on])
        return names + others

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
            if self.chance(0.08):  # it hides a table
                name = self.random.choice(list(relations))
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
            self._join, self._constant, self._distinct, self._alias, self._swap, self._group, self._order, self._star,
            self._on, self._having, self._set, self._set,
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

    def _order(self, query: Select) -> None:
        query.limit = "" if query.limit else self.random.choice(("", "1", "2"))
        query.order = "" if query.order else self.random.choice(self._names(query))

    def _star(self, query: Select) -> None:
        if query.star:
            query.star = self.random.choice(("*", f"{query.alias}.*", "* exclude (id)"))
        elif not query.group:
            query.star = f"{query.alias}.*"

    def _on(self, query: Select) -> None:
        for join in query.joins[:1]:
            join[3] = f"{join[3]} and {self.condition(self._names(query))}" if join[3].startswith("on ") else join[3]

    def _having(self, query: Select) -> None:
        if query.group:
            query.having = "" if query.having else f"count(*) > {self.random.choice((0, 1))}"

    def _set(self, query: Select) -> None:
        if query.union:
            query.union = self.random.choice(SETS), query.union[1]

    def _group(self, query: Select) -> None:
        query.group = query.group[:-1]


def names_of(query: Select, known: dict[str, tuple[str, ...]]) -> tuple[str, ...]:
    """The columns that a select gives."""
    starred = known[query.source] if query.star else ()
    if "exclude" in query.star:
        starred = tuple(name for name in starred if f"({name})" not in query.star)
    return (*starred, *(name for _, name in query.columns))


def fill(connection: duckdb.DuckDBPyConnection, source: random.Random) -> None:
    """Tables of a few rows with nulls and duplicates."""
    for table, columns in TABLES.items():
        connection.execute(f"create table {table} ({', '.join(f'{name} integer' for name in columns)})")
        rows = [[source.choice((None, 0, 1, 2, 3)) for _ in columns] for _ in range(source.randint(3, 8))]
        connection.executemany(f"insert into {table} values ({', '.join('?' for _ in columns)})", rows)


def rows(connection: duckdb.DuckDBPyConnection, table: str, names: Sequence[str]) -> Rows:
    """The rows of some columns."""
    columns = ", ".join(f'"{name}"' for name in names) or "1"
    return Counter(tuple(map(repr, row)) for row in connection.execute(f"select {columns} from {table}").fetchall())


def everything(connection: duckdb.DuckDBPyConnection, table: str) -> tuple[list[object], Rows]:
    """Columns in order with their types, and all rows."""
    shape = [row[:2] for row in connection.execute(f"describe {table}").fetchall()]
    return list(shape), rows(connection, table, [str(name) for name, _ in shape])
