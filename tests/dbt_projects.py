"""Makes dbt projects on DuckDB for tests and benchmarks: files from a mapping, or a layered project of any size."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from textwrap import dedent

PROJECT = """
name: {name}
version: "1.0"
profile: {name}
flags: {{send_anonymous_usage_stats: false}}
"""
PROFILES = """
{name}:
  target: dev
  outputs:
    dev: {{type: duckdb, path: warehouse.duckdb, threads: {threads}}}
"""


def write_project(
    folder: Path, files: Mapping[str, str], *, name: str = "tiny", threads: int = 2, settings: str = ""
) -> Path:
    """A project in `folder` with its own profile; `files` are paths and texts, `settings` goes into dbt_project.yml."""
    texts = {
        "dbt_project.yml": PROJECT.format(name=name) + dedent(settings),
        "profiles.yml": PROFILES.format(name=name, threads=threads),
        **files,
    }
    for path, text in texts.items():
        file = folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(dedent(text).lstrip("\n"), encoding="utf-8")
    return folder


def layered(models: int, *, tests: bool = True) -> dict[str, str]:
    """Files of a project: a seed, two fifths of the models as views on it, the others as tables on three views each."""
    stages = max(1, models * 2 // 5)
    files = {"seeds/raw.csv": "id,amount\n1,10\n2,20\n3,30\n"}
    names = list[str]()
    for index in range(models):
        name = f"stg_{index}" if index < stages else f"mart_{index}"
        folder = "staging" if index < stages else "marts"
        files[f"models/{folder}/{name}.sql"] = _model(index, stages)
        names.append(name)
    if tests:
        entries = "".join(
            f"  - name: {name}\n    columns: [{{name: id, data_tests: [not_null, unique]}}]\n" for name in names
        )
        files["models/properties.yml"] = f"version: 2\nmodels:\n{entries}"
    return files


def _model(index: int, stages: int) -> str:
    if index < stages:
        return f"select id, amount + {index} as amount from {{{{ ref('raw') }}}}\n"
    parents = sorted({(index * step) % stages for step in (1, 7, 13)})
    joins = "".join(f"join {{{{ ref('stg_{parent}') }}}} as p{parent} using (id)\n" for parent in parents[1:])
    first = parents[0]
    return (
        "{{ config(materialized='table') }}\n"
        f"select id, p{first}.amount as amount from {{{{ ref('stg_{first}') }}}} as p{first}\n{joins}"
    )
