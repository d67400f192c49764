"""Uniqueness in a select: by groups, by `distinct`, by the first row of each partition, and through joins.

Everywhere a set of columns is asked for that *contains* a key. As in dbt's test, rows with a null in the key are left
aside; null never equals anything in a join either, so such rows match nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Protocol

from sqlglot import exp

from sao_events.core.proof.conditions import Known, known
from sao_events.core.proof.kinds import exact
from sao_events.core.proof.needs import ALWAYS, NEVER, Needs, all_of, any_of
from sao_events.core.proof.plain import pure
from sao_events.core.proof.shape import Rel, Select, bare_of, key, lookup, outputs, ref

Below = Callable[[Rel, frozenset[str]], Needs]
Column = tuple[int, str]


class Row(Protocol):
    """What is asked of the rows of a select (`rules.Row`)."""

    @property
    def select(self) -> Select:
        """The select."""

    @property
    def known(self) -> Known:
        """What its conditions say."""

    def kind(self, e: exp.Expr) -> str | None:
        """The family of an expression's type."""


def unique(row: Row, names: frozenset[str], below: Below) -> Needs:
    """The outputs `names` contain a key. `below` asks the same of a source."""
    select = row.select
    values = [value for name in names if (value := lookup(select, name)) is not None]
    given = {key(value) for value in values if pure(value)}
    if select.distinct == () and (every := outputs(select)) is not None and names.issuperset(every):
        return ALWAYS
    if select.distinct and given.issuperset(map(key, select.distinct)):
        return ALWAYS
    if select.fans:
        return NEVER
    if select.only_row or (select.group is not None and given.issuperset(map(key, select.group))):
        return ALWAYS
    if any(given.issuperset(partition) for partition in _firsts(select)):
        return ALWAYS
    columns = {found for value in values if (found := ref(bare_of(value))) is not None}
    return _joined(row, len(select.sources) - 1, frozenset(columns), below) if columns else NEVER


def _firsts(select: Select) -> Iterable[set[str]]:
    """The partitions of which only the first row is kept by a condition on this select's own window."""
    for condition in select.after:
        window = _first(condition)
        if isinstance(window, exp.Window):
            found = _partition(window)
            if found is not None:
                yield found


def _first(condition: exp.Expr) -> exp.Expr | None:
    """What must be 1 for the condition to hold."""
    condition = bare_of(condition)
    if isinstance(condition, exp.EQ):
        for one, other in ((condition.left, condition.right), (condition.right, condition.left)):
            if isinstance(bare_of(other), exp.Literal) and bare_of(other).sql() == "1":
                return bare_of(one)
    return None


def _partition(window: exp.Window) -> set[str] | None:
    """Keys of what the rows are numbered by; None where the window does something else."""
    if type(window.this) is not exp.RowNumber or window.args.get("alias") or window.args.get("spec"):
        return None
    return {key(part) for part in window.args.get("partition_by") or ()}


def _joined(row: Row, last: int, columns: frozenset[Column], below: Below) -> Needs:
    """`columns` contain a key of the first sources, up to `last`, joined. Of two sides that are joined, each row of the
    one meets at most one row of the other when the columns that are equated contain a key of the other.
    """
    columns = _closed(row, columns, last)
    mine = frozenset(name for source, name in columns if source == last)
    if last == 0:
        return _source(row, 0, mine, below)
    before = frozenset(column for column in columns if column[0] < last)
    fixed_mine, fixed_before = _equated(row, last)
    options = list[Needs]()
    if before:
        options.append(all_of((_joined(row, last - 1, before, below), _source(row, last, fixed_mine | mine, below))))
    if mine:
        options.append(all_of((_source(row, last, mine, below), _joined(row, last - 1, fixed_before | before, below))))
    return any_of(options)


def _source(row: Row, index: int, names: frozenset[str], below: Below) -> Needs:
    """`names` contain a key of the source, or of those of its rows that are the first of their partition."""
    rel = row.select.sources[index]
    if isinstance(rel, Select):
        given = {key(value) for name in names if (value := lookup(rel, name)) is not None and pure(value)}
        for condition in row.select.where:
            partition = _numbered(condition, index, rel)
            if partition is not None and given.issuperset(partition) and not rel.fans:
                return ALWAYS
    return below(rel, names) if names else NEVER


def _numbered(condition: exp.Expr, index: int, rel: Select) -> set[str] | None:
    """The partition of whose rows the condition keeps the first, numbered inside the source."""
    number = _first(condition)
    found = ref(number) if number is not None else None
    if found is None or found[0] != index:
        return None
    value = lookup(rel, found[1])
    return _partition(value) if isinstance(value, exp.Window) and rel.distinct in {None, ()} else None


def _equalities(row: Row, last: int) -> Iterable[tuple[exp.Expr, exp.Expr, str]]:
    """What is equal in every row in which both sides are there: by the join of `last`, or (`all`) by `where`."""
    select = row.select
    for one, other in known(select.joins[last].on).equal:
        yield one, other, select.joins[last].kind
    for one, other in known(select.where).equal:
        yield one, other, "all"


def _equated(row: Row, last: int) -> tuple[frozenset[str], frozenset[Column]]:
    """Columns of the source `last`, and of those before it, that are made equal to the other side or a literal."""
    mine, before = set[str](), set[Column]()
    for left, right, _ in _equalities(row, last):
        for one, other in ((left, right), (right, left)):
            found, partner = ref(one), ref(other)
            if found is None or found[0] > last or not _same(row, one, other):
                continue
            fixed = partner is None
            if found[0] == last and (fixed or (partner is not None and partner[0] < last)):
                mine.add(found[1])
            elif found[0] < last and (fixed or (partner is not None and partner[0] == last)):
                before.add(found)
    return frozenset(mine), frozenset(before)


def _closed(row: Row, columns: frozenset[Column], last: int) -> frozenset[Column]:
    """`columns` and those that have the same value wherever these have one."""
    found = set(columns)
    for left, right, kind in _equalities(row, last):
        a, b = ref(left), ref(right)
        if a is None or b is None or max(a[0], b[0]) > last or not _same(row, left, right):
            continue
        for one, other in ((a, b), (b, a)):
            sure = (
                kind in {"all", "inner"}
                or (kind == "left" and one[0] == last)
                or (kind == "right" and other[0] == last)
            )
            if one in found and sure:
                found.add(other)
    return frozenset(found)


def _same(row: Row, one: exp.Expr, other: exp.Expr) -> bool:
    """Whether `=` between the two picks a single value of `one`."""
    if isinstance(other, exp.Literal):
        return other.is_string or row.kind(one) == "int"
    return exact(row.kind(one), row.kind(other))
