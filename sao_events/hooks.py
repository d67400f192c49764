"""Git hooks that tell the service of a push or a commit, and show before a push what it would build: installing and
removing them.

A hook never blocks or breaks git: it works in the background, or within a time limit, and keeps the exit status of the
hook that stood there before, which it runs first.
"""

from __future__ import annotations

import shlex
import subprocess
import sys
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from sao_events.core.errors import UsageError

MARK = "sao-events: tells the service"
BARE, WORKING, PREVIEW = ("post-receive",), ("post-commit", "post-merge", "post-checkout"), "pre-push"
NAMES = (*BARE, *WORKING, PREVIEW)


class Place(NamedTuple):
    """Where git looks for hooks, what they belong to, and whether that is bare."""

    hooks: Path
    repository: Path
    bare: bool

    @property
    def shared(self) -> bool:
        """Whether the folder may be that of other repositories too, or part of the files of this one
        (core.hooksPath).
        """
        return not self.hooks.is_relative_to(self.repository)


def hooks_folder(repository: Path) -> Place:
    """Where the hooks of `repository`, bare, working, or a linked work tree, are. Raises UsageError where there is
    none.
    """
    asked = ("rev-parse", "--is-bare-repository", "--git-path", "hooks", "--git-common-dir")
    try:
        found = subprocess.run(
            ["git", "-C", str(repository), *asked], capture_output=True, text=True, check=True
        ).stdout.split("\n")
    except (OSError, subprocess.CalledProcessError):
        raise UsageError(f"{repository} is not a git repository", hint="name one with --repo PATH") from None
    return Place((repository / found[1]).resolve(), (repository / found[2]).resolve(), found[0] == "true")


def install(
    repository: Path,
    *,
    state_dir: Path,
    url: str | None = None,
    token_file: Path | None = None,
    without: Collection[str] = (),
    options: Sequence[str] = (),
) -> list[Path]:
    """Install the hooks of a bare or working repository but for those named in `without`, and return their files.

    Without `url` a hook appends to the log in `state_dir`, whether the service is up or not; with it, it calls the
    service at `url` with the bearer token in `token_file`, and no preview is shown: what is on record is elsewhere.
    `options` are the global options of the command line under which the preview is made. A hook that stood there is
    kept and run first.
    """
    if (url is None) != (token_file is None):
        raise UsageError("--url and --token-file belong together")
    if unknown := set(without) - set(NAMES):
        raise UsageError(f"there is no hook {min(unknown)}", hint=f"there are {', '.join(NAMES)}")
    place = hooks_folder(repository)
    names = BARE if place.bare else (*WORKING, *([] if url else [PREVIEW]))
    place.hooks.mkdir(parents=True, exist_ok=True)
    text = _filled(
        {
            "@REPOSITORY@": shlex.quote(str(place.repository)),
            "@TELL@": _tell(state_dir, url, token_file),
            "@SHOW@": f'{shlex.join(_command(state_dir, *options, "preview"))} "$commit"',
        }
    )
    return [_install(place.hooks / name, text) for name in names if name not in without]


def uninstall(repository: Path) -> list[Path]:
    """Remove our hooks, put back those that stood there before, and return the files that were removed."""
    folder, removed = hooks_folder(repository).hooks, []
    for name in NAMES:
        path, before = folder / name, folder / f"{name}.before-sao"
        if _ours(path):
            path.unlink()
            removed.append(path)
            if before.exists():
                before.rename(path)
    return removed


def _install(path: Path, text: str) -> Path:
    if path.exists() and not _ours(path):
        path.rename(path.with_name(f"{path.name}.before-sao"))
    path.write_text(text, encoding="utf-8")
    path.chmod(0o755)
    return path


def _ours(path: Path) -> bool:
    return path.is_file() and MARK in path.read_text(encoding="utf-8", errors="replace")


def _filled(blanks: Mapping[str, str]) -> str:
    here = Path(__file__).parent
    shipped = here / "hook_scripts" / "notify.sh"
    text = (shipped if shipped.is_file() else here.parent / "hooks" / "notify.sh").read_text(encoding="utf-8")
    for blank, filling in blanks.items():
        text = text.replace(blank, filling)
    return text


def _command(state_dir: Path, *arguments: str) -> list[str]:
    return [sys.executable, "-P", "-m", "sao_events", "--state-dir", str(state_dir.resolve()), *arguments]


def _tell(state_dir: Path, url: str | None, token_file: Path | None) -> str:
    if url is None or token_file is None:
        command = shlex.join(_command(state_dir, "emit", "code"))
        return f'exec {command} ${{ref:+--ref "$ref"}} ${{commit:+--commit "$commit"}}'
    header = f"""printf 'header = "Authorization: Bearer %s"\\n' "$(cat {shlex.quote(str(token_file.resolve()))})" """
    body = """-d "{\\"ref\\": \\"$ref\\", \\"commit\\": \\"$commit\\"}" """
    return (
        f"{header}|\n            curl -fsS -m 10 -K - -H 'Content-Type: application/json' {body}"
        f"{shlex.quote(url.rstrip('/') + '/events/code')}"
    )
