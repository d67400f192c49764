"""Checkouts of a real remote: heads, clean folders, and everything that must never reach git."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest

from sao_events.core.errors import ConfigError, SaoError
from sao_events.git.checkout import KEEP, Checkout, check_branch, check_remote, without_password
from tests.repositories import ENVIRON, bare_with_clone, commit, git


@pytest.fixture
def remote(tmp_path: Path) -> tuple[Path, Path]:
    return bare_with_clone(tmp_path)


def test_head_follows_pushes(tmp_path: Path, remote: tuple[Path, Path]) -> None:
    bare, work = remote
    checkout = Checkout(str(bare), "main", tmp_path / "state")
    first = commit(work, {"a.sql": "select 1"})
    assert checkout.head() == first
    second = commit(work, {"a.sql": "select 2"})
    assert checkout.head() == second


def test_head_follows_a_forced_push(tmp_path: Path, remote: tuple[Path, Path]) -> None:
    bare, work = remote
    checkout = Checkout(str(bare), "main", tmp_path / "state")
    first = commit(work, {"a.sql": "select 1"})
    commit(work, {"a.sql": "select 2"})
    checkout.head()
    git(work, "reset", "--quiet", "--hard", first)
    git(work, "push", "--quiet", "--force", "origin", "main")
    assert checkout.head() == first


def test_a_commit_is_laid_out_exactly(tmp_path: Path, remote: tuple[Path, Path]) -> None:
    bare, work = remote
    checkout = Checkout(str(bare), "main", tmp_path / "state")
    first = commit(work, {"a.sql": "select 1", "models/b.sql": "select 2"})
    git(work, "rm", "--quiet", "a.sql")
    second = commit(work, {"models/b.sql": "select 3"})
    checkout.head()
    old, new = checkout.lay_out(first), checkout.lay_out(second)
    assert (old / "a.sql").read_text() == "select 1"
    assert (old / "models/b.sql").read_text() == "select 2"
    assert [path.name for path in new.rglob("*.sql")] == ["b.sql"]
    assert (new / "models/b.sql").read_text() == "select 3"


def test_what_is_built_from_a_checkout_is_not_overwritten(tmp_path: Path, remote: tuple[Path, Path]) -> None:
    bare, work = remote
    checkout = Checkout(str(bare), "main", tmp_path / "state")
    folder = checkout.lay_out(_pushed(checkout, work, "select 1"))
    checkout.lay_out(_pushed(checkout, work, "select 2"))
    assert (folder / "a.sql").read_text() == "select 1"


def test_old_checkouts_go(tmp_path: Path, remote: tuple[Path, Path]) -> None:
    bare, work = remote
    checkout = Checkout(str(bare), "main", tmp_path / "state")
    folders = [checkout.lay_out(_pushed(checkout, work, f"select {number}")) for number in range(KEEP + 2)]
    assert [folder.exists() for folder in folders] == [False, False] + [True] * KEEP


def test_hooks_of_the_repository_are_not_run(tmp_path: Path, remote: tuple[Path, Path]) -> None:
    bare, work = remote
    checkout = Checkout(str(bare), "main", tmp_path / "state")
    head = _pushed(checkout, work, "select 1")
    hook = tmp_path / "state" / "mirror.git" / "hooks" / "post-checkout"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text(f"#!/bin/sh\ntouch {tmp_path}/ran\n")
    hook.chmod(0o755)
    checkout.lay_out(head)
    assert not (tmp_path / "ran").exists()


def test_a_missing_branch_says_so(tmp_path: Path, remote: tuple[Path, Path]) -> None:
    bare, work = remote
    commit(work, {"a.sql": "select 1"})
    with pytest.raises(SaoError, match="cannot fetch other") as caught:
        Checkout(str(bare), "other", tmp_path / "state").head()
    assert caught.value.hint


def test_a_remote_that_is_away_says_so(tmp_path: Path) -> None:
    with pytest.raises(SaoError, match="cannot fetch main"):
        Checkout(str(tmp_path / "nowhere.git"), "main", tmp_path / "state").head()


def test_passwords_are_not_repeated(tmp_path: Path) -> None:
    with pytest.raises(SaoError) as caught:
        Checkout("https://me:hunter2@127.0.0.1:1/x.git", "main", tmp_path / "state").head()
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    "remote",
    [
        "ext::sh -c id",
        "-u",
        "--upload-pack=id",
        "http://a/b",
        "git://a/b",
        "",
        "../x",
        "https://-x",
        "file://-x",
        "a b",
    ],
)
def test_remotes_that_git_must_not_see(remote: str) -> None:
    with pytest.raises(ConfigError):
        check_remote(remote)


@pytest.mark.parametrize(
    "remote", ["https://a/b.git", "ssh://git@a/b", "git@github.com:a/b.git", "file:///srv/x", "/srv/x"]
)
def test_remotes_that_are_fine(remote: str) -> None:
    assert check_remote(remote) == remote


@pytest.mark.parametrize(
    "branch", ["-f", "a..b", "a b", "", "/a", "a/", "a.lock", "a@{1}", "a//b", "a:b", "a~1", "main\n"]
)
def test_branches_that_git_must_not_see(branch: str) -> None:
    with pytest.raises(ConfigError):
        check_branch(branch)


@pytest.mark.parametrize("branch", ["main", "release/1.2", "feature_x-y"])
def test_branches_that_are_fine(branch: str) -> None:
    assert check_branch(branch) == branch


@pytest.mark.parametrize("commit_id", ["HEAD", "--help", "a" * 39, "A" * 40, "../" + "a" * 37])
def test_only_commit_ids_are_laid_out(tmp_path: Path, commit_id: str) -> None:
    with pytest.raises(SaoError, match="not a commit id"):
        Checkout("/srv/x", "main", tmp_path).lay_out(commit_id)


def _pushed(checkout: Checkout, work: Path, text: str) -> str:
    pushed = commit(work, {"a.sql": text})
    assert checkout.head() == pushed
    return pushed


# What a hostile remote, ref, environment or repository could try


@pytest.mark.parametrize(
    "remote",
    [
        "EXT::sh -c id",
        "fd::17/foo",
        "transport::address",
        "https://-oProxyCommand=id/x",
        "https://me@-x/y",
        "ssh://-oProxyCommand=touch pwned/x",
        "ssh://-oProxyCommand=id/x",
        "ssh://git@-oProxyCommand=id/x",
        "git@-oProxyCommand=id:x",
        "-oProxyCommand=id@host:x",
        "git@host:-x",
        "--upload-pack=touch /tmp/pwned",
        "-u./helper",
        "https://a/b\n--upload-pack=id",
        "/srv/x\0y",
        "file://host/x",
        "https://",
        "https://a",
        "ftp://a/b",
        "HTTPS://a/b",
        " https://a/b",
    ],
)
def test_remotes_that_run_something_or_look_like_options(remote: str) -> None:
    with pytest.raises(ConfigError):
        check_remote(remote)


@pytest.mark.parametrize(
    "branch", ["--upload-pack=touch /tmp/pwned", "-x", "refs/../x", "$(id)", "@{u}", "a\nb", "a:refs/heads/b", "+main"]
)
def test_refs_that_look_like_options_or_reach_elsewhere(branch: str) -> None:
    with pytest.raises(ConfigError):
        check_branch(branch)


def test_the_error_for_a_remote_hides_its_password() -> None:
    with pytest.raises(ConfigError) as caught:
        check_remote("https://me:hunter2@host")
    assert "hunter2" not in str(caught.value)
    assert "ghp_token" not in without_password("cannot read https://ghp_token@github.com/a/b")


def test_git_speaks_the_scheme_of_the_remote_alone(tmp_path: Path, remote: tuple[Path, Path], monkeypatch: Any) -> None:
    """Also where the user's own configuration sends the remote elsewhere, or allows more."""
    bare, work = remote
    commit(work, {"a.sql": "select 1"})
    settings = tmp_path / "gitconfig"
    settings.write_text(
        f'[url "ext::sh -c touch% {tmp_path}/ran "]\n\tinsteadOf = {bare}\n[protocol "ext"]\n\tallow = always\n'
    )
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(settings))
    monkeypatch.setenv("GIT_ALLOW_PROTOCOL", "ext:file")
    with pytest.raises(SaoError, match="ext"):
        Checkout(str(bare), "main", tmp_path / "state").head()
    assert not (tmp_path / "ran").exists()


