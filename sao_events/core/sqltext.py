"""Whether two texts of SQL, as dbt compiles it, say the same.

They do where they have the same words in the same order, but for spellings that are known to be equal, and where
sqlglot reads the same out of both. The first keeps apart what sqlglot takes for the same and a warehouse may not; the
second what the equal spellings would blur. Whatever is not understood is compared as text. In doubt: not the same.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import pairwise
from typing import Any

from sao_events.core.fingerprint import HASH_COMMENTS, SLASH_COMMENTS, STRICT_DASHES, canonical

# dbt's adapters, and what sqlglot calls their SQL.
DIALECTS = {
    "athena": "athena",
    "bigquery": "bigquery",
    "clickhouse": "clickhouse",
    "databricks": "databricks",
    "duckdb": "duckdb",
    "mysql": "mysql",
    "postgres": "postgres",
    "redshift": "redshift",
    "snowflake": "snowflake",
    "spark": "spark",
    "sqlite": "sqlite",
    "sqlserver": "tsql",
    "fabric": "tsql",
    "trino": "trino",
}
FOLDS = frozenset({"postgres", "redshift", "snowflake"})  # the case of a name without quotes says nothing
# A column without a name is called by its place or by what the parsed expression is, not by how that is written.
NAMED_BY_MEANING = frozenset({"bigquery", "duckdb", "postgres", "redshift"})
USER_FUNCTIONS_BY_CASE = frozenset({"bigquery"})
SYNONYMS = {"INTEGER": "INT", "BOOLEAN": "BOOL"}  # of types

_SPACE = " \t\r\n\f\v"
_OPERATORS, _COMMENTS = frozenset("+-*/<>=~!@#%^&|`?:"), frozenset("-/#")
_HINT = re.compile(r"/\*M?[!+]|--\+")
# What ends an expression or a relation, so that an `as` behind it may be left out.
_ENDS_VALUE = frozenset({"VAR", "IDENTIFIER", "NUMBER", "R_PAREN", "R_BRACKET", "END", "NULL", "TRUE", "FALSE"})
_QUALIFIES_JOIN = frozenset("LEFT RIGHT FULL OUTER CROSS NATURAL ASOF POSITIONAL SEMI ANTI ANY ALL GLOBAL".split())
_CONTINUES_TYPE = frozenset({"WITH", "WITHOUT", "VARYING", "PRECISION", "ARRAY", "UNSIGNED", "<", ".", "::", "["})
# What may stand before the operand of `::` so that it surely ends there; before others some warehouses read on.
_BEFORE_OPERAND = frozenset(
    """, ( SELECT DISTINCT WHERE HAVING ON AND OR NOT WHEN THEN ELSE CASE BETWEEN IN BY
    = <> < > <= >= + - * / % ||""".split()
)


class _Doubt(Exception):
    """The text is not certainly understood."""


@dataclass(frozen=True, slots=True)
class Word:
    """A token as it is written, whether something stands between it and the one before, and its kind in sqlglot."""

    text: str
    kind: str
    apart: bool = True

    @property
    def key(self) -> str:
        """As it is compared where case says nothing."""
        return " ".join(self.text.upper().split()) if self.text.isascii() else self.text


def dialect_of(adapter: str) -> str | None:
    """What sqlglot calls the SQL of dbt's `adapter`; None where it does not know it."""
    return DIALECTS.get(adapter)


def same_sql(old: str, new: str, adapter: str) -> bool:
    """Whether `old` and `new` certainly do the same in the warehouse of dbt's `adapter`, down to the names and types of
    columns. In doubt they do not.
    """
    if old == new:
        return True
    before, after = _meaning(old, adapter), _meaning(new, adapter)
    if before and after:
        return before == after
    exact = adapter not in NAMED_BY_MEANING
    texts = (canonical(text, jinja=False, dialect=adapter, exact=exact) for text in (old, new))
    return next(texts) == next(texts)


@lru_cache(maxsize=256)
def _meaning(text: str, adapter: str) -> tuple[tuple[str, ...], str] | None:
    """Words and tree of the text; None where it is not understood."""
    dialect = dialect_of(adapter)
    if dialect is None:
        return None
    import sqlglot.errors

    try:
        words = list(_casts(_joins(_words(text, adapter, dialect))))
        words = _folded(words, adapter, dialect)
        return tuple(_compared(words)), _tree(words, adapter, dialect)
    except (_Doubt, RecursionError, ValueError, sqlglot.errors.SqlglotError):
        return None


def pretty(text: str, adapter: str) -> str:
    """The text laid out in one way, for people to compare; as it is where it is not understood."""
    import sqlglot
    import sqlglot.errors

    try:
        found = sqlglot.transpile(
            text, read=dialect_of(adapter), write=dialect_of(adapter), pretty=True, comments=False
        )
    except (RecursionError, ValueError, sqlglot.errors.SqlglotError):
        return text.strip()
    return ";\n".join(found)


# Words


def _words(text: str, adapter: str, dialect: str) -> list[Word]:
    """The tokens. Raises _Doubt where sqlglot leaves out more than comments and space."""
    from sqlglot.dialects.dialect import Dialect

    found, end = list[Word](), 0
    if re.search(r"""\\['"`]""", text):
        raise _Doubt
    for token in Dialect.get_or_raise(dialect).tokenize(text):
        gap = text[end : token.start]
        if found and found[-1].text[-1] in _OPERATORS and gap[:1] in _COMMENTS:
            raise _Doubt  # `::-- x` is a comment to some and an operator to others
        _check_gap(gap, adapter)
        apart = token.start > end
        end = token.end + 1
        found.append(Word(text[token.start : end], token.token_type.name, apart))
    _check_gap(text[end:], adapter)
    while found and found[-1].text == ";":
        found.pop()
    if any(one.kind.endswith("STRING") and two.kind.endswith("STRING") for one, two in pairwise(found)):
        raise _Doubt  # one string in two parts, or a string and a name
    if adapter == "snowflake" and any(word.text == "@" for word in found):
        raise _Doubt  # the path of a file
    return found


def _check_gap(gap: str, adapter: str) -> None:
    while gap := gap.lstrip(_SPACE):
        if _HINT.match(gap):
            raise _Doubt
        if gap.startswith("/*"):
            inner, closing, gap = gap[2:].partition("*/")
            if not closing or "/*" in inner:
                raise _Doubt
        elif _is_line_comment(gap, adapter):
            gap = gap.partition("\n")[2]
        else:
            raise _Doubt


def _is_line_comment(gap: str, adapter: str) -> bool:
    if gap.startswith("--"):
        return adapter not in STRICT_DASHES or gap[2:3].isspace()
    return gap.startswith("#" if adapter in HASH_COMMENTS else "//" if adapter in SLASH_COMMENTS else "--")


def _joins(words: Sequence[Word]) -> Iterator[Word]:
    """`inner join` is `join`, `left outer join` is `left join`; `!=` is `<>`."""
    keys = ["", *(word.key for word in words), ""]
    for place, word in enumerate(words, 1):
        before, key, after = keys[place - 1 : place + 2]
        inner = key == "INNER" and before not in _QUALIFIES_JOIN
        if after == "JOIN" and (inner or (key == "OUTER" and before in {"LEFT", "RIGHT", "FULL"})):
            continue
        yield replace(word, text="<>") if word.kind == "NEQ" else word


def _casts(found: Iterator[Word]) -> list[Word]:
    """`x::type` as `cast(x as type)`, where operand and type are certain."""
    words = list(found)
    place = 0
    while place < len(words):
        if words[place].kind == "DCOLON":
            start, end = _operand(words, place), _type_end(words, place + 1)
            if start is not None and end is not None:
                opening = [Word("CAST", "VAR"), Word("(", "L_PAREN", apart=False)]
                middle = [Word("AS", "ALIAS"), replace(words[place + 1], apart=True), *words[place + 2 : end]]
                words[start:end] = [*opening, *words[start:place], *middle, Word(")", "R_PAREN", apart=False)]
                place = start
        place += 1
    return words


def _operand(words: Sequence[Word], place: int) -> int | None:
    """Where the operand of the `::` at `place` begins: a name, a literal, something in parentheses, a call."""
    start = place - 1
    if start >= 0 and words[start].text == ")":
        depth = 0
        while start >= 0:
            depth += (words[start].text == ")") - (words[start].text == "(")
            if not depth:
                break
            start -= 1
        if start > 0 and words[start - 1].kind == "VAR" and words[start - 1].key not in _BEFORE_OPERAND:
            start -= 1
    elif start < 0 or words[start].kind not in {"VAR", "IDENTIFIER", "STRING", "NUMBER"}:
        return None
    while start > 1 and words[start - 1].text == "." and words[start - 2].kind in {"VAR", "IDENTIFIER"}:
        start -= 2
    before = words[start - 1].key if start > 0 else ""
    signed = before in {"-", "+"} and (
        start < 2 or words[start - 2].kind not in {"VAR", "IDENTIFIER", "NUMBER", "R_PAREN"}
    )
    return start if before in _BEFORE_OPERAND and not signed else None


def _type_end(words: Sequence[Word], place: int) -> int | None:
    """Behind the type that begins at `place`: one word and what is in parentheses behind it."""
    end = place + 1
    if place >= len(words) or not words[place].text.replace("_", "").isalnum():
        return None
    if end < len(words) and words[end].text == "(":
        while end < len(words) and words[end].text != ")":
            end += 1
        end += 1
    return None if end < len(words) and words[end].key in _CONTINUES_TYPE - {"::"} else end


def _folded(words: list[Word], adapter: str, dialect: str) -> list[Word]:
    """Names in lower case where the warehouse takes their case away; names of functions where it is certain."""
    known = _functions(dialect)
    folds = adapter in FOLDS and not (adapter == "snowflake" and any(word.kind == "COLON" for word in words))
    found = list[Word]()
    for place, word in enumerate(words):
        called = place + 1 < len(words) and words[place + 1].text == "("
        free = adapter not in USER_FUNCTIONS_BY_CASE or (word.text.upper() in known and words[place - 1].text != ".")
        if word.kind == "VAR" and word.text.isascii():
            if called and free:
                word = replace(word, text=word.text.upper())  # noqa: PLW2901
            elif folds:
                word = replace(word, text=word.text.lower())  # noqa: PLW2901
        found.append(word)
    return found


@lru_cache
def _functions(dialect: str) -> frozenset[str]:
    from sqlglot.dialects.dialect import Dialect

    parser = Dialect.get_or_raise(dialect).parser_class
    return frozenset({*parser.FUNCTIONS, *parser.FUNCTION_PARSERS})


def _compared(words: Sequence[Word]) -> Iterator[str]:
    """The words without those that may be left out, keywords in one case unless they may be names."""
    before, ended = "", False  # the word before, and whether a value or relation may end with it
    casts = list[bool]()  # for each parenthesis that is open, whether it is that of a cast
    for word, following in pairwise([*words, Word("", "")]):
        named = before in {".", ":"} or word.kind in {"VAR", "IDENTIFIER", "NUMBER"}
        named = named or (before == "AS" and not (casts and casts[-1]))
        if word.text == "(":
            casts.append(before.endswith("CAST"))
        elif word.text == ")" and casts:
            casts.pop()
        optional = word.kind == "ALIAS" and ended
        ended = word.kind in _ENDS_VALUE or word.kind.endswith("STRING") or before in {".", "::", "WITH"}
        before = word.key
        if optional or (word.kind == "COMMA" and following.key in {"FROM", ""}):
            continue
        if (named and word.key not in SYNONYMS) or word.kind.endswith("STRING"):
            yield word.text
        else:
            yield SYNONYMS.get(word.key, word.key)


# The tree


def _tree(words: Sequence[Word], adapter: str, dialect: str) -> str:
    """What sqlglot reads out of the words, written down in one way. Raises _Doubt, SqlglotError."""
    import sqlglot
    from sqlglot import ErrorLevel, exp

    text = "".join(f" {word.text}" if word.apart else word.text for word in words)
    statements = [one for one in sqlglot.parse(text, read=dialect) if one is not None]
    if len(statements) != 1 or statements[0].find(exp.Command):
        raise _Doubt
    [tree] = statements
    if adapter not in NAMED_BY_MEANING and any(_names_itself(select) for select in tree.find_all(exp.Select)):
        raise _Doubt
    case: Any = False if adapter in USER_FUNCTIONS_BY_CASE else "upper"
    return tree.sql(dialect=dialect, comments=False, normalize_functions=case, unsupported_level=ErrorLevel.RAISE)


def _names_itself(select: Any) -> bool:
    """Whether the warehouse makes up the name of a column from the text of its expression."""
    from sqlglot import exp

    if isinstance(select.parent, exp.Exists | exp.In) or isinstance(
        getattr(select.parent, "parent", None), exp.Exists | exp.In
    ):
        return False
    return any(not isinstance(one, exp.Alias | exp.Column | exp.Star) for one in select.expressions)
