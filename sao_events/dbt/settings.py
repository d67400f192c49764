"""Which dbt runs where: the project, its profile and target, and the environment that dbt sees."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import re
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import yaml

from sao_events.core.errors import DbtError, StoreError

# Set in somebody's shell these would make dbt build less than it is asked for, something else, or say nothing of it.
LEFT_OUT = (
    "DBT_EMPTY",
    "DBT_EXCLUDE",
    "DBT_EXCLUDE_RESOURCE_TYPES",
    "DBT_RESOURCE_TYPES",
    "DBT_SAMPLE",
    "DBT_SELECT",
    "DBT_SELECTOR",
    "DBT_EVENT_TIME_START",
    "DBT_EVENT_TIME_END",
    "DBT_DEFER",
    "DBT_FAVOR_STATE",
    "DBT_STATE",
    "DBT_QUIET",
    "DBT_DEBUG",
    "DBT_LOG_CACHE_EVENTS",
)
_SECRET = re.compile(r"pass|pwd|secret|token|key|credential|private", re.IGNORECASE)


@dataclass(frozen=True)
class DbtSettings:
    """One dbt project with one target. `grace` is how many seconds a cancelled build has to end by itself;
    `keep_output` how many what dbt wrote in a run is kept, 0 for ever.

    `runner`: `warm` keeps a process with dbt imported and the project parsed, `subprocess` starts dbt for every build,
    `auto` is `warm` wherever that is possible. `aggregate`: one query for several tests of a node, where dbt is warm.
    `columns`: look at the columns of what is built, where dbt is warm. `env` is added to the service's own environment.
    """

    project_dir: Path
    state_dir: Path
    profiles_dir: Path | None = None
    target: str | None = None
    profile: str | None = None
    vars: Mapping[str, Any] = field(default_factory=dict)
    threads: int | None = None
    dbt: str | None = None
    env: Mapping[str, str] = field(default_factory=dict)
    grace: float = 10.0
    keep_output: float = 0.0
    runner: Literal["auto", "warm", "subprocess"] = "auto"
    aggregate: bool = True
    columns: bool = True

    def environment(self) -> dict[str, str]:
        """The environment in which dbt runs."""
        kept = {k: v for k, v in os.environ.items() if k.replace("DBT_ENGINE_", "DBT_") not in LEFT_OUT}
        return kept | dict(self.env)

    def executable(self) -> str:
        """The path of dbt: the one asked for, else the one beside this Python, else the first on the PATH."""
        beside = shutil.which("dbt", path=str(Path(sys.executable).parent))
        found = shutil.which(self.dbt, path=self.environment().get("PATH")) if self.dbt else None
        if not self.dbt:
            found = beside or shutil.which("dbt", path=self.environment().get("PATH"))
        if found is None:
            what = f"dbt was not found at {self.dbt}" if self.dbt else "dbt was not found, neither here nor on the PATH"
            raise DbtError(what, hint="install it with an adapter, for example: pip install 'sao-events[dbt]'")
        return found

    def warm(self) -> bool:
        """Whether to keep dbt warm. Raises DbtError where that is asked for and impossible."""
        possible = os.name == "posix" and self.dbt is None and _importable()
        if self.runner == "warm" and not possible:
            raise DbtError(
                "the warm runner needs dbt-core 1.x in the Python that runs the service, on a POSIX system",
                hint="install dbt beside sao-events, or set the runner to subprocess",
            )
        return possible and self.runner != "subprocess"

    def check(self) -> None:
        """Raises DbtError where there is no dbt project, StoreError where dbt's files would have no place."""
        if not (self.project_dir / "dbt_project.yml").is_file():
            raise DbtError(
                f"{self.project_dir} is not a dbt project: it has no dbt_project.yml",
                hint="name the folder that holds dbt_project.yml",
            )
        self.check_place()

    def check_place(self) -> None:
        """Make the place of dbt's files. Raises StoreError where there can be none."""
        hint = "set state_dir to a folder that can be written"
        try:
            self.state_dir.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StoreError(f"{self.state_dir} cannot be made: {error.strerror}", hint=hint) from None
        if not os.access(self.state_dir, os.W_OK | os.X_OK):
            raise StoreError(f"{self.state_dir} cannot be written", hint=hint)

    def profiles(self) -> list[Path]:
        """Where profiles are looked for: the first file that is there counts."""
        given = self.profiles_dir or self.environment().get("DBT_PROFILES_DIR")
        places = [str(given)] if given else [str(self.project_dir), "~/.dbt"]
        return [Path(place).expanduser() / "profiles.yml" for place in places]

    def given_target(self) -> dict[str, Any]:
        """The target as the profile writes it, with the environment variables that it names, without what may be
        secret; empty where it is not found.
        """
        env = self.environment()
        profiles = next((read_yaml(file) for file in self.profiles() if file.is_file()), {})
        profile = profiles.get(str(self.profile or read_yaml(self.project_dir / "dbt_project.yml").get("profile")))
        if not isinstance(profile, dict):
            return {}
        name, outputs = self.target or profile.get("target", "default"), profile.get("outputs")
        kept = _shown(outputs.get(name, outputs) if isinstance(outputs, dict) else {})
        asked = {
            key for key in re.findall(r"""env_var\(\s*['"]([^'"]+)""", str([name, kept])) if not _SECRET.search(key)
        }
        return {"name": name, "output": kept, "env": {key: env.get(key) for key in sorted(asked)}}

    def given_vars(self) -> dict[str, Any]:
        """The value of each var, from the project file, those of installed packages, and `vars`, which wins."""
        found: dict[str, Any] = {}
        packages = sorted(self.project_dir.glob("dbt_packages/*/dbt_project.yml"))
        for file in (*packages, self.project_dir / "vars.yml", self.project_dir / "dbt_project.yml"):
            place = str(file.parent.relative_to(self.project_dir))  # the folder's own name is that of a commit
            for name, value in _vars(file).items():
                found.setdefault(name, {})[place] = value
                for inner, scoped in value.items() if isinstance(value, dict) else ():
                    found.setdefault(inner, {})[f"{place}.{name}"] = scoped
        return found | dict(self.vars)


def _shown(output: Any) -> Any:
    """Settings of a target without what may be secret and without what changes no SQL."""
    if not isinstance(output, dict):
        return output
    return {k: _shown(value) for k, value in output.items() if not _SECRET.search(str(k)) and k != "threads"}


def read_yaml(file: Path) -> dict[str, Any]:
    """What the file says; nothing where it cannot be read."""
    try:
        body = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError):
        return {}
    return body if isinstance(body, dict) else {}


def _vars(file: Path) -> dict[str, Any]:
    given = read_yaml(file).get("vars")
    return {str(name): value for name, value in given.items()} if isinstance(given, dict) else {}


def _importable() -> bool:
    """Whether this Python has dbt-core 1.x; found out without importing it."""
    try:
        if not importlib.metadata.version("dbt-core").startswith("1."):
            return False
    except importlib.metadata.PackageNotFoundError:
        return False
    spec = importlib.util.find_spec("dbt")
    places = (spec.submodule_search_locations if spec else None) or ()
    return any((Path(place) / "cli" / "main.py").is_file() for place in places)
