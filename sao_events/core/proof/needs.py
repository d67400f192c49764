"""What a conclusion rests on: alternatives, each a set of claims that must all hold.

`NEVER` has no alternative, `ALWAYS` one that needs nothing. Only minimal alternatives are kept, and few: with too many
the conclusion is given up, which costs a test run and nothing else.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeAlias

from sao_events.core.claims import Claim

MOST = 24
LONGEST = 12

Needs: TypeAlias = frozenset[frozenset[Claim]]

NEVER: Needs = frozenset()
ALWAYS: Needs = frozenset({frozenset()})


def claimed(claim: Claim) -> Needs:
    """The one alternative that `claim` holds."""
    return frozenset({frozenset({claim})})


def any_of(options: Iterable[Needs]) -> Needs:
    """One of the options is enough."""
    return _minimal(alternative for option in options for alternative in option)


def all_of(parts: Iterable[Needs]) -> Needs:
    """Every part is needed."""
    found = ALWAYS
    for part in parts:
        found = _minimal(left | right for left in found for right in part)
        if not found:
            return NEVER
    return found


def _minimal(alternatives: Iterable[frozenset[Claim]]) -> Needs:
    kept: list[frozenset[Claim]] = []
    for one in sorted(set(alternatives), key=lambda one: (len(one), sorted(one))):
        if len(one) <= LONGEST and not any(other <= one for other in kept):
            kept.append(one)
    return frozenset(kept[:MOST])
