"""`events`: the log, read, filtered and followed."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from difflib import get_close_matches
from threading import Event, Thread
from typing import Any

from sao_events import report
from sao_events.cli.options import Context, add_command
from sao_events.cli.output import counted
from sao_events.cli.record import Record, log, no_such, opened
from sao_events.clock import clock
from sao_events.core.errors import UsageError
from sao_events.core.events import EVENTS, Recorded
from sao_events.core.named import evidence_in, resolve_node, resolve_source
from sao_events.core.project import graphs_of
from sao_events.core.windows import parse_duration
from sao_events.deliveries import delivery_object, replayed
from sao_events.inputs.mapping import Atlas
from sao_events.inputs.matched import Matcher
from sao_events.ports import Delivered, Store
from sao_events.report.effects import Effects
from sao_events.report.explain import Names

POLL = 0.2
EXAMPLES = """  sao-events events                               the last 50
  sao-events events --follow                      and what comes, until Ctrl-C
  sao-events events --kind DataLanded --since 2h
  sao-events events --node orders --limit 10 --json
  sao-events events --effects 103                 what event 103 caused
  sao-events events replay --all-unmatched        what webhooks could not map, mapped once more"""
REPLAY_EXAMPLES = """  sao-events events replay --delivery 17
  sao-events events replay --all-unmatched --json   after webhooks.<name>.map was mended"""


def declare(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare the command."""
    parser = add_command(commands, "events", events, "read the event log, oldest first", EXAMPLES)
    parser.add_argument("--follow", action="store_true", help="go on with what comes (with --json a document per line)")
    parser.add_argument("--kind", action="append", metavar="KIND", help=f"only these: {', '.join(EVENTS)}; repeatable")
    parser.add_argument("--node", metavar="NAME", help="only events about this node, source or test")
    parser.add_argument("--since", metavar="TIME", help="only from here on: 2h ago is 2h; or 2026-01-31T08:00:00Z")
    parser.add_argument("--effects", type=int, metavar="SEQ", help="only what the event SEQ caused: builds and results")
    parser.add_argument("--limit", type=int, default=50, metavar="N", help="at most this many of the past (default 50)")
    what = parser.add_subparsers(metavar="replay", help="judge deliveries about no source once more")
    again = add_command(what, "replay", replay, "judge deliveries about no source once more", REPLAY_EXAMPLES)
    which = again.add_mutually_exclusive_group(required=True)
    which.add_argument("--delivery", type=int, metavar="ID", help="this one, as `sao-events deliveries` numbers it")
    which.add_argument("--all-unmatched", action="store_true", help="all that are kept")


def events(context: Context) -> int:
    """Print what is asked for; with `--follow` until interrupted."""
    args = context.args
    kinds = _kinds(args.kind)
    since = since_instant(args.since, context.clock.now()) if args.since else None
    if args.limit < 0:
        raise UsageError("--limit must not be negative")
    with opened(context.config, create=args.follow) as record:
        if args.effects is not None:
            return _effects(context, record, args.effects)
        subject = _subject(record, args.node) if args.node else None
        last = record.store.last()
        found = record.store.find(kinds, subject, limit=args.limit) if args.limit else []
        past = [item for item in reversed(found) if since is None or item.at >= since]
        known = report.names(record.project)
        if context.out.as_json and not args.follow:
            context.out.json({"events": [report.event_object(item, known) for item in past]})
            return 0
        _print(context, past, known)
        if args.follow:
            _follow(context, record, last, Event(), kinds, subject)
    return 0


def replay(context: Context) -> int:
    """Judge deliveries about no source once more, with the mapping as it is now."""
    with opened(context.config) as record:
        project, now = record.known(), context.clock.now()
        matcher = Matcher(Atlas(project), evidence_in(project, context.config.evidence))
        chosen = _unmatched(record.store) if context.args.all_unmatched else [_delivery(record, context.args.delivery)]
        made = [replayed(item, matcher, context.config, now) for item in chosen]
        receipts = record.store.receive(made).result() if made else []
    told = [delivery_object(receipt.delivered) for receipt in receipts]
    if context.out.as_json:
        context.out.json({"deliveries": told})
        return 0
    for item, receipt in zip(told, receipts, strict=True):
        events = sum(recorded is not None for recorded in receipt.recorded)
        what = f"{counted(events, 'event')} recorded" if events else item["verdict"]
        context.out.line(f"delivery {item['id']} of {item['endpoint']}: {what}{_why(item)}")
    if not told:
        context.out.line("no delivery is without a source")
    return 0


