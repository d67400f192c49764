"""dbt, the build engine: its artifacts, its command line, its events. Nothing outside this package knows any of them.

What the rest of the service uses, all of it from here:

`DbtSettings(project_dir, state_dir, ...)`
    Which project, with which profile, target, vars and environment, and where runs keep their files.
`open_builder(settings, *, keep_fd=None, notify=None) -> DbtBuilder`
    A `ports.Builder` (`start`, `reports`, `cancel`; `gated` is False) and `ports.Warehouse` (`ask`) with three more
    methods. `load(default={}) -> Loaded` parses the project and blocks while it does; call it before the first `start`
    and after each change of the code. `select(text, exclude=None) -> tuple[str, ...]` gives the ids of the nodes and
    tests that a selector in dbt's own syntax names. `close()` ends everything that was started. `keep_fd` is a file
    descriptor that every build process inherits. `notify()` is called, from another thread, when `reports()` has
    something.
`load(settings, default={}) -> Loaded`
    The same parse once, without keeping anything running.
`Loaded(project, manifest)`
    The `Project`, and the path of the manifest it was read from.
`read_project(manifest, *, vars={}, env={}, default={}, root=None) -> Project`
    From a manifest that was read already. `default` is the environment's policy for nodes that declare none, `root` the
    project's folder.

A project, profile or dbt that cannot be used raises `errors.DbtError` from `load`. What goes wrong in a build is a
report. A piece's own files are in `<state_dir>/runs/<run>/<piece>/`; `dbt.log` there is dbt's whole log as plain text,
written as it runs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import closing
from typing import Any

from sao_events.dbt.builder import DbtBuilder, Loaded
from sao_events.dbt.cold import ColdBuilder
from sao_events.dbt.forked import WarmBuilder
from sao_events.dbt.manifest import read_manifest, read_project
from sao_events.dbt.settings import DbtSettings

__all__ = ["DbtBuilder", "DbtSettings", "Loaded", "load", "open_builder", "read_manifest", "read_project"]


def open_builder(
    settings: DbtSettings, *, keep_fd: int | None = None, notify: Callable[[], None] | None = None
) -> DbtBuilder:
    """The builder that the settings ask for. Raises DbtError where it cannot work here."""
    kind: type[DbtBuilder] = WarmBuilder if settings.warm() else ColdBuilder
    return kind(settings, keep_fd=keep_fd, notify=notify)


def load(settings: DbtSettings, default: Mapping[str, Any] | None = None) -> Loaded:
    """Parse the project once."""
    with closing(ColdBuilder(settings)) as builder:
        return builder.load(default)
