"""Every key of the configuration file, by the place it stands at (docs/CONFIGURATION.md)."""

from __future__ import annotations

# `*` is a name that the user chooses.
KEYS: dict[str, tuple[str, ...]] = {
    "": (
        "environment",
        "project",
        "dbt",
        "state_dir",
        "relations",
        "decisions",
        "tests",
        "http",
        "data",
        "webhooks",
        "git",
        "previews",
        "probes",
        "sources",
    ),
    "project": ("dir", "profiles_dir", "profile", "target", "vars"),
    "relations": ("every",),
    "dbt": ("runner", "executable", "threads", "grace", "keep_output"),
    "decisions": ("trigger", "code_changes", "settle", "retries", "max_concurrent_runs", "default"),
    "decisions.retries": ("attempts", "backoff"),
    "decisions.default": ("freshness", "state", "lazy", "early_cutoff"),
    "tests": ("reuse", "proof", "aggregate"),
    "http": ("host", "port", "body_limit"),
    "data": ("tokens", "empty_loads", "partial_loads", "loads"),
    "data.tokens": ("env", "file", "not_after"),
    "data.loads.*": ("sources", "complete"),
    "webhooks.*": ("provider", "secrets", "body_limit", "repository", "topics", "map"),
    "webhooks.*.secrets": ("env", "file", "not_after"),
    "webhooks.*.map": ("match", "sources", "relation", "schema"),
    "git": ("remote", "branch", "poll", "subdir"),
    "previews": ("token", "api", "forks", "url"),
    "previews.token": ("env", "file"),
    "sources.*": ("static", "view", "probe", "files"),
    "probes": ("every",),
}
