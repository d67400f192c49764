"""What git hosts send, written by hand after their documentation, and how each proves who it is."""

from __future__ import annotations

import hmac
import json
from base64 import b64decode, b64encode
from copy import deepcopy
from hashlib import sha256
from typing import Any

from sao_events.inputs.delivery import Message

A, B, ZERO = "a" * 40, "b" * 40, "0" * 40
SIGNING = "whsec_" + b64encode(b"k" * 32).decode()
JSON, FORM = "application/json", "application/x-www-form-urlencoded"
HOOKED = {"clone_url": "https://git.example/acme/shop.git", "ssh_url": "git@git.example:acme/shop.git"}

PUSHES: dict[str, Any] = {
    "github": {
        "ref": "refs/heads/main",
        "before": A,
        "after": B,
        "created": False,
        "deleted": False,
        "forced": False,
        "commits": [{"id": B, "added": ["models/a.sql"], "removed": [], "modified": ["models/b.sql"]}],
        "repository": {"full_name": "acme/shop", "default_branch": "main", "pushed_at": 1_767_225_600, **HOOKED},
    },
    "gitlab": {
        "object_kind": "push",
        "event_name": "push",
        "before": A,
        "after": B,
        "ref": "refs/heads/main",
        "checkout_sha": B,
        "project": {
            "path_with_namespace": "acme/shop",
            "default_branch": "main",
            "git_http_url": HOOKED["clone_url"],
            "git_ssh_url": HOOKED["ssh_url"],
        },
        "commits": [{"id": B, "added": ["models/a.sql"], "removed": [], "modified": ["models/b.sql"]}],
        "total_commits_count": 1,
    },
    "bitbucket_cloud": {
        "push": {
            "changes": [
                {
                    "old": {"type": "branch", "name": "main", "target": {"hash": A}},
                    "new": {"type": "branch", "name": "main", "target": {"hash": B}},
                    "created": False,
                    "closed": False,
                    "forced": False,
                }
            ]
        },
        "repository": {"full_name": "acme/shop", "links": {"html": {"href": "https://git.example/acme/shop"}}},
    },
    "bitbucket_dc": {
        "eventKey": "repo:refs_changed",
        "date": "2026-03-01T12:00:00+0000",
        "repository": {
            "slug": "shop",
            "project": {"key": "ACME"},
            "links": {
                "clone": [
                    {"href": "https://git.example/scm/acme/shop.git", "name": "http"},
                    {"href": "ssh://git@git.example:7999/acme/shop.git", "name": "ssh"},
                ]
            },
        },
        "changes": [{"ref": {"id": "refs/heads/main", "type": "BRANCH"}, "fromHash": A, "toHash": B, "type": "UPDATE"}],
    },
    "gitea": {
        "ref": "refs/heads/main",
        "before": A,
        "after": B,
        "commits": [{"id": B, "added": ["models/a.sql"], "removed": [], "modified": ["models/b.sql"]}],
        "repository": {
            "full_name": "acme/shop",
            "default_branch": "main",
            "updated_at": "2026-03-01T12:00:00Z",
            **HOOKED,
        },
    },
    "azure_devops": {
        "subscriptionId": "9a5b9b4c-0000-0000-0000-000000000001",
        "notificationId": 7,
        "id": "03c164c2-8912-4d5e-8009-3707d5f83734",
        "eventType": "git.push",
        "createdDate": "2026-03-01T12:00:00.123Z",
        "resource": {
            "refUpdates": [{"name": "refs/heads/main", "oldObjectId": A, "newObjectId": B}],
            "repository": {
                "name": "shop",
                "remoteUrl": "https://acme@dev.azure.com/acme/shop/_git/shop",
                "defaultBranch": "refs/heads/main",
            },
        },
    },
}
PUSHES |= {"forgejo": PUSHES["gitea"], "gogs": PUSHES["gitea"]}
REMOTES = {"azure_devops": "git@ssh.dev.azure.com:v3/acme/shop/shop"}
EVENTS = {
    "github": ("x-github-event", "push"),
    "gitlab": ("x-gitlab-event", "Push Hook"),
    "bitbucket_cloud": ("x-event-key", "repo:push"),
    "bitbucket_dc": ("x-event-key", "repo:refs_changed"),
    "gitea": ("x-gitea-event", "push"),
    "forgejo": ("x-forgejo-event", "push"),
    "gogs": ("x-gogs-event", "push"),
    "azure_devops": ("x-vss-activityid", "1"),
}
DELIVERIES = {
    "github": "x-github-delivery",
    "gitlab": "idempotency-key",
    "bitbucket_cloud": "x-request-uuid",
    "bitbucket_dc": "x-request-id",
    "gitea": "x-gitea-delivery",
    "forgejo": "x-forgejo-delivery",
    "gogs": "x-gogs-delivery",
}


def payload(provider: str) -> Any:
    """A push of one commit to main, of its own to be changed."""
    return deepcopy(PUSHES[provider])


def hexed(secret: str, body: bytes) -> str:
    """The HMAC-SHA256 of a body, as most hosts write it."""
    return hmac.new(secret.encode(), body, sha256).hexdigest()


def standard(secret: str, body: bytes, at: float, identity: str = "msg_1", prefix: str = "webhook") -> dict[str, str]:
    """The three headers of Standard Webhooks."""
    key, instant = b64decode(secret.removeprefix("whsec_")), str(int(at))
    signature = b64encode(hmac.new(key, f"{identity}.{instant}.".encode() + body, sha256).digest()).decode()
    return {f"{prefix}-id": identity, f"{prefix}-timestamp": instant, f"{prefix}-signature": f"v1,{signature}"}


def proof(provider: str, secret: str, body: bytes, at: float = 0.0) -> dict[str, str]:
    """The headers by which a host proves that it knows the secret."""
    if provider == "github":
        return {"x-hub-signature-256": f"sha256={hexed(secret, body)}"}
    if provider.startswith("bitbucket"):
        return {"x-hub-signature": f"sha256={hexed(secret, body)}"}
    if provider == "gitlab":
        return standard(secret, body, at) if secret.startswith("whsec_") else {"x-gitlab-token": secret}
    if provider == "azure_devops":
        return {"authorization": "Basic " + b64encode(f"azure:{secret}".encode()).decode()}
    return {f"x-{provider}-signature": hexed(secret, body)}


def headers(provider: str, secret: str, body: bytes, at: float = 0.0, delivery: str | None = None) -> dict[str, str]:
    """All that a host sends beside the body of a push."""
    name, value = EVENTS[provider]
    identity = {DELIVERIES[provider]: delivery} if delivery and provider in DELIVERIES else {}
    return {"content-type": JSON, name: value, **identity, **proof(provider, secret, body, at)}


def message(provider: str, content: Any, **change: str | None) -> Message:
    """A push as it comes; `change` replaces headers, None removes them."""
    body = content if isinstance(content, bytes) else json.dumps(content).encode()
    given = headers(provider, "hush", body, 0.0, "d1") | {name.replace("_", "-"): v for name, v in change.items()}
    return Message(headers={name: value for name, value in given.items() if value is not None}, body=body)
