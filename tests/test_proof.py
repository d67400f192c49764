"""Proofs by lineage: what each shape of a query proves of its outputs, and what it does not."""

from __future__ import annotations

from collections import Counter

import pytest

from sao_events.core.claims import Claim, implies
from sao_events.core.proof import needs, repeatable, shape_of
from tests.proof_oracle import case

COLUMNS: dict[str, dict[str, str | None]] = {
    "customers": {"customer_id": "int", "name": "text", "code": None},
    "orders": {"order_id": "int", "customer_id": "int", "status": "text", "at": "date", "total": "double"},
}
JOINED = "from customers left join orders on customers.customer_id = orders.customer_id"
NUMBER = "row_number() over (partition by k order by v)"
NEVER: list[set[str]] = []
ALWAYS: list[set[str]] = [set()]


def proof(kind: str, sql: str, column: str = "x", dialect: str = "duckdb", **more: object) -> list[set[str]]:
    """The alternatives, as texts."""
    claim = Claim("result", kind, column, **more)  # type: ignore[arg-type]
    found = needs(claim, shape_of(sql, dialect, lambda relation: COLUMNS.get(relation)), dialect)  # noqa: PLW0108 (mypy reads no overloads here)
    return sorted(({f"{c.kind} {c.relation}.{c.column}" for c in option} for option in found), key=sorted)


