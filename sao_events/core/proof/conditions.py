"""What a condition that holds says about expressions: not null, equal, one of some literals, found in a query."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from sqlglot import exp

from sao_events.core.proof.shape import bare_of, key

_STRICT = (exp.EQ, exp.NEQ, exp.GT, exp.GTE, exp.LT, exp.LTE, exp.Like, exp.ILike, exp.Between, exp.In)


@dataclass(slots=True)
class Known:
    """What holds of every row on which some conditions hold. Keys are those of `shape.key`; `present` are not null;
    `among` are null or one of the literals; `equal` are equal and not null; `within` are found in the named query.
    """

    present: set[str] = field(default_factory=set)
    among: dict[str, frozenset[str]] = field(default_factory=dict)
    equal: list[tuple[exp.Expr, exp.Expr]] = field(default_factory=list)
    within: dict[str, list[str]] = field(default_factory=dict)


def conjuncts(e: exp.Expr) -> Iterator[exp.Expr]:
    """The conditions that `and` connects."""
    e = bare_of(e)
    if isinstance(e, exp.And):
        yield from conjuncts(e.left)
        yield from conjuncts(e.right)
    else:
        yield e


def known(conditions: Iterable[exp.Expr]) -> Known:
    """What holds where all of the conditions hold."""
    found = Known()
    for condition in conditions:
        for part in conjuncts(condition):
            found.present |= present(part)
            if (limited := among(part)) is not None:
                name, values = limited
                found.among[name] = found.among.get(name, values) & values
            if isinstance(part, exp.EQ) and _simple(part.left) and _simple(part.right):
                found.equal.append((bare_of(part.left), bare_of(part.right)))
            if isinstance(part, exp.In) and isinstance(part.args.get("query"), exp.Anonymous):
                found.within.setdefault(key(part.this), []).append(part.args["query"].name)
    return found


def present(e: exp.Expr) -> set[str]:
    """Keys of expressions that are not null where `e` holds."""
    e = bare_of(e)
    if isinstance(e, exp.And):
        return present(e.left) | present(e.right)
    if isinstance(e, exp.Or):
        return present(e.left) & present(e.right)
    if isinstance(e, exp.Not):
        inner = bare_of(e.this)
        if isinstance(inner, exp.Is) and isinstance(inner.expression, exp.Null):
            return _with_inner(inner.this)
        searched = isinstance(inner, exp.In) and inner.args.get("query") is not None
        return set() if searched else _strict(inner)  # nothing is in an empty query, null neither
    if isinstance(e, exp.Column):
        return {key(e)}
    return _strict(e)


def _strict(e: exp.Expr) -> set[str]:
    """What a comparison compares: it is neither true nor false where one of them is null."""
    if not isinstance(e, _STRICT):
        return set()
    if isinstance(e, exp.In) and not (_literals(e) or e.args.get("query") is not None):
        return set()
    if isinstance(e, exp.Between):
        return _with_inner(e.this)
    sides = [e.this] if isinstance(e, exp.In) else [e.this, e.expression]
    if any(isinstance(bare_of(side), exp.All | exp.Any) for side in sides):
        return set()
    return set().union(*map(_with_inner, sides))


def _with_inner(e: exp.Expr) -> set[str]:
    """`e` and what it is a cast of: the cast of null is null."""
    e = bare_of(e)
    return {key(e)} | (_with_inner(e.this) if isinstance(e, exp.Cast) else set())


def among(e: exp.Expr) -> tuple[str, frozenset[str]] | None:
    """The one expression that `e` limits to literals, and these."""
    e = bare_of(e)
    if isinstance(e, exp.EQ):
        for one, other in ((e.left, e.right), (e.right, e.left)):
            if isinstance(bare_of(other), exp.Literal):
                return key(one), frozenset({literal(bare_of(other))})
    if isinstance(e, exp.In) and (values := _literals(e)):
        return key(e.this), frozenset(values)
    if isinstance(e, exp.Or):
        left, right = among(e.left), among(e.right)
        if left and right and left[0] == right[0]:
            return left[0], left[1] | right[1]
    return None


def literal(e: exp.Expr) -> str:
    """A literal as SQL."""
    return e.sql()


def _literals(e: exp.In) -> list[str]:
    parts = [bare_of(part) for part in e.expressions]
    if e.args.get("unnest") or e.args.get("field") or not all(isinstance(part, exp.Literal) for part in parts):
        return []
    return [literal(part) for part in parts]


def _simple(e: exp.Expr) -> bool:
    return isinstance(bare_of(e), exp.Column | exp.Literal)
