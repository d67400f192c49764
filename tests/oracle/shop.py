"""The example project as the subject of a history, on the data that its own loader makes.

Its files are the example's, changed by dials: each stands at a number, 0 for the text as it is.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from random import Random
from typing import Any

from tests.oracle.database import Database, DuckDatabase

EXAMPLE = Path(__file__).parents[2] / "examples" / "jaffle_shop"
KINDS = (".sql", ".yml", ".csv")
TABLES = ("customers", "stores", "products", "orders", "order_items", "payments")
Texts = dict[str, str]
Dial = Callable[[Texts, int], None]

PORTABLE = (
    ("models/marts/mart_store_daily.sql", "interval 6 day", "interval '6 day'"),
    (
        "models/marts/mart_customer_orders.sql",
        """date_diff(
        'day',
        lag(orders.ordered_on) over (
            partition by customers.customer_id
            order by orders.ordered_at, orders.order_id
        ),
        orders.ordered_on
    )""",
        """(orders.ordered_on - lag(orders.ordered_on) over (
            partition by customers.customer_id
            order by orders.ordered_at, orders.order_id
        ))""",
    ),
    (
        "macros/latest_version.sql",
        """select * from {{ relation }}
        qualify row_number() over (partition by {{ key }} order by _loaded_at desc) = 1""",
        "select distinct on ({{ key }}) * from {{ relation }} order by {{ key }}, _loaded_at desc",
    ),
    ("macros/latest_version.sql", "    )\n", "    ) as latest\n"),
)
POSTGRES_PROFILE = """
jaffle_shop:
  target: dev
  outputs:
    dev:
      type: postgres
      host: "{{ env_var('ORACLE_HOST') }}"
      port: "{{ env_var('ORACLE_PORT') | int }}"
      dbname: "{{ env_var('ORACLE_DB') }}"
      user: postgres
      password: ""
      schema: main
      threads: 2
