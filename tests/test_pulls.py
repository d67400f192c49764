"""Previews of pull and merge requests: real git, real dbt, and a git host's API that writes down what it is asked."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from sao_events.core import events as e
from sao_events.core.errors import ConfigError, SaoError
from sao_events.deploy import pulls
from sao_events.git.checkout import Checkout
from sao_events.git.host import check_api, open_host
from sao_events.inputs import github, gitlab
from sao_events.inputs.delivery import Message, Pull
from sao_events.inputs.remote import unwanted
from sao_events.inputs.strict import Malformed
from tests.processes import until
from tests.repositories import bare_with_clone, commit, git
from tests.senders import SIGNING, standard
from tests.web_service import served

TOKEN = "token-of-the-host-0123456789"
HEAD = "a" * 40


class Host:
    """The API of a git host, with its comments; those of `theirs` it lets nobody change."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str, Any]] = []
        self.tokens: set[str] = set()
        self.comments: list[dict[str, Any]] = []
        self.theirs: set[int] = set()
        self.redirect = ""

    def answer(self, method: str, path: str, body: Any) -> tuple[int, Any]:
        """The status and the JSON for a request."""
        self.asked.append((method, path, body))
        if self.redirect:
            return 302, None
        if method == "GET":
            page = int(path.rpartition("page=")[2])
            return 200, self.comments[100 * (page - 1) : 100 * page]
        if method in ("PATCH", "PUT"):
            number = int(path.rpartition("/")[2])
            if number in self.theirs:
                return 403, {"message": "no"}
            self.comments = [one | body if one["id"] == number else one for one in self.comments]
        elif "statuses" not in path:
            self.comments.append({"id": len(self.comments) + 1, **body})
        return 201, {}


@pytest.fixture
def host() -> Iterator[tuple[Host, str]]:
    found = Host()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            length = int(self.headers.get("content-length") or 0)
            body = json.loads(self.rfile.read(length)) if length else None
            found.tokens.add(self.headers.get("authorization") or self.headers.get("private-token") or "")
            status, answer = found.answer(self.command, self.path, body)
            data = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("location", found.redirect)
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_POST = do_PATCH = do_PUT = do_GET  # noqa: N815  # their names there

        def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002  # its name there
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield found, f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def told(host: Host, method: str) -> list[tuple[str, Any]]:
    return [(path, body) for how, path, body in host.asked if how == method]


def test_github_is_told_by_a_status_and_one_comment(host: tuple[Host, str]) -> None:
    api, url = host
    at = open_host("github", "git@github.com:Acme/Shop.git", url, TOKEN)
    at.status(HEAD, "success", "sao-events/prod", "x" * 200, "https://sao.example")
    [(path, body)] = told(api, "POST")
    assert path == f"/repos/Acme/Shop/statuses/{HEAD}"
    assert body == {
        "state": "success",
        "context": "sao-events/prod",
        "description": "x" * 140,
        "target_url": "https://sao.example",
    }
    api.comments = [{"id": number, "body": "hello"} for number in range(1, 151)]
    at.comment(7, "<!-- mark -->", "<!-- mark --> one")
    at.comment(7, "<!-- mark -->", "<!-- mark --> two")
    at.comment(7, "<!-- mark -->", "<!-- mark --> two")
    assert [one["body"] for one in api.comments if "mark" in one["body"]] == ["<!-- mark --> two"]
    assert told(api, "PATCH") == [("/repos/Acme/Shop/issues/comments/151", {"body": "<!-- mark --> two"})]
    assert told(api, "POST")[1][0] == "/repos/Acme/Shop/issues/7/comments"
    assert api.tokens == {f"Bearer {TOKEN}"}


def test_gitlab_is_told_by_a_status_and_one_note(host: tuple[Host, str]) -> None:
    api, url = host
    at = open_host("gitlab", "https://gitlab.example/data/team/shop.git", url, TOKEN)
    at.status(HEAD, "failure", "sao-events/prod", "refused", None)
    assert told(api, "POST") == [
        (
            f"/projects/data%2Fteam%2Fshop/statuses/{HEAD}",
            {"state": "failed", "name": "sao-events/prod", "description": "refused"},
        )
    ]
    at.comment(7, "<!-- mark -->", "<!-- mark --> one")
    at.comment(7, "<!-- mark -->", "<!-- mark --> two")
    assert told(api, "PUT") == [
        ("/projects/data%2Fteam%2Fshop/merge_requests/7/notes/1", {"body": "<!-- mark --> two"})
    ]
    assert api.tokens == {TOKEN}


