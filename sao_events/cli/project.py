"""The dbt project, parsed here and now for commands that show what would be.

What knows dbt is imported where it is used: the other commands start without it.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from sao_events.config import Config, require_project
from sao_events.core.errors import UsageError
from sao_events.core.project import Project
from sao_events.core.state import World

if TYPE_CHECKING:
    from sao_events.cli.record import Record
    from sao_events.dbt import DbtBuilder, DbtSettings

EVERYTHING = "fqn:*"


def folder_of(config: Config, world: World) -> Path:
    """Where the project lies: the configured folder, or with `git` the checkout of the commit in force."""
    if config.git is None:
        return require_project(config)
    folder = config.state_dir / "git" / "commits" / (world.commit or "-") / config.git.subdir
    if not folder.is_dir():
        raise UsageError(
            f"nothing was deployed from {config.git.branch} yet", hint="start `sao-events serve`: it fetches the branch"
        )
    return folder


def _settings(config: Config, folder: Path) -> DbtSettings:
    """dbt with files of its own: a service may be parsing at the same time."""
    from sao_events.builds import dbt_settings

    settings = dbt_settings(config, folder)
    return replace(settings, state_dir=config.state_dir / "plan")


def parse(config: Config, record: Record) -> Project:
    """The project as it lies there. Raises DbtError, GraphError or PolicyError."""
    folder = folder_of(config, record.world)
    from sao_events import dbt

    with closing(dbt.open_builder(_settings(config, folder))) as builder:
        return _read(config, record, builder)


def parse_and_select(
    config: Config, record: Record, select: Sequence[str], exclude: Sequence[str]
) -> tuple[Project, tuple[str, ...]]:
    """The project, and the ids of the nodes that a selector in dbt's own syntax names. Raises UsageError for none."""
    folder = folder_of(config, record.world)
    from sao_events import dbt

    with closing(dbt.open_builder(_settings(config, folder))) as builder:
        project = _read(config, record, builder)
        ids = set(builder.select(" ".join(select) or EVERYTHING, " ".join(exclude) or None))
    return project, _chosen([name for name in project.graph.nodes if name in ids], select, exclude)


def _read(config: Config, record: Record, builder: DbtBuilder) -> Project:
    from sao_events.deploy.deployer import as_told
    from sao_events.deploy.identify import recognised

    parsed = builder.load(config.settings.default_config).project
    return as_told(recognised(parsed, record.store, builder.render), config)


def only_select(config: Config, world: World, select: Sequence[str], exclude: Sequence[str]) -> tuple[str, ...]:
    """The ids alone, of tests too: one start of dbt, for who has the project parsed elsewhere. Raises UsageError for
    none.
    """
    folder = folder_of(config, world)
    from sao_events import dbt

    settings = replace(_settings(config, folder), runner="subprocess")
    with closing(dbt.open_builder(settings)) as builder:
        return _chosen(builder.select(" ".join(select) or EVERYTHING, " ".join(exclude) or None), select, exclude)


def _chosen(ids: Sequence[str], select: Sequence[str], exclude: Sequence[str]) -> tuple[str, ...]:
    if not ids:
        but = f" without {' '.join(exclude)}" if exclude else ""
        raise UsageError(
            f"the selector {' '.join(select) or EVERYTHING}{but} names no model, seed or snapshot",
            hint="it is dbt's own syntax: orders, +orders, tag:daily, path:models/marts ...",
        )
    return tuple(ids)
