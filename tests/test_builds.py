"""Whose turn it is at the warehouse, with a dbt that builds only when it is told to."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from sao_events import builds as module
from sao_events.builds import Builds
from sao_events.config import load_config
from sao_events.core.graph import Graph
from sao_events.core.project import Project
from sao_events.ports import Piece, PieceEnded, Report


class Told:
    """A `DbtBuilder` that parses nothing, and ends what it has begun when `end` is called."""

    adapter = "duckdb"

    def __init__(self) -> None:
        self.project = Project(Graph([], [], []), "p", self.adapter)
        self.ended = list[Report]()

    def load(self, default: Mapping[str, Any] | None = None) -> Any:
        return SimpleNamespace(project=self.project)

    def hashes(self, adapter: str) -> bool:
        return True

    def start(self, piece: Piece, project: Project) -> None:
        pass

    def reports(self) -> list[Report]:
        found, self.ended = self.ended, []
        return found

    def cancel(self, run: str) -> None:
        pass

    def close(self) -> None:
        pass


class Warehouse:
    """The builders of an environment, and what was opened for it."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.opened = list[Told]()
        monkeypatch.setattr(module, "open_builder", lambda *_, **__: self._open())
        (folder / "dbt_project.yml").write_text("name: p\n")
        self.folder, self.builds = folder, Builds(load_config(None, folder, {}))

    def _open(self) -> Told:
        self.opened.append(Told())
        return self.opened[-1]

    def keep(self, digest: str, folder: str = ".") -> Project:
        """A state of the project comes into force."""
        project = self.builds.load(self.folder / folder)
        self.builds.keep(digest)
        return project


@pytest.fixture
def warehouse(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Warehouse]:
    there = Warehouse(tmp_path, monkeypatch)
    with closing(there.builds):
        yield there


def piece(name: str, project: str) -> Piece:
    return Piece(f"r1.{name}", "r1", (f"model.p.{name}",), (), project)


@pytest.mark.parametrize(("adapter", "beside"), [("duckdb", False), ("postgres", True)])
def test_readers_of_what_is_hashed_wait_for_its_dbt_where_the_file_takes_one(
    warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch, adapter: str, beside: bool
) -> None:
    monkeypatch.setattr(Told, "adapter", adapter)
    project = warehouse.keep("one")
    assert warehouse.builds.ready("one")
    warehouse.builds.start(piece("a", "one"), project)
    assert warehouse.builds.ready("one") is beside
    warehouse.opened[0].ended.append(PieceEnded("r1.a"))
    assert warehouse.builds.reports() == [PieceEnded("r1.a")]
    assert warehouse.builds.ready("one")


def test_what_a_commit_before_still_builds_keeps_the_file(warehouse: Warehouse) -> None:
    warehouse.builds.start(piece("a", "one"), warehouse.keep("one", "first"))
    warehouse.keep("two", "second")
    assert len(warehouse.opened) == 2
    assert not warehouse.builds.ready("two")
    warehouse.opened[0].ended.append(PieceEnded("r1.a"))
    warehouse.builds.reports()
    assert warehouse.builds.ready("two")


def test_what_may_not_be_while_a_project_comes_into_force_waits_for_it(warehouse: Warehouse) -> None:
    warehouse.keep("1")
    order = list[str]()

    def second() -> None:
        with warehouse.builds.held():
            order.append("second")

    waiting = threading.Thread(target=second)
    with warehouse.builds.held():
        assert not warehouse.builds.ready("1")
        waiting.start()
        waiting.join(0.2)
        order.append("first")
    waiting.join()
    assert order == ["first", "second"]
    assert warehouse.builds.ready("1")
