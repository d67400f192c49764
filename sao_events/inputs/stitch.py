"""Stitch's post-load hook: https://www.stitchdata.com/docs/destinations/data-loading/webhooks. One for each table that
was loaded, with the tables made of its nested data. It is not signed, so the secret is in its address.
"""

from __future__ import annotations

from typing import Any

from sao_events.inputs import fields, told
from sao_events.inputs.data import MOST
from sao_events.inputs.delivery import Message, Said
from sao_events.inputs.landing import Landing, Place
from sao_events.inputs.loads import object_of, proven_by_address
from sao_events.inputs.strict import Malformed


def read(message: Message, now: float) -> Said:
    """See `Provider.read`. No field says when the load ended, so it is when it is heard of."""
    body = object_of(message)
    integration, tables = fields.text(body, "integration_name"), fields.mappings(body, "tables")
    if len(tables) > MOST:
        raise Malformed(f"{len(tables)} tables in one message", hint=f"at most {MOST} are read")
    batch, version = told.identity(body.get("minimum_sdc_batched_at")), told.identity(body.get("table_version"))
    load = f"{batch}/{version}" if batch else None
    root = fields.text(body, "destination_root_table_name")
    delivery = f"{integration}/{root}/{load}" if load else None
    landings = tuple(_landing(body, integration, table, load) for table in tables)
    return Said(delivery, landings=landings, ignored=None if landings else "no table was loaded")


def _landing(body: dict[str, Any], integration: str, table: dict[str, Any], load: str | None) -> Landing:
    name = fields.text(table, "destination_table_name")
    new = body.get("new_version")
    return Landing(
        load_id=load,
        rows=told.count(table.get("num_rows")),
        replaces=new if isinstance(new, bool) else None,
        scope="table",
        place=Place(integration, name),
        labels={"integration_name": integration, "table": name},
    )


PROVIDER = proven_by_address("stitch", "Stitch", read)
