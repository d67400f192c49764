"""Git hooks on real repositories: what they tell, and that they never block or break git."""

from __future__ import annotations

import http.server
import json
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from sao_events import hooks
from sao_events.core.errors import UsageError
from sao_events.core.events import CodePushed
from sao_events.store import open_store
from tests.repositories import ENVIRON, bare_with_clone, commit, git

PATIENCE = 30.0


def pushes(state_dir: Path, count: int) -> list[CodePushed]:
    """The hints in the log, once there are `count` of them."""
    ends = time.monotonic() + PATIENCE
    while time.monotonic() < ends:
        if (state_dir / "state.db").exists():
            store = open_store(str(state_dir / "state.db"))
            found = [recorded.event for recorded in store.read() if isinstance(recorded.event, CodePushed)]
            store.close()
            if len(found) >= count:
                return found
        time.sleep(0.1)
    raise AssertionError(f"{count} hints did not come")


def test_a_push_to_a_bare_repository_is_in_the_log(tmp_path: Path) -> None:
    bare, work = bare_with_clone(tmp_path)
    installed = hooks.install(bare, state_dir=tmp_path / "state")
    assert [path.name for path in installed] == ["post-receive"]
    pushed = commit(work, {"a.sql": "select 1"})
    assert pushes(tmp_path / "state", 1) == [CodePushed("refs/heads/main", pushed)]


def test_a_commit_in_a_working_repository_is_in_the_log(tmp_path: Path) -> None:
    _, work = bare_with_clone(tmp_path)
    installed = hooks.install(work, state_dir=tmp_path / "state")
    assert [path.name for path in installed] == ["post-commit", "post-merge", "post-checkout", "pre-push"]
    made = commit(work, {"a.sql": "select 1"}, push=False)
    assert pushes(tmp_path / "state", 1)[0] == CodePushed("refs/heads/main", made)


def test_modules_in_the_repository_are_not_imported(tmp_path: Path) -> None:
    _, work = bare_with_clone(tmp_path)
    hooks.install(work, state_dir=tmp_path / "state")
    commit(work, {"yaml.py": "raise SystemExit(9)", "sao_events/__init__.py": "raise SystemExit(9)"}, push=False)
    assert pushes(tmp_path / "state", 1)


def test_the_hook_before_ours_runs_and_decides(tmp_path: Path) -> None:
    bare, work = bare_with_clone(tmp_path)
    before = bare / "hooks" / "post-receive"
    before.parent.mkdir(exist_ok=True)
    before.write_text(f"#!/bin/sh\ncat > {tmp_path}/seen\n")
    before.chmod(0o755)
    hooks.install(bare, state_dir=tmp_path / "state")
    pushed = commit(work, {"a.sql": "select 1"})
    assert (tmp_path / "seen").read_text().split()[1:] == [pushed, "refs/heads/main"]
    assert pushes(tmp_path / "state", 1)


def test_installing_twice_keeps_the_hook_before_ours(tmp_path: Path) -> None:
    bare, _ = bare_with_clone(tmp_path)
    before = bare / "hooks" / "post-receive"
    before.parent.mkdir(exist_ok=True)
    before.write_text("#!/bin/sh\nexit 0\n")
    hooks.install(bare, state_dir=tmp_path / "state")
    hooks.install(bare, state_dir=tmp_path / "state")
    assert (bare / "hooks" / "post-receive.before-sao").read_text() == "#!/bin/sh\nexit 0\n"
    assert hooks.uninstall(bare) == [before]
    assert before.read_text() == "#!/bin/sh\nexit 0\n"
    assert hooks.uninstall(bare) == []


def test_a_service_that_is_away_does_not_hold_git_up(tmp_path: Path) -> None:
    bare, work = bare_with_clone(tmp_path)
    (tmp_path / "token").write_text("secret-token")
    hooks.install(bare, state_dir=tmp_path, url="http://127.0.0.1:1", token_file=tmp_path / "token")
    commit(work, {"a.sql": "select 1"})
    assert git(bare, "rev-parse", "main") == git(work, "rev-parse", "HEAD")


@pytest.fixture
def receiver() -> Iterator[tuple[str, list[tuple[str, str | None, dict[str, str]]]]]:
    received: list[tuple[str, str | None, dict[str, str]]] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            received.append((self.path, self.headers["Authorization"], json.loads(body)))
            self.send_response(202)
            self.end_headers()

        def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002  # its name there
            pass

    server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", received
    server.shutdown()
    thread.join()
    server.server_close()


def test_the_service_is_called_with_the_token(
    tmp_path: Path, receiver: tuple[str, list[tuple[str, str | None, dict[str, str]]]]
) -> None:
    url, received = receiver
    bare, work = bare_with_clone(tmp_path)
    (tmp_path / "token").write_text("secret-token\n")
    hooks.install(bare, state_dir=tmp_path, url=url, token_file=tmp_path / "token")
    assert "secret-token" not in (bare / "hooks" / "post-receive").read_text()
    pushed = commit(work, {"a.sql": "select 1"})
    ends = time.monotonic() + PATIENCE
    while not received and time.monotonic() < ends:
        time.sleep(0.05)
    assert received == [("/events/code", "Bearer secret-token", {"ref": "refs/heads/main", "commit": pushed})]


