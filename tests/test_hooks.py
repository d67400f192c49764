"""Git hooks on real repositories: what they tell, and that they never block or break git."""

from __future__ import annotations

import http.server
import json
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from sao_events import hooks
from sao_events.errors import UsageError
from sao_events.events import CodePushed
from sao_events.store import open_store
from tests.repositories import bare_with_clone, commit, git

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
    assert [path.name for path in installed] == ["post-commit", "post-merge", "post-checkout"]
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


def test_the_script_is_posix_shell(tmp_path: Path) -> None:
    bare, _ = bare_with_clone(tmp_path)
    [path] = hooks.install(bare, state_dir=tmp_path)
    assert subprocess.run(["sh", "-n", str(path)], check=False).returncode == 0


def test_what_is_no_repository_says_so(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="not a git repository"):
        hooks.install(tmp_path, state_dir=tmp_path)


def test_url_and_token_belong_together(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="belong together"):
        hooks.install(tmp_path, state_dir=tmp_path, url="http://127.0.0.1:1")
