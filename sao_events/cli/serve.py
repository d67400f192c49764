"""`serve`, `watch` and `hooks`: the service, and what tells it."""

from __future__ import annotations

import argparse
import logging
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from sao_events.cli.log import following
from sao_events.cli.options import Context, add_command, terminated_as_interrupted
from sao_events.config import Config, port_number, require_project

SERVE_EXAMPLES = """  sao-events serve                                in a dbt project's folder, no configuration needed
  sao-events --config /etc/sao.yml serve --port 80
  sao-events serve --host 0.0.0.0                 reachable from outside: put a proxy with TLS in front"""
WATCH_EXAMPLES = """  sao-events watch                                a saved file builds what it changes in meaning
  sao-events watch --target dev
  sao-events watch --poll                         on a network share, in a container's mounted folder"""
HOOKS_EXAMPLES = """  sao-events hooks install --repo /srv/git/shop.git       a bare repository: at each push
  sao-events hooks install                                this clone: at each commit, merge and checkout
  sao-events hooks install --without pre-push             no preview before a push
  sao-events hooks install --url http://etl:8181 --token-file token
  sao-events hooks uninstall --repo /srv/git/shop.git"""


def declare(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare the commands."""
    summary = "run the service: events in over HTTP, git and the clock, builds out, a page to look at"
    serve_parser = add_command(commands, "serve", serve, summary, SERVE_EXAMPLES)
    serve_parser.add_argument("--host", metavar="NAME", help="the address to listen on (default: http.host)")
    serve_parser.add_argument("--port", metavar="N", help="the port, 0 for any free one (default: http.port)")
    watch_parser = add_command(
        commands, "watch", watch, "build what a saved file changes, while you edit", WATCH_EXAMPLES
    )
    watch_parser.add_argument(
        "--poll", action="store_true", help="look at the files every second, where the system tells of no changes"
    )
    _declare_hooks(commands)


def _declare_hooks(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    hooks = add_command(
        commands, "hooks", None, "git hooks that tell the service of pushes and commits", HOOKS_EXAMPLES
    )
    what = hooks.add_subparsers(dest="hook", required=True, metavar="install|uninstall")
    install = add_command(
        what, "install", hooks_install, "install the hooks; those that stood there run first", HOOKS_EXAMPLES
    )
    install.add_argument(
        "--without",
        action="append",
        default=[],
        metavar="HOOK",
        help="but not this one, pre-push for example; repeatable",
    )
    install.add_argument("--url", metavar="URL", help="call a service elsewhere instead of appending to the log here")
    install.add_argument("--token-file", metavar="PATH", help="the file with its bearer token")
    uninstall = add_command(
        what, "uninstall", hooks_uninstall, "remove our hooks, put back those before", HOOKS_EXAMPLES
    )
    for parser in (install, uninstall):
        parser.add_argument(
            "--repo", default=".", metavar="PATH", help="the repository, bare or not (default: this folder)"
        )


def serve(context: Context) -> int:
    """Serve until interrupted. Raises Busy where the port or the state folder is taken."""
    config = _listening(context)
    if config.git is None:
        require_project(config)
    from sao_events.service import Service
    from sao_events.web.server import HttpServer

    _log_to_stderr()
    service = Service(config)
    server = HttpServer(service, config.http.host, config.http.port)
    service.start()
    try:
        if context.out.as_json:
            context.out.json({"environment": config.environment, "url": server.url}, lines=True)
        else:
            context.out.line(f"{config.environment}: {server.url}  (state in {config.state_dir}; Ctrl-C ends)")
        server.run()
    finally:
        service.stop()
    return 0


def _listening(context: Context) -> Config:
    config, args = context.config, context.args
    host = args.host or config.http.host
    port = port_number(args.port, "--port") if args.port else config.http.port
    return replace(config, http=replace(config.http, host=host, port=port))


def _log_to_stderr() -> None:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.getLogger("uvicorn").setLevel(logging.WARNING)


def watch(context: Context) -> int:
    """Watch the project's folder until interrupted; with `--json` every event is told on a line of its own."""
    config = context.config
    require_project(config)
    from sao_events.watch.saves import watch as watch_project

    with terminated_as_interrupted():
        if not context.out.as_json:
            return watch_project(config, polling=context.args.poll)
        with following(context):
            return watch_project(config, Console(quiet=True), polling=context.args.poll)


def hooks_install(context: Context) -> int:
    """Install the hooks and print their files."""
    from sao_events import hooks

    args = context.args
    token = Path(args.token_file) if args.token_file else None
    config, repository = context.config, Path(args.repo)
    files = hooks.install(
        repository,
        state_dir=config.state_dir,
        url=args.url,
        token_file=token,
        without=args.without,
        options=_options(args, config),
    )
    if hooks.hooks_folder(repository).shared:
        context.out.aside(
            f"core.hooksPath is {files[0].parent if files else ''}: there they act for {repository} alone"
        )
    return _files(context, "installed", files)


def _options(args: argparse.Namespace, config: Config) -> list[str]:
    """The global options, but for the state folder, that lead to the same configuration from any folder."""
    project = config.dbt.project_dir if config.git is None else None
    given = [("--config", config.path), ("--project-dir", project), ("--profiles-dir", args.profiles_dir)]
    found = [part for flag, path in given if path for part in (flag, str(Path(path).absolute()))]
    return [*found, *(["--target", args.target] if args.target else [])]


def hooks_uninstall(context: Context) -> int:
    """Remove the hooks and print the files that went."""
    from sao_events import hooks

    return _files(context, "removed", hooks.uninstall(Path(context.args.repo)))


def _files(context: Context, what: str, files: list[Path]) -> int:
    if context.out.as_json:
        context.out.json({what: [str(path) for path in files]})
    else:
        for path in files:
            context.out.line(f"{what} {path}")
        if not files:
            context.out.line("there are no hooks of sao-events here")
    return 0
