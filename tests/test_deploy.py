"""When a project is parsed again, on real files and on a real remote, with a dbt that only counts."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TypeAlias

import pytest

from sao_events.config import Config, load_config
from sao_events.core import events as e
from sao_events.core.errors import DbtError, SaoError
from sao_events.core.graph import Graph
from sao_events.core.identity import Inputs, Rendered
from sao_events.core.lineage import Code
from sao_events.core.nodes import Node, Source
from sao_events.core.project import Project
from sao_events.core.state import World
from sao_events.deploy.deployer import Deployer, Found
from sao_events.files import stamp
from sao_events.store.memory import MemoryStore
from tests.repositories import bare_with_clone, commit

DAY = 86_400.0
Refuses: TypeAlias = Callable[[Path], SaoError | OSError | None]
FINE = Project(Graph([Node("model.p.a", "a", "table", (), Code("a"))], [], []), "p")


class Parser:
    """A `deploy.Parser` that counts, and refuses what `refuses` says."""

    def __init__(self, refuses: Refuses) -> None:
        self.refuses, self.parsed, self.project = refuses, list[Path](), FINE

    def load(self, folder: Path) -> Project:
        self.parsed.append(folder)
        if error := self.refuses(folder):
            raise error
        return self.project

    def render(self, wanted: Mapping[str, Inputs]) -> Mapping[str, Rendered]:
        return {}

    def keep(self, digest: str) -> None:
        pass

    def folders(self) -> Collection[Path]:
        return ()


class Looking:
    """A deployer, and what it finds at instants; `parses` of the last look, of which each takes `seconds`."""

    def __init__(self, config: Config, refuses: Refuses) -> None:
        self.parser = Parser(self._slowly(refuses))
        self.deployer = Deployer(config, self.parser, MemoryStore(), World(), self)
        self.parses, self.at, self.seconds = 0, 0.0, 0.0

    def _slowly(self, refuses: Refuses) -> Refuses:
        def parse(folder: Path) -> SaoError | OSError | None:
            self.at += self.seconds
            return refuses(folder)

        return parse

    def now(self) -> float:
        return self.at

    def __call__(self, now: float, *, fresh: bool = False) -> Found:
        before, self.at = len(self.parser.parsed), now
        found = self.deployer.look(fresh=fresh)
        self.deployer.recorded(found)
        self.parses = len(self.parser.parsed) - before
        return found


def bad_model(folder: Path) -> DbtError | None:
    return DbtError("no model nowhere") if "nowhere" in (folder / "models" / "a.sql").read_text() else None


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A project that dbt refuses, with its configuration."""
    folder = tmp_path / "shop"
    (folder / "models").mkdir(parents=True)
    (folder / "models" / "a.sql").write_text("select * from nowhere")
    (folder / "dbt_project.yml").write_text("name: p\n")
    (folder / "profiles.yml").write_text("p: {}\n")
    (folder / "sao.yml").write_text("decisions: {settle: 0s}\n")
    return folder


def config(folder: Path) -> Config:
    return load_config(folder / "sao.yml", folder, {})


def test_what_is_refused_is_not_parsed_again_while_nothing_changes(folder: Path) -> None:
    look = Looking(config(folder), bad_model)
    first = look(0.0)
    assert [type(event) for event in first.events] == [e.ProjectRejected]
    parses = 0
    for at in range(1, int(DAY), 60):
        again = look(float(at))
        parses += look.parses
        assert again == Found(error="no model nowhere")
    assert 3 < parses < DAY / 600 + 10


def nothing(folder: Path) -> None:
    return None


@pytest.mark.parametrize("poll", [None, 60.0, 7200.0])
def test_what_asks_a_clock_is_parsed_again_each_hour(folder: Path, poll: float | None) -> None:
    look = Looking(config(folder), nothing)
    look(1000.0)
    assert look.deployer.patience(poll) == poll, "a project that asks none is left alone"
    look.parser.project = replace(FINE, meta={"timed": True})
    look(1000.0, fresh=True)
    wait = look.deployer.patience(poll)
    assert wait is not None
    assert 1000.0 + wait > 3600.0 or wait == poll
    assert wait <= 2601.0
    look(7100.0)
    assert look.deployer.patience(None) == 101.0


