"""`clean` beside a service that is played by a thread: how it is asked, and what happens when it ends."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from sao_events.cli import clean, main
from sao_events.core import events as e
from sao_events.core.errors import Busy
from sao_events.core.state import Relation
from sao_events.lock import StateLock
from sao_events.ports import Draft
from sao_events.store.checkpoint import load_world
from sao_events.store.sqlite import SqliteStore
from sao_events.upkeep.cleaning import Left, Status, value_of
from tests.dbt_projects import write_project
from tests.processes import until

OLD = '"db"."s"."old"'


def answer(request: str, status: Status) -> e.CleanAnswered:
    """That one relation is left behind."""
    item = Left(OLD, Relation("model.p.old", "table", 1.0), "table", (), status)
    return e.CleanAnswered(request, {OLD: value_of(item)})


class Played:
    """A state folder in use, and its log, to which a thread appends what the service would."""

    def __init__(self, folder: Path) -> None:
        self.folder = write_project(folder / "project", {})
        self.lock = StateLock(self.folder / ".sao")
        self.lock.acquire()
        self.store = SqliteStore(self.folder / ".sao" / "state.db")
        self.add(e.EngineStarted())

    def add(self, *events: e.Event) -> None:
        self.store.append([Draft(event, 1000.0) for event in events])

    def asked(self, number: int) -> e.CleanAsked:
        """The request with this number, once it is there."""
        found = until(lambda: self.store.find(["CleanAsked"])[::-1][number - 1 : number], "a request")
        assert isinstance(found[0].event, e.CleanAsked)
        return found[0].event

    def say(self, capsys: pytest.CaptureFixture[str], act: Callable[[], None], *arguments: str) -> tuple[int, Any]:
        thread = threading.Thread(target=act)
        thread.start()
        code = main(["--project-dir", str(self.folder), "clean", *arguments, "--json"])
        thread.join()
        said = capsys.readouterr()
        return code, json.loads(said.out) if said.out else said.err


@pytest.fixture
def played(tmp_path: Path) -> Iterator[Played]:
    made = Played(tmp_path)
    with closing(made.store), closing(SimpleNamespace(close=made.lock.release)):
        yield made


def test_it_looks_drops_what_it_has_shown_and_tells_what_came_of_it(
    played: Played, capsys: pytest.CaptureFixture[str]
) -> None:
    def act() -> None:
        played.add(answer(played.asked(1).request, "left"))
        assert played.asked(2).relations == (OLD,)
        played.add(answer(played.asked(2).request, "failed"))

    code, told = played.say(capsys, act, "--yes")
    assert (code, [(it["relation"], it["status"]) for it in told["relations"]]) == (1, [(OLD, "failed")])
    assert played.asked(1).relations == ()


def test_an_engine_that_starts_anew_is_asked_again(played: Played, capsys: pytest.CaptureFixture[str]) -> None:
    def act() -> None:
        played.asked(1)
        played.add(e.EngineStarted(), answer("another", "gone"))
        played.add(answer(played.asked(2).request, "left"))

    code, told = played.say(capsys, act, "--dry-run")
    assert (code, [it["status"] for it in told["relations"]]) == (0, ["left"])


def test_what_went_before_the_service_ended_is_told_by_the_engine_that_goes_on(
    played: Played, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The service is killed when it has dropped, and before it has answered."""
    engines = list[object]()

    @contextmanager
    def engine(context: object, *, load: bool) -> Iterator[object]:
        engines.append(context)
        if len(engines) == 1:
            raise Busy("a service is at work")
        played.add(e.EngineStarted())
        yield SimpleNamespace(store=played.store, healthy=True)

    monkeypatch.setattr(clean, "engine_for_jobs", engine)
    monkeypatch.setattr(clean, "TAKE_OVER", 0.0)
    monkeypatch.setattr(clean, "is_free", lambda context: bool(played.store.find(["RelationsCleaned"])))

    def act() -> None:
        played.add(answer(played.asked(1).request, "left"))
        played.asked(2)
        played.add(e.RelationsCleaned((OLD,)))
        played.add(e.CleanAnswered(played.asked(3).request))

    code, told = played.say(capsys, act, "--yes")
    assert (code, [(it["status"], it["message"]) for it in told["relations"]]) == (
        0,
        [("gone", "it has been dropped already")],
    )
    assert played.asked(3).relations == (OLD,)
    assert len(engines) == 2


def test_what_the_service_cannot_know_is_an_error(played: Played, capsys: pytest.CaptureFixture[str]) -> None:
    def act() -> None:
        played.add(e.CleanAnswered(played.asked(1).request, error="dbt cannot read the project"))

    assert played.say(capsys, act, "--yes") == (3, "error: dbt cannot read the project\n")


def test_who_stops_waiting_withdraws_the_request(
    played: Played, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(seconds: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(clean, "time", SimpleNamespace(sleep=interrupted, monotonic=time.monotonic))
    assert main(["--project-dir", str(played.folder), "clean", "--yes"]) == 130
    assert load_world(played.store).cleaning == {}
    [withdrawn] = played.store.find(["CleanAnswered"])
    assert withdrawn.event == e.CleanAnswered(played.asked(1).request, error="withdrawn")
