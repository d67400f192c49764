"""Code identity by column: who is touched by a change, and what it passes on."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sao_events.core.lineage import Code, Reading, digest, spares

OLD = Code("rows", (("id", "1"), ("amount", "1")))
ADDED = Code("rows", (("id", "1"), ("amount", "1"), ("note", "1")))
ALTERED = Code("rows", (("id", "1"), ("amount", "2")))
OTHER = Code("other rows", (("id", "1"), ("amount", "1")))

NAMES_ID, NAMES_NOTE = Reading({"u": ("id",)}), Reading({"u": ("note",)})
NAMES_NONE, STAR, UNKNOWN = Reading({"u": ()}), Reading({}, frozenset({"u"})), Reading()


@pytest.mark.parametrize(
    ("reading", "new", "touched"),
    [
        (NAMES_ID, ADDED, False),
        (NAMES_ID, ALTERED, False),
        (NAMES_ID, OTHER, True),
        (NAMES_NOTE, ADDED, True),
        (NAMES_NONE, ADDED, False),
        (NAMES_NONE, OTHER, True),
        (STAR, ADDED, True),
        (STAR, ALTERED, True),
        (UNKNOWN, ADDED, True),
        (UNKNOWN, OLD, False),
    ],
)
def test_a_reader_is_touched_only_through_what_it_reads(reading: Reading, new: Code, touched: bool) -> None:
    assert (reading.sees("u", OLD) != reading.sees("u", new)) == touched


def test_the_order_of_columns_matters_to_whoever_takes_all() -> None:
    turned = Code("rows", OLD.columns[::-1])
    assert STAR.sees("u", OLD) != STAR.sees("u", turned)
    assert NAMES_ID.sees("u", OLD) == NAMES_ID.sees("u", turned)


@pytest.mark.parametrize(
    ("reading", "same_rows", "columns"),
    [
        (STAR, True, ("own", "id", "amount", "note")),
        (NAMES_ID, True, ("own",)),
        (NAMES_NOTE, False, ("own",)),
        (UNKNOWN, False, ("own",)),
    ],
)
def test_a_star_passes_columns_on_and_all_else_counts_as_wholly_changed(
    reading: Reading, same_rows: bool, columns: tuple[str, ...]
) -> None:
    own = Code("m", (("own", "1"),))
    before, after = reading.compose(own, {"u": OLD}), reading.compose(own, {"u": ADDED})
    assert (before.base == after.base) == same_rows
    assert tuple(name for name, _ in after.columns) == columns


def test_other_rows_upstream_are_other_rows_for_every_reader() -> None:
    for reading in (STAR, NAMES_ID, NAMES_NONE, UNKNOWN):
        assert reading.compose(Code("m"), {"u": OLD}).base != reading.compose(Code("m"), {"u": OTHER}).base


@pytest.mark.parametrize(
    ("old", "new", "spared"),
    [(OLD, ADDED, True), (ADDED, OLD, True), (OLD, ALTERED, True), (OLD, OTHER, False), (OLD, OLD, False)],
)
def test_what_spares(old: Code, new: Code, spared: bool) -> None:
    assert spares(old, new) == spared


@given(st.lists(st.text()), st.lists(st.text()))
def test_no_two_sequences_of_parts_share_an_identity(one: list[str], other: list[str]) -> None:
    assert (digest(*one) == digest(*other)) == (one == other)
