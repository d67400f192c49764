"""`run`: decide and build now, with an engine of its own, or by the service that is at work here."""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from sao_events.cli.job import Followed
from sao_events.cli.options import Context, add_command, terminated_as_interrupted
from sao_events.cli.output import COLUMNS, node_row
from sao_events.cli.plan import JOB, selecting, selector
from sao_events.cli.project import only_select
from sao_events.cli.record import opened
from sao_events.clock import seconds_of
from sao_events.config import require_project
from sao_events.core.errors import Busy, DbtError, SaoError
from sao_events.core.events import JobFinished, JobRequested
from sao_events.lock import StateLock
from sao_events.ports import Draft, Store

if TYPE_CHECKING:
    from sao_events.service import Service

EXAMPLES = """  sao-events run                         decide and build what is due
  sao-events run marts.finance --exclude tag:slow
  sao-events run orders --force          build it whatever its state
  sao-events run orders --full-refresh   and from scratch: incremental models and seeds too"""
EXITS = {"success": 0, "failed": 1, "error": 3, "interrupted": 130}
# Seconds: between looks, until the lock is tried again, for builds to stop, for a service to load the project.
POLL, TAKE_OVER, CANCEL, LOADING = 0.1, 2.0, 60.0, 60.0


def declare(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare the command."""
    parser = add_command(commands, "run", run_now, "decide and build now, once, as a job", EXAMPLES)
    selecting(parser)
    parser.add_argument("--full-refresh", action="store_true", help="as --force, and dbt builds from scratch")


def run_now(context: Context) -> int:
    """Request a job and be the engine until it is done, or follow the service that is. Returns its exit code."""
    config = context.config
    if config.git is None:
        require_project(config)
    select = None
    if wanted := selector(context):
        with opened(config) as record:
            select = only_select(config, record.world, *wanted)
    aware, fresh = not context.args.force, context.args.full_refresh
    job = JobRequested(f"{JOB}-{uuid4().hex[:12]}", JOB, context.clock.now(), select, aware, fresh)
    with terminated_as_interrupted():
        followed = _carried_out(context, job)
    _show(context, followed.result(select, context.clock.now()))
    if followed.status == "error":
        log = config.state_dir / "runs" / (followed.run or "")
        raise DbtError(f"dbt could not do its work: {followed.message}", hint=f"its own log is in {log}")
    return EXITS.get(followed.status or "interrupted", 1)


def _carried_out(context: Context, job: JobRequested) -> Followed:
    try:
        with engine_for_jobs(context) as service:
            return _here(context, service, job)
    except Busy:
        context.out.aside("a service is at work here: it takes the job")
    followed = _by_the_service(context, job)
    if followed.status is not None:
        return followed
    context.out.aside("the service has ended: going on here")
    with engine_for_jobs(context) as service:
        return _here(context, service, job, asked=True)


@contextmanager
def engine_for_jobs(context: Context, *, load: bool = True) -> Iterator[Service]:
    """An engine that decides for jobs alone; without `load` it looks the project up once it is asked to. Raises Busy
    where another one is at work.
    """
    from sao_events.service import Service

    service = Service(context.config, continuous=False)
    service.start(load=load, tell=context.out.aside)
    try:
        yield service
    finally:
        service.stop()


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
    _close(context, service.store, followed)
    return followed


def _await_project(service: Service) -> None:
    while not (service.loads and (service.ready or service.load_error or service.error)):
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
    """The job's end as the service records it; no status where the service went away before."""
    with opened(context.config) as record:
        followed = Followed.begin(record.store, job.job, context.config, context.out.aside)
        _append(record.store, job, context)
        try:
            looked = time.monotonic()
            while not followed.look() and not _refused(context, followed):
                time.sleep(POLL)
                if time.monotonic() - looked > TAKE_OVER:
                    looked = time.monotonic()
                    if is_free(context):
                        return followed
        except KeyboardInterrupt:
            followed.status = "interrupted"
            if followed.run is not None:
                context.out.aside("the service goes on with the job; this command stops following it")
                return followed
        _close(context, record.store, followed)
    return followed


def _refused(context: Context, followed: Followed) -> bool:
    """Whether the service has no project to build: dbt refused it since the service started, or long ago."""
    if followed.project is not None or followed.world.rejected is None:
        return False
    find = followed.store.find
    started, refused = find(["EngineStarted"], limit=1), find(["ProjectRejected"], limit=1)
    fresh = started and refused and started[0].seq > refused[0].seq
    if fresh and context.clock.now() - started[0].at < LOADING:
        return False
    followed.status, followed.message = "error", followed.world.rejected.error
    return True


def _close(context: Context, store: Store, followed: Followed) -> None:
    """A job that will not come to its end is not left for later."""
    if followed.status in ("error", "interrupted") and followed.job in followed.world.jobs:
        _append(store, JobFinished(followed.job, followed.status, message=followed.message), context)


def is_free(context: Context) -> bool:
    """Whether no engine is at work here."""
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
    if rows:
        context.out.table(("node", "status", "seconds", *COLUMNS[1:]), rows)
    for failed in (*answer["nodes"], *answer["tests"]):
        if failed["status"] in ("error", "fail") and failed["message"]:
            reused = " (reused)" if failed.get("reused") else ""
            context.out.line(f"{failed['name']}{reused}: {failed['message'].strip()}", "red")
    context.out.line(f"{answer['status']}: {_statuses(answer)}")
    if answer["tests"]:
        context.out.line(f"tests: {_tests(answer)}")


def _tests(answer: Mapping[str, Any]) -> str:
    """How many tests ran, with what result, and how many did not have to."""
    counts: dict[str, int] = {}
    for test in answer["tests"]:
        told = "reused" if test["reused"] else "proven" if test["proven"] else str(test["status"])
        worse = f" ({test['status']})" if test["reused"] and test["status"] != "pass" else ""
        counts[told + worse] = counts.get(told + worse, 0) + 1
    return ", ".join(f"{number} {told}" for told, number in counts.items())


def _statuses(answer: Mapping[str, Any]) -> str:
    counts: dict[str, int] = {}
    for node in answer["nodes"]:
        counts[node["status"]] = counts.get(node["status"], 0) + 1
    return ", ".join(f"{number} {status}" for status, number in counts.items()) or "no nodes"
