"""`plan` and `run`: what would be built now, and building it."""

from __future__ import annotations

import argparse
import signal
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from sao_events import report
from sao_events.cli.job import Followed, only
from sao_events.cli.options import Context, add_command
from sao_events.cli.output import COLUMNS, node_row, seconds_of
from sao_events.cli.project import parse, parse_and_select
from sao_events.cli.record import opened
from sao_events.config import require_project
from sao_events.errors import Busy, DbtError, SaoError
from sao_events.events import JobFinished, JobRequested
from sao_events.lock import StateLock
from sao_events.plan import plan
from sao_events.ports import Draft, Store
from sao_events.report import View
from sao_events.state import Job

if TYPE_CHECKING:
    from sao_events.service import Service

PLAN_EXAMPLES = """  sao-events plan                        what `sao-events run` would build, and why; builds nothing
  sao-events plan +orders tag:daily      a selector in dbt's own syntax
  sao-events plan --json | jq -r '.build[]'"""
RUN_EXAMPLES = """  sao-events run                         decide and build what is due
  sao-events run marts.finance --exclude tag:slow
  sao-events run orders --force          build it whatever its state"""
EXITS = {"success": 0, "failed": 1, "error": 3, "interrupted": 130}
POLL, TAKE_OVER, CANCEL = 0.1, 2.0, 60.0
NAME = "run"


