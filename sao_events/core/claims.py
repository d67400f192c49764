"""What a plain test asserts of a column: the four tests that dbt comes with, with their default configuration."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

Kind: TypeAlias = Literal["unique", "not_null", "accepted_values", "relationships"]
KINDS: tuple[Kind, ...] = ("unique", "not_null", "accepted_values", "relationships")


@dataclass(frozen=True, slots=True, order=True)
class Claim:
    """What a test asserts of `column` of `relation`: the id of a node or source, or inside a proof the folded name of a
    relation (`proof.names`).

    `values` are SQL literals (accepted_values); `to` and `field` the relation and column that hold every value
    (relationships). Nulls are ignored by all kinds but not_null, as dbt's tests do.
    """

    relation: str
    kind: Kind
    column: str
    values: tuple[str, ...] = ()
    to: str = ""
    field: str = ""


def implies(given: Claim, wanted: Claim) -> bool:
    """Whether `given` says at least what `wanted` says."""
    if given.kind == wanted.kind == "accepted_values":
        same = (given.relation, given.column) == (wanted.relation, wanted.column)
        return same and set(given.values) <= set(wanted.values)
    return given == wanted
