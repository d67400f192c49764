"""Real git repositories for tests, without the user's own git configuration."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

ENVIRON = {
    **{name: value for name, value in os.environ.items() if not name.startswith("GIT_")},
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_CONFIG_SYSTEM": os.devnull,
    "GIT_AUTHOR_NAME": "Test",
    "GIT_AUTHOR_EMAIL": "test@example.invalid",
    "GIT_COMMITTER_NAME": "Test",
    "GIT_COMMITTER_EMAIL": "test@example.invalid",
}


def git(folder: Path, *arguments: str) -> str:
    """Run git in a folder and return what it prints."""
    command = ["git", "-C", str(folder), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, env=ENVIRON, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def bare_with_clone(folder: Path) -> tuple[Path, Path]:
    """A bare repository and a working one that pushes to it, on the branch main, without a commit."""
    bare, work = folder / "shop.git", folder / "work"
    git(folder, "init", "--quiet", "--bare", "--initial-branch=main", str(bare))
    git(folder, "init", "--quiet", "--initial-branch=main", str(work))
    git(work, "remote", "add", "origin", str(bare))
    return bare, work


def commit(work: Path, files: dict[str, str], *, push: bool = True) -> str:
    """Write the files, commit everything, push, and return the id."""
    for name, text in files.items():
        (work / name).parent.mkdir(parents=True, exist_ok=True)
        (work / name).write_text(text)
    git(work, "add", "--all")
    git(work, "commit", "--quiet", "--allow-empty", "--message", "change")
    if push:
        git(work, "push", "--quiet", "origin", "HEAD:main")
    return git(work, "rev-parse", "HEAD")
