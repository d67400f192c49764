"""Airbyte's notification webhook: https://docs.airbyte.com/platform/cloud/managing-airbyte-cloud/manage-airbyte-cloud-notifications.

It is neither signed nor can it send a header, so the secret is in its address; it names a connection, no tables.
"""

from __future__ import annotations

from typing import Any

from sao_events.inputs import fields, told
from sao_events.inputs.delivery import Message, Said
from sao_events.inputs.landing import Landing
from sao_events.inputs.loads import object_of, proven_by_address

PARTS = ("workspace", "connection", "source", "destination")


def read(message: Message, now: float) -> Said:
    """See `Provider.read`. A sync that failed after it had committed records is a part of a load."""
    body = object_of(message)
    if "data" not in body:
        return Said(ignored="a test, or a notice of something else than a sync")
    data = fields.mapping(body, "data")
    if "success" not in data:
        return Said(ignored="not the end of a sync")
    success, connection = fields.flag(data, "success"), fields.mapping(data, "connection")
    job, rows = told.identity(data.get("jobId")), told.count(data.get("recordsCommitted"))
    delivery = f"{fields.text(connection, 'id')}/{job}/{str(success).lower()}" if job else None
    if not success and not rows:
        return Said(delivery, ignored="the sync failed and committed nothing")
    landing = Landing(
        load_id=f"{connection['id']}/{job}" if job else None,
        loaded_at=told.instant(data.get("finishedAt")),
        rows=rows,
        partial=not success,
        size=told.count(data.get("bytesCommitted")),
        scope="connection",
        labels=_labels(data),
    )
    return Said(delivery, landings=(landing,))


def _labels(data: dict[str, Any]) -> dict[str, str]:
    blocks = {part: told.labels(fields.mapping_or_empty(data, part), "id", "name") for part in PARTS}
    return {f"{part}_{key}": value for part, block in blocks.items() for key, value in block.items()}


PROVIDER = proven_by_address("airbyte", "Airbyte", read)
