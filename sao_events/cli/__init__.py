"""The command line `sao-events`: one module for each group of commands, one way to do each thing.

A command takes a `Context` and returns its exit code. Errors that a user can act on are printed as one message with
what to do; a bug says that it is one.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
import traceback
from collections.abc import Sequence

from sao_events import __version__
from sao_events.cli import clean, emit, lineage, log, plan, preview, received, run, serve, simulate, status
from sao_events.cli.options import EXIT_CODES, Context, global_options
from sao_events.cli.output import Output
from sao_events.clock import SystemClock
from sao_events.core.errors import Busy, DbtError, SaoError, StoreError

INTERRUPTED, INFRASTRUCTURE = 130, 3
LOGGING = ("serve",)
GROUPS = (serve, plan, preview, run, status, lineage, log, received, emit, clean, simulate)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command that `argv` names (the process's arguments by default) and return its exit code."""
    try:
        args = make_parser().parse_args(argv)
    except SystemExit as exit_:
        return exit_.code if isinstance(exit_.code, int) else 2
    log = logging.getLogger("sao_events")
    before = log.level
    if args.name not in LOGGING and not os.environ.get("SAO_DEBUG"):
        log.setLevel(logging.CRITICAL)  # what matters is said by the command itself
    try:
        return int(args.command(Context(args, Output(args.json), SystemClock())))
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        return _reader_left()
    except SaoError as error:
        print(f"error: {error.message}", file=sys.stderr)
        if error.hint:
            print(f"  {error.hint}", file=sys.stderr)
        return exit_code(error)
    except Exception as error:  # noqa: BLE001 - the last line of defence: no traceback unless it is asked for
        return _bug(error)
    finally:
        log.setLevel(before)


def make_parser() -> argparse.ArgumentParser:
    """The parser of all commands."""
    parser = argparse.ArgumentParser(
        prog="sao-events",
        description="Event-driven, state-aware orchestration for dbt: build what changed, reuse the rest, and say why.",
        epilog=f"`sao-events COMMAND --help` has examples.\n\n{EXIT_CODES}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"sao-events {__version__}")
    global_options(parser, within=False)
    commands = parser.add_subparsers(dest="name", required=True, metavar="COMMAND")
    for group in GROUPS:
        group.declare(commands)
    return parser


def exit_code(error: SaoError) -> int:
    """The exit code for an error: its own, or that of what failed beneath us."""
    return INFRASTRUCTURE if isinstance(error, (DbtError, StoreError, Busy)) else error.exit_code


def _bug(error: Exception) -> int:
    if os.environ.get("SAO_DEBUG"):
        traceback.print_exception(error)
    else:
        print(f"error: {type(error).__name__}: {error}", file=sys.stderr)
        print("  this is a bug; SAO_DEBUG=1 shows where, please report it", file=sys.stderr)
    return INFRASTRUCTURE


def _reader_left() -> int:
    """Whoever read our output has seen enough, `| head` for example; nothing more can be written."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0
