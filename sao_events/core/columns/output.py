"""What a query gives: identities of its rows and columns, with the parents' columns that they are made of."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TypeAlias

from sao_events.core.errors import SaoError
from sao_events.core.lineage import digest

EVERYTHING = "*"  # in place of a column: all of the relation
UNNAMED = ""  # the warehouse makes up a name, so it may be any

Uses: TypeAlias = frozenset[tuple[str, str]]  # relation and column


class Whole(SaoError):
    """A query, or what is around it, is not understood; it counts as one piece."""


@dataclass(frozen=True, slots=True)
class Cell:
    """The values of a column: equal texts over equal rows and parents are equal values. `plain`: those of a parent's
    column as they are.
    """

    text: str
    uses: Uses = frozenset()
    plain: bool = False

    def within(self, place: str) -> Cell:
        """The same column, seen from a query that has it at `place` among its sources."""
        return Cell(digest("of", place, self.text), self.uses, self.plain)


@dataclass(frozen=True, slots=True)
class Star:
    """All columns of a source whose columns are not known, without the `hidden`; `place` as in `Cell.within`, or
    empty."""

    source: Output
    place: str = ""
    hidden: frozenset[str] = frozenset()

    @property
    def text(self) -> str:
        """What distinguishes the columns it passes on, beside their own identity."""
        inner = self.source.items[0] if self.source.items else ""
        return digest("star", self.place, *sorted(self.hidden), inner.text if isinstance(inner, Star) else "")

    def get(self, name: str) -> Cell | None:
        """The column of that name, if the source has one."""
        if name in self.hidden:
            return None
        cell = self.source.get(name)
        return cell.within(self.place) if cell and self.place else cell


@dataclass(frozen=True, slots=True)
class Output:
    """What a query or relation gives. `rows`: what decides which rows there are; `items`: columns in order;
    `relation`: it is a relation of the warehouse, whose columns are not known.
    """

    base: str
    rows: Uses = frozenset()
    items: tuple[tuple[str, Cell] | Star, ...] = ()
    relation: str | None = None
    relations: frozenset[str] = field(default_factory=frozenset)

    @property
    def closed(self) -> bool:
        """Whether all columns are known."""
        return self.relation is None and not any(isinstance(item, Star) for item in self.items)

    def get(self, name: str) -> Cell | None:
        """The column of that name, if there is or may be one."""
        if self.relation is not None:
            return Cell(digest("column", self.relation, name), frozenset({(self.relation, name)}), plain=True)
        found = [cell for cell in map(_finder(name), self.items) if cell is not None]
        return either(found) if found else None

    def has(self, name: str) -> bool:
        """Whether there certainly is a column of that name."""
        return any(not isinstance(item, Star) and item[0] == name for item in self.items)

    def cells(self) -> list[Cell]:
        """All columns in order, where they are to be compared as wholes."""
        if self.relation is not None:
            return [Cell(digest("row", self.relation), frozenset({(self.relation, EVERYTHING)}))]
        return [cell for item in self.items for cell in _all_of(item)]


def _finder(name: str) -> Callable[[tuple[str, Cell] | Star], Cell | None]:
    def find(item: tuple[str, Cell] | Star) -> Cell | None:
        if isinstance(item, Star):
            return item.get(name)
        return item[1] if item[0] in {name, UNNAMED} else None

    return find


def _all_of(item: tuple[str, Cell] | Star) -> list[Cell]:
    if not isinstance(item, Star):
        return [item[1]]
    return [Cell(digest(item.text, cell.text), cell.uses) for cell in item.source.cells()]


def either(cells: Iterable[Cell]) -> Cell:
    """A column that is one of several, nobody knows which: it changes when any of them does."""
    found = list(dict.fromkeys(cells))
    if len(found) == 1:
        return found[0]
    return Cell(digest("either", *(cell.text for cell in found)), union(found))


def union(cells: Iterable[Cell]) -> Uses:
    """All that the cells are made of."""
    return frozenset().union(*(cell.uses for cell in cells))
