"""What is known of a query column by column, shape by shape; and what nobody vouches for."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from sao_events.core.columns import Analysis, Whole, analyse
from sao_events.core.lineage import Code, Reading
from tests.columns_oracle import case

M = "with s as (select * from db.raw) select id, amount + 1 as more from s where kind = 'a'"


def of(text: str, dialect: str = "duckdb") -> Analysis:
    """The analysis of a query."""
    return analyse(text, dialect)


def same(old: str, new: str) -> tuple[bool, set[str]]:
    """Whether the rows are the same, and which columns are."""
    a, b = of(old), of(new)
    return a.base == b.base, {name for name, _ in set(a.columns) & set(b.columns)}


@pytest.mark.parametrize("dialect", ["duckdb", "postgres", "redshift", "snowflake", "bigquery"])
def test_what_each_column_and_the_rows_are_made_of(dialect: str) -> None:
    found = of(M, dialect)
    assert found.rows == {"db.raw": ("kind",)}
    assert found.feeds == {"id": {"db.raw": ("id",)}, "more": {"db.raw": ("amount",)}}
    assert found.plain == {"id"}


@pytest.mark.parametrize(
    ("new", "rows", "columns"),
    [
        (M.replace("with s ", "with renamed ").replace("from s ", "from renamed "), True, {"id", "more"}),
        (M.replace("select id", "SELECT  /* x */ id"), True, {"id", "more"}),
        (M.replace("select id,", "select id, note,"), True, {"id", "more"}),
        (M.replace("id, amount + 1 as more", "amount + 1 as more, id"), True, {"id", "more"}),
        (M.replace("+ 1", "+ 2"), True, {"id"}),
        (M.replace("amount + 1 as more", "max(amount) over () as more"), True, {"id"}),
        (M.replace("* from db.raw", "*, id + 1 as id from db.raw"), True, {"more"}),
        (M.replace("'a'", "'b'"), False, set()),
        (M.replace("db.raw", "db.other"), False, set()),
        (M.replace("select id", "select distinct id"), False, set()),
        (M.replace("amount + 1 as more", "max(amount) as more"), False, set()),
        (M.replace("from s ", "from s join db.raw r on r.id = s.id ").replace("id,", "s.id,"), False, set()),
    ],
)
def test_what_an_edit_leaves_as_it_was(new: str, rows: bool, columns: set[str]) -> None:
    base, found = same(M, new)
    assert base == rows
    assert not rows or found == columns


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("select distinct a from db.t", "select distinct a, b from db.t"),
        ("select a from db.t union select a from db.u", "select a, b from db.t union select a, b from db.u"),
        ("select a from db.t except select a from db.u", "select a, b from db.t except select a, b from db.u"),
        ("select a, count(*) as n from db.t group by a", "select a, b, count(*) as n from db.t group by a, b"),
        ("select a from db.t t join db.u u on t.i = u.i", "select a from db.t t left join db.u u on t.i = u.i"),
        ("select t.a from db.t t join db.t u on t.i = u.p", "select t.a from db.t t join db.t u on t.p = u.i"),
        (
            "select a from db.t where a > (select max(b) from db.u)",
            "select a from db.t where a > (select max(c) from db.u)",
        ),
        (
            "select a from db.t qualify rank() over (order by a) = 1",
            "select a from db.t qualify rank() over (order by b) = 1",
        ),
        ("select 1 as a from db.t", "select 1 as a, count(*) as n from db.t"),
    ],
)
def test_what_changes_the_rows(old: str, new: str) -> None:
    assert of(old).base != of(new).base


def test_the_sides_of_a_self_join_are_told_apart() -> None:
    text = "select {}.a as a from db.t x join db.t y on x.i = y.p"
    assert same(text.format("x"), text.format("y")) == (True, set())


def test_a_bare_name_that_may_be_an_alias_or_a_column_is_both() -> None:
    found = of("select a + 1 as b, b * 2 as c from db.t")
    assert found.feeds["c"] == {"db.t": ("a", "b")}
    assert same("select a + 1 as b, b * 2 as c from db.t", "select a + 2 as b, b * 2 as c from db.t") == (True, set())


def test_a_bare_name_within_a_query_may_belong_to_what_is_around_it() -> None:
    found = of("select (select max(u.q) from db.u u where v = 1) as m from db.t")
    assert found.feeds["m"] == {"db.t": ("v",), "db.u": ("q", "v")}


@pytest.mark.parametrize(
    "text",
    [
        "select unnest(a) as b from db.t",
        "select a from db.t limit 3",
        "select distinct on (a) a, b from db.t",
        "select random() as r from db.t",
        "select uuid() as r from db.t",
        "select nextval('s') as r from db.t",
        "select my_function(a) as r from db.t",
        "select t as r from db.t t",
        "select a.b.c as r from db.t",
        "select columns('a.*') from db.t",
        "select * replace (1 as a) from db.t",
        "select a from db.t natural join db.u",
        "select * from db.t join db.u using (i)",
        "select a, count(*) as n from db.t group by all",
        "select a, count(*) as n from db.t group by rollup (a)",
        "select a from db.t union all by name select a from db.u",
        "select a from db.t tablesample 10%",
        "select a, a from db.t",
        "select count(*) from db.t",
        "select rowid as r from db.t",
        "select a from read_csv('x.csv')",
        "select a from (values (1)) t(a)",
        "with recursive r as (select 1 as a union all select a + 1 as a from r where a < 3) select a from r",
        "pivot db.t on a using sum(b)",
        "select 1 as a; select 2 as a",
        "not sql at all",
    ],
)
def test_what_nobody_vouches_for_is_one_piece(text: str) -> None:
    with pytest.raises(Whole):
        of(text)


def test_another_dialect_is_one_piece() -> None:
    with pytest.raises(Whole):
        of("select a from t", "oracle")


def test_a_value_that_differs_at_each_build_changes_with_every_edit() -> None:
    assert same("select a, current_date as n from db.t", "select a, current_date as n, b from db.t") in [
        (True, {"a"}),
        (False, set()),
    ]


@pytest.mark.parametrize("kind", ["except", "intersect", "union"])
@pytest.mark.parametrize("dialect", ["duckdb", "postgres"])
def test_how_often_a_row_is_there_counts(kind: str, dialect: str) -> None:
    text = f"select a from db.t {kind} select a from db.u"
    assert of(text, dialect).base != of(text.replace(kind, f"{kind} all"), dialect).base


@pytest.mark.parametrize(
    ("dialect", "one", "other"),
    [
        ("postgres", "extract(epoch from a)", "date_part('epoch', a)"),  # numeric, double precision
        ("postgres", "coalesce(a, b)", "nvl(a, b)"),  # there is no nvl
        ("duckdb", "length(a)", "len(a)"),
        ("snowflake", "case when a then b else c end", "iff(a, b, c)"),
    ],
)
def test_a_function_by_another_name_is_another(dialect: str, one: str, other: str) -> None:
    codes = [of(f"select {e} as x, c from db.t", dialect).code for e in (one, other)]
    assert codes[0].columns[0] != codes[1].columns[0]
    assert codes[0].columns[1] == codes[1].columns[1]


def test_tables_of_bigquery_that_differ_in_case_are_two() -> None:
    upper, lower = (of(f"with t as (select a from `p.d.{name}`) select a from T", "bigquery") for name in ("X", "x"))
    assert [*upper.relations, *lower.relations] == ["p.d.X", "p.d.x"]
    assert upper.base != lower.base


def test_the_name_of_a_function_is_the_same_in_any_case() -> None:
    assert (
        of("select nvl(a, b) as x from db.t", "redshift").code
        == of("select NVL (a, b) as x from db.t", "redshift").code
    )


@pytest.mark.parametrize("text", ["date_trunc(grain, a)", "datediff(grain, a, b)"])
def test_a_word_that_may_be_a_column_is_not_taken_for_a_unit(text: str) -> None:
    with pytest.raises(Whole):
        of(f"select {text} as x from db.t")
    assert of(f"select {text.replace('grain', 'day')} as x from db.t").steady


@pytest.mark.parametrize(
    ("frame", "steady"),
    [
        ("", True),
        ("range between unbounded preceding and current row", True),
        ("groups 1 preceding", True),
        ("rows between unbounded preceding and unbounded following", True),
        ("rows unbounded preceding", False),
        ("rows between unbounded preceding and current row", False),
        ("rows between unbounded preceding and unbounded following exclude current row", False),
        ("rows between 1 preceding and 1 following", False),
    ],
)
def test_a_frame_of_a_number_of_rows_leaves_open_which_of_equal_ones_it_has(frame: str, steady: bool) -> None:
    text = f"select a, sum(b) over (order by c {frame}) as total from db.t"
    assert of(text).steady == steady
    assert same(text, text.replace("select a,", "select d, a,")) == (True, {"a", "total"} if steady else {"a"})


def test_select_star_passes_columns_on_and_its_filter_decides_the_rows() -> None:
    reading = of("select * from db.t where x > 1").reading({"db.t": "t"})
    assert reading == Reading({}, frozenset({"t"}), {"t": ("x",)}, {})
    own = of("select * from db.t where x > 1").code
    old, added, other = (Code("b", columns) for columns in ((("x", "1"),), (("x", "1"), ("y", "1")), (("x", "2"),)))
    assert reading.compose(own, {"t": old}).base == reading.compose(own, {"t": added}).base
    assert reading.compose(own, {"t": old}).base != reading.compose(own, {"t": other}).base


@pytest.mark.parametrize("text", ["select * exclude (x) from db.t", "select distinct * from db.t"])
def test_where_a_star_is_more_than_passed_on_everything_counts(text: str) -> None:
    reading = of(text).reading({"db.t": "t"})
    assert "t" not in {*reading.named, *reading.star}


@pytest.mark.parametrize(
    "text",
    [
        "with s as (select id, gone from db.t) select id from s",
        "with s as (select * exclude (gone) from db.t) select id from s",
        "with s as (select id from db.t), unused as (select gone from db.t) select id from s",
    ],
)
def test_a_column_that_is_named_for_nothing_is_read_too(text: str) -> None:
    """Without it the query fails, which a full build would tell."""
    assert of(text).reading({"db.t": "t"}).named == {"t": ("gone", "id")}


def test_a_relation_that_is_no_parent_makes_the_reading_unknown() -> None:
    assert of("select a from db.t, db.other").reading({"db.t": "t"}) == Reading()


def test_a_column_changes_with_what_it_is_made_of_and_the_rows_with_what_decides_them() -> None:
    found = of(M)
    reading = found.reading({"db.raw": "r"})

    def over(**columns: str) -> Code:
        return reading.compose(found.code, {"r": Code("b", tuple(columns.items()))})

    before = over(id="1", amount="1", kind="1", note="1")
    assert over(id="1", amount="1", kind="1", note="2", more="3") == before
    assert over(id="1", amount="1", kind="2", note="1").base != before.base
    after = over(id="1", amount="2", kind="1", note="1")
    assert after.base == before.base
    assert {name for name, _ in set(after.columns) & set(before.columns)} == {"id"}


def test_two_columns_of_one_name_count_as_a_whole() -> None:
    reading = Reading({}, frozenset({"u"}), {})
    one, other = (reading.compose(Code("m", (("x", own),)), {"u": Code("b", (("x", "1"),))}) for own in "12")
    assert one.base != other.base


def test_random_edits_on_random_data_leave_what_is_said_to_be_left() -> None:
    first = random.SystemRandom().randrange(10**9)
    found = Counter[str]()
    problems = [(seed, problem) for seed in range(first, first + 120) for problem in case(seed, found)]
    assert not problems, problems
    assert found["readers spared"] > 10, found
    assert found["m: columns said to be the same"] > 20, found