def declare(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare the commands."""
    summary = "show what would be built now, and why; builds nothing and records nothing"
    planning = add_command(commands, "plan", plan_now, summary, PLAN_EXAMPLES)
    running = add_command(
        commands, "run", run_now, "decide and build now, once; a job that every node may join", RUN_EXAMPLES
    )
    for parser in (planning, running):
        parser.add_argument("selector", nargs="*", metavar="SELECTOR", help="dbt's own syntax (default: every node)")
        parser.add_argument(
            "-s", "--select", nargs="+", default=[], metavar="SELECTOR", help="the same, as dbt writes it"
        )
        parser.add_argument("--exclude", nargs="+", default=[], metavar="SELECTOR", help="but not these")
        parser.add_argument("--force", action="store_true", help="every selected node, whatever its state")


def plan_now(context: Context) -> int:
    """Parse the project, decide as a job would now, print. Nothing is written to the log."""
    config = context.config
    with opened(config) as record:
        select = None
        if wanted := _selector(context):
            project, select = parse_and_select(config, record.world, *wanted)
        else:
            project = parse(config, record.world)
        now = context.clock.now()
        chosen = frozenset(select) if select is not None else None
        job = Job("plan", NAME, now, chosen, not context.args.force)
        view = View(config.environment, project, record.world, config.settings, now)
        planned = plan(project.graph, record.world, config.settings, now, job=job)
        answer = report.plan_object(view, only(planned, select))
    if context.out.as_json:
        context.out.json(answer)
        return 0
    context.out.table(COLUMNS, [node_row(node, now) for node in answer["nodes"]])
    for warning in project.warnings:
        context.out.line(f"warning: {warning}", "yellow")
    context.out.line(_sum(answer))
    return 0


def _selector(context: Context) -> tuple[list[str], list[str]] | None:
    args = context.args
    select = [*args.selector, *args.select]
    return (select, args.exclude) if select or args.exclude else None


def _sum(answer: Mapping[str, Any]) -> str:
    counts = ", ".join(f"{number} {action}" for action, number in answer["counts"].items() if number)
    return f"{counts or 'no nodes'}; {len(answer['tests'])} tests"


def run_now(context: Context) -> int:
    """Request a job and be the engine until it is done, or follow the service that is. Returns its exit code."""
    config = context.config
    if config.git is None:
        require_project(config)
    select = None
    if wanted := _selector(context):
        with opened(config) as record:
            _, select = parse_and_select(config, record.world, *wanted)
    job = JobRequested(f"{NAME}-{uuid4().hex[:12]}", NAME, context.clock.now(), select, not context.args.force)
    with _terminated_as_interrupted():
        followed = _carried_out(context, job)
    _show(context, followed.result(select, context.clock.now()))
    if followed.status == "error":
        raise DbtError(
            f"dbt could not do its work: {followed.message}", hint="what it wrote is in the state folder's runs/"
        )
    return EXITS.get(followed.status or "interrupted", 1)


@contextmanager
def _terminated_as_interrupted() -> Iterator[None]:
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _carried_out(context: Context, job: JobRequested) -> Followed:
    service = _service(context)
    try:
        service.start()
    except Busy:
        context.out.aside("a service is at work here: it takes the job")
        return _by_the_service(context, job)
    try:
        return _here(context, service, job)
    finally:
        service.stop()


def _service(context: Context) -> Service:
    from sao_events.service import Service

    return Service(context.config, continuous=False)


def _here(context: Context, service: Service, job: JobRequested, asked: bool = False) -> Followed:
    followed = Followed.begin(service.store, job.job, context.config, context.out.aside)
    try:
        _await_project(service)
        if not asked:
            _append(service.store, job, context)
        while not followed.look():
            service.wait_change(followed.world.seq, POLL)
            if service.error and followed.run is None:
                raise SaoError(service.error)
    except KeyboardInterrupt:
        context.out.aside("stopping")
        _cancel(service, followed)
    if followed.status in ("error", "interrupted") and job.job in followed.world.jobs:
        _append(service.store, JobFinished(job.job, followed.status, message=followed.message), context)
    return followed


def _await_project(service: Service) -> None:
    while not service.loads:
        service.wait_change(2**62, POLL)
        if not service.healthy:
            raise SaoError("the service did not come up", hint="SAO_DEBUG=1 shows more")
    if service.load_error:
        raise DbtError(service.load_error)


def _cancel(service: Service, followed: Followed) -> None:
    """Stop the run and wait until that is on record; asked again, stop waiting."""
    try:
        until = time.monotonic() + CANCEL
        while not followed.look() and followed.run is not None and time.monotonic() < until:
            service.cancel(followed.run)
            service.wait_change(followed.world.seq, POLL)
    except KeyboardInterrupt:
        pass
    followed.status = followed.status or "interrupted"


def _by_the_service(context: Context, job: JobRequested) -> Followed:
    with opened(context.config) as record:
        followed = Followed.begin(record.store, job.job, context.config, context.out.aside)
        _append(record.store, job, context)
        try:
            looked = time.monotonic()
            while not followed.look():
                time.sleep(POLL)
                if time.monotonic() - looked > TAKE_OVER:
                    looked = time.monotonic()
                    if _is_free(context):
                        break
        except KeyboardInterrupt:
            context.out.aside("the service goes on with the job; this command stops following it")
            followed.status = "interrupted"
    if followed.status is not None:
        return followed
    context.out.aside("the service has ended: going on here")
    service = _service(context)
    service.start()
    try:
        return _here(context, service, job, asked=True)
    finally:
        service.stop()


def _is_free(context: Context) -> bool:
    lock = StateLock(context.config.state_dir)
    try:
        lock.acquire()
    except Busy:
        return False
    lock.release()
    return True


def _append(store: Store, event: JobRequested | JobFinished, context: Context) -> None:
    store.append([Draft(event, context.clock.now(), sender="cli")])


def _show(context: Context, answer: Mapping[str, Any]) -> None:
    if context.out.as_json:
        context.out.json(answer)
        return
    now, rows = seconds_of(answer["at"]), []
    for node in answer["nodes"]:
        name, action, reason, since, when = node_row(node, now)
        seconds = "-" if node["seconds"] is None else f"{node['seconds']:.1f}"
        rows.append([name, node["status"], seconds, action, reason, since, when if action != "build" else "-"])
    context.out.table(("node", "status", "seconds", *COLUMNS[1:]), rows)
    for failed in (*answer["nodes"], *answer["tests"]):
        if failed["status"] in ("error", "fail") and failed["message"]:
            context.out.line(f"{failed['name']}: {failed['message'].strip()}", "red")
    context.out.line(f"{answer['status']}: {_statuses(answer)}")


def _statuses(answer: Mapping[str, Any]) -> str:
    counts: dict[str, int] = {}
    for node in answer["nodes"]:
        counts[node["status"]] = counts.get(node["status"], 0) + 1
    return ", ".join(f"{number} {status}" for status, number in counts.items()) or "no nodes"
