"""What names mean within one select, and the identity of its expressions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from sqlglot import exp

from sao_events.core.columns.allowed import KNOWN, known_word, unsteady
from sao_events.core.columns.output import Cell, Output, Whole, either, union
from sao_events.core.columns.spelling import Spelled
from sao_events.core.lineage import digest
from sao_events.core.proof.names import fold

if TYPE_CHECKING:
    from collections.abc import Callable

# Names that mean something else than a column of their relation, or nothing that one can rely on.
PSEUDO = frozenset("rowid ctid oid tableoid xmin xmax cmin cmax level rownum filename all".split())
NONE: frozenset[str] = frozenset()


@dataclass(slots=True)
class Scope:
    """One select: its sources in order, the expressions of its aliases, the queries it may name, and what is around it.

    `mentioned` collects the columns of relations that are named anywhere, used or not; `spelled` are the names by which
    the text calls functions.
    `trivial`: it passes the rows of its one source on, so its columns are looked at as if they were in that source.
    """

    dialect: str
    salt: str
    of: Callable[[exp.Expr, Mapping[str, Output], Scope | None], Output]
    sources: Mapping[str, Output]
    ctes: Mapping[str, Output]
    outer: Scope | None = None
    trivial: bool = False
    aliases: dict[str, exp.Expr] = field(default_factory=dict)
    relations: frozenset[str] = NONE
    mentioned: set[tuple[str, str]] = field(default_factory=set)
    spelled: Spelled = field(default_factory=dict)

    def place(self, name: str) -> str:
        """Where the source of that name stands; empty where it does not matter."""
        return "" if self.trivial else f"{self.depth}.{list(self.sources).index(name)}"

    @property
    def depth(self) -> int:
        """How many selects are around this one, within expressions."""
        return self.outer.depth + 1 if self.outer else 0

    def cell(self, e: exp.Expr, within: frozenset[str] = NONE) -> Cell:
        """The identity of an expression. `within`: the aliases whose expressions it is part of."""
        if isinstance(e, exp.Column):
            return self._column(e, within)
        uses: list[Cell] = []
        text = self._text(e, within, uses)
        return Cell(text, union(uses))

    def _text(self, e: exp.Expr, within: frozenset[str], uses: list[Cell]) -> str:
        if isinstance(e, exp.Column):
            uses.append(cell := self._column(e, within))
            return cell.text
        if isinstance(e, exp.Query):
            uses.append(cell := self._query(e))
            return cell.text
        if isinstance(e, exp.Star) and isinstance(e.parent, exp.Count) and not any(e.args.values()):
            return "star"
        if not isinstance(e, KNOWN):
            raise Whole(f"the meaning of {e.key} is not known")
        if isinstance(e, exp.Var) and not known_word(e):
            raise Whole(f"{e.name} may be a column")
        parts = [e.key, self.salt if unsteady(e) else "", *self.spelled.get(type(e), ())]
        for key in sorted(e.args):
            value = e.args[key]
            if value is not None and value is not False and value != []:
                parts += (key, self._value(value, within, uses))
        return digest(*parts)

    def _value(self, value: Any, within: frozenset[str], uses: list[Cell]) -> str:
        if isinstance(value, exp.Expr):
            return self._text(value, within, uses)
        if isinstance(value, list):
            return digest("list", *(self._value(one, within, uses) for one in value))
        return digest(type(value).__name__, str(value))

    def _query(self, e: exp.Expr) -> Cell:
        """A query within an expression: its value depends on its rows and on all of its columns."""
        inner = e.this if isinstance(e, exp.Subquery) else e
        out = self.of(inner, self.ctes, self)
        self.relations |= out.relations
        cells = out.cells()
        return Cell(digest("query", out.base, *(cell.text for cell in cells)), out.rows | union(cells))

    def _column(self, e: exp.Column, within: frozenset[str]) -> Cell:
        if not isinstance(e.this, exp.Identifier) or e.args.get("db") or e.args.get("catalog"):
            raise Whole("a column that is not named plainly")
        if any(value for key, value in e.args.items() if key not in {"this", "table"}):
            raise Whole("a column with a mark")
        name = fold(e.this, self.dialect)
        if name in PSEUDO or "$" in name or name.startswith(("_table_", "_partition", "_file_")):
            raise Whole(f"{name} is no column of its relation")
        table = e.args.get("table")
        cell = self.qualified(fold(table, self.dialect), name) if table else self._bare(name, within)
        self.mentioned |= cell.uses
        return cell

    def qualified(self, table: str, name: str) -> Cell:
        if table not in self.sources:
            if self.outer is None:
                raise Whole(f"{table} is no source here")
            return self.outer.qualified(table, name)
        cell = self._at(table, name)
        if cell is None:
            raise Whole(f"{table} has no column {name}")
        return cell

    def _at(self, table: str, name: str) -> Cell | None:
        cell, place = self.sources[table].get(name), self.place(table)
        return cell.within(place) if cell and place else cell

    def _bare(self, name: str, within: frozenset[str]) -> Cell:
        found = list(self.candidates(name, within))
        if not found:
            raise Whole(f"nothing here has a column {name}")
        return either(found)

    def candidates(self, name: str, within: frozenset[str]) -> Iterator[Cell]:
        """Everything that a bare name may mean here."""
        if name in self.sources:
            raise Whole(f"{name} may be a row of its relation")
        for table in self.sources:
            if cell := self._at(table, name):
                yield cell
        if name in self.aliases and name not in within:
            yield self.cell(self.aliases[name], within | {name})
        if self.outer and not any(source.has(name) for source in self.sources.values()):
            yield from self.outer.candidates(name, NONE)
