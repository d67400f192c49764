"""A node's freshness policy and its `meta.sao` keys, from what the manifest keeps of them.

dbt's manifest is not the whole truth: `config` holds an inherited block where the user wrote `freshness: null`, and an
`updates_on` beside `build_after` only survives in `unrendered_config`.
"""

from __future__ import annotations

import ast
import difflib
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from sao_events.core.errors import PolicyError
from sao_events.core.policy import READ, Policy, key_named, read_policy
from sao_events.core.probes import interval
from sao_events.dbt.placed import beside_config, place

NODE_KEYS = READ["meta.sao"]
FLAGS = dict.fromkeys(("lazy", "static", "view", "reuse", "proof", "aggregate")) | {"early_cutoff": "auto"}
ASTRAY = {"build_after": "freshness", "updates_on": "freshness.build_after"} | dict.fromkeys(READ["state"], "state")
PERIODS = ("second", "minute", "hour", "day", "week")
SOURCE_KEYS = ("static", "view", "probe", "files")
TEST_KEYS = ("reuse", "proof", "aggregate")


def policy_of(
    node: Mapping[str, Any], sao: Mapping[str, Any], default: Mapping[str, Any], root: Path | None
) -> tuple[Policy, list[str]]:
    """The policy of `node` and warnings about it, each with the place. Raises PolicyError, with the place."""
    config = declared(node) | {"meta": {"sao": sao}}
    try:
        policy, warnings = read_policy(config, node=node["name"], default=default)
    except PolicyError as error:
        raise PolicyError(f"{error.message} ({place(node, key_named(error.message), root)})", hint=error.hint) from None
    told = [f"{warning} ({place(node, key_named(warning), root)})" for warning in warnings]
    told += [f"{warning} ({place(node, key, root)})" for key, warning in _astray(node)]
    return policy, told + [
        f"{node['name']}: {key} stands outside of config, where dbt drops it; move it into config ({where})"
        for key, where in beside_config(node, (*ASTRAY, "freshness", "state"), root)
    ]


def _astray(node: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """What dbt takes without a word and nobody reads: keys of a policy outside its block, a word for a block."""
    config, written = node.get("config") or {}, (node.get("unrendered_config") or {}).get("freshness")
    for key, block in ASTRAY.items():
        if key in config:
            yield key, f"{node['name']}: {key} stands in config itself, where nothing reads it; move it into {block}"
    if isinstance(written, str) and not config.get("freshness") and not re.search(r"[{(\[]|None|none", written):
        wanted = "write {build_after: {count: ..., period: ...}}"
        yield "freshness", f"{node['name']}: freshness: {written} is no mapping, and dbt leaves it out; {wanted}"


def quorum_key(node: Mapping[str, Any]) -> str:
    """The key under which a node that has a policy asks for its quorum."""
    state = (node.get("config") or {}).get("state") or {}
    return "state.require_fresh_data_from" if state.get("require_fresh_data_from") else "freshness.updates_on"


def declared(node: Mapping[str, Any]) -> dict[str, Any]:
    """dbt's configuration reduced to `freshness` and `state`, each present only where it was declared."""
    config, written = node.get("config") or {}, node.get("unrendered_config") or {}
    found: dict[str, Any] = {}
    if "freshness" in written or config.get("freshness") is not None:
        found["freshness"] = _freshness(config.get("freshness"), _literal(written.get("freshness", {})))
    if config.get("state") is not None:
        found["state"] = _state(config["state"])
    return found


def _state(block: Any) -> Any:
    """The block as it is written; dbt 2 takes `lag_tolerance: 1h` apart into count and period."""
    lag = block.get("lag_tolerance") if isinstance(block, Mapping) else None
    if not isinstance(lag, Mapping):
        return block
    count, period = lag.get("count"), str(lag.get("period"))
    return {**block, "lag_tolerance": f"{count}{period[0]}" if count is not None and period in PERIODS else None}


def _freshness(rendered: Any, written: Any) -> Any:
    if written is None:
        return None
    if not isinstance(written, Mapping):
        return rendered or {}
    beside = {key: value for key, value in written.items() if key != "build_after"}
    if not isinstance(rendered, Mapping):
        short = written.get("build_after")
        return ({"build_after": short} if isinstance(short, str) else {}) | beside
    block, inner = rendered.get("build_after"), written.get("build_after")
    if isinstance(block, Mapping):
        inner = inner if isinstance(inner, Mapping) else {}
        dropped = ["updates_on"] if "updates_on" in beside and "updates_on" not in inner else []
        unread = {key: value for key, value in inner.items() if key not in READ["freshness.build_after"]}
        block = {key: value for key, value in block.items() if key not in dropped} | unread
    return {"build_after": block} | beside


def _literal(written: Any) -> Any:
    """A block written in SQL is kept as the text of a Python value; a text with Jinja in it says nothing."""
    if not isinstance(written, str):
        return written
    try:
        return ast.literal_eval(written)
    except (ValueError, SyntaxError):
        return {}


def sao_keys(thing: Mapping[str, Any], keys: tuple[str, ...], root: Path | None) -> tuple[dict[str, Any], list[str]]:
    """The keys under `meta.sao` of a node or source, and a warning for each that is not known. Raises PolicyError."""
    block = ((thing.get("config") or {}).get("meta") or {}).get("sao", (thing.get("meta") or {}).get("sao"))
    if block is None:
        return {}, []
    name = label(thing)
    if not isinstance(block, Mapping):
        raise PolicyError(f"{name}: meta.sao must be a mapping, not {block!r} ({place(thing, 'meta.sao', root)})")
    found, warnings = dict[str, Any](), list[str]()
    for key, value in block.items():
        if key not in keys:
            near = difflib.get_close_matches(str(key), keys, 1, 0.5)
            hint = f"did you mean {near[0]}?" if near else f"known are {', '.join(keys)}"
            warnings.append(
                f"{name}: meta.sao has the unknown key {key}; {hint} ({place(thing, f'meta.sao.{key}', root)})"
            )
        elif key in FLAGS and not (isinstance(value, bool) or (value and value == FLAGS[key])):
            where, more = place(thing, f"meta.sao.{key}", root), f", {FLAGS[key]}" if FLAGS[key] else ""
            raise PolicyError(f"{name}: meta.sao.{key} must be true{more} or false, not {value!r} ({where})")
        elif key == "files" and not (isinstance(value, str) and value.strip() and value.isprintable()):
            where = place(thing, "meta.sao.files", root)
            raise PolicyError(f"{name}: meta.sao.files must be one path or pattern, not {value!r} ({where})")
        elif key == "probe" and not isinstance(value, bool):
            found[key] = _interval(thing, value, root)
        else:
            found[key] = value
    return found, warnings


def _interval(thing: Mapping[str, Any], value: Any, root: Path | None) -> str:
    try:
        interval(value)
    except PolicyError as error:
        where = place(thing, "meta.sao.probe", root)
        raise PolicyError(f"{label(thing)}: meta.sao.{error.message} ({where})", hint=error.hint) from None
    return str(value)


def label(thing: Mapping[str, Any]) -> str:
    """The name that people use: a source with the name of its group."""
    return f"{thing['source_name']}.{thing['name']}" if "source_name" in thing else str(thing["name"])
