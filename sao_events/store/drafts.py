"""What a store refuses to take, whichever store it is: what could not be read back as it was given."""

from __future__ import annotations

from collections.abc import Iterable
from math import isfinite

from sao_events.errors import UsageError
from sao_events.ports import Draft


def check(drafts: Iterable[Draft]) -> None:
    """Raise UsageError for an instant that is not finite, or a key or sender that databases cannot hold as text."""
    for draft in drafts:
        if not isfinite(draft.at):
            raise UsageError(f"an event cannot be recorded at {draft.at}", hint="give UTC epoch seconds")
        for name, text in (("key", draft.key), ("sender", draft.sender)):
            if text is not None and not _storable(text):
                raise UsageError(
                    f"the {name} {text[:80]!r} of an event is not valid text",
                    hint="leave out NUL characters and lone surrogates",
                )


def _storable(text: str) -> bool:
    return "\0" not in text and (text.isascii() or not any("\ud800" <= char <= "\udfff" for char in text))
