"""`deliveries`: what other services sent to the webhooks, with the verdict on each."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from sao_events.cli.options import Context, add_command
from sao_events.cli.record import opened
from sao_events.clock import clock
from sao_events.core.errors import UsageError
from sao_events.deliveries import delivery_object
from sao_events.ports import VERDICTS, Delivered

COLUMNS = ("id", "when", "endpoint", "verdict", "times", "events", "reason")
EXAMPLES = """  sao-events deliveries                          the last 50 messages to webhooks, oldest first
  sao-events deliveries --verdict rejected       who was refused, and why
  sao-events deliveries --verdict unmatched --endpoint airbyte
  sao-events deliveries --limit 500 --json"""


def declare(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare the command."""
    summary = "show what came to the webhooks, and what was made of it"
    parser = add_command(commands, "deliveries", deliveries, summary, EXAMPLES)
    parser.add_argument("--endpoint", metavar="NAME", help="only to this webhook: its name under webhooks in sao.yml")
    parser.add_argument("--verdict", choices=VERDICTS, metavar="VERDICT", help=f"only these: {', '.join(VERDICTS)}")
    parser.add_argument("--limit", type=int, default=50, metavar="N", help="at most this many (default 50)")


def deliveries(context: Context) -> int:
    """Print what is asked for, oldest first."""
    args = context.args
    if args.limit < 0:
        raise UsageError("--limit must not be negative")
    with opened(context.config) as record:
        found = record.store.deliveries(args.endpoint, args.verdict, limit=args.limit)[::-1]
    if context.out.as_json:
        context.out.json({"deliveries": [delivery_object(item) for item in found]})
    elif found:
        context.out.table(COLUMNS, [_row(context, item) for item in found])
    else:
        context.out.line("nothing has come")
    return 0


def _row(context: Context, item: Delivered) -> Sequence[str]:
    it = item.delivery
    when, events = clock(item.last, context.clock.now()), ", ".join(map(str, item.events)) or "-"
    return (str(item.id), when, it.endpoint, it.verdict, str(it.times), events, it.reason or "")
