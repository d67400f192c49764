"""What the shop's raw tables hold: their columns, and the rows that come next.

Everything follows from a seed and from the rows a table already has, never from the clock, so that two databases that
went through the same loads are equal. Money is in cents; instants are naive UTC.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from datetime import date, datetime, timedelta
from typing import Any

import duckdb

Row = tuple[Any, ...]

TABLES = {
    "customers": "customer_id integer, name varchar, email varchar, signed_up_on date",
    "stores": "store_id integer, name varchar, region varchar, manager varchar, opened_on date",
    "products": "product_id integer, name varchar, category varchar, price_cents integer, cost_cents integer",
    "orders": "order_id integer, customer_id integer, store_id integer, ordered_at timestamp, status varchar, "
    "amount_cents integer",
    "order_items": "order_item_id integer, order_id integer, product_id integer, quantity integer, "
    "unit_price_cents integer",
    "payments": "payment_id integer, order_id integer, method varchar, amount_cents integer, paid_at timestamp",
}
INITIAL_ROWS = {"customers": 60, "stores": 4, "products": 10, "orders": 250, "order_items": None, "payments": None}

FIRST_NAMES = ("Ada", "Bram", "Chidi", "Dilnoza", "Edda", "Farid", "Greta", "Hiro", "Ines", "Jonas", "Kaya", "Lin")
LAST_NAMES = ("Abara", "Bakker", "Costa", "Dahl", "Eriksen", "Fofana", "Ghosh", "Haas", "Ito", "Jansen")
STORES = (("Old Mill", "north"), ("Harbour", "coast"), ("Station", "north"), ("Lighthouse", "coast"))
MENU = (
    ("Classic jaffle", "toastie", 850),
    ("Mushroom jaffle", "toastie", 950),
    ("Chilli jaffle", "toastie", 990),
    ("Apple jaffle", "toastie", 790),
    ("Breakfast jaffle", "toastie", 1090),
    ("Flat white", "drink", 420),
    ("Chai", "drink", 450),
    ("Lemonade", "drink", 380),
    ("Soup of the day", "side", 640),
    ("Pickles", "side", 290),
)
OPENING = datetime(2026, 1, 5, 8, 0)


class Shop:
    """What the open database already holds, and the rows that come next. ``rng`` makes the choices."""

    def __init__(self, con: duckdb.DuckDBPyConnection, table: str, seed: int) -> None:
        self.con = con
        self.seed = seed
        self.count = int(self.column(f"select count(*) from raw.{table}")[0])
        self.rng = random.Random(f"{seed}/{table}/{self.count}")

    def column(self, query: str) -> list[Any]:
        """The first column of the query's result."""
        return [row[0] for row in self.con.execute(query).fetchall()]

    def versions(self, table: str, key: str, rows: int) -> list[int]:
        """Keys for ``rows`` rows of a table whose rows are replaced by newer versions: known keys first, then new."""
        known = self.column(f"select distinct {key} from raw.{table} order by 1")
        again = self.rng.sample(known, min(rows, len(known)))
        return again + list(range(len(known) + 1, len(known) + 1 + rows - len(again)))

    def basket(self, order_id: int) -> list[tuple[int, int, int]]:
        """What an order holds: (product_id, quantity, unit_price_cents), the same at every call."""
        rng = random.Random(f"{self.seed}/basket/{order_id}")
        chosen = rng.sample(range(len(MENU)), rng.randint(1, 4))
        return [(index + 1, rng.choice((1, 1, 1, 2, 3)), MENU[index][2]) for index in chosen]


def new_customers(shop: Shop, rows: int | None) -> list[Row]:
    """Customers who signed up, one a day."""
    made = []
    for key in range(shop.count + 1, shop.count + 1 + (rows or 0)):
        name = f"{shop.rng.choice(FIRST_NAMES)} {shop.rng.choice(LAST_NAMES)}"
        email = f"{name.lower().replace(' ', '.')}.{key}@example.com"
        made.append((key, name, email, OPENING.date() + timedelta(days=key)))
    return made