"""


def put(path: str, old: str, new: Callable[[int], str]) -> Dial:
    """A dial that writes `new(number)` in the place of `old`."""

    def turn(texts: Texts, number: int) -> None:
        assert old in texts[path], f"{path} of the example has no {old!r} any more"
        texts[path] = texts[path].replace(old, new(number), 1)

    return turn


def end(path: str, text: str) -> Dial:
    """A dial that appends a line, a comment."""
    return lambda texts, number: texts.update({path: f"{texts[path]}\n{text.format(number)}\n"})


def odd(one: str, other: str) -> Callable[[int], str]:
    """`one` where the number is odd, else `other`."""
    return lambda number: one if number % 2 else other


def _new_model(texts: Texts, number: int) -> None:
    if number % 2:
        texts["models/marts/mart_new.sql"] = f"select order_id, {number} as number from {{{{ ref('mart_orders') }}}}\n"


def _renamed(texts: Texts, number: int) -> None:
    texts[f"models/marts/mart_menu_{number}.sql"] = texts.pop("models/marts/mart_menu.sql")
    texts["models/marts/_marts.yml"] = texts["models/marts/_marts.yml"].replace(
        "name: mart_menu", f"name: mart_menu_{number}"
    )


def _var(texts: Texts, number: int) -> None:
    texts["dbt_project.yml"] += f"\nvars: {{regular: {number}}}\n"


STAGING, MARTS, INTERMEDIATE = "models/staging", "models/marts", "models/intermediate"
TABLE, VIEW = "{{ config(materialized='table') }}", "{{ config(materialized='view') }}"
DIALS: dict[str, Dial] = {
    "a column of stg_orders": put(f"{STAGING}/stg_orders.sql", "    status,", lambda n: f"    status, {n} as edited,"),
    "the sum of int_orders": put(
        f"{INTERMEDIATE}/int_orders.sql", "coalesce(items.item_count, 0)", lambda n: f"coalesce(items.item_count, {n})"
    ),
    "the ephemeral model": put(
        f"{INTERMEDIATE}/int_order_items_priced.sql",
        "items.quantity * items.unit_price",
        lambda n: f"(items.quantity + {n}) * items.unit_price",
    ),
    "the filter of mart_store_daily": put(
        f"{MARTS}/mart_store_daily.sql", "status != 'returned'", lambda n: f"status not in ('{n}', 'placed')"
    ),
    "the incremental model": put(
        f"{MARTS}/mart_orders.sql", "amount - paid as outstanding", lambda n: f"amount - paid + {n} as outstanding"
    ),
    "a comment in mart_orders": end(f"{MARTS}/mart_orders.sql", "-- {}"),
    "a comment in stg_payments": end(f"{STAGING}/stg_payments.sql", "/* {} */"),
    "a comment in a macro": end("macros/in_dollars.sql", "{{# {} #}}"),
    "the macro in_dollars": put("macros/in_dollars.sql", "100.0", lambda n: f"{100 + n}.0"),
    "the macro sum_per_value": put("macros/sum_per_value.sql", ", 0) as", lambda n: f", {n}) as"),
    "rows of regions": put("seeds/regions.csv", "60.00", lambda n: f"{60 + n}.00"),
    "rows of payment_methods": put("seeds/payment_methods.csv", "1.40", lambda n: f"1.{40 + n}"),
    "stg_products": put(f"{STAGING}/stg_products.sql", "select", odd(f"{TABLE}\nselect", "select")),
    "int_orders": put(f"{INTERMEDIATE}/int_orders.sql", "with", odd(f"{VIEW}\nwith", "with")),
    "mart_menu": put(f"{MARTS}/mart_menu.sql", "with", odd(f"{VIEW}\nwith", "with")),
    "the alias of mart_product_sales": put(
        f"{MARTS}/finance/mart_product_sales.sql", "select", lambda n: f"{{{{ config(alias='sales_{n}') }}}}\nselect"
    ),
    "mart_new": _new_model,
    "the var": _var,
    "a test that fails on mart_store_daily": put(
        "tests/assert_store_days_are_unique.sql", "count(*) > 1", odd("count(*) > 0", "count(*) > 1")
    ),
    "a test that fails on stg_orders": put(
        f"{STAGING}/_staging.yml", "[placed, completed, returned]", odd("[placed]", "[placed, completed, returned]")
    ),
    "broken mart_store_daily": put(
        f"{MARTS}/mart_store_daily.sql", "stores.store_name,", odd("stores.no_such,", "stores.store_name,")
    ),
    "broken int_order_payments": put(
        f"{INTERMEDIATE}/int_order_payments.sql", "payments.order_id,", odd("payments.no_such,", "payments.order_id,")
    ),
    "the name of mart_menu": _renamed,  # last: the others know it by its first name
}
FAILING = tuple(name for name in DIALS if name.startswith(("broken", "a test that fails")))


class Shop:
    """The example. Its loader keeps its own record of the raw data in a DuckDB file, which is the warehouse itself
    where that is DuckDB.
    """

    name = "jaffle_shop"
    sources = tuple(f"raw.{table}" for table in TABLES)

    def __init__(self, folder: Path, adapter: str) -> None:
        sys.path[:0] = [str(EXAMPLE)] if str(EXAMPLE) not in sys.path else []
        self.loader: Any = importlib.import_module("loader")
        self.adapter, self.folder = adapter, folder
        self.dials = dict.fromkeys(DIALS, 0)
        self._before: dict[str, int] | None = None

    def create(self, database: Database) -> None:
        """See `Subject.create`."""
        with self._record(database) as connection:
            self.loader.init(connection, 7, datetime(2026, 1, 2))
        if database.adapter != "duckdb":
            database.execute("create schema raw")
            for table, columns in self.loader.TABLES.items():
                database.execute(f"create table raw.{table} ({columns}, _loaded_at timestamp, _load_id varchar)")
                self._copy(database, table, f"{table}-init")

    def load(self, database: Database, source: str, rng: Random, load_id: str, at: datetime) -> int:
        """See `Subject.load`."""
        table = source.removeprefix("raw.")
        with self._record(database) as connection:
            made = self.loader.land(connection, table, rng.randint(1, 12), 7, at, load_id)
        if database.adapter != "duckdb":
            self._copy(database, table, load_id)
        return int(made.rows)

    def _record(self, database: Database) -> Any:
        path = database.path if isinstance(database, DuckDatabase) else self.folder / "loader.duckdb"
        return self.loader.connect(path, 60.0)

    def _copy(self, database: Database, table: str, load_id: str) -> None:
        with self._record(database) as connection:
            rows = connection.execute(f"select * from raw.{table} where _load_id = ?", [load_id]).fetchall()
        with database.session() as execute:
            for row in rows:
                execute(f"insert into raw.{table} values ({', '.join('?' * len(row))})", row)

    def files(self) -> dict[str, str]:
        """See `Subject.files`."""
        paths = (path for path in EXAMPLE.rglob("*") if path.suffix in KINDS and path.is_file())
        wanted = (path for path in paths if not {"target", "logs", "dbt_packages"} & set(path.parts))
        texts = {str(path.relative_to(EXAMPLE)): path.read_text() for path in wanted}
        texts["profiles.yml"] = texts["profiles.yml"].replace("SAO_EXAMPLE_DB", "ORACLE_DB")
        texts["models/marts/mart_customer_value.sql"] = texts["models/marts/mart_customer_value.sql"].replace(
            ">= 6", ">= {{ var('regular', 6) }}"
        )
        if self.adapter == "postgres":
            texts["profiles.yml"] = POSTGRES_PROFILE
            for path, old, new in PORTABLE:
                put(path, old, lambda _, new=new: new)(texts, 0)  # type: ignore[misc]
        for name, dial in DIALS.items():
            if self.dials[name]:
                dial(texts, self.dials[name])
        return texts

    def edit(self, rng: Random) -> str:
        """See `Subject.edit`."""
        name = rng.choice(list(DIALS))
        self._turn({**self.dials, name: self.dials[name] + 1})
        return f"{name} {self.dials[name]}"

    def back(self) -> str | None:
        """See `Subject.back`."""
        if self._before is None:
            return None
        self._turn(self._before)
        return "back to the commit before"

    def mend(self) -> bool:
        """See `Subject.mend`."""
        mended = {name: 0 if name in FAILING else number for name, number in self.dials.items()}
        broken = mended != self.dials
        if broken:
            self._turn(mended)
        return broken

    def _turn(self, dials: dict[str, int]) -> None:
        self._before, self.dials = self.dials, dials

    def unlike(self) -> set[str]:
        """See `Subject.unlike`: none, since the incremental model takes in whatever differs and no order ever goes."""
        return set()

    def renewed(self, nodes: set[str]) -> None:
        """See `Subject.renewed`."""
