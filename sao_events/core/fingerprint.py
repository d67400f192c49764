"""Identity of what a node executes, from its texts and values (semantics, section 4).

Two texts with the same canonical form render and run alike, whatever their variables hold. Only what is certain is
taken away: comments, and whitespace where no dialect gives it a meaning. Jinja is read before SQL, as dbt does. Where a
text has two readings (a quote behind a backslash, a comment in a comment, a statement inside a string) it stays as it
is: doubt means changed.
"""

from __future__ import annotations

import ast
import json
import re
import tokenize
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from io import StringIO
from itertools import accumulate
from typing import Any

from sao_events.core.lineage import Code, digest

# Where `#`, `//`, `[` and `--x` mean what. A dialect in none of the sets is read so that no meaning is lost.
HASH_COMMENTS = frozenset({"bigquery", "mysql", "mariadb", "singlestore"})
SLASH_COMMENTS = frozenset({"snowflake"})
STRICT_DASHES = frozenset({"mysql", "mariadb", "singlestore"})
PLAIN = frozenset({"duckdb", "postgres", "redshift", "spark", "databricks", "trino", "athena"})
BRACKET_NAMES = frozenset({"", "sqlserver", "fabric", "synapse", "sqlite"})

# Stand-ins while a text is worked on: for an expression that cannot open a comment, any other expression, a statement,
# a quoted text, a line comment and a block comment that stay; and for what holds nothing: a comment of Jinja, one of
# SQL, a line end that stays.
_KNOWN, _FREE, _STATEMENT, _QUOTED, _KEPT, _BLOCK = "\ue000", "\ue001", "\ue002", "\ue003", "\ue004", "\ue005"
_NOTE, _GONE, _HARD = "\ue006", "\ue007", "\ue008"
_PLAIN_TEXT = {_NOTE: "", _GONE: " ", _HARD: "\n"}
_STANDINS = re.compile("[\ue000-\ue008]")
_HOLDING = re.compile("[\ue000-\ue005]")

_OPEN = re.compile(r"\{[{%#]")
_INSIDE = re.compile(r"""'(?:[^'\\]|\\.)*+'|"(?:[^"\\]|\\.)*+"|[-+]?%\}|-?\}\}|[(\[{]|[)\]}]|['"]""", re.DOTALL)
_LITERAL = re.compile(r"""('(?:[^'\\]|\\.)*+'|"(?:[^"\\]|\\.)*+")""", re.DOTALL)
_HARMLESS = re.compile(r"(?:(?:ref|source)\([^()]*\)|this(?:\.\w+)?)$")
_VALUE_BLOCK = re.compile(r"set\s+[\w.,\s]+(?:\||$)|(?:call|filter|macro|materialization|test|data_test)\b")
_PAIRS = {")": "(", "]": "[", "}": "{"}

_SPECIAL = re.compile(r"""['"`]|--|/\*|\$|\#|//|\[""")
_DOLLAR = re.compile(r"\$(?:[^\W\d]\w*)?\$")
_ORACLE_QUOTE = re.compile(r"\b[nN]?[qQ]$")
_OPENS = re.compile(r"""['"`$\ue000-\ue008]|--|/\*|\*/""")
_GLUED = re.compile(
    r"""[-/*'"`$\#\[]\ue006+[-/*'"`$\#+!]"""  # a comment of Jinja between characters that mean something together
    r"""|[-/][\ue000-\ue006]+[-/*]|\$[\ue000-\ue006]|[\ue000-\ue006]\$"""  # or a tag that may render to nothing
    r"""|\{[\ue000-\ue006]|//+\*"""  # a brace that came close to a tag; an operator or comment, as engines please
)
_SPACE = " \t\r\n\f\v"


class _Doubt(Exception):
    """The text has more than one reading."""


@dataclass(frozen=True, slots=True)
class Text:
    """What is known of a template: its canonical form, the `code` inside its Jinja tags, the `words` in there."""

    canonical: str
    code: str
    words: frozenset[str]

    def calls(self, function: str) -> tuple[frozenset[str], bool]:
        """The literal first arguments of calls of `function`, and whether there are no others."""
        if function not in self.words:
            return frozenset(), True
        pattern = rf"""(?<![\w.]){function}\s*\(\s*(?:'([^'\\]*)'|"([^"\\]*)")\s*[,)]"""
        literal = re.findall(pattern, self.code)
        return frozenset(a or b for a, b in literal), len(literal) == len(re.findall(rf"\b{function}\b", self.code))


