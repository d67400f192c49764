"""Code identity of what stands in the warehouse, column by column, and what a reader sees of it.

`Code.base` identifies the rows and everything that cannot be told apart by column; `Code.columns` identifies the
single output columns, where they are known. A reader is touched by a change only through what it reads (semantics,
sections 2 and 4).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import field
from hashlib import blake2b

from sao_events.core.records import record


def digest(*parts: str) -> str:
    """A stable 128-bit identity of the parts, in order; no two different sequences of parts run together."""
    hasher = blake2b(digest_size=16)
    for part in parts:
        data = part.encode("utf-8", "surrogatepass")
        hasher.update(len(data).to_bytes(8, "big"))
        hasher.update(data)
    return hasher.hexdigest()


@record
class Code:
    """Identity of the code that made a relation. Equal codes over equal data make equal relations."""

    base: str
    columns: tuple[tuple[str, str], ...] = ()

    def whole(self) -> str:
        """Identity of everything: rows and every column in order."""
        return digest(self.base, *(part for column in self.columns for part in column))

    def named(self, names: Iterable[str]) -> str:
        """Identity of the rows and of the columns `names`; a column that is not known counts as absent."""
        return digest(self.base, self.only(names))

    def only(self, names: Iterable[str]) -> str:
        """Identity of the columns `names` alone."""
        known = dict(self.columns)
        return digest(*(part for name in names for part in (name, known.get(name, ""))))


@record
class Reading:
    """How a node reads its upstreams: `named` columns of some, `select *` of others (`star`), and of the rest no one
    knows. Where its SQL is taken apart, `rows` are the columns of each upstream that decide which rows there are, and
    `feeds` what each of its own columns is made of.
    """

    named: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    star: frozenset[str] = frozenset()
    rows: Mapping[str, tuple[str, ...]] | None = None
    feeds: Mapping[str, Mapping[str, tuple[str, ...]]] = field(default_factory=dict)

    def sees(self, upstream: str, code: Code) -> str:
        """Identity of what this reader depends on in `upstream`."""
        names = self.named.get(upstream)
        return code.whole() if names is None else code.named(names)

    def compose(self, own: Code, upstreams: Mapping[str, Code]) -> Code:
        """Identity of a relation with the code `own` built over relations with the codes `upstreams`.

        `select *` passes changed columns on. Where `rows` and `feeds` are known, a column changes with what it is made
        of, and everything with what decides the rows; whatever else changes in what is read changes the whole relation.

        Sound with equal codes over equal data make equal relations for each upstream: the base holds the base of every
        upstream, and each of its columns that decides the rows; so equal bases are equal rows. A column's identity
        holds its expression and that of every column in it; so it has equal values in these rows.
        """
        base, passed = [own.base], list[tuple[str, str]]()
        for name, code in upstreams.items():
            if name in self.star and name not in self.named:
                base.append(code.named(self.rows.get(name, ())) if self.rows is not None else code.base)
                passed.extend(code.columns)
            elif name in self.named and self.rows is not None:
                base.append(code.named(self.rows.get(name, ())))
            else:
                base.append(self.sees(name, code))
        columns = [(column, self._fed(column, identity, upstreams)) for column, identity in own.columns]
        columns += passed
        twice = tuple(name for name, count in Counter(name for name, _ in columns).items() if count > 1)
        if twice:  # nobody knows which of two is read, and the warehouse may call the second `name_1`
            base += [part for column in columns if column[0].startswith(twice) for part in column]
        return Code(digest(*base), tuple(columns))

    def _fed(self, column: str, identity: str, upstreams: Mapping[str, Code]) -> str:
        feed = self.feeds.get(column)
        if not feed:
            return identity
        parts = (upstreams[name].only(names) for name, names in sorted(feed.items()) if name in upstreams)
        return digest(identity, *parts)


def spares(old: Code, new: Code) -> bool:
    """Whether the step from `old` to `new` leaves the rows as they were and only touches single columns."""
    return old.base == new.base and old.columns != new.columns
