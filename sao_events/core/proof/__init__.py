"""Proofs by lineage: which of dbt's own column tests must pass, given a query and what is known of what it reads.

`needs` answers for one claim and one compiled query, read by `shape_of`: alternatives, each a set of claims about the
relations that the query reads. Where one of them holds on the rows that the query read, the claim holds of the rows
that it returned, and the test need not run. Sound before complete: what is not understood proves nothing (semantics,
section 7).
"""

from __future__ import annotations

from functools import lru_cache

from sqlglot import parse_one
from sqlglot.errors import SqlglotError

from sao_events.core.claims import Claim
from sao_events.core.proof.build import Columns, build
from sao_events.core.proof.names import known
from sao_events.core.proof.needs import NEVER, Needs
from sao_events.core.proof.plain import deterministic
from sao_events.core.proof.rules import accepted, not_null, related, unique
from sao_events.core.proof.shape import Opaque, Rel


def shape_of(text: str, dialect: str, columns: Columns = lambda relation: None) -> Rel:
    """What the query `text` is made of, for `needs`.

    `dialect` is the name of dbt's adapter. `columns` gives the columns of a relation, by its folded name, in order,
    each with the family of its type (`kinds.family`) or None; None where the columns are not known.
    """
    return build(text, dialect, columns) if known(dialect) else Opaque()


def needs(claim: Claim, rel: Rel, dialect: str) -> Needs:
    """What must hold of the relations that a query of the shape `rel` reads for `claim` to hold of its result."""
    if claim.kind == "not_null":
        return not_null(rel, claim.column)
    if claim.kind == "unique":
        return unique(rel, frozenset({claim.column}))
    if claim.kind == "accepted_values":
        return accepted(rel, claim.column, frozenset(claim.values))
    if dialect == "bigquery":  # a number that is none (NaN) is not found among its own kind there
        return NEVER
    return related(rel, claim.column, claim.to, claim.field)


@lru_cache(maxsize=20_000)
def repeatable(text: str, dialect: str) -> bool:
    """Whether the query gives the same rows each time it is asked, over the same data."""
    try:
        return known(dialect) and deterministic(parse_one(text, dialect=dialect))
    except (SqlglotError, RecursionError):
        return False


__all__ = ["Columns", "Needs", "Rel", "needs", "repeatable", "shape_of"]
