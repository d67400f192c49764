"""Watching a folder: what counts as a save, and that a burst is one."""

from __future__ import annotations

import io
import os
import queue
import shutil
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import IO

import pytest
from rich.console import Console

from sao_events.core import events as e
from sao_events.core.graph import Graph
from sao_events.core.nodes import Node, Test
from sao_events.core.policy import Policy
from sao_events.core.project import project_digest, project_to_bytes
from sao_events.files import matters
from sao_events.watch.follow import Follow, changes
from sao_events.watch.saves import Saves, Watched
from tests.web_service import FCT, MART, ORDERS, STG, Service, project


@pytest.mark.parametrize(
    "name", ["models/a.sql", "dbt_project.yml", "seeds/x.csv", "models/m.py", "models/docs.md", "packages.yml"]
)
def test_what_can_change_the_project(name: str) -> None:
    assert matters(Path("/p") / name, Path("/p"))


@pytest.mark.parametrize(
    "name",
    [
        "target/manifest.json", "target/compiled/a.sql", "logs/dbt.log", ".git/index", ".git/hooks/x.py",
        "models/.a.sql.swp",
        "models/a.sql~", "models/.#a.sql", "models/#a.sql#", "models/4913", "shop.duckdb", "shop.duckdb.wal",
        ".sao/state.db",
        "dbt_packages/x/models/a.sql", ".user.yml", "models/a.sql.tmp",
    ],
)  # fmt: skip
def test_what_cannot(name: str) -> None:
    assert not matters(Path("/p") / name, Path("/p"))


def test_outside_the_folder_nothing_matters() -> None:
    assert not matters(Path("/q/models/a.sql"), Path("/p"))


@pytest.fixture(params=["native", "polling"])
def saves(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[tuple[Path, queue.Queue[tuple[str, ...]]]]:
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "old.sql").write_text("select 1")
    told: queue.Queue[tuple[str, ...]] = queue.Queue()
    handler = Saves(tmp_path, told.put)
    watched = Watched(tmp_path, handler, polling=request.param == "polling")
    yield tmp_path, told
    watched.stop()
    handler.stop()


def test_a_save_is_told(saves: tuple[Path, queue.Queue[tuple[str, ...]]]) -> None:
    folder, told = saves
    (folder / "models" / "a.sql").write_text("select 1")
    assert told.get(timeout=10) == ("models/a.sql",)


def test_an_editor_that_renames_over_the_file(saves: tuple[Path, queue.Queue[tuple[str, ...]]]) -> None:
    folder, told = saves
    (folder / "models" / "old.sql.tmp").write_text("select 2")
    (folder / "models" / "old.sql.tmp").rename(folder / "models" / "old.sql")
    assert "models/old.sql" in told.get(timeout=10)


def test_a_deleted_file_is_told(saves: tuple[Path, queue.Queue[tuple[str, ...]]]) -> None:
    folder, told = saves
    (folder / "models" / "old.sql").unlink()
    assert told.get(timeout=10) == ("models/old.sql",)


def test_a_burst_is_one(saves: tuple[Path, queue.Queue[tuple[str, ...]]]) -> None:
    folder, told = saves
    for number in range(100):
        (folder / "models" / f"m{number}.sql").write_text("select 1")
    found = set(told.get(timeout=10))
    while len(found) < 100:
        found |= set(told.get(timeout=10))
    assert len(found) == 100
    assert told.empty()


def test_nothing_is_told_at_the_start(saves: tuple[Path, queue.Queue[tuple[str, ...]]]) -> None:
    _, told = saves
    with pytest.raises(queue.Empty):
        told.get(timeout=1)


def test_a_new_folder_is_followed_and_one_that_comes_back(saves: tuple[Path, queue.Queue[tuple[str, ...]]]) -> None:
    folder, told = saves
    for text in ("one", "two"):
        (folder / "macros").mkdir()
        (folder / "macros" / "m.sql").write_text(text)
        assert "macros/m.sql" in told.get(timeout=10)
        (folder / "macros" / "n.sql").write_text(text)
        while "macros/n.sql" not in told.get(timeout=10):
            pass
        shutil.rmtree(folder / "macros")
        while "macros/" not in told.get(timeout=10):
            pass


def test_what_does_not_matter_is_not_told(saves: tuple[Path, queue.Queue[tuple[str, ...]]]) -> None:
    folder, told = saves
    (folder / "target").mkdir()
    (folder / "target" / "a.sql").write_text("select 1")
    (folder / "models" / "b.sql").write_text("select 1")
    assert told.get(timeout=10) == ("models/b.sql",)


