"""Which expressions are taken apart: the same value for the same arguments, one for each row or group."""

from __future__ import annotations

from sqlglot import exp

from sao_events.core.proof.plain import AGGREGATES, PURE

RANKS: tuple[type[exp.Expr], ...] = (exp.Rank, exp.DenseRank)

# One value for each row, but another one at each build, or one that an order leaves open.
UNSTEADY: tuple[type[exp.Expr], ...] = (
    exp.CurrentDate, exp.CurrentTimestamp, exp.CurrentTime, exp.RowNumber, exp.Lag, exp.Lead,
)  # fmt: skip

PARTS: tuple[type[exp.Expr], ...] = (
    exp.Literal, exp.Boolean, exp.Null, exp.Paren, exp.Neg, exp.Not, exp.And, exp.Or, exp.Add, exp.Sub, exp.Mul,
    exp.Div, exp.Mod, exp.IntDiv, exp.EQ, exp.NEQ, exp.LT, exp.LTE, exp.GT, exp.GTE, exp.Is, exp.Like, exp.ILike,
    exp.NullSafeEQ, exp.NullSafeNEQ, exp.DPipe, exp.Between, exp.In, exp.Tuple, exp.DataType, exp.DataTypeParam,
    exp.Interval, exp.Var, exp.Distinct, exp.Filter, exp.Window, exp.WindowSpec, exp.Order, exp.Ordered,
    exp.Exists, exp.Where,
)  # fmt: skip

# Words in the place of an argument: parts of dates. Any other word may be a column that the parser takes for one.
UNITS = frozenset(
    """NANOSECOND MICROSECOND MILLISECOND SECOND MINUTE HOUR DAY WEEK MONTH QUARTER YEAR DECADE CENTURY EPOCH DATE
    MILLENNIUM DOW DOY ISODOW ISOYEAR ISOWEEK DAYOFWEEK DAYOFYEAR WEEKDAY YEARWEEK YEAROFWEEK ERA JULIAN WEEKISO
    DAYOFWEEKISO DAYOFWEEK_ISO EPOCH_SECOND EPOCH_MILLISECOND""".split()
)
FRAMES = frozenset({"RANGE", "GROUPS"})  # rows that are equal in order are in them together

KNOWN = (*PURE, *AGGREGATES, *RANKS, *UNSTEADY, *PARTS)


def known_word(e: exp.Var) -> bool:
    """Whether a word that stands for itself surely does."""
    word = e.name.upper()
    return isinstance(e.parent, exp.DataTypeParam | exp.WindowSpec) or word in UNITS or word.removesuffix("S") in UNITS


def unsteady(e: exp.Expr) -> bool:
    """Whether the value of `e` may be another at each build over the same data. A frame of a number of rows is: which
    of those that are equal in order it has is left open. One over all rows is not.
    """
    if not isinstance(e, exp.WindowSpec):
        return isinstance(e, UNSTEADY)
    if str(e.args.get("kind", "")).upper() in FRAMES:
        return False
    ends = {tuple(str(e.args.get(f"{end}{part}")).upper() for part in ("", "_side")) for end in ("start", "end")}
    return e.args.get("exclude") is not None or ends != {("UNBOUNDED", "PRECEDING"), ("UNBOUNDED", "FOLLOWING")}
