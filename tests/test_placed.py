"""Where the windows stand that dbt refuses without saying so."""

from __future__ import annotations

from pathlib import Path

from sao_events.dbt.builder import parse_error
from sao_events.dbt.placed import refused_windows
from sao_events.dbt.settings import DbtSettings

PROPERTIES = """
models:
  - name: good
    config: {freshness: {build_after: {count: 1, period: hour, updates_on: all}}}
  - name: unit
    config:
      freshness:
        build_after:
          count: 30
          period: minutes
  - name: lone
    config: {freshness: {build_after: {count: 1}}}
  - name: quorum
    config: {freshness: {build_after: {updates_on: all}}}
  - name: rendered
    config: {freshness: {build_after: {count: "{{ var('n') }}", period: hour}}}
  - name: word
    config: {freshness: {build_after: {count: many, period: hour}}}
"""
PROJECT = "name: shop\nmodels:\n  +freshness:\n    build_after: {period: day}\n"


MODEL = """-- build_after
{{ config(materialized='table',
          freshness={'build_after': {'count': 2, 'period': 'hour'}}) }}
{{ config(freshness={'build_after': {'count': var('n'), 'period': 'hour'}}) }}
{{ config(freshness=dict(build_after={'count': 1,
                                      'updates_on': 'all'})) }}
"""


def written(root: Path) -> Path:
    """A project with windows, good and bad, in folders of its own and of dbt's."""
    for path, text in {"dbt_project.yml": PROJECT, "models/a.yml": PROPERTIES, "target/b.yml": PROPERTIES}.items():
        (root / path).parent.mkdir(exist_ok=True)
        (root / path).write_text(text, encoding="utf-8")
    (root / "models" / "m.sql").write_text(MODEL, encoding="utf-8")
    (root / "models" / "broken.yml").write_text("build_after: [", encoding="utf-8")
    return root


def test_windows_that_dbt_refuses_are_found_by_file_and_line(tmp_path: Path) -> None:
    assert refused_windows(written(tmp_path)) == [
        "dbt_project.yml:4",
        "models/a.yml:8",
        "models/a.yml:12",
        "models/a.yml:18",
        "models/m.sql:5",
    ]


def test_an_error_about_a_window_says_where_it_stands_and_another_does_not(tmp_path: Path) -> None:
    settings = DbtSettings(written(tmp_path), tmp_path)
    said = "`freshness.build_after` must have a value for `period` if a `count` is provided"
    assert "it stands in dbt_project.yml:4, models/a.yml:8, " in str(parse_error(settings, said))
    assert "stands in" not in str(parse_error(settings, "no model nowhere"))
