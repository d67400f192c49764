"""Projects in pieces that are kept once, since each edit makes a project that is much like the one before.

A piece ends where its content says so, not after a number of bytes: so an edit changes the pieces that it is in and no
other, wherever it moves what follows.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable, Iterable, Mapping
from hashlib import blake2b

_MARK, _SIZE = b"pieces ", 16  # before the digests of the pieces, and bytes of each
_PLACES = re.compile(rb"\},")
_ONE_IN = 64  # of the places a piece ends at one


def taken_apart(body: bytes) -> tuple[bytes, list[tuple[str, bytes]]]:
    """What stands for `body`, and its pieces: names and contents, compressed."""
    ends, start = list[int](), 0
    for place in _PLACES.finditer(body):
        if zlib.crc32(body[start : place.end()]) % _ONE_IN == 0:
            ends.append(place.end())
        start = place.end()
    pieces = [body[begin:end] for begin, end in zip([0, *ends], [*ends, len(body)], strict=True)]
    names = [blake2b(piece, digest_size=_SIZE, person=b"piece").digest() for piece in pieces]
    rows = [(name.hex(), zlib.compress(piece)) for name, piece in zip(names, pieces, strict=True)]
    return _MARK + b"".join(names), rows


def put_together(row: bytes, find: Callable[[Iterable[str]], Iterable[tuple[str, bytes]]]) -> bytes:
    """The body that `row` stands for; `find` gives the pieces of names. Raises KeyError or zlib.error where it is
    damaged. What was written before there were pieces is whole.
    """
    if not row.startswith(_MARK):
        return zlib.decompress(row)
    digests = row.removeprefix(_MARK)
    names = [digests[at : at + _SIZE].hex() for at in range(0, len(digests), _SIZE)]
    found: Mapping[str, bytes] = dict(find(names))
    return b"".join(zlib.decompress(found[name]) for name in names)
