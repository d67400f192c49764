"""Edits of SQL, labelled by hand: `same` where no row, name, type or order of columns can differ, `other` where
something may. The labels say what is so in the warehouse, not what the software finds.

`t` and `u` are tables with columns id, a, b (numbers), s (text), d (a date), ts (a timestamp).
"""

from __future__ import annotations

from typing import NamedTuple


class Edit(NamedTuple):
    """Two texts in the SQL of dbt's adapter `dialect`; whether they are the same to the warehouse."""

    dialect: str
    old: str
    new: str
    same: bool


def _same(dialect: str, old: str, *new: str) -> list[Edit]:
    return [Edit(dialect, old, text, True) for text in new]


def _other(dialect: str, old: str, *new: str) -> list[Edit]:
    return [Edit(dialect, old, text, False) for text in new]


CTE = "with x as (select id, a from t where a > 1) select x.id, x.a from x join u on u.id = x.id"

DUCKDB = [
    *_same(
        "duckdb",
        "select id, a from t where a != 1",
        "select id, a from t where a <> 1",
        "SELECT id, a FROM t WHERE a != 1",
        "select id,a\n\nfrom t\n\twhere a!=1",
        "select id, a from t where a != 1;",
        "select id, a, from t where a != 1",
        "-- all but one\nselect id, /* the number */ a from t where a != 1 -- really",
        "select id, a from t where a != 1 -- it's",
    ),
    *_same(
        "duckdb",
        "select id as k, a::integer as n, s::varchar v from t",
        "select id k, cast(a as integer) n, s::varchar as v from t",
        "select id k, cast(a as int) n, cast(s as varchar) as v from t",
        "select id as k, a :: integer as n, s::VARCHAR v from t",
        "select id as k, a::int as n, s::text as v from t",
    ),
    *_same(
        "duckdb",
        "select COUNT(*) as n, Upper(s) as s from t group by s",
        "select count(*) n, upper(s) s from t group by s",
    ),
    *_same("duckdb", "select a::int from t", "select cast(a as int) from t", "select CAST(a AS INTEGER) from t"),
    *_same("duckdb", "select a <> b, count(*) from t group by 1", "select a != b, COUNT(*) from t group by 1"),
    *_same(
        "duckdb",
        CTE,
        CTE.upper()
        .replace("X", "x")
        .replace("ID", "id")
        .replace("A >", "a >")
        .replace(", A", ", a")
        .replace("x.A", "x.a")
        .replace("T WH", "t WH")
        .replace("JOIN U", "JOIN u")
        .replace("U.id", "u.id"),
        CTE.replace("join", "inner join"),
        CTE.replace(" join", "\n    -- on the id\n    join"),
    ),
    *_same(
        "duckdb", "select t.id from t left join u on t.id = u.id", "select t.id from t left outer join u on t.id = u.id"
    ),
    *_same("duckdb", "select t.id from t full join u using (id)", "select t.id from t full outer join u using (id)"),
    *_same("duckdb", "select id from t as q where q.a in (1, 2)", "select id from t q where q.a in (1,2)"),
    *_same("duckdb", "select 'a -- b' as x from t", "select 'a -- b' x from t -- c"),
    *_same("duckdb", "select a + b as c from t", "select (a + b) as c from t", "select a+b as c from t"),
    *_same("duckdb", "select id from t order by id", "select id from t order by id asc"),
    *_same("duckdb", "select id from t where a > 1 and b > 1", "select id from t where b > 1 and a > 1"),
    *_same("duckdb", CTE, CTE.replace("x", "y")),
    *_same("duckdb", "select id from t where a in (1, 2)", "select id from t where a = 1 or a = 2"),
    *_same("duckdb", "select id from t", 'select "id" from t', "from t select id", "select t.id from t"),
    *_same(
        "duckdb",
        "select case when a > 1 then 1 end as x from t",
        "select case when a > 1 then 1 else null end as x from t",
    ),
    *_same("duckdb", "select a::decimal(10, 2) as x from t", "select cast(a as decimal(10,2)) as x from t"),
    *_other(
        "duckdb",
        "select id, a from t where a != 1",
        "select id, a from t where a = 1",
        "select id, a from t where a != 2",
        "select a, id from t where a != 1",
        "select id, A from t where a != 1",
        "select id, a as b from t where a != 1",
        "select id a from t where a != 1",
        "select distinct id, a from t where a != 1",
        "select id, a from u where a != 1",
        "select id, a from t where not a != 1",
        "select id, a from t where a != 1 limit 1",
        "select id, a from t -- where a != 1",
        "select id, a from t where a != 1.0",
        "select id, -a as a from t where a != 1",
    ),
    *_other(
        "duckdb", "select a::int as n from t", "select a::bigint as n from t", "select try_cast(a as int) as n from t"
    ),
    *_other("duckdb", "select -a::utinyint as n from t", "select cast(-a as utinyint) as n from t"),
    *_other("duckdb", "select a / b as n from t", "select a // b as n from t"),
    *_other(
        "duckdb",
        "select sum(a) as n from t",
        "select sum(distinct a) as n from t",
        "select sum(a) filter (where b > 1) as n from t",
    ),
    *_other("duckdb", "select count(*) as n from t", "select count(a) as n from t", "select count(1, a) as n from t"),
    *_other("duckdb", "select Total from (select a as Total from t)", "select total from (select a as Total from t)"),
    *_other("duckdb", "select a as Date from t", "select a as date from t"),
    *_other(
        "duckdb",
        "select a, b from t union all select a, b from u",
        "select a, b from t union select a, b from u",
        "select a, b from u union all select b, a from t",
    ),
    *_other(
        "duckdb",
        "select t.id from t left join u on t.id = u.id",
        "select t.id from t join u on t.id = u.id",
        "select t.id from t left join u on t.a = u.id",
        "select t.id from u left join t on t.id = u.id",
    ),
    *_other(
        "duckdb",
        "select a, row_number() over (order by id) as n from t",
        "select a, row_number() over (order by id desc) as n from t",
        "select a, rank() over (order by id) as n from t",
        "select a, row_number() over (partition by a order by id) as n from t",
    ),
    *_other("duckdb", "select (a + b) * 2 as n from t", "select a + b * 2 as n from t"),
    *_other(
        "duckdb", "select a from t where a > 1 or b > 1 and id > 1", "select a from t where (a > 1 or b > 1) and id > 1"
    ),
    *_other(
        "duckdb",
        "select coalesce(a, b) as n from t",
        "select coalesce(b, a) as n from t",
        "select ifnull(a, 0) as n from t",
    ),
    *_other(
        "duckdb",
        "select 'a' as x from t",
        "select 'A' as x from t",
        "select 'a ' as x from t",
        'select "a" as x from t',
    ),
    *_other(
        "duckdb",
        "select a from t order by a",
        "select a from t order by a nulls first",
        "select a from t order by a desc",
    ),
    *_other(
        "duckdb",
        "select * from t",
        "select * exclude (b) from t",
        "select * replace (a + 1 as a) from t",
        "select t.*, 1 as one from t",
    ),
    *_other("duckdb", "select id from t using sample 10 rows", "select id from t using sample 20 rows"),
    *_other("duckdb", "select s like 'a%' as x from t", "select s ilike 'a%' as x from t"),
    *_other(
        "duckdb", "select a from t group by all having count(*) > 1", "select a from t group by all having count(*) > 2"
    ),
    *_other("duckdb", "select {'K': a} as x from t", "select {'k': a} as x from t"),
    *_other("duckdb", "select struct_pack(K := a) as x from t", "select struct_pack(k := a) as x from t"),
    *_other("duckdb", "select date_trunc('month', ts) as x from t", "select date_trunc('week', ts) as x from t"),
    *_other("duckdb", "select a between 1 and 2 as x from t", "select a between 2 and 1 as x from t"),
    *_other("duckdb", "select a is distinct from b as x from t", "select a is not distinct from b as x from t"),
]
POSTGRES = [
    *_same(
        "postgres",
        'select Id, "A" from T where Id <> 1',
        'select id, "A" from t where ID != 1',
        'SELECT ID, "A" FROM t WHERE id <> 1',
    ),
    *_same("postgres", "select a::numeric(10, 2) as x from t", "select cast(a as numeric(10,2)) x from t"),
    *_same("postgres", "select lower(s) as x, $$it's$$ as y from t", "select LOWER(s) x, $$it's$$ y from t"),
    *_same("postgres", "select a::int from t", "select cast(a as integer) from t"),
    *_same("postgres", "select now() as x", "select NOW() as x", "select current_timestamp as x"),
    *_same("postgres", "select a from t /* outer /* inner */ still */", "select a from t"),
    *_same(
        "postgres",
        "select distinct on (id) id, a from t order by id, a",
        "select distinct on (id) Id, A\nfrom t order by id, a",
    ),
    *_same("postgres", "select s ~ 'x' as m from t as q", "select s ~ 'x' m from t q"),
    *_other("postgres", 'select "A" from t', 'select "a" from t', "select A from t"),
    *_other(
        "postgres",
        "select j -> 'a'::text as x from t",
        "select cast(j -> 'a' as text) as x from t",
        "select j ->> 'a' as x from t",
    ),
    *_other("postgres", "select -a::int as x from t", "select cast(-a as int) as x from t"),
    *_other(
        "postgres",
        "select ts at time zone 'utc'::text as x from t",
        "select cast(ts at time zone 'utc' as text) as x from t",
    ),
    *_other(
        "postgres",
        "select s::varchar as x from t",
        "select s::text as x from t",
        "select s::varchar(5) as x from t",
        "select s::char as x from t",
    ),
    *_other("postgres", "select ts::timestamp as x from t", "select ts::timestamptz as x from t"),
    *_other("postgres", "select a::real as x from t", "select a::float8 as x from t"),
    *_other("postgres", r"select e'a\nb' as x", r"select 'a\nb' as x"),
    *_other("postgres", "select 'a'\n'b' as x", "select 'a' 'b' as x", "select 'ab ' as x"),
    *_other("postgres", "select s ~ 'x' as m from t", "select s ~* 'x' as m from t", "select s !~ 'x' as m from t"),
    *_other("postgres", "select a from t for update", "select a from t"),
    *_other("postgres", "select a from t tablesample bernoulli (10)", "select a from t tablesample system (10)"),
    *_other(
        "postgres",
        "with x as materialized (select random() as r) select * from x",
        "with x as not materialized (select random() as r) select * from x",
    ),
    *_other(
        "postgres",
        "select count(*) over w as n from t window w as (order by a)",
        "select count(*) over w as n from t window w as (order by b)",
    ),
    *_other(
        "postgres", "select distinct on (id) id, a from t order by id, a", "select distinct id, a from t order by id, a"
    ),
    *_other(
        "postgres",
        "select a from t cross join lateral (select 1) x",
        "select a from t left join lateral (select 1) x on true",
    ),
]
SNOWFLAKE = [
    *_same(
        "snowflake",
        "select Id, a::int as n from T where a <> 1 // one\n",
        "select ID, cast(A as int) N from t where a != 1",
    ),
    *_same("snowflake", "select v:Name::string as n from t", "select v:Name::string n from t -- the name"),
    *_same(
        "snowflake",
        "select a from t qualify row_number() over (partition by id order by d) = 1",
        "SELECT a\nFROM t\nQUALIFY ROW_NUMBER() OVER (PARTITION BY id ORDER BY d) = 1",
    ),
    *_same("snowflake", "select iff(a > 1, 'x', 'y') as c from t", "select IFF(a > 1, 'x', 'y') C from t"),
    *_same(
        "snowflake",
        "select value:a.b as x from t, lateral flatten(input => j)",
        "select value:a.b x from t, lateral flatten(input => j)",
    ),
    *_same("snowflake", "select $$ raw -- text $$ as x from t", "select $$ raw -- text $$ x from t -- text"),
    *_same("snowflake", "select ts::timestamp_ntz as x from t", "select cast(ts as timestamp_ntz) as x from t"),
    *_same(
        "snowflake",
        "select a from t where exists (select 1 from u where u.id = t.id)",
        "select A from T where exists (select 1 from U where U.id = T.id)",
    ),
    *_other("snowflake", "select v:Name as n from t", "select v:name as n from t", "select v:Name::string as n from t"),
    *_other("snowflake", "select v:Date as n from t", "select v:date as n from t"),
    *_other("snowflake", 'select "Id" from t', 'select "ID" from t', "select Id from t"),
    *_other(
        "snowflake",
        "select ts::timestamp as x from t",
        "select ts::timestamp_ntz as x from t",
        "select ts::timestamp_tz as x from t",
    ),
    *_other(
        "snowflake",
        "select a::number as x from t",
        "select a::number(38, 2) as x from t",
        "select a::float as x from t",
    ),
    *_other(
        "snowflake",
        "select $1 as x from @stage/Path",
        "select $1 as x from @stage/path",
        "select $2 as x from @stage/Path",
    ),
    *_other(
        "snowflake",
        "select a from t at (offset => -60)",
        "select a from t at (offset => -120)",
        "select a from t before (offset => -60)",
    ),
    *_other("snowflake", "select a from t sample (10)", "select a from t sample (20)"),
    *_other("snowflake", "select nvl(a, 0) as x from t", "select zeroifnull(b) as x from t"),
    *_other(
        "snowflake",
        "select datediff('day', d, ts) as x from t",
        "select datediff('day', ts, d) as x from t",
        "select datediff('hour', d, ts) as x from t",
    ),
    *_other(
        "snowflake", "with c as (select a+1 from t) select * from c", "with c as (select a + 1 from t) select * from c"
    ),
    *_other(
        "snowflake",
        "select listagg(s, ',') within group (order by s) as x from t",
        "select listagg(s, ',') within group (order by d) as x from t",
    ),
    *_other("snowflake", "select a from t where s rlike 'x'", "select a from t where s like 'x'"),
    *_other("snowflake", "select div0(a, b) as x from t", "select a / b as x from t"),
]
BIGQUERY = [
    *_same("bigquery", "select id, a, from `p.d.t` where a != 1 # one\n", "SELECT id, a FROM `p.d.t` WHERE a <> 1"),
    *_same("bigquery", "select safe_cast(s as int64) as x from t", "select SAFE_CAST(s as INT64) x from t"),
    *_same(
        "bigquery", "select count(*) as n from t", "select COUNT(*) as n from t", "select count(*) n -- all\nfrom t"
    ),
    *_same("bigquery", "select as struct a, b from t", "SELECT AS STRUCT a, b FROM t"),
    *_same(
        "bigquery", "select x from unnest([1, 2]) as x with offset as o", "select x from unnest([1,2]) x with offset o"
    ),
    *_same(
        "bigquery",
        "select r'\\d' as x from t left outer join u using (id)",
        "select r'\\d' as x from t left join u using (id)",
    ),
    *_other("bigquery", "select d.MyFunc(a) as x from t", "select d.myfunc(a) as x from t"),
    *_other("bigquery", "select MyFunc(a) as x from t", "select myfunc(a) as x from t"),
    *_other("bigquery", "select a from `p.d.T`", "select a from `p.d.t`"),
    *_other("bigquery", "select a from p.d.T", "select a from p.d.t"),
    *_other(
        "bigquery",
        "select cast(s as int64) as x from t",
        "select safe_cast(s as int64) as x from t",
        "select cast(s as float64) as x from t",
    ),
    *_other("bigquery", "select as struct a, b from t", "select struct(a, b) from t", "select as value a from t"),
    *_other("bigquery", "select a as Total from t", "select a as total from t"),
    *_other(
        "bigquery",
        "select ts as x from t",
        "select datetime(ts) as x from t",
        "select date(ts, 'Europe/Berlin') as x from t",
    ),
    *_other(
        "bigquery",
        "select a from t for system_time as of '2020-01-01'",
        "select a from t for system_time as of '2021-01-01'",
        "select a from t",
    ),
    *_other(
        "bigquery",
        "select array_agg(a) as x from t",
        "select array_agg(a ignore nulls) as x from t",
        "select array_agg(distinct a) as x from t",
    ),
    *_other("bigquery", "select * except (a) from t", "select * except (b) from t", "select * from t"),
    *_other("bigquery", r"select r'\n' as x", r"select '\n' as x"),
    *_other(
        "bigquery",
        "select a[offset(0)] as x from t",
        "select a[ordinal(0)] as x from t",
        "select a[safe_offset(0)] as x from t",
    ),
    *_other("bigquery", "select 'a#b' as x from t", "select 'a' as x from t"),
]
REDSHIFT = [
    *_same("redshift", "select Id, s::varchar(10) as x from T", "select id, cast(s as varchar(10)) X from t"),
    *_same("redshift", "select getdate() as x", "select GETDATE() as x"),
    *_same(
        "redshift",
        "select nvl(a, b) as x from t inner join u using (id)",
        "select NVL(a, b) x from t join u using (id)",
    ),
    *_same("redshift", "select a from t where a <> 1 and s != ''", "SELECT A FROM t\nWHERE a != 1 AND s <> ''"),
    *_other("redshift", 'select "A" from t', 'select "a" from t'),
    *_other(
        "redshift",
        "select s::varchar(10) as x from t",
        "select s::varchar(20) as x from t",
        "select s::char(10) as x from t",
    ),
    *_other("redshift", "select approximate count(distinct a) as n from t", "select count(distinct a) as n from t"),
    *_other("redshift", "select getdate() as x", "select sysdate as x"),
    *_other("redshift", "select top 10 a from t", "select top 20 a from t"),
    *_other("redshift", "select listagg(s, ',') as x from t", "select listagg(distinct s, ',') as x from t"),
    *_other(
        "redshift",
        "select dateadd(day, 1, d) as x from t",
        "select dateadd(month, 1, d) as x from t",
        "select dateadd(day, -1, d) as x from t",
    ),
]
DATABRICKS = [
    *_same(
        "databricks", "select id, a::int as n from t where a <> 1", "SELECT id, CAST(a AS INT) n FROM t WHERE a != 1"
    ),
    *_same(
        "databricks",
        "select id from t left anti join u on t.id = u.id",
        "SELECT id FROM t LEFT ANTI JOIN u ON t.id = u.id",
    ),
    *_same("databricks", "select explode(array(1, 2)) as x from t -- twice", "select EXPLODE(array(1,2)) x from t"),
    *_same(
        "databricks",
        "select `a b` as x from t lateral view explode(b) e as y",
        "select `a b` x from t LATERAL VIEW explode(b) e AS y",
    ),
    *_other(
        "databricks",
        "select /*+ broadcast(u) */ t.id from t join u using (id)",
        "select /*+ broadcast(t) */ t.id from t join u using (id)",
    ),
    *_other(
        "databricks",
        "select id from t left anti join u on t.id = u.id",
        "select id from t left semi join u on t.id = u.id",
    ),
    *_other("databricks", "select a div b as x from t", "select a / b as x from t"),
    *_other("databricks", "select a as Total from t", "select a as total from t"),
    *_other(
        "databricks",
        "select id from t version as of 1",
        "select id from t version as of 2",
        "select id from t timestamp as of '2020-01-01'",
    ),
    *_other("databricks", "select v:Name as x from t", "select v:name as x from t"),
    *_other("databricks", "select collect_list(a) as x from t", "select collect_set(a) as x from t"),
    *_other("databricks", "select s rlike 'x' as m from t", "select s like 'x' as m from t"),
    *_other(
        "databricks",
        "select a::decimal(10, 2) as x from t",
        "select a::decimal(10, 3) as x from t",
        "select try_cast(a as decimal(10, 2)) as x from t",
    ),
]
EDITS = [*DUCKDB, *POSTGRES, *SNOWFLAKE, *BIGQUERY, *REDSHIFT, *DATABRICKS]
