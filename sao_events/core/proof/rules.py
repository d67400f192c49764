"""What of a query's outputs follows from its shape and from claims about the relations that it reads.

Each rule returns `Needs`. A rule that is not sure returns NEVER: then the test is run.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property

from sqlglot import exp

from sao_events.core.claims import Claim
from sao_events.core.proof import keys
from sao_events.core.proof.conditions import Known, known, literal, present
from sao_events.core.proof.kinds import exact, kind_of, results, shared
from sao_events.core.proof.needs import ALWAYS, NEVER, Needs, all_of, any_of, claimed
from sao_events.core.proof.plain import pure
from sao_events.core.proof.shape import Base, Opaque, Rel, Select, Union, bare_of, key, lookup, outputs, ref

CASTS = frozenset({"int", "text", "date", "uuid", "boolean", "timestamp", "timestamptz", "float", "double"})
KEEP_NULL_ONLY: tuple[type[exp.Expr], ...] = (
    exp.Add, exp.Sub, exp.Mul, exp.DPipe, exp.Lower, exp.Upper, exp.Trim, exp.Abs, exp.Length, exp.MD5,
)  # fmt: skip
NEVER_NULL: tuple[type[exp.Expr], ...] = (
    exp.Count, exp.RowNumber, exp.Rank, exp.DenseRank, exp.CurrentDate, exp.CurrentTimestamp, exp.Boolean, exp.Is,
)  # fmt: skip


@dataclass(frozen=True)
class Row:
    """A select, and what its conditions say of each of its rows."""

    select: Select
    more: frozenset[str] = frozenset()

    @cached_property
    def known(self) -> Known:
        """What holds of a row that comes out: by `where` and what comes after groups, and by joins that every row has
        passed.
        """
        select = self.select
        conditions = [*select.where, *([] if select.only_row else select.after)]
        for index, join in enumerate(select.joins):
            later = select.joins[index + 1 :]
            if join.kind == "inner" and not any(other.kind in {"right", "full"} for other in later):
                conditions += join.on
        return known(conditions)

    def present(self, e: exp.Expr) -> bool:
        """Whether a condition says that `e` is not null."""
        return pure(e) and (key(e) in self.known.present or key(e) in self.more)

    def nullable(self, source: int) -> bool:
        """Whether an outer join may put a row of nulls in the place of the source, and nothing says that it did not."""
        joins = self.select.joins
        padded = joins[source].kind in {"left", "full"} or any(j.kind in {"right", "full"} for j in joins[source + 1 :])
        column = re.compile(rf'"{source}"\."(?:[^"]|"")*"')
        return padded and not any(map(column.fullmatch, self.known.present | self.more))

    def kind(self, e: exp.Expr) -> str | None:
        """The family of the expression's values."""
        return kind_of(e, self.column_kind)

    def column_kind(self, e: exp.Column) -> str | None:
        found = ref(e)
        return kind_of_output(self.select.sources[found[0]], found[1]) if found else None

    def within(self, condition: exp.Expr) -> Row:
        """The row where `condition` holds as well."""
        return Row(self.select, self.more | present(condition))


def kind_of_output(rel: Rel, name: str) -> str | None:
    """The family of a relation's column."""
    match rel:
        case Base(columns=columns):
            return (columns or {}).get(name)
        case Select():
            value = lookup(rel, name)
            return Row(rel).kind(value) if value is not None else None
        case Union(branches=branches):
            found = {kind_of_output(branch, place) if place else None for branch, place in branch_columns(rel, name)}
            return found.pop() if len(found) == 1 and len(branches) > 0 else None
    return None


def branch_columns(rel: Union, name: str) -> list[tuple[Rel, str | None]]:
    """For each branch the name of the column that ends up in `name`; None where that is not known."""
    first = outputs(rel.branches[0])
    place = first.index(name) if first and name in first else None
    found: list[tuple[Rel, str | None]] = []
    for branch in rel.branches:
        names = outputs(branch)
        found.append((branch, names[place] if names and place is not None and place < len(names) else None))
    return found


# not_null


def not_null(rel: Rel, name: str) -> Needs:
    """The column is never null."""
    match rel:
        case Base():
            return claimed(Claim(rel.relation, "not_null", name))
        case Select():
            value = lookup(rel, name)
            return _filled(Row(rel), value) if value is not None else NEVER
        case Union():
            return _in_branches(rel, name, not_null)
    return NEVER


def _filled(row: Row, e: exp.Expr) -> Needs:
    e = bare_of(e)
    if row.present(e):
        return ALWAYS
    match e:
        case exp.Column():
            found = ref(e)
            if found is None or row.select.only_row or row.nullable(found[0]):
                return NEVER
            return not_null(row.select.sources[found[0]], found[1])
        case exp.Literal():
            return ALWAYS
        case exp.Coalesce():
            return any_of(_filled(row, part) for part in (e.this, *e.expressions))
        case exp.Cast():
            return _filled(row, e.this) if _keeps_null(row, e) else NEVER
        case exp.Case(this=None):
            return _filled_case(row, e)
        case exp.Min() | exp.Max() | exp.Sum():
            grouped = row.select.group is not None and len(row.select.group) > 0
            return _filled(row, e.this) if grouped and not e.expressions else NEVER
        case exp.Window(this=exp.RowNumber() | exp.Rank() | exp.DenseRank()):
            return ALWAYS
    if isinstance(e, NEVER_NULL):
        return ALWAYS
    if isinstance(e, KEEP_NULL_ONLY):
        parts = list(e.iter_expressions())
        return all_of(_filled(row, part) if row.kind(part) else NEVER for part in parts)
    return NEVER


