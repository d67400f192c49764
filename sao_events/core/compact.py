"""Values as compact JSON, over and over: `json` builds its encoder anew for each value, which costs more than encoding
a small one.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any


def encoder(*, ensure_ascii: bool) -> Callable[[Any], str]:
    """What turns plain values, none of which holds itself, into JSON without blanks.

    It raises ValueError for a number that is not finite, TypeError for what JSON has no form for.
    """
    made = json.JSONEncoder(ensure_ascii=ensure_ascii, allow_nan=False, separators=(",", ":"), check_circular=False)
    make = getattr(json.encoder, "c_make_encoder", None)
    if make is None:  # a Python without its parts in C
        return made.encode
    quote = json.encoder.encode_basestring_ascii if ensure_ascii else json.encoder.encode_basestring
    parts, join = make(None, made.default, quote, None, ":", ",", False, False, False), "".join
    return lambda value: join(parts(value, 0))
