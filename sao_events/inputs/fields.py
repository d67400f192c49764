"""Fields of a payload, each looked at before it is used: what is needed is there in its type, or the message is
malformed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from sao_events.inputs.git import is_commit, is_ref
from sao_events.inputs.strict import Malformed

TEXT_LENGTH, FILES, ITEMS = 1024, 10_000, 20_000
Block = Mapping[str, Any]


def missing(key: str) -> Malformed:
    """The error for a field that is not there or is not what it should be."""
    return Malformed(f"the payload has no valid {key}", hint="is it the configured provider that sends here?")


def text(block: Block, key: str) -> str:
    """Text that is not empty and not longer than `TEXT_LENGTH`."""
    value = block.get(key)
    if not isinstance(value, str) or not 0 < len(value) <= TEXT_LENGTH:
        raise missing(key)
    return value


def text_or_none(block: Block, key: str) -> str | None:
    """The same, of what is only of use: None for anything else."""
    value = block.get(key)
    return value if isinstance(value, str) and 0 < len(value) <= TEXT_LENGTH else None


def number(block: Block, key: str) -> int:
    """A number from 1 on, of at most ten digits."""
    value = block.get(key)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 < value < 10**10:
        raise missing(key)
    return value


def flag(block: Block, key: str) -> bool:
    """True or false; false where it is not there."""
    value = block.get(key, False)
    if not isinstance(value, bool):
        raise missing(key)
    return value


def mapping(block: Block, key: str) -> dict[str, Any]:
    """An object."""
    value = block.get(key)
    if not isinstance(value, dict):
        raise missing(key)
    return value


def mapping_or_empty(block: Block, key: str) -> dict[str, Any]:
    """An object, empty where there is none."""
    value = block.get(key)
    return value if isinstance(value, dict) else {}


def mappings(block: Block, key: str) -> list[dict[str, Any]]:
    """A list of objects, at most `ITEMS`."""
    value = block.get(key)
    if not isinstance(value, list) or len(value) > ITEMS or not all(isinstance(item, dict) for item in value):
        raise missing(key)
    return value


def ref(block: Block, key: str) -> str:
    """The full name of a ref."""
    value = text(block, key)
    if not is_ref(value):
        raise missing(key)
    return value


def commit(block: Block, key: str) -> str:
    """A full commit id, perhaps all zeros."""
    value = text(block, key)
    if not is_commit(value):
        raise missing(key)
    return value


def addresses(block: Block, *keys: str) -> tuple[str, ...]:
    """Those addresses of a repository that are there."""
    return tuple(value for key in keys if (value := text_or_none(block, key)))


def files(block: Block, key: str = "commits") -> tuple[str, ...] | None:
    """The files that the commits in the list under `key` name, sorted; None where they name none of the lists."""
    found = block.get(key)
    commits = [item for item in found if isinstance(item, dict)] if isinstance(found, list) else []
    lists = [item[kind] for item in commits for kind in ("added", "modified", "removed") if kind in item]
    names = {name for name in _flat(lists) if isinstance(name, str) and 0 < len(name) <= TEXT_LENGTH}
    return tuple(sorted(names)[:FILES]) if lists or not commits else None


def _flat(lists: Iterable[Any]) -> Iterable[Any]:
    return (item for one in lists if isinstance(one, list) for item in one)
