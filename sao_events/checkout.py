"""Checkouts of the one configured remote: fetch its tracked branch, resolve the head, lay out a commit in a folder of
its own.

Only the configured remote and refs of a strict form ever reach git; nothing from a payload does. Git asks for
nothing, runs no hooks of the fetched repository, and speaks only the schemes that are allowed.
"""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

import git

from sao_events.errors import ConfigError, SaoError

COMMIT = re.compile(r"[0-9a-f]{40}([0-9a-f]{24})?")
_BRANCH = re.compile(r"(?!.*(\.\.|//|@\{|\.lock$))[A-Za-z0-9_][A-Za-z0-9._/-]{0,200}(?<![./])")
_REMOTE = re.compile(r"(https://|ssh://|file://)[^\s-][^\s]*|[A-Za-z0-9._-]+@[A-Za-z0-9.-]+:[^\s-][^\s]*|/[^\s]*")
_ENV = {
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_ALLOW_PROTOCOL": "https:ssh:file",
    "GIT_CONFIG_COUNT": "3",
    "GIT_CONFIG_KEY_0": "core.hooksPath",
    "GIT_CONFIG_VALUE_0": os.devnull,
    "GIT_CONFIG_KEY_1": "protocol.ext.allow",
    "GIT_CONFIG_VALUE_1": "never",
    "GIT_CONFIG_KEY_2": "safe.bareRepository",
    "GIT_CONFIG_VALUE_2": "all",
}
KEEP = 3


def check_remote(remote: str) -> str:
    """The remote, if it is an absolute path or an https, ssh or file URL. Raises ConfigError otherwise."""
    if not _REMOTE.fullmatch(remote):
        raise ConfigError(f"git.remote {remote!r} is not an https, ssh or file URL nor an absolute path")
    return remote


def check_branch(branch: str) -> str:
    """The branch name, if it is plain. Raises ConfigError otherwise."""
    if not _BRANCH.fullmatch(branch):
        raise ConfigError(f"git.branch {branch!r} is not a branch name")
    return branch


class Checkout:
    """The remote's tracked branch, mirrored below `folder`; commits are laid out in `folder/commits/<sha>`."""

    def __init__(self, remote: str, branch: str, folder: Path) -> None:
        self.remote, self.branch, self.folder = check_remote(remote), check_branch(branch), folder

    def head(self) -> str:
        """Fetch, and the commit at the head of the branch. Raises SaoError where the remote or the branch is not
        there.
        """
        repository = self._repository()
        spec = f"+refs/heads/{self.branch}:refs/tracked/{self.branch}"
        try:
            repository.git.fetch("--no-tags", "--quiet", "--end-of-options", self.remote, spec, env=_ENV)
            commit = str(repository.git.rev_parse("--verify", f"refs/tracked/{self.branch}^{{commit}}", env=_ENV))
        except git.exc.GitCommandError as error:
            raise SaoError(
                f"git cannot fetch {self.branch} from {_without_password(self.remote)}: {_last_line(error)}",
                hint="check git.remote and git.branch, and that this user may read the repository",
            ) from None
        return commit

    def lay_out(self, commit: str) -> Path:
        """The folder that holds exactly the files of `commit`. Older checkouts are removed but for the newest few."""
        if not COMMIT.fullmatch(commit):
            raise SaoError(f"{commit!r} is not a commit id")
        folder = self.folder / "commits" / commit
        if not folder.is_dir():
            self._write(commit, folder)
        os.utime(folder)
        self._forget(folder)
        return folder

    def _write(self, commit: str, folder: Path) -> None:
        fresh = folder.with_suffix(".new")
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir(parents=True)
        index = self.folder / "index"
        index.unlink(missing_ok=True)
        env = {**_ENV, "GIT_INDEX_FILE": str(index), "GIT_WORK_TREE": str(fresh)}
        try:
            self._repository().git.checkout("--force", "--quiet", commit, "--", ".", env=env)
        except git.exc.GitCommandError as error:
            shutil.rmtree(fresh, ignore_errors=True)
            raise SaoError(f"git cannot check out {commit}: {_last_line(error)}") from None
        fresh.rename(folder)

    def _forget(self, newest: Path) -> None:
        folders = sorted((p for p in newest.parent.iterdir() if p != newest), key=lambda p: p.stat().st_mtime)
        for folder in folders[: -(KEEP - 1)]:
            shutil.rmtree(folder, ignore_errors=True)

    def _repository(self) -> git.Repo:
        folder = self.folder / "mirror.git"
        if not (folder / "HEAD").is_file():
            folder.mkdir(parents=True, exist_ok=True)
            return git.Repo.init(folder, bare=True)
        return git.Repo(folder)


def _last_line(error: git.exc.GitCommandError) -> str:
    lines = [line.strip() for line in str(error.stderr).strip().strip("'").splitlines() if line.strip()]
    return (
        _without_password(lines[-1].removeprefix("stderr: ").strip("' ")) if lines else f"git ended with {error.status}"
    )


def _without_password(text: str) -> str:
    return re.sub(r"(//[^/@\s:]*):[^/@\s]*@", r"\1:***@", text)