def _filled_case(row: Row, e: exp.Case) -> Needs:
    if e.args.get("default") is None:
        return NEVER
    branches = [(branch.this, branch.args["true"]) for branch in e.args.get("ifs") or ()]
    parts = [_filled(row.within(condition), value) for condition, value in branches]
    return all_of((*parts, _filled(row, e.args["default"])))


def _keeps_null(row: Row, e: exp.Cast) -> bool:
    """Whether the cast makes null only of null: it may be one of a type that has a null of its own, as JSON has, where
    that of its argument is not known.
    """
    if type(e) is not exp.Cast or {name for name, value in e.args.items() if value} - {"this", "to"}:
        return False
    to = row.kind(e)
    return to is not None and (to in CASTS or to.startswith("decimal")) and row.kind(e.this) is not None


# accepted_values


def accepted(rel: Rel, name: str, values: frozenset[str]) -> Needs:
    """The column is null or one of `values`, SQL literals."""
    match rel:
        case Base():
            return claimed(Claim(rel.relation, "accepted_values", name, tuple(sorted(values))))
        case Select():
            value = lookup(rel, name)
            return _accepted(Row(rel), value, values) if value is not None else NEVER
        case Union():
            if kind_of_output(rel, name) is None:
                return NEVER
            return _in_branches(rel, name, lambda branch, place: accepted(branch, place, values))
    return NEVER


def _accepted(row: Row, e: exp.Expr, values: frozenset[str]) -> Needs:
    e = bare_of(e)
    limited = row.known.among.get(key(e)) if pure(e) else None
    if limited is not None and limited <= values:
        return ALWAYS
    if isinstance(e, exp.Literal):
        return ALWAYS if literal(e) in values else NEVER
    if isinstance(e, exp.Column) and not _fits(row, e, values):
        return NEVER
    return _passed(
        row,
        e,
        lambda rel, name: accepted(rel, name, values),
        lambda part: _accepted(row, part, values),
    )


def _fits(row: Row, e: exp.Column, values: frozenset[str]) -> bool:
    """Whether values of another type than the column's would have been an error below already: the null of an outer
    join, or of an aggregate over nothing, may be the first value that they are compared with.
    """
    found = ref(e)
    if found is None or not (row.select.only_row or row.nullable(found[0])):
        return True
    return row.kind(e) == ("text" if all(value.startswith("'") for value in values) else "int")


# relationships


def related(rel: Rel, name: str, to: str, field: str) -> Needs:
    """The column is null or a value of the column `field` of the relation `to`."""
    match rel:
        case Base():
            if rel.relation == to and name == field:
                return ALWAYS
            return claimed(Claim(rel.relation, "relationships", name, to=to, field=field))
        case Select():
            value = lookup(rel, name)
            return _related(Row(rel), value, to, field) if value is not None else NEVER
        case Union():
            if kind_of_output(rel, name) is None:
                return NEVER
            return _in_branches(rel, name, lambda branch, place: related(branch, place, to, field))
    return NEVER


def _related(row: Row, e: exp.Expr, to: str, field: str) -> Needs:
    e = bare_of(e)
    options = [_passed(row, e, lambda rel, name: related(rel, name, to, field), lambda p: _related(row, p, to, field))]
    for left, right in row.known.equal:  # an equal column is there, and its value is the same one
        for one, other in ((left, right), (right, left)):
            if key(one) == key(e) and isinstance(other, exp.Column) and exact(row.kind(one), row.kind(other)):
                found = ref(other)
                if found is not None:
                    options.append(related(row.select.sources[found[0]], found[1], to, field))
    for query in row.known.within.get(key(e), ()) if pure(e) else ():
        rel = row.select.queries.get(query, Opaque())
        names = outputs(rel)
        if names is not None and len(names) == 1 and exact(row.kind(e), kind_of_output(rel, names[0])):
            options.append(related(rel, names[0], to, field))
    return any_of(options)


# What both have in common


Below = Callable[[Rel, str], Needs]


def _passed(row: Row, e: exp.Expr, below: Below, again: Callable[[exp.Expr], Needs]) -> Needs:
    """A claim about values that are those of columns below, or null; where several come together, of one type. A column
    of nothing but null proves nothing: its type is the warehouse's choice, and the test may be an error for it.
    """
    match e:
        case exp.Column():
            found = ref(e)
            return below(row.select.sources[found[0]], found[1]) if found else NEVER
        case exp.Min() | exp.Max() if not e.expressions:
            return again(e.this)
        case exp.Nullif():
            return again(e.this)
        case exp.Coalesce():
            return _together(row, (e.this, *e.expressions), again)
        case exp.Case() | exp.If():
            return _together(row, results(e), again)
    return NEVER


def _together(row: Row, parts: Iterable[exp.Expr], again: Callable[[exp.Expr], Needs]) -> Needs:
    given = tuple(parts)
    if shared(given, row.column_kind) is None:
        return NEVER
    return all_of(again(part) for part in given if not isinstance(part, exp.Null))


def _in_branches(rel: Union, name: str, rule: Below) -> Needs:
    return all_of(rule(branch, place) if place else NEVER for branch, place in branch_columns(rel, name))


def unique(rel: Rel, names: frozenset[str]) -> Needs:
    """No two rows share their values in the columns `names`, rows with a null in one of them left aside."""
    match rel:
        case Base():
            return any_of(claimed(Claim(rel.relation, "unique", name)) for name in names)
        case Select():
            return keys.unique(Row(rel), names, unique)
        case Union():
            every = outputs(rel)
            return ALWAYS if rel.distinct and every is not None and names.issuperset(every) else NEVER
    return NEVER
