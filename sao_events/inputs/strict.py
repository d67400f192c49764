"""JSON from strangers: read strictly, or refused with what is wrong. The sender's text is never repeated at length."""

from __future__ import annotations

import json
from collections.abc import Iterable
from math import isinf
from typing import Any, NoReturn, cast

from sao_events.core.errors import UsageError

DEPTH = 64


class Malformed(UsageError):
    """The message is not what its sender's kind of message looks like (HTTP 400)."""


class UnknownForm(UsageError):
    """The message is of a media type that is not understood here (HTTP 415)."""


class Refused(UsageError):
    """The message is well formed, but what it says cannot be accepted (HTTP 422)."""


def read_json(body: bytes) -> Any:
    """The JSON value in `body`: UTF-8, no key twice in an object, only finite numbers, no text that cannot be stored,
    nested at most `DEPTH` deep. Raises Malformed.
    """
    try:
        text = body.decode()
        value = _decoded(text)
    except UnicodeDecodeError:
        raise Malformed("the body is not UTF-8", hint="send JSON in UTF-8") from None
    except RecursionError:
        raise _too_deep() from None
    except ValueError as error:
        raise Malformed(f"the body is not valid JSON: {_reason(error)}", hint="send one JSON value") from None
    if text.count("[") + text.count("{") > DEPTH:
        _check_depth(value)
    if "\\u" in text:
        _check_text(value)
    return value


def media_type(header: str | None) -> str:
    """The media type that a Content-Type header names, in lower case, without parameters; empty where there is none."""
    return (header or "").partition(";")[0].strip().lower()


def shown(value: object, most: int = 60) -> str:
    """`value` as it may be repeated in an error: its beginning."""
    text = repr(value)
    return text if len(text) <= most else f"{text[: most - 3]}..."


def _decoded(text: str) -> Any:
    """As by `_DECODER.decode`, which looks for blanks first, at length."""
    try:
        value, end = cast(Any, _DECODER).scan_once(text, 0)
    except StopIteration:
        value, end = None, -1
    return value if end == len(text) else _DECODER.decode(text)


class _Wrong(ValueError):
    """What JSON itself would allow, or Python read, and is refused here; its text is for people."""


def _reason(error: ValueError) -> str:
    if isinstance(error, json.JSONDecodeError):
        return f"{error.msg} (line {error.lineno}, column {error.colno})"
    return str(error) if isinstance(error, _Wrong) else "a number is too large"


def _too_deep() -> Malformed:
    return Malformed("the body is nested too deeply", hint=f"{DEPTH} levels are read")


def _pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise _Wrong("an object has the same key twice")
    return found


def _no_constant(name: str) -> NoReturn:
    raise _Wrong(f"{name} is not a JSON number")


def _finite(text: str) -> float:
    number = float(text)
    if isinf(number):
        raise _Wrong("a number is too large")
    return number


_DECODER = json.JSONDecoder(object_pairs_hook=_pairs, parse_constant=_no_constant, parse_float=_finite)


def _children(level: Iterable[Any]) -> list[Any]:
    found: list[Any] = []
    for item in level:
        if isinstance(item, dict):
            found.extend(item.values())
        elif isinstance(item, list):
            found.extend(item)
    return found


def _check_depth(value: Any) -> None:
    level = [value]
    for _ in range(DEPTH + 1):
        level = _children(level)
        if not level:
            return
    raise _too_deep()


def _check_text(value: Any) -> None:
    """Escapes can spell what no database stores as text: half a surrogate pair, and NUL."""
    try:
        text = json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise Malformed("the body holds half a surrogate pair", hint="send whole characters") from None
    if b"\\u0000" in text.replace(b"\\\\", b""):
        raise Malformed("the body holds the character NUL", hint="leave it out")
