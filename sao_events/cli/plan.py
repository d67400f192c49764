"""`plan`: what would be built now, and why."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Any

from sao_events import report
from sao_events.cli.job import only
from sao_events.cli.options import Context, add_command
from sao_events.cli.output import COLUMNS, counted, node_row
from sao_events.cli.project import parse, parse_and_select
from sao_events.cli.record import opened
from sao_events.core.plan import plan
from sao_events.core.state import Job
from sao_events.report import View

EXAMPLES = """  sao-events plan                        what `sao-events run` would build, and why; builds nothing
  sao-events plan +orders tag:daily      a selector in dbt's own syntax
  sao-events plan --json | jq -r '.build[]'"""
JOB = "run"


def declare(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare the command."""
    summary = "show what would be built now, and why; builds nothing and records nothing"
    selecting(add_command(commands, "plan", plan_now, summary, EXAMPLES))


def selecting(parser: argparse.ArgumentParser) -> None:
    """Add the options that say which nodes."""
    parser.add_argument("selector", nargs="*", metavar="SELECTOR", help="dbt's own syntax (default: every node)")
    parser.add_argument("-s", "--select", nargs="+", default=[], metavar="SELECTOR", help="the same, as dbt writes it")
    parser.add_argument("--exclude", nargs="+", default=[], metavar="SELECTOR", help="but not these")
    parser.add_argument("--force", action="store_true", help="every selected node, whatever its state")


def selector(context: Context) -> tuple[list[str], list[str]] | None:
    """What is to be selected and excluded; None for every node."""
    args = context.args
    select = [*args.selector, *args.select]
    return (select, args.exclude) if select or args.exclude else None


def plan_now(context: Context) -> int:
    """Parse the project, decide as a job would now, print. Nothing is written to the log."""
    config = context.config
    with opened(config) as record:
        select = None
        if wanted := selector(context):
            project, select = parse_and_select(config, record, *wanted)
        else:
            project = parse(config, record)
        now = context.clock.now()
        job = Job("plan", JOB, now, None if select is None else frozenset(select), not context.args.force)
        view = View(config.environment, project, record.world, config.settings, now)
        planned = plan(project.graph, record.world, config.settings, now, job=job)
        answer = report.plan_object(view, only(planned, select))
    if context.out.as_json:
        context.out.json(answer)
    else:
        _show(context, answer, project.warnings, now)
    return 0


def _show(context: Context, answer: Mapping[str, Any], warnings: tuple[str, ...], now: float) -> None:
    context.out.table(COLUMNS, [node_row(node, now) for node in answer["nodes"]])
    for warning in warnings:
        context.out.line(f"warning: {warning}", "yellow")
    counts = ", ".join(f"{number} {action}" for action, number in answer["counts"].items() if number)
    context.out.line(f"{counts or 'no nodes'}; {counted(len(answer['tests']), 'test')}")
