"""`clean`: have dropped what builds have left behind, after showing it. Whoever is the engine here looks and drops."""

from __future__ import annotations

import argparse
import sys
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from sao_events.cli.options import Context, add_command, terminated_as_interrupted
from sao_events.cli.output import span
from sao_events.cli.record import opened
from sao_events.cli.run import POLL, TAKE_OVER, engine_for_jobs, is_free
from sao_events.config import require_project
from sao_events.core.errors import Busy, DbtError, SaoError, UsageError
from sao_events.core.events import CleanAnswered, CleanAsked, Event
from sao_events.core.evolve import evolve
from sao_events.core.state import World
from sao_events.ports import Draft
from sao_events.report import View, header, iso
from sao_events.store.checkpoint import load_world
from sao_events.upkeep.cleaning import Left, from_value, unanswered

if TYPE_CHECKING:
    from sao_events.service import Service

EXAMPLES = """  sao-events clean --dry-run             what is left behind, what is there of it, and what stands on it
  sao-events clean                       drop it, after a question
  sao-events clean --yes --json          without one, for scripts"""
SHOWN = ("relation", "what", "built", "status")


def declare(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare the command."""
    summary = "drop relations that were built and whose node has left the project"
    parser = add_command(commands, "clean", clean, summary, EXAMPLES)
    parser.add_argument("--dry-run", action="store_true", help="show them, drop nothing")
    parser.add_argument("--yes", action="store_true", help="drop them without asking")


def clean(context: Context) -> int:
    """Ask what is left behind, ask whether it may go, have it dropped. Raises UsageError where nobody can be asked,
    DbtError where the newest state of the project is refused.
    """
    config, args = context.config, context.args
    if config.git is None:
        require_project(config)
    if not (args.dry_run or args.yes or (sys.stdin.isatty() and not context.out.as_json)):
        raise UsageError("nobody can be asked here", hint="--yes drops without asking, --dry-run only shows")
    with terminated_as_interrupted(), Engine(context) as engine:
        found = engine.ask()
        if not args.dry_run and (chosen := tuple(it.name for it in found if it.status in ("left", "gone"))):
            if not args.yes and any(item.may_be_dropped for item in found):
                _show(context, found)
                if input("drop them? [y/N] ").strip().lower() not in ("y", "yes"):
                    context.out.line("nothing was dropped")
                    return 0
            after = engine.ask(chosen)
            found = sorted((*after, *unanswered(found, after, engine.world)), key=lambda item: item.name)
    if context.out.as_json:
        now = View(config.environment, None, engine.world, config.settings, context.clock.now())
        context.out.json({**header(now), "relations": [_object(item) for item in found]})
    else:
        _show(context, found)
    return 1 if any(item.status in ("refused", "failed") for item in found) else 0


class Engine:
    """Whoever is the engine here: a service at work, asked over the log, or else one of our own, asked the same way.
    `world` is what is on record since the last answer.
    """

    def __init__(self, context: Context) -> None:
        self.context, self.world = context, World()
        self._open = ExitStack()

    def __enter__(self) -> Engine:
        try:
            self.own: Service | None = self._open.enter_context(engine_for_jobs(self.context, load=False))
            self.store = self.own.store
        except Busy:
            self.context.out.aside("a service is at work here: it is asked")
            self.own, self.store = None, self._open.enter_context(opened(self.context.config)).store
        return self

    def __exit__(self, *error: object) -> None:
        self._open.close()

    def ask(self, relations: tuple[str, ...] = ()) -> list[Left]:
        """What is left behind, once `relations` are dropped of it. Raises DbtError where that cannot be known."""
        while (answer := self._asked(CleanAsked(f"clean-{uuid4().hex[:12]}", relations))) is None:
            if self.own is not None:
                raise SaoError("the engine broke off", hint="try again: what was dropped is on record")
            self.context.out.aside("the service has ended: asking again")
            self._open.close()
            self.__enter__()
        if answer.error:
            raise DbtError(answer.error)
        return [from_value(name, value) for name, value in sorted(answer.relations.items())]

    def _asked(self, asked: CleanAsked) -> CleanAnswered | None:
        """The answer; None where whoever was to give it has ended before. What is not waited for is withdrawn."""
        self.world = load_world(self.store)
        self._append(asked)
        try:
            looked = time.monotonic()
            while (ended := self._ended(asked.request)) is None:
                time.sleep(POLL)
                if self.own is not None and not self.own.healthy:
                    return None
                if self.own is None and time.monotonic() - looked > TAKE_OVER:
                    looked = time.monotonic()
                    if is_free(self.context):
                        return None
        except BaseException:
            self._append(CleanAnswered(asked.request, error="withdrawn"))
            raise
        return ended if isinstance(ended, CleanAnswered) else None

    def _ended(self, request: str) -> Event | None:
        """What a request has ended with: its answer, or the start of an engine that does not know it."""
        for recorded in self.store.read(self.world.seq):
            waited = request in self.world.cleaning
            evolve(self.world, recorded)
            if waited and request not in self.world.cleaning:
                return recorded.event
        return None

    def _append(self, event: CleanAsked | CleanAnswered) -> None:
        self.store.append([Draft(event, self.context.clock.now(), sender="cli")])


def _object(item: Left) -> dict[str, Any]:
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


def _show(context: Context, found: list[Left]) -> None:
    now = context.clock.now()
    rows = [(item.name, item.there or "-", f"{span(now - item.relation.built)} ago", item.status) for item in found]
    if rows:
        context.out.table(SHOWN, rows)
    else:
        context.out.line("nothing is left behind")
    for item in found:
        if item.message:
            context.out.line(f"{item.name}: {item.message}", "red" if item.status == "failed" else "yellow")
