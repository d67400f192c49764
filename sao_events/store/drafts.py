"""What a store refuses to take, whichever store it is: what could not be read back as it was given."""

from __future__ import annotations

import json
from collections.abc import Iterable
from math import isfinite

from sao_events.core.errors import UsageError
from sao_events.ports import Draft, Incoming


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


def check_incoming(incoming: Iterable[Incoming]) -> None:
    """The same of deliveries and the events they ask for."""
    for one in incoming:
        check(one.drafts)
        it = one.delivery
        texts = (it.endpoint, it.provider, it.reason, it.delivery, it.digest, it.secret, *it.headers.values())
        if not isfinite(it.at) or not all(_storable(text) for text in texts if text is not None):
            raise UsageError("a delivery cannot be recorded", hint="leave out NUL characters and lone surrogates")
        try:
            json.dumps(it.landings, allow_nan=False)
        except (ValueError, TypeError) as error:
            raise UsageError(f"what a delivery said cannot be recorded: {error}") from None


def _storable(text: str) -> bool:
    return "\0" not in text and (text.isascii() or not any("\ud800" <= char <= "\udfff" for char in text))