@pytest.mark.parametrize("shell", ["sh", "dash", "bash"])
def test_the_script_is_posix_shell(tmp_path: Path, shell: str) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"there is no {shell} here")
    _, work = bare_with_clone(tmp_path)
    for path in hooks.install(work, state_dir=tmp_path / "state"):
        assert subprocess.run([shell, "-n", str(path)], check=False).returncode == 0


def test_shellcheck_finds_nothing(tmp_path: Path) -> None:
    if shutil.which("shellcheck") is None:
        pytest.skip("there is no shellcheck here")
    _, work = bare_with_clone(tmp_path)
    for path in hooks.install(work, state_dir=tmp_path / "state"):
        done = subprocess.run(
            ["shellcheck", "--shell=sh", "--severity=warning", str(path)], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout


def test_commit_checkout_merge_and_a_linked_work_tree_are_told(tmp_path: Path) -> None:
    _, work = bare_with_clone(tmp_path)
    first = commit(work, {"a.sql": "select 1"})
    state = tmp_path / "state"
    hooks.install(work, state_dir=state, without=("pre-push",))
    git(work, "checkout", "--quiet", "-b", "side")
    assert pushes(state, 1)[-1] == CodePushed("refs/heads/side", first)
    second = commit(work, {"b.sql": "select 1"}, push=False)
    assert pushes(state, 2)[-1] == CodePushed("refs/heads/side", second)
    git(work, "checkout", "--quiet", "main")
    assert pushes(state, 3)[-1] == CodePushed("refs/heads/main", first)
    git(work, "merge", "--quiet", "side")
    assert CodePushed("refs/heads/main", second) in pushes(state, 4)
    linked = tmp_path / "linked"
    git(work, "worktree", "add", "--quiet", "-b", "other", str(linked))
    seen = len(pushes(state, 5))
    third = commit(linked, {"c.sql": "select 1"}, push=False)
    assert CodePushed("refs/heads/other", third) in pushes(state, seen + 1)


def test_a_shared_folder_of_hooks_acts_for_the_repository_that_it_was_installed_for(tmp_path: Path) -> None:
    shared, names = tmp_path / "shared", ("one", "two")
    works = [tmp_path / name for name in names]
    for work in works:
        git(tmp_path, "init", "--quiet", "--initial-branch=main", str(work))
        git(work, "config", "core.hooksPath", str(shared))
    shared.mkdir()
    (shared / "post-commit").write_text(f"#!/bin/sh\npwd >> {tmp_path}/ran\n")
    (shared / "post-commit").chmod(0o755)
    installed = hooks.install(works[0], state_dir=tmp_path / "state")
    assert {path.parent for path in installed} == {shared.resolve()}
    assert hooks.hooks_folder(works[0]).shared
    commit(works[1], {"a.sql": "select 2"}, push=False)
    made = commit(works[0], {"a.sql": "select 1"}, push=False)
    assert pushes(tmp_path / "state", 1) == [CodePushed("refs/heads/main", made)]
    assert len((tmp_path / "ran").read_text().splitlines()) == 2  # what stood there is for both, as before


def test_refs_that_a_shell_could_take_for_more_are_not_passed_on(tmp_path: Path) -> None:
    bare, work = bare_with_clone(tmp_path)
    hooks.install(bare, state_dir=tmp_path / "state")
    made = commit(work, {"a.sql": "select 1"}, push=False)
    git(work, "push", "--quiet", "origin", f"HEAD:refs/heads/$(touch${{IFS}}{'ran'})", "HEAD:refs/heads/a;b")
    assert pushes(tmp_path / "state", 2) == [CodePushed(None, made)] * 2
    assert not list(tmp_path.rglob("ran"))


# The preview before a push


def previewing(work: Path, state: Path, script: str) -> None:
    """Hooks whose preview is the shell script: what is tested is the hook."""
    [*_, path] = hooks.install(work, state_dir=state)
    assert path.name == "pre-push"
    text = path.read_text()
    start = text.index("    exec ", text.index("show() {"))
    path.write_text(f"{text[:start]}    {script}\n{text[text.index('}', start) :]}")


def push(work: Path, **environ: str) -> str:
    """Push the branch; what was said meanwhile."""
    command = ["git", "-C", str(work), "push", "origin", "HEAD:main"]
    done = subprocess.run(command, capture_output=True, text=True, env=ENVIRON | environ, check=False)
    assert done.returncode == 0, done.stderr
    return done.stderr


def test_a_push_shows_the_preview_of_what_is_pushed(tmp_path: Path) -> None:
    _, work = bare_with_clone(tmp_path)
    previewing(work, tmp_path / "state", 'echo "preview of $commit in ${GIT_DIR-no}"')
    made = commit(work, {"a.sql": "select 1"}, push=False)
    assert f"preview of {made} in no" in push(work)
    assert "preview" not in push(work)  # nothing to push


@pytest.mark.parametrize("script", ["exit 3", "exec sh -c 'kill -9 $$'", "exec /does/not/exist", "exec sleep 600"])
def test_a_preview_that_fails_or_takes_too_long_does_not_keep_the_push(tmp_path: Path, script: str) -> None:
    bare, work = bare_with_clone(tmp_path)
    previewing(work, tmp_path / "state", script)
    made = commit(work, {"a.sql": "select 1"}, push=False)
    assert "the push goes on" in push(work, SAO_PREVIEW="1")
    assert git(bare, "rev-parse", "main") == made


@pytest.mark.parametrize("value", ["0", "off", "no", "$(id)", "-1"])
def test_the_preview_can_be_switched_off(tmp_path: Path, value: str) -> None:
    _, work = bare_with_clone(tmp_path)
    previewing(work, tmp_path / "state", "echo previewed")
    commit(work, {"a.sql": "select 1"}, push=False)
    assert "previewed" not in push(work, SAO_PREVIEW=value)


def test_a_deleted_branch_has_no_preview(tmp_path: Path) -> None:
    bare, work = bare_with_clone(tmp_path)
    commit(work, {"a.sql": "select 1"}, push=False)
    git(work, "push", "--quiet", "origin", "HEAD:main", "HEAD:gone")
    previewing(work, tmp_path / "state", "echo previewed")
    command = ["git", "-C", str(work), "push", "origin", ":gone"]
    done = subprocess.run(command, capture_output=True, text=True, env=ENVIRON, check=True)
    assert "preview" not in done.stderr
    assert git(bare, "branch", "--list", "gone") == ""


def test_a_hook_before_ours_still_refuses_the_push(tmp_path: Path) -> None:
    _, work = bare_with_clone(tmp_path)
    before = work / ".git" / "hooks" / "pre-push"
    before.parent.mkdir(exist_ok=True)
    before.write_text("#!/bin/sh\necho refused >&2\nexit 1\n")
    before.chmod(0o755)
    previewing(work, tmp_path / "state", "echo previewed")
    commit(work, {"a.sql": "select 1"}, push=False)
    command = ["git", "-C", str(work), "push", "origin", "HEAD:main"]
    done = subprocess.run(command, capture_output=True, text=True, env=ENVIRON, check=False)
    assert done.returncode == 1
    assert "refused" in done.stderr
    assert "previewed" not in done.stderr


def test_which_hooks_is_a_choice(tmp_path: Path) -> None:
    _, work = bare_with_clone(tmp_path)
    state = tmp_path / "state"
    installed = hooks.install(work, state_dir=state, without=("pre-push", "post-checkout"))
    assert [path.name for path in installed] == ["post-commit", "post-merge"]
    with pytest.raises(UsageError, match="no hook pre-pull") as caught:
        hooks.install(work, state_dir=state, without=("pre-pull",))
    assert "pre-push" in str(caught.value)
    (tmp_path / "token").write_text("secret")
    elsewhere = hooks.install(work, state_dir=state, url="http://127.0.0.1:1", token_file=tmp_path / "token")
    assert "pre-push" not in [path.name for path in elsewhere]


@pytest.mark.dbt
@pytest.mark.slow
def test_the_preview_of_a_real_push(tmp_path: Path) -> None:
    pytest.importorskip("dbt.cli", reason="dbt is not installed: install the extra [dbt]")
    from tests.dbt_projects import write_project
    from tests.processes import sao

    bare, work = bare_with_clone(tmp_path)
    table = "{{ config(materialized='table') }} "
    reader = table + "select * from {{ ref('a') }}"
    write_project(work, {"models/a.sql": table + "select 1 as id", "models/b.sql": reader, "models/c.sql": reader})
    commit(work, {".gitignore": ".sao/\ntarget/\nlogs/\n*.duckdb\n"})
    assert sao(work, "run").returncode == 0
    assert sao(work, "hooks", "install").returncode == 0
    (work / "models" / "c.sql").unlink()
    made = commit(work, {"models/b.sql": reader + " where id > 0"}, push=False)
    (work / "models" / "a.sql").write_text("not committed {{ nor valid")
    said = push(work, SAO_PREVIEW="100")
    assert f"{made[:10]} would build 1 of 2 nodes, reuse 1, take 1 away" in said
    assert [line.split()[0] for line in said.splitlines() if " build " in line and "would" not in line] == ["b"]
    assert "no longer there: c" in said
    assert git(bare, "rev-parse", "main") == made


def test_what_is_no_repository_says_so(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="not a git repository"):
        hooks.install(tmp_path, state_dir=tmp_path)


def test_url_and_token_belong_together(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="belong together"):
        hooks.install(tmp_path, state_dir=tmp_path, url="http://127.0.0.1:1")
