"""A folded state as bytes, so that a start need not fold the whole log. What it holds can always be folded again.

The JSON follows the fields of the state's dataclasses. Codes and observations, which nodes share, are written once.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from functools import cache
from inspect import getsource
from operator import attrgetter
from types import UnionType
from typing import Any, NamedTuple, Union, get_args, get_origin, get_type_hints

from sao_events import __version__
from sao_events.core import events, lineage, state, written
from sao_events.core import evolve as folding
from sao_events.core.errors import SaoError
from sao_events.core.events import Observed
from sao_events.core.evolve import evolve
from sao_events.core.lineage import Code, digest
from sao_events.core.state import World
from sao_events.ports import Store

LOG = logging.getLogger("sao_events")
_PAGE = 50  # events at a time: with more, they are out of the processor's cache again before they are folded


def load_world(store: Store) -> World:
    """The state at the end of the log: the checkpoint, where there is one that fits, and the events after it."""
    return catch_up(store, _from_checkpoint(store) or World())


def catch_up(store: Store, world: World) -> World:
    """Apply to `world`, in place, what the log holds after it."""
    while page := store.read(world.seq, _PAGE):
        for recorded in page:
            evolve(world, recorded)
    return world


def save_world(store: Store, world: World) -> None:
    """Keep `world` as the store's checkpoint."""
    store.put_checkpoint(world.seq, world_to_bytes(world))


def try_save(store: Store, world: World) -> None:
    """`save_world`, where that can be done; the service's log is told where not."""
    try:
        save_world(store, world)
    except SaoError as error:
        LOG.warning("no checkpoint was written, the next start takes longer: %s", error)


def _from_checkpoint(store: Store) -> World | None:
    found = store.get_checkpoint()
    world = world_from_bytes(found[1]) if found is not None else None
    return world if world is not None and world.seq <= store.last() else None


def world_to_bytes(world: World) -> bytes:
    """`world` as bytes that this release reads back to an equal one."""
    shared = _Shared()
    body = _record(World).write(world, shared)
    return json.dumps([_FORMAT, shared.codes, shared.observed, body], separators=(",", ":")).encode()


def world_from_bytes(data: bytes) -> World | None:
    """The inverse of `world_to_bytes`; None for what another release wrote, or for what is no such thing."""
    try:
        written_as, codes, observed, body = json.loads(data)
        if written_as != _FORMAT:
            return None
        shared = _Shared()
        shared.read_codes = [Code(base, tuple((name, code) for name, code in columns)) for base, columns in codes]
        shared.read_observed = [_record(Observed).read(item, shared) for item in observed]
        world = _record(World).read(body, shared)
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError):
        return None
    return world if isinstance(world, World) and isinstance(world.seq, int) else None


def _rules() -> str:
    """Identity of the rules that fold the log: a state that other rules made is not gone on with."""
    try:
        return digest(*(getsource(module) for module in (events, lineage, state, written, folding)))
    except OSError:  # installed without sources
        return __version__


_FORMAT = _rules()


@dataclass(slots=True)
class _Shared:
    """What is written once and referred to by its place: codes are told apart by value, observations by identity."""

    codes: list[Any] = field(default_factory=list)
    observed: list[Any] = field(default_factory=list)
    code_places: dict[Code, int] = field(default_factory=dict)
    observed_places: dict[int, int] = field(default_factory=dict)
    read_codes: list[Code] = field(default_factory=list)
    read_observed: list[Observed] = field(default_factory=list)

    def write_code(self, code: Code) -> int:
        place = self.code_places.setdefault(code, len(self.codes))
        if place == len(self.codes):
            self.codes.append([code.base, code.columns])
        return place

    def write_observed(self, observed: Observed) -> int:
        place = self.observed_places.get(id(observed))
        if place is None:
            body = _record(Observed).write(observed, self)
            place = self.observed_places[id(observed)] = len(self.observed)
            self.observed.append(body)
        return place


class _Codec(NamedTuple):
    """How values of one type become JSON values and come back."""

    write: Callable[[Any, _Shared], Any]
    read: Callable[[Any, _Shared], Any]


_CODE = _Codec(lambda code, shared: shared.write_code(code), lambda place, shared: shared.read_codes[place])
_OBSERVED = _Codec(lambda seen, shared: shared.write_observed(seen), lambda place, shared: shared.read_observed[place])


def _codec(hint: Any) -> _Codec | None:
    """The codec for values of the type `hint`; None for what JSON gives back as it was."""
    origin, args = get_origin(hint), get_args(hint)
    if hint is Code:
        return _CODE
    if hint is Observed:
        return _OBSERVED
    if isinstance(hint, type) and is_dataclass(hint):
        return _record(hint)
    if origin in {Union, UnionType}:
        return _optional(_codec(args[0]))
    if origin is not None and issubclass(origin, Mapping):
        return _mapping(_codec(args[1]))
    if origin in {set, frozenset}:
        return _Codec(lambda value, _: sorted(value), lambda value, _: origin(value))
    if origin is tuple and _codec(args[0]) is None:
        return _Codec(lambda value, _: value, lambda value, _: tuple(value))
    if hint in {str, int, float, bool}:
        return None
    raise TypeError(f"a state cannot hold {hint}")


@cache
def _record(kind: type[Any]) -> _Codec:
    """A dataclass as the list of its fields' values."""
    hints = get_type_hints(kind)
    names = [f.name for f in fields(kind)]
    values_of = attrgetter(*names)
    special = [(i, codec) for i, name in enumerate(names) if (codec := _codec(hints[name])) is not None]

    def write(value: Any, shared: _Shared) -> Any:
        values = list(values_of(value))
        for i, codec in special:
            values[i] = codec.write(values[i], shared)
        return values

    def read(value: Any, shared: _Shared) -> Any:
        values = list(value)
        for i, codec in special:
            values[i] = codec.read(values[i], shared)
        return kind(*values)

    return _Codec(write, read)


def _optional(codec: _Codec | None) -> _Codec | None:
    if codec is None:
        return None
    write, read = codec
    return _Codec(
        lambda value, shared: None if value is None else write(value, shared),
        lambda value, shared: None if value is None else read(value, shared),
    )


def _mapping(codec: _Codec | None) -> _Codec:
    if codec is None:
        return _Codec(lambda value, _: dict(value), lambda value, _: dict(value))
    write, read = codec
    return _Codec(
        lambda value, shared: {name: write(item, shared) for name, item in value.items()},
        lambda value, shared: {name: read(item, shared) for name, item in value.items()},
    )