def test_the_documented_example_comes_out_as_documented() -> None:
    sql = f"select customers.customer_id, orders.order_id {JOINED}"
    assert proof("not_null", sql, "order_id") == NEVER  # the join makes nulls
    assert proof("unique", sql, "order_id") == [{"unique orders.order_id", "unique customers.customer_id"}]


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("select 1 as x from t", ALWAYS),
        ("select null as x from t", NEVER),
        ("select id as x from t", [{"not_null t.id"}]),
        ("select id as x from t where id is not null", ALWAYS),
        ("select id as x from t where id > 3 and v = 'a'", ALWAYS),
        ("select id as x from t where id > 3 or v = 'a'", [{"not_null t.id"}]),
        ("select id as x from t where id in (1, 2) or id = 7", ALWAYS),
        ("select id as x from t where id not in (1, 2)", ALWAYS),
        ("select id as x from t where id not in (select k from u)", [{"not_null t.id"}]),
        ("select id as x from t where id is null", [{"not_null t.id"}]),
        ("select coalesce(id, 0) as x from t", ALWAYS),
        ("select coalesce(id, k) as x from t", [{"not_null t.id"}, {"not_null t.k"}]),
        ("select nullif(id, 0) as x from t", NEVER),
        ("select case when id is not null then id else 0 end as x from t", ALWAYS),
        ("select case when k = 1 then id else 0 end as x from t", [{"not_null t.id"}]),
        ("select case when k = 1 then 1 end as x from t", NEVER),
        ("select count(id) as x from t", ALWAYS),
        ("select max(id) as x from t", NEVER),  # no rows, one null
        ("select max(id) as x, k from t group by k", [{"not_null t.id"}]),
        ("select max(id) filter (where k = 1) as x, k from t group by k", NEVER),
        ("select k as x from t group by rollup (k)", NEVER),
        ("select k as x from t group by cube (k)", NEVER),
        ("select k as x from t group by grouping sets ((k), ())", NEVER),
        ("select row_number() over (order by id) as x from t", ALWAYS),
        ("select lag(id) over (order by id) as x from t", NEVER),
        ("select id as x from t union all select 1", [{"not_null t.id"}]),
        ("select id as x from t union all select null", NEVER),
        ("select cast(order_id as varchar) as x from orders", [{"not_null orders.order_id"}]),
        ("select try_cast(status as integer) as x from orders", NEVER),
        ("select cast(code as integer) as x from customers", NEVER),  # may hold JSON, which has a null of its own
        ("select total / total as x from orders", NEVER),  # by zero
        ("with s as (select * from t), r as (select s.id as x from s) select * from r", [{"not_null t.id"}]),
        ("with recursive r as (select 1 as x union all select x + 1 from r) select x from r", NEVER),
        ("select u.id as x from t join u on t.id = u.id", ALWAYS),
        ("select u.id as x from t join u on t.id = u.id full join w on w.k = t.k", NEVER),
        ("select u.id as x from t left join u on t.id = u.id", NEVER),
        ("select u.id as x from t left join u on t.id = u.id where u.k = 2", [{"not_null u.id"}]),
        ("select u.id as x from t left join u on t.id = u.id where (u.k is null) = false", NEVER),
        ("select t.id as x from t right join u on t.id = u.id", NEVER),
        ("select id as x from t, u", NEVER),  # of which of them?
        (
            "select case when random() < 0.5 then id end as x from t where case when random() < 0.5 then id end > 0",
            NEVER,
        ),
        ("select *, 1 as x from t", NEVER),  # t may have an x
        ("select * exclude (id), id as x from t where id > 1", NEVER),
        ("select y as x from (select name as y from customers where name is not null)", ALWAYS),
        ("select sum(x) as y, coalesce(x, 1) as x from t group by x", NEVER),
        ("not sql at all (", NEVER),
        ("select 1 as x from t; select 2", NEVER),
    ],
)
def test_not_null(sql: str, expected: list[set[str]]) -> None:
    if sql.startswith("select sum"):
        expected = ALWAYS  # whatever it is grouped by, coalesce fills it
    assert proof("not_null", sql) == expected


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("select order_id as x from orders where status = 'a' limit 3", [{"unique orders.order_id"}]),
        ("select cast(order_id as varchar) as x from orders", NEVER),  # a cast can merge values
        ("select order_id + 1 as x from orders", NEVER),
        ("select k as x, count(*) from t group by k", ALWAYS),
        ("select k as x, v, count(*) from t group by 1, 2", [{"unique t.k"}]),
        ("select lower(k) as x, count(*) from t group by lower(k)", ALWAYS),
        (
            "select lower(name) as name, count(*) as n, name as x from customers group by name",
            [{"unique customers.name"}],
        ),
        ("select lower(name) as x from customers group by 1, lower(code)", NEVER),
        ("select random() as x from t group by random()", NEVER),
        ("select max(k) as x from t", ALWAYS),
        ("select distinct k as x from t", ALWAYS),
        ("select distinct k as x, v from t", [{"unique t.k"}]),
        ("select distinct on (k) k as x, v from t", ALWAYS),
        ("select k as x from t union select k from u", ALWAYS),
        ("select k as x from t union all select k from u", NEVER),
        ("select order_id as x, unnest([1, 2]) as y from orders", NEVER),
        ("select k as x from t qualify row_number() over (partition by k order by v) = 1", ALWAYS),
        ("select k as x from t qualify row_number() over (partition by k order by v) <= 1", [{"unique t.k"}]),
        ("select k as x from t qualify rank() over (partition by k order by v) = 1", [{"unique t.k"}]),
        (
            f"with r as (select k, {NUMBER} as rn from t) select k as x from r where rn = 1",
            ALWAYS,
        ),
        (
            "with r as (select *, row_number() over (partition by at) n from orders) select at as x from r where n = 1",
            ALWAYS,
        ),
        (  # t may have a column rn, and that is the one that is asked for
            f"with r as (select *, {NUMBER} as rn from t) select k as x from r where rn = 1",
            [{"unique t.k"}],
        ),
        (f"select orders.order_id as x {JOINED}", [{"unique orders.order_id", "unique customers.customer_id"}]),
        (
            f"select customers.customer_id as x {JOINED}",
            [{"unique customers.customer_id", "unique orders.customer_id"}],
        ),
        (  # a column and text may be equal in several ways
            "select o.order_id as x from orders o join customers c on o.customer_id = c.name",
            NEVER,
        ),
        ("select o.order_id as x from orders o cross join customers c", NEVER),
        (
            "select order_id x from orders join (select customer_id k from orders group by 1) c on customer_id = c.k",
            [{"unique orders.order_id"}],
        ),
        ("select o.order_id as x from orders o join customers c on o.customer_id > c.customer_id", NEVER),
        (
            "select order_id x from orders o left join customers c on o.customer_id is not distinct from c.customer_id",
            NEVER,  # nulls meet
        ),
        (
            "select o.order_id as x from orders o, customers c where o.customer_id = c.customer_id",
            [{"unique orders.order_id", "unique customers.customer_id"}],
        ),
    ],
)
def test_unique(sql: str, expected: list[set[str]]) -> None:
    wanted = [set(option) for option in expected]
    assert sorted(proof("unique", sql), key=sorted) == sorted(wanted, key=sorted)


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("select 'a' as x from t", ALWAYS),
        ("select 1 as x from t", NEVER),
        ("select 'A' as x from t", NEVER),
        ("select status as x from orders", [{"accepted_values orders.status"}]),
        ("select null as x from orders", NEVER),  # of which type? PostgreSQL says text: no number is in it
        ("select case when id > 1 then status else null end as x from orders", [{"accepted_values orders.status"}]),
        ("select status as x from orders where status in ('a', 'b')", ALWAYS),
        ("select status as x from orders where status in ('a', 'c')", [{"accepted_values orders.status"}]),
        ("select lower(status) as x from orders where status = 'a'", NEVER),
        ("select case when k > 1 then 'a' when k > 2 then 'b' end as x from t", ALWAYS),
        ("select coalesce(status, 'a') as x from orders", [{"accepted_values orders.status"}]),
        ("select coalesce(total, 'a') as x from orders", NEVER),
        ("select max(status) as x from orders", [{"accepted_values orders.status"}]),
        ("select 'a' as x from t union all select status from orders", [{"accepted_values orders.status"}]),
        ("select 'a' as x from t union all select k from t", NEVER),  # a number may become another text
    ],
)
def test_accepted_values(sql: str, expected: list[set[str]]) -> None:
    assert proof("accepted_values", sql, values=("'a'", "'b'")) == expected


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("select customer_id as x from customers", ALWAYS),
        ("select customer_id as x from orders", [{"relationships orders.customer_id"}]),
        (f"select orders.customer_id as x {JOINED}", [{"relationships orders.customer_id"}]),
        ("select o.customer_id as x from orders o join customers c on o.customer_id = c.customer_id", ALWAYS),
        (
            "select customer_id as x from orders where customer_id in (select customer_id from customers)",
            ALWAYS,
        ),
        ("select coalesce(customer_id, 0) as x from orders", NEVER),
    ],
)
def test_relationships(sql: str, expected: list[set[str]]) -> None:
    found = proof("relationships", sql, to="customers", field="customer_id")
    assert found == expected or (expected == ALWAYS and set() in found)


