"""`emit` and `clear`: events from scripts, appended to the log in place, whether a service runs or not."""

from __future__ import annotations

import argparse

from sao_events import report
from sao_events.cli.options import Context, add_command
from sao_events.cli.record import node_ids, opened
from sao_events.core.errors import UsageError
from sao_events.core.events import StateCleared
from sao_events.core.named import evidence_in, resolve_source
from sao_events.inputs.data import read_landings, unknown_source
from sao_events.inputs.git import read_hint
from sao_events.ports import Draft, Store
from sao_events.report.explain import Names

EMIT_EXAMPLES = """  sao-events emit data raw.orders --load-id 2026-01-31-08 --rows 1200
  sao-events emit code --ref refs/heads/main"""
CLEAR_EXAMPLES = """  sao-events clear orders stg_orders     these are built again
  sao-events clear --all                 so is everything"""
SENDER = "cli"


def declare(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare the commands."""
    emit = add_command(commands, "emit", None, "append an event to the log", EMIT_EXAMPLES)
    what = emit.add_subparsers(dest="event", required=True, metavar="data|code")
    data = add_command(what, "data", emit_data, "say that a source has new data", EMIT_EXAMPLES)
    data.add_argument("source", metavar="SOURCE", help="unique_id, source_name.table, relation, or a table's name")
    data.add_argument("--load-id", metavar="ID", help="the loader's name for this load: the same one counts once")
    data.add_argument("--loaded-at", metavar="TIME", help="when it was loaded, 2026-01-31T08:00:00Z (default: now)")
    data.add_argument("--rows", type=int, metavar="N", help="how many rows it brought")
    data.add_argument("--partial", action="store_true", help="it broke off after it had written some of it")
    code = add_command(
        what, "code", emit_code, "say that the code has changed: the project is looked up", EMIT_EXAMPLES
    )
    code.add_argument("--ref", metavar="REF", help="the full name of the ref, refs/heads/main")
    code.add_argument("--commit", metavar="ID", help="the full commit id")
    summary = "forget the recorded state of nodes: they are built again"
    clear = add_command(commands, "clear", clear_state, summary, CLEAR_EXAMPLES)
    clear.add_argument("nodes", nargs="*", metavar="NODE", help="names or unique_ids")
    clear.add_argument("--all", action="store_true", help="all nodes")


def emit_data(context: Context) -> int:
    """Append the landing of new data in a source. Raises UsageError for a source that is not there."""
    args, now = context.args, context.clock.now()
    body = {"source": args.source, "load_id": args.load_id, "loaded_at": args.loaded_at, "rows": args.rows}
    body |= {"status": "partial"} if args.partial else {}
    [landing] = read_landings(body, now)
    with opened(context.config) as record:
        project = record.known()
        found = resolve_source(project, args.source)
        if not isinstance(found, str):
            raise unknown_source(args.source, found)
        rules = evidence_in(project, context.config.evidence)
        return _append(context, record.store, landing.draft(found, now, None, SENDER, rules), report.names(project))


def emit_code(context: Context) -> int:
    """Append the hint that the code changed. Needs no project: what is deployed is looked up by the service."""
    hint = read_hint({"ref": context.args.ref, "commit": context.args.commit})
    with opened(context.config, create=True) as record:
        return _append(context, record.store, Draft(hint, context.clock.now(), sender=SENDER), {})


def clear_state(context: Context) -> int:
    """Append that the state of nodes is to be forgotten."""
    args = context.args
    if bool(args.nodes) == args.all:
        raise UsageError("clear needs either the names of nodes or --all", hint="`sao-events status` lists the nodes")
    with opened(context.config) as record:
        project = record.known()
        nodes = None if args.all else tuple(node_ids(project, args.nodes))
        draft = Draft(StateCleared(nodes), context.clock.now(), sender=SENDER)
        return _append(context, record.store, draft, report.names(project))


def _append(context: Context, store: Store, draft: Draft, known: Names) -> int:
    [recorded] = store.append([draft])
    told = report.event_object(recorded, known) if recorded else None
    if context.out.as_json:
        context.out.json({"recorded": recorded is not None, "event": told})
    elif told is None:
        context.out.line("this load was reported before: nothing recorded")
    else:
        context.out.line(f"event {told['seq']}: {told['text']}")
    return 0
