"""Takes a query apart, from its relations to its outputs. Any clause that is not on the lists is refused."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from sqlglot import exp

from sao_events.core.columns.output import UNNAMED, Cell, Output, Star, Whole, union
from sao_events.core.columns.scope import Scope
from sao_events.core.columns.spelling import Spelled
from sao_events.core.lineage import digest
from sao_events.core.proof.names import fold, table_name
from sao_events.core.proof.plain import one_row

Ctes = Mapping[str, Output]

SELECT = frozenset("with_ expressions distinct from_ joins where group having qualify order".split())
UNION = frozenset("with_ this expression distinct order".split())
JOIN = frozenset("this side kind on using".split())
JOINS = frozenset({"", "INNER", "OUTER", "CROSS"})


@dataclass(frozen=True, slots=True)
class Query:
    """Reads queries in one dialect; `salt` is the identity of the whole text, the rest as in `Scope`."""

    dialect: str
    salt: str
    spelled: Spelled = field(default_factory=dict)
    mentioned: set[tuple[str, str]] = field(default_factory=set)

    def of(self, e: exp.Expr, ctes: Ctes, outer: Scope | None) -> Output:
        """What the query `e` gives, among `ctes` and, where it stands in an expression, within `outer`."""
        match e:
            case exp.Subquery() if set(_given(e)) <= {"this"}:
                return self.of(e.this, ctes, outer)
            case exp.Select():
                return self._select(e, self._with(e, ctes, outer), outer)
            case exp.Union() | exp.Except() | exp.Intersect():
                return self._set(e, self._with(e, ctes, outer), outer)
        raise Whole(f"a query of the kind {e.key}")

    def _with(self, e: exp.Expr, ctes: Ctes, outer: Scope | None) -> Ctes:
        clause = e.args.get("with_")
        if clause is None:
            return ctes
        _only(clause, {"expressions"})
        found = dict(ctes)
        for cte in clause.expressions:
            _only(cte, {"this", "alias", "materialized"})
            found[self._alias(cte)] = self.of(cte.this, found, outer)
        return found

    def _alias(self, e: exp.Expr) -> str:
        alias = e.args.get("alias")
        if not isinstance(alias, exp.TableAlias) or set(_given(alias)) != {"this"}:
            raise Whole("an alias that names columns, or none")
        return fold(alias.this, self.dialect)

    def _set(self, e: exp.SetOperation, ctes: Ctes, outer: Scope | None) -> Output:
        _only(e, UNION)
        sides = [self.of(side, ctes, outer) for side in (e.this, e.expression)]
        for side in sides:
            if not side.closed:
                raise Whole("a set operation over columns that are not known")
        columns = [[item for item in side.items if not isinstance(item, Star)] for side in sides]
        if len(columns[0]) != len(columns[1]):
            raise Whole("a set operation over unequal columns")
        items = tuple(
            (left[0], Cell(digest("both", left[1].text, right[1].text), left[1].uses | right[1].uses))
            for left, right in zip(*columns, strict=True)
        )
        distinct = bool(e.args.get("distinct"))
        everything = distinct or not isinstance(e, exp.Union)
        compared = [cell for side in sides for cell in side.cells()] if everything else []
        combined = {"": Output("", items=items)}
        scope = self._scope(combined, ctes, None, True, {})
        order = self._order(e.args.get("order"), [cell for _, cell in items], scope)
        kind = e.key if distinct or not everything else f"{e.key} all"  # how often a row is there counts
        base = digest(kind, str(everything), *(s.base for s in sides), *(c.text for c in (*compared, *order)))
        rows = frozenset().union(*(s.rows for s in sides)) | union((*compared, *order))
        return Output(base, rows, items, None, sides[0].relations | sides[1].relations)

    def _select(self, e: exp.Select, ctes: Ctes, outer: Scope | None) -> Output:
        _only(e, SELECT)
        sources = dict(self._sources(e, ctes, outer))
        single = len(sources) == 1 and not any(e.args.get(key) for key in SELECT - {"with_", "expressions", "from_"})
        trivial = single and outer is None and not any(map(one_row, e.expressions))
        scope = self._scope(sources, ctes, outer, trivial, self._aliases(e))
        items = tuple(self._items(e, scope))
        if trivial:
            (inner,) = sources.values()
            return Output(inner.base, inner.rows, items, None, inner.relations | scope.relations)
        parts = list(self._parts(e, scope, items))
        base = digest("select", *(part.text for part in parts))
        within = frozenset().union(*(source.relations for source in sources.values()))
        return Output(base, union(parts), items, None, within | scope.relations)

    def _scope(
        self, sources: Ctes, ctes: Ctes, outer: Scope | None, trivial: bool, aliases: dict[str, exp.Expr]
    ) -> Scope:
        given = (sources, ctes, outer, trivial, aliases)
        return Scope(self.dialect, self.salt, self.of, *given, mentioned=self.mentioned, spelled=self.spelled)

    def _sources(self, e: exp.Select, ctes: Ctes, outer: Scope | None) -> Iterator[tuple[str, Output]]:
        clause = e.args.get("from_")
        if clause is None:
            return
        before: dict[str, Output] = {}
        for source in (clause.this, *(join.this for join in e.args.get("joins") or ())):
            around = self._scope(before.copy(), ctes, outer, False, {}) if before or outer else None
            name, found = self._source(source, ctes, around)
            if name in before:
                raise Whole("two sources of one name")
            before[name] = found
            yield name, found

    def _source(self, e: exp.Expr, ctes: Ctes, around: Scope | None) -> tuple[str, Output]:
        if isinstance(e, exp.Subquery):
            _only(e, {"this", "alias"})
            return self._alias(e), self.of(e.this, ctes, around)
        if not isinstance(e, exp.Table) or not isinstance(e.this, exp.Identifier):
            raise Whole("a source that is no relation")
        _only(e, {"this", "db", "catalog", "alias"})
        name = fold(e.this, self.dialect)
        alias = self._alias(e) if e.args.get("alias") else name
        if not e.args.get("db") and name in ctes:
            return alias, ctes[name]
        relation = table_name(e, self.dialect)
        if relation is None:
            raise Whole("a relation with a strange name")
        return alias, Output(digest("relation", relation), frozenset(), (), relation, frozenset({relation}))

    def _aliases(self, e: exp.Select) -> dict[str, exp.Expr]:
        found: dict[str, exp.Expr] = {}
        for out in e.expressions:
            if isinstance(out, exp.Alias):
                name = fold(out.args["alias"], self.dialect)
                if name in found:
                    raise Whole("a column has the name of another")
                found[name] = out.this
        return found

    def _items(self, e: exp.Select, scope: Scope) -> Iterator[tuple[str, Cell] | Star]:
        for out in e.expressions:
            if isinstance(out, exp.Star) or (isinstance(out, exp.Column) and isinstance(out.this, exp.Star)):
                yield from self._star(out, e, scope)
            elif isinstance(out, exp.Alias):
                name = out.args["alias"]
                cell = scope.cell(out.this, frozenset({fold(name, self.dialect)}))
                yield fold(name, self.dialect), self._spelled(cell, name)
            elif isinstance(out, exp.Column) and isinstance(out.this, exp.Identifier):
                yield fold(out.this, self.dialect), self._spelled(scope.cell(out), out.this)
            else:
                yield UNNAMED, scope.cell(out)

    def _spelled(self, cell: Cell, name: exp.Identifier) -> Cell:
        """Warehouses that ignore the case of names keep it all the same."""
        if str(name.this) == str(name.this).lower():
            return cell
        return Cell(digest("spelled", str(name.this), cell.text), cell.uses)

    def _star(self, out: exp.Expr, e: exp.Select, scope: Scope) -> Iterator[tuple[str, Cell] | Star]:
        star = out if isinstance(out, exp.Star) else out.this
        _only(star, {"except_"})
        hidden = frozenset(self._hidden(star))
        if any(join.args.get("using") for join in e.args.get("joins") or ()):
            raise Whole("select * over a join that merges columns")
        table = fold(out.args["table"], self.dialect) if isinstance(out, exp.Column) and out.args.get("table") else None
        if isinstance(out, exp.Column) and out.args.get("db"):
            raise Whole("select * of a relation with its schema")
        if table is not None and table not in scope.sources:
            raise Whole("select * of what is no source")
        if scope.aliases.keys() & hidden or not scope.sources:
            raise Whole("select * without what is given again")
        for name, source in scope.sources.items():
            if table in (None, name):
                self.mentioned.update(*(cell.uses for cell in map(source.get, hidden) if cell))
                yield from self._starred(source, scope.place(name), hidden)

    def _hidden(self, star: exp.Star) -> Iterator[str]:
        for name in star.args.get("except_") or ():
            inner = name.this if isinstance(name, exp.Column) and not name.table else name
            if not isinstance(inner, exp.Identifier):
                raise Whole("select * except an expression")
            yield fold(inner, self.dialect)

    def _starred(self, source: Output, place: str, hidden: frozenset[str]) -> Iterator[tuple[str, Cell] | Star]:
        if source.relation is not None:
            yield Star(source, place, hidden)
            return
        for item in source.items:
            if isinstance(item, Star):
                yield Star(Output("", items=(item,)), place, hidden)
            elif item[0] not in hidden:
                yield item[0], item[1].within(place) if place else item[1]

    def _parts(self, e: exp.Select, scope: Scope, items: tuple[tuple[str, Cell] | Star, ...]) -> Iterator[Cell]:
        """Everything that decides which rows there are."""
        given: dict[str, exp.Expr] = e.args
        yield Cell("one row" if any(map(one_row, (*e.expressions, *_some(given.get("having"))))) else "rows")
        yield from (Cell(digest("from", source.base), source.rows) for source in scope.sources.values())
        for join in given.get("joins") or ():
            yield from self._join(join, scope)
        for clause in ("where", "having", "qualify"):
            if given.get(clause):
                yield Cell(clause)
                yield scope.cell(given[clause].this)
        outputs = Output("", items=items).cells()
        if group := given.get("group"):
            _only(group, {"expressions"})
            yield from (Cell("group"), *self._listed(group.expressions, e, outputs, scope))
        if distinct := given.get("distinct"):
            _only(distinct, set())
            yield from (Cell("distinct"), *outputs)
        yield from self._order(given.get("order"), outputs, scope, e)

    def _join(self, join: exp.Join, scope: Scope) -> Iterator[Cell]:
        _only(join, JOIN)
        kind, side = str(join.args.get("kind") or "").upper(), str(join.args.get("side") or "").upper()
        if kind not in JOINS:
            raise Whole(f"a join of the kind {kind.lower()}")
        yield Cell(f"{side} {kind} join")
        if join.args.get("on"):
            yield scope.cell(join.args["on"])
        for name in join.args.get("using") or ():
            yield Cell("using")
            identifier = name.this if isinstance(name, exp.Column) else name
            yield scope.cell(exp.column(identifier.copy()))

    def _order(
        self, order: exp.Expr | None, outputs: list[Cell], scope: Scope, e: exp.Expr | None = None
    ) -> list[Cell]:
        if order is None:
            return []
        _only(order, {"expressions"})
        found = [Cell("order")]
        for one in order.expressions:
            _only(one, {"this", "desc", "nulls_first"})
            found.append(Cell(f"{one.args.get('desc')} {one.args.get('nulls_first')}"))
            found += self._listed([one.this], e, outputs, scope)
        return found

    def _listed(self, es: Iterable[exp.Expr], e: exp.Expr | None, outputs: list[Cell], scope: Scope) -> Iterator[Cell]:
        """Expressions of which a number means an output by its place."""
        for one in es:
            if isinstance(one, exp.Literal) and one.is_int:
                at = int(one.name) - 1
                if not 0 <= at < len(outputs) or (e is not None and any(x.is_star for x in e.expressions)):
                    raise Whole("an output by its place among columns that are not known")
                yield Cell(digest("place", str(at), outputs[at].text), outputs[at].uses)
            else:
                yield scope.cell(one)


def _given(e: exp.Expr) -> Iterator[str]:
    return (key for key, value in e.args.items() if value not in (None, False, [], ""))


def _only(e: exp.Expr, allowed: Iterable[str]) -> None:
    if strange := set(_given(e)) - set(allowed):
        raise Whole(f"{e.key} with {min(strange).rstrip('_')}")


def _some(e: exp.Expr | None) -> tuple[exp.Expr, ...]:
    return (e,) if e is not None else ()
