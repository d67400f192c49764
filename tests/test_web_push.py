"""A real push, told by a signed webhook to the real service: fetched from the configured remote, deployed and built."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests import senders
from tests.dbt_projects import write_project
from tests.nightly import by_night
from tests.processes import Served, configure, served, until
from tests.repositories import bare_with_clone, commit, git
from tests.senders import SIGNING, ZERO

pytest.importorskip("dbt.cli", reason="dbt is not installed: install the extra [dbt]")
pytestmark = [pytest.mark.dbt, pytest.mark.slow]

MODEL = "{{{{ config(materialized='table') }}}} select {} as one"
CONFIG = """
git: {{remote: {bare}, branch: main, poll: 1h}}
webhooks:
  lab:
    provider: gitlab
    secrets: [{{file: signing}}]
    repository: acme/shop
"""


class Host:
    """A repository with a project, and the host of it, which tells the service of each push."""

    def __init__(self, folder: Path) -> None:
        self.bare, self.work = bare_with_clone(folder)
        self.folder = folder / "service"
        self.folder.mkdir()
        write_project(self.work, {"models/a.sql": MODEL.format(1), ".gitignore": "target\nlogs\n"})
        profiles = self.work / "profiles.yml"
        profiles.write_text(profiles.read_text().replace("warehouse.duckdb", str(self.folder / "warehouse.duckdb")))
        configure(self.folder, CONFIG.format(bare=self.bare))
        (self.folder / "signing").write_text(SIGNING)
        self.first = commit(self.work, {})

    def push(self, *, back_to: str | None = None, **models: str) -> tuple[str, str]:
        """Push models, or move the branch back to a commit; what the branch was at, and what it is at."""
        before = git(self.bare, "rev-parse", "main")
        if back_to is not None:
            git(self.work, "reset", "--quiet", "--hard", back_to)
            git(self.work, "push", "--quiet", "--force", "origin", "HEAD:main")
            return before, back_to
        return before, commit(self.work, {f"models/{name}.sql": text for name, text in models.items()})

    def tell(self, service: Served, moved: tuple[str, str], identity: str, **change: Any) -> httpx.Response:
        """The webhook of a push, as GitLab signs and sends it."""
        content = {**senders.payload("gitlab"), "before": moved[0], "after": moved[1], **change}
        body = json.dumps(content).encode()
        headers = {"content-type": "application/json", "x-gitlab-event": "Push Hook", "idempotency-key": identity}
        headers |= senders.standard(SIGNING, body, time.time(), identity)
        return service.client.post(f"{service.url}/webhooks/lab", content=body, headers=headers)


@pytest.fixture
def host(tmp_path: Path) -> Host:
    if shutil.which("git") is None:
        pytest.skip("there is no git")
    return Host(tmp_path)


def deployed(service: Served, commit_id: str) -> Any:
    """Wait until this commit is in force and nothing is due."""
    return until(lambda: service.status()["commit"] == commit_id and service.at_rest(), f"{commit_id}\n{service.log}")


def test_a_push_is_deployed_and_built_once_it_is_told(host: Host) -> None:
    with served(host.folder) as service:
        deployed(service, host.first)
        second = host.push(a=MODEL.format(2))
        answer = host.tell(service, second, "msg_1")
        assert answer.status_code == 202, answer.text
        assert host.tell(service, second, "msg_1").status_code == 200
        deployed(service, second[1])
        builds = [event["data"]["node"] for event in service.events("NodeBuilt")]
        assert builds == ["model.tiny.a"] * 2
        assert len(service.events("CodePushed")) == 1

        ignored = [
            host.tell(service, second, "msg_2", ref="refs/heads/next"),
            host.tell(service, second, "msg_3", ref="refs/tags/main"),
            host.tell(service, (second[1], ZERO), "msg_4"),
            host.tell(service, second, "msg_5", project={"path_with_namespace": "acme/other"}),
        ]
        assert [it.json().get("ignored") is not None for it in ignored] == [True] * 4
        assert host.tell(service, (ZERO, "e" * 40), "msg_6", object_kind="note").status_code == 200
        assert len(service.events("CodePushed")) == 1


@by_night
def test_a_branch_that_goes_back_and_forth_is_followed_though_the_host_says_the_same_twice(host: Host) -> None:
    with served(host.folder) as service:
        deployed(service, host.first)
        there = host.push(a=MODEL.format(2))
        assert host.tell(service, there, "msg_1").status_code == 202
        deployed(service, there[1])
        assert host.tell(service, host.push(back_to=host.first), "msg_2").status_code == 202
        deployed(service, host.first)
        again = host.push(back_to=there[1])
        assert again == there
        assert host.tell(service, again, "msg_3").json()["events"] == [{"seq": None, "duplicate": True}]
        deployed(service, there[1])
