"""Types, as far as a proof needs them: families within which `=`, grouping and sharing a column lose nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from sqlglot import exp
from sqlglot.errors import SqlglotError

Lookup = Callable[[exp.Column], str | None]

_TEXT = {exp.DType.TEXT, exp.DType.VARCHAR}
_EXACT = {"int", "text", "date", "uuid", "boolean"}
_OTHER = {
    exp.DType.DATE: "date",
    exp.DType.UUID: "uuid",
    exp.DType.BOOLEAN: "boolean",
    exp.DType.TIMESTAMP: "timestamp",
    exp.DType.TIMESTAMPTZ: "timestamptz",
    exp.DType.FLOAT: "float",
    exp.DType.DOUBLE: "double",
}


def family(text: str, dialect: str) -> str | None:
    """The family of a type by its name in the warehouse; None where nothing is known of it."""
    try:
        return of_type(exp.DataType.build(text, dialect=dialect))
    except (SqlglotError, ValueError):
        return None


def of_type(kind: exp.DataType) -> str | None:
    """The family of a type: integers of all widths are one, text without a length is one."""
    if kind.this in exp.DataType.INTEGER_TYPES:
        return "int"
    if kind.this in _TEXT:
        return None if kind.expressions else "text"
    if kind.this == exp.DType.DECIMAL and kind.expressions:
        return f"decimal({','.join(str(part) for part in kind.expressions)})"
    return _OTHER.get(kind.this)


def exact(one: str | None, other: str | None) -> bool:
    """Whether `=` between columns of these families holds for exactly the values that grouping takes as the same."""
    return one is not None and one == other and one in _EXACT


def kind_of(e: exp.Expr, column: Lookup) -> str | None:
    """The family of an expression's values, where it is certain. `column` knows those of columns."""
    match e:
        case exp.Column():
            return column(e)
        case exp.Paren() | exp.Min() | exp.Max() | exp.Nullif():
            return kind_of(e.this, column)
        case exp.Literal():
            return "text" if e.is_string else "int" if e.is_int else None
        case exp.Cast(to=exp.DataType() as kind):
            return of_type(kind)
        case exp.Count() | exp.RowNumber() | exp.Length():
            return "int"
        case exp.Lower() | exp.Upper() | exp.Trim() | exp.MD5():
            return "text"
        case exp.DPipe():
            return "text" if {kind_of(e.this, column), kind_of(e.expression, column)} == {"text"} else None
        case exp.Coalesce():
            return shared((e.this, *e.expressions), column)
        case exp.Case() | exp.If():
            return shared(results(e), column)
    return None


def shared(parts: Iterable[exp.Expr], column: Lookup) -> str | None:
    """The one family of several expressions that end up in one column."""
    found = {kind_of(part, column) for part in parts if not isinstance(part, exp.Null)}
    return found.pop() if len(found) == 1 else None


def results(e: exp.Expr) -> list[exp.Expr]:
    """What a `case` or `if` may come to."""
    if isinstance(e, exp.If):
        return [e.args["true"], e.args.get("false") or exp.null()]
    branches = [branch.args["true"] for branch in e.args.get("ifs") or ()]
    return [*branches, e.args.get("default") or exp.null()]
