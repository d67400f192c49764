"""By which names a text calls its functions, where the parser takes several names for one function.

A warehouse may not: `date_part` and `extract` of PostgreSQL give other types, and of `nvl` and `coalesce` it may know
one. So the name belongs to what an expression is, unless it is the function's own.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from functools import lru_cache
from itertools import pairwise
from typing import TypeAlias

from sqlglot import Dialect, exp, parse_one

Spelled: TypeAlias = Mapping[type[exp.Expr], tuple[str, ...]]
_ARGUMENTS = ("a", "a, b", "'day', a", "a, b, c", "day, a, b", "")


def spelled(text: str, dialect: str) -> Spelled:
    """The names in `text`, in capitals and in order, of each function that it calls by another name than its own.
    Raises SqlglotError for a text that cannot be read.
    """
    found: dict[type[exp.Expr], set[str]] = {}
    for token, following in pairwise(Dialect.get_or_raise(dialect).tokenize(text)):
        if following.text == "(" and token.text.isidentifier():
            for function in _functions(token.text.upper(), dialect):
                found.setdefault(function, set()).add(token.text.upper())
    return {function: tuple(sorted(names)) for function, names in found.items()}


@lru_cache(maxsize=4096)
def _functions(name: str, dialect: str) -> frozenset[type[exp.Expr]]:
    """The functions that `name` may be taken for, other than the one whose own name it is."""
    found = set[type[exp.Expr]]()
    for arguments in _ARGUMENTS:
        with suppress(Exception):  # builders trip over arguments that nobody would write
            tree = parse_one(f"select {name}({arguments})", dialect=dialect)
            found.update(type(e) for e in tree.find_all(exp.Func) if name != e.sql_name())
    return frozenset(found)
