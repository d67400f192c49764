"""What is decided about a node: what is to happen, why, and until when."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from enum import StrEnum
from typing import Any

from sao_events.core.records import record

NEVER = float("inf")


class Action(StrEnum):
    """What is to happen with a node."""

    build = "build"
    reuse = "reuse"
    wait = "wait"
    blocked = "blocked"


class Reason(StrEnum):
    """Why: stable codes. Text for people is made from code and evidence in one place, `explain`."""

    forced = "forced"
    state_cleared = "state_cleared"
    first_build = "first_build"
    relation_missing = "relation_missing"
    retry = "retry"
    retries_exhausted = "retries_exhausted"
    code_changed = "code_changed"
    upstream_code_changed = "upstream_code_changed"
    view_unchanged = "view_unchanged"
    no_new_data = "no_new_data"
    waiting_for_upstreams = "waiting_for_upstreams"
    within_build_after = "within_build_after"
    max_staleness = "max_staleness"
    no_reader_due = "no_reader_due"
    new_data = "new_data"
    upstream_not_ready = "upstream_not_ready"


@record
class Decision:
    """What to do with a node now. `eligible_at` is the instant (UTC epoch seconds) at which a wait ends, where one is
    known.
    """

    action: Action
    reason: Reason
    eligible_at: float | None = None
    waiting_for: tuple[str, ...] = ()
    evidence: Mapping[str, Any] = field(default_factory=dict)


VIEW_UNCHANGED = Decision(Action.reuse, Reason.view_unchanged)
NO_NEW_DATA = Decision(Action.reuse, Reason.no_new_data)


def earliest(*instants: float | None) -> float | None:
    """The first of the instants that are known and ever come."""
    return min((at for at in instants if at is not None and at != NEVER), default=None)
