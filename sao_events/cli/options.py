"""What all commands share: the global options, the configuration they lead to, and how a command is declared."""

from __future__ import annotations

import argparse
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from sao_events.cli.output import Output
from sao_events.clock import SystemClock
from sao_events.config import Config, load_config
from sao_events.core.errors import UsageError

EXIT_CODES = """exit codes:
  0    done, nothing failed
  1    something failed: a node, a test, a scenario that differs
  2    wrong usage or configuration
  3    dbt, the warehouse, the event log or the machine failed
  130  interrupted
"""


@dataclass(slots=True)
class Context:
    """What a command is given: its arguments, the configuration (read when asked for), where to print, the time."""

    args: argparse.Namespace
    out: Output
    clock: SystemClock

    @property
    def config(self) -> Config:
        """The configuration with the command line's options over it. Raises ConfigError."""
        return configured(self.args)


Command = Callable[[Context], int]
Commands = "argparse._SubParsersAction[argparse.ArgumentParser]"


def configured(args: argparse.Namespace) -> Config:
    """The configuration that the global options lead to; paths on the command line count from the working folder."""
    start = Path(args.project_dir).absolute() if args.project_dir else Path.cwd()
    if not start.is_dir():
        raise UsageError(f"--project-dir {args.project_dir}: there is no such folder")
    config = load_config(Path(args.config) if args.config else None, start, target=args.target)
    dbt = config.dbt
    if args.project_dir:
        dbt = replace(dbt, project_dir=start)
    if args.profiles_dir:
        dbt = replace(dbt, profiles_dir=Path(args.profiles_dir).absolute())
    state_dir = Path(args.state_dir).absolute() if args.state_dir else config.state_dir
    return replace(config, dbt=dbt, state_dir=state_dir)


@contextmanager
def terminated_as_interrupted() -> Iterator[None]:
    """Within this, SIGTERM ends the command as Ctrl-C does: politely."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def global_options(parser: argparse.ArgumentParser, *, within: bool) -> None:
    """Add the options that every command has; `within` a command they do not hide what stood before its name."""
    default = argparse.SUPPRESS if within else None
    group = parser.add_argument_group("global options")
    for flag, meaning in (
        ("--config", "the configuration file (default: sao.yml of the dbt project's folder)"),
        ("--project-dir", "the dbt project's folder (default: this one or the nearest above it)"),
        ("--profiles-dir", "the folder of profiles.yml (default: where dbt looks)"),
        ("--target", "dbt's target (default: the profile's)"),
        ("--state-dir", "the folder of the event log (default: .sao, with a target .sao/targets/NAME)"),
    ):
        group.add_argument(flag, default=default, metavar="PATH" if flag != "--target" else "NAME", help=meaning)
    json_default = argparse.SUPPRESS if within else False
    group.add_argument("--json", action="store_true", default=json_default, help="print JSON for programs")


def add_command(
    commands: argparse._SubParsersAction[argparse.ArgumentParser],
    name: str,
    command: Command | None,
    summary: str,
    examples: str,
) -> argparse.ArgumentParser:
    """Declare a command; its help ends with `examples` and the exit codes."""
    parser = commands.add_parser(
        name,
        help=summary,
        description=f"{summary[0].upper()}{summary[1:]}.",
        epilog=f"examples:\n{examples.rstrip()}\n\n{EXIT_CODES}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    global_options(parser, within=True)
    if command is not None:
        parser.set_defaults(command=command)
    return parser
