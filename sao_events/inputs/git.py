"""What every git host and hook has in common: refs, commit ids, and the hint that code changed."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from sao_events.core.events import CodePushed
from sao_events.inputs.strict import Malformed, shown

REF_LENGTH = 1024
_COMMIT = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?", re.ASCII)
# https://git-scm.com/docs/git-check-ref-format, of full names below refs/ alone.
_NOT_IN_REFS = re.compile(r"[\x00-\x20\x7f~^:?*\[\\]|\.\.|@\{|//|/\.|\.lock(?:/|$)|[/.]$")


def is_commit(text: str) -> bool:
    """Whether `text` is a full commit id, of SHA-1 or SHA-256, in lower case."""
    return _COMMIT.fullmatch(text) is not None


def is_nothing(commit: str) -> bool:
    """Whether the id is the all-zero one, which stands for no commit: what a deleted ref points to."""
    return not commit.strip("0")


def is_ref(text: str) -> bool:
    """Whether `text` is the full name of a ref that git itself would accept, such as refs/heads/main."""
    if not text.startswith("refs/") or len(text) > REF_LENGTH or not text.isprintable():
        return False
    return _NOT_IN_REFS.search(text) is None


def read_hint(body: Any) -> CodePushed:
    """The event in `{"ref": ..., "commit": ...}`; where both are absent, null or empty it says that something changed.

    Raises Malformed.
    """
    if not isinstance(body, Mapping):
        raise Malformed("the body must be an object", hint='send {"ref": "refs/heads/main", "commit": "<full id>"}')
    if unknown := body.keys() - {"ref", "commit"}:
        raise Malformed(f"unknown key {shown(min(unknown))}", hint="the keys are ref and commit")
    ref, commit = (None if body.get(key) == "" else body.get(key) for key in ("ref", "commit"))
    if ref is not None and not (isinstance(ref, str) and is_ref(ref)):
        raise Malformed("ref is not the full name of a git ref", hint="send a name such as refs/heads/main, or none")
    if commit is not None and not (isinstance(commit, str) and is_commit(commit)):
        raise Malformed("commit is not a full commit id", hint="send 40 or 64 hex digits in lower case, or none")
    return CodePushed(ref, commit)
