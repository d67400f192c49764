"""Names as the warehouse compares them, for the dialects in which anything is proven at all."""

from __future__ import annotations

from sqlglot import exp, parse_one
from sqlglot.errors import SqlglotError

# dbt's adapter -> how the warehouse folds names: `always` (quotes change nothing), or to what it folds unquoted ones.
FOLDS = {
    "duckdb": "always",
    "postgres": "lower",
    "redshift": "lower",
    "snowflake": "upper",
    "bigquery": "always",
}


def known(dialect: str) -> bool:
    """Whether proofs are made in this dialect."""
    return dialect in FOLDS


def fold(identifier: exp.Identifier, dialect: str) -> str:
    """The name under which an identifier is looked up: as an unquoted name in lower case, any other one in quotes."""
    name = str(identifier.this)
    how = FOLDS[dialect]
    if not identifier.args.get("quoted") or how == "always":
        return name.lower()
    plain = name.lower() if how == "lower" else name.upper()
    return name.lower() if name == plain else f'"{name}"'


def stored_name(text: str, dialect: str) -> str:
    """The folded name of a column that the warehouse calls `text`."""
    return fold(exp.to_identifier(text, quoted=True), dialect)


def column_name(text: str, dialect: str) -> str | None:
    """The folded name of the column that a test names; None where that is an expression."""
    found = _parse(text, dialect)
    if isinstance(found, exp.Column) and not found.table and isinstance(found.this, exp.Identifier):
        return fold(found.this, dialect)
    return None


def relation_name(text: str, dialect: str) -> str | None:
    """The folded name of the relation that dbt writes as `text`; None where it cannot be read."""
    try:
        found = exp.to_table(text, dialect=dialect)
    except SqlglotError:
        return None
    return table_name(found, dialect)


def table_name(table: exp.Table, dialect: str) -> str | None:
    """The folded name of a table in a query; None for anything but a plain name. BigQuery keeps tables apart whose
    names differ in case, unlike those of CTEs, which stand alone.
    """
    parts = [part for part in table.parts if isinstance(part, exp.Identifier)]
    if len(parts) < len(table.parts):
        return None
    if dialect == "bigquery" and len(parts) > 1:
        return ".".join(str(part.this) for part in parts)
    return ".".join(fold(part, dialect) for part in parts)


def _parse(text: str, dialect: str) -> exp.Expr | None:
    try:
        return parse_one(text, dialect=dialect)
    except SqlglotError:
        return None