def test_a_comment_that_is_somebody_elses_is_left_alone(host: tuple[Host, str]) -> None:
    api, url = host
    api.comments, api.theirs = [{"id": 1, "body": "<!-- mark --> theirs"}], {1}
    open_host("github", "https://github.com/acme/shop", url, TOKEN).comment(7, "<!-- mark -->", "<!-- mark --> ours")
    assert [one["body"] for one in api.comments] == ["<!-- mark --> theirs", "<!-- mark --> ours"]


def test_a_redirection_is_not_followed_and_the_token_is_in_no_error(host: tuple[Host, str]) -> None:
    api, url = host
    api.redirect = f"{url}/elsewhere"
    with pytest.raises(SaoError, match="answers 302") as caught:
        open_host("github", "https://github.com/acme/shop", url, TOKEN).comment(7, "m", "m")
    assert [path for _, path, _ in api.asked] == ["/repos/acme/shop/issues/7/comments?per_page=100&page=1"]
    assert TOKEN not in str(caught.value)


@pytest.mark.parametrize(
    "api", ["http://api.example", "https://me:x@api", "ftp://x", "https://", "//x", "https://a?b", ""]
)
def test_addresses_that_are_no_safe_api(api: str) -> None:
    with pytest.raises(ConfigError):
        check_api(api)


def test_the_api_of_an_unknown_host_must_be_configured() -> None:
    with pytest.raises(ConfigError, match=r"git\.example"):
        open_host("gitlab", "https://git.example/a/b.git", None, TOKEN)


# What is asked for


def pull_request(**changes: Any) -> dict[str, Any]:
    side = {"repo": {"full_name": "acme/shop"}}
    request = {"head": {**side, "sha": HEAD, "ref": "x"}, "base": {**side, "ref": "main"}}
    repository = {"full_name": "acme/shop", "clone_url": "https://github.com/acme/shop.git"}
    return {"action": "opened", "number": 7, "pull_request": request, "repository": repository, **changes}


def read_github(payload: Any) -> Any:
    headers = {"x-github-event": "pull_request", "content-type": "application/json"}
    return github.read(Message(headers=headers, body=json.dumps(payload).encode()), 0.0)


def test_a_pull_request_of_github() -> None:
    assert read_github(pull_request()).pull == Pull(7, HEAD, "main", fork=False)
    assert read_github(pull_request(action="labeled")).ignored
    forked = pull_request()
    forked["pull_request"]["head"]["repo"] = {"full_name": "stranger/shop"}
    assert read_github(forked).pull.fork
    forked["pull_request"]["head"]["repo"] = None
    assert read_github(forked).pull.fork


@pytest.mark.parametrize("number", [0, -1, True, "7", 10**10, 1.5, None, [], "7; touch x"])
def test_numbers_that_are_none(number: Any) -> None:
    with pytest.raises(Malformed):
        read_github(pull_request(number=number))


@pytest.mark.parametrize("sha", ["--upload-pack=x", "A" * 40, "a" * 39, "", None, 7, ["a"]])
def test_commits_that_are_none(sha: Any) -> None:
    payload = pull_request()
    payload["pull_request"]["head"]["sha"] = sha
    with pytest.raises(Malformed):
        read_github(payload)


def merge_request(**changes: Any) -> dict[str, Any]:
    request = {
        "iid": 9,
        "action": "open",
        "target_branch": "main",
        "source_project_id": 1,
        "target_project_id": 1,
        "last_commit": {"id": HEAD},
    }
    project = {"path_with_namespace": "acme/shop", "web_url": "https://gitlab.example/acme/shop"}
    return {"object_kind": "merge_request", "project": project, "object_attributes": {**request, **changes}}


def test_a_merge_request_of_gitlab() -> None:
    def read(**changes: Any) -> Any:
        body = json.dumps(merge_request(**changes)).encode()
        return gitlab.read(Message(headers={"content-type": "application/json"}, body=body), 0.0)

    assert read().pull == Pull(9, HEAD, "main", fork=False)
    assert read(source_project_id=2).pull.fork
    assert read(action="update").ignored
    assert read(action="update", oldrev="b" * 40).pull
    assert read(action="merge").ignored


def test_which_requests_have_a_preview() -> None:
    said, remote = read_github(pull_request()), "git@github.com:acme/shop.git"
    assert unwanted(said, remote, "main", forks=False) is None
    assert unwanted(said, remote, "release", forks=False) == "only what is to be merged into release is looked at"
    assert unwanted(said, "https://github.com/other/shop", "main", forks=False) == "another repository is deployed"
    forked = pull_request()
    forked["pull_request"]["head"]["repo"] = None
    assert "forks" in (unwanted(read_github(forked), remote, "main", forks=False) or "")
    assert unwanted(read_github(forked), remote, "main", forks=True) is None


