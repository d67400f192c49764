"""Which functions are known, and for what: to give one value for one row, and the same for the same."""

from __future__ import annotations

from sqlglot import exp

AGGREGATES: tuple[type[exp.Expr], ...] = (exp.Count, exp.Sum, exp.Avg, exp.Min, exp.Max)
RANKS: tuple[type[exp.Expr], ...] = (exp.RowNumber, exp.Rank, exp.DenseRank)

# Of the same arguments the same value, one for each row.
PURE: tuple[type[exp.Expr], ...] = (
    exp.Abs, exp.Case, exp.Cast, exp.Ceil, exp.Coalesce, exp.Concat, exp.DateTrunc, exp.Floor, exp.If,
    exp.Length, exp.Lower, exp.MD5, exp.Nullif, exp.Round, exp.Substring, exp.TimestampTrunc, exp.Trim, exp.TryCast,
    exp.Upper, exp.And, exp.Or, exp.Not, exp.Extract, exp.Year, exp.Month, exp.Day, exp.DateAdd, exp.DateSub,
    exp.DateDiff, exp.Greatest, exp.Least, exp.Left, exp.Right, exp.Replace, exp.Sign, exp.Sqrt, exp.Pow, exp.Ln,
    exp.Exp, exp.StartsWith, exp.Contains, exp.Initcap, exp.ConcatWs, exp.TsOrDsToDate, exp.Date, exp.StrToDate,
    exp.StrToTime, exp.TimeToStr, exp.Reverse, exp.StrPosition,
)  # fmt: skip


def pure(e: exp.Expr) -> bool:
    """Whether `e` is made of nothing but columns, literals, operators and functions that depend on these alone."""
    return all(not isinstance(part, exp.Func | exp.Query) or isinstance(part, PURE) for part in e.walk())


def fans(e: exp.Expr) -> bool:
    """Whether an output may turn one row into several: only functions on the lists surely do not."""
    known = (*PURE, *AGGREGATES, *RANKS, exp.CurrentDate, exp.CurrentTimestamp, exp.Lag, exp.Lead)
    return any(isinstance(part, exp.Func) and not isinstance(part, known) for part in e.walk())


def one_row(e: exp.Expr) -> bool:
    """Whether the expression, as an output without groups, makes one row of all."""
    if isinstance(e, exp.Window | exp.Query):
        return False
    if isinstance(e, exp.AggFunc) and not isinstance(e, RANKS):
        return True
    return any(one_row(child) for child in e.iter_expressions())


def deterministic(e: exp.Expr) -> bool:
    """Whether a query gives the same over the same data: no function that is not on the lists, no sum whose last digits
    depend on the order, no choice of rows that an order leaves open.
    """
    known = (*PURE, exp.Count, exp.Min, exp.Max)
    if any(isinstance(part, exp.Func) and not isinstance(part, known) for part in e.walk()):
        return False
    chosen = e.find(exp.Limit, exp.Fetch, exp.Offset, exp.TableSample, exp.Window) is not None
    return not chosen and not any(clause.args.get("on") for clause in e.find_all(exp.Distinct))
