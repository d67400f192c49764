"""What loaders tell beside the point: taken where it is what it should be, and left out where it is not. An unreadable
time or count never makes a load look older, or empty.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sao_events.inputs.data import ROWS, TEXT_LENGTH, read_instant
from sao_events.inputs.strict import Malformed

LABEL_LENGTH, LABELS = 1024, 32


def count(value: object) -> int | None:
    """A whole number from 0 on; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= ROWS:
        return None
    return value


def instant(value: object) -> float | None:
    """UTC epoch seconds of an ISO-8601 instant with its offset; None for anything else."""
    try:
        return read_instant(value)
    except Malformed:
        return None


def identity(value: object) -> str | None:
    """A sender's own id, as text: of a load, a run, a message. None for what cannot be one."""
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) <= ROWS:
        return str(value)
    return value if isinstance(value, str) and 0 < len(value) <= TEXT_LENGTH and value.isprintable() else None


def labels(block: Mapping[str, Any], *keys: str) -> dict[str, str]:
    """The fields of `block`, or those of `keys`, that are short text, a whole number, or true or false, as text."""
    found = dict[str, str]()
    for key in keys or block:
        value = block.get(key)
        if isinstance(value, bool):
            found[key] = str(value).lower()
        elif isinstance(value, str | int) and 0 < len(text := f"{value}") <= LABEL_LENGTH:
            found[key] = text
        if len(found) == LABELS:
            break
    return found
