"""Reads the blocks of a configuration file, every key checked; an error names file, line and the nearest valid key."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any
from urllib.parse import quote

from sao_events.config.keys import KEYS
from sao_events.config.landings import names_in_loads, names_in_rules, read_evidence, read_rules
from sao_events.config.policies import default_in
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
from sao_events.core.errors import ConfigError, PolicyError, UsageError
from sao_events.core.policy import Settings
from sao_events.core.probes import interval
from sao_events.core.windows import parse_duration
from sao_events.git.host import check_api
from sao_events.inputs.data import read_instant
from sao_events.inputs.mapping import Named
from sao_events.inputs.providers import PROVIDERS
from sao_events.yamltext import Block, nearest, plain

SECRETS = 4  # of one endpoint at once: each is tried for each message
PROJECT_FILE = "dbt_project.yml"
_SIZES = {"": 1, "b": 1, "kb": 1_000, "mb": 1_000_000, "gb": 1_000_000_000, "kib": 1024, "mib": 1024**2, "gib": 1024**3}
_ENDPOINT = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,63}", re.ASCII)
_SIZE = re.compile(r"(\d+)\s*([a-zA-Z]*)")


def port_number(text: str, where: str) -> int:
    """A port as a number, 0 for any that is free. Raises ConfigError beginning with `where`."""
    if not text.isascii() or not text.isdigit() or int(text) > 65535:
        raise ConfigError(f"{where}: a port is a number from 0 to 65535, not {text}")
    return int(text)


class Reader:
    """Reads the blocks of one file; knows where it stands and where relative paths count from."""

    def __init__(self, place: str, folder: Path, project: Path, target: str | None) -> None:
        self.place, self.folder, self.project, self.target = place, folder, project, target

    def config(self, block: Block, path: Path | None) -> Config:
        """The whole file, whose top level is `block`. Raises ConfigError."""
        self._check(block, "")
        project, dbt = self._block(block, "project"), self._block(block, "dbt")
        made = self._dbt(project, dbt)
        named = None if made.target != self._text(project, "target") else self._text(block, "environment")
        return Config(
            environment=named or made.target or "default",
            dbt=made,
            state_dir=self._path(block, "state_dir") or self._state_dir(made, path),
            settings=replace(
                self._settings(self._block(block, "decisions"), self._block(block, "tests")),
                probe_every=self._every(self._block(block, "probes")),
            ),
            relations=self._seconds(self._block(block, "relations"), "every", 300.0),
            http=self._http(self._block(block, "http")),
            data_tokens=self._secrets(self._block(block, "data"), "tokens", "data.tokens"),
            evidence=read_evidence(self._block(block, "data"), self.place),
            webhooks={name: self._webhook(name, hook) for name, hook in self._named(block, "webhooks")},
            git=self._git(self._block(block, "git")) if self._block(block, "git") else None,
            previews=self._previews(self._block(block, "previews")) if self._block(block, "previews") else None,
            sources={
                name: replace(self._source(source), place=f"{self.place}:{block['sources'].line_of(name)}: ")
                for name, source in self._named(block, "sources")
            },
            names=self._names(block),
            path=path,
        )

    def _every(self, block: Block) -> float | None:
        every = self._seconds(block, "every", 0.0) if "every" in block else None
        if every == 0:
            raise self._error(block, "every", "probes.every: an interval of 0 would never rest")
        return every

    def _names(self, block: Block) -> tuple[Named, ...]:
        """What sources are called in the file; whether they are in the project is known once that is parsed."""
        hooks = (names_in_rules(hook, self.place, name) for name, hook in self._named(block, "webhooks"))
        return (*names_in_loads(self._block(block, "data"), self.place), *chain.from_iterable(hooks))

    def _dbt(self, project: Block, dbt: Block) -> DbtConfig:
        given = plain(project.get("vars", Block({}, 0)))
        if not isinstance(given, dict | None):
            raise self._error(project, "vars", "vars must be a mapping of names to values")
        threads = dbt.number(self.place, "threads", 1, least=1) if plain(dbt.get("threads")) is not None else None
        return DbtConfig(
            project_dir=self._path(project, "dir") or self._default_project(),
            profiles_dir=self._path(project, "profiles_dir"),
            profile=self._text(project, "profile"),
            target=self.target or self._text(project, "target"),
            vars=given or {},
            threads=threads,
            executable=self._text(dbt, "executable"),
            runner=dbt.choice(self.place, "runner", ("auto", "warm", "subprocess")),
            grace=self._seconds(dbt, "grace", 10.0),
            keep_output=self._seconds(dbt, "keep_output", 30 * 86400.0),
        )

    def _state_dir(self, dbt: DbtConfig, path: Path | None) -> Path:
        """One for each target: what was built in one says nothing of another."""
        folder = (self.folder if path else self.project) / ".sao"
        return folder / "targets" / quote(dbt.target, safe="") if dbt.target else folder

    def _default_project(self) -> Path:
        return self.folder if (self.folder / PROJECT_FILE).is_file() else self.project

    def _settings(self, block: Block, tests: Block) -> Settings:
        retries = self._block(block, "retries", "decisions.retries")
        return Settings(
            trigger=block.choice(self.place, "trigger", ("continuous", "jobs")),
            code_changes=block.choice(self.place, "code_changes", ("immediate", "after_window")),
            settle=self._seconds(block, "settle", DEFAULTS.settle),
            attempts=retries.number(self.place, "attempts", DEFAULTS.attempts),
            backoff=self._seconds(retries, "backoff", DEFAULTS.backoff),
            max_concurrent_runs=block.number(self.place, "max_concurrent_runs", 1, least=1),
            default_config=self._default_policy(block),
            reuse_tests=self._flag(tests, "reuse", True),
            prove_tests=self._flag(tests, "proof", True),
            aggregate_tests=self._flag(tests, "aggregate", True),
        )

    def _default_policy(self, block: Block) -> Mapping[str, Any]:
        default = default_in(self._block(block, "default", "decisions.default"), self.place, "decisions.default")
        cutoff = default.get("early_cutoff", False)
        if not isinstance(cutoff, bool) and cutoff != "auto":
            wrong = f"decisions.default: early_cutoff must be true, auto or false, not {cutoff!r}"
            raise self._error(block, "default", wrong)
        return default

    def _http(self, block: Block) -> HttpConfig:
        port = port_number(str(block.get("port", "8181")), f"{self.place}:{block.line_of('port')}: http.port")
        return HttpConfig(self._text(block, "host") or "127.0.0.1", port, self._size(block, "body_limit", 1_000_000))

    def _webhook(self, name: str, block: Block) -> WebhookConfig:
        if not _ENDPOINT.fullmatch(name):
            wrong = f"webhooks.{name[:80]}: the name is part of an address: letters, digits, ., _ and -, at most 64"
            raise ConfigError(f"{self.place}:{block.line}: {wrong}")
        block.expect(self.place, KEYS["webhooks.*"], needs=("provider",))
        provider = block.choice(self.place, "provider", tuple(PROVIDERS))
        if PROVIDERS[provider].topics is None:
            block.expect(self.place, KEYS["webhooks.*"], needs=("secrets",))
        secrets = self._secrets(block, "secrets", "webhooks.*.secrets")
        topics = block.words(self.place, "topics")
        if PROVIDERS[provider].topics is not None and not topics:
            raise self._error(block, "topics", "the topics that may send are missing: any other could sign too")
        if PROVIDERS[provider].topics is None and not secrets:
            raise self._error(block, "secrets", "a webhook needs at least one secret: nobody else may send to it")
        limit, repository = self._size(block, "body_limit", 0) or None, self._text(block, "repository")
        return WebhookConfig(provider, secrets, limit, repository, topics, read_rules(block, self.place))

    def _git(self, block: Block) -> GitConfig:
        remote = self._text(block, "remote")
        if not remote:
            raise self._error(block, "remote", "git.remote is missing: the address of the repository to deploy from")
        subdir = self._text(block, "subdir") or ""
        if Path(subdir).is_absolute() or ".." in Path(subdir).parts:
            raise self._error(block, "subdir", f"git.subdir must be a folder inside the repository, not {subdir}")
        return GitConfig(remote, self._text(block, "branch") or "main", self._seconds(block, "poll", 300.0), subdir)

    def _previews(self, block: Block) -> PreviewConfig:
        if plain(block.get("token")) is None:
            raise self._error(block, "token", "previews.token is missing: where the token of the git host is")
        token, api = self._secret(block["token"], block, "token", "previews.token"), self._text(block, "api")
        try:
            return PreviewConfig(token, api and check_api(api), self._flag(block, "forks"), self._text(block, "url"))
        except ConfigError as error:
            raise self._error(block, "api", error.message) from None

    def _source(self, block: Block) -> SourceConfig:
        block.expect(self.place, KEYS["sources.*"])
        static, view = self._flag(block, "static"), self._flag(block, "view")
        probe, files = self._probe(block), self._text(block, "files")
        for key, wish in (("probe", probe), ("files", files)):
            if static and wish:
                raise self._error(block, key, f"{key}: a source that is static is never looked at; take one out")
        return SourceConfig(static, view, probe, files)

    def _probe(self, block: Block) -> bool | str | None:
        wish = plain(block.get("probe"))
        if wish is None or isinstance(wish, bool):
            return wish
        try:
            interval(wish)
        except PolicyError as error:
            raise self._error(block, "probe", f"{error.message}; {error.hint}") from None
        return str(wish)

    def _secrets(self, block: Block, key: str, path: str) -> tuple[Secret, ...]:
        items = block.get(key, [])
        if not isinstance(items, list):
            raise self._error(block, key, f"{key} must be a list such as [{{env: NAME}}, {{file: PATH}}]")
        if len(items) > SECRETS:
            raise self._error(block, key, f"{key}: at most {SECRETS}, the old and the new ones of a change")
        return tuple(self._secret(item, block, key, path) for item in items)

    def _secret(self, item: object, block: Block, key: str, path: str) -> Secret:
        if not isinstance(item, Block):
            wrong = "secrets are not written into the file: name where each is, {env: NAME} or {file: PATH}"
            raise ConfigError(f"{self.place}:{getattr(item, 'line', block.line_of(key))}: {wrong}")
        item.expect(self.place, KEYS[path])
        env, file = self._text(item, "env"), self._path(item, "file")
        if (env is None) == (file is None):
            raise ConfigError(f"{self.place}:{item.line}: a secret is either {{env: NAME}} or {{file: PATH}}")
        return Secret(env, file, self._instant(item, "not_after"))

    # Values

    def _error(self, block: Block, key: str, message: str) -> ConfigError:
        return ConfigError(f"{self.place}:{block.line_of(key)}: {message}")

    def _check(self, block: Block, path: str) -> None:
        keys = KEYS[path]
        for key in block:
            if key not in keys:
                where = f"{self.place}:{block.line_of(key)}: unknown key {key}{f' in {path}' if path else ''}"
                raise ConfigError(where, hint=nearest(key, keys))

    def _block(self, block: Block, key: str, path: str | None = None) -> Block:
        """The mapping under `key`, its keys checked; an empty one where there is none."""
        found = block.get(key)
        if not isinstance(found, Block):
            if key in block and plain(found) is not None:
                raise self._error(block, key, f"{key} must be a mapping with {', '.join(KEYS[path or key])}")
            return Block({}, block.line_of(key))
        self._check(found, path or key)
        return found

    def _named(self, block: Block, key: str) -> Iterator[tuple[str, Block]]:
        found = block.get(key)
        if found is None or plain(found) is None:
            return
        if not isinstance(found, Block):
            raise self._error(block, key, f"{key} must be a mapping of names")
        for name, item in found.items():
            if not isinstance(item, Block):
                keys = ", ".join(KEYS[f"{key}.*"])
                raise self._error(found, name, f"{key}.{name} must be a mapping with {keys}")
            yield name, item

    def _text(self, block: Block, key: str) -> str | None:
        value = block.get(key)
        if value is None or plain(value) is None:
            return None
        if not isinstance(value, str):
            raise self._error(block, key, f"{key} must be text")
        return str(value)

    def _path(self, block: Block, key: str) -> Path | None:
        text = self._text(block, key)
        return None if text is None else Path(os.path.normpath(self.folder / Path(text).expanduser()))

    def _flag(self, block: Block, key: str, default: bool = False) -> bool:
        value = plain(block[key]) if key in block else default
        if not isinstance(value, bool):
            raise self._error(block, key, f"{key} must be true or false, not {value}")
        return value

    def _instant(self, block: Block, key: str) -> float | None:
        text = self._text(block, key)
        if text is None:
            return None
        try:
            return read_instant(str(text))
        except UsageError:
            raise self._error(block, key, f"{key}: {text} is no instant such as 2026-01-31T08:00:00Z") from None

    def _seconds(self, block: Block, key: str, default: float) -> float:
        if key not in block:
            return default
        try:
            return parse_duration(str(block[key]))
        except ValueError as error:
            raise self._error(block, key, f"{key}: {error}") from None

    def _size(self, block: Block, key: str, default: int) -> int:
        if key not in block:
            return default
        match = _SIZE.fullmatch(str(block[key]))
        if match is None or match[2].lower() not in _SIZES:
            raise self._error(block, key, f"{key}: {block[key]} is not a size such as 500kB, 1MB or 65536")
        return int(match[1]) * _SIZES[match[2].lower()]