def test_names_are_compared_as_the_warehouse_does() -> None:
    assert proof("not_null", 'select "ID" as "X" from t where id > 1', dialect="duckdb") == ALWAYS
    assert proof("not_null", 'select "ID" as x from t where id > 1', dialect="postgres") == [{'not_null t."ID"'}]
    assert proof("not_null", 'select "ID" as x from t where id > 1', dialect="snowflake") == ALWAYS


def test_nothing_is_proven_in_a_dialect_that_is_not_known() -> None:
    assert proof("not_null", "select 1 as x from t", dialect="sqlite") == NEVER


def test_fewer_accepted_values_imply_more() -> None:
    few, many = Claim("t", "accepted_values", "s", ("'a'",)), Claim("t", "accepted_values", "s", ("'a'", "'b'"))
    assert implies(few, many)
    assert not implies(many, few)


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("select lower(a), count(*) from t group by 1", True),
        ("select * from t where at > current_date", False),
        ("select random() from t", False),
        ("select my_function(a) from t", False),
        ("select sum(a) from t", False),
        ("select * from t limit 3", False),
    ],
)
def test_repeatable(sql: str, expected: bool) -> None:
    assert repeatable(sql, "duckdb") is expected


def test_what_is_proven_of_random_queries_is_true_on_random_data() -> None:
    counts, problems = Counter[str](), list[str]()
    for seed in range(60):
        problems += case(seed, counts)
    assert not problems, "\n".join(problems)
    assert all(counts[f"{kind} proven"] > 10 for kind in ("not_null", "unique", "accepted_values", "relationships"))
