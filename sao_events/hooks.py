"""Git hooks that tell the service of a push or a commit: installing and removing them.

A hook never blocks or breaks git: it works in the background, with a time limit, and keeps the exit status of the
hook that stood there before, which it runs first.
"""

from __future__ import annotations

import shlex
import subprocess
import sys
from pathlib import Path

from sao_events.errors import UsageError

MARK = "sao-events: tells the service"
BARE, WORKING = ("post-receive",), ("post-commit", "post-merge", "post-checkout")


def hooks_folder(repository: Path) -> tuple[Path, bool]:
    """Where git looks for the hooks of `repository`, and whether it is bare. Raises UsageError where there is none."""
    asked = ("rev-parse", "--is-bare-repository", "--git-path", "hooks")
    try:
        found = subprocess.run(
            ["git", "-C", str(repository), *asked], capture_output=True, text=True, check=True
        ).stdout.split("\n")
    except (OSError, subprocess.CalledProcessError):
        raise UsageError(f"{repository} is not a git repository", hint="name one with --repo PATH") from None
    return (repository / found[1]).resolve(), found[0] == "true"


def install(repository: Path, *, state_dir: Path, url: str | None = None, token_file: Path | None = None) -> list[Path]:
    """Install the hooks of a bare or working repository and return their files.

    Without `url` the hook appends to the log in `state_dir`, whether the service is up or not; with it, it calls the
    service at `url` with the bearer token in `token_file`. A hook that stood there is kept and run first.
    """
    if (url is None) != (token_file is None):
        raise UsageError("--url and --token-file belong together")
    folder, bare = hooks_folder(repository)
    folder.mkdir(parents=True, exist_ok=True)
    text = _script().replace("@TELL@", _tell(state_dir, url, token_file))
    return [_install(folder / name, text) for name in (BARE if bare else WORKING)]


def uninstall(repository: Path) -> list[Path]:
    """Remove our hooks, put back those that stood there before, and return the files that were removed."""
    folder, _ = hooks_folder(repository)
    removed = []
    for name in BARE + WORKING:
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


def _script() -> str:
    here = Path(__file__).parent
    shipped = here / "hook_scripts" / "notify.sh"
    return (shipped if shipped.is_file() else here.parent / "hooks" / "notify.sh").read_text(encoding="utf-8")


def _tell(state_dir: Path, url: str | None, token_file: Path | None) -> str:
    if url is None or token_file is None:
        command = [sys.executable, "-P", "-m", "sao_events", "--state-dir", str(state_dir.resolve()), "emit", "code"]
        return f'{shlex.join(command)} ${{ref:+--ref "$ref"}} ${{commit:+--commit "$commit"}}'
    header = f"""printf 'header = "Authorization: Bearer %s"\\n' "$(cat {shlex.quote(str(token_file.resolve()))})" """
    body = """-d "{\\"ref\\": \\"$ref\\", \\"commit\\": \\"$commit\\"}" """
    return (
        f"{header}|\n            curl -fsS -m 10 -K - -H 'Content-Type: application/json' {body}"
        f"{shlex.quote(url.rstrip('/') + '/events/code')}"
    )