def _why(item: Mapping[str, Any]) -> str:
    return f"; {item['reason']}" if item["reason"] else ""


def _unmatched(store: Store) -> list[Delivered]:
    """The oldest first: what came first is recorded first."""
    found, before = list[Delivered](), None
    while page := store.deliveries(lost=True, before=before, limit=1000):
        found, before = [*found, *page], page[-1].id
    return found[::-1]


def _delivery(record: Record, number: int) -> Delivered:
    found = record.store.deliveries(before=number + 1, limit=1)
    if not found or found[0].id != number:
        raise UsageError(f"there is no delivery {number}", hint="`sao-events deliveries` lists them")
    if not found[0].delivery.landings:
        raise UsageError(f"nothing of delivery {number} is without a source", hint="there is nothing to be done again")
    return found[0]


def _effects(context: Context, record: Record, seq: int) -> int:
    if not 1 <= seq <= record.store.last():
        raise UsageError(f"there is no event {seq}", hint=f"the log has events 1 to {record.store.last()}")
    effects = Effects(seq, graphs_of(record.store.get_project))
    found, known = effects.read(log(record.store)), report.names(record.project)
    if context.out.as_json:
        context.out.json({"event": seq, "events": [report.event_object(item, known) for item in found]})
        return 0
    _print(context, found, known)
    if not found:
        context.out.line("it has caused no build yet")
    return 0


@contextmanager
def following(context: Context) -> Iterator[None]:
    """Print every event that comes while the context lasts."""
    with opened(context.config, create=True) as record:
        stop = Event()
        thread = Thread(target=_follow, args=(context, record, record.store.last(), stop), daemon=True)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()


def _follow(
    context: Context,
    record: Record,
    after: int,
    stop: Event,
    kinds: Sequence[str] | None = None,
    subject: str | None = None,
) -> None:
    known = report.names(record.project)
    while not stop.wait(POLL):
        last = record.store.last()
        if last > after:
            fresh = record.store.find(kinds, subject, limit=last - after)
            _print(context, [item for item in reversed(fresh) if item.seq > after], known)
            after = max(last, fresh[0].seq if fresh else last)


def _print(context: Context, found: Sequence[Recorded], known: Names) -> None:
    for item in found:
        told = report.event_object(item, known)
        if context.out.as_json:
            context.out.json(told, lines=True)
        else:
            when = clock(item.at, context.clock.now())
            context.out.line(f"{item.seq:>6}  {when}  {told['kind']:<16}  {told['text']}  ({item.sender})")


def _kinds(given: Sequence[str] | None) -> list[str] | None:
    for kind in given or ():
        if kind not in EVENTS:
            close = get_close_matches(kind, EVENTS, n=1, cutoff=0.4)
            raise UsageError(
                f"there is no kind of event {kind}",
                hint=f"did you mean {close[0]}?" if close else f"there are: {', '.join(EVENTS)}",
            )
    return list(given) if given else None


def _subject(record: Record, name: str) -> str:
    """The id of a node, source or test that is named."""
    project = record.known()
    if name in project.graph.tests:
        return name
    source, node = resolve_source(project, name), resolve_node(project, name)
    for found in (node, source):
        if isinstance(found, str):
            return found
    tests = [test.id for test in project.graph.tests.values() if test.name == name]
    if len(tests) == 1:
        return tests[0]
    nearest = [near for found in (node, source) if isinstance(found, list) for near in found]
    raise no_such("node, source or test", name, nearest, project.graph.nodes)


def since_instant(text: str, now: float) -> float:
    """The instant that `2h` (ago) or an ISO-8601 time names; a time without offset is local. Raises UsageError."""
    if re.fullmatch(r"(\d+\s*[smhdw])+", text):
        return now - parse_duration(text)
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise UsageError(f"{text} is neither a duration such as 2h nor a time such as 2026-01-31T08:00:00Z") from None
    return (moment if moment.tzinfo else moment.astimezone()).astimezone(UTC).timestamp()
