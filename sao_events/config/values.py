"""What an environment is told, as values. Durations are seconds, sizes bytes."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from sao_events.core.errors import ConfigError
from sao_events.core.evidence import Evidence
from sao_events.core.policy import Settings
from sao_events.inputs.mapping import Named, Rule

DEFAULTS = Settings(settle=2.0, attempts=2, backoff=60.0)


@dataclass(frozen=True, slots=True)
class Secret:
    """Where a secret is to be found: the environment variable `env` or the file `file`. Its value is never shown.
    `not_after`: from when on (UTC epoch seconds) it is taken no more.
    """

    env: str | None = None
    file: Path | None = None
    not_after: float | None = None

    def value(self) -> str | None:
        """The secret as it is now, without white space around it; None where it is not set, not there or empty.

        Raises ConfigError where its file cannot be read, or it is no text.
        """
        if self.file is None:
            value = os.environ.get(self.env or "", "").strip()
            if any("\udc80" <= letter <= "\udcff" for letter in value):  # what bytes become that are no UTF-8
                raise ConfigError(f"{self}: the secret cannot be read: it is not UTF-8")
            return value or None
        try:
            return self.file.read_text(encoding="utf-8").strip() or None
        except FileNotFoundError:
            return None
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"{self.file}: the secret cannot be read: {error}") from None

    def __str__(self) -> str:
        return f"the environment variable {self.env}" if self.env else f"the file {self.file}"


@dataclass(frozen=True, slots=True)
class DbtConfig:
    """The dbt project and how dbt is run. `grace`: seconds between asking dbt to stop and killing it; `keep_output`:
    how many what it wrote in a run is kept, 0 for ever.
    """

    project_dir: Path
    profiles_dir: Path | None = None
    profile: str | None = None
    target: str | None = None
    vars: Mapping[str, Any] = field(default_factory=dict)
    threads: int | None = None
    executable: str | None = None
    runner: Literal["auto", "warm", "subprocess"] = "auto"
    grace: float = 10.0
    keep_output: float = 30 * 86400.0


@dataclass(frozen=True, slots=True)
class HttpConfig:
    """Where the service listens; a request body longer than `body_limit` bytes is refused."""

    host: str = "127.0.0.1"
    port: int = 8181
    body_limit: int = 1_000_000


@dataclass(frozen=True, slots=True)
class WebhookConfig:
    """Who sends to `/webhooks/<name>`. One of `secrets` must verify a delivery, of at most `body_limit` bytes (None:
    what the provider sends at most). Of a git host, pushes to `repository` count (None: to that of `git.remote`);
    of a loader, `rules` say which sources its messages are about, and of one whose topics sign, only `topics` may send.
    """

    provider: str
    secrets: tuple[Secret, ...]
    body_limit: int | None = None
    repository: str | None = None
    topics: tuple[str, ...] = ()
    rules: tuple[Rule, ...] = ()


@dataclass(frozen=True, slots=True)
class GitConfig:
    """The repository to deploy from. `poll`: seconds between looks at it; `subdir`: the project's folder in it."""

    remote: str
    branch: str = "main"
    poll: float = 300.0
    subdir: str = ""


@dataclass(frozen=True, slots=True)
class PreviewConfig:
    """Previews of pull and merge requests: the `token` for the git host's API at `api` (None: that of github.com or
    gitlab.com), whether the code of `forks` is looked at, and the address `url` that a commit status links to.
    """

    token: Secret
    api: str | None = None
    forks: bool = False
    url: str | None = None


@dataclass(frozen=True, slots=True)
class SourceConfig:
    """What is not to be seen of a source: it never changes (`static`), it is a view in the warehouse (`view`); whether
    and how often it is looked at (`probe`: true, false or an interval), and the `files` that it is read from. `place`:
    the file and line that say so.
    """

    static: bool = False
    view: bool = False
    probe: bool | str | None = None
    files: str | None = None
    place: str = field(default="", compare=False)


@dataclass(frozen=True, slots=True)
class Config:
    """Everything that one environment is told. `relations`: seconds between two looks at whether relations are there
    (0: none). `names` are what loads and rules call sources; `path` is the file it was read from, where there was one.
    """

    environment: str
    dbt: DbtConfig
    state_dir: Path
    settings: Settings = DEFAULTS
    http: HttpConfig = HttpConfig()
    data_tokens: tuple[Secret, ...] = ()
    evidence: Evidence = field(default_factory=Evidence)
    relations: float = 300.0
    webhooks: Mapping[str, WebhookConfig] = field(default_factory=dict)
    git: GitConfig | None = None
    previews: PreviewConfig | None = None
    sources: Mapping[str, SourceConfig] = field(default_factory=dict)
    names: tuple[Named, ...] = ()
    path: Path | None = None

    def rules(self, endpoint: str) -> tuple[Rule, ...]:
        """The rules that map what comes to a webhook; `lineage` is the address that OpenLineage's clients know."""
        hook = self.webhooks.get(endpoint) or (self.lineage() if endpoint == "lineage" else None)
        return hook.rules if hook is not None else ()

    def lineage(self) -> WebhookConfig | None:
        """The first webhook of OpenLineage, whose secrets and rules hold for its clients' own address too."""
        return next((hook for hook in self.webhooks.values() if hook.provider == "openlineage"), None)
