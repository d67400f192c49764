"""Policies that stand in a file of ours, with the line of the key that is wrong."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sao_events.core.errors import ConfigError, PolicyError
from sao_events.core.policy import Policy, key_named, read_policy
from sao_events.yamltext import Block, plain


def policy_in(
    config: Block, place: str, node: str, more: Mapping[str, Any], default: Mapping[str, Any] | None = None
) -> tuple[Policy, list[str]]:
    """The policy that `config`, with `more` that stands elsewhere, gives `node`, and warnings with their places. Raises
    ConfigError naming `place` and line.
    """
    try:
        policy, warnings = read_policy(plain(config) | more, node=node, default=default)
    except PolicyError as error:
        raise ConfigError(f"{place}:{config.line_at(key_named(error.message))}: {error.message}") from None
    return policy, [f"{warning} ({place}:{config.line_at(key_named(warning))})" for warning in warnings]


def default_in(config: Block, place: str, name: str) -> dict[str, Any]:
    """The policy of all that declare none, called `name`. Raises ConfigError, for a doubt too: it would be of all."""
    made: dict[str, Any] = plain(config)
    try:
        _, warnings = read_policy(made, node=name)
    except PolicyError as error:
        warnings = [error.message]
    for wrong in warnings:
        raise ConfigError(f"{place}:{config.line_at(key_named(wrong))}: {wrong}")
    return made