def test_a_commit_in_force_that_asks_a_clock_is_parsed_again_each_hour(tmp_path: Path, folder: Path) -> None:
    bare, work = bare_with_clone(tmp_path)
    commit(work, {"models/a.sql": "select 1 as id", "dbt_project.yml": "name: p\n"})
    (folder / "sao.yml").write_text(f"git: {{remote: {bare}, branch: main}}\n")
    look = Looking(config(folder), nothing)
    look.parser.project = replace(FINE, meta={"timed": True})
    parses = []
    for at in (10.0, 1800.0, 3599.0, 3600.0, 3700.0, 7300.0):
        look(at)
        parses.append(look.parses)
    assert parses == [1, 0, 0, 1, 0, 1]


def test_sources_that_enter_a_project_are_told_of(folder: Path) -> None:
    """The first project has nobody who could have missed anything; static ones never change."""
    look = Looking(config(folder), nothing)
    node = FINE.graph.nodes["model.p.a"]
    told = []
    for names in (("x",), ("x", "y"), ("x",), ("x", "y"), ("x", "y", "still")):
        sources = [Source(name, name, static=name == "still") for name in names]
        look.parser.project = replace(FINE, graph=Graph([node], sources))
        told += [event.entered for event in look(0.0, fresh=True).events if isinstance(event, e.ProjectLoaded)]
    assert told == [(), ("y",), (), ("y",), ()]


def mended(folder: Path) -> None:
    (folder / "models" / "a.sql").write_text("select 1 as id")


def another(folder: Path) -> None:
    (folder / "models" / "b.sql").write_text("select 1 as id")


def renamed(folder: Path) -> None:
    (folder / "models").rename(folder / "staging")


def no_profile(folder: Path) -> None:
    (folder / "profiles.yml").unlink()


def installed(folder: Path) -> None:
    (folder / "dbt_packages" / "utils").mkdir(parents=True)
    (folder / "dbt_packages" / "utils" / "m.sql").write_text("select 1 as id")


def linked(folder: Path) -> None:
    """As dbt installs a package of the same machine."""
    elsewhere = folder.parent / "utils"
    elsewhere.mkdir()
    (elsewhere / "m.sql").write_text("select 1 as id")
    (folder / "dbt_packages").mkdir()
    (folder / "dbt_packages" / "utils").symlink_to(elsewhere)


def test_the_pause_counts_from_the_end_of_a_parse(folder: Path) -> None:
    look = Looking(config(folder), bad_model)
    look.seconds = 60.0
    look(0.0)
    look(62.0)
    assert look.parses == 0
    look(71.0)
    assert look.parses == 1


@pytest.mark.parametrize("change", [mended, another, renamed, no_profile, installed, linked])
def test_a_change_of_what_dbt_reads_is_parsed_at_once(folder: Path, change: Callable[[Path], None]) -> None:
    look = Looking(config(folder), lambda _: DbtError("no"))
    look(0.0)
    look(1.0)
    assert look.parses == 0
    change(folder)
    look(2.0)
    assert look.parses == 1


def test_a_file_put_right_is_in_force(folder: Path) -> None:
    look = Looking(config(folder), bad_model)
    look(0.0)
    (folder / "models" / "a.sql").write_text("select 1 as id")
    assert [type(event) for event in look(1.0).events] == [e.ProjectLoaded]


@pytest.mark.parametrize("name", ["target/manifest.yml", "logs/dbt.md", ".git/x.yml", "models/.a.sql.swp", "w.duckdb"])
def test_what_builds_and_editors_write_is_no_change(folder: Path, name: str) -> None:
    look = Looking(config(folder), bad_model)
    look(0.0)
    file = folder / name
    file.parent.mkdir(exist_ok=True)
    file.write_text("x")
    look(1.0)
    assert look.parses == 0