class Interrupted(io.StringIO):
    """Output during which Ctrl-C is pressed so many times as soon as `word` was written."""

    def __init__(self, word: str, times: int = 1) -> None:
        super().__init__()
        self.word, self.times = word, times

    def write(self, text: str, /) -> int:
        done = super().write(text)
        while self.word in text and self.times:
            self.times -= 1
            os.kill(os.getpid(), signal.SIGINT)
        return done


class Loadable(Service):
    """A service that is looked up once."""

    loads, load_error, loading = 1, None, False


def followed(service: Loadable, output: IO[str]) -> Follow:
    return Follow(service, Console(file=output, width=200))  # type: ignore[arg-type]  # it looks like one


@pytest.mark.parametrize("times", [1, 2])
def test_a_line_that_is_interrupted_is_written_once(tmp_path: Path, times: int) -> None:
    output, service = Interrupted("rest", times), Loadable(tmp_path)
    service.record(e.ProjectLoaded("digest"))
    follow = followed(service, output)
    service.record(e.CodePushed(paths=("models/rest.sql",)), e.CodePushed(paths=("models/more.sql",)))
    with pytest.raises(KeyboardInterrupt):
        follow.run()
    if times == 1:  # who presses twice does not wait for what is left to be said
        follow.console.print("stopping")
        assert output.getvalue().count("models/rest.sql") == 1
        assert output.getvalue().count("models/more.sql") == 1
    else:
        assert "models/more.sql" not in output.getvalue()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_warnings_are_told_once_and_a_wait_until_another_day_with_its_date(tmp_path: Path) -> None:
    output, held = io.StringIO(), Policy(build_after=2 * 86400.0)
    graph = project().graph
    nodes = [replace(node, policy=held) if node.id == MART else node for node in graph.nodes.values()]
    loaded = replace(project(), graph=Graph(nodes, graph.sources.values()), warnings=("an old one",))
    service = Loadable(tmp_path, loaded=loaded)
    service.build("r0", {STG: None, FCT: None, MART: None})
    service.record(e.DataLanded(ORDERS))
    service.build("r1", {FCT: None})
    follow = followed(service, output)
    follow.begin()
    assert output.getvalue().splitlines() == ["warning an old one"]
    data = project_to_bytes(replace(loaded, warnings=("an old one", "orders: quite is not known")))
    service.store.put_project(project_digest(data), data)
    service.record(e.ProjectLoaded(project_digest(data), None, ("an old one", "orders: quite is not known")))
    service.record(e.RunStarted("r2", {}), e.RunFinished("r2", "success"))
    follow.tell()
    assert output.getvalue().count("warning an old one") == 1
    assert output.getvalue().count("warning orders: quite is not known") == 1
    assert "wait revenue until 2026-03-03 " in output.getvalue()


def test_what_is_saved_while_the_project_is_read_is_told_once_it_was_read(tmp_path: Path) -> None:
    output, service = io.StringIO(), Loadable(tmp_path)
    follow = followed(service, output)
    follow.begin()
    follow.tell()

    def told(*events: e.Event, loading: bool = False) -> list[str]:
        before = len(output.getvalue())
        service.record(*events)
        service.loads, service.loading = service.loads + 1, loading
        follow.tell()
        return output.getvalue()[before:].splitlines()

    graph = project().graph
    rest = [node for node in graph.nodes.values() if node.id != MART]
    data = project_to_bytes(replace(project(), graph=Graph(rest, graph.sources.values(), graph.tests.values())))
    service.store.put_project(digest := project_digest(data), data)
    one, two = (e.CodePushed(paths=(f"models/{name}.sql",)) for name in ("one", "two"))
    nothing = "  no change of meaning: nothing to build"
    assert told(one, two, loading=True) == ["saved models/one.sql", "saved models/two.sql"]
    assert told(e.ProjectLoaded(digest)) == ["  gone revenue"]
    assert told(one) == ["saved models/one.sql", nothing]
    assert told(two, loading=True) == ["saved models/two.sql"]
    assert told() == [nothing]


def test_a_change_of_a_test_alone_is_told() -> None:
    node, old, kept = Node("model.p.m", "m", "table"), Test("test.p.a", "a", ("model.p.m",), "1"), Test("t.k", "k", ())
    before = Graph([node], [], [old, kept])
    assert changes(before, Graph([node], [], [replace(old, own="2"), kept])) == ["changed test a"]
    assert changes(before, Graph([node], [], [kept])) == ["gone test a"]
    assert changes(Graph([node], []), before) == ["new test a", "new test k"]
    assert changes(before, before) == []