def canonical(text: str, jinja: bool = True, *, dialect: str = "", exact: bool = False) -> str:
    """`text` (SQL, Jinja or not) without what cannot matter. `exact` keeps whitespace: the text may be a value."""
    return read(text, jinja, dialect=dialect, exact=exact).canonical


@lru_cache(maxsize=16384)  # most texts are as they were when the project is read again
def read(text: str, jinja: bool = True, *, dialect: str = "", exact: bool = False) -> Text:
    """Read a template once: canonical form, and what its tags mention. `dialect` is the name of dbt's adapter."""
    try:
        skeleton, tags = _jinja(text) if jinja else (text, [])
        if _STANDINS.search(text) or _GLUED.search(skeleton):
            raise _Doubt
    except _Doubt:
        return Text(text.strip(), text, _words(text))
    inner = [_inner(tag) for tag in tags]
    code = "\n".join(inner)
    exact = exact or any(tag[1] == "%" and _VALUE_BLOCK.match(body) for tag, body in zip(tags, inner, strict=True))
    try:
        _check(inner)
        return Text(_sql(skeleton, tags, dialect, exact), code, _words(code))
    except _Doubt:
        return Text(_fill(skeleton, tags).strip(), code, _words(code))


def canonical_python(text: str) -> str:
    """Python source without comments and blank lines; the source itself where it cannot be read."""
    try:
        bare = _uncommented(text)
        if ast.dump(ast.parse(bare)) == ast.dump(ast.parse(text)):
            return bare
    except (SyntaxError, ValueError, tokenize.TokenError):
        pass
    return text.rstrip()


def stable(value: Any) -> str:
    """A value from JSON or YAML as text: equal values give equal texts, whatever the order of keys."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), default=str)


def combine(parts: Mapping[str, str]) -> Code:
    """The identity that the parts make together."""
    return Code(digest(*(text for name in sorted(parts) for text in (name, parts[name]))))


def _words(code: str) -> frozenset[str]:
    return frozenset(re.findall(r"\w+", code))


# Jinja: tags out, its comments away.


def _jinja(text: str) -> tuple[str, list[str]]:
    """`text` with a stand-in for each tag and comment, and the tags; whitespace that a `-` takes away is away."""
    out, tags, position = list[str](), list[str](), 0
    while match := _OPEN.search(text, position):
        start, end = match.start(), _end(text, match)
        bare = text[position:start]
        out.append(bare.rstrip() if text[start + 2] == "-" else bare)
        tag = "" if match[0] == "{#" else _tidy(text[start:end])
        if tag and not _configures(tag):
            tags.append(tag)
            out.append(_kind(tag))
        else:
            out.append(_NOTE)
        position = end
        if text[end - 3] == "-" and end - start > 5:
            position += len(text[end:]) - len(text[end:].lstrip())
    out.append(text[position:])
    return "".join(out), tags


def _end(text: str, opening: re.Match[str]) -> int:
    if opening[0] != "{#":
        return _tag_end(text, opening.start())
    end = text.find("#}", opening.end()) + 2
    if end < 2:
        raise _Doubt
    return end


def _tag_end(text: str, start: int) -> int:
    closing, stack = ("}}" if text[start + 1] == "{" else "%}"), list[str]()
    position = start + 2
    while match := _INSIDE.search(text, position):
        found, position = match[0], match.end()
        if found.endswith(closing) and not stack:
            return position
        position = _token(match, stack)
    raise _Doubt


def _token(match: re.Match[str], stack: list[str]) -> int:
    """One token inside a tag that does not close it; where to go on. A `}}` in a mapping is two tokens."""
    found = match[0]
    if found in {"'", '"'}:
        raise _Doubt
    if found[0] in "'\"":
        return match.end()
    if found in "([{":
        stack.append(found)
        return match.end()
    for offset, char in enumerate(found):
        if char in _PAIRS:
            if not stack or stack.pop() != _PAIRS[char]:
                raise _Doubt
            return match.start() + offset + 1
    raise _Doubt


def _tidy(tag: str) -> str:
    """A tag with its whitespace made uniform, literals kept, and without the marks that took whitespace away."""
    left, right = 2 + (tag[2] in {"-", "+"}), 2 + (tag[-3] in {"-", "+"})
    parts = _LITERAL.split(tag[left : len(tag) - right])
    for index in range(0, len(parts), 2):
        parts[index] = re.sub(r" ?([()\[\],|~:]) ?", r"\1", re.sub(r"\s+", " ", parts[index]))
    inner = "".join(parts).strip()
    if tag[1] == "%" and re.match(r"(?:end)?raw\b", inner):
        raise _Doubt
    return f"{tag[:2]} {inner} {tag[-2:]}"


def _inner(tag: str) -> str:
    return tag[3:-3]


def _configures(tag: str) -> bool:
    """Whether the tag is one call of dbt's `config`, which renders to nothing; what it sets is in the configuration."""
    inner = _inner(tag)
    if tag[1] == "%" or not inner.startswith("config("):
        return False
    depths = accumulate((char == "(") - (char == ")") for char in _LITERAL.sub("", inner)[6:])
    return 0 not in list(depths)[:-1]


