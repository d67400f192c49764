"""What each output column of a query is made of, and what decides which rows there are.

`analyse` reads one compiled query. Equal `base` of two queries: the same rows over the same parents, as far as these
are named in `rows`. Equal identities of a column: the same values in these rows, over the same parent columns. Only
clauses and functions that are known to be harmless are taken apart; all else is refused (`Whole`): then the query
counts as one piece, and each change of it as a change of everything (semantics, section 4).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from sqlglot import parse
from sqlglot.errors import SqlglotError

from sao_events.core.columns.allowed import unsteady
from sao_events.core.columns.output import EVERYTHING, UNNAMED, Output, Star, Whole
from sao_events.core.columns.query import Query
from sao_events.core.columns.spelling import spelled
from sao_events.core.lineage import Code, Reading, digest
from sao_events.core.proof.names import known

Names = Mapping[str, tuple[str, ...]]  # relation -> its columns, by their folded names


@dataclass(frozen=True, slots=True)
class Analysis:
    """What is known of a query. `rows`: columns of each relation that decide which rows there are; `columns`: name and
    identity in order; `feeds`: for each column what its values are made of; `star`: relations whose columns are passed
    on, all of them; `plain`: the columns that are passed on as they are; `wholly`: relations of which everything
    counts; `steady`: over the same data the same comes out each time; `mentioned`: the columns that are named anywhere,
    for nothing too: without them the query fails.
    """

    base: str
    columns: tuple[tuple[str, str], ...]
    rows: Names
    feeds: Mapping[str, Names]
    star: frozenset[str] = frozenset()
    wholly: frozenset[str] = frozenset()
    plain: frozenset[str] = field(default_factory=frozenset)
    steady: bool = True
    mentioned: Names = field(default_factory=dict)

    @property
    def relations(self) -> frozenset[str]:
        """Every relation that the query reads."""
        return frozenset(self.rows).union(*self.feeds.values())

    @property
    def code(self) -> Code:
        """The identity of what the query makes by itself."""
        return Code(self.base, self.columns)

    def reading(self, upstreams: Mapping[str, str]) -> Reading:
        """How the query reads its `upstreams`, ids by relation; unknown where it reads anything else."""
        if not self.relations <= upstreams.keys():
            return Reading()
        rows = {upstreams[name]: used for name, used in self.rows.items()}
        feeds = {column: {upstreams[name]: used for name, used in feed.items()} for column, feed in self.feeds.items()}
        all_of = self.wholly | self.star
        named = {upstreams[name]: self.reads(name) for name in self.relations - all_of}
        if not self.steady:  # what is built again is another relation, whatever the reason
            return Reading(named)
        return Reading(named, frozenset(upstreams[name] for name in self.star), rows, feeds)

    def reads(self, relation: str) -> tuple[str, ...]:
        """The columns of `relation` that are read or named, in order of their names."""
        found = {*self.rows.get(relation, ()), *self.mentioned.get(relation, ())}
        found.update(name for feed in self.feeds.values() for name in feed.get(relation, ()))
        return tuple(sorted(found))


def analyse(text: str, dialect: str) -> Analysis:
    """The analysis of the query `text`, in the SQL of dbt's adapter `dialect`. Raises Whole, with the reason."""
    if not known(dialect):
        raise Whole(f"the SQL of {dialect} is not taken apart")
    try:
        trees = [tree for tree in parse(text, dialect=dialect) if tree is not None]
        if len(trees) != 1:
            raise Whole("it is not one query")
        steady = not any(map(unsteady, trees[0].walk()))
        query = Query(dialect, digest(text), spelled(text, dialect))
        found = _analysis(query.of(trees[0], {}, None))
        return replace(found, steady=steady, mentioned=_grouped(query.mentioned))
    except (SqlglotError, RecursionError):
        raise Whole("its SQL cannot be read") from None


def _analysis(out: Output) -> Analysis:
    names = [item[0] for item in out.items if not isinstance(item, Star)]
    stars = [item for item in out.items if isinstance(item, Star)]
    passed = [_relation(star) for star in stars]
    if UNNAMED in names:
        raise Whole("an output without a name")
    if len(set(names)) < len(names) or len(set(passed)) < len(passed):
        raise Whole("a column has the name of another")
    pattern = [item.text if isinstance(item, Star) else "" for item in out.items]
    base = digest("columns 1", out.base, *pattern) if stars else digest("columns 1", out.base)
    rows = _grouped(out.rows)
    for relation in out.relations:
        rows.setdefault(relation, ())
    found = [item for item in out.items if not isinstance(item, Star)]
    feeds = {name: _grouped(cell.uses) for name, cell in found}
    wholly = {relation for uses in (rows, *feeds.values()) for relation, read in uses.items() if EVERYTHING in read}
    hidden = {relation for star, relation in zip(stars, passed, strict=True) if _hides(star)}
    return Analysis(
        base,
        tuple((name, digest(cell.text)) for name, cell in found),
        rows,
        feeds,
        frozenset(passed) - hidden - wholly,
        frozenset(wholly | hidden),
        frozenset(name for name, cell in found if cell.plain),
    )


def _relation(star: Star) -> str:
    inner = star.source
    if inner.relation is not None:
        return inner.relation
    if len(inner.items) != 1 or not isinstance(inner.items[0], Star):
        raise Whole("select * over columns and an unknown relation")
    return _relation(inner.items[0])


def _hides(star: Star) -> bool:
    return bool(star.hidden) or any(isinstance(item, Star) and _hides(item) for item in star.source.items)


def _grouped(uses: Iterable[tuple[str, str]]) -> dict[str, tuple[str, ...]]:
    found: dict[str, list[str]] = {}
    for relation, column in sorted(uses):
        found.setdefault(relation, []).append(column)
    return {relation: tuple(columns) for relation, columns in found.items()}


__all__ = ["Analysis", "Whole", "analyse"]