def test_where_git_was_told_to_work_before_does_not_matter(
    tmp_path: Path, remote: tuple[Path, Path], monkeypatch: Any
) -> None:
    """The variables that git sets for its hooks, from which a service may have been started."""
    bare, work = remote
    head = commit(work, {"a.sql": "select 1"})
    other = tmp_path / "other"
    other.mkdir()
    for name in ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_OBJECT_DIRECTORY", "GIT_NAMESPACE", "GIT_PREFIX"):
        monkeypatch.setenv(name, str(other))
    checkout = Checkout(str(bare), "main", tmp_path / "state")
    assert checkout.head() == head
    assert (checkout.lay_out(head) / "a.sql").read_text() == "select 1"
    assert list(other.iterdir()) == []


def test_nothing_in_the_repository_is_run_or_followed(tmp_path: Path, remote: tuple[Path, Path]) -> None:
    """A submodule, hooks, configuration, filters, and a repository within it: all of it is just files, or nothing."""
    bare, work = remote
    ran = tmp_path / "ran"
    hook = f"#!/bin/sh\ntouch {ran}\n"
    commit(work, {"a.sql": "select 1"}, push=False)
    git(work, "update-index", "--add", "--cacheinfo", f"160000,{git(work, 'rev-parse', 'HEAD')},sub")
    evil = f'[submodule "sub"]\n\tpath = sub\n\turl = ext::sh -c touch% {ran}\n\tupdate = !touch {ran}\n'
    config = (
        f'[core]\n\tbare = true\n\tfsmonitor = touch {ran}\n\thooksPath = hooks\n[filter "x"]\n\tsmudge = touch {ran}\n'
    )
    files = {
        ".gitmodules": evil,
        ".gitattributes": "*.sql filter=x\n",
        ".gitconfig": config,
        "hooks/post-checkout": hook,
        ".githooks/post-checkout": hook,
        "inner.git/HEAD": "ref: refs/heads/main\n",
        "inner.git/config": config,
        "inner.git/objects/info/x": "",
        "inner.git/refs/heads/x": "",
        "inner.git/hooks/post-checkout": hook,
    }
    for name, text in files.items():
        (work / name).parent.mkdir(parents=True, exist_ok=True)
        (work / name).write_text(text)
        (work / name).chmod(0o755)
    git(work, "add", *files)
    git(work, "commit", "--quiet", "--message", "evil")
    git(work, "push", "--quiet", "origin", "HEAD:main")
    for name, text in {
        "hooks/post-upload-pack": hook,
        "hooks/pre-auto-gc": hook,
        "hooks/reference-transaction": hook,
    }.items():
        (bare / name).parent.mkdir(exist_ok=True)
        (bare / name).write_text(text)
        (bare / name).chmod(0o755)
    git(bare, "config", "core.fsmonitor", f"touch {ran}")
    git(bare, "config", "uploadpack.packObjectsHook", f"touch {ran}")
    checkout = Checkout(str(bare), "main", tmp_path / "state")
    folder = checkout.lay_out(checkout.head())
    assert (folder / "a.sql").read_text() == "select 1"
    assert not (folder / "sub").exists() or list((folder / "sub").iterdir()) == []
    assert not (folder / ".git").exists()
    assert not ran.exists()


def test_an_ext_remote_would_have_run(tmp_path: Path) -> None:
    """What the tests above are about does happen where git is not told otherwise."""
    ran = tmp_path / "ran"
    command = ["git", "-c", "protocol.ext.allow=always", "ls-remote", f"ext::sh -c touch% {ran}"]
    subprocess.run(command, env=ENVIRON, capture_output=True, check=False)
    assert ran.exists()