# Git


@pytest.mark.parametrize("ref", ["refs/heads/main", "refs/pull/1/merge", "refs/pull/../head", "refs/pull/0/head", "-x"])
def test_refs_that_are_no_request(tmp_path: Path, ref: str) -> None:
    with pytest.raises(SaoError, match="not the ref"):
        Checkout("/srv/x", "main", tmp_path).pull(ref)


def test_a_link_out_of_the_repository_is_laid_out_as_text(tmp_path: Path) -> None:
    bare, work = bare_with_clone(tmp_path)
    (tmp_path / "secret").write_text("hunter2")
    (work / "models").mkdir()
    (work / "models" / "x.sql").symlink_to(tmp_path / "secret")
    commit(work, {"a.sql": "select 1"})
    checkout = Checkout(str(bare), "main", tmp_path / "state", links=False)
    folder = checkout.lay_out(checkout.head())
    assert not (folder / "models" / "x.sql").is_symlink()
    assert "hunter2" not in (folder / "models" / "x.sql").read_text()


def test_names_and_errors_cannot_write_markdown() -> None:
    assert pulls.code("a`b<script>|@all") == "`abscriptall`"
    made = pulls.refused("prod", HEAD, "x", "```\nescaped", "/srv/state")
    assert made.comment.count("```") == 2
    assert "escaped" not in pulls.refused("prod", HEAD, "x", "", "/srv/state").comment


# All of it


@contextmanager
def deployed(tmp_path: Path, url: str, forks: str = "false") -> Iterator[tuple[Path, Any]]:
    """The shop, deployed and built by a service with previews, and the clone that pushes to it."""
    from tests.test_service import Deployed, rest, running

    shop = Deployed(tmp_path)
    (tmp_path / "token").write_text(TOKEN)
    config = shop.folder / "sao.yml"
    (tmp_path / "signing").write_text(SIGNING)
    more = f"previews: {{token: {{file: {tmp_path}/token}}, api: '{url}', forks: {forks}}}\n"
    hook = f"provider: gitlab, secrets: [{{file: {tmp_path}/signing}}], repository: 'https://gitlab.example/acme/shop'"
    more += f"webhooks: {{gitlab: {{{hook}}}}}\n"
    config.write_text(config.read_text() + more)
    with running(shop.folder) as service:
        rest(service)
        yield shop.work, service


def request(work: Path, number: int, files: dict[str, str | None], base: str = "main", kind: str = "pull") -> str:
    """A branch with these files, pushed as the pull request (or what `kind` calls it) `number`; its head."""
    git(work, "checkout", "--quiet", "-B", f"request-{number}", base)
    for name, text in files.items():
        (work / name).unlink() if text is None else (work / name).write_text(text)
    head = commit(work, {}, push=False)
    git(work, "push", "--quiet", "--force", "origin", f"HEAD:refs/{kind}/{number}/head")
    git(work, "checkout", "--quiet", "main")
    return head


def ask(service: Any, number: int, head: str, *, fork: bool = False) -> e.PreviewMade:
    """Ask for a preview and wait for it."""
    from sao_events.ports import Draft

    [asked] = service.submit([Draft(e.PreviewAsked(number, head, "github", fork), service.clock.now())]).result()
    return made_after(service, asked.seq)


def made_after(service: Any, seq: int) -> e.PreviewMade:
    """The preview that is made after this place in the log."""

    def made() -> e.PreviewMade | None:
        found = service.store.find(["PreviewMade"], limit=1)
        return found[0].event if found and found[0].seq > seq else None

    event: e.PreviewMade = until(made, "the preview")
    return event