def _kind(tag: str) -> str:
    if tag[1] == "%":
        return _STATEMENT
    return _KNOWN if _HARMLESS.match(_inner(tag)) else _FREE


def _check(tags: list[str]) -> None:
    """A literal that may open or close a string or comment of the SQL makes everything behind it doubtful."""
    for inner in tags:
        for literal in _LITERAL.findall(inner):
            odd = any(literal[1:-1].count(mark) % 2 for mark in "'\"`")
            if odd or any(mark in literal for mark in ("--", "/*", "*/", "$$")):
                raise _Doubt


# SQL: quoted text aside, comments away, whitespace made uniform.


def _sql(skeleton: str, tags: list[str], dialect: str, exact: bool) -> str:
    scan = _Scan(skeleton if exact else skeleton.replace(_NOTE, ""), tags, dialect, exact)
    bare = scan.run()
    return _fill(_trim(bare) if exact else _squeeze(bare), scan.kept)


class _Scan:
    """One pass over the skeleton; `kept` collects in order what the stand-ins of the result stand for."""

    def __init__(self, text: str, tags: list[str], dialect: str, exact: bool) -> None:
        self.text, self.dialect, self.exact = text, dialect, exact
        self.tags, self.kept, self.out = iter(tags), list[str](), list[str]()

    def run(self) -> str:
        position = 0
        while match := _SPECIAL.search(self.text, position):
            self.code(self.text[position : match.start()])
            position = self.special(match[0], match.start())
        self.code(self.text[position:])
        return "".join(self.out)

    def code(self, text: str) -> None:
        self.kept.extend(next(self.tags) for _ in _HOLDING.findall(text))
        self.out.append(text)

    def keep(self, stand_in: str, text: str) -> None:
        self.kept.append(_fill(text, self.tags))
        self.out.append(stand_in)

    def part(self, start: int, end: int) -> str:
        return self.text[start:end].replace(_NOTE, "")

    def special(self, mark: str, start: int) -> int:
        """Deal with what begins at `start`; where to go on."""
        if mark in "'\"`":
            return self.quoted(mark, start)
        if mark == "--":
            return self.dashes(start)
        if mark == "/*":
            return self.block(start)
        if mark == "$":
            return self.dollar(start)
        if mark == "[":
            return self.bracket(start)
        return self.line_comment_or_operator(mark, start)

    def quoted(self, mark: str, start: int) -> int:
        end = start + 1
        while True:
            end = self.text.find(mark, end)
            if end < 0 or self.text[end - 1] == "\\":
                raise _Doubt
            if not self.text.startswith(mark * 2, end):
                break
            end += 2
        found = self.text[start : end + 1]
        if found.startswith(mark * 3) or _STATEMENT in found or "\\" + mark in found:
            raise _Doubt
        if _ORACLE_QUOTE.search(self.text, max(0, start - 3), start):
            raise _Doubt
        self.keep(_QUOTED, found)
        return end + 1

    def dashes(self, start: int) -> int:
        if self.dialect in STRICT_DASHES and not self.part(start + 2, len(self.text))[:1].isspace():
            raise _Doubt
        return self.comment(start, self.line_end(start), hint=self.text.startswith("--+", start))

    def line_comment_or_operator(self, mark: str, start: int) -> int:
        end = self.line_end(start)
        if self.dialect in (HASH_COMMENTS if mark == "#" else SLASH_COMMENTS):
            return self.comment(start, end)
        if self.dialect in PLAIN:
            self.out.append(mark[0])
            return start + 1
        body = self.part(start, end)
        if _OPENS.search(body):
            raise _Doubt
        self.keep(_KEPT, body.rstrip(_SPACE))
        return end

    def comment(self, start: int, end: int, hint: bool = False) -> int:
        """A comment to the end of the line: away, unless dbt executes something in it or the warehouse may."""
        body = self.part(start, end)
        if hint or _HOLDING.search(body):
            if re.search(r"""['"`$]|/\*|\*/""", body):
                raise _Doubt
            self.keep(_KEPT, body.rstrip(_SPACE))
        else:
            self.out.append(_GONE)
        return end

    def block(self, start: int) -> int:
        end = self.text.find("*/", start + 2) + 2
        body = self.part(start, end)
        if end < 2 or "/*" in body[2:] or _STATEMENT in body:
            raise _Doubt
        if re.match(r"/\*M?[!+]", body) or _HOLDING.search(body):
            self.keep(_BLOCK, body)
        else:
            self.out.append(f"{_GONE}\n" if "\n" in body and not self.exact else _GONE)
        return end

    def dollar(self, start: int) -> int:
        tag = _DOLLAR.match(self.text, start)
        before = self.text[start - 1 : start]
        if not tag or before.isalnum() or before in {"_", "$"} or self.dialect in HASH_COMMENTS:
            self.out.append("$")
            return start + 1
        end = self.text.find(tag[0], tag.end())
        if end < 0 or self.dialect not in PLAIN | SLASH_COMMENTS or _STATEMENT in self.text[start:end]:
            raise _Doubt
        self.keep(_QUOTED, self.text[start : end + len(tag[0])])
        return end + len(tag[0])

    def bracket(self, start: int) -> int:
        if self.dialect not in BRACKET_NAMES:
            self.out.append("[")
            return start + 1
        end = self.text.find("]", start) + 1
        inner = self.part(start + 1, end - 1)
        if not end or _OPENS.search(inner) or "#" in inner or self.text.startswith("]", end):
            raise _Doubt
        self.keep(_QUOTED, self.text[start:end])
        return end

    def line_end(self, start: int) -> int:
        end = self.text.find("\n", start)
        return len(self.text) if end < 0 else end


