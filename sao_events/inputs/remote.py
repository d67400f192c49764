"""Which repository an address means: compared, never followed."""

from __future__ import annotations

import re
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

from sao_events.inputs.delivery import Push, Repository, Said

# The same repository under another host: https://docs.github.com/en/authentication/troubleshooting-ssh and others.
_HOSTS = {
    "ssh.github.com": "github.com",
    "altssh.gitlab.com": "gitlab.com",
    "altssh.bitbucket.org": "bitbucket.org",
    "vs-ssh.visualstudio.com": "ssh.dev.azure.com",
}
_SCHEMES = ("https", "http", "ssh", "git")
_SCP = re.compile(r"(?:[^@/:\s]+@)?(\[[0-9A-Fa-f:.]+\]|[^@/:\s]+):(?!//)(.+)", re.ASCII | re.DOTALL)

_SCM = re.compile(r"(?:.*/)?scm/")  # what Bitbucket Data Center has before the path over HTTPS alone
MOST, NAME = 100, 100
ANOTHER = "another repository is deployed"


class Place(NamedTuple):
    """Where a repository is: host and path in lower case, without scheme, user, port, `.git` and outer slashes."""

    host: str
    path: str


def place(address: str) -> Place | None:
    """The place that an address of git names: a URL or `user@host:path`; None for a folder, and for what is neither."""
    if "://" not in address:
        found = _SCP.fullmatch(address)
        return _place(found[1].strip("[]"), found[2]) if found else None
    try:
        parts = urlsplit(address)
        if parts.scheme.lower() not in _SCHEMES or not parts.hostname:
            return None
        return _place(parts.hostname, parts.path)
    except ValueError:
        return None


def _place(host: str, path: str) -> Place | None:
    host = host.lower().rstrip(".")
    host, path = _HOSTS.get(host, host), unquote(path).strip("/").removesuffix(".git").strip("/").lower()
    return _azure(host, path) if path else None


def _azure(host: str, path: str) -> Place:
    """Azure DevOps has three addresses for a repository; a project's first repository has the project's name."""
    parts = path.split("/")
    if host == "ssh.dev.azure.com" and len(parts) == 4 and parts[0] == "v3":
        host, parts = "dev.azure.com", [parts[1], parts[2], "_git", parts[3]]
    if host.endswith(".visualstudio.com"):
        host, parts = "dev.azure.com", [host.removesuffix(".visualstudio.com"), *parts]
    if host == "dev.azure.com":
        parts = [part for part in parts if part != "defaultcollection"]
        if len(parts) == 3 and parts[1] == "_git":
            parts.insert(1, parts[2])
    return Place(host, "/".join(parts))


def is_same(repository: Repository, wanted: str) -> bool:
    """Whether `repository` is the one at the address, or of the bare path, `wanted`. Hosts and paths are compared as a
    whole; where the message gives no address, or `wanted` no host, paths alone. What is a folder may be any.
    """
    at = place(wanted)
    places = [found for address in repository.addresses if (found := place(address))]
    if at and places:
        return at in places
    path = _SCM.sub("", at.path) if at else _bare_path(wanted)
    if path is None:
        return True
    return path in {repository.name.lower(), *(_SCM.sub("", found.path) for found in places)}


def _bare_path(wanted: str) -> str | None:
    if "://" in wanted or wanted.startswith(("/", ".", "~")) or "/" not in wanted:
        return None
    return wanted.removesuffix(".git").lower()


def wanted(said: Said, repository: str | None, branch: str | None) -> tuple[tuple[Push, ...], str | None]:
    """Those pushes of `said` that move what is deployed, `branch` of `repository` (None: any), at most `MOST`, since
    each is only a hint; without any, why.
    """
    if repository is not None and said.repository is not None and not is_same(said.repository, repository):
        return (), f"{ANOTHER}, not {said.repository.name[:NAME]}"
    reasons = [_unasked(push, branch) for push in said.pushes]
    found = tuple(push for push, reason in zip(said.pushes, reasons, strict=True) if reason is None)
    return found[:MOST], None if found else next(iter(reasons), "nothing was pushed")


def unwanted(said: Said, repository: str | None, branch: str | None, *, forks: bool) -> str | None:
    """Why the pull or merge request that `said` is about has no preview; None where it has one."""
    if repository is not None and said.repository is not None and not is_same(said.repository, repository):
        return ANOTHER
    if said.pull is not None and branch is not None and said.pull.base != branch:
        return f"only what is to be merged into {branch} is looked at"
    if said.pull is not None and said.pull.fork and not forks:
        return "code of forks is not looked at (previews.forks)"
    return None


def _unasked(push: Push, branch: str | None) -> str | None:
    if push.ref is None:
        return None
    if push.deleted:
        return "the ref was deleted"
    if not push.ref.startswith("refs/heads/"):
        return "only branches are deployed"
    if branch is not None and push.ref != f"refs/heads/{branch}":
        return f"only the branch {branch} is deployed"
    return None
