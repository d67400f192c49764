"""What a query is made of, as far as it is understood: relations, joins, conditions, groups, outputs.

Columns in expressions are rewritten to the number of their source and a folded name (`ref`). Whatever is not on the
lists here makes the relation `Opaque`, an expression unknown, or a condition worth nothing: never a guess.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from sqlglot import exp


@dataclass(frozen=True, eq=False)
class Opaque:
    """Nothing is known, not even how many rows it gives."""


@dataclass(frozen=True, eq=False)
class Base:
    """A relation of the warehouse; `columns` has the family of each column, where the columns are known at all."""

    relation: str
    columns: Mapping[str, str | None] | None = None


@dataclass(frozen=True, eq=False)
class Output:
    """A named output of a select."""

    name: str
    value: exp.Expr


@dataclass(frozen=True, eq=False)
class Star:
    """All columns of some sources, in order, without the `hidden`; `changed` ones are replaced in their place."""

    sources: tuple[int, ...]
    hidden: frozenset[str] = frozenset()
    changed: Mapping[str, exp.Expr] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Join:
    """How a source comes to those before it: `inner`, `left`, `right`, `full`; what holds of each pair that matches."""

    kind: str
    on: tuple[exp.Expr, ...] = ()


@dataclass(frozen=True, eq=False)
class Select:
    """One select. `joins[0]` is that of the first source. `group`: None where rows are not grouped, else what by;
    `only_row`: aggregates without groups. `after`: conditions on groups and windows. `distinct`: None, `()` for whole
    rows, else what on. `fans`: an output may turn one row into several.
    """

    sources: tuple[Rel, ...]
    joins: tuple[Join, ...]
    outputs: tuple[Output | Star, ...]
    where: tuple[exp.Expr, ...] = ()
    after: tuple[exp.Expr, ...] = ()
    group: tuple[exp.Expr, ...] | None = None
    only_row: bool = False
    distinct: tuple[exp.Expr, ...] | None = None
    fans: bool = False
    queries: Mapping[str, Rel] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Union:
    """Several queries one below the other, columns by place; `distinct` removes equal rows."""

    branches: tuple[Rel, ...]
    distinct: bool


Rel: TypeAlias = Opaque | Base | Select | Union


def ref(e: exp.Expr) -> tuple[int, str] | None:
    """The source and name of a rewritten column; None for anything else."""
    return (int(e.table), e.name) if isinstance(e, exp.Column) else None


def make_ref(source: int, name: str) -> exp.Column:
    """A rewritten column."""
    return exp.column(exp.to_identifier(name, quoted=True), table=exp.to_identifier(str(source), quoted=True))


def key(e: exp.Expr) -> str:
    """Equal keys: the same expression over the same columns, or nothing is known of either."""
    bare = bare_of(e)
    return bare.sql(comments=False)


def bare_of(e: exp.Expr) -> exp.Expr:
    """`e` without parentheses around it."""
    while isinstance(e, exp.Paren):
        e = e.this
    return e


def has(rel: Rel, name: str) -> bool | None:
    """Whether the relation has an output of that name; None where that is not known."""
    match rel:
        case Base(columns=None) | Opaque():
            return None
        case Base(columns=columns):
            return name in (columns or ())
        case Union(branches=branches):
            return has(branches[0], name)
        case Select():
            if any(isinstance(out, Output) and out.name == name for out in rel.outputs):
                return True
            found = [_star_has(rel, star, name) for star in rel.outputs if isinstance(star, Star)]
            return True if True in found else None if None in found else False


def lookup(rel: Select, name: str) -> exp.Expr | None:
    """The expression behind the output `name`; None where there is none, more than one, or it is not known."""
    values = [out.value for out in rel.outputs if isinstance(out, Output) and out.name == name]
    maybe = 0
    for star in (out for out in rel.outputs if isinstance(out, Star)):
        if _star_has(rel, star, name) is not False:
            maybe += 1
            values += _star_values(rel, star, name)
    return values[0] if len(values) == 1 and maybe <= 1 else None


def outputs(rel: Rel) -> tuple[str, ...] | None:
    """The names of all outputs in order; None where they are not known or one name is given twice."""
    match rel:
        case Base(columns=columns):
            return tuple(columns) if columns is not None else None
        case Union(branches=branches):
            return outputs(branches[0])
        case Select():
            found: list[str] = []
            for out in rel.outputs:
                names = (out.name,) if isinstance(out, Output) else _star_names(rel, out)
                if names is None:
                    return None
                found += names
            return tuple(found) if len(set(found)) == len(found) else None
    return None


def _star_names(rel: Select, star: Star) -> tuple[str, ...] | None:
    found: list[str] = []
    for index in star.sources:
        names = outputs(rel.sources[index])
        if names is None:
            return None
        found += [name for name in names if name not in star.hidden]
    return tuple(found)


def _star_has(rel: Select, star: Star, name: str) -> bool | None:
    if name in star.hidden:
        return False
    found = [has(rel.sources[index], name) for index in star.sources]
    return True if True in found else None if None in found else False


def _star_values(rel: Select, star: Star, name: str) -> list[exp.Expr]:
    if name in star.changed:
        return [star.changed[name]]
    found = [index for index in star.sources if has(rel.sources[index], name) is not False]
    return [make_ref(index, name) for index in found]