def _trim(text: str) -> str:
    """Comments away, whitespace kept, except that of lines with nothing but comments and that in front of a comment."""
    notes = f"{_NOTE}{_GONE}"
    text = re.sub(f"(?m)^[ \t{notes}]*[{notes}][ \t]*(?:\n|\\Z)", "", text)
    text = re.sub(f"[ \t]*{_GONE}(?=\\s|\\Z)", "", text)
    return re.sub(f"[ \t]*{_GONE}", " ", text).replace(_NOTE, "").strip()


def _squeeze(text: str) -> str:
    """Whitespace made uniform. A line end stays where its line may hold an open comment, and between two literals."""
    text = text.replace(_GONE, " ")
    if _FREE in text or _KEPT in text:
        text = re.sub(f"([{_FREE}{_KEPT}][^\n]*)\n", rf"\1{_HARD}", text)
    text = re.sub(f"(?<={_QUOTED})[{_SPACE}]*\n[{_SPACE}]*(?={_QUOTED})", _HARD, text)
    text = re.sub(f"[{_SPACE}]+", " ", text)
    text = re.sub(f"[ {_HARD}]*{_HARD}[ {_HARD}]*", _HARD, text)
    text = re.sub(r" ?([(),]) ?", r"\1", text)
    text = re.sub(rf"(?<=[\w)\]{_QUOTED}]) ?(!=|[*/=<>|]+) ?(?=[\w(\[{_QUOTED}])", r"\1", text)
    return text.strip(f" {_HARD}").rstrip(f"; {_HARD}")


def _fill(text: str, kept: Iterable[str]) -> str:
    """Put back what the stand-ins stand for."""
    found = iter(kept)
    return _STANDINS.sub(lambda match: _PLAIN_TEXT[match[0]] if match[0] in _PLAIN_TEXT else next(found), text)


def _uncommented(text: str) -> str:
    lines = text.splitlines()
    used: set[int] = set()
    for token in tokenize.generate_tokens(StringIO(text).readline):
        if token.type == tokenize.COMMENT:
            row, column = token.start
            lines[row - 1] = lines[row - 1][:column].rstrip()
        elif token.type not in {tokenize.NL, tokenize.ENDMARKER, tokenize.NEWLINE}:
            used.update(range(token.start[0], token.end[0] + 1))
    return "\n".join(line for row, line in enumerate(lines, 1) if row in used)
