"""YAML read with its lines: keys and names are text as written, values are typed only where asked for.

`Block` is a mapping that knows where it and its keys stand; `Word` is a scalar that knows its line. A YAML 1.1 reader
makes `true` of the key `on`; this one does not.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from difflib import get_close_matches
from typing import Any, TypeVar

import yaml

from sao_events.core.errors import ConfigError

_NULL, _TRUE, _FALSE = ("", "~", "null", "Null", "NULL"), ("true", "True", "TRUE"), ("false", "False", "FALSE")
_INT, _FLOAT = re.compile(r"[-+]?[0-9]+"), re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
T = TypeVar("T", bound=str)


class Word(str):
    """A scalar as written; `line` counts from 1, `quoted` scalars are never anything but text."""

    line: int
    quoted: bool

    def __new__(cls, text: str, line: int, quoted: bool = False) -> Word:
        """The word `text` on `line`."""
        word = super().__new__(cls, text)
        word.line, word.quoted = line, quoted
        return word


class Block(dict[str, Any]):
    """A mapping as written, with the line it starts on and the line of each key."""

    def __init__(self, items: dict[str, Any], line: int, lines: dict[str, int] | None = None) -> None:
        super().__init__(items)
        self.line, self.lines = line, lines or {}

    def line_of(self, key: str) -> int:
        """The line of a key, or of the block."""
        return self.lines.get(key, self.line)

    def line_at(self, path: str) -> int:
        """The line of the innermost key of `path` (`state.lag_tolerance`) that is there, or of the block."""
        key, _, rest = path.partition(".")
        inner = self.get(key)
        return inner.line_at(rest) if rest and isinstance(inner, Block) else self.line_of(key)

    def expect(self, place: str, keys: Sequence[str], needs: Sequence[str] = ()) -> None:
        """Raises ConfigError for a key that is not among `keys`, naming the nearest, and for one of `needs` that
        lacks.
        """
        for key in self:
            if key not in keys:
                raise ConfigError(f"{place}:{self.line_of(key)}: unknown key {key}", hint=nearest(key, keys))
        for key in needs:
            if key not in self:
                raise ConfigError(f"{place}:{self.line}: the key {key} is missing")

    def choice(self, place: str, key: str, among: Sequence[T]) -> T:
        """The value of `key`, which must be one of `among`; the first of them where it is absent."""
        value = str(self.get(key, among[0]))
        for choice in among:
            if choice == value:
                return choice
        raise ConfigError(
            f"{place}:{self.line_of(key)}: {key} must be one of {', '.join(among)}, not {value}",
            hint=nearest(value, among),
        )

    def block(self, place: str, key: str) -> Block:
        """The mapping under `key`; an empty one where it is absent or null. Raises ConfigError for anything else."""
        value = self.get(key)
        if isinstance(value, Block):
            return value
        if value is not None and plain(value) is not None:
            raise ConfigError(f"{place}:{self.line_of(key)}: {key} must be a mapping, not {_short(value)}")
        return Block({}, self.line_of(key))

    def blocks(self, place: str, key: str) -> dict[str, Block]:
        """The mapping of names to mappings under `key`."""
        found = self.block(place, key)
        return {name: found.block(place, name) for name in found}

    def items_of(self, place: str, key: str) -> list[Any]:
        """The list under `key`; an empty one where it is absent or null. Raises ConfigError for anything else."""
        value = self.get(key)
        if isinstance(value, list):
            return value
        if value is not None and plain(value) is not None:
            raise ConfigError(f"{place}:{self.line_of(key)}: {key} must be a list, not {_short(value)}")
        return []

    def text(self, place: str, key: str, default: str = "") -> str:
        """The text under `key`. Raises ConfigError for a list or a mapping."""
        value = self.get(key, default)
        if not isinstance(value, str):
            raise ConfigError(f"{place}:{self.line_of(key)}: {key} must be text, not {_short(value)}")
        return str(value)

    def truth(self, place: str, key: str, default: bool = False) -> bool:
        """The true or false under `key`. Raises ConfigError for anything else."""
        value = plain(self[key]) if key in self else default
        if not isinstance(value, bool):
            raise ConfigError(f"{place}:{self.line_of(key)}: {key} must be true or false, not {value}")
        return value

    def mappings_of(self, place: str, key: str) -> list[Block]:
        """The list under `key`, each item of it a mapping; empty without it. Raises ConfigError otherwise."""
        found = self.items_of(place, key)
        for item in found:
            if not isinstance(item, Block):
                line = getattr(item, "line", self.line_of(key))
                message = f"each of {key} must be a mapping such as {{at: +1h, ...}}, not {item}"
                raise ConfigError(f"{place}:{line}: {message}")
        return found

    def words(self, place: str, key: str) -> tuple[str, ...]:
        """The list of names under `key`."""
        found = self.items_of(place, key)
        for item in found:
            if not isinstance(item, str):
                raise ConfigError(f"{place}:{self.line_of(key)}: {key} must be a list of names, not of {_short(item)}")
        return tuple(map(str, found))

    def number(self, place: str, key: str, default: int, least: int = 0) -> int:
        """A whole number of at least `least`."""
        value = plain(self[key]) if key in self else default
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise ConfigError(
                f"{place}:{self.line_of(key)}: {key} must be a whole number of at least {least}, not {value}"
            )
        return value


def _short(value: Any) -> str:
    return "a list" if isinstance(value, list) else "a mapping" if isinstance(value, Block) else str(value)


def nearest(word: str, among: Sequence[str]) -> str:
    """A sentence that names the nearest of `among`, or all of them."""
    close = get_close_matches(word, among, n=1)
    return f"did you mean {close[0]}?" if close else f"known are: {', '.join(among)}"


def documents(text: str, place: str) -> Iterator[Block]:
    """The documents of a YAML text, each a mapping. Raises ConfigError with file and line."""
    try:
        for node in yaml.compose_all(text, Loader=yaml.SafeLoader):
            made = _made(node, place)
            if not isinstance(made, Block):
                raise ConfigError(f"{place}:{node.start_mark.line + 1}: a mapping is expected here")
            yield made
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f":{mark.line + 1}" if mark else ""
        raise ConfigError(f"{place}{line}: not valid YAML: {getattr(error, 'problem', None) or error}") from None


def plain(value: Any) -> Any:
    """Plain Python values, scalars typed by the core schema of YAML 1.2."""
    if isinstance(value, Block):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [plain(item) for item in value]
    return (
        _typed(value)
        if isinstance(value, Word) and not value.quoted
        else str(value)
        if isinstance(value, str)
        else value
    )


def _typed(word: Word) -> Any:
    if word in _NULL:
        return None
    if word in _TRUE or word in _FALSE:
        return word in _TRUE
    if _INT.fullmatch(word):
        return int(word)
    return float(word) if _FLOAT.fullmatch(word) else str(word)


def _made(node: yaml.Node, place: str, depth: int = 0) -> Any:
    line = node.start_mark.line + 1
    if depth > 50:
        raise ConfigError(f"{place}:{line}: nested too deeply")
    if isinstance(node, yaml.ScalarNode):
        return Word(node.value, line, node.style in ("'", '"', "|", ">"))
    if isinstance(node, yaml.SequenceNode):
        return [_made(item, place, depth + 1) for item in node.value]
    items: dict[str, Any] = {}
    lines: dict[str, int] = {}
    for key, value in node.value:
        if not isinstance(key, yaml.ScalarNode):
            raise ConfigError(f"{place}:{key.start_mark.line + 1}: a key must be text")
        if key.value in items:
            raise ConfigError(f"{place}:{key.start_mark.line + 1}: the key {key.value} stands here twice")
        items[key.value] = _made(value, place, depth + 1)
        lines[key.value] = key.start_mark.line + 1
    return Block(items, line, lines)


def among(names: Iterable[str], known: Iterable[str], problem: str, place: str, line: int) -> None:
    """Raises ConfigError, with the nearest known name, for the first of `names` that is not `known`."""
    for name in names:
        if name not in known:
            raise ConfigError(f"{place}:{line}: {problem} {name}", hint=nearest(name, sorted(known)))
