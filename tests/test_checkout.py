"""Checkouts of a real remote: heads, clean folders, and everything that must never reach git."""

from __future__ import annotations

from pathlib import Path

import pytest

from sao_events.checkout import KEEP, Checkout, check_branch, check_remote
from sao_events.errors import ConfigError, SaoError
from tests.repositories import bare_with_clone, commit, git


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
