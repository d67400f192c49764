"""`clean`: drop the relations that builds have left behind, after showing which."""

from __future__ import annotations

import argparse
import sys
from contextlib import closing
from typing import TYPE_CHECKING, Any

from sao_events import cleaning
from sao_events.cli.options import Context, add_command, terminated_as_interrupted
from sao_events.cli.output import span
from sao_events.cli.record import FILE
from sao_events.cli.run import engine_for_jobs
from sao_events.config import Config, require_project
from sao_events.errors import DbtError, UsageError
from sao_events.events import RelationsCleaned
from sao_events.ports import Draft
from sao_events.project import project_from_bytes
from sao_events.relations import named
from sao_events.report import header, iso
from sao_events.store import open_store
from sao_events.store.checkpoint import load_world

if TYPE_CHECKING:
    from sao_events.service import Service

EXAMPLES = """  sao-events clean --dry-run             what is left behind, what is there of it, and what stands on it
  sao-events clean                       drop it, after a question
  sao-events clean --yes --json          without one, for scripts"""
POLL = 0.1  # seconds between looks at whether the project is in force
SHOWN = ("relation", "what", "built", "status")


def declare(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare the command."""
    summary = "drop relations that were built and whose node has left the project"
    parser = add_command(commands, "clean", clean, summary, EXAMPLES)
    parser.add_argument("--dry-run", action="store_true", help="show them, drop nothing")
    parser.add_argument("--yes", action="store_true", help="drop them without asking")


def clean(context: Context) -> int:
    """Look, ask, drop, record. Raises Busy while a service is at work here, UsageError where nobody can be asked."""
    config, args = context.config, context.args
    if config.git is None:
        require_project(config)
    if not (args.dry_run or args.yes or (sys.stdin.isatty() and not context.out.as_json)):
        raise UsageError("nobody can be asked here", hint="--yes drops without asking, --dry-run only shows")
    with terminated_as_interrupted(), engine_for_jobs(context) as service:
        _await_project(service)
        found = _look(service, config)
        if not args.dry_run:
            if not args.yes and any(item.may_be_dropped for item in found):
                _show(context, found)
                if input("drop them? [y/N] ").strip().lower() not in ("y", "yes"):
                    context.out.line("nothing was dropped")
                    return 0
            _drop(service, found)
        with service.view() as view:
            head = header(view)
    if context.out.as_json:
        context.out.json({**head, "relations": [_object(item) for item in found]})
    else:
        _show(context, found)
    return 1 if any(item.status in ("refused", "failed") for item in found) else 0


def _await_project(service: Service) -> None:
    """Wait until the project as it is now is in force. Raises DbtError where it is refused."""
    while not service.loads and service.healthy:
        service.wait_change(2**62, POLL)
    last = service.store.last()
    while service.wait_change(last - 1, POLL) < last and service.healthy:
        pass
    if service.load_error or service.error or not service.ready:
        raise DbtError(service.load_error or service.error or "the service did not come up")


def _look(service: Service, config: Config) -> list[cleaning.Left]:
    with service.view() as view:
        assert view.project is not None
        found = cleaning.candidates(view.project.graph, view.world, _elsewhere(config))
        adapter = view.project.adapter
    cleaning.look(found, service.dbt, adapter)
    return found


def _drop(service: Service, found: list[cleaning.Left]) -> None:
    """Drop, and record what is gone: so that what dbt builds again under such a name is built, not reused."""

    def record(relations: tuple[str, ...]) -> None:
        event = RelationsCleaned(relations)
        service.submit([Draft(event, service.clock.now(), sender="cli")]).result()

    cleaning.drop(found, service.dbt, record)


def _elsewhere(config: Config) -> set[str]:
    """The plain names of what the other environments beside this one have in force."""
    own = config.state_dir.absolute()
    base = own.parent.parent if own.parent.name == "targets" else own
    names = set[str]()
    for folder in (base, *sorted((base / "targets").glob("*"))):
        if folder == own or not (folder / FILE).is_file():
            continue
        with closing(open_store(str(folder / FILE))) as store:
            world = load_world(store)
            if world.project is not None:
                names |= named(project_from_bytes(store.get_project(world.project)).graph)
    return names


def _object(item: cleaning.Left) -> dict[str, Any]:
    built = {"kind": item.relation.kind, "built_at": iso(item.relation.built), "commit": item.relation.commit}
    return {
        "relation": item.name,
        "node": item.relation.node,
        **built,
        "there": item.there or None,
        "dependants": list(item.dependants),
        "status": item.status,
        "message": item.message,
    }


def _show(context: Context, found: list[cleaning.Left]) -> None:
    now = context.clock.now()
    rows = [(item.name, item.there or "-", f"{span(now - item.relation.built)} ago", item.status) for item in found]
    if rows:
        context.out.table(SHOWN, rows)
    else:
        context.out.line("nothing is left behind")
    for item in found:
        if item.message:
            context.out.line(f"{item.name}: {item.message}", "red" if item.status == "failed" else "yellow")
