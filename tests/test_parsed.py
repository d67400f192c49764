"""What is kept of a parse of dbt's for the next, and when it is not to be trusted."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Literal

import pytest

from sao_events.core.graph import Graph
from sao_events.core.lineage import Code
from sao_events.core.nodes import Node
from sao_events.core.project import Project
from sao_events.dbt import DbtSettings, command, open_builder
from sao_events.dbt.command import PARTIAL, bring_parse, parse_folder, parsed
from sao_events.dbt.timed import time_dependent
from tests.dbt_projects import write_project
from tests.nightly import by_night

IN_YAML, IN_SQL = "snapshots/kept.yml", "snapshots/also.sql"
SNAPSHOT = """
    snapshots:
      - {{name: kept, relation: ref('{of}'), config: {{strategy: check, unique_key: id, check_cols: all}}}}
    """


class Place:
    """A project of two snapshots that was parsed once."""

    def __init__(self, folder: Path) -> None:
        self.settings = DbtSettings(folder / "project", folder / "state")
        self.kept = parse_folder(self.settings) / "target" / PARTIAL
        for path in (IN_YAML, IN_SQL):
            self.write(path, "as it was")
        snapshots = [
            Node(f"snapshot.p.{path}", path, "snapshot", (), Code(path), path=path) for path in (IN_YAML, IN_SQL)
        ]
        self.project = Project(Graph(snapshots, [], []), "p", "duckdb")
        self.parse()

    def write(self, path: str, text: str) -> None:
        file = self.settings.project_dir / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)

    def parse(self) -> bool:
        """As a builder does; whether what was kept is there for it."""
        seen = bring_parse(self.settings)
        there = self.kept.exists()
        self.kept.parent.mkdir(parents=True, exist_ok=True)
        self.kept.write_bytes(b"parsed")
        parsed(self.settings, self.project, seen)
        return there


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def test_what_was_parsed_is_kept_while_the_yaml_of_snapshots_stays(place: Place) -> None:
    assert place.parse()
    place.write(IN_SQL, "edited")
    place.write("models/a.yml", "new")
    assert place.parse()


@pytest.mark.parametrize("text", ["edited", None])
def test_it_is_dropped_when_the_yaml_of_a_snapshot_changes_or_goes(place: Place, text: str | None) -> None:
    if text is None:
        (place.settings.project_dir / IN_YAML).unlink()
    else:
        place.write(IN_YAML, text)
    assert not place.parse()
    assert place.parse()


def test_it_is_dropped_when_code_is_new_that_yaml_has_named_before(place: Place) -> None:
    place.write("models/some.yml", "models: [{name: late}]")
    place.write("dbt_packages/other/models/never.sql", "select 1")
    place.write("models/plain.sql", "select 1")  # no YAML names it
    assert place.parse()
    place.write("models/late.sql", "select 1")
    assert not place.parse()
    assert place.parse()
    place.write("models/late.sql", "select 2")
    assert place.parse()


@by_night
def test_a_model_that_comes_after_its_yaml_has_what_that_says(tmp_path: Path) -> None:
    late = """
        models:
          - name: late
            config: {materialized: table}
            columns: [{name: id, data_tests: [not_null]}]
        """
    root = write_project(tmp_path / "project", {"models/some.yml": late, "models/one.sql": "select 1 as id"})
    with closing(open_builder(DbtSettings(root, tmp_path / "state"))) as builder:
        assert len(builder.load().project.graph.nodes) == 1
        (root / "models/late.sql").write_text("select 1 as id")
        graph = builder.load().project.graph
    assert {node.name: node.kind for node in graph.nodes.values()} == {"one": "view", "late": "table"}
    assert len(graph.tests) == 1


IN_THE_YAML = """
    models:
      - name: m
        config: {freshness: {build_after: {period: minute, count: "{{ %s }}"}}}
    """
NOW = "(modules.datetime.datetime.now().timestamp() * 1000) | int"


@pytest.mark.parametrize(
    ("yaml", "code", "timed"),
    [
        (IN_THE_YAML % NOW, "select 1", True),
        (IN_THE_YAML % "4 if run_started_at.weekday() > 4 else 1", "select 1", True),
        ("models: {}\n{% if modules . datetime %}", "select 1", True),
        (IN_THE_YAML % "var('run')", "select '{{ run_started_at }}' as at", False),
        ("# {{ 1 }} modules.datetime {{ 2 }}", "select 1", False),
        ("", "{{ config(freshness={'build_after': {'count': run_started_at.hour}}) }} select 1", True),
        ("", "{{ config(materialized='table') }} select '{{ run_started_at }}' as at", False),
        ("", "{{ config(meta={'a': {'b': 1}}, freshness=every()) }}", True),
        ("", "{{ config(freshness=shop.every('1 (hour)')) }}", True),
        ("", "{{ config(materialized='table') }} select {{ every() }}", False),
        ("", "{{ config(every='day', tags=['every']) }}", False),
        ("", "{% set a = b %}{% set b = {'count': run_started_at.hour} %}{{ config(freshness=a) }}", True),
        ("", "{% set a %}{{ every() }}{% endset %}{{ config(freshness=fromyaml(a)) }}", True),
        ("", "{% set a = run_started_at %}{{ config(alias=b, a=1) }} select '{{ a }}' as at", False),
    ],
)
def test_where_a_clock_is_asked_when_a_project_is_parsed(tmp_path: Path, yaml: str, code: str, timed: bool) -> None:
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "p.yml").write_text(yaml)
    (tmp_path / "target").mkdir()
    (tmp_path / "target" / "made.yml").write_text("{{ run_started_at }}")
    every = "{% macro every() %}{{ return(modules.datetime.datetime.now().hour) }}{% endmacro %}"
    assert time_dependent(tmp_path, [code], lambda words: [every] if "every" in words else []) is timed


def test_in_another_hour_nothing_is_kept_where_a_clock_was_asked(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "hour", lambda: 7)
    place.project = replace(place.project, meta={"timed": True})
    assert place.parse()
    assert place.parse()
    monkeypatch.setattr(command, "hour", lambda: 8)
    assert not place.parse()
    assert place.parse()
    place.project = replace(place.project, meta={})
    assert place.parse()
    monkeypatch.setattr(command, "hour", lambda: 9)
    assert place.parse()


@pytest.mark.dbt
@pytest.mark.slow
def test_a_policy_that_asks_a_clock_is_rendered_anew_in_another_hour(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("dbt.cli", reason="dbt is not installed: install the extra [dbt]")
    files = {"models/p.yml": IN_THE_YAML % NOW, "models/m.sql": "select 1 as id"}
    root = write_project(tmp_path / "project", files)
    with closing(open_builder(DbtSettings(root, tmp_path / "state"))) as builder:

        def loaded(hour: int) -> float:
            monkeypatch.setattr(command, "hour", lambda: hour)
            return builder.load().project.graph.nodes["model.tiny.m"].policy.build_after

        first = loaded(1)
        assert loaded(1) == first, "dbt keeps what it rendered: else all of this is not needed"
        assert loaded(2) > first


def test_a_parse_that_nothing_was_read_of_is_not_the_one_that_is_noted(place: Place) -> None:
    place.write(IN_YAML, "edited")
    bring_parse(place.settings)
    place.kept.write_bytes(b"parsed, and refused")
    assert not place.parse()


def test_what_an_earlier_release_has_kept_is_dropped_once(place: Place) -> None:
    (parse_folder(place.settings) / "noted.json").unlink()
    assert not place.parse()
    assert place.parse()


@by_night
@pytest.mark.dbt
@pytest.mark.slow
@pytest.mark.parametrize("runner", ["warm", "subprocess"])
def test_a_snapshot_reads_what_its_yaml_says_after_a_macro_was_edited(
    tmp_path: Path, runner: Literal["warm", "subprocess"]
) -> None:
    pytest.importorskip("dbt.cli", reason="dbt is not installed: install the extra [dbt]")
    files = {
        "macros/it.sql": "{% macro it() %}1{% endmacro %}",
        "models/one.sql": "select {{ it() }} as id",
        "models/other.sql": "select 2 as id",
        IN_YAML: SNAPSHOT.format(of="one"),
    }
    root = write_project(tmp_path / "project", files)
    builder = open_builder(DbtSettings(root, tmp_path / "state", runner=runner))
    try:
        assert builder.load().project.graph.nodes["snapshot.tiny.kept"].reads == ("model.tiny.one",)
        write_project(root, files | {"macros/it.sql": "{% macro it() %}7{% endmacro %}"})
        builder.load()
        write_project(root, files | {IN_YAML: SNAPSHOT.format(of="other")})
        assert builder.load().project.graph.nodes["snapshot.tiny.kept"].reads == ("model.tiny.other",)
        (root / IN_YAML).unlink()
        assert "snapshot.tiny.kept" not in builder.load().project.graph.nodes
    finally:
        builder.close()
