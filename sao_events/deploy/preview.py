"""What code that is not in force would build and reuse: parsed by a dbt of its own, planned against what is on record.

Nothing is recorded and nothing is built. Parsing renders the Jinja of the code, without a warehouse.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

from sao_events import report
from sao_events.builds import dbt_settings
from sao_events.config import Config
from sao_events.core.identity import Inputs, Rendered
from sao_events.core.plan import plan
from sao_events.core.project import Project
from sao_events.deploy.deployer import with_sources
from sao_events.deploy.identify import recognised
from sao_events.ports import Store
from sao_events.report import View

MASK = "DBT_ENV_SECRET_"  # https://docs.getdbt.com/reference/dbt-jinja-functions/env_var: for credentials alone


def parse(config: Config, store: Store, folder: Path, files: Path, *, trusted: bool) -> Project:
    """The project in `folder`, parsed by a dbt of its own, which keeps its files in `files`; its code is compared with
    what the store knows. Code that is not `trusted` is parsed without the secrets of the environment, and not
    compiled: each edit of it counts as a change.

    Raises DbtError, GraphError, PolicyError or SaoError where it would be refused.
    """
    from sao_events import dbt

    settings = replace(dbt_settings(config, folder), state_dir=files, runner="subprocess")
    if not trusted:
        settings = replace(settings, env=masked(config))
    if settings.profiles_dir is None and _only_in(config.dbt.project_dir, folder, "profiles.yml"):
        settings = replace(settings, profiles_dir=config.dbt.project_dir)
    with closing(dbt.open_builder(settings)) as builder:
        parsed = builder.load(config.settings.default_config).project
        known = recognised(parsed, store, builder.render if trusted else _not_compiled)
    return with_sources(known, config.sources)


def _not_compiled(wanted: Mapping[str, Inputs]) -> Mapping[str, Rendered]:
    return {}


def preview(view: View, project: Project, commit: str) -> dict[str, Any]:
    """What would be decided if `project`, which is `commit`, were in force: as `plan --json` has it, with `previewed`,
    the ids of the nodes whose code `changed` and the names of those that would be `gone`.
    """
    before = view.project.graph.nodes if view.project else {}
    decided = plan(project.graph, view.world, view.settings, view.now)
    return {
        **report.plan_object(replace(view, project=project), decided),
        "previewed": commit,
        "changed": changed(view.project, project),
        "gone": [node.name for node in before.values() if node.id not in project.graph.nodes],
        "warnings": list(project.warnings),
    }


def changed(before: Project | None, after: Project) -> list[str]:
    """The nodes that would execute something else than in `before`, or are new, by id."""
    known: Mapping[str, str] = before.graph.fingerprints if before else {}
    return [name for name, found in after.graph.fingerprints.items() if known.get(name) != found]


def bring_packages(config: Config, folder: Path) -> None:
    """Let the code in `folder`, which is another commit of the project here, use the packages installed."""
    if _only_in(config.dbt.project_dir, folder, "dbt_packages"):
        (folder / "dbt_packages").symlink_to(config.dbt.project_dir.absolute() / "dbt_packages")


def _only_in(project: Path, folder: Path, name: str) -> bool:
    return (project / name).exists() and not (folder / name).exists()


def masked(config: Config) -> dict[str, str]:
    """The secrets of the environment, each with a value that says nothing: those of dbt's profile, and our own."""
    webhooks = [secret for hook in config.webhooks.values() for secret in hook.secrets]
    token = [config.previews.token] if config.previews else []
    own = {secret.env for secret in (*config.data_tokens, *webhooks, *token) if secret.env}
    return {name: "hidden" for name in os.environ if name.startswith(MASK) or name in own}


def summary(found: Mapping[str, Any]) -> str:
    """A preview in one line: how many nodes are built, and what becomes of the rest."""
    count = Counter(node["action"] for node in found["nodes"] if node["node"] not in set(found["build"]))
    build = len(found["build"])
    rest = [f"{verb} {count[action]}" for action, verb in (("reuse", "reuse"), ("blocked", "block")) if count[action]]
    held = [f"let {count['wait']} wait"] if count["wait"] else []
    gone = [f"take {len(found['gone'])} away"] if found["gone"] else []
    return f"would build {build} of {len(found['nodes'])} nodes{''.join(f', {part}' for part in (*rest, *held, *gone))}"


def built(found: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The nodes that would be built, in order, as node objects."""
    by_id = {node["node"]: node for node in found["nodes"]}
    return [by_id[name] for name in found["build"]]
