"""The service's looks at the warehouse: at intervals, in a thread of its own, all that is due in one question.

What is looked for is a `Subject`; a look asks for all subjects that are due over one connection, between builds where
the warehouse takes one process at a time. What comes of it is recorded while the engine holds still, so that what is
concluded holds for the record that it is added to.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Protocol

from sao_events.core.probes import pause
from sao_events.core.project import Project
from sao_events.core.state import World
from sao_events.core.vanished import expected, judged
from sao_events.ports import Answer, Clock, Draft, Warehouse
from sao_events.report import View
from sao_events.warehouse import catalog

LOG = logging.getLogger("sao_events")
SECONDS, PAUSE = 60.0, 1.0  # that one statement is given; between looks at the clock
Judge = Callable[[Project, World], Sequence[Draft]]


class Subject(Protocol):
    """Something that is looked for."""

    def due(self) -> float | None:
        """The instant from which on it is to be looked for; None for not at all. `Look.answered` moves it on."""

    def look(self, view: View) -> Look:
        """What is to be asked now."""


class Look(Protocol):
    """One look for one subject."""

    statements: Sequence[str]

    def answered(self, answers: Sequence[Answer], now: float) -> Judge:
        """Take in an answer for each statement. Returns what follows from them for a record."""


class Asked(Warehouse, Protocol):
    """A warehouse that says whose it is."""

    def in_force(self, project: str) -> bool:
        """Whether it is that of the project with this digest."""


class Looks:
    """Looks for `subjects` in the warehouse of the project in force. `view` is what is on record, `record` adds what a
    judge says of the record as it is then.
    """

    def __init__(
        self,
        subjects: Sequence[Subject],
        warehouse: Asked,
        clock: Clock,
        view: Callable[[], AbstractContextManager[View]],
        record: Callable[[Judge], None],
    ) -> None:
        self.subjects, self.warehouse, self.clock, self.view, self.record = subjects, warehouse, clock, view, record
        self._closed = threading.Event()
        self._one = threading.Lock()

    def close(self) -> None:
        """Look no more; what is being asked ends with the builders."""
        self._closed.set()

    def run(self) -> None:
        """Look at short intervals whether something is due, until `close`."""
        while not self._closed.wait(PAUSE):
            try:
                self.look()
            except Exception:
                LOG.exception("the warehouse could not be looked at")

    def look(self) -> None:
        """Look for what is due. Returns when what was seen, by another thread too, is on record."""
        with self._one:
            now = self.clock.now()
            due = [subject for subject in self.subjects if (at := subject.due()) is not None and at <= now]
            if not due or self._closed.is_set():
                return
            with self.view() as view:
                if view.world.project is None or not self.warehouse.in_force(view.world.project):
                    return
                looks = [subject.look(view) for subject in due]
            statements = [statement for look in looks for statement in look.statements]
            answers = self.warehouse.ask(statements, SECONDS, catalog.MOST) if statements else []
            for look in looks:
                mine, answers = answers[: len(look.statements)], answers[len(look.statements) :]
                if not self._closed.is_set():
                    self.record(look.answered(mine, self.clock.now()))


class Relations:
    """Whether the relations of nodes are still there, every `every` seconds and as soon as there is a project; with
    longer pauses while the warehouse does not say.
    """

    def __init__(self, every: float) -> None:
        self.every = every
        self.next = 0.0
        self.error: str | None = None
        self.failures = 0

    def due(self) -> float | None:
        """See `Subject`."""
        return self.next if self.every > 0 else None

    def look(self, view: View) -> Look:
        """See `Subject`."""
        assert view.project is not None
        return _RelationsLook(self, view.project, view.world)


class _RelationsLook:
    def __init__(self, subject: Relations, project: Project, world: World) -> None:
        self.subject, self.project, self.world = subject, project, world
        self.questions = catalog.questions(expected(project.graph, world).values(), project.adapter)
        self.statements: Sequence[str] = [question.statement for question in self.questions]

    def answered(self, answers: Sequence[Answer], now: float) -> Judge:
        """See `Look`."""
        error = next((answer.error for answer in answers if answer.error), None)
        self.subject.failures = self.subject.failures + 1 if error else 0
        self.subject.next = now + pause(self.subject.every, self.subject.failures)
        if error and error != self.subject.error:
            LOG.warning("it is not known whether relations are gone: %s", error)
        self.subject.error = error
        found = catalog.seen(self.questions, answers, self.project.adapter)
        there = {relation: kind is not False for relation, kind in found.items()}

        def judge(project: Project, world: World) -> Sequence[Draft]:
            if project.graph is not self.project.graph:
                return []
            return [Draft(event, now, sender="looks") for event in judged(project.graph, self.world, world, there)]

        return judge