@pytest.mark.dbt
@pytest.mark.slow
def test_a_pull_request_is_previewed_on_the_record_and_told(tmp_path: Path, host: tuple[Host, str]) -> None:
    pytest.importorskip("dbt.cli", reason="dbt is not installed: install the extra [dbt]")
    api, url = host
    table = "{{ config(materialized='table') }} select * from {{ ref('t_a') }}"
    with deployed(tmp_path, url) as (work, service):
        head = request(work, 7, {"models/more.sql": table})
        made = ask(service, 7, head)
        assert (made.commit, made.error) == (head, None)
        assert made.summary == "would build 1 of 3 nodes, reuse 2"
        [status] = [(path, body) for path, body in told(api, "POST") if "statuses" in path]
        assert status[0].endswith(f"/statuses/{head}")
        assert (status[1]["state"], status[1]["context"]) == ("success", f"sao-events/{service.config.environment}")
        assert "`more` | never built" in api.comments[0]["body"]
        assert "`t_a`" not in api.comments[0]["body"]

        head = request(work, 7, {"models/more.sql": "select * from {{ ref('nowhere') }}"})
        assert ask(service, 7, head).summary == "dbt refuses this code"
        assert "nowhere" in api.comments[0]["body"]
        assert str(tmp_path) not in api.comments[0]["body"]
        assert ask(service, 7, head, fork=True).summary == "dbt refuses this code"
        assert "nowhere" not in api.comments[0]["body"]
        assert len(api.comments) == 1

        clash = request(work, 8, {"models/t_a.sql": "select 1 as id"})
        commit(work, {"models/t_a.sql": "{{ config(materialized='table') }} select 2 as id"})
        ask(service, 8, clash)
        assert "does not merge with main" in api.comments[-1]["body"]
        assert [it.event for it in service.store.find(["ProjectRejected"])] == []

        api.comments, before = [], service.store.last()
        path = f"/projects/{quote(str(tmp_path / 'shop').strip('/'), safe='')}"
        head = request(work, 9, {"models/more.sql": table}, kind="merge-requests")
        body = json.dumps(merge_request(last_commit={"id": head})).encode()
        headers = {"content-type": "application/json", "x-gitlab-event": "Merge Request Hook"}
        with served(service) as client:
            wrong = headers | standard(SIGNING, b"{}", service.clock.now())
            assert client.post("/webhooks/gitlab", content=body, headers=wrong).status_code == 401
            headers |= standard(SIGNING, body, service.clock.now())
            assert client.post("/webhooks/gitlab", content=body, headers=headers).status_code == 202
            made = made_after(service, before)
            assert client.post("/webhooks/gitlab", content=body, headers=headers).status_code == 200
        assert (made.number, made.commit, made.error) == (9, head, None)
        assert "would build" in (made.summary or "")
        posted = [(at, it["state"], it["description"]) for at, it in told(api, "POST") if "state" in it]
        assert posted[-1] == (f"{path}/statuses/{head}", "success", made.summary)
        assert "`more` | never built" in api.comments[0]["body"]
        assert told(api, "POST")[-1][0] == f"{path}/merge_requests/9/notes"
        assert TOKEN in api.tokens


@pytest.mark.dbt
@pytest.mark.slow
def test_the_code_of_a_request_sees_no_secret_and_what_cannot_be_told_is_on_record(
    tmp_path: Path, host: tuple[Host, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("dbt.cli", reason="dbt is not installed: install the extra [dbt]")
    api, url = host
    monkeypatch.setenv("DBT_ENV_SECRET_PASSWORD", "hunter2")
    with deployed(tmp_path, url) as (work, service):
        leak = "{{ exceptions.raise_compiler_error('got ' ~ env_var('DBT_ENV_SECRET_PASSWORD', 'nothing')) }}"
        ask(service, 9, request(work, 9, {"models/leak.sql": leak}))
        assert "hunter2" not in json.dumps(api.comments)
        (tmp_path / "token").unlink()
        made = ask(service, 9, request(work, 9, {"models/fine.sql": "select 1 as id"}))
        assert made.summary is not None
        assert "token" in (made.error or "")
        gone = ask(service, 404, HEAD)
        assert "refs/pull/404/head" in (gone.error or "")


def test_a_signed_webhook_asks_for_a_preview_once(tmp_path: Path) -> None:
    import hmac
    from dataclasses import replace
    from hashlib import sha256

    from sao_events.config import PreviewConfig, Secret
    from tests.web_service import SECRET, Service

    def post(client: Any, payload: Any) -> Any:
        body = json.dumps(payload).encode()
        headers = {
            "x-github-event": "pull_request",
            "content-type": "application/json",
            "x-hub-signature-256": f"sha256={hmac.new(SECRET.encode(), body, sha256).hexdigest()}",
        }
        return client.post("/webhooks/github", content=body, headers=headers)

    service = Service(tmp_path)
    with served(service) as client:
        assert "not switched on" in post(client, pull_request()).json()["ignored"]
    service.config = replace(service.config, previews=PreviewConfig(Secret(env="SAO_TEST_TOKEN")))
    stranger = pull_request()
    stranger["pull_request"]["head"]["repo"] = {"full_name": "stranger/shop"}
    with served(service) as client:
        assert post(client, pull_request(action="reopened")).status_code == 202
        assert post(client, pull_request()).status_code == 200
        assert "forks" in post(client, stranger).json()["ignored"]
        unsigned = client.post("/webhooks/github", json=pull_request(), headers={"x-github-event": "pull_request"})
        assert unsigned.status_code == 401
    asked = [it.event for it in service.store.read() if isinstance(it.event, e.PreviewAsked)]
    assert asked == [e.PreviewAsked(7, HEAD, "github")]
