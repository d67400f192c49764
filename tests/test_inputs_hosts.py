"""Each git host: what its messages say, by real payloads and by written ones; what is not as it should be."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any
from urllib.parse import quote_plus

import pytest

from sao_events.core.errors import UsageError
from sao_events.core.events import CodePushed
from sao_events.inputs.delivery import Message, Push, Repository, Said
from sao_events.inputs.git import is_commit, is_ref
from sao_events.inputs.providers import PROVIDERS
from sao_events.inputs.remote import wanted
from sao_events.inputs.strict import Malformed, UnknownForm
from tests.senders import EVENTS, FORM, PUSHES, REMOTES, ZERO, A, B, message, payload
from tests.test_inputs_github import SHARED

HOSTS = [name for name, provider in PROVIDERS.items() if provider.kind == "git"]


def read(provider: str, content: Any, **change: str | None) -> Said:
    return PROVIDERS[provider].read(message(provider, content, **change), 0.0)


def test_there_is_a_sender_for_every_host() -> None:
    assert set(HOSTS) == set(PUSHES) == set(EVENTS)


def test_every_host_has_its_set_up_in_the_manual() -> None:
    manual = (Path(__file__).parent.parent / "docs" / "WEBHOOKS.md").read_text(encoding="utf-8")
    for name in HOSTS:
        assert f"## {PROVIDERS[name].title}\n\n`provider: {name}`" in manual


# Pushes


@pytest.mark.parametrize("provider", HOSTS)
def test_a_push_is_read(provider: str) -> None:
    said = read(provider, payload(provider))
    [push] = said.pushes
    assert (push.ref, push.before, push.after) == ("refs/heads/main", A, B)
    assert (push.created, push.deleted, push.forced or False) == (False, False, False)
    assert push.files in (None, ("models/a.sql", "models/b.sql"), ())
    assert said.delivery
    assert said.ignored is None
    remote = REMOTES.get(provider, "ssh://git@git.example:2222/acme/shop")
    assert wanted(said, remote, "main") == (said.pushes, None)
    assert wanted(said, "https://git.example/acme/other", "main")[0] == ()
    assert wanted(said, remote, "next")[1] == "only the branch next is deployed"
    draft = push.draft(provider, said.repository, 5.0, "webhook hub")
    assert draft.event == CodePushed("refs/heads/main", B, push.files or ())
    assert draft.key is not None
    assert draft.key.startswith(f"{provider}/")


@pytest.mark.parametrize("provider", ["github", "gitea", "forgejo", "gogs"])
def test_a_push_may_come_as_a_form(provider: str) -> None:
    body = json.dumps(payload(provider)).encode()
    form = b"payload=" + quote_plus(body).encode()
    assert read(provider, form, content_type=FORM) == read(provider, body)


@pytest.mark.parametrize("provider", HOSTS)
@pytest.mark.parametrize("kind", [None, "text/plain", "multipart/form-data; boundary=x", "application/xml"])
def test_other_media_types_are_refused(provider: str, kind: str | None) -> None:
    with pytest.raises(UnknownForm):
        read(provider, payload(provider), content_type=kind)


def moved(provider: str, ref: str, before: str, after: str) -> Any:
    """A push in which this moved so."""
    found = payload(provider)
    if provider == "bitbucket_cloud":
        kind, name = ("tag", ref[10:]) if ref.startswith("refs/tags/") else ("branch", ref[11:])
        ends = [
            None if end == ZERO else {"type": kind, "name": name, "target": {"hash": end}} for end in (before, after)
        ]
        found["push"]["changes"][0] |= {"old": ends[0], "new": ends[1]}
    elif provider == "bitbucket_dc":
        found["changes"][0] |= {"ref": {"id": ref}, "fromHash": before, "toHash": after}
    elif provider == "azure_devops":
        found["resource"]["refUpdates"][0] = {"name": ref, "oldObjectId": before, "newObjectId": after}
    else:
        found |= {"ref": ref, "before": before, "after": after, "created": before == ZERO, "deleted": after == ZERO}
    return found


@pytest.mark.parametrize("provider", HOSTS)
def test_a_branch_is_created_and_deleted(provider: str) -> None:
    [created] = read(provider, moved(provider, "refs/heads/main", ZERO, B)).pushes
    assert (created.created, created.deleted, created.before) == (True, False, ZERO)
    said = read(provider, moved(provider, "refs/heads/main", A, ZERO))
    [deleted] = said.pushes
    assert (deleted.created, deleted.deleted, deleted.after) == (False, True, ZERO)
    assert wanted(said, None, "main") == ((), "the ref was deleted")


@pytest.mark.parametrize("provider", HOSTS)
def test_a_tag_of_the_branchs_name_is_no_branch(provider: str) -> None:
    said = read(provider, moved(provider, "refs/tags/main", ZERO, B))
    assert [push.ref for push in said.pushes] == ["refs/tags/main"]
    assert wanted(said, None, "main") == ((), "only branches are deployed")


@pytest.mark.parametrize("provider", HOSTS)
def test_ids_of_sha_256_repositories_are_read(provider: str) -> None:
    [push] = read(provider, moved(provider, "refs/heads/main", "a" * 64, "b" * 64)).pushes
    assert (push.before, push.after) == ("a" * 64, "b" * 64)


@pytest.mark.parametrize("provider", HOSTS)
@pytest.mark.parametrize("commit", ["a" * 39, "a" * 41, "A" * 40, "main", "", "--output=x", None, 7])
def test_what_is_no_commit_is_malformed(provider: str, commit: Any) -> None:
    with pytest.raises(Malformed):
        read(provider, moved(provider, "refs/heads/main", A, commit))


BAD_BRANCHES = ["../../x", "a b", "$(id)\n", "@{u}", "a..b", "a\x00b", "x" * 5000, ".hidden", "a.lock", "a~1", "a:b"]


@pytest.mark.parametrize("provider", HOSTS)
@pytest.mark.parametrize("branch", BAD_BRANCHES)
def test_what_git_would_not_take_as_a_ref_is_malformed(provider: str, branch: str) -> None:
    with pytest.raises(Malformed):
        read(provider, moved(provider, f"refs/heads/{branch}", A, B))


@pytest.mark.parametrize("provider", [name for name in HOSTS if name != "bitbucket_cloud"])
@pytest.mark.parametrize("ref", ["HEAD", "main", "--upload-pack=touch /tmp/pwned", "heads/main", ""])
def test_a_short_ref_is_malformed(provider: str, ref: str) -> None:
    with pytest.raises(Malformed):
        read(provider, moved(provider, ref, A, B))


# Several changes, and none


def test_of_several_changes_those_of_the_branch_count() -> None:
    changes = [
        {"old": None, "new": {"type": "annotated_tag", "name": "main", "target": {"hash": B}}},
        {"old": {"type": "branch", "name": "old", "target": {"hash": A}}, "new": None, "closed": True},
        {
            "old": {"type": "named_branch", "name": "main", "target": {"hash": A}},
            "new": {"type": "named_branch", "name": "main", "target": {"hash": B}},
            "forced": True,
        },
    ]
    said = read("bitbucket_cloud", payload("bitbucket_cloud") | {"push": {"changes": changes}})
    assert [push.ref for push in said.pushes] == ["refs/tags/main", "refs/heads/old", "refs/heads/main"]
    pushes, reason = wanted(said, None, "main")
    assert reason is None
    assert [(push.ref, push.forced) for push in pushes] == [("refs/heads/main", True)]


@pytest.mark.parametrize(
    ("provider", "place"), [("bitbucket_cloud", "push"), ("bitbucket_dc", ""), ("azure_devops", "resource")]
)
def test_no_change_asks_for_nothing(provider: str, place: str) -> None:
    content = payload(provider)
    block = content[place] if place else content
    block["refUpdates" if place == "resource" else "changes"] = []
    said = read(provider, content)
    assert said.pushes == ()
    assert wanted(said, None, "main") == ((), "nothing was pushed")


def test_both_ends_missing_is_malformed() -> None:
    for ends in ({"old": None, "new": None}, {}):
        with pytest.raises(Malformed):
            read("bitbucket_cloud", payload("bitbucket_cloud") | {"push": {"changes": [ends]}})


def test_a_mirror_that_brought_too_much_means_that_something_changed() -> None:
    content = payload("bitbucket_dc") | {"changes": [], "refLimitExceeded": True}
    said = read("bitbucket_dc", content, x_event_key="mirror:repo_synchronized")
    [push] = said.pushes
    assert (push.ref, push.before, push.after) == (None, None, None)
    assert wanted(said, "https://git.example/scm/acme/shop.git", "main") == (said.pushes, None)
    assert push.draft("bitbucket_dc", said.repository, 0.0, "x").event == CodePushed()
    later = read("bitbucket_dc", content | {"date": "2026-03-02"}, x_event_key="mirror:repo_synchronized").pushes[0]
    keys = {it.draft("bitbucket_dc", said.repository, 0.0, "x").key for it in (push, later)}
    assert len(keys) == 2


@pytest.mark.parametrize("resource", [None, {}, {"id": "1"}, {"pushId": 14, "url": "https://dev.azure.com/x"}])
def test_an_azure_message_without_details_means_that_something_changed(resource: Any) -> None:
    said = read("azure_devops", payload("azure_devops") | {"resource": resource})
    assert [push.ref for push in said.pushes] == [None]
    assert wanted(said, "https://dev.azure.com/acme/shop/_git/shop", "main") == (said.pushes, None)


# Other events


@pytest.mark.parametrize(
    ("provider", "header", "event"),
    [
        ("github", "x_github_event", "ping"),
        ("github", "x_github_event", "create"),
        ("github", "x_github_event", "delete"),
        ("bitbucket_cloud", "x_event_key", "pullrequest:created"),
        ("bitbucket_dc", "x_event_key", "pr:opened"),
        ("gitea", "x_gitea_event", "create"),
        ("forgejo", "x_forgejo_event", "delete"),
        ("gogs", "x_gogs_event", "release"),
    ],
)
def test_other_events_are_ignored_with_a_reason(provider: str, header: str, event: str) -> None:
    said = read(provider, {"anything": [1]}, **{header: event})
    assert said.ignored
    assert not said.pushes


def test_other_kinds_in_the_body_are_ignored() -> None:
    assert read("gitlab", {"object_kind": "note"}).ignored
    assert read("gitlab", {"event_name": "project_create"}).ignored
    assert read("azure_devops", {"eventType": "build.complete", "id": "1"}).ignored


def test_a_system_hook_of_gitlab_is_read() -> None:
    content = payload("gitlab")
    del content["object_kind"]
    assert read("gitlab", content).pushes == read("gitlab", payload("gitlab")).pushes


@pytest.mark.parametrize("provider", [name for name in HOSTS if name not in ("gitlab", "azure_devops")])
@pytest.mark.parametrize("event", [None, ""])
def test_without_the_header_of_the_event_nothing_is_read(provider: str, event: str | None) -> None:
    with pytest.raises(Malformed, match="missing"):
        read(provider, payload(provider), **{EVENTS[provider][0].replace("-", "_"): event})


def test_the_button_that_tests_a_connection_is_answered() -> None:
    said = PROVIDERS["bitbucket_dc"].read(message("bitbucket_dc", {"test": True}, x_event_key="diagnostics:ping"), 0.0)
    assert said.answer is not None
    assert (said.answer.status, said.pushes) == (200, ())


def test_ids_that_stay_the_same_when_it_is_sent_again_are_taken() -> None:
    body = payload("gitlab")
    again = {"x_gitlab_event_uuid": "shared by several hooks", "x_gitlab_webhook_uuid": "of this attempt"}
    assert read("gitlab", body, **again).delivery == "d1"
    assert read("gitlab", body, webhook_id="msg_9", **again).delivery == "msg_9"
    azure = payload("azure_devops")
    assert read("azure_devops", azure).delivery == f"{azure['subscriptionId']}/7"
    del azure["notificationId"]
    assert read("azure_devops", azure).delivery == azure["id"]


# Anything may be in a payload


ODD: list[Any] = [None, "", [], {}, 0, -1, 1.5, "boom", True, [{}], ["x"], {"a": 1}, "x" * 100_000, 2**70]
HUGE: list[Any] = [["x"] * 100_000, {str(number): number for number in range(20_000)}]


def mutations(content: Any, odds: Sequence[Any] = (*ODD, *HUGE)) -> Iterator[tuple[str, Any]]:
    """The content with each value in it removed, retyped or made enormous, one at a time, and where that was."""

    def places(value: Any, path: tuple[Any, ...]) -> Iterator[tuple[Any, ...]]:
        items = value.items() if isinstance(value, dict) else enumerate(value[:2]) if isinstance(value, list) else ()
        for key, inner in items:
            yield (*path, key)
            yield from places(inner, (*path, key))

    for path in places(content, ()):
        for odd in (*odds, "removed"):
            changed = deepcopy(content)
            block = changed
            for key in path[:-1]:
                block = block[key]
            if odd == "removed":
                del block[path[-1]]
            else:
                block[path[-1]] = odd
            yield f"{path} = {str(odd)[:20]}", changed


def survives(provider: str, content: Any, what: str, **change: str | None) -> str:
    """Read, decide and draft: the outcome is one that we know, whatever is in it."""
    try:
        said = read(provider, content, **change)
        pushes, reason = wanted(said, "https://git.example/acme/shop", "main")
        for push in pushes:
            push.draft(provider, said.repository, 0.0, "webhook hub")
            assert push.ref is None or (is_ref(push.ref) and is_commit(push.after or "")), what
    except UsageError:
        return "refused"
    return "ignored" if reason or said.ignored else "pushed"


@pytest.mark.parametrize("provider", [name for name in HOSTS if name not in ("forgejo", "gogs")])
def test_any_field_may_be_anything(provider: str) -> None:
    outcomes = {what: survives(provider, content, what) for what, content in mutations(payload(provider))}
    needed = {
        "github": ["('ref',)", "('before',)", "('after',)", "('repository',)", "('repository', 'full_name')"],
        "gitlab": ["('ref',)", "('before',)", "('after',)", "('project',)", "('project', 'path_with_namespace')"],
        "bitbucket_cloud": ["('push',)", "('push', 'changes')", "('repository',)", "('repository', 'full_name')"],
        "bitbucket_dc": ["('repository',)", "('repository', 'slug')", "('changes',)", "('changes', 0, 'toHash')"],
        "gitea": ["('ref',)", "('before',)", "('after',)", "('repository',)", "('repository', 'full_name')"],
        "azure_devops": ["('eventType',)", "('resource', 'refUpdates', 0, 'name')", "('resource', 'repository')"],
    }
    for path in needed[provider]:
        assert {outcomes[f"{path} = {odd}"] for odd in ("removed", "0", "True")} <= {"refused", "ignored"}, path
        if not path.endswith("'changes')") and path != "('changes',)":
            assert outcomes[f"{path} = []"] == "refused", path


@pytest.mark.parametrize("provider", HOSTS)
@pytest.mark.parametrize(
    "body", [b"", b"null", b"[]", b'"x"', b"1", b"{}", b'{"ref":"test"}', b"\xef\xbb\xbf{}", b"[" * 9999]
)
def test_what_is_no_payload_is_malformed(provider: str, body: bytes) -> None:
    with pytest.raises(Malformed):
        read(provider, body)


@pytest.mark.parametrize("links", [{"clone": "boom"}, {"clone": [{"href": []}]}, {"clone": [1]}, "boom", {}, None])
def test_links_of_bitbucket_may_be_anything(links: Any) -> None:
    content = payload("bitbucket_dc")
    content["repository"]["links"] = links
    said = read("bitbucket_dc", content)
    assert said.repository == Repository("ACME/shop", ())
    assert wanted(said, "https://git.example/scm/acme/shop.git", "main")[0] == said.pushes
    assert wanted(said, "ssh://git@git.example:7999/acme/other.git", "main")[0] == ()


@pytest.mark.parametrize("name", ["\n", "../../etc/passwd", "/etc/passwd", ".git/config", "a\rb", "x" * 10_000, "", 5])
def test_names_of_files_are_for_the_record_alone(name: Any) -> None:
    content = payload("github") | {"commits": [{"added": [name], "modified": name, "removed": None}]}
    [push] = read("github", content).pushes
    assert push.files is not None
    assert set(push.files) <= {name}


def test_a_push_of_many_files_keeps_some() -> None:
    content = payload("gitlab") | {"commits": [{"added": [f"f{number}" for number in range(50_000)]}]}
    said = read("gitlab", content)
    event = said.pushes[0].draft("gitlab", said.repository, 0.0, "x").event
    assert isinstance(event, CodePushed)
    assert len(event.paths) == 100


# Real payloads


def corpus(kind: str | None = None) -> list[Any]:
    index = SHARED / "git" / "index.json"
    if not index.exists():
        return [pytest.param(None, marks=pytest.mark.skip(reason=f"{index} is not there"))]
    return [pytest.param(entry, id=entry["file"]) for entry in json.loads(index.read_text())]


def events_of(entry: dict[str, Any]) -> list[str]:
    """The headers of the event under which this payload may have come."""
    event = entry["oracle"]["event"]
    return {"create_or_delete": ["create", "delete"], "tag_push": ["Tag Push Hook"]}.get(event, [event])


@pytest.mark.shared
@pytest.mark.parametrize("entry", corpus())
def test_real_payloads_say_what_an_independent_reader_found(entry: dict[str, Any]) -> None:
    body, oracle = (SHARED / "git" / entry["file"]).read_bytes(), entry["oracle"]
    for event in events_of(entry):
        said = read(entry["host"], body, **{EVENTS[entry["host"]][0].replace("-", "_"): event})
        if "changes" not in oracle:
            assert said.ignored
            continue
        assert len(said.pushes) == len(oracle["changes"])
        for push, expected in zip(said.pushes, oracle["changes"], strict=True):
            check_push(push, expected)
        assert said.repository is not None
        assert said.repository.name == oracle["repo"]
        clones = oracle.get("clone") or []
        assert set(clones if isinstance(clones, list) else [clones]) <= set(said.repository.addresses)
        assert said.repository.default_branch == oracle.get("default_branch")
        if oracle.get("files") is not None:
            assert sorted(oracle["files"]) == list(said.pushes[0].files or ())
        if "id" in oracle:
            assert said.delivery == oracle["id"]


def check_push(push: Push, expected: dict[str, Any]) -> None:
    """A push against one of the changes that were found in the payload."""
    assert push.ref == expected["ref"]
    for end, found in (("before", push.before), ("after", push.after)):
        assert found == (expected[end] or ZERO)
    assert push.created is expected.get("created", set(expected["before"] or "0") == {"0"})
    assert push.deleted is expected.get("deleted", set(expected["after"] or "0") == {"0"})
    assert push.forced == expected.get("forced")
    if "type" in expected:
        assert (push.created, push.deleted) == (expected["type"] == "ADD", expected["type"] == "DELETE")


# What is read of any payload, by the name of the field.
READ = frozenset(
    """ref before after created deleted forced repository full_name clone_url ssh_url html_url default_branch pushed_at
    updated_at project path_with_namespace git_http_url object_kind event_name push changes old new target hash
    type name
    fromHash toHash id slug key links clone href html date resource refUpdates oldObjectId newObjectId eventType
    createdDate subscriptionId notificationId remoteUrl commits added modified removed""".split()
)


def essence(value: Any) -> Any:
    """The content without what is read of none."""
    if isinstance(value, dict):
        return {key: essence(inner) for key, inner in value.items() if key in READ}
    return [essence(inner) for inner in value[:2]] if isinstance(value, list) else value


@pytest.mark.shared
@pytest.mark.parametrize("entry", corpus())
def test_any_field_of_a_real_payload_may_be_anything(entry: dict[str, Any]) -> None:
    host, content = entry["host"], essence(json.loads((SHARED / "git" / entry["file"]).read_bytes()))
    event = {EVENTS[host][0].replace("-", "_"): events_of(entry)[0]}
    whole = json.loads((SHARED / "git" / entry["file"]).read_bytes())
    assert survives(host, content, "nothing", **event) == survives(host, whole, "nothing", **event)
    for what, changed in mutations(content, [None, [], 0, "boom", "x" * 2000]):
        survives(host, changed, what, **event)


def test_a_message_knows_what_came_twice() -> None:
    twice = Message(headers={"x-event-key": "repo:push"}, repeated=frozenset({"x-event-key"}))
    with pytest.raises(Malformed, match="more than once"):
        twice.header("x-event-key")
    assert twice.header("other") is None