def new_stores(shop: Shop, rows: int | None) -> list[Row]:
    """Newer versions of the stores (the manager changes), then new stores."""
    made = []
    for key in shop.versions("stores", "store_id", rows or 0):
        name, region = STORES[key - 1] if key <= len(STORES) else (f"Kiosk {key}", "coast")
        made.append((key, name, region, shop.rng.choice(FIRST_NAMES), date(2024, 1, 1) + timedelta(days=90 * key)))
    return made


def new_products(shop: Shop, rows: int | None) -> list[Row]:
    """Newer versions of the products (the price changes), then new products."""
    made = []
    for key in shop.versions("products", "product_id", rows or 0):
        name, category, listed = MENU[key - 1] if key <= len(MENU) else (f"Special no. {key}", "toastie", 1000)
        price = listed if shop.count == 0 else listed + 10 * shop.rng.randint(1, 20)
        made.append((key, name, category, price, listed * 2 // 5))
    return made


def new_orders(shop: Shop, rows: int | None) -> list[Row]:
    """Orders a few minutes apart, after the latest known one; customers who never ordered come first."""
    customers = shop.column("select distinct customer_id from raw.customers order by 1")
    stores = shop.column("select distinct store_id from raw.stores order by 1")
    waiting = shop.column(
        "select distinct customer_id from raw.customers "
        "where customer_id not in (select customer_id from raw.orders) order by 1 desc"
    )
    at = shop.column("select max(ordered_at) from raw.orders")[0] or OPENING
    made = []
    for key in range(shop.count + 1, shop.count + 1 + (rows or 0)):
        at += timedelta(minutes=shop.rng.randint(20, 400))
        customer = waiting.pop() if waiting else shop.rng.choice(customers)
        status = shop.rng.choices(("completed", "placed", "returned"), (17, 2, 1))[0]
        amount = sum(quantity * price for _, quantity, price in shop.basket(key))
        made.append((key, customer, shop.rng.choice(stores), at, status, amount))
    return made


def new_order_items(shop: Shop, rows: int | None) -> list[Row]:
    """Lines of known orders' baskets that have not landed; then, where ``rows`` asks for more, extras."""
    landed = set(shop.con.execute("select order_id, product_id from raw.order_items").fetchall())
    orders = shop.column("select order_id from raw.orders order by 1")
    baskets = [(order_id, *line) for order_id in orders for line in shop.basket(order_id)]
    lines = [line for line in baskets if line[:2] not in landed]
    while rows is not None and len(lines) < rows:
        product = shop.rng.randint(1, len(MENU))
        lines.append((shop.rng.choice(orders), product, 1, MENU[product - 1][2]))
    return [(shop.count + number, *line) for number, line in enumerate(lines[:rows], start=1)]


def new_payments(shop: Shop, rows: int | None) -> list[Row]:
    """Full payments of orders without one; then, where ``rows`` asks for more, tips of one dollar on known orders."""
    owed = "select order_id, amount_cents, ordered_at from raw.orders"
    unpaid = f"{owed} where order_id not in (select order_id from raw.payments) order by 1"
    lines = shop.con.execute(unpaid).fetchall()
    known = shop.con.execute(f"{owed} order by 1").fetchall()
    while rows is not None and len(lines) < rows:
        order_id, _, ordered_at = shop.rng.choice(known)
        lines.append((order_id, 100, ordered_at))
    made = []
    for number, (order_id, amount, ordered_at) in enumerate(lines[:rows], start=1):
        method = shop.rng.choices(("card", "cash", "voucher"), (7, 2, 1))[0]
        made.append((shop.count + number, order_id, method, amount, ordered_at + timedelta(minutes=12)))
    return made


GENERATORS: dict[str, Callable[[Shop, int | None], list[Row]]] = {
    "customers": new_customers,
    "stores": new_stores,
    "products": new_products,
    "orders": new_orders,
    "order_items": new_order_items,
    "payments": new_payments,
}
