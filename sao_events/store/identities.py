"""SQL of the identities on record and of the texts beside them. Lists of names are passed as one JSON array."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Mapping
from contextlib import suppress

PUT_TEXT = "INSERT INTO texts (digest, body) VALUES (?, ?) ON CONFLICT DO NOTHING"
GET_TEXTS = "SELECT digest, body FROM texts WHERE digest IN (SELECT value FROM json_each(?))"
PUT_KNOWN = """
    INSERT INTO identities (node, inputs, identity, rest, key, compiled, again, doubt)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?)
    ON CONFLICT (node, inputs) DO UPDATE SET
        identity = excluded.identity, rest = excluded.rest, key = excluded.key, compiled = excluded.compiled,
        again = excluded.again, doubt = excluded.doubt
"""
_COLUMNS = "node, inputs, identity, rest, key, compiled, again, doubt"
GET_KNOWN = f"SELECT {_COLUMNS} FROM identities WHERE inputs IN (SELECT value FROM json_each(?))"  # noqa: S608
STATES_OF = f"SELECT {_COLUMNS} FROM identities WHERE node = ? ORDER BY rowid DESC LIMIT ?"  # noqa: S608


def text_rows(texts: Mapping[str, str]) -> list[tuple[str, bytes]]:
    """Texts as rows."""
    return [(name, zlib.compress(text.encode("utf-8", "surrogatepass"))) for name, text in texts.items()]


def texts_of(rows: Iterable[tuple[str, bytes]]) -> dict[str, str]:
    """The inverse of `text_rows`; a damaged text counts as one that is not there."""
    found: dict[str, str] = {}
    for name, body in rows:
        with suppress(zlib.error):
            found[name] = zlib.decompress(body).decode("utf-8", "surrogatepass")
    return found
