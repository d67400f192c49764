"""Whether two texts of SQL say the same: the labelled edits, and the traps one by one."""

from __future__ import annotations

from collections import Counter

import duckdb
import pytest

from sao_events.core.sqltext import pretty, same_sql
from tests.sql_edits import EDITS, Edit
from tests.text_oracle import case

SAME = [edit for edit in EDITS if edit.same]
OTHER = [edit for edit in EDITS if not edit.same]
TABLES = """
    create table t (id integer, a integer, b integer, s varchar, d date, ts timestamp);
    create table u as from t;
    insert into t values (1, 1, 2, 'a', '2020-01-01', '2020-01-01 10:00'), (2, 2, null, 'A', null, null),
        (3, null, 1, null, '2020-02-01', null), (3, 2, 1, 'b', '2020-02-01', '2020-03-01 00:00');
    insert into u values (1, 5, 5, 'x', null, null), (3, 1, 2, 'a', null, null), (4, 2, 2, null, null, null);
"""


def test_the_corpus_is_large_and_covers_the_dialects() -> None:
    assert len(EDITS) == len(set(EDITS)) >= 120
    assert min(Counter(edit.dialect for edit in SAME).values()) >= 4
    assert min(Counter(edit.dialect for edit in OTHER).values()) >= 9


@pytest.mark.parametrize("edit", OTHER, ids=lambda edit: f"{edit.dialect}: {edit.new}")
def test_no_edit_with_a_meaning_is_taken_for_a_cosmetic_one(edit: Edit) -> None:
    assert not same_sql(edit.old, edit.new, edit.dialect)
    assert not same_sql(edit.new, edit.old, edit.dialect)


def test_most_cosmetic_edits_are_recognised() -> None:
    found = [edit for edit in SAME if same_sql(edit.old, edit.new, edit.dialect)]
    print(f"\n{len(found)} of {len(SAME)} cosmetic edits recognised; taken for changes:")
    for edit in SAME:
        if edit not in found:
            print(f"  {edit.dialect}: {edit.old!r} -> {edit.new!r}")
    assert len(found) * 4 > len(SAME) * 3


@pytest.mark.parametrize("edit", [edit for edit in SAME if edit.dialect == "duckdb"], ids=lambda edit: edit.new)
def test_what_the_corpus_calls_cosmetic_is_so_on_duckdb(edit: Edit) -> None:
    with duckdb.connect() as database:
        database.execute(TABLES)
        old, new = (database.sql(text.rstrip(";")) for text in (edit.old, edit.new))
        assert (old.columns, old.types) == (new.columns, new.types)
        assert sorted(old.fetchall(), key=repr) == sorted(new.fetchall(), key=repr)


@pytest.mark.parametrize(
    ("adapter", "old", "new"),
    [
        ("mysql", "select 1 /*! + 1 */ as x", "select 1 /*! + 2 */ as x"),  # a comment that is executed
        ("mysql", "select 1 --1\nas x", "select 1 as x"),  # two signs, no comment
        ("sqlserver", "select [a -- b] from t", "select [a] from t"),
        ("nobody", "select a::int as x from t", "select cast(a as int) as x from t"),  # a warehouse nobody knows
        ("duckdb", "select {# x #} 1 as x", "select 1 as x"),  # Jinja that dbt has left: not a comment of SQL
        ("duckdb", "select 1 as x # 2", "select 1 as x"),
        ("postgres", "select '\\' as x, ' -- ' as y", "select '\\' as x, ' -- ' as z"),
        ("duckdb", "select 1 as x; select 2 as x", "select 2 as x"),
        ("postgres", "select É from t", "select é from t"),
    ],
)
def test_what_is_not_understood_counts_as_changed(adapter: str, old: str, new: str) -> None:
    assert not same_sql(old, new, adapter)


def test_text_that_cannot_be_parsed_is_still_compared_without_comments() -> None:
    assert same_sql("frobnicate t with 1 -- one", "frobnicate  t\nwith 1", "duckdb")
    assert not same_sql("frobnicate t with 1", "frobnicate t with 2", "duckdb")


def test_deep_nesting_is_no_error() -> None:
    deep = "select " + "(" * 5000 + "1" + ")" * 5000
    assert same_sql(deep, f"{deep} -- deep", "duckdb")
    assert not same_sql(deep, deep.replace("1", "2"), "duckdb")


def test_laid_out_for_people() -> None:
    assert pretty("select a,b from t where a>1", "duckdb").splitlines() == [
        "SELECT",
        "  a,",
        "  b",
        "FROM t",
        "WHERE",
        "  a > 1",
    ]
    assert pretty(" frobnicate ( ", "duckdb") == "frobnicate ("


def test_what_is_said_to_be_the_same_gives_the_same_on_duckdb() -> None:
    counts = Counter[str]()
    assert [problem for seed in range(12) for problem in case(seed, counts)] == []
    assert counts["compiled said to be the same"] > 10
    assert counts["edits that change the result"] > 10


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("select a from t left join u on t.id = u.id", "select a from t left inner join u on t.id = u.id"),
        ("select a from t cross join u", "select a from t cross inner join u"),
        ("select a from t", "select as a from t"),
        ("select a, b from t", "select a, as b from t"),
        ("select a::bigint from t", "select a::-- one\nbigint from t"),
    ],
)
def test_a_mistake_that_a_spelling_would_hide_is_a_change(old: str, new: str) -> None:
    assert not same_sql(old, new, "duckdb")
    assert not same_sql(new, old, "duckdb")
