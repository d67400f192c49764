"""Where a history keeps the project's code: a git repository that the service deploys from, or a folder it works in."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

from tests.repositories import bare_with_clone, git


class Code:
    """The project's files. `commit` is the id of what was pushed last, None for a folder."""

    def __init__(self, folder: Path, *, in_git: bool) -> None:
        folder.mkdir(parents=True)
        self.commit: str | None = None
        self._in_git = in_git
        if in_git:
            self.bare, self.work = bare_with_clone(folder)
        else:
            self.work = folder / "project"
            self.work.mkdir()

    def settings(self) -> str:
        """Its part of the service's configuration."""
        return f"git: {{remote: {self.bare}, branch: main}}\n" if self._in_git else f"project: {{dir: {self.work}}}\n"

    def save(self, files: Mapping[str, str], message: str) -> None:
        """Make the folder hold exactly `files`; in git, commit and push them."""
        write(self.work, files)
        if self._in_git:
            git(self.work, "add", "--all")
            git(self.work, "commit", "--quiet", "--allow-empty", "--message", message)
            git(self.work, "push", "--quiet", "origin", "HEAD:main")
            self.commit = git(self.work, "rev-parse", "HEAD")


def write(folder: Path, files: Mapping[str, str]) -> None:
    """Make `folder` hold the files of a project and no others, but for what dbt and git write. Only what differs is
    written.
    """
    for path in sorted(folder.rglob("*")):
        inside = path.relative_to(folder)
        if path.is_file() and str(inside) not in files and inside.parts[0] not in (".git", "target", "logs", ".sao"):
            path.unlink()
    for name, text in files.items():
        file = folder / name
        if not file.is_file() or file.read_text() != text:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)


def fresh(folder: Path, files: Mapping[str, str]) -> Path:
    """A new folder that holds `files`."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    write(folder, files)
    return folder
