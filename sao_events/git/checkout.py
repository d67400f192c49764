"""Checkouts of the one configured remote: fetch its tracked branch, resolve the head, lay out a commit in a folder of
its own.

Only the configured remote and refs of a strict form ever reach git; nothing from a payload does. Git asks for
nothing, runs no hooks, follows no submodules, takes no configuration from what it fetches, and speaks only the scheme
of the remote, also where that sends it elsewhere. The user's own configuration stays in force: credentials are in it.
The mirror may be deleted; what a crash leaves half done in it is done again.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import threading
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from sao_events.core.errors import ConfigError, SaoError

if TYPE_CHECKING:
    import git

COMMIT = re.compile(r"[0-9a-f]{40}([0-9a-f]{24})?")
_BRANCH = re.compile(r"(?!.*(\.\.|//|@\{|\.lock$))[A-Za-z0-9_][A-Za-z0-9._/-]{0,200}(?<![./])")
# Each scheme with what may follow it: a user and a host that git, or the ssh that it starts, cannot take for an option.
_AUTHORITY = r"([^\s@/-][^\s@/]*@)?[A-Za-z0-9[][^\s@/]*"
_REMOTES = {
    "https": re.compile(rf"https://{_AUTHORITY}/[^\s]+"),
    "ssh": re.compile(rf"ssh://{_AUTHORITY}/[^\s]+|[A-Za-z0-9_][A-Za-z0-9._-]*@[A-Za-z0-9][A-Za-z0-9.-]*:[^\s-][^\s]*"),
    "file": re.compile(r"file:///[^\s]*|/.*"),
}
_PULL = re.compile(r"refs/(pull|merge-requests)/[1-9][0-9]{0,9}/head")
_ENV = {
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_HTTP_LOW_SPEED_LIMIT": "1",
    "GIT_HTTP_LOW_SPEED_TIME": "60",
    "GIT_NO_REPLACE_OBJECTS": "1",
    "GIT_ALTERNATE_OBJECT_DIRECTORIES": "",
    "GIT_NAMESPACE": "",
}
# What git tells its hooks, from which we may have been started, of the repository that they belong to.
_ELSEWHERE = ("GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_PREFIX", "GIT_COMMON_DIR", "GIT_SHALLOW_FILE", "GIT_GRAFT_FILE")
# Over whatever the user's own configuration says, which stays in force for the rest: credentials, proxies, host keys.
_SETTINGS = {
    "core.hooksPath": os.devnull,
    "core.fsmonitor": "false",
    "protocol.allow": "never",
    "safe.bareRepository": "all",
    "submodule.recurse": "false",
    "fetch.recurseSubmodules": "false",
    "gc.auto": "0",  # it would go on in the background, and take commits that a forced push left behind
    "maintenance.auto": "false",
}
KEEP, PATIENCE = 3, 300.0


def check_remote(remote: str) -> str:
    """The remote, if it is an absolute path or an https, ssh or file URL. Raises ConfigError otherwise."""
    if _scheme(remote) is None:
        wrong = f"git.remote {without_password(remote)!r} is not an https, ssh or file URL nor an absolute path"
        raise ConfigError(wrong, hint="for example https://github.com/acme/shop.git or git@github.com:acme/shop.git")
    return remote


def _scheme(remote: str) -> str | None:
    """The one scheme that git may speak for this remote, wherever it is sent on to; None for what is no remote."""
    fits = (scheme for scheme, pattern in _REMOTES.items() if remote.isprintable() and pattern.fullmatch(remote))
    return next(fits, None)


def check_branch(branch: str) -> str:
    """The branch name, if it is plain. Raises ConfigError otherwise."""
    if not _BRANCH.fullmatch(branch):
        raise ConfigError(f"git.branch {branch!r} is not a branch name")
    return branch


class Checkout:
    """The remote's tracked branch, mirrored below `folder`; commits are laid out in `folder/commits/<sha>`.

    Without `links` symbolic links are laid out as files with their text in them, so that none leads out of the folder.
    For use by one thread; `close` may be called by another. Raises SaoError with what to do where git cannot do its
    part.
    """

    def __init__(self, remote: str, branch: str, folder: Path, *, links: bool = True) -> None:
        self.remote, self.branch, self.folder = check_remote(remote), check_branch(branch), folder
        self.mirror = folder / "mirror.git"
        scheme = str(_scheme(remote))
        own = {"GIT_DIR": str(self.mirror), "GIT_OBJECT_DIRECTORY": str(self.mirror / "objects")}
        self._env = {**_ENV, **own, "GIT_ALLOW_PROTOCOL": scheme}
        settings = {**_SETTINGS, f"protocol.{scheme}.allow": "always", "core.symlinks": str(links).lower()}
        self._options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        self._lock = threading.Lock()
        self._running: git.Git.AutoInterrupt | None = None
        self._ready = self._closed = False

    def head(self) -> str:
        """Fetch, and the commit at the head of the branch. Raises SaoError where the remote or the branch is not
        there, or git has not done after `PATIENCE` seconds.
        """
        return self._fetch(self.branch, f"refs/heads/{self.branch}", f"refs/tracked/{self.branch}")

    def pull(self, ref: str) -> str:
        """Fetch, and the commit of a pull or merge request, whose ref is `refs/pull/<n>/head` or
        `refs/merge-requests/<n>/head`. Raises SaoError.
        """
        if not _PULL.fullmatch(ref):
            raise SaoError(f"{ref!r} is not the ref of a pull or merge request")
        return self._fetch(ref, ref, f"refs/previewed/{ref.removeprefix('refs/')}")

    def merged(self, base: str, head: str) -> str | None:
        """The tree that merging two commits makes; None where they conflict. Raises SaoError, also where git is older
        than 2.38 and cannot say.
        """
        for commit in (base, head):
            if not COMMIT.fullmatch(commit):
                raise SaoError(f"{commit!r} is not a commit id")
        self._prepare()
        code, out, said = self._run("merge-tree", "--write-tree", "--no-messages", base, head)
        if code not in (0, 1):
            raise SaoError(f"git cannot merge {head[:10]}: {_last_line(said)}", hint="it takes git 2.38 or newer")
        return None if code else out.strip()

    def _fetch(self, name: str, ref: str, into: str) -> str:
        what = f"git cannot fetch {name} from {without_password(self.remote)}"
        hint = "check git.remote and git.branch, and that this user may read the repository"
        options = ("--no-tags", "--no-recurse-submodules", "--no-write-fetch-head", "--quiet", "--end-of-options")
        self._git(what, hint, "fetch", *options, self.remote, f"+{ref}:{into}")
        return self._git(what, hint, "rev-parse", "--verify", f"{into}^{{commit}}")

    def lay_out(self, commit: str, in_use: Collection[Path] = ()) -> Path:
        """The folder that holds exactly the files of `commit` (or of a tree). Older checkouts are removed but for
        the newest few and those that folders `in_use` are in.
        """
        if not COMMIT.fullmatch(commit):
            raise SaoError(f"{commit!r} is not a commit id")
        folder = self.folder / "commits" / commit
        try:
            if not folder.is_dir():
                self._write(commit, folder)
            os.utime(folder)
            self._forget(folder, in_use)
        except OSError as error:
            raise _unwritable(error, folder) from None
        return folder

    def close(self) -> None:
        """End what is under way; nothing is begun any more."""
        with self._lock:
            self._closed = True
            if self._running is not None and self._running.proc is not None:
                _kill(self._running.proc)

    def _write(self, commit: str, folder: Path) -> None:
        fresh = folder.with_suffix(".new")
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir(parents=True)
        index = self.folder / "index"
        index.unlink(missing_ok=True)
        index.with_suffix(".lock").unlink(missing_ok=True)
        env = {"GIT_INDEX_FILE": str(index), "GIT_WORK_TREE": str(fresh)}
        what, hint = f"git cannot check out {commit}", f"{self.mirror} may be deleted: it is fetched again"
        try:
            self._git(what, hint, "checkout", "--force", "--quiet", commit, "--", ".", env=env)
        except SaoError:
            shutil.rmtree(fresh, ignore_errors=True)
            raise
        fresh.rename(folder)

    def _forget(self, newest: Path, in_use: Collection[Path]) -> None:
        folders = sorted((p for p in newest.parent.iterdir() if p != newest), key=lambda p: p.stat().st_mtime)
        for folder in folders[: -(KEEP - 1)]:
            if not any(used.is_relative_to(folder) for used in in_use):
                shutil.rmtree(folder, ignore_errors=True)

    def _git(self, what: str, hint: str, *arguments: str, env: Mapping[str, str] | None = None) -> str:
        """What git prints. Raises SaoError that says `what`, why, and `hint`."""
        try:
            self._prepare()
            code, out, said = self._run(*arguments, env=env)
        except ImportError:
            raise SaoError(f"{what}: there is no git on the PATH", hint="install git") from None
        except OSError as error:
            raise _unwritable(error, self.mirror) from None
        except subprocess.TimeoutExpired:
            raise SaoError(f"{what}: no answer within {PATIENCE:.0f} s", hint=hint) from None
        if code:
            raise SaoError(f"{what}: {_last_line(said) or f'git ended with {code}'}", hint=hint)
        return out.strip()

    def _prepare(self) -> None:
        """The mirror, made or mended; what git has left locked when it was killed is free again."""
        if self._ready:
            return
        self.mirror.mkdir(parents=True, exist_ok=True)
        for left in (*self.mirror.glob("*.lock"), *self.mirror.glob("refs/**/*.lock")):
            left.unlink(missing_ok=True)
        code, _, said = self._run("init", "--quiet", "--bare", "--template=")
        if code:
            raise SaoError(f"git cannot make {self.mirror}: {_last_line(said)}", hint="delete it and try again")
        self._ready = True

    def _run(self, *arguments: str, env: Mapping[str, str] | None = None) -> tuple[int, str, str]:
        """Run git to its end: exit status, output, what it said. Raises TimeoutExpired after `PATIENCE`."""
        import git

        given = {**self._env, **(env or {})}
        unset = [part for name in _ELSEWHERE if name in os.environ and name not in given for part in ("-u", name)]
        start = ["env", *unset] if unset else []
        command = [*start, git.Git.GIT_PYTHON_GIT_EXECUTABLE, *self._options, *arguments]
        with self._lock:
            if self._closed:
                raise SaoError("git is not asked any more: the service is stopping")
            running = git.Git(self.mirror).execute(command, as_process=True, env=given, start_new_session=True)
            self._running = running
        process = running.proc
        assert process is not None
        try:
            out, said = process.communicate(timeout=PATIENCE)
        finally:
            _kill(process)
            process.wait()
            with self._lock:
                self._running = None
        return process.returncode, _text(out), _text(said)


class LocalCheckout(Checkout):
    """Commits of a repository on this machine, whose git directory is `git_dir`, laid out below `folder` without
    touching it.
    """

    def __init__(self, git_dir: Path, folder: Path) -> None:
        super().__init__(str(git_dir.resolve()), "main", folder)
        self.mirror, self._ready = git_dir.resolve(), True
        self._env |= {"GIT_DIR": str(self.mirror), "GIT_OBJECT_DIRECTORY": str(self.mirror / "objects")}

    def commit(self, name: str) -> str:
        """The id of the commit that `name` names. Raises SaoError."""
        options = ("rev-parse", "--verify", "--quiet", "--end-of-options")
        return self._git(f"there is no commit {name}", "name one as git does", *options, f"{name}^{{commit}}")


def _kill(process: subprocess.Popen[bytes]) -> None:
    """End git and what it has started."""
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)


def _unwritable(error: OSError, path: Path) -> SaoError:
    return SaoError(
        f"{error.filename or path} cannot be used: {error.strerror}", hint="check the rights and the disk of state_dir"
    )


def _text(said: bytes) -> str:
    return said.decode("utf-8", errors="replace")


def _last_line(said: str) -> str:
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    return without_password(lines[-1]) if lines else ""


def without_password(text: str) -> str:
    """`text` with the passwords and tokens in its addresses hidden."""
    return re.sub(r"(https?://)[^/@\s]+@|(//[^/@\s:]*):[^/@\s]*@", _hidden, text)


def _hidden(found: re.Match[str]) -> str:
    return f"{found[1]}***@" if found[1] else f"{found[2]}:***@"
