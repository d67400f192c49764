"""Freshness policy: what a node's `freshness` and `state` blocks, and the environment's settings, ask for.

Sources of the rules: dbt's documentation of `freshness.build_after`, dbt State's `lag_tolerance` and
`require_fresh_data_from`, and for the short forms dbt's announcement of state-aware orchestration. All durations are
in seconds.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any, Literal

from sao_events.core.errors import PolicyError
from sao_events.core.windows import Calendar, parse_duration, read_calendar

Quorum = Literal["any", "all"]
PERIODS = {"minute": 60, "hour": 3600, "day": 86400}
# The keys that are read, by the block they stand in; `early_cutoff` is no policy, and read beside it.
READ = {
    "freshness": ("build_after", "updates_on"),
    "freshness.build_after": ("count", "period", "updates_on"),
    "state": ("lag_tolerance", "require_fresh_data_from"),
    "meta.sao": ("lazy", "early_cutoff", "max_staleness", "timezone", "window", "quiet", "fresh_by"),
}


@dataclass(frozen=True, slots=True)
class Policy:
    """The window (least seconds between two builds for new data) and the quorum (how many upstreams must be newer) of
    a node. `max_staleness`: built again after so many seconds even without new data; `calendar`: other windows by
    weekday and hour, quiet hours, deadlines.
    """

    build_after: float = 0.0
    updates_on: Quorum = "any"
    lazy: bool = False
    max_staleness: float | None = None
    calendar: Calendar | None = None


@dataclass(frozen=True, slots=True)
class Settings:
    """What an environment decides for all its nodes. `settle`, `backoff` in seconds; `default_config` is for nodes
    that declare nothing. `reuse_tests`: results of tests that stand are kept; `prove_tests`: what
    follows from other results is not run; `aggregate_tests`: several tests of a
    node are asked in one query. `probe_every`: seconds between looks at a source that has no interval of its own.
    """

    trigger: Literal["continuous", "jobs"] = "continuous"
    code_changes: Literal["immediate", "after_window"] = "immediate"
    settle: float = 0.0
    attempts: int = 0
    backoff: float = 60.0
    max_concurrent_runs: int = 1
    default_config: Mapping[str, Any] = field(default_factory=dict)
    reuse_tests: bool = True
    prove_tests: bool = True
    aggregate_tests: bool = True
    probe_every: float | None = None


def read_policy(
    config: Mapping[str, Any], *, node: str, default: Mapping[str, Any] | None = None
) -> tuple[Policy, list[str]]:
    """The policy that `config` (dbt's, with the keys `freshness` and `state` where declared) gives `node`, and
    warnings.

    `freshness: None` declares that there is no window. `default` applies where neither key is present. What is ours
    alone stands in `meta.sao`: `lazy`, `max_staleness`, `window`, `quiet`, `fresh_by`, `timezone`; `lazy` also beside
    the blocks. Raises PolicyError.
    """
    declared = "freshness" in config or "state" in config
    block = config if declared or not default else default
    warnings: list[str] = []
    window, quorum = _freshness(block.get("freshness"), node, warnings)
    lag, fresh_from = _state(block.get("state"), node, warnings)
    if lag == 0:
        warnings.append(_no_window(node, "state.lag_tolerance"))
    _contradictions(node, window, quorum, lag, fresh_from, warnings)
    seconds = lag if lag is not None else window if window is not None else 0.0
    ours = _ours(config.get("meta"), node)
    _unread(ours, "meta.sao", node, warnings)
    lazy = _flag(ours["lazy"], node, "meta.sao.lazy") if "lazy" in ours else None
    if lazy is None:
        lazy = _flag(config.get("lazy", block.get("lazy", False)), node, "lazy")
    staleness = (
        None if ours.get("max_staleness") is None else _duration(ours["max_staleness"], node, "meta.sao.max_staleness")
    )
    if staleness == 0:
        raise PolicyError(f"{node}: meta.sao.max_staleness must be longer than nothing")
    calendar = read_calendar(ours, node)
    if calendar is None and "timezone" in ours:
        wanted = "there is no window, quiet or fresh_by beside it that would be in local time"
        warnings.append(f"{node}: meta.sao.timezone changes nothing: {wanted}")
    if calendar is not None and any(least == 0 for _, least in calendar.rules):
        warnings.append(_no_window(node, "meta.sao.window.every"))
    return Policy(seconds, fresh_from or quorum or "any", lazy, staleness, calendar), warnings


def key_named(said: str) -> str:
    """The key that an error or a warning about a policy is about, with the blocks it stands in: `state.lag_tolerance`.
    Each such message begins with the node and the key.
    """
    _, _, rest = said.partition(": ")
    found = re.match(r"`?([\w.]+)`?(?: has the unknown key ([^,]+),)?", rest)
    return ".".join(filter(None, found.groups())) if found else ""


def _ours(meta: object, node: str) -> Mapping[str, Any]:
    """The block `meta.sao`; an empty one where there is none."""
    found = meta.get("sao") if isinstance(meta, Mapping) else meta
    if found is not None and not isinstance(found, Mapping):
        raise PolicyError(f"{node}: meta.sao must be a mapping, not {found!r}")
    return found or {}


def _unread(block: Mapping[str, Any], name: str, node: str, warnings: list[str]) -> None:
    """Warn of the keys that are not read. Of dbt State's own there are more, so there only of what looks like ours."""
    for key in (str(key) for key in block if key not in READ[name]):
        near = get_close_matches(key, READ[name], 1, 0.6)
        if near or name != "state":
            hint = f"did you mean {near[0]}?" if near else f"known are {', '.join(READ[name])}"
            warnings.append(f"{node}: {name} has the unknown key {key}, which is not read; {hint}")


def _no_window(node: str, key: str) -> str:
    return f"{node}: {key} is 0, which is no window: new data is built at once; leave it out if so meant"


def _contradictions(
    node: str,
    window: float | None,
    quorum: Quorum | None,
    lag: float | None,
    fresh_from: Quorum | None,
    warnings: list[str],
) -> None:
    if lag is not None and window is not None and lag != window:
        warnings.append(
            f"{node}: state.lag_tolerance ({lag:g}s) and freshness.build_after ({window:g}s) differ; lag_tolerance wins"
        )
    if fresh_from and quorum and fresh_from != quorum:
        warnings.append(
            f"{node}: state.require_fresh_data_from ({fresh_from}) and updates_on ({quorum}) differ; the first wins"
        )


def _flag(value: object, node: str, key: str) -> bool:
    if not isinstance(value, bool):
        raise PolicyError(f"{node}: {key} must be true or false, not {value!r}")
    return value


def _freshness(block: object, node: str, warnings: list[str]) -> tuple[float | None, Quorum | None]:
    if block is None:
        return None, None
    if not isinstance(block, Mapping):
        raise PolicyError(f"{node}: freshness must be a mapping with build_after, not {block!r}")
    _unread(block, "freshness", node, warnings)
    window, quorum = _build_after(block.get("build_after"), node, warnings)
    if "updates_on" in block:
        beside = _quorum(block["updates_on"], node, "freshness.updates_on")
        warnings.append(
            f"{node}: freshness.updates_on beside build_after is read; "
            f"dbt's form is build_after: {{..., updates_on: {beside}}}"
        )
        if quorum and quorum != beside:
            warnings.append(
                f"{node}: freshness.updates_on stands twice ({quorum} inside build_after, {beside} beside it); "
                "the inner wins"
            )
        quorum = quorum or beside
    return window, quorum


def _build_after(block: object, node: str, warnings: list[str]) -> tuple[float | None, Quorum | None]:
    if block is None:
        return None, None
    if isinstance(block, str):
        warnings.append(
            f"{node}: freshness.build_after: {block} is read, but dbt's form is "
            "build_after: {count: ..., period: ...}"
        )
        seconds = _duration(block, node, "freshness.build_after")
        if seconds == 0:
            warnings.append(_no_window(node, "freshness.build_after"))
        return seconds, None
    if not isinstance(block, Mapping):
        raise PolicyError(f"{node}: freshness.build_after must be a mapping with count and period, not {block!r}")
    _unread(block, "freshness.build_after", node, warnings)
    quorum = (
        _quorum(block["updates_on"], node, "freshness.build_after.updates_on")
        if block.get("updates_on") is not None
        else None
    )
    return _counted(block.get("count"), block.get("period"), node, warnings), quorum


def _counted(count: object, period: object, node: str, warnings: list[str]) -> float | None:
    if count is None and period is None:
        return None
    if count is None or period is None:
        given, lacking = ("count", "period") if period is None else ("period", "count")
        raise PolicyError(
            f"{node}: `freshness.build_after` must have a value for `{lacking}` if a `{given}` is provided"
        )
    if isinstance(count, bool) or not isinstance(count, int):
        raise PolicyError(f"{node}: freshness.build_after.count must be a whole number, not {count!r}")
    if period not in PERIODS:
        raise PolicyError(f"{node}: freshness.build_after.period must be one of {', '.join(PERIODS)}, not {period!r}")
    if count < 0:
        warnings.append(f"{node}: freshness.build_after.count is {count}; a negative window counts as none")
    if count == 0:
        warnings.append(_no_window(node, "freshness.build_after.count"))
    return float(max(count, 0) * PERIODS[str(period)])


def _state(block: object, node: str, warnings: list[str]) -> tuple[float | None, Quorum | None]:
    if block is None:
        return None, None
    if not isinstance(block, Mapping):
        raise PolicyError(
            f"{node}: state must be a mapping with lag_tolerance or require_fresh_data_from, not {block!r}"
        )
    _unread(block, "state", node, warnings)
    lag, fresh_from = block.get("lag_tolerance"), block.get("require_fresh_data_from")
    return (
        None if lag is None else _duration(lag, node, "state.lag_tolerance"),
        None if fresh_from is None else _quorum(fresh_from, node, "state.require_fresh_data_from"),
    )


def _duration(text: object, node: str, key: str) -> float:
    try:
        return parse_duration(text)
    except ValueError as error:
        raise PolicyError(f"{node}: {key}: {error}") from None


def _quorum(value: object, node: str, key: str) -> Quorum:
    if value == "any":
        return "any"
    if value == "all":
        return "all"
    raise PolicyError(f"{node}: {key} must be any or all, not {value!r}")
