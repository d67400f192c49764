"""Any sender that can say it in our own words: the body of POST /events/data."""

from __future__ import annotations

from sao_events.inputs.data import check_key, read_landings
from sao_events.inputs.delivery import Message, Provider, Said
from sao_events.inputs.loads import LIMIT, any_proof, json_of
from sao_events.inputs.signed import standard_header

KEY = "idempotency-key"


def read(message: Message, now: float) -> Said:
    """See `Provider.read`."""
    delivery = check_key(standard_header(message, "id") or message.header(KEY))
    landings = read_landings(json_of(message), now)
    return Said(delivery, landings=tuple(landings), ignored=None if landings else "the load failed")


PROVIDER = Provider(
    name="generic",
    title="any sender",
    kind="data",
    verify=any_proof,
    read=read,
    kept=(KEY, "webhook-id", "svix-id", "user-agent"),
    body_limit=LIMIT,
)
