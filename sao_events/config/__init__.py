"""The configuration: a file `sao.yml`, a few environment variables, and defaults under which no file is needed.

Every key is checked; an error names file, line and the nearest valid key. Relative paths count from the folder of the
file. Durations are seconds, sizes bytes. Secrets are never in the file: it names the environment variable or the file
that holds them, and they are read when they are used.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from sao_events.config.keys import KEYS
from sao_events.config.reader import PROJECT_FILE, Reader, port_number
from sao_events.config.values import (
    DEFAULTS,
    Config,
    DbtConfig,
    GitConfig,
    HttpConfig,
    PreviewConfig,
    Secret,
    SourceConfig,
    WebhookConfig,
)
from sao_events.core.errors import ConfigError
from sao_events.yamltext import Block, documents

__all__ = [
    "DEFAULTS",
    "KEYS",
    "VARIABLES",
    "Config",
    "DbtConfig",
    "GitConfig",
    "HttpConfig",
    "PreviewConfig",
    "Secret",
    "SourceConfig",
    "WebhookConfig",
    "load_config",
    "port_number",
    "require_project",
]

FILE = "sao.yml"
VARIABLES = ("SAO_CONFIG", "SAO_STATE_DIR", "SAO_HOST", "SAO_PORT")


def load_config(
    path: Path | None, start: Path, environ: Mapping[str, str] | None = None, *, target: str | None = None
) -> Config:
    """The configuration in the file `path`, else in `SAO_CONFIG`, else in `sao.yml` of `start` or of the dbt project's
    folder, which is `start` or the nearest folder above it with a dbt project; without any, the defaults.

    Environment variables win over the file; so does `target`, dbt's, which where it is another one makes another
    environment. Raises ConfigError naming file and line.
    """
    environ = os.environ if environ is None else environ
    found = _project_folder(start)
    if path is None and environ.get("SAO_CONFIG"):
        path = Path(environ["SAO_CONFIG"])
    if path is None:
        path = next((at / FILE for at in (start, found) if at is not None and (at / FILE).is_file()), None)
    project = (found or start).absolute()
    if path is None:
        return _with_environment(Reader("defaults", project, project, target).config(Block({}, 0), None), environ)
    path = path.absolute()
    config = Reader(str(path), path.parent, project, target).config(_document(path), path)
    return _with_environment(config, environ)


def require_project(config: Config) -> Path:
    """The folder of the dbt project. Raises ConfigError where there is no dbt project in it."""
    folder = config.dbt.project_dir
    if not (folder / PROJECT_FILE).is_file():
        raise ConfigError(
            f"{folder}: there is no dbt project here (no {PROJECT_FILE})",
            hint="go to the project's folder, name it with --project-dir, or set project.dir in sao.yml",
        )
    return folder


def _project_folder(start: Path) -> Path | None:
    start = start.absolute()
    return next((folder for folder in (start, *start.parents) if (folder / PROJECT_FILE).is_file()), None)


def _document(path: Path) -> Block:
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigError(f"{path}: there is no such configuration file", hint="see --config and SAO_CONFIG") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: the configuration cannot be read: {error}") from None
    found = list(documents(text, str(path)))
    if len(found) > 1:
        raise ConfigError(f"{path}:{found[1].line}: a second document; a configuration is one")
    return found[0] if found else Block({}, 1)


def _with_environment(config: Config, environ: Mapping[str, str]) -> Config:
    http, state_dir = config.http, config.state_dir
    if host := environ.get("SAO_HOST"):
        http = replace(http, host=host)
    if port := environ.get("SAO_PORT"):
        http = replace(http, port=port_number(port, "SAO_PORT"))
    if folder := environ.get("SAO_STATE_DIR"):
        state_dir = Path(folder).absolute()
    return replace(config, http=http, state_dir=state_dir)
