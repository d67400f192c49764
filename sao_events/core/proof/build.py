"""From the text of a query to its shape. Everything that is not listed here is `Opaque` or unknown."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Mapping
from itertools import count

from sqlglot import exp, parse
from sqlglot.errors import SqlglotError

from sao_events.core.proof.conditions import conjuncts
from sao_events.core.proof.names import fold, table_name
from sao_events.core.proof.plain import fans, one_row, pure
from sao_events.core.proof.shape import Base, Join, Opaque, Output, Rel, Select, Star, Union, bare_of, has, make_ref

Columns = Callable[[str], Mapping[str, str | None] | None]

SELECT_PARTS = frozenset("with_ distinct expressions from_ joins where group having qualify order limit offset".split())
UNION_PARTS = frozenset("with_ this expression distinct order limit offset".split())
JOIN_PARTS = frozenset("this on side kind using".split())
SIDES = {"": "inner", "LEFT": "left", "RIGHT": "right", "FULL": "full"}
GROUPED_BY = (exp.Column, exp.Literal, exp.Func, exp.Binary, exp.Paren)
OPAQUE = Opaque()


class _Unclear(Exception):
    """Nothing is known of this part."""


def build(text: str, dialect: str, columns: Columns) -> Rel:
    """The shape of a query. `columns` knows the columns of relations, by folded name."""
    try:
        found = parse(text, dialect=dialect)
        if len(found) != 1 or not isinstance(found[0], exp.Query):
            return OPAQUE
        return _Builder(dialect, columns).query(found[0], {})
    except (SqlglotError, RecursionError, _Unclear):
        return OPAQUE


class _Builder:
    def __init__(self, dialect: str, columns: Columns) -> None:
        self.dialect, self.columns, self.numbers = dialect, columns, count()

    def query(self, e: exp.Expr, ctes: Mapping[str, Rel]) -> Rel:
        try:
            if isinstance(e, exp.Subquery):
                return OPAQUE if _given(e) - {"this", "alias"} else self.query(e.this, ctes)
            known = self._with(e, ctes)
            if isinstance(e, exp.Union) and not _given(e) - UNION_PARTS:
                return self._union(e, known)
            if isinstance(e, exp.Select) and not _given(e) - SELECT_PARTS:
                return _Selecting(self, e, known).build()
        except _Unclear:
            pass
        return OPAQUE

    def _with(self, e: exp.Expr, ctes: Mapping[str, Rel]) -> Mapping[str, Rel]:
        clause, known = e.args.get("with_"), dict(ctes)
        if clause is None:
            return known
        if clause.args.get("recursive"):
            raise _Unclear
        for cte in clause.expressions:
            name, body = cte.args["alias"], cte.this
            if name.args.get("columns") or not isinstance(body, exp.Query):
                known[fold(name.this, self.dialect)] = OPAQUE
            else:
                known[fold(name.this, self.dialect)] = self.query(body, known)
        return known

    def _union(self, e: exp.Union, ctes: Mapping[str, Rel]) -> Rel:
        left, right = self.query(e.this, ctes), self.query(e.expression, ctes)
        distinct = bool(e.args.get("distinct"))
        return Union((left, right), distinct)

    def source(self, e: exp.Expr, ctes: Mapping[str, Rel]) -> tuple[str, Rel]:
        """The name by which a source is called, and what it is."""
        alias = e.args.get("alias")
        name = fold(alias.this, self.dialect) if isinstance(alias, exp.TableAlias) and alias.this else ""
        if isinstance(alias, exp.TableAlias) and alias.args.get("columns"):
            return name, OPAQUE
        if isinstance(e, exp.Subquery):
            return name, self.query(e, ctes)
        if not isinstance(e, exp.Table) or not isinstance(e.this, exp.Identifier):
            return name, OPAQUE
        if _given(e) - {"this", "db", "catalog", "alias"}:
            return name, OPAQUE
        own = fold(e.this, self.dialect)
        if not e.args.get("db") and own in ctes:
            return name or own, ctes[own]
        found = table_name(e, self.dialect)
        return name or own, OPAQUE if found is None else Base(found, self.columns(found))

    def unknown(self) -> exp.Expr:
        """An expression that equals no other."""
        return exp.Anonymous(this=f"unknown_{next(self.numbers)}")


class _Selecting:
    """One select under construction."""

    def __init__(self, builder: _Builder, e: exp.Select, ctes: Mapping[str, Rel]) -> None:
        self.builder, self.e, self.ctes, self.dialect = builder, e, ctes, builder.dialect
        self.names: list[str] = []
        self.sources: list[Rel] = []
        self.joins: list[Join] = []
        self.merged: dict[str, int | None] = {}
        self.queries: dict[str, Rel] = {}
        self.aliases: dict[str, exp.Expr] = {}

    def build(self) -> Select:
        """The select. Raises _Unclear."""
        self._from()
        for out in self.e.expressions:
            if isinstance(out, exp.Alias):
                self.aliases.setdefault(self._fold(out.args["alias"]), bare_of(out.this))
        outputs = tuple(self._output(out) for out in self.e.expressions)
        where, group = self.e.args.get("where"), self.e.args.get("group")
        values = [out.value for out in outputs if isinstance(out, Output)]
        after = [*self._conditions(self.e.args.get("having")), *self._conditions(self.e.args.get("qualify"))]
        return Select(
            tuple(self.sources),
            tuple(self.joins),
            outputs,
            tuple(self._conditions(where)),
            tuple(after),
            self._group(group, outputs) if group is not None else None,
            not self.sources or (group is None and any(map(one_row, self.e.expressions))),
            self._distinct(),
            any(map(fans, values)),
            self.queries,
        )

    def _from(self) -> None:
        start = self.e.args.get("from_")
        if start is not None:
            self._add(start.this, Join("inner"))
        for join in self.e.args.get("joins") or ():
            kind = SIDES.get(str(join.args.get("side") or "").upper())
            plain = str(join.args.get("kind") or "").upper() in {"", "INNER", "OUTER", "CROSS"}
            if kind is None or not plain or _given(join) - JOIN_PARTS:
                raise _Unclear
            self._add(join.this, Join(kind))
            on = self._using(join, kind) if join.args.get("using") else self._conditions(join.args.get("on"))
            self.joins[-1] = Join(kind, tuple(on))

    def _add(self, e: exp.Expr, join: Join) -> None:
        name, rel = self.builder.source(e, self.ctes)
        if name and name in self.names:
            raise _Unclear
        self.names.append(name)
        self.sources.append(rel)
        self.joins.append(join)

    def _using(self, join: exp.Join, kind: str) -> list[exp.Expr]:
        found, mine = list[exp.Expr](), len(self.sources) - 1
        for identifier in join.args["using"]:
            name = self._fold(identifier if isinstance(identifier, exp.Identifier) else identifier.this)
            left = self.merged[name] if name in self.merged else self._owner(name, mine)
            self.merged[name] = left if kind in {"inner", "left"} else None
            if left is not None:
                found.append(exp.EQ(this=make_ref(left, name), expression=make_ref(mine, name)))
        return found

    def _owner(self, name: str, among: int) -> int | None:
        """The one of the first `among` sources that the column `name` must be of."""
        found = [has(rel, name) for rel in self.sources[:among]]
        sure, maybe = found.count(True), found.count(None)
        if sure == 1 and not maybe:
            return found.index(True)
        return found.index(None) if maybe == 1 and not sure else None

    # Expressions

    def _fold(self, identifier: exp.Expr) -> str:
        if not isinstance(identifier, exp.Identifier):
            raise _Unclear
        return fold(identifier, self.dialect)

    def resolve(self, e: exp.Expr, clause: type[exp.Expr] | None = None) -> exp.Expr:
        """`e` with columns as refs. In a `clause` a name that is also that of an output may mean either. Raises
        _Unclear where that is open.
        """
        if isinstance(e, exp.Subquery | exp.Query):
            return self.builder.unknown()
        if isinstance(e, exp.In) and e.args.get("query") is not None:
            query = self.builder.unknown()
            self.queries[query.name] = self.builder.query(e.args["query"], self.ctes)
            return exp.In(this=self.resolve(e.this, clause), query=query)
        if isinstance(e, exp.Column):
            return self._column(e, clause)
        return type(e)(**{name: self._part(value, clause) for name, value in e.args.items()})

    def _part(self, value: object, clause: type[exp.Expr] | None) -> object:
        if isinstance(value, list):
            return [self._part(item, clause) for item in value]
        return self.resolve(value, clause) if isinstance(value, exp.Expr) else value

    def _column(self, e: exp.Column, clause: type[exp.Expr] | None) -> exp.Expr:
        if not isinstance(e.this, exp.Identifier) or e.args.get("db") or e.args.get("catalog"):
            return self.builder.unknown()
        name = self._fold(e.this)
        if e.args.get("table"):
            table = self._fold(e.args["table"])
            return make_ref(self.names.index(table), name) if table in self.names else self.builder.unknown()
        owner = self.merged[name] if name in self.merged else self._owner(name, len(self.sources))
        if clause is not None and self._other(name):
            return self._alias(name, owner, clause)
        return self.builder.unknown() if owner is None else make_ref(owner, name)

    def _other(self, name: str) -> bool:
        """Whether an output has this name and is not just the column of it."""
        value = self.aliases.get(name)
        return value is not None and not (isinstance(value, exp.Column) and self._named(value) == name)

    def _named(self, e: exp.Column) -> str | None:
        return self._fold(e.this) if isinstance(e.this, exp.Identifier) and not e.args.get("table") else None

    def _alias(self, name: str, owner: int | None, clause: type[exp.Expr]) -> exp.Expr:
        """What a name in a clause means that is both. Conditions on rows look at the sources first; for the other
        clauses engines differ. An output that is made of its own name has it from a source.
        """
        if all(has(rel, name) is False for rel in self.sources):
            return self.resolve(self.aliases[name])
        itself = any(self._named(column) == name for column in self.aliases[name].find_all(exp.Column))
        if clause is exp.Where and owner is not None and (has(self.sources[owner], name) or itself):
            return make_ref(owner, name)
        raise _Unclear

    def _conditions(self, clause: exp.Expr | None) -> Iterable[exp.Expr]:
        """The parts of a condition that all hold; parts that are not clear are left out, which only weakens it."""
        found = list[exp.Expr]()
        wrapped = isinstance(clause, exp.Where | exp.Having | exp.Qualify)
        body = clause.this if wrapped and clause is not None else clause
        for part in conjuncts(body) if body is not None else ():
            with contextlib.suppress(_Unclear):
                found.append(self.resolve(part, type(clause) if wrapped and clause is not None else exp.Where))
        return found

    # Outputs

    def _output(self, e: exp.Expr) -> Output | Star:
        if isinstance(e, exp.Star):
            return self._star(e, tuple(range(len(self.sources))))
        if isinstance(e, exp.Column) and isinstance(e.this, exp.Star):
            table = self._fold(e.args["table"]) if e.args.get("table") else ""
            if table not in self.names or e.args.get("db"):
                raise _Unclear
            return self._star(e.this, (self.names.index(table),))
        value = e.this if isinstance(e, exp.Alias) else e
        if any(isinstance(part, exp.Star) and not isinstance(part.parent, exp.Count) for part in value.walk()):
            raise _Unclear
        if value.find(exp.Columns):
            raise _Unclear
        if isinstance(e, exp.Alias):
            return Output(self._fold(e.args["alias"]), self.resolve(value))
        if isinstance(e, exp.Column):
            return Output(self._fold(e.this), self.resolve(e))
        return Output(f"?{next(self.builder.numbers)}", self.resolve(e))

    def _star(self, e: exp.Star, sources: tuple[int, ...]) -> Star:
        if e.args.get("rename") or e.args.get("ilike") or (self.merged and len(sources) > 1):
            raise _Unclear
        hidden = [
            self._fold(item.this if isinstance(item, exp.Column) else item) for item in e.args.get("except_") or ()
        ]
        changed = {self._fold(item.args["alias"]): self.resolve(item.this) for item in e.args.get("replace") or ()}
        return Star(sources, frozenset(hidden), changed)

    # Groups

    def _group(self, group: exp.Expr, outputs: tuple[Output | Star, ...]) -> tuple[exp.Expr, ...]:
        if _given(group) - {"expressions", "all"}:
            raise _Unclear
        if group.args.get("all"):
            if not all(isinstance(out, Output) for out in outputs):
                raise _Unclear
            return tuple(o.value for o in outputs if isinstance(o, Output) and not _gathers(o.value))
        if not all(isinstance(e, GROUPED_BY) and pure(e) for e in group.expressions):
            raise _Unclear  # rollup, cube and grouping sets make rows of their own
        return tuple(self._grouping(e, outputs) for e in group.expressions)

    def _grouping(self, e: exp.Expr, outputs: tuple[Output | Star, ...]) -> exp.Expr:
        if isinstance(e, exp.Literal):
            place = int(e.name) - 1 if e.is_int else -1
            before = outputs[: place + 1]
            if not 0 <= place < len(outputs) or not all(isinstance(out, Output) for out in before):
                raise _Unclear
            chosen = before[-1]
            assert isinstance(chosen, Output)
            return self._kept(chosen.value)
        try:
            return self._kept(self.resolve(e, exp.Group))
        except _Unclear:
            return self.builder.unknown()

    def _kept(self, e: exp.Expr) -> exp.Expr:
        """Only what gives the same every time it is asked can be recognised in an output."""
        return e if pure(e) else self.builder.unknown()

    def _distinct(self) -> tuple[exp.Expr, ...] | None:
        clause = self.e.args.get("distinct")
        if clause is None:
            return None
        on = clause.args.get("on")
        if on is None:
            return ()
        parts = on.expressions if isinstance(on, exp.Tuple) else [on]
        return tuple(self._kept(self.resolve(part, exp.Distinct)) for part in parts)


def _given(e: exp.Expr) -> set[str]:
    """The arguments of an expression that are there."""
    return {name for name, value in e.args.items() if value not in (None, False, [], "")}


def _gathers(e: exp.Expr) -> bool:
    return e.find(exp.AggFunc, exp.Window) is not None