def test_what_the_service_keeps_is_no_change_wherever_that_is(folder: Path) -> None:
    """Parsing writes there: each parse would ask for the next one."""
    (folder / "sao.yml").write_text("state_dir: kept\n")
    look = Looking(config(folder), bad_model)
    look(0.0)
    (folder / "kept" / "runs").mkdir(parents=True)
    (folder / "kept" / "runs" / "a.sql").write_text("select 1")
    look(1.0)
    assert look.parses == 0


def test_who_asks_is_answered_and_a_clock_set_back_holds_up_nothing(folder: Path) -> None:
    look = Looking(config(folder), bad_model)
    look(DAY)
    look(DAY + 1, fresh=True)
    assert look.parses == 1
    look(1.0)
    assert look.parses == 1


@pytest.mark.parametrize("error", [DbtError("dbt was not found"), OSError(28, "No space left on device")])
def test_what_heals_outside_of_the_files_is_noticed(folder: Path, error: SaoError | OSError) -> None:
    away = [error]
    look = Looking(config(folder), lambda _: away[0] if away else None)
    look(0.0)
    for at in range(1, 3601, 9):
        assert look(float(at)).error
    away.clear()
    loaded = next(at for at in range(3601, 7200, 9) if look(float(at)).events)
    assert loaded - 3600 <= 600


def test_a_change_while_it_is_parsed_is_seen_afterwards(folder: Path) -> None:
    def refuses(place: Path) -> DbtError | None:
        error = bad_model(place)
        (place / "models" / "a.sql").write_text("select 1 as id")
        return error

    look = Looking(config(folder), refuses)
    assert look(0.0).error
    assert look(1.0).events


def test_a_link_that_leads_back_ends(folder: Path) -> None:
    before = stamp(folder)
    (folder / "models" / "up").symlink_to(folder)
    assert stamp(folder) == before


def test_only_a_new_commit_or_a_profile_is_a_change_of_a_remote(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    bare, work = bare_with_clone(tmp_path)
    bad = commit(work, {"models/a.sql": "select * from nowhere", "dbt_project.yml": "name: p\n"})
    (folder / "sao.yml").write_text(f"git: {{remote: {bare}, branch: main}}\n")
    look = Looking(config(folder), bad_model)
    assert [event.commit for event in look(0.0).events if isinstance(event, e.ProjectRejected)] == [bad]
    look(1.0)
    assert look.parses == 0
    (tmp_path / "home" / ".dbt").mkdir(parents=True)
    (tmp_path / "home" / ".dbt" / "profiles.yml").write_text("p: {}\n")
    look(2.0)
    assert look.parses == 1
    good = commit(work, {"models/a.sql": "select 1 as id"})
    assert [event.commit for event in look(3.0).events if isinstance(event, e.ProjectLoaded)] == [good]
    look(4.0)
    assert look.parses == 0


def test_what_is_in_force_is_not_parsed_again_either_where_it_cannot_be_loaded(tmp_path: Path, folder: Path) -> None:
    """A process that has just begun, whose profile is away: neither the newest commit nor the one in force loads."""
    bare, work = bare_with_clone(tmp_path)
    old = commit(work, {"models/a.sql": "select 1 as id", "dbt_project.yml": "name: p\n"})
    commit(work, {"models/a.sql": "select 2 as id"})
    (folder / "sao.yml").write_text(f"git: {{remote: {bare}, branch: main}}\n")
    away = [DbtError("no profile")]
    look = Looking(config(folder), lambda _: away[0] if away else None)
    look.deployer.in_force = (None, old)
    said = look(0.0).error
    assert look.parses == 2
    assert look(1.0).error == said
    assert look.parses == 0
    away.clear()
    assert look(20.0).events
    assert look.parses == 1
