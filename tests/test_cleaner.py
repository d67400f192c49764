"""What is asked about relations that are left behind, and what comes of it, with a warehouse that is a mapping."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from sao_events.config import Config, DbtConfig
from sao_events.core import events as e
from sao_events.core.errors import StoreError
from sao_events.core.evolve import evolve
from sao_events.core.graph import Graph
from sao_events.core.nodes import Node
from sao_events.core.policy import Settings
from sao_events.core.project import Project, project_digest, project_to_bytes
from sao_events.core.state import Relation, World
from sao_events.ports import Answer, Draft
from sao_events.report import View
from sao_events.store.memory import MemoryStore
from sao_events.store.sqlite import SqliteStore
from sao_events.upkeep.cleaner import Cleaner
from sao_events.upkeep.cleaning import Left, agreed, from_value, unanswered, value_of
from tests.record import node


def name(relation: str) -> str:
    return f'"db"."s"."{relation}"'


def at(relation: str) -> Node:
    """A table under its own name."""
    return replace(node(relation), relation=name(relation))


def project(*relations: str) -> Project:
    """A project that builds these."""
    return Project(Graph([at(it) for it in relations], [], [], "duckdb"), "p", "duckdb")


class Clock:
    """Each event an instant of its own."""

    def __init__(self) -> None:
        self.at = 0.0

    def now(self) -> float:
        self.at += 1.0
        return self.at


class Host:
    """A service without threads: `there` is in its warehouse. Where nothing more is asked, its cleaner is closed."""

    def __init__(self, folder: Path, *relations: str) -> None:
        self.config = Config("test", DbtConfig(folder), folder / ".sao", Settings())
        self.clock, self.store, self.world = Clock(), MemoryStore(), World()
        self.dbt = self
        self.loads, self.ready, self.healthy = 0, True, True
        self.load_error: str | None = None
        self.error: str | None = None
        self.there = dict.fromkeys(relations, "table")
        self.refuses = set[str]()
        self.is_held = False
        self.asked = list[str]()
        self.on_reload: Callable[[], None] = lambda: None
        self.on_ask: Callable[[], None] = lambda: None
        self.project = project()
        self.cleaner = Cleaner(self)
        self.add(e.EngineStarted())
        self.load(*relations)
        for it in relations:
            self.add(e.RunStarted("r", {it: "new_data"}))
            self.add(
                e.BuildStarted("r", it, "new_data", 0.0, e.Observed("f"), at(it).own, relation=name(it), kind="table")
            )
            self.add(e.NodeBuilt("r", it), e.RunFinished("r", "success"))

    def load(self, *relations: str) -> None:
        """A project comes into force."""
        self.project = project(*relations)
        self.add(e.ProjectLoaded("d"))

    def add(self, *events: e.Event) -> None:
        self.submit([Draft(event, self.clock.now()) for event in events])

    def log(self, *kinds: type[e.Event]) -> list[e.Event]:
        return [item.event for item in self.store.read() if isinstance(item.event, kinds)]

    def answers(self) -> list[e.CleanAnswered]:
        """What was asked is answered; all answers."""
        self.cleaner.run()
        return [event for event in self.log(e.CleanAnswered) if isinstance(event, e.CleanAnswered)]

    # What the cleaner sees

    def submit(self, drafts: Sequence[Draft]) -> Future[list[e.Recorded | None]]:
        future = self.store.submit(drafts)
        for recorded in self.store.read(self.world.seq):
            evolve(self.world, recorded)
        if any(isinstance(draft.event, e.CleanAnswered) for draft in drafts) and not self.world.cleaning:
            self.cleaner.close()
        return future

    @contextmanager
    def view(self) -> Iterator[View]:
        yield View("test", self.project, self.world.snapshot(), Settings(), self.clock.now())

    def wait_change(self, after: int, timeout: float) -> int:
        return self.world.seq

    def reload(self) -> int:
        self.loads += 1
        self.on_reload()
        return self.loads

    @contextmanager
    def held(self) -> Iterator[None]:
        assert not self.is_held
        self.is_held = True
        yield
        self.is_held = False

    def ask(self, statements: Sequence[str], seconds: float, most: int) -> list[Answer]:
        self.on_ask()
        self.asked += statements
        rows = [("db", "s", it, kind) for it, kind in self.there.items()]
        return [Answer(rows=(*rows, ("db", None, None, "database"))) for _ in statements]

    def change(self, statements: Sequence[str], seconds: float) -> list[Answer]:
        assert self.is_held, "nothing is dropped while a project may come into force"
        [statement] = statements
        found = re.fullmatch(r'drop table "db"\."s"\."(\w+)"', statement)
        assert found, statement
        if found[1] in self.refuses:
            return [Answer(error="somebody reads it")]
        del self.there[found[1]]
        return [Answer()]


@pytest.fixture
def host(tmp_path: Path) -> Host:
    """Of `a`, `b` and `c` only `c` is in the project still."""
    made = Host(tmp_path, "a", "b", "c")
    made.load("c")
    return made


def statuses(answer: e.CleanAnswered) -> dict[str, str]:
    return {it.rpartition(".")[2].strip('"'): value["status"] for it, value in answer.relations.items()}


def test_who_only_asks_has_nothing_dropped(host: Host) -> None:
    host.add(e.CleanAsked("q"))
    [answer] = host.answers()
    assert (statuses(answer), answer.error) == ({"a": "left", "b": "left"}, None)
    assert (set(host.there), host.loads) == ({"a", "b", "c"}, 1), "the project is looked up first"


def test_what_was_agreed_to_is_dropped_and_nothing_else(host: Host) -> None:
    host.add(e.CleanAsked("q", (name("a"), name("c"))))
    [answer] = host.answers()
    assert statuses(answer) == {"a": "dropped", "b": "left"}
    assert set(host.there) == {"b", "c"}
    assert host.log(e.RelationsCleaned) == [e.RelationsCleaned((name("a"),))]
    assert host.world.relations.keys() == {name("b"), name("c")}


def test_what_has_come_back_since_is_not_dropped(host: Host) -> None:
    host.on_reload = lambda: host.load("a", "c")
    host.add(e.CleanAsked("q", (name("a"), name("b"))))
    [answer] = host.answers()
    assert statuses(answer) == {"b": "dropped"}
    assert set(host.there) == {"a", "c"}


def test_what_another_environment_has_by_now_is_not_dropped(host: Host) -> None:
    def deployed() -> None:
        store = SqliteStore(host.config.state_dir / "targets" / "other" / "state.db")
        body = project_to_bytes(project("a"))
        store.put_project(project_digest(body), body)
        store.append([Draft(e.ProjectLoaded(project_digest(body)), 1.0)])
        store.close()
        host.on_ask = lambda: None

    host.on_ask = deployed
    host.there.pop("b")
    host.add(e.CleanAsked("q", (name("a"), name("b"))))
    [answer] = host.answers()
    assert statuses(answer) == {"a": "refused", "b": "gone"}
    assert "a" in host.there


def test_what_is_being_built_is_not_dropped(host: Host) -> None:
    host.add(e.RunStarted("r2", {"a": "new_data"}), e.CleanAsked("q", (name("a"), name("b"))))
    [answer] = host.answers()
    assert statuses(answer) == {"b": "dropped"}
    assert set(host.there) == {"a", "c"}


def test_nothing_is_dropped_by_a_project_that_is_not_the_newest(host: Host) -> None:
    host.load_error = "it does not parse"
    host.add(e.CleanAsked("q", (name("a"),)))
    [answer] = host.answers()
    assert (answer.error, answer.relations) == ("it does not parse", {})
    assert (set(host.there), host.asked) == ({"a", "b", "c"}, [])


def test_what_was_asked_before_the_engine_started_is_not_carried_out(host: Host) -> None:
    host.add(e.CleanAsked("early", (name("a"),)), e.EngineStarted(), e.CleanAsked("now", (name("b"),)))
    [answer] = host.answers()
    assert (answer.request, statuses(answer)) == ("now", {"a": "left", "b": "dropped"})
    assert set(host.there) == {"a", "c"}


def test_what_was_withdrawn_meanwhile_is_not_carried_out(host: Host) -> None:
    host.on_ask = lambda: host.add(e.CleanAnswered("q", error="withdrawn"))
    host.add(e.CleanAsked("q", (name("a"),)))
    host.answers()
    assert set(host.there) == {"a", "b", "c"}
    assert host.log(e.RelationsCleaned) == []


def test_a_service_that_ends_meanwhile_does_not_answer(host: Host) -> None:
    host.on_ask = host.cleaner.close
    host.add(e.CleanAsked("q"))
    assert host.answers() == []
    assert list(host.world.cleaning) == ["q"], "which the next engine ends"


def test_a_request_that_is_told_twice_drops_once(host: Host) -> None:
    asked = e.CleanAsked("q", (name("a"),))
    host.add(asked, asked)
    assert [statuses(it) for it in host.answers()] == [{"a": "dropped", "b": "left"}]
    host.add(asked)
    host.cleaner = Cleaner(host)
    assert [statuses(it) for it in host.answers()][1:] == [{"b": "left"}]
    again = World()
    for recorded in host.store.read():
        evolve(again, recorded)
    assert again == host.world


def test_what_the_warehouse_does_not_drop_is_told_and_stays_on_record(host: Host) -> None:
    host.refuses = {"a"}
    host.add(e.CleanAsked("q", (name("a"), name("b"))))
    [answer] = host.answers()
    assert statuses(answer) == {"a": "failed", "b": "dropped"}
    assert answer.relations[name("a")]["message"] == "somebody reads it"
    assert host.world.relations.keys() == {name("a"), name("c")}


def test_a_log_that_cannot_be_written_leaves_the_others_their_answers(host: Host) -> None:
    write, failing = host.store.submit, [True]

    def submit(drafts: Sequence[Draft]) -> Future[list[e.Recorded | None]]:
        if failing and isinstance(drafts[0].event, e.CleanAnswered):
            failing.clear()
            host.cleaner.soon()
            raise StoreError("the disk is full")
        return write(drafts)

    host.add(e.CleanAsked("q"))
    host.store.submit = submit  # type: ignore[method-assign]
    assert [it.request for it in host.answers()] == ["q"]


# Which of what was found may go


def left(relation: str, *dependants: str, **more: object) -> Left:
    made = Left(name(relation), Relation(relation, "table", 1.0), "table", tuple(map(name, dependants)), "left")
    return replace(made, **more)  # type: ignore[arg-type]


def test_what_something_stands_on_stays_down_to_the_last() -> None:
    found = [left("a", "b"), left("b", "c"), left("c", "theirs"), left("d", "e"), left("e")]
    names = [it.name for it in found]
    chosen = agreed(found, names, names)
    assert [(it.relation.node, it.status) for it in chosen] == [
        ("a", "refused"),
        ("b", "refused"),
        ("c", "refused"),
        ("d", "left"),
        ("e", "left"),
    ]
    assert found[0].message == f"{name('b')} stands on it"


def test_what_was_not_agreed_to_keeps_what_it_stands_on() -> None:
    found = [left("a", "b"), left("b"), left("c", status="gone", there=False)]
    chosen = agreed(found, [name("a"), name("c")], [it.name for it in found])
    assert [(it.relation.node, it.status) for it in chosen] == [("a", "refused"), ("c", "gone")]
    assert found[1].status == "left"


def test_what_is_not_left_behind_any_more_is_neither_dropped_nor_counted_as_gone() -> None:
    found = [left("a"), left("b", status="gone", there=False)]
    assert {it.status for it in agreed(found, [it.name for it in found], [])} == {"refused"}


def test_what_is_not_in_the_answer_was_dropped_by_somebody_or_is_not_left_behind() -> None:
    before, world = [left("a"), left("b"), left("c")], World(relations={name("b"): Relation("b", "table", 2.0)})
    told = unanswered(before, [left("c", status="dropped")], world)
    assert [(it.relation.node, it.there, it.status) for it in told] == [("a", False, "gone"), ("b", "table", "refused")]


def test_what_was_found_goes_through_the_log_as_it_is() -> None:
    relation = Relation("a", "view", 1.5, 2.5, "c1")
    for item in (left("a", "b", message="told"), Left(name("a"), relation, False, status="gone"), Left("x", relation)):
        assert from_value(item.name, json.loads(json.dumps(value_of(item)))) == item
