"""GitHub's push webhook: https://docs.github.com/en/webhooks. What it says is a hint; what is deployed is looked up.

A delivery is identified by what was signed. Its delivery id is in a header that the signature does not cover, so that
whoever has seen one delivery could send it again under another id.
"""

from __future__ import annotations

import hmac
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from sao_events.events import CodePushed
from sao_events.inputs.git import is_commit, is_nothing, is_ref
from sao_events.inputs.strict import Malformed, UnknownForm, media_type, read_json
from sao_events.ports import Draft

EVENT_HEADER, SIGNATURE_HEADER = "x-github-event", "x-hub-signature-256"
FORM = "application/x-www-form-urlencoded"
NAME_LENGTH = 512


@dataclass(frozen=True, slots=True)
class Push:
    """A branch or tag was moved from commit `before` to `after`; all zeros stand for its being created or deleted.

    `repository` is its `owner/name`, `host` the host that the payload says it lives on, `pushed_at` GitHub's own
    instant of it.
    """

    repository: str
    ref: str
    before: str
    after: str
    created: bool = False
    deleted: bool = False
    forced: bool = False
    default_branch: str | None = None
    host: str | None = None
    pushed_at: int | None = None

    @property
    def key(self) -> str:
        """The idempotency key: the same for every delivery of this push, another one for every other push."""
        said = (self.repository.lower(), self.ref, self.before, self.after, str(self.pushed_at or ""))
        return f"github/{sha256(' '.join(said).encode()).hexdigest()}"

    def draft(self, at: float, sender: str) -> Draft:
        """The event to be appended, received at the instant `at`."""
        return Draft(CodePushed(self.ref, self.after), at, self.key, sender)


@dataclass(frozen=True, slots=True)
class Ignored:
    """A delivery that is in order and asks for nothing; `reason` says why, for people."""

    reason: str


def verify(secrets: Iterable[str], body: bytes, header: str | None) -> bool:
    """Whether `header` (X-Hub-Signature-256) is the HMAC-SHA256 of the raw `body` under one of `secrets`.

    Blank secrets verify nothing; SHA-1 is never accepted. Takes the same time whichever secret it is.
    """
    if not header or not header.isascii():
        return False
    given, verified = header.encode(), False
    for secret in secrets:
        expected = b"sha256=" + hmac.new(secret.encode(), body, sha256).hexdigest().encode()
        verified |= hmac.compare_digest(expected, given) and bool(secret.strip())
    return verified


def read(event: str | None, content_type: str | None, body: bytes) -> Push | Ignored:
    """What a verified delivery says. `event` is its X-GitHub-Event header. Raises Malformed or UnknownForm."""
    if not event:
        raise Malformed("the header X-GitHub-Event is missing", hint="is it GitHub that sends here?")
    payload = read_json(_json_in(content_type, body))
    if not isinstance(payload, dict):
        raise Malformed("the payload is not an object")
    if event == "ping":
        return Ignored("ping")
    if event != "push":
        return Ignored("only pushes are acted on")
    return _push(payload)


def asked(said: Push | Ignored, remote: str | None, branch: str | None) -> Push | Ignored:
    """`said`, ignored where it asks for nothing because `branch` of the repository `remote` is deployed (None: any)."""
    if isinstance(said, Ignored):
        return said
    if said.deleted:
        return Ignored("the ref was deleted")
    if not said.ref.startswith("refs/heads/"):
        return Ignored("only branches are deployed")
    if branch is not None and said.ref != f"refs/heads/{branch}":
        return Ignored(f"only the branch {branch} is deployed")
    if remote is not None and _elsewhere(said, remote):
        return Ignored("another repository is deployed")
    return said


def _json_in(content_type: str | None, body: bytes) -> bytes:
    kind = media_type(content_type)
    if kind == "application/json":
        return body
    if kind != FORM:
        raise UnknownForm(
            "the body is neither JSON nor a form", hint="set the webhook's content type to application/json"
        )
    try:
        fields = parse_qsl(body.decode("ascii"), strict_parsing=True, max_num_fields=8, errors="strict")
        [payload] = [value for name, value in fields if name == "payload"]
    except ValueError:
        raise Malformed("the form has no single field payload") from None
    return payload.encode()


def _push(payload: Mapping[str, Any]) -> Push:
    repository = payload.get("repository")
    if not isinstance(repository, dict):
        raise _missing("repository")
    name, pushed_at = _text(repository, "full_name"), repository.get("pushed_at")
    ref, before, after = (_text(payload, key) for key in ("ref", "before", "after"))
    if not is_ref(ref):
        raise _missing("ref")
    for key, commit in (("before", before), ("after", after)):
        if not is_commit(commit):
            raise _missing(key)
    created, deleted, forced = (_flag(payload, key) for key in ("created", "deleted", "forced"))
    branch = repository.get("default_branch")
    return Push(
        repository=name,
        ref=ref,
        before=before,
        after=after,
        created=created,
        deleted=deleted or is_nothing(after),
        forced=forced,
        default_branch=branch if isinstance(branch, str) else None,
        host=_host(repository.get("clone_url")),
        pushed_at=pushed_at if isinstance(pushed_at, int) else None,
    )


def _missing(key: str) -> Malformed:
    return Malformed(f"the push has no valid {key}", hint="is it GitHub that sends here?")


def _text(block: Mapping[str, Any], key: str) -> str:
    value = block.get(key)
    if not isinstance(value, str) or not 0 < len(value) <= NAME_LENGTH * 2:
        raise _missing(key)
    return value


def _flag(block: Mapping[str, Any], key: str) -> bool:
    value = block.get(key, False)
    if not isinstance(value, bool):
        raise _missing(key)
    return value


def _host(url: object) -> str | None:
    try:
        return urlsplit(url).hostname if isinstance(url, str) else None
    except ValueError:
        return None


def _elsewhere(push: Push, remote: str) -> bool:
    """Whether `remote` names another repository on the host that the push came from. What cannot be told may be it."""
    host, path = _address(remote)
    return host is not None and host == push.host and path != push.repository.lower()


def _address(remote: str) -> tuple[str | None, str]:
    """Host and path of a git remote in lower case, of URLs and of `user@host:path`; no host for a folder."""
    if "://" not in remote:
        before, colon, path = remote.partition(":")
        if not colon or "/" in before:
            return None, remote
        remote = f"ssh://{before}/{path}"
    try:
        parts = urlsplit(remote)
        host = parts.hostname
    except ValueError:
        return None, remote
    return host, parts.path.strip("/").removesuffix(".git").lower()
