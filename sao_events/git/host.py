"""What is told to a git host about a pull or merge request: a commit status, and one comment that is kept up to date.

Every request goes to the configured API of the configured repository, with the configured token; nothing from a
payload, an answer or a redirection leads anywhere else.
"""

from __future__ import annotations

import json
import re
import urllib.error
import urllib.request
from dataclasses import dataclass
from http.client import HTTPException
from typing import Any, Protocol
from urllib.parse import quote, urlsplit

from sao_events.core.errors import ConfigError, SaoError

TIMEOUT, MOST, PAGES, PER_PAGE = 20.0, 5_000_000, 20, 100
STATES = {"success": ("success", "success"), "failure": ("failure", "failed"), "pending": ("pending", "running")}
_LOOPBACK = ("localhost", "127.0.0.1", "::1")
_SCP = re.compile(r"(?:[^@/:\s]+@)?([^@/:\s]+):(?!//)(.+)", re.DOTALL)


class GitHost(Protocol):
    """A git host's API, for one repository. Everything raises SaoError where it does not do what it is asked."""

    def status(self, commit: str, state: str, name: str, text: str, link: str | None) -> None:
        """Set the commit status `name` to one of `STATES`."""

    def comment(self, number: int, mark: str, text: str) -> None:
        """Write the comment that has the line `mark` in it, the one that is there already where it can be changed."""


def open_host(provider: str, remote: str, api: str | None, token: str) -> GitHost:
    """The API of the repository at `remote`. Raises ConfigError where its address is not known or not safe."""
    host, path = _place(remote)
    known = {"github.com": "https://api.github.com", "gitlab.com": "https://gitlab.com/api/v4"}
    base = check_api(api or known.get(host, ""), host)
    if provider == "github":
        return GitHub(Api(base, {"authorization": f"Bearer {token}"}), path)
    return GitLab(Api(base, {"private-token": token}), path)


def check_api(api: str, host: str = "the git host") -> str:
    """The base address of an API, https unless on this machine. Raises ConfigError."""
    try:
        parts = urlsplit(api)
        safe = parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in _LOOPBACK)
        plain = bool(parts.hostname) and not (parts.username or parts.password or parts.query or parts.fragment)
    except ValueError:
        safe = plain = False
    if not (safe and plain):
        hint = "https://api.github.com, https://<host>/api/v3 of GitHub Enterprise, https://<host>/api/v4 of GitLab"
        raise ConfigError(f"previews.api {api!r} is not the https address of the API of {host}", hint=hint)
    return api.rstrip("/")


def _place(remote: str) -> tuple[str, str]:
    """Host and path of the repository, the path as it is spelled."""
    found = _SCP.fullmatch(remote) if "://" not in remote else None
    parts = None if found else urlsplit(remote)
    host, path = (found[1], found[2]) if found else (parts.hostname or "", parts.path) if parts else ("", "")
    return host.lower(), path.strip("/").removesuffix(".git")


@dataclass(frozen=True)
class Api:
    """Requests to one base address."""

    base: str
    headers: dict[str, str]

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        """The JSON that is answered. Raises Told for a status that is no success, SaoError for no answer."""
        data = None if body is None else json.dumps(body).encode()
        headers = {"accept": "application/json", "user-agent": "sao-events", **self.headers}
        if data is not None:
            headers["content-type"] = "application/json"
        request = urllib.request.Request(f"{self.base}{path}", data, headers, method=method)  # noqa: S310 - checked
        try:
            with _OPENER.open(request, timeout=TIMEOUT) as answer:
                text = answer.read(MOST + 1)
        except urllib.error.HTTPError as error:
            with error:
                raise Told(f"{method} {path}: the git host answers {error.code}", error.code) from None
        except (OSError, HTTPException) as error:
            raise SaoError(
                f"{method} {path}: no answer of the git host: {error}", hint="is previews.api right?"
            ) from None
        if len(text) > MOST:
            raise SaoError(f"{method} {path}: the answer is longer than {MOST} bytes")
        try:
            return json.loads(text) if text.strip() else None
        except ValueError:
            raise SaoError(f"{method} {path}: the answer is not JSON", hint="is previews.api right?") from None

    def comments(self, path: str) -> list[tuple[int, str]]:
        """Ids and texts of comments, page by page."""
        found: list[tuple[int, str]] = []
        for page in range(1, PAGES + 1):
            items = self.ask("GET", f"{path}?per_page={PER_PAGE}&page={page}")
            items = items if isinstance(items, list) else []
            good = [item for item in items if isinstance(item, dict) and isinstance(item.get("id"), int)]
            found += [(item["id"], str(item.get("body") or "")) for item in good]
            if len(items) < PER_PAGE:
                break
        return found


class Told(SaoError):
    """The git host refuses."""

    def __init__(self, message: str, status: int) -> None:
        hints = {
            401: "the token of previews.token is not valid",
            403: "the token may not do this",
            404: "or it may not see it",
        }
        super().__init__(message, hint=hints.get(status))
        self.status = status


class GitHub:
    """https://docs.github.com/en/rest/commits/statuses and .../issues/comments."""

    def __init__(self, api: Api, path: str) -> None:
        self.api, self.path = api, f"/repos/{quote(path)}"

    def status(self, commit: str, state: str, name: str, text: str, link: str | None) -> None:
        """Set a commit status."""
        body = {"state": STATES[state][0], "context": name, "description": text[:140]}
        self.api.ask("POST", f"{self.path}/statuses/{commit}", body | ({"target_url": link} if link else {}))

    def comment(self, number: int, mark: str, text: str) -> None:
        """Write the comment."""
        _write(self.api, f"{self.path}/issues/{number}/comments", f"{self.path}/issues/comments", "PATCH", mark, text)


class GitLab:
    """https://docs.gitlab.com/api/commits/#set-commit-pipeline-status and .../notes/."""

    def __init__(self, api: Api, path: str) -> None:
        self.api, self.path = api, f"/projects/{quote(path, safe='')}"

    def status(self, commit: str, state: str, name: str, text: str, link: str | None) -> None:
        """Set a commit status. To say again what it says already is refused, and is no matter."""
        body = {"state": STATES[state][1], "name": name, "description": text[:140]}
        try:
            self.api.ask("POST", f"{self.path}/statuses/{commit}", body | ({"target_url": link} if link else {}))
        except Told as error:
            if error.status != 400:
                raise

    def comment(self, number: int, mark: str, text: str) -> None:
        """Write the note."""
        notes = f"{self.path}/merge_requests/{number}/notes"
        _write(self.api, notes, notes, "PUT", mark, text)


def _write(api: Api, all_of_them: str, one: str, method: str, mark: str, text: str) -> None:
    """Change the comment with the mark; one that is somebody else's cannot be changed, and is left alone."""
    for number, body in api.comments(all_of_them):
        if mark not in body:
            continue
        if body == text:
            return
        try:
            api.ask(method, f"{one}/{number}", {"body": text})
        except Told as error:
            if error.status not in (403, 404):
                raise
        else:
            return
    api.ask("POST", all_of_them, {"body": text})


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """A redirection would carry the token elsewhere: it is an error like any other."""

    def redirect_request(self, *arguments: Any, **named: Any) -> None:
        """None: not followed."""


_OPENER = urllib.request.build_opener(_NoRedirects)
