"""`preview`: what a commit that is not in force would build and reuse."""

from __future__ import annotations

import argparse
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sao_events.cli.options import Context, add_command
from sao_events.cli.output import counted
from sao_events.cli.record import opened
from sao_events.core.errors import UsageError

EXAMPLES = """  sao-events preview                     the last commit of this repository
  sao-events preview my-branch           before it is pushed or merged
  sao-events preview my-branch --json | jq -r '.build[]'"""
MOST = 20


def declare(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare the command."""
    summary = "show what a commit would build and reuse if it were in force; builds nothing"
    parser = add_command(commands, "preview", preview, summary, EXAMPLES)
    parser.add_argument("commit", nargs="?", default="HEAD", metavar="COMMIT", help="as git names it (default: HEAD)")
    parser.add_argument("--repo", metavar="PATH", help="the repository (default: that of the dbt project, or this one)")


def preview(context: Context) -> int:
    """Parse the commit in a folder of its own, decide, print. Nothing is written to the log."""
    from sao_events.deploy import preview as previews
    from sao_events.git.checkout import LocalCheckout

    config = context.config
    git_dir, top = _repository(Path(context.args.repo or (config.dbt.project_dir if config.git is None else ".")))
    files = config.state_dir / "preview"
    checkout = LocalCheckout(git_dir, files)
    commit = checkout.commit(context.args.commit)
    folder = checkout.lay_out(commit) / (config.git.subdir if config.git else _below(config.dbt.project_dir, top))
    if config.git is None:
        previews.bring_packages(config, folder)
    with opened(config) as record:
        project = previews.parse(config, record.store, folder, files, trusted=True)
        found = previews.preview(record.view(context), project, commit)
    if context.out.as_json:
        context.out.json(found)
    else:
        _show(context, found, previews.summary(found), previews.built(found))
    return 0


def _show(context: Context, found: Mapping[str, Any], summary: str, built: list[Mapping[str, Any]]) -> None:
    out = context.out
    out.line(f"{found['previewed'][:10]} {summary} ({found['environment']})", "bold")
    if built:
        out.table(("node", "action", "reason"), [[node["name"], "build", node["text"]] for node in built[:MOST]])
    if len(built) > MOST:
        out.line(f"and {counted(len(built) - MOST, 'node')} more")
    if found["gone"]:
        out.line(f"no longer there: {', '.join(found['gone'][:MOST])}", "yellow")
    for warning in found["warnings"]:
        out.line(f"warning: {warning}", "yellow")


def _repository(path: Path) -> tuple[Path, Path]:
    """The git directory of the repository that `path` is in, and the folder that its files begin in."""
    asked = ["git", "-C", str(path), "rev-parse", "--path-format=absolute", "--git-common-dir", "--show-cdup"]
    done = subprocess.run(asked, capture_output=True, text=True, check=False)
    if done.returncode:
        raise UsageError(f"{path} is in no git repository", hint="name one with --repo PATH")
    git_dir, up = done.stdout.split("\n")[:2]
    return Path(git_dir), (path / up).resolve()


def _below(project: Path, top: Path) -> Path:
    try:
        return project.resolve().relative_to(top)
    except ValueError:
        raise UsageError(f"the dbt project in {project} is not part of the repository in {top}") from None
